//! The index as the cache of the ledger: devices that follow it in different ways come to the same.

use super::*;
use crate::message::Changeset;
use crate::message::SlottedVersion;
use crate::message::changeset::{RecordChange, What};
use crate::types::TransactionId;

fn put(record: &str, n: u8, used: &[u8]) -> RecordChange {
    let segments = used[1..].iter().map(|s| descriptor(*s)).collect();
    RecordChange { name: name(record), what: What::Version { entry: stored(n, used), segments } }
}

fn mark(record: &str, n: u8) -> RecordChange {
    let what = What::Version { entry: removal(record, n).entry, segments: Vec::new() };
    RecordChange { name: name(record), what }
}

fn erase(record: &str, n: u8) -> RecordChange {
    RecordChange { name: name(record), what: What::Erase(version(n)) }
}

fn id(sequence: u64) -> TransactionId {
    let mut id = [0xaa; 32];
    id[..8].copy_from_slice(&sequence.to_be_bytes());
    TransactionId(id)
}

/// The anchor of this number, with one pack.
fn anchor(sequence: u64, pack: u8, changes: Vec<RecordChange>) -> AppliedAnchor {
    let changes =
        Some(Changeset { collection: docs(), changes, standalone: false, class: CollectionClass::Durable });
    AppliedAnchor {
        collection: docs(),
        anchor: id(sequence),
        previous: (sequence > 1).then(|| id(sequence - 1)),
        sequence,
        packs: vec![descriptor(pack)],
        commits: vec![AnchoredCommit { pack: segment(pack), changes }],
        released: Vec::new(),
        uploads: Vec::new(),
    }
}

/// Makes the next anchor as a client does: with what it releases.
fn advance(index: &mut Index, pack: u8, changes: Vec<RecordChange>) -> AppliedAnchor {
    let sequence = index.head(&docs()).unwrap().map_or(0, |head| head.sequence) + 1;
    let mut next = anchor(sequence, pack, changes);
    let preview = index.preview(&next, &[], usize::MAX).unwrap();
    assert!(preview.failed.is_empty());
    next.released = preview.released.into_iter().collect();
    index.apply(std::slice::from_ref(&next)).unwrap();
    next
}

fn versions(index: &Index, record: &str) -> Vec<VersionEntry> {
    index.versions(&docs(), &name(record)).unwrap()
}

#[test]
fn anchors_apply_once_and_in_order() {
    let disk = MemDisk::new(ROOM);
    let mut index = open(&disk);
    assert_eq!(index.head(&docs()).unwrap(), None);
    let first = anchor(1, 1, vec![put("a", 1, &[1, 11])]);
    let second = anchor(2, 2, vec![put("a", 2, &[2]), put("b", 3, &[2])]);
    assert!(matches!(index.apply(std::slice::from_ref(&second)), Err(IndexError::OutOfOrder)));
    let stranger = AppliedAnchor { previous: Some(id(9)), ..second.clone() };
    assert!(matches!(index.apply(&[first.clone(), stranger]), Err(IndexError::OutOfOrder)));
    assert_eq!(index.head(&docs()).unwrap(), None, "all or nothing");
    index.apply(&[first.clone(), second]).unwrap();
    index.apply(&[first]).unwrap();
    drop(index);
    let index = open(&disk);
    assert_eq!(index.head(&docs()).unwrap(), Some(Head { anchor: id(2), sequence: 2 }));
    assert_eq!(versions(&index, "a"), [stored(2, &[2]), stored(1, &[1, 11])]);
    let anchor_of = |record: &str, n| index.anchor_of(&docs(), &name(record), &version(n)).unwrap();
    assert_eq!(
        [anchor_of("a", 1), anchor_of("a", 2), anchor_of("b", 3)],
        [Some(id(1)), Some(id(2)), Some(id(2))]
    );
    assert_eq!([anchor_of("a", 3), anchor_of("c", 1)], [None, None]);
}

