//! Taking this node's shares from what others dealt: fetch, check, complain about what is bad, put together, keep, and only then
//! say so on the ledger.

use std::collections::{BTreeMap, BTreeSet};

use super::{DISPUTE, HandingOn, OPENED_KEPT, SETTLE, Said, others};
use crate::crypto::access::{Commitments, KeyShare};
use crate::ledger::handoff::{DEALT, Dealer, Dealt, Handing, bits, chosen, take};
use crate::ledger::query;
use crate::ledger::rows::{ACCESS, GRANTS, VAULTS};
use crate::message::access::desk::{DeskAnswer, DeskRequest, SignedSealKey};
use crate::message::access::handoff::{Complaint, PieceKey};
use crate::message::access::package::commitments_hash;
use crate::message::access::{HandedVault, HandoffPackage, TakeShares, TakenShare};
use crate::message::{Action, Roster, SignedTransaction};
use crate::roles::static_node::access::{AccessDesk, Unanswered};
use crate::store::chain::View;
use crate::types::limits::MAX_HANDOFF_VAULTS;
use crate::types::{Hash, PublicKey, ShareIndex, VaultId};

use tokio::time::Instant;

/// A package with this node's parts.
pub(super) struct Opened {
    package: HandoffPackage,
    /// None if there are none for it, or none that open.
    parts: Option<Vec<KeyShare>>,
}

/// What a node has of a dealing that it found something wrong with.
enum Wrong {
    /// Everybody sees it.
    Plain,
    /// The others see it by this.
    Shown(Complaint),
}

/// A vault's handoff that this node takes part in.
struct Work {
    vault: VaultId,
    handing: Handing,
    dealers: Vec<Dealer>,
}

/// A share that is ready to be kept.
type Ready = (VaultId, (u32, u32), KeyShare, Commitments);

impl HandingOn {
    /// Takes this node's shares of what was handed to it.
    pub(super) async fn take_handed(&mut self, handings: Vec<(VaultId, Handing)>) -> Result<(), Unanswered> {
        let own = self.desk.0.key.public();
        let mut work = Vec::new();
        for (vault, handing) in handings {
            work.extend(self.due_of(vault, handing, &own)?);
        }
        // Vaults of the same packages side by side.
        work.sort_by_key(|work| work.dealers.iter().map(|dealer| dealer.package).collect::<Vec<_>>());
        for some in work.chunks(MAX_HANDOFF_VAULTS) {
            self.take_some(some, &own).await?;
        }
        Ok(())
    }

    /// What is to be taken of one vault, if anything is. Its packages are looked at at once, so that what is bad is shown in time;
    /// what they give is taken when that has settled.
    fn due_of(
        &mut self,
        vault: VaultId,
        handing: Handing,
        own: &PublicKey,
    ) -> Result<Option<Work>, Unanswered> {
        let view = self.desk.0.chain.view()?;
        let Some(place) = place_in(&view, &handing.to, own)? else { return Ok(None) };
        let Some(dealers) = chosen(&view, &handing)? else { return Ok(None) };
        let which = bits(&dealers);
        let said = Said::Taken(vault, handing.dealing, handing.epoch, which);
        let is_taken = handing.taken.iter().any(|taken| taken.place == place && taken.dealers == which);
        if is_taken || self.said.contains_key(&said) {
            return Ok(None);
        }
        if self.settling.get(&vault).is_none_or(|(known, _)| *known != which) {
            self.settling.insert(vault, (which, Instant::now()));
        }
        for Dealer { package, .. } in &dealers {
            if DEALT.get(&view, package)?.is_some_and(|dealt| !dealt.rejected.is_empty()) {
                self.disputed.entry(*package).or_insert_with(Instant::now);
            }
        }
        Ok(Some(Work { vault, handing, dealers }))
    }

