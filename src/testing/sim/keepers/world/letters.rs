//! What nodes have for each other, on its way.

use std::time::Duration;

use bytes::Bytes;

use super::{Delivery, Keepers, Sent};
use crate::message::Canonical as _;
use crate::roles::static_node::keeper::Command;
use crate::roles::static_node::keeper::outside::{Ask, Letter};
use crate::roles::static_node::tree_heads::SignedHead;
use crate::testing::sim::keepers::check::Wrong;
use crate::testing::sim::keepers::node::{GENERATIONS, read};
use crate::types::PublicKey;

/// Until a node notices that a question is not answered.
const UNANSWERED: Duration = Duration::from_millis(500);

impl Keepers {
    /// Sends what a node has for others.
    pub(super) fn post(&mut self, node: usize) -> Result<(), Wrong> {
        let actor = &mut self.nodes[node];
        let Some(alive) = &actor.alive else { return Ok(()) };
        let (from_key, from_boot) = (actor.key(), actor.boot);
        for (to_key, letter) in alive.sent() {
            match &letter {
                Letter::Consensus(bytes) => {
                    let nth = node * usize::from(GENERATIONS) + usize::from(self.nodes[node].generation);
                    self.checker.said(nth, bytes).map_err(|what| self.wrong(what))?;
                }
                Letter::Cosign(height, _) => {
                    self.nodes[node].spoke_of = self.nodes[node].spoke_of.max(*height);
                }
                Letter::Ask(_) => {}
            }
            let Some((to, _)) = self.keys.get(&to_key).copied() else { continue };
            let sent = Sent { from: node, from_key, from_boot, to, to_key, letter };
            let arrivals = self.links.arrivals(self.now, node, to);
            if arrivals.is_empty() {
                self.lost(&sent);
            }
            for at in arrivals {
                self.schedule_at(at, Delivery::Letter(sent.clone()));
            }
        }
        Ok(())
    }

    /// A letter does not arrive: its connection is gone.
    fn lost(&mut self, sent: &Sent) {
        let Sent { from, from_boot, to, to_key, letter, .. } = sent;
        self.connected.retain(|(one, _, other, _)| (one, other) != (from, to));
        if let Letter::Ask(ask) = letter {
            let answer = Delivery::Answer(*from, *from_boot, *to_key, ask.clone(), None);
            self.schedule(UNANSWERED, answer);
        }
    }

    fn trace(&mut self, from: usize, to: usize, bytes: &[u8]) {
        self.checker.summary.letters += 1;
        self.trace.update(&self.now.unix_micros().to_le_bytes());
        self.trace.update(&[from as u8, to as u8]).update(bytes);
    }

    pub(super) fn arrived(&mut self, sent: Sent) -> Result<(), Wrong> {
        let node = &self.nodes[sent.to];
        let is_there = node.alive.is_some() && node.key() == sent.to_key;
        if !is_there || !self.links.connected(sent.from, sent.to) {
            self.lost(&sent);
            return Ok(());
        }
        match sent.letter.clone() {
            Letter::Consensus(bytes) => {
                self.trace(sent.from, sent.to, &bytes);
                self.heard(&sent, false, |from| Ok(Command::Message { from, bytes }))
            }
            Letter::Cosign(height, bytes) => {
                self.trace(sent.from, sent.to, &bytes);
                let signed = SignedHead::decode(&bytes);
                self.heard(&sent, true, |from| {
                    let signed = signed.map_err(|violation| format!("a cosignature that is {violation}"))?;
                    Ok(Command::Cosignature { from, height, signed: Box::new(signed) })
                })
            }
            Letter::Ask(ask) => self.asked(&sent, ask),
        }
    }

    /// A static node hears those whom it knows for static nodes, and tells others that it does not.
    fn heard(
        &mut self,
        sent: &Sent,
        may_be_former: bool,
        command: impl FnOnce(PublicKey) -> Result<Command, String>,
    ) -> Result<(), Wrong> {
        let Some(alive) = &self.nodes[sent.to].alive else { return Ok(()) };
        let shared = &alive.library.shared;
        let is_known = shared.is_voter(&sent.from_key) || may_be_former && shared.may_cosign(&sent.from_key);
        if !is_known {
            self.connected.retain(|(one, _, other, _)| (*one, *other) != (sent.from, sent.to));
            self.tell(sent, Command::Refused { peer: sent.to_key });
            return Ok(());
        }
        self.reached(sent);
        let command = command(sent.from_key).map_err(|what| self.wrong(what))?;
        self.drive(sent.to, |keeper| keeper.take(command))
    }

    /// Something arrived: if it is the first, the sender's outbox says so.
    fn reached(&mut self, sent: &Sent) {
        let boot = self.nodes[sent.to].boot;
        if self.connected.insert((sent.from, sent.from_boot, sent.to, boot)) {
            self.tell(sent, Command::Connected { peer: sent.to_key });
        }
    }

    fn tell(&mut self, sent: &Sent, command: Command) {
        if let Some(at) = self.links.arrivals(self.now, sent.to, sent.from).first() {
            self.schedule_at(*at, Delivery::Told(sent.from, sent.from_boot, command));
        }
    }

    fn asked(&mut self, sent: &Sent, ask: Ask) -> Result<(), Wrong> {
        self.reached(sent);
        let question = ask.question().encode();
        self.trace(sent.from, sent.to, &question);
        let now = self.clock(sent.to);
        let Some(alive) = &self.nodes[sent.to].alive else { return Ok(()) };
        let answer = alive.ask(&question, now).map_err(|what| self.wrong(what))?;
        let (from, boot, peer) = (sent.from, sent.from_boot, sent.to_key);
        match self.links.arrivals(self.now, sent.to, from).first() {
            Some(at) => {
                self.schedule_at(*at, Delivery::Answer(from, boot, peer, ask, Some(Bytes::from(answer))));
            }
            None => self.schedule(UNANSWERED, Delivery::Answer(from, boot, peer, ask, None)),
        }
        Ok(())
    }

    pub(super) fn answered(
        &mut self,
        node: usize,
        from: PublicKey,
        ask: &Ask,
        answer: Option<Bytes>,
    ) -> Result<(), Wrong> {
        let place = self.keys.get(&from).map_or(node, |(place, _)| *place);
        self.trace(place, node, answer.as_deref().unwrap_or_default());
        let answer = answer.map(|bytes| read(&bytes)).transpose().map_err(|what| self.wrong(what))?;
        match ask.answered(from, answer) {
            Some(command) => self.drive(node, |keeper| keeper.take(command)),
            None => Ok(()),
        }
    }
}
