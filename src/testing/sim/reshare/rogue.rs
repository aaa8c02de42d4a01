//! What faulty static nodes do otherwise while keys are handed on.

use super::world::{Reshare, Wrong};
use crate::crypto::access::{PrfKey, SealPublic, Sharing};
use crate::ledger::handoff::machine::{Dealing, Done, Found, Task};
use crate::ledger::handoff::{Deal, deal};
use crate::message::access::desk::{Ack, DeskAnswer, DeskRequest};
use crate::message::access::handoff::{Complaint, HandoffKeyOf, Piece, PieceKey};
use crate::message::access::{HandoffPackage, KeptBy};
use crate::message::{Action, Canonical as _, Roster};
use crate::types::{Hash, PublicKey, ShareIndex};

/// How a faulty node deals.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Deals {
    Well,
    Nothing,
    /// Something else than its share.
    AnotherShare,
    /// Bad pieces, to as many as get the package named all the same.
    BadPieces,
    /// One package to half of them, another to the others.
    TwoFaces,
}

/// How it takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Takes {
    Well,
    /// It does not answer, and says nothing.
    Nothing,
    /// It signs for what it did not check, and complains about good pieces.
    Complains,
    /// It signs for what it did not check, and says that its shares add up to something else.
    Miscounts,
}

#[derive(Debug, Clone)]
pub(super) struct Rogue {
    pub(super) deals: Deals,
    pub(super) takes: Takes,
    /// The other package, by the hash of the first.
    other: Option<(Hash, Vec<u8>)>,
}

impl Rogue {
    pub(super) const fn new(deals: Deals, takes: Takes) -> Self {
        Self { deals, takes, other: None }
    }
}

type Keys = [(PublicKey, PieceKey, SealPublic)];

impl Reshare {
    fn rogue(&self, at: usize) -> Option<&Rogue> {
        self.members[at].rogue.as_ref()
    }

    /// What a faulty node does in place of a task; none if it does just that.
    pub(super) fn rogue_task(&mut self, at: usize, task: &Task) -> Option<Done> {
        match (self.rogue(at)?.deals, task) {
            (Deals::Well, _) => None,
            (Deals::Nothing, Task::Deal { .. }) => Some(Done::Dealt(None)),
            (deals, Task::Deal { roster, of, duties, keys }) => {
                let (roster, of) = (roster.clone(), *of);
                let task = Task::Deal { roster, of, duties: duties.clone(), keys: keys.clone() };
                let Some(Ok(Done::Dealt(Some(dealing)))) = self.members[at].node.hand_on(task) else {
                    return Some(Done::Dealt(None));
                };
                Some(Done::Dealt(self.twist(at, deals, dealing, keys)))
            }
            _ => None,
        }
    }

    fn twist(&mut self, at: usize, deals: Deals, honest: Dealing, keys: &Keys) -> Option<Dealing> {
        let package = HandoffPackage::decode(&honest.bytes).ok()?;
        let (twisted, victims) = match deals {
            Deals::BadPieces => self.with_bad_pieces(at, package, &honest.roster, keys),
            Deals::AnotherShare => (self.another(&package, &honest.roster, keys), Vec::new()),
            _ => {
                let other = self.another(&package, &honest.roster, keys).encode();
                let rogue = self.members[at].rogue.as_mut()?;
                rogue.other = Some((honest.package, other));
                return Some(honest);
            }
        };
        let (package, bytes) = (twisted.hash(), twisted.encode());
        self.victims.extend(victims.into_iter().map(|victim| (package, victim)));
        let key = self.ledger.pairs[at].clone();
        self.members[at].node.store()?.keep_handoff(&package, &key.public(), &bytes, self.now).ok()?;
        let own = honest.own.map(|kept| KeptBy {
            signature: Ack::sign(&self.ledger.genesis.network, &package.0, &key).signature,
            ..kept
        });
        Some(Dealing { package, bytes, own, ..honest })
    }

    /// The package with bad pieces for as many honest members as there are others who sign for it all the same.
    fn with_bad_pieces(
        &mut self,
        at: usize,
        mut package: HandoffPackage,
        roster: &Roster,
        keys: &Keys,
    ) -> (HandoffPackage, Vec<PublicKey>) {
        let members = roster.committee();
        let faulty = self.members.iter().enumerate();
        let faulty = faulty.filter(|(nth, member)| {
            member.rogue.is_some() && members.contains(&self.ledger.pairs[*nth].public())
        });
        let count = faulty.count();
        let own = self.ledger.pairs[at].public();
        let mut victims: Vec<_> = keys
            .iter()
            .filter(|(key, ..)| *key != own && self.is_honest(key))
            .map(|(key, to, seal)| (*key, *to, seal.clone()))
            .collect();
        while victims.len() > count {
            let left_alone = self.rng.index(victims.len());
            victims.swap_remove(left_alone);
        }
        let mut hurt = Vec::new();
        for (victim, to, seal) in victims {
            hurt.push(victim);
            let Some(nth) = members.position(&victim) else { continue };
            let Some(place) = ShareIndex::at(nth) else { continue };
            let wrong = PrfKey::from_wide(&self.rng.bytes()).deal(Sharing::among(members), &self.rng.bytes());
            let part = &wrong.shares[nth];
            let parts: Vec<_> = package.vaults.iter().map(|_| part).collect();
            let context = HandoffPackage::piece_context(&package.of, &package.vaults, place);
            package.pieces[nth] = Piece::seal((to, &seal), &context, &parts, &self.rng.bytes());
        }
        (package, hurt)
    }

