//! What the ledger says of requests: who may do what with a vault, and what may be freed.
//!
//! The node decides by its own copy of the finalized state. What that copy does not have yet is refused only after it has
//! caught up with what the static nodes have, so that a vault or a writer is admitted as soon as that is final. However
//! many strangers ask, the static nodes are asked how far they are four times a second at most
//! ([`Ledger::catch_up`]).
//!
//! | request | who may |
//! |---|---|
//! | put, list, release | the vault's owner and its writers |
//! | put | who has a grant to append that stands, up to twice the bytes that it lets be brought ([`Brought`]) |
//! | read, have | they, and who has a grant to read that stands, if it is one for emergencies while there is one ([`has_grant`]) |
//!
//! On a network without a ledger everybody may, each key in a namespace of its own
//! ([`key_namespace`]).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use crate::ledger::rows::{GrantRow, SETTINGS};
use crate::ledger::{Read, ReadError, emergency, query, recovery};
use crate::message::{PutShard, Refusal, RefusalCode, Rights as GrantedRights};
use crate::roles::follower::{Behind, Ledger};
use crate::roles::storage_node::disk_refusal;
use crate::roles::storage_node::serve::key_namespace;
use crate::runtime::Clock;
use crate::store::chain::ChainError;
use crate::types::limits::BODY_SEGMENT_PLAIN_LEN;
use crate::types::{Height, PublicKey, SegmentId, Timestamp, VaultId};

/// What who is told to come back should wait.
const RETRY_AFTER_MS: u32 = 1_000;
/// A segment that is being freed is free after this at the earliest.
const FREED_AFTER_MS: u32 = 10_000;
/// Rights that are remembered until the next block: 65 bytes each.
const RIGHTS_KEPT: usize = 4_096;

/// So much may come under any grant to append: a segment of a large record, which fills whole stripes, and its pack.
const LEAST_BROUGHT: u64 = 2 * BODY_SEGMENT_PLAIN_LEN as u64;

/// What a key wants to do with a vault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Right {
    /// Read shards that it can name.
    Read,
    /// Store and free shards, and see which there are.
    Write,
}

/// Decides by the ledger, if the network has one.
#[derive(Debug, Clone)]
pub(super) struct Gate {
    ledger: Option<Ledger>,
    clock: Clock,
    rights: Arc<Mutex<Rights>>,
    brought: Arc<Mutex<Brought>>,
}

/// Bytes of shards that came here under grants to append, since the node started: what the ledger has yet to count. What no
/// deposit names goes after a while, as all that no anchor names.
#[derive(Debug, Default)]
struct Brought(BTreeMap<PublicKey, u64>);

impl Brought {
    /// Counts a shard of a segment that was cut into `k`, unless with it more came than twice what may, so that a deposit can be
    /// tried again.
    fn add(&mut self, key: &PublicKey, limit: u64, shard_len: u64, k: u64) -> bool {
        if self.0.len() >= RIGHTS_KEPT && !self.0.contains_key(key) {
            self.0.clear();
        }
        let brought = self.0.entry(*key).or_default();
        let sum = brought.saturating_add(shard_len.saturating_mul(k));
        let fits = sum <= limit.saturating_mul(2).max(LEAST_BROUGHT);
        if fits {
            *brought = sum;
        }
        fits
    }
}

/// Who may do what with which vault, as far as it was looked up since the last block: nothing but a block ends any of it.
#[derive(Debug, Default)]
struct Rights {
    at: Height,
    known: BTreeSet<(PublicKey, VaultId, Right)>,
}

impl Rights {
    /// Whether a right is known as of a block.
    fn contains(&self, at: Height, key: &PublicKey, vault: &VaultId, right: Right) -> bool {
        self.at == at && self.known.contains(&(*key, *vault, right))
    }

    /// Remembers a right that the state of this block gives, or that of a later one.
    fn insert(&mut self, at: Height, key: &PublicKey, vault: &VaultId, right: Right) {
        if self.at < at || self.known.len() >= RIGHTS_KEPT {
            self.known.clear();
            self.at = self.at.max(at);
        }
        // What an older state says may be over.
        if self.at == at {
            self.known.insert((*key, *vault, right));
        }
    }
}

impl Gate {
    pub(super) fn new(ledger: Option<Ledger>, clock: Clock) -> Self {
        Self { ledger, clock, rights: Arc::default(), brought: Arc::default() }
    }

    /// Where the shards of the vault are that the key means, if it may do this with the vault.
    ///
    /// # Errors
    /// The refusal.
    pub(super) async fn admit_to(
        &self,
        from: &PublicKey,
        vault: &VaultId,
        right: Right,
    ) -> Result<VaultId, Refusal> {
        let Some(ledger) = &self.ledger else { return Ok(key_namespace(vault, from)) };
        let may = || self.may(ledger, from, vault, right).map_err(|error| broken(&error));
        if may()? {
            return Ok(*vault);
        }
        ledger.catch_up().await.map_err(|behind| busy(&behind))?;
        if may()? { Ok(*vault) } else { Err(not_admitted(ledger, vault, right)) }
    }

