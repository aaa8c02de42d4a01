//! What nodes want done, and what the audit says to it.

use bytes::Bytes;

use super::{Delivery, FETCHED_AT_ONCE, Validators};
use crate::consensus::{Consensus, Effect, Event, To};
use crate::message::CommitCertificate;
use crate::testing::sim::validators::audit::Wrong;
use crate::testing::sim::validators::chain;
use crate::testing::sim::validators::node::Committed;
use crate::testing::sim::validators::plan::{Control, Fault};
use crate::testing::sim::validators::rogue::Rogue;
use crate::types::{Height, Machine as _, PublicKey};

impl Validators {
    /// Carries out what a node wants, until it waits for its disk or has nothing more to do.
    pub(super) fn carry_out(&mut self, node: usize) -> Result<(), Wrong> {
        loop {
            let actor = &mut self.nodes[node];
            let Some(effect) = actor.machine.as_mut().and_then(Consensus::poll) else {
                match actor.waiting.pop_front() {
                    Some(event) => self.handle(node, event),
                    None => return Ok(()),
                }
                continue;
            };
            if actor.fuse == Some(0) {
                self.crash(node);
                let back = self.random_delay(1_000_000);
                self.schedule(back, Delivery::Fault(Fault::Start(node)));
                return Ok(());
            }
            actor.fuse = actor.fuse.map(|left| left - 1);
            actor.effects += 1;
            if effect == Effect::Flush {
                actor.busy = true;
                let (boot, delay) = (actor.boot, self.random_delay(self.plan.sync_micros));
                self.schedule(delay, Delivery::Synced(node, boot));
                return Ok(());
            }
            self.effect(node, effect)?;
        }
    }

    fn effect(&mut self, node: usize, effect: Effect) -> Result<(), Wrong> {
        let boot = self.nodes[node].boot;
        match effect {
            Effect::Append(entry) => self.nodes[node].wal.append(entry),
            Effect::Flush => {}
            Effect::Send { to, bytes } => self.send(node, to, &bytes)?,
            Effect::Build { height, round } => {
                let valid = self.nodes[node].rogue != Some(Rogue::Invalid);
                let (tip, nonce) = (self.nodes[node].tip(), self.rng.bits());
                let (id, block) = chain::make(height, tip, nonce, valid);
                let delay = self.random_delay(10_000);
                self.schedule(delay, Delivery::Event(node, boot, Event::Built { height, round, id, block }));
            }
            Effect::Check { height, id, bytes, block, .. } => {
                let right_place = self.nodes[node].next_height() == height;
                let valid = right_place && chain::check(&block, id, height, self.nodes[node].tip());
                let delay = self.random_delay(10_000);
                self.schedule(
                    delay,
                    Delivery::Event(node, boot, Event::Checked { height, id, bytes, valid }),
                );
            }
            Effect::Decide { height, id, block, certificate } => {
                self.decide(node, height, Committed { id, block, certificate })?;
            }
            Effect::Grown(certificate) => self.grow(node, certificate)?,
            Effect::NeedBlock { height, from } => {
                let from = self.numbers[&from];
                for at in self.links.arrivals(self.now, node, from) {
                    self.schedule_at(at, Delivery::Fetch(node, from, height));
                }
            }
            other => self.report(node, other)?,
        }
        Ok(())
    }

    /// What a node says about others, or about itself.
    fn report(&mut self, node: usize, effect: Effect) -> Result<(), Wrong> {
        if self.nodes[node].rogue.is_some() {
            return Ok(());
        }
        let found = match effect {
            Effect::Misbehaved(evidence) => {
                let rogue = self.is_rogue(&evidence.offender());
                self.audit.accused(&evidence, rogue)
            }
            Effect::Invalid { proposal, .. } => {
                self.audit.summary.invalid += 1;
                let rogue = self.is_rogue(&proposal.proposer);
                if rogue { Ok(()) } else { Err(format!("an honest proposal is invalid: {proposal:?}")) }
            }
            Effect::Blame { peer, violation } => {
                self.audit.summary.blamed += 1;
                let rogue = self.is_rogue(&peer);
                if rogue {
                    Ok(())
                } else {
                    Err(format!("{node} blames {} for {violation}", self.numbers[&peer]))
                }
            }
            Effect::Stop(stop) => Err(format!("{node} stops: {stop}")),
            _ => Ok(()),
        };
        found.map_err(|what| self.wrong(what))
    }

