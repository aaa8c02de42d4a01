//! Reads one range of a segment: which shards to ask, whom to stop waiting for, when it is enough.
//!
//! [`Download`] performs no I/O and sees no shard bytes: the driver reads, verifies each answer against
//! the shard's root, and says [`Event::Verified`]. A healthy read asks only the data shards that have bytes of
//! the range, for exactly their slices. Columns of nodes that fail, lie, refuse or are late are rebuilt
//! instead: from any k columns over the *hull* of what is missing, never over the whole shard.
//!
//! Where the holders that the plan names are too few, because they fail or it does not name enough, all nodes are asked once
//! which shards they hold. What they say is a hint: bytes are verified as from any other node.
//!
//! A node's bad answer is that node's [`Violation`], never the reader's error.

use std::collections::{BTreeSet, VecDeque};
use std::ops::Range;
use std::time::Duration;

use crate::message::request::{ReadShard, ShardRef};
use crate::message::{RefusalCode, Violation};
use crate::transfer::failure::{Failure, RequestId};
use crate::types::limits::MAX_READ_LEN;
use crate::types::{Code, Machine, PublicKey, SegmentId, Timestamp, VaultId};

mod protocol;
#[cfg(test)]
mod tests;

pub use protocol::{Columns, DownloadConfig, DownloadError, Effect, Event, Part, ReadPlan, Rebuild};

/// Longest wait before a node is asked again, whatever it says.
const MAX_BACKOFF: Duration = Duration::from_secs(2);

/// Shortest wait before a busy node is asked again, whatever it says.
const MIN_BACKOFF: Duration = Duration::from_millis(10);

/// A range of a shard that is asked for or verified.
#[derive(Debug)]
struct Piece {
    request: RequestId,
    range: Range<u64>,
    sent_at: Timestamp,
    verified: bool,
    /// Leave to hedge was asked for.
    asked: bool,
}

/// One shard as this read sees it.
#[derive(Debug)]
struct Column {
    node: Option<PublicKey>,
    /// Bytes needed of it, in whole slices; empty for parity.
    wanted: Range<u64>,
    hedge_after: Duration,
    /// Invariant: ranges are disjoint and in order of `start`.
    pieces: Vec<Piece>,
    failures: u32,
    /// Not to be asked again.
    lost: bool,
    /// Not to be asked before.
    rest_until: Option<Timestamp>,
    /// To be avoided if there are k others.
    suspect: bool,
    /// It became suspect because this read waited too long for it.
    late: bool,
    last: Option<Failure>,
    /// Other nodes that say they hold it.
    spares: Vec<PublicKey>,
    /// It is read from a node that the plan does not name.
    moved: bool,
}

/// Whether other holders of the shards have been looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Search {
    NotYet,
    UnderWay,
    Over,
}

impl Column {
    /// Nothing speaks against reading it, but perhaps that its node is busy.
    fn is_sound(&self) -> bool {
        let is_busy = |failure: &Failure| matches!(failure, Failure::Refused(refusal) if refusal.code == RefusalCode::Busy);
        !self.lost && !self.late && self.last.as_ref().is_none_or(is_busy)
    }

    fn is_ready(&self) -> bool {
        !self.lost && self.rest_until.is_none()
    }

    /// All bytes of the range are here.
    fn covers(&self, range: &Range<u64>) -> bool {
        uncovered(self.pieces.iter().filter(|piece| piece.verified), range).is_empty()
    }

    /// It has bytes that are needed and not here.
    fn is_incomplete(&self) -> bool {
        !self.covers(&self.wanted)
    }

    /// What of the range is neither here nor asked for.
    fn gaps(&self, range: &Range<u64>) -> Vec<Range<u64>> {
        uncovered(self.pieces.iter(), range)
    }
}

/// The parts of a range that no piece covers. `pieces` are disjoint and in order.
fn uncovered<'a>(pieces: impl Iterator<Item = &'a Piece>, range: &Range<u64>) -> Vec<Range<u64>> {
    let mut gaps = Vec::new();
    let mut at = range.start;
    for piece in pieces {
        if piece.range.start > at && at < range.end {
            gaps.push(at..piece.range.start.min(range.end));
        }
        at = at.max(piece.range.end);
    }
    if at < range.end {
        gaps.push(at..range.end);
    }
    gaps
}

