//! Changes of the network's members before the ledger sees them: what they must name, and whether it would take them.
//!
//! This only saves operators a round: what counts is what the ledger's own rules say in the end.

use crate::client::ledger::wrong_answer;
use crate::client::{Error, ErrorKind, LedgerClient};
use crate::ledger::ask::{Answer, Question};
use crate::ledger::rows::{Standing, Static};
use crate::message::{
    Action, Block, Change, ChangeFile, Governance, Member, Rejection, SignedTransaction, Violation,
};
use crate::types::limits::MAX_COMMITTEE;
use crate::types::{Committee, Height, PublicKey, TransactionId};

/// How many blocks are looked through for a change: a day of a network that has nothing to do.
const LOOK_BACK: u64 = 10_000;

/// What a change still needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Approvals {
    /// Static nodes that approved.
    pub have: Vec<Member>,
    /// Static nodes that could still.
    pub missing: Vec<Member>,
    /// How many must.
    pub need: usize,
    /// The newcomer has not signed yet that it has its key.
    pub unproved: Option<Member>,
}

impl Approvals {
    /// Whether it may be submitted.
    #[must_use]
    pub const fn are_enough(&self) -> bool {
        self.have.len() >= self.need && self.unproved.is_none()
    }
}

impl LedgerClient {
    /// A change that the ledger would carry out now, with the number that it must have and no approvals yet.
    ///
    /// # Errors
    /// [`ErrorKind::Refused`] if the ledger would not carry it out, [`ErrorKind::Unavailable`].
    pub async fn propose(&self, change: Change) -> Result<ChangeFile, Error> {
        let sequence = self.sequence().await?;
        admissible(&change, &self.statics().await?).map_err(|rejection| refused(&rejection))?;
        Ok(ChangeFile { network: self.genesis().network, governance: Governance::new(sequence, change) })
    }

    async fn sequence(&self) -> Result<u64, Error> {
        match self.ask(&Question::Sequence).await? {
            Answer::Sequence(sequence) => Ok(sequence),
            _ => Err(wrong_answer()),
        }
    }

    /// Whether the ledger would carry a change out once it has what it needs, and what that is.
    ///
    /// # Errors
    /// [`ErrorKind::Refused`] if it would not, whoever approves; [`ErrorKind::Corrupt`] if a signature in it is not
    /// good; [`ErrorKind::Unavailable`].
    pub async fn approvals(&self, file: &ChangeFile) -> Result<Approvals, Error> {
        let (network, governance) = (self.genesis().network, &file.governance);
        if file.network != network {
            return Err(Error::new(ErrorKind::Refused, "the change is for another network")
                .with_hint("name the network's file with --network"));
        }
        let newcomer = governance.change.newcomer();
        let unproved = newcomer.filter(|_| governance.possession.is_none()).cloned();
        let wrong = |violation| {
            Error::new(ErrorKind::Corrupt, "a signature in the change is not good").caused_by(violation)
        };
        match governance.verify(&network) {
            // That the proof of possession is missing is no damage.
            Err(Violation::Malformed) if unproved.is_some() => {}
            verified => verified.map_err(wrong)?,
        }
        let expected = self.sequence().await?;
        if expected != governance.sequence {
            return Err(refused(&Rejection::WrongSequence { expected }));
        }
        let statics = self.statics().await?;
        admissible(&governance.change, &statics).map_err(|rejection| refused(&rejection))?;
        let members: Vec<Member> =
            statics.into_iter().filter(|row| row.votes).map(|row| row.member).collect();
        let approved = |key: &PublicKey| governance.approvals.iter().any(|approval| approval.member == *key);
        if let Some(stranger) = governance
            .approvals
            .iter()
            .find(|approval| !members.iter().any(|member| member.key == approval.member))
        {
            return Err(refused(&Rejection::NotAMember { key: stranger.member }));
        }
        let committee = Committee::new(members.iter().map(|member| member.key).collect());
        let need = committee.map_err(|_| wrong_answer())?.quorum();
        let (have, missing) = members.into_iter().partition(|member| approved(&member.key));
        Ok(Approvals { have, missing, need, unproved })
    }

