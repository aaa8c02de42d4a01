#![allow(clippy::unwrap_used)]

mod anchored;
mod network;

use std::collections::{BTreeMap, BTreeSet};

use redb::StorageBackend as _;

use super::*;
use crate::crypto::frame::{Dek, DekCommit};
use crate::message::{Extent, Locator, StoredVersion, VersionState};
use crate::store::sealed_file::SECTOR_LEN;
use crate::testing::{MemDisk, Survivors};
use crate::types::{Code, Hash};

const KEY: [u8; 32] = [0x77; 32];
const ROOM: u64 = 256 << 20;

/// One step of SplitMix64.
fn random(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut mixed = *state;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

fn entropy() -> Entropy {
    let mut state = 1;
    Box::new(move |out| {
        out.iter_mut().for_each(|byte| *byte = random(&mut state).to_le_bytes()[0]);
        Ok(())
    })
}

fn try_open(disk: &MemDisk, key: &[u8; 32]) -> Result<Index, IndexError> {
    Index::open(disk, key, entropy())
}

fn open(disk: &MemDisk) -> Index {
    try_open(disk, &KEY).unwrap()
}

fn collection(name: &str) -> CollectionName {
    name.parse().unwrap()
}

fn docs() -> CollectionName {
    collection("docs")
}

fn name(name: &str) -> RecordName {
    name.parse().unwrap()
}

fn segment(n: u8) -> SegmentId {
    SegmentId([n; 32])
}

fn segments(numbers: &[u8]) -> Vec<SegmentId> {
    numbers.iter().copied().map(segment).collect()
}

fn version(n: u8) -> VersionId {
    VersionId([n; 16])
}

fn descriptor(n: u8) -> Descriptor {
    let code = Code::DEFAULT;
    let total = code.total();
    Descriptor {
        segment: segment(n),
        code,
        len: 1_000,
        roots: vec![Hash([n; 32]); total],
        holders: vec![None; total],
    }
}

/// A version whose header is in the first of the segments and whose bytes are in the others.
fn stored(n: u8, used: &[u8]) -> VersionEntry {
    let extent = |s: &u8| Extent { segment: segment(*s), offset: 0, plain_len: 100, salt: [3; 16] };
    let extents: Vec<_> = used[1..].iter().map(extent).collect();
    VersionEntry {
        version: version(n),
        created: Timestamp::from_unix_micros(1_000 + u64::from(n)),
        state: VersionState::Stored(StoredVersion {
            size: 100 * extents.len() as u64,
            content_version: version(n),
            dek: Dek::from_bytes([0xde; 32]),
            dek_commit: DekCommit([5; 32]),
            header: Locator { segment: segment(used[0]), offset: 0, len: 200, salt: [4; 16] },
            extents,
            content_type: Some("text/plain".to_owned()),
            modified: None,
            content: Hash([6; 32]),
        }),
        provenance: None,
    }
}

fn commit_of(record: &str, n: u8, used: &[u8]) -> Commit {
    Commit {
        collection: docs(),
        name: name(record),
        entry: stored(n, used),
        condition: Condition::Any,
        segments: used.iter().map(|s| descriptor(*s)).collect(),
        upload: None,
    }
}

fn removal(record: &str, n: u8) -> Commit {
    let created = Timestamp::from_unix_micros(1_000 + u64::from(n));
    let state = VersionState::Deleted;
    let entry = VersionEntry { version: version(n), created, state, provenance: None };
    Commit { entry, segments: Vec::new(), ..commit_of(record, n, &[0]) }
}

fn commit(index: &mut Index, commits: &[Commit]) {
    index.commit(commits).unwrap().into_iter().for_each(Result::unwrap);
}

fn pending(index: &Index) -> Vec<SegmentId> {
    index.pending_releases(usize::MAX).unwrap()
}

#[test]
fn versions_come_and_go() {
    let disk = MemDisk::new(ROOM);
    let mut index = open(&disk);
    assert_eq!(index.latest(&docs(), &name("a")).unwrap(), None);
    assert!(index.versions(&docs(), &name("a")).unwrap().is_empty());
    assert_eq!(index.erase(&docs(), &name("a"), Which::All).unwrap(), Erased::default());
    for n in 1..=3 {
        commit(&mut index, &[commit_of("a", n, &[n, n + 10])]);
    }
    commit(&mut index, &[removal("a", 4), commit_of("ab", 5, &[5])]);
    commit(&mut index, &[Commit { collection: collection("a-b"), ..commit_of("a", 6, &[6]) }]);
    drop(index);
    let mut index = open(&disk);
    let names: Vec<_> =
        index.collections().unwrap().into_iter().map(|(found, ..)| found.to_string()).collect();
    assert_eq!(names, ["a-b", "docs"]);
    let of = |index: &Index| -> Vec<_> {
        index.versions(&docs(), &name("a")).unwrap().into_iter().map(|entry| entry.version.0[0]).collect()
    };
    assert_eq!(of(&index), [4, 3, 2, 1]);
    assert_eq!(index.latest(&docs(), &name("a")).unwrap(), Some(removal("a", 4).entry));
    assert_eq!(index.version(&docs(), &name("a"), &version(2)).unwrap(), Some(stored(2, &[2, 12])));
    assert_eq!(index.version(&docs(), &name("a"), &version(5)).unwrap(), None);
    // In the middle, then the latest, then all.
    let one = |n| Which::Version(version(n));
    assert_eq!(
        index.erase(&docs(), &name("a"), one(2)).unwrap(),
        Erased { versions: 1, segments_released: 2 }
    );
    assert_eq!(of(&index), [4, 3, 1]);
    assert_eq!(
        index.erase(&docs(), &name("a"), one(4)).unwrap(),
        Erased { versions: 1, segments_released: 0 }
    );
    assert_eq!(index.latest(&docs(), &name("a")).unwrap(), Some(stored(3, &[3, 13])));
    assert_eq!(index.erase(&docs(), &name("a"), one(9)).unwrap(), Erased::default());
    assert_eq!(of(&index), [3, 1]);
    assert_eq!(pending(&index), segments(&[2, 12]));
    let all = index.erase(&docs(), &name("a"), Which::All).unwrap();
    assert_eq!(all, Erased { versions: 2, segments_released: 4 });
    assert!(of(&index).is_empty());
    assert_eq!(index.latest(&docs(), &name("ab")).unwrap(), Some(stored(5, &[5])));
    assert_eq!(pending(&index), segments(&[1, 2, 3, 11, 12, 13]));
    assert_eq!(index.pending_releases(2).unwrap(), segments(&[1, 2]));
    index.released(&segments(&[1, 2, 3])).unwrap();
    assert_eq!(pending(&index), segments(&[11, 12, 13]));
}

#[test]
fn a_segment_is_released_when_its_last_use_goes() {
    let mut index = open(&MemDisk::new(ROOM));
    commit(&mut index, &[commit_of("a", 1, &[1, 2, 3])]);
    // A copy names no segment as new; a pack holds several records.
    let copy = Commit { segments: Vec::new(), ..commit_of("copy", 2, &[1, 2, 3]) };
    commit(&mut index, &[copy, commit_of("packed", 3, &[3, 4])]);
    assert_eq!(index.erase(&docs(), &name("a"), Which::All).unwrap().segments_released, 0);
    assert!(pending(&index).is_empty());
    assert_eq!(index.erase(&docs(), &name("copy"), Which::All).unwrap().segments_released, 2);
    assert_eq!(pending(&index), segments(&[1, 2]));
    assert_eq!(index.descriptor(&segment(1)).unwrap(), None);
    assert_eq!(index.descriptor(&segment(3)).unwrap(), Some(descriptor(3)));
    assert_eq!(index.erase(&docs(), &name("packed"), Which::All).unwrap().segments_released, 2);
    assert_eq!(pending(&index), segments(&[1, 2, 3, 4]));
    // A copy of what is gone is an error and changes nothing.
    let late = Commit { segments: Vec::new(), ..commit_of("late", 4, &[1]) };
    assert!(matches!(index.commit(&[commit_of("b", 5, &[5]), late]), Err(IndexError::Damaged { .. })));
    assert_eq!(index.latest(&docs(), &name("b")).unwrap(), None);
}

#[test]
fn versions_with_many_extents_keep_all_their_segments() {
    let mut index = open(&MemDisk::new(ROOM));
    let ids: Vec<SegmentId> = (0..2_000_u32)
        .map(|n| {
            let mut id = [9; 32];
            id[..4].copy_from_slice(&n.to_be_bytes());
            SegmentId(id)
        })
        .collect();
    let mut big = commit_of("big", 1, &[200]);
    if let VersionState::Stored(stored) = &mut big.entry.state {
        stored.size = 1 << 40;
    }
    big.segments.extend(ids.iter().map(|segment| Descriptor { segment: *segment, ..descriptor(1) }));
    commit(&mut index, &[big]);
    assert_eq!(index.erase(&docs(), &name("big"), Which::All).unwrap().segments_released, 2_001);
    assert_eq!(pending(&index).len(), 2_001);
}

#[test]
fn conditions_see_what_the_batch_did_before_them() {
    let mut index = open(&MemDisk::new(ROOM));
    let with = |condition, commit: Commit| Commit { condition, ..commit };
    let results = index
        .commit(&[
            with(Condition::IfAbsent, commit_of("a", 1, &[1])),
            with(Condition::IfAbsent, commit_of("a", 2, &[2])),
            with(Condition::IfVersion(version(1)), commit_of("a", 3, &[3])),
            with(Condition::IfVersion(version(1)), commit_of("a", 4, &[4, 3])),
            removal("a", 5),
            with(Condition::IfVersion(version(5)), commit_of("a", 6, &[6])),
            with(Condition::IfAbsent, commit_of("a", 7, &[7])),
        ])
        .unwrap();
    let failed = |n: Option<u8>| Err(ConditionFailed { latest: n.map(version) });
    assert_eq!(results, [Ok(()), failed(Some(1)), Ok(()), failed(Some(3)), Ok(()), failed(None), Ok(())]);
    assert_eq!(index.latest(&docs(), &name("a")).unwrap(), Some(stored(7, &[7])));
    assert_eq!(index.versions(&docs(), &name("a")).unwrap().len(), 4);
    // What only the failed ones used, not segment 3.
    assert_eq!(pending(&index), segments(&[2, 4, 6]));
    assert_eq!(index.descriptor(&segment(4)).unwrap(), None);
}

#[test]
fn holders_are_amended_of_known_segments_only() {
    let mut index = open(&MemDisk::new(ROOM));
    commit(&mut index, &[commit_of("a", 1, &[1])]);
    let moved = Descriptor { holders: vec![Some(crate::types::PublicKey([8; 32])); 6], ..descriptor(1) };
    index.amend(&moved).unwrap();
    index.amend(&Descriptor { segment: segment(2), ..moved.clone() }).unwrap();
    assert_eq!(index.descriptor(&segment(1)).unwrap(), Some(moved));
    assert_eq!(index.descriptor(&segment(2)).unwrap(), None);
    assert_eq!(index.erase(&docs(), &name("a"), Which::All).unwrap().segments_released, 1);
}

/// All lines of a listing, the slow way.
fn model(records: &BTreeMap<String, bool>, query: &ListQuery) -> Vec<String> {
    let mut lines = BTreeSet::new();
    for (name, deleted) in records {
        let Some(rest) = name.strip_prefix(&query.prefix) else { continue };
        if *deleted && !query.include_deleted {
            continue;
        }
        let line = match query.delimiter.and_then(|delimiter| rest.split_once(delimiter)) {
            Some((folded, _)) => format!("P{}{folded}{}", query.prefix, query.delimiter.unwrap()),
            None => format!("R{name}"),
        };
        lines.insert((line[1..].to_owned(), line));
    }
    lines.into_iter().map(|(_, line)| line).collect()
}

fn pages(index: &Index, mut query: ListQuery) -> Vec<String> {
    let mut lines = Vec::new();
    loop {
        let page = index.list(&docs(), &query).unwrap();
        assert!(page.items.len() <= query.limit);
        lines.extend(page.items.iter().map(|item| match item {
            ListItem::Record(name, _) => format!("R{name}"),
            ListItem::Prefix(prefix) => format!("P{prefix}"),
        }));
        query.after = page.next;
        if query.after.is_none() {
            return lines;
        }
    }
}

#[test]
fn listings_are_those_of_a_sorted_map() {
    for seed in 0..4_u64 {
        let mut state = seed;
        let mut index = open(&MemDisk::new(ROOM));
        let mut pick = |count: usize| usize::try_from(random(&mut state) % count as u64).unwrap();
        let alphabet = ["a", "b", "/", "/", "é", "\u{1}", "~", "z"];
        let mut records = BTreeMap::new();
        let mut commits = Vec::new();
        for _ in 0..150 {
            let text: String = (0..=pick(6)).map(|_| alphabet[pick(alphabet.len())]).collect();
            let deleted = pick(4) == 0;
            commits.push(if deleted { removal(&text, 1) } else { commit_of(&text, 1, &[1]) });
            records.insert(text, deleted);
        }
        // Neighbours that must not leak in.
        commits.insert(0, Commit { collection: collection("before"), ..commit_of("a", 1, &[1]) });
        commits.push(Commit { collection: collection("later"), ..commit_of("a/b", 1, &[1]) });
        commit(&mut index, &commits);
        for prefix in ["", "a", "a/", "/", "b/a", "é", "zz/", "none"] {
            for delimiter in [None, Some('/'), Some('a'), Some('é')] {
                for limit in [1, 2, 7, 1_000] {
                    for include_deleted in [false, true] {
                        let query = ListQuery {
                            prefix: prefix.to_owned(),
                            delimiter,
                            after: None,
                            limit,
                            include_deleted,
                        };
                        assert_eq!(pages(&index, query.clone()), model(&records, &query), "{seed} {query:?}");
                    }
                }
            }
            // Any place to go on from, without folding.
            for after in ["", "a", "a/", "aa", "b/a/", "zzzzzzzzz"] {
                let query = ListQuery { prefix: prefix.to_owned(), limit: 9, ..ListQuery::default() };
                let from = ListQuery { after: Some(after.to_owned()), ..query.clone() };
                let expected: Vec<_> =
                    model(&records, &query).into_iter().filter(|line| line[1..] > *after).collect();
                assert_eq!(pages(&index, from), expected, "{seed} {prefix:?} after {after:?}");
            }
        }
        let nowhere = index.list(&collection("nowhere"), &ListQuery { limit: 5, ..ListQuery::default() });
        assert_eq!(nowhere.unwrap(), Listing::default());
    }
}

fn chunk(number: u64, n: u8) -> JournaledChunk {
    JournaledChunk { number, salt: [n; 16], plain_len: 100, descriptor: descriptor(n) }
}

fn row(begun: u64) -> UploadRow {
    UploadRow {
        version: version(1),
        dek: Dek::from_bytes([0xde; 32]),
        begun: Timestamp::from_unix_micros(begun),
    }
}

#[test]
fn an_upload_is_taken_up_given_up_or_committed() {
    let disk = MemDisk::new(ROOM);
    let mut index = open(&disk);
    let [one, two, three] = [UploadId([1; 32]), UploadId([2; 32]), UploadId([3; 32])];
    assert_eq!(index.upload(&one).unwrap(), None);
    for (id, begun) in [(one, 10), (two, 20), (three, 30)] {
        index.begin_upload(&id, &row(begun)).unwrap();
    }
    for (number, n) in [(1, 11), (0, 10), (2, 12)] {
        index.put_chunk(&one, &chunk(number, n)).unwrap();
    }
    index.put_chunk(&two, &chunk(0, 20)).unwrap();
    index.put_chunk(&three, &chunk(0, 30)).unwrap();
    // The same chunk with its holders, and another in place of one.
    let mut placed = chunk(0, 10);
    placed.descriptor.holders[0] = Some(crate::types::PublicKey([8; 32]));
    index.put_chunk(&one, &placed).unwrap();
    assert!(pending(&index).is_empty());
    index.put_chunk(&one, &chunk(2, 13)).unwrap();
    assert_eq!(pending(&index), segments(&[12]));
    drop(index);
    let mut index = open(&disk);
    assert_eq!(index.upload(&one).unwrap(), Some((row(10), vec![placed, chunk(1, 11), chunk(2, 13)])));
    // Of what was journaled, the version does not use segment 13.
    commit(&mut index, &[Commit { upload: Some(one), ..commit_of("a", 1, &[10, 11]) }]);
    assert_eq!(index.upload(&one).unwrap(), None);
    assert_eq!(pending(&index), segments(&[12, 13]));
    index.abandon_upload(&two).unwrap();
    assert_eq!(index.upload(&two).unwrap(), None);
    assert_eq!(pending(&index), segments(&[12, 13, 20]));
    assert_eq!(index.abandon_uploads(Timestamp::from_unix_micros(30)).unwrap(), 0);
    assert_eq!(index.upload(&three).unwrap(), Some((row(30), vec![chunk(0, 30)])));
    assert_eq!(index.abandon_uploads(Timestamp::from_unix_micros(31)).unwrap(), 1);
    assert_eq!(pending(&index), segments(&[12, 13, 20, 30]));
    // An upload whose condition fails leaves nothing behind but what is to be released.
    index.begin_upload(&one, &row(40)).unwrap();
    index.put_chunk(&one, &chunk(0, 40)).unwrap();
    let late = Commit { upload: Some(one), condition: Condition::IfAbsent, ..commit_of("a", 2, &[40, 41]) };
    assert!(index.commit(&[late]).unwrap()[0].is_err());
    assert_eq!(index.upload(&one).unwrap(), None);
    assert_eq!(pending(&index), segments(&[12, 13, 20, 30, 40, 41]));
}

/// Commits and erases until the end or the first error: what was acknowledged, and the record in flight.
fn run(disk: &MemDisk) -> (BTreeMap<u8, Option<u8>>, Option<u8>) {
    let mut acked = BTreeMap::new();
    let Ok(mut index) = try_open(disk, &KEY) else { return (acked, None) };
    for n in 1..=8_u8 {
        if n == 5 {
            drop(index);
            let Ok(again) = try_open(disk, &KEY) else { return (acked, None) };
            index = again;
        }
        if index.commit(&[commit_of(&format!("r{n}"), n, &[n, 100])]).is_err() {
            return (acked, Some(n));
        }
        acked.insert(n, Some(n));
        if n % 3 == 0 {
            if index.erase(&docs(), &name(&format!("r{n}")), Which::All).is_err() {
                return (acked, Some(n));
            }
            acked.insert(n, None);
        }
    }
    (acked, None)
}

#[test]
fn acknowledged_commits_survive_a_crash_at_every_operation() {
    let whole = MemDisk::new(ROOM);
    assert_eq!(run(&whole).0.len(), 8);
    for change in 0..whole.changes() {
        let disk = MemDisk::new(ROOM);
        disk.lose_power_at(change);
        let (acked, in_flight) = run(&disk);
        let modes = [
            Survivors::Nothing,
            Survivors::Everything,
            Survivors::Random(change),
            Survivors::Random(!change),
        ];
        for survivors in modes {
            let image = disk.after_power_loss(survivors);
            let mut index =
                try_open(&image, &KEY).unwrap_or_else(|error| panic!("{change} {survivors:?}: {error:?}"));
            let mut alive = 0;
            for (n, held) in &acked {
                let latest = index.latest(&docs(), &name(&format!("r{n}"))).unwrap();
                alive += u64::from(latest.is_some());
                if in_flight != Some(*n) {
                    assert_eq!(latest, held.map(|n| stored(n, &[n, 100])), "{change} {survivors:?}");
                }
                let freed = pending(&index).contains(&segment(*n));
                assert_eq!(freed, latest.is_none(), "rows and releases agree");
            }
            // One that all share goes with the last.
            assert!(alive == 0 || !pending(&index).contains(&segment(100)));
            commit(&mut index, &[commit_of("more", 99, &[99])]);
            drop(index);
            assert_eq!(open(&image).latest(&docs(), &name("more")).unwrap(), Some(stored(99, &[99])));
        }
    }
}

#[test]
fn a_wrong_key_is_named() {
    let disk = MemDisk::new(ROOM);
    run(&disk);
    assert!(matches!(try_open(&disk, &[1; 32]), Err(IndexError::WrongKey)));
    assert!(open(&disk).latest(&docs(), &name("r1")).unwrap().is_some());
}

#[test]
fn damage_is_an_error_with_a_name_and_never_a_panic() {
    let whole = MemDisk::new(ROOM);
    run(&whole);
    let len = whole.open(INDEX_FILE).unwrap().len().unwrap();
    let copy = || whole.after_power_loss(Survivors::Everything);
    let visit = |disk: &MemDisk, what: String| {
        let found = try_open(disk, &KEY).and_then(|index| {
            for n in 1..=8 {
                index.latest(&docs(), &name(&format!("r{n}")))?;
            }
            index.list(&docs(), &ListQuery { limit: 10, ..ListQuery::default() })?;
            index.pending_releases(10)
        });
        match found {
            Ok(_) | Err(IndexError::Damaged { .. }) => found.is_ok(),
            Err(error) => panic!("{what}: {error:?}"),
        }
    };
    for (fill, at) in [(0xa5, 0), (0, 0), (0xa5, 4_096), (0xa5, 20_480), (0, 20_480)] {
        let disk = copy();
        let garbage = vec![fill; usize::try_from(len - at).unwrap()];
        disk.open(INDEX_FILE).unwrap().write_at(at, &garbage).unwrap();
        assert!(!visit(&disk, format!("{fill} from {at}")));
    }
    for step in 0..200 {
        let disk = copy();
        let at = step * len / 200;
        disk.flip_bit(INDEX_FILE, at, 2);
        visit(&disk, format!("bit at {at}"));
    }
}

#[test]
fn an_index_that_was_cut_is_damaged_and_never_a_new_one() {
    let disk = MemDisk::new(ROOM);
    run(&disk);
    let closed = disk.after_power_loss(Survivors::Everything);
    // As a process that is killed leaves it: redb finds out the length of its file then.
    let mut index = open(&disk);
    for n in 10..60 {
        commit(&mut index, &[commit_of(&format!("r{n}"), n, &[n])]);
    }
    for whole in [closed, disk.after_power_loss(Survivors::Everything)] {
        let len = whole.open(INDEX_FILE).unwrap().len().unwrap();
        let at_edges = [0, 1, 115, 116, 4_096, 12_288, 20_479, 20_480, 24_615, 24_616, len - 4_136, len - 1];
        for cut in (0..50).map(|step| step * len / 50).chain(at_edges) {
            let disk = whole.after_power_loss(Survivors::Everything);
            disk.open(INDEX_FILE).unwrap().set_len(cut).unwrap();
            for _ in 0..2 {
                let found = try_open(&disk, &KEY);
                assert!(matches!(found, Err(IndexError::Damaged { .. })), "cut to {cut} of {len}: {found:?}");
            }
        }
        assert!(open(&whole).latest(&docs(), &name("r1")).unwrap().is_some());
    }
}

/// A sealed file grows, shrinks and grows again, synced after each; then power is lost at every operation.
#[test]
fn a_sealed_file_has_a_length_that_was_synced_or_asked_for() {
    const LENS: [u64; 7] = [3, 9, 4, 4, 12, 2, 6];
    let page = |len: u64| [u8::try_from(len).unwrap(); SECTOR_LEN];
    let run = |disk: &MemDisk| -> io::Result<usize> {
        let file = SealedFile::create(disk.create("file")?, &KEY, entropy())?;
        disk.sync_dir()?;
        for (done, len) in LENS.into_iter().enumerate() {
            let step = || {
                file.set_len(len * SECTOR_LEN as u64)?;
                file.write(0, &page(len))?;
                file.write((len - 1) * SECTOR_LEN as u64, &page(len))?;
                file.sync_data()
            };
            if step().is_err() {
                return Ok(done);
            }
        }
        Ok(LENS.len())
    };
    let whole = MemDisk::new(ROOM);
    assert_eq!(run(&whole).unwrap(), LENS.len());
    for change in 0..whole.changes() {
        let disk = MemDisk::new(ROOM);
        disk.lose_power_at(change);
        let Ok(done) = run(&disk) else { continue };
        for survivors in [Survivors::Nothing, Survivors::Everything, Survivors::Random(change)] {
            let image = disk.after_power_loss(survivors).open("file").unwrap();
            let file = match SealedFile::open(image, &KEY, entropy()) {
                Ok(file) => file,
                Err(error) => {
                    assert_eq!(done, 0, "{change} {survivors:?}: {error}");
                    continue;
                }
            };
            let len = file.len().unwrap() / SECTOR_LEN as u64;
            let begun = LENS.get(done).is_some_and(|asked| *asked == len);
            assert!(begun || done.checked_sub(1).is_some_and(|at| LENS[at] == len), "{change} {survivors:?}");
            // By a coin, sectors that were not promised may be torn.
            if !matches!(survivors, Survivors::Random(_)) {
                let mut last = [0; SECTOR_LEN];
                file.read((len - 1) * SECTOR_LEN as u64, &mut last).unwrap();
                assert_eq!(last, page(len), "{change} {survivors:?}");
            }
        }
    }
}

#[test]
fn nothing_of_the_rows_rests_in_clear() {
    let disk = MemDisk::new(ROOM);
    let mut index = open(&disk);
    commit(
        &mut index,
        &[Commit { collection: collection("very-secret-box"), ..commit_of("plans/for-monday", 1, &[1]) }],
    );
    index.begin_upload(&UploadId([0xdd; 32]), &row(1)).unwrap();
    drop(index);
    for file in disk.list().unwrap() {
        let file = disk.open(&file).unwrap();
        let mut image = vec![0; usize::try_from(file.len().unwrap()).unwrap()];
        file.read_at(0, &mut image).unwrap();
        let has = |needle: &[u8]| image.windows(needle.len()).any(|window| window == needle);
        let needles: [&[u8]; 6] =
            [b"very-secret", b"for-monday", b"text/plain", &[0xde; 8], &[1; 8], &[0xdd; 8]];
        for needle in needles {
            assert!(!has(needle), "{needle:?}");
        }
        assert!(!has(&KEY[..8]) && !has(b"redb"));
    }
}

#[test]
fn a_full_disk_is_called_full_every_time_and_costs_nothing_that_is_durable() {
    let disk = MemDisk::new(4 << 20);
    let mut index = open(&disk);
    let big = |n: u8| {
        let mut descriptors = Vec::new();
        for m in 0..=255 {
            let mut id = [m; 32];
            id[0] = n;
            let roots = vec![Hash([n; 32]); Code::DEFAULT.total()];
            let holders = vec![None; Code::DEFAULT.total()];
            descriptors.push(Descriptor {
                segment: SegmentId(id),
                code: Code::DEFAULT,
                len: 9,
                roots,
                holders,
            });
        }
        descriptors
    };
    let upload = |n: u8| UploadId([n; 32]);
    let fill = |index: &mut Index, n: u8| -> Result<(), IndexError> {
        for (number, descriptor) in (0..).zip(big(n)) {
            let chunk = JournaledChunk { number, salt: [0; 16], plain_len: 1, descriptor };
            index.put_chunk(&upload(n), &chunk).map_err(|error| index.explain(error))?;
        }
        Ok(())
    };
    let failed = (0..=255).find_map(|n| fill(&mut index, n).err().map(|error| (n, error)));
    let (at, error) = failed.expect("the disk is small");
    assert!(matches!(error, IndexError::Full), "{error:?}");
    assert!(at > 0 && index.has_failed());
    for _ in 0..3 {
        let error = fill(&mut index, at).unwrap_err();
        assert!(matches!(error, IndexError::Full), "{error:?}");
    }
    drop(index);
    assert!(!open(&disk).has_failed());
}

#[test]
fn amending_learns_holders_and_forgets_none() {
    let disk = MemDisk::new(ROOM);
    let mut index = open(&disk);
    let mut known = descriptor(7);
    let holders = |nodes: [u8; 6]| -> Vec<_> {
        nodes.iter().map(|node| (*node > 0).then_some(crate::types::PublicKey([*node; 32]))).collect()
    };
    known.holders = holders([1, 2, 3, 4, 5, 0]);
    assert!(!index.amend(&known).unwrap(), "it is not known yet");
    let entry = stored(1, &[7]);
    let commit = Commit {
        collection: docs(),
        name: name("a"),
        entry,
        condition: Condition::Any,
        segments: vec![known.clone()],
        upload: None,
    };
    index.commit(&[commit]).unwrap()[0].unwrap();
    assert!(index.amend(&Descriptor { holders: holders([0, 9, 0, 0, 0, 6]), ..known.clone() }).unwrap());
    assert_eq!(index.descriptor(&known.segment).unwrap().unwrap().holders, holders([1, 9, 3, 4, 5, 6]));
    // Roots of something else are not believed.
    let other = Descriptor { roots: vec![Hash([9; 32]); 6], holders: holders([8; 6]), ..known.clone() };
    index.amend(&other).unwrap();
    assert_eq!(index.descriptor(&known.segment).unwrap().unwrap().holders, holders([1, 9, 3, 4, 5, 6]));
}
