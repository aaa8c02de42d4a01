use bytes::Bytes;

use super::super::tests::{genesis, next_with};
use super::*;
use crate::crypto::tree::SliceHasher;
use crate::ledger::ask::FinalBlock;
use crate::ledger::final_block::{NotFinal, check_final};
use crate::ledger::query;
use crate::ledger::rows::{LOG_NODES, PLACES};
use crate::message::anchor::{Anchor, AnchoredSegment, AnchoredShard, PackCommit};
use crate::message::canonical::Canonical as _;
use crate::message::{Action, ShardRef, Violation};
use crate::store::{NewShard, ShardStore, StoreConfig};
use crate::testing::{MemDisk, Survivors};
use crate::types::{Code, CollectionTag, Hash, Height, TransactionId};

const ROOM: u64 = 256 << 20;
const VAULT: VaultId = VaultId([7; 32]);

fn segment(nth: u8) -> SegmentId {
    SegmentId([nth; 32])
}

/// A static node's chain, from which blocks are taken.
struct Source {
    chain: Chain,
    genesis: Genesis,
    head: Option<TransactionId>,
    blocks: Vec<FinalBlock>,
}

impl Source {
    fn new() -> Self {
        let genesis = genesis();
        let chain = Chain::open(&MemDisk::new(ROOM), &genesis).unwrap();
        let mut source = Self { chain, genesis, head: None, blocks: Vec::new() };
        source.block(Action::CreateVault { vault: VAULT, sponsor: None });
        source
    }

    fn block(&mut self, action: Action) {
        let (block, certificate, changes) = next_with(&self.chain, &self.genesis, action);
        self.chain.commit(&block, &certificate, &changes).unwrap();
        self.blocks.push(FinalBlock { block, certificate: certificate.encode() });
    }

    /// An anchor that brings a segment and releases others.
    fn anchor(&mut self, nth: u8, released: &[u8]) {
        let code = Code::new(2, 1).unwrap();
        let shards = vec![AnchoredShard { root: Hash([1; 32]), holder: None }; 3];
        let collection = CollectionTag([3; 32]);
        self.block(Action::Anchor(Anchor {
            vault: VAULT,
            collection,
            previous: self.head,
            segments: vec![AnchoredSegment { segment: segment(nth), code, len: 9, shards }],
            released: released.iter().map(|nth| segment(*nth)).collect(),
            commits: vec![PackCommit::of(segment(nth), &[])],
        }));
        let view = self.chain.view().unwrap();
        self.head = query::head(&view, &VAULT, &collection).unwrap().map(|head| head.anchor);
    }
}

/// Follows up to the last of the blocks.
fn follow(light: &LightChain, blocks: &[FinalBlock]) -> Result<(), ChainError> {
    let tip = query::tip(light.view()?.state())?.record.height.0;
    for (at, found) in blocks.iter().enumerate().skip(usize::try_from(tip).unwrap()) {
        let next = check_final(light.view()?.state(), found, |_| true).unwrap();
        light.commit(&next.changes, at + 1 == blocks.len())?;
    }
    Ok(())
}

