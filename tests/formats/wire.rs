//! Every decoder of messages against random bytes, cut and changed encodings: it never panics, and what it accepts
//! it writes back as an equal value.
//!
//! `XVAULT_SEED=7 cargo test --test formats wire` replays a failure; a failing run prints its seed. The decoders of files
//! and of text are in `fuzz.rs`.

use std::collections::BTreeMap;
use std::fmt::Debug;

use crate::random::{Random, fuzz};
use xvault::crypto::frame::{Dek, DekCommit};
use xvault::crypto::sign::KeyPair;
use xvault::message::access::{Provenance, ReleaseReceipt};
use xvault::message::changeset::{RecordChange, What};
use xvault::message::*;
use xvault::types::*;

/// Every shorter form of the bytes is refused or, where protobuf cannot tell, is another value.
fn truncate<T: PartialEq + Debug, E: Debug>(bytes: &[u8], decode: impl Fn(&[u8]) -> Result<T, E>) {
    let whole = decode(bytes).unwrap();
    for len in 0..bytes.len() {
        if let Ok(value) = decode(&bytes[..len]) {
            assert_ne!(value, whole, "{len} of {} bytes", bytes.len());
        }
    }
}

fn random() -> Bytes {
    Bytes(Random(1))
}

/// Contents of the fields of examples.
struct Bytes(Random);

impl Bytes {
    fn array<const N: usize>(&mut self) -> [u8; N] {
        self.0.bytes(N).try_into().unwrap()
    }
}

fn descriptor() -> Descriptor {
    let mut random = random();
    Descriptor {
        segment: SegmentId(random.array()),
        code: Code::DEFAULT,
        len: 64 << 20,
        roots: (0..6).map(|_| Hash(random.array())).collect(),
        holders: (0..6).map(|at| (at != 3).then(|| PublicKey(random.array()))).collect(),
    }
}

fn extent(plain_len: u64) -> Extent {
    let mut random = random();
    Extent { segment: SegmentId(random.array()), offset: 77, plain_len, salt: random.array() }
}

fn header() -> RecordHeader {
    RecordHeader {
        name: "2026/scan.dcm".parse().unwrap(),
        version: VersionId(*b"0123456789abcdef"),
        size: 100_000,
        content_type: Some("application/dicom".into()),
        modified: Some(Timestamp::ZERO),
        metadata: BTreeMap::from([("modality".into(), "CT".into()), ("".into(), "".into())]),
        extents: vec![extent(65_536), extent(34_464)],
        content: Hash([6; 32]),
    }
}

fn empty_header() -> RecordHeader {
    RecordHeader { size: 0, content_type: None, modified: None, extents: vec![], ..header() }
}

fn stored() -> VersionEntry {
    let mut random = random();
    let state = VersionState::Stored(StoredVersion {
        size: 70_000,
        content_version: VersionId(random.array()),
        dek: Dek::from_bytes(random.array()),
        dek_commit: DekCommit(random.array()),
        header: Locator { segment: SegmentId(random.array()), offset: 5, len: 144, salt: random.array() },
        extents: vec![extent(73_728)],
        content_type: Some(String::new()),
        modified: Some(Timestamp::from_unix_millis(5)),
        content: Hash(random.array()),
    });
    let (version, created) = (VersionId(random.array()), Timestamp::from_unix_millis(9));
    VersionEntry { version, created, state, provenance: None }
}

/// The same, of a shreddable collection.
fn slotted() -> VersionEntry {
    let VersionState::Stored(stored) = stored().state else { unreachable!() };
    let entry = self::stored();
    let state = VersionState::Slotted(SlottedVersion::of(stored, entry.version, (0, 0)));
    VersionEntry { state, ..entry }
}

/// The same, brought by somebody else.
fn brought() -> VersionEntry {
    let provenance = Some(Provenance { grant: GrantId([8; 16]), deposit: TransactionId([9; 32]) });
    VersionEntry { provenance, ..stored() }
}

fn deleted() -> VersionEntry {
    VersionEntry { state: VersionState::Deleted, ..stored() }
}

const VAULT: VaultId = VaultId([2; 32]);