    /// What the state here says.
    fn may(
        &self,
        ledger: &Ledger,
        key: &PublicKey,
        vault: &VaultId,
        right: Right,
    ) -> Result<bool, ChainError> {
        let rights = || self.rights.lock().unwrap_or_else(PoisonError::into_inner);
        // Before the state is looked at, which may be that of a later block then, but of no earlier one.
        let at = ledger.tip().height;
        if rights().contains(at, key, vault, right) {
            return Ok(true);
        }
        let view = ledger.view()?;
        if query::may_write(view.state(), vault, key)? {
            rights().insert(at, key, vault, right);
            return Ok(true);
        }
        // Not remembered, since it ends with time, and not by a state that may be of before a revocation.
        let now = self.clock.now();
        Ok(right == Right::Read && ledger.is_fresh(now) && has_grant(view.state(), vault, key, now)?)
    }

    /// Whether a shard of this key is taken: where it is kept, and the ledger's time at which it is stored, zero where there
    /// is no ledger.
    ///
    /// # Errors
    /// The refusal.
    pub(super) async fn admit(
        &self,
        from: &PublicKey,
        put: &PutShard,
    ) -> Result<(VaultId, Timestamp), Refusal> {
        let Some(ledger) = &self.ledger else {
            return Ok((key_namespace(&put.vault, from), Timestamp::ZERO));
        };
        if !self.takes(ledger, from, put)? {
            ledger.catch_up().await.map_err(|behind| busy(&behind))?;
            if !self.takes(ledger, from, put)? {
                return Err(not_admitted(ledger, &put.vault, Right::Write));
            }
        }
        let view = ledger.view().map_err(|error| broken(&error))?;
        // Its shards that are here are about to go: a receipt for one would be a lie.
        if view.is_being_released(&put.vault, &put.shard.segment).map_err(|error| broken(&error))? {
            let what = "the ledger released this segment and its shards are being freed";
            return Err(Refusal::busy(what, FREED_AFTER_MS));
        }
        // The later of the two: a shard is rather kept too long.
        Ok((put.vault, ledger.tip().time.max(self.clock.now())))
    }

    /// Whether a shard of this key is taken by what the state here says: it may write, or has a grant to append.
    ///
    /// # Errors
    /// The refusal, if more came under the grant than may.
    fn takes(&self, ledger: &Ledger, from: &PublicKey, put: &PutShard) -> Result<bool, Refusal> {
        if self.may(ledger, from, &put.vault, Right::Write).map_err(|error| broken(&error))? {
            return Ok(true);
        }
        let now = self.clock.now();
        let looked_up = || -> Result<_, ChainError> {
            let view = ledger.view()?;
            let limit = append_bytes(view.state(), &put.vault, from, now)?;
            Ok((limit, SETTINGS.expect(view.state(), &())?.code))
        };
        let (limit, code) = looked_up().map_err(|error| broken(&error))?;
        let Some(limit) = limit.filter(|_| ledger.is_fresh(now)) else { return Ok(false) };
        let mut brought = self.brought.lock().unwrap_or_else(PoisonError::into_inner);
        if brought.add(from, limit, put.len, code.k() as u64) {
            return Ok(true);
        }
        let what = format!("this grant lets {limit} bytes be brought, and twice as many came here");
        Err(Refusal::new(RefusalCode::NotAdmitted, what))
    }

    /// Which of these segments of a vault may be freed, and the refusal for the rest.
    ///
    /// # Errors
    /// The refusal, if it is not known which.
    pub(super) async fn releasable(
        &self,
        vault: &VaultId,
        segments: Vec<SegmentId>,
    ) -> Result<(Vec<SegmentId>, Option<Refusal>), Refusal> {
        let Some(ledger) = &self.ledger else { return Ok((segments, None)) };
        let alive = |segments: &[SegmentId]| -> Result<Vec<SegmentId>, Refusal> {
            let view = ledger.view().map_err(|error| broken(&error))?;
            let mut alive = Vec::new();
            for segment in segments {
                let is_alive = view.is_anchored(vault, segment).map_err(|error| broken(&error))?;
                alive.extend(is_alive.then_some(*segment));
            }
            Ok(alive)
        };
        let mut kept = alive(&segments)?;
        let mut refusal = None;
        if !kept.is_empty() {
            // The release may be final already, and not be here yet.
            refusal = ledger.catch_up().await.err().map(|behind| busy(&behind));
            kept = alive(&kept)?;
        }
        let free = segments.into_iter().filter(|segment| !kept.contains(segment)).collect();
        if kept.is_empty() {
            return Ok((free, None));
        }
        Ok((free, Some(refusal.unwrap_or_else(|| anchored(&kept)))))
    }
}

