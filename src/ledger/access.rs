//! Whether a static node opens what a grantee asks for: the checks of one node, from the finalized state and from what it
//! keeps beside it. Pure: the caller has the clock, the disk and the share.
//!
//! *Deny early, allow late*: a grant counts once it is final, a revocation as soon as this node has seen it on any channel. With
//! 2f + 1 parts needed no set of faulty and stale
//! nodes opens anything once a quorum has acknowledged a revocation; see
//! [`Sharing::threshold`](crate::crypto::access::Sharing::threshold).

use crate::ledger::emergency::Emergency;
use crate::ledger::query;
use crate::ledger::read::{Read, ReadError};
use crate::ledger::recovery;
use crate::ledger::rows::{ACCESS, BATCH_NUMBERS, EMERGENCIES, GRANTS, Sharing};
use crate::message::access::denial::Denial;
use crate::message::access::open::{OpenItem, OpenRequest, SignedOpenRequest};
use crate::message::access::{EmergencyPolicy, Grant, Rights};
use crate::types::limits::{MAX_EMERGENCY_REQUESTS, OPEN_LEASE_MICROS, OPEN_WINDOW_MICROS};
use crate::types::{GrantId, RecordTag, ScopeTag, Timestamp, TransactionId, VaultId, VersionId};

/// What was opened in an emergency at one node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct EmergencyUse {
    /// Records.
    pub records: u32,
    /// Requests that were answered, those for lists among them.
    pub requests: u32,
}

/// What a node knows beside the state.
pub trait Facts {
    /// Why the node cannot tell.
    type Error: From<ReadError>;

    /// Whether a revocation was seen, final or not.
    ///
    /// # Errors
    /// As the store says.
    fn is_revocation_seen(&self, vault: &VaultId, grant: &GrantId) -> Result<bool, Self::Error>;

    /// Whether a request with this nonce was answered.
    ///
    /// # Errors
    /// As the store says.
    fn is_answered(&self, grant: &GrantId, nonce: &[u8; 16]) -> Result<bool, Self::Error>;

    /// Records that a grant opened in the day of a time.
    ///
    /// # Errors
    /// As the store says.
    fn opened(&self, grant: &GrantId, now: Timestamp) -> Result<u32, Self::Error>;

    /// Whether a veto of an emergency was seen, final or not.
    ///
    /// # Errors
    /// As the store says.
    fn is_veto_seen(&self, vault: &VaultId, request: &TransactionId) -> Result<bool, Self::Error>;

    /// What was opened in an emergency.
    ///
    /// # Errors
    /// As the store says.
    fn opened_in(&self, vault: &VaultId, request: &TransactionId) -> Result<EmergencyUse, Self::Error>;

    /// Whether there is a keyslot of this version.
    ///
    /// # Errors
    /// As the store says.
    fn has_slot(
        &self,
        vault: &VaultId,
        record: &RecordTag,
        version: &VersionId,
        scope: &ScopeTag,
        generation: u32,
    ) -> Result<bool, Self::Error>;

    /// Whether the batch of a number, which is final, lists something in a scope.
    ///
    /// # Errors
    /// As the store says.
    fn has_list(
        &self,
        vault: &VaultId,
        batch: u64,
        scope: &ScopeTag,
        generation: u32,
    ) -> Result<bool, Self::Error>;
}

/// What was decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// Open all of it.
    Open {
        /// By which sharing of the key.
        sharing: Sharing,
        /// How many records that are.
        records: u32,
    },
    /// Open nothing.
    Deny {
        /// Why.
        denial: Denial,
        /// Whether it is known whose request it is: then it is logged.
        is_known: bool,
    },
}

const fn deny(denial: Denial, is_known: bool) -> Decision {
    Decision::Deny { denial, is_known }
}

