//! The owner's seed and the key schedule below it.
//!
//! 32 bytes of entropy are the whole secret: as 24 words (BIP-39) a person can keep them on paper, and every
//! key of the owner derives from them. Only data keys of versions are random and live in the index.

use std::fmt;

use bip39::{Language, Mnemonic};
use subtle::ConstantTimeEq as _;
use zeroize::{ZeroizeOnDrop, Zeroizing};

use crate::crypto::access::AccessKeys;
use crate::crypto::frame::CommitKey;
use crate::crypto::hash::{Context, derive_key};
use crate::crypto::sign::KeyPair;
use crate::types::limits::MAX_KEY_GENERATION;
use crate::types::{CollectionName, CollectionTag, PublicKey, VaultId};

/// Words of a phrase.
pub const PHRASE_WORDS: usize = 24;

/// Why words are not a seed phrase. No error shows a word of the phrase.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PhraseError {
    /// Not 24 words.
    #[error("a seed phrase has {PHRASE_WORDS} words, this has {0}")]
    Count(usize),
    /// A word that is not in the list.
    #[error("word {0} of the phrase is not in the BIP-39 English word list")]
    UnknownWord(usize),
    /// All words are known, but they do not belong together: one is wrong or two are swapped.
    #[error("the phrase's checksum is wrong: a word is wrong, or two are swapped")]
    Checksum,
}

/// The owner's secret: 32 bytes from which every key derives. Wiped on drop, compared in constant time,
/// never shown.
#[derive(Clone, ZeroizeOnDrop)]
pub struct Seed([u8; 32]);

impl Seed {
    /// The seed of 32 random bytes.
    #[must_use]
    pub const fn from_entropy(entropy: [u8; 32]) -> Self {
        Self(entropy)
    }

    /// The secret bytes, for the sealed key file.
    #[must_use]
    pub const fn entropy(&self) -> &[u8; 32] {
        &self.0
    }

    /// Reads the 24 words, in any case and spacing.
    ///
    /// # Errors
    /// [`PhraseError`] says what is wrong, by position.
    pub fn from_phrase(phrase: &str) -> Result<Self, PhraseError> {
        let count = phrase.split_whitespace().count();
        if count != PHRASE_WORDS {
            return Err(PhraseError::Count(count));
        }
        let mut lower = Zeroizing::new(phrase.to_owned());
        lower.make_ascii_lowercase();
        let mnemonic =
            Mnemonic::parse_in_normalized(Language::English, &lower).map_err(|wrong| match wrong {
                bip39::Error::UnknownWord(at) => PhraseError::UnknownWord(at + 1),
                _ => PhraseError::Checksum,
            })?;
        let (entropy, len) = mnemonic.to_entropy_array();
        let entropy = Zeroizing::new(entropy);
        let seed = entropy[..len].try_into().map_err(|_| PhraseError::Count(count))?;
        Ok(Self(seed))
    }

    /// The seed as 24 words.
    ///
    /// # Panics
    /// Never: 32 bytes always have a phrase.
    #[must_use]
    pub fn phrase(&self) -> Zeroizing<String> {
        Zeroizing::new(self.mnemonic().to_string())
    }

    /// What the keys of the owner's vaults derive from, which takes a moment to make.
    #[must_use]
    pub fn root(&self) -> OwnerRoot {
        let seed = Zeroizing::new(self.mnemonic().to_seed_normalized(""));
        OwnerRoot(secret(Context::OwnerRoot, &[&*seed]))
    }

    /// The keys of one of the owner's vaults.
    ///
    /// # Panics
    /// As [`OwnerRoot::vault`].
    #[must_use]
    pub fn vault(&self, vault_no: u32, generation: u32) -> VaultKeys {
        self.root().vault(vault_no, generation)
    }

    fn mnemonic(&self) -> Mnemonic {
        match Mnemonic::from_entropy_in(Language::English, &self.0) {
            Ok(mnemonic) => mnemonic,
            Err(_) => unreachable!("32 bytes always have a phrase"),
        }
    }
}

