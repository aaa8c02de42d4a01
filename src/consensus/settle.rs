//! Blocks and verdicts on them, and how a height ends.
//!
//! A height ends by votes, when the engine has seen a quorum of precommits, or by the certificate of others. The
//! certificate does not pass through the engine: see [`engine`](super::engine).

use bytes::Bytes;

use super::bodies::Body;
use super::codec::{Entry, Verdict};
use super::context::Value;
use super::event::Effect;
use super::machine::{Consensus, Phase};
use crate::message::{CommitCertificate, Evidence, SignedProposal, Violation, block_hash};
use crate::types::limits::MAX_BLOCK_LEN;
use crate::types::{BlockId, Hash, Height, PublicKey, Round};

impl Consensus {
    /// Whether this height is still to be decided.
    fn is_open(&self, height: Height) -> bool {
        height == self.height && matches!(self.phase, Phase::Idle | Phase::Running)
    }

    /// Proposes what the driver has built, if the round still waits for it.
    ///
    /// # Panics
    /// If the block is too long: the driver's bug, and no other node would take it.
    pub(super) fn built(&mut self, height: Height, round: Round, id: BlockId, block: Bytes) {
        assert!(block.len() <= MAX_BLOCK_LEN, "a block of {} bytes was built", block.len());
        let waits = |engine: &super::engine::Engine| engine.round() == round && engine.wants_proposal();
        if !self.is_open(height) || !self.engine.as_ref().is_some_and(waits) {
            return;
        }
        let bytes = block_hash(&block);
        let keep = self.engine.as_ref().and_then(super::engine::Engine::valid_block);
        self.bodies.put(bytes, Body { id, block, round, proposal: None, valid: Some(true) }, keep);
        self.feed(|engine| engine.propose(round, Value { id, bytes }));
    }

    /// Takes in the driver's verdict.
    pub(super) fn checked(&mut self, height: Height, id: BlockId, bytes: Hash, valid: bool) {
        if !self.is_open(height) {
            return;
        }
        let Some(body) = self.bodies.get_mut(&bytes) else { return };
        if body.valid.is_some() || body.id != id {
            return;
        }
        body.valid = Some(valid);
        let proposal = body.proposal;
        if !valid {
            let block = std::mem::take(&mut body.block);
            self.invalid(bytes, proposal, block);
        } else if let Some(certificate) = self.held.take_if(|held| held.block == id) {
            self.settle_by(certificate);
            return;
        }
        if let Some(signed) = proposal {
            self.feed_verdict(signed, valid);
        }
    }

    /// Bytes that are no valid block: whoever signed or served them answers for it.
    fn invalid(&mut self, bytes: Hash, proposal: Option<SignedProposal>, block: Bytes) {
        if let Some(proposal) = proposal {
            self.effects.push_back(Effect::Invalid { proposal, block });
        }
        if let Some((_, peer)) = self.fetched.take_if(|(fetched, _)| *fetched == bytes) {
            self.blame(peer, Violation::WrongBlock);
            self.need_at = Some(self.now);
        }
    }

    /// Tells the engine. Not that a block is invalid of which other bytes are valid: the engine knows only ids.
    pub(super) fn feed_verdict(&mut self, signed: SignedProposal, valid: bool) {
        let proposal = signed.proposal;
        if !valid && self.bodies.valid(proposal.block).is_some() {
            return;
        }
        let verdict = Verdict {
            height: proposal.height,
            round: proposal.round,
            valid_round: proposal.valid_round,
            proposer: signed.proposer,
            id: proposal.block,
            bytes: proposal.bytes,
            valid,
            block: Bytes::new(),
        };
        self.feed(|engine| engine.input(&Entry::Verdict(verdict)));
    }

    /// Takes a block that others have decided.
    pub(super) fn synced(
        &mut self,
        from: PublicKey,
        id: BlockId,
        block: Bytes,
        certificate: CommitCertificate,
    ) {
        if !self.is_open(certificate.height) {
            return;
        }
        if let Err(violation) = self.fits(id, &block, &certificate) {
            self.blame(from, violation);
            return;
        }
        let bytes = block_hash(&block);
        let round = certificate.round;
        match self.bodies.get(&bytes).map(|body| (body.id == id, body.valid)) {
            Some((true, Some(true))) => self.settle_by(certificate),
            Some((true, None)) => self.hold(certificate),
            Some(_) => self.blame(from, Violation::WrongBlock),
            None => {
                let body = Body { id, block: block.clone(), round, proposal: None, valid: None };
                self.bodies.put(bytes, body, None);
                self.fetched = Some((bytes, from));
                self.hold(certificate);
                let (height, proposer) = (self.height, self.committee.proposer(self.height, round));
                self.effects.push_back(Effect::Check { height, round, proposer, id, bytes, block });
            }
        }
    }

    fn fits(&mut self, id: BlockId, block: &Bytes, certificate: &CommitCertificate) -> Result<(), Violation> {
        if block.len() > MAX_BLOCK_LEN {
            return Err(Violation::TooLong);
        }
        if id != certificate.block {
            return Err(Violation::WrongBlock);
        }
        self.verify(certificate)
    }

    /// The height is decided by a verified certificate of others.
    pub(super) fn settle_by(&mut self, certificate: CommitCertificate) {
        let evidence = self.engine.as_mut().map(|engine| {
            engine.witness(&certificate);
            engine.take_evidence()
        });
        self.settle(certificate, evidence.unwrap_or_default());
    }

    /// The height is decided. If the block is here it ends, else it waits for the block.
    pub(super) fn settle(&mut self, certificate: CommitCertificate, evidence: Vec<Evidence>) {
        self.effects.extend(evidence.into_iter().map(Effect::Misbehaved));
        let Some(block) = self.bodies.valid(certificate.block).cloned() else {
            self.hold(certificate);
            self.need_at = Some(self.now);
            return;
        };
        let (height, id) = (self.height, certificate.block);
        let send_at = self.now + self.settings.timing.certificate_delay;
        let strays = self.engine.as_ref().map(|engine| engine.strays(&certificate)).unwrap_or_default();
        self.recent.put(self.committee.clone(), certificate.clone(), strays, send_at);
        self.clear();
        self.phase = Phase::Decided;
        // Whatever is not flushed belongs to a height that is over, and was not said.
        self.unsynced = false;
        self.effects.push_back(Effect::Decide { height, id, block, certificate });
    }

    /// Decided, but the block is missing.
    pub(super) fn hold(&mut self, certificate: CommitCertificate) {
        self.held.get_or_insert(certificate);
        self.need_at.get_or_insert(self.now + self.settings.timing.patience);
    }

    /// Asks for the block of this height, and will ask the next who has it.
    pub(super) fn ask(&mut self) {
        let signer = self.held.as_ref().and_then(|held| {
            let own = self.settings.pair.public();
            held.signatures.iter().map(|(key, _)| *key).find(|key| *key != own)
        });
        match self.peers.ahead(self.height, self.asked).or(signer) {
            Some(from) => self.need_from(from),
            None => self.need_at = None,
        }
    }

    pub(super) fn need_from(&mut self, from: PublicKey) {
        self.asked = Some(from);
        self.need_at = Some(self.now + self.settings.timing.patience);
        self.effects.push_back(Effect::NeedBlock { height: self.height, from });
    }
}
