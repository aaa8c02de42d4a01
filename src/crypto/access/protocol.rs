//! Owner, nodes and grantee together, over all sizes of committees: claims C6, C7 and C8 of the design.

use proptest::prelude::*;

use super::group::lagrange;
use super::*;
use crate::types::{
    Committee, NetworkId, PublicKey, RecordTag, ScopeTag, ShareIndex, SlotId, VaultId, VersionId,
};

fn slots(count: u8) -> Vec<SlotId> {
    let slot = |record| SlotId {
        network: NetworkId([1; 32]),
        vault: VaultId([2; 32]),
        dealing: 3,
        scope: ScopeTag([4; 16]),
        generation: 5,
        record: RecordTag([record; 16]),
        version: VersionId([7; 16]),
    };
    (0..count).map(slot).collect()
}

fn among(n: u8) -> Sharing {
    Sharing::among(&Committee::new((0..n).map(|nth| PublicKey([nth; 32])).collect()).unwrap())
}

/// The numbers below `count` in an order of the seed's.
fn shuffled(count: usize, seed: u64) -> Vec<usize> {
    let mut random = blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof();
    let mut ranks: Vec<([u8; 8], usize)> = (0..count).map(|at| ([0; 8], at)).collect();
    ranks.iter_mut().for_each(|(rank, _)| random.fill(rank));
    ranks.sort_unstable();
    ranks.into_iter().map(|(_, at)| at).collect()
}

/// Some of the shares, in the order of their places.
fn pick(shares: &[KeyShare], count: usize, seed: u64) -> Vec<&KeyShare> {
    let mut chosen = shuffled(shares.len(), seed)[..count].to_vec();
    chosen.sort_unstable();
    chosen.into_iter().map(|at| &shares[at]).collect()
}

/// What these shares would be shares of.
fn interpolate(shares: &[&KeyShare]) -> curve25519_dalek::Scalar {
    let places: Vec<_> = shares.iter().map(|share| share.index()).collect();
    lagrange(&places).iter().zip(shares).map(|(factor, share)| factor * share.scalar()).sum()
}

/// What a grantee gets from these nodes.
fn release(
    inputs: &Inputs,
    sharing: &Commitments,
    nodes: &[&KeyShare],
) -> Result<Vec<PrfOutput>, PartialError> {
    let mut release = Release::new(inputs, sharing);
    for node in nodes {
        let sent = node.evaluate(inputs, &[9; 32]).to_bytes();
        release.add(Partial::from_slice(&sent).unwrap())?;
    }
    assert_eq!(release.is_complete(), nodes.len() >= sharing.threshold());
    release.finish()
}