impl PartialEq for Seed {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl Eq for Seed {}

impl fmt::Debug for Seed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Seed(..)")
    }
}

/// The owner's root, from which each generation of each vault's keys derives. Wiped on drop, never shown.
#[derive(Clone)]
pub struct OwnerRoot(Zeroizing<[u8; 32]>);

impl fmt::Debug for OwnerRoot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OwnerRoot(..)")
    }
}

impl OwnerRoot {
    /// The keys of one of the owner's vaults in a generation.
    ///
    /// # Panics
    /// If there are no so late generations: see [`MAX_KEY_GENERATION`].
    #[must_use]
    pub fn vault(&self, vault_no: u32, generation: u32) -> VaultKeys {
        assert!(generation <= MAX_KEY_GENERATION, "generation {generation}");
        let number = vault_no.to_le_bytes();
        let root_of =
            |generation: u32| secret(Context::VaultRoot, &[&*self.0, &number, &generation.to_le_bytes()]);
        let mut vault = [0; 32];
        derive_key(Context::VaultId, &[&*self.0, &number], &mut vault);
        let roots: Vec<_> = (0..=generation).map(root_of).collect();
        let next = signing_of(&root_of(generation + 1)).public();
        VaultKeys::of(VaultId(vault), roots, Some(next))
    }
}

fn signing_of(root: &[u8; 32]) -> KeyPair {
    KeyPair::from_secret(&secret(Context::VaultSigning, &[root]))
}

/// The keys that a device uses for one vault, in one generation of them. A rotation begins the next one, which nobody can derive
/// who has only these; what was sealed under those before opens with the keys of now.
#[derive(Clone)]
pub struct VaultKeys {
    vault: VaultId,
    signing: KeyPair,
    index_key: Zeroizing<[u8; 32]>,
    /// One for each generation.
    commit_keys: Vec<CommitKey>,
    /// Of the first generation: tags on the ledger stay what they are.
    tag_key: Zeroizing<[u8; 32]>,
    /// The vault's roots, one for each generation, from which all of this derives. Never empty.
    roots: Vec<Zeroizing<[u8; 32]>>,
    /// The key after [`signing`](Self::signing), where the owner's root is known.
    next: Option<PublicKey>,
}

impl VaultKeys {
    fn of(vault: VaultId, roots: Vec<Zeroizing<[u8; 32]>>, next: Option<PublicKey>) -> Self {
        let (first, last) = (&roots[0], &roots[roots.len() - 1]);
        let commit_key =
            |root: &Zeroizing<[u8; 32]>| CommitKey::from_bytes(*secret(Context::CommitKey, &[&**root]));
        Self {
            vault,
            signing: signing_of(last),
            index_key: secret(Context::LocalIndex, &[&**last]),
            commit_keys: roots.iter().map(commit_key).collect(),
            tag_key: secret(Context::TagKey, &[&**first]),
            roots,
            next,
        }
    }

    /// The generation.
    #[must_use]
    pub fn generation(&self) -> u32 {
        u32::try_from(self.roots.len() - 1).unwrap_or(MAX_KEY_GENERATION)
    }

    /// The key of the next generation; none for who has this vault's keys of now alone.
    #[must_use]
    pub const fn next_key(&self) -> Option<&PublicKey> {
        self.next.as_ref()
    }

    /// What a device needs that is not to have the words: it can do all that there is to do until the keys are rotated, and
    /// nothing from then on.
    #[must_use]
    pub fn to_device_bytes(&self) -> Zeroizing<Vec<u8>> {
        // As long as it gets, so that no part of it stays where it was before.
        let mut bytes = Zeroizing::new(Vec::with_capacity(32 * (1 + self.roots.len())));
        bytes.extend_from_slice(&self.vault.0);
        self.roots.iter().for_each(|root| bytes.extend_from_slice(&**root));
        bytes
    }

