//! What is said of access to static nodes, and their answers, against damage; what is signed, changed byte by byte.

use crate::shared::{NETWORK, canonical, holds_in_every_byte, pair, seal};
use xvault::crypto::access::{AccessKeys, DayRange, Keyslot, PrfKey};
use xvault::crypto::frame::DekCommit;
use xvault::crypto::seed::Seed;
use xvault::message::access::desk::{
    Ack, DeskAnswer, DeskRequest, LogEntry, LogPage, SignedSealKey, body_hash, chain,
};
use xvault::message::access::open::{
    ListedLine, OpenItem, OpenReply, OpenRequest, OpenedItem, SignedOpenRequest,
};
use xvault::message::access::own_slots::{OwnSlot, OwnSlots};
use xvault::message::access::{
    AccessNotes, BodyScope, DeletionReceipt, Denial, DepositKind, EmergencyCard, EmergencyPolicy, Erasure,
    Grant, GrantBody, GrantedScope, Inbox, KeyPackage, ListLine, NotedGrant, NotedScope, Rights,
    RoleCertificate, SealedCard, TaggedVersion,
};
use xvault::message::{Canonical as _, Violation};
use xvault::types::*;

const VAULT: VaultId = VaultId([1; 32]);

fn items() -> Vec<OpenItem> {
    let scope = ScopeTag([7; 16]);
    vec![
        OpenItem::Record { record: RecordTag([1; 16]), version: VersionId([2; 16]), scope, generation: 3 },
        OpenItem::List { batch: BatchId([4; 16]), scope, generation: 5 },
    ]
}

fn request() -> OpenRequest {
    OpenRequest {
        network: NETWORK,
        vault: VAULT,
        dealing: 1,
        epoch: 2,
        grant: GrantId([3; 16]),
        nonce: [4; 16],
        time: Timestamp::from_unix_millis(5),
        reply_to: seal(6).public().clone(),
        items: items(),
        lines_from: ShareIndex::new(2).unwrap(),
        purpose: "read".into(),
        emergency: Some(TransactionId([7; 32])),
    }
}

fn keyslot() -> Keyslot {
    Keyslot::from_slice(&[&[1][..], &[9; Keyslot::LEN - 1]].concat()).unwrap()
}

const fn tagged(nth: u8) -> TaggedVersion {
    TaggedVersion { record: RecordTag([nth; 16]), version: VersionId([nth; 16]) }
}

fn reply() -> OpenReply {
    let slot = keyslot();
    let line = ListedLine { record: RecordTag([1; 16]), version: VersionId([2; 16]), line: vec![3; 60] };
    OpenReply {
        request: Hash([1; 32]),
        partial: vec![1; 100],
        items: vec![
            OpenedItem::Record {
                dek_commit: DekCommit([2; 32]),
                header: Hash([3; 32]),
                slot: Box::new(slot),
            },
            OpenedItem::List { digest: Hash([4; 32]), lines: vec![line] },
            OpenedItem::List { digest: Hash([5; 32]), lines: vec![] },
        ],
        log_sequence: 9,
    }
}

fn entry(denied: Option<Denial>) -> LogEntry {
    LogEntry {
        time: Timestamp::from_unix_millis(8),
        grant: GrantId([3; 16]),
        request: Hash([4; 32]),
        items: items(),
        purpose: "list".into(),
        emergency: denied.map(|_| TransactionId([6; 32])),
        denied,
    }
}

fn keys() -> AccessKeys {
    Seed::from_entropy([1; 32]).vault(0, 0).access()
}

pub(crate) fn body() -> GrantBody {
    let path: ScopePath = "label:knee".parse().unwrap();
    let key = keys().scope_key(&path, 2);
    let days = DayRange::new(Day(9_000), Day(9_100)).unwrap();
    let scope = BodyScope {
        scope: keys().scope_tag(&path),
        path,
        generation: 2,
        list: key.list_key(),
        days: key.cover(days),
    };
    GrantBody {
        vault: VAULT,
        owner: pair(1).public(),
        dealing: 0,
        key: *PrfKey::from_wide(&[7; 64]).public().as_bytes(),
        scopes: vec![scope],
        inbox: None,
        note: "for the operation".into(),
    }
}

/// The body of a grant that lets records be brought and nothing be read.
pub(crate) fn append_body() -> GrantBody {
    let inbox =
        Inbox { key: keys().inbox().public().clone(), scopes: vec!["in:reports".into(), "name:a".into()] };
    GrantBody { scopes: vec![], inbox: Some(inbox), ..body() }
}

