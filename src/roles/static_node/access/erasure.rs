//! What an owner asks of its own: keyslots of shreddable versions, and the signed word that those of erased ones are gone.

use super::{AccessDesk, RETRY_AFTER_MS, Unanswered, require_owner};
use crate::ledger::query::{self, OpenScopes};
use crate::message::Refusal;
use crate::message::access::desk::DeskAnswer;
use crate::message::access::own_slots::{OwnSlot, OwnSlots};
use crate::message::access::{DeletionReceipt, Erasure, TaggedVersion};
use crate::store::access::Erased;
use crate::store::chain::View;
use crate::types::PublicKey;

impl AccessDesk {
    /// Gives the owner's keyslots to the owner: they open under the owner's keys alone.
    pub(super) fn own_slots(
        &self,
        view: &View,
        from: &PublicKey,
        asked: &OwnSlots,
    ) -> Result<DeskAnswer, Unanswered> {
        let OwnSlots { vault, scope, generation, versions } = asked;
        require_owner(view, from, vault)?;
        let store = self.0.store.view()?;
        let mut found = Vec::with_capacity(versions.len());
        for TaggedVersion { record, version } in versions {
            if query::open_scopes(view, vault, record, version)? == OpenScopes::None {
                found.push(OwnSlot::Erased);
                continue;
            }
            let slot = store.slot(vault, record, version, scope, *generation)?;
            found.push(slot.map_or(OwnSlot::Missing, |(_, slot)| OwnSlot::Here(Box::new(slot))));
        }
        Ok(DeskAnswer::OwnSlots(found))
    }

    /// Signs that nothing of an erasure is left here, once that is so. Until then the key of what is at rest is renewed as
    /// soon as may be.
    pub(super) fn deletion_receipt(
        &self,
        view: &View,
        from: &PublicKey,
        erasure: &Erasure,
    ) -> Result<DeskAnswer, Unanswered> {
        require_owner(view, from, &erasure.vault)?;
        let hash = erasure.hash();
        let busy = |what: &str| Err(Refusal::busy(what, RETRY_AFTER_MS).into());
        if query::erasure(view, &erasure.vault, &hash)?.is_none() {
            return busy("the ledger has no such erasure here yet");
        }
        match self.0.store.view()?.erased(erasure)? {
            Erased::NotYet => busy("the keyslots are not deleted here yet"),
            Erased::KeyInUse => {
                self.0.renewal.notify_one();
                busy("the key under which the keyslots were is being replaced")
            }
            Erased::Gone => {
                let (network, vault, now) = (&self.0.network, &erasure.vault, self.0.clock.now());
                let receipt = DeletionReceipt::sign(network, vault, hash, now, &self.0.key);
                Ok(DeskAnswer::Deleted(receipt))
            }
        }
    }
}
