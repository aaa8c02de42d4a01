//! Deposits: what a grant to append lets into a vault, and how its owner is done with it.

use crate::ledger::read::{Overlay, Read};
use crate::ledger::recovery;
use crate::ledger::rows::{ACCESS, DEPOSITS, DepositRow, GRANTS, SEGMENTS, VAULTS};
use crate::ledger::rules::access::shared;
use crate::ledger::rules::anchor::place;
use crate::ledger::rules::erasure::require_alive;
use crate::ledger::rules::{Context, Outcome, require_owner};
use crate::message::access::{Deposit, SettleDeposits};
use crate::message::rejection::Rejection;
use crate::types::limits::{MAX_GRANT_DEPOSITS, MAX_VAULT_DEPOSITS};
use crate::types::{CollectionTag, PublicKey, TransactionId};

/// Segments come into the vault, and wait there in no collection.
pub(super) fn deposit<R: Read>(
    state: &mut Overlay<'_, R>,
    context: &Context,
    author: &PublicKey,
    id: TransactionId,
    deposit: &Deposit,
) -> Outcome {
    require_alive(state, &deposit.vault)?;
    let key = (deposit.vault, deposit.grant);
    let mut row = GRANTS.get(state, &key)?.ok_or(Rejection::NoSuchGrant)?;
    if row.grant.grantee != *author {
        return Err(Rejection::NotTheGrantee.into());
    }
    let limit = row.grant.append_bytes.ok_or(Rejection::NoRightToAppend)?;
    let stands = row.revoked.is_none() && row.grant.is_in_time(context.time);
    if !stands || recovery::is_outdated(state, &row)? {
        return Err(Rejection::GrantNotInForce.into());
    }
    row.brought = row.brought.saturating_add(deposit.bytes());
    if row.brought > limit {
        return Err(Rejection::OverAppendBytes { limit }.into());
    }
    let mut access = shared(state, &deposit.vault)?;
    if access.deposits >= MAX_VAULT_DEPOSITS || row.deposits >= MAX_GRANT_DEPOSITS {
        return Err(Rejection::TooManyDeposits.into());
    }
    let brings = |pack| deposit.segments.iter().any(|segment| segment.segment == pack);
    if let Some(pack) = deposit.pack.as_ref().filter(|pack| !brings(pack.segment)) {
        return Err(Rejection::NoSuchSegment { segment: pack.segment }.into());
    }
    let mut vault = VAULTS.expect(state, &deposit.vault)?;
    for added in &deposit.segments {
        let segment = added.segment;
        if SEGMENTS.contains(state, &(deposit.vault, segment))? {
            return Err(Rejection::SegmentExists { segment }.into());
        }
        place(state, context, &mut vault, &deposit.vault, CollectionTag::INBOX, added)?;
    }
    access.deposits += 1;
    row.deposits += 1;
    let waiting = DepositRow {
        grant: deposit.grant,
        height: context.height,
        time: context.time,
        pack: deposit.pack.clone(),
        segments: deposit.segments.iter().map(|segment| segment.segment).collect(),
    };
    DEPOSITS.put(state, &(deposit.vault, id), &waiting);
    ACCESS.put(state, &deposit.vault, &access);
    GRANTS.put(state, &key, &row);
    VAULTS.put(state, &deposit.vault, &vault);
    Ok(())
}

/// The deposits wait no more, and those of their segments that no collection took are released.
pub(super) fn settle<R: Read>(
    state: &mut Overlay<'_, R>,
    author: &PublicKey,
    settled: &SettleDeposits,
) -> Outcome {
    let mut vault = require_owner(state, author, &settled.vault)?;
    let mut access = shared(state, &settled.vault)?;
    for deposit in &settled.deposits {
        let key = (settled.vault, *deposit);
        let row = DEPOSITS.get(state, &key)?.ok_or(Rejection::NoSuchDeposit)?;
        for segment in &row.segments {
            let at = (settled.vault, *segment);
            let waits = SEGMENTS.get(state, &at)?.filter(|found| found.collection == CollectionTag::INBOX);
            let Some(waiting) = waits else { continue };
            vault.segments -= 1;
            vault.bytes -= waiting.len;
            SEGMENTS.delete(state, &at);
        }
        access.deposits -= 1;
        let of = (settled.vault, row.grant);
        let mut grant = GRANTS.expect(state, &of)?;
        grant.deposits -= 1;
        GRANTS.put(state, &of, &grant);
        DEPOSITS.delete(state, &key);
    }
    ACCESS.put(state, &settled.vault, &access);
    VAULTS.put(state, &settled.vault, &vault);
    Ok(())
}
