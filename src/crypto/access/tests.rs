//! Frozen bytes of access, the slots that open under two keys, and what no output shows.
//!
//! The vectors were computed by independent implementations (Python: blake3, PyNaCl, ristretto255 from RFC 9496, HPKE
//! from RFC 9180 on cryptography), or are those of RFC 9497.

use std::fmt::Debug;

use data_encoding::HEXLOWER;

use super::vectors::Vectors;
use super::*;
use crate::crypto::frame::{Dek, DekCommit, Stream};
use crate::crypto::seed::{Seed, VaultKeys};
use crate::types::{Committee, Day, Locator, PublicKey, SegmentId, ShareIndex, SlotId, VersionId};

impl Vectors {
    fn number(&self, name: &str) -> u32 {
        u32::from_le_bytes(self.array(name))
    }

    fn day(&self, name: &str) -> Day {
        Day(u16::from_le_bytes(self.array(name)))
    }

    fn keys(&self) -> VaultKeys {
        let seed = Seed::from_entropy(self.array("entropy"));
        seed.vault(self.number("vault.number"), self.number("vault.generation"))
    }

    fn slot(&self) -> SlotId {
        SlotId {
            network: crate::types::NetworkId(self.array("network")),
            vault: *self.keys().vault(),
            dealing: self.number("dealing"),
            scope: crate::types::ScopeTag(self.array("scope.tag")),
            generation: self.number("scope.generation"),
            record: crate::types::RecordTag(self.array("record")),
            version: VersionId(self.array("version")),
        }
    }

    fn content(&self) -> SlotContent {
        SlotContent {
            dek: Dek::from_bytes(self.array("dek")),
            content_version: VersionId(self.array("content_version")),
            header: Locator {
                segment: SegmentId(self.array("segment")),
                offset: self.number("offset").into(),
                len: self.number("len"),
                salt: self.array("salt"),
            },
        }
    }

    /// The list key of the scope and the key of the slot.
    fn kek(&self) -> (ListKey, Kek) {
        let path = std::str::from_utf8(self.get("scope.path")).unwrap().parse().unwrap();
        let scope = self.keys().access().scope_key(&path, self.number("scope.generation"));
        let output = self.keys().access().prf_key(self.number("dealing")).evaluate(&self.slot());
        (scope.list_key(), Kek::new(&scope.day(self.day("day")), &output, &self.slot()))
    }
}

fn access_vectors() -> Vectors {
    Vectors::read(include_str!("../../../tests/vectors/access.hex"))
}

#[test]
fn the_keys_of_access_are_frozen() {
    let vectors = access_vectors();
    let keys = vectors.keys();
    assert_eq!(keys.vault().as_bytes(), vectors.get("vault.id"));
    let access = keys.access();
    let path = std::str::from_utf8(vectors.get("scope.path")).unwrap().parse().unwrap();
    assert_eq!(access.scope_tag(&path).as_bytes(), vectors.get("scope.tag"));
    let scope = access.scope_key(&path, vectors.number("scope.generation"));
    assert_eq!(scope.list_key().as_bytes(), vectors.get("scope.list_key"));
    assert_eq!(scope.days().key(vectors.day("day")).unwrap().as_bytes(), vectors.get("day.key"));
    let days = DayRange::new(vectors.day("cover.first"), vectors.day("cover.last")).unwrap();
    let nodes: Vec<u8> = scope.cover(days).iter().flat_map(|node| *node.to_bytes()).collect();
    assert_eq!(nodes, vectors.get("cover.nodes"));
    let output = access.prf_key(vectors.number("dealing")).evaluate(&vectors.slot());
    assert_eq!(output.as_bytes()[..], *vectors.get("prf.output"));
    for (key, name) in [(access.inbox(), "inbox.seed"), (access.audit(), "audit.seed")] {
        assert_eq!(key.public(), SealKey::from_seed(&vectors.array(name)).public());
    }
}

#[test]
fn the_keyslot_is_frozen() {
    let vectors = access_vectors();
    let (list, kek) = vectors.kek();
    let (slot, content) = (vectors.slot(), vectors.content());
    assert_eq!(slot.to_bytes()[..], *vectors.get("slot_id"));
    let commit = content.dek.commit(&content.content_version);
    assert_eq!(commit.0, vectors.get("dek_commit"));
    let wrapped = Keyslot::wrap(&kek, &slot, &content, &list, vectors.day("day"), vectors.array("nonce"));
    assert_eq!(wrapped.as_bytes()[..], *vectors.get("keyslot"));
    assert_eq!(wrapped.hash().as_bytes(), vectors.get("keyslot.hash"));
    let read = Keyslot::from_slice(vectors.get("keyslot")).unwrap();
    assert_eq!(read.unwrap(&kek, &slot, &commit), Ok(content));
    assert_eq!(read.day(&list), vectors.day("day"));
}

