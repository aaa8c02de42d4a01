//! Virtual time: one queue of deliveries, one thread, one seed.
//!
//! A run has two halves. In the first, clients work while the [fault plan](crate::testing::sim::faults) is carried out;
//! at its end the world heals, and in the second everything that was acknowledged must read back and
//! new work must succeed, in bounded time. Whatever is wrong ends the run with a [`Wrong`].

use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::time::Duration;

use bytes::Bytes;

use crate::crypto::seed::Seed;
use crate::store::disk::Disk as _;
use crate::testing::mem_disk::{MemDisk, Survivors};
use crate::testing::sim::check::{Summary, Wrong};
use crate::testing::sim::client::{Client, DEK_NEEDLE, Died, Ended, JobError, JobId, Shared};
use crate::testing::sim::content::{CONTENT_NEEDLE, Content, NAME_NEEDLE, record_name};
use crate::testing::sim::faults::{Fuse, Plan, Trouble};
use crate::testing::sim::leak::LeakDetector;
use crate::testing::sim::links::{Link, Links, Weather};
use crate::testing::sim::model::Record;
use crate::testing::sim::node::{Caller, Node, Reply};
use crate::testing::sim::rng::Rng;
use crate::transfer::Failure;
use crate::types::{Code, Hash, Network, NetworkId, NodeInfo, PublicKey, RecordName, Timestamp, VersionId};

/// Bytes of a client's disk: more than any index of a run.
const CLIENT_DISK: u64 = 1 << 30;

/// When runs begin: 2026-01-01, so that times look like times.
const START: Timestamp = Timestamp::from_unix_millis(1_767_225_600_000);

/// How long things go wrong.
const FIRST_HALF: Duration = Duration::from_secs(60);

/// After healing, everything under way must be done by then.
const SETTLE: Duration = Duration::from_secs(120);

/// In a healed world each job must be done in this time.
const PROMPT: Duration = Duration::from_secs(20);

/// Records of one client: few, so that names are used again.
const RECORDS: u64 = 12;

/// Jobs that one client has under way at once.
const JOBS_AT_ONCE: usize = 4;

/// Something that happens at a time.
#[derive(Debug)]
enum Delivery {
    Request { node: usize, caller: Caller, header: Vec<u8>, body: Vec<u8> },
    Response { caller: Caller, header: Vec<u8>, body: Vec<u8> },
    Broken { caller: Caller, failure: Failure },
    Progress { caller: Caller },
    TroubleBegins(usize),
    TroubleEnds(usize),
    FuseIsLit { client: usize, fuse: Fuse },
    ClientReturns(usize),
    JobBegins(usize),
}

impl Delivery {
    /// What the trace remembers of it.
    fn digest(&self, trace: &mut blake3::Hasher) {
        let (tag, numbers, bytes): (u8, [u64; 4], [&[u8]; 2]) = match self {
            Self::Request { node, caller, header, body } => {
                (0, [*node as u64, caller.client as u64, caller.incarnation, caller.call], [header, body])
            }
            Self::Response { caller, header, body } => {
                (1, [0, caller.client as u64, caller.incarnation, caller.call], [header, body])
            }
            Self::Broken { caller, .. } => {
                (2, [0, caller.client as u64, caller.incarnation, caller.call], [&[], &[]])
            }
            Self::Progress { caller } => {
                (3, [0, caller.client as u64, caller.incarnation, caller.call], [&[], &[]])
            }
            Self::TroubleBegins(fault) => (4, [*fault as u64, 0, 0, 0], [&[], &[]]),
            Self::TroubleEnds(fault) => (5, [*fault as u64, 0, 0, 0], [&[], &[]]),
            Self::FuseIsLit { client, .. } => (6, [*client as u64, 0, 0, 0], [&[], &[]]),
            Self::ClientReturns(client) => (7, [*client as u64, 0, 0, 0], [&[], &[]]),
            Self::JobBegins(client) => (8, [*client as u64, 0, 0, 0], [&[], &[]]),
        };
        trace.update(&[tag]);
        for number in numbers {
            trace.update(&number.to_le_bytes());
        }
        for bytes in bytes {
            trace.update(bytes);
        }
    }
}

/// A place where a client runs, dies and runs again.
pub(super) struct Seat {
    pub(super) client: Option<Client>,
    incarnation: u64,
    disk: MemDisk,
    seed: Seed,
}

