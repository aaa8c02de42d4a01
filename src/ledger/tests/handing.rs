//! Handing a key on, played through with real shares, packages and rules: whoever is faulty, the key moves if and only if it
//! should, and what is released stays the same. Claims C7 and C8 of the design.

use proptest::prelude::*;

use super::*;
use crate::crypto::access::{Commitments, Dealing, Inputs, KeyShare, PrfKey, Release, SealKey, Sharing};
use crate::ledger::handoff::{self, Deal, HANDOFFS, bits, chosen, deal, take};
use crate::ledger::rows::ACCESS;
use crate::message::access::desk::{Ack, SignedSealKey};
use crate::message::access::handoff::{
    BadPiece, Complaint, HandoffKeyOf, Piece, PieceKey, SignedHandoffKey, VoidComplaint,
};
use crate::message::access::package::commitments_hash;
use crate::message::access::{
    HandOff, HandedVault, HandoffPackage, KeptBy, KeySharing, TakeShares, TakenShare,
};
use crate::message::canonical::Canonical as _;

/// What an old member does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Deals {
    Well,
    /// Something else than its share.
    AnotherShare,
    /// A bad part to the new member at this place.
    BadlyTo(usize),
    Not,
}

/// What a new member does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Takes {
    Well,
    Not,
    /// Keeps everything, takes nothing, and complains about good pieces.
    Lies,
}

/// A secret of a static node by its number.
fn seed(of: u8, dealer: u8) -> [u8; 32] {
    *blake3::hash(&[of, dealer, 7]).as_bytes()
}

struct Play {
    world: World,
    key: PrfKey,
    commitments: Commitments,
    /// Shares of the sharing that is in effect, by the numbers of those who have them.
    shares: BTreeMap<u8, KeyShare>,
    /// The voters of now, by their numbers.
    members: Vec<u8>,
}

/// Numbers of static nodes in the order of their keys.
fn sorted(mut numbers: Vec<u8>) -> Vec<u8> {
    numbers.sort_by_key(|nth| pair(*nth).public());
    numbers
}

fn committee_of(numbers: &[u8]) -> Committee {
    Committee::new(numbers.iter().map(|nth| pair(*nth).public()).collect()).unwrap()
}

impl Play {
    /// Vault 1's key among the first `n`.
    fn new(n: u8) -> Self {
        let mut world = World::new(n);
        world.accept(59, create(1));
        let members = sorted((1..=n).collect());
        let key = PrfKey::from_wide(&[7; 64]);
        let Dealing { commitments, shares } = key.deal(Sharing::among(&committee_of(&members)), &[1; 32]);
        let roster = query::next_roster(&world.state).unwrap().hash();
        let (hash, package) = (commitments_hash(&commitments), Hash([2; 32]));
        let sharing = KeySharing { vault: vault(1), dealing: 0, roster, commitments: hash, package };
        world.accept(59, Action::ShareKey(sharing));
        let shares = members.iter().copied().zip(shares).collect();
        Self { world, key, commitments, shares, members }
    }

    fn change(&mut self, change: Change, newcomer: Option<u8>) {
        let quorum = committee_of(&self.members).quorum();
        let change = self.world.governance(change, &self.members[..quorum], newcomer);
        self.world.accept(self.members[0], change);
    }

    /// Replaces some, then lets as many more in.
    fn move_to(&mut self, replaced: usize, added: u8) {
        for at in 0..replaced.min(self.members.len()) {
            let (old, new) = (self.members[0], 30 + u8::try_from(at).unwrap());
            self.world.alive.push(new);
            self.change(Change::ReplaceStatic { old: pair(old).public(), new: member(new) }, Some(new));
            let mut rest = self.members[1..].to_vec();
            rest.push(new);
            // The newest last, so that each replaces one of the first.
            self.members = rest;
        }
        for at in 0..added {
            let new = 40 + at;
            self.world.alive.push(new);
            self.change(Change::AddStatic(member(new)), Some(new));
            self.members.push(new);
        }
        if replaced == 0 && added == 0 {
            self.change(Change::RefreshShares { every: None }, None);
        }
        self.members = sorted(self.members.clone());
    }

    fn handed(&self) -> HandedVault {
        let sharing = ACCESS.get(&self.world.state, &vault(1)).unwrap().unwrap().sharing;
        HandedVault { vault: vault(1), dealing: sharing.dealing, epoch: sharing.epoch, attempt: 0 }
    }

