//! A static node answers: it is there again, or has mended what it was warned of.

use crate::ledger::read::{Overlay, Read};
use crate::ledger::rows::{Fault, STATICS, Standing, Static};
use crate::ledger::rules::governance::probation_end;
use crate::ledger::rules::voters::bring_in;
use crate::ledger::rules::{Context, Outcome};
use crate::message::rejection::Rejection;
use crate::types::PublicKey;

/// A warning becomes probation. Who was blacklisted for absence alone may also come back by its own
/// word: a crash, however long, is no crime. All else takes governance.
pub(super) fn correct<R: Read>(state: &mut Overlay<'_, R>, context: &Context, author: &PublicKey) -> Outcome {
    let row = STATICS.get(state, author)?.ok_or(Rejection::NotAMember { key: *author })?;
    let (Standing::Warned { .. } | Standing::Blacklisted { fault: Fault::Absence, .. }) = row.standing else {
        return Err(Rejection::NothingToCorrect.into());
    };
    let row = Static { standing: Standing::OnProbation { until: probation_end(context) }, ..row };
    if row.votes {
        STATICS.put(state, author, &row);
        return Ok(());
    }
    bring_in(state, context, row)
}