impl Seat {
    fn new(rng: &mut Rng, leaks: &mut LeakDetector) -> Self {
        let seat = Self {
            client: None,
            incarnation: 0,
            disk: MemDisk::new(CLIENT_DISK),
            seed: Seed::from_entropy(rng.bytes()),
        };
        let keys = seat.seed.vault(0, 0);
        leaks.watch_secret(keys.index_key(), "the index key");
        leaks.watch_secret(&*keys.signing().secret(), "the signing key");
        seat
    }

    fn public_key(&self) -> PublicKey {
        self.seed.vault(0, 0).signing().public()
    }

    fn open(&self, number: usize, network: &Network, rng: Rng) -> Result<Client, String> {
        Client::open(number, self.seed.vault(0, 0), network, &self.disk, rng)
    }

    /// The client will die soon.
    pub(super) fn light(&mut self, fuse: Fuse) {
        match (fuse, &mut self.client) {
            (Fuse::Effects(effects), Some(client)) => client.fuse = Some(effects),
            (Fuse::Changes(changes), Some(_)) => self.disk.lose_power_at(self.disk.changes() + changes),
            (_, None) => {}
        }
    }

    /// The client's process is gone; so may be what its disk was not told to keep.
    fn bury(&mut self, rng: &mut Rng) {
        self.client = None;
        self.incarnation += 1;
        let seed = rng.bits();
        let survivors = *rng.pick(&[Survivors::Nothing, Survivors::Everything, Survivors::Random(seed)]);
        self.disk = self.disk.after_power_loss(survivors);
    }
}

/// The nodes of a run and the network file that names them.
fn nodes(rng: &mut Rng, code: Code, count: usize) -> Result<(Vec<Node>, Network), String> {
    let id = NetworkId(rng.bytes());
    let nodes: Vec<Node> = (0..count).map(|_| Node::new(id, rng.fork())).collect::<Result<_, _>>()?;
    let info = |(number, node): (usize, &Node)| NodeInfo {
        name: format!("node-{number}"),
        key: node.key(),
        address: std::net::SocketAddr::from(([10, 0, 0, 1], 4_000)),
        operator: format!("operator-{number}"),
        site: "here".into(),
    };
    let network = Network { id, code, genesis: None, nodes: nodes.iter().enumerate().map(info).collect() };
    Ok((nodes, network))
}

fn contents(disk: &MemDisk, name: &str) -> io::Result<Vec<u8>> {
    let file = disk.open(name)?;
    let mut bytes = vec![0; usize::try_from(file.len()?).unwrap_or_default()];
    file.read_at(0, &mut bytes)?;
    Ok(bytes)
}

fn code(k: usize, m: usize) -> Code {
    Code::new(k, m).unwrap_or(Code::DEFAULT)
}

/// What a job is about, for judging how it ends.
#[derive(Debug, Clone)]
struct JobInfo {
    client: usize,
    record: RecordName,
    started: Timestamp,
    what: &'static str,
    /// What is put.
    content: Option<Content>,
}

/// One run.
pub struct World {
    pub(super) now: Timestamp,
    queue: BTreeMap<(Timestamp, u64), Delivery>,
    seq: u64,
    pub(super) rng: Rng,
    network: Network,
    links: Links,
    pub(super) plan: Plan,
    pub(super) nodes: Vec<Node>,
    pub(super) seats: Vec<Seat>,
    pub(super) shared: Shared,
    jobs: BTreeMap<JobId, JobInfo>,
    next_job: JobId,
    /// Of a thousand interrupted puts so many are put again.
    pub(super) retry: u64,
    /// Jobs that their client's death ended.
    interrupted: Vec<JobInfo>,
    /// Since when nothing goes wrong any more.
    healed: Option<Timestamp>,
    trace: blake3::Hasher,
    pub(super) summary: Summary,
}

impl std::fmt::Debug for World {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("World")
            .field("now", &self.now)
            .field("summary", &self.summary)
            .finish_non_exhaustive()
    }
}

impl World {
    fn schedule(&mut self, at: Timestamp, delivery: Delivery) {
        self.seq += 1;
        self.queue.insert((at.max(self.now), self.seq), delivery);
    }

    fn after(&mut self, delay: Duration, delivery: Delivery) {
        self.schedule(self.now + delay, delivery);
    }

    /// Runs until a time.
    pub(super) fn run_until(&mut self, end: Timestamp) -> Result<(), Wrong> {
        while self.step(end)? {}
        self.now = end;
        Ok(())
    }

