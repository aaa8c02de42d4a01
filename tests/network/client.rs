//! The client against a real network of storage nodes on loopback, over QUIC.

use std::path::Path;

use bytes::Bytes;
use xvault::client::{
    ByteRange, Client, ClientConfig, Condition, ErrorKind, GetOptions, ListEntry, ListOptions, PutOptions,
    RecordAddress, Remove, Source,
};
use xvault::crypto::seed::Seed;
use xvault::roles::{Devnet, DevnetConfig, DevnetError};
use xvault::store::SharedIndex;

use xvault::types::limits::{BODY_SEGMENT_PLAIN_LEN, CELL_LEN, FRAME_LEN, PACK_CHUNK_MAX_LEN};
use xvault::types::{Code, Network};

fn config(dir: &Path) -> DevnetConfig {
    DevnetConfig { dir: dir.join("devnet"), nodes: None, code: None, statics: Some(0), base_port: None }
}

async fn client(dir: &Path, network: &Network) -> Client {
    client_of(dir, network, 1).await
}

async fn client_of(dir: &Path, network: &Network, owner: u8) -> Client {
    let keys = Seed::from_entropy([owner; 32]).vault(0, 0);
    let home = dir.join(format!("home-{owner}"));
    Client::open(ClientConfig { network: network.clone(), keys, home }).await.unwrap()
}

fn at(name: &str) -> RecordAddress {
    RecordAddress { collection: "test".parse().unwrap(), name: name.parse().unwrap() }
}

/// Bytes that differ from place to place and from seed to seed.
fn content(seed: u64, len: usize) -> Bytes {
    let mut bytes = vec![0; len];
    let mut hasher = blake3::Hasher::new();
    hasher.update(&seed.to_le_bytes());
    hasher.finalize_xof().fill(&mut bytes);
    bytes.into()
}

async fn read(client: &Client, name: &str, options: GetOptions) -> Result<Vec<u8>, xvault::client::Error> {
    let mut download = client.get(&at(name), options).await?;
    let mut bytes = Vec::new();
    while let Some(more) = download.next().await? {
        bytes.extend_from_slice(&more);
    }
    Ok(bytes)
}

