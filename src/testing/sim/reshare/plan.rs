//! How a run begins, what is changed in it, what goes wrong, and when it is over.

use std::time::Duration;

use super::rogue::{Deals, Rogue, Takes};
use super::world::{Control, Member, Reshare, What, Wrong};
use crate::crypto::access::{Dealing, Purpose, Sharing};
use crate::crypto::sign::KeyPair;
use crate::ledger::rows::COUNTERS;
use crate::message::access::desk::{DeskAnswer, DeskRequest, SignedSealKey};
use crate::message::access::package::SealedShare;
use crate::message::access::{DealingPackage, DepositKind};
use crate::message::{Action, Canonical as _, Change, Governance};
use crate::testing::sim::desks::ledger::member;
use crate::testing::sim::desks::node::Node;
use crate::types::{Committee, PublicKey, ShareIndex, VaultId};

/// After the calm begins all keys are where they should be within so long.
const PATIENCE: Duration = Duration::from_secs(25 * 60);
/// With a bug that is put in there is nothing to wait for.
const BUG_PATIENCE: Duration = Duration::from_secs(3 * 60);

/// Who comes in stays for so long.
const NEWCOMER: Duration = Duration::from_secs(30);

impl Reshare {
    /// The vaults' keys are dealt to the first static nodes, all of which are well.
    pub(super) fn begin(&mut self) {
        for at in 0..self.members.len() {
            let (ledger, rng) = (&self.ledger, &mut self.rng);
            assert!(self.members[at].node.start(ledger, rng), "a new node starts");
        }
        self.pass_to(self.now + Duration::from_secs(1));
        for nth in 0..self.vaults.len() {
            let vault = self.vaults[nth].id;
            self.owner_says(Action::CreateVault { vault, sponsor: None });
            let package = self.dealing(nth);
            for member in &self.members {
                let (kind, bytes) = (DepositKind::Dealing, package.encode());
                let kept =
                    member.node.answer(&self.owner.public(), DeskRequest::Deposit { vault, kind, bytes });
                assert!(matches!(kept, Some(Ok(DeskAnswer::Done(_)))), "{kept:?}");
            }
            self.owner_says(Action::ShareKey(package.sharing(self.ledger.genesis.roster.hash())));
        }
        self.choose_rogues();
        for at in 0..self.members.len() {
            self.set_up(at).unwrap_or_else(|wrong| panic!("{wrong}"));
        }
        self.after(Duration::from_secs(1), What::Block);
        self.after(Duration::from_secs(2), What::Trouble);
        self.after(Duration::from_secs(3), What::Change);
    }

    fn owner_says(&mut self, action: Action) {
        let signed = self.ledger.sign(&self.owner, action);
        let refused = self.ledger.decide(&[signed], self.now);
        assert!(refused.is_empty(), "{refused:?}");
        let height = self.ledger.height();
        for member in &mut self.members {
            member.node.take_blocks(&self.ledger, height);
        }
    }

    fn dealing(&self, nth: usize) -> DealingPackage {
        let access = Self::key_seed(&self.vaults[nth]);
        let committee = self.ledger.genesis.roster.committee();
        let Dealing { commitments, shares } = access.prf_key(0).deal(Sharing::among(committee), &[5; 32]);
        let sealed = shares.iter().zip(&self.members).enumerate().map(|(at, (share, member))| {
            let Some(Ok(DeskAnswer::SealKey(key))) =
                member.node.answer(&self.owner.public(), DeskRequest::SealKey)
            else {
                panic!("a node that is up has a key");
            };
            let place = ShareIndex::at(at).unwrap_or_else(|| panic!("a place"));
            let context = DealingPackage::share_context(&commitments, place);
            let sealed = key.key.seal(Purpose::Share, &context, &*share.to_bytes(), &[9; 64]);
            SealedShare { to: SignedSealKey::hash_of(&key.key), sealed }
        });
        DealingPackage {
            network: self.ledger.genesis.network,
            vault: self.vaults[nth].id,
            dealing: 0,
            inbox: access.inbox().public().clone(),
            audit: access.audit().public().clone(),
            shares: sealed.collect(),
            commitments,
        }
    }

