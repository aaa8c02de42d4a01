//! Storage nodes that follow the ledger, on a real network: static nodes and storage nodes on loopback, over QUIC, with
//! their files on disk.

use std::collections::BTreeMap;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::task::JoinSet;
use xvault::client::LedgerClient;
use xvault::client::ledger::static_peers;
use xvault::consensus::Timing;
use xvault::crypto::ml_dsa::PqKeyPair;
use xvault::crypto::sign::KeyPair;
use xvault::crypto::tree::SliceHasher;
use xvault::ledger::ask::{Answer, Fate, FinalBlock, Question};
use xvault::message::anchor::{Anchor, AnchoredSegment, AnchoredShard, PackCommit};
use xvault::message::{
    Action, Admission, Canonical as _, Change, CommitCertificate, Genesis, Governance, Member, NodeStatus,
    Params, PutShard, ReadShard, Refusal, RefusalCode, Request, Response, Roster, ShardRef, Transaction,
};
use xvault::net::{Body, CallError, Handler, Limits, Peers, Reply, ServerEndpoint, serve};
use xvault::roles::{LedgerConfig, NodeConfig, StaticConfig, StaticNode, StorageNode};
use xvault::store::StoreConfig;
use xvault::types::{
    Code, CollectionTag, Hash, Height, Network, NetworkId, NodeInfo, PublicKey, SegmentId, Timestamp,
    TransactionId, VaultId,
};

const NETWORK: NetworkId = NetworkId([3; 32]);
const HOUR: Duration = Duration::from_secs(3_600);

