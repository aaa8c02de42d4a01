//! The machine: which height is being decided, and when the next begins.
//!
//! A height is **idle** until there is something to decide: the driver says so ([`Event::Wake`]), a block is
//! proposed, more members vote than can all be faulty, or the heartbeat is due. It then **runs** in the engine
//! until votes or a certificate decide it, and is **decided** until the driver has the block durable.
//!
//! [`receive`](super::receive) has what arrives, [`settle`](super::settle) how blocks are checked and heights end.

use std::collections::{BTreeSet, VecDeque};

use bytes::Bytes;

use super::bodies::Bodies;
use super::codec::{Entry, Message};
use super::engine::{Engine, Step};
use super::event::{Effect, Event, Settings, Stop, To, WalEntry};
use super::inbox::Inbox;
use super::peers::Peers;
use super::receive::its_turn;
use super::recent::Recent;
use super::replay::Replay;
use super::timers::Timers;
use crate::message::{CommitCertificate, SignedProposal};
use crate::types::{Committee, Hash, Height, Machine, PublicKey, Round, Timestamp};

/// Where the machine stands with its height.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// Before [`Event::Start`].
    New,
    /// Nothing to decide yet.
    Idle,
    /// In the engine.
    Running,
    /// Decided; the driver makes it durable.
    Decided,
    /// After [`Effect::Stop`].
    Stopped,
}

/// One static node's part in agreeing on blocks. Never does I/O; see [`event`](super::event) for how to drive it.
#[derive(Debug)]
pub struct Consensus {
    pub(super) settings: Settings,
    pub(super) now: Timestamp,
    pub(super) phase: Phase,
    /// The height of the phase.
    pub(super) height: Height,
    /// Who decides on it.
    pub(super) committee: Committee,
    /// There while running; also after a decision whose block is missing.
    pub(super) engine: Option<Engine>,
    pub(super) timers: Timers,
    pub(super) bodies: Bodies,
    pub(super) inbox: Inbox,
    pub(super) recent: Recent,
    pub(super) peers: Peers,
    /// There while the log is replayed.
    pub(super) replay: Option<Replay>,
    /// Something was appended that is not flushed yet.
    pub(super) unsynced: bool,
    /// Own proposal of this height, to be said again to who connects.
    pub(super) own_proposal: Option<Bytes>,
    /// Whom this node has shown what was proposed to it, in which round.
    pub(super) shown: BTreeSet<(Round, PublicKey)>,
    /// This height is decided by this certificate, but the block is missing.
    pub(super) held: Option<CommitCertificate>,
    /// The bytes fetched last and who gave them.
    pub(super) fetched: Option<(Hash, PublicKey)>,
    /// When the block of this height is to be asked for.
    pub(super) need_at: Option<Timestamp>,
    /// Who was asked last.
    pub(super) asked: Option<PublicKey>,
    /// When an idle height begins all the same.
    pub(super) heartbeat_at: Option<Timestamp>,
    pub(super) effects: VecDeque<Effect>,
}

