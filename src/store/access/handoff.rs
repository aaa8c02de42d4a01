//! What is kept while keys are handed on: packages, shares that do not count yet, and the keys that are sealed to.
//!
//! A share that a node took is durable here before the node says so on the ledger, and takes the place of the one before once
//! the ledger says that it counts. The key that others seal to is replaced from time to time; the former ones stay for as long as
//! something that was sealed to them may be on its way.

use redb::{ReadableTable as _, WriteTransaction};
use zeroize::Zeroizing;

use crate::crypto::access::{Commitments, KeyShare, RestKey, SealKey, SealPublic};
use crate::crypto::hash::{Context, derive_key};
use crate::message::access::handoff::HandoffKeyOf;
use crate::message::access::package::commitments_hash;
use crate::store::access::tables::{
    self, CANDIDATES, FORMER_SEAL_KEYS, HANDOFF_PACKAGES, REVOKED, SEAL_KEY, SEAL_MARK, SHARES,
};
use crate::store::access::{AccessStore, AccessStoreError, AccessView, rest};
use crate::types::{GrantId, Hash, PublicKey, Timestamp, VaultId};

/// A key that others seal to, and since when it is not the one of now, if it is not.
#[derive(Debug, Clone)]
pub struct HeldSealKey {
    /// The key.
    pub key: SealKey,
    /// When it was replaced.
    pub replaced: Option<Timestamp>,
    seed: Zeroizing<[u8; 32]>,
}

impl HeldSealKey {
    fn new(seed: Zeroizing<[u8; 32]>, replaced: Option<Timestamp>) -> Self {
        Self { key: SealKey::from_seed(&seed), replaced, seed }
    }

    /// The secret of the key for one package of a handoff, as long as this key is here.
    #[must_use]
    pub fn handoff_secret(&self, of: &HandoffKeyOf) -> Zeroizing<[u8; 32]> {
        let mut secret = Zeroizing::new([0; 32]);
        let parts = [&self.seed[..], &of.dealer.0, &of.to.0, &of.nonce];
        derive_key(Context::HandoffKey, &parts, &mut *secret);
        secret
    }
}

/// A package of a handoff that is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeptHandoff {
    /// Its hash.
    pub hash: Hash,
    /// Whose it is.
    pub dealer: PublicKey,
    /// Since when.
    pub since: Timestamp,
}

impl AccessStore {
    /// The keys that others seal to: the one of now, which is made when it is first asked for, and the former ones.
    ///
    /// # Errors
    /// [`AccessStoreError`].
    pub fn seal_keys(&self) -> Result<Vec<HeldSealKey>, AccessStoreError> {
        drop(self.seal_key()?);
        self.view()?.seal_keys()
    }

    /// Makes another key to be sealed to, unless the one of now was made under this mark; whether it did.
    ///
    /// # Errors
    /// [`AccessStoreError`]: then the key is the one before.
    pub fn renew_seal_key(&self, mark: &Hash, now: Timestamp) -> Result<bool, AccessStoreError> {
        drop(self.seal_key()?);
        let mut secrets = self.secrets();
        let txn = self.write()?;
        let known = txn.open_table(SEAL_MARK)?.get(())?.map(|row| *row.value());
        if known == Some(mark.0) {
            return Ok(false);
        }
        txn.open_table(SEAL_MARK)?.insert((), &mark.0)?;
        let first = known.is_none();
        if !first {
            let mut seed = Zeroizing::new([0; 32]);
            (secrets.entropy)(&mut *seed).map_err(AccessStoreError::Key)?;
            let nonces = [secrets.nonce()?, secrets.nonce()?];
            replace(&txn, &secrets.rest, &seed, now, nonces)?;
        }
        txn.commit()?;
        Ok(!first)
    }

    /// Forgets former keys that were replaced before a time; how many. What the database keeps of them opens until the key of
    /// what is at rest is renewed.
    ///
    /// # Errors
    /// [`AccessStoreError`].
    pub fn forget_seal_keys(&self, before: Timestamp) -> Result<usize, AccessStoreError> {
        let txn = self.write()?;
        let mut gone = Vec::new();
        {
            let mut former = txn.open_table(FORMER_SEAL_KEYS)?;
            for row in former.range(..before.unix_micros())? {
                gone.push(row?.0.value());
            }
            for replaced in &gone {
                former.remove(replaced)?;
            }
        }
        txn.commit()?;
        Ok(gone.len())
    }