    /// The block that carried this very change out, proved; none if another change had its number, or if that is so long ago
    /// that the blocks which are looked through, about a day of an idle network, do not have it.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`].
    pub async fn block_of(&self, change: &Governance) -> Result<Option<Height>, Error> {
        let mut before = self.tip().await?.record.height.next();
        let oldest = before.0.saturating_sub(LOOK_BACK).max(1);
        while before.0 > oldest {
            let has_some = |answer: &Answer| matches!(answer, Answer::Blocks(blocks) if !blocks.is_empty());
            let Answer::Blocks(page) = self.ask_for(&Question::BlocksBefore { before }, has_some).await?
            else {
                return Err(wrong_answer());
            };
            if page.is_empty() {
                break;
            }
            for found in page {
                let block = Block::decode_bounded(&found.block).map_err(|_| wrong_answer())?;
                // Downwards, so that it ends.
                if block.header.record.height.next() != before {
                    return Err(wrong_answer());
                }
                before = block.header.record.height;
                match block.transactions.iter().find_map(|signed| numbered(signed, change.sequence)) {
                    Some((id, found)) if *found == change.change => return self.proved(id).await.map(Some),
                    Some(_) => return Ok(None),
                    None => {}
                }
            }
        }
        Ok(None)
    }

    /// The block of a transaction that a static node showed.
    async fn proved(&self, id: TransactionId) -> Result<Height, Error> {
        let is_there = |answer: &Answer| matches!(answer, Answer::Transaction(Some(_)));
        match self.ask_for(&Question::Transaction { id }, is_there).await? {
            Answer::Transaction(Some(proven))
                if proven.transaction.id() == id && self.verify(&proven).is_ok() =>
            {
                Ok(proven.height)
            }
            _ => Err(wrong_answer()),
        }
    }
}

/// The change of this number, if the transaction is one.
fn numbered(signed: &SignedTransaction, sequence: u64) -> Option<(TransactionId, &Change)> {
    match &signed.transaction().action {
        Action::Govern(found) if found.sequence == sequence => Some((signed.id(), &found.change)),
        _ => None,
    }
}

/// What the ledger would say to a change among these static nodes.
fn admissible(change: &Change, statics: &[Static]) -> Result<(), Rejection> {
    let row = |key: &PublicKey| statics.iter().find(|row| row.member.key == *key);
    let voters = statics.iter().filter(|row| row.votes).count();
    let voter = |key: &PublicKey| match row(key) {
        Some(row) if row.votes => Ok(row),
        _ => Err(Rejection::NotAMember { key: *key }),
    };
    let new = |member: &Member| match row(&member.key) {
        Some(_) => Err(Rejection::MemberExists { key: member.key }),
        None => Ok(()),
    };
    let room = || if voters < MAX_COMMITTEE { Ok(()) } else { Err(Rejection::CommitteeFull) };
    match change {
        Change::AddStatic(member) => new(member).and_then(|()| room()),
        Change::RemoveStatic(key) if voter(key).is_ok() && voters == 1 => Err(Rejection::LastMember),
        Change::RemoveStatic(key) => voter(key).map(drop),
        Change::ReplaceStatic { old, new: member } => voter(old).and_then(|_| new(member)),
        Change::RotateStatic { old, new: member } => match row(old) {
            Some(row) if row.standing != Standing::Left => {
                if member.key == *old {
                    return Ok(());
                }
                new(member).and_then(|()| if row.votes { Ok(()) } else { room() })
            }
            _ => Err(Rejection::NotAMember { key: *old }),
        },
        Change::LiftBlacklist(key) => match row(key) {
            Some(row) if matches!(row.standing, Standing::Blacklisted { .. }) => {
                if row.votes {
                    Ok(())
                } else {
                    room()
                }
            }
            _ => Err(Rejection::NotBlacklisted { key: *key }),
        },
        Change::SetSponsor(_) | Change::RefreshShares { .. } => Ok(()),
    }
}

