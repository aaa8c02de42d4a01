//! Quotas: how many bytes of ledger a payer may use in an epoch.

use crate::ledger::rows::Usage;
use crate::ledger::rules::Context;
use crate::message::rejection::Rejection;
use crate::types::Height;

/// Adds to what was used; nothing is left over from one epoch to the next.
pub(super) fn charge(usage: &mut Usage, context: &Context, limit: u64, bytes: u64) -> Result<(), Rejection> {
    let bytes = used(usage, context).saturating_add(bytes);
    if bytes > limit {
        return Err(Rejection::OverQuota { limit, retry: next_epoch(context) });
    }
    *usage = Usage { epoch: epoch(context), bytes };
    Ok(())
}

/// Bytes used of this epoch.
pub(super) fn used(usage: &Usage, context: &Context) -> u64 {
    if usage.epoch == epoch(context) { usage.bytes } else { 0 }
}

pub(super) fn epoch(context: &Context) -> u64 {
    context.height.0 / u64::from(context.settings.params.epoch)
}

/// The first height of the next epoch.
pub(super) fn next_epoch(context: &Context) -> Height {
    Height((epoch(context) + 1) * u64::from(context.settings.params.epoch))
}
