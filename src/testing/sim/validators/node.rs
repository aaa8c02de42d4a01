//! One static node: the machine, its log and its chain on a disk that forgets what was not synced.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;

use crate::consensus::{Consensus, Event, Settings, WalEntry};
use crate::message::CommitCertificate;
use crate::testing::sim::rng::Rng;
use crate::testing::sim::validators::rogue::Rogue;
use crate::types::{BlockId, Height, PublicKey};

/// A log on a disk.
#[derive(Debug, Default)]
pub(super) struct Wal {
    synced: Vec<WalEntry>,
    /// Written, but a crash may take it.
    written: Vec<WalEntry>,
}

impl Wal {
    pub(super) fn append(&mut self, entry: WalEntry) {
        self.written.push(entry);
    }

    pub(super) fn flush(&mut self) {
        self.synced.append(&mut self.written);
    }

    /// Power is lost: of what was not synced any beginning may be there, and an entry torn in the middle is
    /// found by its checksum and cut off.
    pub(super) fn crash(&mut self, rng: &mut Rng) {
        let survive = rng.index(self.written.len() + 1);
        self.written.truncate(survive);
        self.flush();
    }

    pub(super) fn entries(&self) -> Vec<WalEntry> {
        self.synced.clone()
    }

    /// The block of its height is durable.
    pub(super) fn clear(&mut self) {
        self.synced.clear();
        self.written.clear();
    }
}

/// A decided block on the disk.
#[derive(Debug, Clone)]
pub(super) struct Committed {
    pub(super) id: BlockId,
    pub(super) block: Bytes,
    pub(super) certificate: CommitCertificate,
}

/// One static node.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) settings: Settings,
    pub(super) rogue: Option<Rogue>,
    /// `None` while it is down.
    pub(super) machine: Option<Consensus>,
    /// How often it has started: answers to an earlier life do not reach this one.
    pub(super) boot: u32,
    pub(super) wal: Wal,
    pub(super) chain: Vec<Committed>,
    /// Microseconds that its clock is ahead of the world's, plus [`SKEW_BASE`].
    pub(super) skew: u64,
    /// What happens while it waits for its disk.
    pub(super) waiting: VecDeque<Event>,
    pub(super) busy: bool,
    /// Blocks fetched for heights to come.
    pub(super) fetched: BTreeMap<Height, (PublicKey, Committed)>,
    /// It dies before it carries out as many more effects.
    pub(super) fuse: Option<u64>,
    /// Effects carried out.
    pub(super) effects: u64,
}

/// So that a clock may be behind the world's without the numbers being signed.
pub(super) const SKEW_BASE: u64 = 1_000_000_000;

impl Node {
    pub(super) fn new(settings: Settings, rogue: Option<Rogue>) -> Self {
        Self {
            settings,
            rogue,
            machine: None,
            boot: 0,
            wal: Wal::default(),
            chain: Vec::new(),
            skew: SKEW_BASE,
            waiting: VecDeque::new(),
            busy: false,
            fetched: BTreeMap::new(),
            fuse: None,
            effects: 0,
        }
    }

    pub(super) fn key(&self) -> PublicKey {
        self.settings.pair.public()
    }

    /// The height it decides next.
    pub(super) fn next_height(&self) -> Height {
        Height(self.chain.len() as u64 + 1)
    }

    pub(super) fn committed(&self, height: Height) -> Option<&Committed> {
        let at = usize::try_from(height.0.checked_sub(1)?).ok()?;
        self.chain.get(at)
    }

    /// The block that the next one builds on.
    pub(super) fn tip(&self) -> BlockId {
        self.chain.last().map_or(BlockId([0; 32]), |committed| committed.id)
    }

    /// Power is lost.
    pub(super) fn crash(&mut self, rng: &mut Rng) {
        self.machine = None;
        self.boot += 1;
        self.wal.crash(rng);
        self.waiting.clear();
        self.fetched.clear();
        self.busy = false;
        self.fuse = None;
    }
}