/// Why a change will not be carried out, and what to do.
pub(crate) fn refused(rejection: &Rejection) -> Error {
    let hint = match rejection {
        Rejection::WrongSequence { .. } => {
            "another change came first: propose this one anew, and have it approved again"
        }
        Rejection::NotAMember { .. } => "`xvault static ls` lists the static nodes and who votes",
        Rejection::MemberExists { .. } => {
            "a key comes in once: make a new folder with `xvault static init`; a blacklisted node is readmitted instead"
        }
        Rejection::LastMember => "add another static node first, or replace this one",
        Rejection::CommitteeFull => "remove or replace one instead",
        Rejection::NotBlacklisted { .. } => {
            "only who is blacklisted is readmitted; who left comes in under a new key"
        }
        _ => "see `xvault static ls`",
    };
    Error::new(ErrorKind::Refused, format!("the ledger would refuse it: {rejection}"))
        .with_hint(hint)
        .caused_by(*rejection)
}

/// Whether the ledger has done with a change of this number: with this one, or with another.
pub(crate) fn is_past(error: &Error, change: &Governance) -> bool {
    matches!(error.rejection(), Some(Rejection::WrongSequence { expected }) if *expected > change.sequence)
}

/// The ledger's refusal of a change that was submitted, with what to do.
pub(crate) fn explained(error: Error) -> Error {
    match error.rejection() {
        Some(rejection) => refused(rejection),
        None => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::rows::Fault;

    fn row(nth: u8, votes: bool, standing: Standing) -> Static {
        let (key, pq_key) = (PublicKey([nth; 32]), Box::new([nth; crate::crypto::ml_dsa::PUBLIC_LEN]));
        let address = ([127, 0, 0, 1], 1).into();
        let member = Member { key, pq_key, label: format!("s{nth}"), operator: "op".into(), address };
        Static { member, votes, standing, faults: 0, proof: None }
    }

    #[test]
    fn what_the_ledger_would_refuse_is_refused() {
        let blacklisted = Standing::Blacklisted { fault: Fault::Equivocation, since: Height(1) };
        let statics = [
            row(1, true, Standing::Good),
            row(2, true, Standing::Good),
            row(3, false, Standing::Left),
            row(4, false, blacklisted),
        ];
        let key = |nth| PublicKey([nth; 32]);
        let new = |nth| row(nth, true, Standing::Good).member;
        let judge = |change| admissible(&change, &statics);
        let none = |nth| Err(Rejection::NotAMember { key: key(nth) });
        let known = |nth| Err(Rejection::MemberExists { key: key(nth) });
        assert_eq!(judge(Change::AddStatic(new(5))), Ok(()));
        assert_eq!(judge(Change::AddStatic(new(3))), known(3));
        assert_eq!(judge(Change::RemoveStatic(key(1))), Ok(()));
        assert_eq!(judge(Change::RemoveStatic(key(3))), none(3));
        assert_eq!(judge(Change::ReplaceStatic { old: key(4), new: new(5) }), none(4));
        assert_eq!(judge(Change::ReplaceStatic { old: key(1), new: new(2) }), known(2));
        assert_eq!(judge(Change::RotateStatic { old: key(1), new: new(1) }), Ok(()));
        assert_eq!(judge(Change::RotateStatic { old: key(4), new: new(5) }), Ok(()));
        assert_eq!(judge(Change::RotateStatic { old: key(3), new: new(5) }), none(3));
        assert_eq!(judge(Change::LiftBlacklist(key(4))), Ok(()));
        assert_eq!(judge(Change::LiftBlacklist(key(1))), Err(Rejection::NotBlacklisted { key: key(1) }));
        let alone = [row(1, true, Standing::Good)];
        assert_eq!(admissible(&Change::RemoveStatic(key(1)), &alone), Err(Rejection::LastMember));
    }
}