    /// The next delivery or deadline up to `end`; false if there is none.
    fn step(&mut self, end: Timestamp) -> Result<bool, Wrong> {
        let delivery = self.queue.keys().next().map(|(at, _)| *at);
        let nodes = self.nodes.iter().filter_map(Node::deadline).min();
        let clients = self.seats.iter().filter_map(|seat| seat.client.as_ref()?.deadline()).min();
        let Some(next) = [delivery, nodes, clients].into_iter().flatten().min() else { return Ok(false) };
        if next > end {
            return Ok(false);
        }
        // A deadline may be past where its owner was told of something at the same time.
        self.now = self.now.max(next);
        if delivery == Some(next) {
            if let Some((_, delivery)) = self.queue.pop_first() {
                self.trace.update(&self.now.unix_micros().to_le_bytes());
                delivery.digest(&mut self.trace);
                self.deliver(delivery)?;
            }
        } else if nodes == Some(next) {
            self.work_nodes()?;
        } else {
            self.expire_clients()?;
        }
        self.summary.steps += 1;
        Ok(true)
    }

    fn deliver(&mut self, delivery: Delivery) -> Result<(), Wrong> {
        match delivery {
            Delivery::Request { node, caller, header, body } => self.request(node, caller, &header, body),
            Delivery::Response { caller, header, body } => self.tell_client(caller, |client, now, shared| {
                client.on_response(now, caller.call, &header, Bytes::from(body), shared)
            }),
            Delivery::Broken { caller, failure } => self.tell_client(caller, |client, now, shared| {
                client.on_failure(now, caller.call, failure, shared)
            }),
            Delivery::Progress { caller } => {
                self.tell_client(caller, |client, now, shared| client.on_progress(now, caller.call, shared))
            }
            Delivery::TroubleBegins(fault) => self.trouble_begins(fault),
            Delivery::TroubleEnds(fault) => self.trouble_ends(fault),
            Delivery::FuseIsLit { client, fuse } => {
                self.seats[client].light(fuse);
                Ok(())
            }
            Delivery::ClientReturns(client) => self.client_returns(client),
            Delivery::JobBegins(client) => self.job_begins(client),
        }
    }

    /// Tells a client of something, if it is still the process that asked.
    fn tell_client(
        &mut self,
        caller: Caller,
        tell: impl FnOnce(&mut Client, Timestamp, &mut Shared) -> Result<(), Died>,
    ) -> Result<(), Wrong> {
        let seat = &mut self.seats[caller.client];
        if seat.incarnation != caller.incarnation {
            return Ok(());
        }
        let Some(client) = &mut seat.client else { return Ok(()) };
        let result = tell(client, self.now, &mut self.shared);
        self.after_client(caller.client, result)
    }

    fn expire_clients(&mut self) -> Result<(), Wrong> {
        for number in 0..self.seats.len() {
            let Some(client) = &mut self.seats[number].client else { continue };
            if client.deadline().is_some_and(|at| at <= self.now) {
                let result = client.expire(self.now, &mut self.shared);
                self.after_client(number, result)?;
                let stuck = self.seats[number].client.as_ref().and_then(Client::deadline);
                if stuck.is_some_and(|at| at <= self.now) {
                    return self.wrong(format!("client {number} does not act on its deadline"));
                }
            }
        }
        Ok(())
    }

    /// Sends what a client left in its outbox, judges the jobs it ended, and buries it if it died.
    pub(super) fn after_client(&mut self, number: usize, result: Result<(), Died>) -> Result<(), Wrong> {
        let seat = &mut self.seats[number];
        let Some(client) = &mut seat.client else { return Ok(()) };
        let windows = client.check_windows();
        let (outbox, ended) = (std::mem::take(&mut client.outbox), std::mem::take(&mut client.ended));
        let incarnation = seat.incarnation;
        for outgoing in outbox {
            let caller = Caller { client: number, incarnation, call: outgoing.call };
            self.send(caller, outgoing.node, outgoing.header, outgoing.body)?;
        }
        for ended in ended {
            self.judge(ended)?;
        }
        windows.map_err(|what| self.found(what))?;
        match result {
            Ok(()) => Ok(()),
            Err(Died::Killed) => self.client_dies(number),
            Err(Died::Broken(what)) => self.wrong(format!("client {number}: {what}")),
        }
    }