#[test]
fn a_keyslot_is_of_one_key_and_one_slot_id_and_whole() {
    let vectors = access_vectors();
    let (list, kek) = vectors.kek();
    let (slot, content) = (vectors.slot(), vectors.content());
    let commit = content.dek.commit(&content.content_version);
    let wrapped = Keyslot::wrap(&kek, &slot, &content, &list, vectors.day("day"), [1; 16]);
    let scope = ScopeKey::from_bytes([9; 32]);
    let output = PrfKey::from_wide(&[8; 64]).evaluate(&slot);
    let other = Kek::new(&scope.day(Day(1)), &output, &slot);
    assert_eq!(wrapped.unwrap(&other, &slot, &commit), Err(SlotError::WrongKey));
    let moved = SlotId { record: crate::types::RecordTag([0; 16]), ..slot };
    assert_eq!(wrapped.unwrap(&kek, &moved, &commit), Err(SlotError::WrongKey));
    assert_eq!(wrapped.unwrap(&kek, &slot, &DekCommit([0; 32])), Err(SlotError::OtherDataKey));
    for at in 1..Keyslot::LEN {
        let mut changed = *wrapped.as_bytes();
        changed[at] ^= 1;
        let changed = Keyslot::from_slice(&changed).unwrap();
        assert_eq!(changed.unwrap(&kek, &slot, &commit), Err(SlotError::WrongKey), "byte {at}");
        assert_ne!(changed.hash(), wrapped.hash());
    }
    for header in [
        Locator { len: 16, ..content.header },
        Locator { offset: crate::types::limits::MAX_SEGMENT_LEN, ..content.header },
    ] {
        let odd = SlotContent { header, ..content.clone() };
        let odd = Keyslot::wrap(&kek, &slot, &odd, &list, Day(1), [1; 16]);
        assert_eq!(odd.unwrap(&kek, &slot, &commit), Err(SlotError::Damaged), "no header there");
    }
    let mut odd = *wrapped.as_bytes();
    odd[0] = 2;
    assert_eq!(Keyslot::from_slice(&odd), Err(DecodeError::Suite(2)));
    assert_eq!(Keyslot::from_slice(&odd[..0]), Err(DecodeError::Length { len: 0 }));
    assert_eq!(Keyslot::from_slice(&wrapped.as_bytes()[..154]), Err(DecodeError::Length { len: 154 }));
    assert_eq!(Keyslot::from_slice(&[1; 156]), Err(DecodeError::Length { len: 156 }));
}

/// F8 and C9 of the design: a cipher that does not commit to its key lets a writer show two people two records.
#[test]
fn c9_one_ciphertext_under_two_keys_is_refused_by_its_commitments() {
    let vectors = Vectors::read(include_str!("../../../tests/vectors/salamander.hex"));
    let version = VersionId(vectors.array("version"));
    let [one, two] = ["dek1", "dek2"].map(|name| Dek::from_bytes(vectors.array(name)));
    for (dek, text, at) in [(&one, "text1", 0), (&two, "text2", 48)] {
        let mut frame = vectors.get("frame").to_vec();
        let key = dek.frame_key(&version, Stream::Body, &vectors.array("salt"));
        key.open_in_place(0, true, &mut frame, &vectors.array("frame.tag")).unwrap();
        assert_eq!(&frame[at..at + 48], vectors.get(text), "the frame opens under both keys");
    }
    assert_ne!(one.commit(&version), two.commit(&version), "but one of them is not the entry's");

    // A keyslot is authentic by a hash of its key and of all that is in it: what somebody seals under one key is nothing under
    // another, whatever they know of both.
    let known = access_vectors();
    let (list, first) = known.kek();
    let (slot, content) = (known.slot(), known.content());
    let commit = DekCommit(known.array("dek_commit"));
    let scope = known.keys().access().scope_key(&"clinic/2026".parse().unwrap(), 2);
    let mut output: [u8; 64] = known.array("prf.output");
    output.reverse();
    let second = Kek::new(&scope.day(known.day("day")), &PrfOutput::from_bytes(output), &slot);
    let other = SlotContent { content_version: VersionId([0x41; 16]), ..content };
    let forged = Keyslot::wrap(&first, &slot, &other, &list, known.day("day"), [1; 16]);
    assert_eq!(forged.unwrap(&first, &slot, &commit), Err(SlotError::OtherDataKey));
    assert_eq!(forged.unwrap(&second, &slot, &commit), Err(SlotError::WrongKey));
}