impl Consensus {
    /// A node that has not begun.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        let alone = Committee::alone(settings.pair.public());
        Self {
            settings,
            now: Timestamp::ZERO,
            phase: Phase::New,
            height: Height::GENESIS,
            committee: alone,
            engine: None,
            timers: Timers::default(),
            bodies: Bodies::default(),
            inbox: Inbox::default(),
            recent: Recent::default(),
            peers: Peers::default(),
            replay: None,
            unsynced: false,
            own_proposal: None,
            shown: BTreeSet::new(),
            held: None,
            fetched: None,
            need_at: None,
            asked: None,
            heartbeat_at: None,
            effects: VecDeque::new(),
        }
    }

    /// The height being decided, or just decided.
    #[must_use]
    pub const fn height(&self) -> Height {
        self.height
    }

    /// The furthest height that a peer claims to be at.
    #[must_use]
    pub fn furthest(&self) -> Height {
        self.peers.furthest()
    }

    fn start(&mut self, height: Height, committee: Committee, wal: &[WalEntry]) {
        if self.phase != Phase::New {
            return;
        }
        self.enter(height, committee);
        match Replay::read(height, wal) {
            Err(stop) => self.stop(stop),
            Ok(log) if log.is_empty() => {}
            Ok(log) => self.begin(log),
        }
    }

    /// Goes to a height, where nothing has happened yet.
    fn enter(&mut self, height: Height, committee: Committee) {
        self.phase = Phase::Idle;
        self.height = height;
        self.peers.retain(&committee);
        self.committee = committee;
        self.clear();
        self.heartbeat_at = Some(self.now + self.settings.timing.heartbeat);
    }

    /// Forgets what belongs to one height only.
    pub(super) fn clear(&mut self) {
        self.engine = None;
        self.timers.clear();
        self.bodies.clear();
        self.own_proposal = None;
        self.shown.clear();
        self.held = None;
        self.fetched = None;
        self.need_at = None;
        self.heartbeat_at = None;
    }

    fn committed(&mut self, height: Height, next: Committee, pending: bool) {
        if self.phase != Phase::Decided || height != self.height {
            return;
        }
        self.enter(height.next(), next);
        if pending || self.called() {
            self.begin(Vec::new());
            return;
        }
        self.take_waiting();
    }

    fn take_waiting(&mut self) {
        for (from, message, len) in self.inbox.take(self.height) {
            self.receive(from, message, len);
        }
    }

    /// Whether others give reason to begin: a proposal, or so many votes that one is honest. One vote is not enough,
    /// or one rogue could have the chain grow at full speed without anything to decide.
    pub(super) fn called(&self) -> bool {
        let mut proposals = self.inbox.proposals(self.height);
        if proposals.any(|signed| its_turn(&self.committee, signed).is_ok()) {
            return true;
        }
        let voters = self.inbox.voters(self.height);
        voters.iter().filter(|key| self.committee.contains(key)).count() >= self.committee.one_honest()
    }

    /// Begins the height, from what was logged of it before a crash.
    pub(super) fn begin(&mut self, log: Vec<Entry>) {
        self.phase = Phase::Running;
        self.heartbeat_at = None;
        self.engine = Some(Engine::new(&self.settings, self.height, &self.committee, &log));
        if log.is_empty() {
            self.feed(Engine::start);
        } else {
            self.replay(&log);
        }
        self.take_waiting();
    }

    /// Lets the engine work and does what it wants.
    pub(super) fn feed(&mut self, work: impl FnOnce(&mut Engine) -> Result<(), Stop>) {
        let Some(engine) = &mut self.engine else { return };
        match work(engine) {
            Ok(()) => self.carry_out(),
            Err(stop) => self.stop(stop),
        }
    }

    fn carry_out(&mut self) {
        let steps = self.engine.as_mut().map(Engine::take_steps).unwrap_or_default();
        for step in steps {
            match step {
                Step::Log(entry) => self.append(entry),
                Step::Vote(signed) => self.say(&Message::Vote(signed)),
                Step::Propose(signed) => self.say_proposal(signed),
                Step::Polka(polka) => self.say(&Message::Polka(polka)),
                Step::RoundProof(proof) => self.say(&Message::Round(proof)),
                Step::Build(round) => match &mut self.replay {
                    // Asked in the middle of the log, the answer could differ from what was proposed: put off.
                    Some(replay) => replay.build = Some(round),
                    None => self.effects.push_back(Effect::Build { height: self.height, round }),
                },
                Step::Schedule(timeout) => self.timers.schedule(self.now, timeout, &self.settings.timing),
                Step::Cancel(timeout) => self.timers.cancel(timeout),
                Step::CancelAll => self.timers.clear(),
                Step::Decided(certificate, evidence) => self.settle(certificate, evidence),
            }
            if self.phase != Phase::Running {
                return;
            }
        }
    }

    fn append(&mut self, mut entry: Entry) {
        if let Entry::Verdict(verdict) = &mut entry
            && let Some(body) = self.bodies.get(&verdict.bytes)
            && verdict.valid
        {
            verdict.block = body.block.clone();
        }
        let bytes = entry.encode();
        if self.replay.as_ref().is_some_and(|replay| replay.logged.contains(&bytes)) {
            return;
        }
        self.effects.push_back(Effect::Append(WalEntry(bytes)));
        self.unsynced = true;
    }

    /// Says something to all that this node is bound by: only once the log has it.
    ///
    /// That is the only flush there is. A round that begins says nothing to anybody, and a decision is durable with
    /// the block or not at all.
    pub(super) fn say(&mut self, message: &Message) {
        if std::mem::take(&mut self.unsynced) {
            self.effects.push_back(Effect::Flush);
        }
        self.effects.push_back(Effect::Send { to: To::All, bytes: message.encode() });
    }

    pub(super) fn say_proposal(&mut self, signed: SignedProposal) {
        let Some(body) = self.bodies.get_mut(&signed.proposal.bytes) else { return };
        if body.valid != Some(true) {
            return;
        }
        body.proposal.get_or_insert(signed);
        let message = Message::Proposal(signed, body.block.clone());
        self.say(&message);
        if signed.proposer == self.settings.pair.public() {
            self.own_proposal = Some(message.encode());
        }
    }

    /// Nothing that is not sent yet may still be sent.
    pub(super) fn stop(&mut self, stop: Stop) {
        self.clear();
        self.recent = Recent::default();
        self.phase = Phase::Stopped;
        self.effects.clear();
        self.effects.push_back(Effect::Stop(stop));
    }

    /// A connection stands: say again what the peer may have missed. The engine says votes again by itself, but
    /// never a proposal.
    fn connected(&mut self, peer: PublicKey) {
        let mut again: Vec<Bytes> = self.own_proposal.iter().cloned().collect();
        if let Some(engine) = &self.engine {
            again.extend(engine.own_votes().map(|vote| Message::Vote(vote).encode()));
        }
        let newest = self.recent.nearest(self.height);
        let newest = newest.filter(|newest| newest.height >= self.peers.height(&peer));
        again.extend(newest.map(|newest| Message::Commit(newest.clone()).encode()));
        self.effects.extend(again.into_iter().map(|bytes| Effect::Send { to: To::One(peer), bytes }));
    }

    /// Sends certificates to those members who do not seem to have them. The engine has no message that says
    /// "I have decided": without this, who missed a precommit would wait for it, and be waited for as proposer.
    ///
    /// And to one more in turn, so that what a rogue precommitted to one and to another comes together.
    fn spread(&mut self) {
        let own = self.settings.pair.public();
        for (committee, certificate) in self.recent.take_due(self.now) {
            let turn = committee.after(&own, certificate.height);
            let bytes = Message::Commit(certificate.clone()).encode();
            let wanting = committee.members().iter().filter(|key| {
                **key != own && (Some(**key) == turn || self.peers.height(key) <= certificate.height)
            });
            let sends = wanting.map(|key| Effect::Send { to: To::One(*key), bytes: bytes.clone() });
            self.effects.extend(sends);
        }
    }

    /// Notices when others have decided what this node has not: by more than one height, they will not send it.
    fn watch(&mut self) {
        let open = matches!(self.phase, Phase::Idle | Phase::Running);
        let furthest = self.peers.furthest();
        if open && self.need_at.is_none() && furthest > self.height {
            let far = furthest > self.height.next();
            let patience = self.settings.timing.patience;
            self.need_at = Some(if far { self.now } else { self.now + patience });
        }
    }
}

