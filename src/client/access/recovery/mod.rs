//! Lost keys: an owner cuts its secret up for guardians; one who has lost all keys asks them; they give it back.
//!
//! [`owner`] names guardians and objects, [`guardian`] keeps a share, approves and releases, [`requester`] asks and collects.
//! What is decided by the ledger (who are guardians, how far a request is) is what one more static node says than can be
//! wrong.

pub mod guardian;
pub mod owner;
pub mod requester;

use crate::client::access::desk::Desks;
use crate::client::ledger::{LedgerClient, wrong_answer};
use crate::client::{Error, ErrorKind};
use crate::crypto::sign::KeyPair;
use crate::ledger::ask::{Answer, Question};
use crate::ledger::recovery::RecoveryState;
use crate::types::{Network, Timestamp, VaultId};

pub use guardian::{Guarded, Standing};
pub use owner::{Cut, OpenRecovery, SplitTerms};
pub use requester::{Recovering, Stage};

/// The desks of a network's static nodes of now, called with this key.
async fn desks(network: &Network, key: &KeyPair) -> Result<Desks, Error> {
    let ledger = LedgerClient::new(network, key)?;
    // Whoever cannot be asked now is asked again.
    drop(ledger.follow().await);
    let desks = Desks::new(ledger, key);
    desks.follow(&desks.ledger.roster());
    Ok(desks)
}

/// What the ledger has of a vault's lost keys.
pub(crate) async fn state(desks: &Desks, vault: VaultId) -> Result<RecoveryState, Error> {
    match desks.agreed(&Question::Recovery { vault }).await? {
        Answer::Recovery(found) => Ok(*found),
        _ => Err(wrong_answer()),
    }
}

/// A time that the ledger has reached: one more static node says so than can be wrong.
async fn ledger_time(desks: &Desks) -> Result<Timestamp, Error> {
    let roster = desks.ledger.roster();
    let need = roster.committee().one_honest();
    let mut asked = tokio::task::JoinSet::new();
    for member in roster.members() {
        let (ledger, member) = (desks.ledger.clone(), member.clone());
        asked.spawn(async move { ledger.ask_one(&member, &Question::Tip).await });
    }
    let mut times = Vec::new();
    while let Some(answered) = asked.join_next().await {
        if let Ok(Ok(Answer::Tip { header, .. })) = answered {
            times.push(header.record.time);
        }
    }
    times.sort_unstable_by(|one, other| other.cmp(one));
    need.checked_sub(1).and_then(|at| times.get(at)).copied().ok_or_else(|| {
        Error::new(ErrorKind::Unavailable, "too few static nodes say which time the ledger has")
            .with_hint("see `xvault static status`")
    })
}

fn refuse(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::Refused, message)
}

/// What people compare of a request, by telephone say.
#[must_use]
pub fn fingerprint(request: &crate::types::Hash) -> String {
    let digits = request.to_string();
    let groups: Vec<&str> = (0..5).filter_map(|group| digits.get(4 * group..4 * group + 4)).collect();
    groups.join("-")
}