    fn send(&mut self, caller: Caller, to: PublicKey, header: Vec<u8>, body: Vec<u8>) -> Result<(), Wrong> {
        let Some(node) = self.nodes.iter().position(|node| node.key() == to) else {
            return self.wrong("a request to a node that there is not".into());
        };
        for bytes in [&header, &body] {
            if let Some(what) = self.shared.leaks.find(bytes) {
                return self.wrong(format!("I5: {what} in a request"));
            }
        }
        self.summary.bytes_sent += (header.len() + body.len()) as u64;
        for delay in self.links.to_node(node, header.len() + body.len()) {
            self.after(delay / 2, Delivery::Progress { caller });
            let (header, body) = (header.clone(), body.clone());
            self.after(delay, Delivery::Request { node, caller, header, body });
        }
        Ok(())
    }

    fn request(&mut self, node: usize, caller: Caller, header: &[u8], body: Vec<u8>) -> Result<(), Wrong> {
        let from = self.seats[caller.client].public_key();
        let replies = self.nodes[node].receive(self.now, caller, from, header, body);
        self.reply(node, replies)
    }

    fn work_nodes(&mut self) -> Result<(), Wrong> {
        for number in 0..self.nodes.len() {
            if self.nodes[number].deadline().is_some_and(|at| at <= self.now) {
                let replies = self.nodes[number].work(self.now).map_err(|what| self.found(what))?;
                self.reply(number, replies)?;
            }
        }
        Ok(())
    }

    fn reply(&mut self, node: usize, replies: Vec<Reply>) -> Result<(), Wrong> {
        for reply in replies {
            let (caller, len) = (reply.caller, reply.header.len() + reply.body.len());
            if let Some(delay) = self.links.from_node(node, len) {
                let delay = delay + reply.delay;
                let delivery = match reply.broken {
                    Some(failure) => Delivery::Broken { caller, failure },
                    None => Delivery::Response { caller, header: reply.header, body: reply.body },
                };
                self.after(delay, delivery);
            }
        }
        Ok(())
    }
}

/// Troubles, deaths and returns.
impl World {
    pub(super) fn trouble_begins(&mut self, fault: usize) -> Result<(), Wrong> {
        let fault = self.plan.faults[fault].clone();
        match fault.trouble {
            Trouble::Deaf => self.links.set(fault.node, Link { deaf: true, mute: false }),
            Trouble::Mute => self.links.set(fault.node, Link { deaf: false, mute: true }),
            Trouble::Cut => self.links.set(fault.node, Link { deaf: true, mute: true }),
            trouble => {
                let broken = self.nodes[fault.node].begin(trouble).map_err(|what| self.found(what))?;
                self.reply(fault.node, broken)?;
            }
        }
        Ok(())
    }

    pub(super) fn trouble_ends(&mut self, fault: usize) -> Result<(), Wrong> {
        let fault = self.plan.faults[fault].clone();
        self.links.set(fault.node, Link::default());
        let broken = self.nodes[fault.node].end(fault.trouble).map_err(|what| self.found(what))?;
        self.reply(fault.node, broken)
    }

    fn client_dies(&mut self, number: usize) -> Result<(), Wrong> {
        self.seats[number].bury(&mut self.rng);
        let (lost, left): (BTreeMap<_, _>, _) =
            std::mem::take(&mut self.jobs).into_iter().partition(|(_, job)| job.client == number);
        self.jobs = left;
        self.interrupted.extend(lost.into_values());
        self.summary.client_deaths += 1;
        let pause = Duration::from_millis(self.rng.below(3_000));
        self.after(pause, Delivery::ClientReturns(number));
        Ok(())
    }

    fn client_returns(&mut self, number: usize) -> Result<(), Wrong> {
        let rng = self.rng.fork();
        let client = self.seats[number].open(number, &self.network, rng).map_err(|what| self.found(what))?;
        let has = |(_, name): &Record, version: &VersionId| {
            client.versions(name).is_ok_and(|found| found.contains(version))
        };
        let settled = self.shared.model.settle(number, has);
        settled.map_err(|what| self.found(format!("I11: {what}")))?;
        self.seats[number].client = Some(client);
        self.check_index(number)?;
        self.take_up_again(number)
    }