fn notes() -> AccessNotes {
    let scope = |path: &str| NotedScope { path: path.parse().unwrap(), meaning: "label:knee".into() };
    let mut notes = AccessNotes {
        defined: vec![scope("head"), scope("knee")],
        granted: vec![scope("knee")],
        grants: vec![],
    };
    for nth in [2, 1] {
        notes.put_grant(NotedGrant {
            grant: GrantId([nth; 16]),
            name: "Dr Knee".into(),
            scopes: vec![scope("knee")],
            days: (Day(1), Day(1)),
            note: String::new(),
        });
    }
    notes
}

fn package() -> KeyPackage {
    let package = KeyPackage {
        network: NETWORK,
        number: 7,
        auth: pair(2).public(),
        seal: seal(3).public().clone(),
        name: "Dr Knee".into(),
        expires: Timestamp::from_unix_millis(9),
        identity: pair(4).public(),
        signature: [0; 64],
    };
    package.sign(&pair(4))
}

#[test]
fn what_desks_are_told_and_answer_has_one_encoding() {
    let (vault, hash, nonce) = (VAULT, Hash([2; 32]), [3; 16]);
    let member = (7, RecordTag([8; 16]), VersionId([9; 16]));
    canonical(&[
        DeskRequest::SealKey,
        DeskRequest::SealKeys,
        DeskRequest::Deposit { vault, kind: DepositKind::Batch, bytes: vec![4; 70_000] },
        DeskRequest::Deposit { vault, kind: DepositKind::Dealing, bytes: vec![] },
        DeskRequest::Revoke(vec![5; 200]),
        DeskRequest::Veto(vec![6; 300]),
        DeskRequest::Open(request().sign(&pair(1)).bytes().to_vec()),
        DeskRequest::GrantBody { body: hash },
        DeskRequest::Batches { scope: ScopeTag([6; 16]), generation: 1, after: None },
        DeskRequest::Batches { scope: ScopeTag([6; 16]), generation: 1, after: Some(7) },
        DeskRequest::Members { vault, scope: ScopeTag([6; 16]), generation: 1, after: None },
        DeskRequest::Members { vault, scope: ScopeTag([6; 16]), generation: 1, after: Some(member) },
        DeskRequest::Commitments { vault },
        DeskRequest::Log { vault, after: Some(1), nonce },
        DeskRequest::Package { vault, hash, kind: DepositKind::GrantBody },
        DeskRequest::OwnSlots(OwnSlots {
            vault,
            scope: ScopeTag([6; 16]),
            generation: 0,
            versions: vec![tagged(1), tagged(2)],
        }),
        DeskRequest::Deleted(Erasure { vault, versions: vec![tagged(1), tagged(2)] }),
    ]);
    let page =
        LogPage { first: 1, entries: vec![vec![1; 30], vec![]], size: 3, head: hash, signature: [4; 64] };
    canonical(&[
        DeskAnswer::SealKey(SignedSealKey::sign(&NETWORK, seal(1).public().clone(), &pair(1))),
        DeskAnswer::SealKeys(vec![(
            pair(1).public(),
            SignedSealKey::sign(&NETWORK, seal(1).public().clone(), &pair(1)),
        )]),
        DeskAnswer::Done(Ack::sign(&NETWORK, &[1; 32], &pair(1))),
        DeskAnswer::Opened(vec![1; 3_000]),
        DeskAnswer::Denied(Denial::Revoked),
        DeskAnswer::GrantBody(None),
        DeskAnswer::GrantBody(Some(vec![1; 100])),
        DeskAnswer::Batches(vec![(1, BatchId([2; 16])), (3, BatchId([4; 16]))]),
        DeskAnswer::Members(vec![member, (8, RecordTag([1; 16]), VersionId([2; 16]))]),
        DeskAnswer::Log(page),
        DeskAnswer::Commitments(Some(vec![1; 90])),
        DeskAnswer::Package(Some(vec![2; 90])),
        DeskAnswer::Package(None),
        DeskAnswer::OwnSlots(vec![OwnSlot::Here(Box::new(keyslot())), OwnSlot::Erased, OwnSlot::Missing]),
        DeskAnswer::Deleted(DeletionReceipt::sign(
            &NETWORK,
            &vault,
            hash,
            Timestamp::from_unix_millis(4),
            &pair(1),
        )),
    ]);
    let many = OwnSlots { vault, scope: ScopeTag([6; 16]), generation: 0, versions: vec![tagged(1); 257] };
    assert_eq!(OwnSlots::decode(&many.encode()).map(drop), Err(Violation::OutOfBounds));
    canonical(&[reply()]);
    canonical(&[request()]);
    canonical(&[entry(None), entry(Some(Denial::OverQuota))]);
    canonical(&[body()]);
    canonical(&[AccessNotes::default(), notes()]);
    let mut unordered = notes();
    unordered.defined.reverse();
    assert_eq!(AccessNotes::decode(&unordered.encode()), Err(Violation::Malformed));
    let mut backwards = notes();
    backwards.grants[0].days = (Day(2), Day(1));
    assert_eq!(AccessNotes::decode(&backwards.encode()), Err(Violation::OutOfBounds));
    canonical(&[package()]);
    canonical(Denial::ALL);
    assert_eq!(DeskRequest::decode(&[0]), Err(Violation::Malformed));
    assert_eq!(DeskRequest::decode(&[99]), Err(Violation::Malformed));
}

