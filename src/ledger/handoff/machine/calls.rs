//! Asking many at once, and waiting for what each says.

use std::collections::{BTreeMap, BTreeSet};

use super::{CALL_PATIENCE, Effect, HandingOn, Step};
use crate::message::Roster;
use crate::message::access::desk::{DeskAnswer, DeskRequest};
use crate::types::{PublicKey, Timestamp};

/// A call to the others of a roster.
#[derive(Debug)]
pub(super) struct Asked {
    call: u64,
    /// Who has not answered.
    waiting: BTreeSet<PublicKey>,
    answers: BTreeMap<PublicKey, DeskAnswer>,
    until: Timestamp,
}

impl Asked {
    /// When it is over.
    pub(super) fn until(&self) -> Timestamp {
        if self.waiting.is_empty() { Timestamp::ZERO } else { self.until }
    }

    /// Notes an answer. Whoever was not asked, or has answered, is not heard.
    fn take(&mut self, from: PublicKey, answer: Option<DeskAnswer>) {
        if self.waiting.remove(&from)
            && let Some(answer) = answer
        {
            self.answers.insert(from, answer);
        }
    }

    /// What came.
    pub(super) fn answers(self) -> BTreeMap<PublicKey, DeskAnswer> {
        self.answers
    }
}

impl HandingOn {
    /// Asks the others of a roster.
    pub(super) fn ask(&mut self, now: Timestamp, of: &Roster, request: DeskRequest) -> Asked {
        self.call += 1;
        let others = of.committee().members().iter().copied().filter(|key| *key != self.own);
        let waiting: BTreeSet<_> = others.collect();
        if !waiting.is_empty() {
            self.effects.push_back(Effect::Ask { call: self.call, of: of.clone(), request });
        }
        Asked { call: self.call, waiting, answers: BTreeMap::new(), until: now + CALL_PATIENCE }
    }

    pub(super) fn answered(
        &mut self,
        now: Timestamp,
        call: u64,
        from: PublicKey,
        answer: Option<DeskAnswer>,
    ) {
        match &mut self.step {
            Step::Keys { asked, .. } | Step::Offering { asked, .. } if asked.call == call => {
                asked.take(from, answer);
            }
            Step::Fetching { asked, package, .. } if asked.call == call => {
                let package = *package;
                asked.take(from, None);
                if let Some(DeskAnswer::Package(Some(bytes))) = answer {
                    self.fetched(now, package, bytes);
                }
            }
            _ => {}
        }
    }
}