#[test]
fn conditions_are_judged_on_top_of_the_head_and_change_nothing() {
    let mut index = open(&MemDisk::new(ROOM));
    advance(&mut index, 1, vec![put("a", 1, &[1])]);
    let next = anchor(0, 2, vec![put("a", 2, &[2]), put("a", 3, &[2]), put("b", 4, &[2]), put("b", 5, &[2])]);
    let conditions = [
        Condition::IfVersion(version(1)),
        // Of two at once the second sees the first.
        Condition::IfVersion(version(1)),
        Condition::IfAbsent,
        Condition::IfAbsent,
    ];
    let preview = index.preview(&next, &conditions, usize::MAX).unwrap();
    let failed = |latest| ConditionFailed { latest: Some(version(latest)) };
    assert_eq!(preview.failed, [(1, failed(2)), (3, failed(4))]);
    assert_eq!((preview.head.unwrap().sequence, preview.fresh), (1, segments(&[2])));
    assert_eq!(versions(&index, "a").len(), 1);
    assert_eq!(index.descriptor(&segment(2)).unwrap(), None);
}

#[test]
fn what_nothing_uses_is_released_on_the_ledger_first_and_then_at_the_nodes() {
    let mut index = open(&MemDisk::new(ROOM));
    advance(&mut index, 1, vec![put("a", 1, &[1, 11]), put("b", 2, &[1, 12])]);
    let first = advance(&mut index, 2, vec![erase("a", 1)]);
    assert_eq!(first.released, segments(&[11]), "the pack has another record");
    assert_eq!(pending(&index), segments(&[11]));
    // With the last record of a pack goes the pack, and then the commit that erased what it brought is of no use.
    let second = advance(&mut index, 3, vec![erase("b", 2)]);
    assert_eq!(second.released, segments(&[1, 2, 12]));
    let third = advance(&mut index, 4, vec![put("c", 3, &[4])]);
    assert_eq!(third.released, segments(&[3]));
    assert_eq!(pending(&index), segments(&[1, 2, 3, 11, 12]));
    let fourth = advance(&mut index, 5, vec![put("d", 4, &[5])]);
    assert_eq!(fourth.released, []);
}

#[test]
fn what_the_ledger_does_not_know_is_not_released_there() {
    let mut index = open(&MemDisk::new(ROOM));
    advance(&mut index, 1, vec![put("a", 1, &[1])]);
    advance(&mut index, 2, vec![erase("a", 1)]);
    index.not_anchored(&docs(), &segment(2)).unwrap();
    assert_eq!(index.preview(&anchor(0, 3, vec![]), &[], usize::MAX).unwrap().released, BTreeSet::new());
    index.give_up(&segments(&[7]), &[]).unwrap();
    assert_eq!(pending(&index), segments(&[1, 2, 7]));
}

#[test]
fn what_is_not_anchored_yet_stays_the_latest() {
    let mut index = open(&MemDisk::new(ROOM));
    commit(&mut index, &[commit_of("a", 9, &[9])]);
    advance(&mut index, 1, vec![put("a", 1, &[1])]);
    let found: Vec<_> = versions(&index, "a").iter().map(|entry| entry.version.0[0]).collect();
    assert_eq!(found, [9, 1]);
}

/// A history of random changes, as a device made it that knew everything at once.
struct History {
    index: Index,
    anchors: Vec<AppliedAnchor>,
}

const NAMES: [&str; 4] = ["a", "b", "c", "d"];

impl History {
    fn random(seed: u64, len: u8) -> Self {
        let mut state = seed;
        let mut this = Self { index: open(&MemDisk::new(ROOM)), anchors: Vec::new() };
        let mut draw = |below: u64| usize::try_from(random(&mut state) % below).unwrap();
        for n in 1..=len {
            let mut changes = Vec::new();
            for nth in 0..=draw(2) {
                let version_id = n + 100 * u8::try_from(nth).unwrap();
                let record = NAMES[draw(4)];
                let known = versions(&this.index, NAMES[draw(4)]);
                changes.push(match (draw(5), known.first()) {
                    (0 | 1, _) | (_, None) => put(record, version_id, &[n, 200 - n][..=draw(2)]),
                    (2, Some(_)) => mark(record, version_id),
                    (3, Some(from)) => {
                        let entry = VersionEntry { version: version(version_id), ..from.clone() };
                        let what = What::Version { entry, segments: Vec::new() };
                        RecordChange { name: name(record), what }
                    }
                    _ => {
                        let record = NAMES[draw(4)];
                        let of = versions(&this.index, record);
                        match of.len() {
                            0 => mark(record, version_id),
                            count => erase(record, of[draw(count as u64)].version.0[0]),
                        }
                    }
                });
            }
            this.anchors.push(advance(&mut this.index, n, changes));
        }
        this
    }

