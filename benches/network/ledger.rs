//! The anchoring ledger: how long until a put is final, how much it takes, how fast it is followed.

use std::time::{Duration, Instant};

use serde_json::json;
use tokio::runtime::Runtime;
use tokio::task::JoinSet;
use xvault::client::ledger::static_peers;
use xvault::client::{Client, LedgerClient, PutOptions, Source};
use xvault::crypto::sign::KeyPair;
use xvault::ledger::ask::{Answer, Fate};
use xvault::message::{
    Action, AnchorReceipt, Genesis, Member, NodeEntry, Policy, SignedTransaction, Transaction,
};
use xvault::net::Peers;
use xvault::types::{Height, Network};

use crate::Options;
use crate::network::Devnet;
use crate::report::{Outcome, Report};
use crate::small::{content, numbered, put_all};

const LEN: usize = 4 << 10;

pub(crate) fn run(options: &Options, report: &Report, runtime: &Runtime) -> Outcome<()> {
    let devnet = Devnet::start(&options.dir, 4)?;
    idle(report, &devnet)?;
    runtime.block_on(async {
        let client = devnet.client().await?;
        client.put(&numbered(0), Source::Bytes(content(0, LEN)), PutOptions::default()).await?;
        one_writer(report, &client, 1, "1,000").await?;
        let growth = growth(&devnet).await?;
        report.figure(
            "ledger: block bytes for an anchor of one 4+2 segment",
            "bytes",
            growth,
            1_228.8,
            None,
            json!({}),
        );
        many_writers(options, report, &devnet, &client).await?;
        one_writer(report, &client, 1_000_000, "as many as were put").await?;
        verify_receipt(report, &devnet, &client).await?;
        client.close().await;
        transactions(report, &devnet).await?;
        follow(report, &devnet).await
    })
}

/// What eleven processes take that nobody asks for anything.
fn idle(report: &Report, devnet: &Devnet) -> Outcome<()> {
    const SECONDS: u64 = 20;
    let before = devnet.node_cpu_s()?;
    std::thread::sleep(Duration::from_secs(SECONDS));
    let percent = (devnet.node_cpu_s()? - before) * 100.0 / SECONDS as f64;
    report.figure("ledger: idle devnet, CPU", "% of a core", percent, 3.0, None, json!({}));
    let mib = devnet.resident()? as f64 / f64::from(1 << 20);
    report.figure("ledger: idle devnet, memory of all nodes", "MiB", mib, 400.0, None, json!({}));
    Ok(())
}

async fn one_writer(report: &Report, client: &Client, from: u64, records: &str) -> Outcome<()> {
    const COUNT: u64 = 300;
    let mut took = Vec::new();
    for number in from..from + COUNT {
        let begun = Instant::now();
        client.put(&numbered(number), Source::Bytes(content(number, LEN)), PutOptions::default()).await?;
        took.push(begun.elapsed().as_secs_f64() * 1e3);
    }
    took.sort_by(f64::total_cmp);
    let at = |percent: usize| took[took.len() * percent / 100];
    for (name, value, reach) in [("p50", at(50), 60.0), ("p99", at(99), 200.0)] {
        report.figure(
            &format!("ledger: put of 4 KiB until anchored, 1 writer, {name}"),
            "ms",
            value,
            reach,
            None,
            json!({ "records": records }),
        );
    }
    Ok(())
}

async fn many_writers(options: &Options, report: &Report, devnet: &Devnet, client: &Client) -> Outcome<()> {
    let count = options.anchored;
    let contents: Vec<_> = (0..count).map(|number| content(number, LEN)).collect();
    let took = devnet
        .measure(count * LEN as u64, count, async || {
            put_all(client, 10_000, contents, 64, PutOptions::default()).await
        })
        .await?;
    report.figure(
        "ledger: puts of 4 KiB anchored, 64 at once",
        "records/s",
        took.records_per_s(),
        1_500.0,
        Some(&took),
        json!({ "records": count }),
    );
    Ok(())
}

/// Bytes of the last block that has one transaction: an anchor of one writer's put.
async fn growth(devnet: &Devnet) -> Outcome<f64> {
    let ledger = devnet.ledger()?;
    let mut height = ledger.tip().await?.record.height;
    loop {
        let blocks = ledger.blocks(height).await?;
        let block = blocks.first().ok_or("no block with an anchor")?;
        let decoded = xvault::message::Block::decode_bounded(&block.block)?;
        if decoded.transactions.len() == 1 {
            return Ok(block.block.len() as f64);
        }
        height = Height(height.0.checked_sub(1).ok_or("no block with an anchor")?);
    }
}

async fn verify_receipt(report: &Report, devnet: &Devnet, client: &Client) -> Outcome<()> {
    const ROUNDS: u32 = 100;
    let text = client.receipt(&numbered(0), None).await?.to_text();
    let genesis = devnet.genesis()?;
    let begun = Instant::now();
    for _ in 0..ROUNDS {
        AnchorReceipt::from_text(&text)?.verify(&genesis, Policy::Quorum)?;
    }
    let ms = begun.elapsed().as_secs_f64() * 1e3 / f64::from(ROUNDS);
    report.figure("ledger: verify a receipt", "ms", ms, 5.0, None, json!({ "bytes": text.len() }));
    Ok(())
}