/// Asks until the answer is the one hoped for; bounded, since a test must end.
async fn eventually(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    for _ in 0..400 {
        if holds().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("it did not come about: {what}");
}

fn key(nth: u8) -> KeyPair {
    KeyPair::from_secret(&[nth + 1; 32])
}

/// The key of the storage node.
fn node_key() -> KeyPair {
    KeyPair::from_secret(&[100; 32])
}

fn member(nth: u8, address: SocketAddr) -> Member {
    Member {
        key: key(nth).public(),
        pq_key: Box::new(*PqKeyPair::from_node_secret(&key(nth).secret()).public()),
        label: format!("static-{nth}"),
        operator: format!("operator-{nth}"),
        address,
    }
}

/// Static nodes, of which the first four are those of the genesis.
struct World {
    dir: tempfile::TempDir,
    genesis: Arc<Genesis>,
    addresses: Vec<SocketAddr>,
    statics: BTreeMap<u8, StaticNode>,
    client: LedgerClient,
}

impl World {
    /// All static nodes run but this one.
    async fn without(absent: Option<u8>) -> Self {
        // All are held open until all are found, so that no two are the same.
        let sockets: Vec<_> = (0..7).map(|_| UdpSocket::bind("127.0.0.1:0").unwrap()).collect();
        let addresses: Vec<_> = sockets.iter().map(|socket| socket.local_addr().unwrap()).collect();
        let members = (0..4).map(|nth| member(nth, addresses[usize::from(nth)])).collect();
        let genesis = Genesis {
            network: NETWORK,
            time: Timestamp::from_unix_micros(1),
            code: Code::new(2, 1).unwrap(),
            admission: Admission::Open,
            params: Params { open_entries: 10_000, ..Params::DEFAULT },
            roster: Roster::new(members).unwrap(),
            nodes: Vec::new(),
            sponsors: Vec::new(),
        };
        drop(sockets);
        let network =
            Network { id: NETWORK, code: Code::DEFAULT, genesis: Some(genesis.to_text()), nodes: Vec::new() };
        let client = LedgerClient::new(&network, &KeyPair::from_secret(&[99; 32])).unwrap();
        let (dir, genesis, statics) = (tempfile::tempdir().unwrap(), Arc::new(genesis), BTreeMap::new());
        let mut world = Self { dir, genesis, addresses, statics, client };
        for nth in (0..4).filter(|nth| Some(*nth) != absent) {
            world.revive(nth).await;
        }
        world
    }

    async fn start() -> Self {
        Self::without(None).await
    }

    async fn revive(&mut self, nth: u8) {
        let config = StaticConfig {
            dir: self.dir.path().join(nth.to_string()),
            listen: self.addresses[usize::from(nth)],
            genesis: Arc::clone(&self.genesis),
            http: None,
            key: key(nth),
            timing: Timing { heartbeat: Duration::from_millis(300), ..Timing::default() },
            snapshot_gap: xvault::types::limits::SNAPSHOT_GAP,
        };
        self.statics.insert(nth, StaticNode::start(config).await.unwrap());
    }

    async fn stop(&mut self, nth: u8) {
        self.statics.remove(&nth).unwrap().stop().await;
    }

    /// The static node that the storage node asks first.
    fn first_asked(&self) -> u8 {
        let seed = u64::from_le_bytes(*node_key().public().0.first_chunk().unwrap());
        let members = self.genesis.roster.committee().members();
        let first = members[usize::try_from(seed % members.len() as u64).unwrap()];
        (0..4).find(|nth| key(*nth).public() == first).unwrap()
    }

    async fn node(&self, release_grace: Duration, unanchored_life: Duration) -> Node {
        let ledger = LedgerConfig { genesis: Arc::clone(&self.genesis), release_grace, unanchored_life };
        let config = NodeConfig {
            dir: self.dir.path().join("node"),
            listen: ([127, 0, 0, 1], 0).into(),
            network: NETWORK,
            key: node_key(),
            store: StoreConfig { free_reserve: 0, ..StoreConfig::default() },
            ledger: Some(ledger),
        };
        Node(StorageNode::start(config).await.unwrap())
    }

    async fn height(&self) -> Height {
        self.client.tip().await.unwrap().record.height
    }

    /// Submits a transaction until it is final.
    async fn settle(&self, author: &KeyPair, nonce: u64, action: Action) -> TransactionId {
        let (network, expires) = (NETWORK, Height(10_000));
        let transaction = Transaction { network, author: author.public(), nonce, expires, action };
        let signed = transaction.sign(author);
        let roster = self.client.roster();
        eventually("a transaction is final", async || {
            for member in roster.members() {
                match self.client.submit(member, signed.bytes().to_vec()).await {
                    Ok(Fate::Final(_)) => return true,
                    other => println!("{}: {other:?}", member.label),
                }
            }
            false
        })
        .await;
        signed.id()
    }

    async fn end(mut self, node: Node) {
        node.0.stop().await;
        while let Some((_, node)) = self.statics.pop_first() {
            node.stop().await;
        }
    }
}

/// The storage node.
struct Node(StorageNode);

impl Node {
    fn height(&self) -> Height {
        self.0.ledger_tip().unwrap().height
    }

    /// A client with a key, and the node's key.
    fn peers(&self, key: &KeyPair) -> Peers {
        let node = NodeInfo {
            name: "node".into(),
            key: node_key().public(),
            address: self.0.address(),
            operator: "o".into(),
            site: "s".into(),
        };
        let network = Network { id: NETWORK, code: Code::DEFAULT, genesis: None, nodes: vec![node] };
        Peers::new(&network, key)
    }

    async fn status(&self) -> NodeStatus {
        self.peers(&key(90)).status(&node_key().public()).await.unwrap()
    }

    /// Waits until the node has a block that there is now.
    async fn follows(&self, world: &World) {
        let height = world.height().await;
        eventually("the node has the block", async || self.height() >= height).await;
    }
}

/// Somebody with a key, a vault, a collection in it and a storage node.
struct Owner {
    key: KeyPair,
    vault: VaultId,
    peers: Peers,
    head: Option<TransactionId>,
    anchors: u64,
}

fn segment(nth: u8) -> SegmentId {
    SegmentId([nth; 32])
}

/// An answer or a refusal: nothing else may come.
fn said<T>(answer: Result<T, CallError>) -> Result<T, Refusal> {
    match answer {
        Ok(answer) => Ok(answer),
        Err(CallError::Refused(refusal)) => Err(refusal),
        Err(error) => panic!("{error:?}"),
    }
}

fn content(nth: u8) -> (Bytes, Hash) {
    let bytes = Bytes::from(vec![nth; 5_000]);
    let mut hasher = SliceHasher::new(bytes.len() as u64);
    hasher.update(&bytes);
    (bytes, hasher.finish().0)
}

impl Owner {
    fn new(nth: u8, node: &Node) -> Self {
        let key = key(nth);
        let peers = node.peers(&key);
        Self { key, vault: VaultId([nth; 32]), peers, head: None, anchors: 0 }
    }

    /// Somebody else who names the same vault.
    fn other(&self, nth: u8, node: &Node) -> Self {
        Self { vault: self.vault, ..Self::new(nth, node) }
    }

    async fn registered(nth: u8, world: &World, node: &Node) -> Self {
        let owner = Self::new(nth, node);
        owner.register(world).await;
        owner
    }

    async fn register(&self, world: &World) {
        let action = Action::CreateVault { vault: self.vault, sponsor: None };
        world.client.carry_out(&self.key, action, &|_| {}).await.unwrap();
    }

    async fn put(&self, nth: u8) -> Result<(), Refusal> {
        let (bytes, root) = content(nth);
        let shard = ShardRef { segment: segment(nth), index: 0 };
        let len = bytes.len() as u64;
        let put = PutShard { vault: self.vault, shard, root, len, nonce: [1; 16] };
        said(self.peers.put_shard(&node_key().public(), put, vec![bytes], &|| {}).await).map(drop)
    }

    async fn read(&self, nth: u8) -> Result<Bytes, Refusal> {
        let shard = ShardRef { segment: segment(nth), index: 0 };
        let read = ReadShard { vault: self.vault, shard, start: 0, len: content(nth).0.len() as u64 };
        said(self.peers.read_shard(&node_key().public(), read).await).map(|(_, bytes)| bytes)
    }

    async fn have(&self, nth: u8) -> Result<bool, Refusal> {
        let shard = ShardRef { segment: segment(nth), index: 0 };
        let said = said(self.peers.have_shards(&node_key().public(), self.vault, vec![shard]).await);
        said.map(|roots| roots[0].is_some())
    }

    async fn list(&self) -> Result<Vec<SegmentId>, Refusal> {
        let said = said(self.peers.list_shards(&node_key().public(), self.vault, None).await);
        said.map(|shards| shards.iter().map(|held| held.shard.segment).collect())
    }

    /// The node lets it do nothing with the vault.
    async fn is_kept_out(&self) {
        let refusals = [
            self.put(1).await.unwrap_err(),
            self.read(1).await.map(drop).unwrap_err(),
            self.have(1).await.unwrap_err(),
            self.list().await.unwrap_err(),
            self.release_at_node(&[1]).await.unwrap_err(),
        ];
        for refusal in refusals {
            assert_eq!(refusal.code, RefusalCode::NotAdmitted, "{refusal}");
        }
    }

    /// As [`Self::put`], as often as the node says that it is busy.
    async fn put_patiently(&self, nth: u8) {
        eventually("the shard is taken", async || match self.put(nth).await {
            Ok(()) => true,
            Err(refusal) if refusal.code == RefusalCode::Busy => false,
            Err(refusal) => panic!("{refusal:?}"),
        })
        .await;
    }

    async fn holds(&self, nth: u8) -> bool {
        self.have(nth).await.unwrap()
    }

    async fn release_at_node(&self, nth: &[u8]) -> Result<(u64, u64), Refusal> {
        let segments = nth.iter().map(|nth| segment(*nth)).collect();
        said(self.peers.release_segments(&node_key().public(), self.vault, segments).await)
    }

    /// Anchors segments and releases others.
    async fn anchor(&mut self, world: &World, added: &[u8], released: &[u8]) {
        let shards = |nth: u8| vec![AnchoredShard { root: content(nth).1, holder: None }; 3];
        let code = Code::new(2, 1).unwrap();
        let segments = added.iter().map(|nth| AnchoredSegment {
            segment: segment(*nth),
            code,
            len: 5_000,
            shards: shards(*nth),
        });
        let commits = added.iter().map(|nth| PackCommit::of(segment(*nth), &[])).collect();
        let action = Action::Anchor(Anchor {
            vault: self.vault,
            collection: CollectionTag([8; 32]),
            previous: self.head,
            segments: segments.collect(),
            released: released.iter().map(|nth| segment(*nth)).collect(),
            commits,
        });
        self.head = Some(world.settle(&self.key, self.anchors, action).await);
        self.anchors += 1;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stranger_is_refused_by_name_and_a_vault_is_admitted_once_it_is_registered() {
    let world = World::start().await;
    let node = world.node(HOUR, HOUR).await;
    let stranger = Owner::new(40, &node);
    let refusal = stranger.put(1).await.unwrap_err();
    assert_eq!(refusal.code, RefusalCode::NotAdmitted, "{refusal}");
    assert!(refusal.message.contains("register the vault"), "{refusal}");
    // At once after the registration, again and again: whether or not the node had heard of it.
    for nth in 41..49 {
        let owner = Owner::registered(nth, &world, &node).await;
        owner.put(1).await.unwrap();
        assert!(owner.holds(1).await);
    }
    assert_eq!(stranger.put(1).await.unwrap_err().code, RefusalCode::NotAdmitted);
    let status = node.status().await;
    assert!(status.problems.is_empty(), "{:?}", status.problems);
    assert!(status.ledger.unwrap().height > Height(7));
    world.end(node).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_writer_uses_a_vault_until_it_is_removed_and_a_stranger_never_does() {
    let world = World::start().await;
    let node = world.node(HOUR, HOUR).await;
    let owner = Owner::registered(40, &world, &node).await;
    let mut writer = owner.other(41, &node);
    // One with a vault of its own is a stranger to this one all the same.
    let neighbour = Owner::registered(42, &world, &node).await;
    let stranger = owner.other(42, &node);
    owner.put(1).await.unwrap();
    neighbour.put(1).await.unwrap();
    stranger.is_kept_out().await;
    writer.is_kept_out().await;

    let add = Action::AddWriter { vault: owner.vault, writer: writer.key.public() };
    world.client.carry_out(&owner.key, add, &|_| {}).await.unwrap();
    // At once, whether or not the node had heard of it; and each reads what the other stored.
    writer.put(2).await.unwrap();
    assert_eq!((writer.read(1).await.unwrap(), owner.read(2).await.unwrap()), (content(1).0, content(2).0));
    writer.anchor(&world, &[1, 2], &[]).await;
    node.follows(&world).await;
    assert_eq!(writer.list().await.unwrap(), [segment(1), segment(2)]);
    assert_eq!(writer.release_at_node(&[1]).await.unwrap_err().code, RefusalCode::Anchored);
    // The neighbour's is another shard, though its segment has the same id.
    assert_eq!(neighbour.release_at_node(&[1]).await.unwrap().0, 1);
    stranger.is_kept_out().await;
    // Just before it is removed, so that what the node knows of it is fresh.
    writer.put(3).await.unwrap();
    assert_eq!(writer.read(3).await.unwrap(), content(3).0);

    let remove = Action::RemoveWriter { vault: owner.vault, writer: writer.key.public() };
    world.client.carry_out(&owner.key, remove, &|_| {}).await.unwrap();
    node.follows(&world).await;
    writer.is_kept_out().await;
    assert!(owner.holds(1).await && owner.holds(2).await, "what the writer stored is the vault's");
    world.end(node).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_share_the_questions_that_the_node_asks_for_them() {
    let mut world = World::start().await;
    let node = world.node(HOUR, HOUR).await;
    let owner = Owner::registered(40, &world, &node).await;
    owner.put(1).await.unwrap();
    let stranger = Arc::new(owner.other(41, &node));
    // With a round of questions for each, the last of them would wait longer than the node lets anybody wait.
    let mut reads = JoinSet::new();
    for _ in 0..64 {
        let stranger = Arc::clone(&stranger);
        reads.spawn(async move { stranger.read(1).await.map(drop).unwrap_err() });
    }
    for refusal in reads.join_all().await {
        assert_eq!(refusal.code, RefusalCode::NotAdmitted, "{refusal}");
    }
    // Without a quorum of the static nodes whom the node knows is served, and of others it cannot tell.
    world.stop(0).await;
    world.stop(1).await;
    owner.put(2).await.unwrap();
    assert_eq!(owner.read(1).await.unwrap(), content(1).0);
    let refusal = stranger.read(1).await.unwrap_err();
    assert_eq!(refusal.code, RefusalCode::Busy, "{refusal}");
    assert!(refusal.retry_after_ms > 0, "{refusal}");
    world.end(node).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_reaches_nobody_says_so_and_takes_nothing_yet() {
    let mut world = World::without(Some(3)).await;
    for nth in 0..3 {
        world.stop(nth).await;
    }
    let node = world.node(HOUR, HOUR).await;
    let refusal = Owner::new(40, &node).put(1).await.unwrap_err();
    assert_eq!(refusal.code, RefusalCode::Busy, "{refusal}");
    assert!(refusal.retry_after_ms > 0, "{refusal}");
    eventually("the node says why", async || {
        node.status().await.problems.iter().any(|problem| problem.contains("not reached a static node"))
    })
    .await;
    world.end(node).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_ledger_released_goes_without_the_client_and_what_it_has_stays() {
    let world = World::start().await;
    let node = world.node(Duration::from_secs(3), HOUR).await;
    let mut owner = Owner::registered(40, &world, &node).await;
    for nth in 1..=4 {
        owner.put_patiently(nth).await;
    }
    owner.anchor(&world, &[1, 2, 3], &[]).await;
    node.follows(&world).await;
    let refusal = owner.release_at_node(&[1, 4]).await.unwrap_err();
    assert_eq!(refusal.code, RefusalCode::Anchored, "{refusal}");
    assert!(owner.holds(1).await);
    assert!(!owner.holds(4).await, "no anchor ever named it");
    owner.anchor(&world, &[], &[1, 2]).await;
    // Told at once, the node does not refuse what is final already.
    assert_eq!(owner.release_at_node(&[1]).await.unwrap().0, 1);
    eventually("the other goes by itself", async || !owner.holds(2).await).await;
    assert!(owner.holds(3).await);
    // Once that is done, the segment may come anew.
    owner.put_patiently(2).await;
    world.end(node).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unanchored_shard_expires_and_an_anchored_one_does_not() {
    let world = World::start().await;
    let node = world.node(HOUR, Duration::from_secs(10)).await;
    let mut owner = Owner::registered(40, &world, &node).await;
    owner.put_patiently(1).await;
    owner.put_patiently(2).await;
    owner.anchor(&world, &[1], &[]).await;
    assert!(owner.holds(2).await);
    eventually("it expires", async || !owner.holds(2).await).await;
    assert!(owner.holds(1).await);
    // One that came later has all of its time.
    owner.put_patiently(3).await;
    assert!(owner.holds(3).await && owner.holds(1).await);
    world.end(node).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_release_that_a_stop_interrupted_is_carried_out_by_the_next_start() {
    let world = World::start().await;
    let node = world.node(HOUR, HOUR).await;
    let mut owner = Owner::registered(40, &world, &node).await;
    owner.put_patiently(1).await;
    owner.anchor(&world, &[1], &[]).await;
    owner.anchor(&world, &[], &[1]).await;
    node.follows(&world).await;
    assert!(owner.holds(1).await, "it is in its time of grace");
    let refusal = owner.put(1).await.unwrap_err();
    assert_eq!(refusal.code, RefusalCode::Busy, "no receipt for what is about to go: {refusal}");
    node.0.stop().await;
    let node = world.node(Duration::ZERO, HOUR).await;
    let owner = Owner { peers: node.peers(&owner.key), ..owner };
    eventually("it goes", async || !owner.holds(1).await).await;
    world.end(node).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_follows_when_the_static_node_that_it_asks_dies() {
    let mut world = World::start().await;
    let node = world.node(HOUR, HOUR).await;
    node.follows(&world).await;
    let first = world.first_asked();
    world.stop(first).await;
    let owner = Owner::registered(40, &world, &node).await;
    owner.put_patiently(1).await;
    node.follows(&world).await;
    world.end(node).await;
}

/// What a static node does that breaks the protocol.
#[derive(Clone, Copy)]
enum Vice {
    /// Keeps all blocks back, and says that there are none.
    Withholds,
    /// Changes a byte of each block.
    Garbles,
    /// Sends certificates that too few signed.
    Forges,
}

/// A static node that is none: it has what it says from an honest one.
struct BadStatic {
    vice: Vice,
    honest: Peers,
    from: PublicKey,
}

impl Handler for BadStatic {
    async fn handle(&self, _from: PublicKey, request: Request, _body: Body) -> Reply {
        let Request::AskLedger(question) = request else { return Response::Done.into() };
        let answer = match (Question::decode(&question), self.vice) {
            (Ok(Question::BlocksAfter { .. }), Vice::Withholds) => std::future::pending().await,
            (Ok(Question::Height), Vice::Withholds) => Answer::Height(Height(0)),
            (Ok(Question::Height), _) => Answer::Height(Height(u64::MAX)),
            _ => {
                let answer = self.honest.ask_ledger(&self.from, question).await.unwrap();
                match Answer::decode_bounded(&answer).unwrap() {
                    Answer::Blocks(blocks) => {
                        Answer::Blocks(blocks.into_iter().map(|block| self.spoil(block)).collect())
                    }
                    answer => answer,
                }
            }
        };
        let body = Bytes::from(answer.encode());
        let len = u32::try_from(body.len()).unwrap();
        Reply { response: Response::Answer { len }, body: vec![body] }
    }
}

impl BadStatic {
    fn spoil(&self, mut found: FinalBlock) -> FinalBlock {
        match self.vice {
            Vice::Withholds => {}
            Vice::Garbles => {
                let at = found.block.len() / 2;
                found.block[at] ^= 1;
            }
            Vice::Forges => {
                let mut certificate = CommitCertificate::decode(&found.certificate).unwrap();
                certificate.signatures.truncate(2);
                found.certificate = certificate.encode();
            }
        }
        found
    }
}

/// Has one of the static nodes behave badly: the one that the storage node asks first.
async fn with_bad_static(vice: Vice) {
    let mut world = World::start().await;
    let first = world.first_asked();
    world.stop(first).await;
    // The system frees a port a moment after its socket.
    let mut endpoint = None;
    eventually("the port is free", async || {
        endpoint = ServerEndpoint::bind(world.addresses[usize::from(first)], &key(first)).ok();
        endpoint.is_some()
    })
    .await;
    let endpoint = endpoint.unwrap();
    let honest = Peers::new(&static_peers(&world.genesis), &key(first));
    let from = key((first + 1) % 4).public();
    let bad = serve(endpoint, Arc::new(BadStatic { vice, honest, from }), Limits::default());
    let node = world.node(HOUR, HOUR).await;
    // The node learns of the vault though the one that it asks says nothing of it, or lies.
    let owner = Owner::registered(40, &world, &node).await;
    owner.put(1).await.unwrap();
    let stranger = Owner::new(41, &node).put(1).await.unwrap_err();
    assert_eq!(stranger.code, RefusalCode::NotAdmitted, "{stranger}");
    node.follows(&world).await;
    bad.stop(Duration::ZERO).await;
    world.end(node).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_static_node_that_keeps_blocks_back_keeps_no_vault_out() {
    with_bad_static(Vice::Withholds).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn garbled_blocks_are_nobodys_state() {
    with_bad_static(Vice::Garbles).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_of_too_few_is_none() {
    with_bad_static(Vice::Forges).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_follows_static_nodes_that_come_and_go() {
    let mut world = World::start().await;
    let node = world.node(HOUR, HOUR).await;
    for (old, new, approvers) in [(0, 4, [1, 2, 3]), (1, 5, [2, 3, 4])] {
        world.revive(new).await;
        // One may be a block behind the others.
        let mut sequence = 0;
        for member in world.client.roster().members() {
            if let Ok(Answer::Sequence(said)) = world.client.ask_one(member, &Question::Sequence).await {
                sequence = sequence.max(said);
            }
        }
        let newcomer = member(new, world.addresses[usize::from(new)]);
        let change = Change::ReplaceStatic { old: key(old).public(), new: newcomer };
        let mut governance = Governance::new(sequence, change);
        approvers.iter().for_each(|nth| governance.approve(&NETWORK, &key(*nth)));
        governance.possess(&NETWORK, &key(new));
        world.client.carry_out(&key(80), Action::Govern(governance), &|_| {}).await.unwrap();
        eventually("the client learns of it", async || {
            world.client.follow().await.is_ok() && world.client.roster().member(&key(new).public()).is_some()
        })
        .await;
        node.follows(&world).await;
        world.stop(old).await;
    }
    // One of the four may be away, and of those that are left one was never in the genesis.
    world.stop(2).await;
    let owner = Owner::registered(40, &world, &node).await;
    owner.put_patiently(1).await;
    node.follows(&world).await;
    // A node that was away meanwhile finds its way from those that it knew.
    node.0.stop().await;
    let node = world.node(HOUR, HOUR).await;
    node.follows(&world).await;
    world.end(node).await;
}
