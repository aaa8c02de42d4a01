//! How a transaction becomes final: it is submitted to all static nodes until one proves it, or so many refuse that an
//! honest one is among them.

use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::client::ledger::wrong_answer;
use crate::client::{Error, ErrorKind, LedgerClient};
use crate::crypto::sign::KeyPair;
use crate::ledger::ask::{Answer, Fate, Question};
use crate::message::{Action, Rejection, SignedTransaction, Transaction};
use crate::types::{Height, TransactionId};

/// How long a transaction waits for the static nodes before whoever waits for it is told that they do not agree.
const FINALITY_PATIENCE: Duration = Duration::from_secs(60);
/// After so much of it the log says so.
const FINALITY_WARNING: Duration = Duration::from_secs(3);
/// Between two rounds of asking.
const ROUND_PAUSE: Duration = Duration::from_millis(100);
/// Blocks for which a transaction is good: longer than anybody waits for it, however fast they come.
pub(crate) const LIFE_BLOCKS: u64 = 10_000;

/// What became of a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It is final, and its proof was checked.
    Final {
        /// Its block.
        height: Height,
    },
    /// More static nodes than can be wrong refuse it.
    Rejected(Rejection),
}

impl LedgerClient {
    /// Puts an action of this author on the ledger that is no anchor, and waits until it is final; answers its block.
    ///
    /// # Errors
    /// [`ErrorKind::Refused`] if the ledger does not carry it out, [`ErrorKind::Unavailable`].
    pub async fn carry_out(
        &self,
        author: &KeyPair,
        action: Action,
        notice: &(dyn Fn(&str) + Sync),
    ) -> Result<Height, Error> {
        self.carry_out_as(author, action, notice).await.map(|(_, height)| height)
    }

    /// The same; answers also which transaction it became.
    ///
    /// # Errors
    /// As [`carry_out`](Self::carry_out).
    pub async fn carry_out_as(
        &self,
        author: &KeyPair,
        action: Action,
        notice: &(dyn Fn(&str) + Sync),
    ) -> Result<(TransactionId, Height), Error> {
        let key = author.public();
        let Answer::Nonce(nonce) = self.ask(&Question::Nonce { author: key }).await? else {
            return Err(wrong_answer());
        };
        let expires = Height(self.tip().await?.record.height.0 + LIFE_BLOCKS);
        let network = self.genesis().network;
        let mut transaction = Transaction { network, author: key, nonce, expires, action };
        loop {
            let signed = transaction.clone().sign(author);
            match self.settle(&signed, notice).await? {
                Verdict::Final { height } => return Ok((signed.id(), height)),
                // Whoever was asked is behind. What was final under the number would have been proved.
                Verdict::Rejected(Rejection::WrongNonce { expected }) if expected > transaction.nonce => {
                    transaction.nonce = expected;
                }
                Verdict::Rejected(rejection) => return Err(refused(&rejection)),
            }
        }
    }

    /// Submits a transaction to all static nodes until it is final, or will not be.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`] if the static nodes do not agree in time.
    pub async fn settle(
        &self,
        signed: &SignedTransaction,
        notice: &(dyn Fn(&str) + Sync),
    ) -> Result<Verdict, Error> {
        let (begun, mut warned) = (Instant::now(), false);
        loop {
            let round = self.round(signed);
            let round = match tokio::time::timeout(FINALITY_WARNING, round).await {
                Ok(Ok(settled)) => return Ok(settled),
                Ok(Err(reasons)) => reasons,
                Err(_) => "they do not agree on it yet".to_owned(),
            };
            let waited = begun.elapsed();
            if waited >= FINALITY_PATIENCE {
                let message = format!("not final on the ledger after {} s: {round}", waited.as_secs());
                let hint = "it may still become final; see `xvault static status` for the static nodes' state, then try again";
                return Err(Error::new(ErrorKind::Unavailable, message).with_hint(hint));
            }
            if waited >= FINALITY_WARNING && !warned {
                warned = true;
                notice(&format!("waiting for the static nodes: {round}"));
            }
            tokio::time::sleep(ROUND_PAUSE).await;
        }
    }

