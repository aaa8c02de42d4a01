//! What arrives from other static nodes.
//!
//! Votes come from their voters only, so what a peer can make this node keep is bounded by the peer; proposals may
//! be relayed. Everything is checked before the engine sees it, for the engine names no culprit.

use std::cmp::Ordering;

use bytes::Bytes;

use super::bodies::Put;
use super::codec::{Entry, Message, Polka, RoundProof};
use super::event::{Effect, To};
use super::inbox::AHEAD;
use super::machine::{Consensus, Phase};
use super::verified::Verified;
use crate::message::{CommitCertificate, SignedProposal, SignedVote, Violation, block_hash};
use crate::types::{Committee, PublicKey, Round};

/// Rounds ahead of the engine's for which messages are taken, as the engine itself has it.
const ROUNDS_AHEAD: u32 = 10;

impl Consensus {
    pub(super) fn arrived(&mut self, from: PublicKey, bytes: &Bytes) {
        if from == self.settings.pair.public() || self.phase == Phase::New {
            return;
        }
        match Message::decode(bytes) {
            Ok(message) => self.receive(from, message, bytes.len()),
            Err(violation) => self.blame(from, violation),
        }
    }

    pub(super) fn blame(&mut self, peer: PublicKey, violation: Violation) {
        self.effects.push_back(Effect::Blame { peer, violation });
    }

    /// Takes a message of `len` bytes.
    pub(super) fn receive(&mut self, from: PublicKey, message: Message, len: usize) {
        if self.phase == Phase::Stopped {
            return;
        }
        let height = message.height();
        let commit = matches!(message, Message::Commit(_));
        self.peers.at(from, if commit { height.next() } else { height });
        let taken = match (height.cmp(&self.height), self.phase) {
            (Ordering::Less, _) | (Ordering::Equal, Phase::Decided) => self.late(from, message),
            (Ordering::Equal, Phase::Running) => self.current(from, message),
            (Ordering::Equal, Phase::Idle) => self.awaited(from, message, len),
            (Ordering::Greater, _) => self.early(from, message, len),
            (Ordering::Equal, _) => Ok(()),
        };
        if let Err(violation) = taken {
            self.blame(from, violation);
        }
    }

    /// Of a height that is decided.
    fn late(&mut self, from: PublicKey, message: Message) -> Result<(), Violation> {
        let (height, network) = (message.height(), self.settings.network);
        let news = match message {
            Message::Commit(certificate) => self.recent.merge(&certificate, network)?,
            Message::Vote(signed) => {
                from_voter(from, &signed)?;
                self.tell(from, height);
                self.recent.precommit(&signed, network)?
            }
            Message::Proposal(..) | Message::Header(_) | Message::Polka(_) | Message::Round(_) => {
                self.tell(from, height);
                return Ok(());
            }
        };
        self.effects.extend(news.evidence.into_iter().map(Effect::Misbehaved));
        self.effects.extend(news.grown.map(Effect::Grown));
        Ok(())
    }

    /// Tells a peer who is still at this height what was decided, or how far this node is.
    fn tell(&mut self, peer: PublicKey, height: crate::types::Height) {
        let again = self.settings.timing.rebroadcast / 2;
        // Until the certificate goes to all, the peer is not late but hears the votes as this node did.
        if !self.recent.was_sent(height) || !self.peers.tell(peer, self.now, again) {
            return;
        }
        if let Some(certificate) = self.recent.nearest(height) {
            let bytes = Message::Commit(certificate.clone()).encode();
            self.effects.push_back(Effect::Send { to: To::One(peer), bytes });
        }
    }

    /// Of the height that is not begun yet.
    fn awaited(&mut self, from: PublicKey, message: Message, len: usize) -> Result<(), Violation> {
        if let Message::Commit(certificate) = message {
            return self.certificate(from, certificate);
        }
        if let Message::Proposal(signed, _) = &message {
            its_turn(&self.committee, signed)?;
        }
        self.keep(from, message, len)?;
        if self.called() {
            self.begin(Vec::new());
        }
        Ok(())
    }

    /// Of a later height.
    fn early(&mut self, from: PublicKey, message: Message, len: usize) -> Result<(), Violation> {
        if message.height().0 - self.height.0 > AHEAD {
            return Ok(());
        }
        self.keep(from, message, len)
    }

    fn keep(&mut self, from: PublicKey, message: Message, len: usize) -> Result<(), Violation> {
        match &message {
            Message::Vote(signed) => from_voter(from, signed)?,
            // It may be reason enough to begin, so nobody may say it in the proposer's name.
            Message::Proposal(signed, _) => signed.verify(self.settings.network)?,
            // Only of use where the other proposal of its round is.
            Message::Header(_) => return Ok(()),
            // A committee is needed to check these: when their height begins.
            Message::Polka(_) | Message::Round(_) | Message::Commit(_) => {}
        }
        self.inbox.put(from, message, len);
        Ok(())
    }

    /// Of the height that is running.
    fn current(&mut self, from: PublicKey, message: Message) -> Result<(), Violation> {
        match message {
            Message::Vote(signed) => self.vote(from, signed),
            Message::Proposal(signed, block) => self.proposal(signed, block),
            Message::Header(signed) => self.header(signed),
            Message::Polka(polka) => self.polka(polka),
            Message::Round(proof) => self.round_proof(&proof),
            Message::Commit(certificate) => self.certificate(from, certificate),
        }
    }

    fn out_of_reach(&self, round: Round) -> bool {
        let reached = self.engine.as_ref().map_or(Round(0), super::engine::Engine::round);
        round.0 > reached.0.saturating_add(ROUNDS_AHEAD)
    }

