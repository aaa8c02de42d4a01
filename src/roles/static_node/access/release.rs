//! What guardians release waits here for who asked for it. It is sealed to that request, so that it is of no use to a static
//! node; and none is taken before the ledger says that it may be.

use super::{AccessDesk, RETRY_AFTER_MS, Unanswered};
use crate::ledger::recovery::{self, Progress};
use crate::message::access::desk::DeskAnswer;
use crate::message::access::{RecoveryRequest, Release};
use crate::message::{Canonical as _, Refusal, RefusalCode, Violation};
use crate::store::chain::View;
use crate::types::{Hash, PublicKey, VaultId};

impl AccessDesk {
    /// Keeps a guardian's part, durably, if the request is due.
    pub(super) fn take_release(
        &self,
        view: &View,
        from: &PublicKey,
        vault: &VaultId,
        request: &Hash,
        release: &Release,
    ) -> Result<DeskAnswer, Unanswered> {
        let Some((set, progress)) = recovery::progress(view, vault, request)? else {
            return Err(Refusal::busy("the ledger has no such request here yet", RETRY_AFTER_MS).into());
        };
        if set.at(release.place).is_none_or(|guardian| guardian.key != *from) {
            return Err(refused("only a guardian may release its part").into());
        }
        match progress {
            Progress::Due => {}
            Progress::Vetoed => return Err(refused("the vault's owner has objected to the request").into()),
            Progress::Approving { .. } | Progress::Waiting { .. } => {
                let what = "the request is not due here yet";
                return Err(Refusal::busy(what, RETRY_AFTER_MS).into());
            }
        }
        release.verify(request, &set)?;
        self.0.store.keep_release(vault, release.place, request, &release.encode())?;
        Ok(self.ack(&release.hash().0))
    }

    /// What is here for a request, for who made it.
    pub(super) fn releases(
        &self,
        view: &View,
        from: &PublicKey,
        request: &RecoveryRequest,
    ) -> Result<DeskAnswer, Unanswered> {
        request.verify()?;
        if request.key != *from || request.network != self.0.network {
            return Err(Violation::WrongSigner.into());
        }
        let id = request.id();
        let Some((set, progress)) = recovery::progress(view, &request.vault, &id)? else {
            return Ok(DeskAnswer::Releases(Vec::new()));
        };
        if progress != Progress::Due {
            return Ok(DeskAnswer::Releases(Vec::new()));
        }
        let kept = self.0.store.view()?.releases(&request.vault, &id)?;
        let read = kept.iter().filter_map(|bytes| Release::decode(bytes).ok());
        // Those of a set before were signed for that.
        Ok(DeskAnswer::Releases(read.filter(|release| release.verify(&id, &set).is_ok()).collect()))
    }
}

fn refused(what: &str) -> Refusal {
    Refusal::new(RefusalCode::NotAdmitted, what)
}
