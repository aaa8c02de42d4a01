//! Which keys are due, and whose dealings count.

use crate::crypto::hash::{Context, derive_key};
use crate::ledger::execution::committee_of;
use crate::ledger::handoff::{DEALT, Dealer, HANDOFFS, Handing, PERIOD, Period};
use crate::ledger::query;
use crate::ledger::read::{Read, ReadError};
use crate::ledger::rows::{ACCESS, Sharing};
use crate::message::access::{Care, HandedVault};
use crate::types::{Hash, PublicKey, ShareIndex, VaultId};

/// Places of dealers in one number: bit n stands for place n + 1.
#[must_use]
pub fn bits(dealers: &[Dealer]) -> u64 {
    dealers.iter().fold(0, |bits, dealer| bits | 1 << (dealer.place.get() - 1))
}

/// The mark that all sharings of before are due by: it changes when static nodes should renew the keys that they have.
///
/// # Errors
/// [`ReadError`], as for all here.
pub fn period(state: &impl Read) -> Result<Option<Period>, ReadError> {
    PERIOD.get(state, &())
}

/// Whether a vault's key is to be handed to the static nodes of now.
///
/// # Errors
/// [`ReadError`].
pub fn is_due(state: &impl Read, vault: &VaultId, sharing: &Sharing) -> Result<bool, ReadError> {
    if query::is_vault_erased(state, vault)? {
        return Ok(false);
    }
    if query::tip(state)?.record.next_roster() != sharing.roster {
        return Ok(true);
    }
    if period(state)?.is_some_and(|period| sharing.height < period.since) {
        return Ok(true);
    }
    // It is in effect already, and one of its dealings was bad: some members have no share.
    let handing = HANDOFFS.get(state, vault)?.filter(|handing| handing.switched);
    for dealer in handing.iter().flat_map(|handing| &handing.dealers) {
        if is_excluded(state, &dealer.package)? {
            return Ok(true);
        }
    }
    Ok(false)
}

fn is_excluded(state: &impl Read, package: &Hash) -> Result<bool, ReadError> {
    Ok(DEALT.get(state, package)?.is_some_and(|dealt| dealt.excluded))
}

/// The dealers whose dealings make the next sharing, in the order of their places: the first that are as many as the threshold
/// of the sharing so far, without those that are excluded; none while there are too few.
///
/// In later attempts as many as may be faulty come last, others each time: a dealer that spoils the handoff so that nobody can
/// show it to others is left out sooner or later.
///
/// # Errors
/// [`ReadError`].
pub fn chosen(state: &impl Read, handing: &Handing) -> Result<Option<Vec<Dealer>>, ReadError> {
    let committee = committee_of(state, &handing.from)?;
    let mut good = Vec::with_capacity(handing.dealers.len());
    for dealer in &handing.dealers {
        if handing.switched || !is_excluded(state, &dealer.package)? {
            good.push(*dealer);
        }
    }
    let late = late(handing, committee.n(), committee.f());
    // In the order of the ledger otherwise: the sort is stable.
    good.sort_by_key(|dealer| late.contains(&dealer.place));
    if good.len() < committee.threshold() {
        return Ok(None);
    }
    good.truncate(committee.threshold());
    good.sort_by_key(|dealer| dealer.place);
    Ok(Some(good))
}

/// The places whose turn comes last in this attempt.
fn late(handing: &Handing, members: usize, faulty: usize) -> Vec<ShareIndex> {
    if handing.attempt == 0 {
        return Vec::new();
    }
    let turn = |place: &ShareIndex| {
        let mut turn = [0; 8];
        let parts = [&handing.attempt.to_le_bytes()[..], &handing.from.0, &[place.get()]];
        derive_key(Context::HandoffTurn, &parts, &mut turn);
        turn
    };
    let mut places: Vec<_> = (0..members).filter_map(ShareIndex::at).collect();
    places.sort_by_cached_key(turn);
    places.truncate(faulty);
    places
}

/// A vault's key as one of those who have its shares is to hand it on now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Duty {
    /// What is to be dealt.
    pub handed: HandedVault,
    /// The sharing.
    pub sharing: Sharing,
}

/// What this static node has to deal of a vault's key, if anything: it has a share, the key is due, and the node has not dealt yet.
///
/// # Errors
/// [`ReadError`].
pub fn duty(state: &impl Read, vault: &VaultId, own: &PublicKey) -> Result<Option<Duty>, ReadError> {
    let Some(sharing) = ACCESS.get(state, vault)?.map(|access| access.sharing) else { return Ok(None) };
    let place = committee_of(state, &sharing.roster)?.position(own).and_then(ShareIndex::at);
    let Some(place) = place else { return Ok(None) };
    if !is_due(state, vault, &sharing)? {
        return Ok(None);
    }
    let tip = query::tip(state)?.record;
    let is_it = |handing: &Handing| {
        !handing.switched && handing.is_of(sharing.dealing, sharing.epoch) && handing.to == tip.next_roster()
    };
    let attempt = match HANDOFFS.get(state, vault)?.filter(is_it) {
        None => 0,
        Some(handing) if handing.is_stale(tip.time) => handing.attempt.saturating_add(1),
        Some(handing) if handing.dealers.iter().any(|dealer| dealer.place == place) => return Ok(None),
        Some(handing) => handing.attempt,
    };
    let handed = HandedVault { vault: *vault, dealing: sharing.dealing, epoch: sharing.epoch, attempt };
    Ok(Some(Duty { handed, sharing }))
}

/// How many vaults' keys are where they should be; what a node has of them itself is not on the ledger.
///
/// # Errors
/// [`ReadError`].
pub fn care(state: &impl Read) -> Result<Care, ReadError> {
    let mut care = Care::default();
    let roster = query::tip(state)?.record.next_roster();
    for (vault, access) in vaults(state)? {
        care.vaults += 1;
        care.former += u64::from(access != roster);
        let sharing = ACCESS.expect(state, &vault)?.sharing;
        care.due += u64::from(is_due(state, &vault, &sharing)?);
    }
    Ok(care)
}

/// All vaults whose key is shared, and the rosters that have the shares.
///
/// # Errors
/// [`ReadError`].
pub fn vaults(state: &impl Read) -> Result<Vec<(VaultId, Hash)>, ReadError> {
    let rows = ACCESS.scan(state, &(), None, usize::MAX)?;
    let vault = |key: &[u8]| ACCESS.rest(key).and_then(VaultId::from_slice);
    Ok(rows.into_iter().filter_map(|(key, row)| Some((vault(&key)?, row.sharing.roster))).collect())
}

/// The handoffs that are on the ledger.
///
/// # Errors
/// [`ReadError`].
pub fn handings(state: &impl Read) -> Result<Vec<(VaultId, Handing)>, ReadError> {
    let rows = HANDOFFS.scan(state, &(), None, usize::MAX)?;
    let vault = |key: &[u8]| HANDOFFS.rest(key).and_then(VaultId::from_slice);
    Ok(rows.into_iter().filter_map(|(key, row)| Some((vault(&key)?, row))).collect())
}
