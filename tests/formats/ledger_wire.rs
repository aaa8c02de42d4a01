//! Every decoder of the ledger's messages against damaged and random bytes, every signed message changed
//! byte by byte, and its bytes frozen.
//!
//! `XVAULT_SEED=7 cargo test --test formats ledger_wire` replays a failure. `XVAULT_REGENERATE=1` rewrites
//! `tests/vectors/ledger.hex`, after a change of format that is meant.

use std::fmt::Debug;
use std::net::SocketAddr;

use crate::random::{Random, rounds, seeded};
use data_encoding::HEXLOWER;
use xvault::crypto::access::{Dealing, KeyShare, Keyslot, PrfKey, Purpose, SealKey, Sharing};
use xvault::crypto::frame::DekCommit;
use xvault::crypto::ml_dsa::PqKeyPair;
use xvault::crypto::sign::KeyPair;
use xvault::ledger::ask::{Answer, Fate, FinalBlock, Holdings, Proven, Question};
use xvault::ledger::rows::{
    Access, Clinician, Emergency, GrantRow, Head, Missing, Node, OpeningRow, Segment, Standing, Static,
    Usage, Vault, Veto,
};
use xvault::ledger::snapshot::{Offer, Taking};
use xvault::message::access::certificate::{CertifiedErasure, NamedRecord};
use xvault::message::access::package::{SealedShare, SealedSlot, line_hash};
use xvault::message::access::{
    CarriedOut, DeletionReceipt, Erasure, ErasureClaim, ErasureStatement, ReleaseReceipt, Remainder,
    TaggedVersion,
};
use xvault::message::anchor_receipt::{CommitmentProof, LastLeaf, LogProof, RosterStep};
use xvault::message::block::certificate_hash;
use xvault::message::checkpoint::{FalseCosignature, vkeys};
use xvault::message::genesis::GenesisNode;
use xvault::message::governance::SponsorTerms;
use xvault::message::*;
use xvault::types::*;

const NETWORK: NetworkId = NetworkId([0x4e; 32]);

/// What is decoded is encoded to the very bytes it came from, and no shorter form is accepted.
fn canonical<T: Canonical + PartialEq + Debug>(values: &[T]) {
    let mut random = seeded();
    for value in values {
        let bytes = value.encode();
        assert_eq!(T::decode(&bytes).as_ref(), Ok(value));
        for len in (0..bytes.len()).step_by(1 + bytes.len() / 400) {
            assert!(T::decode(&bytes[..len]).is_err(), "{len} of {} bytes", bytes.len());
        }
        assert_eq!(T::decode(&[&bytes[..], &[0]].concat()), Err(Violation::Malformed));
    }
    for round in 0..rounds(1) {
        let bytes = random.input(round, &values[round % values.len()].encode());
        if let Ok(value) = T::decode(&bytes) {
            assert_eq!(value.encode(), bytes, "one encoding for a value");
        }
    }
}

fn pair(nth: u8) -> KeyPair {
    KeyPair::from_secret(&[nth; 32])
}

fn pq_pair(nth: u8) -> PqKeyPair {
    PqKeyPair::from_node_secret(&[nth; 32])
}

fn member(nth: u8) -> Member {
    Member {
        key: pair(nth).public(),
        pq_key: Box::new(*pq_pair(nth).public()),
        label: format!("static-{nth}"),
        operator: "operator".into(),
        address: SocketAddr::from(([127, 0, 0, nth], 4_000)),
    }
}

fn roster() -> Roster {
    Roster::new((1..=4).map(member).collect()).unwrap()
}

fn entry() -> NodeEntry {
    let address = "[2001:db8::1]:4000".parse().unwrap();
    NodeEntry { label: "node-1".into(), operator: "operator".into(), site: "site".into(), address }
}

fn opening(nth: u8) -> Opening {
    Opening { version: VersionId([nth; 16]), content: Hash([nth; 32]), size: 7, salt: [nth; 32] }
}

fn anchor() -> Anchor {
    let shard =
        |at: u8| AnchoredShard { root: Hash([at; 32]), holder: (at != 3).then_some(NodeNumber(at.into())) };
    let segment = SegmentId([7; 32]);
    let shards = (0..6).map(shard).collect();
    Anchor {
        vault: VaultId([1; 32]),
        collection: CollectionTag([2; 32]),
        previous: Some(TransactionId([3; 32])),
        segments: vec![AnchoredSegment { segment, code: Code::DEFAULT, len: 1 << 20, shards }],
        released: vec![SegmentId([4; 32]), SegmentId([5; 32])],
        commits: vec![PackCommit::of(segment, &[opening(1), opening(2), opening(3)])],
    }
}

fn change_file() -> ChangeFile {
    let Action::Govern(governance) = governance(Change::RemoveStatic(pair(2).public()), None) else {
        unreachable!()
    };
    ChangeFile { network: NETWORK, governance }
}

fn governance(change: Change, newcomer: Option<u8>) -> Action {
    let mut governance = Governance::new(5, change);
    (1..=3).for_each(|nth| governance.approve(&NETWORK, &pair(nth)));
    if let Some(nth) = newcomer {
        governance.possess(&NETWORK, &pair(nth));
    }
    Action::Govern(governance)
}

fn evidence() -> Evidence {
    let vote = |block| {
        let (kind, height, round) = (VoteKind::Precommit, Height(4), Round(1));
        Vote { network: NETWORK, kind, height, round, block }.sign(&pair(1))
    };
    Evidence::of_votes(vote(None), vote(Some(BlockId([6; 32]))))
}

fn false_cosignature() -> FalseCosignature {
    let checkpoint = Checkpoint::new(&NETWORK, 8, LogHash([9; 32]));
    FalseCosignature {
        offender: pair(1).public(),
        height: Height(3),
        size: 8,
        root: LogHash([9; 32]),
        seconds: 5,
        signature: pair(1).cosign(5, &checkpoint.text()),
    }
}

