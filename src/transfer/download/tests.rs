//! Scripted nodes in virtual time: what a read does with the dead, the slow and the lying.

use std::collections::BTreeMap;

use super::*;
use crate::message::Refusal;
use crate::types::limits::SLICE_LEN;

const START: Timestamp = Timestamp::from_unix_millis(1_000_000);
const SLICE: u64 = SLICE_LEN as u64;

/// How a node answers every read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Script {
    /// Sound bytes after so many milliseconds.
    Serves(u64),
    /// Sound bytes for the first request, then it breaks the connection.
    ServesOnce,
    /// Breaks the connection so many times, then serves.
    Recovers(u32),
    /// Busy so many times, then serves.
    Busy(u32),
    /// Does not have the shard.
    Lacks,
    Unreachable,
    /// Never an answer.
    Hangs,
    /// Wrong bytes of the right length.
    Lies,
}
use Script::*;

#[derive(Debug)]
struct Run {
    result: Result<Columns, DownloadError>,
    took_ms: u64,
    /// Bytes asked for, by shard.
    asked: Vec<u64>,
    hedges_asked: usize,
    located: usize,
}

struct World {
    download: Download,
    scripts: Vec<Script>,
    grants: bool,
    now: Timestamp,
    events: BTreeMap<(Timestamp, u64), Event>,
    seq: u64,
    reads: Vec<u32>,
    asked: Vec<u64>,
    hedges_asked: usize,
    /// Shards that nodes say they hold when they are asked, and how many milliseconds they take for it.
    holdings: Vec<(usize, Vec<usize>)>,
    locate_ms: u64,
    located: usize,
}

fn key(node: usize) -> PublicKey {
    PublicKey([u8::try_from(node).unwrap() + 1; 32])
}

fn plan(code: Code, wanted: &[Option<Range<u64>>]) -> ReadPlan {
    ReadPlan {
        vault: VaultId([9; 32]),
        segment: SegmentId([9; 32]),
        code,
        holders: (0..code.total()).map(|shard| Some(key(shard))).collect(),
        wanted: wanted.to_vec(),
        hedge_after: vec![Duration::from_millis(30); code.total()],
        suspects: BTreeSet::new(),
    }
}

/// One slice of each data shard.
fn a_row() -> Vec<Option<Range<u64>>> {
    vec![Some(SLICE..2 * SLICE); 4]
}

impl World {
    fn new(plan: ReadPlan, scripts: &[Script]) -> Self {
        let total = plan.code.total();
        assert_eq!(scripts.len(), total);
        Self {
            download: Download::new(START, plan, DownloadConfig::default()),
            scripts: scripts.to_vec(),
            grants: true,
            now: START,
            events: BTreeMap::new(),
            seq: 0,
            reads: vec![0; total],
            asked: vec![0; total],
            hedges_asked: 0,
            holdings: Vec::new(),
            locate_ms: 3,
            located: 0,
        }
    }

    fn after(&mut self, millis: u64, event: Event) {
        self.seq += 1;
        self.events.insert((self.now + Duration::from_millis(millis), self.seq), event);
    }

    fn answer(&mut self, request: RequestId, node: PublicKey, read: &ReadShard) {
        let shard = usize::from(read.shard.index);
        assert!(read.len <= MAX_READ_LEN && read.len > 0 && read.start.is_multiple_of(SLICE));
        self.asked[shard] += read.len;
        self.reads[shard] += 1;
        let nth = self.reads[shard];
        let served = Event::Verified { request };
        let failed = |failure| Event::Failed { request, failure };
        let refused = |code, retry_after_ms| Event::Refused {
            request,
            refusal: Refusal { code, message: String::new(), retry_after_ms, protocols: Vec::new() },
        };
        match self.scripts[usize::from(node.0[0]) - 1] {
            Serves(millis) => self.after(millis, served),
            ServesOnce if nth == 1 => self.after(5, served),
            Recovers(times) if nth > times => self.after(5, served),
            Busy(times) if nth > times => self.after(5, served),
            Busy(_) => self.after(1, refused(RefusalCode::Busy, 20)),
            ServesOnce | Recovers(_) => self.after(5, failed(Failure::Disconnected)),
            Lacks => self.after(5, refused(RefusalCode::NotFound, 0)),
            Unreachable => self.after(5, failed(Failure::Unreachable)),
            Hangs => {}
            Lies => self.after(5, Event::Violated { request, violation: Violation::WrongShard }),
        }
    }

