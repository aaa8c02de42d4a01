//! Whether a vault was erased as a whole: then there is nothing to be restored, and the storage nodes have freed what its anchors
//! tell of.

use crate::client::ledger::wrong_answer;
use crate::client::{Error, ErrorKind, LedgerClient};
use crate::ledger::ask::{Answer, Question};
use crate::message::access::Erasure;
use crate::types::{Height, VaultId};

impl LedgerClient {
    /// The block in which a vault was erased as a whole, if it was: as more static nodes say than can be wrong.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`] if too few say the same.
    pub async fn vault_erased(&self, vault: VaultId) -> Result<Option<Height>, Error> {
        let erasure = Erasure::of_vault(vault).hash();
        match self.agreed(&Question::Erasure { vault, erasure }).await? {
            Answer::Erasure(height) => Ok(height),
            _ => Err(wrong_answer()),
        }
    }
}

/// That a vault was erased, where only the home that did it can say more.
pub(in crate::client) fn ended(height: Height) -> Error {
    let message = format!("the vault was erased in block {height}");
    Error::new(ErrorKind::Refused, message)
        .with_hint("the home in which that was done has the certificate, and can make it anew")
}