/// One of each kind, by the name of its vector.
fn actions() -> Vec<(&'static str, Action)> {
    let (vault, author, key) = (VaultId([1; 32]), pair(9).public(), pair(8).public());
    let vault_by = Sponsorship::sign(&NETWORK, &pair(7), &author, &vault.0);
    let node_by = Sponsorship::sign(&NETWORK, &pair(7), &author, &author.0);
    let holders = vec![Some(NodeNumber(3)), None];
    let terms = SponsorTerms { sponsor: pair(7).public(), vaults: 1, nodes: 2, vault_bytes: 3 };
    let (old, new) = (pair(4).public(), member(5));
    vec![
        ("create_vault", Action::CreateVault { vault, sponsor: None }),
        ("create_vault_sponsored", Action::CreateVault { vault, sponsor: Some(vault_by) }),
        ("anchor", Action::Anchor(anchor())),
        ("place_shards", Action::PlaceShards { vault, segment: SegmentId([7; 32]), holders }),
        ("add_writer", Action::AddWriter { vault, writer: key }),
        ("remove_writer", Action::RemoveWriter { vault, writer: key }),
        ("register_node", Action::RegisterNode { node: entry(), sponsor: None }),
        ("register_node_sponsored", Action::RegisterNode { node: entry(), sponsor: Some(node_by) }),
        ("update_node", Action::UpdateNode(entry())),
        ("retire_node", Action::RetireNode),
        ("add_static", governance(Change::AddStatic(new.clone()), Some(5))),
        ("remove_static", governance(Change::RemoveStatic(old), None)),
        ("replace_static", governance(Change::ReplaceStatic { old, new: new.clone() }, Some(5))),
        ("rotate_static", governance(Change::RotateStatic { old, new }, Some(5))),
        ("lift_blacklist", governance(Change::LiftBlacklist(old), None)),
        ("set_sponsor", governance(Change::SetSponsor(terms), None)),
        ("evidence", Action::Evidence(evidence())),
        ("false_cosignature", Action::FalseCosignature(false_cosignature())),
        ("accuse", Action::Accuse { offender: old, height: Height(3) }),
        ("correct", Action::Correct),
        ("set_quota", Action::SetQuota { vault, quota: 9_000_000 }),
        ("share_key", Action::ShareKey(dealing_package().sharing(roster().hash()))),
        ("grant", Action::Grant(grant())),
        ("revoke", Action::Revoke { vault, grant: GrantId([2; 16]) }),
        ("add_entries", Action::AddEntries(batch_package().batch())),
        ("erase", Action::Erase { vault, record: RecordTag([3; 16]), version: VersionId([4; 16]) }),
        ("bump_scope", Action::BumpScope { vault, scope: ScopeTag([5; 16]), generation: 6 }),
        ("log_head", Action::LogHead(LogHead { size: 7, root: LogHash([8; 32]) })),
        ("emergency_grant", Action::Grant(Grant { emergency: Some(emergency_policy()), ..grant() })),
        ("emergency_request", Action::EmergencyRequest(Box::new(emergency_request()))),
        ("emergency_approve", Action::EmergencyApprove(Box::new(emergency_approval()))),
        ("emergency_veto", Action::EmergencyVeto { vault, request: TransactionId([4; 32]) }),
        ("emergency_opened", Action::EmergencyOpened(emergency_opening())),
        ("erase_versions", Action::EraseVersions(erasure())),
        ("withdraw", Action::Withdraw { vault, version: erasure().versions[0], keep: ScopeTag([5; 16]) }),
        ("certify_erasure", Action::CertifyErasure(claim())),
        ("hand_off", Action::HandOff(crate::handoff_wire::hand_off())),
        ("take_shares", Action::TakeShares(crate::handoff_wire::take_shares())),
        ("reject_handoff", Action::RejectHandoff { package: Hash([7; 32]) }),
        ("append_grant", append_grant()),
        ("deposit", Action::Deposit(crate::deposit_wire::deposit())),
        ("settle_deposits", Action::SettleDeposits(crate::deposit_wire::settled())),
        ("refresh_shares", governance(Change::RefreshShares { every: Some(86_400) }, None)),
    ]
}

fn erasure() -> Erasure {
    let version = |nth| TaggedVersion { record: RecordTag([nth; 16]), version: VersionId([nth; 16]) };
    Erasure { vault: VaultId([1; 32]), versions: vec![version(3), version(4)] }
}

fn claim() -> ErasureClaim {
    let erasures = vec![CarriedOut { erasure: erasure().hash(), height: Height(5) }];
    ErasureClaim { vault: VaultId([1; 32]), certificate: Hash([6; 32]), erasures }
}

fn statement() -> ErasureStatement {
    let (vault, time) = (VaultId([1; 32]), Timestamp::from_unix_millis(7));
    let (node, segment) = (pair(1).public(), SegmentId([8; 32]));
    let TaggedVersion { record, version } = erasure().versions[0];
    ErasureStatement {
        network: NETWORK,
        vault,
        subject: "xv://imaging/a b".into(),
        stated: time,
        erasures: vec![CertifiedErasure { height: Height(5), erasure: erasure() }],
        names: vec![NamedRecord { record, name: "xv://imaging/ä".into() }],
        deletions: vec![DeletionReceipt::sign(&NETWORK, &vault, erasure().hash(), time, &pair(1))],
        releases: vec![ReleaseReceipt::sign(&NETWORK, &vault, time, vec![segment], &pair(2))],
        remains: vec![
            Remainder::Keyslots { node },
            Remainder::Shared { segment },
            Remainder::Shard { segment, node },
            Remainder::Opened { grant: GrantId([2; 16]), record, version, time },
            Remainder::Durable { collection: "labs".into() },
        ],
        unlisted: 3,
    }
}

