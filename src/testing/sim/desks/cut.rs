//! Who hears whom, and what is erased meanwhile.

use super::world::{Desks, RECORDS, SCOPE, VAULT, Wrong};
use crate::ledger::follow::height_heard;
use crate::message::Action;
use crate::message::access::desk::{DeskAnswer, DeskRequest};
use crate::message::access::{Erasure, TaggedVersion};
use crate::types::{Height, RecordTag, VersionId};

fn erasure(nth: u8) -> Erasure {
    let version = TaggedVersion { record: RecordTag([nth; 16]), version: VersionId([nth; 16]) };
    Erasure { vault: VAULT, versions: vec![version] }
}

impl Desks {
    /// A node is cut off, or is so no more. Faulty ones may still talk to one that is.
    pub(super) fn cut(&mut self, at: usize) {
        self.nodes[at].is_cut ^= true;
        self.eclipsed.remove(&at);
        if self.nodes[at].is_cut && self.rng.chance(500) {
            self.eclipsed.insert(at);
        }
    }

    /// A node was started: if it is cut off it has heard of nobody since.
    pub(super) fn note_deaf(&mut self, at: usize) {
        if self.nodes[at].is_cut {
            self.deaf.insert(at);
        }
    }

    /// Nodes that hear only faulty ones are told that there is nothing they have not got.
    pub(super) fn hear_liars(&mut self) {
        let liars = self.nodes.iter().filter(|node| node.is_faulty).count();
        for at in &self.eclipsed {
            let node = &self.nodes[*at];
            let claims: Vec<Height> = vec![node.height(); liars + 1];
            node.hear(height_heard(&claims, self.ledger.genesis.roster.committee()));
            self.summary.eclipsed += 1;
        }
    }

    /// Whether a client reaches only faulty nodes this time.
    pub(super) fn is_eclipsed(&mut self) -> bool {
        let is_eclipsed = self.rng.chance(50);
        self.summary.eclipsed += u32::from(is_eclipsed);
        is_eclipsed
    }

    pub(super) fn erase(&mut self) {
        let nth = 1 + u8::try_from(self.rng.below(RECORDS.into())).unwrap_or(0);
        if self.erased.contains_key(&nth) {
            return;
        }
        self.submit(Action::EraseVersions(erasure(nth)));
        self.erased.insert(nth, self.ledger.height().next());
        self.summary.erased += 1;
    }

    /// The owner asks whom it reaches for receipts of an erasure that is final. A faulty node signs what is not so; of an honest one
    /// that signs nothing is left, not even if the power goes now.
    pub(super) fn certify(&mut self) -> Result<(), Wrong> {
        let height = self.ledger.height();
        let is_open = |(nth, at): &(&u8, &Height)| **at <= height && !self.certified.contains(*nth);
        let Some(nth) = self.erased.iter().find(is_open).map(|(nth, _)| *nth) else { return Ok(()) };
        let mut receipts = 0;
        for place in 0..self.nodes.len() {
            let is_reached = !self.nodes[place].is_cut && self.rng.chance(900);
            let has_one = self.nodes[place].is_faulty || is_reached && self.has_receipt(place, nth)?;
            receipts += usize::from(has_one);
        }
        if receipts >= self.quorum() {
            self.certified.insert(nth);
            self.summary.certified += 1;
        }
        Ok(())
    }

    fn has_receipt(&self, place: usize, nth: u8) -> Result<bool, Wrong> {
        let node = &self.nodes[place];
        let ask = || node.answer(&self.owner.public(), DeskRequest::Deleted(erasure(nth)));
        let mut answer = ask();
        if matches!(answer, Some(Err(_))) {
            // It replaces the key of what is at rest when somebody waits for that.
            node.tidy();
            answer = ask();
        }
        let Some(Ok(DeskAnswer::Deleted(_))) = answer else { return Ok(false) };
        let durable = node.durable();
        for store in [node.store(), durable.as_ref()].into_iter().flatten() {
            let Ok(view) = store.view() else { continue };
            let (record, version) = (RecordTag([nth; 16]), VersionId([nth; 16]));
            if !matches!(view.slot(&VAULT, &record, &version, &SCOPE, 0), Ok(None)) {
                return Err(
                    self.wrong(format!("C13: node {place} signed that version {nth} is gone, and has it"))
                );
            }
        }
        Ok(true)
    }
}