    fn run(mut self) -> Run {
        for _ in 0..100_000 {
            while let Some(effect) = self.download.poll() {
                match effect {
                    Effect::Read { request, node, read, .. } => self.answer(request, node, &read),
                    Effect::Cancel { .. } => {}
                    Effect::AskHedge { request } => {
                        self.hedges_asked += 1;
                        if self.grants {
                            self.after(0, Event::HedgeGranted { request });
                        }
                    }
                    Effect::Locate => {
                        self.located += 1;
                        for (node, shards) in std::mem::take(&mut self.holdings) {
                            self.after(self.locate_ms, Event::Located { node: key(node), shards });
                        }
                        self.after(self.locate_ms, Event::LocateEnded { silent: Vec::new() });
                    }
                    Effect::Report(result) => {
                        assert!(self.download.is_finished() && self.download.deadline().is_none());
                        let took_ms = self.now.since(START).as_millis().try_into().unwrap();
                        let Self { asked, hedges_asked, located, .. } = self;
                        return Run { result, took_ms, asked, hedges_asked, located };
                    }
                }
            }
            self.step();
        }
        panic!("the read does not end");
    }

    fn step(&mut self) {
        let next = self.events.keys().next().copied();
        let deadline = self.download.deadline().filter(|at| next.is_none_or(|(due, _)| *at < due));
        match (deadline, next) {
            (Some(at), _) => {
                assert!(at >= self.now, "a deadline in the past: {at:?}");
                self.now = at;
                self.download.expire(at);
                assert!(
                    self.download.deadline().is_none_or(|next| next > at),
                    "a deadline that expire does not act on"
                );
            }
            (None, Some(due)) => {
                let event = self.events.remove(&due).unwrap();
                self.now = due.0;
                self.download.handle(self.now, event);
            }
            (None, None) => panic!("the read waits for nothing"),
        }
    }
}

fn run(wanted: &[Option<Range<u64>>], scripts: &[Script]) -> Run {
    World::new(plan(Code::DEFAULT, wanted), scripts).run()
}

fn assert_sufficient(columns: &Columns, wanted: &[Option<Range<u64>>]) {
    let covers = |shard: usize, range: &Range<u64>| {
        let mut at = range.start;
        for part in columns.parts.iter().filter(|part| part.shard == shard) {
            if part.range.start <= at {
                at = at.max(part.range.end);
            }
        }
        at >= range.end
    };
    let missing = columns.rebuild.as_ref().map_or(&[][..], |rebuild| &rebuild.missing[..]);
    for (shard, range) in wanted.iter().enumerate() {
        let Some(range) = range else { continue };
        if missing.contains(&shard) {
            let rebuild = columns.rebuild.as_ref().unwrap();
            assert!(rebuild.range.start <= range.start && range.end <= rebuild.range.end);
        } else {
            assert!(covers(shard, range), "shard {shard}: {columns:?}");
        }
    }
    if let Some(rebuild) = &columns.rebuild {
        assert_eq!(rebuild.from.len(), 4);
        for &shard in &rebuild.from {
            assert!(!missing.contains(&shard) && covers(shard, &rebuild.range), "{columns:?}");
        }
    }
}

#[test]
fn a_healthy_read_asks_only_for_the_slices_it_needs() {
    let wanted = vec![None, Some(SLICE..3 * SLICE), Some(0..SLICE), None];
    let run = run(&wanted, &[Serves(5); 6]);
    let columns = run.result.unwrap();
    assert_eq!(run.asked, [0, 2 * SLICE, SLICE, 0, 0, 0]);
    assert_eq!((run.took_ms, run.hedges_asked, run.located), (5, 0, 0));
    assert!(columns.rebuild.is_none() && columns.late.is_empty());
    assert_sufficient(&columns, &wanted);
}

#[test]
fn any_set_of_at_most_two_lost_shards_is_read_around() {
    for bad in [Unreachable, Hangs, Lacks, Lies, Serves(100_000)] {
        for lost in 0..64_u32 {
            let scripts: Vec<_> =
                (0..6).map(|node| if lost >> node & 1 == 1 { bad } else { Serves(5) }).collect();
            let run = run(&a_row(), &scripts);
            assert_eq!(run.result.is_ok(), lost.count_ones() <= 2 || lost & 15 == 0, "{bad:?} {lost:06b}");
            match run.result {
                Ok(columns) => {
                    assert_sufficient(&columns, &a_row());
                    assert_eq!(columns.rebuild.is_some(), lost & 15 != 0);
                    assert!(run.took_ms <= 70, "{bad:?} {lost:06b}: {} ms", run.took_ms);
                    let lies = if bad == Lies { (lost & 15).count_ones() } else { 0 };
                    assert!(columns.violations.len() >= lies as usize);
                }
                Err(DownloadError::NotEnoughShards { have, need, .. }) => {
                    assert!(need == 4 && (have < 4 || run.took_ms == 120_000), "{bad:?} {lost:06b}");
                }
            }
        }
    }
}

