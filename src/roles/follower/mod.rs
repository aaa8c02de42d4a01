//! A follower: keeps the finalized state of the ledger up to date from what the static nodes have, for a node that decides by
//! it, or a gateway.
//!
//! Whom it asks and when is the machine's ([`ledger::follow`](crate::ledger::follow)), what it keeps is the
//! [`LightChain`]'s. Every block is checked against the static nodes that the state before it names: a certificate of a
//! quorum of them, and that it leads to what they signed. Signatures of transactions are not checked again: the quorum
//! vouches for them, and the header that it signed names their bytes.

mod hear;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::client::ledger::{roster_peers, static_peers};
use crate::crypto::sign::KeyPair;
use crate::ledger::ask::{Answer, FinalBlock, Question};
use crate::ledger::final_block::{NotFinal, check_final};
use crate::ledger::follow::{Effect, Event, Follow, Stopped};
use crate::ledger::query;
use crate::message::block::Header;
use crate::message::{Canonical as _, Genesis, LedgerTip, Roster};
use crate::net::Peers;
use crate::runtime::{Clock, Driver};
use crate::store::chain::ChainError;
use crate::store::chain::light::{LightChain, LightView};
use crate::types::limits::FOLLOWER_STALE_MICROS;
use crate::types::{Height, PublicKey, Timestamp};

pub use hear::Behind;
use hear::Rounds;

/// How old a state a crash may leave here at most, and how many blocks: they are asked for again, which is cheaper than a
/// sync of each. The database cannot use pages again that it freed since the last sync.
const SYNC_INTERVAL: Duration = Duration::from_secs(5);
const SYNC_BLOCKS: usize = 256;

/// How far a follower is, and what keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Progress {
    /// The last block that it has.
    pub tip: LedgerTip,
    /// Whether a static node has answered since it started.
    pub is_reached: bool,
    /// What went wrong last, unless all went well since.
    pub trouble: Option<String>,
    /// Why it follows no more, if so.
    pub ended: Option<String>,
}

/// The finalized state of the ledger, as a follower keeps it. A clone is another handle on the same.
#[derive(Debug, Clone)]
pub struct Ledger(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    chain: LightChain,
    peers: Peers,
    progress: watch::Sender<Progress>,
    events: mpsc::Sender<Event>,
    rounds: Rounds,
}

/// A follower that runs.
#[derive(Debug)]
pub struct Follower {
    ledger: Ledger,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Follower {
    /// Begins to follow, from where the state is. Needs a tokio runtime.
    ///
    /// # Errors
    /// [`ChainError`] if the state cannot be read.
    pub fn start(chain: LightChain, genesis: &Genesis, key: &KeyPair) -> Result<Self, ChainError> {
        let view = chain.view()?;
        let (tip, roster) = (query::tip(view.state())?, query::next_roster(view.state())?);
        let peers = Peers::new(&static_peers(genesis), key);
        peers.follow(&roster_peers(&roster));
        let clock = Clock::new();
        let seed = key.public().0.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes));
        let members = roster.committee().members().to_vec();
        let driver = Driver::new(Follow::new(clock.now(), tip.record.height, members, seed), clock);
        let progress = Progress { tip: tip_of(&tip), is_reached: false, trouble: None, ended: None };
        let inner = Inner {
            chain,
            peers,
            progress: watch::Sender::new(progress),
            events: driver.sender(),
            rounds: Rounds::default(),
        };
        let ledger = Ledger(Arc::new(inner));
        let (stop, stopping) = watch::channel(false);
        let work = Work {
            ledger: ledger.clone(),
            driver,
            roster,
            asking: None,
            synced: Instant::now(),
            unsynced: 0,
        };
        let task = tokio::spawn(work.run(stopping));
        Ok(Self { ledger, stop, task })
    }

    /// What it keeps.
    #[must_use]
    pub const fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// Ends; what it does to its state is done when this returns.
    pub async fn stop(self) {
        self.stop.send_replace(true);
        if let Err(error) = self.task.await {
            tracing::error!(%error, "the follower of the ledger panicked");
        }
        self.ledger.0.peers.close().await;
    }
}

