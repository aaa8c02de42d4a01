//! What each transaction does to the state, and when it may. One file for each kind.
//!
//! A rule looks first and writes last, into an overlay that is dropped if it refuses, so a refused
//! transaction leaves no trace.

use crate::ledger::query::next_nonce;
use crate::ledger::read::{Overlay, Read, ReadError};
use crate::ledger::rows::{AUTHORS, Author, HEADS, Settings, Usage, VAULTS, Vault};
use crate::message::rejection::Rejection;
use crate::message::transaction::{Action, Lane, SignedTransaction, Transaction};
use crate::types::limits::MAX_TRANSACTION_LIFE;
use crate::types::{Committee, Height, PublicKey, Timestamp, VaultId};

mod access;
mod accusation;
mod admission;
mod anchor;
mod correction;
mod deposit;
pub(super) mod emergency;
mod erasure;
mod evidence;
mod governance;
pub(super) mod handoff;
mod placement;
mod quota;
mod recovery;
pub(super) mod rogue;
mod storage_node;
pub(super) mod turns;
mod vault;
pub(super) mod voters;
mod writer;

/// What holds for all transactions of a block.
#[derive(Debug)]
pub(super) struct Context {
    pub(super) settings: Settings,
    pub(super) height: Height,
    /// The block's own time, which may be long after that of the one before.
    pub(super) time: Timestamp,
    /// Who decides on this block.
    pub(super) committee: Committee,
}