#[test]
fn a_degraded_read_rebuilds_only_the_hull_of_what_is_missing() {
    // Shard 0 is lost; of the others some bytes are read anyway.
    let wanted = vec![Some(4 * SLICE..6 * SLICE), Some(4 * SLICE..5 * SLICE), None, Some(0..4 * SLICE)];
    let scripts = [Lacks, Serves(5), Serves(5), Serves(5), Serves(5), Serves(5)];
    let run = run(&wanted, &scripts);
    let columns = run.result.unwrap();
    assert_sufficient(&columns, &wanted);
    assert_eq!(columns.rebuild.as_ref().unwrap().range, 4 * SLICE..6 * SLICE);
    assert_eq!(run.asked, [2 * SLICE, 2 * SLICE, 2 * SLICE, 6 * SLICE, 2 * SLICE, 0]);
}

#[test]
fn suspects_and_shards_without_holder_are_avoided_from_the_start() {
    let mut plan = plan(Code::DEFAULT, &a_row());
    plan.suspects.insert(key(1));
    plan.holders[2] = None;
    let run = World::new(plan, &[Serves(5); 6]).run();
    assert_eq!(run.asked, [SLICE, 0, 0, SLICE, SLICE, SLICE]);
    assert_eq!(run.took_ms, 5);
    assert_eq!(run.result.unwrap().rebuild.unwrap().missing, [1, 2]);
}

#[test]
fn suspects_are_asked_where_too_few_others_are_left() {
    let mut plan = plan(Code::DEFAULT, &a_row());
    plan.suspects.extend([key(0), key(1), key(2)]);
    let run = World::new(plan, &[Serves(5); 6]).run();
    assert_eq!(run.asked, [SLICE, SLICE, SLICE, SLICE, 0, 0]);
    assert!(run.result.unwrap().late.is_empty());
}

#[test]
fn a_slow_read_is_hedged_only_with_leave() {
    let scripts = [Serves(500), Serves(5), Serves(5), Serves(5), Serves(5), Serves(5)];
    let granted = World::new(plan(Code::DEFAULT, &a_row()), &scripts).run();
    assert_eq!((granted.took_ms, granted.hedges_asked), (35, 1));
    assert_eq!(granted.result.unwrap().late, [key(0)]);
    let mut world = World::new(plan(Code::DEFAULT, &a_row()), &scripts);
    world.grants = false;
    let denied = world.run();
    assert_eq!((denied.took_ms, denied.hedges_asked), (500, 1));
    assert!(denied.result.unwrap().rebuild.is_none());
    assert_eq!(denied.asked, [SLICE, SLICE, SLICE, SLICE, 0, 0]);
}

#[test]
fn a_very_late_read_is_worked_around_without_leave() {
    let scripts = [Hangs, Serves(5), Serves(5), Serves(5), Serves(5), Serves(5)];
    let mut world = World::new(plan(Code::DEFAULT, &a_row()), &scripts);
    world.grants = false;
    assert_eq!(world.run().took_ms, 2_005);
}

#[test]
fn trouble_beyond_parity_is_outwaited_where_it_passes() {
    let cases: [(&str, [Script; 6], u64); 4] = [
        ("three break once", [Recovers(1), Recovers(1), Recovers(1), Serves(5), Serves(5), Serves(5)], 200),
        ("all break twice", [Recovers(2); 6], 500),
        ("all busy for a while", [Busy(8); 6], 300),
        ("dead, lying and recovering", [Lacks, Lies, Recovers(3), Serves(5), Serves(5), Serves(5)], 1_000),
    ];
    for (name, scripts, within_ms) in cases {
        let run = run(&a_row(), &scripts);
        let columns = run.result.unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_sufficient(&columns, &a_row());
        assert!(run.took_ms <= within_ms, "{name}: {} ms", run.took_ms);
    }
}

