//! Handing vaults' keys on: who dealt, whose dealings are wrong, who took a share; and when all of it is due.
//!
//! Lists of vaults are taken as far as they hold: of hundreds one may have changed meanwhile, by its owner or by others of the
//! same block. A list of which nothing holds is refused.

use crate::ledger::execution::committee_of;
use crate::ledger::handoff::{
    DEALT, Dealer, Dealt, HANDOFFS, Handing, PERIOD, Period, Taken, bits, chosen, is_due,
};
use crate::ledger::query;
use crate::ledger::read::{Overlay, Read, ReadError};
use crate::ledger::rows::{ACCESS, Sharing};
use crate::ledger::rules::{Context, Outcome};
use crate::message::access::{HandOff, HandedVault, TakeShares, TakenShare};
use crate::message::block::Header;
use crate::message::rejection::Rejection;
use crate::types::{Hash, PublicKey, ShareIndex, Timestamp, VaultId};

/// A static node that has shares dealt them to those that decide on this block, and a quorum of these has the package: so it
/// cannot get lost, and no more than may be faulty of them found something wrong with it.
pub(super) fn hand_off<R: Read>(
    state: &mut Overlay<'_, R>,
    context: &Context,
    author: &PublicKey,
    handoff: &HandOff,
) -> Outcome {
    let tip = query::tip(state)?.record;
    if tip.next_roster() != handoff.to {
        return Err(Rejection::RosterMoved.into());
    }
    require_kept(context, handoff)?;
    if DEALT.contains(state, &handoff.package)? {
        return Err(Rejection::HandoffNamed.into());
    }
    let mut uses = 0;
    for handed in &handoff.vaults {
        uses += u32::from(deal(state, author, handoff, handed, tip.time)?);
    }
    if uses == 0 {
        return Err(Rejection::NothingToHandOff.into());
    }
    let (to, height) = (handoff.to, context.height);
    let kept = kept_by(context, handoff);
    let row = Dealt { dealer: *author, to, height, uses, kept, rejected: Vec::new(), excluded: false };
    DEALT.put(state, &handoff.package, &row);
    Ok(())
}

fn require_kept(context: &Context, handoff: &HandOff) -> Result<(), Rejection> {
    let committee = &context.committee;
    if let Some(kept) = handoff.kept.iter().find(|kept| !committee.contains(&kept.member)) {
        return Err(Rejection::NotAMember { key: kept.member });
    }
    // The decoder took them in ascending order only, so they are of distinct members.
    let (have, need) = (handoff.kept.len(), committee.quorum());
    let count = |n: usize| u16::try_from(n).unwrap_or(u16::MAX);
    if have >= need { Ok(()) } else { Err(Rejection::NotKept { have: count(have), need: count(need) }) }
}

/// The places of those who signed that they keep a package.
fn kept_by(context: &Context, handoff: &HandOff) -> u64 {
    let places = handoff.kept.iter().filter_map(|kept| context.committee.position(&kept.member));
    places.filter_map(ShareIndex::at).fold(0, |bits, place| bits | 1 << (place.get() - 1))
}

/// Notes the dealer of one vault. Whether anything was noted.
fn deal<R: Read>(
    state: &mut Overlay<'_, R>,
    author: &PublicKey,
    handoff: &HandOff,
    handed: &HandedVault,
    now: Timestamp,
) -> Result<bool, ReadError> {
    let Some(sharing) = ACCESS.get(state, &handed.vault)?.map(|access| access.sharing) else {
        return Ok(false);
    };
    if (sharing.dealing, sharing.epoch) != (handed.dealing, handed.epoch) {
        return Ok(false);
    }
    let place = committee_of(state, &sharing.roster)?.position(author).and_then(ShareIndex::at);
    let Some(place) = place else { return Ok(false) };
    if !is_due(state, &handed.vault, &sharing)? {
        return Ok(false);
    }
    let Some(mut handing) = under_way(state, &sharing, handoff.to, handed, now)? else { return Ok(false) };
    if handing.dealers.iter().any(|dealer| dealer.place == place) {
        return Ok(false);
    }
    handing.dealers.push(Dealer { place, package: handoff.package });
    HANDOFFS.put(state, &handed.vault, &handing);
    Ok(true)
}

/// The handoff that a dealing is of: the one under way, or a new one in its place if there is none, or if it may be begun anew.
fn under_way<R: Read>(
    state: &mut Overlay<'_, R>,
    sharing: &Sharing,
    to: Hash,
    handed: &HandedVault,
    now: Timestamp,
) -> Result<Option<Handing>, ReadError> {
    let known = HANDOFFS.get(state, &handed.vault)?;
    let is_it =
        |known: &&Handing| !known.switched && known.is_of(handed.dealing, handed.epoch) && known.to == to;
    let attempt = match known.as_ref().filter(is_it) {
        Some(handing) if handing.attempt == handed.attempt => return Ok(Some(handing.clone())),
        Some(handing) if handing.is_stale(now) => handing.attempt.saturating_add(1),
        Some(_) => return Ok(None),
        None => 0,
    };
    if attempt != handed.attempt {
        return Ok(None);
    }
    if let Some(known) = known {
        release(state, &known.dealers)?;
    }
    Ok(Some(Handing {
        dealing: sharing.dealing,
        epoch: sharing.epoch,
        from: sharing.roster,
        to,
        attempt,
        began: now,
        switched: false,
        dealers: Vec::new(),
        taken: Vec::new(),
    }))
}

/// These dealers' packages have one use less each.
fn release<R: Read>(state: &mut Overlay<'_, R>, dealers: &[Dealer]) -> Result<(), ReadError> {
    for Dealer { package, .. } in dealers {
        let Some(mut row) = DEALT.get(state, package)? else { continue };
        row.uses = row.uses.saturating_sub(1);
        if row.uses == 0 {
            DEALT.delete(state, package);
        } else {
            DEALT.put(state, package, &row);
        }
    }
    Ok(())
}

