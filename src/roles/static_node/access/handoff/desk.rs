//! What other static nodes ask of this one while keys are handed on. A package that is wrong is not kept: so a quorum's word that
//! it has a package says that at most as many parts in it are bad as static nodes may be faulty.

use std::collections::BTreeSet;
use std::sync::PoisonError;

use crate::crypto::access::SealKey;
use crate::ledger::handoff::{DEALT, is_due};
use crate::ledger::query;
use crate::ledger::rows::{ACCESS, STATICS};
use crate::message::access::desk::{DeskAnswer, SignedSealKey};
use crate::message::access::handoff::{Complaint, Fault, HandoffKeyOf, PieceKey, SignedHandoffKey};
use crate::message::access::{HandedVault, HandoffPackage};
use crate::message::{Refusal, RefusalCode, Violation};
use crate::roles::static_node::access::{AccessDesk, RETRY_AFTER_MS, Unanswered};
use crate::store::chain::View;
use crate::types::limits::MAX_UNNAMED_HANDOFFS;
use crate::types::{Hash, PublicKey, ShareIndex};

impl AccessDesk {
    /// A key for one package of a dealer.
    pub(in crate::roles::static_node::access) fn handoff_key(
        &self,
        view: &View,
        from: &PublicKey,
        to: Hash,
        nonce: [u8; 16],
    ) -> Result<DeskAnswer, Unanswered> {
        require_static(view, from)?;
        self.require_next(view, &to)?;
        Ok(DeskAnswer::HandoffKey(self.sign_handoff_key(&HandoffKeyOf { dealer: *from, to, nonce })?))
    }

    pub(super) fn sign_handoff_key(&self, of: &HandoffKeyOf) -> Result<SignedHandoffKey, Unanswered> {
        let secrets = self.handoff_secrets(of);
        let (_, key) = secrets.first().ok_or(Violation::OutOfBounds)?;
        Ok(SignedHandoffKey::sign(&self.0.network, of, key.public().clone(), &self.0.key))
    }

    /// This node's place among the members of the roster of now, if it is the one that is meant.
    fn require_next(&self, view: &View, to: &Hash) -> Result<ShareIndex, Unanswered> {
        let roster = query::next_roster(view)?;
        if roster.hash() != *to {
            let what = "the static nodes are others here, or not yet these";
            return Err(Refusal::busy(what, RETRY_AFTER_MS).into());
        }
        let place = roster.committee().position(&self.0.key.public()).and_then(ShareIndex::at);
        place.ok_or_else(|| Violation::NotAMember.into())
    }

    /// Checks a package and keeps it.
    pub(in crate::roles::static_node::access) fn keep_handoff(
        &self,
        view: &View,
        from: &PublicKey,
        bytes: &[u8],
    ) -> Result<DeskAnswer, Unanswered> {
        require_static(view, from)?;
        let package = HandoffPackage::decode_bounded(bytes)?;
        let hash = package.hash();
        let store = self.0.store.view()?;
        if store.handoff(&hash)?.is_some() {
            return Ok(self.ack(&hash.0));
        }
        let place = self.require_next(view, &package.of.to)?;
        self.check_due(view, from, &package)?;
        let PieceKey::Handoff { key, .. } = package.pieces[usize::from(place.get()) - 1].to else {
            let what = "there is no piece for this static node under a key of its own: it answers now";
            return Err(Refusal::busy(what, RETRY_AFTER_MS).into());
        };
        let key = self.find_key(&package.of, &key).ok_or(Violation::WrongShare)?;
        let opened = package.open(place, &key, &self.random()?);
        opened.map_err(|bad| {
            tracing::warn!(dealer = %from.short(), %bad, "what a static node deals to this one is wrong");
            Unanswered::from(Violation::WrongShare)
        })?;
        self.require_room(view, from)?;
        self.0.store.keep_handoff(&hash, from, bytes, self.0.clock.now())?;
        Ok(self.ack(&hash.0))
    }

    fn require_room(&self, view: &View, dealer: &PublicKey) -> Result<(), Unanswered> {
        let mut unnamed = 0;
        for kept in self.0.store.view()?.handoffs()? {
            unnamed += usize::from(kept.dealer == *dealer && !DEALT.contains(view, &kept.hash)?);
        }
        if unnamed < MAX_UNNAMED_HANDOFFS {
            return Ok(());
        }
        let what = "there are as many packages of this static node as are kept before the ledger names them";
        Err(Refusal::new(RefusalCode::Full, what).into())
    }