    fn check(
        &mut self,
        check: impl FnOnce(&mut Verified, &Committee, usize) -> Result<(), Violation>,
    ) -> Result<(), Violation> {
        let quorum = self.settings.quorum(&self.committee);
        let Some(engine) = &mut self.engine else { return Ok(()) };
        check(engine.verified(), &self.committee, quorum)
    }

    fn vote(&mut self, from: PublicKey, signed: SignedVote) -> Result<(), Violation> {
        from_voter(from, &signed)?;
        if !self.committee.contains(&from) {
            return Err(Violation::NotAMember);
        }
        if self.out_of_reach(signed.vote.round) {
            return Ok(());
        }
        self.check(|verified, _, _| verified.vote(&signed))?;
        self.feed(|engine| engine.input(&Entry::Vote(signed)));
        self.compare(&signed);
        Ok(())
    }

    /// A voter for another block than was proposed here: it may have been told otherwise. Shows it the signature that
    /// is here, so that the proposer of both is convicted.
    fn compare(&mut self, signed: &SignedVote) {
        let (round, Some(block)) = (signed.vote.round, signed.vote.block) else { return };
        let Some(proposed) = self.bodies.proposal(round) else { return };
        if self.phase == Phase::Running
            && proposed.proposal.block != block
            && self.shown.insert((round, signed.voter))
        {
            let bytes = Message::Header(proposed).encode();
            self.effects.push_back(Effect::Send { to: To::One(signed.voter), bytes });
        }
    }

    /// What was proposed to another: the engine holds it against what was proposed here.
    fn header(&mut self, signed: SignedProposal) -> Result<(), Violation> {
        its_turn(&self.committee, &signed)?;
        if self.bodies.proposal(signed.proposal.round).is_none_or(|known| known == signed) {
            return Ok(());
        }
        self.check(|verified, _, _| verified.proposal(&signed))?;
        self.feed(|engine| engine.input(&Entry::Proposal(signed)));
        Ok(())
    }

    fn proposal(&mut self, signed: SignedProposal, block: Bytes) -> Result<(), Violation> {
        its_turn(&self.committee, &signed)?;
        if self.out_of_reach(signed.proposal.round) {
            return Ok(());
        }
        self.check(|verified, _, _| verified.proposal(&signed))?;
        its_block(&signed, &block)?;
        let keep = self.engine.as_ref().and_then(super::engine::Engine::valid_block);
        let put = self.bodies.propose(&signed, block.clone(), keep);
        // Also one too many goes in: two already convict its proposer, and the engine counts for itself.
        self.feed(|engine| engine.input(&Entry::Proposal(signed)));
        match put {
            Put::New => self.ask_check(signed, block),
            Put::Known => self.known(signed),
            Put::Full => {}
        }
        Ok(())
    }

    fn ask_check(&mut self, signed: SignedProposal, block: Bytes) {
        // Unless the proposal alone has decided the height.
        if self.phase == Phase::Running {
            let proposal = signed.proposal;
            self.effects.push_back(Effect::Check {
                height: self.height,
                round: proposal.round,
                proposer: signed.proposer,
                id: proposal.block,
                bytes: proposal.bytes,
                block,
            });
        }
    }

    /// Bytes that were fetched or logged before they were proposed: the engine has not heard of them.
    fn known(&mut self, signed: SignedProposal) {
        let Some(body) = self.bodies.get_mut(&signed.proposal.bytes) else { return };
        if body.proposal.is_none() {
            body.proposal = Some(signed);
            if let Some(valid) = body.valid {
                self.feed_verdict(signed, valid);
            }
        }
    }

    fn polka(&mut self, polka: Polka) -> Result<(), Violation> {
        self.check(|verified, committee, quorum| verified.polka(&polka, committee, quorum))?;
        self.feed(|engine| engine.input(&Entry::Polka(polka)));
        Ok(())
    }

    fn round_proof(&mut self, proof: &RoundProof) -> Result<(), Violation> {
        self.check(|verified, committee, quorum| verified.round_proof(proof, committee, quorum))?;
        self.feed(|engine| engine.round_proof(proof));
        Ok(())
    }

    /// A certificate for the height that is open here.
    fn certificate(&mut self, from: PublicKey, certificate: CommitCertificate) -> Result<(), Violation> {
        if self.held.is_some() {
            return Ok(());
        }
        self.verify(&certificate)?;
        if self.bodies.valid(certificate.block).is_none() {
            self.asked = None;
            self.hold(certificate);
            self.need_from(from);
            return Ok(());
        }
        self.settle_by(certificate);
        Ok(())
    }

    /// That a certificate decides the open height.
    pub(super) fn verify(&mut self, certificate: &CommitCertificate) -> Result<(), Violation> {
        if self.engine.is_none() {
            return certificate.verify(&self.committee, self.settings.network);
        }
        self.check(|verified, committee, quorum| verified.commit(certificate, committee, quorum))
    }
}

/// Votes are not relayed: what a peer may fill is bounded by what it may say itself.
fn from_voter(from: PublicKey, signed: &SignedVote) -> Result<(), Violation> {
    if signed.voter == from { Ok(()) } else { Err(Violation::WrongSigner) }
}

pub(super) fn its_turn(committee: &Committee, signed: &SignedProposal) -> Result<(), Violation> {
    let proposal = signed.proposal;
    match committee.proposer(proposal.height, proposal.round) == signed.proposer {
        true => Ok(()),
        false => Err(Violation::WrongSigner),
    }
}

fn its_block(signed: &SignedProposal, block: &[u8]) -> Result<(), Violation> {
    if block_hash(block) == signed.proposal.bytes { Ok(()) } else { Err(Violation::WrongBlock) }
}
