//! A secret sealed under a passphrase: the format of the key file.
//!
//! ```text
//! magic 8 "xvaultks" | version 1 | memory KiB u32le | passes u32le | lanes u32le | salt 16 | nonce 24
//! | commitment 32 | ciphertext and tag | BLAKE3 of all before 32
//! ```
//! Argon2id (RFC 9106) makes guessing dear. The cipher alone would let one file open under many keys, so that
//! whoever forges files could try many passphrases in one go: the commitment, a hash of key, nonce and header,
//! prevents it ([Bellare and Hoang, UtC](https://eprint.iacr.org/2022/268)). The hash at the end tells a
//! damaged file from a wrong passphrase.

use argon2::{Algorithm, Argon2, Params, Version};
use chacha20poly1305::aead::{Aead as _, Payload};
use chacha20poly1305::{KeyInit as _, XChaCha20Poly1305};
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

use crate::crypto::hash::{Context, derive_key};

const MAGIC: &[u8; 8] = b"xvaultks";
const VERSION: u8 = 1;
const SALT_AT: usize = 8 + 1 + 12;
const NONCE_AT: usize = SALT_AT + 16;
const HEADER_LEN: usize = NONCE_AT + 24;
const COMMITMENT_LEN: usize = 32;
const CHECKSUM_LEN: usize = 32;
const TAG_LEN: usize = 16;

/// Most memory that a file may ask for, KiB: 1 GiB, so that a forged file cannot exhaust the machine.
const MAX_MEMORY_KIB: u32 = 1 << 20;
/// Most passes that a file may ask for.
const MAX_PASSES: u32 = 64;
/// Most lanes that a file may ask for.
const MAX_LANES: u32 = 16;

/// What guessing a passphrase costs (RFC 9106 section 4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cost {
    memory_kib: u32,
    passes: u32,
    lanes: u32,
}

impl Cost {
    /// For a person at a terminal: 64 MiB, three passes, about a seventh of a second.
    pub const INTERACTIVE: Self = Self { memory_kib: 64 * 1024, passes: 3, lanes: 1 };

    /// As little as Argon2 allows: for tests.
    #[cfg(any(test, feature = "testing"))]
    pub const TEST: Self = Self { memory_kib: 8, passes: 1, lanes: 1 };
}

/// Why a sealed secret does not open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// The file is whole, but not sealed under this passphrase.
    #[error("wrong passphrase")]
    WrongPassphrase,
    /// The file is not what was written: cut, changed, or no key file at all.
    #[error("the key file is damaged")]
    Damaged,
    /// Written by a newer version of the program, or with costs beyond what is accepted.
    #[error("the key file has a format that this version does not read")]
    Unsupported,
}

/// Seals a secret. `salt` and `nonce` must be fresh random bytes.
///
/// # Panics
/// Never with the costs that [`Cost`] offers.
#[must_use]
pub fn seal(secret: &[u8], passphrase: &str, cost: Cost, salt: [u8; 16], nonce: [u8; 24]) -> Vec<u8> {
    let mut file = Vec::with_capacity(HEADER_LEN + COMMITMENT_LEN + secret.len() + TAG_LEN + CHECKSUM_LEN);
    file.extend_from_slice(MAGIC);
    file.push(VERSION);
    for number in [cost.memory_kib, cost.passes, cost.lanes] {
        file.extend_from_slice(&number.to_le_bytes());
    }
    file.extend_from_slice(&salt);
    file.extend_from_slice(&nonce);
    let Some(keys) = keys(passphrase, cost, &file) else { unreachable!("costs are within Argon2's bounds") };
    let payload = Payload { msg: secret, aad: &file };
    let Ok(sealed) = cipher(&keys).encrypt(&nonce.into(), payload) else {
        unreachable!("a secret of a few bytes is within the cipher's bounds")
    };
    file.extend_from_slice(&keys[32..]);
    file.extend_from_slice(&sealed);
    let checksum = blake3::hash(&file);
    file.extend_from_slice(checksum.as_bytes());
    file
}

/// Opens what [`seal`] made.
///
/// # Errors
/// [`OpenError`] tells a wrong passphrase from a damaged file.
pub fn open(file: &[u8], passphrase: &str) -> Result<Zeroizing<Vec<u8>>, OpenError> {
    let (body, checksum) = file.split_last_chunk::<CHECKSUM_LEN>().ok_or(OpenError::Damaged)?;
    if body.len() < HEADER_LEN + COMMITMENT_LEN + TAG_LEN || !body.starts_with(MAGIC) {
        return Err(OpenError::Damaged);
    }
    if blake3::hash(body) != *checksum {
        return Err(OpenError::Damaged);
    }
    let (header, sealed) = body.split_at(HEADER_LEN);
    let (commitment, sealed) = sealed.split_at(COMMITMENT_LEN);
    if header[8] != VERSION {
        return Err(OpenError::Unsupported);
    }
    let keys = keys(passphrase, cost_of(header)?, header).ok_or(OpenError::Unsupported)?;
    if !bool::from(keys[32..].ct_eq(commitment)) {
        return Err(OpenError::WrongPassphrase);
    }
    let nonce: [u8; 24] = header[NONCE_AT..].try_into().map_err(|_| OpenError::Damaged)?;
    let payload = Payload { msg: sealed, aad: header };
    cipher(&keys).decrypt(&nonce.into(), payload).map(Zeroizing::new).map_err(|_| OpenError::Damaged)
}