#[test]
fn erasures_and_what_is_said_of_them_have_one_encoding() {
    canonical(&[erasure()]);
    canonical(&[claim()]);
    canonical(&[statement()]);
    canonical(&statement().deletions);
    canonical(&statement().releases);
    let encode = |change: &dyn Fn(&mut Erasure)| {
        let mut erasure = erasure();
        change(&mut erasure);
        Erasure::decode(&erasure.encode()).map(drop)
    };
    assert_eq!(encode(&|erasure| erasure.versions.reverse()), Err(Violation::Malformed));
    assert_eq!(encode(&|erasure| erasure.versions[1] = erasure.versions[0]), Err(Violation::Malformed));
    assert_eq!(encode(&|erasure| erasure.versions.clear()), Err(Violation::OutOfBounds));
    let first = erasure().versions[0];
    assert_eq!(encode(&|erasure| erasure.versions = vec![first; 1_025]), Err(Violation::OutOfBounds));
    let mut none = claim();
    none.erasures.clear();
    assert_eq!(ErasureClaim::decode(&none.encode()).map(drop), Err(Violation::OutOfBounds));
    let mut many = claim();
    many.erasures = vec![many.erasures[0]; 33];
    assert_eq!(ErasureClaim::decode(&many.encode()).map(drop), Err(Violation::OutOfBounds));
    // Exactly what a record's name may have.
    let mut loud = statement();
    loud.subject = "a\n\u{1b}[2Jb".into();
    assert_eq!(ErasureStatement::decode(&loud.encode()), Ok(loud.clone()));
    loud.subject = "a\0b".into();
    assert_eq!(ErasureStatement::decode(&loud.encode()).map(drop), Err(Violation::OutOfBounds));
    let mut long = statement();
    long.subject = "x".repeat(1_201);
    assert_eq!(ErasureStatement::decode(&long.encode()).map(drop), Err(Violation::OutOfBounds));
    let mut many = statement();
    many.remains = vec![many.remains[1].clone(); 32_769];
    assert_eq!(ErasureStatement::decode(&many.encode()).map(drop), Err(Violation::OutOfBounds));
    let mut release = statement().releases.remove(0);
    release.segments = vec![SegmentId([2; 32]), SegmentId([1; 32])];
    assert_eq!(ReleaseReceipt::decode(&release.encode()).map(drop), Err(Violation::Malformed));
    let mut next = statement().encode();
    next[0] = 2;
    assert_eq!(ErasureStatement::decode(&next).map(drop), Err(Violation::Malformed));
}

#[test]
fn receipts_of_erasures_are_of_their_network_vault_and_node() {
    let (statement, vault) = (statement(), VaultId([1; 32]));
    let (deletion, release) = (&statement.deletions[0], &statement.releases[0]);
    let bad = Err(Violation::BadSignature);
    assert_eq!((deletion.verify(&NETWORK, &vault), release.verify(&NETWORK, &vault)), (Ok(()), Ok(())));
    for (network, vault) in [(NetworkId([1; 32]), vault), (NETWORK, VaultId([2; 32]))] {
        assert_eq!((deletion.verify(&network, &vault), release.verify(&network, &vault)), (bad, bad));
    }
    for at in 0..deletion.encode().len() {
        let mut bytes = deletion.encode();
        bytes[at] ^= 1;
        let verified = DeletionReceipt::decode(&bytes).and_then(|found| found.verify(&NETWORK, &vault));
        assert!(verified.is_err(), "byte {at}");
    }
    for at in 0..release.encode().len() {
        let mut bytes = release.encode();
        bytes[at] ^= 1;
        let verified = ReleaseReceipt::decode(&bytes).and_then(|found| found.verify(&NETWORK, &vault));
        assert!(verified.is_err(), "byte {at}");
    }
}

fn grant() -> Grant {
    let scope = |nth| GrantedScope { scope: ScopeTag([nth; 16]), first: 0, last: u32::from(nth) };
    Grant {
        vault: VaultId([1; 32]),
        grant: GrantId([2; 16]),
        grantee: pair(8).public(),
        scopes: vec![scope(1), scope(2)],
        rights: Rights::READ.and(Rights::LIST),
        not_before: Timestamp::from_unix_millis(1_000),
        expires: Timestamp::from_unix_millis(2_000),
        quota: Some(50),
        append_bytes: None,
        body: Hash([9; 32]),
        emergency: None,
    }
}

fn append_grant() -> Action {
    Action::Grant(Grant { rights: Rights::APPEND, append_bytes: Some(5_000), ..grant() })
}

fn emergency_policy() -> EmergencyPolicy {
    let mut authorities = vec![pair(30).public(), pair(31).public()];
    authorities.sort_unstable();
    EmergencyPolicy {
        authorities,
        approvals: 2,
        institutions: 2,
        delay: 3_600,
        lasts: 14_400,
        quota: 20,
        vetoers: vec![pair(32).public()],
    }
}

fn certificate_of(nth: u8) -> RoleCertificate {
    let certificate = RoleCertificate {
        network: NETWORK,
        authority: pair(30).public(),
        holder: pair(nth).public(),
        institution: "clinic-north".into(),
        role: "Physician".into(),
        expires: Timestamp::from_unix_millis(3_000),
        signature: [0; 64],
    };
    certificate.sign(&pair(30))
}

fn emergency_request() -> EmergencyRequest {
    let request = EmergencyRequest {
        vault: VaultId([1; 32]),
        grant: GrantId([2; 16]),
        grantee: pair(8).public(),
        possession: [0; 64],
        certificate: certificate_of(9),
        reason: Hash([5; 32]),
    };
    request.possess(&NETWORK, &pair(9).public(), &pair(8))
}

fn emergency_approval() -> EmergencyApproval {
    let (vault, request) = (VaultId([1; 32]), TransactionId([4; 32]));
    EmergencyApproval { vault, request, certificate: certificate_of(9) }
}

const fn emergency_opening() -> EmergencyOpening {
    let (vault, request) = (VaultId([1; 32]), TransactionId([4; 32]));
    EmergencyOpening { vault, request, open: Hash([6; 32]), records: 3 }
}