    fn key_of(&self, dealer: u8) -> HandoffKeyOf {
        let to = query::next_roster(&self.world.state).unwrap().hash();
        HandoffKeyOf { dealer: pair(dealer).public(), to, nonce: [dealer; 16] }
    }

    /// What a dealer sends.
    fn package(&self, dealer: u8, how: Deals) -> HandoffPackage {
        let of = self.key_of(dealer);
        let share = match how {
            Deals::AnotherShare => PrfKey::from_wide(&[dealer; 64])
                .deal(Sharing::among(&committee_of(&[1, 2, 3, 4])), &[3; 32])
                .shares
                .remove(0),
            _ => self.shares[&dealer].clone(),
        };
        let key = |nth: &u8| {
            let key = SealKey::from_seed(&seed(*nth, dealer)).public().clone();
            let signed = SignedHandoffKey::sign(&NETWORK, &of, key.clone(), &pair(*nth));
            let hash = SignedSealKey::hash_of(&key);
            Some((PieceKey::Handoff { key: hash, signature: signed.signature }, key))
        };
        let members = committee_of(&self.members);
        let keys = self.members.iter().map(key).collect();
        let shares = vec![(self.handed(), share, self.commitments.clone())];
        let what = Deal { network: NETWORK, of, members: &members, shares, keys, revocations: vec![] };
        let mut counter = 0_u8;
        let mut package = deal(what, |bytes| {
            counter += 1;
            bytes.fill(counter ^ dealer);
            Ok::<_, std::convert::Infallible>(())
        })
        .unwrap();
        if let Deals::BadlyTo(at) = how {
            let victim = self.members[at];
            let place = ShareIndex::at(at).unwrap();
            let context = HandoffPackage::piece_context(&of, &package.vaults, place);
            let wrong =
                PrfKey::from_wide(&[9; 64]).deal(Sharing::among(&members), &[3; 32]).shares.remove(at);
            let key = SealKey::from_seed(&seed(victim, dealer));
            let to = package.pieces[at].to;
            package.pieces[at] = Piece::seal((to, key.public()), &context, &[&wrong], &[5; 64]);
        }
        HandoffPackage::decode_bounded(&package.encode()).unwrap()
    }

    /// What an honest new member finds in a package.
    fn look(&self, nth: u8, dealer: u8, package: &HandoffPackage) -> Result<KeyShare, String> {
        let sharing = ACCESS.get(&self.world.state, &vault(1)).unwrap().unwrap().sharing;
        let old = query::roster(&self.world.state, &sharing.roster).unwrap().unwrap();
        let place = ShareIndex::at(old.committee().position(&pair(dealer).public()).unwrap()).unwrap();
        let (members, to) = (committee_of(&self.members), self.key_of(dealer).to);
        let handed = [self.handed()];
        let sharing_of = |_: &HandedVault| Some((place, sharing.commitments));
        package
            .check(&NETWORK, &pair(dealer).public(), (&to, &members), sharing_of, &handed)
            .map_err(|fault| fault.to_string())?;
        let own = ShareIndex::at(self.members.iter().position(|member| *member == nth).unwrap()).unwrap();
        let key = SealKey::from_seed(&seed(nth, dealer));
        let parts = package.open(own, &key, &[8; 32]).map_err(|bad| bad.to_string())?;
        Ok(parts.into_iter().next().unwrap())
    }

    /// Whether a package was named: only if a quorum keeps it.
    fn name(&mut self, dealer: u8, package: &HandoffPackage, takers: &BTreeMap<u8, Takes>) -> bool {
        let hash = package.hash();
        let keeps = |nth: &&u8| match takers[*nth] {
            Takes::Well => self.look(**nth, dealer, package).is_ok(),
            Takes::Lies => true,
            Takes::Not => false,
        };
        let signed = |nth: &u8| {
            let signature = Ack::sign(&NETWORK, &hash.0, &pair(*nth)).signature;
            KeptBy { member: pair(*nth).public(), signature }
        };
        let kept: Vec<_> = self.members.iter().filter(keeps).map(signed).collect();
        let (to, vaults) = (package.of.to, package.handed());
        let action = Action::HandOff(HandOff { to, package: hash, vaults, kept });
        let signed = self.world.sign(dealer, action);
        self.world.block(std::slice::from_ref(&signed)).is_empty()
    }

