//! Claims C1 and C4 of the design: what it takes to open a keyslot, and what is not enough.

use proptest::prelude::*;

use super::*;
use crate::crypto::frame::{Dek, DekCommit};
use crate::crypto::seed::Seed;
use crate::types::{
    Day, Locator, NetworkId, RecordTag, ScopePath, ScopeTag, SegmentId, SlotId, VaultId, VersionId,
};

const DAY: Day = Day(9_000);

/// A vault's keys and one record of some day, wrapped for a scope and generation.
struct Wrapped {
    slot_id: SlotId,
    slot: Keyslot,
    line: SealedLine,
    entry: DekCommit,
    dek: [u8; 32],
}

fn path(text: &str) -> ScopePath {
    text.parse().unwrap()
}

fn slot_id(scope: ScopeTag, generation: u32, record: u8) -> SlotId {
    SlotId {
        network: NetworkId([1; 32]),
        vault: VaultId([2; 32]),
        dealing: 0,
        scope,
        generation,
        record: RecordTag([record; 16]),
        version: VersionId([record; 16]),
    }
}

fn line_of(list: &SlotId) -> LineOf<'_> {
    LineOf { list, record: RecordTag([7; 16]), version: VersionId([8; 16]) }
}

/// What an owner writes of a record.
fn wrap(keys: &AccessKeys, scope: &ScopePath, generation: u32, day: Day, record: u8) -> Wrapped {
    let (key, prf) = (keys.scope_key(scope, generation), keys.prf_key(0));
    let slot_id = slot_id(keys.scope_tag(scope), generation, record);
    let dek = *blake3::hash(&[record]).as_bytes();
    let content = SlotContent {
        dek: Dek::from_bytes(dek),
        content_version: VersionId([5; 16]),
        header: Locator { segment: SegmentId([6; 32]), offset: 10, len: 100, salt: [7; 16] },
    };
    let (day_key, list) = (key.day(day), key.list_key());
    let output = prf.evaluate(&slot_id);
    let kek = Kek::new(&day_key, &output, &slot_id);
    let slot = Keyslot::wrap(&kek, &slot_id, &content, &list, day, [record; 16]);
    let line = SealedLine::seal(&line_of(&slot_id), &day_key, &output, &list, day, [9; 24], b"knee.dcm");
    Wrapped { slot_id, slot, line, entry: content.dek.commit(&content.content_version), dek }
}

/// Whether a day's key and the PRF open it: slot and line alike.
fn opens(wrapped: &Wrapped, day: &DayKey, prf: &PrfKey) -> bool {
    let output = prf.evaluate(&wrapped.slot_id);
    let kek = Kek::new(day, &output, &wrapped.slot_id);
    let content = wrapped.slot.unwrap(&kek, &wrapped.slot_id, &wrapped.entry);
    let line = wrapped.line.open(&line_of(&wrapped.slot_id), day, &output);
    assert_eq!(content.is_ok(), line.is_ok());
    content.is_ok_and(|content| *content.dek.as_bytes() == wrapped.dek)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    /// C1: all static nodes together have the vault's PRF key, every slot and every line. Nothing of that is the other half.
    #[test]
    fn c1_all_nodes_together_open_nothing(entropy in any::<[u8; 32]>(), guess in any::<[u8; 32]>()) {
        let keys = Seed::from_entropy(entropy).vault(0, 0).access();
        let scope = path("label:knee");
        let wrapped = wrap(&keys, &scope, 0, DAY, 3);
        let prf = keys.prf_key(0);
        // What they know, in one row: every window of it is tried as the key of the day.
        let known = [
            prf.scalar().as_bytes(),
            prf.public().as_bytes().as_slice(),
            prf.evaluate(&wrapped.slot_id).as_bytes(),
            &wrapped.slot_id.to_bytes(),
            wrapped.slot.as_bytes(),
            wrapped.line.as_bytes(),
            &wrapped.entry.0,
            &guess,
        ]
        .concat();
        for window in known.windows(32) {
            let day = DayKey::from_bytes(window.try_into().unwrap());
            prop_assert!(!opens(&wrapped, &day, &prf));
        }
        // Nor is the data key in it, nor what a list says.
        prop_assert!(!known.windows(32).any(|window| window == wrapped.dek));
        prop_assert!(!known.windows(8).any(|window| window == b"knee.dcm"));
        // The check can fail: with the owner's half it opens.
        prop_assert!(opens(&wrapped, &keys.scope_key(&scope, 0).day(DAY), &prf));
    }

    /// C4: who was let in once, with as many static nodes as release, opens what the grant covered, and nothing else.
    #[test]
    fn c4_a_revoked_grantee_with_a_threshold_opens_what_its_grant_covered(
        entropy in any::<[u8; 32]>(),
        (first, days) in (1_000_u16..9_000, 0_u16..400),
    ) {
        let keys = Seed::from_entropy(entropy).vault(0, 0).access();
        let (knee, head) = (path("label:knee"), path("label:head"));
        let range = DayRange::new(Day(first), Day(first + days)).unwrap();
        let granted = keys.scope_key(&knee, 1).cover(range);
        let prf = keys.prf_key(0);
        let opened = |scope: &ScopePath, generation: u32, day: u16| {
            let wrapped = wrap(&keys, scope, generation, Day(day), 3);
            let lists = [&knee, &head].map(|scope| keys.scope_key(scope, generation).list_key());
            // Of every day that the grant has, whatever day the hint says.
            let hinted = lists.iter().map(|list| wrapped.slot.day(list));
            let days = range.first().0..=range.last().0;
            let of_grant = days.step_by(7).map(Day).chain(hinted).chain([range.first(), range.last()]);
            of_grant.filter_map(|day| DayKey::find(&granted, day)).any(|day| opens(&wrapped, &day, &prf))
        };
        for day in [first, first + days / 2, first + days] {
            prop_assert!(opened(&knee, 1, day), "day {day} was granted");
            prop_assert!(!opened(&knee, 2, day), "the next generation");
            prop_assert!(!opened(&knee, 0, day), "the generation before");
            prop_assert!(!opened(&head, 1, day), "another scope");
        }
        for day in [first - 1, first + days + 1, 0, u16::MAX] {
            prop_assert!(!opened(&knee, 1, day), "day {day} was not granted");
        }
    }
}