    /// The rest of the history as a device reads it that is at `from`: packs that were released meanwhile are gone.
    fn rest(&self, from: usize) -> Vec<AppliedAnchor> {
        let rest = &self.anchors[from..];
        let released: BTreeSet<_> = rest.iter().flat_map(|anchor| anchor.released.clone()).collect();
        let readable = |anchor: &AppliedAnchor| {
            let mut anchor = anchor.clone();
            for commit in &mut anchor.commits {
                commit.changes.take_if(|_| released.contains(&commit.pack));
            }
            anchor.packs.retain(|pack| !released.contains(&pack.segment));
            anchor
        };
        rest.iter().map(readable).collect()
    }

    /// Nothing that was released is used by what is there.
    fn check_safety(&self) {
        let released: BTreeSet<_> = self.anchors.iter().flat_map(|anchor| anchor.released.clone()).collect();
        for entry in NAMES.iter().flat_map(|name| versions(&self.index, name)) {
            let used = tables::segments_of(&entry);
            assert!(used.is_disjoint(&released), "{entry:?} uses what was released");
            used.iter().for_each(|segment| assert!(self.index.descriptor(segment).unwrap().is_some()));
        }
    }
}

#[test]
fn a_device_that_follows_from_anywhere_finds_what_is_there() {
    for seed in 0..60 {
        let history = History::random(seed, 24);
        history.check_safety();
        for from in [0, 5, 12, 23] {
            let mut other = open(&MemDisk::new(ROOM));
            other.apply(&history.anchors[..from]).unwrap();
            other.apply(&history.rest(from)).unwrap();
            for record in NAMES {
                assert_eq!(
                    versions(&other, record),
                    versions(&history.index, record),
                    "seed {seed} from {from}"
                );
            }
            assert_eq!(other.head(&docs()).unwrap(), history.index.head(&docs()).unwrap());
        }
    }
}

#[test]
fn a_stored_pack_is_read_at_once_and_takes_its_place_when_it_is_anchored() {
    let disk = MemDisk::new(ROOM);
    let mut index = open(&disk);
    let changes = |changes| Changeset {
        collection: docs(),
        changes,
        standalone: false,
        class: CollectionClass::Durable,
    };
    let mine = changes(vec![put("a", 1, &[1, 11]), put("b", 2, &[1])]);
    index.store(&descriptor(1), &mine, &[]).unwrap();
    let later = changes(vec![put("a", 3, &[2])]);
    index.store(&descriptor(2), &later, &[]).unwrap();
    drop(index);
    let mut index = open(&disk);
    assert_eq!(versions(&index, "a"), [stored(3, &[2]), stored(1, &[1, 11])]);
    assert_eq!(index.pending_anchors().unwrap(), [(descriptor(1), mine.clone()), (descriptor(2), later)]);
    // Another device's version is anchored first: it is older than what is stored here.
    advance(&mut index, 9, vec![put("a", 9, &[9])]);
    let order =
        |index: &Index| versions(index, "a").iter().map(|entry| entry.version.0[0]).collect::<Vec<_>>();
    assert_eq!(order(&index), [3, 1, 9]);
    let mut anchor = anchor(2, 1, mine.changes);
    let preview = index.preview(&anchor, &[], usize::MAX).unwrap();
    assert_eq!(preview.fresh.iter().collect::<BTreeSet<_>>(), segments(&[1, 11]).iter().collect());
    assert!(preview.released.is_empty() && preview.failed.is_empty());
    anchor.released = preview.released.into_iter().collect();
    index.apply(&[anchor]).unwrap();
    assert_eq!(order(&index), [3, 1, 9]);
    assert_eq!(index.anchor_of(&docs(), &name("a"), &version(1)).unwrap(), Some(id(2)));
    assert_eq!(index.anchor_of(&docs(), &name("a"), &version(3)).unwrap(), None);
    assert_eq!(index.pending_anchors().unwrap().len(), 1);
    // Its segments are used once, not twice.
    let erased = advance(&mut index, 20, vec![erase("a", 1), erase("b", 2)]);
    assert_eq!(erased.released, segments(&[1, 11]));
}