fn shard() -> ShardRef {
    ShardRef { segment: SegmentId(random().array()), index: 31 }
}

fn put() -> PutShard {
    let mut random = random();
    let (root, nonce) = (Hash(random.array()), random.array());
    PutShard { vault: VAULT, shard: shard(), root, len: 1 << 20, nonce }
}

fn requests() -> Vec<Request> {
    vec![
        Request::PutShard(put()),
        Request::ReadShard(ReadShard { vault: VAULT, shard: shard(), start: 16_384, len: 16_384 }),
        Request::HaveShards { vault: VAULT, shards: vec![shard(), shard()] },
        Request::HaveShards { vault: VAULT, shards: vec![] },
        Request::ReleaseSegments { vault: VAULT, segments: vec![shard().segment] },
        Request::CertifyRelease { vault: VAULT, segments: vec![shard().segment] },
        Request::GetStatus,
        Request::Consensus { len: 9 },
        Request::Cosign { height: Height(7), cosignature: vec![1; 90] },
        Request::SubmitTransaction(vec![2; 300]),
        Request::AskLedger(vec![3; 33]),
        Request::ListShards { vault: VAULT, after: None },
        Request::ListShards { vault: VAULT, after: Some(shard()) },
        Request::Access { len: 9 },
    ]
}

fn receipt() -> CustodyReceipt {
    let node = KeyPair::from_secret(&[3; 32]);
    let PutShard { vault, shard, root, len, nonce } = put();
    CustodyReceipt {
        network: NetworkId([1; 32]),
        vault,
        segment: shard.segment,
        index: shard.index,
        root,
        len,
        nonce,
        issued_at: Timestamp::from_unix_millis(4),
        node: node.public(),
    }
}

fn signed_receipt() -> SignedReceipt {
    receipt().sign(&KeyPair::from_secret(&[3; 32]))
}

fn refusals() -> Vec<Refusal> {
    use RefusalCode::*;
    let mut codes =
        vec![UnsupportedProtocol, NotFound, Busy, Full, Corrupt, Disk, Conflict, NotAdmitted, Anchored];
    codes.extend(VIOLATIONS.map(Violation));
    let refusal = |code| Refusal { code, message: "no".into(), retry_after_ms: 7, protocols: vec![1, 2] };
    codes.into_iter().map(refusal).collect()
}

const VIOLATIONS: [Violation; 15] = [
    Violation::Malformed,
    Violation::TooLong,
    Violation::OutOfBounds,
    Violation::BadSignature,
    Violation::WrongSigner,
    Violation::WrongNetwork,
    Violation::WrongReceipt,
    Violation::WrongShard,
    Violation::WrongLength,
    Violation::WrongResponse,
    Violation::NotAMember,
    Violation::DuplicateSigner,
    Violation::NoQuorum,
    Violation::NoConflict,
    Violation::WrongBlock,
];

fn status() -> NodeStatus {
    NodeStatus {
        network: NetworkId([9; 32]),
        version: "0.1.0".into(),
        shards: 1,
        shard_bytes: 2,
        disk_bytes: 3,
        free_bytes: 4,
        uptime_seconds: 5,
        clock: Timestamp::from_unix_millis(6),
        problems: vec!["disk is slow".into()],
        ledger: Some(LedgerTip { height: Height(7), time: Timestamp::from_unix_millis(8) }),
    }
}

fn empty_status() -> NodeStatus {
    NodeStatus {
        network: NetworkId([0; 32]),
        version: String::new(),
        shards: 0,
        shard_bytes: 0,
        disk_bytes: 0,
        free_bytes: 0,
        uptime_seconds: 0,
        clock: Timestamp::ZERO,
        problems: vec![],
        ledger: None,
    }
}

fn release_receipt() -> ReleaseReceipt {
    let (key, time) = (KeyPair::from_secret(&[1; 32]), Timestamp::from_unix_millis(5));
    ReleaseReceipt::sign(&NetworkId([1; 32]), &VAULT, time, vec![shard().segment], &key)
}