    /// Keeps a package that was checked.
    ///
    /// # Errors
    /// [`AccessStoreError`].
    pub fn keep_handoff(
        &self,
        hash: &Hash,
        dealer: &PublicKey,
        bytes: &[u8],
        now: Timestamp,
    ) -> Result<(), AccessStoreError> {
        let txn = self.write()?;
        txn.open_table(HANDOFF_PACKAGES)?.insert(&hash.0, (&dealer.0, now.unix_micros(), bytes))?;
        txn.commit()?;
        Ok(())
    }

    /// Forgets packages; how many.
    ///
    /// # Errors
    /// [`AccessStoreError`].
    pub fn forget_handoffs(&self, gone: &[Hash]) -> Result<usize, AccessStoreError> {
        let txn = self.write()?;
        let mut count = 0;
        {
            let mut packages = txn.open_table(HANDOFF_PACKAGES)?;
            for hash in gone {
                count += usize::from(packages.remove(&hash.0)?.is_some());
            }
        }
        txn.commit()?;
        Ok(count)
    }

    /// Keeps shares of the sharings that follow, each by its vault, its key's number and the epoch that it is handed on from:
    /// durable before the ledger is told.
    ///
    /// # Errors
    /// [`AccessStoreError`]: then none is kept.
    pub fn keep_candidates(
        &self,
        taken: &[(VaultId, (u32, u32), KeyShare, Commitments)],
    ) -> Result<(), AccessStoreError> {
        let mut secrets = self.secrets();
        let txn = self.write()?;
        {
            let mut table = txn.open_table(CANDIDATES)?;
            for (vault, (dealing, epoch), share, commitments) in taken {
                let hash = commitments_hash(commitments);
                let key = tables::candidate_key(vault, *dealing, *epoch, &hash);
                let nonce = secrets.nonce()?;
                let wrapped = secrets.rest.wrap(&key, &*share.to_bytes(), nonce);
                table.insert(&key, (&commitments.to_bytes()[..], &wrapped[..]))?;
            }
        }
        txn.commit()?;
        Ok(())
    }

    /// A share that was taken counts from here on: it takes the place of those before, and what else was taken of the same
    /// handoff goes. False if it is not here.
    ///
    /// # Errors
    /// [`AccessStoreError`]: then nothing has changed.
    pub fn promote(
        &self,
        vault: &VaultId,
        (dealing, epoch): (u32, u32),
        commitments: &Hash,
        audit: &SealPublic,
    ) -> Result<bool, AccessStoreError> {
        let Some(from) = epoch.checked_sub(1) else { return Ok(false) };
        let Some((share, found)) = self.view()?.candidate(vault, (dealing, from), commitments)? else {
            return Ok(false);
        };
        let mut secrets = self.secrets();
        let txn = self.write()?;
        let key = tables::share_key(vault, dealing, epoch);
        {
            let nonce = secrets.nonce()?;
            let wrapped = secrets.rest.wrap(&key, &*share.to_bytes(), nonce);
            let (place, audit) = (share.index().get(), audit.to_bytes());
            let mut shares = txn.open_table(SHARES)?;
            shares.insert(&key, (place, &found.to_bytes()[..], &audit[..], &wrapped[..]))?;
        }
        drop_before(&txn, vault, &key)?;
        txn.commit()?;
        Ok(true)
    }

    /// Drops the shares of a vault's key from before a sharing, and what was taken for it or before; whether there were any.
    /// What the database keeps of them opens until the key of what is at rest is renewed.
    ///
    /// # Errors
    /// [`AccessStoreError`].
    pub fn drop_shares(
        &self,
        vault: &VaultId,
        (dealing, epoch): (u32, u32),
    ) -> Result<bool, AccessStoreError> {
        let txn = self.write()?;
        let dropped = drop_before(&txn, vault, &tables::share_key(vault, dealing, epoch))?;
        txn.commit()?;
        Ok(dropped)
    }
}