    /// Submits a transaction to every static node once; why nothing came of it.
    async fn round(&self, signed: &SignedTransaction) -> Result<Verdict, String> {
        let roster = self.roster();
        let mut asked = JoinSet::new();
        for member in roster.members() {
            let (ledger, member, bytes) = (self.clone(), member.clone(), signed.bytes().to_vec());
            asked.spawn(async move {
                let fate = ledger.submit(&member, bytes).await;
                (member.label, fate)
            });
        }
        let mut rejections = Vec::new();
        let mut reasons = Vec::new();
        while let Some(answered) = asked.join_next().await {
            let Ok((label, fate)) = answered else { continue };
            match fate {
                Ok(Fate::Final(proven))
                    if proven.transaction.id() == signed.id() && self.verify(&proven).is_ok() =>
                {
                    return Ok(Verdict::Final { height: proven.height });
                }
                Ok(Fate::Final(_)) => reasons.push(format!("{label} gives a wrong proof")),
                Ok(Fate::Rejected(rejection)) if is_behind(&rejection, signed) => {
                    reasons.push(format!("{label} is behind"));
                }
                Ok(Fate::Rejected(rejection)) => rejections.push(rejection),
                Ok(Fate::Waiting) => reasons.push(format!("{label} waits for others")),
                Ok(Fate::Busy { .. }) => reasons.push(format!("{label} is busy")),
                Ok(Fate::NonceTaken) => reasons.push(format!("{label} has another one of this number")),
                Err(error) => reasons.push(format!("{label} {error}")),
            }
            // So many that an honest one is among them.
            if rejections.len() > roster.committee().f()
                && let Some(rejection) = rejections.pop()
            {
                return Ok(Verdict::Rejected(rejection));
            }
        }
        reasons.extend(rejections.iter().map(|rejection| format!("one says: {rejection}")));
        Err(reasons.join("; "))
    }
}

/// Whether a refusal only says that the static node has not come to what the transaction builds on.
fn is_behind(rejection: &Rejection, signed: &SignedTransaction) -> bool {
    match (rejection, &signed.transaction().action) {
        (Rejection::WrongSequence { expected }, Action::Govern(governance)) => {
            *expected < governance.sequence
        }
        // Who approves or vetoes has seen it on the ledger.
        (Rejection::NoSuchEmergency, Action::EmergencyApprove(_) | Action::EmergencyVeto { .. }) => true,
        _ => false,
    }
}

/// The ledger's refusal as an error.
pub(crate) fn refused(rejection: &Rejection) -> Error {
    let message = format!("the ledger refuses it: {rejection}");
    let hint = match rejection {
        Rejection::OverQuota { .. } => {
            "wait for the next epoch, or ask the vault's sponsor for more: `xvault vault show` names it, `xvault vault quota` raises it"
        }
        Rejection::NotTheSponsor => {
            "only the key that let the vault in may do this: its owner's `xvault vault show` names it"
        }
        Rejection::BeyondTerms { .. } => {
            "the static nodes decide what a sponsor may give: see `xvault static propose sponsor --help`"
        }
        Rejection::BelowUse { .. } => "give it at least as much, or wait for the next epoch",
        Rejection::NotSponsored | Rejection::SponsorExhausted { .. } | Rejection::AdmissionFull { .. } => {
            "ask the network's operators for a sponsor: see `xvault vault --help` and `xvault node --help`"
        }
        Rejection::NotAWriter => {
            "the vault's owner must let this key write; if the vault's keys were rotated, `xvault recover` where the words are"
        }
        Rejection::NotTheOwner => {
            "if the vault's keys were rotated by another home, `xvault recover` takes up the new ones where the words are"
        }
        _ => "see `xvault ledger log`",
    };
    Error::new(ErrorKind::Refused, message).with_hint(hint).caused_by(*rejection)
}