    /// Reads what [`Self::to_device_bytes`] wrote; none of anything else.
    #[must_use]
    pub fn from_device_bytes(bytes: &[u8]) -> Option<Self> {
        let (vault, rest) = bytes.split_first_chunk()?;
        let (roots, left) = rest.as_chunks::<32>();
        let most = usize::try_from(MAX_KEY_GENERATION).ok()? + 1;
        if roots.is_empty() || roots.len() > most || !left.is_empty() {
            return None;
        }
        Some(Self::of(VaultId(*vault), roots.iter().map(|root| Zeroizing::new(*root)).collect(), None))
    }

    /// The vault on the ledger. It is the same for all generations of its keys, and tells nothing of them.
    #[must_use]
    pub const fn vault(&self) -> &VaultId {
        &self.vault
    }

    /// The keys by which others are let in.
    #[must_use]
    pub fn access(&self) -> AccessKeys {
        AccessKeys::new(self.vault, self.roots.clone())
    }

    /// What commits are sealed with.
    #[must_use]
    pub fn commit_key(&self) -> &CommitKey {
        &self.commit_keys[self.commit_keys.len() - 1]
    }

    /// What commits were ever sealed with, by generation.
    #[must_use]
    pub fn commit_keys(&self) -> &[CommitKey] {
        &self.commit_keys
    }

    /// The name of a collection as the ledger sees it: nobody without the vault's keys can tell what it stands for, or
    /// try names.
    #[must_use]
    pub fn collection_tag(&self, name: &CollectionName) -> CollectionTag {
        let mut tag = [0; 32];
        derive_key(Context::CollectionTag, &[&*self.tag_key, name.as_str().as_bytes()], &mut tag);
        CollectionTag(tag)
    }

    /// The vault's identity: it signs for the owner and is the client's name towards nodes.
    #[must_use]
    pub const fn signing(&self) -> &KeyPair {
        &self.signing
    }

    /// The key of the local index.
    #[must_use]
    pub fn index_key(&self) -> &[u8; 32] {
        &self.index_key
    }
}

impl fmt::Debug for VaultKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "VaultKeys({})", self.signing.public().short())
    }
}