fn emergency(is_over: bool) -> Emergency {
    let clinician = |nth: u8| Clinician {
        key: pair(nth).public(),
        authority: pair(30).public(),
        institution: "clinic-north".into(),
        role: "Physician".into(),
    };
    let veto = Veto { by: pair(32).public(), time: Timestamp::from_unix_millis(7) };
    Emergency {
        grant: GrantId([2; 16]),
        requester: clinician(9),
        reason: Hash([5; 32]),
        requested: Timestamp::from_unix_millis(1),
        height: Height(2),
        approvals: if is_over { vec![clinician(8), clinician(7)] } else { vec![] },
        begins: is_over.then_some(Timestamp::from_unix_millis(3)),
        ends: Timestamp::from_unix_millis(4),
        vetoed: is_over.then_some(veto),
        openings: 5,
        records: 6,
        is_over,
    }
}

fn dealing_package() -> DealingPackage {
    let committee = Committee::new((1..=4).map(|nth| pair(nth).public()).collect()).unwrap();
    let Dealing { commitments, shares } =
        PrfKey::from_wide(&[7; 64]).deal(Sharing::among(&committee), &[1; 32]);
    let seal = |share: &KeyShare| {
        let key = SealKey::from_seed(&[share.index().get(); 32]);
        let context = DealingPackage::share_context(&commitments, share.index());
        let sealed = key.public().seal(Purpose::Share, &context, &*share.to_bytes(), &[5; 64]);
        SealedShare { to: Hash([share.index().get(); 32]), sealed }
    };
    DealingPackage {
        network: NETWORK,
        vault: VaultId([1; 32]),
        dealing: 0,
        inbox: SealKey::from_seed(&[1; 32]).public().clone(),
        audit: SealKey::from_seed(&[2; 32]).public().clone(),
        shares: shares.iter().map(seal).collect(),
        commitments,
    }
}

fn batch_package() -> BatchPackage {
    let slot = |nth: u8| SealedSlot {
        slot: Keyslot::from_slice(&[&[1][..], &[nth; Keyslot::LEN - 1]].concat()).unwrap(),
        line: vec![nth; 40],
    };
    let slots = vec![slot(1), slot(2), slot(3)];
    let entry = |nth: u8, range: std::ops::Range<usize>| RecordEntry {
        record: RecordTag([nth; 16]),
        version: VersionId([nth; 16]),
        dek_commit: DekCommit([nth; 32]),
        header: Hash([nth; 32]),
        slots: slots[range]
            .iter()
            .zip(1..)
            .map(|(slot, scope)| SlotEntry {
                scope: ScopeTag([scope; 16]),
                generation: 1,
                slot: slot.slot.hash(),
                line: line_hash(&slot.line),
            })
            .collect(),
    };
    let entries = vec![entry(1, 0..2), entry(2, 2..2), entry(3, 2..3)];
    let slots = slots.into_iter().map(Some).collect();
    BatchPackage { vault: VaultId([1; 32]), batch: BatchId([6; 16]), entries, slots }
}

fn sign(action: Action) -> SignedTransaction {
    let (network, author, expires) = (NETWORK, pair(9).public(), Height(1_000));
    Transaction { network, author, nonce: 6, expires, action }.sign(&pair(9))
}

fn transactions() -> Vec<SignedTransaction> {
    actions().into_iter().map(|(_, action)| sign(action)).collect()
}

fn certificate() -> CommitCertificate {
    let (height, round, block) = (Height(4), Round(1), BlockId([3; 32]));
    let mut certificate = CommitCertificate { height, round, block, signatures: vec![] };
    for nth in 1..=3 {
        let vote = certificate.vote(NETWORK).sign(&pair(nth));
        assert!(certificate.add(&vote));
    }
    certificate
}

fn header() -> Header {
    let record = BlockRecord {
        network: NETWORK,
        height: Height(5),
        previous: BlockId([3; 32]),
        time: Timestamp::from_unix_millis(1_000),
        proposer: 1,
        roster: roster().hash(),
        new_roster: Some(Hash([8; 32])),
        log_size: 40,
        state: Hash([9; 32]),
        certificate: certificate_hash(Some(&certificate())),
    };
    Header { record, log_root: LogHash([10; 32]) }
}

fn blocks() -> Vec<Block> {
    let full = Block { header: header(), certificate: Some(certificate()), transactions: transactions() };
    vec![Block { certificate: None, transactions: vec![], ..full.clone() }, full]
}

fn genesis() -> Genesis {
    Genesis {
        network: NETWORK,
        time: Timestamp::from_unix_millis(1_000),
        code: Code::DEFAULT,
        admission: Admission::Sponsored,
        params: Params::DEFAULT,
        roster: roster(),
        nodes: vec![GenesisNode { key: pair(20).public(), entry: entry() }],
        sponsors: vec![SponsorTerms { sponsor: pair(7).public(), vaults: 1, nodes: 2, vault_bytes: 3 }],
    }
}

fn checkpoint() -> SignedCheckpoint {
    let mut signed = SignedCheckpoint::new(Checkpoint::new(&NETWORK, 40, LogHash([10; 32])));
    for nth in 1..=3 {
        let cosignature = signed.checkpoint().cosign(1_000, &pair(nth), &pq_pair(nth));
        assert_eq!(signed.add(cosignature, &roster()), Ok(true));
    }
    signed
}

fn log_proof() -> LogProof {
    let last = LastLeaf { record: header().record, path: vec![LogHash([1; 32]); 3] };
    let cosignatures = checkpoint().cosignatures().to_vec();
    let step = RosterStep { cosignatures, root: LogHash([2; 32]), last: last.clone(), next: roster() };
    LogProof { index: 3, path: vec![LogHash([4; 32]); 2], last, steps: vec![step] }
}

#[test]
fn transactions_have_one_encoding() {
    canonical(&transactions());
    let bare: Vec<Transaction> = transactions().iter().map(|signed| signed.transaction().clone()).collect();
    canonical(&bare);
    for signed in transactions() {
        assert_eq!(SignedTransaction::decode(signed.bytes()), Ok(signed.clone()));
        assert_eq!(signed.verify(&NETWORK), Ok(()), "{signed:?}");
    }
}

#[test]
fn blocks_headers_and_genesis_have_one_encoding() {
    canonical(&blocks());
    canonical(&[header()]);
    canonical(&[header().record]);
    canonical(&[genesis()]);
    canonical(&[roster()]);
}

