use std::sync::Arc;

use super::receipts::checkpoint;
use super::*;
use crate::ledger::ask::{Answer, Question};
use crate::ledger::receipt::roster_step;
use crate::ledger::rows::{ARCHIVE, LAST_LEAVES, LOG_NODES, PAST_HEADERS, PLACES, ROSTER_CHANGES};
use crate::ledger::snapshot::{
    self, Adoption, Effect, Event, Offer, Own, Restore, SnapshotDownload, SnapshotError, Taking,
};
use crate::ledger::{archive, log};
use crate::message::Violation;
use crate::message::anchor_receipt::RosterStep;
use crate::message::block::Header;
use crate::message::canonical::Canonical as _;
use crate::types::limits::MAX_ROW_KEY_LEN;

/// A static node that has a snapshot to give: a chain, and its state as of some block.
struct Giver {
    world: World,
    offer: Offer,
    state: State,
}

/// A chain of a network that grew by a fifth static node, with a snapshot in the middle.
fn giver() -> Giver {
    let mut world = World::new(4);
    world.accept(9, create(9));
    world.accept(9, Action::Anchor(anchor(9, None, 1)));
    let add = world.governance(Change::AddStatic(member(5)), &[1, 2, 3], Some(5));
    world.accept(1, add);
    let header = world.blocks.last().unwrap().header;
    let steps = vec![roster_step(&world.state, &header, &checkpoint(&world, &[1, 2, 3])).unwrap()];
    world.alive.push(5);
    for nth in 0..6_u8 {
        let pair = [world.sign(20 + nth, create(20 + nth)), world.sign(40 + nth, create(40 + nth))];
        assert_eq!(world.block(&pair), []);
    }
    let giver = give(world, steps);
    let mut world = giver.world;
    world.blocks(2);
    Giver { world, ..giver }
}

/// Offers the last block of a world.
fn give(world: World, steps: Vec<RosterStep>) -> Giver {
    let header = query::tip(&world.state).unwrap();
    let certificate = world.draft().certificate.unwrap();
    let next = query::next_roster(&world.state).unwrap();
    let state = world.state.clone();
    Giver { world, offer: Offer { header, certificate, steps, next }, state }
}

impl Giver {
    fn height(&self) -> Height {
        self.offer.header.record.height
    }

    /// In pages of a few, so that there are many.
    fn answer(&self, question: &Question) -> Answer {
        match question {
            Question::Snapshot { above } => {
                let offer = (self.height() > *above).then(|| Box::new(self.offer.clone()));
                Answer::Snapshot(offer)
            }
            Question::SnapshotRows { height, after } if *height == self.height() => {
                let mut rows = snapshot::rows(&self.state, after.as_deref()).unwrap();
                rows.truncate(9);
                Answer::SnapshotRows(Some(rows))
            }
            Question::SnapshotRows { .. } => Answer::SnapshotRows(None),
            Question::LogLeaves { from } => {
                let mut leaves = snapshot::leaves(&self.world.state, *from).unwrap();
                leaves.truncate(7);
                Answer::LogLeaves(leaves)
            }
            other => panic!("{other:?}"),
        }
    }

    fn block(&self, height: u64) -> Vec<u8> {
        self.world.blocks[usize::try_from(height).unwrap() - 1].encode()
    }

    /// Blocks before a height, the newest first.
    fn before(&self, height: u64, count: usize) -> Vec<Vec<u8>> {
        (1..height).rev().take(count).map(|height| self.block(height)).collect()
    }
}

/// Who takes a snapshot.
struct Taker {
    download: SnapshotDownload,
    state: State,
    staged: State,
    faults: Vec<SnapshotError>,
    /// Questions so far.
    asked: usize,
}

fn key(nth: u8) -> PublicKey {
    pair(nth).public()
}

fn at(seconds: u64) -> Timestamp {
    Timestamp::from_unix_millis(seconds * 1_000)
}