/// Why a transaction was not carried out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refused {
    /// Its author's fault, or bad luck.
    #[error(transparent)]
    Rejection(#[from] Rejection),
    /// Our own.
    #[error(transparent)]
    Read(#[from] ReadError),
}

type Outcome = Result<(), Refused>;

/// Carries a transaction out whose signatures are good.
pub(super) fn carry_out<R: Read>(
    state: &mut Overlay<'_, R>,
    context: &Context,
    signed: &SignedTransaction,
) -> Outcome {
    let transaction = signed.transaction();
    let author = &transaction.author;
    require_turn(state, transaction)?;
    if transaction.expires < context.height {
        return Err(Rejection::Expired { height: context.height }.into());
    }
    if transaction.expires.0 - context.height.0 > MAX_TRANSACTION_LIFE {
        return Err(Rejection::ExpiresTooLate.into());
    }
    let len = u64::try_from(signed.bytes().len()).unwrap_or(u64::MAX);
    let mut row = AUTHORS.get(state, author)?.unwrap_or(Author { nonce: 0, usage: Usage::NONE });
    match vault_of(&transaction.action) {
        Some(vault) => charge_vault(state, context, vault, len)?,
        None => quota::charge(&mut row.usage, context, context.settings.params.author_bytes, len)?,
    }
    // An anchor is counted by the head that it moves.
    if matches!(transaction.lane(), Lane::Author(_)) {
        row.nonce += 1;
        AUTHORS.put(state, author, &row);
    }
    dispatch(state, context, signed)
}

/// Refuses a transaction whose turn is over or has not come. An anchor whose turn is over is told the head that
/// came in its place; that it is carried out once follows from the head it names, which never comes back.
fn require_turn(state: &impl Read, transaction: &Transaction) -> Outcome {
    let lane = transaction.lane();
    let expected = next_nonce(state, &lane)?;
    match lane {
        _ if transaction.nonce == expected => Ok(()),
        Lane::Collection(vault, collection) if transaction.nonce < expected => {
            let head = HEADS.get(state, &(vault, collection))?.map(|head| head.anchor);
            Err(Rejection::HeadMoved { head }.into())
        }
        _ => Err(Rejection::WrongNonce { expected }.into()),
    }
}

fn dispatch<R: Read>(state: &mut Overlay<'_, R>, context: &Context, signed: &SignedTransaction) -> Outcome {
    let author = &signed.transaction().author;
    match &signed.transaction().action {
        Action::CreateVault { vault, sponsor } => {
            vault::create(state, context, author, vault, sponsor.as_ref())
        }
        Action::Anchor(anchor) => anchor::advance(state, context, author, signed.id(), anchor),
        Action::PlaceShards { vault, segment, holders } => {
            placement::place(state, author, vault, segment, holders)
        }
        Action::AddWriter { vault, writer } => writer::add(state, author, vault, writer),
        Action::RemoveWriter { vault, writer } => writer::remove(state, author, vault, writer),
        Action::RegisterNode { node, sponsor } => {
            storage_node::register(state, context, author, node, sponsor.as_ref())
        }
        Action::UpdateNode(node) => storage_node::update(state, author, node),
        Action::RetireNode => storage_node::retire(state, context, author),
        Action::Govern(governance) => governance::change(state, context, governance),
        Action::Evidence(evidence) => evidence::equivocation(state, context, signed.id(), evidence),
        Action::FalseCosignature(proof) => evidence::false_cosignature(state, context, signed.id(), proof),
        Action::Accuse { offender, height } => {
            accusation::accuse(state, context, author, signed.id(), offender, *height)
        }
        Action::Correct => correction::correct(state, context, author),
        Action::SetQuota { vault, quota } => vault::set_quota(state, context, author, vault, *quota),
        Action::ShareKey(sharing) => access::share(state, context, author, sharing),
        Action::Grant(grant) => access::grant(state, context, author, grant),
        Action::Revoke { vault, grant } => access::revoke(state, context, author, vault, grant),
        Action::AddEntries(batch) => access::add_entries(state, context, author, batch),
        Action::Erase { vault, record, version } => {
            access::erase(state, context, author, vault, *record, *version)
        }
        Action::BumpScope { vault, scope, generation } => {
            access::bump(state, author, vault, *scope, *generation)
        }
        Action::LogHead(head) => access::log_head(state, author, head),
        Action::EmergencyRequest(asked) => emergency::request(state, context, author, signed.id(), asked),
        Action::EmergencyApprove(approval) => emergency::approve(state, author, approval),
        Action::EmergencyVeto { vault, request } => emergency::veto(state, author, vault, request),
        Action::EmergencyOpened(opening) => emergency::opened(state, author, opening),
        Action::EraseVersions(erasure) => erasure::erase(state, context, author, erasure),
        Action::Withdraw { vault, version, keep } => erasure::withdraw(state, author, vault, *version, *keep),
        Action::CertifyErasure(claim) => erasure::certify(state, author, claim),
        Action::Recovery(action) => recovery::carry_out(state, context, author, action),
        Action::HandOff(handed) => handoff::hand_off(state, context, author, handed),
        Action::TakeShares(taken) => handoff::take(state, context, author, taken),
        Action::RejectHandoff { package } => handoff::reject(state, author, package),
        Action::Deposit(deposit) => deposit::deposit(state, context, author, signed.id(), deposit),
        Action::SettleDeposits(settled) => deposit::settle(state, author, settled),
    }
}

/// The vault whose quota pays. Of an emergency its author does: an owner whose quota is used up is saved all the same, and a
/// stranger uses up nobody's. So does who brings a deposit.
const fn vault_of(action: &Action) -> Option<&VaultId> {
    match action {
        Action::Anchor(anchor) => Some(&anchor.vault),
        Action::PlaceShards { vault, .. }
        | Action::AddWriter { vault, .. }
        | Action::RemoveWriter { vault, .. }
        | Action::Revoke { vault, .. }
        | Action::Erase { vault, .. }
        | Action::BumpScope { vault, .. }
        | Action::Withdraw { vault, .. } => Some(vault),
        Action::EraseVersions(erasure) => Some(&erasure.vault),
        Action::CertifyErasure(claim) => Some(&claim.vault),
        Action::ShareKey(sharing) => Some(&sharing.vault),
        Action::Grant(grant) => Some(&grant.vault),
        Action::AddEntries(batch) => Some(&batch.vault),
        Action::SettleDeposits(settled) => Some(&settled.vault),
        Action::Recovery(action) => action.payer(),
        _ => None,
    }
}

/// The row of a vault that the author owns.
fn require_owner(state: &impl Read, author: &PublicKey, vault: &VaultId) -> Result<Vault, Refused> {
    let row = VAULTS.get(state, vault)?.ok_or(Rejection::NoSuchVault)?;
    if row.owner == *author { Ok(row) } else { Err(Rejection::NotTheOwner.into()) }
}

fn charge_vault<R: Read>(
    state: &mut Overlay<'_, R>,
    context: &Context,
    vault: &VaultId,
    len: u64,
) -> Outcome {
    let mut row = VAULTS.get(state, vault)?.ok_or(Rejection::NoSuchVault)?;
    quota::charge(&mut row.usage, context, row.quota, len)?;
    VAULTS.put(state, vault, &row);
    Ok(())
}

/// Refuses unless the author owns the vault or may write to it.
fn require_writer(state: &impl Read, author: &PublicKey, vault: &VaultId) -> Outcome {
    let row = VAULTS.get(state, vault)?.ok_or(Rejection::NoSuchVault)?;
    let may = row.owner == *author || super::rows::WRITERS.contains(state, &(*vault, *author))?;
    if may { Ok(()) } else { Err(Rejection::NotAWriter.into()) }
}