#[test]
fn parts_of_receipts_have_one_encoding() {
    canonical(&[log_proof()]);
    canonical(&[CommitmentProof::of(0, &[opening(1), opening(2)], 1).unwrap()]);
    canonical(checkpoint().cosignatures());
    canonical(&[false_cosignature()]);
}

/// Reads a text and writes it again, if it is one.
type Again<'a> = &'a dyn Fn(&str) -> Option<String>;

fn head() -> Head {
    Head { anchor: TransactionId([1; 32]), sequence: 3, height: Height(4) }
}

fn proven() -> Proven {
    let transaction = sign(Action::RetireNode);
    Proven { transaction, height: Height(3), proof: log_proof(), note: checkpoint().to_note(&roster()) }
}

#[test]
fn packages_have_one_encoding_and_what_is_in_them_is_what_their_entries_name() {
    canonical(&[dealing_package()]);
    canonical(&[batch_package()]);
    canonical(&batch_package().entries);
    let good = batch_package();
    assert_eq!(BatchPackage::decode_bounded(&good.encode()), Ok(good.clone()));
    let changed = |change: &dyn Fn(&mut BatchPackage)| {
        let mut package = good.clone();
        change(&mut package);
        BatchPackage::decode_bounded(&package.encode())
    };
    assert_eq!(changed(&|p| p.slots[0].as_mut().unwrap().line.push(1)), Err(Violation::WrongHash));
    assert_eq!(changed(&|p| p.slots.swap(0, 1)), Err(Violation::WrongHash));
    assert_eq!(changed(&|p| p.entries[0].slots[1].slot = Hash([1; 32])), Err(Violation::WrongHash));
    assert_eq!(changed(&|p| p.entries[0].slots.swap(0, 1)), Err(Violation::Malformed));
    assert_eq!(changed(&|p| drop(p.slots.pop())), Err(Violation::Malformed));
    assert_eq!(changed(&|p| p.slots.push(p.slots[0].clone())), Err(Violation::Malformed));
    let copy = changed(&|p| p.slots[1] = None).unwrap();
    assert!(good.is_whole() && !copy.is_whole() && copy.batch() == good.batch());
    let mut suite = good.encode();
    suite[0] = 2;
    assert_eq!(BatchPackage::decode(&suite), Err(Violation::UnknownSuite));
    let mut suite = dealing_package().encode();
    suite[0] = 2;
    assert_eq!(DealingPackage::decode(&suite), Err(Violation::UnknownSuite));
    assert_eq!(BatchPackage::decode_bounded(&vec![1; (8 << 20) + 1]), Err(Violation::TooLong));
    assert_eq!(DealingPackage::decode_bounded(&vec![1; (8 << 20) + 1]), Err(Violation::TooLong));
}

#[test]
fn grants_are_in_bounds() {
    let changed = |change: &dyn Fn(&mut Grant)| {
        let mut grant = grant();
        change(&mut grant);
        Grant::decode(&grant.encode())
    };
    assert_eq!(changed(&|_| ()), Ok(grant()));
    assert_eq!(changed(&|g| g.scopes.clear()), Err(Violation::OutOfBounds));
    assert_eq!(changed(&|g| g.scopes.reverse()), Err(Violation::Malformed));
    assert_eq!(changed(&|g| g.scopes[1] = g.scopes[0]), Err(Violation::Malformed));
    assert_eq!(changed(&|g| g.scopes[0].first = 9), Err(Violation::OutOfBounds));
    assert_eq!(changed(&|g| g.expires = g.not_before), Err(Violation::OutOfBounds));
    assert_eq!(changed(&|g| g.quota = Some(0)), Err(Violation::OutOfBounds));
    for (bits, violation) in
        [(0, Violation::OutOfBounds), (8, Violation::Malformed), (255, Violation::Malformed)]
    {
        assert_eq!(Rights::decode(&[bits]), Err(violation));
    }
    assert_eq!(grant().rights.to_string(), "read, list");
    assert!(grant().covers(Rights::READ, &ScopeTag([2; 16]), 2));
    assert!(!grant().covers(Rights::READ, &ScopeTag([2; 16]), 3));
    assert!(!grant().covers(Rights::READ, &ScopeTag([3; 16]), 0));
    assert!(!grant().covers(Rights::APPEND, &ScopeTag([2; 16]), 2));
    let at = |millis| grant().is_in_time(Timestamp::from_unix_millis(millis));
    assert!(!at(999) && at(1_000) && at(1_999) && !at(2_000));
    let batch = EntryBatch { count: 0, ..batch_package().batch() };
    assert_eq!(EntryBatch::decode(&batch.encode()), Err(Violation::OutOfBounds));
    let batch = EntryBatch { count: 4_097, ..batch };
    assert_eq!(EntryBatch::decode(&batch.encode()), Err(Violation::OutOfBounds));
}

