//! Records anchored on a real network: devices of one owner that follow the ledger, receipts, recovery.

use std::path::Path;

use crate::statics::eventually;
use bytes::Bytes;
use tokio::task::JoinSet;
use xvault::client::{
    Ack, Client, ClientConfig, Condition, ErrorKind, GetOptions, LedgerClient, ListEntry, ListOptions,
    PutOptions, RecordAddress, Remove, Source,
};
use xvault::crypto::seed::Seed;
use xvault::message::{Action, AnchorReceipt, Genesis, Member, Policy, Roster};
use xvault::roles::{Devnet, DevnetConfig};
use xvault::types::{Network, VersionId};

async fn devnet(dir: &Path) -> Devnet {
    let dir = dir.join("devnet");
    Devnet::start(DevnetConfig { dir, nodes: None, code: None, statics: None, base_port: None })
        .await
        .unwrap()
}

/// Registers the vault of the one owner: nodes store for no other.
async fn register(network: &Network) {
    let keys = Seed::from_entropy([1; 32]).vault(0, 0);
    let ledger = LedgerClient::new(network, keys.signing()).unwrap();
    let action = Action::CreateVault { vault: *keys.vault(), sponsor: None };
    ledger.carry_out(keys.signing(), action, &|_| {}).await.unwrap();
}

/// A device of the one owner.
async fn device(dir: &Path, network: &Network, name: &str) -> Client {
    let keys = Seed::from_entropy([1; 32]).vault(0, 0);
    Client::open(ClientConfig { network: network.clone(), keys, home: dir.join(name) }).await.unwrap()
}

fn at(collection: &str, name: &str) -> RecordAddress {
    RecordAddress { collection: collection.parse().unwrap(), name: name.parse().unwrap() }
}

fn content(seed: u64, len: usize) -> Bytes {
    let mut bytes = vec![0; len];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
    bytes.into()
}

async fn put(
    client: &Client,
    at: &RecordAddress,
    bytes: Bytes,
    condition: Condition,
) -> Result<VersionId, ErrorKind> {
    let options = PutOptions { condition, ..PutOptions::default() };
    let put = client.put(at, Source::Bytes(bytes), options).await;
    put.map(|report| report.version).map_err(|error| {
        if error.kind() != ErrorKind::Refused {
            println!("{error:?}");
        }
        error.kind()
    })
}

async fn read(client: &Client, at: &RecordAddress, version: Option<VersionId>) -> Bytes {
    let mut download = client.get(at, GetOptions { version, ..GetOptions::default() }).await.unwrap();
    let mut bytes = Vec::new();
    while let Some(more) = download.next().await.unwrap() {
        bytes.extend_from_slice(&more);
    }
    bytes.into()
}

