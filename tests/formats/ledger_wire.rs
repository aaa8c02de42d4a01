//! Every decoder of the ledger's messages against damaged and random bytes, every signed message changed
//! byte by byte, and its bytes frozen.
//!
//! `XVAULT_SEED=7 cargo test --test formats ledger_wire` replays a failure. `XVAULT_REGENERATE=1` rewrites
//! `tests/vectors/ledger.hex`, after a change of format that is meant.

use std::net::SocketAddr;

use crate::emergency_wire::{emergency_approval, emergency_opening, emergency_policy, emergency_request};
use crate::erasure_wire::{claim, erasure, statement};
use crate::package_wire::{append_grant, batch_package, dealing_package, grant};
use crate::random::Random;
use crate::shared::{NETWORK, are_frozen, canonical, pair, transactions_hold_in_every_byte};
use data_encoding::HEXLOWER;
use xvault::crypto::ml_dsa::PqKeyPair;
use xvault::crypto::sign::KeyPair;
use xvault::message::anchor_receipt::{CommitmentProof, LastLeaf, LogProof, RosterStep};
use xvault::message::block::certificate_hash;
use xvault::message::checkpoint::{FalseCosignature, vkeys};
use xvault::message::genesis::GenesisNode;
use xvault::message::governance::SponsorTerms;
use xvault::message::*;
use xvault::types::*;

pub(crate) fn pq_pair(nth: u8) -> PqKeyPair {
    PqKeyPair::from_node_secret(&[nth; 32])
}

pub(crate) fn member(nth: u8) -> Member {
    Member {
        key: pair(nth).public(),
        pq_key: Box::new(*pq_pair(nth).public()),
        label: format!("static-{nth}"),
        operator: "operator".into(),
        address: SocketAddr::from(([127, 0, 0, nth], 4_000)),
    }
}

pub(crate) fn roster() -> Roster {
    Roster::new((1..=4).map(member).collect()).unwrap()
}

pub(crate) fn entry() -> NodeEntry {
    let address = "[2001:db8::1]:4000".parse().unwrap();
    NodeEntry { label: "node-1".into(), operator: "operator".into(), site: "site".into(), address }
}

pub(crate) fn opening(nth: u8) -> Opening {
    Opening { version: VersionId([nth; 16]), content: Hash([nth; 32]), size: 7, salt: [nth; 32] }
}

pub(crate) fn anchor() -> Anchor {
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

pub(crate) fn change_file() -> ChangeFile {
    let Action::Govern(governance) = governance(Change::RemoveStatic(pair(2).public()), None) else {
        unreachable!()
    };
    ChangeFile { network: NETWORK, governance }
}

pub(crate) fn governance(change: Change, newcomer: Option<u8>) -> Action {
    let mut governance = Governance::new(5, change);
    (1..=3).for_each(|nth| governance.approve(&NETWORK, &pair(nth)));
    if let Some(nth) = newcomer {
        governance.possess(&NETWORK, &pair(nth));
    }
    Action::Govern(governance)
}

pub(crate) fn evidence() -> Evidence {
    let vote = |block| {
        let (kind, height, round) = (VoteKind::Precommit, Height(4), Round(1));
        Vote { network: NETWORK, kind, height, round, block }.sign(&pair(1))
    };
    Evidence::of_votes(vote(None), vote(Some(BlockId([6; 32]))))
}

pub(crate) fn false_cosignature() -> FalseCosignature {
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
pub(crate) fn actions() -> Vec<(&'static str, Action)> {
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
        ("append_grant", Action::Grant(append_grant())),
        ("deposit", Action::Deposit(crate::deposit_wire::deposit())),
        ("settle_deposits", Action::SettleDeposits(crate::deposit_wire::settled())),
        ("refresh_shares", governance(Change::RefreshShares { every: Some(86_400) }, None)),
    ]
}

pub(crate) fn sign(action: Action) -> SignedTransaction {
    let (network, author, expires) = (NETWORK, pair(9).public(), Height(1_000));
    Transaction { network, author, nonce: 6, expires, action }.sign(&pair(9))
}

pub(crate) fn transactions() -> Vec<SignedTransaction> {
    actions().into_iter().map(|(_, action)| sign(action)).collect()
}

pub(crate) fn certificate() -> CommitCertificate {
    let (height, round, block) = (Height(4), Round(1), BlockId([3; 32]));
    let mut certificate = CommitCertificate { height, round, block, signatures: vec![] };
    for nth in 1..=3 {
        let vote = certificate.vote(NETWORK).sign(&pair(nth));
        assert!(certificate.add(&vote));
    }
    certificate
}

pub(crate) fn header() -> Header {
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

pub(crate) fn blocks() -> Vec<Block> {
    let full = Block { header: header(), certificate: Some(certificate()), transactions: transactions() };
    vec![Block { certificate: None, transactions: vec![], ..full.clone() }, full]
}

pub(crate) fn genesis() -> Genesis {
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

pub(crate) fn checkpoint() -> SignedCheckpoint {
    let mut signed = SignedCheckpoint::new(Checkpoint::new(&NETWORK, 40, LogHash([10; 32])));
    for nth in 1..=3 {
        let cosignature = signed.checkpoint().cosign(1_000, &pair(nth), &pq_pair(nth));
        assert_eq!(signed.add(cosignature, &roster()), Ok(true));
    }
    signed
}

pub(crate) fn log_proof() -> LogProof {
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
    let signed: Vec<_> = actions().into_iter().map(|(name, action)| (name, sign(action))).collect();
    transactions_hold_in_every_byte(&signed);
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
pub(crate) fn vectors() -> Vec<(String, Vec<u8>)> {
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
    are_frozen("ledger.hex", "tests/ledger_wire.rs", &vectors());
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