    /// Everybody does its part; whether the next sharing came into effect.
    fn hand_on(&mut self, dealers: &BTreeMap<u8, Deals>, takers: &BTreeMap<u8, Takes>) -> bool {
        let before = self.handed();
        let mut packages = BTreeMap::new();
        for (dealer, how) in dealers.iter().filter(|(_, how)| **how != Deals::Not) {
            let package = self.package(*dealer, *how);
            if self.name(*dealer, &package, takers) {
                packages.insert(package.hash(), (*dealer, package));
            }
        }
        self.reject_bad(&packages, takers);
        let took = self.take(&packages, takers);
        let now = self.handed();
        if now == before {
            return false;
        }
        assert_eq!(now.epoch, before.epoch + 1);
        let (commitments, shares) = took.unwrap();
        (self.commitments, self.shares) = (commitments, shares);
        true
    }

    fn reject_bad(&mut self, packages: &BTreeMap<Hash, (u8, HandoffPackage)>, takers: &BTreeMap<u8, Takes>) {
        for (hash, (dealer, package)) in packages {
            let mut complaints = Vec::new();
            for (at, nth) in self.members.iter().enumerate() {
                let bad = self.look(*nth, *dealer, package).is_err();
                if (takers[nth] == Takes::Well && bad) || takers[nth] == Takes::Lies {
                    let place = ShareIndex::at(at).unwrap();
                    complaints.push(Complaint { package: *hash, place, secret: seed(*nth, *dealer) });
                }
            }
            for nth in self.members.clone() {
                let is_shown = complaints.iter().any(|complaint| package.judge(complaint, &[1; 32]).is_ok());
                let rejects = match takers[&nth] {
                    Takes::Well => is_shown,
                    Takes::Lies => true,
                    Takes::Not => false,
                };
                if rejects {
                    self.world.accept(nth, Action::RejectHandoff { package: *hash });
                }
            }
        }
    }

    /// What those took who could.
    fn take(
        &mut self,
        packages: &BTreeMap<Hash, (u8, HandoffPackage)>,
        takers: &BTreeMap<u8, Takes>,
    ) -> Option<(Commitments, BTreeMap<u8, KeyShare>)> {
        let handing = HANDOFFS.get(&self.world.state, &vault(1)).unwrap()?;
        let dealers = chosen(&self.world.state, &handing).unwrap()?;
        let (members, handed) = (committee_of(&self.members), handing.handed(vault(1)));
        let (mut shares, mut commitments) = (BTreeMap::new(), None);
        for nth in self.members.clone().into_iter().filter(|nth| takers[nth] == Takes::Well) {
            let own = ShareIndex::at(self.members.iter().position(|member| *member == nth).unwrap()).unwrap();
            let mut parts = Vec::new();
            for dealer in &dealers {
                let (number, package) = &packages[&dealer.package];
                let key = SealKey::from_seed(&seed(nth, *number));
                let opened = package.open(own, &key, &[8; 32]).ok()?;
                parts.push((dealer.place, package, opened.into_iter().next().unwrap()));
            }
            let parts: Vec<_> = parts.iter().map(|(place, package, part)| (*place, *package, part)).collect();
            let took = take(&handed, &members, &parts).unwrap();
            let hash = commitments_hash(&took.commitments);
            let (dealing, epoch) = (handed.dealing, handed.epoch);
            let share =
                TakenShare { vault: vault(1), dealing, epoch, dealers: bits(&dealers), commitments: hash };
            self.world.accept(nth, Action::TakeShares(TakeShares { shares: vec![share] }));
            assert_eq!(commitments.get_or_insert_with(|| took.commitments.clone()), &took.commitments);
            shares.insert(nth, took.share);
        }
        Some((commitments?, shares))
    }

