//! Handing vaults' keys on when the static nodes change, and sharing them anew from time to time.
//!
//! A task beside the one that follows the ledger. What is done when is decided by a machine
//! ([`ledger::handoff::machine`](crate::ledger::handoff::machine)); what it wants done with the disk and the node's secrets is here and in `deal`
//! and `take`, and what others ask of the desk meanwhile in `desk`. The ledger says what is due, whose dealings
//! count and when a new sharing is in effect; a crash at any line leaves a node that goes on from what the ledger and its store
//! say, since it says nothing there that is not durable here.

mod deal;
mod desk;
mod take;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::SyncSender;
use std::time::Duration;

use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::JoinSet;

use super::follow::in_turn;
use super::{AccessDesk, Unanswered};
use crate::client::ledger::roster_peers;
use crate::ledger::ask::{Answer, Fate};
use crate::ledger::handoff;
use crate::ledger::handoff::machine::{CALL_PATIENCE, Done, Effect, Event, HandingOn, Task};
use crate::ledger::query;
use crate::ledger::rows::ACCESS;
use crate::message::access::desk::{DeskAnswer, DeskRequest};
use crate::message::transaction::Lane;
use crate::message::{Action, Canonical as _, Roster, Transaction};
use crate::net::Peers;
use crate::roles::static_node::keeper::Command;
use crate::runtime::Driver;
use crate::store::chain::View;
use crate::types::{Hash, Height, Timestamp};

/// Blocks for which what is said is good.
const LIFE: u64 = 1_000;
/// A package that no handoff names is kept for so long: it may be named yet.
const PACKAGE_LIFE: Duration = Duration::from_secs(3_600);
/// A key that others sealed to is kept for so long after it was replaced: a package that is sealed to it may be named yet, and
/// none is taken any more half of this after.
pub(super) const FORMER_KEY_LIFE: Duration = Duration::from_secs(2 * 3_600);

/// What drives the machine: it has the desk, and a line to the other static nodes.
pub(super) struct Hands {
    desk: AccessDesk,
    peers: Peers,
    keeper: SyncSender<Command>,
    /// Held by what is done on the disk, which goes on when whoever waits for it has gone.
    disk: Arc<Semaphore>,
}

impl Hands {
    pub(super) fn new(desk: AccessDesk, peers: Peers, keeper: SyncSender<Command>) -> Self {
        Self { desk, peers, keeper, disk: Arc::new(Semaphore::new(1)) }
    }

    pub(super) async fn run(self, mut news: watch::Receiver<bool>, mut stopping: watch::Receiver<bool>) {
        let machine = HandingOn::new(self.desk.0.network, self.desk.0.key.public());
        let mut driver = Driver::new(machine, self.desk.0.clock);
        loop {
            let effect = tokio::select! {
                effect = driver.next_effect() => effect,
                changed = news.changed() => {
                    if changed.is_err() {
                        break;
                    }
                    driver.handle(Event::News);
                    continue;
                }
                _ = stopping.changed() => break,
            };
            let events = driver.sender();
            tokio::select! {
                event = self.carry_out(effect, events) => event.into_iter().for_each(|event| driver.handle(event)),
                _ = stopping.changed() => break,
            }
        }
        // What was under way on the disk ends before the node does.
        drop(self.disk.acquire().await);
    }

    /// Carries an effect out, in its turn; what came of it, if that is known at once.
    async fn carry_out(&self, effect: Effect, events: mpsc::Sender<Event>) -> Option<Event> {
        match effect {
            Effect::Do(task) => {
                let desk = self.desk.clone();
                let done = in_turn(&self.disk, move || desk.carry_out_task(task)).await;
                return Some(done.map_or_else(
                    |error| {
                        tracing::error!(%error, "keys cannot be handed on; it is tried again");
                        Event::Failed
                    },
                    Event::Done,
                ));
            }
            Effect::Ask { call, of, request } => self.ask(call, &of, &request, &events),
            Effect::Say(action) => {
                if let Err(error) = self.say(*action).await {
                    tracing::error!(%error, "the ledger cannot be told of a handoff; it is tried again");
                }
            }
            Effect::Note(note) => tracing::warn!("{note}"),
        }
        None
    }

