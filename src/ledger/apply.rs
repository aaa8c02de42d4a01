//! Blocks: from a state and a block to the changes that it makes, or to the reason why it may not.
//!
//! Builder and checker run the same [`Execution`], so a header says what its block leads to by
//! construction, and a checker compares. Signatures of transactions are the caller's to check or to know.

use std::collections::BTreeMap;

use crate::ledger::execution::{Execution, after, committee_of, remember};
use crate::ledger::read::{Overlay, Read, ReadError};
use crate::ledger::rows::{SETTINGS, TIP};
use crate::ledger::rules::{Context, Refused, carry_out};
use crate::message::Violation;
use crate::message::block::{Block, BlockRecord, Header};
use crate::message::certificate::CommitCertificate;
use crate::message::member::Roster;
use crate::message::rejection::Rejection;
use crate::message::transaction::{SignedTransaction, VerifiedTransaction};
use crate::types::{PublicKey, Timestamp, TransactionId};

/// New values, or none where a row goes.
pub type Writes = BTreeMap<Vec<u8>, Option<Vec<u8>>>;

/// What a block changes. Written whole or not at all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Changes {
    /// The rows.
    pub writes: Writes,
    /// The header that says so.
    pub header: Header,
    /// Who decides on the next block.
    pub next: Roster,
}

/// What a proposer puts into a block besides transactions.
#[derive(Debug, Clone)]
pub struct Draft {
    /// Itself.
    pub proposer: PublicKey,
    /// Its clock. Moved on if it is not after that of the block before.
    pub time: Timestamp,
    /// The certificate of the block before, with all signatures that are in; none for the first block.
    pub certificate: Option<CommitCertificate>,
}

/// A transaction that may not be carried out now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotTaken {
    /// Whose it is.
    pub author: PublicKey,
    /// Which.
    pub id: TransactionId,
    /// Why.
    pub rejection: Rejection,
}

/// A block that was built, and what it did not take.
#[derive(Debug, Clone)]
pub struct Built {
    /// The block.
    pub block: Block,
    /// What it changes.
    pub changes: Changes,
    /// Transactions that were refused, and why.
    pub refused: Vec<NotTaken>,
}

/// A field of a header that is not what the block leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Field {
    /// Another network.
    Network,
    /// Not the next height.
    Height,
    /// Not on top of the last block.
    Previous,
    /// Not after the last block.
    Time,
    /// Not one of the committee.
    Proposer,
    /// Another committee.
    Roster,
    /// Another committee for the next block.
    NextRoster,
    /// Another length of the log.
    LogSize,
    /// Another root of the log.
    LogRoot,
    /// Another state.
    State,
    /// Another certificate.
    Certificate,
}

/// Why a block may not be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidBlock {
    /// The header says something else than what the block leads to.
    #[error("the header's {0:?} is wrong")]
    Header(Field),
    /// The certificate is not one of the block before.
    #[error("the certificate of the block before is wrong: {0}")]
    Certificate(Violation),
    /// It is longer than a block may be, or has more transactions.
    #[error("the block is too long")]
    TooLong,
    /// A transaction has a signature that is not good.
    #[error("transaction {index} of the block: {violation}")]
    Signature {
        /// Which.
        index: usize,
        /// What is wrong.
        violation: Violation,
    },
    /// A transaction may not be carried out.
    #[error("transaction {index} of the block: {rejection}")]
    Transaction {
        /// Which.
        index: usize,
        /// Why.
        rejection: Rejection,
    },
}