/// Puts another seed in the place of the one of now, which is a former one from here on.
fn replace(
    txn: &WriteTransaction,
    rest: &RestKey,
    seed: &[u8; 32],
    now: Timestamp,
    [first, second]: [[u8; 24]; 2],
) -> Result<(), AccessStoreError> {
    let mut current = txn.open_table(SEAL_KEY)?;
    let wrapped = current.get(())?.map(|row| row.value().to_vec());
    let damaged = || AccessStoreError::Damaged("seal key");
    let before = rest.unwrap(rest::SEAL_PLACE, &wrapped.ok_or_else(damaged)?).map_err(|_| damaged())?;
    let mut former = txn.open_table(FORMER_SEAL_KEYS)?;
    // Two in one microsecond would be one: the clock may stand still.
    let mut at = now.unix_micros();
    while former.get(at)?.is_some() {
        at += 1;
    }
    former.insert(at, &rest.wrap(&at.to_be_bytes(), &before, first)[..])?;
    current.insert((), &rest.wrap(rest::SEAL_PLACE, seed, second)[..])?;
    Ok(())
}

/// Drops shares and candidates of a vault that are older than the share of a key.
fn drop_before(txn: &WriteTransaction, vault: &VaultId, key: &[u8; 40]) -> Result<bool, AccessStoreError> {
    let mut dropped = false;
    {
        let mut shares = txn.open_table(SHARES)?;
        let first = tables::share_key(vault, 0, 0);
        let old: Vec<_> = shares
            .range::<&[u8; 40]>(&first..key)?
            .map(|row| row.map(|(key, _)| *key.value()))
            .collect::<Result<_, _>>()?;
        for old in old {
            dropped |= shares.remove(&old)?.is_some();
        }
    }
    let mut candidates = txn.open_table(CANDIDATES)?;
    let (mut first, mut last) = ([0; 72], [0; 72]);
    first[..32].copy_from_slice(&vault.0);
    last[..40].copy_from_slice(key);
    let old: Vec<_> = candidates
        .range::<&[u8; 72]>(&first..&last)?
        .map(|row| row.map(|(key, _)| *key.value()))
        .collect::<Result<_, _>>()?;
    for old in old {
        dropped |= candidates.remove(&old)?.is_some();
    }
    Ok(dropped)
}

impl AccessView {
    /// See [`AccessStore::seal_keys`].
    fn seal_keys(&self) -> Result<Vec<HeldSealKey>, AccessStoreError> {
        let seed = |place: &[u8], wrapped: &[u8]| {
            let damaged = || AccessStoreError::Damaged("seal key");
            let seed = self.rest.unwrap(place, wrapped).map_err(|_| damaged())?;
            <[u8; 32]>::try_from(&seed[..]).map(Zeroizing::new).map_err(|_| damaged())
        };
        let mut found = Vec::new();
        if let Some(row) = self.txn.open_table(SEAL_KEY)?.get(())? {
            found.push(HeldSealKey::new(seed(rest::SEAL_PLACE, row.value())?, None));
        }
        for row in self.txn.open_table(FORMER_SEAL_KEYS)?.iter()?.rev() {
            let (at, wrapped) = row?;
            let replaced = Timestamp::from_unix_micros(at.value());
            let seed = seed(&at.value().to_be_bytes(), wrapped.value())?;
            found.push(HeldSealKey::new(seed, Some(replaced)));
        }
        Ok(found)
    }

    /// A package of a handoff.
    ///
    /// # Errors
    /// [`AccessStoreError`].
    pub fn handoff(&self, hash: &Hash) -> Result<Option<Vec<u8>>, AccessStoreError> {
        let row = self.txn.open_table(HANDOFF_PACKAGES)?.get(&hash.0)?;
        Ok(row.map(|row| row.value().2.to_vec()))
    }

    /// The packages of handoffs that are here.
    ///
    /// # Errors
    /// [`AccessStoreError`].
    pub fn handoffs(&self) -> Result<Vec<KeptHandoff>, AccessStoreError> {
        let mut found = Vec::new();
        for row in self.txn.open_table(HANDOFF_PACKAGES)?.iter()? {
            let (hash, row) = row?;
            let (dealer, since, _) = row.value();
            found.push(KeptHandoff {
                hash: Hash(*hash.value()),
                dealer: PublicKey(*dealer),
                since: Timestamp::from_unix_micros(since),
            });
        }
        Ok(found)
    }