const fn tip_of(header: &Header) -> LedgerTip {
    LedgerTip { height: header.record.height, time: header.record.time }
}

impl Ledger {
    /// The state as it is here now.
    ///
    /// # Errors
    /// [`ChainError::Database`].
    pub fn view(&self) -> Result<LightView, ChainError> {
        self.0.chain.view()
    }

    /// Where it is kept.
    #[must_use]
    pub fn chain(&self) -> &LightChain {
        &self.0.chain
    }

    /// How far it is, as it changes.
    #[must_use]
    pub fn progress(&self) -> watch::Receiver<Progress> {
        self.0.progress.subscribe()
    }

    /// The last block that is here.
    #[must_use]
    pub fn tip(&self) -> LedgerTip {
        self.0.progress.borrow().tip
    }

    /// Whether the state may be taken for that of now, by this clock. One that is wrong makes a fresh state look old at worst.
    #[must_use]
    pub fn is_fresh(&self, now: Timestamp) -> bool {
        is_fresh(&self.0.progress.borrow(), now)
    }

    /// What is wrong, for people; none while it follows.
    #[must_use]
    pub fn problem(&self, now: Timestamp) -> Option<String> {
        let progress = self.0.progress.borrow().clone();
        let LedgerTip { height, time } = progress.tip;
        let because = progress.trouble.as_ref().map(|trouble| format!(": {trouble}")).unwrap_or_default();
        if let Some(reason) = progress.ended {
            return Some(format!("it does not follow the ledger any more: {reason}; restart the node"));
        }
        if !progress.is_reached && progress.trouble.is_some() {
            return Some(format!("it has not reached a static node since it started{because}"));
        }
        let age = now.since(time).as_secs();
        let is_behind = progress.is_reached && !is_fresh(&progress, now);
        is_behind.then(|| format!("it has the ledger up to block {height}, which is {age} s old{because}"))
    }

    fn publish(&self, change: impl FnOnce(&mut Progress)) {
        self.0.progress.send_modify(change);
    }
}

fn is_fresh(progress: &Progress, now: Timestamp) -> bool {
    now.since(progress.tip.time).as_micros() < u128::from(FOLLOWER_STALE_MICROS)
}

/// Carries out what the machine wants.
struct Work {
    ledger: Ledger,
    driver: Driver<Follow>,
    /// Who decides on the next block.
    roster: Roster,
    asking: Option<JoinHandle<()>>,
    synced: Instant,
    /// Blocks that may not be durable yet.
    unsynced: usize,
}

/// What became of blocks.
struct Applied {
    tip: Header,
    roster: Roster,
    stopped: Option<(Stopped, String)>,
}

impl Work {
    async fn run(mut self, mut stopping: watch::Receiver<bool>) {
        loop {
            let effect = tokio::select! {
                effect = self.driver.next_effect() => effect,
                // An error is a dropped follower: stop as well.
                _ = stopping.changed() => break,
            };
            if let Err(error) = self.perform(effect).await {
                tracing::error!(%error, "the ledger is not followed any more");
                self.ledger.publish(|progress| progress.ended = Some(error.to_string()));
                break;
            }
        }
        if let Some(asking) = self.asking.take() {
            asking.abort();
            // It ends here, so that nobody has the state open any more.
            drop(asking.await);
        }
    }

    async fn perform(&mut self, effect: Effect) -> Result<(), ChainError> {
        match effect {
            Effect::Ask { ask, of, after } => self.ask(ask, of, after),
            Effect::Apply { ask, blocks } => self.apply(ask, blocks).await?,
            Effect::Blame { peer, violation } => {
                tracing::warn!(peer = self.name(&peer), %violation, "a static node breaks the protocol");
            }
        }
        Ok(())
    }

    fn name(&self, member: &PublicKey) -> String {
        self.roster.member(member).map_or_else(|| member.short(), |member| member.label.clone())
    }