    /// As people do, a client that was interrupted mostly puts the same things again.
    fn take_up_again(&mut self, number: usize) -> Result<(), Wrong> {
        let (mine, others): (Vec<_>, _) =
            std::mem::take(&mut self.interrupted).into_iter().partition(|job| job.client == number);
        self.interrupted = others;
        for job in mine {
            if let Some(content) = job.content.filter(|_| self.rng.chance(self.retry)) {
                self.put(number, job.record, content)?;
            }
        }
        Ok(())
    }

    /// I11: a client finds every committed version in its index, and no other.
    fn check_index(&mut self, number: usize) -> Result<(), Wrong> {
        let Some(client) = &self.seats[number].client else { return Ok(()) };
        for nth in 0..RECORDS {
            let name = record_name(nth);
            let found = client.versions(&name).map_err(|died| self.found(format!("{died:?}")))?;
            let expected = self.shared.model.versions(&(number, name.clone()));
            if !found.iter().rev().eq(expected) {
                let what =
                    format!("I11: client {number} finds {found:?} of {name}, committed are {expected:?}");
                return self.wrong(what);
            }
        }
        Ok(())
    }
}

/// Jobs: what clients are given to do, and how it may end.
impl World {
    fn job_begins(&mut self, number: usize) -> Result<(), Wrong> {
        let busy = self.jobs.values().filter(|job| job.client == number).count();
        if busy < JOBS_AT_ONCE && self.seats[number].client.is_some() {
            match self.rng.below(10) {
                0..=4 => self.begin_put(number)?,
                5..=8 => self.begin_get(number)?,
                _ => self.begin_remove(number)?,
            }
        }
        if self.healed.is_none() {
            let pause = Duration::from_millis(self.rng.below(1_500));
            self.after(pause, Delivery::JobBegins(number));
        }
        Ok(())
    }

    fn new_job(
        &mut self,
        client: usize,
        record: &RecordName,
        what: &'static str,
        content: Option<Content>,
    ) -> JobId {
        self.next_job += 1;
        let info = JobInfo { client, record: record.clone(), started: self.now, what, content };
        self.jobs.insert(self.next_job, info);
        self.next_job
    }

    fn begin_put(&mut self, number: usize) -> Result<(), Wrong> {
        let name = record_name(self.rng.below(RECORDS));
        let content = Content::random(&mut self.rng);
        self.put(number, name, content)
    }

    pub(super) fn put(&mut self, number: usize, name: RecordName, content: Content) -> Result<(), Wrong> {
        if self.seats[number].client.is_none() {
            return Ok(());
        }
        let job = self.new_job(number, &name, "put", Some(content));
        let Some(client) = &mut self.seats[number].client else { return Ok(()) };
        let result = client.put(self.now, job, name, content, &mut self.shared);
        self.after_client(number, result)
    }

    fn begin_get(&mut self, number: usize) -> Result<(), Wrong> {
        let name = record_name(self.rng.below(RECORDS));
        let versions = self.shared.model.versions(&(number, name.clone()));
        // Mostly the latest version, now and then an older one.
        let old = self.rng.chance(200).then(|| versions.get(self.rng.index(versions.len()))).flatten();
        let Some(version) = old.or_else(|| versions.last()).copied() else { return Ok(()) };
        let len = self.shared.model.content(&version).map_or(0, |content| content.len as u64);
        let range = match self.rng.below(3) {
            0 => 0..len,
            1 => self.rng.below(len)..len,
            _ => {
                let start = self.rng.below(len);
                start..start + self.rng.below(len - start)
            }
        };
        self.get(number, &name, version, range)
    }

    pub(super) fn get(
        &mut self,
        number: usize,
        name: &RecordName,
        version: VersionId,
        range: Range<u64>,
    ) -> Result<(), Wrong> {
        let with_header = self.rng.chance(300);
        let job = self.new_job(number, name, "get", None);
        let Some(client) = &mut self.seats[number].client else { return Ok(()) };
        let result = client.get(self.now, job, name, version, (range, with_header), &mut self.shared);
        self.after_client(number, result)
    }

    fn begin_remove(&mut self, number: usize) -> Result<(), Wrong> {
        let name = record_name(self.rng.below(RECORDS));
        // A record that is being read stays: removing it for good would take the shards away.
        if self.jobs.values().any(|job| job.client == number && job.record == name) {
            return Ok(());
        }
        let for_good = self.rng.chance(300);
        let Some(client) = &mut self.seats[number].client else { return Ok(()) };
        let result = client.remove(self.now, &name, for_good, &mut self.shared);
        self.after_client(number, result)
    }

