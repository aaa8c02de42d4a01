//! Shreddable collections and erasure on a real network: what is erased is read by nobody, whatever they have.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use xvault::client::access::{EraseTarget, Shared, grantee};
use xvault::client::{
    Ack, Client, ClientConfig, Condition, ErrorKind, LedgerClient, PutOptions, RecordAddress, Remove, Source,
};
use xvault::crypto::access::Keyslot;
use xvault::message::Policy;
use xvault::message::access::{Denial, ErasureCertificate, Remainder};
use xvault::store::FileDisk;
use xvault::store::access::AccessStore;
use xvault::types::{CollectionClass, CollectionName, VersionId};

use crate::people::{
    Apart, at, config, content, copy_folder, denial, devnet, elsewhere, get, later, names, put, read,
    runtime, terms,
};
use crate::statics::eventually;

fn collection(name: &str) -> CollectionName {
    name.parse().unwrap()
}

async fn erase(client: &Client, path: &str) -> ErasureCertificate {
    client.erase(&EraseTarget::Record(at(path), None)).await.unwrap()
}

/// Every file below a folder.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.push(path);
        }
    }
    found
}

fn has(folder: &Path, wanted: &[u8]) -> bool {
    let found = |path: &PathBuf| {
        let bytes = std::fs::read(path).unwrap();
        bytes.windows(wanted.len()).any(|at| at == wanted)
    };
    files(folder).iter().any(found)
}

/// What a static node that stands still keeps of access: every keyslot of the vault, and the key of what is at rest.
struct Kept {
    slots: Vec<Keyslot>,
    rest: Vec<u8>,
    has_share: bool,
}

fn kept(static_dir: &Path, owner: &ClientConfig, records: &[(&str, VersionId)]) -> Kept {
    let dir = files(static_dir).into_iter().find(|path| path.ends_with("access.key")).unwrap();
    let dir = dir.parent().unwrap();
    let disk = Arc::new(FileDisk::open(dir).unwrap());
    let store =
        AccessStore::open(disk, Box::new(|out| getrandom::fill(out).map_err(std::io::Error::other))).unwrap();
    let (view, keys) = (store.view().unwrap(), owner.keys.access());
    let own = keys.scope_tag(&"\u{1}owner".parse().unwrap());
    let slot = |(path, version): &(&str, VersionId)| {
        let record = keys.record_tag(&at(path).collection, &at(path).name);
        view.slot(owner.keys.vault(), &record, version, &own, 0).unwrap().map(|(_, slot)| slot)
    };
    Kept {
        slots: records.iter().filter_map(slot).collect(),
        rest: std::fs::read(dir.join("access.key")).unwrap(),
        has_share: view.share(owner.keys.vault(), (0, 0)).unwrap().is_some(),
    }
}

