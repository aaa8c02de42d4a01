//! Places the shards of one coded segment on nodes and acknowledges once enough of them are promised.
//!
//! [`Upload`] performs no I/O and sees no shard bytes. It sends every shard to the best node of its
//! ranking; a node that fails, lies, is full or too slow loses the shard to the next. Once
//! [`Code::ack_threshold`](crate::types::Code::ack_threshold) receipts are in, *and* the loss of any one node would leave k shards, it has the
//! descriptor persisted and only then reports success (I2: nothing is acknowledged that one
//! node could take away).
//!
//! A healthy network under load gives all receipts, only some of them late. So with enough of them it waits for the rest
//! for as long as their nodes take bytes, and for [`UploadConfig::slow_after`] once they do not; not for nodes
//! that fail or refuse. Shards still under way then go on in the background, and every receipt amends the
//! descriptor when it comes.
//!
//! With fewer nodes than shards a node takes several, but never more than m.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use crate::message::request::{PutShard, ShardRef};
use crate::message::{CustodyReceipt, Descriptor, RefusalCode, Violation};
use crate::transfer::failure::{Failure, RequestId};
use crate::types::{Machine, PublicKey, Timestamp};

mod protocol;
#[cfg(test)]
mod tests;

pub use protocol::{Effect, Event, Outcome, Trouble, UploadConfig, UploadError, UploadPlan};

/// A shard that takes this many times as long as the first k took is late: an unused node may have it sooner.
const TAIL_FACTOR: u32 = 3;

/// A request that takes this many times as long as the first k took is no better than a silent one.
const TRICKLE_FACTOR: u32 = 10;

/// Refusals as busy in a row that count as one failure: long enough for a node to work off its queue.
const BUSY_TRIES: u32 = 5;

/// Longest wait before a node is tried again, whatever it asks for.
const MAX_BACKOFF: Duration = Duration::from_secs(2);

/// Shortest wait before a busy node is asked again, whatever it says.
const MIN_BACKOFF: Duration = Duration::from_millis(10);

/// One request under way.
#[derive(Debug)]
struct Attempt {
    shard: usize,
    node: PublicKey,
    nonce: [u8; 16],
    sent_at: Timestamp,
    /// When bytes were last acknowledged; at first `sent_at`.
    heard_at: Timestamp,
    hedge: Hedge,
}

/// What is still to be decided about a request that takes long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Hedge {
    /// Once it is slower than the others: send the shard to an unused node too, if there is one.
    WhenSlow,
    /// Once it is silent: send the shard to any healthy node.
    WhenSilent,
    /// Nothing.
    Decided,
}

/// What this upload learned of a node.
#[derive(Debug, Default)]
struct Node {
    /// Failures since it last took a shard.
    strikes: u32,
    /// Refusals as busy since it last took a shard.
    busy: u32,
    /// Not to be asked before.
    ready_at: Timestamp,
    /// Not to be asked again: it is full, or it lied.
    excluded: bool,
    last: Option<Failure>,
    /// It was sent a shard whose fate is unknown.
    asked: bool,
    /// It kept a shard waiting for longer than others did.
    late: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Collecting receipts.
    Placing,
    /// Enough are in; waiting for the driver to persist the descriptor.
    Persisting,
    /// Success is reported; the last shards are still on their way.
    Settling,
    Finished,
}

/// The upload of one coded segment. See the [module](self) for what it promises.
#[derive(Debug)]
pub struct Upload {
    plan: UploadPlan,
    config: UploadConfig,
    started: Timestamp,
    phase: Phase,
    /// By shard: the node whose receipt is in.
    holders: Vec<Option<PublicKey>>,
    /// By shard that is being moved: the node that has it beside another one. It counts again if the move fails.
    /// Invariant: `None` where there is a holder.
    fallbacks: Vec<Option<PublicKey>>,
    /// Invariant: no attempt is for a shard that has a holder.
    attempts: BTreeMap<RequestId, Attempt>,
    nodes: BTreeMap<PublicKey, Node>,
    violations: Vec<(PublicKey, Violation)>,
    next_request: u64,
    /// How long the first k receipts took.
    pace: Option<Duration>,
    /// When acknowledging became possible.
    enough_at: Option<Timestamp>,
    reported_at: Option<Timestamp>,
    /// The holders in the descriptor that was persisted.
    persisted: Vec<Option<PublicKey>>,
    effects: VecDeque<Effect>,
}