    /// Checks what everybody can see of a package, against the keys that are due.
    fn check_due(&self, view: &View, dealer: &PublicKey, package: &HandoffPackage) -> Result<(), Unanswered> {
        let roster = query::next_roster(view)?;
        let handed = package.handed();
        let mut failed = None;
        let sharing_of = |handed: &HandedVault| match sharing_of(view, dealer, handed) {
            Ok(found) => found,
            Err(error) => {
                failed = Some(error);
                None
            }
        };
        let members = (&package.of.to, roster.committee());
        let checked = package.check(&self.0.network, dealer, members, sharing_of, &handed);
        if let Some(error) = failed {
            return Err(error);
        }
        match checked {
            Ok(()) => Ok(()),
            // One of the two may be a block behind.
            Err(fault @ Fault::Vault) => Err(Refusal::busy(fault.to_string(), RETRY_AFTER_MS).into()),
            Err(fault) => {
                tracing::warn!(dealer = %dealer.short(), %fault, "a static node deals something wrong");
                Err(Violation::WrongShare.into())
            }
        }
    }

    /// The key of this node that a piece of a package is sealed to.
    pub(super) fn find_key(&self, of: &HandoffKeyOf, wanted: &Hash) -> Option<SealKey> {
        let secrets = self.handoff_secrets(of);
        let is_it = |key: &SealKey| SignedSealKey::hash_of(key.public()) == *wanted;
        secrets.into_iter().map(|(_, key)| key).find(is_it)
    }

    /// A package, for another static node.
    pub(in crate::roles::static_node::access) fn handoff_package(
        &self,
        view: &View,
        from: &PublicKey,
        hash: &Hash,
    ) -> Result<DeskAnswer, Unanswered> {
        require_static(view, from)?;
        Ok(DeskAnswer::Package(self.0.store.view()?.handoff(hash)?))
    }

    /// Looks for itself whether a piece of a package is bad. If it is, this node says so on the ledger.
    pub(in crate::roles::static_node::access) fn complaint(
        &self,
        view: &View,
        complaint: &Complaint,
    ) -> Result<DeskAnswer, Unanswered> {
        if !DEALT.contains(view, &complaint.package)? {
            return Err(Refusal::busy("the ledger names no such package here", RETRY_AFTER_MS).into());
        }
        let Some(bytes) = self.0.store.view()?.handoff(&complaint.package)? else {
            return Err(Refusal::busy("the package is not here yet", RETRY_AFTER_MS).into());
        };
        let package = HandoffPackage::decode_bounded(&bytes)?;
        match package.judge(complaint, &self.random()?) {
            Ok(bad) => {
                let (dealer, place) = (package.of.dealer.short(), complaint.place);
                tracing::warn!(%dealer, %place, %bad, "a static node dealt badly to another");
                self.bad_packages().insert(complaint.package);
                Ok(self.ack(&complaint.package.0))
            }
            Err(void) => {
                tracing::warn!(place = %complaint.place, %void, "a static node complains without cause");
                Err(Refusal::new(RefusalCode::Conflict, void.to_string()).into())
            }
        }
    }

    /// From the store's source of random numbers.
    pub(super) fn random(&self) -> Result<[u8; 32], Unanswered> {
        let mut random = [0; 32];
        self.0.store.draw(&mut random)?;
        Ok(random)
    }

    /// Packages of which a complaint showed that they are bad.
    pub(super) fn bad_packages(&self) -> std::sync::MutexGuard<'_, BTreeSet<Hash>> {
        // A panic under this lock leaves a set as it was.
        self.0.bad_packages.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A dealer's place in the sharing of a vault's key that is due, and the hash of its commitments.
fn sharing_of(
    view: &View,
    dealer: &PublicKey,
    handed: &HandedVault,
) -> Result<Option<(ShareIndex, Hash)>, Unanswered> {
    let Some(sharing) = ACCESS.get(view, &handed.vault)?.map(|access| access.sharing) else {
        return Ok(None);
    };
    let is_it = (sharing.dealing, sharing.epoch) == (handed.dealing, handed.epoch);
    if !is_it || !is_due(view, &handed.vault, &sharing)? {
        return Ok(None);
    }
    let roster = query::roster(view, &sharing.roster)?;
    let place = roster.and_then(|roster| ShareIndex::at(roster.committee().position(dealer)?));
    Ok(place.map(|place| (place, sharing.commitments)))
}

fn require_static(view: &View, key: &PublicKey) -> Result<(), Unanswered> {
    if STATICS.contains(view, key)? { Ok(()) } else { Err(Violation::NotAMember.into()) }
}