    /// Whether a job was allowed to end as it did.
    fn judge(&mut self, ended: Ended) -> Result<(), Wrong> {
        let Some(job) = self.jobs.remove(&ended.job) else { return Ok(()) };
        self.summary.count(job.what, ended.result.is_ok());
        let span = ended.started..self.now;
        match ended.result {
            Ok(())
                if self.healed.is_some_and(|at| at <= span.start) && span.end.since(span.start) > PROMPT =>
            {
                let took = span.end.since(span.start);
                self.wrong(format!("a {} took {took:?} in a healed world", job.what))
            }
            Ok(()) => Ok(()),
            Err(JobError::Wrong(what)) => self.wrong(what),
            Err(JobError::Unavailable { holders, why }) if job.what == "get" => {
                let code = self.network.code;
                let sound = holders.iter().filter(|holder| self.holds_soundly(holder, &span)).count();
                if sound < code.k() {
                    return Ok(());
                }
                self.wrong(format!("I2: a get failed although {sound} shards were at sound nodes: {why}"))
            }
            Err(JobError::Unavailable { why, .. }) => {
                let code = self.network.code;
                let sound = (0..self.nodes.len()).filter(|node| self.plan.was_sound(*node, &span)).count();
                if sound * code.m() < code.total() + code.m() {
                    return Ok(());
                }
                self.wrong(format!("a put failed although {sound} nodes were sound: {why}"))
            }
        }
    }

    fn holds_soundly(&self, holder: &PublicKey, span: &Range<Timestamp>) -> bool {
        self.nodes
            .iter()
            .position(|node| node.key() == *holder)
            .is_some_and(|node| self.plan.was_sound(node, span) && !self.plan.may_have_lost(node, span.end))
    }
}

/// The course of a run.
impl World {
    /// The world of a seed.
    ///
    /// # Errors
    /// [`Wrong`] if a store or an index cannot even be opened.
    pub fn new(seed: u64) -> Result<Self, Wrong> {
        let mut rng = Rng::new(seed);
        let code = *rng.pick(&[Code::DEFAULT, Code::DEFAULT, code(2, 1), code(3, 2), code(1, 1), code(2, 2)]);
        let nodes = code.total() + rng.index(4);
        let clients = 1 + rng.index(3);
        let weather = Weather::random(&mut rng);
        let span = START..START + FIRST_HALF;
        let plan = Plan::random(&mut rng, code, nodes, clients, &span);
        let mut world = Self::build(seed, rng, (code, nodes), weather, plan)?;
        for client in 0..clients {
            world.seat_client(client)?;
            world.after(Duration::from_millis(100), Delivery::JobBegins(client));
        }
        Ok(world)
    }

    /// A world without clients.
    pub(super) fn build(
        seed: u64,
        mut rng: Rng,
        (code, count): (Code, usize),
        weather: Weather,
        plan: Plan,
    ) -> Result<Self, Wrong> {
        let opened = nodes(&mut rng, code, count);
        let (nodes, network) = opened.map_err(|what| Wrong { seed, after: Duration::ZERO, what })?;
        let mut world = Self {
            now: START,
            queue: BTreeMap::new(),
            seq: 0,
            links: Links::new(count, weather, rng.fork()),
            network,
            plan,
            nodes,
            seats: Vec::new(),
            shared: Shared::default(),
            jobs: BTreeMap::new(),
            next_job: 0,
            retry: 700,
            interrupted: Vec::new(),
            healed: None,
            trace: blake3::Hasher::new(),
            summary: Summary::new(seed),
            rng,
        };
        world.watch_for_secrets();
        world.schedule_plan();
        Ok(world)
    }

    /// Makes the next client and opens it.
    pub(super) fn seat_client(&mut self, number: usize) -> Result<(), Wrong> {
        self.seats.push(Seat::new(&mut self.rng, &mut self.shared.leaks));
        self.client_returns(number)
    }

    fn watch_for_secrets(&mut self) {
        self.shared.leaks.watch(CONTENT_NEEDLE, "content");
        self.shared.leaks.watch(NAME_NEEDLE, "a record's name");
        self.shared.leaks.watch(DEK_NEEDLE, "a data key");
    }

    fn schedule_plan(&mut self) {
        for fault in 0..self.plan.faults.len() {
            let during = self.plan.faults[fault].during.clone();
            self.schedule(during.start, Delivery::TroubleBegins(fault));
            self.schedule(during.end, Delivery::TroubleEnds(fault));
        }
        for (at, client, fuse) in self.plan.deaths.clone() {
            self.schedule(at, Delivery::FuseIsLit { client, fuse });
        }
    }