    /// A package of other shares for the same.
    fn another(&mut self, package: &HandoffPackage, roster: &Roster, keys: &Keys) -> HandoffPackage {
        let members = roster.committee();
        let mut shares = Vec::new();
        for vault in &package.vaults {
            let dealt = PrfKey::from_wide(&self.rng.bytes()).deal(Sharing::among(members), &[3; 32]);
            shares.push((vault.of, dealt.shares[0].clone(), vault.old.clone()));
        }
        let key = |member: &PublicKey| {
            let found = keys.iter().find(|(key, ..)| key == member);
            found.map(|(_, to, seal)| (*to, seal.clone()))
        };
        let keys = members.members().iter().map(key).collect();
        let (network, of) = (package.network, package.of);
        let what = Deal { network, of, members, shares, keys, revocations: Vec::new() };
        let made = deal(what, |bytes| {
            self.rng.fill(bytes);
            Ok::<_, Wrong>(())
        });
        made.unwrap_or_else(|wrong| panic!("{wrong}"))
    }

    /// What a faulty node makes of a task's outcome.
    pub(super) fn rogue_done(&mut self, at: usize, done: Done) -> Done {
        let Some(Takes::Complains) = self.rogue(at).map(|rogue| rogue.takes) else { return done };
        let Done::Opened(Found::Good(opened)) = done else { return done };
        let secret = self.piece_secret(at, &opened.package.of);
        let members = self.roster_of(&opened.package.of.to);
        let key = self.ledger.pairs[at].public();
        let place = members.and_then(|roster| ShareIndex::at(roster.committee().position(&key)?));
        match (secret, place) {
            (Some(secret), Some(place)) => {
                self.summary.false_complaints += 1;
                let package = opened.package.hash();
                Done::Opened(Found::BadPiece(Complaint { package, place, secret }))
            }
            _ => Done::Opened(Found::Good(opened)),
        }
    }

    /// The real key of its piece: so others see that the piece is good.
    fn piece_secret(&self, at: usize, of: &HandoffKeyOf) -> Option<[u8; 32]> {
        let keys = self.members[at].node.store()?.seal_keys().ok()?;
        keys.first().map(|held| *held.handoff_secret(of))
    }

    /// What a faulty node says to one of those it asks.
    pub(super) fn rogue_request(&mut self, at: usize, request: &DeskRequest) -> Option<Vec<u8>> {
        let DeskRequest::Handoff(bytes) = request else { return None };
        let (of, other) = self.rogue(at)?.other.clone()?;
        let is_of = HandoffPackage::decode(bytes).is_ok_and(|package| package.hash() == of);
        (is_of && self.rng.chance(500)).then(|| DeskRequest::Handoff(other).encode())
    }

    /// What a faulty node has its name under on the ledger; none for nothing.
    pub(super) fn rogue_says(&mut self, at: usize, action: Action) -> Option<Action> {
        let Some(takes) = self.rogue(at).map(|rogue| rogue.takes) else { return Some(action) };
        match (takes, action) {
            (Takes::Nothing, Action::TakeShares(_)) => None,
            (Takes::Miscounts, Action::TakeShares(mut taken)) => {
                taken.shares.iter_mut().for_each(|share| share.commitments = Hash([7; 32]));
                Some(Action::TakeShares(taken))
            }
            (_, action) => Some(action),
        }
    }

    /// How a faulty node answers; none if as others do.
    pub(super) fn rogue_answer(&self, at: usize, request: &DeskRequest) -> Option<Option<DeskAnswer>> {
        match (self.rogue(at)?.takes, request) {
            (Takes::Well, _) => None,
            (Takes::Nothing, _) => Some(None),
            (_, DeskRequest::Handoff(bytes)) => {
                let package = HandoffPackage::decode(bytes).ok()?.hash();
                let ack = Ack::sign(&self.ledger.genesis.network, &package.0, &self.ledger.pairs[at]);
                Some(Some(DeskAnswer::Done(ack)))
            }
            (_, DeskRequest::HandoffPackage { .. }) => Some(Some(DeskAnswer::Package(None))),
            _ => None,
        }
    }
}
