//! The world: brings letters and answers, breaks and mends nodes, and shows the checker everything.

mod clients;
mod letters;
mod peace;
mod setup;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::message::block::Block;
use crate::roles::static_node::keeper::outside::{Ask, Letter};
use crate::roles::static_node::keeper::{Command, Keeper, KeeperError};
use crate::testing::Survivors;
use crate::testing::sim::keepers::check::{Checker, Summary, Wrong};
use crate::testing::sim::keepers::client::Client;
use crate::testing::sim::keepers::node::{Common, GENERATIONS, Node, key};
use crate::testing::sim::keepers::plan::{Control, Fault, Plan};
use crate::testing::sim::rng::Rng;
use crate::testing::sim::validators::links::Links;
use crate::types::{Height, PublicKey, Timestamp, TransactionId};

/// How long a key that gave up its vote serves on.
const HANDOVER: Duration = Duration::from_secs(2);
/// When a run begins.
const BEGIN: Timestamp = Timestamp::from_unix_micros(1_000_000_000_000);
/// Steps at one moment; more are a node that runs in circles.
const MAX_STEPS: u32 = 10_000;
/// The chain's file.
const CHAIN_FILE: &str = "chain";

/// A letter on its way, from one key to another.
#[derive(Debug, Clone)]
struct Sent {
    from: usize,
    from_key: PublicKey,
    from_boot: u32,
    to: usize,
    to_key: PublicKey,
    letter: Letter,
}

/// What is under way.
#[derive(Debug)]
enum Delivery {
    Letter(Sent),
    /// To a node in this life of it: what was answered to what it asked whom, or nothing.
    Answer(usize, u32, PublicKey, Ask, Option<Bytes>),
    /// To a node in this life of it: what its outbox has to say.
    Told(usize, u32, Command),
    /// A node that is down starts.
    Start(usize),
    /// A node in this life of it goes on under its next key.
    Succeed(usize, u32),
    Fault(Fault),
    /// A client may do something.
    Client(usize),
    /// From a client, to a node: a transaction.
    Submit(usize, usize, Bytes),
    /// To a client, from a node: what became of a transaction.
    Fate(usize, usize, TransactionId, Bytes),
    /// Somebody asks somebody something.
    Observe,
}

/// Static nodes and their clients, in virtual time.
pub struct Keepers {
    plan: Plan,
    common: Common,
    now: Timestamp,
    queue: BTreeMap<(Timestamp, u64), Delivery>,
    sequence: u64,
    steps: u32,
    nodes: Vec<Node>,
    /// Which place, and which of its keys.
    keys: BTreeMap<PublicKey, (usize, u8)>,
    /// Lives of nodes that have reached each other, from the first to the second.
    connected: BTreeSet<(usize, u32, usize, u32)>,
    clients: Vec<Client>,
    links: Links,
    rng: Rng,
    checker: Checker,
    trace: blake3::Hasher,
    is_mended: bool,
}

impl std::fmt::Debug for Keepers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keepers").field("now", &self.now).field("nodes", &self.nodes).finish_non_exhaustive()
    }
}

