//! The log as a stranger sees it: over HTTP from static nodes of a devnet, with nothing of ours but the genesis.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use xvault::client::ledger::static_peers;
use xvault::crypto::sign::KeyPair;
use xvault::ledger::ask::{Answer, Fate};
use xvault::ledger::tiles::Resource;
use xvault::message::canonical::Canonical as _;
use xvault::message::{
    Action, BlockRecord, Checkpoint, Genesis, Policy, SignedCheckpoint, SignedTransaction, Transaction,
};
use xvault::net::Peers;
use xvault::roles::{Devnet, DevnetConfig};
use xvault::types::limits::MAX_HTTP_CONNECTIONS;
use xvault::types::{Code, Height, VaultId};

type Hash = [u8; 32];

async fn devnet(dir: &Path) -> Devnet {
    let (nodes, code) = (Some(3), Some(Code::new(2, 1).unwrap()));
    let config = DevnetConfig { dir: dir.to_owned(), nodes, code, statics: None, base_port: None };
    Devnet::start(config).await.unwrap()
}

fn genesis(devnet: &Devnet) -> Genesis {
    Genesis::from_text(devnet.network().genesis.as_ref().unwrap()).unwrap()
}

/// Puts so many transactions on the ledger.
async fn fill(genesis: &Genesis, author: u8, count: u64) {
    let key = KeyPair::from_secret(&[author; 32]);
    let peers = Peers::new(&static_peers(genesis), &key);
    let sign = |nonce: u64| {
        let vault = VaultId(*blake3::hash(&[&[author][..], &nonce.to_be_bytes()].concat()).as_bytes());
        let (network, author, expires) = (genesis.network, key.public(), Height(10_000));
        let action = Action::CreateVault { vault, sponsor: None };
        Transaction { network, author, nonce, expires, action }.sign(&key)
    };
    // The first alone: of an author that is known more may wait.
    for nonces in [0..1, 1..count] {
        let mut asked = JoinSet::new();
        for signed in nonces.map(sign) {
            for node in genesis.roster.committee().members() {
                let (peers, node, bytes) = (peers.clone(), *node, signed.bytes().to_vec());
                asked.spawn(async move { peers.submit(&node, bytes).await.unwrap() });
            }
        }
        while let Some(answer) = asked.join_next().await {
            match Answer::decode_bounded(&answer.unwrap()).unwrap() {
                Answer::Fate(Fate::Final(_) | Fate::Waiting) => {}
                other => panic!("{other:?}"),
            }
        }
    }
}

#[derive(Debug)]
struct Reply {
    status: u16,
    head: String,
    body: Vec<u8>,
}

