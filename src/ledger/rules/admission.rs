//! Who may come in: by a sponsor, or, where the genesis says so, by coming early in an epoch.

use crate::ledger::read::{Overlay, Read};
use crate::ledger::rows::{COUNTERS, SPONSORS, Sponsor, Usage};
use crate::ledger::rules::{Context, Refused, quota};
use crate::message::genesis::Admission;
use crate::message::rejection::Rejection;
use crate::message::sponsorship::Sponsorship;
use crate::types::PublicKey;

/// What comes in.
#[derive(Clone, Copy)]
pub(super) enum Entry {
    Vault,
    Node,
}

/// Takes one entry from the sponsor named, or from those that are free for all; answers the sponsor.
pub(super) fn admit<R: Read>(
    state: &mut Overlay<'_, R>,
    context: &Context,
    entry: Entry,
    sponsorship: Option<&Sponsorship>,
) -> Result<Option<(PublicKey, Sponsor)>, Refused> {
    match (sponsorship, context.settings.admission) {
        (Some(by), _) => take_from_sponsor(state, entry, by.sponsor).map(Some),
        (None, Admission::Sponsored) => Err(Rejection::NotSponsored.into()),
        (None, Admission::Open) => take_free(state, context).map(|()| None),
    }
}

fn take_from_sponsor<R: Read>(
    state: &mut Overlay<'_, R>,
    entry: Entry,
    sponsor: PublicKey,
) -> Result<(PublicKey, Sponsor), Refused> {
    let exhausted = Rejection::SponsorExhausted { sponsor };
    let mut row = SPONSORS.get(state, &sponsor)?.ok_or(exhausted)?;
    let left = match entry {
        Entry::Vault => &mut row.vaults,
        Entry::Node => &mut row.nodes,
    };
    *left = left.checked_sub(1).ok_or(exhausted)?;
    SPONSORS.put(state, &sponsor, &row);
    Ok((sponsor, row))
}

fn take_free<R: Read>(state: &mut Overlay<'_, R>, context: &Context) -> Result<(), Refused> {
    let mut counters = COUNTERS.expect(state, &())?;
    let taken = quota::used(&counters.open, context);
    if taken >= u64::from(context.settings.params.open_entries) {
        return Err(Rejection::AdmissionFull { retry: quota::next_epoch(context) }.into());
    }
    counters.open = Usage { epoch: quota::epoch(context), bytes: taken + 1 };
    COUNTERS.put(state, &(), &counters);
    Ok(())
}