fn responses() -> Vec<Response> {
    let hash = Hash(random().array());
    let mut all: Vec<_> = refusals().into_iter().map(Response::Refusal).collect();
    all.extend([
        Response::Receipt(signed_receipt()),
        Response::Slice(ShardSlice { shard_len: 9, proof: vec![hash; 3] }),
        Response::Holdings(vec![Some(hash), None]),
        Response::Released { shards: 1, bytes: 2 },
        Response::Status(status()),
        Response::Status(empty_status()),
        Response::Done,
        Response::Answer { len: 9 },
        Response::Shards(vec![HeldShard { shard: shard(), root: hash, len: 9 }; 2]),
        Response::Shards(vec![]),
        Response::ReleaseReceipt(release_receipt()),
    ]);
    all
}

#[test]
fn descriptors() {
    fuzz(&[descriptor()], Descriptor::encode, Descriptor::decode);
    truncate(&descriptor().encode(), Descriptor::decode);
}

#[test]
fn record_headers() {
    fuzz(&[header(), empty_header()], RecordHeader::encode, RecordHeader::decode);
    truncate(&header().encode(), RecordHeader::decode);
    assert_eq!(header().encode().len() % 64, 0);
}

#[test]
fn version_entries() {
    fuzz(&[stored(), slotted(), brought(), deleted()], |entry| entry.encode().to_vec(), VersionEntry::decode);
    truncate(&stored().encode(), VersionEntry::decode);
    truncate(&slotted().encode(), VersionEntry::decode);
    assert_ne!(brought().encode(), stored().encode());
    // A marker of a removal was brought by nobody, and half of a provenance is none.
    let marker = VersionEntry { state: VersionState::Deleted, ..brought() };
    assert_eq!(VersionEntry::decode(&marker.encode()), Err(Violation::Malformed));
    assert!(VersionEntry::decode(&[&stored().encode()[..], &[0x82, 1, 16], &[8; 16]].concat()).is_err());
    // What is in a keyslot is not beside it.
    let VersionState::Slotted(version) = slotted().state else { unreachable!() };
    let VersionState::Stored(whole) = stored().state else { unreachable!() };
    let bytes = slotted().encode();
    for secret in [&whole.dek.as_bytes()[..], &whole.content.0] {
        assert!(!bytes.windows(32).any(|at| at == secret));
    }
    assert_eq!(version.clone().complete(whole.dek.clone(), whole.content), whole);
    assert_eq!(version.commitment, whole.opening(stored().version).leaf());
}

#[test]
fn changesets() {
    let change = |name: &str, what| RecordChange { name: name.parse().unwrap(), what };
    let all = Changeset {
        collection: "scans".parse().unwrap(),
        changes: vec![
            change("a", What::Version { entry: stored(), segments: vec![descriptor(), descriptor()] }),
            change("b", What::Version { entry: deleted(), segments: vec![] }),
            change("a", What::Erase(VersionId([9; 16]))),
        ],
        standalone: true,
        class: CollectionClass::Durable,
    };
    let none = Changeset {
        collection: "scans".parse().unwrap(),
        changes: vec![],
        standalone: false,
        class: CollectionClass::Durable,
    };
    let class = CollectionClass::Shreddable;
    let begins = Changeset { class, ..none.clone() };
    let changes = vec![change("a", What::Version { entry: slotted(), segments: vec![descriptor()] })];
    let slots = Changeset { changes: changes.clone(), ..begins.clone() };
    fuzz(
        &[all.clone(), none.clone(), begins, slots],
        |changeset| changeset.encode().to_vec(),
        Changeset::decode,
    );
    // No commit of a shreddable collection has a data key, and none of a durable one lacks one.
    for wrong in [Changeset { class, ..all.clone() }, Changeset { changes, ..none }] {
        assert_eq!(Changeset::decode(&wrong.encode()), Err(Violation::OutOfBounds));
    }
    truncate(&all.encode(), Changeset::decode);
    assert_eq!(all.encode().len() % 64, 0);
    assert!(!format!("{all:?}").contains("222, 222"), "no data key in a log");
}

