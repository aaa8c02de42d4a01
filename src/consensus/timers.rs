//! When the engine wants to be told that time has passed.

use std::collections::BTreeMap;

use arc_malachitebft_core_types::{Timeout, TimeoutKind};

use super::codec::Wait;
use super::convert;
use super::event::Timing;
use crate::types::{Round, Timestamp};

/// The waits of one height. `None` stands for saying own votes again.
#[derive(Debug, Default)]
pub(super) struct Timers(BTreeMap<(Option<Wait>, Round), Timestamp>);

impl Timers {
    pub(super) fn schedule(&mut self, now: Timestamp, timeout: Timeout, timing: &Timing) {
        let base = match timeout.kind {
            TimeoutKind::Propose => timing.propose,
            TimeoutKind::Prevote | TimeoutKind::Precommit => timing.vote,
            TimeoutKind::Rebroadcast => timing.rebroadcast,
            // Only with a target time, which is never given.
            TimeoutKind::FinalizeHeight(_) => return,
        };
        let round = convert::round(timeout.round);
        let after = base.saturating_add(timing.step.saturating_mul(round.0)).min(timing.most);
        self.0.insert((convert::wait(timeout.kind), round), now + after);
    }

    pub(super) fn cancel(&mut self, timeout: Timeout) {
        self.0.remove(&(convert::wait(timeout.kind), convert::round(timeout.round)));
    }

    pub(super) fn over(&mut self, round: Round, wait: Wait) {
        self.0.remove(&(Some(wait), round));
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    pub(super) fn deadline(&self) -> Option<Timestamp> {
        self.0.values().min().copied()
    }

    /// Takes one that is due: the earliest.
    pub(super) fn take_due(&mut self, now: Timestamp) -> Option<Timeout> {
        let (&key, &at) = self.0.iter().min_by_key(|(_, at)| **at)?;
        if at > now {
            return None;
        }
        self.0.remove(&key);
        let kind = key.0.map_or(TimeoutKind::Rebroadcast, convert::engine_wait);
        Some(Timeout::new(convert::engine_round(key.1), kind))
    }
}