async fn ask(address: SocketAddr, method: &str, path: &str) -> Reply {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("{method} {path} HTTP/1.1\r\nhost: log\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    let at = answer.windows(4).position(|four| four == b"\r\n\r\n").unwrap();
    let head = String::from_utf8(answer[..at].to_vec()).unwrap().to_lowercase();
    Reply { status: head[9..12].parse().unwrap(), head, body: answer[at + 4..].to_vec() }
}

async fn get(address: SocketAddr, path: impl ToString) -> Vec<u8> {
    let path = path.to_string();
    let reply = ask(address, "GET", &path).await;
    assert_eq!(reply.status, 200, "{path}: {reply:?}");
    reply.body
}

async fn status(address: SocketAddr, path: impl ToString) -> u16 {
    ask(address, "GET", &path.to_string()).await.status
}

/// Asks until there is a checkpoint of at least this size; answers its text too.
async fn checkpoint(address: SocketAddr, genesis: &Genesis, size: u64) -> (Checkpoint, String) {
    for _ in 0..300 {
        let reply = ask(address, "GET", "/checkpoint").await;
        if reply.status == 200 {
            let note = String::from_utf8(reply.body).unwrap();
            let signed = SignedCheckpoint::from_note(&note, &genesis.roster).unwrap();
            assert_eq!(signed.verify(&genesis.roster, Policy::Quorum), Ok(()));
            if signed.checkpoint().size >= size {
                return (signed.checkpoint().clone(), note);
            }
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("no checkpoint of {size} leaves");
}

fn leaf_hash(leaf: &[u8]) -> Hash {
    Sha256::new().chain_update([0]).chain_update(leaf).finalize().into()
}

/// MTH of RFC 6962, section 2.1, word for word, but over hashes of leaves.
fn mth(leaves: &[Hash]) -> Hash {
    match leaves {
        [] => Sha256::digest([]).into(),
        [leaf] => *leaf,
        _ => {
            let (left, right) = leaves.split_at(leaves.len().next_power_of_two() / 2);
            Sha256::new().chain_update([1]).chain_update(mth(left)).chain_update(mth(right)).finalize().into()
        }
    }
}

/// The tiles of a level that a log of this size has, each with its width.
fn widths(size: u64, level: u8) -> impl Iterator<Item = (u64, u64)> {
    let hashes = size >> (8 * level);
    (0..hashes.div_ceil(256)).map(move |index| (index, (hashes - 256 * index).min(256)))
}

/// All hashes of a level.
async fn level(address: SocketAddr, size: u64, level: u8) -> Vec<Hash> {
    let mut hashes = Vec::new();
    for (index, width) in widths(size, level) {
        let tile = get(address, Resource::Tile { level, index, width }).await;
        assert_eq!(tile.len() as u64, 32 * width);
        hashes.extend_from_slice(tile.as_chunks::<32>().0);
    }
    hashes
}

async fn entries(address: SocketAddr, size: u64) -> Vec<Vec<u8>> {
    let mut leaves = Vec::new();
    for (index, width) in widths(size, 0) {
        let bundle = get(address, Resource::Entries { index, width }).await;
        let (mut rest, before) = (&bundle[..], leaves.len());
        while let Some((len, more)) = rest.split_first_chunk::<2>() {
            let (leaf, more) = more.split_at(usize::from(u16::from_be_bytes(*len)));
            leaves.push(leaf.to_vec());
            rest = more;
        }
        assert_eq!((leaves.len() - before) as u64, width);
    }
    leaves
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mirror_rebuilds_the_cosigned_root_from_tiles_alone_and_from_entries_alone() {
    let dir = tempfile::tempdir().unwrap();
    let devnet = devnet(dir.path()).await;
    let genesis = genesis(&devnet);
    let addresses: Vec<_> = devnet.statics().iter().map(|node| node.http_address().unwrap()).collect();

    fill(&genesis, 7, 5).await;
    let (early, _) = checkpoint(addresses[0], &genesis, 5).await;
    let early_tile = level(addresses[0], early.size, 0).await;
    assert_eq!(mth(&early_tile), early.root.0);
    assert_eq!(status(addresses[0], "/tile/0/000").await, 404, "it is not full");
    assert_eq!(status(addresses[0], "/tile/1/000").await, 404, "it is empty");

    fill(&genesis, 8, 400).await;
    for address in &addresses {
        let (late, note) = checkpoint(*address, &genesis, 400).await;
        let hashes = level(*address, late.size, 0).await;
        assert_eq!(mth(&hashes), late.root.0, "{note}");
        assert_eq!(
            level(*address, late.size, 1).await,
            hashes.as_chunks::<256>().0.iter().map(|tile| mth(tile)).collect::<Vec<_>>()
        );

        let leaves = entries(*address, late.size).await;
        assert_eq!(leaves.iter().map(|leaf| leaf_hash(leaf)).collect::<Vec<_>>(), hashes);
        let transactions = leaves.iter().filter(|leaf| SignedTransaction::decode(leaf).is_ok()).count();
        let records = leaves.iter().filter(|leaf| BlockRecord::decode(leaf).is_ok()).count();
        assert_eq!((transactions, transactions + records), (405, leaves.len()));
        assert_eq!(BlockRecord::decode(leaves.last().unwrap()).unwrap().log_size, late.size);

        // What was served stays as it was, also where a tile has grown full since.
        let width = early.size;
        assert_eq!(get(*address, Resource::Tile { level: 0, index: 0, width }).await, early_tile.concat());
        assert_eq!(get(*address, "/tile/0/000").await, hashes[..256].concat());
        assert_eq!(get(*address, "/tile/0/000.p/255").await, hashes[..255].concat());
        assert_eq!(get(*address, "/tile/entries/000.p/1").await[2..], leaves[0]);
        assert_eq!(status(*address, "/tile/1/000").await, 404);
        assert_eq!(status(*address, "/tile/2/000.p/1").await, 404);
    }

    // Who is connected when they stop keeps neither the ledger nor the port.
    let connected = TcpStream::connect(addresses[0]).await.unwrap();
    let (before, _) = checkpoint(addresses[0], &genesis, 400).await;
    devnet.stop().await;
    let devnet = self::devnet(dir.path()).await;
    assert_eq!(devnet.statics()[0].http_address(), Some(addresses[0]), "it stays where it was");
    let (after, _) = checkpoint(addresses[0], &genesis, before.size).await;
    let hashes = level(addresses[0], after.size, 0).await;
    assert_eq!(
        (mth(&hashes[..usize::try_from(before.size).unwrap()]), mth(&hashes)),
        (before.root.0, after.root.0)
    );
    drop(connected);
    devnet.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_are_answered_as_the_web_expects_and_what_is_not_there_is_not_found() {
    let dir = tempfile::tempdir().unwrap();
    let devnet = devnet(dir.path()).await;
    let genesis = genesis(&devnet);
    let address = devnet.statics()[1].http_address().unwrap();
    let label = &genesis.roster.members()[1].label;
    let settings = std::fs::read_to_string(dir.path().join(label).join("node.toml")).unwrap();
    assert!(settings.contains(&format!("http = \"{address}\"")), "{settings}");

    fill(&genesis, 7, 3).await;
    let (_, note) = checkpoint(address, &genesis, 3).await;
    let of = |reply: &Reply, header: &str| {
        let line =
            reply.head.lines().find_map(|line| line.strip_prefix(&format!("{header}: "))).map(str::to_owned);
        line.unwrap_or_default()
    };
    let reply = ask(address, "GET", "/checkpoint").await;
    assert_eq!(of(&reply, "content-type"), "text/plain; charset=utf-8");
    assert_eq!(of(&reply, "cache-control"), "public, max-age=1");
    assert_eq!(of(&reply, "content-length"), reply.body.len().to_string());
    assert!(note.starts_with(&Checkpoint::origin_of(&genesis.network)));
    for path in ["/tile/0/000.p/2", "/tile/entries/000.p/2"] {
        let reply = ask(address, "GET", path).await;
        assert_eq!(of(&reply, "content-type"), "application/octet-stream");
        assert_eq!(of(&reply, "cache-control"), "public, max-age=31536000, immutable");
        let head = ask(address, "HEAD", path).await;
        assert_eq!((head.status, head.body.len()), (200, 0));
        assert_eq!(of(&head, "content-length"), reply.body.len().to_string());
        assert_eq!(of(&head, "content-type"), of(&reply, "content-type"));
    }

    for path in [
        "/",
        "/favicon.ico",
        "/checkpoint/",
        "/tile/0/0",
        "/tile/0/000.p/0",
        "/tile/0/000.p/02",
        "/tile/00/000",
        "/tile/64/000",
        "/tile/0/x001",
        "/tile/0/999",
        "/tile/63/000.p/1",
        "/tile/entries/001.p/1",
        "/tile/entries/000",
        "/tile/0/x018/x446/x744/x073/x709/x551/615",
        "/tile/0/../../checkpoint",
        "/%2e%2e/etc/passwd",
    ] {
        let reply = ask(address, "GET", path).await;
        assert_eq!((reply.status, of(&reply, "cache-control")), (404, "no-store".to_owned()), "{path}");
        assert_eq!(ask(address, "HEAD", path).await.status, 404, "{path}");
    }
    for method in ["POST", "PUT", "DELETE", "OPTIONS"] {
        let reply = ask(address, method, "/checkpoint").await;
        assert_eq!((reply.status, of(&reply, "allow")), (405, "get,head".to_owned()), "{method}");
    }
    let long = format!("/tile/0/{}000", "x001/".repeat(1_000));
    assert_eq!(ask(address, "GET", &long).await.status, 404);
    devnet.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_who_send_nothing_or_nonsense_take_no_more_than_their_places() {
    let dir = tempfile::tempdir().unwrap();
    let devnet = devnet(dir.path()).await;
    let genesis = genesis(&devnet);
    let address = devnet.statics()[0].http_address().unwrap();
    fill(&genesis, 7, 2).await;
    checkpoint(address, &genesis, 2).await;

    let mut silent = Vec::new();
    for _ in 0..MAX_HTTP_CONNECTIONS {
        silent.push(TcpStream::connect(address).await.unwrap());
    }
    let late = tokio::spawn(async move { status(address, "/checkpoint").await });
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(!late.is_finished(), "all places are taken");
    // One that leaves makes place.
    silent.pop();
    assert_eq!(late.await.unwrap(), 200);
    drop(silent);

    for nonsense in
        [&b"\0\0\0\0\r\n\r\n"[..], b"GET\r\n\r\n", b"GET /checkpoint HTTP/9.9\r\n\r\n", &[0xff; 70_000]]
    {
        let mut stream = TcpStream::connect(address).await.unwrap();
        // It may hang up before all is sent.
        drop(stream.write_all(nonsense).await);
        let mut answer = Vec::new();
        drop(stream.read_to_end(&mut answer).await);
        assert!(!answer.starts_with(b"HTTP/1.1 200"));
    }
    assert_eq!(status(address, "/checkpoint").await, 200);

    // Requests one after the other on one connection.
    let mut stream = TcpStream::connect(address).await.unwrap();
    for _ in 0..3 {
        stream.write_all(b"HEAD /tile/0/000.p/1 HTTP/1.1\r\nhost: log\r\n\r\n").await.unwrap();
        let mut answer = [0; 12];
        stream.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"HTTP/1.1 200");
        let mut last = [0; 4];
        while &last != b"\r\n\r\n" {
            last.rotate_left(1);
            stream.read_exact(&mut last[3..]).await.unwrap();
        }
    }
    devnet.stop().await;
}