    fn choose_rogues(&mut self) {
        let most = self.ledger.genesis.roster.committee().f();
        let count = if self.rng.chance(700) { most } else { 0 };
        for _ in 0..count {
            let at = self.rng.index(self.members.len());
            let deals = [Deals::Well, Deals::Nothing, Deals::AnotherShare, Deals::BadPieces, Deals::TwoFaces];
            let deals = if self.rng.chance(500) { Deals::BadPieces } else { *self.rng.pick(&deals) };
            let takes = *self.rng.pick(&[Takes::Well, Takes::Nothing, Takes::Complains, Takes::Miscounts]);
            self.members[at].rogue = Some(Rogue::new(deals, takes));
        }
    }

    /// A node learns the keys to which what is for the others is sealed: of those it knows none of, and from time to time of all.
    pub(super) fn learn_keys(&mut self, at: usize) {
        let (own, anew, roster) = (self.key_of(at), self.rng.chance(20), self.roster());
        let Some(store) = self.members[at].node.store() else { return };
        let known = store.view().and_then(|view| view.peer_keys()).unwrap_or_default();
        for key in roster.committee().members().iter().filter(|key| **key != own) {
            if !anew && known.iter().any(|(node, _)| node == key) {
                continue;
            }
            let other = self.at(key).map(|at| &self.members[at].node).filter(|node| !node.is_cut);
            let answer = other.and_then(|node| node.answer(&own, DeskRequest::SealKey));
            if let Some(Ok(DeskAnswer::SealKey(signed))) = answer {
                drop(store.keep_peer_key(key, &signed));
            }
        }
    }

    /// One of the static nodes' changes.
    pub(super) fn change(&mut self) {
        if self.changes_left == 0 {
            return;
        }
        let pause = Duration::from_secs(10 + self.rng.below(50));
        self.after(pause, What::Change);
        let roster = self.roster();
        let members = roster.committee().members().to_vec();
        let old = *self.rng.pick(&members);
        let at = self.ledger.pairs.len();
        let nth = u8::try_from(50 + at).unwrap_or(u8::MAX);
        let new = KeyPair::from_secret(&[nth; 32]);
        let entry = member(&new, nth);
        let mut after = members.clone();
        let change = match self.rng.below(10) {
            0..=4 => {
                after.retain(|key| *key != old);
                after.push(new.public());
                Change::ReplaceStatic { old, new: entry }
            }
            5..=6 if members.len() < 8 => {
                after.push(new.public());
                Change::AddStatic(entry)
            }
            7..=8 if members.len() > 4 => {
                after.retain(|key| *key != old);
                Change::RemoveStatic(old)
            }
            _ => Change::RefreshShares { every: None },
        };
        let Ok(next) = Committee::new(after) else { return };
        if !self.bears(&next, None) {
            return;
        }
        let newcomer = change.newcomer().is_some();
        let row = COUNTERS.expect(&self.ledger.state, &()).unwrap_or_else(|error| panic!("{error}"));
        let (network, quorum) = (self.ledger.genesis.network, roster.committee().quorum());
        let mut governance = Governance::new(row.sequence, change);
        for key in &members[..quorum] {
            let at = self.at(key).unwrap_or_else(|| panic!("a member"));
            governance.approve(&network, &self.ledger.pairs[at]);
        }
        if newcomer {
            governance.possess(&network, &new);
            self.ledger.pairs.push(new);
            let mut node = Node::new(at);
            node.set_time(self.now.unix_micros());
            assert!(node.start(&self.ledger, &mut self.rng), "a new node starts");
            self.members.push(Member::new(node, self.now));
        }
        self.owner_governs(Action::Govern(governance));
        self.summary.changes += 1;
        self.changes_left -= 1;
        if newcomer {
            self.after(Duration::from_millis(1), What::Start { at });
        }
    }