impl Taker {
    fn new(genesis: &Genesis) -> Self {
        let world = World::of(genesis.clone(), vec![1]);
        Self::with(genesis, world.state)
    }

    fn with(genesis: &Genesis, state: State) -> Self {
        let download = SnapshotDownload::new(Arc::new(genesis.clone()));
        Self { download, state, staged: State::new(), faults: Vec::new(), asked: 0 }
    }

    fn look(&mut self, peer: u8, above: u64) {
        let own = Box::new(Own::read(&self.state).unwrap());
        let event = Event::Look { peer: key(peer), own, above: Height(above) };
        self.download.handle(at(1), event);
    }

    /// Carries out what the machine wants; answers by `answer`, unless that is silent. What it adopted, if it did.
    fn go_on(&mut self, answer: &mut dyn FnMut(usize, &Question) -> Option<Answer>) -> Option<Adoption> {
        let mut adopted = None;
        while let Some(effect) = self.download.poll() {
            match effect {
                Effect::Ask { number, question, .. } => {
                    self.asked += 1;
                    if let Some(answer) = answer(self.asked - 1, &question) {
                        // Over the wire, as all answers come.
                        let answer = Box::new(Answer::decode_bounded(&answer.encode()).unwrap());
                        self.download.handle(at(1), Event::Answered { number, answer });
                    }
                }
                Effect::Clear => self.staged.clear(),
                Effect::Store(rows) => self.staged.extend(rows),
                Effect::Adopt(found) => {
                    self.adopt(&found);
                    adopted = Some(*found);
                }
                Effect::NoSnapshot { .. } => {}
                Effect::Blame { fault, .. } => self.faults.push(fault),
                Effect::Forked { .. } => panic!("forked"),
            }
        }
        adopted
    }

    /// As a store does.
    fn adopt(&mut self, found: &Adoption) {
        self.state.retain(|key, _| !is_hashed(key));
        self.state.append(&mut self.staged);
        write(&mut self.state, found.writes.clone());
    }

    fn take_from(&mut self, giver: &Giver, peer: u8) -> Option<Adoption> {
        self.look(peer, 0);
        self.go_on(&mut |_, question| Some(giver.answer(question)))
    }

    fn fill(&mut self, blocks: Vec<Vec<u8>>) -> (usize, Option<Violation>) {
        let (filled, fault) = archive::fill(&self.state, blocks).unwrap();
        write(&mut self.state, filled.writes);
        (filled.blocks.len(), fault)
    }

    fn missing(&self) -> Option<(u64, u64)> {
        let missing = ARCHIVE.get(&self.state, &()).unwrap().unwrap().missing;
        missing.map(|missing| (missing.from.0, missing.until.0))
    }
}

/// The rows that a node has that replayed every block.
fn without_archive(state: &State) -> State {
    let aside = [ARCHIVE.key(&())[0], PAST_HEADERS.key(&Height(1))[0]];
    state.iter().filter(|(key, _)| !aside.contains(&key[0])).map(|(k, v)| (k.clone(), v.clone())).collect()
}

/// The same without what is known only with the blocks.
fn at_once(state: &State) -> State {
    let later = [PLACES.key(&TransactionId([0; 32]))[0], LAST_LEAVES.key(&0)[0]];
    without_archive(state).into_iter().filter(|(key, _)| !later.contains(&key[0])).collect()
}

