//! The one shape of all protocol logic.

use crate::types::Timestamp;

/// One actor's logic: told what happened and when, it says what to do next. It performs no I/O,
/// reads no clock and draws no randomness of its own.
///
/// How a driver uses it: after each [`handle`](Self::handle) or [`expire`](Self::expire), call
/// [`poll`](Self::poll) until it answers `None` and carry out each effect in that order; then wait
/// for the next event or for [`deadline`](Self::deadline), whichever is first.
///
/// Effects run in the order polled and the process may die between any two, so a machine that must
/// persist before it speaks emits the persist effect first.
pub trait Machine {
    /// What happened: a reply, a finished write, a failure.
    type Event;
    /// What to do: send, persist, report.
    type Effect;

    /// Takes in one event.
    fn handle(&mut self, now: Timestamp, event: Self::Event);

    /// The next thing to do, if any.
    #[must_use]
    fn poll(&mut self) -> Option<Self::Effect>;

    /// When [`expire`](Self::expire) wants to be called if nothing happens before.
    #[must_use]
    fn deadline(&self) -> Option<Timestamp>;

    /// Time passed: acts on every deadline that is not after `now`.
    fn expire(&mut self, now: Timestamp);
}