/// Transactions that are no anchors, by many authors, each submitted to every static node.
async fn transactions(report: &Report, devnet: &Devnet) -> Outcome<()> {
    const AUTHORS: u8 = 32;
    const EACH: u64 = 200;
    let genesis = devnet.genesis()?;
    let authors: Vec<_> = (1..=AUTHORS).map(|nth| Author::new(&genesis, nth)).collect();
    // The first of each makes it known.
    submit_all(&authors, 0..1).await?;
    let begun = Instant::now();
    submit_all(&authors, 1..1 + EACH).await?;
    let rate = f64::from(AUTHORS) * EACH as f64 / begun.elapsed().as_secs_f64();
    report.figure(
        "ledger: simple transactions through blocks",
        "transactions/s",
        rate,
        2_000.0,
        None,
        json!({}),
    );
    Ok(())
}

struct Author {
    peers: Peers,
    members: Vec<Member>,
    signed: Vec<SignedTransaction>,
}

impl Author {
    /// Registers a storage node and changes its entry again and again.
    fn new(genesis: &Genesis, nth: u8) -> Self {
        let key = KeyPair::from_secret(&[nth; 32]);
        let entry = |port: u64| NodeEntry {
            label: format!("bench-{nth}"),
            operator: "bench".into(),
            site: "bench".into(),
            address: ([127, 0, 0, 1], u16::try_from(1_024 + port).unwrap_or(u16::MAX)).into(),
        };
        let sign = |nonce: u64| {
            let action = match nonce {
                0 => Action::RegisterNode { node: entry(0), sponsor: None },
                _ => Action::UpdateNode(entry(nonce)),
            };
            let (network, author, expires) = (genesis.network, key.public(), Height(90_000));
            Transaction { network, author, nonce, expires, action }.sign(&key)
        };
        let members = genesis.roster.members().to_vec();
        Self {
            peers: Peers::new(&static_peers(genesis), &key),
            members,
            signed: (0..=200).map(sign).collect(),
        }
    }
}

/// Submits what these authors signed, some of each at a time.
async fn submit_all(authors: &[Author], nonces: std::ops::Range<u64>) -> Outcome<()> {
    const AT_ONCE: usize = 16;
    let mut submitting = JoinSet::new();
    for author in authors {
        let signed = &author.signed[usize::try_from(nonces.start)?..usize::try_from(nonces.end)?];
        let (peers, members, signed) = (author.peers.clone(), author.members.clone(), signed.to_vec());
        submitting.spawn(async move {
            for some in signed.chunks(AT_ONCE) {
                submit(&peers, &members, some).await?;
            }
            Outcome::Ok(())
        });
    }
    while let Some(done) = submitting.join_next().await {
        done??;
    }
    Ok(())
}

/// Submits transactions to every static node, and waits until all are final.
async fn submit(peers: &Peers, members: &[Member], signed: &[SignedTransaction]) -> Outcome<()> {
    let mut waiting = JoinSet::new();
    for (signed, member) in
        signed.iter().flat_map(|signed| members.iter().map(move |member| (signed, member)))
    {
        let (peers, key, bytes) = (peers.clone(), member.key, signed.bytes().to_vec());
        waiting.spawn(async move {
            loop {
                match Answer::decode_bounded(&peers.submit(&key, bytes.clone()).await?)? {
                    Answer::Fate(Fate::Final(_)) => return Outcome::Ok(()),
                    Answer::Fate(Fate::Waiting | Fate::Busy { .. }) => {}
                    other => return Err(format!("a transaction is not final: {other:?}").into()),
                }
            }
        });
    }
    while let Some(done) = waiting.join_next().await {
        done??;
    }
    Ok(())
}

/// A new follower, which checks everything.
async fn follow(report: &Report, devnet: &Devnet) -> Outcome<()> {
    let ledger = devnet.ledger()?;
    let folder = tempfile::tempdir_in(devnet.path(""))?;
    let begun = Instant::now();
    let found = ledger.replay(folder.path(), |_| {}).await?;
    let rate = found.transactions as f64 / begun.elapsed().as_secs_f64();
    report.figure(
        "ledger: a new follower checks everything",
        "transactions/s",
        rate,
        5_000.0,
        None,
        json!({ "transactions": found.transactions, "blocks": found.blocks }),
    );
    Ok(())
}

impl Devnet {
    fn network(&self) -> Outcome<Network> {
        Ok(Network::from_toml(&std::fs::read_to_string(self.path("home/devnet/network.toml"))?)?)
    }

    fn genesis(&self) -> Outcome<Genesis> {
        Ok(Genesis::from_text(self.network()?.genesis.as_ref().ok_or("no genesis")?)?)
    }

    fn ledger(&self) -> Outcome<LedgerClient> {
        Ok(LedgerClient::new(&self.network()?, &KeyPair::from_secret(&[9; 32]))?)
    }
}
