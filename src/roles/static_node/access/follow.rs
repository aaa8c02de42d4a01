//! What the ledger brings into effect at the access desk, and what of it is fetched from the other static nodes.
//!
//! Blocks are carried out in order, from where the desk was. A node that took a snapshot has no old blocks: then, and at every
//! start, the state tells what there is. Everything here does nothing when it is done again.

mod carry;
mod fetch;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::SyncSender;
use std::time::Duration;

use tokio::sync::{Notify, Semaphore, watch};
use tokio::task::JoinHandle;

use super::handoff::Hands;
use super::{AccessDesk, Unanswered};
use crate::client::ledger::roster_peers;
use crate::ledger::ask::{Answer, Question};
use crate::ledger::follow::height_heard;
use crate::ledger::query;
use crate::message::access::LogHead;
use crate::message::access::desk::{DeskAnswer, DeskRequest};
use crate::message::{Action, Canonical as _};
use crate::net::Peers;
use crate::roles::static_node::keeper::Command;
use crate::store::chain::ChainError;
use crate::types::{Hash, PublicKey, VaultId};

/// The longest rest between two looks at the ledger.
const REST: Duration = Duration::from_secs(2);
/// Between two looks for packages to forget, and at whether the key of what is at rest is to be renewed.
const TIDY_INTERVAL: Duration = Duration::from_secs(600);
/// Between two heads of the access log on the ledger: what is younger a node could still deny having logged.
const HEAD_INTERVAL: Duration = Duration::from_secs(60);
/// Of its time a node spends at most one part in so many on renewals for which owners wait.
const RENEWAL_SHARE: u32 = 20;
/// Between two of them at least.
const RENEWAL_PAUSE: Duration = Duration::from_millis(500);
/// Between two times at which others are asked for the keys that shares for them are sealed to: they change.
const LEARN_INTERVAL: Duration = Duration::from_secs(120);

/// The task that keeps a desk up to date.
#[derive(Debug)]
pub(in crate::roles::static_node) struct Following {
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
    handing: JoinHandle<()>,
}

impl Following {
    /// Begins to follow. Needs a tokio runtime; `news` changes with every block.
    pub(in crate::roles::static_node) fn start(
        desk: AccessDesk,
        [peers, others]: [Peers; 2],
        keeper: SyncSender<Command>,
        news: watch::Receiver<bool>,
    ) -> Self {
        let (stop, stopping) = watch::channel(false);
        let handing = Hands::new(desk.clone(), others, keeper.clone());
        let handing = tokio::spawn(handing.run(news.clone(), stopping.clone()));
        let (wanted, bodies, disk) = (BTreeSet::new(), BTreeMap::new(), Arc::new(Semaphore::new(1)));
        let work = Work { desk, peers, keeper, wanted, bodies, known_for: None, disk };
        Self { stop, task: tokio::spawn(work.run(news, stopping)), handing }
    }

    /// Ends; what it does to the disk is done when this returns.
    pub(in crate::roles::static_node) async fn stop(self) {
        self.stop.send_replace(true);
        for task in [self.task, self.handing] {
            if let Err(error) = task.await {
                tracing::error!(%error, "a task of the access desk panicked");
            }
        }
    }
}

/// When the next renewal may be that owners wait for: each wraps all there is anew, so they are not to follow each other.
#[derive(Debug, Default)]
struct Renewed(Option<tokio::time::Instant>);

impl Renewed {
    /// One that was begun then has just ended.
    fn now(begun: tokio::time::Instant) -> Self {
        Self(Some(tokio::time::Instant::now() + RENEWAL_PAUSE.max(begun.elapsed() * RENEWAL_SHARE)))
    }

    /// Waits until one is wanted and may be.
    async fn wanted(&self, renewal: &Notify) {
        if let Some(until) = self.0 {
            tokio::time::sleep_until(until).await;
        }
        renewal.notified().await;
    }
}

struct Work {
    desk: AccessDesk,
    peers: Peers,
    keeper: SyncSender<Command>,
    /// Vaults of whose key this node has no share, and may have one.
    wanted: BTreeSet<VaultId>,
    /// Bodies of standing grants that are not here, and how often they were asked for.
    bodies: BTreeMap<(VaultId, Hash), u32>,
    /// The static nodes and the period for which the others' keys were learned, and when.
    known_for: Option<(Hash, tokio::time::Instant)>,
    /// Held by what is done on the disk, which goes on when whoever waits for it has gone.
    disk: Arc<Semaphore>,
}

impl Work {
    async fn run(mut self, mut news: watch::Receiver<bool>, mut stopping: watch::Receiver<bool>) {
        let (mut tidied, mut anchored) = (tokio::time::Instant::now(), tokio::time::Instant::now());
        let (mut reconciled, mut renewed) = (false, Renewed::default());
        let renewal = Arc::clone(&self.desk.0);
        loop {
            let round = async {
                if let Err(error) = self.round(&mut reconciled).await {
                    tracing::error!(%error, "the access desk cannot follow the ledger; it is tried again");
                }
                if anchored.elapsed() >= HEAD_INTERVAL {
                    anchored = tokio::time::Instant::now();
                    if let Err(error) = self.desk.log_head_to_say().map(|head| self.say(head)) {
                        tracing::error!(%error, "the head of the access log cannot be read");
                    }
                }
                if tidied.elapsed() >= TIDY_INTERVAL {
                    tidied = tokio::time::Instant::now();
                    if let Err(error) = self.tidy().await {
                        tracing::error!(%error, "the access desk cannot tidy up; it is tried again");
                    }
                }
            };
            tokio::select! {
                () = round => {}
                _ = stopping.changed() => break,
            }
            tokio::select! {
                _ = tokio::time::timeout(REST, news.changed()) => {}
                () = renewed.wanted(&renewal.renewal) => self.renew(&mut renewed).await,
                _ = stopping.changed() => break,
            }
        }
        // What was under way on the disk ends before the node does.
        drop(self.disk.acquire().await);
    }