impl Upload {
    /// Begins an upload: the first effects send every shard to its place.
    ///
    /// # Panics
    /// If the plan does not have one root, one ranking and one holder or none for each shard.
    #[must_use]
    pub fn new(now: Timestamp, plan: UploadPlan, config: UploadConfig) -> Self {
        let total = plan.code.total();
        assert!(plan.roots.len() == total && plan.ranking.len() == total, "a plan for every shard");
        assert_eq!(plan.held.len(), total, "a holder or none for every shard");
        let mut upload = Self {
            config,
            started: now,
            phase: Phase::Placing,
            holders: plan.held.clone(),
            fallbacks: vec![None; total],
            attempts: BTreeMap::new(),
            nodes: BTreeMap::new(),
            violations: Vec::new(),
            next_request: 0,
            pace: None,
            enough_at: None,
            reported_at: None,
            persisted: Vec::new(),
            effects: VecDeque::new(),
            plan,
        };
        upload.spread();
        upload.advance(now);
        upload
    }

    /// Lets go of shards that share their node while another node has none, as far as there are such nodes: they are
    /// sent to where they belong.
    fn spread(&mut self) {
        let holds_any = |holders: &[Option<PublicKey>], node: &PublicKey| holders.contains(&Some(*node));
        let nodes: BTreeSet<_> = self.plan.ranking.iter().flatten().copied().collect();
        let mut free = nodes.iter().filter(|node| !holds_any(&self.holders, node)).count();
        for shard in 0..self.holders.len() {
            let Some(node) = self.holders[shard] else { continue };
            let at_home = |shard: usize| self.plan.ranking[shard].first() == Some(&node);
            let with_it = (0..self.holders.len()).filter(|other| self.holders[*other] == Some(node));
            let others: Vec<_> = with_it.filter(|other| *other != shard).collect();
            // Of those on one node the one that belongs there stays, else the last.
            let is_last = others.iter().all(|other| *other < shard);
            let stays = at_home(shard) || (is_last && !others.iter().any(|other| at_home(*other)));
            if free > 0 && !others.is_empty() && !stays {
                self.fallbacks[shard] = self.holders[shard].take();
                free -= 1;
            }
        }
    }

    /// Gives up moving a shard: it counts where it was.
    fn fall_back(&mut self, now: Timestamp, shard: usize) -> bool {
        let Some(node) = self.fallbacks[shard].take() else { return false };
        self.holders[shard] = Some(node);
        for attempt in self.attempts.values().filter(|attempt| attempt.shard == shard) {
            self.nodes.entry(attempt.node).or_default().late = true;
        }
        self.cancel_where(|attempt| attempt.shard == shard);
        self.note_enough(now);
        true
    }

