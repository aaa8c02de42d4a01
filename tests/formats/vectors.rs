//! Frozen bytes of every cryptographic format: a change that fails here breaks stored data.
//!
//! The vectors in `tests/vectors/*.hex` were computed by independent implementations (Python: blake3,
//! cryptography, argon2-cffi, PyNaCl, mnemonic, and the tree and code from their definitions), not by
//! this crate. A line is `name = hex`; a line that begins with `#` says what the others mean.

use std::net::SocketAddr;

use data_encoding::HEXLOWER;
use xvault::crypto::frame::{Dek, FrameKey, Stream, open_run_part, plain_ranges, seal_run, sealed_len};
use xvault::crypto::passphrase::{self, Cost};
use xvault::crypto::seed::Seed;
use xvault::crypto::sign::{Domain, KeyPair, verify};
use xvault::crypto::{padme, tree};
use xvault::message::{
    CommitCertificate, Evidence, SignedProposal, SignedVote, VoteKind, block_hash, committee_hash,
};
use xvault::stripe::{Candidate, Coder, placement};
use xvault::types::{
    BlockId, Code, Committee, Hash, Height, NetworkId, NodeInfo, PublicKey, Round, SegmentId, VersionId,
};

/// The lines of one file.
struct Vectors(Vec<(String, Vec<u8>)>);

impl Vectors {
    fn read(text: &str) -> Self {
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        Self(lines.map(|line| line.split_once(" = ").unwrap()).map(parse).collect())
    }

    fn get(&self, name: &str) -> &[u8] {
        let found = self.0.iter().find(|(found, _)| found == name);
        &found.unwrap_or_else(|| panic!("no vector {name}")).1
    }

    fn text(&self, name: &str) -> &str {
        std::str::from_utf8(self.get(name)).unwrap()
    }

    fn array<const N: usize>(&self, name: &str) -> [u8; N] {
        self.get(name).try_into().unwrap()
    }

    fn number(&self, name: &str) -> u32 {
        u32::from_le_bytes(self.array(name))
    }

    fn hashes(&self, name: &str) -> Vec<Hash> {
        self.get(name).chunks(32).map(|bytes| Hash::from_slice(bytes).unwrap()).collect()
    }
}

fn parse((name, hex): (&str, &str)) -> (String, Vec<u8>) {
    (name.to_owned(), HEXLOWER.decode(hex.as_bytes()).unwrap())
}

/// Bytes of which the one at `i` is `i` mod 251.
fn pattern(len: usize) -> Vec<u8> {
    (0..=250).cycle().take(len).collect()
}

#[test]
fn the_key_schedule_is_frozen() {
    let vectors = Vectors::read(include_str!("../vectors/seed.hex"));
    let seed = Seed::from_entropy(vectors.array("entropy"));
    assert_eq!(*seed.phrase(), vectors.text("phrase"));
    assert_eq!(Seed::from_phrase(vectors.text("phrase")), Ok(seed.clone()));
    for vault in ["vault0", "vault1"] {
        let field = |name: &str| format!("{vault}.{name}");
        let keys = seed.vault(vectors.number(&field("number")), vectors.number(&field("generation")));
        assert_eq!(*keys.signing().secret(), vectors.get(&field("signing_secret")));
        assert_eq!(keys.signing().public().as_bytes(), vectors.get(&field("signing_public")));
        assert_eq!(keys.index_key(), vectors.get(&field("index_key")));
    }
}

#[test]
fn signatures_are_frozen() {
    let vectors = Vectors::read(include_str!("../vectors/sign.hex"));
    let pair = KeyPair::from_secret(&vectors.array("secret"));
    assert_eq!(pair.public().as_bytes(), vectors.get("public"));
    let signature = vectors.array("custody_receipt");
    assert_eq!(pair.sign(Domain::CustodyReceipt, vectors.get("message")), signature);
    assert_eq!(verify(&pair.public(), Domain::CustodyReceipt, vectors.get("message"), &signature), Ok(()));
}

