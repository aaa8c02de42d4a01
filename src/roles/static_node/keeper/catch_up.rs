//! How a static node gets what it missed: blocks, and cosignatures of blocks that changed the static nodes.
//!
//! Who votes hears from the others that they are ahead, and consensus asks for blocks. This is for the rest: a node that
//! does not vote, or not yet; one whose static nodes were all replaced while it was away; and tree heads that a
//! node never saw signed, because it got their blocks with certificates only. Who is far behind takes a snapshot:
//! [`take`](super::take).

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::outside::{Ask, Letter};
use super::{Keeper, KeeperError};
use crate::consensus::{Event, To};
use crate::ledger::ask::FinalBlock;
use crate::message::anchor_receipt::RosterStep;
use crate::message::canonical::write_list;
use crate::message::{CommitCertificate, Cosignature, Policy, Roster};
use crate::roles::static_node::prove::{self, ProvenHead};
use crate::roles::static_node::tree_heads::SignedHead;
use crate::store::chain::View;
use crate::types::{Height, PublicKey, Timestamp};

/// Between two looks: how far a node that does not vote may be behind.
pub(super) const LOOK_EVERY: Duration = Duration::from_secs(1);

impl Keeper {
    /// Whether this node votes on the next block.
    pub(super) fn votes(&self) -> bool {
        self.shared.is_voter(&self.key.public())
    }

    /// The static nodes changed: from here on these are called and heard.
    pub(super) fn set_voters(&mut self, roster: &Roster) {
        self.shared.set_voters(roster);
        self.outside.follow(roster);
        self.voters.send_replace(Some(roster.committee().clone()));
    }

    pub(super) fn ask(&mut self, peer: PublicKey, ask: Ask) {
        self.outside.send(To::One(peer), Letter::Ask(ask));
    }

    /// Asks one of the others, in turn, for what this node would otherwise not hear of.
    pub(super) fn look(&mut self, now: Timestamp) -> Result<(), KeeperError> {
        self.look_at = now + LOOK_EVERY;
        self.snapshots.let_go(now)?;
        let Some(peer) = self.outside.turn() else { return Ok(()) };
        let votes = self.votes();
        if !votes || now.since(self.committed_at) > self.block_patience {
            self.catch_up(peer)?;
        }
        if self.filling_until.is_none_or(|until| until <= now) {
            self.fill_from(&peer)?;
        }
        let tip = Height(self.machine.height().0.saturating_sub(1));
        let is_unsigned = !votes && tip > Height::GENESIS && !self.heads.is_proven(tip);
        let wanted = self.gaps.first().copied().or_else(|| is_unsigned.then_some(tip));
        if let Some(height) = wanted {
            self.ask(peer, Ask::Gather(height));
        }
        Ok(())
    }

    /// Blocks came.
    pub(super) fn fetched(&mut self, from: PublicKey, blocks: Vec<FinalBlock>) -> Result<(), KeeperError> {
        let tip = self.chain.view()?.tip()?.record.height;
        for found in blocks {
            let Ok(certificate) = CommitCertificate::decode(&found.certificate) else { break };
            if certificate.height > tip {
                self.synced.insert(certificate.height, (from, found));
                self.fetching = Some(from);
            }
        }
        self.next_synced();
        Ok(())
    }

    /// Gives consensus the fetched block of its height; if there is none, asks whoever had the last for more.
    pub(super) fn next_synced(&mut self) {
        let height = self.machine.height();
        let Some((from, found)) = self.synced.remove(&height) else {
            if let Some(peer) = self.fetching.take() {
                self.ask(peer, Ask::Fetch(height));
            }
            return;
        };
        let decoded = CommitCertificate::decode(&found.certificate);
        let Ok(certificate) = decoded else { return };
        let (id, block) = (certificate.block, Bytes::from(found.block));
        self.event(Event::Synced { from, id, block, certificate });
    }

    /// Somebody said who cosigned a tree head. What counts is kept.
    pub(super) fn gathered(
        &mut self,
        height: Height,
        cosignatures: Vec<Cosignature>,
    ) -> Result<(), KeeperError> {
        if let Some(checkpoint) = self.heads.checkpoint(height) {
            let (size, root) = (checkpoint.size, checkpoint.root);
            for cosignature in cosignatures {
                self.cosigned(height, SignedHead { size, root, cosignature })?;
            }
            return Ok(());
        }
        if !self.gaps.contains(&height) {
            return Ok(());
        }
        let view = self.chain.view()?;
        let header = prove::header(&view, height)?;
        let roster = prove::roster(&view, &header)?;
        let mut signed = prove::checkpoint(&view, &self.genesis.network, &header)?;
        for cosignature in cosignatures {
            if let Err(violation) = signed.add(cosignature, &roster) {
                tracing::debug!(%height, %violation, "a cosignature that was asked for does not count");
            }
        }
        let mut bytes = Vec::new();
        write_list(signed.cosignatures(), &mut bytes);
        self.chain.put_cosignatures(height, &bytes)?;
        if signed.satisfies(&roster, Policy::Quorum) {
            self.gaps.remove(&height);
            self.advance_proven()?;
        }
        Ok(())
    }

    /// Proves up to the newest tree head that a quorum cosigned, unless a change of the static nodes before it cannot be
    /// proved yet.
    pub(super) fn advance_proven(&mut self) -> Result<(), KeeperError> {
        let gap = self.gaps.first();
        let newest = self.heads.proven().filter(|newest| gap.is_none_or(|gap| newest <= gap));
        let Some(head) = newest.and_then(|height| self.heads.get(height)) else { return Ok(()) };
        let (height, signers) = (head.record().height, head.signers());
        // The same tree head proves more with more cosignatures.
        if self.proven.as_ref().is_some_and(|known| (height, signers) <= (known.height, known.signers)) {
            return Ok(());
        }
        let view = self.chain.view()?;
        let steps = self.steps(&view, height)?;
        let proven = Arc::new(ProvenHead::new(&view, head, steps)?);
        self.shared.set_proven(Arc::clone(&proven));
        self.proven = Some(proven);
        self.answer_proven()
    }

    /// The changes of the static nodes before a block. To read them is to check every signature on them: they are read again
    /// when there are more.
    fn steps(&self, view: &View, before: Height) -> Result<Vec<RosterStep>, KeeperError> {
        let changes = prove::changes(view, before)?.len();
        match &self.proven {
            Some(known) if known.steps.len() == changes => Ok(known.steps.clone()),
            _ => Ok(prove::steps(view, &self.genesis.network, before)?),
        }
    }
}
