//! The world: delivers, carries out effects, breaks and mends nodes, and asks the audit about everything.

mod effects;

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;

use crate::consensus::{Consensus, Event, Settings};
use crate::crypto::sign::KeyPair;
use crate::testing::sim::rng::Rng;
use crate::testing::sim::validators::audit::{Audit, Summary, Wrong};
use crate::testing::sim::validators::links::{Links, Weather};
use crate::testing::sim::validators::node::{Committed, Node, SKEW_BASE};
use crate::testing::sim::validators::plan::{Control, Fault, Plan};
use crate::testing::sim::validators::rogue::Rogue;
use crate::types::{BlockId, Committee, Hash, Height, Machine as _, NetworkId, PublicKey, Timestamp};

/// After this long all honest nodes must have new blocks.
const MENDED_WITHIN: Duration = Duration::from_secs(90);

/// How many new blocks.
const NEW_BLOCKS: u64 = 5;

/// Blocks that one answer to a fetch has.
const FETCHED_AT_ONCE: u64 = 8;

/// When a run begins: any time will do that a clock can be behind of.
const BEGIN: Timestamp = Timestamp::from_unix_micros(1_000_000_000_000);

/// What is under way.
#[derive(Debug)]
enum Delivery {
    /// To the node of this number, in this life of it.
    Event(usize, u32, Event),
    /// From, to.
    Message(usize, usize, Bytes),
    /// The disk has synced.
    Synced(usize, u32),
    /// From the second, who is asked for blocks from this height on by the first.
    Fetch(usize, usize, Height),
    /// To the first, from the second.
    Fetched(usize, u32, usize, Vec<(Height, Committed)>),
    Fault(Fault),
    /// There is something to decide.
    Wake,
}

/// Static nodes in virtual time.
#[derive(Debug)]
pub struct Validators {
    plan: Plan,
    now: Timestamp,
    queue: BTreeMap<(Timestamp, u64), Delivery>,
    sequence: u64,
    nodes: Vec<Node>,
    numbers: BTreeMap<PublicKey, usize>,
    links: Links,
    rng: Rng,
    audit: Audit,
    trace: blake3::Hasher,
}