#[test]
fn what_a_follower_keeps_tells_segments_and_releases() {
    let (mut source, disk) = (Source::new(), MemDisk::new(ROOM));
    let light = LightChain::open(&disk, &source.genesis).unwrap();
    source.anchor(1, &[]);
    source.anchor(2, &[1]);
    follow(&light, &source.blocks).unwrap();
    let view = light.view().unwrap();
    let anchored = |nth| view.is_anchored(&VAULT, &segment(nth)).unwrap();
    assert!(!anchored(1) && anchored(2) && !anchored(3));
    assert!(!view.is_anchored(&VaultId([8; 32]), &segment(2)).unwrap());
    assert!(view.is_being_released(&VAULT, &segment(1)).unwrap());
    let time = query::tip(view.state()).unwrap().record.time;
    assert_eq!(view.releases(time, 9).unwrap(), [(VAULT, segment(1))]);
    let earlier = Timestamp::from_unix_micros(time.unix_micros() - 1);
    assert_eq!(view.releases(earlier, 9).unwrap(), []);

    // What is anchored anew is not being released any more; what was carried out is forgotten.
    source.anchor(1, &[2]);
    follow(&light, &source.blocks).unwrap();
    assert_eq!(
        light.view().unwrap().releases(Timestamp::from_unix_micros(u64::MAX), 9).unwrap(),
        [(VAULT, segment(2))]
    );
    light.forget_releases(&[(VAULT, segment(2))]).unwrap();
    assert_eq!(light.dated_since(Timestamp::from_unix_micros(5)).unwrap().unix_micros(), 5);
    assert_eq!(light.dated_since(Timestamp::from_unix_micros(6)).unwrap().unix_micros(), 5);
    drop((view, light));

    // After a restart it goes on, without what only static nodes need.
    let light = LightChain::open(&disk, &source.genesis).unwrap();
    source.anchor(4, &[]);
    follow(&light, &source.blocks).unwrap();
    let view = light.view().unwrap();
    assert_eq!(query::tip(view.state()).unwrap(), source.chain.view().unwrap().tip().unwrap());
    assert_eq!(view.releases(Timestamp::from_unix_micros(u64::MAX), 9).unwrap(), []);
    assert!(LOG_NODES.scan(view.state(), &(), None, 9).unwrap().is_empty());
    assert!(PLACES.scan(view.state(), &(), None, 9).unwrap().is_empty());
    assert_eq!(view.state().block(Height(1)).unwrap(), None, "there are no bodies");
}

#[test]
fn what_was_not_made_durable_is_followed_again_after_a_crash() {
    let (mut source, mut disk) = (Source::new(), MemDisk::new(ROOM));
    for nth in 1..8 {
        source.anchor(nth, &[nth - 1][usize::from(nth == 1)..]);
    }
    for round in 0..40_u64 {
        let light = LightChain::open(&disk, &source.genesis).unwrap();
        let tip = |light: &LightChain| query::tip(light.view().unwrap().state()).unwrap().record.height.0;
        let (before, most) = (tip(&light), source.blocks.len());
        for found in &source.blocks[usize::try_from(before).unwrap()..] {
            let next = check_final(light.view().unwrap().state(), found, |_| true).unwrap();
            light.commit(&next.changes, false).unwrap();
        }
        assert_eq!(tip(&light), u64::try_from(most).unwrap());
        let is_synced = round % 4 == 3;
        if is_synced {
            light.sync().unwrap();
        }
        let survivors = if round % 4 == 0 { Survivors::Nothing } else { Survivors::Random(round) };
        let crashed = disk.after_power_loss(survivors);
        drop(light);
        let light = LightChain::open(&crashed, &source.genesis).unwrap();
        let after = tip(&light);
        assert_eq!(after, if is_synced { tip_of(&source) } else { before }, "round {round}");
        drop(light);
        disk = crashed;
        let nth = u8::try_from(10 + round).unwrap();
        source.anchor(nth, &[nth - 1][usize::from(round == 0)..]);
    }
}

fn tip_of(source: &Source) -> u64 {
    source.chain.view().unwrap().tip().unwrap().record.height.0
}

#[test]
fn a_damaged_copy_is_followed_anew() {
    let (mut source, disk) = (Source::new(), MemDisk::new(ROOM));
    source.anchor(1, &[]);
    let light = LightChain::open(&disk, &source.genesis).unwrap();
    follow(&light, &source.blocks).unwrap();
    drop(light);
    let file = disk.open(FILE).unwrap();
    file.set_len(100).unwrap();
    let light = LightChain::open(&disk, &source.genesis).unwrap();
    follow(&light, &source.blocks).unwrap();
    assert!(light.view().unwrap().is_anchored(&VAULT, &segment(1)).unwrap());
}

