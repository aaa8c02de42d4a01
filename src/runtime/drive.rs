//! Runs a [`Machine`] on tokio.

use tokio::sync::mpsc;

use crate::runtime::Clock;
use crate::types::Machine;

/// Events that may wait for the machine. Whoever sends more waits.
const QUEUE_LEN: usize = 64;

/// A machine, its clock, and the events on their way to it.
#[derive(Debug)]
pub struct Driver<M: Machine> {
    machine: M,
    clock: Clock,
    sender: mpsc::Sender<M::Event>,
    events: mpsc::Receiver<M::Event>,
}

impl<M: Machine> Driver<M> {
    /// Drives this machine.
    #[must_use]
    pub fn new(machine: M, clock: Clock) -> Self {
        let (sender, events) = mpsc::channel(QUEUE_LEN);
        Self { machine, clock, sender, events }
    }

    /// Where the work that effects start says what became of it.
    #[must_use]
    pub fn sender(&self) -> mpsc::Sender<M::Event> {
        self.sender.clone()
    }

    /// The machine.
    #[must_use]
    pub const fn machine(&self) -> &M {
        &self.machine
    }

    /// Hands the machine an event that is known at once.
    pub fn handle(&mut self, event: M::Event) {
        self.machine.handle(self.clock.now(), event);
    }

    /// Waits until the machine wants something done. Never ends for a machine that is finished.
    ///
    /// # Cancel safety
    /// Nothing is lost if it is dropped.
    pub async fn next_effect(&mut self) -> M::Effect {
        loop {
            if let Some(effect) = self.machine.poll() {
                return effect;
            }
            let deadline = self.machine.deadline().map(|when| self.clock.until(when));
            let timeout = async {
                match deadline {
                    Some(wait) => tokio::time::sleep(wait).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                Some(event) = self.events.recv() => self.machine.handle(self.clock.now(), event),
                () = timeout => self.machine.expire(self.clock.now()),
            }
        }
    }
}