impl Validators {
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
        let network = NetworkId(rng.bytes());
        let node = |number: usize| {
            let pair = KeyPair::from_secret(blake3::hash(&number.to_le_bytes()).as_bytes());
            let mut settings = Settings::new(network, pair, plan.timing);
            settings.quorum_less = usize::from(plan.control == Control::SmallQuorum);
            Node::new(settings, plan.rogues.get(&number).cloned())
        };
        let nodes: Vec<Node> = (0..plan.nodes).map(node).collect();
        let numbers = nodes.iter().enumerate().map(|(number, node)| (node.key(), number)).collect();
        let links = Links::new(plan.nodes, plan.weather, rng.fork());
        let audit = Audit::new(network, seed, plan.members);
        Self {
            plan,
            now: BEGIN,
            queue: BTreeMap::new(),
            sequence: 0,
            nodes,
            numbers,
            links,
            rng,
            audit,
            trace: blake3::Hasher::new(),
        }
    }

    /// Runs to the end: faults, then peace in which blocks must come.
    ///
    /// # Errors
    /// [`Wrong`] at the first thing that must not be.
    pub fn run(mut self) -> Result<Summary, Wrong> {
        for (after, fault) in self.plan.faults.clone() {
            self.schedule(after, Delivery::Fault(fault));
        }
        (0..self.nodes.len()).try_for_each(|node| self.boot(node))?;
        if !self.plan.busy {
            self.schedule(Duration::from_millis(100), Delivery::Wake);
        }
        self.wait(self.plan.mended)?;
        self.mend()?;
        self.demand_blocks()?;
        Ok(self.summary())
    }

    /// What happened so far.
    #[must_use]
    pub fn summary(&self) -> Summary {
        let trace = Some(Hash(*self.trace.clone().finalize().as_bytes()));
        let effects = self.nodes.iter().map(|node| node.effects).sum();
        Summary { trace, effects, ..self.audit.summary.clone() }
    }

    /// Starts all nodes, for stories that go on by [`wait`](Self::wait).
    ///
    /// # Errors
    /// [`Wrong`].
    pub fn start(&mut self) -> Result<(), Wrong> {
        (0..self.nodes.len()).try_for_each(|node| self.boot(node))
    }

    /// Lets time pass.
    ///
    /// # Errors
    /// [`Wrong`] at the first thing that must not be.
    pub fn wait(&mut self, length: Duration) -> Result<(), Wrong> {
        let end = self.now + length;
        while self.next_time().is_some_and(|next| next <= end) {
            self.step()?;
        }
        self.now = end;
        Ok(())
    }

    /// Something breaks, or is mended.
    ///
    /// # Errors
    /// [`Wrong`].
    pub fn fault(&mut self, fault: Fault) -> Result<(), Wrong> {
        match fault {
            Fault::Crash(node) => self.crash(node),
            Fault::Start(node) if self.nodes[node].machine.is_none() => self.boot(node)?,
            Fault::Start(_) => {}
            Fault::Fuse(node, effects) => self.nodes[node].fuse = Some(effects),
            Fault::Split(parts) => self.split(parts),
            Fault::Skew(node, skew) => self.nodes[node].skew = skew,
        }
        Ok(())
    }

    /// The heights that nodes have decided, and with how many signers each last one.
    #[must_use]
    pub fn chains(&self) -> Vec<(u64, Vec<usize>)> {
        let signers = |committed: &Committed| committed.certificate.signatures.len();
        let chain = |node: &Node| (node.chain.len() as u64, node.chain.iter().map(signers).collect());
        self.nodes.iter().map(chain).collect()
    }

    /// Whether a node is up.
    #[must_use]
    pub fn is_up(&self, node: usize) -> bool {
        self.nodes[node].machine.is_some()
    }

    /// Tells every node that there is something to decide.
    ///
    /// # Errors
    /// [`Wrong`].
    pub fn wake(&mut self) -> Result<(), Wrong> {
        (0..self.nodes.len()).try_for_each(|node| self.event(node, Event::Wake))
    }

    /// Everything works again, and every honest node must get new blocks in time.
    ///
    /// # Errors
    /// [`Wrong`].
    pub fn mend(&mut self) -> Result<(), Wrong> {
        self.split(vec![0; self.nodes.len()]);
        self.links.weather = Weather { loss: 0, ..self.links.weather };
        (0..self.nodes.len()).try_for_each(|node| self.fault(Fault::Start(node)))?;
        self.nodes.iter_mut().for_each(|node| node.fuse = None);
        Ok(())
    }

    /// Demands new blocks at every honest node.
    ///
    /// # Errors
    /// [`Wrong`] if they do not come in time.
    pub fn demand_blocks(&mut self) -> Result<(), Wrong> {
        let goal = self.audit.summary.blocks + NEW_BLOCKS;
        let end = self.now + MENDED_WITHIN;
        while !self.all_have(goal) {
            if self.next_time().is_none_or(|next| next > end) {
                let heights: Vec<usize> = self.nodes.iter().map(|node| node.chain.len()).collect();
                return Err(self.wrong(format!("all is mended, but no block {goal}: {heights:?}")));
            }
            self.step()?;
        }
        Ok(())
    }

    fn all_have(&self, height: u64) -> bool {
        let mut honest = self.nodes.iter().filter(|node| node.rogue.is_none());
        honest.all(|node| node.chain.len() as u64 >= height)
    }

    fn wrong(&self, what: impl Into<String>) -> Wrong {
        Wrong { seed: self.audit.summary.seed, after: self.now.since(BEGIN), what: what.into() }
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
        Timestamp::from_unix_micros(self.now.unix_micros() + self.nodes[node].skew - SKEW_BASE)
    }

    /// The next deadline of a node, by the world's clock.
    fn deadline(&self) -> Option<(Timestamp, usize)> {
        let awake = self.nodes.iter().enumerate().filter(|(_, node)| !node.busy);
        let deadlines = awake.filter_map(|(number, node)| {
            let own = node.machine.as_ref()?.deadline()?.unix_micros();
            let at = Timestamp::from_unix_micros((own + SKEW_BASE).saturating_sub(node.skew));
            Some((at.max(self.now), number))
        });
        deadlines.min()
    }

    fn next_time(&self) -> Option<Timestamp> {
        let queued = self.queue.keys().next().map(|(at, _)| *at);
        let deadline = self.deadline().map(|(at, _)| at);
        queued.into_iter().chain(deadline).min()
    }

    fn step(&mut self) -> Result<(), Wrong> {
        let queued = self.queue.keys().next().copied();
        match (self.deadline(), queued) {
            (Some((at, node)), Some((first, _))) if at < first => self.expire(at, node),
            (Some((at, node)), None) => self.expire(at, node),
            (_, Some(key)) => {
                let Some(delivery) = self.queue.remove(&key) else { return Ok(()) };
                self.now = self.now.max(key.0);
                self.deliver(delivery)
            }
            (None, None) => Ok(()),
        }
    }

    fn expire(&mut self, at: Timestamp, node: usize) -> Result<(), Wrong> {
        self.now = at;
        let now = self.clock(node);
        if let Some(machine) = &mut self.nodes[node].machine {
            machine.expire(now);
        }
        self.carry_out(node)
    }

    fn deliver(&mut self, delivery: Delivery) -> Result<(), Wrong> {
        match delivery {
            Delivery::Event(node, boot, event) if self.nodes[node].boot == boot => self.event(node, event),
            Delivery::Synced(node, boot) if self.nodes[node].boot == boot => {
                self.nodes[node].busy = false;
                if self.plan.control != Control::NoSync {
                    self.nodes[node].wal.flush();
                }
                self.carry_out(node)
            }
            Delivery::Event(..) | Delivery::Synced(..) => Ok(()),
            Delivery::Message(from, to, bytes) => self.message(from, to, bytes),
            Delivery::Fetch(asker, from, height) => {
                self.serve(asker, from, height);
                Ok(())
            }
            Delivery::Fetched(node, boot, from, blocks) if self.nodes[node].boot == boot => {
                let from = self.nodes[from].key();
                let blocks = blocks.into_iter().map(|(height, block)| (height, (from, block)));
                self.nodes[node].fetched.extend(blocks);
                match self.next_fetched(node) {
                    Some(event) => self.event(node, event),
                    None => Ok(()),
                }
            }
            Delivery::Fetched(..) => Ok(()),
            Delivery::Fault(fault) => self.fault(fault),
            Delivery::Wake => {
                let next = self.random_delay(600_000);
                self.schedule(next, Delivery::Wake);
                self.wake()
            }
        }
    }

    fn message(&mut self, from: usize, to: usize, bytes: Bytes) -> Result<(), Wrong> {
        if self.nodes[to].machine.is_none() {
            return Ok(());
        }
        self.audit.summary.messages += 1;
        self.trace.update(&self.now.unix_micros().to_le_bytes());
        self.trace.update(&[from as u8, to as u8]).update(&bytes);
        let from = self.nodes[from].key();
        self.event(to, Event::Received { from, bytes })
    }

    /// Gives an event to a node, once it does not wait for its disk.
    fn event(&mut self, node: usize, event: Event) -> Result<(), Wrong> {
        self.nodes[node].waiting.push_back(event);
        if self.nodes[node].busy { Ok(()) } else { self.carry_out(node) }
    }

    fn handle(&mut self, node: usize, event: Event) {
        let now = self.clock(node);
        let Some(machine) = &mut self.nodes[node].machine else { return };
        let committed = matches!(event, Event::Committed { .. });
        machine.handle(now, event);
        if committed && let Some(event) = self.next_fetched(node) {
            self.nodes[node].waiting.push_front(event);
        }
    }

    /// The committee of a height. Of every sixteen heights, for eight somebody's turn to propose comes last.
    fn committee(&self, height: Height) -> Committee {
        let mut known = self.plan.committees.iter().rev();
        let members = known.find(|(from, _)| *from <= height).map(|(_, members)| members.as_slice());
        let keys = members.unwrap_or_default().iter().map(|number| self.nodes[*number].key());
        let committee =
            Committee::new(keys.collect()).unwrap_or_else(|_| Committee::alone(self.nodes[0].key()));
        let count = u64::try_from(committee.n()).unwrap_or(1);
        let at = usize::try_from(height.0 / 16 % count).unwrap_or_default();
        let late = (height.0 % 16 >= 8).then(|| committee.members()[at]);
        committee.with_late(late)
    }

    /// The fetched block that a node decides next, if it is there.
    fn next_fetched(&mut self, node: usize) -> Option<Event> {
        let actor = &mut self.nodes[node];
        let height = actor.next_height();
        actor.fetched.retain(|at, _| *at >= height);
        let (from, Committed { id, block, certificate }) = actor.fetched.remove(&height)?;
        self.audit.summary.fetched += 1;
        Some(Event::Synced { from, id, block, certificate })
    }

    fn crash(&mut self, node: usize) {
        if self.nodes[node].machine.is_some() {
            self.audit.summary.crashes += 1;
            let mut rng = self.rng.fork();
            self.nodes[node].crash(&mut rng);
            let forgets = self.nodes[node].rogue == Some(Rogue::Forgets);
            if forgets || self.plan.control == Control::NoLog {
                self.nodes[node].wal.clear();
            }
        }
    }

    fn boot(&mut self, node: usize) -> Result<(), Wrong> {
        let actor = &mut self.nodes[node];
        actor.machine = Some(Consensus::new(actor.settings.clone()));
        let (height, wal) = (actor.next_height(), actor.wal.entries());
        self.audit.summary.replayed += wal.len() as u64;
        let committee = self.committee(height);
        self.event(node, Event::Start { height, committee, wal })?;
        if self.plan.busy {
            self.schedule(Duration::ZERO, Delivery::Event(node, self.nodes[node].boot, Event::Wake));
        }
        self.connect(node);
        Ok(())
    }

    /// Connections of a node that has just come within reach of the others.
    fn connect(&mut self, node: usize) {
        for peer in 0..self.nodes.len() {
            if peer == node || !self.links.connected(node, peer) || !self.is_up(peer) {
                continue;
            }
            let delay = self.random_delay(100_000);
            for (one, other) in [(node, peer), (peer, node)] {
                let event = Event::Connected { peer: self.nodes[other].key() };
                self.schedule(delay, Delivery::Event(one, self.nodes[one].boot, event));
            }
        }
    }

    fn split(&mut self, parts: Vec<u8>) {
        let before: Vec<bool> = self.pairs().map(|(a, b)| self.links.connected(a, b)).collect();
        self.links.split(parts);
        let pairs: Vec<(usize, usize)> = self.pairs().collect();
        for ((one, other), before) in pairs.into_iter().zip(before) {
            if !before && self.links.connected(one, other) {
                let delay = self.random_delay(100_000);
                for (one, other) in [(one, other), (other, one)] {
                    let event = Event::Connected { peer: self.nodes[other].key() };
                    self.schedule(delay, Delivery::Event(one, self.nodes[one].boot, event));
                }
            }
        }
    }

    fn pairs(&self) -> impl Iterator<Item = (usize, usize)> + use<> {
        let nodes = self.nodes.len();
        (0..nodes).flat_map(move |one| (one + 1..nodes).map(move |other| (one, other)))
    }

    /// The block that was decided at a height by the node of this number.
    #[must_use]
    pub fn block(&self, node: usize, height: u64) -> Option<BlockId> {
        self.nodes[node].committed(Height(height)).map(|committed| committed.id)
    }
}