    async fn take_some(&mut self, some: &[Work], own: &PublicKey) -> Result<(), Unanswered> {
        let packages: BTreeSet<Hash> =
            some.iter().flat_map(|work| work.dealers.iter().map(|dealer| dealer.package)).collect();
        for hash in &packages {
            self.open(*hash, own).await?;
        }
        let mut ready = Vec::new();
        let mut taken = Vec::new();
        for work in some {
            if !self.is_settled(work) {
                continue;
            }
            if let Some((share, found)) = self.put_together(work, own)? {
                let said = Said::Taken(work.vault, found.dealing, found.epoch, found.dealers);
                if self.is_news(said) {
                    ready.push(share);
                    taken.push(found);
                }
            }
        }
        if taken.is_empty() {
            return Ok(());
        }
        taken.sort_unstable();
        let desk = self.desk.clone();
        self.blocking(move || {
            // If we crash after this it is put together again, which gives the same.
            desk.0.store.keep_candidates(&ready)?;
            desk.settle_candidates(&ready)
        })
        .await?;
        self.say(Action::TakeShares(TakeShares { shares: taken })).await
    }

    fn is_settled(&self, work: &Work) -> bool {
        if work.handing.switched {
            return true;
        }
        let settled = self.settling.get(&work.vault).is_some_and(|(_, since)| since.elapsed() >= SETTLE);
        let is_fine = |dealer: &Dealer| {
            self.disputed.get(&dealer.package).is_none_or(|since| since.elapsed() >= DISPUTE)
        };
        settled && work.dealers.iter().all(is_fine)
    }

    /// This node's share of one vault, and what it says of it.
    fn put_together(&self, work: &Work, own: &PublicKey) -> Result<Option<(Ready, TakenShare)>, Unanswered> {
        let Work { vault, handing, dealers } = work;
        let view = self.desk.0.chain.view()?;
        let Some(roster) = query::roster(&view, &handing.to)? else { return Ok(None) };
        if !roster.committee().contains(own) {
            return Ok(None);
        }
        let handed = handing.handed(*vault);
        let mut parts = Vec::with_capacity(dealers.len());
        for dealer in dealers {
            let Some(opened) = self.opened.get(&dealer.package) else { return Ok(None) };
            let Some((at, _)) = opened.package.vault(&handed) else { return Ok(None) };
            let Some(part) = opened.parts.as_ref().and_then(|parts| parts.get(at)) else { return Ok(None) };
            parts.push((dealer.place, &opened.package, part));
        }
        let took = match take(&handed, roster.committee(), &parts) {
            Ok(took) => took,
            Err(error) => {
                tracing::error!(vault = %vault.short(), %error, "dealings that were checked do not add up");
                return Ok(None);
            }
        };
        let commitments = commitments_hash(&took.commitments);
        if handing.switched {
            let now = ACCESS.get(&view, vault)?.map(|access| access.sharing.commitments);
            if now != Some(commitments) {
                return Ok(None);
            }
        }
        let (dealing, epoch) = (handing.dealing, handing.epoch);
        let said = TakenShare { vault: *vault, dealing, epoch, dealers: bits(dealers), commitments };
        Ok(Some(((*vault, (dealing, epoch), took.share, took.commitments), said)))
    }

    /// Has a package here, checked and opened; says so if it is wrong.
    async fn open(&mut self, hash: Hash, own: &PublicKey) -> Result<(), Unanswered> {
        if self.opened.contains_key(&hash) {
            return Ok(());
        }
        if self.opened.len() >= OPENED_KEPT {
            self.opened.clear();
        }
        let view = self.desk.0.chain.view()?;
        let Some(dealt) = DEALT.get(&view, &hash)? else { return Ok(()) };
        let Some(bytes) = self.fetch_handoff(&view, hash, &dealt, own).await? else { return Ok(()) };
        let (desk, of) = (self.desk.clone(), dealt.clone());
        let opened =
            self.blocking(move || desk.open_handoff(&desk.0.chain.view()?, hash, &of, &bytes)).await?;
        match opened {
            Ok(opened) => drop(self.opened.insert(hash, opened)),
            Err(Wrong::Plain) => self.reject(hash).await?,
            Err(Wrong::Shown(complaint)) => {
                let Some(roster) = query::roster(&view, &dealt.to)? else { return Ok(()) };
                self.call(&[&roster]);
                self.say_to_all(others(&roster, own), &DeskRequest::Complaint(complaint)).await;
                self.reject(hash).await?;
            }
        }
        Ok(())
    }