    /// A share that was taken of a handoff, by what it is handed on from and the commitments of what it is of.
    ///
    /// # Errors
    /// [`AccessStoreError`].
    pub fn candidate(
        &self,
        vault: &VaultId,
        (dealing, from): (u32, u32),
        commitments: &Hash,
    ) -> Result<Option<(KeyShare, Commitments)>, AccessStoreError> {
        let key = tables::candidate_key(vault, dealing, from, commitments);
        let Some(row) = self.txn.open_table(CANDIDATES)?.get(&key)? else { return Ok(None) };
        let (commitments, wrapped) = row.value();
        let damaged = || AccessStoreError::Damaged("candidates");
        let share = self.rest.unwrap(&key, wrapped).map_err(|_| damaged())?;
        let share = KeyShare::from_slice(&share).map_err(|_| damaged())?;
        Ok(Some((share, Commitments::from_slice(commitments).map_err(|_| damaged())?)))
    }

    /// What entries of a vault's log are sealed to, as the newest share that is here says.
    ///
    /// # Errors
    /// [`AccessStoreError`].
    pub fn audit_key(&self, vault: &VaultId) -> Result<Option<SealPublic>, AccessStoreError> {
        let (first, last) = (tables::share_key(vault, 0, 0), tables::share_key(vault, u32::MAX, u32::MAX));
        let shares = self.txn.open_table(SHARES)?;
        let Some(row) = shares.range::<&[u8; 40]>(&first..=&last)?.next_back() else { return Ok(None) };
        let audit = SealPublic::from_slice(row?.1.value().2);
        audit.map(Some).map_err(|_| AccessStoreError::Damaged("shares"))
    }

    /// Whether this node has a share of a sharing.
    ///
    /// # Errors
    /// [`AccessStoreError`].
    pub fn has_share(&self, vault: &VaultId, (dealing, epoch): (u32, u32)) -> Result<bool, AccessStoreError> {
        Ok(self.txn.open_table(SHARES)?.get(&tables::share_key(vault, dealing, epoch))?.is_some())
    }

    /// The signed revocations of a vault's grants that were seen.
    ///
    /// # Errors
    /// [`AccessStoreError`].
    pub fn revocations(&self, vault: &VaultId) -> Result<Vec<(GrantId, Vec<u8>)>, AccessStoreError> {
        let (first, last) =
            (tables::grant_key(vault, &GrantId([0; 16])), tables::grant_key(vault, &GrantId([0xff; 16])));
        let mut found = Vec::new();
        for row in self.txn.open_table(REVOKED)?.range::<&[u8; 48]>(&first..=&last)? {
            let (key, transaction) = row?;
            let mut grant = GrantId([0; 16]);
            grant.0.copy_from_slice(&key.value()[32..]);
            found.push((grant, transaction.value().to_vec()));
        }
        Ok(found)
    }
}

/// Wraps what is kept here under the next key of what is at rest.
pub(super) fn rewrap(
    txn: &WriteTransaction,
    old: &RestKey,
    next: &RestKey,
    mut nonce: impl FnMut() -> Result<[u8; 24], AccessStoreError>,
) -> Result<(), AccessStoreError> {
    let mut former = txn.open_table(FORMER_SEAL_KEYS)?;
    let mut rows = Vec::new();
    for row in former.iter()? {
        let (at, wrapped) = row?;
        let place = at.value().to_be_bytes();
        let plain = old.unwrap(&place, wrapped.value()).map_err(|_| AccessStoreError::Damaged("seal key"))?;
        rows.push((at.value(), next.wrap(&place, &plain, nonce()?)));
    }
    for (at, wrapped) in rows {
        former.insert(at, &wrapped[..])?;
    }
    let mut candidates = txn.open_table(CANDIDATES)?;
    let mut rows = Vec::new();
    for row in candidates.iter()? {
        let (key, row) = row?;
        let (commitments, wrapped) = row.value();
        let plain = old.unwrap(key.value(), wrapped).map_err(|_| AccessStoreError::Damaged("candidates"))?;
        rows.push((*key.value(), commitments.to_vec(), next.wrap(key.value(), &plain, nonce()?)));
    }
    for (key, commitments, wrapped) in rows {
        candidates.insert(&key, (&commitments[..], &wrapped[..]))?;
    }
    Ok(())
}