    fn owner_governs(&mut self, action: Action) {
        let signed = self.ledger.sign(&self.owner, action);
        let refused = self.ledger.decide(&[signed], self.now);
        assert!(refused.is_empty(), "{refused:?}");
        self.spread();
    }

    /// The last block goes to everybody.
    fn spread(&mut self) {
        for to in 0..self.members.len() {
            let delay = self.delay();
            self.after(delay, What::Blocks { to });
        }
    }

    /// Whether these bear all who are faulty or away, and one more.
    fn bears(&self, committee: &Committee, more: Option<usize>) -> bool {
        let is_wrong = |key: &&PublicKey| {
            let at = self.at(key);
            at.is_some_and(|at| {
                Some(at) == more || self.members[at].rogue.is_some() || self.members[at].is_away
            })
        };
        committee.members().iter().filter(is_wrong).count() <= committee.f()
    }

    fn all_bear(&self, more: usize) -> bool {
        // Nobody knows a key of who has just come: what is dealt then is not for it if it does not answer.
        if self.now.since(self.members[more].since) < NEWCOMER {
            return false;
        }
        let shared = self.vaults.iter().filter_map(|vault| self.roster_of(&self.sharing(&vault.id).roster));
        shared.chain([self.roster()]).all(|roster| self.bears(roster.committee(), Some(more)))
    }

    /// A block of what was said: of each author at most one transaction.
    pub(super) fn block(&mut self) -> Result<(), Wrong> {
        let (mut authors, mut later, mut now) = (Vec::new(), Vec::new(), Vec::new());
        for (by, action) in std::mem::take(&mut self.pool) {
            if authors.contains(&by) {
                later.push((by, action));
            } else {
                authors.push(by);
                now.push(self.ledger.sign(&self.ledger.pairs[by], action));
            }
        }
        self.pool = later;
        self.ledger.decide(&now, self.now);
        self.check_ledger()?;
        self.spread();
        let pause = Duration::from_millis(700 + self.rng.below(2_000));
        self.after(pause, What::Block);
        Ok(())
    }

    /// Something goes wrong.
    pub(super) fn trouble(&mut self) {
        if !self.is_wild() {
            return;
        }
        let pause = Duration::from_secs(1 + self.rng.below(6));
        self.after(pause, What::Trouble);
        let at = self.rng.index(self.members.len());
        match self.rng.below(10) {
            0..=2 => {
                let away = Duration::from_millis(20 + self.rng.below(1_500));
                self.crash(at, away);
            }
            3..=4 if self.all_bear(at) => {
                let away = Duration::from_secs(5 + self.rng.below(60));
                self.members[at].is_away = true;
                self.summary.absences += 1;
                self.crash(at, away);
            }
            5..=6 if self.all_bear(at) => {
                (self.members[at].is_away, self.members[at].node.is_cut) = (true, true);
                self.summary.absences += 1;
                let away = Duration::from_secs(5 + self.rng.below(60));
                self.after(away, What::Back { at });
            }
            _ => {}
        }
    }

    pub(super) fn sharing(&self, vault: &VaultId) -> crate::ledger::rows::Sharing {
        let row = crate::ledger::rows::ACCESS.expect(&self.ledger.state, vault);
        row.unwrap_or_else(|error| panic!("{error}")).sharing
    }

    /// Whether all is done: or it should have been long ago.
    pub(super) fn is_over(&self) -> Result<bool, Wrong> {
        if self.is_wild() || self.changes_left > 0 && self.now < self.calm + Duration::from_secs(120) {
            return Ok(false);
        }
        let patience = if self.control == Control::None { PATIENCE } else { BUG_PATIENCE };
        match self.missing() {
            None => Ok(true),
            Some(missing) if self.now > self.calm + patience => Err(self.wrong(missing)),
            Some(_) => Ok(false),
        }
    }
}