#[test]
fn a_newcomer_takes_a_snapshot_and_goes_on_like_everybody_else() {
    let giver = giver();
    let mut taker = Taker::new(&giver.world.genesis);
    let adopted = taker.take_from(&giver, 1).unwrap();
    assert_eq!(adopted.header, giver.offer.header);
    assert_eq!(at_once(&taker.state), at_once(&giver.state));
    assert_eq!(taker.faults, []);
    assert!(!taker.download.is_busy() && taker.download.deadline().is_none());
    // Blocks that came after it apply, and make the same state.
    for block in &giver.world.blocks[usize::try_from(giver.height().0).unwrap()..] {
        let changes = check(&taker.state, block, |_| false).unwrap();
        write(&mut taker.state, changes.writes);
    }
    assert_eq!(query::tip(&taker.state), query::tip(&giver.world.state));
    // It has the log, so it proves what is new at once; and who the static nodes were.
    let size = query::tip(&taker.state).unwrap().record.log_size;
    for leaf in 0..size {
        assert_eq!(
            log::prove_inclusion(&taker.state, leaf, size),
            log::prove_inclusion(&giver.world.state, leaf, size)
        );
    }
    let [(changed, _)] = query::roster_changes(&taker.state, Height::GENESIS, 9).unwrap()[..] else {
        panic!()
    };
    let header = PAST_HEADERS.expect(&taker.state, &changed).unwrap();
    assert_eq!(header, giver.world.blocks[2].header);
    assert_eq!(adopted.cosigned[0].0, changed);
}

#[test]
fn rows_of_the_longest_key_fit_and_pages_end() {
    let giver = giver();
    assert!(giver.state.keys().all(|key| key.len() <= MAX_ROW_KEY_LEN));
    let all: Vec<_> = giver.state.iter().filter(|(key, _)| is_hashed(key)).collect();
    let page = snapshot::rows(&giver.state, None).unwrap();
    assert_eq!(page.len(), all.len());
    // A key beside the state leads to the first row of the state.
    assert_eq!(snapshot::rows(&giver.state, Some(&[3])).unwrap(), page);
    assert_eq!(snapshot::rows(&giver.state, Some(&page.last().unwrap().0)).unwrap(), []);
    let rows = 3 * limits::SNAPSHOT_ROWS_LEN / 4_096;
    let big: State =
        (0..rows as u32).map(|nth| ([&[0x20][..], &nth.to_be_bytes()].concat(), vec![7; 4_096])).collect();
    let page = snapshot::rows(&big, None).unwrap();
    let len: usize = page.iter().map(|(key, value)| key.len() + value.len()).sum();
    assert!((limits::SNAPSHOT_ROWS_LEN..).contains(&len) && page.len() < rows / 2, "{len}");
    let size = query::tip(&giver.state).unwrap().record.log_size;
    assert_eq!(snapshot::leaves(&giver.state, 0).unwrap().len() as u64, size);
    for from in [size, size + 1, u64::MAX] {
        assert_eq!(snapshot::leaves(&giver.state, from).unwrap(), [], "{from}");
    }
}

type Lie = fn(Answer) -> Option<Answer>;

/// What a static node may answer instead of the truth, where it changes anything.
const LIES: [Lie; 9] = [
    // Another kind of answer.
    |_| Some(Answer::Nonce(1)),
    // A row changed, left out, made up, said twice.
    |answer| rows(answer, |rows| rows[0].1.push(0)),
    |answer| rows(answer, |rows| drop(rows.remove(0))),
    |answer| rows(answer, |rows| rows.push((vec![0xff; 40], vec![1]))),
    |answer| rows(answer, |rows| rows.insert(0, rows[0].clone())),
    // A row from beside the state.
    |answer| rows(answer, |rows| rows.insert(0, (vec![0x01], vec![]))),
    // A leaf changed, leaves in another order; none at all.
    |answer| leaves(answer, |leaves| leaves[0].0[3] ^= 1),
    |answer| leaves(answer, |leaves| leaves.rotate_left(1)),
    |answer| leaves(answer, Vec::clear),
];

fn rows(answer: Answer, change: impl Fn(&mut Vec<(Vec<u8>, Vec<u8>)>)) -> Option<Answer> {
    let Answer::SnapshotRows(Some(mut rows)) = answer else { return None };
    if rows.is_empty() {
        return None;
    }
    change(&mut rows);
    Some(Answer::SnapshotRows(Some(rows)))
}