async fn names(client: &Client, collection: &str) -> Vec<String> {
    let options = ListOptions {
        prefix: String::new(),
        delimiter: None,
        after: None,
        limit: 1_000,
        include_deleted: false,
    };
    let page = client.list(&collection.parse().unwrap(), options).await.unwrap();
    let name = |entry| match entry {
        ListEntry::Record(info) => info.name.to_string(),
        ListEntry::Prefix(prefix) => prefix,
    };
    page.entries.into_iter().map(name).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_anchored_is_found_by_every_device_and_after_a_loss() {
    let dir = tempfile::tempdir().unwrap();
    let devnet = devnet(dir.path()).await;
    let one = device(dir.path(), devnet.network(), "one").await;
    let large = content(1, 20_000_000);
    let put_any = async |client: &Client, at: &RecordAddress, bytes: Bytes| {
        put(client, at, bytes, Condition::Any).await.unwrap()
    };
    let first = put_any(&one, &at("scans", "ct"), large.clone()).await;
    put_any(&one, &at("scans", "ct"), content(2, 4_000)).await;
    put_any(&one, &at("scans", "empty"), Bytes::new()).await;
    put_any(&one, &at("scans", "gone"), content(3, 100)).await;
    put_any(&one, &at("scans", "erased"), content(4, 9_000_000)).await;
    one.copy(&at("scans", "ct"), Some(first), &at("scans", "copy")).await.unwrap();
    one.copy(&at("scans", "ct"), Some(first), &at("notes", "copy")).await.unwrap();
    one.remove(&at("scans", "gone"), Remove::Mark).await.unwrap();
    let erased = one.remove(&at("scans", "erased"), Remove::AllVersions).await.unwrap();
    assert_eq!(erased.versions, 1);
    assert!(erased.segments_released > 0);

    let other = device(dir.path(), devnet.network(), "other").await;
    let recovered = other.recover(|_| {}).await.unwrap();
    assert!(recovered.changes >= 8, "{recovered:?}");
    let collections: Vec<_> =
        other.collections().await.unwrap().into_iter().map(|found| found.name.to_string()).collect();
    assert_eq!(collections, ["notes", "scans"]);
    assert_eq!(names(&other, "scans").await, ["copy", "ct", "empty"]);
    for (collection, name) in [("scans", "ct"), ("scans", "gone"), ("scans", "copy"), ("notes", "copy")] {
        let at = at(collection, name);
        assert_eq!(other.versions(&at).await.unwrap(), one.versions(&at).await.unwrap());
    }
    assert!(other.versions(&at("scans", "erased")).await.is_err());
    assert_eq!(read(&other, &at("scans", "copy"), None).await, large);
    assert_eq!(read(&other, &at("notes", "copy"), None).await, large);
    assert_eq!(read(&other, &at("scans", "ct"), None).await, content(2, 4_000));
    assert_eq!(read(&other, &at("scans", "empty"), None).await, Bytes::new());

    // And back: the first device sees what the other does, once it looks again.
    put_any(&other, &at("scans", "new"), content(5, 70_000)).await;
    other.remove(&at("scans", "copy"), Remove::AllVersions).await.unwrap();
    tokio::time::sleep(std::time::Duration::from_millis(600)).await;
    assert_eq!(names(&one, "scans").await, ["ct", "empty", "new"]);
    assert_eq!(read(&one, &at("scans", "ct"), Some(first)).await, large, "the other copy is still there");
    // What nobody has any more is released, whoever removed it: the first device anchors on top of it.
    one.remove(&at("scans", "ct"), Remove::Version(first)).await.unwrap();
    assert_eq!(read(&one, &at("notes", "copy"), None).await, large);
    one.close().await;
    other.close().await;
    devnet.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn devices_that_write_at_once_lose_nothing_and_conditions_hold() {
    let dir = tempfile::tempdir().unwrap();
    let devnet = devnet(dir.path()).await;
    let mut devices = Vec::new();
    for name in ["one", "two", "three"] {
        devices.push(device(dir.path(), devnet.network(), name).await);
    }
    let mut writing = JoinSet::new();
    for (number, device) in (0..).zip(&devices) {
        for nth in 0..15 {
            let device = device.clone();
            writing.spawn(async move {
                let own = at("shared", &format!("{number}-{nth}"));
                put(&device, &own, content(nth, 2_000), Condition::Any).await.unwrap();
                put(&device, &at("shared", &format!("first-{nth}")), content(number, 10), Condition::IfAbsent)
                    .await
            });
        }
    }
    let won = writing.join_all().await;
    assert_eq!(won.iter().filter(|won| won.is_ok()).count(), 15, "of three one is first, of each name");
    assert!(won.iter().all(|won| matches!(won, Ok(_) | Err(ErrorKind::Refused))), "{won:?}");

    // A counter: each step is a read and a put on the condition that nobody was faster.
    put(&devices[0], &at("shared", "counter"), Bytes::from_static(b"0"), Condition::IfAbsent).await.unwrap();
    let mut counting = JoinSet::new();
    for device in &devices {
        let device = device.clone();
        counting.spawn(async move {
            let counter = at("shared", "counter");
            let mut done = 0;
            while done < 5 {
                let latest = device.stat(&counter, None, false).await.unwrap().info.version;
                let found = read(&device, &counter, Some(latest)).await;
                let next: u64 = std::str::from_utf8(&found).unwrap().parse::<u64>().unwrap() + 1;
                let bytes = Bytes::from(next.to_string());
                match put(&device, &counter, bytes, Condition::IfVersion(latest)).await {
                    Ok(_) => done += 1,
                    Err(kind) => assert_eq!(kind, ErrorKind::Refused),
                }
            }
        });
    }
    counting.join_all().await;
    let fresh = device(dir.path(), devnet.network(), "fresh").await;
    // A static node may be a block behind, and a device looks only so often.
    let mut found = Bytes::new();
    for _ in 0..30 {
        found = read(&fresh, &at("shared", "counter"), None).await;
        if found == "15" {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    assert_eq!(found, "15");
    assert_eq!(names(&fresh, "shared").await.len(), 3 * 15 + 15 + 1);
    for device in devices.into_iter().chain([fresh]) {
        device.close().await;
    }
    devnet.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receipt_holds_for_exactly_what_was_put_and_no_byte_of_it_may_change() {
    let dir = tempfile::tempdir().unwrap();
    let devnet = devnet(dir.path()).await;
    let one = device(dir.path(), devnet.network(), "one").await;
    let genesis = Genesis::from_text(devnet.network().genesis.as_ref().unwrap()).unwrap();
    let mut texts = Vec::new();
    for (nth, len) in (0..).zip([0, 1_000, 9_000_000]) {
        let (at, bytes) = (at("docs", &format!("{nth}")), content(nth, len));
        let version = put(&one, &at, bytes.clone(), Condition::Any).await.unwrap();
        let receipt = one.receipt(&at, None).await.unwrap();
        let found = receipt.verify(&genesis, Policy::Quorum).unwrap();
        assert_eq!(found.opening.version, version);
        assert_eq!((found.opening.content.0, found.opening.size), (blake3::hash(&bytes).into(), len as u64));
        assert_eq!(one.stat(&at, None, false).await.unwrap().content, found.opening.content);
        texts.push(receipt.to_text());
    }
    // A copy is a version of its own, with a receipt of its own.
    one.copy(&at("docs", "1"), None, &at("docs", "copy")).await.unwrap();
    let copy =
        one.receipt(&at("docs", "copy"), None).await.unwrap().verify(&genesis, Policy::Quorum).unwrap();
    assert_eq!(copy.opening.content.0, <[u8; 32]>::from(blake3::hash(&content(1, 1_000))));
    let whole = texts[1].as_bytes();
    for at in (0..whole.len()).step_by(7) {
        let mut changed = whole.to_vec();
        changed[at] ^= 1;
        let holds = String::from_utf8(changed)
            .ok()
            .and_then(|text| AnchorReceipt::from_text(&text).ok())
            .is_some_and(|receipt| receipt.verify(&genesis, Policy::Quorum).is_ok());
        assert!(!holds, "byte {at} is changed");
    }
    assert_eq!(one.receipt(&at("docs", "none"), None).await.unwrap_err().kind(), ErrorKind::NotFound);
    one.close().await;
    devnet.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_only_stored_survives_the_loss_of_the_home_folder() {
    let dir = tempfile::tempdir().unwrap();
    let devnet = devnet(dir.path()).await;
    let network = devnet.network().clone();
    // No static node answers: nothing can be anchored.
    let mut cut = network.clone();
    cut.genesis = Some(elsewhere(&network));
    let one = device(dir.path(), &cut, "one").await;
    let large = content(1, 9_000_000);
    let options = PutOptions { ack: Ack::Stored, ..PutOptions::default() };
    let unknown = one.put(&at("docs", "small"), Source::Bytes(content(2, 900)), options.clone()).await;
    let unknown = unknown.unwrap_err();
    assert_eq!(unknown.kind(), ErrorKind::Refused, "{unknown}");
    assert!(unknown.to_string().contains("the ledger does not let this key write"), "{unknown}");
    register(&network).await;
    for (name, bytes) in [("large", large.clone()), ("small", content(2, 900)), ("small", content(3, 800))] {
        one.put(&at("docs", name), Source::Bytes(bytes), options.clone()).await.unwrap();
    }
    assert_eq!(read(&one, &at("docs", "small"), None).await, content(3, 800), "it is read at once");
    let conditional = PutOptions { condition: Condition::IfAbsent, ..options };
    let refused = one.put(&at("docs", "x"), Source::Bytes(Bytes::new()), conditional).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Invalid);
    drop(one);
    std::fs::remove_dir_all(dir.path().join("one")).unwrap();

    let other = device(dir.path(), &network, "other").await;
    let recovered = other.recover(|_| {}).await.unwrap();
    assert_eq!((recovered.changes, recovered.stored), (0, 3));
    assert_eq!(read(&other, &at("docs", "large"), None).await, large);
    assert_eq!(read(&other, &at("docs", "small"), None).await, content(3, 800));
    assert_eq!(other.versions(&at("docs", "small")).await.unwrap().len(), 2);
    // What was anchored once and erased since does not come back, though nodes may still hold it.
    other.remove(&at("docs", "small"), Remove::AllVersions).await.unwrap();
    assert_eq!(other.recover(|_| {}).await.unwrap().stored, 0);
    let third = device(dir.path(), &network, "third").await;
    assert_eq!(third.recover(|_| {}).await.unwrap().stored, 0);
    assert_eq!(names(&third, "docs").await, ["large"]);
    other.close().await;
    third.close().await;
    devnet.stop().await;
}

/// The genesis with static nodes where nobody listens.
fn elsewhere(network: &Network) -> String {
    let mut genesis = Genesis::from_text(network.genesis.as_ref().unwrap()).unwrap();
    let away = |member: &Member| Member { address: ([127, 0, 0, 1], 9).into(), ..member.clone() };
    genesis.roster = Roster::new(genesis.roster.members().iter().map(away).collect()).unwrap();
    genesis.to_text()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_stored_is_anchored_by_the_next_client_of_the_home() {
    let dir = tempfile::tempdir().unwrap();
    let devnet = devnet(dir.path()).await;
    let network = devnet.network().clone();
    let mut cut = network.clone();
    cut.genesis = Some(elsewhere(&network));
    let one = device(dir.path(), &cut, "one").await;
    let options = PutOptions { ack: Ack::Stored, ..PutOptions::default() };
    register(&network).await;
    one.put(&at("docs", "a"), Source::Bytes(content(1, 700)), options).await.unwrap();
    drop(one);
    let again = device(dir.path(), &network, "one").await;
    let other = device(dir.path(), &network, "other").await;
    for _ in 0..100 {
        if !names(&other, "docs").await.is_empty() {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    assert_eq!(read(&other, &at("docs", "a"), None).await, content(1, 700));
    assert!(again.stat(&at("docs", "a"), None, false).await.unwrap().anchor.is_some());
    again.close().await;
    other.close().await;
    devnet.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_staged_is_put_once_by_however_many() {
    let dir = tempfile::tempdir().unwrap();
    let devnet = devnet(dir.path()).await;
    let device = device(dir.path(), devnet.network(), "one").await;
    let options = PutOptions { ack: Ack::Staged, ..PutOptions::default() };
    let names: Vec<String> = (0..8).map(|nth| format!("r{nth}")).collect();
    for name in &names {
        device.put(&at("docs", name), Source::Bytes(content(7, 300)), options.clone()).await.unwrap();
    }
    let (one, two, three) = tokio::join!(device.settle(), device.settle(), device.settle());
    for settled in [one, two, three] {
        settled.unwrap();
    }
    // The client settles by itself as well, and nobody waits for what another has claimed.
    eventually("all are put", async || {
        device.settle().await.unwrap().staged == 0 && {
            let mut found = 0;
            for name in &names {
                found += usize::from(device.versions(&at("docs", name)).await.is_ok());
            }
            found == names.len()
        }
    })
    .await;
    for name in &names {
        assert_eq!(device.versions(&at("docs", name)).await.unwrap().len(), 1, "{name}");
    }
    device.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_staged_is_sealed_and_is_anchored_by_the_next_client_of_the_home() {
    let dir = tempfile::tempdir().unwrap();
    let devnet = devnet(dir.path()).await;
    let network = devnet.network().clone();
    let mut cut = network.clone();
    cut.genesis = Some(elsewhere(&network));
    // No node is there either.
    for node in &mut cut.nodes {
        node.address = ([127, 0, 0, 1], 9).into();
    }
    let one = device(dir.path(), &cut, "one").await;
    let options = PutOptions { ack: Ack::Staged, ..PutOptions::default() };
    let records = [("empty", Bytes::new()), ("a", content(1, 65_536)), ("b", content(2, 9_000_000))];
    let mut versions = Vec::new();
    for (name, bytes) in &records {
        let report = one.put(&at("docs", name), Source::Bytes(bytes.clone()), options.clone()).await.unwrap();
        assert_eq!((report.size, report.shards_total), (bytes.len() as u64, 0));
        versions.push(report.version);
    }
    let conditional = PutOptions { condition: Condition::IfAbsent, ..options };
    let refused = one.put(&at("docs", "x"), Source::Bytes(Bytes::new()), conditional).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Invalid);
    drop(one);
    let staged: Vec<_> = std::fs::read_dir(dir.path().join("one"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.file_name().unwrap().to_str().unwrap().starts_with("staged-"))
        .collect();
    assert_eq!(staged.len(), 3);
    for path in &staged {
        let bytes = std::fs::read(path).unwrap();
        assert!(
            !records
                .iter()
                .any(|(_, plain)| plain.len() > 16 && bytes.windows(16).any(|at| *at == plain[..16]))
        );
    }
    let again = device(dir.path(), &network, "one").await;
    again.settle().await.unwrap();
    for _ in 0..100 {
        // The client may have begun by itself; then the call above had nothing to wait for.
        if staged.iter().all(|path| !path.exists()) {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    let other = device(dir.path(), &network, "other").await;
    for ((name, bytes), version) in records.iter().zip(versions) {
        let stat = other.stat(&at("docs", name), None, false).await.unwrap();
        assert_eq!(stat.info.version, version, "the version that was told");
        assert_eq!(read(&other, &at("docs", name), None).await, bytes);
    }
    again.close().await;
    other.close().await;
    devnet.stop().await;
}