    /// What those who have shares release is what the owner has.
    fn check_release(&self, seed: u64) {
        let slot = SlotId {
            network: NETWORK,
            vault: vault(1),
            dealing: 0,
            scope: ScopeTag([4; 16]),
            generation: 5,
            record: RecordTag(*seed.to_le_bytes().repeat(2).first_chunk().unwrap()),
            version: VersionId([7; 16]),
        };
        let inputs = Inputs::new(&[slot]).unwrap();
        assert_eq!(self.commitments.key(), &self.key.public());
        let mut release = Release::new(&inputs, &self.commitments);
        let first = usize::try_from(seed % 3).unwrap();
        let shares: Vec<_> = self.shares.values().collect();
        let count = self.commitments.threshold();
        for share in shares.iter().cycle().skip(first).take(count) {
            release.add(share.evaluate(&inputs, &[6; 32])).unwrap();
        }
        assert_eq!(release.finish().unwrap(), [self.key.evaluate(&slot)]);
    }
}

/// Who of some is faulty, and how: as many as `count`, chosen by `seed`.
fn spread<T: Copy>(of: &[u8], count: usize, seed: u64, good: T, bad: impl Fn(usize) -> T) -> BTreeMap<u8, T> {
    let mut all: BTreeMap<u8, T> = of.iter().map(|nth| (*nth, good)).collect();
    let rank = |nth: &&u8| *blake3::hash(&[&seed.to_le_bytes()[..], &[**nth]].concat()).as_bytes();
    let mut order: Vec<&u8> = of.iter().collect();
    order.sort_by_key(rank);
    for (at, nth) in order.into_iter().take(count).enumerate() {
        all.insert(*nth, bad(at));
    }
    all
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    /// C7 and C8: with as many faulty as are tolerated, or more, the key moves if and only if enough deal and take well; and
    /// afterwards any threshold of the new members release what the owner has.
    #[test]
    fn c7_c8_the_key_moves_if_and_only_if_enough_do_their_part(
        n in 4_u8..=7,
        replaced in 0_usize..=4,
        added in 0_u8..=2,
        (bad_dealers, bad_takers) in (0_usize..=3, 0_usize..=3),
        (kind, lie, seed) in (0_u8..4, any::<bool>(), any::<u64>()),
    ) {
        let mut play = Play::new(n);
        let old = play.members.clone();
        play.move_to(replaced, added);
        let (before, after) = (committee_of(&old), committee_of(&play.members));
        let wrong = |at: usize| match (usize::from(kind) + at) % 4 {
            0 => Deals::AnotherShare,
            1 | 2 => Deals::BadlyTo(at % play.members.len()),
            _ => Deals::Not,
        };
        let dealers = spread(&old, bad_dealers, seed, Deals::Well, wrong);
        let lies = if lie { Takes::Lies } else { Takes::Not };
        let takers = spread(&play.members, bad_takers, seed ^ 1, Takes::Well, |_| lies);
        let honest = play.members.len() - bad_takers;
        // What liars say is believed once they are more than may be faulty: then it is not for us to say what happens.
        prop_assume!(!lie || bad_takers <= after.f());
        let is_good = |deals: &Deals| match deals {
            Deals::Well => true,
            // Who is hurt would not say so. A liar does: it complains about all, and this once it is right.
            Deals::BadlyTo(at) => takers[&play.members[*at]] == Takes::Not,
            _ => false,
        };
        let good = dealers.values().filter(|deals| is_good(deals)).count();
        let should = good >= before.threshold() && honest >= after.quorum();
        let came = play.hand_on(&dealers, &takers);
        prop_assert_eq!(came, should, "{:?} {:?}", dealers, takers);
        if bad_dealers <= before.f() && bad_takers <= after.f() {
            prop_assert!(came, "no more faulty ones than are tolerated");
        }
        if honest >= after.threshold() {
            play.check_release(seed);
        }
    }
}

/// C7 by name: the key goes through committee after committee until nobody is left of the first, and stays the same.
#[test]
fn c7_a_key_outlives_all_who_had_it_first() {
    let mut play = Play::new(4);
    let first = play.members.clone();
    for round in 0..4_u64 {
        let old = play.members.clone();
        let new = 60 + u8::try_from(round).unwrap();
        let leaver = *old.iter().find(|nth| first.contains(nth)).unwrap();
        play.world.alive.push(new);
        play.change(Change::ReplaceStatic { old: pair(leaver).public(), new: member(new) }, Some(new));
        play.members = sorted(old.iter().copied().filter(|nth| *nth != leaver).chain([new]).collect());
        // Who leaves is gone already.
        let dealers = old.iter().map(|nth| (*nth, if *nth == leaver { Deals::Not } else { Deals::Well }));
        let takers = play.members.iter().map(|nth| (*nth, Takes::Well)).collect();
        let stale = play.shares.clone();
        assert!(play.hand_on(&dealers.collect(), &takers));
        play.check_release(round);
        let (old_share, new_share) = (stale.values().next().unwrap(), play.shares.values().next().unwrap());
        assert!(play.commitments.verify(new_share).is_ok() && play.commitments.verify(old_share).is_err());
    }
    assert!(play.members.iter().all(|nth| !first.contains(nth)));
    let care = handoff::care(&play.world.state).unwrap();
    assert_eq!((care.vaults, care.former, care.due), (1, 0, 0));
}

