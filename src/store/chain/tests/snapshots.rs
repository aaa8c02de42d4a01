//! Taking a snapshot from one chain into another, with a crash at any operation.

use super::*;
use crate::ledger::archive;
use crate::ledger::ask::{Answer, Question};
use crate::ledger::rows::ARCHIVE;
use crate::ledger::snapshot::{self, Effect, Event, Offer, Own, SnapshotDownload};
use crate::types::Machine as _;

/// A chain of some blocks.
fn giver(genesis: &Genesis, blocks: u64) -> Chain {
    let chain = Chain::open(&MemDisk::new(ROOM), genesis).unwrap();
    (0..blocks).for_each(|_| extend(&chain, genesis).unwrap());
    chain
}

fn answer(chain: &Chain, question: &Question) -> Answer {
    let view = chain.view().unwrap();
    match question {
        Question::Snapshot { .. } => {
            let header = view.tip().unwrap();
            let certificate = view.certificate(header.record.height).unwrap().unwrap();
            let next = query::next_roster(&view).unwrap();
            Answer::Snapshot(Some(Box::new(Offer { header, certificate, steps: vec![], next })))
        }
        Question::SnapshotRows { after, .. } => {
            let mut rows = snapshot::rows(&view, after.as_deref()).unwrap();
            rows.truncate(7);
            Answer::SnapshotRows(Some(rows))
        }
        Question::LogLeaves { from } => Answer::LogLeaves(snapshot::leaves(&view, *from).unwrap()),
        other => panic!("{other:?}"),
    }
}

/// Takes a snapshot.
fn take(chain: &Chain, genesis: &Genesis, from: &Chain) -> Result<(), ChainError> {
    let mut download = SnapshotDownload::new(Arc::new(genesis.clone()));
    let own = Box::new(Own::read(&chain.view()?)?);
    let look = Event::Look { peer: pair(1).public(), own, above: Height(0) };
    download.handle(Timestamp::ZERO, look);
    while let Some(effect) = download.poll() {
        match effect {
            Effect::Ask { number, question, .. } => {
                let answer = Box::new(answer(from, &question));
                download.handle(Timestamp::ZERO, Event::Answered { number, answer });
            }
            Effect::Clear => chain.clear_staged()?,
            Effect::Store(rows) => chain.stage(&rows)?,
            Effect::Adopt(snapshot) => chain.adopt(&snapshot)?,
            other => panic!("{other:?}"),
        }
    }
    Ok(())
}

fn fill(chain: &Chain, from: &Chain) -> Result<(), ChainError> {
    while let Some(missing) = ARCHIVE.get(&chain.view()?, &())?.and_then(|archive| archive.missing) {
        let view = from.view().unwrap();
        let heights = (1..=missing.until.0).rev().take(3).map(Height);
        let blocks: Vec<_> = heights.map(|height| view.block(height).unwrap().unwrap()).collect();
        let (filled, fault) = archive::fill(&chain.view()?, blocks).unwrap();
        assert_eq!(fault, None);
        chain.fill(&filled)?;
    }
    Ok(())
}

fn rows(chain: &Chain) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut rows = chain.view().unwrap().scan(&[], &[], usize::MAX).unwrap();
    rows.retain(|(key, _)| !matches!(key[0], 0x09 | 0x0a));
    rows
}

#[test]
fn a_crash_at_any_operation_leaves_the_old_state_or_the_new_one() {
    let genesis = genesis();
    let from = giver(&genesis, 6);
    let whole = rows(&from);
    for (own, survivors) in [(0, Survivors::Nothing), (2, Survivors::Everything), (2, Survivors::Random(5))] {
        let mut crashed = 0;
        for change in (0..).step_by(3) {
            let disk = MemDisk::new(ROOM);
            let chain = Chain::open(&disk, &genesis).unwrap();
            (0..own).for_each(|_| extend(&chain, &genesis).unwrap());
            disk.lose_power_at(disk.changes() + change);
            let done = take(&chain, &genesis, &from).and_then(|()| fill(&chain, &from));
            drop(chain);
            if !disk.is_down() {
                done.unwrap();
                break;
            }
            crashed += 1;
            let chain = Chain::open(&disk.after_power_loss(survivors), &genesis).unwrap();
            let height = chain.view().unwrap().tip().unwrap().record.height;
            assert!(height.0 <= own || height == Height(6), "{change}: {height}");
            let staged = chain.0.begin_read().unwrap().open_table(STAGED).is_err();
            assert!(staged, "what came in before is gone");
            // Whatever there is, it goes on to the same end.
            if height < Height(6) {
                take(&chain, &genesis, &from).unwrap();
            }
            fill(&chain, &from).unwrap();
            assert_eq!(rows(&chain), whole, "{change}");
            let (view, expected) = (chain.view().unwrap(), from.view().unwrap());
            for height in (1..=6).map(Height) {
                assert_eq!(view.block(height).unwrap(), expected.block(height).unwrap());
                assert!(view.certificate(height).unwrap().is_some());
            }
            extend(&chain, &genesis).unwrap();
        }
        assert!(crashed > 10, "{crashed}");
    }
}

#[test]
fn a_snapshot_that_the_chain_has_passed_changes_nothing() {
    let genesis = genesis();
    let (chain, from) = (giver(&genesis, 3), giver(&genesis, 3));
    let mut download = SnapshotDownload::new(Arc::new(genesis.clone()));
    let empty = Chain::open(&MemDisk::new(ROOM), &genesis).unwrap();
    let own = Box::new(Own::read(&empty.view().unwrap()).unwrap());
    let look = Event::Look { peer: pair(1).public(), own, above: Height(0) };
    download.handle(Timestamp::ZERO, look);
    let before = rows(&chain);
    while let Some(effect) = download.poll() {
        match effect {
            Effect::Ask { number, question, .. } => {
                let answer = Box::new(answer(&from, &question));
                download.handle(Timestamp::ZERO, Event::Answered { number, answer });
            }
            Effect::Store(rows) => chain.stage(&rows).unwrap(),
            Effect::Adopt(snapshot) => chain.adopt(&snapshot).unwrap(),
            _ => {}
        }
    }
    assert_eq!(rows(&chain), before);
    assert!(ARCHIVE.get(&chain.view().unwrap(), &()).unwrap().is_none());
}

#[test]
fn a_view_stays_as_it_is_while_blocks_go_on() {
    let genesis = genesis();
    let chain = giver(&genesis, 2);
    let view = chain.view().unwrap();
    let before = snapshot::rows(&view, None).unwrap();
    (0..3).for_each(|_| extend(&chain, &genesis).unwrap());
    assert_eq!(snapshot::rows(&view, None).unwrap(), before);
    assert_ne!(snapshot::rows(&chain.view().unwrap(), None).unwrap(), before);
}
