//! Whether enough of the static nodes that have a vault's key are there, and how the static nodes find all vaults' keys.

use crate::client::access::desk::Desks;
use crate::client::ledger::wrong_answer;
use crate::client::{Client, ClientConfig, Error, LedgerClient};
use crate::ledger::rows::Sharing;
use crate::message::Member;
use crate::message::access::Care;
use crate::message::access::desk::{DeskAnswer, DeskRequest};
use crate::types::Height;

/// Who has the shares of a vault's key, and who of them is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyCare {
    /// The sharing, as the ledger has it.
    pub sharing: Sharing,
    /// Static nodes that have the shares.
    pub members: usize,
    /// Those of them that answer.
    pub alive: usize,
    /// How many are needed to open anything, and to hand the key on.
    pub threshold: usize,
    /// Whether they are the static nodes of now.
    pub is_present: bool,
}

/// Looks at the key of a home's vault; none if it was never shared.
///
/// # Errors
/// [`ErrorKind::Unavailable`](crate::client::ErrorKind::Unavailable) if too few static nodes answer,
/// [`ErrorKind::Config`](crate::client::ErrorKind::Config) if the network has no ledger.
pub async fn key_care(config: &ClientConfig) -> Result<Option<KeyCare>, Error> {
    let key = config.keys.signing();
    let ledger = LedgerClient::new(&config.network, key)?;
    // If nobody answers, those of the genesis are asked.
    drop(ledger.follow().await);
    let desks = Desks::new(ledger.clone(), key);
    let Some(access) = desks.access(*config.keys.vault()).await? else { return Ok(None) };
    let roster = desks.roster(access.sharing.roster).await?;
    desks.follow(&roster);
    let mut asked = desks.say_to_all(&roster, &DeskRequest::Care);
    let mut alive = 0;
    while let Some(answered) = asked.join_next().await {
        alive += usize::from(matches!(answered, Ok((_, Ok(_)))));
    }
    Ok(Some(KeyCare {
        members: roster.members().len(),
        alive,
        threshold: roster.committee().threshold(),
        is_present: ledger.roster().hash() == access.sharing.roster,
        sharing: access.sharing,
    }))
}

impl LedgerClient {
    /// How a static node finds the vaults' keys.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`](crate::client::ErrorKind::Unavailable).
    pub async fn care(&self, member: &Member) -> Result<Care, Error> {
        match self.ask_desk(member, &DeskRequest::Care).await? {
            DeskAnswer::Care(care) => Ok(care),
            _ => Err(wrong_answer()),
        }
    }
}

impl Client {
    /// Shares the vault's key anew among the static nodes of now; the block from which on that counts. Grants stay as they are.
    ///
    /// They hand it on by themselves; this is for when too many of those who had it are gone.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`](crate::client::ErrorKind::Unavailable) if too few static nodes answer,
    /// [`ErrorKind::Refused`](crate::client::ErrorKind::Refused) if the ledger refuses.
    pub async fn share_key(&self) -> Result<Height, Error> {
        self.deal_key().await
    }
}