/// One read of a segment's range. See the [module](self) for what it promises.
#[derive(Debug)]
pub struct Download {
    vault: VaultId,
    segment: SegmentId,
    code: Code,
    config: DownloadConfig,
    started: Timestamp,
    columns: Vec<Column>,
    violations: Vec<(PublicKey, Violation)>,
    search: Search,
    /// Failures of nodes whose shard is now asked of another, and of those that did not say what they hold.
    past: Vec<(PublicKey, Failure)>,
    next_request: u64,
    finished: bool,
    effects: VecDeque<Effect>,
}

impl Download {
    /// Begins a read: the first effects ask for all that a healthy read needs.
    ///
    /// # Panics
    /// If the plan has not one holder and time for each shard and one range for each data shard.
    #[must_use]
    pub fn new(now: Timestamp, plan: ReadPlan, config: DownloadConfig) -> Self {
        let total = plan.code.total();
        assert!(plan.holders.len() == total && plan.hedge_after.len() == total, "a plan for every shard");
        assert_eq!(plan.wanted.len(), plan.code.k(), "a range for every data shard");
        let column = |shard: usize| Column {
            node: plan.holders[shard],
            wanted: plan.wanted.get(shard).cloned().flatten().unwrap_or(0..0),
            hedge_after: plan.hedge_after[shard],
            pieces: Vec::new(),
            failures: 0,
            lost: plan.holders[shard].is_none(),
            rest_until: None,
            suspect: plan.holders[shard].is_some_and(|node| plan.suspects.contains(&node)),
            late: false,
            last: None,
            spares: Vec::new(),
            moved: false,
        };
        let mut download = Self {
            vault: plan.vault,
            segment: plan.segment,
            code: plan.code,
            config,
            started: now,
            columns: (0..total).map(column).collect(),
            violations: Vec::new(),
            search: Search::NotYet,
            past: Vec::new(),
            next_request: 0,
            finished: false,
            effects: VecDeque::new(),
        };
        download.advance(now);
        download
    }

