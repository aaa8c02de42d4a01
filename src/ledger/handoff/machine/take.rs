//! Taking this node's shares from what others dealt: fetch, check, complain about what is bad, put together, keep, and only then
//! say so on the ledger.

use std::collections::{BTreeSet, VecDeque};

use super::{
    ABSENCE, DISPUTE, Effect, Found, HandingOn, Note, OPENED_KEPT, Ready, Round, Said, Step, Task,
    by_packages,
};
use crate::ledger::handoff::{Dealer, Look, Taken, Work, bits, take};
use crate::message::Action;
use crate::message::access::desk::DeskRequest;
use crate::message::access::package::commitments_hash;
use crate::message::access::{HandoffPackage, TakeShares, TakenShare};
use crate::types::limits::MAX_HANDOFF_VAULTS;
use crate::types::{Hash, ShareIndex, Timestamp};

/// What is taken in a round.
#[derive(Debug, Default)]
pub(super) struct Taking {
    /// What is taken together now: the vaults of which one transaction tells.
    now: Vec<Work>,
    /// Their packages that are still to be opened.
    packages: VecDeque<Hash>,
    later: VecDeque<Vec<Work>>,
}

impl HandingOn {
    /// Takes what was handed to this node. Packages are looked at at once, so that what is bad is shown in time; what they give
    /// is taken when that has settled.
    pub(super) fn take(&mut self, now: Timestamp, mut round: Box<Round>) {
        let mut work = std::mem::take(&mut round.look.work);
        work.retain(|work| !self.said.contains_key(&said(work)));
        for work in &work {
            let which = bits(&work.dealers);
            if self.settling.get(&work.vault).is_none_or(|(known, _)| *known != which) {
                self.settling.insert(work.vault, (which, now));
            }
        }
        for (package, dealt) in &round.look.packages {
            if !dealt.rejected.is_empty() {
                self.disputed.entry(*package).or_insert(now);
            }
        }
        work.sort_by_cached_key(by_packages);
        let later = work.chunks(MAX_HANDOFF_VAULTS).map(<[Work]>::to_vec).collect();
        self.take_next(now, round, Taking { later, ..Taking::default() });
    }

    pub(super) fn take_next(&mut self, now: Timestamp, round: Box<Round>, mut taking: Taking) {
        let Some(work) = taking.later.pop_front() else {
            self.end(now, &round);
            return;
        };
        let packages: BTreeSet<Hash> = work.iter().flat_map(by_packages).collect();
        (taking.now, taking.packages) = (work, packages.into_iter().collect());
        self.open_next(now, round, taking);
    }

    pub(super) fn open_next(&mut self, now: Timestamp, round: Box<Round>, mut taking: Taking) {
        while let Some(package) = taking.packages.pop_front() {
            let dealt = round.look.packages.get(&package).filter(|_| !self.opened.contains_key(&package));
            if let Some(dealt) = dealt.cloned() {
                self.step = Step::Opening { round, taking, package };
                self.task(Task::Open { package, dealt, fetched: None });
                return;
            }
        }
        self.put_together(now, round, taking);
    }

    pub(super) fn found(
        &mut self,
        now: Timestamp,
        round: Box<Round>,
        taking: Taking,
        package: Hash,
        found: Found,
    ) {
        let members = round.look.packages.get(&package).and_then(|dealt| round.look.rosters.get(&dealt.to));
        match (found, members) {
            (Found::Missing, Some(members)) => {
                let asked = self.ask(now, members, DeskRequest::HandoffPackage { hash: package });
                self.step = Step::Fetching { round, taking, package, asked };
                return;
            }
            (Found::Good(opened), _) => {
                if self.opened.len() >= OPENED_KEPT {
                    self.opened.clear();
                }
                self.opened.insert(package, *opened);
            }
            (Found::Wrong, _) => self.reject(now, package),
            (Found::BadPiece(complaint), members) => {
                // What they answer says nothing: they say on the ledger what they found.
                let asked = members.map(|members| self.ask(now, members, DeskRequest::Complaint(complaint)));
                drop(asked);
                self.reject(now, package);
            }
            (Found::Missing, None) => {}
        }
        self.open_next(now, round, taking);
    }

