//! Somebody with a grant to append brings records into a vault, over QUIC; the owner takes them in, or does not.

use std::sync::Arc;

use bytes::Bytes;
use xvault::client::access::{GrantTerms, Shared, TakenIn};
use xvault::client::{
    Client, ClientConfig, Error, ErrorKind, GetOptions, PutOptions, RecordAddress, Source, rotation,
};
use xvault::crypto::seed::Seed;
use xvault::crypto::sign::KeyPair;
use xvault::ledger::ask::{Answer, Question};
use xvault::ledger::rows::Segment;
use xvault::message::access::{Deposit, DepositPack, KeyPackage, Rights};
use xvault::message::anchor::AnchoredSegment;
use xvault::message::{Action, Rejection};
use xvault::roles::Devnet;
use xvault::types::{GrantId, SegmentId, VaultId};

use crate::people::{at, config, content, devnet, labelled, names, package, put, read, terms};

const MIB: u64 = 1 << 20;

fn appends(scopes: &[&str], bytes: u64) -> GrantTerms {
    GrantTerms { rights: Rights::APPEND, append_bytes: Some(bytes), ..terms(scopes) }
}

/// An owner with a record, and a provider that may bring reports and letters.
struct Clinic {
    dir: tempfile::TempDir,
    devnet: Devnet,
    owner: Client,
    provider: ClientConfig,
    package: KeyPackage,
    grant: GrantId,
}

impl Clinic {
    async fn with(terms: GrantTerms) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let devnet = devnet(dir.path()).await;
        let network = devnet.network().clone();
        let owner = Client::open(config(dir.path(), &network, 1)).await.unwrap();
        put(&owner, "reports/own", 700, labelled("private")).await;
        let provider = config(dir.path(), &network, 2);
        let package = package(&provider);
        let grant = owner.grant(&package, terms).await.unwrap().grant;
        Self { dir, devnet, owner, provider, package, grant }
    }

    async fn open() -> Self {
        Self::with(appends(&["in:reports or in:letters"], 100 * MIB)).await
    }

    async fn shared(&self) -> Shared {
        Shared::open(self.provider.clone(), &self.package).await.unwrap()
    }

    fn vault(&self) -> VaultId {
        *config(self.dir.path(), self.devnet.network(), 1).keys.vault()
    }

    async fn stop(self) {
        self.owner.close().await;
        self.devnet.stop().await;
    }
}

async fn bring(shared: &Shared, path: &str, len: usize, options: PutOptions) -> Result<(), Error> {
    shared.put(&at(path), Source::Bytes(content(path, len)), options).await.map(drop)
}

fn addresses(taken: &TakenIn) -> Vec<String> {
    let mut found: Vec<_> =
        taken.records.iter().map(|record| record.at.to_string().split_off("xv://".len())).collect();
    found.sort();
    found
}

async fn bytes_of(client: &Client, path: &str) -> Bytes {
    let mut download = client.get(&at(path), GetOptions::default()).await.unwrap();
    let mut bytes = Vec::new();
    while let Some(more) = download.next().await.unwrap() {
        bytes.extend_from_slice(&more);
    }
    bytes.into()
}