    /// Nothing is under way and nothing more will be.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.finished && self.effects.is_empty()
    }

    fn healthy(&self) -> usize {
        self.columns.iter().filter(|column| column.is_ready() && !column.suspect).count()
    }

    /// Columns to read and the range of each, as things are now.
    fn goal(&self) -> Vec<(usize, Range<u64>)> {
        let k = self.code.k();
        let may_avoid = self.healthy() >= k;
        let missing = self.incomplete(|column| !column.is_ready() || (may_avoid && column.suspect));
        let direct = self.incomplete(|column| column.is_ready() && !(may_avoid && column.suspect));
        let mut goal: Vec<_> =
            direct.into_iter().map(|shard| (shard, self.columns[shard].wanted.clone())).collect();
        if let Some(hull) = self.hull(&missing) {
            let mut sources = self.sources(&missing, &hull, Column::is_ready);
            sources.truncate(k);
            goal.extend(sources.into_iter().map(|shard| (shard, hull.clone())));
        }
        goal
    }

    /// Data shards that are needed, not here yet and as the condition says.
    fn incomplete(&self, condition: impl Fn(&Column) -> bool) -> Vec<usize> {
        let wanted = |(_, column): &(usize, &Column)| column.is_incomplete() && condition(column);
        self.columns.iter().enumerate().filter(wanted).map(|(shard, _)| shard).collect()
    }

    /// The least range that holds all that is wanted of these shards; `None` for no shards.
    fn hull(&self, shards: &[usize]) -> Option<Range<u64>> {
        let start = shards.iter().map(|&shard| self.columns[shard].wanted.start).min()?;
        let end = shards.iter().map(|&shard| self.columns[shard].wanted.end).max()?;
        Some(start..end)
    }

    /// Shards from which the hull of the missing ones can be read, or was; first the healthy ones, then those of which
    /// least is left to ask for.
    fn sources(&self, missing: &[usize], hull: &Range<u64>, usable: impl Fn(&Column) -> bool) -> Vec<usize> {
        let mut sources: Vec<_> = self
            .columns
            .iter()
            .enumerate()
            .filter(|(shard, _)| !missing.contains(shard))
            .filter(|(_, column)| usable(column) || column.covers(hull))
            .map(|(shard, column)| {
                let to_ask: u64 = column.gaps(hull).iter().map(|gap| gap.end - gap.start).sum();
                (column.suspect && !column.covers(hull), to_ask, shard)
            })
            .collect();
        sources.sort_unstable();
        sources.into_iter().map(|(_, _, shard)| shard).collect()
    }

    /// Asks for what of the range is neither here nor asked for.
    fn ensure(&mut self, now: Timestamp, shard: usize, range: &Range<u64>) {
        let Some(node) = self.columns[shard].node else { return };
        for gap in self.columns[shard].gaps(range) {
            let mut start = gap.start;
            while start < gap.end {
                let end = gap.end.min(start + MAX_READ_LEN);
                self.read(now, shard, node, start..end);
                start = end;
            }
        }
    }

    fn read(&mut self, now: Timestamp, shard: usize, node: PublicKey, range: Range<u64>) {
        let request = RequestId(self.next_request);
        self.next_request += 1;
        #[expect(clippy::cast_possible_truncation, reason = "a shard index is below MAX_SHARDS")]
        let index = shard as u8;
        let read = ReadShard {
            vault: self.vault,
            shard: ShardRef { segment: self.segment, index },
            start: range.start,
            len: range.end - range.start,
        };
        let pieces = &mut self.columns[shard].pieces;
        let at = pieces.partition_point(|piece| piece.range.start < range.start);
        pieces.insert(at, Piece { request, range, sent_at: now, verified: false, asked: false });
        let again = self.columns[shard].failures > 0;
        self.effects.push_back(Effect::Read { request, node, read, again });
    }

    /// Where a request is that is still waited for: shard, place among its pieces.
    fn pending(&self, request: RequestId) -> Option<(usize, usize)> {
        self.columns.iter().enumerate().find_map(|(shard, column)| {
            let is_it = |piece: &Piece| piece.request == request && !piece.verified;
            column.pieces.iter().position(is_it).map(|at| (shard, at))
        })
    }

    fn verified(&mut self, request: RequestId) {
        if let Some((shard, at)) = self.pending(request) {
            let column = &mut self.columns[shard];
            column.pieces[at].verified = true;
            column.last = None;
        }
    }

    /// A node says it holds shards: those in trouble are asked of it, for the others it is a spare.
    fn located(&mut self, node: PublicKey, shards: &[usize]) {
        let of_node = |column: &&Column| column.node == Some(node);
        let is_trusted = self.columns.iter().filter(of_node).all(Column::is_sound);
        for &shard in shards {
            let Some(column) = self.columns.get_mut(shard) else { continue };
            if column.node == Some(node) || column.spares.contains(&node) {
                continue;
            }
            column.spares.push(node);
            if is_trusted && !column.is_sound() {
                self.take_spare(shard);
            }
        }
    }

    /// Reads a shard from another node that says it holds it, if there is one.
    fn take_spare(&mut self, shard: usize) {
        let Some(node) = self.columns[shard].spares.pop() else { return };
        self.cancel_pending(shard);
        let column = &mut self.columns[shard];
        if let (Some(before), Some(failure)) = (column.node, column.last.take()) {
            self.past.push((before, failure));
        }
        (column.node, column.moved) = (Some(node), true);
        (column.lost, column.late, column.suspect) = (false, false, false);
        (column.failures, column.rest_until) = (0, None);
    }

    /// Something is needed that the sound shards do not give.
    fn is_short(&self) -> bool {
        let in_trouble = self.incomplete(|column| !column.is_sound());
        self.hull(&in_trouble)
            .is_some_and(|hull| self.sources(&in_trouble, &hull, Column::is_sound).len() < self.code.k())
    }

    /// Ends a request and notes what it says of its shard and node.
    fn failed(&mut self, now: Timestamp, request: RequestId, failure: Failure) {
        let Some((shard, at)) = self.pending(request) else { return };
        self.columns[shard].pieces.remove(at);
        if let (Failure::Violation(violation), Some(node)) = (&failure, self.columns[shard].node) {
            self.violations.push((node, *violation));
            self.distrust(node);
        }
        let column = &mut self.columns[shard];
        let wait = match &failure {
            Failure::Refused(refusal) if refusal.code == RefusalCode::Busy => {
                Duration::from_millis(refusal.retry_after_ms.into()).max(MIN_BACKOFF)
            }
            _ => {
                column.failures += 1;
                self.config.backoff * (1 << (column.failures - 1).min(16))
            }
        };
        column.lost |= !failure.is_passing() || column.failures >= self.config.tries;
        column.rest_until = Some(now + wait.min(MAX_BACKOFF));
        column.last = Some(failure);
        if column.lost {
            self.cancel_pending(shard);
            self.take_spare(shard);
        }
    }

    /// Avoids every shard of a node.
    fn distrust(&mut self, node: PublicKey) {
        let of_node = self.columns.iter_mut().filter(|column| column.node == Some(node));
        of_node.for_each(|column| column.suspect = true);
    }

    fn cancel_pending(&mut self, shard: usize) {
        let effects = &mut self.effects;
        self.columns[shard].pieces.retain(|piece| {
            if !piece.verified {
                effects.push_back(Effect::Cancel { request: piece.request });
            }
            piece.verified
        });
    }

    fn be_late(&mut self, shard: usize) {
        let column = &mut self.columns[shard];
        (column.late, column.suspect) = (true, true);
    }

    /// Concludes if it is time; otherwise asks for what is still needed.
    fn advance(&mut self, now: Timestamp) {
        if self.finished {
            return;
        }
        for column in &mut self.columns {
            column.rest_until = column.rest_until.filter(|until| *until > now);
        }
        let over = self.started + self.config.limit <= now;
        if let Some(columns) = self.complete() {
            self.finish(Ok(columns));
            return;
        }
        if self.search == Search::NotYet && self.is_short() {
            self.search = Search::UnderWay;
            self.effects.push_back(Effect::Locate);
        }
        if over || (self.search != Search::UnderWay && self.is_hopeless()) {
            self.finish(Err(self.error()));
        } else {
            for (shard, range) in self.goal() {
                self.ensure(now, shard, &range);
            }
        }
    }

    /// The columns, if what is here suffices.
    fn complete(&self) -> Option<Columns> {
        let missing = self.incomplete(|_| true);
        let rebuild = match self.hull(&missing) {
            None => None,
            Some(range) => {
                let mut from = self.sources(&missing, &range, |_| false);
                if from.len() < self.code.k() {
                    return None;
                }
                from.truncate(self.code.k());
                Some(Rebuild { range, missing, from })
            }
        };
        Some(self.columns_with(rebuild))
    }

    fn columns_with(&self, rebuild: Option<Rebuild>) -> Columns {
        let part =
            |shard: usize, piece: &Piece| Part { request: piece.request, shard, range: piece.range.clone() };
        let verified = |(shard, column): (usize, &'_ Column)| -> Vec<Part> {
            column.pieces.iter().filter(|piece| piece.verified).map(|piece| part(shard, piece)).collect()
        };
        let found = |(shard, column): (usize, &Column)| {
            let is_read = column.moved && column.pieces.iter().any(|piece| piece.verified);
            column.node.filter(|_| is_read).map(|node| (shard, node))
        };
        Columns {
            parts: self.columns.iter().enumerate().flat_map(verified).collect(),
            rebuild,
            late: self.columns.iter().filter(|column| column.late).filter_map(|column| column.node).collect(),
            violations: self.violations.clone(),
            found: self.columns.iter().enumerate().filter_map(found).collect(),
        }
    }

    /// A shard that is needed is lost and fewer than k others are left.
    fn is_hopeless(&self) -> bool {
        let lost = self.incomplete(|column| column.lost);
        self.hull(&lost)
            .is_some_and(|hull| self.sources(&lost, &hull, |column| !column.lost).len() < self.code.k())
    }

    fn error(&self) -> DownloadError {
        let reason = |column: &Column| Some((column.node?, column.last.clone()?));
        // One failure for each node tells enough; what a shard's own node said of it comes first.
        let mut reasons: Vec<(PublicKey, Failure)> = Vec::new();
        for (node, failure) in self.columns.iter().filter_map(reason).chain(self.past.iter().cloned()) {
            if !reasons.iter().any(|(named, _)| *named == node) {
                reasons.push((node, failure));
            }
        }
        let have = |column: &&Column| column.is_sound() || column.pieces.iter().any(|piece| piece.verified);
        DownloadError::NotEnoughShards {
            segment: self.segment,
            have: self.columns.iter().filter(have).count(),
            need: self.code.k(),
            reasons,
        }
    }

    fn finish(&mut self, result: Result<Columns, DownloadError>) {
        (0..self.columns.len()).for_each(|shard| self.cancel_pending(shard));
        self.finished = true;
        self.effects.push_back(Effect::Report(result));
    }

    /// Requests that are waited for and the shard of each.
    fn waiting(&self) -> impl Iterator<Item = (usize, &Column, &Piece)> {
        self.columns.iter().enumerate().flat_map(|(shard, column)| {
            column.pieces.iter().filter(|piece| !piece.verified).map(move |piece| (shard, column, piece))
        })
    }

    fn hedge_at(column: &Column, piece: &Piece) -> Option<Timestamp> {
        (!piece.asked && !column.suspect).then(|| piece.sent_at + column.hedge_after)
    }

    fn late_at(&self, column: &Column, piece: &Piece) -> Option<Timestamp> {
        (!column.late).then(|| piece.sent_at + self.config.late_after.max(column.hedge_after))
    }

    fn give_up_stalled(&mut self, now: Timestamp) {
        let stall = self.config.stall;
        let stalled: Vec<_> = self
            .waiting()
            .filter(|(_, _, piece)| piece.sent_at + stall <= now)
            .map(|(_, _, piece)| piece.request)
            .collect();
        for request in stalled {
            if self.pending(request).is_some() {
                self.effects.push_back(Effect::Cancel { request });
                self.failed(now, request, Failure::TimedOut);
            }
        }
    }

    fn notice_slow(&mut self, now: Timestamp) {
        let is_due = |at: Option<Timestamp>| at.is_some_and(|at| at <= now);
        let late: BTreeSet<_> = self
            .waiting()
            .filter(|(_, column, piece)| is_due(self.late_at(column, piece)))
            .map(|(shard, ..)| shard)
            .collect();
        late.into_iter().for_each(|shard| self.be_late(shard));
        let slow: Vec<_> = self
            .waiting()
            .filter(|(_, column, piece)| is_due(Self::hedge_at(column, piece)))
            .map(|(_, _, piece)| piece.request)
            .collect();
        let has_others = self.healthy() > self.code.k();
        for request in slow {
            if let Some((shard, at)) = self.pending(request) {
                self.columns[shard].pieces[at].asked = true;
                self.effects.extend(has_others.then_some(Effect::AskHedge { request }));
            }
        }
    }
}

