//! What an owner derives for access from a vault's root: tags, scope keys, the PRF key and keys to seal to.

use zeroize::{ZeroizeOnDrop, Zeroizing};

use crate::crypto::access::day_tree::{DayKey, DayNode, DayRange};
use crate::crypto::access::dprf::PrfKey;
use crate::crypto::access::seal::SealKey;
use crate::crypto::hash::{Context, derive_key, length_prefix};
use crate::crypto::sign::KeyPair;
use crate::types::{
    CollectionName, Day, GrantId, PublicKey, RecordName, RecordTag, ScopePath, ScopeTag, VaultId,
};

/// The keys of access of one vault, in one generation of the vault's keys.
#[derive(Clone)]
pub struct AccessKeys {
    vault: VaultId,
    /// The vault's roots, one for each generation up to this one. Never empty.
    roots: Vec<Zeroizing<[u8; 32]>>,
    /// The key of the tags of scopes, which are others in each generation.
    scope_tags: Zeroizing<[u8; 32]>,
    /// The key of the tags of records, which stay what they are: what is erased is so whoever brought it.
    tag_key: Zeroizing<[u8; 32]>,
}

/// The key of one generation of a scope, called A in the design: it gives the key of every day.
#[derive(Clone, ZeroizeOnDrop)]
pub struct ScopeKey([u8; 32]);

/// What an emergency card has: the keys of its grant derive from it.
#[derive(Clone, ZeroizeOnDrop)]
pub struct CardSecret([u8; 32]);

/// What tells the days of a scope's keyslots, called L in the design. Who may list a scope has it; static nodes do not.
#[derive(Clone, ZeroizeOnDrop)]
pub struct ListKey([u8; 32]);

opaque_debug!(AccessKeys, ScopeKey, ListKey, CardSecret);

impl AccessKeys {
    /// The keys below a vault's roots, as [`crate::crypto::seed::VaultKeys`] has them.
    pub(in crate::crypto) fn new(vault: VaultId, roots: Vec<Zeroizing<[u8; 32]>>) -> Self {
        let tag_key = |root: &[u8; 32]| {
            let mut key = Zeroizing::new([0; 32]);
            derive_key(Context::TagKey, &[root], &mut *key);
            key
        };
        let (scope_tags, tag_key) = (tag_key(&roots[roots.len() - 1]), tag_key(&roots[0]));
        Self { vault, roots, scope_tags, tag_key }
    }

    /// The keys of this generation of the vault's or one before; none of those that come later.
    #[must_use]
    pub fn of_generation(&self, generation: u32) -> Option<Self> {
        let roots = self.roots.get(..=usize::try_from(generation).ok()?)?;
        Some(Self::new(self.vault, roots.to_vec()))
    }

    /// The root of this generation.
    fn root(&self) -> &[u8; 32] {
        &self.roots[self.roots.len() - 1]
    }

    /// The scope as others know it: nobody without the vault's keys can tell what it stands for, or try paths.
    #[must_use]
    pub fn scope_tag(&self, path: &ScopePath) -> ScopeTag {
        let path = path.as_str().as_bytes();
        let mut hasher = blake3::Hasher::new_keyed(&self.scope_tags);
        hasher.update(&length_prefix(path)).update(path);
        let mut tag = [0; 16];
        hasher.finalize_xof().fill(&mut tag);
        ScopeTag(tag)
    }

    /// The key of a generation of a scope.
    #[must_use]
    pub fn scope_key(&self, path: &ScopePath, generation: u32) -> ScopeKey {
        let parts = [&self.root()[..], path.as_str().as_bytes(), &generation.to_le_bytes()];
        let mut key = ScopeKey([0; 32]);
        derive_key(Context::ScopeKey, &parts, &mut key.0);
        key
    }

    /// The vault's PRF key of this number: the owner evaluates it alone, the static nodes have shares of it.
    #[must_use]
    pub fn prf_key(&self, dealing: u32) -> PrfKey {
        let mut wide = Zeroizing::new([0; 64]);
        let parts = [&self.root()[..], self.vault.as_bytes(), &dealing.to_le_bytes()];
        derive_key(Context::VaultDprf, &parts, &mut *wide);
        PrfKey::from_wide(&wide)
    }

    /// What writers seal to who have no scope key.
    #[must_use]
    pub fn inbox(&self) -> SealKey {
        seal_key(self.root(), Context::VaultInbox)
    }

    /// What they ever sealed to, that of this generation first.
    #[must_use]
    pub fn inboxes(&self) -> Vec<SealKey> {
        self.roots.iter().rev().map(|root| seal_key(root, Context::VaultInbox)).collect()
    }

