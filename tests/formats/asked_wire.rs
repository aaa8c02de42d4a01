//! What is asked of static nodes about the ledger, and what they answer, against damage.

use crate::emergency_wire::emergency;
use crate::ledger_wire::{
    anchor, blocks, certificate, checkpoint, entry, header, log_proof, member, roster, sign,
};
use crate::package_wire::grant;
use crate::shared::{canonical, pair};
use xvault::ledger::ask::{Answer, Fate, FinalBlock, Holdings, Proven, Question};
use xvault::ledger::rows::{
    Access, GrantRow, Head, Missing, Node, OpeningRow, Segment, Standing, Static, Usage, Vault,
};
use xvault::ledger::snapshot::{Offer, Taking};
use xvault::message::{Action, Canonical as _, NodeNumber, Rejection, Violation};
use xvault::types::*;

pub(crate) fn head() -> Head {
    Head { anchor: TransactionId([1; 32]), sequence: 3, height: Height(4) }
}

pub(crate) fn proven() -> Proven {
    let transaction = sign(Action::RetireNode);
    Proven { transaction, height: Height(3), proof: log_proof(), note: checkpoint().to_note(&roster()) }
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
    let grant_row =
        |revoked| GrantRow { grant: grant(), height: Height(7), revoked, brought: 6, deposits: 5 };
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

pub(crate) fn offer() -> Offer {
    Offer { header: header(), certificate: certificate(), steps: log_proof().steps, next: roster() }
}

pub(crate) fn holdings() -> Holdings {
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
