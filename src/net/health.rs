//! What is known of a node from the calls to it: whether to trust it with the next, and how long one
//! takes.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

/// How long a node is suspect after its first failure; doubles with each further one.
const FIRST_SUSPICION: Duration = Duration::from_millis(100);

/// The longest that a node is suspect without being tried again.
const LONGEST_SUSPICION: Duration = Duration::from_secs(10);

/// A node as its client sees it.
#[derive(Debug, Clone, Default)]
pub struct Health {
    /// It failed a moment ago: prefer others.
    pub suspect: bool,
    /// Failures since the last success, those of one moment counted once.
    pub failures: u32,
    /// What the last of them was.
    pub last_error: Option<Arc<str>>,
    /// How long its answers take; `None` before the first.
    pub latency: Option<Latency>,
}

/// How long a node takes to begin its answers: smoothed mean and mean deviation, as TCP estimates its
/// round trip (RFC 6298 section 2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Latency {
    /// The mean.
    pub mean: Duration,
    /// The mean distance from it.
    pub deviation: Duration,
}

impl Latency {
    /// What about 95 of 100 answers stay under: the mean and two deviations.
    #[must_use]
    pub fn p95(self) -> Duration {
        self.mean + 2 * self.deviation
    }

    fn update(before: Option<Self>, sample: Duration) -> Self {
        let Some(Self { mean, deviation }) = before else {
            return Self { mean: sample, deviation: sample / 2 };
        };
        let distance = mean.abs_diff(sample);
        Self { mean: (7 * mean + sample) / 8, deviation: (3 * deviation + distance) / 4 }
    }
}

/// Keeps a [`Health`] up to date.
#[derive(Debug, Default)]
pub(super) struct Record {
    failures: u32,
    suspect_until: Option<Instant>,
    last_error: Option<Arc<str>>,
    latency: Option<Latency>,
}

impl Record {
    pub(super) fn health(&self, now: Instant) -> Health {
        Health {
            suspect: self.is_suspect(now),
            failures: self.failures,
            last_error: self.last_error.clone(),
            latency: self.latency,
        }
    }

    pub(super) fn is_suspect(&self, now: Instant) -> bool {
        self.suspect_until.is_some_and(|until| now < until)
    }

    /// What the last failure was, while the node is suspect for it.
    pub(super) fn suspicion(&self, now: Instant) -> Option<Arc<str>> {
        self.last_error.clone().filter(|_| self.is_suspect(now))
    }

    /// It may be tried again now. What it did before still counts if it fails.
    pub(super) fn insist(&mut self) {
        self.suspect_until = None;
    }

    pub(super) fn succeeded(&mut self, latency: Option<Duration>) {
        self.failures = 0;
        self.suspect_until = None;
        self.last_error = None;
        if let Some(sample) = latency {
            self.latency = Some(Latency::update(self.latency, sample));
        }
    }

    /// Notes a failure. Those that come while the node is suspect are of the same cause.
    pub(super) fn failed(&mut self, now: Instant, error: &str) {
        if self.is_suspect(now) {
            return;
        }
        let doubled = FIRST_SUSPICION.saturating_mul(1 << self.failures.min(10));
        self.failures = self.failures.saturating_add(1);
        self.suspect_until = Some(now + doubled.min(LONGEST_SUSPICION));
        self.last_error = Some(error.into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suspicion_doubles_up_to_its_bound_and_ends_with_a_success() {
        let mut record = Record::default();
        let mut now = Instant::now();
        let mut lasted = Vec::new();
        for _ in 0..9 {
            record.failed(now, "gone");
            record.failed(now, "also gone");
            let until = record.suspect_until.unwrap();
            lasted.push((until - now).as_millis());
            assert!(record.is_suspect(now) && !record.is_suspect(until));
            now = until;
        }
        assert_eq!(lasted, [100, 200, 400, 800, 1_600, 3_200, 6_400, 10_000, 10_000]);
        assert_eq!(record.health(now).failures, 9);
        assert_eq!(record.health(now).last_error.as_deref(), Some("gone"));
        record.failed(now, "still gone");
        record.insist();
        assert!(!record.is_suspect(now) && record.suspicion(now).is_none());
        record.failed(now, "and still");
        assert_eq!(record.health(now).failures, 11);
        record.succeeded(None);
        assert_eq!((record.is_suspect(now), record.health(now).failures), (false, 0));
    }

    #[test]
    fn latency_follows_its_samples() {
        let mut latency = None;
        for sample in [10, 10, 10, 10, 10, 10, 10, 10, 10, 10] {
            latency = Some(Latency::update(latency, Duration::from_millis(sample)));
        }
        let calm = latency.unwrap();
        assert_eq!(calm.mean, Duration::from_millis(10));
        assert!(calm.p95() < Duration::from_millis(12));
        let slow = Latency::update(latency, Duration::from_millis(90));
        assert_eq!(slow.mean, Duration::from_millis(20));
        assert!(slow.p95() > Duration::from_millis(60));
    }
}