#[test]
fn lines_of_lists_are_padded_and_read_back() {
    let line = |name: &str, content_type: Option<&str>| ListLine {
        collection: "imaging".parse().unwrap(),
        name: name.parse().unwrap(),
        size: 9,
        created: Timestamp::from_unix_millis(1),
        modified: Some(Timestamp::from_unix_millis(2)),
        content_type: content_type.map(str::to_owned),
    };
    for line in [line("a", None), line(&"x".repeat(1_024), Some("application/dicom"))] {
        let padded = line.to_padded();
        assert!(padded.len().is_multiple_of(64));
        assert_eq!(ListLine::from_padded(&padded), Ok(line));
        assert_eq!(ListLine::from_padded(&[&padded[..], &[0; 64]].concat()), Err(Violation::Malformed));
        let mut dirty = padded.clone();
        *dirty.last_mut().unwrap() = 1;
        assert!(ListLine::from_padded(&dirty).is_err() || !padded.ends_with(&[0]));
    }
    let long = line("a", Some(&"y".repeat(4_000)));
    assert_eq!(ListLine::from_padded(&long.to_padded()).unwrap().content_type, None, "too long is left out");
}

fn certificate() -> RoleCertificate {
    let certificate = RoleCertificate {
        network: NETWORK,
        authority: pair(1).public(),
        holder: pair(2).public(),
        institution: "clinic-north".into(),
        role: "Physician".into(),
        expires: Timestamp::from_unix_millis(9),
        signature: [0; 64],
    };
    certificate.sign(&pair(1))
}

fn card() -> EmergencyCard {
    let secret = keys().card(&GrantId([4; 16]));
    EmergencyCard { network: NETWORK, vault: VAULT, grant: GrantId([4; 16]), secret }
}

#[test]
fn a_role_certificate_is_text_that_cannot_be_changed() {
    canonical(&[certificate()]);
    let text = certificate().to_text();
    assert_eq!(RoleCertificate::from_text(&text), Ok(certificate()));
    assert_eq!(
        RoleCertificate::from_text(&format!("\n{} \n", text.replace('\n', "\r\n"))),
        Ok(certificate())
    );
    assert_eq!(certificate().verify(&NETWORK), Ok(()));
    assert_eq!(certificate().verify(&NetworkId([1; 32])), Err(Violation::WrongNetwork));
    holds_in_every_byte("certificate", &certificate().encode(), |bytes| {
        RoleCertificate::decode(bytes).and_then(|found| found.verify(&NETWORK))
    });
    // Of one institution there is one spelling.
    for wrong in ["Clinic-north", "", "clinic north", &"x".repeat(64)] {
        let odd = RoleCertificate { institution: wrong.into(), ..certificate() };
        assert_eq!(RoleCertificate::decode(&odd.encode()), Err(Violation::OutOfBounds), "{wrong}");
    }
    let odd = RoleCertificate { role: "a\x1b".into(), ..certificate() };
    assert_eq!(RoleCertificate::decode(&odd.encode()), Err(Violation::OutOfBounds));
    for wrong in ["", "-----BEGIN XVAULT ROLE CERTIFICATE-----", &text.replace("ROLE", "CAT"), &text[..99]] {
        assert!(RoleCertificate::from_text(wrong).is_err());
    }
}