/// Ends the handoff of a vault's key, whatever became of it.
pub(super) fn end<R: Read>(state: &mut Overlay<'_, R>, vault: &VaultId) -> Result<(), ReadError> {
    if let Some(handing) = HANDOFFS.get(state, vault)? {
        release(state, &handing.dealers)?;
        HANDOFFS.delete(state, vault);
    }
    Ok(())
}

/// A new member says that a package is wrong. Once so many say so that one of them is honest, it counts for nothing.
pub(super) fn reject<R: Read>(state: &mut Overlay<'_, R>, author: &PublicKey, package: &Hash) -> Outcome {
    let mut row = DEALT.get(state, package)?.ok_or(Rejection::NoSuchHandoff)?;
    let members = committee_of(state, &row.to)?;
    let place = members.position(author).and_then(ShareIndex::at);
    let place = place.ok_or(Rejection::NotAMember { key: *author })?;
    if row.rejected.contains(&place) {
        return Err(Rejection::AlreadyRejected.into());
    }
    row.rejected.push(place);
    row.excluded = row.rejected.len() >= members.one_honest();
    DEALT.put(state, package, &row);
    Ok(())
}

/// A new member has its shares. The sharing of which a quorum says the same is in effect.
pub(super) fn take<R: Read>(
    state: &mut Overlay<'_, R>,
    context: &Context,
    author: &PublicKey,
    taken: &TakeShares,
) -> Outcome {
    let mut noted = false;
    for share in &taken.shares {
        noted |= take_one(state, context, author, share)?;
    }
    if noted { Ok(()) } else { Err(Rejection::NothingToTake.into()) }
}

fn take_one<R: Read>(
    state: &mut Overlay<'_, R>,
    context: &Context,
    author: &PublicKey,
    share: &TakenShare,
) -> Result<bool, ReadError> {
    let known = HANDOFFS.get(state, &share.vault)?;
    let Some(mut handing) = known.filter(|known| known.is_of(share.dealing, share.epoch)) else {
        return Ok(false);
    };
    let members = committee_of(state, &handing.to)?;
    let Some(place) = members.position(author).and_then(ShareIndex::at) else { return Ok(false) };
    let Some(dealers) = chosen(state, &handing)? else { return Ok(false) };
    let new = Taken { place, dealers: share.dealers, commitments: share.commitments };
    if share.dealers != bits(&dealers) || handing.taken.contains(&new) {
        return Ok(false);
    }
    if handing.switched && handing.taken.iter().all(|taken| taken.commitments != new.commitments) {
        return Ok(false);
    }
    handing.taken.retain(|taken| taken.place != place);
    handing.taken.push(new);
    let same = |taken: &&Taken| (taken.dealers, taken.commitments) == (new.dealers, new.commitments);
    let count = handing.taken.iter().filter(same).count();
    if !handing.switched && count >= members.quorum() {
        switch(state, context, &share.vault, &mut handing, dealers, &new)?;
    }
    HANDOFFS.put(state, &share.vault, &handing);
    if handing.switched && handing.taken.len() == members.n() {
        end(state, &share.vault)?;
    }
    Ok(true)
}

/// From the next block on the new members' shares count, and the old ones' not any more. What is kept of the handoff is for
/// those that have yet to take theirs.
fn switch<R: Read>(
    state: &mut Overlay<'_, R>,
    context: &Context,
    vault: &VaultId,
    handing: &mut Handing,
    dealers: Vec<Dealer>,
    new: &Taken,
) -> Result<(), ReadError> {
    let mut access = ACCESS.expect(state, vault)?;
    access.sharing = Sharing {
        dealing: handing.dealing,
        epoch: handing.epoch.saturating_add(1),
        roster: handing.to,
        commitments: new.commitments,
        package: access.sharing.package,
        height: context.height,
    };
    ACCESS.put(state, vault, &access);
    let is_left = |dealer: &Dealer| !dealers.contains(dealer);
    let others: Vec<_> = handing.dealers.iter().copied().filter(is_left).collect();
    release(state, &others)?;
    handing.taken.retain(|taken| (taken.dealers, taken.commitments) == (new.dealers, new.commitments));
    (handing.switched, handing.dealers) = (true, dealers);
    Ok(())
}

/// The first key is shared: from here on there are periods.
pub(super) fn begin_periods<R: Read>(state: &mut Overlay<'_, R>) -> Result<(), ReadError> {
    if PERIOD.get(state, &())?.is_none() {
        let now = query::tip(state)?.record.time;
        PERIOD.put(state, &(), &Period::first(now));
    }
    Ok(())
}

/// Before all transactions of a block: the next period begins when the last is over.
pub(in crate::ledger) fn turn<R: Read>(
    state: &mut Overlay<'_, R>,
    context: &Context,
    tip: &Header,
) -> Result<(), ReadError> {
    let now = tip.record.time;
    if let Some(period) = PERIOD.get(state, &())?.filter(|period| period.is_over(now)) {
        PERIOD.put(state, &(), &period.next(context.height, now, period.every));
    }
    Ok(())
}

/// The static nodes want all keys shared anew at once.
pub(super) fn refresh<R: Read>(state: &mut Overlay<'_, R>, context: &Context, every: Option<u32>) -> Outcome {
    let now = query::tip(state)?.record.time;
    let period = PERIOD.get(state, &())?.unwrap_or_else(|| Period::first(now));
    let next = period.next(context.height, now, every.unwrap_or(period.every));
    PERIOD.put(state, &(), &next);
    Ok(())
}
