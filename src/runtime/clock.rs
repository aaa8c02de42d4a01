//! The one place that reads clocks for machines: wall time that never runs backwards.

use std::time::{Duration, Instant, SystemTime};

use crate::types::Timestamp;

/// Wall time at its creation, carried on by the monotonic clock: a clock set back during a transfer
/// does not move deadlines.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    wall: Timestamp,
    monotonic: Instant,
}

impl Clock {
    /// A clock that starts at the machine's wall time.
    #[must_use]
    pub fn new() -> Self {
        Self { wall: wall_time(), monotonic: Instant::now() }
    }

    /// Now.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.wall + self.monotonic.elapsed()
    }

    /// How long to wait until a timestamp; zero if it has passed.
    #[must_use]
    pub fn until(&self, when: Timestamp) -> Duration {
        when.since(self.now())
    }
}

impl Default for Clock {
    fn default() -> Self {
        Self::new()
    }
}

/// The machine's wall time; the epoch itself if the clock stands before it.
#[must_use]
pub fn wall_time() -> Timestamp {
    let since_epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Timestamp::ZERO + since_epoch
}
