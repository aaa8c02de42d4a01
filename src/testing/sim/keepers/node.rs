//! One static node: its keeper and what it reads, on a disk that may lose power, with a mailbox for an outside.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{oneshot, watch};

use crate::consensus::{Timing, To};
use crate::crypto::ml_dsa::PqKeyPair;
use crate::crypto::sign::KeyPair;
use crate::ledger::ask::{Answer, Fate, Question};
use crate::ledger::query;
use crate::message::{Canonical as _, Genesis, Member, Roster};
use crate::roles::static_node::keeper::outside::{Letter, Outside};
use crate::roles::static_node::keeper::{Keeper, KeeperError, Parts};
use crate::roles::static_node::library::Library;
use crate::roles::static_node::shared::Shared;
use crate::roles::static_node::snapshots::Snapshots;
use crate::store::chain::Chain;
use crate::store::disk::Disk as _;
use crate::store::wal::{FILE as WAL_FILE, Wal, WalError};
use crate::testing::{MemDisk, Survivors};
use crate::types::{Height, PublicKey, Timestamp, TransactionId};

/// Room on a node's disk.
const ROOM: u64 = 1 << 30;
/// Keys that a place may have one after the other.
pub(super) const GENERATIONS: u8 = 16;

/// The secret of a place's nth key.
fn secret(number: usize, generation: u8) -> [u8; 32] {
    *blake3::hash(&[b"static node", &number.to_le_bytes()[..], &[generation]].concat()).as_bytes()
}

/// A place's nth key.
pub(super) fn key(number: usize, generation: u8) -> KeyPair {
    KeyPair::from_secret(&secret(number, generation))
}

/// What the ledger says of it.
pub(super) fn member(number: usize, generation: u8) -> Member {
    Member {
        key: key(number, generation).public(),
        pq_key: Box::new(*PqKeyPair::from_node_secret(&secret(number, generation)).public()),
        label: format!("static-{number}-{generation}"),
        operator: format!("operator-{number}"),
        address: ([127, 0, 0, 1], 4_000 + number as u16).into(),
    }
}

/// What a keeper sends, until the world takes it.
struct Mail {
    own: PublicKey,
    now: Timestamp,
    /// The static nodes but this one.
    others: BTreeSet<PublicKey>,
    /// Who was asked last of those that are asked in turn.
    asked: Option<PublicKey>,
    sent: Vec<(PublicKey, Letter)>,
    /// Power is lost before as many more letters are sent.
    fuse: Option<u64>,
    disk: MemDisk,
}

/// The outside of a keeper: clones are the same.
#[derive(Clone)]
pub(super) struct Mailbox(Arc<Mutex<Mail>>);

impl Mailbox {
    fn mail(&self) -> MutexGuard<'_, Mail> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Mail {
    fn post(&mut self, to: PublicKey, letter: Letter) {
        match &mut self.fuse {
            Some(0) => self.disk.lose_power(),
            Some(left) => *left -= 1,
            None => {}
        }
        if !self.disk.is_down() {
            self.sent.push((to, letter));
        }
    }
}

impl Outside for Mailbox {
    fn now(&self) -> Timestamp {
        self.mail().now
    }

    fn wall_time(&self) -> Timestamp {
        self.mail().now
    }

    fn follow(&mut self, roster: &Roster) {
        let mut mail = self.mail();
        let own = mail.own;
        mail.others = roster.committee().members().iter().copied().filter(|key| *key != own).collect();
    }

    fn send(&mut self, to: To, letter: Letter) {
        let mut mail = self.mail();
        match to {
            To::All => {
                for key in mail.others.clone() {
                    mail.post(key, letter.clone());
                }
            }
            To::One(key) if mail.others.contains(&key) => mail.post(key, letter),
            To::One(_) => {}
        }
    }

    fn turn(&mut self) -> Option<PublicKey> {
        let mut mail = self.mail();
        let later = mail.others.iter().find(|key| Some(**key) > mail.asked).copied();
        mail.asked = later.or_else(|| mail.others.first().copied());
        mail.asked
    }
}

/// Somebody who waits for what becomes of a transaction.
pub(super) struct Waiting {
    pub(super) client: usize,
    pub(super) id: TransactionId,
    pub(super) fate: oneshot::Receiver<Fate>,
}

/// A node that has power.
pub(super) struct Alive {
    pub(super) keeper: Keeper,
    pub(super) library: Library,
    pub(super) waiting: Vec<Waiting>,
    mail: Mailbox,
}

impl Alive {
    /// Sets the keeper's clock.
    pub(super) fn set_now(&self, now: Timestamp) {
        self.mail.mail().now = now;
    }

    /// What it has sent since the last time.
    pub(super) fn sent(&self) -> Vec<(PublicKey, Letter)> {
        std::mem::take(&mut self.mail.mail().sent)
    }

    /// From how many letters on it loses power; never, for none.
    pub(super) fn set_fuse(&self, letters: Option<u64>) {
        self.mail.mail().fuse = letters;
    }