/// The grant that a key has in the vault, if it stands.
fn standing(
    state: &impl Read,
    vault: &VaultId,
    key: &PublicKey,
    now: Timestamp,
) -> Result<Option<GrantRow>, ReadError> {
    let Some(row) = query::grant_of(state, key)? else { return Ok(None) };
    // The later of both clocks ends it, the ledger's begins it: a wrong clock opens nothing.
    let time = query::tip(state)?.record.time;
    let is_in_time = row.grant.not_before <= time && now.max(time) < row.grant.expires;
    let stands = row.grant.vault == *vault
        && row.revoked.is_none()
        && is_in_time
        && !recovery::is_outdated(state, &row)?;
    Ok(stands.then_some(row))
}

/// How many ciphertext bytes a key may bring into the vault that it may not write to, if any.
fn append_bytes(
    state: &impl Read,
    vault: &VaultId,
    key: &PublicKey,
    now: Timestamp,
) -> Result<Option<u64>, ReadError> {
    let row = standing(state, vault, key, now)?;
    if row.is_none() || query::is_vault_erased(state, vault)? {
        return Ok(None);
    }
    Ok(row.and_then(|row| row.grant.append_bytes))
}

/// Whether the key has a grant that lets it read in the vault: who may read and not write is decided here and nowhere else.
fn has_grant(state: &impl Read, vault: &VaultId, key: &PublicKey, now: Timestamp) -> Result<bool, ReadError> {
    let Some(row) = standing(state, vault, key, now)? else { return Ok(false) };
    if !row.grant.rights.include(GrantedRights::READ) {
        return Ok(false);
    }
    // The card of an emergency grant reads nothing while there is no emergency.
    let is_open =
        row.grant.emergency.is_none() || !emergency::active(state, vault, &row.grant.grant, now)?.is_empty();
    Ok(is_open)
}

fn not_admitted(ledger: &Ledger, vault: &VaultId, right: Right) -> Refusal {
    let (height, vault) = (ledger.tip().height, vault.short());
    let what = match right {
        Right::Read => {
            format!("the ledger does not let this key read from vault {vault} as of block {height}")
        }
        Right::Write => format!(
            "the ledger does not let this key write to vault {vault} as of block {height}: register the vault, or have its owner let the key write"
        ),
    };
    Refusal::new(RefusalCode::NotAdmitted, what)
}

fn anchored(kept: &[SegmentId]) -> Refusal {
    let (count, first) = (kept.len(), kept.first().map(SegmentId::short).unwrap_or_default());
    let what =
        format!("the ledger still has {count} of these segments, {first} first: release them there before");
    Refusal::new(RefusalCode::Anchored, what)
}

fn busy(behind: &Behind) -> Refusal {
    Refusal::busy(format!("the node cannot tell what the ledger says: {behind}"), RETRY_AFTER_MS)
}

