//! What a run says at its end.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::types::Hash;

/// Something that must not be. Its text ends with the command that shows it again.
#[derive(Debug, Clone, thiserror::Error)]
#[error(
    "after {after:?}: {what}\nXVAULT_SEED={seed} cargo test --features testing --test simulator storage::swarm"
)]
pub struct Wrong {
    /// The seed of the run.
    pub seed: u64,
    /// How far the run was, in virtual time.
    pub after: Duration,
    /// What is wrong, beginning with the invariant that is broken where it has a number.
    pub what: String,
}

/// What happened in a run that went well.
#[derive(Debug, Clone)]
pub struct Summary {
    /// The seed of the run.
    pub seed: u64,
    /// Hash of every delivery: the same seed gives the same (I7).
    pub trace: Hash,
    /// Deliveries and deadlines.
    pub steps: u64,
    /// Bytes that clients sent.
    pub bytes_sent: u64,
    /// Versions that were read back at the end.
    pub read_back: u64,
    /// How often a client died.
    pub client_deaths: u64,
    /// Jobs by kind: how many succeeded, how many failed as they may.
    pub jobs: BTreeMap<&'static str, (u64, u64)>,
}

impl Summary {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            seed,
            trace: Hash([0; 32]),
            steps: 0,
            bytes_sent: 0,
            read_back: 0,
            client_deaths: 0,
            jobs: BTreeMap::new(),
        }
    }

    pub(super) fn count(&mut self, what: &'static str, succeeded: bool) {
        let (good, failed) = self.jobs.entry(what).or_default();
        *if succeeded { good } else { failed } += 1;
    }
}