/// The next committee's sharing, handed over by a threshold of the members of this one.
fn reshare(old: &Commitments, shares: &[KeyShare], next: Sharing, seed: u64) -> (Commitments, Vec<KeyShare>) {
    let dealers = pick(shares, old.threshold(), seed);
    let random = *blake3::hash(&seed.to_le_bytes()).as_bytes();
    let dealt: Vec<Dealing> = dealers.iter().map(|dealer| dealer.deal(next, &random)).collect();
    let parts_of = |place: usize| dealt.iter().map(|dealing| dealing.shares[place].clone()).collect();
    let parts: Vec<Vec<KeyShare>> = (0..next.members()).map(parts_of).collect();
    let known =
        dealers.iter().zip(&dealt).map(|(dealer, dealing)| (dealer.index(), dealing.commitments.clone()));
    let handoff = Handoff::new(old, next, known.collect()).unwrap();
    let combined = parts.iter().map(|parts| handoff.combine(parts).unwrap()).collect();
    (handoff.commitments().clone(), combined)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    /// C7: after any series of handoffs any threshold of nodes give what the owner has.
    #[test]
    fn c7_any_threshold_gives_what_the_owner_has(
        key in any::<[u8; 32]>(),
        sizes in prop::collection::vec(4_u8..=21, 1..4),
        seed in any::<u64>(),
    ) {
        let key = PrfKey::from_wide(&[key, key].concat().try_into().unwrap());
        let (slots, first) = (slots(3), among(sizes[0]));
        let own: Vec<_> = slots.iter().map(|slot| key.evaluate(slot)).collect();
        let inputs = Inputs::new(&slots).unwrap();
        let Dealing { mut commitments, mut shares } = key.deal(first, &[1; 32]);
        for (at, size) in (1_u64..).zip(sizes.iter().skip(1)) {
            (commitments, shares) = reshare(&commitments, &shares, among(*size), seed ^ at);
        }
        prop_assert_eq!(commitments.key(), &key.public());
        prop_assert_eq!(commitments.threshold(), among(*sizes.last().unwrap()).threshold());
        for subset in 0..3 {
            let nodes = pick(&shares, commitments.threshold(), seed ^ subset);
            prop_assert_eq!(release(&inputs, &commitments, &nodes), Ok(own.clone()));
        }
        let (have, want) = (commitments.threshold() - 1, commitments.threshold());
        let few = release(&inputs, &commitments, &pick(&shares, have, seed));
        prop_assert_eq!(few, Err(PartialError::TooFew { have, want }));
    }

    /// C6: 2f shares of each of five epochs, however they are put together, do not give the key.
    #[test]
    fn c6_shares_of_many_epochs_do_not_fit_together(n in 4_u8..=21, seed in any::<u64>()) {
        let key = PrfKey::from_wide(&[7; 64]);
        let Dealing { mut commitments, mut shares } = key.deal(among(n), &[1; 32]);
        let threshold = commitments.threshold();
        let mut stolen = Vec::new();
        for epoch in 0..5 {
            stolen.extend(pick(&shares, threshold - 1, seed ^ epoch).into_iter().cloned());
            (commitments, shares) = reshare(&commitments, &shares, among(n), seed ^ epoch);
        }
        for attempt in 0..50 {
            // As many as it takes, each of another place, from whatever epochs: of one there are too few.
            let mut chosen: Vec<&KeyShare> = Vec::new();
            for share in shuffled(stolen.len(), seed ^ attempt).into_iter().map(|at| &stolen[at]) {
                let new = chosen.iter().all(|other| other.index() != share.index());
                if new && chosen.len() < threshold {
                    chosen.push(share);
                }
            }
            prop_assume!(chosen.len() == threshold);
            prop_assert_ne!(interpolate(&chosen), *key.scalar());
        }
        // The check can fail: a threshold of shares of one epoch is the key.
        prop_assert_eq!(interpolate(&pick(&shares, threshold, seed)), *key.scalar());
    }
}

/// C8: whatever a node sends that is not of its share is found, and it is known whose it is.
#[test]
fn c8_a_node_that_lies_is_found() {
    let key = PrfKey::from_wide(&[7; 64]);
    let Dealing { commitments, shares } = key.deal(among(7), &[1; 32]);
    let slots = slots(3);
    let inputs = Inputs::new(&slots).unwrap();
    let from = shares[2].index();
    let add = |partial| Release::new(&inputs, &commitments).add(partial);
    let honest = shares[2].evaluate(&inputs, &[1; 32]);
    assert_eq!(add(honest.clone()), Ok(()));

    let other_share = KeyShare::new(from, *shares[3].scalar());
    assert_eq!(
        add(other_share.evaluate(&inputs, &[1; 32])),
        Err(PartialError::Proof { from }),
        "another's share"
    );
    let old = PrfKey::from_wide(&[7; 64]).deal(among(7), &[2; 32]);
    assert_eq!(
        add(old.shares[2].evaluate(&inputs, &[1; 32])),
        Err(PartialError::Proof { from }),
        "of another epoch"
    );
    let swapped = Inputs::new(&[slots[1], slots[0], slots[2]]).unwrap();
    assert_eq!(
        add(shares[2].evaluate(&swapped, &[1; 32])),
        Err(PartialError::Proof { from }),
        "swapped points"
    );
    let fewer = Inputs::new(&slots[..2]).unwrap();
    let count = PartialError::Count { from, have: 2, want: 3 };
    assert_eq!(add(shares[2].evaluate(&fewer, &[1; 32])), Err(count));
    let mut stranger = honest.to_bytes();
    stranger[1] = 4;
    let claimed = ShareIndex::new(4).unwrap();
    assert_eq!(add(Partial::from_slice(&stranger).unwrap()), Err(PartialError::Proof { from: claimed }));
    let (sent, theirs) = (honest.to_bytes(), shares[3].evaluate(&inputs, &[1; 32]).to_bytes());
    for point in 0..3 {
        let mut changed = sent.clone();
        let at = 4 + 32 * point..36 + 32 * point;
        changed[at.clone()].copy_from_slice(&theirs[at]);
        assert_eq!(
            add(Partial::from_slice(&changed).unwrap()),
            Err(PartialError::Proof { from }),
            "point {point}"
        );
    }
    let mut twice = Release::new(&inputs, &commitments);
    twice.add(honest.clone()).unwrap();
    assert_eq!(twice.add(honest), Err(PartialError::Twice { from }));
}