/// Why a block was not applied.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ApplyError {
    /// The block's fault.
    #[error(transparent)]
    Invalid(#[from] InvalidBlock),
    /// Ours: stop.
    #[error(transparent)]
    Read(#[from] ReadError),
}

/// Builds the next block from transactions in the order in which they come; those that do not fit are
/// left, those that may not be carried out are reported.
///
/// # Errors
/// [`ApplyError::Read`]; [`InvalidBlock::Certificate`] and [`InvalidBlock::Header`] if the draft is wrong.
pub fn build<R: Read>(
    state: &R,
    draft: Draft,
    candidates: impl IntoIterator<Item = VerifiedTransaction>,
) -> Result<Built, ApplyError> {
    let mut execution = Execution::open(state, &draft)?;
    let (mut taken, mut refused) = (Vec::new(), Vec::new());
    for candidate in candidates {
        let signed = candidate.into_signed();
        match execution.carry_out(&signed) {
            Ok(true) => taken.push(signed),
            Ok(false) => (),
            Err(Refused::Rejection(rejection)) => {
                let (author, id) = (signed.transaction().author, signed.id());
                refused.push(NotTaken { author, id, rejection });
            }
            Err(Refused::Read(error)) => return Err(error.into()),
        }
    }
    let changes = execution.close(&taken)?;
    let block = Block { header: changes.header, certificate: draft.certificate, transactions: taken };
    Ok(Built { block, changes, refused })
}

/// Checks a block against the state before it. `is_known` tells transactions whose signatures were checked
/// before, as those of the mempool; the others' are checked here.
///
/// Whether its time is not too far ahead of a clock is for the caller to judge, before it votes.
///
/// # Errors
/// [`InvalidBlock`] names what is wrong; [`ApplyError::Read`].
pub fn check<R: Read>(
    state: &R,
    block: &Block,
    is_known: impl Fn(&TransactionId) -> bool,
) -> Result<Changes, ApplyError> {
    let BlockRecord { network, height, previous, time, proposer, .. } = block.header.record;
    let tip = TIP.expect(state, &())?;
    let settings = SETTINGS.expect(state, &())?;
    require(network == settings.network, Field::Network)?;
    require(height == tip.record.height.next(), Field::Height)?;
    require(previous == tip.id(), Field::Previous)?;
    require(time > tip.record.time, Field::Time)?;
    let committee = committee_of(state, &tip.record.next_roster())?;
    let proposer = committee.members().get(usize::from(proposer));
    let proposer = *proposer.ok_or(InvalidBlock::Header(Field::Proposer))?;
    let draft = Draft { proposer, time, certificate: block.certificate.clone() };
    let mut execution = Execution::open(state, &draft)?;
    for (index, signed) in block.transactions.iter().enumerate() {
        if !is_known(&signed.id()) {
            let bad = |violation| InvalidBlock::Signature { index, violation };
            signed.verify(&network).map_err(bad)?;
        }
        match execution.carry_out(signed) {
            Ok(true) => (),
            Ok(false) => return Err(InvalidBlock::TooLong.into()),
            Err(Refused::Rejection(rejection)) => {
                return Err(InvalidBlock::Transaction { index, rejection }.into());
            }
            Err(Refused::Read(error)) => return Err(error.into()),
        }
    }
    let changes = execution.close(&block.transactions)?;
    compare(&block.header, &changes.header)?;
    Ok(changes)
}

/// Whether a transaction whose signatures are good would be carried out in the next block, as far as can
/// be told before those of its author that wait: asked before it may wait too, so that what is worthless
/// takes nobody's place. One whose turn is later is only looked at when it comes.
///
/// # Errors
/// [`ReadError`].
pub fn precheck<R: Read>(state: &R, signed: &SignedTransaction) -> Result<Option<Rejection>, ReadError> {
    let tip = TIP.expect(state, &())?;
    let height = tip.record.height.next();
    let committee = committee_of(state, &tip.record.next_roster())?;
    let context = Context { settings: SETTINGS.expect(state, &())?, height, time: after(&tip), committee };
    let nonce = signed.transaction().nonce;
    let mut next = Overlay::new(state);
    // Evidence may be about the last block, which the next one notes before all else.
    remember(&mut next, &tip);
    match carry_out(&mut next, &context, signed) {
        Ok(()) => Ok(None),
        Err(Refused::Rejection(Rejection::WrongNonce { expected })) if nonce > expected => Ok(None),
        Err(Refused::Rejection(rejection)) => Ok(Some(rejection)),
        Err(Refused::Read(error)) => Err(error),
    }
}

pub(super) fn require(holds: bool, field: Field) -> Result<(), InvalidBlock> {
    if holds { Ok(()) } else { Err(InvalidBlock::Header(field)) }
}

/// Names the first field that differs.
fn compare(found: &Header, expected: &Header) -> Result<(), InvalidBlock> {
    let (is, should) = (&found.record, &expected.record);
    require(is.roster == should.roster, Field::Roster)?;
    require(is.certificate == should.certificate, Field::Certificate)?;
    require(is.log_size == should.log_size, Field::LogSize)?;
    require(is.new_roster == should.new_roster, Field::NextRoster)?;
    require(is.state == should.state, Field::State)?;
    require(found.log_root == expected.log_root, Field::LogRoot)?;
    assert_eq!(found, expected, "every field of a header is compared");
    Ok(())
}
