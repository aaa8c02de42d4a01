//! Erasure of many versions at once, its certificates, and withdrawal: what leaves the scopes that others were let into and stays
//! its owner's.

use crate::ledger::query;
use crate::ledger::read::{Overlay, Read};
use crate::ledger::rows::{
    ACCESS, Access, DEPOSITS, ERASED, ERASURES, GRANTS, GrantRow, SEGMENTS, VAULTS, WITHDRAWN,
};
use crate::ledger::rules::{Context, Outcome, require_owner};
use crate::message::access::{Erasure, ErasureClaim, TaggedVersion};
use crate::message::rejection::Rejection;
use crate::types::limits::MAX_LAST_SEGMENTS;
use crate::types::{PublicKey, ScopeTag, VaultId};

fn require_shared(state: &impl Read, vault: &VaultId) -> Outcome {
    if ACCESS.contains(state, vault)? { Ok(()) } else { Err(Rejection::NotShared.into()) }
}

/// Versions that were erased before stay so; the erasure is refused only if it was carried out as a whole.
pub(super) fn erase<R: Read>(
    state: &mut Overlay<'_, R>,
    context: &Context,
    author: &PublicKey,
    erasure: &Erasure,
) -> Outcome {
    let vault = erasure.vault;
    require_owner(state, author, &vault)?;
    require_shared(state, &vault)?;
    let key = (vault, erasure.hash());
    if ERASURES.contains(state, &key)? {
        return Err(Rejection::AlreadyErased.into());
    }
    if erasure.is_of_vault() {
        free_segments(state, &vault)?;
    }
    ERASURES.put(state, &key, &context.height);
    for TaggedVersion { record, version } in &erasure.versions {
        let key = (vault, (*record, *version));
        if !ERASED.contains(state, &key)? {
            ERASED.put(state, &key, &context.height);
        }
    }
    Ok(())
}

/// Drops the descriptors that are left in a vault: whoever follows frees what they are of.
fn free_segments<R: Read>(state: &mut Overlay<'_, R>, vault: &VaultId) -> Outcome {
    let mut row = VAULTS.expect(state, vault)?;
    if row.segments > MAX_LAST_SEGMENTS {
        return Err(Rejection::SegmentsLeft { have: row.segments }.into());
    }
    for (segment, _) in query::segments(state, vault, None, usize::MAX)? {
        SEGMENTS.delete(state, &(*vault, segment));
    }
    (row.segments, row.bytes) = (0, 0);
    VAULTS.put(state, vault, &row);
    // With what waited in deposits they are over too.
    for (deposit, row) in query::deposits(state, vault, None, usize::MAX)? {
        DEPOSITS.delete(state, &(*vault, deposit));
        let of = (*vault, row.grant);
        let grant = GRANTS.expect(state, &of)?;
        GRANTS.put(state, &of, &GrantRow { deposits: 0, ..grant });
    }
    if let Some(access) = ACCESS.get(state, vault)? {
        ACCESS.put(state, vault, &Access { deposits: 0, ..access });
    }
    Ok(())
}

/// Refuses what would come into a vault that was erased.
pub(super) fn require_alive(state: &impl Read, vault: &VaultId) -> Outcome {
    if query::is_vault_erased(state, vault)? { Err(Rejection::VaultErased.into()) } else { Ok(()) }
}

/// For good, as an erasure is: a version that is to be in a scope again is put again.
pub(super) fn withdraw<R: Read>(
    state: &mut Overlay<'_, R>,
    author: &PublicKey,
    vault: &VaultId,
    version: TaggedVersion,
    keep: ScopeTag,
) -> Outcome {
    require_owner(state, author, vault)?;
    require_shared(state, vault)?;
    let key = (*vault, (version.record, version.version));
    if ERASED.contains(state, &key)? {
        return Err(Rejection::AlreadyErased.into());
    }
    if WITHDRAWN.contains(state, &key)? {
        return Err(Rejection::AlreadyWithdrawn.into());
    }
    WITHDRAWN.put(state, &key, &keep);
    Ok(())
}

/// Changes nothing: that it is on the ledger says that the ledger has carried out what it is of.
pub(super) fn certify<R: Read>(state: &Overlay<'_, R>, author: &PublicKey, claim: &ErasureClaim) -> Outcome {
    require_owner(state, author, &claim.vault)?;
    for carried_out in &claim.erasures {
        if ERASURES.get(state, &(claim.vault, carried_out.erasure))? != Some(carried_out.height) {
            return Err(Rejection::NoSuchErasure.into());
        }
    }
    Ok(())
}
