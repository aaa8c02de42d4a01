//! The access desk of a static node: takes what owners bring, opens what grants allow, and keeps the log of it.
//!
//! What is opened is decided by [`ledger::access`](crate::ledger::access), from the finalized state and from what the
//! [`AccessStore`] has; the desk adds the disk and the keys. An entry of the log is durable before an answer leaves, and a
//! revocation before it is acknowledged: both under one lock, so that nothing is opened between the two.

mod deposit;
mod emergency;
mod erasure;
mod follow;
mod handoff;
mod open;
mod release;
mod share;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use tokio::sync::Notify;

use crate::crypto::sign::KeyPair;
use crate::ledger::rows::{ACCESS, STATICS, VAULTS};
use crate::ledger::{query, recovery};
use crate::message::access::desk::{Ack, DeskAnswer, DeskRequest, LogPage, SignedSealKey};
use crate::message::access::{Care, Denial, DepositKind, Rights};
use crate::message::{Action, Refusal, RefusalCode, SignedTransaction, Violation};
use crate::runtime::Clock;
use crate::store::access::{AccessStore, AccessStoreError, HeldSealKey, PackageKind};
use crate::store::chain::{Chain, ChainError, View};
use crate::types::limits::MAX_ANSWER_ROWS;
use crate::types::{GrantId, Hash, NetworkId, PublicKey, ScopeTag, VaultId};

pub(super) use follow::Following;

/// What who is told to come back should wait.
const RETRY_AFTER_MS: u32 = 500;
/// Denials of one grant that are logged in a minute: more tell the owner nothing, and fill the disk.
const LOGGED_DENIALS: u32 = 30;

/// Why a request is not answered.
#[derive(Debug, thiserror::Error)]
enum Unanswered {
    #[error(transparent)]
    Store(#[from] AccessStoreError),
    #[error(transparent)]
    Chain(#[from] ChainError),
    #[error("{0}")]
    Refused(Refusal),
}

impl From<crate::ledger::ReadError> for Unanswered {
    fn from(error: crate::ledger::ReadError) -> Self {
        Self::Chain(error.into())
    }
}

impl From<Violation> for Unanswered {
    fn from(violation: Violation) -> Self {
        Self::Refused(violation.into())
    }
}

impl From<Refusal> for Unanswered {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<std::io::Error> for Unanswered {
    fn from(error: std::io::Error) -> Self {
        Self::Store(AccessStoreError::Key(error))
    }
}

/// See the module. A clone is another handle on the same.
#[derive(Debug, Clone)]
pub(crate) struct AccessDesk(Arc<Inner>);

struct Inner {
    network: NetworkId,
    key: KeyPair,
    /// The keys that others seal to: the one of now, then the former ones.
    seal: RwLock<Arc<Vec<HeldSealKey>>>,
    store: AccessStore,
    chain: Chain,
    clock: Clock,
    /// Whether it is known how high the ledger is: until then nothing is opened.
    is_current: AtomicBool,
    /// Held while it is decided and logged, and while a revocation is noted.
    deciding: Mutex<Denials>,
    /// Somebody waits for the key of what is at rest to be renewed.
    renewal: Notify,
    /// Whether blocks were carried out that handoffs may follow from.
    stirred: AtomicBool,
    /// Whether secrets were erased since the key of what is at rest was renewed.
    erased: AtomicBool,
    /// Packages of handoffs that complaints showed to be bad, and that this node is to reject.
    bad_packages: Mutex<BTreeSet<Hash>>,
    /// How the vaults' keys were when handoffs were last looked at.
    care: Mutex<Care>,
    /// Vaults whose owner's dealing this node needs: it says what the access log is sealed to.
    wants: Mutex<BTreeSet<VaultId>>,
}

/// Denials of each grant that were logged, and in which minute.
type Denials = BTreeMap<GrantId, (u64, u32)>;

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("AccessDesk")
    }
}

impl AccessDesk {
    /// The desk of a node.
    ///
    /// # Errors
    /// [`AccessStoreError`].
    pub(crate) fn new(
        network: NetworkId,
        key: KeyPair,
        store: AccessStore,
        chain: Chain,
        clock: Clock,
    ) -> Result<Self, AccessStoreError> {
        let seal = RwLock::new(Arc::new(store.seal_keys()?));
        Ok(Self(Arc::new(Inner {
            network,
            key,
            seal,
            store,
            chain,
            clock,
            is_current: AtomicBool::new(false),
            deciding: Mutex::default(),
            stirred: AtomicBool::new(true),
            // Whoever stopped may have had no time for it.
            erased: AtomicBool::new(true),
            bad_packages: Mutex::default(),
            care: Mutex::default(),
            wants: Mutex::default(),
            renewal: Notify::new(),
        })))
    }