async fn put(client: &Client, name: &str, bytes: Bytes) {
    client.put(&at(name), Source::Bytes(bytes), PutOptions::default()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn records_of_every_awkward_length_read_back() {
    let dir = tempfile::tempdir().unwrap();
    let devnet = Devnet::start(config(dir.path())).await.unwrap();
    let client = client(dir.path(), devnet.network()).await;
    let edges =
        [0, FRAME_LEN, CELL_LEN * 4, PACK_CHUNK_MAX_LEN, BODY_SEGMENT_PLAIN_LEN, 2 * BODY_SEGMENT_PLAIN_LEN];
    for edge in edges {
        for len in [edge.saturating_sub(1), edge, edge + 1] {
            let (name, bytes) = (format!("len-{len}"), content(len as u64, len));
            put(&client, &name, bytes.clone()).await;
            assert_eq!(read(&client, &name, GetOptions::default()).await.unwrap(), bytes, "{len} bytes");
        }
    }
    // The same through a reader whose length shows only at its end.
    for len in [0, PACK_CHUNK_MAX_LEN, BODY_SEGMENT_PLAIN_LEN, BODY_SEGMENT_PLAIN_LEN + 1, 20_000_000] {
        let bytes = content(7, len);
        let source = Source::Reader(Box::new(std::io::Cursor::new(bytes.to_vec())));
        let report = client.put(&at("stream"), source, PutOptions::default()).await.unwrap();
        assert_eq!(report.size, len as u64);
        assert_eq!(read(&client, "stream", GetOptions::default()).await.unwrap(), bytes, "{len} bytes");
    }
    client.close().await;
    devnet.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ranges_versions_conditions_and_listings() {
    let dir = tempfile::tempdir().unwrap();
    let devnet = Devnet::start(config(dir.path())).await.unwrap();
    let client = client(dir.path(), devnet.network()).await;
    let bytes = content(1, 20_000_000);
    put(&client, "a/big", bytes.clone()).await;
    for (range, want) in [
        (ByteRange::FromTo(0, 1), 0..1),
        (ByteRange::FromTo(65_535, 65_537), 65_535..65_537),
        (ByteRange::FromTo(8_388_600, 8_388_700), 8_388_600..8_388_700),
        (ByteRange::Last(5), 19_999_995..20_000_000),
        (ByteRange::From(16_000_000), 16_000_000..20_000_000),
    ] {
        let options = GetOptions { range: Some(range), ..GetOptions::default() };
        assert_eq!(read(&client, "a/big", options).await.unwrap(), bytes[want], "{range:?}");
    }
    let beyond = GetOptions { range: Some(ByteRange::From(20_000_000)), ..GetOptions::default() };
    assert_eq!(read(&client, "a/big", beyond).await.unwrap_err().kind(), ErrorKind::Range);

    put(&client, "a/small", content(2, 10)).await;
    put(&client, "a/small", content(3, 20)).await;
    put(&client, "b", content(4, 30)).await;
    let versions = client.versions(&at("a/small")).await.unwrap();
    assert_eq!(versions.iter().map(|info| info.size).collect::<Vec<_>>(), [20, 10]);
    let old = GetOptions { version: Some(versions[1].version), ..GetOptions::default() };
    assert_eq!(read(&client, "a/small", old.clone()).await.unwrap(), content(2, 10));

    let absent = PutOptions { condition: Condition::IfAbsent, ..PutOptions::default() };
    let refused = client.put(&at("b"), Source::Bytes(content(5, 5)), absent.clone()).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Refused);
    client.put(&at("c"), Source::Bytes(content(5, 5)), absent).await.unwrap();
    let stale = PutOptions { condition: Condition::IfVersion(versions[1].version), ..PutOptions::default() };
    let refused = client.put(&at("a/small"), Source::Bytes(content(5, 5)), stale).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Refused);

    let list = |prefix: &str, delimiter| ListOptions {
        prefix: prefix.into(),
        delimiter,
        after: None,
        limit: 2,
        include_deleted: false,
    };
    let page = client.list(&"test".parse().unwrap(), list("", Some('/'))).await.unwrap();
    assert!(
        matches!(&page.entries[..], [ListEntry::Prefix(a), ListEntry::Record(b)] if a == "a/" && b.name.as_str() == "b")
    );
    let rest = ListOptions { after: page.next, ..list("", Some('/')) };
    let page = client.list(&"test".parse().unwrap(), rest).await.unwrap();
    assert!(matches!(&page.entries[..], [ListEntry::Record(c)] if c.name.as_str() == "c"));
    assert_eq!(page.next, None);

    client.copy(&at("a/big"), None, &at("copy")).await.unwrap();
    client.remove(&at("a/big"), Remove::Mark).await.unwrap();
    assert_eq!(read(&client, "a/big", GetOptions::default()).await.unwrap_err().kind(), ErrorKind::NotFound);
    let erased = client.remove(&at("a/big"), Remove::AllVersions).await.unwrap();
    assert_eq!((erased.versions, erased.segments_released), (2, 0), "the copy still uses them");
    assert_eq!(read(&client, "copy", GetOptions::default()).await.unwrap(), bytes);
    let stat = client.stat(&at("copy"), None, true).await.unwrap();
    assert!(stat.segments.iter().all(|segment| segment.reachable == Some(6)), "{stat:?}");
    let erased = client.remove(&at("copy"), Remove::AllVersions).await.unwrap();
    assert!(erased.segments_released >= 3, "{erased:?}");
    client.close().await;
    devnet.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_small_puts_at_once_share_packs_and_all_read_back() {
    let dir = tempfile::tempdir().unwrap();
    let devnet = Devnet::start(config(dir.path())).await.unwrap();
    let client = client(dir.path(), devnet.network()).await;
    let mut puts = tokio::task::JoinSet::new();
    for number in 0..300_u64 {
        let client = client.clone();
        puts.spawn(async move { put(&client, &format!("{number:03}"), content(number, 4_096)).await });
    }
    puts.join_all().await;
    for number in 0..300_u64 {
        let got = read(&client, &format!("{number:03}"), GetOptions::default()).await.unwrap();
        assert_eq!(got, content(number, 4_096));
    }
    client.close().await;
    devnet.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_devnet_keeps_its_data_over_a_restart_and_runs_only_once() {
    let dir = tempfile::tempdir().unwrap();
    let devnet = Devnet::start(config(dir.path())).await.unwrap();
    let network = devnet.network().clone();
    let one = client(dir.path(), &network).await;
    let bytes = content(1, 3_000_000);
    put(&one, "kept", bytes.clone()).await;
    assert!(matches!(Devnet::start(config(dir.path())).await, Err(DevnetError::Locked { .. })));
    one.close().await;
    devnet.stop().await;

    let other = DevnetConfig { nodes: Some(7), ..config(dir.path()) };
    assert!(matches!(Devnet::start(other).await, Err(DevnetError::Other { nodes: 6, .. })));
    let devnet = Devnet::start(config(dir.path())).await.unwrap();
    assert_eq!(*devnet.network(), network);
    let again = client(dir.path(), &network).await;
    assert_eq!(read(&again, "kept", GetOptions::default()).await.unwrap(), bytes);
    // Another vault has no such record, nor may it read the shards of this one.
    let stranger = client_of(dir.path(), &network, 2).await;
    assert_eq!(read(&stranger, "kept", GetOptions::default()).await.unwrap_err().kind(), ErrorKind::NotFound);
    again.close().await;
    devnet.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_devnet_that_could_not_survive_a_node_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let few = DevnetConfig { nodes: Some(2), code: Some(Code::DEFAULT), ..config(dir.path()) };
    assert!(matches!(Devnet::start(few).await, Err(DevnetError::TooFewNodes { need: 3, .. })));
    let three = DevnetConfig { nodes: Some(3), ..config(dir.path()) };
    let devnet = Devnet::start(three).await.unwrap();
    let client = client(dir.path(), devnet.network()).await;
    let report =
        client.put(&at("a"), Source::Bytes(content(1, 9_000_000)), PutOptions::default()).await.unwrap();
    assert!(report.degraded);
    assert_eq!(read(&client, "a", GetOptions::default()).await.unwrap(), content(1, 9_000_000));
    client.close().await;
    devnet.stop().await;
}

/// The index of a closed client.
fn index(dir: &Path, owner: u8) -> SharedIndex {
    let keys = Seed::from_entropy([owner; 32]).vault(0, 0);
    SharedIndex::new(&dir.join(format!("home-{owner}")), keys.index_key()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn holders_that_the_index_has_wrong_are_found_and_noted() {
    let dir = tempfile::tempdir().unwrap();
    let devnet = Devnet::start(config(dir.path())).await.unwrap();
    let client = client(dir.path(), devnet.network()).await;
    let bytes = content(1, 300_000);
    put(&client, "moved", bytes.clone()).await;
    let segment = client.stat(&at("moved"), None, false).await.unwrap().segments[0].segment;
    client.close().await;
    let known = index(dir.path(), 1).with(move |index| index.descriptor(&segment)).await.unwrap().unwrap();
    // As if every shard had been moved to another node: too few are where the index says.
    let mut wrong = known.clone();
    wrong.holders.rotate_left(1);
    assert!(wrong.holders.iter().zip(&known.holders).all(|(wrong, known)| wrong != known));
    let amended = index(dir.path(), 1).with(move |index| index.amend(&wrong)).await.unwrap();
    assert!(amended);

    let client = client_of(dir.path(), devnet.network(), 1).await;
    assert_eq!(read(&client, "moved", GetOptions::default()).await.unwrap(), bytes);
    client.close().await;
    let noted = index(dir.path(), 1).with(move |index| index.descriptor(&segment)).await.unwrap().unwrap();
    let right = noted.holders.iter().zip(&known.holders).filter(|(noted, known)| noted == known).count();
    assert!(right >= known.code.k(), "{right} of {} are noted", known.code);
    devnet.stop().await;
}