impl Machine for Consensus {
    type Event = Event;
    type Effect = Effect;

    fn handle(&mut self, now: Timestamp, event: Event) {
        // A clock that is set back must not keep timers from ever being due.
        self.now = now;
        if self.phase == Phase::Stopped {
            return;
        }
        match event {
            Event::Start { height, committee, wal } => self.start(height, committee, &wal),
            Event::Received { from, bytes } => self.arrived(from, &bytes),
            Event::Connected { peer } => self.connected(peer),
            Event::Built { height, round, id, block } => self.built(height, round, id, block),
            Event::Checked { height, id, bytes, valid } => self.checked(height, id, bytes, valid),
            Event::Committed { height, next_committee, pending } => {
                self.committed(height, next_committee, pending);
            }
            Event::Synced { from, id, block, certificate } => self.synced(from, id, block, certificate),
            Event::Wake if self.phase == Phase::Idle => self.begin(Vec::new()),
            Event::Wake => {}
        }
        self.watch();
    }

    fn poll(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    fn deadline(&self) -> Option<Timestamp> {
        let own = [self.timers.deadline(), self.recent.deadline(), self.need_at, self.heartbeat_at];
        own.into_iter().flatten().min()
    }

    fn expire(&mut self, now: Timestamp) {
        self.now = now;
        self.spread();
        if self.need_at.is_some_and(|at| at <= now) {
            self.ask();
        }
        if self.heartbeat_at.is_some_and(|at| at <= now) {
            self.begin(Vec::new());
        }
        while let Some(timeout) = self.timers.take_due(now) {
            self.feed(|engine| engine.elapsed(timeout));
        }
        self.watch();
    }
}
