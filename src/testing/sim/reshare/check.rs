//! What must hold in a run.

use super::world::{Reshare, Vault, Wrong};
use crate::crypto::access::{Commitments, Inputs, KeyShare, Release};
use crate::ledger::handoff::{DEALT, HANDOFFS, care};
use crate::ledger::rows::Sharing;
use crate::message::access::package::commitments_hash;
use crate::types::{Hash, RecordTag, ScopeTag, ShareIndex, SlotId, VaultId, VersionId};

impl Reshare {
    /// An honest node that had a share has it, or the ledger has a newer sharing.
    pub(super) fn check_held(&mut self, at: usize) -> Result<(), Wrong> {
        let member = &self.members[at];
        let view = member.node.store().filter(|_| member.rogue.is_none());
        let Some(view) = view.and_then(|store| store.view().ok()) else { return Ok(()) };
        for vault in &self.vaults {
            let epoch = self.sharing(&vault.id).epoch;
            let known = (vault.id, epoch, at);
            match view.share(&vault.id, (0, epoch)) {
                Ok(Some(held)) => {
                    self.seen.entry(known).or_insert(held.share);
                }
                Ok(None) if self.seen.contains_key(&known) => {
                    let what = format!("node {at} erased its share of epoch {epoch}, which is in effect");
                    return Err(self.wrong(what));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// After a block: who is blamed deserves it, and what came into effect is where it should be.
    pub(super) fn check_ledger(&mut self) -> Result<(), Wrong> {
        let rows = DEALT.scan(&self.ledger.state, &(), None, usize::MAX);
        for (key, dealt) in rows.map_err(|error| self.wrong(error.to_string()))? {
            if !self.is_honest(&dealt.dealer) {
                let package = DEALT.rest(&key).and_then(|rest| rest.try_into().ok()).map(Hash);
                if dealt.excluded && package.is_some_and(|package| self.excluded.insert(package)) {
                    self.summary.excluded += 1;
                }
                continue;
            }
            let members = self.roster_of(&dealt.to);
            let members = members.iter().flat_map(|roster| roster.committee().members()).enumerate();
            let by_honest = members
                .filter(|(_, key)| self.is_honest(key))
                .any(|(nth, _)| ShareIndex::at(nth).is_some_and(|place| dealt.rejected.contains(&place)));
            if dealt.excluded || by_honest {
                return Err(self.wrong(format!("honest node {:?} is blamed", self.at(&dealt.dealer))));
            }
        }
        for nth in 0..self.vaults.len() {
            let (id, known) = (self.vaults[nth].id, self.vaults[nth].epoch);
            let sharing = self.sharing(&id);
            if sharing.epoch > known {
                self.check_switch(&self.vaults[nth], &sharing)?;
                self.vaults[nth].epoch = sharing.epoch;
                self.summary.switches += 1;
            }
            let handing = HANDOFFS.get(&self.ledger.state, &id).map_err(|e| self.wrong(e.to_string()))?;
            self.summary.attempts += u32::from(handing.is_some_and(|row| row.attempt > 0));
        }
        Ok(())
    }

    /// A sharing comes into effect: the honest ones of the quorum have their shares durably.
    fn check_switch(&self, vault: &Vault, sharing: &Sharing) -> Result<(), Wrong> {
        let handing = HANDOFFS.get(&self.ledger.state, &vault.id).map_err(|e| self.wrong(e.to_string()))?;
        let Some(roster) = self.roster_of(&sharing.roster) else { return Ok(()) };
        let (mut kept, mut able) = (0, 0);
        for (nth, key) in roster.committee().members().iter().enumerate() {
            // Who was dealt a bad piece of what counts can never have a share of it.
            let dealers = handing.iter().flat_map(|handing| &handing.dealers);
            let is_victim = dealers.into_iter().any(|dealer| self.victims.contains(&(dealer.package, *key)));
            able += usize::from(self.is_honest(key) && !is_victim);
            // If there is no row, all have taken it.
            let took = handing.as_ref().is_none_or(|handing| {
                let place = ShareIndex::at(nth);
                handing.taken.iter().any(|taken| Some(taken.place) == place)
            });
            let Some(at) = self.at(key).filter(|_| took && self.is_honest(key)) else { continue };
            // Views end with the store.
            let store = self.members[at].node.durable();
            let Some(view) = store.as_ref().and_then(|store| store.view().ok()) else {
                return Err(self.wrong(format!("the disk of node {at} cannot be read")));
            };
            let from = (sharing.dealing, sharing.epoch - 1);
            let has = matches!(view.candidate(&vault.id, from, &sharing.commitments), Ok(Some(_)))
                || matches!(view.has_share(&vault.id, (sharing.dealing, sharing.epoch)), Ok(true));
            if !has {
                let what =
                    format!("node {at} said that it has a share of epoch {}, and has none", sharing.epoch);
                return Err(self.wrong(what));
            }
            kept += 1;
        }
        let committee = roster.committee();
        if kept + committee.f() < committee.quorum() {
            return Err(self.wrong(format!("{kept} honest nodes have what is in effect")));
        }
        if able < committee.threshold() {
            return Err(self.wrong(format!("only {able} honest nodes can have a share of what is in effect")));
        }
        Ok(())
    }

    /// What is not as it should be at the end; none if all is.
    pub(super) fn missing(&self) -> Option<String> {
        let state = care(&self.ledger.state).unwrap_or_else(|error| panic!("{error}"));
        if state.due > 0 || state.former > 0 {
            return Some(format!("{} keys are due still", state.due));
        }
        for vault in &self.vaults {
            let sharing = self.sharing(&vault.id);
            let roster = self.roster();
            for key in roster.committee().members() {
                let Some(at) = self.at(key).filter(|_| self.is_honest(key)) else { continue };
                let view = self.members[at].node.store().and_then(|store| store.view().ok());
                let held = view.and_then(|view| view.has_share(&vault.id, (0, sharing.epoch)).ok());
                if held != Some(true) {
                    let epoch = sharing.epoch;
                    return Some(format!("node {at} has no share of epoch {epoch} of {}", vault.id.short()));
                }
            }
        }
        None
    }

    /// The shares of now give what the owner computes; fewer, or former ones with them, do not.
    pub(super) fn check_end(&mut self) -> Result<(), Wrong> {
        for vault in &self.vaults {
            let sharing = self.sharing(&vault.id);
            let (commitments, shares) = self.held(vault, &sharing)?;
            let slot = SlotId {
                network: self.ledger.genesis.network,
                vault: vault.id,
                dealing: 0,
                scope: ScopeTag([8; 16]),
                generation: 0,
                record: RecordTag([1; 16]),
                version: VersionId([2; 16]),
            };
            let expected = Self::key_seed(vault).prf_key(0).evaluate(&slot);
            let inputs = Inputs::new(&[slot]).ok_or_else(|| self.wrong("inputs".to_owned()))?;
            for first in 0..shares.len() {
                let mut release = Release::new(&inputs, &commitments);
                for share in shares.iter().cycle().skip(first).take(commitments.threshold()) {
                    if release.finish().is_ok() {
                        return Err(self.wrong("fewer than the threshold release".to_owned()));
                    }
                    let added = release.add(share.evaluate(&inputs, &[6; 32]));
                    added.map_err(|error| self.wrong(error.to_string()))?;
                }
                if release.finish().ok().as_deref() != Some(std::slice::from_ref(&expected)) {
                    return Err(self.wrong("the key's answers are others than before".to_owned()));
                }
            }
            let is_old = |(of, epoch, _): &(VaultId, u32, usize)| *of == vault.id && *epoch < sharing.epoch;
            for ((_, epoch, at), old) in self.seen.iter().filter(|(known, _)| is_old(known)) {
                let mut release = Release::new(&inputs, &commitments);
                if release.add(old.evaluate(&inputs, &[6; 32])).is_ok() {
                    return Err(self.wrong(format!("node {at}'s share of epoch {epoch} counts still")));
                }
            }
        }
        Ok(())
    }

    /// What honest nodes have of a sharing; none of them has anything of one before.
    fn held(&self, vault: &Vault, sharing: &Sharing) -> Result<(Commitments, Vec<KeyShare>), Wrong> {
        let (mut shares, mut found) = (Vec::new(), None);
        for (at, member) in self.members.iter().enumerate().filter(|(_, member)| member.rogue.is_none()) {
            let view = member.node.store().and_then(|store| store.view().ok());
            let Some(view) = view else { continue };
            if let Ok(Some(held)) = view.share(&vault.id, (0, sharing.epoch)) {
                if commitments_hash(&held.commitments) != sharing.commitments {
                    return Err(self.wrong(format!("node {at} has commitments of another sharing")));
                }
                found = Some(held.commitments);
                shares.push(held.share);
            }
            let is_gone = |old| matches!(view.has_share(&vault.id, (0, old)), Ok(false));
            if !(0..sharing.epoch).all(is_gone) {
                return Err(self.wrong(format!("node {at} has a share of a former sharing still")));
            }
        }
        let commitments = found.ok_or_else(|| self.wrong("nobody has a share".to_owned()))?;
        Ok((commitments, shares))
    }
}