fn cost_of(header: &[u8]) -> Result<Cost, OpenError> {
    let number = |at: usize| -> u32 {
        let bytes: Option<[u8; 4]> = header.get(9 + 4 * at..13 + 4 * at).and_then(|b| b.try_into().ok());
        bytes.map_or(0, u32::from_le_bytes)
    };
    let cost = Cost { memory_kib: number(0), passes: number(1), lanes: number(2) };
    if cost.memory_kib > MAX_MEMORY_KIB || cost.passes > MAX_PASSES || cost.lanes > MAX_LANES {
        return Err(OpenError::Unsupported);
    }
    Ok(cost)
}

/// Encryption key and commitment; `None` for costs that Argon2 does not have.
fn keys(passphrase: &str, cost: Cost, header: &[u8]) -> Option<Zeroizing<[u8; 64]>> {
    let params = Params::new(cost.memory_kib, cost.passes, cost.lanes, Some(32)).ok()?;
    let argon = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
    let mut stretched = Zeroizing::new([0; 32]);
    argon.hash_password_into(passphrase.as_bytes(), &header[SALT_AT..NONCE_AT], &mut *stretched).ok()?;
    let mut keys = Zeroizing::new([0; 64]);
    derive_key(Context::Passphrase, &[&*stretched, header], &mut *keys);
    Some(keys)
}

fn cipher(keys: &[u8; 64]) -> XChaCha20Poly1305 {
    let mut key = Zeroizing::new([0; 32]);
    key.copy_from_slice(&keys[..32]);
    XChaCha20Poly1305::new(&(*key).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sealed() -> Vec<u8> {
        seal(b"the secret", "correct horse", Cost::TEST, [1; 16], [2; 24])
    }

    #[test]
    fn only_the_passphrase_opens_it() {
        assert_eq!(open(&sealed(), "correct horse").unwrap().as_slice(), b"the secret");
        for wrong in ["", "correct hors", "correct horse "] {
            assert_eq!(open(&sealed(), wrong), Err(OpenError::WrongPassphrase), "{wrong:?}");
        }
        let marker: &[u8] = b"the secret";
        assert!(!sealed().windows(marker.len()).any(|window| window == marker));
    }

    #[test]
    fn every_changed_bit_and_every_cut_is_damage() {
        let file = sealed();
        for at in 0..file.len() {
            for bit in 0..8 {
                let mut changed = file.clone();
                changed[at] ^= 1 << bit;
                assert_eq!(
                    open(&changed, "correct horse"),
                    Err(OpenError::Damaged),
                    "bit {bit} of byte {at}"
                );
            }
            assert_eq!(open(&file[..at], "correct horse"), Err(OpenError::Damaged));
        }
    }

    /// Ends a file with the hash that belongs there, as a forger would.
    fn with_checksum(body: &[u8]) -> Vec<u8> {
        [body, blake3::hash(body).as_bytes()].concat()
    }

    #[test]
    fn a_forged_file_never_opens() {
        let file = sealed();
        let body = &file[..file.len() - CHECKSUM_LEN];
        // Not the costs: those have a test of their own, and large ones take long to compute.
        for at in (0..9).chain(SALT_AT..body.len()) {
            let mut changed = body.to_vec();
            changed[at] ^= 4;
            let opened = open(&with_checksum(&changed), "correct horse");
            let expected = match at {
                0..8 => OpenError::Damaged,
                8 => OpenError::Unsupported,
                SALT_AT.. if at < HEADER_LEN + COMMITMENT_LEN => OpenError::WrongPassphrase,
                _ => OpenError::Damaged,
            };
            assert_eq!(opened, Err(expected), "byte {at}");
        }
    }

    #[test]
    fn random_bytes_are_refused() {
        let mut random = blake3::Hasher::new().update(b"key files").finalize_xof();
        for round in 0..2_000 {
            let mut bytes = vec![0; round % 300];
            random.fill(&mut bytes);
            assert_eq!(open(&bytes, "correct horse"), Err(OpenError::Damaged));
            assert!(open(&with_checksum(&bytes), "correct horse").is_err());
            // A true header, then anything.
            let forged = [&sealed()[..HEADER_LEN], &bytes[..]].concat();
            if round % 20 == 0 {
                assert!(open(&with_checksum(&forged), "correct horse").is_err());
            }
        }
    }

    #[test]
    fn forged_costs_are_refused_before_they_cost_anything() {
        for (at, value) in [(9, u32::MAX), (13, 1_000_000), (17, 1 << 20), (9, 0), (13, 0), (17, 0)] {
            let mut file = sealed();
            file.truncate(file.len() - CHECKSUM_LEN);
            file[at..at + 4].copy_from_slice(&value.to_le_bytes());
            assert_eq!(
                open(&with_checksum(&file), "correct horse"),
                Err(OpenError::Unsupported),
                "{value} at {at}"
            );
        }
    }
}