fn broken(error: &ChainError) -> Refusal {
    tracing::error!(%error, "the copy of the ledger cannot be read");
    disk_refusal()
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: PublicKey = PublicKey([1; 32]);
    const VAULT: VaultId = VaultId([2; 32]);

    #[test]
    fn a_right_is_remembered_until_the_next_block_and_for_nothing_else() {
        let mut rights = Rights::default();
        rights.insert(Height(3), &KEY, &VAULT, Right::Read);
        assert!(rights.contains(Height(3), &KEY, &VAULT, Right::Read));
        assert!(!rights.contains(Height(3), &KEY, &VAULT, Right::Write));
        assert!(!rights.contains(Height(3), &PublicKey([2; 32]), &VAULT, Right::Read));
        assert!(!rights.contains(Height(3), &KEY, &VaultId([1; 32]), Right::Read));
        assert!(!rights.contains(Height(4), &KEY, &VAULT, Right::Read));
        // One that was looked up before a block that somebody else has seen since.
        rights.insert(Height(4), &KEY, &VAULT, Right::Write);
        rights.insert(Height(3), &KEY, &VAULT, Right::Read);
        assert!(!rights.contains(Height(3), &KEY, &VAULT, Right::Read));
        assert!(!rights.contains(Height(4), &KEY, &VAULT, Right::Read));
    }

    #[test]
    fn so_many_rights_are_remembered_and_no_more() {
        let mut rights = Rights::default();
        for nth in 0..=RIGHTS_KEPT {
            let mut vault = VAULT;
            vault.0[..8].copy_from_slice(&nth.to_le_bytes());
            rights.insert(Height(1), &KEY, &vault, Right::Read);
            assert!(rights.known.len() <= RIGHTS_KEPT);
            assert!(rights.contains(Height(1), &KEY, &vault, Right::Read));
        }
    }

    #[test]
    fn so_much_is_brought_under_a_grant_and_no_more() {
        let (mut brought, mib) = (Brought::default(), 1 << 20);
        let limit = 64 * mib;
        for _ in 0..32 {
            assert!(brought.add(&KEY, limit, mib, 4));
        }
        assert!(!brought.add(&KEY, limit, 1, 4), "twice as much came");
        assert!(brought.add(&PublicKey([2; 32]), limit, mib, 4), "each key for itself");
        assert!(!brought.add(&KEY, limit, u64::MAX, u64::MAX));
        // A pack is padded: a grant of a few bytes takes one.
        assert!(brought.add(&PublicKey([3; 32]), 10, LEAST_BROUGHT / 4, 4));
    }

    /// The card of an emergency grant reads ciphertext while an emergency is active, and an ordinary grant while it stands.
    #[test]
    fn an_emergency_grant_reads_while_there_is_an_emergency() {
        use std::collections::BTreeMap;

        use crate::ledger::rows::{Clinician, EMERGENCIES, Emergency, GRANTEES, GRANTS, Grantee, TIP, Veto};
        use crate::message::access::{EmergencyPolicy, Grant, GrantedScope};
        use crate::message::{BlockRecord, Canonical as _, Header};
        use crate::types::{BlockId, GrantId, Hash, LogHash, NetworkId, ScopeTag, TransactionId};

        let (at, id) = (Timestamp::from_unix_millis, TransactionId([7; 32]));
        let policy = EmergencyPolicy {
            authorities: vec![KEY],
            approvals: 0,
            institutions: 1,
            delay: 0,
            lasts: 1,
            quota: 1,
            vetoers: vec![],
        };
        let grant = |emergency| Grant {
            vault: VAULT,
            grant: GrantId([3; 16]),
            grantee: KEY,
            scopes: vec![GrantedScope { scope: ScopeTag([1; 16]), first: 0, last: 0 }],
            rights: GrantedRights::READ,
            not_before: at(0),
            expires: at(9_000),
            quota: None,
            append_bytes: None,
            body: Hash([0; 32]),
            emergency,
        };
        let record = BlockRecord {
            network: NetworkId([0; 32]),
            height: Height(5),
            previous: BlockId([0; 32]),
            time: at(1_000),
            proposer: 0,
            roster: Hash([0; 32]),
            new_roster: None,
            log_size: 1,
            state: Hash([0; 32]),
            certificate: Hash([0; 32]),
        };
        let clinician = Clinician { key: KEY, authority: KEY, institution: "a".into(), role: "b".into() };
        let active = Emergency {
            grant: GrantId([3; 16]),
            requester: clinician,
            reason: Hash([0; 32]),
            requested: at(500),
            height: Height(4),
            approvals: vec![],
            begins: Some(at(1_000)),
            ends: at(2_000),
            vetoed: None,
            openings: 0,
            records: 0,
            is_over: false,
        };
        let may = |policy: Option<&EmergencyPolicy>, emergency: Option<&Emergency>, now| {
            let mut state = BTreeMap::new();
            let header = Header { record, log_root: LogHash([0; 32]) };
            state.insert(TIP.key(&()), header.encode());
            let grantee = Grantee { vault: VAULT, grant: GrantId([3; 16]) };
            state.insert(GRANTEES.key(&KEY), grantee.encode());
            let row = GrantRow {
                grant: grant(policy.cloned()),
                height: Height(1),
                revoked: None,
                brought: 0,
                deposits: 0,
            };
            state.insert(GRANTS.key(&(VAULT, GrantId([3; 16]))), row.encode());
            if let Some(emergency) = emergency {
                state.insert(EMERGENCIES.key(&(VAULT, id)), emergency.encode());
            }
            has_grant(&state, &VAULT, &KEY, at(now)).unwrap()
        };
        assert!(may(None, None, 1_000));
        assert!(!may(Some(&policy), None, 1_000));
        assert!(may(Some(&policy), Some(&active), 1_000));
        assert!(!may(Some(&policy), Some(&active), 999), "not by its own clock");
        assert!(!may(Some(&policy), Some(&active), 2_000));
        let vetoed = Emergency { vetoed: Some(Veto { by: KEY, time: at(1) }), ..active.clone() };
        assert!(!may(Some(&policy), Some(&vetoed), 1_000));
        let other = Emergency { grant: GrantId([4; 16]), ..active.clone() };
        assert!(!may(Some(&policy), Some(&other), 1_000));
        let waiting = Emergency { begins: None, ..active };
        assert!(!may(Some(&policy), Some(&waiting), 1_000));
    }
}
