//! Static nodes that start new, or were away for long, take a snapshot: over QUIC, on loopback, with their logs on disk.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::statics::{Statics, eventually, key};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use xvault::client::LedgerClient;
use xvault::consensus::Timing;
use xvault::ledger::ask::{Answer, Holdings, Proven, Question};
use xvault::message::{Canonical as _, Change, Member, Refusal, Request, Response};
use xvault::net::{Body, Handler, Limits, Reply, Server, ServerEndpoint, serve};
use xvault::types::{Height, PublicKey};

/// Blocks that a static node may be behind here before it takes a snapshot.
const GAP: u64 = 40;

fn statics() -> Statics {
    let (heartbeat, propose) = (Duration::from_millis(30), Duration::from_millis(200));
    Statics::new(Timing { heartbeat, propose, ..Timing::default() }, GAP)
}

impl Statics {
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

    /// Lets a static node in.
    async fn add(&mut self, nth: u8, approvers: &[u8]) {
        self.change(Change::AddStatic(self.member(nth)), approvers, Some(nth)).await;
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
    let mut statics = statics();
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
    // Who was away for a moment fetches blocks. On a busy machine a moment may be too long: then it is tried again.
    let mut fetched = false;
    for _ in 0..20 {
        let before = statics.holdings(3).await.unwrap().snapshot;
        let left = statics.height(3).await.unwrap();
        statics.stop(3).await;
        statics.decide().await;
        statics.revive(3).await;
        let tip = statics.height(0).await.unwrap();
        eventually("it catches up", async || statics.height(3).await >= Some(tip)).await;
        let is_near = statics.height(0).await.unwrap().0 < left.0 + GAP;
        if is_near {
            assert_eq!(statics.holdings(3).await.unwrap().snapshot, before);
            fetched = true;
            break;
        }
        eventually("it has all blocks", async || statics.is_whole(3).await).await;
    }
    assert!(fetched, "it was never away for less than {GAP} blocks");

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
    let mut statics = statics();
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