    /// Carries out the whole run.
    ///
    /// # Errors
    /// [`Wrong`] names the first thing that must not be.
    pub fn run(mut self) -> Result<Summary, Wrong> {
        self.run_until(START + FIRST_HALF)?;
        self.heal();
        self.run_until(START + FIRST_HALF + SETTLE)?;
        if let Some(job) = self.jobs.values().next() {
            let took = self.now.since(job.started);
            return self.wrong(format!("a {} of {} has not ended after {took:?}", job.what, job.record));
        }
        self.read_everything()?;
        self.release_everything()?;
        self.write_again()?;
        self.read_everything()?;
        self.check_disks()?;
        self.summary.trace = Hash(self.trace.finalize().into());
        Ok(self.summary)
    }

    /// Everything works again: links, clients, nodes. Only what the lost node lost stays lost.
    pub(super) fn heal(&mut self) {
        self.links.set_weather(Weather::CLEAR);
        self.healed = Some(self.now);
        for seat in &mut self.seats {
            seat.disk.lose_power_at(u64::MAX);
            if let Some(client) = &mut seat.client {
                client.fuse = None;
            }
        }
    }

    /// I2: every committed version reads back bit for bit.
    ///
    /// # Errors
    /// [`Wrong`] if one does not.
    pub fn read_everything(&mut self) -> Result<(), Wrong> {
        let committed: Vec<_> = self.shared.model.all().collect();
        for ((client, name), version) in committed {
            let len = self.shared.model.content(&version).map_or(0, |content| content.len as u64);
            self.get(client, &name, version, 0..len)?;
            self.finish_jobs()?;
            self.summary.read_back += 1;
        }
        Ok(())
    }

    /// What nothing uses any more is gone from every node in the end.
    ///
    /// # Errors
    /// [`Wrong`] if it is not.
    pub fn release_everything(&mut self) -> Result<(), Wrong> {
        for number in 0..self.seats.len() {
            let Some(client) = &mut self.seats[number].client else { continue };
            let result = client.abandon_uploads(self.now);
            self.after_client(number, result)?;
        }
        self.run_until(self.now + PROMPT)?;
        for number in 0..self.seats.len() {
            let Some(client) = &mut self.seats[number].client else { continue };
            match client.unreleased() {
                Ok(0) => {}
                left => return self.wrong(format!("client {number}: {left:?} segments are not released")),
            }
        }
        Ok(())
    }

    /// A healed world takes new records, with a shard on every node that it should be on.
    fn write_again(&mut self) -> Result<(), Wrong> {
        for number in 0..self.seats.len() {
            for _ in 0..3 {
                self.begin_put(number)?;
                self.finish_jobs()?;
            }
            self.check_index(number)?;
        }
        Ok(())
    }

    /// Runs until every job has ended.
    fn finish_jobs(&mut self) -> Result<(), Wrong> {
        self.finish_jobs_within(PROMPT)
    }

    /// Runs until every job has ended, which takes no longer than this.
    pub(super) fn finish_jobs_within(&mut self, limit: Duration) -> Result<(), Wrong> {
        let end = self.now + limit;
        while !self.jobs.is_empty() {
            if !self.step(end)? {
                let what = self.jobs.values().next().map_or("job", |job| job.what);
                return self.wrong(format!("a {what} did not end within {limit:?}"));
            }
        }
        Ok(())
    }

    /// I5 at rest: no disk, not even a client's own, shows content, names or keys.
    fn check_disks(&self) -> Result<(), Wrong> {
        let disks = self.nodes.iter().map(Node::disk).chain(self.seats.iter().map(|seat| &seat.disk));
        for disk in disks {
            for name in disk.list().unwrap_or_default() {
                let bytes = contents(disk, &name).map_err(|error| self.found(error.to_string()))?;
                if let Some(what) = self.shared.leaks.find(&bytes) {
                    return self.wrong(format!("I5: {what} on a disk, in {name}"));
                }
            }
        }
        Ok(())
    }

    fn found(&self, what: String) -> Wrong {
        Wrong { seed: self.summary.seed, after: self.now.since(START), what }
    }

    fn wrong<T>(&self, what: String) -> Result<T, Wrong> {
        Err(self.found(what))
    }
}