#[test]
fn bytes_that_came_before_a_node_failed_are_used() {
    let code = Code::new(2, 1).unwrap();
    let wanted = [Some(0..2 * MAX_READ_LEN), Some(0..SLICE)];
    let scripts = [ServesOnce, Serves(5), Serves(5)];
    let run = World::new(plan(code, &wanted), &scripts).run();
    let columns = run.result.unwrap();
    assert_eq!(columns.rebuild.unwrap().missing, [0]);
    assert!(columns.parts.iter().any(|part| part.shard == 0));
}

#[test]
fn long_ranges_are_split() {
    let code = Code::new(1, 1).unwrap();
    let len = 2 * MAX_READ_LEN + 100;
    let run = World::new(plan(code, &[Some(SLICE..len)]), &[Serves(5), Serves(5)]).run();
    let columns = run.result.unwrap();
    let ranges: Vec<_> = columns.parts.iter().map(|part| part.range.clone()).collect();
    let (one, two) = (SLICE + MAX_READ_LEN, SLICE + 2 * MAX_READ_LEN);
    assert_eq!(ranges, [SLICE..one, one..len.min(two)]);
}

#[test]
fn what_cannot_be_read_is_refused_with_reasons() {
    let run = run(&a_row(), &[Lacks, Lacks, Unreachable, Serves(5), Serves(5), Serves(5)]);
    let text = run.result.unwrap_err().to_string();
    assert!(
        text.starts_with("3 of the 4 shards needed of segment 09090909; node 01010101 refuses"),
        "{text}"
    );
    assert!(
        (5_000..15_000).contains(&run.took_ms),
        "the dead node may be one that restarts: {}",
        run.took_ms
    );
}

#[test]
fn a_shard_whose_holder_is_unknown_is_found_when_it_is_needed() {
    let mut unknown = plan(Code::DEFAULT, &a_row());
    unknown.holders[2] = None;
    for bad in [Unreachable, Hangs, Lacks, Lies] {
        let mut world = World::new(unknown.clone(), &[bad, Serves(5), Serves(5), Serves(5), bad, Serves(5)]);
        world.holdings = vec![(1, vec![1]), (2, vec![2]), (3, vec![3]), (5, vec![5])];
        let run = world.run();
        let columns = run.result.unwrap_or_else(|error| panic!("{bad:?}: {error}"));
        assert_sufficient(&columns, &a_row());
        assert_eq!((run.located, &columns.found[..]), (1, &[(2, key(2))][..]), "{bad:?}");
        assert!(run.took_ms < 5_000, "{bad:?}: {} ms", run.took_ms);
    }
    // With one dead node the others suffice.
    let run =
        World::new(unknown, &[Unreachable, Serves(5), Serves(5), Serves(5), Serves(5), Serves(5)]).run();
    assert_eq!((run.located, run.result.unwrap().found), (0, vec![]));
}

#[test]
fn a_shard_whose_holder_lost_it_is_read_from_another_that_has_it() {
    let mut world = World::new(
        plan(Code::DEFAULT, &a_row()),
        &[Lacks, Lacks, Unreachable, Serves(5), Serves(5), Serves(5)],
    );
    // A node that lost its own shard is not the first to be believed.
    world.holdings = vec![(5, vec![5, 0]), (1, vec![0, 2]), (4, vec![4])];
    let run = world.run();
    let columns = run.result.unwrap();
    assert_sufficient(&columns, &a_row());
    assert_eq!((run.located, columns.found), (1, vec![(0, key(5))]));
}

#[test]
fn a_read_does_not_give_up_while_holders_are_looked_for() {
    let mut unknown = plan(Code::DEFAULT, &a_row());
    (1..5).for_each(|shard| unknown.holders[shard] = None);
    let mut world = World::new(unknown, &[Serves(5); 6]);
    (world.holdings, world.locate_ms) = ((1..5).map(|node| (node, vec![node])).collect(), 3_000);
    let run = world.run();
    // The last of them may be rebuilt from the others.
    assert!((2..=3).contains(&run.result.unwrap().found.len()));
    assert_eq!(run.took_ms, 3_005);
}

#[test]
fn an_error_counts_only_shards_that_can_be_read() {
    for (scripts, can) in
        [([Unreachable; 6], 0), ([Unreachable, Unreachable, Hangs, Serves(5), Lacks, Lies], 1)]
    {
        let DownloadError::NotEnoughShards { have, need, .. } = run(&a_row(), &scripts).result.unwrap_err();
        assert_eq!((have, need), (can, 4));
    }
}