fn rejection(error: &Error) -> Option<Rejection> {
    std::error::Error::source(error).and_then(|source| source.downcast_ref::<Rejection>()).copied()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_brings_records_that_the_owner_takes_in_and_that_it_cannot_read_back() {
    let clinic = Clinic::open().await;
    let shared = clinic.shared().await;
    assert_eq!(shared.appendable(), ["in:reports or in:letters"]);
    // A small one, one with a body of several segments, an empty one.
    bring(&shared, "reports/knee", 700, labelled("knee")).await.unwrap();
    bring(&shared, "reports/scan", 20_000_000, PutOptions::default()).await.unwrap();
    bring(&shared, "letters/empty", 0, PutOptions::default()).await.unwrap();
    assert_eq!(clinic.owner.waiting_deposits().await.unwrap().len(), 3);
    // It sees nothing: neither what was there nor what it brought.
    assert!(shared.list().await.unwrap().is_empty());
    let elsewhere = bring(&shared, "counselling/notes", 10, PutOptions::default()).await.unwrap_err();
    assert_eq!(elsewhere.kind(), ErrorKind::Refused);

    let taken = clinic.owner.take_in().await.unwrap();
    assert_eq!(addresses(&taken), ["letters/empty", "reports/knee", "reports/scan"]);
    assert_eq!((taken.refused.clone(), taken.left.clone()), (vec![], vec![]));
    assert!(taken.records.iter().all(|record| record.by.as_deref() == Some("Dr Knee")));
    for (path, len) in [("reports/knee", 700), ("reports/scan", 20_000_000), ("letters/empty", 0)] {
        assert_eq!(bytes_of(&clinic.owner, path).await, content(path, len), "{path}");
    }
    let stat = clinic.owner.stat(&at("reports/knee"), None, false).await.unwrap();
    assert_eq!(stat.info.provenance.unwrap().grant, clinic.grant);
    assert_eq!(stat.metadata["labels"], "knee");
    let own = clinic.owner.stat(&at("reports/own"), None, false).await.unwrap();
    assert_eq!(own.info.provenance, None);
    assert!(clinic.owner.waiting_deposits().await.unwrap().is_empty());
    assert_eq!(clinic.owner.take_in().await.unwrap(), TakenIn::default());
    // What was taken is anchored as all else is: it has a receipt, and another home of the owner has it.
    clinic.owner.receipt(&at("reports/scan"), None).await.unwrap();
    let mut second = config(clinic.dir.path(), clinic.devnet.network(), 1);
    second.home = clinic.dir.path().join("second");
    let second = Client::open(second).await.unwrap();
    assert_eq!(bytes_of(&second, "reports/scan").await, content("reports/scan", 20_000_000));
    assert_eq!(second.grantee_name(&clinic.grant).await.as_deref(), Some("Dr Knee"));
    second.close().await;
    shared.close().await;
    clinic.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_that_is_there_is_replaced_but_by_who_brought_it() {
    let clinic = Clinic::open().await;
    let shared = clinic.shared().await;
    bring(&shared, "reports/own", 50, PutOptions::default()).await.unwrap();
    bring(&shared, "reports/new", 60, PutOptions::default()).await.unwrap();
    let taken = clinic.owner.take_in().await.unwrap();
    let found = addresses(&taken);
    assert!(found[0] == "reports/new" && found[1].starts_with("reports/own."), "{found:?}");
    assert_eq!(bytes_of(&clinic.owner, "reports/own").await, content("reports/own", 700), "it stays");
    assert_eq!(bytes_of(&clinic.owner, &found[1]).await, content("reports/own", 50), "beside it");
    // A correction of what it brought is the next version of that.
    let better = Source::Bytes("better".into());
    shared.put(&at("reports/new"), better, PutOptions::default()).await.unwrap();
    assert_eq!(addresses(&clinic.owner.take_in().await.unwrap()), ["reports/new"]);
    assert_eq!(bytes_of(&clinic.owner, "reports/new").await, "better");
    assert_eq!(clinic.owner.versions(&at("reports/new")).await.unwrap().len(), 2);
    shared.close().await;
    clinic.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_grant_is_bounded_and_ends_and_a_deposit_can_be_let_go() {
    let clinic = Clinic::with(appends(&["in:reports"], 2 * MIB)).await;
    let shared = clinic.shared().await;
    bring(&shared, "reports/a", 1_500_000, PutOptions::default()).await.unwrap();
    let over = bring(&shared, "reports/b", 1_500_000, PutOptions::default()).await.unwrap_err();
    assert_eq!(rejection(&over), Some(Rejection::OverAppendBytes { limit: 2 * MIB }));
    // Nodes do not take without end either what no deposit counts yet.
    let mut refused = 0;
    for nth in 0..3 {
        let path = format!("reports/{nth}");
        refused += u8::from(
            bring(&shared, &path, 7_000_000, PutOptions::default())
                .await
                .is_err_and(|error| rejection(&error).is_none()),
        );
    }
    assert!(refused > 0, "at the nodes");
    let waiting = clinic.owner.waiting_deposits().await.unwrap();
    assert_eq!(waiting.len(), 1);
    clinic.owner.refuse_deposit(waiting[0].0).await.unwrap();
    let gone = clinic.owner.refuse_deposit(waiting[0].0).await.unwrap_err();
    assert_eq!(gone.kind(), ErrorKind::NotFound);
    assert_eq!(clinic.owner.take_in().await.unwrap(), TakenIn::default());
    clinic.owner.revoke(clinic.grant, drop).await.unwrap();
    let revoked = bring(&shared, "reports/c", 10, PutOptions::default()).await.unwrap_err();
    assert_eq!(revoked.kind(), ErrorKind::Refused, "{revoked}");
    // Who may only read brings nothing, and says so before anything is sent.
    let reader = config(clinic.dir.path(), clinic.devnet.network(), 3);
    let asked = package(&reader);
    clinic.owner.grant(&asked, terms(&["in:reports"])).await.unwrap();
    let reader = Shared::open(reader, &asked).await.unwrap();
    let refused = bring(&reader, "reports/d", 10, PutOptions::default()).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Refused);
    reader.close().await;
    shared.close().await;
    clinic.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_also_read_sees_what_it_brought_once_the_owner_has_it() {
    let both = GrantTerms {
        rights: Rights::APPEND.and(Rights::READ).and(Rights::LIST),
        append_bytes: Some(10 * MIB),
        ..terms(&["label:knee"])
    };
    let clinic = Clinic::with(both).await;
    let shared = clinic.shared().await;
    bring(&shared, "reports/knee", 900, labelled("knee")).await.unwrap();
    assert!(shared.list().await.unwrap().is_empty());
    clinic.owner.take_in().await.unwrap();
    clinic.owner.join_scopes(None).await.unwrap();
    let records = shared.list().await.unwrap();
    assert_eq!(names(&records), ["reports/knee"]);
    assert_eq!(read(&shared, &records[0]).await.unwrap(), content("reports/knee", 900));
    shared.close().await;
    clinic.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn in_a_shreddable_collection_what_was_brought_is_erased_as_all_else_is() {
    let clinic = Clinic::with(appends(&["in:counselling"], 10 * MIB)).await;
    let counselling = "counselling".parse().unwrap();
    assert!(clinic.owner.begin_shreddable(&counselling).await.unwrap());
    let shared = clinic.shared().await;
    bring(&shared, "counselling/note", 800, PutOptions::default()).await.unwrap();
    assert_eq!(addresses(&clinic.owner.take_in().await.unwrap()), ["counselling/note"]);
    assert_eq!(bytes_of(&clinic.owner, "counselling/note").await, content("counselling/note", 800));
    let stat = clinic.owner.stat(&at("counselling/note"), None, false).await.unwrap();
    assert_eq!(stat.info.provenance.unwrap().grant, clinic.grant);
    // The deposit itself, whose key the words lead to, is gone from the ledger, and so from the nodes.
    assert!(clinic.owner.waiting_deposits().await.unwrap().is_empty());
    shared.close().await;
    clinic.stop().await;
}

/// What a depositor can say that is not so: each is refused by what is wrong with it, and hinders no other.
#[tokio::test(flavor = "multi_thread")]
async fn a_deposit_that_lies_is_refused_and_stops_no_other() {
    let clinic = Clinic::open().await;
    let shared = clinic.shared().await;
    bring(&shared, "reports/good", 300, PutOptions::default()).await.unwrap();
    let key =
        clinic.provider.keys.access().grantee_with(clinic.package.number, &clinic.package.auth).unwrap().0;
    let forged = Forger { clinic: &clinic, key };
    // A key for nobody; a pack that is none; a pack whose key is another's.
    forged.deposit(vec![7; 1_168]).await;
    forged.deposit(forged.sealed(&[1; 32])).await;
    let taken = clinic.owner.take_in().await.unwrap();
    assert_eq!(addresses(&taken), ["reports/good"]);
    assert_eq!((taken.refused.len(), taken.left.len()), (1, 1), "{taken:?}");
    assert!(taken.refused[0].contains("not sealed to this vault's inbox"), "{taken:?}");
    // Shards that nobody has are no proof of a lie: that one waits until the owner lets it go.
    let waiting = clinic.owner.waiting_deposits().await.unwrap();
    assert_eq!(waiting.len(), 1);
    clinic.owner.refuse_deposit(waiting[0].0).await.unwrap();
    shared.close().await;
    clinic.stop().await;
}

struct Forger<'a> {
    clinic: &'a Clinic,
    key: KeyPair,
}

impl Forger<'_> {
    const PACK: SegmentId = SegmentId([0xf0; 32]);

    fn sealed(&self, secret: &[u8; 32]) -> Vec<u8> {
        let keys = config(self.clinic.dir.path(), self.clinic.devnet.network(), 1).keys.access();
        let context = DepositPack::context(&self.clinic.vault(), &self.clinic.grant, &Self::PACK);
        keys.inbox().public().seal(xvault::crypto::access::Purpose::Inbox, &context, secret, &[3; 64])
    }

    /// Names a pack that no node has.
    async fn deposit(&self, key: Vec<u8>) {
        let ledger = xvault::client::LedgerClient::new(self.clinic.devnet.network(), &self.key).unwrap();
        let first = self.clinic.owner.waiting_deposits().await.unwrap().remove(0).1.segments[0];
        let question = Question::Segments { vault: self.clinic.vault(), segments: vec![first] };
        let Answer::Segments(rows) = ledger.ask(&question).await.unwrap() else { panic!() };
        let Some(Segment { code, len, shards, .. }) = rows[0].clone() else { panic!() };
        let segment = if key[0] == 7 { SegmentId([0xf1; 32]) } else { Self::PACK };
        let segments = vec![AnchoredSegment { segment, code, len, shards }];
        let (vault, grant) = (self.clinic.vault(), self.clinic.grant);
        let deposit = Deposit { vault, grant, segments, pack: Some(DepositPack { segment, key }) };
        ledger.carry_out(&self.key, Action::Deposit(deposit), &|_| {}).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_when_the_vaults_keys_are_rotated_is_taken_in_all_the_same() {
    let Clinic { dir, devnet, owner, provider, package, grant } = Clinic::open().await;
    let shared = Shared::open(provider.clone(), &package).await.unwrap();
    bring(&shared, "reports/before", 300, PutOptions::default()).await.unwrap();
    let first = config(dir.path(), devnet.network(), 1);
    rotation::let_device_in(&first, &|_| ()).await.unwrap();
    owner.close().await;
    let keys = Seed::from_entropy([1; 32]).vault(0, 1);
    let next = ClientConfig { keys, home: dir.path().join("home-1-1"), ..first.clone() };
    let rotated = rotation::rotate(&first, &next, true, &|_| ()).await.unwrap();
    let owner = Client::open(next).await.unwrap();
    // The grant is over with the keys that gave it; under the one that was given again the provider goes on.
    let over = bring(&shared, "reports/late", 10, PutOptions::default()).await.unwrap_err();
    assert_eq!(over.kind(), ErrorKind::Refused, "{over}");
    assert_eq!(rotated.renewed.given[0].0, grant);
    let again = Shared::open(provider, &package).await.unwrap();
    bring(&again, "reports/after", 10, PutOptions::default()).await.unwrap();
    assert_eq!(addresses(&owner.take_in().await.unwrap()), ["reports/after", "reports/before"]);
    assert_eq!(bytes_of(&owner, "reports/before").await, content("reports/before", 300));
    again.close().await;
    shared.close().await;
    owner.close().await;
    devnet.stop().await;
}

/// Many files at once share packs and deposits; two homes of the owner take them in at once, and nothing comes twice.
#[tokio::test(flavor = "multi_thread")]
async fn two_homes_that_take_in_at_once_take_each_record_once() {
    let clinic = Clinic::open().await;
    let (shared, letter) = (Arc::new(clinic.shared().await), at("letters/twice"));
    let mut bringing = tokio::task::JoinSet::new();
    for nth in 0..40 {
        let shared = Arc::clone(&shared);
        bringing.spawn(async move {
            bring(&shared, &format!("reports/r{nth:02}"), 1_000, PutOptions::default()).await
        });
    }
    while let Some(done) = bringing.join_next().await {
        done.unwrap().unwrap();
    }
    // One that is brought twice at once has two versions.
    let twice = |text: &'static str| shared.put(&letter, Source::Bytes(text.into()), PutOptions::default());
    let (one, other) = tokio::join!(twice("one"), twice("another"));
    one.and(other).unwrap();
    assert!(clinic.owner.waiting_deposits().await.unwrap().len() < 40, "they share");
    let mut second = config(clinic.dir.path(), clinic.devnet.network(), 1);
    second.home = clinic.dir.path().join("second");
    let second = Client::open(second).await.unwrap();
    let (one, other) = tokio::join!(clinic.owner.take_in(), second.take_in());
    let (one, other) = (one.unwrap(), other.unwrap());
    assert_eq!((&one.refused, &other.refused), (&vec![], &vec![]));
    clinic.owner.take_in().await.unwrap();
    for nth in 0..40 {
        let record: RecordAddress = at(&format!("reports/r{nth:02}"));
        assert_eq!(clinic.owner.versions(&record).await.unwrap().len(), 1, "{record}");
        assert_eq!(bytes_of(&clinic.owner, &format!("reports/r{nth:02}")).await.len(), 1_000);
    }
    assert_eq!(clinic.owner.versions(&letter).await.unwrap().len(), 2);
    assert!(clinic.owner.waiting_deposits().await.unwrap().is_empty());
    second.close().await;
    Arc::into_inner(shared).unwrap().close().await;
    clinic.stop().await;
}