fn leaves(answer: Answer, change: impl Fn(&mut Vec<LogHash>)) -> Option<Answer> {
    let Answer::LogLeaves(mut leaves) = answer else { return None };
    change(&mut leaves);
    Some(Answer::LogLeaves(leaves))
}

#[test]
fn a_static_node_that_lies_in_any_answer_is_blamed_and_another_one_is_asked() {
    let giver = giver();
    let mut honest = Taker::new(&giver.world.genesis);
    honest.take_from(&giver, 1).unwrap();
    let mut lied = 0;
    for (kind, lie) in LIES.into_iter().enumerate() {
        for nth in 0..honest.asked {
            let mut taker = Taker::new(&giver.world.genesis);
            let before = taker.state.clone();
            taker.look(1, 0);
            let mut is_lie = false;
            let adopted = taker.go_on(&mut |at, question| {
                let truth = giver.answer(question);
                let answer = (at == nth).then(|| lie(truth.clone())).flatten();
                is_lie |= answer.is_some();
                Some(answer.unwrap_or(truth))
            });
            if !is_lie {
                assert!(adopted.is_some());
                continue;
            }
            lied += 1;
            assert!(adopted.is_none(), "lie {kind} in answer {nth}");
            assert_eq!(taker.faults.len(), 1, "lie {kind} in answer {nth}");
            assert_eq!(taker.state, before, "half a state is none");
            assert!(taker.staged.is_empty());
            // It is not asked again, whatever it says.
            let asked = taker.asked;
            assert!(taker.take_from(&giver, 1).is_none());
            assert_eq!(taker.asked, asked);
            assert!(taker.take_from(&giver, 2).is_some());
            assert_eq!(taker.state, honest.state);
        }
    }
    assert!(lied > 3 * honest.asked, "{lied} lies in {} answers", honest.asked);
}

#[test]
fn an_offer_that_is_not_proved_or_not_new_is_refused_by_name() {
    let giver = giver();
    type Change = fn(&mut Offer);
    let bad_signature = SnapshotError::Wrong(Violation::BadSignature);
    let changes: [(Change, SnapshotError); 12] = [
        (|o| o.header.record.network.0[0] ^= 1, Violation::WrongNetwork.into()),
        (|o| o.header.record.state.0[0] ^= 1, Violation::WrongBlock.into()),
        (|o| o.header.record.height.0 += 1, Violation::WrongBlock.into()),
        (|o| o.header.log_root.0[0] ^= 1, Violation::WrongBlock.into()),
        (|o| o.header.record.roster.0[0] ^= 1, Violation::WrongRoster.into()),
        (|o| o.steps.clear(), Violation::WrongRoster.into()),
        (|o| o.steps[0].cosignatures.truncate(2), Violation::NoQuorum.into()),
        (|o| o.next = Roster::new((1..=4).map(member).collect()).unwrap(), Violation::WrongRoster.into()),
        (|o| o.certificate.signatures.truncate(3), Violation::NoQuorum.into()),
        (|o| o.certificate.signatures[0].1[0] ^= 1, bad_signature),
        (|o| o.certificate.height.0 -= 1, Violation::WrongBlock.into()),
        (|o| o.certificate.block.0[0] ^= 1, Violation::WrongBlock.into()),
    ];
    for (at, (change, fault)) in changes.into_iter().enumerate() {
        let mut taker = Taker::new(&giver.world.genesis);
        taker.look(1, 0);
        let mut offer = giver.offer.clone();
        change(&mut offer);
        taker.go_on(&mut |_, _| Some(Answer::Snapshot(Some(Box::new(offer.clone())))));
        assert_eq!(taker.faults, [fault], "change {at}");
        assert_eq!(taker.asked, 1, "nothing of it is fetched");
    }
    // Of a block that would be of no use.
    let mut taker = Taker::new(&giver.world.genesis);
    let height = giver.height();
    taker.look(1, height.0);
    taker.go_on(&mut |_, _| Some(Answer::Snapshot(Some(Box::new(giver.offer.clone())))));
    assert_eq!(taker.faults, [SnapshotError::Old { height, above: height }]);
    // Who has none does no wrong.
    taker.look(2, height.0);
    taker.go_on(&mut |_, question| Some(giver.answer(question)));
    assert!(taker.faults.len() == 1 && !taker.download.is_busy());
}

