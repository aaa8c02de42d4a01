//! What nodes say to each other and on the ledger: late, twice, or not at all.

use std::time::Duration;

use super::world::{Control, Reshare, What, Wrong};
use crate::ledger::handoff::machine::Event;
use crate::message::access::DepositKind;
use crate::message::access::desk::{DeskAnswer, DeskRequest};
use crate::message::{Action, Canonical as _, Roster};

impl Reshare {
    /// How long something is on its way: mostly a moment.
    pub(super) fn delay(&mut self) -> Duration {
        let slow = self.is_wild() && self.rng.chance(50);
        Duration::from_millis(if slow { 500 + self.rng.below(2_000) } else { 2 + self.rng.below(200) })
    }

    pub(super) fn is_lost(&mut self) -> bool {
        self.is_wild() && self.rng.chance(40)
    }

    /// Asks another node for dealings of owners that it needs.
    pub(super) fn fetch_dealings(&mut self, at: usize) {
        for vault in self.members[at].node.wanted() {
            let other = self.rng.index(self.members.len());
            if other == at || self.members[other].node.is_cut || self.members[other].rogue.is_some() {
                continue;
            }
            let hash = self.sharing(&vault).package;
            let request = DeskRequest::Package { vault, hash, kind: DepositKind::Dealing };
            let answer = self.members[other].node.answer(&self.key_of(at), request);
            if let Some(Ok(DeskAnswer::Package(Some(bytes)))) = answer {
                self.members[at].node.fetched(&vault, &hash, &bytes);
            }
        }
    }

    pub(super) fn ask(&mut self, from: usize, call: u64, of: &Roster, request: &DeskRequest) {
        let is_hushed =
            self.control == Control::NobodyComplains && matches!(request, DeskRequest::Complaint(_));
        if is_hushed {
            return;
        }
        let (own, bytes) = (self.key_of(from), request.encode());
        for key in of.committee().members().iter().filter(|key| **key != own) {
            let Some(to) = self.at(key) else { continue };
            let bytes = self.rogue_request(from, request).unwrap_or_else(|| bytes.clone());
            let life = self.members[from].life;
            let times = if self.is_lost() { 0 } else { 1 + u8::from(self.is_lost()) };
            for _ in 0..times {
                let (delay, bytes) = (self.delay(), bytes.clone());
                self.after(delay, What::Request { from, to, call, life, bytes });
            }
        }
    }

    pub(super) fn serve(&mut self, from: usize, to: usize, call: u64, life: u32, bytes: &[u8]) {
        let is_cut = self.members[from].node.is_cut || self.members[to].node.is_cut;
        if is_cut || self.members[to].machine.is_none() || self.is_lost() {
            return;
        }
        let request = DeskRequest::decode(bytes).unwrap_or_else(|wrong| panic!("a request: {wrong}"));
        let answer = match self.rogue_answer(to, &request) {
            Some(answer) => answer,
            None => match self.members[to].node.answer(&self.key_of(from), request) {
                Some(answer) => answer.ok(),
                None => return self.crash_for_a_moment(to),
            },
        };
        let (delay, bytes) = (self.delay(), answer.map(|answer| answer.encode()));
        self.after(delay, What::Answer { from: to, to: from, call, life, bytes });
    }

    pub(super) fn heard(
        &mut self,
        from: usize,
        to: usize,
        call: u64,
        life: u32,
        bytes: Option<Vec<u8>>,
    ) -> Result<(), Wrong> {
        let member = &self.members[to];
        if member.life != life || member.node.is_cut || self.members[from].node.is_cut {
            return Ok(());
        }
        let answer = bytes.and_then(|bytes| DeskAnswer::decode(&bytes).ok());
        let from = self.key_of(from);
        self.tell(to, Event::Answered { call, from, answer })
    }

    pub(super) fn say(&mut self, by: usize, action: Action) {
        if self.members[by].node.is_cut || self.is_lost() {
            return;
        }
        let is_hushed =
            self.control == Control::NobodyComplains && matches!(action, Action::RejectHandoff { .. });
        if is_hushed {
            return;
        }
        if let Some(action) = self.rogue_says(by, action) {
            let delay = self.delay();
            self.after(delay, What::Said { by, action: Box::new(action) });
        }
    }
}