impl Machine for Download {
    type Event = Event;
    type Effect = Effect;

    fn handle(&mut self, now: Timestamp, event: Event) {
        match event {
            Event::Verified { request } => self.verified(request),
            Event::Violated { request, violation } => {
                self.failed(now, request, Failure::Violation(violation));
            }
            Event::Refused { request, refusal } => self.failed(now, request, Failure::Refused(refusal)),
            Event::Failed { request, failure } => self.failed(now, request, failure),
            Event::Located { node, shards } => self.located(node, &shards),
            Event::LocateEnded { silent } => {
                self.search = Search::Over;
                self.past.extend(silent);
                let lost = (0..self.columns.len()).filter(|shard| self.columns[*shard].lost);
                lost.collect::<Vec<_>>().into_iter().for_each(|shard| self.take_spare(shard));
            }
            Event::HedgeGranted { request } => {
                if let Some((shard, _)) = self.pending(request) {
                    self.be_late(shard);
                }
            }
        }
        self.advance(now);
    }

    fn poll(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    fn deadline(&self) -> Option<Timestamp> {
        if self.finished {
            return None;
        }
        let stalls = self.waiting().map(|(_, _, piece)| piece.sent_at + self.config.stall);
        let hedges = self.waiting().filter_map(|(_, column, piece)| Self::hedge_at(column, piece));
        let lates = self.waiting().filter_map(|(_, column, piece)| self.late_at(column, piece));
        let rests = self.columns.iter().filter(|column| !column.lost).filter_map(|column| column.rest_until);
        let limit = self.started + self.config.limit;
        stalls.chain(hedges).chain(lates).chain(rests).chain([limit]).min()
    }

    fn expire(&mut self, now: Timestamp) {
        self.give_up_stalled(now);
        self.notice_slow(now);
        self.advance(now);
    }
}
