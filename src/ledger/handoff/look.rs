//! What a static node sees of handoffs when it looks at the ledger: what it is to deal, and what it is to take.

use std::collections::BTreeMap;

use crate::crypto::hash::{Context, derive_key};
use crate::ledger::handoff::{
    DEALT, Dealer, Dealt, Duty, Handing, care, chosen, duty, handings, period, vaults,
};
use crate::ledger::query;
use crate::ledger::read::{Read, ReadError};
use crate::ledger::rows::ACCESS;
use crate::message::Roster;
use crate::message::access::Care;
use crate::types::{Hash, PublicKey, ShareIndex, VaultId};

/// See the module. All of it is of one state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Look {
    /// As [`mark`].
    pub mark: Hash,
    /// The static nodes of now: who is dealt to.
    pub roster: Roster,
    /// What this node is to deal.
    pub duties: Vec<Duty>,
    /// What it is to take.
    pub work: Vec<Work>,
    /// Packages of which that is to be taken.
    pub packages: BTreeMap<Hash, Dealt>,
    /// Rosters to whose members they are dealt.
    pub rosters: BTreeMap<Hash, Roster>,
    /// Whether any handoff is on the ledger.
    pub is_under_way: bool,
    /// How the keys are.
    pub care: Care,
}

/// A vault's handoff of which a node has not said that it took its share.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Work {
    /// The vault.
    pub vault: VaultId,
    /// The handoff.
    pub handing: Handing,
    /// Whose dealings count.
    pub dealers: Vec<Dealer>,
    /// The commitments of the sharing that is in effect.
    pub now: Hash,
}

/// What changes with the static nodes and the period.
///
/// # Errors
/// [`ReadError`], as for all here.
pub fn mark(state: &impl Read) -> Result<Hash, ReadError> {
    let roster = query::tip(state)?.record.next_roster();
    let number = period(state)?.map_or(0, |period| period.number);
    let mut mark = Hash([0; 32]);
    derive_key(Context::Committee, &[b"care", &roster.0, &number.to_le_bytes()], &mut mark.0);
    Ok(mark)
}

/// A node's place among the members of a roster; none if it has none.
///
/// # Errors
/// [`ReadError`].
pub fn place_in(state: &impl Read, roster: &Hash, key: &PublicKey) -> Result<Option<ShareIndex>, ReadError> {
    let roster = query::roster(state, roster)?;
    Ok(roster.and_then(|roster| ShareIndex::at(roster.committee().position(key)?)))
}

/// Looks. `has_share` tells whether the node has its share of a sharing, by the key's number and the epoch.
///
/// # Errors
/// As `has_share`, and for the ledger.
pub fn look<E: From<ReadError>>(
    state: &impl Read,
    own: &PublicKey,
    has_share: impl Fn(&VaultId, (u32, u32)) -> Result<bool, E>,
) -> Result<Look, E> {
    let mut look = Look {
        mark: mark(state)?,
        roster: query::next_roster(state)?,
        duties: Vec::new(),
        work: Vec::new(),
        packages: BTreeMap::new(),
        rosters: BTreeMap::new(),
        is_under_way: false,
        care: care(state)?,
    };
    for (vault, roster) in vaults(state)? {
        let Some(sharing) = ACCESS.get(state, &vault)?.map(|access| access.sharing) else { continue };
        if has_share(&vault, (sharing.dealing, sharing.epoch))? {
            look.duties.extend(duty(state, &vault, own)?);
        } else {
            look.care.without += u64::from(place_in(state, &roster, own)?.is_some());
        }
    }
    for (vault, handing) in handings(state)? {
        look.is_under_way = true;
        look.add_work(state, own, vault, handing)?;
    }
    Ok(look)
}

impl Look {
    /// Notes what is to be taken of one vault, if anything is.
    fn add_work(
        &mut self,
        state: &impl Read,
        own: &PublicKey,
        vault: VaultId,
        handing: Handing,
    ) -> Result<(), ReadError> {
        let Some(place) = place_in(state, &handing.to, own)? else { return Ok(()) };
        let Some(dealers) = chosen(state, &handing)? else { return Ok(()) };
        let which = super::bits(&dealers);
        if handing.taken.iter().any(|taken| taken.place == place && taken.dealers == which) {
            return Ok(());
        }
        for Dealer { package, .. } in &dealers {
            if let Some(dealt) = DEALT.get(state, package)? {
                self.packages.insert(*package, dealt);
            }
        }
        if !self.rosters.contains_key(&handing.to)
            && let Some(roster) = query::roster(state, &handing.to)?
        {
            self.rosters.insert(handing.to, roster);
        }
        let now = ACCESS.get(state, &vault)?.map_or(Hash([0; 32]), |access| access.sharing.commitments);
        self.work.push(Work { vault, handing, dealers, now });
        Ok(())
    }
}