    /// What static nodes seal the entries of the access log to.
    #[must_use]
    pub fn audit(&self) -> SealKey {
        seal_key(self.root(), Context::VaultAudit)
    }

    /// What they ever sealed entries to, that of this generation first.
    #[must_use]
    pub fn audits(&self) -> Vec<SealKey> {
        self.roots.iter().rev().map(|root| seal_key(root, Context::VaultAudit)).collect()
    }

    /// A record as static nodes know it. It tells nothing of the name, and nobody without the vault's keys can try names.
    #[must_use]
    pub fn record_tag(&self, collection: &CollectionName, name: &RecordName) -> RecordTag {
        let mut tag = [0; 16];
        let parts = [&self.tag_key[..], collection.as_str().as_bytes(), name.as_str().as_bytes()];
        derive_key(Context::RecordTag, &parts, &mut tag);
        RecordTag(tag)
    }

    /// The keys by which this vault's owner is let into others' vaults: one pair for each key package.
    #[must_use]
    pub fn grantee(&self, package: u32) -> (KeyPair, SealKey) {
        grantee_of(self.root(), package)
    }

    /// The secret on the card of an emergency grant of this vault: the card can be made anew from the seed.
    #[must_use]
    pub fn card(&self, grant: &GrantId) -> CardSecret {
        let mut secret = CardSecret([0; 32]);
        derive_key(Context::CardSecret, &[self.root(), grant.as_bytes()], &mut secret.0);
        secret
    }

    /// The pair of a key package that was made in whichever generation: the one with this key, if it is of this vault's.
    #[must_use]
    pub fn grantee_with(&self, package: u32, key: &PublicKey) -> Option<(KeyPair, SealKey)> {
        let pairs = self.roots.iter().rev().map(|root| grantee_of(root, package));
        pairs.into_iter().find(|(signing, _)| signing.public() == *key)
    }
}

fn grantee_of(root: &[u8; 32], package: u32) -> (KeyPair, SealKey) {
    let secret = |context| {
        let mut secret = Zeroizing::new([0; 32]);
        derive_key(context, &[root, &package.to_le_bytes()], &mut *secret);
        secret
    };
    let signing = KeyPair::from_secret(&secret(Context::GranteeSigning));
    (signing, SealKey::from_seed(&secret(Context::GranteeSeal)))
}

fn seal_key(root: &[u8; 32], context: Context) -> SealKey {
    let mut seed = Zeroizing::new([0; 32]);
    derive_key(context, &[root], &mut *seed);
    SealKey::from_seed(&seed)
}

impl ScopeKey {
    /// The key of these 32 bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The root of the scope's days.
    #[must_use]
    pub fn days(&self) -> DayNode {
        DayNode::root(&self.0)
    }

    /// The key of a day.
    #[must_use]
    pub fn day(&self, day: Day) -> DayKey {
        self.days().descend(day)
    }

    /// The fewest nodes that give the keys of these days and of no other.
    #[must_use]
    pub fn cover(&self, days: DayRange) -> Vec<DayNode> {
        self.days().cover(days)
    }

    /// The key that tells the days of the scope's keyslots.
    #[must_use]
    pub fn list_key(&self) -> ListKey {
        let mut key = ListKey([0; 32]);
        derive_key(Context::ScopeList, &[&self.0], &mut key.0);
        key
    }
}

impl CardSecret {
    /// The secret of these 32 bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The secret bytes, for the card.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The grant's keys: one that nodes know it by, and one that its body is sealed to.
    #[must_use]
    pub fn keys(&self) -> (KeyPair, SealKey) {
        let secret = |context| {
            let mut secret = Zeroizing::new([0; 32]);
            derive_key(context, &[&self.0], &mut *secret);
            secret
        };
        let signing = KeyPair::from_secret(&secret(Context::CardSigning));
        (signing, SealKey::from_seed(&secret(Context::CardSeal)))
    }
}

impl ListKey {
    /// The key of these 32 bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The secret bytes, for the sealed body of a grant.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Hides a day in the slot with this nonce.
    #[must_use]
    pub fn hint(&self, day: Day, nonce: &[u8]) -> [u8; 2] {
        let mut mask = [0; 2];
        derive_key(Context::SlotHint, &[&self.0, nonce], &mut mask);
        (day.0 ^ u16::from_le_bytes(mask)).to_le_bytes()
    }

    /// The day that [`Self::hint`] hid. Under a wrong key it is any day.
    #[must_use]
    pub fn day(&self, hint: [u8; 2], nonce: &[u8]) -> Day {
        Day(u16::from_le_bytes(self.hint(Day(u16::from_le_bytes(hint)), nonce)))
    }
}