/// C8: a dealer that lies while a committee changes is found, and the honest go on without it.
#[test]
fn c8_a_dealer_that_lies_is_found() {
    let key = PrfKey::from_wide(&[7; 64]);
    let Dealing { commitments: old, shares } = key.deal(among(7), &[1; 32]);
    let next = among(10);
    let dealt: Vec<Dealing> = shares.iter().map(|share| share.deal(next, &[5; 32])).collect();
    let known = |dealers: std::ops::Range<usize>| -> Vec<_> {
        dealers.map(|at| (shares[at].index(), dealt[at].commitments.clone())).collect()
    };
    let dealer = shares[1].index();

    let mut wrong = known(0..5);
    wrong[1].1 = PrfKey::from_wide(&[8; 64]).deal(next, &[1; 32]).commitments;
    assert_eq!(Handoff::new(&old, next, wrong).unwrap_err(), ReshareError::NotItsShare { dealer });
    let mut wrong = known(0..5);
    wrong[1].1 = shares[1].deal(among(4), &[5; 32]).commitments;
    assert_eq!(Handoff::new(&old, next, wrong).unwrap_err(), ReshareError::Threshold { dealer });
    let mut swapped = known(0..5);
    swapped.swap(0, 1);
    let twice = [known(0..4), known(3..4)].concat();
    for (odd, have) in [(known(0..4), 4), (known(0..6), 6), (swapped, 5), (twice, 5), (vec![], 0)] {
        assert_eq!(Handoff::new(&old, next, odd).unwrap_err(), ReshareError::Dealers { have, want: 5 });
    }

    let handoff = Handoff::new(&old, next, known(0..5)).unwrap();
    let parts =
        |place: usize| -> Vec<_> { dealt[..5].iter().map(|dealing| dealing.shares[place].clone()).collect() };
    let mut bad = parts(3);
    bad[1] = KeyShare::new(bad[1].index(), bad[1].scalar() + curve25519_dalek::Scalar::ONE);
    assert_eq!(handoff.combine(&bad), Err(ReshareError::WrongPart { dealer }));
    let mut mixed = parts(3);
    mixed[1] = dealt[1].shares[4].clone();
    for odd in [vec![], parts(3)[..4].to_vec(), mixed] {
        assert_eq!(handoff.combine(&odd), Err(ReshareError::Parts));
    }
    // Without the liar, any five others do.
    assert!(Handoff::new(&old, next, known(2..7)).is_ok());
}

#[test]
fn many_shares_are_checked_at_once_and_the_wrong_ones_named() {
    let dealings: Vec<_> =
        (0..6).map(|vault| PrfKey::from_wide(&[vault; 64]).deal(among(4 + vault), &[1; 32])).collect();
    let mut shares: Vec<KeyShare> = dealings.iter().map(|dealing| dealing.shares[2].clone()).collect();
    let check = |shares: &[KeyShare]| {
        let batch: Vec<_> = dealings.iter().map(|dealing| &dealing.commitments).zip(shares).collect();
        verify_shares(&batch, &[6; 32])
    };
    assert_eq!(check(&shares), Ok(()));
    assert_eq!(verify_shares(&[], &[6; 32]), Ok(()));
    // Two that are wrong by as much, one up and one down, do not pass together.
    for (at, by) in [(1, curve25519_dalek::Scalar::ONE), (4, -curve25519_dalek::Scalar::ONE)] {
        shares[at] = KeyShare::new(shares[at].index(), shares[at].scalar() + by);
    }
    assert_eq!(check(&shares), Err(vec![1, 4]));
    shares[1] = dealings[1].shares[3].clone();
    assert_eq!(check(&shares), Err(vec![4]), "a right share of another place is right");
}

#[test]
fn a_dealing_is_of_its_randomness() {
    let key = PrfKey::from_wide(&[7; 64]);
    let deal = |random| key.deal(among(4), &[random; 32]);
    assert!(deal(1).shares == deal(1).shares && deal(1).commitments == deal(1).commitments);
    assert!(deal(1).shares[0] != deal(2).shares[0] && deal(1).commitments != deal(2).commitments);
    assert_eq!(deal(1).commitments.key(), deal(2).commitments.key());
    assert_eq!(among(4).threshold(), 3);
    for share in &deal(1).shares {
        assert_eq!(deal(1).commitments.verify(share), Ok(()));
        assert!(deal(2).commitments.verify(share).is_err());
        assert_eq!(deal(1).commitments.share_key(share.index()), Some(share.public()));
    }
}