    /// The height of its last block.
    pub(super) fn tip(&self) -> Result<Height, String> {
        let tip = self.library.chain.view().and_then(|view| view.tip()).map_err(|error| error.to_string())?;
        Ok(tip.record.height)
    }

    /// Asks it something, as anybody would: by bytes.
    pub(super) fn ask(&self, question: &[u8], now: Timestamp) -> Result<Vec<u8>, String> {
        let question =
            Question::decode(question).map_err(|violation| format!("a question that is {violation}"))?;
        let answer = self.library.answer(&question, now).map_err(|error| format!("{question:?}: {error}"))?;
        Ok(answer.encode())
    }
}

/// Reads an answer that comes from an honest node.
pub(super) fn read(answer: &[u8]) -> Result<Answer, String> {
    Answer::decode_bounded(answer).map_err(|violation| format!("an answer that is {violation}"))
}

/// What all nodes have in common.
pub(super) struct Common {
    pub(super) genesis: Arc<Genesis>,
    pub(super) timing: Timing,
    pub(super) snapshot_gap: u64,
}

/// A place for a static node.
pub(super) struct Node {
    pub(super) number: usize,
    /// Which of its keys it uses: the next one waits for the ledger to know it.
    pub(super) generation: u8,
    pub(super) disk: MemDisk,
    /// `None` while it is down.
    pub(super) alive: Option<Alive>,
    /// How often it has started: answers to an earlier life do not reach this one.
    pub(super) boot: u32,
    /// By how much its clock is ahead.
    pub(super) skew: Duration,
    /// The newest block of which it told anybody that it has it.
    pub(super) spoke_of: Height,
    /// Up to where the checker knows its blocks.
    pub(super) seen: Height,
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Node({}, key {}, boot {})", self.number, self.generation, self.boot)
    }
}

impl Node {
    pub(super) fn new(number: usize, skew: Duration) -> Self {
        let (spoke_of, seen) = (Height::GENESIS, Height::GENESIS);
        let disk = MemDisk::new(ROOM);
        Self { number, generation: 0, disk, alive: None, boot: 0, skew, spoke_of, seen }
    }

    pub(super) fn key(&self) -> PublicKey {
        key(self.number, self.generation).public()
    }

    /// The later key of its place that votes while its own does not, if one does.
    pub(super) fn successor(&self, is_voter: impl Fn(&PublicKey) -> bool) -> Option<u8> {
        let mut later = self.generation + 1..GENERATIONS;
        let next = later.find(|generation| is_voter(&key(self.number, *generation).public()));
        next.filter(|_| !is_voter(&self.key()))
    }

    /// Opens what is on the disk; answers the log with which the keeper is to start.
    pub(super) fn open(&mut self, common: &Common, now: Timestamp) -> Result<Vec<Vec<u8>>, KeeperError> {
        let genesis = Arc::clone(&common.genesis);
        let chain = Chain::open(&self.disk, &genesis)?;
        let voters = query::next_roster(&chain.view()?)?;
        if let Some(next) = self.successor(|key| voters.committee().contains(key)) {
            self.set_log_aside()?;
            self.generation = next;
        }
        let (wal, log) = Wal::open(&self.disk)?;
        let own = self.key();
        let (others, disk) = (BTreeSet::new(), self.disk.clone());
        let mail = Mail { own, now, others, asked: None, sent: Vec::new(), fuse: None, disk };
        let mail = Mailbox(Arc::new(Mutex::new(mail)));
        let shared = Arc::<Shared>::default();
        let snapshots = Arc::new(Snapshots::new(genesis.network, chain.clone()));
        let keeper = Keeper::new(Parts {
            genesis,
            key: key(self.number, self.generation),
            chain: chain.clone(),
            wal,
            outside: Box::new(mail.clone()),
            shared: Arc::clone(&shared),
            timing: common.timing,
            snapshot_gap: common.snapshot_gap,
            snapshots: Arc::clone(&snapshots),
            voters: watch::channel(None).0,
        });
        let library = Library { chain, shared, snapshots };
        self.alive = Some(Alive { keeper, library, waiting: Vec::new(), mail });
        Ok(log)
    }

    /// As a node's folder does with the log of a key that is over.
    fn set_log_aside(&self) -> Result<(), WalError> {
        let moved = match self.disk.rename(WAL_FILE, &format!("{WAL_FILE}.{}", self.generation)) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
            moved => moved.and_then(|()| self.disk.sync_dir()),
        };
        moved.map_err(|source| WalError::Disk { during: "setting aside", source })
    }

    /// Power is lost.
    pub(super) fn crash(&mut self, survivors: Survivors) {
        self.disk.lose_power();
        self.alive = None;
        self.boot += 1;
        self.disk = self.disk.after_power_loss(survivors);
    }

    /// Throws the consensus log away.
    pub(super) fn lose_log(&self) {
        drop(self.disk.remove(WAL_FILE));
    }
}