#[test]
fn who_falls_silent_in_any_answer_costs_patience_and_is_no_liar() {
    let giver = giver();
    let mut honest = Taker::new(&giver.world.genesis);
    honest.take_from(&giver, 1).unwrap();
    for nth in 0..honest.asked {
        let mut taker = Taker::new(&giver.world.genesis);
        taker.look(1, 0);
        let mut silent = |at: usize, question: &Question| (at < nth).then(|| giver.answer(question));
        assert!(taker.go_on(&mut silent).is_none());
        // Another look changes nothing while it waits.
        taker.look(2, 0);
        taker.download.expire(at(20));
        assert!(taker.go_on(&mut silent).is_none() && taker.download.is_busy());
        taker.download.expire(taker.download.deadline().unwrap());
        assert!(!taker.download.is_busy());
        // Its answer comes too late, to a question that nobody asks any more.
        let answer = Box::new(Answer::Nonce(1));
        taker.download.handle(at(30), Event::Answered { number: nth as u64 + 1, answer });
        taker.go_on(&mut |_, _| None);
        assert_eq!(taker.faults, []);
        assert!(taker.take_from(&giver, 1).is_some());
        assert_eq!(taker.state, honest.state);
    }
    // A state that is held no more, and a call that fails, are no lies either.
    let mut taker = Taker::new(&giver.world.genesis);
    taker.look(1, 0);
    taker.go_on(&mut |at, question| {
        Some(if at == 2 { Answer::SnapshotRows(None) } else { giver.answer(question) })
    });
    assert!(!taker.download.is_busy() && taker.faults.is_empty());
    taker.look(1, 0);
    taker.go_on(&mut |_, _| None);
    let number = taker.asked as u64 + 1;
    taker.download.handle(at(1), Event::Failed { number });
    assert!(!taker.download.is_busy() && taker.faults.is_empty());
}

#[test]
fn how_far_it_is_can_be_told() {
    let giver = giver();
    let mut taker = Taker::new(&giver.world.genesis);
    assert_eq!(taker.download.taking(), None);
    taker.look(1, 0);
    taker.go_on(&mut |at, question| (at < 3).then(|| giver.answer(question)));
    let log_size = giver.offer.header.record.log_size;
    assert_eq!(
        taker.download.taking(),
        Some(Taking { height: giver.height(), rows: 18, leaves: 0, log_size })
    );
}

#[test]
fn the_blocks_before_come_in_backwards_until_the_archive_is_whole() {
    let giver = giver();
    let mut taker = Taker::new(&giver.world.genesis);
    taker.take_from(&giver, 1).unwrap();
    let height = giver.height().0;
    assert_eq!(taker.missing(), Some((1, height)));
    // Blocks that are not asked for do not help.
    assert_eq!(taker.fill(giver.before(height, 3)), (0, Some(Violation::WrongBlock)));
    assert_eq!(taker.fill(vec![vec![1, 2, 3]]), (0, Some(Violation::Malformed)));
    // One block alone does not show where it begins.
    assert_eq!(taker.fill(giver.before(height + 1, 1)), (0, None));
    assert_eq!(taker.fill(giver.before(height + 1, 3)), (2, None));
    assert_eq!(taker.missing(), Some((1, height - 2)));
    while let Some((_, until)) = taker.missing() {
        assert_ne!(taker.fill(giver.before(until + 1, 3)).0, 0);
    }
    // As if it had been there from the beginning.
    assert_eq!(without_archive(&taker.state), without_archive(&giver.state));
    assert_eq!(taker.fill(giver.before(height, 3)), (0, None));
}