    /// Another node gave something for a package that is fetched.
    pub(super) fn fetched(&mut self, _now: Timestamp, package: Hash, bytes: Vec<u8>) {
        if !HandoffPackage::decode_bounded(&bytes).is_ok_and(|found| found.hash() == package) {
            return;
        }
        match std::mem::replace(&mut self.step, Step::Looking) {
            Step::Fetching { round, taking, .. } if round.look.packages.contains_key(&package) => {
                let dealt = round.look.packages[&package].clone();
                self.step = Step::Opening { round, taking, package };
                self.task(Task::Open { package, dealt, fetched: Some(bytes) });
            }
            step => self.step = step,
        }
    }

    fn put_together(&mut self, now: Timestamp, round: Box<Round>, mut taking: Taking) {
        let (mut ready, mut taken) = (Vec::new(), Vec::new());
        for work in std::mem::take(&mut taking.now) {
            if !self.is_settled(now, &round.look, &work) {
                continue;
            }
            if let Some((share, found)) = self.put_together_one(&round.look, &work)
                && self.is_news(said(&work), now)
            {
                ready.push(share);
                taken.push(found);
            }
        }
        if taken.is_empty() {
            self.take_next(now, round, taking);
            return;
        }
        taken.sort_unstable();
        let action = Box::new(Action::TakeShares(TakeShares { shares: taken }));
        self.step = Step::Keeping { round, taking, action };
        // If we crash after this it is put together again, which gives the same.
        self.task(Task::Keep(ready));
    }

    /// Whether those whose parts may be bad have had time to show it: others have signed that theirs are good.
    fn is_settled(&self, now: Timestamp, look: &Look, work: &Work) -> bool {
        if work.handing.switched {
            return true;
        }
        let is_over = |since: &Timestamp, patience| now.since(*since) >= patience;
        let have_had_time = self.settling.get(&work.vault).is_some_and(|(_, since)| is_over(since, ABSENCE));
        let is_fine =
            |dealer: &Dealer| self.disputed.get(&dealer.package).is_none_or(|since| is_over(since, DISPUTE));
        (have_had_time || self.all_are_well(look, work)) && work.dealers.iter().all(is_fine)
    }

    /// Whether every other member signed for its parts of all that counts, or took its share already.
    fn all_are_well(&self, look: &Look, work: &Work) -> bool {
        let Some(roster) = look.rosters.get(&work.handing.to) else { return false };
        let which = bits(&work.dealers);
        let is_well = |place: ShareIndex| {
            let took = |taken: &Taken| taken.place == place && taken.dealers == which;
            let signed = |dealer: &Dealer| {
                look.packages.get(&dealer.package).is_some_and(|dealt| dealt.is_kept_by(place))
            };
            work.handing.taken.iter().any(took) || work.dealers.iter().all(signed)
        };
        let mut others = roster.committee().members().iter().enumerate().filter(|(_, key)| **key != self.own);
        others.all(|(at, _)| ShareIndex::at(at).is_some_and(is_well))
    }

    /// This node's share of one vault, and what it says of it.
    fn put_together_one(&mut self, look: &Look, work: &Work) -> Option<(Ready, TakenShare)> {
        let Work { vault, handing, dealers, now } = work;
        let members = look.rosters.get(&handing.to)?;
        let handed = handing.handed(*vault);
        let mut parts = Vec::with_capacity(dealers.len());
        for dealer in dealers {
            let opened = self.opened.get(&dealer.package)?;
            let (at, _) = opened.package.vault(&handed)?;
            parts.push((dealer.place, &opened.package, opened.parts.as_ref()?.get(at)?));
        }
        let took = match take(&handed, members.committee(), &parts) {
            Ok(took) => took,
            Err(error) => {
                let note = Note::DoesNotAddUp { vault: *vault, error };
                self.effects.push_back(Effect::Note(note));
                return None;
            }
        };
        let commitments = commitments_hash(&took.commitments);
        if handing.switched && *now != commitments {
            return None;
        }
        let (dealing, epoch) = (handing.dealing, handing.epoch);
        let said = TakenShare { vault: *vault, dealing, epoch, dealers: bits(dealers), commitments };
        Some(((*vault, (dealing, epoch), took.share, took.commitments), said))
    }
}

fn said(work: &Work) -> Said {
    let Work { vault, handing, dealers, .. } = work;
    Said::Taken { vault: *vault, dealing: handing.dealing, epoch: handing.epoch, dealers: bits(dealers) }
}
