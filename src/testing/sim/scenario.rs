//! Worlds for tests that tell a story: nothing happens in them but what the test says.

use std::time::Duration;

use crate::testing::sim::check::Wrong;
use crate::testing::sim::content::{Content, record_name};
use crate::testing::sim::faults::{Fault, Fuse, Plan, Trouble};
use crate::testing::sim::links::Weather;
use crate::testing::sim::rng::Rng;
use crate::testing::sim::world::World;
use crate::types::{Code, Timestamp};

/// The end of a trouble that a scenario has not ended yet.
const NEVER: Timestamp = Timestamp::from_unix_micros(u64::MAX / 2);

impl World {
    /// A world of one client and so many nodes in which all is well.
    ///
    /// # Errors
    /// [`Wrong`] if a store or an index cannot even be opened.
    pub fn quiet(seed: u64, code: Code, nodes: usize) -> Result<Self, Wrong> {
        let plan = Plan { faults: Vec::new(), lost: None, deaths: Vec::new() };
        let mut world = Self::build(seed, Rng::new(seed), (code, nodes), Weather::CLEAR, plan)?;
        world.seat_client(0)?;
        Ok(world)
    }

    /// A node gets into trouble.
    ///
    /// # Errors
    /// [`Wrong`], as at any time.
    pub fn trouble(&mut self, node: usize, trouble: Trouble) -> Result<(), Wrong> {
        if trouble.is_lasting() {
            self.plan.lost = Some(node);
        }
        self.plan.faults.push(Fault { node, trouble, during: self.now..NEVER });
        self.trouble_begins(self.plan.faults.len() - 1)
    }

    /// A node is well again; what a lasting trouble broke stays broken.
    ///
    /// # Errors
    /// [`Wrong`] if it cannot start again.
    pub fn mend(&mut self, node: usize) -> Result<(), Wrong> {
        for fault in 0..self.plan.faults.len() {
            let Fault { node: of, during, .. } = &mut self.plan.faults[fault];
            if *of == node && during.end == NEVER {
                during.end = self.now;
                self.trouble_ends(fault)?;
            }
        }
        Ok(())
    }

    /// Puts a record of so many bytes and waits for the end; false if it could not be placed.
    ///
    /// # Errors
    /// [`Wrong`] if it was wrong that it could not, or if anything else is.
    pub fn put_record(&mut self, nth: u64, len: usize) -> Result<bool, Wrong> {
        let before = self.succeeded("put");
        let content = Content::of_len(len, &mut self.rng);
        self.put(0, record_name(nth), content)?;
        self.finish_jobs()?;
        Ok(self.succeeded("put") > before)
    }

    /// The client will die before its nth effect from now, or with its disk at the nth change.
    pub fn light(&mut self, fuse: Fuse) {
        self.seats[0].light(fuse);
    }

    /// Lets time pass.
    ///
    /// # Errors
    /// [`Wrong`], as at any time.
    pub fn wait(&mut self, time: Duration) -> Result<(), Wrong> {
        self.run_until(self.now + time)
    }

    /// How many versions are committed.
    #[must_use]
    pub fn committed(&self) -> usize {
        self.shared.model.all().count()
    }

    fn succeeded(&self, what: &str) -> u64 {
        self.summary.jobs.get(what).map_or(0, |(succeeded, _)| *succeeded)
    }
}