#[test]
fn an_old_block_that_is_not_the_ledgers_is_refused_and_what_came_before_it_is_kept() {
    let giver = giver();
    let height = giver.height().0;
    type Change = fn(&mut Block);
    let changes: [Change; 6] = [
        |block| drop(block.transactions.remove(0)),
        |block| drop(block.transactions.pop()),
        |block| block.transactions.swap(0, 1),
        |block| block.transactions.push(block.transactions[0].clone()),
        |block| block.certificate.as_mut().unwrap().signatures.truncate(3),
        |block| block.header.record.time = Timestamp::from_unix_millis(1),
    ];
    for (at, change) in changes.into_iter().enumerate() {
        let mut taker = Taker::new(&giver.world.genesis);
        taker.take_from(&giver, 1).unwrap();
        let mut blocks = giver.before(height + 1, 4);
        let mut changed = Block::decode(&blocks[1]).unwrap();
        change(&mut changed);
        blocks[1] = changed.encode();
        let (kept, fault) = taker.fill(blocks);
        assert!(kept <= 1 && fault == Some(Violation::WrongBlock), "change {at}: {kept} {fault:?}");
        while let Some((_, until)) = taker.missing() {
            assert_ne!(taker.fill(giver.before(until + 1, 5)).0, 0);
        }
        assert_eq!(without_archive(&taker.state), without_archive(&giver.state), "change {at}");
    }
}

/// A chain of four static nodes, and its state after each block.
fn history(blocks: u8, first: u8) -> (World, Vec<State>) {
    let (mut world, mut states) = (World::new(4), Vec::new());
    for nth in 0..blocks {
        world.accept(first + nth, create(first + nth));
        states.push(world.state.clone());
    }
    (world, states)
}

#[test]
fn who_was_away_keeps_its_own_blocks_and_a_second_snapshot_adds_to_what_is_missing() {
    let (world, states) = history(12, 20);
    let genesis = world.genesis.clone();
    let of = |blocks: usize| {
        let (world, _) = history(u8::try_from(blocks).unwrap(), 20);
        give(world, vec![])
    };
    let mut taker = Taker::with(&genesis, states[2].clone());
    taker.take_from(&of(8), 1).unwrap();
    assert_eq!(taker.missing(), Some((4, 8)));
    assert_eq!(taker.fill(of(8).before(9, 3)), (2, None));
    taker.take_from(&of(12), 1).unwrap();
    assert_eq!(taker.missing(), Some((4, 12)));
    while let Some((_, until)) = taker.missing() {
        assert_ne!(taker.fill(of(12).before(until + 1, 4)).0, 0);
    }
    assert_eq!(without_archive(&taker.state), world.state);
    assert!(ROSTER_CHANGES.get(&taker.state, &Height(1)).unwrap().is_none());
}

#[test]
fn a_server_that_leaves_out_steps_gives_no_chain_that_is_broken() {
    let mut world = World::new(4);
    let mut steps = Vec::new();
    let mut own = None;
    // In, out and in again: the first two steps lead to where they began.
    for (nth, change) in
        [Change::AddStatic(member(5)), Change::RemoveStatic(pair(5).public()), Change::AddStatic(member(6))]
            .into_iter()
            .enumerate()
    {
        let newcomer = [Some(5), None, Some(6)][nth];
        let signers: &[u8] = if nth == 1 { &[1, 2, 3, 4] } else { &[1, 2, 3] };
        let action = world.governance(change, signers, newcomer);
        world.accept(1, action);
        let header = world.blocks.last().unwrap().header;
        steps.push(roster_step(&world.state, &header, &checkpoint(&world, signers)).unwrap());
        own.get_or_insert_with(|| world.state.clone());
    }
    world.blocks(2);
    let giver = give(world, vec![steps.remove(2)]);
    let mut taker = Taker::with(&giver.world.genesis, own.unwrap());
    taker.take_from(&giver, 1).unwrap();
    // It knew of the first, which would not lead to the one that came with the snapshot.
    let changes = query::roster_changes(&taker.state, Height::GENESIS, 9).unwrap();
    assert_eq!(changes.into_iter().map(|(height, _)| height.0).collect::<Vec<_>>(), [3]);
}