    async fn on_disk<T: Send + 'static>(
        &self,
        work: impl FnOnce(&AccessDesk) -> Result<T, Unanswered> + Send + 'static,
    ) -> Result<T, Unanswered> {
        let desk = self.desk.clone();
        in_turn(&self.disk, move || work(&desk)).await
    }

    /// Renews the key of what is at rest, for which owners wait.
    async fn renew(&mut self, renewed: &mut Renewed) {
        let begun = tokio::time::Instant::now();
        let erased = self.desk.0.erased.swap(false, Ordering::AcqRel);
        let done = self.on_disk(|desk| Ok(desk.0.store.renew_key()?)).await;
        if let Err(error) = &done {
            tracing::error!(%error, "the key of what is at rest cannot be renewed; it is tried again");
        }
        self.desk.erased(erased && done.is_err());
        *renewed = Renewed::now(begun);
    }

    /// Has a head of the access log put on the ledger. If the keeper is busy the next one says as much.
    fn say(&self, head: Option<LogHead>) {
        if let Some(head) = head {
            drop(self.keeper.try_send(Command::Say(Box::new(Action::LogHead(head)))));
        }
    }

    async fn round(&mut self, reconciled: &mut bool) -> Result<(), Unanswered> {
        self.learn_height().await?;
        let anew = !*reconciled;
        let carried = self.on_disk(move |desk| desk.carry_out(anew)).await?;
        self.wanted.append(&mut self.desk.wants());
        *reconciled = true;
        self.learn_keys().await?;
        self.wanted.extend(carried.wanted);
        for body in carried.bodies {
            self.bodies.entry(body).or_default();
        }
        for opening in self.on_disk(AccessDesk::openings_to_say).await? {
            // If the keeper is busy the next round says it.
            drop(self.keeper.try_send(Command::Say(Box::new(Action::EmergencyOpened(opening)))));
        }
        self.fetch().await?;
        self.fetch_bodies().await
    }

    /// Until it is known what the others have, nothing is opened: a state that was restored from a copy may not know of
    /// revocations.
    async fn learn_height(&self) -> Result<(), Unanswered> {
        if self.desk.0.is_current.load(Ordering::Acquire) {
            return Ok(());
        }
        let view = self.desk.0.chain.view()?;
        let roster = query::next_roster(&view)?;
        self.peers.follow(&roster_peers(&roster));
        let (own, tip) = (self.desk.0.key.public(), query::tip(&view)?.record.height);
        let mut heights = vec![tip];
        for key in roster.committee().members().iter().filter(|key| **key != own) {
            if let Ok(answer) = self.peers.ask_ledger(key, Question::Height.encode()).await
                && let Ok(Answer::Height(height)) = Answer::decode_bounded(&answer)
            {
                heights.push(height);
            }
        }
        let heard = height_heard(&heights, roster.committee());
        let at = query::tip(&self.desk.0.chain.view()?)?.record.height;
        if heard.is_some_and(|heard| heard <= at) {
            self.desk.set_current();
        }
        Ok(())
    }

    /// Learns the keys to which shares for the others are sealed, while they are there.
    async fn learn_keys(&mut self) -> Result<(), Unanswered> {
        let known = self.desk.0.store.view()?.peer_keys()?;
        let view = self.desk.0.chain.view()?;
        let roster = query::next_roster(&view)?;
        let (own, network) = (self.desk.0.key.public(), self.desk.0.network);
        let mark = crate::ledger::handoff::mark(&view)?;
        let is_fresh = |(of, at): (Hash, tokio::time::Instant)| of == mark && at.elapsed() < LEARN_INTERVAL;
        let anew = !self.known_for.is_some_and(is_fresh);
        if anew {
            self.known_for = Some((mark, tokio::time::Instant::now()));
        }
        let is_known = |key: &PublicKey| *key == own || (!anew && known.iter().any(|(node, _)| node == key));
        for key in roster.committee().members().iter().filter(|key| !is_known(key)) {
            self.peers.follow(&roster_peers(&roster));
            let Ok(answer) = self.peers.access(key, DeskRequest::SealKey.encode()).await else { continue };
            if let Ok(DeskAnswer::SealKey(signed)) = DeskAnswer::decode(&answer)
                && signed.verify(&network, key).is_ok()
            {
                let node = *key;
                self.on_disk(move |desk| Ok(desk.0.store.keep_peer_key(&node, &signed)?)).await?;
            }
        }
        Ok(())
    }

    async fn tidy(&self) -> Result<(), Unanswered> {
        let erased = self.desk.0.erased.swap(false, Ordering::AcqRel);
        let tidied = self.on_disk(move |desk| {
            desk.forget_packages()?;
            desk.forget_emergencies()?;
            if erased {
                desk.0.store.renew_key()?;
            }
            Ok(())
        });
        let tidied = tidied.await;
        self.desk.erased(erased && tidied.is_err());
        tidied
    }
}

/// Does something on the disk, one at a time: it goes on when whoever waits for it has gone.
pub(super) async fn in_turn<T: Send + 'static>(
    disk: &Arc<Semaphore>,
    work: impl FnOnce() -> Result<T, Unanswered> + Send + 'static,
) -> Result<T, Unanswered> {
    let panicked = || Unanswered::Chain(ChainError::Panicked);
    let held = Arc::clone(disk).acquire_owned().await.map_err(|_| panicked())?;
    let job = tokio::task::spawn_blocking(move || {
        let done = work();
        drop(held);
        done
    });
    job.await.map_err(|_| panicked())?
}
