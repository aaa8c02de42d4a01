//! What a static node says to the others: a queue and a task for each, so that one that is slow or gone holds
//! up nobody else.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc::{self, error::TrySendError};
use tokio::task::JoinSet;

use crate::consensus::To;
use crate::ledger::ask::{Answer, Question};
use crate::message::Canonical as _;
use crate::net::Peers;
use crate::roles::static_node::keeper::Command;
use crate::types::{Height, PublicKey};

/// Messages that wait for one peer. More than a node says of sixteen heights: one that does not take them
/// in time has lost its connection, and asks when it is back.
const QUEUE_LEN: usize = 512;
/// Between two attempts to reach a peer that is gone.
const RETRY: Duration = Duration::from_millis(500);

enum Letter {
    Consensus(Bytes),
    Cosign(Height, Vec<u8>),
    Fetch(Height),
}

/// The queues.
#[derive(Debug)]
pub(super) struct Outbox {
    queues: BTreeMap<PublicKey, mpsc::Sender<Letter>>,
    /// Aborted when dropped.
    _tasks: JoinSet<()>,
}

impl std::fmt::Debug for Letter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Letter")
    }
}

impl Outbox {
    /// A queue for each peer. Needs a tokio runtime.
    pub(super) fn start(
        peers: &Peers,
        keys: impl IntoIterator<Item = PublicKey>,
        keeper: &std::sync::mpsc::SyncSender<Command>,
    ) -> Self {
        let (mut queues, mut tasks) = (BTreeMap::new(), JoinSet::new());
        for key in keys {
            let (letters, queue) = mpsc::channel(QUEUE_LEN);
            let postman = Postman { peers: peers.clone(), to: key, keeper: keeper.clone() };
            tasks.spawn(postman.run(queue));
            queues.insert(key, letters);
        }
        Self { queues, _tasks: tasks }
    }

    /// Says something of consensus.
    pub(super) fn consensus(&self, to: To, message: &Bytes) {
        match to {
            To::All => {
                self.queues
                    .iter()
                    .for_each(|(key, queue)| post(key, queue, Letter::Consensus(message.clone())));
            }
            To::One(key) => self.one(&key, Letter::Consensus(message.clone())),
        }
    }

    /// Gives everybody a cosignature.
    pub(super) fn cosign(&self, height: Height, signed: &[u8]) {
        for (key, queue) in &self.queues {
            post(key, queue, Letter::Cosign(height, signed.to_vec()));
        }
    }

    /// Fetches blocks from a height on; they come as [`Command::Synced`].
    pub(super) fn fetch(&self, from: Height, peer: &PublicKey) {
        self.one(peer, Letter::Fetch(from));
    }

    fn one(&self, key: &PublicKey, letter: Letter) {
        if let Some(queue) = self.queues.get(key) {
            post(key, queue, letter);
        }
    }
}

fn post(key: &PublicKey, queue: &mpsc::Sender<Letter>, letter: Letter) {
    if let Err(TrySendError::Full(_)) = queue.try_send(letter) {
        tracing::debug!(peer = %key.short(), "a static node does not take its messages");
    }
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
                    // All that waits is as old: it would find nobody either.
                    while queue.try_recv().is_ok() {}
                    tokio::time::sleep(RETRY).await;
                }
            }
        }
    }

    async fn deliver(&self, letter: Letter) -> Result<(), crate::net::CallError> {
        match letter {
            Letter::Consensus(message) => self.peers.consensus(&self.to, message).await,
            Letter::Cosign(height, signed) => self.peers.cosign(&self.to, height, signed).await,
            Letter::Fetch(from) => {
                let answer = self.peers.ask_ledger(&self.to, Question::Blocks { from }.encode()).await?;
                match Answer::decode_bounded(&answer) {
                    Ok(Answer::Blocks(blocks)) => self.tell(Command::Synced { from: self.to, blocks }),
                    other => tracing::warn!(peer = %self.to.short(), ?other, "no blocks came"),
                }
                Ok(())
            }
        }
    }

    /// The keeper's queue is bounded: what does not fit is asked for again.
    fn tell(&self, command: Command) {
        drop(self.keeper.try_send(command));
    }
}
