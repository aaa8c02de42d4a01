//! Every form of a message and of an entry of the log.

use super::*;
use crate::crypto::sign::KeyPair;
use crate::message::{Proposal, Vote, block_hash};
use crate::types::{Hash, NetworkId};

const HEIGHT: Height = Height(7);
const ROUND: Round = Round(3);
const BLOCK: BlockId = BlockId([3; 32]);

fn pair(nth: u8) -> KeyPair {
    KeyPair::from_secret(&[nth; 32])
}

fn vote() -> SignedVote {
    let network = NetworkId([1; 32]);
    let block = Some(BLOCK);
    Vote { network, kind: VoteKind::Prevote, height: HEIGHT, round: ROUND, block }.sign(&pair(1))
}

fn proposal() -> SignedProposal {
    let (network, bytes) = (NetworkId([1; 32]), block_hash(b"block"));
    let valid_round = Some(Round(1));
    Proposal { network, height: HEIGHT, round: ROUND, valid_round, block: BLOCK, bytes }.sign(&pair(1))
}

fn signatures() -> Vec<(PublicKey, [u8; 64])> {
    (1..5).map(|nth| (PublicKey([nth; 32]), [nth; 64])).collect()
}

fn polka() -> Polka {
    Polka { height: HEIGHT, round: ROUND, block: BLOCK, signatures: signatures() }
}

fn round_proof() -> RoundProof {
    let vote = |(voter, signature): (PublicKey, _)| {
        let odd = voter.0[0] % 2 == 1;
        let kind = if odd { VoteKind::Prevote } else { VoteKind::Precommit };
        RoundVote { voter, kind, block: odd.then_some(BLOCK), signature }
    };
    let votes = signatures().into_iter().map(vote).collect();
    RoundProof { height: HEIGHT, round: ROUND, skip: true, votes }
}

fn messages() -> Vec<Message> {
    let (height, round, block) = (HEIGHT, ROUND, BLOCK);
    vec![
        Message::Vote(vote()),
        Message::Proposal(proposal(), Bytes::from_static(b"block")),
        Message::Polka(polka()),
        Message::Round(round_proof()),
        Message::Commit(CommitCertificate { height, round, block, signatures: signatures() }),
        Message::Header(proposal()),
    ]
}

fn entries() -> Vec<Entry> {
    let verdict = Verdict {
        height: HEIGHT,
        round: ROUND,
        valid_round: None,
        proposer: pair(1).public(),
        id: BLOCK,
        bytes: Hash([9; 32]),
        valid: true,
        block: Bytes::from_static(b"block"),
    };
    vec![
        Entry::Vote(vote()),
        Entry::Proposal(proposal()),
        Entry::Verdict(verdict),
        Entry::Polka(polka()),
        Entry::Over(HEIGHT, ROUND, Wait::Precommit),
    ]
}

/// Decodes damaged encodings: never a panic, and what is accepted encodes to the same bytes.
fn fuzz<T: PartialEq + std::fmt::Debug>(
    all: &[T],
    encode: impl Fn(&T) -> Bytes,
    decode: impl Fn(&Bytes) -> Result<T, Violation>,
) {
    let mut state = 0x5eed_u64;
    let mut random = |bound: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % bound
    };
    for round in 0..8_000 {
        let value = &all[round % all.len()];
        assert_eq!(decode(&encode(value)).as_ref(), Ok(value));
        let mut bytes = encode(value).to_vec();
        for _ in 0..=random(3) {
            let at = random(bytes.len() + 1);
            match random(4) {
                0 => bytes.truncate(at),
                1 => bytes.insert(at, 0),
                2 => bytes.push(7),
                _ if at < bytes.len() => bytes[at] ^= 1 << random(8),
                _ => bytes.clear(),
            }
        }
        let bytes = Bytes::from(bytes);
        if let Ok(accepted) = decode(&bytes) {
            assert_eq!(encode(&accepted), bytes);
        }
    }
}

#[test]
fn messages_have_one_form() {
    fuzz(&messages(), Message::encode, Message::decode);
    assert!(messages().iter().all(|message| message.height() == HEIGHT));
}

#[test]
fn entries_have_one_form() {
    fuzz(&entries(), Entry::encode, Entry::decode);
    assert!(entries().iter().all(|entry| entry.height() == HEIGHT));
}

#[test]
fn a_message_out_of_bounds_is_refused() {
    let long = Message::Proposal(proposal(), vec![0; MAX_BLOCK_LEN + 1].into());
    assert_eq!(Message::decode(&long.encode()), Err(Violation::TooLong));
    let mut unsorted = round_proof();
    unsorted.votes.swap(0, 1);
    assert_eq!(Message::decode(&Message::Round(unsorted).encode()), Err(Violation::DuplicateSigner));
    let mut twice = polka();
    twice.signatures[1] = twice.signatures[0];
    assert_eq!(Message::decode(&Message::Polka(twice).encode()), Err(Violation::DuplicateSigner));
    let mut many = polka();
    many.signatures = (0..65).map(|nth| (PublicKey([nth; 32]), [0; 64])).collect();
    assert_eq!(Message::decode(&Message::Polka(many).encode()), Err(Violation::OutOfBounds));
    assert_eq!(Message::decode(&Bytes::new()), Err(Violation::Malformed));
    assert_eq!(Message::decode(&Bytes::from_static(&[7, 0])), Err(Violation::Malformed));
}
