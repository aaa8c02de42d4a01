//! The one place that reads clocks for machines: wall time that never runs backwards.

#[cfg(any(test, feature = "testing"))]
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant, SystemTime};

use crate::types::Timestamp;

/// Wall time at its creation, carried on by the monotonic clock: a clock set back during a transfer
/// does not move deadlines.
#[derive(Debug, Clone, Copy)]
pub struct Clock(Source);

#[derive(Debug, Clone, Copy)]
enum Source {
    Machine {
        wall: Timestamp,
        monotonic: Instant,
    },
    /// Microseconds since the epoch, as a simulator sets them.
    #[cfg(any(test, feature = "testing"))]
    Steered(&'static AtomicU64),
}

impl Clock {
    /// A clock that starts at the machine's wall time.
    #[must_use]
    pub fn new() -> Self {
        Self(Source::Machine { wall: wall_time(), monotonic: Instant::now() })
    }

    /// A clock that shows the microseconds that are in here.
    #[cfg(any(test, feature = "testing"))]
    #[must_use]
    pub const fn steered(micros: &'static AtomicU64) -> Self {
        Self(Source::Steered(micros))
    }

    /// Now.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        match self.0 {
            Source::Machine { wall, monotonic } => wall + monotonic.elapsed(),
            #[cfg(any(test, feature = "testing"))]
            Source::Steered(micros) => {
                Timestamp::from_unix_micros(micros.load(std::sync::atomic::Ordering::Acquire))
            }
        }
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
