//! Worlds for tests that tell a story: nothing happens in them but what the test says.

use std::time::Duration;

use crate::testing::sim::check::Wrong;
use crate::testing::sim::content::{Content, record_name};
use crate::testing::sim::faults::{Fault, Fuse, Plan, Trouble};
use crate::testing::sim::links::Weather;
use crate::testing::sim::node::Node;
use crate::testing::sim::rng::Rng;
use crate::testing::sim::world::World;
use crate::types::{Code, Timestamp};

/// Every job of a scenario ends within this time, whatever is wrong with nodes.
const PATIENCE: Duration = Duration::from_secs(300);

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
        world.retry = 1_000;
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

    /// Puts a record of so many bytes and waits for the end; false if it could not be placed, or the client died.
    ///
    /// # Errors
    /// [`Wrong`] if it was wrong that it could not, or if anything else is.
    pub fn put_record(&mut self, nth: u64, len: usize) -> Result<bool, Wrong> {
        let before = self.succeeded("put");
        let content = Content::of_len(len, &mut self.rng);
        self.put(0, record_name(nth), content)?;
        self.finish_jobs_within(PATIENCE)?;
        Ok(self.succeeded("put") > before)
    }

    /// Reads the latest version of a record and compares it; false if too few shards can be had.
    ///
    /// # Errors
    /// [`Wrong`] if it was wrong that it could not, or if anything else is.
    pub fn get_record(&mut self, nth: u64) -> Result<bool, Wrong> {
        let before = self.succeeded("get");
        let name = record_name(nth);
        let Some(version) = self.shared.model.versions(&(0, name.clone())).last().copied() else {
            return Ok(false);
        };
        let len = self.shared.model.content(&version).map_or(0, |content| content.len as u64);
        self.get(0, &name, version, 0..len)?;
        self.finish_jobs_within(PATIENCE)?;
        Ok(self.succeeded("get") > before)
    }

    /// Erases a record with all its versions.
    ///
    /// # Errors
    /// [`Wrong`], as at any time.
    pub fn erase_record(&mut self, nth: u64) -> Result<(), Wrong> {
        let Some(client) = &mut self.seats[0].client else { return Ok(()) };
        let result = client.remove(self.now, &record_name(nth), true, &mut self.shared);
        self.after_client(0, result)
    }

    /// Shards that lack a node of their own, over all segments of a record, as the client's index has it.
    #[must_use]
    pub fn shards_without_node(&self, nth: u64) -> usize {
        let Some(client) = &self.seats[0].client else { return usize::MAX };
        let lacks = |holders: &Vec<Option<_>>| {
            holders.len() - holders.iter().flatten().collect::<std::collections::BTreeSet<_>>().len()
        };
        match client.holders(&record_name(nth)) {
            Ok(segments) if !segments.is_empty() => segments.iter().map(lacks).sum(),
            _ => usize::MAX,
        }
    }

    /// Shards at each node.
    #[must_use]
    pub fn shards(&self) -> Vec<u64> {
        self.nodes.iter().map(Node::shards).collect()
    }

    /// Bytes that clients have sent.
    #[must_use]
    pub const fn bytes_sent(&self) -> u64 {
        self.summary.bytes_sent
    }

    /// How often a client has died.
    #[must_use]
    pub const fn client_deaths(&self) -> u64 {
        self.summary.client_deaths
    }

    /// A node's disk loses power at the nth change from now. It is in trouble from now on; mend it to
    /// start it again.
    pub fn cut_power(&mut self, node: usize, changes: u64) {
        self.plan.faults.push(Fault { node, trouble: Trouble::Crash, during: self.now..NEVER });
        self.nodes[node].lose_power_after(changes);
    }

    /// Whether a node's process runs.
    #[must_use]
    pub fn is_up(&self, node: usize) -> bool {
        self.nodes[node].is_up()
    }

    /// Every node signs for shards before they are durable: a run must notice.
    pub fn sabotage(&mut self) {
        self.nodes.iter_mut().for_each(|node| node.signs_before_sync = true);
    }

    /// The client will die before its nth effect from now, or with its disk at the nth change.
    pub fn light(&mut self, fuse: Fuse) {
        self.seats[0].light(fuse);
    }

    /// Whatever fuse still burns goes out.
    pub fn spare(&mut self) {
        self.heal();
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