#[test]
fn what_has_secrets_shows_none() {
    let vectors = access_vectors();
    let access = vectors.keys().access();
    let path = "clinic/2026".parse().unwrap();
    let scope = access.scope_key(&path, 2);
    let key = access.prf_key(5);
    let (list, kek) = vectors.kek();
    let committee = Committee::new((0..4).map(|n| PublicKey([n; 32])).collect()).unwrap();
    let dealing = key.deal(Sharing::among(&committee), &[3; 32]);
    let content = vectors.content();
    let output = key.evaluate(&vectors.slot());
    let day = scope.day(Day(1));
    let partial = dealing.shares[0].evaluate(&Inputs::new(&[vectors.slot()]).unwrap(), &[1; 32]);
    let bare: [&dyn Debug; 13] = [
        &access,
        &scope,
        &list,
        &scope.days(),
        &day,
        &key,
        &output,
        &kek,
        &content,
        &dealing.shares[0],
        &access.inbox(),
        &access.audit(),
        &partial,
    ];
    for value in bare {
        for shown in [format!("{value:?}"), format!("{value:#?}")] {
            let name = shown.strip_suffix("(..)").unwrap_or_else(|| panic!("{shown}"));
            assert!(name.chars().all(|c| c.is_ascii_alphabetic()), "{shown}");
        }
    }
    // A dealing shows its commitments, and none of its secrets in any usual form.
    let shown = format!("{dealing:?}");
    for share in &dealing.shares {
        for secret in [&share.to_bytes()[2..], key.scalar().as_bytes()] {
            assert!(!shown.contains(&HEXLOWER.encode(secret)));
            assert!(!shown.contains(format!("{secret:?}").trim_matches(['[', ']'])));
        }
    }
    assert_eq!(shown.matches("KeyShare(..)").count(), 4);
}

#[test]
fn scopes_generations_and_dealings_have_keys_of_their_own() {
    let access = access_vectors().keys().access();
    let paths = ["a", "b", "a/b"].map(|path| path.parse().unwrap());
    for (at, path) in paths.iter().enumerate() {
        for other in &paths[at + 1..] {
            assert_ne!(access.scope_tag(path), access.scope_tag(other));
            assert_ne!(
                access.scope_key(path, 0).list_key().as_bytes(),
                access.scope_key(other, 0).list_key().as_bytes()
            );
        }
        let lists = [0, 1].map(|generation| *access.scope_key(path, generation).list_key().as_bytes());
        assert_ne!(lists[0], lists[1]);
    }
    assert_ne!(access.prf_key(0).public(), access.prf_key(1).public());
    assert_ne!(access.inbox().public(), access.audit().public());
}

#[test]
fn shares_commitments_and_answers_have_one_encoding() {
    let committee = Committee::new((0..4).map(|n| PublicKey([n; 32])).collect()).unwrap();
    let dealing = PrfKey::from_wide(&[7; 64]).deal(Sharing::among(&committee), &[3; 32]);
    let share = &dealing.shares[1];
    assert!(KeyShare::from_slice(&*share.to_bytes()).unwrap() == *share);
    let commitments = dealing.commitments.to_bytes();
    assert_eq!(Commitments::from_slice(&commitments), Ok(dealing.commitments.clone()));
    let inputs = Inputs::new(&[access_vectors().slot()]).unwrap();
    let partial = share.evaluate(&inputs, &[1; 32]);
    assert_eq!(Partial::from_slice(&partial.to_bytes()), Ok(partial.clone()));

    fn refused<T>(bytes: &[u8], decode: impl Fn(&[u8]) -> Result<T, DecodeError>) {
        for len in 0..bytes.len() {
            assert!(decode(&bytes[..len]).is_err(), "cut to {len}");
        }
        assert!(decode(&[bytes, &[0]].concat()).is_err(), "a byte too many");
        for (at, value) in [(0, 0), (0, 2), (1, 0), (1, 65)] {
            let mut odd = bytes.to_vec();
            odd[at] = value;
            assert!(decode(&odd).is_err(), "byte {at} is {value}");
        }
        // The first number or point: zero, and more than any.
        let start = bytes.len() % 32;
        for value in [0, 0xff] {
            let mut odd = bytes.to_vec();
            odd[start..start + 32].fill(value);
            assert!(decode(&odd).is_err(), "filled with {value}");
        }
    }
    refused(&*share.to_bytes(), KeyShare::from_slice);
    refused(&commitments, Commitments::from_slice);
    refused(&partial.to_bytes(), Partial::from_slice);
    let mut none = partial.to_bytes();
    none[2] = 0;
    assert_eq!(Partial::from_slice(&none), Err(DecodeError::Count(0)));
    none[2..4].copy_from_slice(&257_u16.to_le_bytes());
    assert_eq!(Partial::from_slice(&none), Err(DecodeError::Count(257)));
    assert_eq!(Inputs::new(&[]), None);
    assert_eq!(Inputs::new(&[access_vectors().slot(); 257]), None);
    assert_eq!(ShareIndex::new(2), Some(partial.from()));
}