#[test]
fn a_ledger_that_does_not_begin_with_the_nodes_own_is_noticed() {
    let (_, own) = history(3, 90);
    let (world, _) = history(8, 20);
    let giver = give(world, vec![]);
    let mut taker = Taker::with(&giver.world.genesis, own[2].clone());
    taker.look(1, 0);
    let mut forked = None;
    while let Some(effect) = taker.download.poll() {
        match effect {
            Effect::Ask { number, question, .. } => {
                let answer = Box::new(giver.answer(&question));
                taker.download.handle(at(1), Event::Answered { number, answer });
            }
            Effect::Forked { own, other } => forked = Some((own, other)),
            Effect::Adopt(_) => panic!("adopted"),
            _ => {}
        }
    }
    assert_eq!(forked, Some((Height(3), Height(8))));
    // Also at the last of the missing blocks.
    let mut taker = Taker::new(&giver.world.genesis);
    taker.take_from(&giver, 1).unwrap();
    let mut row = ARCHIVE.expect(&taker.state, &()).unwrap();
    row.missing.as_mut().unwrap().below.0[0] ^= 1;
    taker.state.insert(ARCHIVE.key(&()), row.encode());
    let all = giver.before(9, 9);
    assert!(matches!(archive::fill(&taker.state, all), Err(archive::FillError::Forked { .. })));
}

#[test]
fn a_snapshot_is_the_state_of_a_header_or_is_refused() {
    let giver = giver();
    let (header, next) = (giver.offer.header, &giver.offer.next);
    let all = snapshot::rows(&giver.state, None).unwrap();
    let leaves = snapshot::leaves(&giver.state, 0).unwrap();
    let restore = |rows: &[(Vec<u8>, Vec<u8>)], header: &Header, leaves: &[LogHash], next: &Roster| {
        let (mut restore, mut nodes) = (Restore::default(), Vec::new());
        restore.take(rows)?;
        leaves.iter().for_each(|leaf| restore.push(*leaf, &mut nodes));
        assert!(nodes.iter().all(|(key, _)| key[0] == LOG_NODES.key(&(0, 0))[0]));
        restore.finish(header, next)
    };
    assert!(restore(&all, &header, &leaves, next).is_ok());
    let refused = |rows: &[_]| restore(rows, &header, &leaves, next).unwrap_err();
    for at in 0..all.len() {
        let mut changed = all.clone();
        match changed[at].1.first_mut() {
            Some(byte) => *byte ^= 1,
            None => changed[at].1.push(1),
        }
        assert_eq!(refused(&changed), SnapshotError::WrongState, "row {at}");
        let mut fewer = all.clone();
        fewer.remove(at);
        assert_eq!(refused(&fewer), SnapshotError::WrongState, "row {at}");
    }
    let mut twice = all.clone();
    twice.insert(1, all[0].clone());
    assert_eq!(refused(&twice), SnapshotError::WrongRow);
    assert_eq!(refused(&[(vec![1], vec![])]), SnapshotError::WrongRow);
    let with = |leaves: &[LogHash]| restore(&all, &header, leaves, next).unwrap_err();
    assert_eq!(with(&leaves[1..]), SnapshotError::WrongLog);
    assert_eq!(with(&[&leaves[..], &leaves[..1]].concat()), SnapshotError::WrongLog);
    let other = Roster::new((1..=4).map(member).collect()).unwrap();
    assert_eq!(restore(&all, &header, &leaves, &other), Err(SnapshotError::WrongRoster));
}
