//! A storage node among bad clients: each is refused by name, and no other notices.

use std::time::Duration;

use bytes::Bytes;
use quinn::Connection;
use xvault::crypto::sign::KeyPair;
use xvault::crypto::tree::SliceHasher;
use xvault::message::*;
use xvault::net::{CallError, Peers};
use xvault::roles::storage_node::{NodeConfig, StorageNode};
use xvault::store::StoreConfig;
use xvault::types::limits::NODE_INTAKE_BYTES;
use xvault::types::{Code, Hash, Network, NetworkId, NodeInfo, SegmentId, VaultId};

use super::{content, in_time, tls};

const NETWORK: NetworkId = NetworkId([3; 32]);
/// The vault that all of them name, whosever it is.
const VAULT: VaultId = VaultId([4; 32]);

struct Served {
    _dir: tempfile::TempDir,
    node: StorageNode,
    network: Network,
}

async fn serve() -> Served {
    let dir = tempfile::tempdir().unwrap();
    let key = KeyPair::from_secret(&[10; 32]);
    let config = NodeConfig {
        dir: dir.path().to_owned(),
        listen: (std::net::Ipv4Addr::LOCALHOST, 0).into(),
        network: NETWORK,
        key: key.clone(),
        store: StoreConfig::default(),
        ledger: None,
    };
    let node = StorageNode::start(config).await.unwrap();
    let info = NodeInfo {
        name: "node".into(),
        key: key.public(),
        address: node.address(),
        operator: "o".into(),
        site: "s".into(),
    };
    Served {
        _dir: dir,
        node,
        network: Network { id: NETWORK, code: Code::DEFAULT, genesis: None, nodes: vec![info] },
    }
}

impl Served {
    /// A client that speaks as it should.
    fn peers(&self, owner: u8) -> Peers {
        Peers::new(&self.network, &KeyPair::from_secret(&[owner; 32]))
    }

    /// One that says what it likes.
    async fn connect(&self, owner: u8) -> Connection {
        tls::connect(&KeyPair::from_secret(&[owner; 32]), self.node.address(), tls::ALPN).await.unwrap()
    }

    /// The node is as it should be for everybody else.
    async fn is_sound(&self) {
        let (peers, bytes) = (self.peers(200), content(200, 100_000));
        let put = shard(200, &bytes);
        peers.put_shard(&self.node.public_key(), put, vec![bytes.clone()], &|| {}).await.unwrap();
        let read = ReadShard { vault: VAULT, shard: put.shard, start: 0, len: put.len };
        let (_, found) = peers.read_shard(&self.node.public_key(), read).await.unwrap();
        assert_eq!(found, bytes);
        peers.close().await;
    }
}

fn shard(segment: u8, bytes: &Bytes) -> PutShard {
    let mut hasher = SliceHasher::new(bytes.len() as u64);
    hasher.update(bytes);
    let shard = ShardRef { segment: SegmentId([segment; 32]), index: 0 };
    PutShard { vault: VAULT, shard, root: hasher.finish().0, len: bytes.len() as u64, nonce: [1; 16] }
}

fn framed(header: &[u8], body: &[u8]) -> Vec<u8> {
    [&u32::try_from(header.len()).unwrap().to_be_bytes()[..], header, body].concat()
}

/// Sends these bytes, and nothing after them, as one request: the answer's header.
async fn say(connection: &Connection, bytes: &[u8]) -> Response {
    let (mut send, mut recv) = connection.open_bi().await.unwrap();
    // A node that has heard enough stops the stream before all is sent.
    send.write_all(bytes).await.ok();
    send.finish().ok();
    let answer = recv.read_to_end(1 << 20).await.unwrap();
    Response::decode(&answer[4..]).unwrap()
}

