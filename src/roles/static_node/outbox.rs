//! What a static node says to the others: a queue and a task for each, so that one that is slow or gone holds
//! up nobody else.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::mpsc::{self, error::TrySendError};
use tokio::task::JoinSet;

use crate::client::ledger::roster_peers;
use crate::consensus::To;
use crate::ledger::ask::Answer;
use crate::message::{Canonical as _, RefusalCode, Roster, Violation};
use crate::net::{CallError, Peers};
use crate::roles::static_node::keeper::Command;
use crate::roles::static_node::keeper::outside::{Ask, Letter, Outside};
use crate::runtime::{Clock, wall_time};
use crate::types::{PublicKey, Timestamp};

/// Messages that wait for one peer. More than a node says of sixteen heights: one that does not take them
/// in time has lost its connection, and asks when it is back.
const QUEUE_LEN: usize = 512;
/// Between two attempts to reach a peer that is gone.
const RETRY: Duration = Duration::from_millis(500);

/// The queues: one for each static node that votes now, but this one.
#[derive(Debug)]
pub(super) struct Outbox {
    own: PublicKey,
    peers: Peers,
    keeper: std::sync::mpsc::SyncSender<Command>,
    runtime: Handle,
    clock: Clock,
    queues: BTreeMap<PublicKey, mpsc::Sender<Letter>>,
    /// Who was asked last of those that are asked in turn.
    asked: Option<PublicKey>,
    /// Aborted when dropped.
    tasks: JoinSet<()>,
}

impl Outbox {
    /// Nobody to tell anything to yet: see [`follow`](Outside::follow).
    pub(super) fn new(
        own: PublicKey,
        peers: Peers,
        keeper: std::sync::mpsc::SyncSender<Command>,
        runtime: Handle,
    ) -> Self {
        let (queues, tasks) = (BTreeMap::new(), JoinSet::new());
        Self { own, peers, keeper, runtime, clock: Clock::new(), queues, asked: None, tasks }
    }
}

impl Outside for Outbox {
    fn now(&self) -> Timestamp {
        self.clock.now()
    }

    fn wall_time(&self) -> Timestamp {
        wall_time()
    }

    /// From here on these are the static nodes. Who stays keeps its queue, who leaves is called no more.
    fn follow(&mut self, roster: &Roster) {
        let committee = roster.committee();
        self.peers.follow(&roster_peers(roster));
        // Without its queue a postman ends.
        self.queues.retain(|key, _| committee.contains(key));
        while self.tasks.try_join_next().is_some() {}
        for key in committee.members().iter().filter(|key| **key != self.own) {
            if !self.queues.contains_key(key) {
                let (letters, queue) = mpsc::channel(QUEUE_LEN);
                let (peers, keeper) = (self.peers.clone(), self.keeper.clone());
                self.tasks.spawn_on(Postman { peers, to: *key, keeper }.run(queue), &self.runtime);
                self.queues.insert(*key, letters);
            }
        }
    }

    fn send(&mut self, to: To, letter: Letter) {
        match to {
            To::All => self.queues.iter().for_each(|(key, queue)| post(key, queue, letter.clone())),
            To::One(key) => {
                if let Some(queue) = self.queues.get(&key) {
                    post(&key, queue, letter);
                }
            }
        }
    }

    fn turn(&mut self) -> Option<PublicKey> {
        let mut later = self.queues.keys().filter(|key| Some(**key) > self.asked);
        self.asked = later.next().or_else(|| self.queues.keys().next()).copied();
        self.asked
    }
}

fn post(key: &PublicKey, queue: &mpsc::Sender<Letter>, letter: Letter) {
    if let Err(TrySendError::Full(_)) = queue.try_send(letter) {
        tracing::debug!(peer = %key.short(), "a static node does not take its messages");
    }
}

/// Whether the peer does not take this node for a static node. One of the two knows of a change that the other does not.
fn is_stranger(error: &CallError) -> bool {
    let stranger = RefusalCode::Violation(Violation::NotAMember);
    matches!(error, CallError::Refused(refusal) if refusal.code == stranger)
}

/// Brings one peer its letters, in order.
struct Postman {
    peers: Peers,
    to: PublicKey,
    keeper: std::sync::mpsc::SyncSender<Command>,
}

impl Postman {
    async fn run(self, mut queue: mpsc::Receiver<Letter>) {
        let mut connected = false;
        while let Some(letter) = queue.recv().await {
            match self.deliver(letter).await {
                Ok(()) if !connected => {
                    connected = true;
                    // What was said while it was gone is lost: consensus says the last of it again.
                    self.tell(Command::Connected { peer: self.to });
                }
                Ok(()) => {}
                Err(error) => {
                    tracing::debug!(peer = %self.to.short(), %error, "a message to a static node is lost");
                    connected = false;
                    if is_stranger(&error) {
                        self.tell(Command::Refused { peer: self.to });
                    }
                    // All that waits is as old: it would find nobody either.
                    while queue.try_recv().is_ok() {}
                    tokio::time::sleep(RETRY).await;
                }
            }
        }
    }

    async fn deliver(&self, letter: Letter) -> Result<(), CallError> {
        match letter {
            Letter::Consensus(message) => self.peers.consensus(&self.to, message).await,
            Letter::Cosign(height, signed) => self.peers.cosign(&self.to, height, signed.to_vec()).await,
            Letter::Ask(ask) => self.ask(&ask).await,
        }
    }

    async fn ask(&self, ask: &Ask) -> Result<(), CallError> {
        let asked = self.peers.ask_ledger(&self.to, ask.question().encode()).await;
        let answer = asked.as_ref().ok().and_then(|bytes| match Answer::decode_bounded(bytes) {
            Ok(answer) => Some(answer),
            Err(violation) => {
                tracing::warn!(peer = %self.to.short(), %violation, "an answer that is none");
                None
            }
        });
        if let Some(command) = ask.answered(self.to, answer) {
            self.tell(command);
        }
        asked.map(drop)
    }

    /// The keeper's queue is bounded: what does not fit is asked for again.
    fn tell(&self, command: Command) {
        drop(self.keeper.try_send(command));
    }
}