impl Keepers {
    /// The run of a seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        let plan = Plan::random(&mut rng);
        Self::with(seed, plan)
    }

    /// A run by this plan.
    #[must_use]
    pub fn with(seed: u64, plan: Plan) -> Self {
        let mut rng = Rng::new(seed).fork();
        let genesis = Arc::new(setup::genesis(&plan, &mut rng));
        let skew = |number: usize| plan.skew.get(number).copied().unwrap_or_default();
        let places = 0..plan.nodes;
        let keys = places.clone().flat_map(|place| (0..GENERATIONS).map(move |nth| (place, nth)));
        Self {
            now: BEGIN,
            queue: BTreeMap::new(),
            sequence: 0,
            steps: 0,
            nodes: places.map(|number| Node::new(number, skew(number))).collect(),
            keys: keys.map(|(place, nth)| (key(place, nth).public(), (place, nth))).collect(),
            connected: BTreeSet::new(),
            clients: setup::clients(&plan, &mut rng),
            links: Links::new(plan.nodes, plan.weather, rng.fork()),
            rng,
            checker: Checker::new(Arc::clone(&genesis), seed),
            common: Common { genesis, timing: plan.timing, snapshot_gap: plan.snapshot_gap },
            trace: blake3::Hasher::new(),
            is_mended: false,
            plan,
        }
    }

    /// Runs to the end: faults, then peace in which all must become well.
    ///
    /// # Errors
    /// [`Wrong`] at the first thing that must not be.
    pub fn run(mut self) -> Result<Summary, Wrong> {
        self.begin()?;
        self.wait(self.plan.mended)?;
        self.mend()?;
        self.demand_peace()?;
        self.check_all()
    }

    /// Starts nodes and clients.
    fn begin(&mut self) -> Result<(), Wrong> {
        for (after, fault) in self.plan.faults.clone() {
            self.schedule(after, Delivery::Fault(fault));
        }
        for (after, node) in self.plan.late.clone() {
            self.schedule(after, Delivery::Start(node));
        }
        for client in 0..self.clients.len() {
            let after = self.random_delay(200_000);
            self.schedule(after, Delivery::Client(client));
        }
        self.schedule(Duration::from_millis(500), Delivery::Observe);
        let is_late = |node: &usize| self.plan.late.iter().any(|(_, late)| late == node);
        let first: Vec<usize> = (0..self.nodes.len()).filter(|node| !is_late(node)).collect();
        first.into_iter().try_for_each(|node| self.boot(node))
    }

    /// Lets time pass.
    fn wait(&mut self, length: Duration) -> Result<(), Wrong> {
        let end = self.now + length;
        while self.next_time().is_some_and(|next| next <= end) {
            self.step()?;
        }
        self.now = end;
        Ok(())
    }

    fn wrong(&self, what: impl Into<String>) -> Wrong {
        let seed = self.checker.summary.seed;
        Wrong { seed, after: self.now.since(BEGIN), what: what.into() }
    }

    fn schedule(&mut self, after: Duration, delivery: Delivery) {
        self.schedule_at(self.now + after, delivery);
    }

    fn schedule_at(&mut self, at: Timestamp, delivery: Delivery) {
        self.sequence += 1;
        self.queue.insert((at, self.sequence), delivery);
    }

    fn random_delay(&mut self, most_micros: u64) -> Duration {
        Duration::from_micros(self.rng.below(most_micros + 1))
    }

    /// The node's clock.
    fn clock(&self, node: usize) -> Timestamp {
        self.now + self.nodes[node].skew
    }

    /// The next deadline of a node, by the world's clock.
    fn deadline(&self) -> Option<(Timestamp, usize)> {
        let deadlines = self.nodes.iter().filter_map(|node| {
            let skew = u64::try_from(node.skew.as_micros()).unwrap_or(u64::MAX);
            let own = node.alive.as_ref()?.keeper.deadline().unix_micros();
            Some((Timestamp::from_unix_micros(own.saturating_sub(skew)).max(self.now), node.number))
        });
        deadlines.min()
    }

    fn next_time(&self) -> Option<Timestamp> {
        let queued = self.queue.keys().next().map(|(at, _)| *at);
        let deadline = self.deadline().map(|(at, _)| at);
        queued.into_iter().chain(deadline).min()
    }

    fn step(&mut self) -> Result<(), Wrong> {
        let before = self.now;
        match (self.deadline(), self.queue.keys().next().copied()) {
            (Some((at, node)), first) if first.is_none_or(|(first, _)| at < first) => {
                self.now = at;
                self.drive(node, Keeper::expire)?;
            }
            (_, Some(first)) => {
                let Some(delivery) = self.queue.remove(&first) else { return Ok(()) };
                self.now = self.now.max(first.0);
                self.deliver(delivery)?;
            }
            _ => {}
        }
        self.steps = if self.now == before { self.steps + 1 } else { 0 };
        if self.steps > MAX_STEPS { Err(self.wrong("a node runs in circles")) } else { Ok(()) }
    }

    fn deliver(&mut self, delivery: Delivery) -> Result<(), Wrong> {
        match delivery {
            Delivery::Letter(sent) => self.arrived(sent),
            Delivery::Answer(node, boot, from, ask, answer) if self.nodes[node].boot == boot => {
                self.answered(node, from, &ask, answer)
            }
            Delivery::Told(node, boot, command) if self.nodes[node].boot == boot => {
                self.drive(node, |keeper| keeper.take(command))
            }
            Delivery::Answer(..) | Delivery::Told(..) => Ok(()),
            Delivery::Start(node) => self.start(node),
            Delivery::Succeed(node, boot) if self.nodes[node].boot == boot => self.crash(node),
            Delivery::Succeed(..) => Ok(()),
            Delivery::Fault(fault) => self.fault(fault),
            Delivery::Client(client) => self.act(client),
            Delivery::Submit(client, node, bytes) => self.submit(client, node, &bytes),
            Delivery::Fate(client, node, id, bytes) => self.fate(client, node, id, &bytes),
            Delivery::Observe => self.observe(),
        }
    }

    fn fault(&mut self, fault: Fault) -> Result<(), Wrong> {
        match fault {
            Fault::Crash(node) if self.nodes[node].alive.is_some() => self.crash(node)?,
            Fault::Crash(_) => {}
            Fault::Fuse(node, letters) => {
                if let Some(alive) = &self.nodes[node].alive {
                    alive.set_fuse(Some(letters));
                }
            }
            Fault::Disk(node, changes) => {
                let disk = &self.nodes[node].disk;
                disk.lose_power_at(disk.changes() + changes);
            }
            Fault::Split(parts) => self.links.split(parts),
        }
        Ok(())
    }

    fn start(&mut self, node: usize) -> Result<(), Wrong> {
        if self.nodes[node].alive.is_some() { Ok(()) } else { self.boot(node) }
    }

    fn boot(&mut self, node: usize) -> Result<(), Wrong> {
        if !self.is_mended && self.rng.chance(self.plan.stumbles) {
            let (disk, changes) = (self.nodes[node].disk.clone(), self.rng.below(80));
            disk.lose_power_at(disk.changes() + changes);
        }
        let (now, generation) = (self.clock(node), self.nodes[node].generation);
        let log = match self.nodes[node].open(&self.common, now) {
            Err(_) if self.nodes[node].disk.is_down() => return self.crash(node),
            opened => opened.map_err(|error| self.wrong(format!("node {node} does not start: {error:?}")))?,
        };
        let Some(alive) = &self.nodes[node].alive else { return Ok(()) };
        let tip = alive.tip().map_err(|what| self.wrong(what))?;
        if tip < self.nodes[node].spoke_of {
            let said = self.nodes[node].spoke_of;
            return Err(self.wrong(format!("I1: node {node} spoke of block {said} and starts with {tip}")));
        }
        if self.plan.control == Control::NoSync {
            self.nodes[node].disk.ignore_syncs(CHAIN_FILE);
        }
        self.checker.summary.successions += u64::from(self.nodes[node].generation > generation);
        self.drive(node, |keeper| keeper.start(log))
    }

    /// Has a keeper do something, and sees to all that comes of it.
    fn drive(
        &mut self,
        node: usize,
        act: impl FnOnce(&mut Keeper) -> Result<(), KeeperError>,
    ) -> Result<(), Wrong> {
        let now = self.clock(node);
        let Some(alive) = &mut self.nodes[node].alive else { return Ok(()) };
        alive.set_now(now);
        let done = act(&mut alive.keeper);
        // What it said before it lost power was said.
        self.post(node)?;
        self.pass_on_fates(node)?;
        if self.nodes[node].disk.is_down() {
            self.checker.summary.midway += 1;
            return self.crash(node);
        }
        done.map_err(|error| self.wrong(format!("node {node} stops: {error:?}")))?;
        self.look(node)
    }

    /// Shows the checker the blocks that a node has and had not.
    fn look(&mut self, node: usize) -> Result<(), Wrong> {
        let (before, boot) = (self.nodes[node].seen, self.nodes[node].boot);
        let Some(alive) = &self.nodes[node].alive else { return Ok(()) };
        let view = alive.library.chain.view().map_err(|error| self.wrong(error.to_string()))?;
        let tip = view.tip().map_err(|error| self.wrong(error.to_string()))?;
        for height in (before.0 + 1..=tip.record.height.0).map(Height) {
            match view.block(height).map_err(|error| self.wrong(error.to_string()))? {
                Some(bytes) => {
                    let block = Block::decode_bounded(&bytes);
                    let block =
                        block.map_err(|violation| self.wrong(format!("block {height} is {violation}")))?;
                    self.checker.block(node, &block.header).map_err(|what| self.wrong(what))?;
                }
                None => self.checker.summary.passed_over += 1,
            }
        }
        self.checker.block(node, &tip).map_err(|what| self.wrong(what))?;
        if tip.record.height > before {
            self.nodes[node].seen = tip.record.height;
            let Some(alive) = &self.nodes[node].alive else { return Ok(()) };
            if self.nodes[node].successor(|key| alive.library.shared.is_voter(key)).is_some() {
                self.schedule(HANDOVER, Delivery::Succeed(node, boot));
            }
        }
        Ok(())
    }

    /// A node loses power, and is back soon.
    fn crash(&mut self, node: usize) -> Result<(), Wrong> {
        self.checker.summary.crashes += 1;
        let survivors = match (self.plan.control, self.rng.below(8)) {
            (Control::NoSync, _) | (_, 0) => Survivors::Nothing,
            (_, 1) => Survivors::Everything,
            _ => Survivors::Random(self.rng.bits()),
        };
        self.nodes[node].crash(survivors);
        if self.plan.control == Control::NoLog {
            self.nodes[node].lose_log();
        }
        let down = Duration::from_millis(20) + self.random_delay(2_000_000);
        self.schedule(down, Delivery::Start(node));
        Ok(())
    }
}