#[track_caller]
fn assert_refused(response: &Response, code: RefusalCode) {
    assert!(matches!(response, Response::Refusal(refusal) if refusal.code == code), "{response:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_reads_or_frees_the_shard_of_another() {
    let test = async {
        let served = serve().await;
        let (owner, stranger, node) = (served.peers(1), served.peers(2), served.node.public_key());
        let bytes = content(1, 300_000);
        let put = shard(1, &bytes);
        owner.put_shard(&node, put, vec![bytes.clone()], &|| {}).await.unwrap();

        let read = ReadShard { vault: VAULT, shard: put.shard, start: 0, len: put.len };
        let refused = stranger.read_shard(&node, read).await.unwrap_err();
        let not_found = |refusal: &Refusal| refusal.code == RefusalCode::NotFound;
        assert!(matches!(&refused, CallError::Refused(refusal) if not_found(refusal)), "{refused}");
        assert_eq!(stranger.have_shards(&node, VAULT, vec![put.shard]).await.unwrap(), [None]);
        assert_eq!(stranger.list_shards(&node, VAULT, None).await.unwrap(), []);
        assert_eq!(stranger.release_segments(&node, VAULT, vec![put.shard.segment]).await.unwrap(), (0, 0));
        // Nor does a shard of the same name take its place.
        let other = content(2, 300_000);
        stranger.put_shard(&node, shard(1, &other), vec![other.clone()], &|| {}).await.unwrap();

        assert_eq!(owner.have_shards(&node, VAULT, vec![put.shard]).await.unwrap(), [Some(put.root)]);
        assert_eq!(owner.read_shard(&node, read).await.unwrap().1, bytes);
        assert_eq!(stranger.read_shard(&node, read).await.unwrap().1, other);
        // Nor does the owner meet what is in another vault of its own.
        let elsewhere = VaultId([5; 32]);
        assert_eq!(owner.have_shards(&node, elsewhere, vec![put.shard]).await.unwrap(), [None]);
        assert_eq!(owner.release_segments(&node, elsewhere, vec![put.shard.segment]).await.unwrap(), (0, 0));
        assert_eq!(owner.list_shards(&node, VAULT, None).await.unwrap().len(), 1);
        owner.close().await;
        stranger.close().await;
        served.node.stop().await;
    };
    in_time(test).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shard_that_is_not_what_was_announced_is_refused_by_name() {
    let test = async {
        let served = serve().await;
        let connection = served.connect(1).await;
        let bytes = content(1, 100_000);
        let put = shard(1, &bytes);
        let header = Request::PutShard(put).encode();
        let mut flipped = bytes.to_vec();
        flipped[50_000] ^= 1;
        let longer = [&bytes[..], &[0]].concat();
        for (body, violation) in [
            (&flipped[..], Violation::WrongShard),
            (&bytes[..99_999], Violation::WrongLength),
            (&[], Violation::WrongLength),
            (&longer, Violation::WrongLength),
        ] {
            let answer = say(&connection, &framed(&header, body)).await;
            assert_refused(&answer, RefusalCode::Violation(violation));
        }
        let wrong_root = Request::PutShard(PutShard { root: Hash([1; 32]), ..put }).encode();
        let answer = say(&connection, &framed(&wrong_root, &bytes)).await;
        assert_refused(&answer, RefusalCode::Violation(Violation::WrongShard));

        // None of them is held; and the true one is taken, but not another in its place.
        let have = framed(&Request::HaveShards { vault: VAULT, shards: vec![put.shard] }.encode(), &[]);
        assert_eq!(say(&connection, &have).await, Response::Holdings(vec![None]));
        let answer = say(&connection, &framed(&header, &bytes)).await;
        assert!(matches!(answer, Response::Receipt(_)), "{answer:?}");
        let other = content(2, 100_000);
        let answer = say(&connection, &framed(&Request::PutShard(shard(1, &other)).encode(), &other)).await;
        assert_refused(&answer, RefusalCode::Conflict);
        served.is_sound().await;
        served.node.stop().await;
    };
    in_time(test).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_request_is_refused_by_name() {
    let test = async {
        let served = serve().await;
        let connection = served.connect(1).await;
        let status = Request::GetStatus.encode();
        let long = framed(&vec![0; 256 * 1024 + 1], &[]);
        for (bytes, violation) in [
            (&long[..], Violation::TooLong),
            (&[0xff; 300], Violation::TooLong),
            (&[], Violation::Malformed),
            (&[0, 0], Violation::Malformed),
            (&framed(&status, &[])[..4], Violation::Malformed),
            (&framed(&[8, 1, 0xa5, 0xa5, 0xa5], &[]), Violation::Malformed),
            (&framed(&status, &[0]), Violation::WrongLength),
        ] {
            assert_refused(&say(&connection, bytes).await, RefusalCode::Violation(violation));
        }
        // Version 2, whatever else that may say.
        match say(&connection, &framed(&[8, 2, 16, 1], &[])).await {
            Response::Refusal(refusal) => {
                assert_eq!((refusal.code, refusal.protocols), (RefusalCode::UnsupportedProtocol, vec![1]));
            }
            other => panic!("{other:?}"),
        }
        let other = tls::connect(&KeyPair::from_secret(&[1; 32]), served.node.address(), b"xvault/2").await;
        assert!(matches!(&other, Err(quinn::ConnectionError::ConnectionClosed(_))), "{other:?}");
        served.is_sound().await;
        served.node.stop().await;
    };
    in_time(test).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_that_leave_in_the_middle_leave_nothing_behind() {
    let test = async {
        let served = serve().await;
        let bytes = content(1, 4 << 20);
        let put = framed(&Request::PutShard(shard(1, &bytes)).encode(), &bytes[..1 << 20]);
        // Together far more than a node takes in at once.
        for round in 0..2 * NODE_INTAKE_BYTES / bytes.len() {
            let connection = served.connect(1).await;
            let (mut send, _recv) = connection.open_bi().await.unwrap();
            send.write_all(&put).await.unwrap();
            if round % 2 == 0 {
                send.reset(1_u32.into()).unwrap();
            } else {
                connection.close(1_u32.into(), b"");
            }
        }
        served.is_sound().await;
        let peers = served.peers(1);
        let shards = vec![shard(1, &bytes).shard];
        let held = peers.have_shards(&served.node.public_key(), VAULT, shards).await;
        assert_eq!(held.unwrap(), [None]);
        peers.close().await;
        served.node.stop().await;
    };
    in_time(test).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_overloaded_node_says_when_to_come_back() {
    let test = async {
        let served = serve().await;
        let connection = served.connect(1).await;
        let huge = |segment: u8| {
            let shard = ShardRef { segment: SegmentId([segment; 32]), index: 0 };
            let (root, len, nonce) = (Hash([1; 32]), 64 << 20, [1; 16]);
            Request::PutShard(PutShard { vault: VAULT, shard, root, len, nonce }).encode()
        };
        // One that announces much and then is silent has the room...
        let (mut silent, mut told) = connection.open_bi().await.unwrap();
        silent.write_all(&framed(&huge(1), &[0])).await.unwrap();
        tokio::time::sleep(Duration::from_millis(500)).await;
        // ... so the next is sent away with a hint.
        match say(&connection, &framed(&huge(2), &[0])).await {
            Response::Refusal(refusal) => {
                assert_eq!(refusal.code, RefusalCode::Busy, "{refusal}");
                assert!(refusal.retry_after_ms > 0, "{refusal:?}");
            }
            other => panic!("{other:?}"),
        }
        // What still fits is served meanwhile, and the silent one loses its room.
        served.is_sound().await;
        let answer = told.read_to_end(1 << 20).await.unwrap();
        assert_refused(&Response::decode(&answer[4..]).unwrap(), RefusalCode::Busy);
        let bytes = content(1, 64 << 20);
        let put = framed(&Request::PutShard(shard(3, &bytes)).encode(), &bytes);
        let answer = say(&connection, &put).await;
        assert!(matches!(answer, Response::Receipt(_)), "{answer:?}");
        served.node.stop().await;
    };
    in_time(test).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_header_that_trickles_is_left() {
    let test = async {
        let served = serve().await;
        let connection = served.connect(1).await;
        let (mut send, mut recv) = connection.open_bi().await.unwrap();
        send.write_all(&[0, 0, 1]).await.unwrap();
        assert!(recv.read_to_end(1 << 20).await.is_err(), "the node resets the stream");
        served.is_sound().await;
        served.node.stop().await;
    };
    in_time(test).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn random_bytes_are_answered_or_left() {
    let test = async {
        let served = serve().await;
        let connection = served.connect(1).await;
        let valid = framed(&Request::GetStatus.encode(), &[]);
        for round in 0..300_u64 {
            let noise = content(round, 300);
            let len = usize::from(noise[0]) + 1;
            let mut bytes = noise[1..=len].to_vec();
            match round % 3 {
                // A true length and a header of anything; a true request with one byte changed.
                0 => bytes = framed(&bytes, &[]),
                1 => {
                    bytes = valid.clone();
                    let at = usize::from(noise[1]) % bytes.len();
                    bytes[at] ^= noise[2];
                }
                _ => {}
            }
            let (mut send, mut recv) = connection.open_bi().await.unwrap();
            send.write_all(&bytes).await.ok();
            send.finish().ok();
            if let Ok(answer) = recv.read_to_end(1 << 20).await {
                assert!(Response::decode(&answer[4..]).is_ok(), "round {round}");
            }
        }
        served.is_sound().await;
        served.node.stop().await;
    };
    in_time(test).await;
}