    /// Nothing is under way and nothing more will be: the driver may forget the shards and the machine.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.phase == Phase::Finished && self.effects.iter().all(|effect| *effect == Effect::Finished)
    }

    /// Nodes that may hold a shard of this segment of which the descriptor does not tell. Release the
    /// segment there too when it is released.
    #[must_use]
    pub fn strays(&self) -> BTreeSet<PublicKey> {
        let holds = |node: &PublicKey| self.holders.contains(&Some(*node));
        self.nodes.iter().filter(|(key, node)| node.asked && !holds(key)).map(|(key, _)| *key).collect()
    }

    /// The descriptor as the receipts have it now.
    fn descriptor(&self) -> Descriptor {
        Descriptor {
            segment: self.plan.segment,
            code: self.plan.code,
            len: self.plan.len,
            roots: self.plan.roots.clone(),
            holders: self.holders.clone(),
        }
    }

    fn held(&self) -> usize {
        self.holders.iter().flatten().count()
    }

    /// Shards that a node holds or is being sent, and those that may be counted there again.
    fn load(&self, node: &PublicKey) -> usize {
        let held =
            self.holders.iter().chain(&self.fallbacks).flatten().filter(|holder| *holder == node).count();
        held + self.attempts.values().filter(|attempt| attempt.node == *node).count()
    }

    /// Most shards that any one node holds.
    fn heaviest(&self) -> usize {
        let shards_of = |node| self.holders.iter().flatten().filter(|holder| *holder == node).count();
        self.holders.iter().flatten().map(shards_of).max().unwrap_or(0)
    }

    /// Receipts needed as the shards lie now: the threshold, and k after the loss of any one node.
    fn need(&self) -> usize {
        self.plan.code.ack_threshold().max(self.plan.code.k() + self.heaviest())
    }

    fn is_sending(&self, shard: usize) -> bool {
        self.attempts.values().any(|attempt| attempt.shard == shard)
    }

    /// It failed since it last took a shard, or is late with one now.
    fn is_doubtful(&self, node: &PublicKey) -> bool {
        let is_late = |attempt: &Attempt| attempt.node == *node && attempt.hedge != Hedge::WhenSlow;
        self.nodes.get(node).is_some_and(|known| known.strikes > 0) || self.attempts.values().any(is_late)
    }

    /// The best node for a shard and when it may be asked: healthy before failing, then the one with the
    /// fewest shards, then the one that is ready first, then by rank.
    fn choose(&self, now: Timestamp, shard: usize) -> Option<(Timestamp, PublicKey)> {
        let fresh = Node::default();
        let mut best = None;
        for (rank, key) in self.plan.ranking[shard].iter().enumerate() {
            let node = self.nodes.get(key).unwrap_or(&fresh);
            let load = self.load(key);
            let tried = self.attempts.values().any(|a| a.shard == shard && a.node == *key);
            if tried || node.excluded || node.strikes >= self.config.tries || load >= self.plan.code.m() {
                continue;
            }
            let order = (self.is_doubtful(key), load, node.ready_at.max(now), rank);
            if best.is_none_or(|(least, _)| order < least) {
                best = Some((order, *key));
            }
        }
        best.map(|((_, _, ready_at, _), key)| (ready_at, key))
    }

    fn send(&mut self, now: Timestamp, shard: usize, node: PublicKey) {
        let request = RequestId(self.next_request);
        self.next_request += 1;
        let nonce = nonce(&self.plan.nonce_seed, request);
        let attempt = Attempt { shard, node, nonce, sent_at: now, heard_at: now, hedge: Hedge::WhenSlow };
        self.attempts.insert(request, attempt);
        let known = self.nodes.entry(node).or_default();
        known.asked = true;
        let again = known.strikes > 0;
        #[expect(clippy::cast_possible_truncation, reason = "a shard index is below MAX_SHARDS")]
        let index = shard as u8;
        let shard_ref = ShardRef { segment: self.plan.segment, index };
        let (vault, root, len) = (self.plan.vault, self.plan.roots[shard], self.plan.shard_len);
        let put = PutShard { vault, shard: shard_ref, root, len, nonce };
        self.effects.push_back(Effect::Send { request, node, put, again });
    }

    fn cancel(&mut self, request: RequestId) {
        if self.attempts.remove(&request).is_some() {
            self.effects.push_back(Effect::Cancel { request });
        }
    }

    fn cancel_where(&mut self, unwanted: impl Fn(&Attempt) -> bool) {
        let requests: Vec<_> =
            self.attempts.iter().filter(|(_, attempt)| unwanted(attempt)).map(|(id, _)| *id).collect();
        for request in requests {
            self.cancel(request);
        }
    }

    fn accepted(&mut self, now: Timestamp, request: RequestId, receipt: &CustodyReceipt) {
        let Some(attempt) = self.attempts.get(&request) else { return };
        if !self.answers(attempt, receipt) {
            return self.failed(now, request, Failure::Violation(Violation::WrongReceipt));
        }
        let (shard, node) = (attempt.shard, attempt.node);
        self.attempts.remove(&request);
        (self.holders[shard], self.fallbacks[shard]) = (Some(node), None);
        let known = self.nodes.entry(node).or_default();
        (known.strikes, known.busy) = (0, 0);
        self.cancel_where(|attempt| attempt.shard == shard);
        if self.held() == self.plan.code.k() {
            self.pace = Some(now.since(self.started));
        }
        self.note_enough(now);
        if self.phase == Phase::Settling {
            self.amend();
        }
    }

    fn note_enough(&mut self, now: Timestamp) {
        if self.enough_at.is_none() && self.held() >= self.need() {
            self.enough_at = Some(now);
            self.effects.push_back(Effect::Enough);
        }
    }

    /// Has the descriptor replaced if more is known than was persisted.
    fn amend(&mut self) {
        if self.holders != self.persisted {
            self.persisted.clone_from(&self.holders);
            self.effects.push_back(Effect::Amend(self.descriptor()));
        }
    }

    /// The driver verified the receipt; that it is this request's is checked once more, for a receipt
    /// credited to the wrong shard would be a lost shard.
    fn answers(&self, attempt: &Attempt, receipt: &CustodyReceipt) -> bool {
        receipt.segment == self.plan.segment
            && usize::from(receipt.index) == attempt.shard
            && receipt.root == self.plan.roots[attempt.shard]
            && receipt.nonce == attempt.nonce
            && receipt.node == attempt.node
    }

    /// Ends a request and notes what it says of its node.
    fn failed(&mut self, now: Timestamp, request: RequestId, failure: Failure) {
        let Some(attempt) = self.attempts.remove(&request) else { return };
        if let Failure::Violation(violation) = failure {
            self.violations.push((attempt.node, violation));
        }
        let backoff = self.config.backoff;
        let node = self.nodes.entry(attempt.node).or_default();
        match &failure {
            Failure::Refused(refusal) if refusal.code == RefusalCode::Busy => {
                let hint = Duration::from_millis(refusal.retry_after_ms.into());
                node.ready_at = now + hint.clamp(MIN_BACKOFF, MAX_BACKOFF);
                node.busy += 1;
                node.strikes += u32::from(node.busy.is_multiple_of(BUSY_TRIES));
            }
            passing if passing.is_passing() => {
                node.ready_at = now + (backoff * (1 << node.strikes.min(16))).min(MAX_BACKOFF);
                node.strikes += 1;
            }
            _ => node.excluded = true,
        }
        node.last = Some(failure);
    }

    /// When a request is late enough to think of sending its shard elsewhere too.
    fn hedge_at(&self, attempt: &Attempt) -> Option<Timestamp> {
        let silent_at = self.silent_at(attempt);
        match (attempt.hedge, self.pace) {
            (Hedge::Decided, _) => None,
            (Hedge::WhenSilent, _) | (Hedge::WhenSlow, None) => Some(silent_at),
            (Hedge::WhenSlow, Some(pace)) => {
                let tail = (pace * TAIL_FACTOR).clamp(self.config.tail_min, self.config.slow_after);
                Some(silent_at.min(attempt.sent_at + tail))
            }
        }
    }

    /// When a request counts as silent: no byte was acknowledged, or only a trickle while k others were done. Once enough
    /// receipts are in it has time anew, for it is all that is waited for.
    fn silent_at(&self, attempt: &Attempt) -> Timestamp {
        let wait = self.config.slow_after;
        let no_sooner =
            |at: Timestamp, grace| self.enough_at.map_or(at, |enough_at| at.max(enough_at + grace));
        let silent_at = no_sooner(attempt.heard_at + wait, wait);
        // So early that another node has a chance before the grace ends.
        let trickle = self.config.grace_max.saturating_sub(wait);
        let trickles =
            |pace: Duration| no_sooner(attempt.sent_at + (pace * TRICKLE_FACTOR).max(wait), trickle);
        self.pace.map_or(silent_at, |pace| silent_at.min(trickles(pace)))
    }

    /// Sends the shards of late requests to other nodes too.
    fn hedge(&mut self, now: Timestamp) {
        let is_late = |attempt: &Attempt| self.hedge_at(attempt).is_some_and(|at| at <= now);
        let late: Vec<_> = self
            .attempts
            .iter()
            .filter(|(_, attempt)| is_late(attempt))
            .map(|(request, attempt)| (*request, self.silent_at(attempt) <= now))
            .collect();
        for (request, silent) in late {
            self.hedge_one(now, request, silent);
        }
    }

    fn hedge_one(&mut self, now: Timestamp, request: RequestId, silent: bool) {
        let Some(attempt) = self.attempts.get_mut(&request) else { return };
        attempt.hedge = if silent { Hedge::Decided } else { Hedge::WhenSilent };
        let (shard, node) = (attempt.shard, attempt.node);
        self.nodes.entry(node).or_default().late = true;
        self.effects.extend(silent.then_some(Effect::Suspect { node }));
        if silent && self.fall_back(now, shard) {
            return;
        }
        // A second shard on a node costs redundancy: only while somebody waits and the node is silent.
        let may_double = silent && self.phase == Phase::Placing;
        let spare = self.choose(now, shard).filter(|(ready_at, node)| {
            !self.is_doubtful(node) && *ready_at <= now && (may_double || self.load(node) == 0)
        });
        if let Some((_, node)) = spare {
            if let Some(attempt) = self.attempts.get_mut(&request) {
                attempt.hedge = Hedge::Decided;
            }
            self.send(now, shard, node);
        }
    }

    /// When the upload ends whatever happens.
    fn ends_at(&self) -> Option<Timestamp> {
        let limit = self.started + self.config.limit;
        match self.phase {
            Phase::Placing => Some(limit),
            Phase::Settling => self.reported_at.map(|at| limit.min(at + self.config.settle)),
            Phase::Persisting | Phase::Finished => None,
        }
    }

    /// When what is still missing need not be waited for any more, if enough is there.
    fn grace_over_at(&self) -> Option<Timestamp> {
        let enough_at = self.enough_at?;
        let has_failed = |node: &PublicKey| self.nodes.get(node).is_some_and(|known| known.strikes > 0);
        let soon = enough_at + self.config.tail_min;
        let attempts = self.attempts.values().map(|attempt| {
            let is_hopeful = !has_failed(&attempt.node) || attempt.heard_at > attempt.sent_at;
            if is_hopeful { self.silent_at(attempt) } else { soon }
        });
        // A node that is busy is waited for like one that is slow, one that failed is not.
        let waiting = (0..self.holders.len()).filter(|shard| self.is_idle(*shard)).filter_map(|shard| {
            let (_, node) = self.choose(Timestamp::ZERO, shard)?;
            Some(if has_failed(&node) { soon } else { enough_at + self.config.slow_after })
        });
        let over_at = attempts.chain(waiting).max().unwrap_or(enough_at);
        Some(over_at.min(enough_at + self.config.grace_max))
    }

    /// It has no holder, and nobody is being sent it.
    fn is_idle(&self, shard: usize) -> bool {
        self.holders[shard].is_none() && !self.is_sending(shard)
    }

    /// Sends what can be sent, then moves to the next phase if it is time.
    fn advance(&mut self, now: Timestamp) {
        if self.phase == Phase::Finished {
            return;
        }
        let mut waiting = false;
        for shard in 0..self.holders.len() {
            if !self.is_idle(shard) {
                continue;
            }
            let chosen = self.choose(now, shard);
            let is_better =
                |(_, node): (Timestamp, PublicKey)| !self.is_doubtful(&node) && self.load(&node) == 0;
            if self.fallbacks[shard].is_some() && !chosen.is_some_and(is_better) {
                self.fall_back(now, shard);
                continue;
            }
            match chosen {
                Some((ready_at, node)) if ready_at <= now => self.send(now, shard, node),
                other => waiting |= other.is_some(),
            }
        }
        let over = self.ends_at().is_some_and(|at| at <= now);
        let settled = over || (self.attempts.is_empty() && !waiting);
        match self.phase {
            Phase::Placing => self.conclude(now, settled),
            Phase::Settling if settled => self.finish(),
            _ => {}
        }
    }

    /// Acknowledges if enough receipts are in and the rest need not be waited for; fails if they never will be.
    fn conclude(&mut self, now: Timestamp, settled: bool) {
        let over = settled || self.grace_over_at().is_some_and(|at| at <= now);
        if over {
            for shard in 0..self.fallbacks.len() {
                self.fall_back(now, shard);
            }
        }
        let enough = self.held() >= self.need();
        if enough && over {
            self.phase = Phase::Persisting;
            self.persisted.clone_from(&self.holders);
            self.effects.push_back(Effect::Persist(self.descriptor()));
        } else if settled {
            self.cancel_where(|_| true);
            self.phase = Phase::Finished;
            let reason = |(key, node): (&PublicKey, &Node)| Some((*key, node.last.clone()?));
            let (have, threshold) = (self.held(), self.plan.code.ack_threshold());
            let error = UploadError::NotEnoughReceipts {
                segment: self.plan.segment,
                have,
                need: if have < threshold { threshold } else { self.need() },
                reasons: self.nodes.iter().filter_map(reason).collect(),
            };
            self.effects.extend([Effect::Report(Err(error)), Effect::Finished]);
        }
    }

    fn report(&mut self) {
        let descriptor = Descriptor { holders: self.persisted.clone(), ..self.descriptor() };
        let held = descriptor.holders.iter().flatten().count();
        let distinct: BTreeSet<_> = descriptor.holders.iter().flatten().collect();
        let outcome = Outcome {
            held,
            degraded: distinct.len() < self.plan.code.total(),
            violations: self.violations.clone(),
            troubles: self.troubles(),
            descriptor,
        };
        self.effects.push_back(Effect::Report(Ok(outcome)));
    }

    /// Nodes that were sent a shard and hold none, and why.
    fn troubles(&self) -> Vec<(PublicKey, Trouble)> {
        let trouble = |(key, node): (&PublicKey, &Node)| {
            if self.persisted.contains(&Some(*key)) {
                return None;
            }
            let is_slow = node.late || self.attempts.values().any(|attempt| attempt.node == *key);
            let why = node.last.clone().map(Trouble::Failed).or_else(|| is_slow.then_some(Trouble::Slow));
            Some((*key, why?))
        };
        self.nodes.iter().filter_map(trouble).collect()
    }

    fn finish(&mut self) {
        self.cancel_where(|_| true);
        self.phase = Phase::Finished;
        self.amend();
        self.effects.push_back(Effect::Finished);
    }

    fn give_up_stalled(&mut self, now: Timestamp) {
        let stalled: Vec<_> = self
            .attempts
            .iter()
            .filter(|(_, attempt)| attempt.heard_at + self.config.stall <= now)
            .map(|(request, _)| *request)
            .collect();
        for request in stalled {
            self.effects.push_back(Effect::Cancel { request });
            self.failed(now, request, Failure::TimedOut);
        }
    }

    /// When the next waiting shard may be sent.
    fn wake_at(&self) -> Option<Timestamp> {
        let idle = |shard: &usize| self.is_idle(*shard);
        let ready = |shard| self.choose(Timestamp::ZERO, shard).map(|(ready_at, _)| ready_at);
        (0..self.holders.len()).filter(idle).filter_map(ready).min()
    }
}