#[test]
fn only_what_a_quorum_decided_is_followed() {
    let mut source = Source::new();
    source.anchor(1, &[]);
    let light = LightChain::open(&MemDisk::new(ROOM), &source.genesis).unwrap();
    let view = light.view().unwrap();
    let refused = |block: &FinalBlock| check_final(view.state(), block, |_| true).unwrap_err();
    let (first, second) = (&source.blocks[0], &source.blocks[1]);
    assert_eq!(refused(second), NotFinal::Block(Violation::WrongBlock), "not the next");
    let other = FinalBlock { certificate: second.certificate.clone(), ..first.clone() };
    assert_eq!(refused(&other), NotFinal::Block(Violation::WrongBlock));
    let mut certificate = crate::message::CommitCertificate::decode(&first.certificate).unwrap();
    certificate.signatures.pop();
    let few = FinalBlock { certificate: certificate.encode(), ..first.clone() };
    assert_eq!(refused(&few), NotFinal::Certificate(Violation::NoQuorum));
    // No byte may change, whether or not signatures of transactions are checked.
    for at in (0..first.block.len()).step_by(3) {
        let mut changed = first.clone();
        changed.block[at] ^= 1;
        assert!(matches!(refused(&changed), NotFinal::Block(_)), "byte {at}");
    }
    // A block with less in it under a header that was decided on.
    let mut less = crate::message::block::Block::decode_bounded(&first.block).unwrap();
    less.transactions.clear();
    let less = FinalBlock { block: less.encode(), ..first.clone() };
    assert_eq!(refused(&less), NotFinal::Block(Violation::WrongBlock));
    assert!(check_final(view.state(), first, |_| true).is_ok());
}

fn shard(nth: u8) -> NewShard {
    let bytes = Bytes::from(vec![nth; 9_000]);
    let mut hasher = SliceHasher::new(bytes.len() as u64);
    hasher.update(&bytes);
    let (root, leaves) = hasher.finish();
    let shard = ShardRef { segment: segment(nth), index: 0 };
    NewShard { vault: VAULT, shard, root, bytes, leaves, stored_at: Timestamp::ZERO }
}

/// What a storage node does, up to the end of the blocks or of the power. Says whether it came to the end.
fn work(disk: &MemDisk, source: &Source) -> Option<(ShardStore, LightChain)> {
    let store =
        ShardStore::open(Arc::new(disk.clone()), StoreConfig { free_reserve: 0, ..StoreConfig::default() });
    let mut store = store.ok()?;
    let light = LightChain::open(disk, &source.genesis).ok()?;
    let is_new = query::tip(light.view().ok()?.state()).ok()?.record.height == Height::GENESIS;
    if is_new {
        let stored = store.put_batch(&[shard(1), shard(2)]);
        stored.into_iter().collect::<Result<Vec<_>, _>>().ok()?;
    }
    follow(&light, &source.blocks).ok()?;
    let due = light.view().ok()?.releases(Timestamp::from_unix_micros(u64::MAX), 9).ok()?;
    for (vault, segment) in &due {
        store.release(vault, &[*segment]).ok()?;
    }
    light.forget_releases(&due).ok()?;
    Some((store, light))
}

#[test]
fn a_crash_at_any_operation_leaves_no_released_shard_and_frees_none_twice() {
    let mut source = Source::new();
    source.anchor(1, &[]);
    source.anchor(2, &[1]);
    for survivors in [Survivors::Nothing, Survivors::Everything, Survivors::Random(5)] {
        // Every fifth, to keep it short: an odd step meets every kind of operation.
        for change in (0..).step_by(5) {
            let disk = MemDisk::new(ROOM);
            disk.lose_power_at(change);
            drop(work(&disk, &source));
            if !disk.is_down() {
                break;
            }
            let disk = disk.after_power_loss(survivors);
            let (mut store, light) = work(&disk, &source).unwrap();
            let (released, kept) = (shard(1).shard, shard(2).shard);
            assert_eq!(store.reader().root_of(&VAULT, released).unwrap(), None, "{change}");
            assert!(store.reader().root_of(&VAULT, kept).unwrap().is_some(), "{change}");
            assert!(!light.view().unwrap().is_being_released(&VAULT, &segment(1)).unwrap());
            // It is taken anew, and no crash brings the release back.
            store.put_batch(&[shard(1)]).pop().unwrap().unwrap();
            std::mem::forget((store, light));
            let disk = disk.after_power_loss(Survivors::Nothing);
            let (store, _light) = work(&disk, &source).unwrap();
            assert!(store.reader().root_of(&VAULT, released).unwrap().is_some(), "{change}");
        }
    }
}