    /// A package that the ledger names, from here or from whoever has it.
    async fn fetch_handoff(
        &self,
        view: &View,
        hash: Hash,
        dealt: &Dealt,
        own: &PublicKey,
    ) -> Result<Option<Vec<u8>>, Unanswered> {
        if let Some(bytes) = self.desk.0.store.view()?.handoff(&hash)? {
            return Ok(Some(bytes));
        }
        let Some(roster) = query::roster(view, &dealt.to)? else { return Ok(None) };
        self.call(&[&roster]);
        for (_, answer) in self.say_to_all(others(&roster, own), &DeskRequest::HandoffPackage { hash }).await
        {
            let DeskAnswer::Package(Some(bytes)) = answer else { continue };
            let is_it = HandoffPackage::decode_bounded(&bytes).is_ok_and(|package| package.hash() == hash);
            if is_it {
                let (desk, dealer, copy) = (self.desk.clone(), dealt.dealer, bytes.clone());
                let keep =
                    move || Ok(desk.0.store.keep_handoff(&hash, &dealer, &copy, desk.0.clock.now())?);
                self.blocking(keep).await?;
                return Ok(Some(bytes));
            }
        }
        Ok(None)
    }

    async fn reject(&mut self, package: Hash) -> Result<(), Unanswered> {
        if self.is_news(Said::Rejected(package)) {
            self.say(Action::RejectHandoff { package }).await?;
        }
        Ok(())
    }

    /// Rejects what others showed to be bad.
    pub(super) async fn say_rejected(&mut self) -> Result<(), Unanswered> {
        let bad: Vec<Hash> = self.desk.bad_packages().iter().copied().collect();
        let (own, view) = (self.desk.0.key.public(), self.desk.0.chain.view()?);
        for package in bad {
            let done = match DEALT.get(&view, &package)? {
                None => true,
                Some(dealt) => {
                    let place = place_in(&view, &dealt.to, &own)?;
                    place.is_none_or(|place| dealt.rejected.contains(&place))
                }
            };
            if done {
                self.desk.bad_packages().remove(&package);
            } else {
                self.reject(package).await?;
            }
        }
        Ok(())
    }
}

fn place_in(view: &View, roster: &Hash, key: &PublicKey) -> Result<Option<ShareIndex>, Unanswered> {
    let roster = query::roster(view, roster)?;
    Ok(roster.and_then(|roster| ShareIndex::at(roster.committee().position(key)?)))
}

impl AccessDesk {
    /// What is in effect already counts at once; what comes into effect later, with its block. By then the owner's dealing should
    /// be here, if there is no other way to know what the log is sealed to.
    fn settle_candidates(&self, ready: &[Ready]) -> Result<(), Unanswered> {
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
    fn open_handoff(
        &self,
        view: &View,
        hash: Hash,
        dealt: &Dealt,
        bytes: &[u8],
    ) -> Result<Result<Opened, Wrong>, Unanswered> {
        let Ok(package) = HandoffPackage::decode_bounded(bytes) else { return Ok(Err(Wrong::Plain)) };
        let Some(roster) = query::roster(view, &dealt.to)? else { return Ok(Err(Wrong::Plain)) };
        if let Err(fault) = self.check_named(view, hash, dealt, &package, &roster)? {
            tracing::warn!(dealer = %dealt.dealer.short(), fault, "what a static node dealt is wrong");
            return Ok(Err(Wrong::Plain));
        }
        self.note_revocations(view, &package)?;
        let place = roster.committee().position(&self.0.key.public()).and_then(ShareIndex::at);
        let Some(place) = place else { return Ok(Ok(Opened { package, parts: None })) };
        let piece = &package.pieces[usize::from(place.get()) - 1].to;
        let random = super::super::open::random::<32>()?;
        let parts = match *piece {
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
                let Some((secret, key)) = secrets.into_iter().next() else {
                    return Ok(Ok(Opened { package, parts: None }));
                };
                match package.open(place, &key, &random) {
                    Ok(parts) => Some(parts),
                    Err(bad) => {
                        tracing::warn!(dealer = %dealt.dealer.short(), %bad, "a static node dealt badly to this one");
                        return Ok(Err(Wrong::Shown(Complaint { package: hash, place, secret: *secret })));
                    }
                }
            }
        };
        Ok(Ok(Opened { package, parts }))
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
