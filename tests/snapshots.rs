//! Static nodes that start new, or were away for long, take a snapshot: over QUIC, on loopback, with their logs on disk.
#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test is a shell: it waits and starts tasks"
)]

use std::collections::BTreeMap;
use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use xvault::client::LedgerClient;
use xvault::consensus::Timing;
use xvault::crypto::ml_dsa::PqKeyPair;
use xvault::crypto::sign::KeyPair;
use xvault::ledger::ask::{Answer, Holdings, Proven, Question};
use xvault::message::{
    Action, Admission, Block, Canonical as _, Change, CommitCertificate, Genesis, Governance, Member, Params,
    Refusal, Request, Response, Roster,
};
use xvault::net::{Body, Handler, Limits, Reply, Server, ServerEndpoint, serve};
use xvault::roles::{StaticConfig, StaticNode};
use xvault::types::{Code, Height, Network, NetworkId, PublicKey, Timestamp, VaultId};

const NETWORK: NetworkId = NetworkId([3; 32]);
/// Blocks that a static node may be behind here before it takes a snapshot.
const GAP: u64 = 40;

/// Asks until the answer is the one hoped for; bounded, since a test must end.
async fn eventually(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    for _ in 0..600 {
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

fn member(nth: u8, address: SocketAddr) -> Member {
    Member {
        key: key(nth).public(),
        pq_key: Box::new(*PqKeyPair::from_node_secret(&[nth + 1; 32]).public()),
        label: format!("static-{nth}"),
        operator: format!("operator-{nth}"),
        address,
    }
}

fn client(genesis: &Genesis) -> LedgerClient {
    let genesis = Some(genesis.to_text());
    let network = Network { id: NETWORK, code: Code::DEFAULT, genesis, nodes: Vec::new() };
    LedgerClient::new(&network, &KeyPair::from_secret(&[99; 32])).unwrap()
}

/// Four static nodes of the genesis, not running yet, and places for more.
struct Statics {
    dir: tempfile::TempDir,
    genesis: Arc<Genesis>,
    addresses: Vec<SocketAddr>,
    running: BTreeMap<u8, StaticNode>,
    client: LedgerClient,
    vaults: u8,
}

impl Statics {
    fn new() -> Self {
        // All are held open until all are found, so that no two are the same.
        let sockets: Vec<_> = (0..6).map(|_| UdpSocket::bind("127.0.0.1:0").unwrap()).collect();
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
        let (client, dir) = (client(&genesis), tempfile::tempdir().unwrap());
        Self { dir, genesis: Arc::new(genesis), addresses, running: BTreeMap::new(), client, vaults: 0 }
    }

    async fn revive(&mut self, nth: u8) {
        let config = StaticConfig {
            dir: self.dir.path().join(nth.to_string()),
            listen: self.addresses[usize::from(nth)],
            genesis: Arc::clone(&self.genesis),
            http: Some(([127, 0, 0, 1], 0).into()),
            key: key(nth),
            timing: Timing {
                heartbeat: Duration::from_millis(30),
                propose: Duration::from_millis(200),
                ..Timing::default()
            },
            snapshot_gap: GAP,
        };
        self.running.insert(nth, StaticNode::start(config).await.unwrap());
    }

    async fn stop(&mut self, nth: u8) {
        self.running.remove(&nth).unwrap().stop().await;
    }

    async fn stop_all(mut self) {
        while let Some((_, node)) = self.running.pop_first() {
            node.stop().await;
        }
    }

    /// What one static node answers.
    async fn ask(&self, nth: u8, question: &Question) -> Option<Answer> {
        let only = Roster::new(vec![member(nth, self.addresses[usize::from(nth)])]).unwrap();
        let asker = client(&Genesis { roster: only, ..(*self.genesis).clone() });
        asker.ask(question).await.ok()
    }

    async fn height(&self, nth: u8) -> Option<Height> {
        match self.ask(nth, &Question::Tip).await? {
            Answer::Tip { header, .. } => Some(header.record.height),
            _ => None,
        }
    }

    async fn holdings(&self, nth: u8) -> Option<Holdings> {
        match self.ask(nth, &Question::Archive).await? {
            Answer::Archive(holdings) => Some(*holdings),
            _ => None,
        }
    }

    async fn is_whole(&self, nth: u8) -> bool {
        self.holdings(nth).await.is_some_and(|found| found.snapshot.is_some() && found.missing.is_none())
    }

    /// A transaction with its proof, if the node has it.
    async fn proof(&self, nth: u8, wanted: &Proven) -> Option<Proven> {
        match self.ask(nth, &Question::Transaction { id: wanted.transaction.id() }).await? {
            Answer::Transaction(found) => found.map(|found| *found),
            other => panic!("{other:?}"),
        }
    }

    async fn proves(&self, nth: u8, wanted: &Proven) -> bool {
        let found = self.proof(nth, wanted).await;
        found.inspect(|proven| proven.verify(&self.genesis).unwrap()).is_some()
    }

    /// Registers one more vault, and answers the proof that it is final.
    async fn decide(&mut self) -> Proven {
        self.vaults += 1;
        let secret = [self.vaults; 32];
        let (owner, vault) = (KeyPair::from_secret(&[self.vaults + 100; 32]), VaultId(secret));
        let action = Action::CreateVault { vault, sponsor: None };
        let height = self.client.carry_out(&owner, action, &|_| {}).await.unwrap();
        let mut found = None;
        eventually("whoever is asked has it too", async || {
            let Some(block) = self.client.blocks(height).await.unwrap().into_iter().next() else {
                return false;
            };
            let block = Block::decode_bounded(&block.block).unwrap();
            let mut transactions = block.transactions.iter();
            let id = transactions.find(|signed| signed.transaction().author == owner.public()).unwrap().id();
            let is_there = |answer: &Answer| matches!(answer, Answer::Transaction(Some(_)));
            match self.client.ask_for(&Question::Transaction { id }, is_there).await.unwrap() {
                Answer::Transaction(proven) => found = proven,
                other => panic!("{other:?}"),
            }
            found.is_some()
        })
        .await;
        *found.unwrap()
    }

    /// Lets a static node in.
    async fn add(&self, nth: u8, approvers: &[u8]) {
        let Answer::Sequence(sequence) = self.client.ask(&Question::Sequence).await.unwrap() else {
            panic!("no sequence");
        };
        let newcomer = member(nth, self.addresses[usize::from(nth)]);
        let mut governance = Governance::new(sequence, Change::AddStatic(newcomer));
        approvers.iter().for_each(|nth| governance.approve(&NETWORK, &key(*nth)));
        governance.possess(&NETWORK, &key(nth));
        let before = self.client.roster().hash();
        let author = KeyPair::from_secret(&[200; 32]);
        self.client.carry_out(&author, Action::Govern(governance), &|_| {}).await.unwrap();
        eventually("the client learns of it", async || {
            self.client.follow().await.unwrap();
            self.client.roster().hash() != before
        })
        .await;
    }

    /// Whether a node's key is in the certificate of the last block.
    async fn signs(&self, who: u8) -> bool {
        let tip = self.client.tip().await.unwrap().record.height;
        let Some(found) = self.client.blocks(tip).await.unwrap().into_iter().next() else { return false };
        let certificate = CommitCertificate::decode(&found.certificate).unwrap();
        certificate.signature(&key(who).public()).is_some()
    }

    /// Whether another node has a node's cosignature of a tree head of now.
    async fn cosigns(&self, who: u8) -> bool {
        let Some(height) = self.height(0).await else { return false };
        // A block ago, so that there was time for it.
        let height = Height(height.0.saturating_sub(1));
        match self.ask(0, &Question::Cosignatures { height }).await {
            Some(Answer::Cosignatures(found)) => found.iter().any(|one| one.signer == key(who).public()),
            _ => false,
        }
    }

    /// A file of the log that a node serves; none if it has it not.
    async fn file(&self, nth: u8, path: &str) -> Option<Vec<u8>> {
        let address = self.running[&nth].http_address().unwrap();
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nhost: log\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
        let at = answer.windows(4).position(|four| four == b"\r\n\r\n").unwrap();
        answer.starts_with(b"HTTP/1.1 200").then(|| answer.split_off(at + 4))
    }

    async fn block(&self, nth: u8, height: u64) -> Option<Vec<u8>> {
        match self.ask(nth, &Question::Blocks { from: Height(height) }).await? {
            Answer::Blocks(blocks) => blocks.into_iter().next().map(|found| found.block),
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_starts_new_and_who_was_away_for_long_take_a_snapshot_and_fill_in_what_is_before_it() {
    let mut statics = Statics::new();
    for nth in 0..4 {
        statics.revive(nth).await;
    }
    let early = statics.decide().await;
    statics.stop(3).await;
    let away = statics.height(0).await.unwrap();
    eventually("many blocks", async || statics.height(0).await > Some(Height(away.0 + 3 * GAP))).await;
    let middle = statics.decide().await;

    // Who votes and was away for long hears how far the others are.
    statics.revive(3).await;
    let tip = statics.height(0).await.unwrap();
    eventually("it catches up", async || statics.height(3).await >= Some(tip)).await;
    let taken = statics.holdings(3).await.unwrap().snapshot.unwrap();
    assert!(taken.0 > away.0 + GAP, "{taken} after {away}");
    eventually("it votes again", async || statics.signs(3).await).await;
    eventually("it has all blocks", async || statics.is_whole(3).await).await;
    assert!(statics.proves(3, &early).await && statics.proves(3, &middle).await);
    // Who was away for a moment fetches blocks.
    statics.stop(3).await;
    statics.decide().await;
    statics.revive(3).await;
    let tip = statics.height(0).await.unwrap();
    eventually("it catches up", async || statics.height(3).await >= Some(tip)).await;
    assert_eq!(statics.holdings(3).await.unwrap().snapshot, Some(taken));

    // A fifth one comes in with nothing but the genesis.
    statics.revive(4).await;
    eventually("it takes a snapshot", async || {
        statics.holdings(4).await.is_some_and(|holdings| holdings.snapshot.is_some())
    })
    .await;
    assert!(statics.holdings(4).await.unwrap().snapshot > Some(Height(3 * GAP)));
    statics.add(4, &[0, 1, 2]).await;
    statics.stop(1).await;
    // Of five four are a quorum: without the fifth nothing would be decided.
    let late = statics.decide().await;
    assert_eq!(late.proof.steps.len(), 1);
    eventually("it votes", async || statics.signs(4).await).await;
    eventually("it cosigns", async || statics.cosigns(4).await).await;
    eventually("it proves what is new", async || statics.proves(4, &late).await).await;
    eventually("it has all blocks", async || statics.is_whole(4).await).await;
    for old in [&early, &middle] {
        assert!(statics.proves(4, old).await);
    }
    for path in ["/tile/0/000.p/100", "/tile/entries/000.p/100", "/tile/entries/000.p/1", "/tile/0/000.p/1"] {
        let served = statics.file(4, path).await;
        assert!(served.is_some() && served == statics.file(0, path).await, "{path}");
    }
    for height in [1, 2, away.0, taken.0, taken.0 + 1] {
        let block = statics.block(4, height).await;
        assert!(block.is_some() && block == statics.block(0, height).await, "{height}");
    }

    // Another one takes a snapshot from them that a change of the static nodes is before.
    statics.revive(5).await;
    eventually("it takes a snapshot", async || {
        statics.holdings(5).await.is_some_and(|holdings| holdings.snapshot.is_some())
    })
    .await;
    eventually("it proves over the change", async || statics.proves(5, &late).await).await;
    eventually("it has all blocks", async || statics.is_whole(5).await).await;
    assert!(statics.proves(5, &early).await);
    // Its archive survives a restart.
    statics.stop(5).await;
    statics.revive(5).await;
    assert!(statics.is_whole(5).await);
    eventually("it proves again", async || statics.proves(5, &early).await).await;
    statics.stop_all().await;
}

/// A static node that gives others' snapshots, but not as they are.
struct Liar {
    honest: LedgerClient,
    from: Member,
    /// It says nothing after the first rows; else the rows are wrong.
    is_silent: AtomicBool,
    /// Rows that were asked for.
    asked: AtomicUsize,
    /// Who asked.
    takers: Mutex<Vec<PublicKey>>,
}

impl Liar {
    fn start(statics: &Statics, nth: u8) -> (Arc<Self>, Server) {
        let from = statics.genesis.roster.members().iter().find(|member| member.key != key(nth).public());
        let liar = Arc::new(Self {
            honest: statics.client.clone(),
            from: from.unwrap().clone(),
            is_silent: AtomicBool::new(true),
            asked: AtomicUsize::new(0),
            takers: Mutex::default(),
        });
        let endpoint = ServerEndpoint::bind(statics.addresses[usize::from(nth)], &key(nth)).unwrap();
        let server = serve(endpoint, Arc::clone(&liar), Limits::default());
        (liar, server)
    }

    async fn answer(&self, question: &Question) -> Option<Answer> {
        let mut answer = self.honest.ask_one(&self.from, question).await.ok()?;
        if let Answer::SnapshotRows(Some(rows)) = &mut answer {
            let nth = self.asked.fetch_add(1, Ordering::SeqCst);
            if self.is_silent.load(Ordering::SeqCst) {
                if nth > 0 {
                    std::future::pending::<()>().await;
                }
                rows.truncate(3);
            } else if let Some((_, value)) = rows.first_mut() {
                value.push(0);
            }
        }
        Some(answer)
    }
}

impl Handler for Liar {
    async fn handle(&self, from: PublicKey, request: Request, _body: Body) -> Reply {
        let refusal = Response::Refusal(Refusal::busy("not now", 100));
        let Request::AskLedger(question) = request else { return refusal.into() };
        let question = Question::decode(&question).unwrap();
        if !matches!(question, Question::Snapshot { .. } | Question::SnapshotRows { .. }) {
            return refusal.into();
        }
        self.takers.lock().unwrap().push(from);
        let Some(answer) = self.answer(&question).await else { return refusal.into() };
        let body = answer.encode();
        let len = u32::try_from(body.len()).unwrap();
        Reply { response: Response::Answer { len }, body: vec![body.into()] }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_static_node_that_lies_or_falls_silent_and_a_stop_in_the_middle_cost_time_only() {
    let mut statics = Statics::new();
    // Those who are not in the genesis ask the one with the smallest key first.
    let first = (0..4_u8).min_by_key(|nth| key(*nth).public()).unwrap();
    for nth in (0..4).filter(|nth| *nth != first) {
        statics.revive(nth).await;
    }
    let early = statics.decide().await;
    let other = (0..4).find(|nth| *nth != first).unwrap();
    eventually("many blocks", async || statics.height(other).await > Some(Height(2 * GAP))).await;
    let (liar, server) = Liar::start(&statics, first);

    statics.revive(4).await;
    eventually("it waits for more", async || liar.asked.load(Ordering::SeqCst) > 1).await;
    let taking = statics.holdings(4).await.unwrap();
    assert!(taking.snapshot.is_none() && taking.taking.is_some_and(|taking| taking.rows == 3), "{taking:?}");
    assert_eq!(statics.height(4).await, Some(Height::GENESIS), "half a state is none");
    statics.stop(4).await;

    liar.is_silent.store(false, Ordering::SeqCst);
    let before = liar.asked.load(Ordering::SeqCst);
    statics.revive(4).await;
    eventually("it takes a snapshot from another", async || {
        statics.holdings(4).await.is_some_and(|holdings| holdings.snapshot.is_some())
    })
    .await;
    assert!(liar.asked.load(Ordering::SeqCst) > before, "it was asked first");
    assert!(liar.takers.lock().unwrap().iter().all(|taker| *taker == key(4).public()));
    let late = statics.decide().await;
    eventually("it proves what is new", async || statics.proves(4, &late).await).await;
    eventually("it has all blocks", async || statics.is_whole(4).await).await;
    assert!(statics.proves(4, &early).await);
    statics.stop_all().await;
    server.stop(Duration::ZERO).await;
}