#[test]
fn an_emergency_card_is_text_in_which_no_letter_can_be_wrong() {
    canonical(&[card()]);
    let text = card().to_text();
    let same = |found: &EmergencyCard| found.encode() == card().encode();
    assert!(same(&EmergencyCard::from_text(&text).unwrap()));
    assert!(same(&EmergencyCard::from_text(&format!(" \n{}\n", text.replace('\n', "\r\n"))).unwrap()));
    holds_in_every_byte("card", &card().encode(), |bytes| EmergencyCard::decode(bytes).map(drop));
    let shown = format!("{:?}", card());
    let secret: String = card().secret.as_bytes()[..4].iter().map(|byte| format!("{byte}, ")).collect();
    assert!(!shown.contains(&secret) && shown.contains("CardSecret(..)"), "{shown}");
    // Another grant of the same vault has other keys.
    let other = keys().card(&GrantId([5; 16]));
    assert_ne!(other.as_bytes(), card().secret.as_bytes());
    assert_ne!(other.keys().0.public(), card().secret.keys().0.public());
    assert_ne!(other.keys().1.public(), card().secret.keys().1.public());
}

#[test]
fn a_sealed_card_opens_with_one_key_and_not_if_it_was_changed() {
    let sealed = card().seal(7, seal(3).public(), &[8; 64]);
    canonical(std::slice::from_ref(&sealed));
    assert_eq!(SealedCard::from_text(&sealed.to_text()), Ok(sealed.clone()));
    assert_eq!(sealed.open(&seal(3)).unwrap().encode(), card().encode());
    assert_eq!(sealed.open(&seal(4)).map(drop), Err(Violation::WrongSigner));
    let moved = SealedCard { network: NetworkId([1; 32]), ..sealed.clone() };
    assert_eq!(moved.open(&seal(3)).map(drop), Err(Violation::WrongSigner));
    for at in (0..sealed.sealed.len()).step_by(53).chain([sealed.sealed.len() - 1]) {
        let mut changed = sealed.clone();
        changed.sealed[at] ^= 1;
        assert_eq!(changed.open(&seal(3)).map(drop), Err(Violation::WrongSigner), "byte {at}");
    }
    assert!(EmergencyCard::from_text(&sealed.to_text()).is_err());
    assert!(SealedCard::from_text(&card().to_text()).is_err());
}

/// C15: no byte of what is signed can be changed, and nothing signed for one purpose, network or node is good for another.
#[test]
fn c15_no_byte_of_what_is_signed_can_be_changed() {
    let signed = request().sign(&pair(1));
    assert_eq!(signed.verify(&pair(1).public()), Ok(()));
    assert_eq!(signed.verify(&pair(2).public()), Err(Violation::BadSignature));
    holds_in_every_byte("request", signed.bytes(), |bytes| {
        SignedOpenRequest::decode(bytes).and_then(|found| found.verify(&pair(1).public()))
    });
    let hash = Hash([1; 32]);
    let answer = reply().sign(&pair(3));
    assert_eq!(OpenReply::verify(&answer, &pair(3).public(), &hash), Ok(reply()));
    assert_eq!(OpenReply::verify(&answer, &pair(4).public(), &hash), Err(Violation::BadSignature));
    assert_eq!(OpenReply::verify(&answer, &pair(3).public(), &Hash([2; 32])), Err(Violation::WrongResponse));
    holds_in_every_byte("answer", &answer, |bytes| {
        OpenReply::verify(bytes, &pair(3).public(), &hash).map(drop)
    });
    let ack = Ack::sign(&NETWORK, &[1; 32], &pair(5));
    assert_eq!(ack.verify(&NETWORK, &[1; 32], &pair(5).public()), Ok(()));
    assert!(ack.verify(&NetworkId([2; 32]), &[1; 32], &pair(5).public()).is_err());
    assert!(ack.verify(&NETWORK, &[2; 32], &pair(5).public()).is_err());
    let key = SignedSealKey::sign(&NETWORK, seal(1).public().clone(), &pair(5));
    assert_eq!(key.verify(&NETWORK, &pair(5).public()), Ok(()));
    assert!(key.verify(&NetworkId([2; 32]), &pair(5).public()).is_err());
    let swapped = SignedSealKey { key: seal(2).public().clone(), ..key };
    assert!(swapped.verify(&NETWORK, &pair(5).public()).is_err());
}

