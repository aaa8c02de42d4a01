//! Who proposes after everybody else: whoever let a turn pass. Each such turn costs a round, so a node that is gone would slow
//! down every nth block. It is no fault and has no other consequence: a slow network can do it to anybody.

use crate::ledger::read::{Overlay, Read, ReadError};
use crate::ledger::rows::{Late, TURNS, Turns};
use crate::message::certificate::CommitCertificate;
use crate::types::limits::LATE_PROPOSER_BLOCKS;
use crate::types::{Committee, Height, PublicKey, Round};

/// Notes who let a turn pass before the block of this certificate was decided. `next` is the height of the block that
/// brings the certificate.
pub(in crate::ledger) fn note<R: Read>(
    state: &mut Overlay<'_, R>,
    next: Height,
    committee: &Committee,
    certificate: &CommitCertificate,
) -> Result<(), ReadError> {
    let known = TURNS.get(state, &())?.unwrap_or_default();
    let voted = committee.clone().with_late(keys(&known.before));
    let mut late = known.next.clone();
    let rounds = certificate.round.0.min(u32::try_from(committee.n()).unwrap_or(u32::MAX));
    for round in 0..rounds {
        let key = voted.proposer(certificate.height, Round(round));
        late.retain(|other| other.key != key);
        late.push(Late { key, until: Height(next.0 + LATE_PROPOSER_BLOCKS) });
    }
    late.retain(|late| late.until > next);
    let turns = Turns { before: known.next.clone(), next: late };
    if turns != known {
        TURNS.put(state, &(), &turns);
    }
    Ok(())
}

/// The committee of the next block with the turns of its members.
pub(in crate::ledger) fn in_turn(state: &impl Read, committee: Committee) -> Result<Committee, ReadError> {
    let turns = TURNS.get(state, &())?.unwrap_or_default();
    Ok(committee.with_late(keys(&turns.next)))
}

fn keys(late: &[Late]) -> impl Iterator<Item = PublicKey> {
    late.iter().map(|late| late.key)
}