#[test]
fn staged_puts() {
    let whole = StagedPut {
        collection: "scans".parse().unwrap(),
        name: "2026/scan.dcm".parse().unwrap(),
        version: VersionId(*b"0123456789abcdef"),
        dek: Dek::from_bytes(random().array()),
        size: 9,
        content_type: Some("application/dicom".into()),
        modified: Some(Timestamp::from_unix_millis(5)),
        metadata: BTreeMap::from([("modality".into(), "CT".into())]),
    };
    let bare = StagedPut { content_type: None, modified: None, metadata: BTreeMap::new(), ..whole.clone() };
    fuzz(&[whole.clone(), bare], |staged| staged.encode().to_vec(), StagedPut::decode);
    truncate(&whole.encode(), StagedPut::decode);
}

#[test]
fn requests_and_responses() {
    fuzz(&requests(), Request::encode, Request::decode);
    fuzz(&responses(), Response::encode, Response::decode);
    requests().iter().for_each(|request| truncate(&request.encode(), Request::decode));
    responses().iter().for_each(|response| truncate(&response.encode(), Response::decode));
}

#[test]
fn receipts() {
    fuzz(&[receipt()], CustodyReceipt::encode, CustodyReceipt::decode);
    fuzz(&[signed_receipt()], SignedReceipt::encode, SignedReceipt::decode);
    truncate(&signed_receipt().encode(), SignedReceipt::decode);
}

const NETWORK: NetworkId = NetworkId([1; 32]);

fn static_node() -> KeyPair {
    KeyPair::from_secret(&[4; 32])
}

fn vote(kind: VoteKind, block: Option<BlockId>) -> SignedVote {
    Vote { network: NETWORK, kind, height: Height(7), round: Round(3), block }.sign(&static_node())
}

fn proposal(valid_round: Option<Round>, block: u8) -> SignedProposal {
    let (block, bytes) = (BlockId([block; 32]), block_hash(b"block"));
    let proposal =
        Proposal { network: NETWORK, height: Height(7), round: Round(3), valid_round, block, bytes };
    proposal.sign(&static_node())
}

fn certificate(signers: u8) -> CommitCertificate {
    let (height, round, block) = (Height(7), Round(3), BlockId([5; 32]));
    let mut certificate = CommitCertificate { height, round, block, signatures: vec![] };
    for nth in 0..signers {
        assert!(certificate.add(&certificate.vote(NETWORK).sign(&KeyPair::from_secret(&[nth; 32]))));
    }
    certificate
}

#[test]
fn votes_and_proposals() {
    let votes = [vote(VoteKind::Prevote, None), vote(VoteKind::Precommit, Some(BlockId([5; 32])))];
    fuzz(&votes, SignedVote::encode, SignedVote::decode);
    fuzz(&votes.map(|signed| signed.vote), Vote::encode, Vote::decode);
    truncate(&votes[1].encode(), SignedVote::decode);
    let proposals = [proposal(None, 5), proposal(Some(Round(2)), 5)];
    fuzz(&proposals, SignedProposal::encode, SignedProposal::decode);
    fuzz(&proposals.map(|signed| signed.proposal), Proposal::encode, Proposal::decode);
    truncate(&proposals[1].encode(), SignedProposal::decode);
}

#[test]
fn certificates_and_evidence() {
    let certificates = [certificate(0), certificate(3), certificate(21)];
    fuzz(&certificates, CommitCertificate::encode, CommitCertificate::decode);
    truncate(&certificates[1].encode(), CommitCertificate::decode);
    let votes =
        Evidence::of_votes(vote(VoteKind::Prevote, None), vote(VoteKind::Prevote, Some(BlockId([5; 32]))));
    let evidence = [votes, Evidence::of_proposals(proposal(None, 5), proposal(None, 6))];
    fuzz(&evidence, Evidence::encode, Evidence::decode);
    evidence.iter().for_each(|evidence| truncate(&evidence.encode(), Evidence::decode));
}

#[test]
fn another_protocol_is_told_apart_whatever_else_the_request_says() {
    // Field 1 = 2, then a field 2 that is no message: what version 2 might say.
    assert_eq!(Request::decode(&[8, 2, 16, 1]), Err(RequestError::UnsupportedProtocol(2)));
    assert_eq!(Request::decode(&[]), Err(RequestError::UnsupportedProtocol(0)));
    assert_eq!(Request::decode(&[8, 1, 16, 1]), Err(Violation::Malformed.into()));
    assert_eq!(Request::decode(&[8, 1]), Err(Violation::Malformed.into()));
    let refusal = Refusal::from(RequestError::UnsupportedProtocol(2));
    assert_eq!((refusal.code, refusal.protocols), (RefusalCode::UnsupportedProtocol, vec![1]));
}

