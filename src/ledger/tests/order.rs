//! Random transactions in random order: whatever they are, the invariants hold, and whoever replays the
//! blocks from the genesis comes to the same state.

use super::*;
use crate::ledger::rows::{Fault, VAULTS};
use crate::ledger::tests::admission::create_with;
use crate::message::evidence::Evidence;
use crate::message::governance::SponsorTerms;
use crate::message::vote::{Vote, VoteKind};

/// SplitMix64: the same everywhere.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }

    fn byte(&mut self, from: u8, to: u8) -> u8 {
        from + self.below(u64::from(to - from)) as u8
    }
}

/// One of the authors, who lets others in.
const SPONSOR: u8 = 30;

/// Something that may or may not make sense just now.
fn action(world: &World, random: &mut Random) -> (u8, Action) {
    let author = random.byte(30, 34);
    let of = random.byte(40, 43);
    let head = query::head(&world.state, &vault(of), &TAG).unwrap().map(|head| head.anchor);
    let action = match random.below(13) {
        0 if random.below(2) == 0 => create_with(SPONSOR, author, of),
        0 => create(of),
        1..=4 => {
            let mut anchor = anchor(of, if random.below(5) == 0 { None } else { head }, random.byte(1, 200));
            if random.below(3) == 0 {
                let there = query::segments(&world.state, &vault(of), None, 1).unwrap();
                anchor.released.extend(there.first().map(|(id, _)| *id));
            }
            Action::Anchor(anchor)
        }
        5 => Action::AddWriter { vault: vault(of), writer: pair(random.byte(30, 34)).public() },
        6 => Action::RemoveWriter { vault: vault(of), writer: pair(random.byte(30, 34)).public() },
        7 => Action::RegisterNode { node: entry(author), sponsor: None },
        8 => Action::RetireNode,
        9 => return (random.byte(1, 8), Action::Correct),
        10 => {
            let (height, round) = (Height(world.height().0.saturating_sub(random.below(4))), Round(0));
            let (offender, kind) = (pair(random.byte(1, 9)), VoteKind::Prevote);
            let vote = |block| Vote { network: NETWORK, kind, height: Height(height.0.max(1)), round, block };
            let block = Some(BlockId([random.byte(0, 3); 32]));
            Action::Evidence(Evidence::of_votes(vote(None).sign(&offender), vote(block).sign(&offender)))
        }
        11 => {
            let quota = random.below(70_000);
            return (random.byte(SPONSOR, 32), Action::SetQuota { vault: vault(of), quota });
        }
        _ => {
            let offender = pair(random.byte(1, 8)).public();
            let height = Height(world.height().0.saturating_sub(2));
            return (random.byte(1, 8), Action::Accuse { offender, height });
        }
    };
    (author, action)
}

fn run(seed: u64) -> World {
    let mut random = Random(seed);
    let terms = SponsorTerms { sponsor: pair(SPONSOR).public(), vaults: 9, nodes: 0, vault_bytes: 60_000 };
    let genesis = Genesis { sponsors: vec![terms], ..genesis(7, Admission::Open) };
    let mut world = World::of(genesis, (1..=7).collect());
    for _ in 0..40 {
        // A quorum signs, whoever it is.
        let drop = random.byte(1, 8);
        world.alive = (1..=7).filter(|nth| *nth != drop || random.below(2) == 0).collect();
        let count = random.below(12);
        let mut transactions = Vec::new();
        for _ in 0..count {
            let (author, action) = action(&world, &mut random);
            let next = world.sign(author, action.clone()).transaction().nonce;
            transactions.push(world.sign_nth(author, next + random.below(2), action));
        }
        world.block(&transactions);
        check_sums(&world);
    }
    world
}

/// Each vault's sums are those of its segments.
fn check_sums(world: &World) {
    for nth in 40..43 {
        let Some(row) = VAULTS.get(&world.state, &vault(nth)).unwrap() else { continue };
        let segments = query::segments(&world.state, &vault(nth), None, usize::MAX).unwrap();
        assert_eq!(row.segments, segments.len() as u64);
        assert_eq!(row.bytes, segments.iter().map(|(_, row)| row.len).sum::<u64>());
        assert!(row.usage.bytes <= row.quota);
    }
}

#[test]
fn any_order_of_transactions_keeps_the_invariants_and_replays_to_the_same_state() {
    let mut carried_out = 0;
    for seed in 0..6 {
        println!("seed {seed}");
        let world = run(seed);
        carried_out += world.blocks.iter().map(|block| block.transactions.len()).sum::<usize>();
        let mut replayed = State::new();
        write(&mut replayed, genesis_state(&world.genesis).unwrap().writes);
        for block in &world.blocks {
            // Their certificates vouch for them: signatures need not be checked again.
            let changes = check(&replayed, block, |_| true).unwrap();
            write(&mut replayed, changes.writes);
        }
        assert_eq!(replayed, world.state);
        let nonces = world.blocks.iter().flat_map(|block| &block.transactions);
        let mut next = BTreeMap::new();
        for transaction in nonces.map(SignedTransaction::transaction) {
            let nonce = next.entry(transaction.lane()).or_insert(0);
            assert_eq!(transaction.nonce, *nonce, "each in its turn, once");
            *nonce += 1;
        }
    }
    assert!(carried_out > 100, "{carried_out}");
    let faults: u32 = query::statics(&run(3).state).unwrap().iter().map(|row| row.faults).sum();
    assert!(faults > 0, "the rogue rules were at work, for example {:?}", Fault::Equivocation);
}
