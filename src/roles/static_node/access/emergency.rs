//! Emergencies at the desk: vetoes that count at once, and openings that go onto the ledger.

use super::{AccessDesk, RETRY_AFTER_MS, Unanswered};
use crate::ledger::access::Facts as _;
use crate::ledger::emergency::{active, has_said_all, may_veto};
use crate::ledger::rows::{EMERGENCIES, EMERGENCY_OPENINGS};
use crate::message::access::desk::DeskAnswer;
use crate::message::access::{EmergencyOpening, Grant};
use crate::message::{Action, Refusal, RefusalCode, SignedTransaction, Violation};
use crate::store::access::AccessStoreError;
use crate::store::chain::View;
use crate::types::Timestamp;

/// Openings that are put on the ledger at a time.
const SAID_AT_ONCE: usize = 16;

impl AccessDesk {
    /// A veto counts as soon as it is durable here, whatever becomes of its transaction.
    pub(super) fn veto(&self, view: &View, bytes: &[u8]) -> Result<DeskAnswer, Unanswered> {
        let signed = SignedTransaction::decode(bytes)?;
        signed.verify(&self.0.network)?;
        let Action::EmergencyVeto { vault, request } = &signed.transaction().action else {
            return Err(Violation::OutOfBounds.into());
        };
        let Some(row) = EMERGENCIES.get(view, &(*vault, *request))? else {
            let what = "the ledger has no such emergency here yet";
            return Err(Refusal::busy(what, RETRY_AFTER_MS).into());
        };
        if !may_veto(view, vault, &row.grant, &signed.transaction().author)? {
            let what = "only the vault's owner, and whom the grant names for that, may veto";
            return Err(Refusal::new(RefusalCode::NotAdmitted, what).into());
        }
        let _nothing_is_opened_meanwhile = self.deciding();
        self.0.store.note_veto(vault, request, bytes)?;
        Ok(self.ack(&signed.id().0))
    }

    /// Whether there is an emergency in which the grant opens.
    pub(super) fn is_emergency(
        &self,
        view: &View,
        grant: &Grant,
        clock: Timestamp,
    ) -> Result<bool, Unanswered> {
        let store = self.0.store.view()?;
        for request in active(view, &grant.vault, &grant.grant, clock)? {
            if !store.is_veto_seen(&grant.vault, &request)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Openings that the ledger does not have yet; those that it has, or will never take, are forgotten.
    pub(super) fn openings_to_say(&self) -> Result<Vec<EmergencyOpening>, Unanswered> {
        let view = self.0.chain.view()?;
        let (mut to_say, mut said) = (Vec::new(), Vec::new());
        for opening in self.0.store.view()?.unsaid(SAID_AT_ONCE)? {
            let is_known = EMERGENCY_OPENINGS.get(&view, &(opening.request, opening.open))?.is_some();
            let is_kept = EMERGENCIES.get(&view, &(opening.vault, opening.request))?.is_some();
            let is_over = has_said_all(&view, &opening.request, &self.0.key.public())?;
            if is_known || !is_kept || is_over { said.push(opening) } else { to_say.push(opening) }
        }
        self.0.store.said(&said)?;
        Ok(to_say)
    }

    /// Forgets what was kept of emergencies that the ledger has no more.
    pub(super) fn forget_emergencies(&self) -> Result<(), Unanswered> {
        let view = self.0.chain.view()?;
        self.0.store.forget_emergencies(|vault, request| {
            let row = EMERGENCIES.get(&view, &(*vault, *request)).map_err(AccessStoreError::Ledger)?;
            Ok(row.is_some())
        })?;
        Ok(())
    }
}
