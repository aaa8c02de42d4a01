//! The client among bad nodes: with at most m of them it succeeds, with more it says what is wrong.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use tokio::io::AsyncWriteExt as _;
use xvault::client::{
    ByteRange, Client, ClientConfig, Error, ErrorKind, GetOptions, PutOptions, RecordAddress, RecordStat,
    Source, TroubleKind,
};
use xvault::crypto::seed::Seed;
use xvault::crypto::sign::KeyPair;
use xvault::message::Violation;
use xvault::net::{CallError, Peers};
use xvault::roles::storage_node::{NodeConfig, StorageNode};
use xvault::store::StoreConfig;
use xvault::types::{Code, Network, NetworkId, NodeInfo, PublicKey};

use super::bad_node::{BadNode, Vice};
use super::{content, in_time, tls};

const NETWORK: NetworkId = NetworkId([3; 32]);
const NODES: u8 = 6;
/// More than the parity of 4+2.
const BAD: u8 = 3;

/// Six nodes, of which the first three can be made bad.
struct World {
    dir: tempfile::TempDir,
    network: Network,
    bad: Vec<BadNode>,
    good: Vec<StorageNode>,
}

fn node_key(number: u8) -> KeyPair {
    KeyPair::from_secret(&[number + 10; 32])
}

fn info(number: u8, key: PublicKey, address: SocketAddr) -> NodeInfo {
    let operator = format!("operator-{number}");
    NodeInfo { name: format!("node-{number}"), key, address, operator, site: "here".into() }
}

async fn storage_node(dir: &Path, number: u8, store: StoreConfig) -> StorageNode {
    let config = NodeConfig {
        dir: dir.join(format!("node-{number}")),
        listen: (std::net::Ipv4Addr::LOCALHOST, 0).into(),
        network: NETWORK,
        key: node_key(number),
        store,
        ledger: None,
    };
    StorageNode::start(config).await.unwrap()
}

impl World {
    async fn new() -> Self {
        Self::with(|number| BadNode::start(NETWORK, node_key(number), tls::ALPN)).await
    }

    async fn with(bad: impl Fn(u8) -> BadNode) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let bad: Vec<_> = (0..BAD).map(bad).collect();
        let mut infos: Vec<_> = (0..)
            .zip(&bad)
            .map(|(number, node)| info(number, node_key(number).public(), node.address()))
            .collect();
        let mut good = Vec::new();
        for number in BAD..NODES {
            let node = storage_node(dir.path(), number, StoreConfig::default()).await;
            infos.push(info(number, node.public_key(), node.address()));
            good.push(node);
        }
        let network = Network { id: NETWORK, code: Code::DEFAULT, genesis: None, nodes: infos };
        Self { dir, network, bad, good }
    }

    /// A client that knows nothing of the nodes yet, with the state of the one before it.
    async fn client(&self) -> Client {
        let keys = Seed::from_entropy([1; 32]).vault(0, 0);
        let home = self.dir.path().join("home");
        Client::open(ClientConfig { network: self.network.clone(), keys, home }).await.unwrap()
    }

    /// So many nodes are bad from now on, the others honest.
    fn corrupt(&self, count: usize, vice: Vice) {
        self.bad.iter().for_each(|node| node.become_so(Vice::None));
        self.bad[..count].iter().for_each(|node| node.become_so(vice));
    }

    async fn stop(self) {
        for node in self.good {
            node.stop().await;
        }
    }
}

fn at(name: &str) -> RecordAddress {
    RecordAddress { collection: "test".parse().unwrap(), name: name.parse().unwrap() }
}

/// Records of every path: a pack alone, a segment and a pack, several segments.
const LENS: [(&str, usize); 3] = [("small", 5_000), ("large", 3_000_000), ("larger", 9_000_000)];

async fn put(client: &Client, prefix: &str) -> Result<(), Error> {
    for (seed, (name, len)) in (0..).zip(LENS) {
        let name = at(&format!("{prefix}-{name}"));
        client.put(&name, Source::Bytes(content(seed, len)), PutOptions::default()).await?;
    }
    Ok(())
}