    fn ask(&mut self, ask: u64, of: PublicKey, after: Height) {
        let (ledger, events, name) = (self.ledger.clone(), self.driver.sender(), self.name(&of));
        let question = Question::BlocksAfter { after }.encode();
        let asking = tokio::spawn(async move {
            // The machine has its own rests.
            ledger.0.peers.insist(&of);
            let answer = ledger.0.peers.ask_ledger(&of, question).await;
            let blocks = match answer.map(|bytes| Answer::decode_bounded(&bytes)) {
                Ok(Ok(Answer::Blocks(blocks))) => Ok(blocks),
                Ok(_) => Err("answers something else than it was asked".to_owned()),
                Err(error) => Err(error.to_string()),
            };
            let event = match blocks {
                Ok(blocks) => {
                    ledger.publish(|progress| progress.is_reached = true);
                    Event::Answered { ask, blocks }
                }
                Err(reason) => {
                    tracing::debug!(name, reason, "a static node has no blocks for us");
                    ledger.publish(|progress| progress.trouble = Some(format!("{name}: {reason}")));
                    Event::Failed { ask }
                }
            };
            // Nobody waits for it once the follower has ended.
            drop(events.send(event).await);
        });
        if let Some(before) = self.asking.replace(asking) {
            before.abort();
        }
    }

    async fn apply(&mut self, ask: u64, blocks: Vec<FinalBlock>) -> Result<(), ChainError> {
        let chain = self.ledger.0.chain.clone();
        let is_durable = self.takes_sync(blocks.len());
        let work = tokio::task::spawn_blocking(move || apply(&chain, &blocks, is_durable)).await;
        // A panic of the database leaves it unknown what is there.
        let Applied { tip, roster, stopped } = work.map_err(|_| ChainError::Panicked)??;
        if roster.hash() != self.roster.hash() {
            self.ledger.0.peers.follow(&roster_peers(&roster));
            self.roster = roster;
        }
        let trouble = stopped.as_ref().map(|(_, reason)| reason.clone());
        self.ledger.publish(|progress| (progress.tip, progress.trouble) = (tip_of(&tip), trouble));
        let members = self.roster.committee().members().to_vec();
        let stopped = stopped.map(|(stopped, _)| stopped);
        self.driver.handle(Event::Applied { ask, tip: tip.record.height, members, stopped });
        Ok(())
    }

    /// Whether these blocks are to be made durable.
    fn takes_sync(&mut self, blocks: usize) -> bool {
        self.unsynced += blocks;
        let is_due = self.unsynced >= SYNC_BLOCKS || self.synced.elapsed() >= SYNC_INTERVAL;
        if is_due {
            (self.synced, self.unsynced) = (Instant::now(), 0);
        }
        is_due
    }
}

/// Checks blocks one after the other and keeps them, up to the first that is not in order.
fn apply(chain: &LightChain, blocks: &[FinalBlock], is_durable: bool) -> Result<Applied, ChainError> {
    let mut stopped = None;
    for (at, found) in blocks.iter().enumerate() {
        let view = chain.view()?;
        match check_final(view.state(), found, |_| true) {
            Ok(next) => chain.commit(&next.changes, is_durable && at + 1 == blocks.len())?,
            Err(NotFinal::Read(error)) => return Err(error.into()),
            Err(error) => {
                let height = query::tip(view.state())?.record.height.next();
                stopped = Some((reason(&error), format!("block {height}: {error}")));
                break;
            }
        }
    }
    let view = chain.view()?;
    Ok(Applied { tip: query::tip(view.state())?, roster: query::next_roster(view.state())?, stopped })
}

const fn reason(error: &NotFinal) -> Stopped {
    match error {
        NotFinal::Block(violation) | NotFinal::Certificate(violation) => Stopped::Wrong(*violation),
        NotFinal::Disagrees(_) | NotFinal::Read(_) => Stopped::Disagrees,
    }
}