#[test]
fn terms_for_emergencies_are_in_bounds() {
    let changed = |change: &dyn Fn(&mut EmergencyPolicy)| {
        let mut policy = emergency_policy();
        change(&mut policy);
        assert_eq!(policy.check().err(), EmergencyPolicy::decode(&policy.encode()).err());
        policy.check()
    };
    let keys = |count: u8| {
        let mut keys: Vec<_> = (0..count).map(|nth| pair(100 + nth).public()).collect();
        keys.sort_unstable();
        keys
    };
    let out = Err(Violation::OutOfBounds);
    assert_eq!(changed(&|_| ()), Ok(()));
    assert_eq!(changed(&|p| p.authorities.clear()), out);
    assert_eq!(changed(&|p| p.authorities = keys(16)), Ok(()));
    assert_eq!(changed(&|p| p.authorities = keys(17)), out);
    assert_eq!(changed(&|p| p.authorities.reverse()), Err(Violation::Malformed));
    assert_eq!(changed(&|p| p.authorities[1] = p.authorities[0]), Err(Violation::Malformed));
    assert_eq!(changed(&|p| p.vetoers = keys(16)), Ok(()));
    assert_eq!(changed(&|p| p.vetoers = keys(17)), out);
    assert_eq!(changed(&|p| p.vetoers = vec![p.vetoers[0]; 2]), Err(Violation::Malformed));
    assert_eq!(changed(&|p| p.approvals = 8), Ok(()));
    assert_eq!(changed(&|p| p.approvals = 9), out);
    for (approvals, institutions, fits) in
        [(0, 0, false), (0, 1, true), (0, 2, false), (2, 3, true), (2, 4, false)]
    {
        let checked = changed(&|p| (p.approvals, p.institutions) = (approvals, institutions));
        assert_eq!(checked.is_ok(), fits, "{approvals} {institutions}");
    }
    assert_eq!(changed(&|p| p.delay = 30 * 86_400), Ok(()));
    assert_eq!(changed(&|p| p.delay = 30 * 86_400 + 1), out);
    assert_eq!(changed(&|p| p.lasts = 7 * 86_400), Ok(()));
    assert_eq!(changed(&|p| p.lasts = 7 * 86_400 + 1), out);
    assert_eq!(changed(&|p| p.lasts = 0), out);
    assert_eq!(changed(&|p| p.quota = 1_000), Ok(()));
    assert_eq!(changed(&|p| p.quota = 1_001), out);
    assert_eq!(changed(&|p| p.quota = 0), out);
}

#[test]
fn questions_and_answers_have_one_encoding() {
    let (vault, collection) = (VaultId([5; 32]), CollectionTag([6; 32]));
    canonical(&[
        Question::Tip,
        Question::Blocks { from: Height(9) },
        Question::Nonce { author: pair(1).public() },
        Question::Head { vault, collection },
        Question::Collections { vault, after: None },
        Question::Collections { vault, after: Some(collection) },
        Question::Transaction { id: TransactionId([7; 32]) },
        Question::Statics,
        Question::Nodes { after: Some(NodeNumber(2)) },
        Question::Sequence,
        Question::Vault { vault: VaultId([4; 32]) },
        Question::Cosignatures { height: Height(4) },
        Question::Steps,
        Question::Snapshot { above: Height(3) },
        Question::SnapshotRows { height: Height(4), after: None },
        Question::SnapshotRows { height: Height(4), after: Some(vec![0x12, 7, 8]) },
        Question::LogLeaves { from: 5 },
        Question::BlocksBefore { before: Height(6) },
        Question::Archive,
        Question::BlocksAfter { after: Height(8) },
        Question::Height,
        Question::Access { vault },
        Question::Grants { vault, after: None },
        Question::Grants { vault, after: Some(GrantId([4; 16])) },
        Question::GrantOf { grantee: pair(3).public() },
        Question::Generation { vault, scope: ScopeTag([5; 16]) },
        Question::Erasure { vault, erasure: Hash([6; 32]) },
        Question::Segments { vault, segments: vec![SegmentId([6; 32]), SegmentId([7; 32])] },
        Question::Roster { roster: Hash([8; 32]) },
        Question::Emergencies { vault },
        Question::EmergencyOpenings { request: TransactionId([7; 32]) },
    ]);
    let row = Static { member: member(1), votes: true, standing: Standing::Good, faults: 2, proof: None };
    let node = Node { key: pair(2).public(), entry: entry(), since: Height(1), retired: None };
    let sharing = xvault::ledger::rows::Sharing {
        dealing: 1,
        epoch: 2,
        roster: Hash([3; 32]),
        commitments: Hash([4; 32]),
        package: Hash([5; 32]),
        height: Height(6),
    };
    let segment = anchor().segments[0].clone();
    let segment = Segment {
        collection,
        height: Height(2),
        code: segment.code,
        len: segment.len,
        shards: segment.shards,
    };
    let grant_row = |revoked| GrantRow { grant: grant(), height: Height(7), revoked, brought: 6 };
    let block = FinalBlock { block: blocks()[0].encode(), certificate: certificate().encode() };
    canonical(&[
        Answer::Tip { header: Box::new(header()), note: "note".into(), waiting: 3 },
        Answer::Blocks(vec![block]),
        Answer::Nonce(4),
        Answer::Access(None),
        Answer::Access(Some(Access { sharing, grants: 8, batches: 9, deposits: 10 })),
        Answer::Grants(vec![grant_row(None), grant_row(Some(Height(8)))]),
        Answer::Generation(3),
        Answer::Erasure(Some(Height(4))),
        Answer::Erasure(None),
        Answer::Segments(vec![Some(segment), None]),
        Answer::Emergencies(vec![
            (TransactionId([1; 32]), emergency(false)),
            (TransactionId([2; 32]), emergency(true)),
        ]),
        Answer::EmergencyOpenings(vec![(
            Hash([1; 32]),
            OpeningRow { time: Timestamp::from_unix_millis(1), node: pair(1).public(), records: 2 },
        )]),
        Answer::Roster(None),
        Answer::Roster(Some(Box::new(roster()))),
        Answer::Head(Some(head())),
        Answer::Head(None),
        Answer::Collections(vec![(collection, head())]),
        Answer::Transaction(Some(Box::new(proven()))),
        Answer::Transaction(None),
        Answer::Statics(vec![row]),
        Answer::Nodes(vec![(NodeNumber(1), node)]),
        Answer::Fate(Fate::Final(Box::new(proven()))),
        Answer::Fate(Fate::Waiting),
        Answer::Fate(Fate::Rejected(Rejection::WrongNonce { expected: 3 })),
        Answer::Fate(Fate::Busy { blocks: 2 }),
        Answer::Fate(Fate::NonceTaken),
        Answer::Sequence(5),
        Answer::Vault(None),
        Answer::Vault(Some(Vault {
            owner: PublicKey([1; 32]),
            sponsor: Some(PublicKey([2; 32])),
            quota: 5,
            usage: Usage { epoch: 1, bytes: 2 },
            segments: 3,
            bytes: 4,
            writers: 1,
        })),
        Answer::Cosignatures(checkpoint().cosignatures().to_vec()),
        Answer::Steps(log_proof().steps),
        Answer::Snapshot(Some(Box::new(offer()))),
        Answer::Snapshot(None),
        Answer::SnapshotRows(Some(vec![(vec![0x10], vec![1, 2]), (vec![0x12, 7], vec![])])),
        Answer::SnapshotRows(Some(vec![])),
        Answer::SnapshotRows(None),
        Answer::LogLeaves(vec![LogHash([1; 32]), LogHash([2; 32])]),
        Answer::Archive(Box::default()),
        Answer::Archive(Box::new(holdings())),
        Answer::Height(Height(6)),
    ]);
}