/// Decides on a request. `now` is the node's clock; `is_booting` is whether it has yet to learn how high the ledger is.
///
/// # Errors
/// Of the state or the store: then nothing is opened.
pub fn decide<F: Facts>(
    state: &impl Read,
    facts: &F,
    now: Timestamp,
    is_booting: bool,
    signed: &SignedOpenRequest,
) -> Result<Decision, F::Error> {
    let request = signed.request();
    let tip = query::tip(state)?.record;
    if is_booting || now.since(tip.time).as_micros() > u128::from(OPEN_LEASE_MICROS) {
        return Ok(deny(Denial::NotServing, false));
    }
    if request.network != tip.network {
        return Ok(deny(Denial::OtherNetwork, false));
    }
    let distance = now.since(request.time).max(request.time.since(now));
    if distance.as_micros() > u128::from(OPEN_WINDOW_MICROS) {
        return Ok(deny(Denial::WrongClock, false));
    }
    let Some(row) = GRANTS.get(state, &(request.vault, request.grant))? else {
        return Ok(deny(Denial::NoSuchGrant, false));
    };
    let emergency = emergency_of(state, &row.grant, request)?;
    // In an emergency the clinician who asked for it opens, and not whoever else has the card.
    let signer = emergency.as_ref().map_or(row.grant.grantee, |found| found.emergency.requester.key);
    if signed.verify(&signer).is_err() {
        return Ok(deny(Denial::NotTheGrantee, false));
    }
    // From here on it is known whose request it is.
    if recovery::is_outdated(state, &row)? {
        return Ok(deny(Denial::Rotated, true));
    }
    if facts.is_answered(&request.grant, &request.nonce)? {
        return Ok(deny(Denial::Replayed, true));
    }
    let sharing = ACCESS.get(state, &request.vault)?.map(|access| access.sharing);
    let is_current = |sharing: &Sharing| (sharing.dealing, sharing.epoch) == (request.dealing, request.epoch);
    let Some(sharing) = sharing.filter(is_current) else { return Ok(deny(Denial::OtherSharing, true)) };
    if query::is_vault_erased(state, &request.vault)? {
        return Ok(deny(Denial::Erased, true));
    }
    if row.revoked.is_some() || facts.is_revocation_seen(&request.vault, &request.grant)? {
        return Ok(deny(Denial::Revoked, true));
    }
    if tip.time < row.grant.not_before {
        return Ok(deny(Denial::NotYet, true));
    }
    if now.max(tip.time) >= row.grant.expires {
        return Ok(deny(Denial::Expired, true));
    }
    if row.grant.emergency.is_none() && request.emergency.is_some() {
        return Ok(deny(Denial::NotGranted, true));
    }
    if row.grant.emergency.is_some()
        && let Some(denial) = judge_emergency(facts, now, tip.time, &request.vault, emergency.as_ref())?
    {
        return Ok(deny(denial, true));
    }
    let mut records = 0_u32;
    for item in &request.items {
        if let Some(denial) = judge(state, facts, &row.grant, item)? {
            return Ok(deny(denial, true));
        }
        records += u32::from(matches!(item, OpenItem::Record { .. }));
    }
    let opened = if row.grant.quota.is_some() { facts.opened(&request.grant, now)? } else { 0 };
    if row.grant.quota.is_some_and(|quota| opened.saturating_add(records) > quota) {
        return Ok(deny(Denial::OverQuota, true));
    }
    if let Some(found) = &emergency {
        let before = facts.opened_in(&request.vault, &found.id)?;
        let is_used_up = before.records.saturating_add(records) > found.policy.quota
            || before.requests >= MAX_EMERGENCY_REQUESTS;
        if is_used_up {
            return Ok(deny(Denial::OverEmergencyQuota, true));
        }
    }
    Ok(Decision::Open { sharing, records })
}

/// The emergency that a request names.
struct Named<'a> {
    id: TransactionId,
    emergency: Emergency,
    policy: &'a EmergencyPolicy,
}

/// The emergency that a request names, if the grant is for emergencies and the vault has this one of it.
fn emergency_of<'a>(
    state: &impl Read,
    grant: &'a Grant,
    request: &OpenRequest,
) -> Result<Option<Named<'a>>, ReadError> {
    let (Some(policy), Some(id)) = (&grant.emergency, request.emergency) else { return Ok(None) };
    let found = EMERGENCIES.get(state, &(grant.vault, id))?.filter(|found| found.grant == grant.grant);
    Ok(found.map(|emergency| Named { id, emergency, policy }))
}

/// Why nothing is opened of an emergency grant, if nothing is.
fn judge_emergency<F: Facts>(
    facts: &F,
    now: Timestamp,
    ledger: Timestamp,
    vault: &VaultId,
    named: Option<&Named<'_>>,
) -> Result<Option<Denial>, F::Error> {
    let Some(named) = named else { return Ok(Some(Denial::NotActivated)) };
    if facts.is_veto_seen(vault, &named.id)? {
        return Ok(Some(Denial::Vetoed));
    }
    Ok(named.emergency.denial(ledger, now))
}

/// Why one item is not opened, if it is not. What a grant does not cover is not told to be there or not.
fn judge<F: Facts>(
    state: &impl Read,
    facts: &F,
    grant: &Grant,
    item: &OpenItem,
) -> Result<Option<Denial>, F::Error> {
    let vault = &grant.vault;
    Ok(match item {
        OpenItem::Record { record, version, scope, generation } => {
            if !grant.covers(Rights::READ, scope, *generation) {
                Some(Denial::NotGranted)
            } else if !query::open_scopes(state, vault, record, version)?.include(scope) {
                Some(Denial::Erased)
            } else {
                let there = facts.has_slot(vault, record, version, scope, *generation)?;
                (!there).then_some(Denial::NoSuchEntry)
            }
        }
        OpenItem::List { batch, scope, generation } => {
            if !grant.covers(Rights::LIST, scope, *generation) {
                Some(Denial::NotGranted)
            } else {
                let there = match BATCH_NUMBERS.get(state, &(*vault, *batch))? {
                    Some(number) => facts.has_list(vault, number, scope, *generation)?,
                    None => false,
                };
                (!there).then_some(Denial::NoSuchEntry)
            }
        }
    })
}