/// The run that seals `plain`.
fn run(key: &FrameKey, plain: &[u8]) -> Vec<u8> {
    let mut run = vec![0; usize::try_from(sealed_len(plain.len() as u64)).unwrap()];
    let ranges: Vec<_> = plain_ranges(run.len()).collect();
    for (frame, range) in plain.chunks(ranges[0].len()).zip(ranges) {
        run[range].copy_from_slice(frame);
    }
    seal_run(key, &mut run).unwrap();
    run
}

#[test]
fn frames_are_frozen() {
    let vectors = Vectors::read(include_str!("../vectors/frame.hex"));
    let (dek, version) = (Dek::from_bytes(vectors.array("dek")), VersionId(vectors.array("version")));
    assert_eq!(dek.commit(&version).0, vectors.get("dek_commit"));
    let key = |stream| dek.frame_key(&version, stream, &vectors.array("salt"));
    for (stream, name) in [(Stream::Body, "short.body"), (Stream::Header, "short.header")] {
        assert_eq!(run(&key(stream), vectors.get("short.plain")), vectors.get(name));
        let mut sealed = vectors.get(name).to_vec();
        open_run_part(&key(stream), 0, 1, &mut sealed).unwrap();
        assert!(sealed.starts_with(vectors.get("short.plain")));
    }
    let long = pattern(vectors.number("long.plain_len") as usize);
    let sealed = run(&key(Stream::Body), &long);
    assert_eq!(blake3::hash(&sealed).as_bytes(), vectors.get("long.body_blake3"));
}

#[test]
fn key_files_are_frozen() {
    let vectors = Vectors::read(include_str!("../vectors/passphrase.hex"));
    let (secret, passphrase) = (vectors.get("secret"), vectors.text("passphrase"));
    let (salt, nonce) = (vectors.array("salt"), vectors.array("nonce"));
    let file = passphrase::seal(secret, passphrase, Cost::INTERACTIVE, salt, nonce);
    assert_eq!(file, vectors.get("file"));
    assert_eq!(passphrase::open(&file, passphrase).unwrap().as_slice(), secret);
}

#[test]
fn padded_lengths_are_frozen() {
    for (name, value) in Vectors::read(include_str!("../vectors/padme.hex")).0 {
        let (before, after) = value.split_at(8);
        let number = |bytes: &[u8]| u64::from_le_bytes(bytes.try_into().unwrap());
        assert_eq!(padme::padded_len(number(before)), number(after), "{name}");
    }
}

#[test]
fn shard_trees_and_proofs_are_frozen() {
    let vectors = Vectors::read(include_str!("../vectors/tree.hex"));
    for shard in ["shard0", "shard1", "shard2", "shard3"] {
        let field = |name: &str| format!("{shard}.{name}");
        let bytes = pattern(vectors.number(&field("len")) as usize);
        let mut hasher = tree::SliceHasher::new(bytes.len() as u64);
        hasher.update(&bytes);
        let (root, leaves) = hasher.finish();
        assert_eq!(root.as_bytes(), vectors.get(&field("root")));
        assert_eq!(leaves, vectors.hashes(&field("leaves")));
    }
    let len = u64::from(vectors.number("shard3.len"));
    let (start, range_len) = (vectors.number("range.start"), vectors.number("range.len"));
    let proof = vectors.hashes("range.proof");
    let leaves = vectors.hashes("shard3.leaves");
    assert_eq!(tree::proof(&leaves, len, start.into(), range_len.into()), Ok(proof.clone()));
    let bytes = pattern((start + range_len) as usize);
    let root = Hash(vectors.array("shard3.root"));
    assert_eq!(tree::verify(&root, len, start.into(), &bytes[start as usize..], &proof), Ok(()));
}