fn offer() -> Offer {
    Offer { header: header(), certificate: certificate(), steps: log_proof().steps, next: roster() }
}

fn holdings() -> Holdings {
    let (from, until) = (Height(2), Height(7));
    Holdings {
        snapshot: Some(Height(7)),
        missing: Some(Missing {
            from,
            below: BlockId([1; 32]),
            below_size: 3,
            until,
            last: BlockId([2; 32]),
        }),
        taking: Some(Taking { height: Height(9), rows: 3, leaves: 4, log_size: 5 }),
    }
}

#[test]
fn parts_of_a_snapshot_are_bounded() {
    let row = |key: usize, value: usize| {
        Answer::decode(&Answer::SnapshotRows(Some(vec![(vec![0x10; key], vec![0; value])])).encode())
            .map(drop)
    };
    assert_eq!(row(limits::MAX_ROW_KEY_LEN, limits::MAX_ROW_LEN), Ok(()));
    assert_eq!(row(limits::MAX_ROW_KEY_LEN + 1, 0), Err(Violation::OutOfBounds));
    assert_eq!(row(1, limits::MAX_ROW_LEN + 1), Err(Violation::OutOfBounds));
    let rows = |count: usize| {
        Answer::decode(&Answer::SnapshotRows(Some(vec![(vec![0x10], vec![]); count])).encode()).map(drop)
    };
    assert_eq!(rows(limits::MAX_SNAPSHOT_ROWS), Ok(()));
    assert_eq!(rows(limits::MAX_SNAPSHOT_ROWS + 1), Err(Violation::OutOfBounds));
    let leaves =
        |count: usize| Answer::decode(&Answer::LogLeaves(vec![LogHash([1; 32]); count]).encode()).map(drop);
    assert_eq!(leaves(limits::MAX_ANSWER_LEAVES), Ok(()));
    assert_eq!(leaves(limits::MAX_ANSWER_LEAVES + 1), Err(Violation::OutOfBounds));
    let question =
        Question::SnapshotRows { height: Height(1), after: Some(vec![0x10; limits::MAX_ROW_KEY_LEN + 1]) };
    assert_eq!(Question::decode(&question.encode()), Err(Violation::OutOfBounds));
}