#[test]
fn a_key_package_is_text_that_cannot_be_changed() {
    let text = package().to_text();
    assert_eq!(KeyPackage::from_text(&text), Ok(package()));
    assert_eq!(package().verify(), Ok(()));
    assert_eq!(KeyPackage::from_text(&format!("\n {} \n", text.replace('\n', "\r\n"))), Ok(package()));
    holds_in_every_byte("package", &package().encode(), |bytes| {
        KeyPackage::decode(bytes).and_then(|found| found.verify())
    });
    for wrong in
        ["", "-----BEGIN XVAULT KEY PACKAGE-----", &text.replace("KEY", "CAT"), &text[..text.len() / 2]]
    {
        assert!(KeyPackage::from_text(wrong).is_err());
    }
    let shown = KeyPackage { name: "a\x1b[2Jb".into(), ..package() };
    assert_eq!(KeyPackage::decode(&shown.encode()).map(drop), Err(Violation::OutOfBounds));
}

#[test]
fn a_log_page_is_of_its_vault_node_and_question() {
    let (vault, nonce, head) = (VAULT, [3; 16], chain(&Hash([0; 32]), b"entry"));
    let statement = LogPage::statement(&NETWORK, &vault, 1, &head, &nonce);
    let signature = pair(1).sign(xvault::crypto::sign::Domain::LogHead, &statement);
    let page = LogPage { first: 0, entries: vec![b"entry".to_vec()], size: 1, head, signature };
    assert_eq!(page.verify(&NETWORK, &vault, &nonce, &pair(1).public()), Ok(()));
    let bad = Err(Violation::BadSignature);
    assert_eq!(page.verify(&NetworkId([2; 32]), &vault, &nonce, &pair(1).public()), bad);
    assert_eq!(page.verify(&NETWORK, &VaultId([2; 32]), &nonce, &pair(1).public()), bad);
    assert_eq!(page.verify(&NETWORK, &vault, &[4; 16], &pair(1).public()), bad);
    assert_eq!(page.verify(&NETWORK, &vault, &nonce, &pair(2).public()), bad);
    let longer = LogPage { size: 2, ..page };
    assert_eq!(longer.verify(&NETWORK, &vault, &nonce, &pair(1).public()), bad);
    assert_ne!(chain(&head, b"a"), chain(&head, b"b"));
}

fn policy(delay: u32) -> EmergencyPolicy {
    EmergencyPolicy {
        authorities: vec![pair(1).public()],
        approvals: 0,
        institutions: 1,
        delay,
        lasts: 1,
        quota: 1,
        vetoers: vec![],
    }
}

pub(crate) fn grant() -> Grant {
    Grant {
        vault: VAULT,
        grant: GrantId([1; 16]),
        grantee: pair(1).public(),
        scopes: vec![GrantedScope { scope: ScopeTag([1; 16]), first: 0, last: 1 }],
        rights: Rights::READ,
        not_before: Timestamp::from_unix_millis(1),
        expires: Timestamp::from_unix_millis(2),
        quota: None,
        append_bytes: None,
        body: body_hash(b"body"),
        emergency: None,
    }
}

#[test]
fn what_a_body_is_sealed_for_is_the_whole_grant_but_its_own_hash() {
    let grant = grant();
    let context = GrantBody::context(&grant);
    assert_eq!(GrantBody::context(&Grant { body: Hash([9; 32]), ..grant.clone() }), context);
    let others = [
        Grant { vault: VaultId([2; 32]), ..grant.clone() },
        Grant { grant: GrantId([2; 16]), ..grant.clone() },
        Grant { grantee: pair(2).public(), ..grant.clone() },
        Grant { rights: Rights::LIST, ..grant.clone() },
        Grant { expires: Timestamp::from_unix_millis(3), ..grant.clone() },
        Grant { quota: Some(1), ..grant.clone() },
        Grant { append_bytes: Some(1), ..grant.clone() },
        Grant { emergency: Some(policy(1)), ..grant.clone() },
    ];
    assert!(others.iter().all(|other| GrantBody::context(other) != context));
    let under = |delay| GrantBody::context(&Grant { emergency: Some(policy(delay)), ..grant.clone() });
    assert_ne!(under(1), under(2));
}

/// Nothing secret of a grant's body shows in debug output.
#[test]
fn debug_output_of_a_body_shows_no_key() {
    let text = format!("{:?}", body());
    let list =
        body().scopes[0].list.as_bytes()[..4].iter().map(|byte| format!("{byte}, ")).collect::<String>();
    assert!(!text.contains(&list) && text.contains("ListKey(..)"), "{text}");
}