#[test]
fn parity_is_frozen() {
    for (code, parity) in Vectors::read(include_str!("../vectors/stripe.hex")).0 {
        let code: Code = code.parse().unwrap();
        let len = parity.len() / code.m();
        let byte = |cell: usize, i: usize| u8::try_from((7 * cell + 13 * i + 1) % 256).unwrap();
        let data: Vec<Vec<u8>> =
            (0..code.k()).map(|cell| (0..len).map(|i| byte(cell, i)).collect()).collect();
        let data: Vec<&[u8]> = data.iter().map(Vec::as_slice).collect();
        let mut found = vec![0; parity.len()];
        Coder::new(code).encode_stripe(&data, &mut found.chunks_mut(len).collect::<Vec<_>>());
        assert_eq!(found, parity, "{code}");
    }
}

#[test]
fn placement_is_frozen() {
    let vectors = Vectors::read(include_str!("../vectors/placement.hex"));
    let node = |n: u8| NodeInfo {
        name: format!("node-{n}"),
        key: PublicKey([n; 32]),
        address: SocketAddr::from(([10, 0, n, 1], 4_000)),
        operator: format!("operator-{n}"),
        site: format!("site-{n}"),
    };
    let nodes: Vec<_> = (0..9).map(node).collect();
    let candidates: Vec<_> = nodes.iter().map(|node| Candidate::new(node, false)).collect();
    let segment = SegmentId(vectors.array("segment"));
    let placement = placement::place(&segment, Code::DEFAULT, &candidates).unwrap();
    let found: Vec<_> = placement.shards.iter().map(|place| place.node.0[0]).collect();
    assert_eq!(found, vectors.get("nodes"));
}

#[test]
fn votes_and_proposals_are_frozen() {
    let vectors = Vectors::read(include_str!("../vectors/consensus.hex"));
    let (network, block) = (NetworkId(vectors.array("network")), BlockId(vectors.array("block")));
    let pair = |nth: u8| KeyPair::from_secret(&[nth; 32]);
    for (name, kind, block) in
        [("prevote", VoteKind::Prevote, Some(block)), ("precommit_none", VoteKind::Precommit, None)]
    {
        let signed = SignedVote::decode(vectors.get(name)).unwrap();
        let vote = signed.vote;
        assert_eq!((vote.kind, vote.block, vote.height, vote.round), (kind, block, Height(7), Round(3)));
        assert_eq!(signed.verify(network), Ok(()));
        assert_eq!(vote.sign(&pair(1)).encode(), vectors.get(name));
    }
    assert_eq!(block_hash(vectors.get("body")).0, vectors.get("body_hash"));
    for (name, valid_round) in [("proposal", Some(Round(1))), ("first_proposal", None)] {
        let signed = SignedProposal::decode(vectors.get(name)).unwrap();
        assert_eq!((signed.proposal.valid_round, signed.proposal.block), (valid_round, block));
        assert_eq!(signed.verify(network), Ok(()));
        assert_eq!(signed.proposal.sign(&pair(2)).encode(), vectors.get(name));
    }
}

#[test]
fn certificates_and_evidence_are_frozen() {
    let vectors = Vectors::read(include_str!("../vectors/consensus.hex"));
    let network = NetworkId(vectors.array("network"));
    let members = vectors.hashes("committee").iter().map(|key| PublicKey(key.0)).collect();
    let committee = Committee::new(members).unwrap();
    assert_eq!(committee_hash(&committee).0, vectors.get("committee_hash"));
    let certificate = CommitCertificate::decode(vectors.get("certificate")).unwrap();
    assert_eq!(certificate.verify(&committee, network), Ok(()));
    assert_eq!(certificate.encode(), vectors.get("certificate"));
    for name in ["evidence_votes", "evidence_proposals"] {
        let evidence = Evidence::decode(vectors.get(name)).unwrap();
        assert_eq!(evidence.verify(network), Ok(()), "{name}");
        assert_eq!(evidence.encode(), vectors.get(name));
    }
}