/// C13: after an erasure whoever has the seed, a copy of the whole home folder of before and every shard that storage nodes still
/// have reads nothing of it; of the keyslots no static node has a byte left in the clear, and the key under which it had
/// them is gone. Not covered is who took keyslots out of a static node that lies, and what a disk keeps of overwritten sectors.
#[tokio::test(flavor = "multi_thread")]
async fn c13_an_erased_record_is_read_by_nobody_with_the_seed_and_the_shards() {
    let dir = tempfile::tempdir().unwrap();
    let devnet = devnet(dir.path()).await;
    let network = devnet.network().clone();
    let owning = config(dir.path(), &network, 1);
    let owner = Client::open(owning.clone()).await.unwrap();
    assert!(owner.begin_shreddable(&collection("imaging")).await.unwrap());
    assert!(!owner.begin_shreddable(&collection("imaging")).await.unwrap(), "once is enough");
    put(&owner, "imaging/small", 900, PutOptions::default()).await;
    put(&owner, "imaging/large", 9_000_000, PutOptions::default()).await;
    put(&owner, "imaging/stays", 800, PutOptions::default()).await;
    put(&owner, "labs/durable", 700, PutOptions::default()).await;
    let mut versions = Vec::new();
    for (path, len) in [("imaging/small", 900), ("imaging/large", 9_000_000), ("imaging/stays", 800)] {
        assert_eq!(get(&owner, path, None).await.unwrap(), content(path, len), "{path}");
        versions.push((path, owner.versions(&at(path)).await.unwrap()[0].version));
    }
    let stat = owner.stat(&at("imaging/small"), None, false).await.unwrap();
    assert_eq!(
        (stat.class, stat.content.0),
        (CollectionClass::Shreddable, *blake3::hash(&content("imaging/small", 900)).as_bytes())
    );
    let receipt = owner.receipt(&at("imaging/small"), None).await.unwrap();
    assert_eq!(receipt.commitment.opening.content, stat.content, "it is anchored as others are");
    owner.close().await;
    // The home as it was, and what the static nodes had.
    copy_folder(&owning.home, &elsewhere(&owning, "copied").home);
    devnet.stop().await;
    let statics = |nth: usize| dir.path().join(format!("devnet/static-{nth}"));
    let before = kept(&statics(1), &owning, &versions);
    assert_eq!((before.slots.len(), before.has_share), (3, true));
    assert!(has(&statics(1), &before.rest), "the search finds what is there");

    let devnet = crate::people::devnet(dir.path()).await;
    let owner = Client::open(owning.clone()).await.unwrap();
    for path in ["imaging/small", "imaging/large"] {
        let certificate = erase(&owner, path).await;
        let certified = certificate.verify(owner.genesis().unwrap(), Policy::Quorum).unwrap();
        assert!(certified.signers.len() >= 3 && certified.members == 4);
        assert_eq!(ErasureCertificate::from_text(&certificate.to_text()), Ok(certificate.clone()));
        let is_shared = |found: &Remainder| matches!(found, Remainder::Shared { .. });
        if path.ends_with("large") {
            let freed = certificate.statement.releases.iter().map(|receipt| receipt.segments.len());
            assert!(freed.sum::<usize>() >= 6, "{:?}", certificate.statement.remains);
        }
        assert!(certificate.statement.remains.iter().all(is_shared), "{:?}", certificate.statement.remains);
        let gone = get(&owner, path, None).await.unwrap_err();
        assert_eq!(gone.kind(), ErrorKind::NotFound, "{gone}");
    }
    assert_eq!(get(&owner, "imaging/stays", None).await.unwrap(), content("imaging/stays", 800));

    // The seed alone finds neither; the copied home still knows of both, and cannot open them either.
    let recovered = Client::open(elsewhere(&owning, "empty")).await.unwrap();
    recovered.recover(|_| ()).await.unwrap();
    assert_eq!(get(&recovered, "imaging/stays", None).await.unwrap(), content("imaging/stays", 800));
    assert_eq!(recovered.class(&collection("imaging")).await.unwrap(), Some(CollectionClass::Shreddable));
    assert!(get(&recovered, "imaging/small", None).await.is_err());
    recovered.close().await;
    let copied = elsewhere(&owning, "copied");
    let index = xvault::store::SharedIndex::new(&copied.home, copied.keys.index_key()).unwrap();
    let known = index.with(|index| index.latest(&collection("imaging"), &"small".parse().unwrap())).await;
    assert!(known.unwrap().is_some(), "the copy was made before");
    drop(index);
    let thief = Client::open(copied).await.unwrap();
    for (path, version) in &versions[..2] {
        let closed = get(&thief, path, Some(*version)).await.unwrap_err();
        assert_eq!(closed.kind(), ErrorKind::NotFound, "{closed}");
    }
    thief.close().await;
    owner.close().await;
    devnet.stop().await;
    for nth in 1..=4 {
        let left = kept(&statics(nth), &owning, &versions);
        assert_eq!(left.slots, before.slots[2..], "static node {nth} has that of what stays, and no other");
        for gone in &before.slots[..2] {
            assert!(!has(&statics(nth), gone.as_bytes()), "static node {nth}");
        }
    }
    assert!(!has(&statics(1), &before.rest), "the key of before is nowhere");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_static_node_that_was_away_deletes_when_it_is_back_and_its_receipt_is_added() {
    let dir = tempfile::tempdir().unwrap();
    let devnet = devnet(dir.path()).await;
    let network = devnet.network().clone();
    let mut devnet = Apart::from(devnet, dir.path()).await;
    let owning = config(dir.path(), &network, 1);
    let owner = Client::open(owning.clone()).await.unwrap();
    owner.begin_shreddable(&collection("labs")).await.unwrap();
    for path in ["labs/one", "labs/two"] {
        put(&owner, path, 500, PutOptions::default()).await;
    }
    devnet.stop(0).await;
    // With one away keyslots are read from the others, and kept by them.
    put(&owner, "labs/three", 500, PutOptions::default()).await;
    assert_eq!(get(&owner, "labs/one", None).await.unwrap(), content("labs/one", 500));
    let all = EraseTarget::Collection(collection("labs"));
    let first = owner.erase(&all).await.unwrap();
    let away = devnet.genesis.roster.members()[0].key;
    assert!(first.statement.remains.contains(&Remainder::Keyslots { node: away }));
    let certified = first.verify(&devnet.genesis, Policy::Quorum).unwrap();
    assert_eq!((certified.signers.len(), first.statement.erasures[0].erasure.versions.len()), (3, 3));
    assert_eq!(first.statement.names.len(), 3);
    assert!(owner.collections().await.unwrap().iter().any(|found| found.name.as_str() == "labs"));
    devnet.start(0).await;
    // Run again: nothing is left to erase, and the receipt that came since is in it.
    let mut second = None;
    eventually("the one that was away signs too", async || {
        let Ok(found) = owner.erase(&all).await else { return false };
        let is_whole = found.verify(&devnet.genesis, Policy::Quorum).unwrap().signers.len() == 4;
        second = Some(found);
        is_whole
    })
    .await;
    let second = second.unwrap();
    assert!(!second.statement.remains.contains(&Remainder::Keyslots { node: away }));
    assert_eq!(second.statement.erasures, first.statement.erasures);
    // What is put after an erasure is there, under the same name too.
    put(&owner, "labs/one", 600, PutOptions::default()).await;
    assert_eq!(get(&owner, "labs/one", None).await.unwrap(), content("labs/one", 600));
    owner.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn grants_work_for_shreddable_records_until_they_are_erased() {
    let dir = tempfile::tempdir().unwrap();
    let devnet = devnet(dir.path()).await;
    let network = devnet.network().clone();
    let owner = Client::open(config(dir.path(), &network, 1)).await.unwrap();
    owner.begin_shreddable(&collection("imaging")).await.unwrap();
    let labelled = || PutOptions {
        metadata: [("labels".to_owned(), "knee".to_owned())].into(),
        ..PutOptions::default()
    };
    put(&owner, "imaging/knee", 6_000_000, labelled()).await;
    put(&owner, "imaging/other", 300, PutOptions::default()).await;
    let doctor = config(dir.path(), &network, 2);
    let asked = grantee::key_package(&doctor, "Dr Knee", later(3_600)).unwrap();
    let report = owner.grant(&asked, terms(&["label:knee"])).await.unwrap();
    assert_eq!((report.covered, report.brought), (1, 1));
    let shared = Shared::open(doctor, &asked).await.unwrap();
    let records = shared.list().await.unwrap();
    assert_eq!(names(&records), ["imaging/knee"]);
    assert_eq!(read(&shared, &records[0]).await.unwrap(), content("imaging/knee", 6_000_000));

    // Another version takes the one before out of the grant, and leaves it to the owner.
    let old = owner.versions(&at("imaging/knee")).await.unwrap()[0].version;
    put(&owner, "imaging/knee", 5_000_000, labelled()).await;
    assert_eq!(owner.join_scopes(None).await.unwrap(), 1);
    eventually("the old one is closed", async || {
        matches!(read(&shared, &records[0]).await, Err(error) if denial(&error) == Some(Denial::Erased))
    })
    .await;
    assert_eq!(get(&owner, "imaging/knee", Some(old)).await.unwrap(), content("imaging/knee", 6_000_000));
    let records = shared.list().await.unwrap();
    assert_eq!((records.len(), records[0].line.size), (1, 5_000_000));

    // Erased while it is read: what comes of that read is right or an error, and there is no other.
    let reading = read(&shared, &records[0]);
    let target = EraseTarget::Record(at("imaging/knee"), None);
    let (read_meanwhile, certificate) = tokio::join!(reading, owner.erase(&target));
    if let Ok(bytes) = read_meanwhile {
        assert_eq!(bytes, content("imaging/knee", 5_000_000));
    }
    let certificate = certificate.unwrap();
    assert_eq!(certificate.statement.erasures[0].erasure.versions.len(), 2, "both versions");
    let opened =
        |found: &Remainder| matches!(found, Remainder::Opened { grant, .. } if *grant == report.grant);
    assert!(certificate.statement.remains.iter().any(opened), "{:?}", certificate.statement.remains);
    let closed = read(&shared, &records[0]).await.unwrap_err();
    assert_eq!(denial(&closed), Some(Denial::Erased), "{closed}");
    eventually("its name is gone too", async || shared.list().await.unwrap().is_empty()).await;
    owner.close().await;
    devnet.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn classes_bind_and_what_is_durable_is_not_erased() {
    let dir = tempfile::tempdir().unwrap();
    let devnet = devnet(dir.path()).await;
    let network = devnet.network().clone();
    let owning = config(dir.path(), &network, 1);
    let owner = Client::open(owning.clone()).await.unwrap();
    put(&owner, "labs/one", 300, PutOptions::default()).await;
    let refused = owner.begin_shreddable(&collection("labs")).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Refused, "{refused}");
    let durable = owner.erase(&EraseTarget::Record(at("labs/one"), None)).await.unwrap_err();
    assert!(durable.kind() == ErrorKind::Refused && durable.hint().unwrap().contains("xvault rm"));
    let nothing = owner.erase(&EraseTarget::Collection(collection("none"))).await.unwrap_err();
    assert_eq!(nothing.kind(), ErrorKind::NotFound);

    owner.begin_shreddable(&collection("imaging")).await.unwrap();
    let staged = PutOptions { ack: Ack::Staged, ..PutOptions::default() };
    let staged = owner.put(&at("imaging/a"), Source::Bytes(content("a", 10)), staged).await.unwrap_err();
    assert_eq!(staged.kind(), ErrorKind::Invalid);
    let absent = || PutOptions { condition: Condition::IfAbsent, ..PutOptions::default() };
    put(&owner, "imaging/a", 400, absent()).await;
    let twice = owner.put(&at("imaging/a"), Source::Bytes(content("b", 10)), absent()).await.unwrap_err();
    assert_eq!(twice.kind(), ErrorKind::Refused);
    // A home that never heard of the collection puts into it as what it is.
    let other = Client::open(elsewhere(&owning, "other")).await.unwrap();
    put(&other, "imaging/b", 500, PutOptions { ack: Ack::Stored, ..PutOptions::default() }).await;
    other.settle().await.unwrap();
    assert_eq!(other.class(&collection("imaging")).await.unwrap(), Some(CollectionClass::Shreddable));
    eventually("the first home reads it", async || {
        matches!(get(&owner, "imaging/b", None).await, Ok(bytes) if bytes == content("imaging/b", 500))
    })
    .await;
    // Copies have keys of their own, in each direction.
    owner.copy(&at("imaging/a"), None, &at("imaging/copy")).await.unwrap();
    owner.copy(&at("imaging/a"), None, &at("labs/copy")).await.unwrap();
    erase(&owner, "imaging/a").await;
    for path in ["imaging/copy", "labs/copy"] {
        assert_eq!(get(&owner, path, None).await.unwrap(), content("imaging/a", 400), "{path}");
    }
    // A removal leaves the versions to the owner, and an erasure takes them.
    let version = owner.versions(&at("imaging/b")).await.unwrap()[0].version;
    owner.remove(&at("imaging/b"), Remove::Mark).await.unwrap();
    assert_eq!(get(&owner, "imaging/b", Some(version)).await.unwrap(), content("imaging/b", 500));
    let one = owner.erase(&EraseTarget::Record(at("imaging/b"), Some(version))).await.unwrap();
    assert_eq!(one.statement.erasures[0].erasure.versions.len(), 1);
    assert!(get(&owner, "imaging/b", Some(version)).await.is_err());
    other.close().await;
    owner.close().await;
    devnet.stop().await;
}

/// Of a vault that is erased no static node has a share or a keyslot, no storage node a shard; and nothing comes into it.
#[tokio::test(flavor = "multi_thread")]
async fn an_erased_vault_is_gone_from_all_nodes_and_takes_nothing_more() {
    let dir = tempfile::tempdir().unwrap();
    let devnet = devnet(dir.path()).await;
    let network = devnet.network().clone();
    let owning = config(dir.path(), &network, 1);
    let owner = Client::open(owning.clone()).await.unwrap();
    owner.begin_shreddable(&collection("imaging")).await.unwrap();
    put(&owner, "imaging/one", 900, PutOptions::default()).await;
    put(&owner, "labs/durable", 2_000_000, PutOptions::default()).await;
    let asked = grantee::key_package(&config(dir.path(), &network, 2), "Dr Knee", later(3_600)).unwrap();
    owner.grant(&asked, terms(&["in:labs"])).await.unwrap();
    let version = owner.versions(&at("imaging/one")).await.unwrap()[0].version;
    let certificate = owner.erase(&EraseTarget::Vault).await.unwrap();
    let certified = certificate.verify(owner.genesis().unwrap(), Policy::Quorum).unwrap();
    assert!(certified.signers.len() >= 3);
    assert!(certificate.statement.erasures.iter().any(|found| found.erasure.is_of_vault()));
    let durable = |found: &Remainder| matches!(found, Remainder::Durable { .. });
    let remains = &certificate.statement.remains;
    assert!(remains.contains(&Remainder::Durable { collection: "labs".to_owned() }), "{remains:?}");
    assert!(remains.iter().all(durable), "{remains:?}");
    let refused = owner.put(&at("labs/more"), Source::Bytes(content("x", 10)), PutOptions::default()).await;
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::Refused);
    // Once more it says the same.
    let again = owner.erase(&EraseTarget::Vault).await.unwrap();
    assert_eq!(again.statement.erasures, certificate.statement.erasures);
    // What is on no ledger any more is freed by each node that follows it.
    let ledger = LedgerClient::new(&network, owning.keys.signing()).unwrap();
    let left = ledger.vault(*owning.keys.vault()).await.unwrap().unwrap();
    assert_eq!((left.segments, left.bytes), (0, 0));
    // A home that knows of nothing is told, also once storage nodes have freed the packs.
    let erased = ledger.vault_erased(*owning.keys.vault()).await.unwrap();
    assert!(erased.is_some());
    let empty = ClientConfig { home: dir.path().join("home-empty"), ..owning.clone() };
    let empty = Client::open(empty).await.unwrap();
    let recovered = empty.recover(|_| {}).await.unwrap();
    assert_eq!((recovered.erased, recovered.anchors, recovered.changes), (erased, 0, 0));
    let twice = empty.erase(&EraseTarget::Vault).await.unwrap_err();
    assert!(twice.kind() == ErrorKind::Refused && twice.to_string().contains("was erased"), "{twice}");
    empty.close().await;
    owner.close().await;
    devnet.stop().await;
    for nth in 1..=4 {
        let dir = dir.path().join(format!("devnet/static-{nth}"));
        let left = kept(&dir, &owning, &[("imaging/one", version)]);
        assert!(left.slots.is_empty() && !left.has_share, "static node {nth}");
    }
}

/// Whatever a put that is killed midway leaves, what the next client lists it can read.
#[test]
fn a_put_that_is_killed_at_any_time_leaves_nothing_that_is_listed_and_unreadable() {
    let dir = tempfile::tempdir().unwrap();
    let outer = runtime();
    let devnet = outer.block_on(devnet(dir.path()));
    let network = devnet.network().clone();
    let owning = config(dir.path(), &network, 1);
    outer.block_on(async {
        let owner = Client::open(owning.clone()).await.unwrap();
        owner.begin_shreddable(&collection("imaging")).await.unwrap();
        owner.close().await;
    });
    let file = dir.path().join("large");
    std::fs::write(&file, content("large", 3_000_000)).unwrap();
    let mut acknowledged = Vec::new();
    for (nth, millis) in [2_u64, 5, 10, 20, 40, 60, 80, 120, 160, 240, 400, 800].into_iter().enumerate() {
        let dying = runtime();
        let path = format!("imaging/{nth}");
        let done = dying.block_on(async {
            let owner = Client::open(owning.clone()).await.unwrap();
            let (small, large) = (at(&path), at("imaging/large"));
            let puts = async {
                let bytes = Source::Bytes(content(&path, 500));
                let one = owner.put(&small, bytes, PutOptions::default()).await.is_ok();
                let two = owner.put(&large, Source::File(file.clone()), PutOptions::default()).await.is_ok();
                (one, two)
            };
            tokio::time::timeout(Duration::from_millis(millis), puts).await.ok()
        });
        // Everything of it stops where it is.
        dying.shutdown_background();
        if done.is_some_and(|(one, _)| one) {
            acknowledged.push(path);
        }
    }
    outer.block_on(async {
        let owner = Client::open(owning.clone()).await.unwrap();
        owner.settle().await.unwrap();
        let options = xvault::client::ListOptions {
            prefix: String::new(),
            delimiter: None,
            after: None,
            limit: 100,
            include_deleted: false,
        };
        let page = owner.list(&collection("imaging"), options).await.unwrap();
        let mut listed = Vec::new();
        for entry in page.entries {
            let xvault::client::ListEntry::Record(info) = entry else { continue };
            let path = format!("imaging/{}", info.name);
            let expected =
                if path == "imaging/large" { content("large", 3_000_000) } else { content(&path, 500) };
            for version in owner.versions(&at(&path)).await.unwrap() {
                let found = get(&owner, &path, Some(version.version)).await;
                assert_eq!(found.unwrap(), expected, "{path}");
            }
            listed.push(path);
        }
        assert!(acknowledged.iter().all(|path| listed.contains(path)), "{acknowledged:?} in {listed:?}");
        let large = RecordAddress { collection: collection("imaging"), name: "large".parse().unwrap() };
        owner.put(&large, Source::File(file.clone()), PutOptions::default()).await.unwrap();
        assert_eq!(get(&owner, "imaging/large", None).await.unwrap(), content("large", 3_000_000));
        owner.close().await;
        devnet.stop().await;
    });
}

/// With too few static nodes nothing is acknowledged, and it goes on once they are back.
#[tokio::test(flavor = "multi_thread")]
async fn without_a_quorum_of_static_nodes_nothing_is_put_and_one_suffices_to_read() {
    let dir = tempfile::tempdir().unwrap();
    let devnet = devnet(dir.path()).await;
    let network = devnet.network().clone();
    let mut devnet = Apart::from(devnet, dir.path()).await;
    let owner = Client::open(config(dir.path(), &network, 1)).await.unwrap();
    owner.begin_shreddable(&collection("labs")).await.unwrap();
    put(&owner, "labs/one", 500, PutOptions::default()).await;
    devnet.stop(0).await;
    devnet.stop(1).await;
    let stored = PutOptions { ack: Ack::Stored, ..PutOptions::default() };
    let refused =
        owner.put(&at("labs/two"), Source::Bytes(content("labs/two", 500)), stored).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Unavailable, "{refused}");
    devnet.stop(2).await;
    assert_eq!(get(&owner, "labs/one", None).await.unwrap(), content("labs/one", 500), "one has the keyslot");
    devnet.stop(3).await;
    let closed = get(&owner, "labs/one", None).await.unwrap_err();
    assert_eq!(closed.kind(), ErrorKind::Unavailable, "{closed}");
    for nth in 0..4 {
        devnet.start(nth).await;
    }
    eventually("it is put", async || {
        let bytes = Source::Bytes(content("labs/two", 500));
        owner.put(&at("labs/two"), bytes, PutOptions::default()).await.is_ok()
    })
    .await;
    assert_eq!(get(&owner, "labs/two", None).await.unwrap(), content("labs/two", 500));
    owner.close().await;
}
