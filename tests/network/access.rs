//! Owners let others in, on a real network: grants, lists, reads, revocations and the log of it, over QUIC.

use xvault::client::access::{AccessEvent, GrantTerms, Scope, Shared, SharedRecord, grantee};
use xvault::client::{Client, ClientConfig, ErrorKind, LedgerClient, PutOptions, Remove, Source};
use xvault::crypto::access::DayRange;
use xvault::crypto::seed::Seed;
use xvault::ledger::ask::{Answer, Fate, Question};
use xvault::message::access::{Denial, Rights};
use xvault::message::{Action, Block, Transaction};
use xvault::types::{Day, GrantId, Height, Timestamp};

use crate::people::{
    Apart, at, blocks, config, content, denial, devnet, labelled, later, names, package, put, read, terms,
};
use crate::statics::eventually;

fn on_day(day: u16) -> PutOptions {
    let micros = (u64::from(day) + 10_957) * 86_400_000_000;
    PutOptions { modified: Some(Timestamp::from_unix_micros(micros)), ..PutOptions::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn c11_a_grantee_reads_what_it_was_let_into_and_the_owner_sees_it() {
    let dir = tempfile::tempdir().unwrap();
    let devnet = devnet(dir.path()).await;
    let network = devnet.network().clone();
    let owner = Client::open(config(dir.path(), &network, 1)).await.unwrap();
    put(&owner, "imaging/knee.dcm", 3_000_000, labelled("knee, imaging")).await;
    put(&owner, "imaging/head.dcm", 5_000, labelled("head, imaging")).await;
    put(&owner, "labs/knee-fluid", 700, labelled("knee")).await;
    put(&owner, "counselling/notes", 900, labelled("knee, private")).await;

    let specialist = config(dir.path(), &network, 2);
    let asked = package(&specialist);
    let before = Shared::open(specialist.clone(), &asked).await.unwrap_err();
    assert_eq!(before.kind(), ErrorKind::NotFound);
    let knee = terms(&["label:knee and not label:private"]);
    let report = owner.grant(&asked, knee.clone()).await.unwrap();
    assert_eq!(report.brought, 2);
    // A package serves once.
    let again = owner.grant(&asked, knee).await.unwrap_err();
    assert_eq!(again.kind(), ErrorKind::Refused);

    let shared = Shared::open(specialist.clone(), &asked).await.unwrap();
    assert_eq!(shared.note(), "for the knee");
    let records = shared.list().await.unwrap();
    assert_eq!(names(&records), ["imaging/knee.dcm", "labs/knee-fluid"]);
    assert_eq!(records[0].line.size, 3_000_000);
    for record in &records {
        let path = format!("{}/{}", record.line.collection, record.line.name);
        let len = usize::try_from(record.line.size).unwrap();
        assert_eq!(read(&shared, record).await.unwrap(), content(&path, len), "{path}");
    }

    // What comes later joins the scope.
    put(&owner, "imaging/knee-2.dcm", 100_000, labelled("knee")).await;
    assert_eq!(
        owner.join_scopes(Some(&[at("imaging/head.dcm"), at("imaging/knee-2.dcm")])).await.unwrap(),
        1
    );
    assert_eq!(owner.join_scopes(None).await.unwrap(), 0);
    let records = shared.list().await.unwrap();
    assert_eq!(names(&records), ["imaging/knee-2.dcm", "imaging/knee.dcm", "labs/knee-fluid"]);

    // Somebody else's keys open nothing with the same package.
    let stranger = Shared::open(config(dir.path(), &network, 3), &asked).await.unwrap_err();
    assert_eq!(stranger.kind(), ErrorKind::Refused);

    let log = owner.access_log().await.unwrap();
    let opened: Vec<&str> = log
        .iter()
        .filter(|event| event.denial().is_none())
        .flat_map(|event| &event.items)
        .map(String::as_str)
        .collect();
    for path in ["xv://imaging/knee.dcm", "xv://labs/knee-fluid"] {
        assert!(opened.contains(&path), "{opened:?}");
    }
    // f + 1 honest entries of each: with none faulty, as many as it takes to open.
    assert!(log.iter().all(|event| event.opened.len() >= 3 && event.grant == report.grant), "{log:?}");

    // What is erased for good opens for nobody, whatever they were let into.
    owner.remove(&at("labs/knee-fluid"), Remove::AllVersions).await.unwrap();
    let gone = read(&shared, &records[2]).await.unwrap_err();
    assert_eq!(denial(&gone), Some(Denial::Erased), "{gone}");
    eventually("its name is gone too", async || {
        names(&shared.list().await.unwrap()) == ["imaging/knee-2.dcm", "imaging/knee.dcm"]
    })
    .await;

    let revoked = owner.revoke(report.grant, |_| ()).await.unwrap();
    assert!(revoked.acknowledged <= revoked.settled);
    let refused = read(&shared, &records[0]).await.unwrap_err();
    assert_eq!(denial(&refused), Some(Denial::Revoked), "{refused}");
    assert!(shared.list().await.is_err());
    let log = owner.access_log().await.unwrap();
    let denied = |item: &str| {
        let is_it = |event: &&AccessEvent| event.denial() == Some(Denial::Revoked) && event.items == [item];
        log.iter().find(is_it).is_some_and(|event| event.denied.len() >= 2)
    };
    assert!(denied("xv://imaging/knee-2.dcm") && denied("a list"), "denials are in it too: {log:?}");
    let twice = owner.revoke(report.grant, |_| ()).await.unwrap_err();
    assert_eq!(twice.kind(), ErrorKind::Refused);
    let grants = owner.grants().await.unwrap();
    let about = grants[0].about.as_ref().unwrap();
    assert_eq!((grants.len(), about.name.as_str(), about.note.as_str()), (1, "Dr Knee", "for the knee"));
    assert!(grants[0].row.revoked.is_some());
    owner.close().await;
    devnet.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn days_quotas_times_and_rights_bind() {
    let dir = tempfile::tempdir().unwrap();
    let devnet = devnet(dir.path()).await;
    let network = devnet.network().clone();
    let owner = Client::open(config(dir.path(), &network, 1)).await.unwrap();
    for day in [9_000, 9_001, 9_002, 9_003] {
        put(&owner, &format!("labs/day-{day}"), 1_000, on_day(day)).await;
    }
    let doctor = config(dir.path(), &network, 2);
    let grant = async |change: &dyn Fn(&mut GrantTerms)| {
        let (asked, mut terms) = (package(&doctor), terms(&["in:labs"]));
        change(&mut terms);
        owner.grant(&asked, terms).await.unwrap();
        Shared::open(doctor.clone(), &asked).await.unwrap()
    };

    let some = grant(&|terms| terms.days = DayRange::new(Day(9_001), Day(9_002)).unwrap()).await;
    let records = some.list().await.unwrap();
    assert_eq!(names(&records), ["labs/day-9001", "labs/day-9002"], "of other days not even names");
    assert_eq!(read(&some, &records[0]).await.unwrap(), content("labs/day-9001", 1_000));

    let all = grant(&|_| ()).await;
    let every = all.list().await.unwrap();
    assert_eq!(every.len(), 4);
    // A record that another grant of the same person shows: the days of the grant count.
    let outside = read(&some, &every[0]).await.unwrap_err();
    assert_eq!(outside.kind(), ErrorKind::Refused);

    let few = grant(&|terms| terms.quota = Some(2)).await;
    for record in &every[..2] {
        read(&few, record).await.unwrap();
    }
    assert_eq!(denial(&read(&few, &every[2]).await.unwrap_err()), Some(Denial::OverQuota));

    let lists = grant(&|terms| terms.rights = Rights::LIST).await;
    assert_eq!(lists.list().await.unwrap().len(), 4);
    assert_eq!(denial(&read(&lists, &every[0]).await.unwrap_err()), Some(Denial::NotGranted));

    let early = grant(&|terms| terms.not_before = later(1_800)).await;
    assert_eq!(denial(&early.list().await.unwrap_err()), Some(Denial::NotYet));
    assert_eq!(denial(&read(&early, &every[0]).await.unwrap_err()), Some(Denial::NotYet));

    let short = grant(&|terms| terms.expires = later(8)).await;
    read(&short, &every[0]).await.unwrap();
    tokio::time::sleep(std::time::Duration::from_secs(9)).await;
    assert_eq!(denial(&read(&short, &every[0]).await.unwrap_err()), Some(Denial::Expired));
    owner.close().await;
    devnet.stop().await;
}

/// C12 and C14: who reads the whole ledger learns no name, no word, and not whether two grants are one person's; and nothing
/// there would tell the vault's key to somebody who computes discrete logarithms.
#[tokio::test(flavor = "multi_thread")]
async fn c12_c14_an_observer_of_the_ledger_learns_no_name_and_links_no_grants() {
    let dir = tempfile::tempdir().unwrap();
    let devnet = devnet(dir.path()).await;
    let network = devnet.network().clone();
    let owner = Client::open(config(dir.path(), &network, 1)).await.unwrap();
    put(&owner, "orthopedics/kneecap", 500, labelled("kneecap")).await;
    let doctor = config(dir.path(), &network, 2);
    let (first, second) = (package(&doctor), package(&doctor));
    for (asked, scope) in [(&first, "label:kneecap"), (&second, "in:orthopedics")] {
        owner.grant(asked, terms(&[scope])).await.unwrap();
    }
    let (mut bytes, mut grants) = (Vec::new(), Vec::new());
    for block in blocks(&network).await {
        for signed in Block::decode_bounded(&block).unwrap().transactions {
            if let Action::Grant(grant) = &signed.transaction().action {
                grants.push(grant.clone());
            }
        }
        bytes.extend_from_slice(&block);
    }
    let has = |wanted: &[u8]| bytes.windows(wanted.len()).any(|at| at == wanted);
    assert_eq!(grants.len(), 2);
    assert!(has(&grants[0].grantee.0), "the search finds what is there");
    for word in ["kneecap", "orthopedics", "Dr Knee", "for the knee", "label:"] {
        assert!(!has(word.as_bytes()), "{word} is on the ledger");
    }
    let prf = Seed::from_entropy([1; 32]).vault(0, 0).access().prf_key(0).public();
    let identity = doctor.keys.signing().public();
    for secret in
        [&identity.0[..], prf.as_bytes(), &first.seal.to_bytes()[..32], &second.seal.to_bytes()[..32]]
    {
        assert!(!has(secret));
    }
    // But for the vault, which is the owner's, the two have nothing in common.
    let (one, other) = (&grants[0], &grants[1]);
    assert!(one.grantee != other.grantee && one.grant != other.grant && one.body != other.body);
    assert_ne!(one.scopes[0].scope, other.scopes[0].scope);
    owner.close().await;
    devnet.stop().await;
}

/// C2 and C5: whoever pools what several grants give has the union of them, and a record outside of all stays closed.
#[tokio::test(flavor = "multi_thread")]
async fn c2_c5_grants_together_are_their_union() {
    let dir = tempfile::tempdir().unwrap();
    let devnet = devnet(dir.path()).await;
    let network = devnet.network().clone();
    let owner = Client::open(config(dir.path(), &network, 1)).await.unwrap();
    for path in ["a/one", "b/two", "c/three"] {
        put(&owner, path, 400, PutOptions::default()).await;
    }
    let mut shared = Vec::new();
    for (person, scope) in [(2, "in:a"), (3, "in:b"), (4, "in:c")] {
        let config = config(dir.path(), &network, person);
        let asked = package(&config);
        owner.grant(&asked, terms(&[scope])).await.unwrap();
        shared.push(Shared::open(config, &asked).await.unwrap());
    }
    let records: Vec<SharedRecord> = {
        let mut found = Vec::new();
        for shared in &shared {
            found.extend(shared.list().await.unwrap());
        }
        found
    };
    assert_eq!(names(&records), ["a/one", "b/two", "c/three"]);
    for (at, shared) in shared.iter().enumerate() {
        for (of, record) in records.iter().enumerate() {
            match read(shared, record).await {
                Ok(bytes) => {
                    assert_eq!(of, at);
                    assert_eq!(bytes, content(["a/one", "b/two", "c/three"][of], 400));
                }
                Err(error) => {
                    assert_ne!(of, at, "{error}");
                    assert_eq!(denial(&error), Some(Denial::NotGranted));
                }
            }
        }
    }
    owner.close().await;
    devnet.stop().await;
}

/// A grant opens while one static node of four is gone, and says so when two are; one that was away catches up with what it missed.
#[tokio::test(flavor = "multi_thread")]
async fn one_static_node_may_be_gone_and_takes_what_it_missed_when_it_is_back() {
    let dir = tempfile::tempdir().unwrap();
    let devnet = devnet(dir.path()).await;
    let network = devnet.network().clone();
    let mut devnet = Apart::from(devnet, dir.path()).await;
    let owner = Client::open(config(dir.path(), &network, 1)).await.unwrap();
    put(&owner, "labs/one", 500, PutOptions::default()).await;
    devnet.stop(0).await;
    let doctor = config(dir.path(), &network, 2);
    let asked = package(&doctor);
    owner.grant(&asked, terms(&["in:labs"])).await.unwrap();
    let shared = Shared::open(doctor, &asked).await.unwrap();
    let records = shared.list().await.unwrap();
    assert_eq!(read(&shared, &records[0]).await.unwrap(), content("labs/one", 500));
    devnet.start(0).await;
    // Of the other three two alone do not open: the one that was away has to have its share and the batch by now.
    devnet.stop(1).await;
    eventually(
        "the one that was away opens too",
        async || matches!(read(&shared, &records[0]).await, Ok(bytes) if bytes == content("labs/one", 500)),
    )
    .await;
    devnet.stop(2).await;
    let refused = read(&shared, &records[0]).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Unavailable, "{refused}");
    owner.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_removed_or_put_anew_outside_of_a_scope_leaves_it_for_grants_that_come_as_well() {
    let dir = tempfile::tempdir().unwrap();
    let devnet = devnet(dir.path()).await;
    let network = devnet.network().clone();
    let owner = Client::open(config(dir.path(), &network, 1)).await.unwrap();
    for path in ["zz/ra", "zz/rb", "zz/rc"] {
        put(&owner, path, 300, labelled("zz")).await;
    }
    let doctor = config(dir.path(), &network, 2);
    let open = async || {
        let asked = package(&doctor);
        let report = owner.grant(&asked, terms(&["label:zz"])).await.unwrap();
        (report, Shared::open(doctor.clone(), &asked).await.unwrap())
    };
    let (report, first) = open().await;
    assert_eq!((report.covered, report.brought), (3, 3));
    let before = first.list().await.unwrap();
    put(&owner, "zz/rb", 300, labelled("private")).await;
    assert_eq!(owner.join_scopes(Some(&[at("zz/rb")])).await.unwrap(), 0);
    owner.remove(&at("zz/rc"), Remove::Mark).await.unwrap();
    eventually("they are gone", async || names(&first.list().await.unwrap()) == ["zz/ra"]).await;
    for gone in &before[1..] {
        assert_eq!(denial(&read(&first, gone).await.unwrap_err()), Some(Denial::Erased));
    }
    let (report, second) = open().await;
    assert_eq!((report.covered, report.brought), (1, 0));
    assert_eq!(names(&second.list().await.unwrap()), ["zz/ra"]);

    let mut told = false;
    let unknown = owner.revoke(GrantId([0; 16]), |_| told = true).await.unwrap_err();
    assert_eq!((unknown.kind(), told), (ErrorKind::NotFound, false));
    let wrong = grantee::key_package(&doctor, "a\nb", later(60)).unwrap_err();
    assert_eq!(wrong.kind(), ErrorKind::Invalid);
    owner.close().await;
    devnet.stop().await;
}

/// Names of scopes, what grants are about, and which versions are in scopes are known to every home of the owner, also to one
/// that begins with nothing.
#[tokio::test(flavor = "multi_thread")]
async fn another_home_of_the_owner_goes_on_where_the_first_was() {
    let dir = tempfile::tempdir().unwrap();
    let devnet = devnet(dir.path()).await;
    let network = devnet.network().clone();
    let first = Client::open(config(dir.path(), &network, 1)).await.unwrap();
    put(&first, "imaging/knee-1", 500, labelled("knee")).await;
    put(&first, "imaging/knee-2", 500, labelled("knee")).await;
    let (path, scope) = ("knee".parse().unwrap(), "label:knee".parse::<Scope>().unwrap());
    assert_eq!(first.define_scope(&path, &scope).await.unwrap(), []);
    let doctor = config(dir.path(), &network, 2);
    let asked = package(&doctor);
    let granted =
        first.grant(&asked, GrantTerms { scopes: vec![(path.clone(), scope.clone())], ..terms(&[]) });
    let granted = granted.await.unwrap();
    let shared = Shared::open(doctor, &asked).await.unwrap();

    let second = ClientConfig { home: dir.path().join("second"), ..config(dir.path(), &network, 1) };
    let second = Client::open(second).await.unwrap();
    assert_eq!(second.defined_scopes().await.unwrap(), [(path.clone(), scope)]);
    let grants = second.grants().await.unwrap();
    assert_eq!(grants[0].about.as_ref().unwrap().name, "Dr Knee");
    let collections: Vec<_> =
        second.collections().await.unwrap().into_iter().map(|found| found.name).collect();
    assert_eq!(collections, ["imaging".parse().unwrap()], "what xvault keeps for itself is not shown");
    // What is in the scope already is not brought again; what comes joins; what goes leaves.
    put(&second, "imaging/knee-3", 500, labelled("knee")).await;
    assert_eq!(second.join_scopes(None).await.unwrap(), 1);
    second.remove(&at("imaging/knee-1"), Remove::Mark).await.unwrap();
    eventually("the list is what the second home made it", async || {
        names(&shared.list().await.unwrap()) == ["imaging/knee-2", "imaging/knee-3"]
    })
    .await;

    // Both change what is noted at once, and nothing is lost.
    let names_of = |client: Client, nth: u8| async move {
        for part in 0..3 {
            let name = format!("name-{nth}-{part}").parse().unwrap();
            client.define_scope(&name, &"in:imaging".parse().unwrap()).await.unwrap();
        }
    };
    tokio::join!(names_of(first.clone(), 1), names_of(second.clone(), 2));
    assert_eq!(first.defined_scopes().await.unwrap().len(), 7);
    assert_eq!(second.defined_scopes().await.unwrap().len(), 7);

    // A name that means something else now: for the grant that stands nothing joins, neither what was there before nor what
    // comes, and it tells what it was. Who is let in from here on sees what the name means now.
    put(&second, "imaging/hip-1", 500, labelled("hip")).await;
    let other: Scope = "label:hip".parse().unwrap();
    assert_eq!(first.define_scope(&path, &other).await.unwrap(), [granted.grant]);
    assert_eq!(first.define_scope(&path, &other).await.unwrap(), [], "it means that already");
    put(&second, "imaging/hip-2", 500, labelled("hip")).await;
    second.join_scopes(None).await.unwrap();
    first.join_scopes(None).await.unwrap();
    assert_eq!(names(&shared.list().await.unwrap()), ["imaging/knee-2", "imaging/knee-3"]);
    assert_eq!(second.grants().await.unwrap()[0].about.as_ref().unwrap().scopes[0].meaning, "label:knee");
    let surgeon = config(dir.path(), &network, 3);
    let asked = package(&surgeon);
    let hip = GrantTerms { scopes: vec![(path.clone(), other)], ..terms(&[]) };
    assert_eq!(second.grant(&asked, hip).await.unwrap().covered, 2);
    let hip = Shared::open(surgeon, &asked).await.unwrap();
    assert_eq!(names(&hip.list().await.unwrap()), ["imaging/hip-1", "imaging/hip-2"]);
    for name in ["label:hip", "a b", "and", "k=v", "(x)"] {
        let refused = first.define_scope(&name.parse().unwrap(), &"in:imaging".parse().unwrap()).await;
        assert_eq!(refused.unwrap_err().kind(), ErrorKind::Invalid, "{name}");
    }

    // The second home takes back what the first one gave.
    second.revoke(granted.grant, |_| ()).await.unwrap();
    let own =
        second.put(&at("xvault.own/access"), Source::Bytes(content("x", 1)), PutOptions::default()).await;
    assert_eq!(own.unwrap_err().kind(), ErrorKind::Refused);
    first.close().await;
    second.close().await;
    devnet.stop().await;
}

/// V5: a revocation counts at a static node as soon as it is there, on whichever way, also while nothing becomes final.
#[tokio::test(flavor = "multi_thread")]
async fn a_revocation_counts_where_it_was_submitted_before_it_is_final() {
    let dir = tempfile::tempdir().unwrap();
    let devnet = devnet(dir.path()).await;
    let network = devnet.network().clone();
    let mut devnet = Apart::from(devnet, dir.path()).await;
    let owner_config = config(dir.path(), &network, 1);
    let owner = Client::open(owner_config.clone()).await.unwrap();
    put(&owner, "labs/one", 500, PutOptions::default()).await;
    let doctor = config(dir.path(), &network, 2);
    let asked = package(&doctor);
    let granted = owner.grant(&asked, terms(&["in:labs"])).await.unwrap().grant;
    let shared = Shared::open(doctor, &asked).await.unwrap();
    let record = shared.list().await.unwrap().remove(0);

    let key = owner_config.keys.signing();
    let ledger = LedgerClient::new(&network, key).unwrap();
    let Answer::Nonce(nonce) = ledger.ask(&Question::Nonce { author: key.public() }).await.unwrap() else {
        panic!("no nonce");
    };
    devnet.stop(0).await;
    devnet.stop(1).await;
    let unopened = read(&shared, &record).await.unwrap_err();
    assert_eq!((unopened.kind(), denial(&unopened)), (ErrorKind::Unavailable, None), "{unopened}");
    let action = Action::Revoke { vault: *owner_config.keys.vault(), grant: granted };
    let transaction = Transaction {
        network: devnet.genesis.network,
        author: key.public(),
        nonce,
        expires: Height(10_000),
        action,
    };
    let bytes = transaction.sign(key).bytes().to_vec();
    for member in &devnet.genesis.roster.members()[2..] {
        let fate = ledger.submit(member, bytes.clone()).await.unwrap();
        assert_eq!(fate, Fate::Waiting, "nothing is final without a quorum");
    }
    let denied = read(&shared, &record).await.unwrap_err();
    assert_eq!(denial(&denied), Some(Denial::Revoked), "{denied}");
    for nth in [2, 3] {
        devnet.stop(nth).await;
    }
}
