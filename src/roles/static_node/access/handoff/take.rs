//! What a taker does with its disk and its secrets: open pieces, and note what came with them.

use std::collections::BTreeMap;

use crate::ledger::handoff::machine::{Found, Opened, Ready};
use crate::ledger::handoff::{DEALT, Dealt, place_in};
use crate::ledger::query;
use crate::ledger::rows::{ACCESS, GRANTS, VAULTS};
use crate::message::access::desk::SignedSealKey;
use crate::message::access::handoff::{Complaint, PieceKey};
use crate::message::access::{HandedVault, HandoffPackage};
use crate::message::{Action, Roster, SignedTransaction};
use crate::roles::static_node::access::{AccessDesk, Unanswered};
use crate::store::chain::View;
use crate::types::{Hash, ShareIndex};

impl AccessDesk {
    /// Packages that others showed to be bad and that this node has to reject; those that it did are forgotten.
    pub(super) fn bad_to_reject(&self, view: &View) -> Result<Vec<Hash>, Unanswered> {
        let (own, mut bad) = (self.0.key.public(), Vec::new());
        // The lock is not held meanwhile.
        let known: Vec<Hash> = self.bad_packages().iter().copied().collect();
        for package in known {
            let done = match DEALT.get(view, &package)? {
                None => true,
                Some(dealt) => {
                    let place = place_in(view, &dealt.to, &own)?;
                    place.is_none_or(|place| dealt.rejected.contains(&place))
                }
            };
            if done {
                self.bad_packages().remove(&package);
            } else {
                bad.push(package);
            }
        }
        Ok(bad)
    }

    /// What is in effect already counts at once; what comes into effect later, with its block. By then the owner's dealing should
    /// be here, if there is no other way to know what the log is sealed to.
    pub(super) fn settle_candidates(&self, ready: &[Ready]) -> Result<(), Unanswered> {
        let view = self.0.chain.view()?;
        for (vault, ..) in ready {
            let Some(sharing) = ACCESS.get(&view, vault)?.map(|access| access.sharing) else { continue };
            let is_known = self.audit_key(&self.0.store.view()?, vault, &sharing)?.is_some();
            if !is_known || !self.take_share(&view, vault)? {
                self.wants().insert(*vault);
            }
        }
        Ok(())
    }

    /// Checks a package that the ledger names, and opens this node's parts.
    pub(super) fn open_handoff(&self, view: &View, hash: Hash, dealt: &Dealt) -> Result<Found, Unanswered> {
        let Some(bytes) = self.0.store.view()?.handoff(&hash)? else { return Ok(Found::Missing) };
        let Ok(package) = HandoffPackage::decode_bounded(&bytes) else { return Ok(Found::Wrong) };
        let Some(roster) = query::roster(view, &dealt.to)? else { return Ok(Found::Wrong) };
        if let Err(fault) = self.check_named(view, hash, dealt, &package, &roster)? {
            tracing::warn!(dealer = %dealt.dealer.short(), fault, "what a static node dealt is wrong");
            return Ok(Found::Wrong);
        }
        self.note_revocations(view, &package)?;
        let place = roster.committee().position(&self.0.key.public()).and_then(ShareIndex::at);
        match place {
            Some(place) => self.open_piece(hash, dealt, package, place),
            None => Ok(Found::Good(Box::new(Opened { package, parts: None }))),
        }
    }

    fn open_piece(
        &self,
        hash: Hash,
        dealt: &Dealt,
        package: HandoffPackage,
        place: ShareIndex,
    ) -> Result<Found, Unanswered> {
        let random = self.random()?;
        let parts = match package.pieces[usize::from(place.get()) - 1].to {
            PieceKey::Nothing => None,
            PieceKey::Seal(wanted) => {
                let keys = self.own_keys();
                let is_it = |key: &&crate::store::access::HeldSealKey| {
                    SignedSealKey::hash_of(key.key.public()) == wanted
                };
                keys.iter().find(is_it).and_then(|held| package.open(place, &held.key, &random).ok())
            }
            PieceKey::Handoff { key: wanted, .. } => {
                let mut secrets = self.handoff_secrets(&package.of);
                secrets.retain(|(_, key)| SignedSealKey::hash_of(key.public()) == wanted);
                match secrets.first().map(|(secret, key)| (secret, package.open(place, key, &random))) {
                    None => None,
                    Some((_, Ok(parts))) => Some(parts),
                    Some((secret, Err(bad))) => {
                        tracing::warn!(dealer = %dealt.dealer.short(), %bad, "a static node dealt badly to this one");
                        let secret = **secret;
                        return Ok(Found::BadPiece(Complaint { package: hash, place, secret }));
                    }
                }
            }
        };
        Ok(Found::Good(Box::new(Opened { package, parts })))
    }

    /// Checks a package against all handoffs that name it. Of one that is in effect the sum tells, which the ledger has.
    fn check_named(
        &self,
        view: &View,
        hash: Hash,
        dealt: &Dealt,
        package: &HandoffPackage,
        roster: &Roster,
    ) -> Result<Result<(), String>, Unanswered> {
        let mut named: BTreeMap<HandedVault, (ShareIndex, Hash)> = BTreeMap::new();
        for (vault, handing) in crate::ledger::handoff::handings(view)? {
            let dealer = handing.dealers.iter().find(|dealer| dealer.package == hash);
            let Some(dealer) = dealer.filter(|_| !handing.switched) else { continue };
            let Some(access) = ACCESS.get(view, &vault)? else { continue };
            named.insert(handing.handed(vault), (dealer.place, access.sharing.commitments));
        }
        let members = (&dealt.to, roster.committee());
        let sharing_of = |handed: &HandedVault| named.get(handed).copied();
        let checked = package.check(&self.0.network, &dealt.dealer, members, sharing_of, named.keys());
        Ok(checked.map_err(|fault| fault.to_string()))
    }

    /// From here on nothing is opened for grants that a dealer saw revoked.
    fn note_revocations(&self, view: &View, package: &HandoffPackage) -> Result<(), Unanswered> {
        use crate::ledger::access::Facts as _;
        for bytes in &package.revocations {
            let Ok(signed) = SignedTransaction::decode(bytes) else { continue };
            let Action::Revoke { vault, grant } = &signed.transaction().action else { continue };
            let owner = VAULTS.get(view, vault)?.map(|row| row.owner);
            let is_owners = owner == Some(signed.transaction().author);
            if !is_owners || signed.verify(&self.0.network).is_err() {
                continue;
            }
            let is_final = GRANTS.get(view, &(*vault, *grant))?.is_none_or(|row| row.revoked.is_some());
            if !is_final && !self.0.store.view()?.is_revocation_seen(vault, grant)? {
                let _nothing_is_opened_meanwhile = self.deciding();
                self.0.store.note_revocation(vault, grant, bytes)?;
            }
        }
        Ok(())
    }
}
