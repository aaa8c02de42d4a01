//! How a static node that is far behind takes a snapshot, and then fills in the blocks before it.
//!
//! What to ask and what to believe is [`SnapshotDownload`](crate::ledger::snapshot::SnapshotDownload)'s; here it is
//! carried out. A node that took a snapshot votes and cosigns at once, and proves what comes after it. It asks for the
//! blocks before in the background, one answer at a time, and knows nothing of what is in them until they are here.

use std::time::Duration;

use super::outside::Ask;
use super::{Keeper, KeeperError};
use crate::consensus::{Consensus, Event as ConsensusEvent, Settings};
use crate::ledger::archive::{self, FillError};
use crate::ledger::ask::{Answer, Fate, Question};
use crate::ledger::rows::{ARCHIVE, Archive};
use crate::ledger::snapshot::{Adoption, Effect, Event, Own};
use crate::ledger::{Mempool, query};
use crate::roles::static_node::prove;
use crate::roles::static_node::tree_heads::TreeHeads;
use crate::types::{Height, Machine as _, PublicKey};

/// The number under which blocks for the archive are asked for: no question of a download has it.
const FILLING: u64 = 0;
/// How long an answer for the archive may take before somebody else is asked.
const FILL_PATIENCE: Duration = Duration::from_secs(20);

impl Keeper {
    /// Consensus hears that others are ahead.
    pub(super) fn need(&mut self, height: Height, from: &PublicKey) -> Result<(), KeeperError> {
        let is_far = self.machine.furthest().0 > height.0.saturating_add(self.snapshot_gap);
        if is_far {
            return self.catch_up(*from);
        }
        self.ask(*from, Ask::Fetch(height));
        Ok(())
    }

    /// Asks for what this node is behind: a snapshot if that is much, else blocks.
    pub(super) fn catch_up(&mut self, peer: PublicKey) -> Result<(), KeeperError> {
        if self.download.is_busy() {
            return Ok(());
        }
        let own = Box::new(Own::read(&self.chain.view()?)?);
        let above = Height(own.tip.record.height.0.saturating_add(self.snapshot_gap));
        self.download.handle(self.now(), Event::Look { peer, own, above });
        self.carry_on_download()
    }

    /// An answer came, or none.
    pub(super) fn answered(
        &mut self,
        from: PublicKey,
        number: u64,
        answer: Option<Box<Answer>>,
    ) -> Result<(), KeeperError> {
        if number == FILLING {
            return match answer.map(|answer| *answer) {
                Some(Answer::Blocks(blocks)) => {
                    self.fill(&from, blocks.into_iter().map(|found| found.block).collect())
                }
                _ => Ok(()),
            };
        }
        let event = match answer {
            Some(answer) => Event::Answered { number, answer },
            None => Event::Failed { number },
        };
        self.download.handle(self.now(), event);
        self.carry_on_download()
    }

    /// Carries out what the download wants.
    pub(super) fn carry_on_download(&mut self) -> Result<(), KeeperError> {
        while let Some(effect) = self.download.poll() {
            match effect {
                Effect::Ask { to, number, question } => self.ask(to, Ask::Numbered(number, question)),
                Effect::Clear => self.chain.clear_staged()?,
                Effect::Store(rows) => self.chain.stage(&rows)?,
                Effect::Adopt(snapshot) => self.adopt(&snapshot)?,
                Effect::NoSnapshot { peer } => self.ask(peer, Ask::Fetch(self.machine.height())),
                Effect::Blame { peer, fault } => {
                    tracing::warn!(peer = %peer.short(), %fault, "a static node's snapshot is not used");
                }
                Effect::Forked { own, other } => return Err(KeeperError::Forked { own, other }),
            }
        }
        self.shared.set_taking(self.download.taking());
        Ok(())
    }

    /// Goes on from a snapshot.
    fn adopt(&mut self, snapshot: &Adoption) -> Result<(), KeeperError> {
        let height = snapshot.header.record.height;
        let is_passed = self.chain.view()?.tip()?.record.height >= height;
        // If we crash before this is durable the node is where it was, and takes a snapshot anew.
        self.chain.adopt(snapshot)?;
        if is_passed {
            return Ok(());
        }
        tracing::info!(%height, "took a snapshot");
        // Blocks that others decided passed this node by. What it said of their heights stays in its consensus log, and
        // is of the past there, as after blocks that it fetched: it has said nothing of a height over the snapshot's.
        self.valid.clear();
        self.synced.clear();
        self.fetching = None;
        self.mempool = Mempool::default();
        self.unproven.clear();
        self.put_off();
        self.heads = TreeHeads::new(self.genesis.network);
        // What it knew of the changes of the static nodes may be others now.
        self.proven = None;
        self.gaps = prove::unproven_changes(&self.chain.view()?)?.into_iter().collect();
        self.open_head(&snapshot.header)?;
        self.set_voters(&snapshot.next);
        let now = self.now();
        (self.committed_at, self.look_at) = (now, now);
        self.machine = Consensus::new(Settings::new(self.genesis.network, self.key.clone(), self.timing));
        let committee = query::next_committee(&self.chain.view()?)?;
        self.event(ConsensusEvent::Start { height: height.next(), committee, wal: Vec::new() });
        Ok(())
    }

    /// Whoever waits for a transaction may ask again: whether it is final is in a block that is not here.
    fn put_off(&mut self) {
        for answer in std::mem::take(&mut self.waiting).into_values().flatten() {
            drop(answer.send(Fate::Waiting));
        }
    }

    /// Asks for blocks of before the snapshot, if some are missing.
    pub(super) fn fill_from(&mut self, peer: &PublicKey) -> Result<(), KeeperError> {
        let archive = ARCHIVE.get(&self.chain.view()?, &())?;
        let Some(Archive { missing: Some(missing), .. }) = archive else {
            self.filling_until = None;
            return Ok(());
        };
        self.filling_until = Some(self.now() + FILL_PATIENCE);
        let question = Question::BlocksBefore { before: missing.until.next() };
        self.ask(*peer, Ask::Numbered(FILLING, question));
        Ok(())
    }

    /// Blocks of before the snapshot came.
    fn fill(&mut self, from: &PublicKey, blocks: Vec<Vec<u8>>) -> Result<(), KeeperError> {
        let view = self.chain.view()?;
        let (filled, fault) = archive::fill(&view, blocks).map_err(|error| match error {
            FillError::Read(error) => KeeperError::from(error),
            FillError::Forked { height, .. } => {
                KeeperError::Forked { own: Height(height.0.saturating_sub(1)), other: height }
            }
        })?;
        drop(view);
        // Whom to ask next is seen at the next look, unless this one has more.
        self.filling_until = None;
        if let Some(violation) = fault {
            tracing::warn!(peer = %from.short(), %violation, "an old block is not the one asked for");
        }
        if filled.blocks.is_empty() {
            return Ok(());
        }
        self.chain.fill(&filled)?;
        if fault.is_some() { Ok(()) } else { self.fill_from(from) }
    }
}