    fn own_keys(&self) -> Arc<Vec<HeldSealKey>> {
        Arc::clone(&self.0.seal.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Takes up the keys that are kept now.
    fn learn_own_keys(&self) -> Result<(), AccessStoreError> {
        let keys = Arc::new(self.0.store.seal_keys()?);
        *self.0.seal.write().unwrap_or_else(PoisonError::into_inner) = keys;
        Ok(())
    }

    fn wants(&self) -> MutexGuard<'_, BTreeSet<VaultId>> {
        // A panic under this lock leaves a set as it was.
        self.0.wants.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn care(&self) -> MutexGuard<'_, Care> {
        // A panic under this lock leaves numbers as they were.
        self.0.care.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From here on it is known how high the ledger is.
    pub(crate) fn set_current(&self) {
        self.0.is_current.store(true, Ordering::Release);
    }

    fn deciding(&self) -> MutexGuard<'_, Denials> {
        // A panic under this lock leaves counters as they were.
        self.0.deciding.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Answers. Blocks: it reads and writes a disk.
    pub(crate) fn answer(&self, from: &PublicKey, request: DeskRequest) -> Result<DeskAnswer, Refusal> {
        self.serve(from, request).map_err(|error| match error {
            Unanswered::Refused(refusal) => refusal,
            other => {
                tracing::error!(error = %other, "the access desk failed");
                Refusal::new(RefusalCode::Disk, "the static node cannot use its disk; its log says why")
            }
        })
    }

    fn serve(&self, from: &PublicKey, request: DeskRequest) -> Result<DeskAnswer, Unanswered> {
        let view = self.0.chain.view()?;
        Ok(match request {
            DeskRequest::SealKey => DeskAnswer::SealKey(self.own_seal_key()?),
            DeskRequest::SealKeys => {
                let mut keys = self.0.store.view()?.peer_keys()?;
                let voters = query::next_roster(&view)?;
                keys.retain(|(node, _)| voters.committee().contains(node));
                keys.push((self.0.key.public(), self.own_seal_key()?));
                DeskAnswer::SealKeys(keys)
            }
            DeskRequest::Deposit { vault, kind, bytes } => self.deposit(&view, from, &vault, kind, &bytes)?,
            DeskRequest::Revoke(transaction) => self.revoke(&view, &transaction)?,
            DeskRequest::Veto(transaction) => self.veto(&view, &transaction)?,
            DeskRequest::Open(request) => self.open(&view, &request)?,
            DeskRequest::GrantBody { body } => self.grant_body(&view, from, &body)?,
            DeskRequest::Batches { scope, generation, after } => {
                self.batches(&view, from, &scope, generation, after)?
            }
            DeskRequest::Members { vault, scope, generation, after } => {
                require_owner(&view, from, &vault)?;
                let store = self.0.store.view()?;
                DeskAnswer::Members(store.members(&vault, &scope, generation, after, MAX_ANSWER_ROWS)?)
            }
            DeskRequest::Commitments { vault } => self.commitments(&view, from, &vault)?,
            DeskRequest::Log { vault, after, nonce } => self.log_page(&view, from, &vault, after, &nonce)?,
            DeskRequest::Package { vault, hash, kind } => self.package(&view, from, &vault, &hash, kind)?,
            DeskRequest::OwnSlots(asked) => self.own_slots(&view, from, &asked)?,
            DeskRequest::Deleted(erasure) => self.deletion_receipt(&view, from, &erasure)?,
            DeskRequest::Release { vault, request, release } => {
                self.take_release(&view, from, &vault, &request, &release)?
            }
            DeskRequest::Releases(request) => self.releases(&view, from, &request)?,
            DeskRequest::HandoffKey { to, nonce } => self.handoff_key(&view, from, to, nonce)?,
            DeskRequest::Handoff(package) => self.keep_handoff(&view, from, &package)?,
            DeskRequest::HandoffPackage { hash } => self.handoff_package(&view, from, &hash)?,
            DeskRequest::Complaint(complaint) => self.complaint(&view, &complaint)?,
            DeskRequest::Care => DeskAnswer::Care(*self.care()),
        })
    }

    fn own_seal_key(&self) -> Result<SignedSealKey, Unanswered> {
        let keys = self.own_keys();
        let held = keys.first().ok_or(AccessStoreError::Damaged("seal key"))?;
        Ok(SignedSealKey::sign(&self.0.network, held.key.public().clone(), &self.0.key))
    }

    fn ack(&self, what: &[u8; 32]) -> DeskAnswer {
        DeskAnswer::Done(Ack::sign(&self.0.network, what, &self.0.key))
    }

    /// A revocation counts as soon as it is durable here, whatever becomes of its transaction.
    fn revoke(&self, view: &View, bytes: &[u8]) -> Result<DeskAnswer, Unanswered> {
        let signed = SignedTransaction::decode(bytes)?;
        signed.verify(&self.0.network)?;
        let Action::Revoke { vault, grant } = &signed.transaction().action else {
            return Err(Violation::OutOfBounds.into());
        };
        require_owner(view, &signed.transaction().author, vault)?;
        let _nothing_is_opened_meanwhile = self.deciding();
        self.0.store.note_revocation(vault, grant, bytes)?;
        Ok(self.ack(&signed.id().0))
    }

    fn grant_body(&self, view: &View, from: &PublicKey, body: &Hash) -> Result<DeskAnswer, Unanswered> {
        let row = query::grant_of(view, from)?.filter(|row| row.grant.body == *body);
        let Some(row) = row else { return Ok(DeskAnswer::Denied(Denial::NoSuchGrant)) };
        let found = self.0.store.view()?.package(&row.grant.vault, body, PackageKind::GrantBody)?;
        Ok(DeskAnswer::GrantBody(found))
    }

    /// Only who has a grant that stands learns which batches there are.
    fn batches(
        &self,
        view: &View,
        from: &PublicKey,
        scope: &ScopeTag,
        generation: u32,
        after: Option<u64>,
    ) -> Result<DeskAnswer, Unanswered> {
        use crate::ledger::access::Facts as _;
        let Some(row) = query::grant_of(view, from)? else {
            return Ok(DeskAnswer::Denied(Denial::NoSuchGrant));
        };
        let (grant, store) = (&row.grant, self.0.store.view()?);
        let now = self.0.clock.now().max(query::tip(view)?.record.time);
        let denial = if row.revoked.is_some() || store.is_revocation_seen(&grant.vault, &grant.grant)? {
            Some(Denial::Revoked)
        } else if recovery::is_outdated(view, &row)? {
            Some(Denial::Rotated)
        } else if now < grant.not_before {
            Some(Denial::NotYet)
        } else if grant.expires <= now {
            Some(Denial::Expired)
        } else if grant.emergency.is_some() && !self.is_emergency(view, grant, self.0.clock.now())? {
            Some(Denial::NotActivated)
        } else {
            (!grant.covers(Rights::LIST, scope, generation)).then_some(Denial::NotGranted)
        };
        if let Some(denial) = denial {
            // A client that is told so asks no further: the owner is to see it all the same.
            self.log_denied_list(view, grant, scope, denial)?;
            return Ok(DeskAnswer::Denied(denial));
        }
        let found = store.lists(&grant.vault, scope, generation, after, MAX_ANSWER_ROWS)?;
        Ok(DeskAnswer::Batches(found))
    }

    /// Only who has a grant of the vault, or owns it.
    fn commitments(&self, view: &View, from: &PublicKey, vault: &VaultId) -> Result<DeskAnswer, Unanswered> {
        let is_grantee = query::grant_of(view, from)?.is_some_and(|row| row.grant.vault == *vault);
        if !is_grantee {
            require_owner(view, from, vault)?;
        }
        let Some(access) = ACCESS.get(view, vault)? else { return Ok(DeskAnswer::Commitments(None)) };
        let of = (access.sharing.dealing, access.sharing.epoch);
        let held = self.0.store.view()?.share(vault, of)?;
        Ok(DeskAnswer::Commitments(held.map(|held| held.commitments.to_bytes())))
    }

    fn log_page(
        &self,
        view: &View,
        from: &PublicKey,
        vault: &VaultId,
        after: Option<u64>,
        nonce: &[u8; 16],
    ) -> Result<DeskAnswer, Unanswered> {
        require_owner(view, from, vault)?;
        let store = self.0.store.view()?;
        let first = after.map_or(0, |after| after.saturating_add(1));
        let rows = store.log_rows(vault, first, MAX_ANSWER_ROWS)?;
        let end = store.log_end(vault)?;
        let statement = LogPage::statement(&self.0.network, vault, end.size, &end.head, nonce);
        let signature = self.0.key.sign(crate::crypto::sign::Domain::LogHead, &statement);
        let entries = rows.into_iter().map(|row| row.sealed).collect();
        Ok(DeskAnswer::Log(LogPage { first, entries, size: end.size, head: end.head, signature }))
    }

    fn package(
        &self,
        view: &View,
        from: &PublicKey,
        vault: &VaultId,
        hash: &Hash,
        kind: DepositKind,
    ) -> Result<DeskAnswer, Unanswered> {
        use crate::message::Canonical as _;
        if !STATICS.get(view, from)?.is_some_and(|row| row.votes) {
            return Err(Violation::NotAMember.into());
        }
        let store = self.0.store.view()?;
        if let Some(found) = store.package(vault, hash, kind_of(kind))? {
            return Ok(DeskAnswer::Package(Some(found)));
        }
        if kind != DepositKind::Batch {
            return Ok(DeskAnswer::Package(None));
        }
        let named = query::batches(view, vault, None, usize::MAX)?;
        let Some((number, row)) = named.into_iter().find(|(_, row)| row.batch.root.0 == hash.0) else {
            return Ok(DeskAnswer::Package(None));
        };
        let copy = store.batch(vault, number, row.batch.batch)?;
        Ok(DeskAnswer::Package(copy.map(|copy| copy.encode())))
    }
}

const fn kind_of(kind: DepositKind) -> PackageKind {
    match kind {
        DepositKind::Dealing => PackageKind::Dealing,
        DepositKind::Batch => PackageKind::Batch,
        DepositKind::GrantBody => PackageKind::GrantBody,
    }
}

fn require_owner(view: &View, key: &PublicKey, vault: &VaultId) -> Result<(), Unanswered> {
    match VAULTS.get(view, vault)? {
        Some(row) if row.owner == *key => Ok(()),
        Some(_) => Err(Refusal::new(RefusalCode::NotAdmitted, "only the vault's owner may do this").into()),
        None => Err(Refusal::busy("the ledger has no such vault here yet", RETRY_AFTER_MS).into()),
    }
}