#[test]
fn descriptors_out_of_bounds_are_refused() {
    type Change = fn(&mut Descriptor);
    let changes: [Change; 5] = [
        |d| d.len = 0,
        |d| d.len = (64 << 20) + 1,
        |d| d.roots.truncate(5),
        |d| d.holders.push(None),
        |d| d.code = Code::new(4, 3).unwrap(),
    ];
    for (at, change) in changes.into_iter().enumerate() {
        let mut changed = descriptor();
        change(&mut changed);
        assert_eq!(Descriptor::decode(&changed.encode()), Err(Violation::OutOfBounds), "change {at}");
    }
}

#[test]
fn headers_out_of_bounds_are_refused() {
    type Change = fn(&mut RecordHeader);
    let changes: [Change; 7] = [
        |h| h.size = 100_001,
        |h| h.size = 0,
        |h| h.extents.clear(),
        |h| h.extents[0].plain_len = 0,
        |h| h.extents[0].plain_len = u64::MAX,
        |h| h.extents[0].offset = (64 << 20) - 65_551,
        |h| drop(h.metadata.insert("k".into(), "v".repeat(8_192))),
    ];
    for (at, change) in changes.into_iter().enumerate() {
        let mut changed = header();
        change(&mut changed);
        assert_eq!(RecordHeader::decode(&changed.encode()), Err(Violation::OutOfBounds), "change {at}");
    }
    let mut dirty = header().encode();
    *dirty.last_mut().unwrap() = 1;
    assert_eq!(RecordHeader::decode(&dirty), Err(Violation::Malformed));
    let mut longer = header().encode();
    longer.extend([0; 64]);
    assert_eq!(RecordHeader::decode(&longer), Err(Violation::Malformed));
}

#[test]
fn requests_out_of_bounds_are_refused() {
    let read = ReadShard { vault: VAULT, shard: shard(), start: 0, len: 1 };
    let wrong = [
        Request::PutShard(PutShard { len: 0, ..put() }),
        Request::PutShard(PutShard { len: (64 << 20) + 65_537, ..put() }),
        Request::PutShard(PutShard { shard: ShardRef { index: 32, ..shard() }, ..put() }),
        Request::ReadShard(ReadShard { start: 1, ..read }),
        Request::ReadShard(ReadShard { len: 0, ..read }),
        Request::ReadShard(ReadShard { len: (4 << 20) + 1, ..read }),
        Request::ReadShard(ReadShard { start: 1 << 40, ..read }),
        Request::HaveShards { vault: VAULT, shards: vec![shard(); 1_025] },
        Request::ReleaseSegments { vault: VAULT, segments: vec![shard().segment; 1_025] },
        Request::CertifyRelease { vault: VAULT, segments: vec![shard().segment; 1_025] },
    ];
    for request in wrong {
        assert_eq!(Request::decode(&request.encode()), Err(Violation::OutOfBounds.into()), "{request:?}");
    }
    let long = vec![0; 256 * 1024 + 1];
    assert_eq!(Request::decode(&long), Err(Violation::TooLong.into()));
    assert_eq!(Response::decode(&long), Err(Violation::TooLong));
}

#[test]
fn text_for_people_is_bounded_and_cannot_move_the_cursor() {
    let loud = Refusal::new(RefusalCode::Disk, format!("a\x1b[2Jb\u{85}{}", "ü".repeat(1_000)));
    let Response::Refusal(read) = Response::decode(&Response::Refusal(loud).encode()).unwrap() else {
        panic!("a refusal stays one");
    };
    assert!(read.message.starts_with("a [2Jb ü") && read.message.len() <= 1_024);
}

#[test]
fn a_kept_row_does_not_show_its_data_key() {
    assert!(format!("{:?}", stored()).contains("Dek(..)"));
}