fn secret(context: Context, parts: &[&[u8]]) -> Zeroizing<[u8; 32]> {
    let mut key = Zeroizing::new([0; 32]);
    derive_key(context, parts, &mut *key);
    key
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_phrase_gives_back_its_seed() {
        let seed = Seed::from_entropy(std::array::from_fn(|n| u8::try_from(n).unwrap()));
        let phrase = seed.phrase();
        assert_eq!(phrase.split_whitespace().count(), PHRASE_WORDS);
        assert_eq!(Seed::from_phrase(&phrase), Ok(seed.clone()));
        assert_eq!(Seed::from_phrase(&format!("\n {}", phrase.to_uppercase().replace(' ', " \t"))), Ok(seed));
        // The vector of BIP-39 for 32 zero bytes.
        assert_eq!(*Seed::from_entropy([0; 32]).phrase(), format!("{}art", "abandon ".repeat(23)));
    }

    #[test]
    fn wrong_phrases_are_told_apart() {
        let good = Seed::from_entropy([0; 32]).phrase();
        assert_eq!(Seed::from_phrase("abandon art"), Err(PhraseError::Count(2)));
        assert_eq!(Seed::from_phrase(&good.replace("art", "arrt")), Err(PhraseError::UnknownWord(24)));
        assert_eq!(Seed::from_phrase(&good.replace("art", "able")), Err(PhraseError::Checksum));
        assert_eq!(Seed::from_phrase(""), Err(PhraseError::Count(0)));
    }

    #[test]
    fn whatever_the_words_a_phrase_is_accepted_only_as_it_is_written() {
        let mut random = blake3::Hasher::new().update(b"phrases").finalize_xof();
        let mut draw = |below: usize| {
            let mut bytes = [0; 8];
            random.fill(&mut bytes);
            usize::try_from(u64::from_le_bytes(bytes) % below as u64).unwrap()
        };
        let list = Language::English.word_list();
        let odd = ["", "é", "ABANDON", "İ", "\u{3000}", "zoo\0", "abando", "\u{301}"];
        for round in 0..3_000 {
            let mut words: Vec<&str> = (0..PHRASE_WORDS).map(|_| list[draw(list.len())]).collect();
            match round % 4 {
                0 => words.truncate(draw(PHRASE_WORDS)),
                1 => words[draw(PHRASE_WORDS)] = odd[draw(odd.len())],
                2 => words.extend((0..draw(100)).map(|_| list[draw(list.len())])),
                _ => {}
            }
            let phrase = words.join(" ");
            if let Ok(seed) = Seed::from_phrase(&phrase) {
                assert_eq!(*seed.phrase(), phrase.to_lowercase());
            }
        }
    }

    #[test]
    fn vaults_and_generations_have_keys_of_their_own() {
        let seed = Seed::from_entropy([7; 32]);
        let keys =
            [seed.vault(0, 0), seed.vault(1, 0), seed.vault(0, 1), Seed::from_entropy([8; 32]).vault(0, 0)];
        for (at, one) in keys.iter().enumerate() {
            for other in &keys[at + 1..] {
                assert_ne!(one.signing().public(), other.signing().public());
                assert_ne!(one.index_key(), other.index_key());
            }
        }
        assert_eq!(keys[0].vault(), keys[2].vault(), "a vault stays the same over generations");
        let name = "c".parse().unwrap();
        let tags = keys.each_ref().map(|keys| keys.collection_tag(&name));
        assert_eq!(tags[0], tags[2], "and so do its collections");
        assert!(tags[0] != tags[1] && tags[0] != tags[3]);
        assert!(keys[0].vault() != keys[1].vault() && keys[0].vault() != keys[3].vault());
        let tag = |name: &str| keys[0].collection_tag(&name.parse().unwrap());
        assert_ne!(tag("a"), tag("b"));
    }

    #[test]
    fn a_device_has_the_keys_of_its_generation_and_not_the_next() {
        let seed = Seed::from_entropy([7; 32]);
        for generation in [0, 1, 5] {
            let keys = seed.vault(0, generation);
            assert_eq!(keys.generation(), generation);
            assert_eq!(keys.next_key(), Some(&seed.vault(0, generation + 1).signing().public()));
            let bytes = keys.to_device_bytes();
            let device = VaultKeys::from_device_bytes(&bytes).unwrap();
            assert_eq!((device.generation(), device.next_key()), (generation, None));
            assert_eq!(device.vault(), keys.vault());
            assert_eq!(device.signing().public(), keys.signing().public());
            assert_eq!(device.index_key(), keys.index_key());
            assert_eq!(device.commit_keys().len(), usize::try_from(generation).unwrap() + 1);
            let next = seed.vault(0, generation + 1);
            let root = next.to_device_bytes();
            let has = |secret: &[u8]| bytes.windows(32).any(|at| at == secret);
            assert!(!has(&root[root.len() - 32..]) && !has(seed.entropy()) && !has(&seed.root().0[..]));
            for len in [0, 31, 32, 33, bytes.len() - 1] {
                assert!(VaultKeys::from_device_bytes(&bytes[..len]).is_none());
            }
        }
        let most = 32 * (usize::try_from(MAX_KEY_GENERATION).unwrap() + 2);
        assert!(VaultKeys::from_device_bytes(&vec![1; most]).is_some());
        assert!(VaultKeys::from_device_bytes(&vec![1; most + 32]).is_none());
    }

    #[test]
    fn debug_output_shows_no_secret() {
        let seed = Seed::from_entropy([0xab; 32]);
        let text = format!("{seed:?} {:?} {:?}", seed.root(), seed.vault(0, 0));
        assert!(!text.contains("abab") && !text.contains("171"), "{text}");
    }
}