impl Machine for Upload {
    type Event = Event;
    type Effect = Effect;

    fn handle(&mut self, now: Timestamp, event: Event) {
        match event {
            Event::Accepted { request, receipt } => self.accepted(now, request, &receipt),
            Event::Refused { request, refusal } => self.failed(now, request, Failure::Refused(refusal)),
            Event::Failed { request, failure } => self.failed(now, request, failure),
            Event::Progressed { request } => {
                if let Some(attempt) = self.attempts.get_mut(&request) {
                    attempt.heard_at = attempt.heard_at.max(now);
                }
            }
            Event::Persisted if self.phase == Phase::Persisting => {
                self.phase = Phase::Settling;
                self.reported_at = Some(now);
                self.report();
                self.amend();
            }
            Event::Persisted => {}
        }
        if self.phase != Phase::Finished {
            self.hedge(now);
        }
        self.advance(now);
    }

    fn poll(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    fn deadline(&self) -> Option<Timestamp> {
        if self.phase == Phase::Finished {
            return None;
        }
        let stalls = self.attempts.values().map(|attempt| attempt.heard_at + self.config.stall);
        let hedges = self.attempts.values().filter_map(|attempt| self.hedge_at(attempt));
        let grace = self.grace_over_at().filter(|_| self.phase == Phase::Placing);
        stalls.chain(hedges).chain(grace).chain(self.wake_at()).chain(self.ends_at()).min()
    }

    fn expire(&mut self, now: Timestamp) {
        self.give_up_stalled(now);
        if self.phase != Phase::Finished {
            self.hedge(now);
        }
        self.advance(now);
    }
}

/// The nonce of a request: a pseudorandom function of the request under the seed.
fn nonce(seed: &[u8; 32], request: RequestId) -> [u8; 16] {
    let hash = blake3::keyed_hash(seed, &request.0.to_le_bytes());
    let mut nonce = [0; 16];
    nonce.copy_from_slice(&hash.as_bytes()[..16]);
    nonce
}