/// C8 by name: a bad piece is shown to others by its key, and a good one cannot be shown to be bad.
#[test]
fn c8_a_complaint_shows_what_is_bad_and_nothing_else() {
    let mut play = Play::new(4);
    play.move_to(1, 0);
    let dealer = *play.shares.keys().next().unwrap();
    let package = play.package(dealer, Deals::BadlyTo(2));
    let complaint = |at: usize| Complaint {
        package: package.hash(),
        place: ShareIndex::at(at).unwrap(),
        secret: seed(play.members[at], dealer),
    };
    assert_eq!(package.judge(&complaint(2), &[1; 32]), Ok(BadPiece::WrongPart { at: 0 }));
    assert_eq!(package.judge(&complaint(1), &[1; 32]), Err(VoidComplaint::GoodPiece));
    let other = Complaint { secret: [3; 32], ..complaint(2) };
    assert_eq!(package.judge(&other, &[1; 32]), Err(VoidComplaint::OtherKey));
    let nowhere = Complaint { place: ShareIndex::at(9).unwrap(), ..complaint(2) };
    assert_eq!(package.judge(&nowhere, &[1; 32]), Err(VoidComplaint::OtherKey));
    assert!(!format!("{:?}", complaint(2)).contains("secret"), "a key is not shown by accident");
    // One that does not open, and one that is cut, are as bad.
    let mut torn = package.clone();
    torn.pieces[1].sealed.pop();
    assert!(matches!(torn.judge(&complaint(1), &[1; 32]), Ok(BadPiece::Unopenable(_))));
}

/// Every way in which a package itself is wrong has a name.
#[test]
fn what_everybody_sees_of_a_package_is_checked() {
    use crate::message::access::handoff::Fault;
    let mut play = Play::new(4);
    play.move_to(1, 0);
    let dealer = *play.shares.keys().next().unwrap();
    let good = play.package(dealer, Deals::Well);
    let nth = play.members[0];
    assert!(play.look(nth, dealer, &good).is_ok());
    let wrong = |change: &dyn Fn(&mut HandoffPackage)| {
        let mut package = good.clone();
        change(&mut package);
        play.look(nth, dealer, &package).unwrap_err()
    };
    let misnamed = Fault::Misnamed.to_string();
    assert_eq!(wrong(&|package| package.network = NetworkId([1; 32])), misnamed);
    assert_eq!(wrong(&|package| package.of.dealer = pair(99).public()), misnamed);
    assert_eq!(wrong(&|package| package.of.to = Hash([1; 32])), misnamed);
    assert_eq!(wrong(&|package| package.vaults[0].of.epoch = 9), Fault::Vault.to_string());
    let other = |package: &mut HandoffPackage| package.vaults[0].old = package.vaults[0].dealt.clone();
    assert_eq!(wrong(&other), Fault::Vault.to_string());
    assert_eq!(wrong(&|package| drop(package.pieces.pop())), Fault::Pieces.to_string());
    let key = wrong(&|package| match &mut package.pieces[1].to {
        PieceKey::Handoff { signature, .. } => signature[0] ^= 1,
        _ => unreachable!(),
    });
    assert!(key.contains("place 2"), "{key}");
    let share = wrong(&|package| package.vaults[0].dealt = play.commitments.clone());
    assert!(share.contains("not of its share"), "{share}");
    let few = play.shares[&dealer].deal(Sharing::among(&committee_of(&[1])), &[1; 32]).commitments;
    let threshold = wrong(&|package| package.vaults[0].dealt = few.clone());
    assert!(threshold.contains("another threshold"), "{threshold}");
}