/// The same version, of a shreddable collection.
fn slotted(n: u8, used: &[u8]) -> VersionEntry {
    let entry = stored(n, used);
    let VersionState::Stored(version) = entry.state.clone() else { unreachable!() };
    let state = VersionState::Slotted(SlottedVersion::of(version, entry.version, (0, 0)));
    VersionEntry { state, ..entry }
}

#[test]
fn a_class_is_that_of_the_first_commit_whose_pack_stays_for_good() {
    let disk = MemDisk::new(ROOM);
    let mut index = open(&disk);
    let class = |index: &Index| index.class(&docs()).unwrap();
    assert_eq!(class(&index), None);
    let shreddable = |mut anchor: AppliedAnchor| {
        for commit in &mut anchor.commits {
            if let Some(changes) = &mut commit.changes {
                changes.class = CollectionClass::Shreddable;
            }
        }
        anchor
    };
    let mut all = vec![shreddable(anchor(1, 1, vec![]))];
    let preview = index.preview(&all[0], &[], usize::MAX).unwrap();
    assert!(preview.released.is_empty() && preview.fresh == segments(&[1]));
    index.apply(&all).unwrap();
    assert_eq!(class(&index), Some(CollectionClass::Shreddable));
    let named: Vec<_> = index.collections().unwrap().into_iter().map(|(_, _, class)| class).collect();
    assert_eq!(named, [CollectionClass::Shreddable], "it is there before its first record");
    let version = What::Version { entry: slotted(1, &[2, 12]), segments: vec![descriptor(12)] };
    let put = vec![RecordChange { name: name("a"), what: version }];
    for (pack, changes) in [(2, put), (3, vec![erase("a", 1)]), (4, vec![mark("b", 2)])] {
        let mut next = shreddable(anchor(all.len() as u64 + 1, pack, changes));
        next.released = index.preview(&next, &[], usize::MAX).unwrap().released.into_iter().collect();
        assert!(!next.released.contains(&segment(1)), "the first pack is never released");
        index.apply(std::slice::from_ref(&next)).unwrap();
        if pack == 2 {
            assert_eq!(versions(&index, "a"), [slotted(1, &[2, 12])]);
            let used = index.segments_of(&docs(), &name("a"), &self::version(1)).unwrap();
            assert_eq!(used, [descriptor(2), descriptor(12)]);
        }
        all.push(next);
    }
    assert!(versions(&index, "a").is_empty() && index.descriptor(&segment(12)).unwrap().is_none());
    // Who follows later learns the same, of what packs are left.
    let gone: Vec<_> = all.iter().flat_map(|anchor| anchor.released.clone()).collect();
    let mut other = open(&MemDisk::new(ROOM));
    for anchor in &mut all {
        for commit in anchor.commits.iter_mut().filter(|commit| gone.contains(&commit.pack)) {
            commit.changes = None;
        }
    }
    other.apply(&all).unwrap();
    assert_eq!(class(&other), Some(CollectionClass::Shreddable));
    drop(index);
    assert_eq!(class(&open(&disk)), Some(CollectionClass::Shreddable));
    let mut durable = open(&MemDisk::new(ROOM));
    advance(&mut durable, 1, vec![self::put("a", 1, &[1])]);
    assert_eq!(class(&durable), Some(CollectionClass::Durable));
}

#[test]
fn an_upload_that_is_forgotten_keeps_its_segments() {
    let mut index = open(&MemDisk::new(ROOM));
    let (id, other) = (UploadId([1; 32]), UploadId([2; 32]));
    let row = UploadRow { version: version(1), dek: Dek::from_bytes([2; 32]), begun: Timestamp::ZERO };
    let chunk = |n| JournaledChunk { number: 0, salt: [3; 16], plain_len: 9, descriptor: descriptor(n) };
    for (id, n) in [(id, 5), (other, 6)] {
        index.begin_upload(&id, &row).unwrap();
        index.put_chunk(&id, &chunk(n)).unwrap();
    }
    index.forget_uploads(&[id]).unwrap();
    assert_eq!(index.uploads().unwrap(), [other]);
    assert!(index.upload(&id).unwrap().is_none() && index.upload(&other).unwrap().is_some());
    assert_eq!(pending(&index), segments(&[]), "nobody is told to free them");
}