    /// Has something put on the ledger by this node, whether it votes or not.
    async fn say(&self, action: Action) -> Result<(), Unanswered> {
        let view = self.desk.0.chain.view()?;
        let (roster, own) = (query::next_roster(&view)?, self.desk.0.key.public());
        if roster.committee().contains(&own) {
            // If the keeper is busy it is said again after a while.
            drop(self.keeper.try_send(Command::Say(Box::new(action))));
            return Ok(());
        }
        let nonce = query::next_nonce(&view, &Lane::Author(own))?;
        let expires = Height(query::tip(&view)?.record.height.0 + LIFE);
        let network = self.desk.0.network;
        let signed = Transaction { network, author: own, nonce, expires, action }.sign(&self.desk.0.key);
        self.peers.follow(&roster_peers(&roster));
        let mut asked = JoinSet::new();
        for member in roster.members() {
            let (peers, key, bytes) = (self.peers.clone(), member.key, signed.bytes().to_vec());
            asked.spawn(async move {
                let answer = tokio::time::timeout(CALL_PATIENCE, peers.submit(&key, bytes)).await;
                let Ok(Ok(answer)) = answer else { return None };
                Answer::decode_bounded(&answer).ok()
            });
        }
        while let Some(answered) = asked.join_next().await {
            match answered {
                Ok(Some(Answer::Fate(Fate::Final(_)))) => return Ok(()),
                Ok(Some(Answer::Fate(Fate::Rejected(rejection)))) => {
                    tracing::debug!(%rejection, "what this node said of a handoff is not taken");
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Asks the desks of a roster's other members at once; each answer goes to the machine as it comes.
    fn ask(&self, call: u64, of: &Roster, request: &DeskRequest, events: &mpsc::Sender<Event>) {
        self.peers.follow(&roster_peers(of));
        let own = self.desk.0.key.public();
        let bytes = request.encode();
        for from in of.committee().members().iter().copied().filter(|key| *key != own) {
            let (peers, bytes, events) = (self.peers.clone(), bytes.clone(), events.clone());
            tokio::spawn(async move {
                let answer = match tokio::time::timeout(CALL_PATIENCE, peers.access(&from, bytes)).await {
                    Ok(Ok(bytes)) => DeskAnswer::decode(&bytes).ok(),
                    Ok(Err(error)) => {
                        let peer = from.short();
                        tracing::debug!(%peer, %error, "a static node does not do its part of a handoff");
                        None
                    }
                    Err(_) => None,
                };
                // If the machine is gone nobody waits for it.
                drop(events.send(Event::Answered { call, from, answer }).await);
            });
        }
    }
}

impl AccessDesk {
    /// The same for a simulator.
    #[cfg(any(test, feature = "testing"))]
    pub(crate) fn hand_on(&self, task: Task) -> Result<Done, String> {
        self.carry_out_task(task).map_err(|error| error.to_string())
    }

    /// The part of the machine's effects that needs the disk, secrets or random numbers. Blocks.
    fn carry_out_task(&self, task: Task) -> Result<Done, Unanswered> {
        Ok(match task {
            Task::Look { known } => self.look(known)?,
            Task::Deal { roster, of, duties, keys } => Done::Dealt(self.deal(roster, of, duties, keys)?),
            Task::Open { package, dealt, fetched } => {
                let view = self.0.chain.view()?;
                if let Some(bytes) = fetched {
                    self.0.store.keep_handoff(&package, &dealt.dealer, &bytes, self.0.clock.now())?;
                }
                Done::Opened(self.open_handoff(&view, package, &dealt)?)
            }
            Task::Keep(ready) => {
                self.0.store.keep_candidates(&ready)?;
                self.settle_candidates(&ready)?;
                Done::Kept
            }
            Task::Tidy { mark, forget } => {
                if forget {
                    self.forget_handoffs()?;
                }
                self.renew_seal_key(&mark)?;
                Done::Tidied
            }
        })
    }

    /// What there is to do; none if nothing has changed since the look of a mark.
    fn look(&self, known: Option<Hash>) -> Result<Done, Unanswered> {
        let mut nonce = [0; 16];
        self.0.store.draw(&mut nonce)?;
        let stirred = self.0.stirred.swap(false, Ordering::AcqRel);
        let (view, store) = (self.0.chain.view()?, self.0.store.view()?);
        if known.filter(|_| !stirred) == Some(handoff::mark(&view)?) {
            return Ok(Done::Looked { look: None, bad: Vec::new(), nonce });
        }
        let has_share = |vault: &_, of| Ok::<_, Unanswered>(store.has_share(vault, of)?);
        let look = handoff::look(&view, &self.0.key.public(), has_share)?;
        *self.care() = look.care;
        Ok(Done::Looked { look: Some(Box::new(look)), bad: self.bad_to_reject(&view)?, nonce })
    }

    /// Another key to be sealed to, unless the one of now was made under this mark. Former ones go when nothing that is sealed
    /// to them can come into effect any more.
    fn renew_seal_key(&self, mark: &Hash) -> Result<(), Unanswered> {
        let now = self.0.clock.now();
        let renewed = self.0.store.renew_seal_key(mark, now)?;
        let life = u64::try_from(FORMER_KEY_LIFE.as_micros()).unwrap_or(u64::MAX);
        let before = Timestamp::from_unix_micros(now.unix_micros().saturating_sub(life));
        let forgotten = self.0.store.forget_seal_keys(before)?;
        if renewed || forgotten > 0 {
            self.learn_own_keys()?;
        }
        if forgotten > 0 {
            self.0.erased.store(true, Ordering::Release);
        }
        Ok(())
    }

    /// Forgets packages of handoffs that are over, and those that were never named.
    fn forget_handoffs(&self) -> Result<(), Unanswered> {
        let view = self.0.chain.view()?;
        let life = u64::try_from(PACKAGE_LIFE.as_micros()).unwrap_or(u64::MAX);
        let before = Timestamp::from_unix_micros(self.0.clock.now().unix_micros().saturating_sub(life));
        let mut gone = Vec::new();
        let store = self.0.store.view()?;
        for kept in store.handoffs()? {
            if handoff::DEALT.contains(&view, &kept.hash)? {
                continue;
            }
            if kept.since < before || is_over(&view, &store.handoff(&kept.hash)?.unwrap_or_default())? {
                gone.push(kept.hash);
            }
        }
        if self.0.store.forget_handoffs(&gone)? > 0 {
            self.0.erased.store(true, Ordering::Release);
        }
        Ok(())
    }
}

/// Whether every sharing that a package hands on was followed by another.
fn is_over(view: &View, bytes: &[u8]) -> Result<bool, Unanswered> {
    let Ok(package) = crate::message::access::HandoffPackage::decode_bounded(bytes) else { return Ok(true) };
    for handed in package.handed() {
        let sharing = ACCESS.get(view, &handed.vault)?.map(|access| access.sharing);
        if sharing.is_some_and(|now| (now.dealing, now.epoch) <= (handed.dealing, handed.epoch)) {
            return Ok(false);
        }
    }
    Ok(true)
}