async fn read(client: &Client, name: &str, range: Option<ByteRange>) -> Result<Vec<u8>, Error> {
    let options = GetOptions { range, ..GetOptions::default() };
    let mut download = client.get(&at(name), options).await?;
    let mut bytes = Vec::new();
    while let Some(more) = download.next().await? {
        bytes.extend_from_slice(&more);
    }
    Ok(bytes)
}

/// Reads what [`put`] wrote, as a whole and in part: right bytes, or the first error.
async fn get(client: &Client, prefix: &str) -> Result<(), Error> {
    for (seed, (name, len)) in (0..).zip(LENS) {
        let name = format!("{prefix}-{name}");
        let bytes = content(seed, len);
        assert_eq!(read(client, &name, None).await?, bytes, "{name}");
        let part = read(client, &name, Some(ByteRange::Last(1_000))).await?;
        assert_eq!(part, bytes[len - 1_000..], "{name}");
    }
    Ok(())
}

/// Two nodes with a vice hinder nothing. With three, a read ends as `beyond` says.
async fn is_survived(vice: Vice, beyond: Result<(), ErrorKind>) {
    let test = async {
        let world = World::new().await;
        let client = world.client().await;
        put(&client, "before").await.unwrap();
        world.corrupt(2, vice);
        get(&client, "before").await.unwrap();
        put(&client, "amid").await.unwrap();
        client.close().await;
        let client = world.client().await;
        get(&client, "amid").await.unwrap();
        assert!(world.bad[..2].iter().all(|node| node.asked() > 0), "the bad nodes were asked");
        client.close().await;

        world.corrupt(3, vice);
        let client = world.client().await;
        let read = get(&client, "before").await;
        assert_eq!(read.as_ref().map_err(Error::kind).copied(), beyond, "{read:?}");
        client.close().await;

        world.corrupt(0, Vice::None);
        let client = world.client().await;
        get(&client, "before").await.unwrap();
        get(&client, "amid").await.unwrap();
        client.close().await;
        world.stop().await;
    };
    in_time(test).await;
}

macro_rules! survived {
    ($($name:ident: $vice:ident, $beyond:expr;)*) => {$(
        #[tokio::test(flavor = "multi_thread")]
        async fn $name() {
            is_survived(Vice::$vice, $beyond).await;
        }
    )*};
}

survived! {
    wrong_bytes_of_the_right_length: WrongBytes, Err(ErrorKind::Corrupt);
    a_proof_of_other_bytes: WrongProof, Err(ErrorKind::Corrupt);
    a_slice_that_is_too_short: TooShort, Err(ErrorKind::Corrupt);
    a_slice_that_is_too_long: TooLong, Err(ErrorKind::Corrupt);
    a_shard_of_another_length: WrongShardLength, Err(ErrorKind::Corrupt);
    a_shard_that_is_withheld: Withholds, Err(ErrorKind::Corrupt);
    an_answer_of_the_wrong_kind: WrongKind, Err(ErrorKind::Corrupt);
    an_answer_of_random_bytes: Garbage, Err(ErrorKind::Corrupt);
    a_header_longer_than_any: HugeHeader, Err(ErrorKind::Corrupt);
    slow_answers: Slow, Ok(());
    a_stream_reset_midway: ResetsMidway, Err(ErrorKind::Unavailable);
    a_connection_closed_midway: LeavesMidway, Err(ErrorKind::Unavailable);
    a_replayed_receipt: Replays, Ok(());
    a_forged_receipt: Forges, Ok(());
    a_receipt_signed_as_another: SignsAsAnother, Ok(());
    another_version_in_the_answer: OtherVersion, Err(ErrorKind::Unavailable);
}

