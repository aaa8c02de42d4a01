//! What tests of several formats use: keys by number, what every encoding keeps to, and frozen bytes.

use std::fmt::Debug;

use data_encoding::HEXLOWER;

use crate::random::{rounds, seeded};
use xvault::crypto::access::SealKey;
use xvault::crypto::sign::KeyPair;
use xvault::message::{Canonical, SignedTransaction, Violation};
use xvault::types::NetworkId;

pub(crate) const NETWORK: NetworkId = NetworkId([0x4e; 32]);

pub(crate) fn pair(nth: u8) -> KeyPair {
    KeyPair::from_secret(&[nth; 32])
}

pub(crate) fn seal(nth: u8) -> SealKey {
    SealKey::from_seed(&[nth; 32])
}

/// A value reads back, its encoding is the only one, and neither damage nor noise makes the decoder panic.
pub(crate) fn canonical<T: Canonical + Debug>(values: &[T]) {
    let mut random = seeded();
    for value in values {
        let bytes = value.encode();
        assert_eq!(T::decode(&bytes).unwrap().encode(), bytes);
        for len in (0..bytes.len()).step_by(1 + bytes.len() / 400) {
            assert!(T::decode(&bytes[..len]).is_err(), "{len} of {} bytes", bytes.len());
        }
        assert_eq!(T::decode(&[&bytes[..], &[0]].concat()).map(drop), Err(Violation::Malformed));
    }
    for round in 0..rounds(1) {
        let bytes = random.input(round, &values[round % values.len()].encode());
        if let Ok(value) = T::decode(&bytes) {
            assert_eq!(value.encode(), bytes, "one encoding for a value");
        }
    }
}

/// What is signed or sealed is taken as it is, and with no byte of it changed.
pub(crate) fn holds_in_every_byte<E: Debug>(
    what: &str,
    bytes: &[u8],
    check: impl Fn(&[u8]) -> Result<(), E>,
) {
    check(bytes).unwrap();
    for at in 0..bytes.len() {
        let mut changed = bytes.to_vec();
        changed[at] ^= 1;
        assert!(check(&changed).is_err(), "{what}: byte {at}");
    }
}

/// The same of transactions.
pub(crate) fn transactions_hold_in_every_byte(signed: &[(&str, SignedTransaction)]) {
    for (name, signed) in signed {
        holds_in_every_byte(name, signed.bytes(), |bytes| {
            SignedTransaction::decode(bytes).and_then(|signed| signed.verify(&NETWORK))
        });
    }
}

/// Compares bytes with those that were frozen, by name. `XVAULT_REGENERATE=1` writes them anew.
pub(crate) fn are_frozen(file: &str, written_by: &str, vectors: &[(String, Vec<u8>)]) {
    let lines: Vec<String> =
        vectors.iter().map(|(name, bytes)| format!("{name} = {}\n", HEXLOWER.encode(bytes))).collect();
    let text = format!(
        "# Written by this crate when the format was agreed on: see {written_by}.\n{}",
        lines.concat()
    );
    let path = format!("{}/tests/vectors/{file}", env!("CARGO_MANIFEST_DIR"));
    if std::env::var_os("XVAULT_REGENERATE").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    let frozen = std::fs::read_to_string(path).unwrap();
    for (found, expected) in text.lines().zip(frozen.lines()) {
        assert!(found == expected, "{} changed", found.split(" = ").next().unwrap());
    }
    assert_eq!(text, frozen);
}