    fn is_rogue(&self, key: &PublicKey) -> bool {
        self.nodes[self.numbers[key]].rogue.is_some()
    }

    fn send(&mut self, node: usize, to: To, bytes: &Bytes) -> Result<(), Wrong> {
        let peers = match to {
            To::All => (0..self.nodes.len()).filter(|peer| *peer != node).collect(),
            To::One(key) => vec![self.numbers[&key]],
        };
        if self.nodes[node].rogue.is_none() {
            self.audit.sent(node, bytes).map_err(|what| self.wrong(what))?;
        }
        let tip = self.nodes[node].tip();
        for peer in peers {
            let actor = &mut self.nodes[node];
            let sent = match &mut actor.rogue {
                Some(rogue) => rogue.twist(&actor.settings.pair, bytes, peer, tip, &mut self.rng),
                None => vec![bytes.clone()],
            };
            for bytes in sent {
                for at in self.links.arrivals(self.now, node, peer) {
                    self.schedule_at(at, Delivery::Message(node, peer, bytes.clone()));
                }
            }
        }
        Ok(())
    }

    fn decide(&mut self, node: usize, height: Height, block: Committed) -> Result<(), Wrong> {
        self.check_decision(node, &block.certificate)?;
        if height != self.nodes[node].next_height() {
            return Err(self.wrong(format!("{node} decides {height} out of order")));
        }
        if self.nodes[node].rogue.is_none()
            && !chain::check(&block.block, block.id, height, self.nodes[node].tip())
        {
            return Err(self.wrong(format!("{node} decides an invalid block at {height}")));
        }
        // One transaction: the block is there and its log is gone, or neither.
        self.nodes[node].chain.push(block);
        self.nodes[node].wal.clear();
        let event = Event::Committed {
            height,
            next_committee: self.committee(height.next()),
            pending: self.plan.busy,
        };
        let delay = self.random_delay(self.plan.sync_micros);
        self.schedule(delay, Delivery::Event(node, self.nodes[node].boot, event));
        Ok(())
    }

    fn check_decision(&mut self, node: usize, certificate: &CommitCertificate) -> Result<(), Wrong> {
        if self.nodes[node].rogue.is_some() {
            return Ok(());
        }
        let committee = self.committee(certificate.height);
        // The control is to be found by what it does, not by the size of its certificates.
        let committee = (self.plan.control != Control::SmallQuorum).then_some(committee);
        self.audit.decided(node, certificate, committee.as_ref()).map_err(|what| self.wrong(what))
    }

    fn grow(&mut self, node: usize, certificate: CommitCertificate) -> Result<(), Wrong> {
        self.audit.summary.grown += 1;
        self.check_decision(node, &certificate)?;
        let at = certificate.height.0 as usize - 1;
        if let Some(committed) = self.nodes[node].chain.get_mut(at) {
            committed.certificate = certificate;
        }
        Ok(())
    }

    pub(super) fn serve(&mut self, asker: usize, from: usize, height: Height) {
        let server = &self.nodes[from];
        if server.machine.is_none() {
            return;
        }
        let wanted = (height.0..height.0 + FETCHED_AT_ONCE).map(Height);
        let mut blocks: Vec<(Height, Committed)> =
            wanted.filter_map(|height| Some((height, server.committed(height)?.clone()))).collect();
        if server.rogue == Some(Rogue::Noise)
            && let Some((_, block)) = blocks.first_mut()
        {
            block.block = [&block.block[..], &[0]].concat().into();
        }
        let boot = self.nodes[asker].boot;
        for at in self.links.arrivals(self.now, from, asker) {
            self.schedule_at(at, Delivery::Fetched(asker, boot, from, blocks.clone()));
        }
    }
}