#[test]
fn texts_have_one_form() {
    let (roster, genesis) = (roster(), genesis());
    let receipt = AnchorReceipt {
        commitment: CommitmentProof::of(0, &[opening(1), opening(2)], 1).unwrap(),
        transaction: transactions()[2].clone(),
        proof: log_proof(),
        note: checkpoint().to_note(&roster),
    };
    let mut random = Random(3);
    let texts: [(String, Again<'_>); 4] = [
        (checkpoint().to_note(&roster), &|text| {
            SignedCheckpoint::from_note(text, &roster).ok().map(|found| found.to_note(&roster))
        }),
        (change_file().to_text(), &|text| ChangeFile::from_text(text).ok().map(|found| found.to_text())),
        (genesis.to_text(), &|text| Genesis::from_text(text).ok().map(|found| found.to_text())),
        (receipt.to_text(), &|text| {
            let found = AnchorReceipt::from_text(text).ok()?;
            SignedCheckpoint::from_note(&found.note, &roster).ok()?;
            Some(found.to_text())
        }),
    ];
    for (text, again) in texts {
        assert!(again(&text).as_ref() == Some(&text));
        for _ in 0..500 {
            let mut bytes = text.clone().into_bytes();
            random.damage(&mut bytes);
            let Ok(damaged) = String::from_utf8(bytes) else { continue };
            if let Some(found) = again(&damaged) {
                assert!(found == damaged, "what is read is written the same");
            }
        }
        for variant in [text.replace('\n', "\r\n"), text.clone() + "\n", text.trim_end().to_owned()] {
            assert!(again(&variant).is_none());
        }
    }
}

#[test]
fn every_changed_byte_of_a_signed_transaction_is_refused() {
    for (name, action) in actions() {
        let good = sign(action);
        for at in 0..good.bytes().len() {
            let mut bytes = good.bytes().to_vec();
            bytes[at] ^= 1;
            let outcome = SignedTransaction::decode(&bytes).and_then(|signed| signed.verify(&NETWORK));
            assert!(outcome.is_err(), "{name}: byte {at}");
        }
    }
}

#[test]
fn another_networks_transaction_is_refused_by_name() {
    for signed in transactions() {
        assert_eq!(signed.verify(&NetworkId([1; 32])), Err(Violation::WrongNetwork));
    }
}

#[test]
fn lists_out_of_order_and_out_of_bounds_are_refused() {
    let encode = |change: &dyn Fn(&mut Anchor)| {
        let mut anchor = anchor();
        change(&mut anchor);
        Anchor::decode(&anchor.encode())
    };
    assert_eq!(encode(&|a| a.released.reverse()), Err(Violation::Malformed));
    assert_eq!(encode(&|a| a.released[1] = a.released[0]), Err(Violation::Malformed));
    assert_eq!(encode(&|a| a.segments.push(a.segments[0].clone())), Err(Violation::Malformed));
    assert_eq!(encode(&|a| a.segments[0].len = 0), Err(Violation::OutOfBounds));
    assert_eq!(encode(&|a| a.segments[0].len = (64 << 20) + 1), Err(Violation::OutOfBounds));
    assert_eq!(encode(&|a| a.released = vec![SegmentId([0; 32]); 1_025]), Err(Violation::OutOfBounds));
    let mut swapped = Governance::new(0, Change::RemoveStatic(pair(1).public()));
    (1..=2).for_each(|nth| swapped.approve(&NETWORK, &pair(nth)));
    swapped.approvals.reverse();
    assert_eq!(Governance::decode(&swapped.encode()), Err(Violation::Malformed));
    let mut label = entry();
    for wrong in ["", "a b", "a\x1b[2J", &"x".repeat(64)] {
        label.label = wrong.into();
        assert!(NodeEntry::decode(&label.encode()).is_err(), "{wrong:?}");
    }
    let never = Governance::new(0, Change::RefreshShares { every: Some(0) });
    assert_eq!(Governance::decode(&never.encode()), Err(Violation::OutOfBounds));
    let epoch = Params { epoch: 0, ..Params::DEFAULT };
    assert_eq!(Params::decode(&epoch.encode()), Err(Violation::OutOfBounds));
    let percent = Params { missed_percent: 101, ..Params::DEFAULT };
    assert_eq!(Params::decode(&percent.encode()), Err(Violation::OutOfBounds));
    assert_eq!(SignedTransaction::decode(&vec![1; 65_536]), Err(Violation::TooLong));
    assert_eq!(Block::decode_bounded(&vec![2; (1 << 20) + 1]), Err(Violation::TooLong));
    let mut twice = genesis();
    twice.nodes.push(twice.nodes[0].clone());
    assert_eq!(Genesis::decode(&twice.encode()), Err(Violation::Malformed));
}

/// Name and bytes of all that is frozen.
fn vectors() -> Vec<(String, Vec<u8>)> {
    let mut vectors: Vec<(String, Vec<u8>)> = actions()
        .into_iter()
        .map(|(name, action)| (format!("transaction.{name}"), sign(action).bytes().to_vec()))
        .collect();
    let mut add = |name: &str, bytes: Vec<u8>| vectors.push((name.to_owned(), bytes));
    add("transaction.anchor.id", sign(Action::Anchor(anchor())).id().0.to_vec());
    add("header", header().encode());
    add("header.id", header().id().0.to_vec());
    add("roster.blake3", blake3::hash(&roster().encode()).as_bytes().to_vec());
    add("roster.hash", roster().hash().0.to_vec());
    add("genesis.blake3", blake3::hash(&genesis().encode()).as_bytes().to_vec());
    add("genesis.id", genesis().id().0.to_vec());
    add("genesis.text.blake3", blake3::hash(genesis().to_text().as_bytes()).as_bytes().to_vec());
    add("opening.leaf", opening(1).leaf().0.to_vec());
    add("checkpoint.text", checkpoint().checkpoint().text().into_bytes());
    add(
        "checkpoint.note.blake3",
        blake3::hash(checkpoint().to_note(&roster()).as_bytes()).as_bytes().to_vec(),
    );
    add("checkpoint.ed25519", checkpoint().cosignatures()[0].ed25519.to_vec());
    add("checkpoint.ml_dsa.blake3", blake3::hash(&checkpoint().cosignatures()[0].ml_dsa).as_bytes().to_vec());
    add("dealing_package.hash", dealing_package().hash().0.to_vec());
    add("batch_package", batch_package().encode());
    add("erasure.hash", erasure().hash().0.to_vec());
    add("erasure_statement", statement().encode());
    add("erasure_statement.hash", statement().hash().0.to_vec());
    add("rejection.head_moved", Rejection::HeadMoved { head: Some(TransactionId([3; 32])) }.encode());
    vectors
}

#[test]
fn the_ledgers_bytes_are_frozen() {
    let lines: Vec<String> =
        vectors().iter().map(|(name, bytes)| format!("{name} = {}\n", HEXLOWER.encode(bytes))).collect();
    let text = format!(
        "# Written by this crate when the format was agreed on: see tests/ledger_wire.rs.\n{}",
        lines.concat()
    );
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vectors/ledger.hex");
    if std::env::var_os("XVAULT_REGENERATE").is_some() {
        std::fs::write(path, &text).unwrap();
    }
    let frozen = std::fs::read_to_string(path).unwrap();
    for (found, expected) in text.lines().zip(frozen.lines()) {
        let name = |line: &str| line.split(" = ").next().unwrap().to_owned();
        assert!(found == expected, "{} changed", name(found));
    }
    assert_eq!(text, frozen);
}

/// A note that another implementation made: its primitives are OpenSSL's.
#[test]
fn checkpoints_of_another_implementation_verify() {
    let text = include_str!("../vectors/checkpoint.hex");
    let field = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(&format!("{name} = ")));
        HEXLOWER.decode(line.unwrap().as_bytes()).unwrap()
    };
    let with_pq = |nth: u8| {
        let pq_key: [u8; 1_312] = field(&format!("pq_public{}", nth - 1)).try_into().unwrap();
        assert_eq!(pq_key, *PqKeyPair::from_seed(&[nth + 100; 32]).public());
        Member { pq_key: Box::new(pq_key), ..member(nth) }
    };
    let roster = Roster::new((1..=2).map(with_pq).collect()).unwrap();
    let note = String::from_utf8(field("note")).unwrap();
    let signed = SignedCheckpoint::from_note(&note, &roster).unwrap();
    assert_eq!(signed.verify(&roster, Policy::All), Ok(()));
    assert_eq!(signed.checkpoint().root.0.to_vec(), field("root"));
    assert_eq!(signed.checkpoint().origin, Checkpoint::origin_of(&NETWORK));
    for (nth, member) in roster.members().iter().enumerate() {
        let expected = [format!("vkey{nth}"), format!("pq_vkey{nth}")].map(|name| field(&name));
        assert_eq!(vkeys(&NETWORK, member).map(String::into_bytes), expected);
    }
    // "It MUST NOT exceed 2^63 - 1."
    let late = signed.checkpoint().cosign(
        1 << 63,
        &KeyPair::from_secret(&[1; 32]),
        &PqKeyPair::from_seed(&[101; 32]),
    );
    assert_eq!(
        SignedCheckpoint::new(signed.checkpoint().clone()).add(late, &roster),
        Err(Violation::OutOfBounds)
    );
}