/// What [`is_survived`] tests, but for more than m bad nodes: such a read takes two minutes to give up, which the
/// simulator sees in virtual time (`too_few_nodes_are_a_failure_that_passes`).
async fn is_worked_around(vice: Vice) {
    let test = async {
        let world = World::new().await;
        let client = world.client().await;
        put(&client, "before").await.unwrap();
        world.corrupt(2, vice);
        get(&client, "before").await.unwrap();
        put(&client, "amid").await.unwrap();
        client.close().await;
        let client = world.client().await;
        get(&client, "amid").await.unwrap();
        client.close().await;
        world.stop().await;
    };
    in_time(test).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_that_never_answer() {
    is_worked_around(Vice::Hangs).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_that_stop_midway() {
    is_worked_around(Vice::HangsMidway).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_that_are_always_busy() {
    is_worked_around(Vice::Busy).await;
}

/// What a client is told by the first bad node.
async fn told(world: &World) -> CallError {
    let peers = Peers::new(&world.network, &node_key(99));
    let error = peers.status(&node_key(0).public()).await.unwrap_err();
    peers.close().await;
    error
}

#[tokio::test(flavor = "multi_thread")]
async fn another_identity_at_the_address_is_told_and_worked_around() {
    let test = async {
        let world = World::with(|number| {
            // The third is honest: two others are as many as may be missing.
            let key = if number < 2 { KeyPair::from_secret(&[0x77; 32]) } else { node_key(number) };
            BadNode::start(NETWORK, key, tls::ALPN)
        })
        .await;
        assert!(matches!(told(&world).await, CallError::WrongKey));
        let client = world.client().await;
        put(&client, "amid").await.unwrap();
        get(&client, "amid").await.unwrap();
        assert!(world.bad[..2].iter().all(|node| node.asked() == 0 && node.key() != node_key(0).public()));
        client.close().await;
        world.stop().await;
    };
    in_time(test).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_protocol_in_the_handshake_is_told_and_worked_around() {
    let test = async {
        let alpn = |number| if number < 2 { b"xvault/2" } else { tls::ALPN };
        let world = World::with(|number| BadNode::start(NETWORK, node_key(number), alpn(number))).await;
        let error = told(&world).await;
        assert!(matches!(&error, CallError::Version { ours: 1, theirs } if theirs.is_empty()), "{error}");
        let client = world.client().await;
        put(&client, "amid").await.unwrap();
        get(&client, "amid").await.unwrap();
        client.close().await;
        world.stop().await;
    };
    in_time(test).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_node_breaks_is_named() {
    let test = async {
        let world = World::new().await;
        for (vice, violation) in [
            (Vice::WrongKind, Violation::WrongResponse),
            (Vice::Garbage, Violation::Malformed),
            (Vice::HugeHeader, Violation::TooLong),
        ] {
            world.corrupt(1, vice);
            let error = told(&world).await;
            assert!(
                matches!(&error, CallError::Violation(found) if *found == violation),
                "{vice:?}: {error}"
            );
        }
        world.corrupt(1, Vice::OtherVersion);
        let error = told(&world).await;
        assert!(matches!(&error, CallError::Version { ours: 1, theirs } if theirs == &[2]), "{error}");
        world.stop().await;
    };
    in_time(test).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn receipts_that_prove_nothing_are_no_success() {
    for vice in [Vice::Replays, Vice::Forges, Vice::SignsAsAnother, Vice::WrongKind] {
        let test = async {
            let world = World::new().await;
            let client = world.client().await;
            put(&client, "before").await.unwrap();
            world.corrupt(3, vice);
            // Three honest nodes are too few: with two shards each the loss of any one leaves four of six.
            put(&client, "amid").await.unwrap();
            client.close().await;
            world.corrupt(3, Vice::Withholds);
            let client = world.client().await;
            get(&client, "amid").await.unwrap();
            client.close().await;
            world.stop().await;
        };
        in_time(test).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn full_nodes_are_named_as_full() {
    let test = async {
        let mut world = World::new().await;
        for node in std::mem::take(&mut world.good) {
            node.stop().await;
        }
        let dir = tempfile::tempdir().unwrap();
        let full = StoreConfig { free_reserve: u64::MAX / 2, ..StoreConfig::default() };
        for number in BAD..NODES {
            let node = storage_node(dir.path(), number, full).await;
            world.network.nodes[usize::from(number)].address = node.address();
            world.good.push(node);
        }
        // One more shard than the three others may take is needed.
        let client = world.client().await;
        put(&client, "amid").await.unwrap();
        client.close().await;
        world.corrupt(1, Vice::WrongKind);
        let client = world.client().await;
        let error = put(&client, "late").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Full, "{error}");
        assert!(error.to_string().contains("node-3"), "{error}");
        get(&client, "amid").await.unwrap();
        client.close().await;
        world.stop().await;
    };
    in_time(test).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_that_return_are_found_although_they_are_taken_for_dead() {
    let test = async {
        let world = World::new().await;
        let client = world.client().await;
        put(&client, "before").await.unwrap();
        // Three fail so often that each is avoided for ten seconds at a time.
        world.corrupt(3, Vice::LeavesMidway);
        while world.bad.iter().any(|node| node.asked() < 8) {
            for node in &world.network.nodes[..3] {
                client.node_status(node).await.unwrap_err();
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        world.corrupt(0, Vice::None);
        get(&client, "before").await.unwrap();
        client.close().await;
        world.stop().await;
    };
    in_time(test).await;
}

/// Six nodes of which the first takes seconds for every answer and the others have room for one shard of each segment.
fn a_slow_one() -> World {
    let dir = tempfile::tempdir().unwrap();
    let bad: Vec<_> = (0..NODES).map(|number| BadNode::start(NETWORK, node_key(number), tls::ALPN)).collect();
    let nodes = (0..).zip(&bad).map(|(number, node)| info(number, node.key(), node.address())).collect();
    let network = Network { id: NETWORK, code: Code::DEFAULT, genesis: None, nodes };
    bad[0].become_so(Vice::Slow);
    bad[1..].iter().for_each(|node| node.become_so(Vice::RoomForOne));
    World { dir, network, bad, good: Vec::new() }
}

/// Two segments, the second of which begins when the first has long been reported.
fn two_segments() -> (Vec<u8>, Source) {
    let bytes = content(1, 9_500_000);
    let (mut to, from) = tokio::io::duplex(1 << 20);
    let sent = bytes.clone();
    tokio::spawn(async move {
        let (first, last) = sent.split_at(9_000_000);
        to.write_all(first).await.unwrap();
        tokio::time::sleep(Duration::from_secs(4)).await;
        to.write_all(last).await.unwrap();
    });
    (bytes.to_vec(), Source::Reader(Box::new(from)))
}

#[tokio::test(flavor = "multi_thread")]
async fn receipts_that_come_after_the_report_are_in_the_index_when_the_client_is_closed() {
    let world = a_slow_one();
    let client = world.client().await;
    let (_, source) = two_segments();
    let report = in_time(client.put(&at("late"), source, PutOptions::default())).await.unwrap();
    // The pack's comes after the commit; on a busy machine so may others.
    assert!(report.shards_held < report.shards_total, "{report:?}");
    let [trouble] = &report.troubles[..] else { panic!("{report:?}") };
    assert_eq!((trouble.node.as_str(), trouble.kind), ("node-0", TroubleKind::Slow));
    client.close().await;
    let stat = world.client().await.stat(&at("late"), None, false).await.unwrap();
    assert!(stat.segments.iter().all(|segment| segment.held == usize::from(NODES)), "{stat:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shard_whose_receipt_never_came_is_found_when_it_is_needed() {
    let world = a_slow_one();
    let bytes = content(1, 3_000_000);
    // On a runtime of its own, which ends at once: the last receipts are lost, but the node takes the shards.
    let put = async || {
        let client = world.client().await;
        client.put(&at("lost"), Source::Bytes(bytes.clone()), PutOptions::default()).await.unwrap()
    };
    let report = tokio::task::block_in_place(|| {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let report = std::thread::scope(|scope| scope.spawn(|| runtime.block_on(put())).join().unwrap());
        runtime.shutdown_background();
        report
    });
    assert!(report.degraded, "{report:?}");
    tokio::time::sleep(Duration::from_secs(4)).await;
    let client = world.client().await;
    let before = client.stat(&at("lost"), None, false).await.unwrap();
    assert!(before.segments.iter().any(|segment| segment.held < usize::from(NODES)), "{before:?}");
    world.bad.iter().for_each(|node| node.become_so(Vice::None));
    for dead in [2, 5] {
        world.bad[dead].become_so(Vice::LeavesMidway);
    }
    assert_eq!(in_time(read(&client, "lost", None)).await.unwrap(), bytes);
    client.close().await;
    let after = world.client().await.stat(&at("lost"), None, false).await.unwrap();
    let held = |stat: &RecordStat| stat.segments.iter().map(|segment| segment.held).sum::<usize>();
    // Which segment lacked it, and so whether the read had to look for it, is a matter of timing.
    assert!(held(&after) >= held(&before), "{before:?} {after:?}");
}
