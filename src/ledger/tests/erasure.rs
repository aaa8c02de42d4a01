use super::access::{revoke, shared};
use super::receipts::checkpoint;
use super::*;
use crate::ledger::log::Paths;
use crate::ledger::query::OpenScopes;
use crate::ledger::receipt::{last_leaf, log_proof};
use crate::message::Violation;
use crate::message::access::certificate::{CertifiedErasure, NamedRecord, Remainder};
use crate::message::access::{
    CarriedOut, Certified, DeletionReceipt, Erasure, ErasureCertificate, ErasureClaim, ErasureStatement,
    ReleaseReceipt, TaggedVersion,
};
use crate::message::checkpoint::Policy;

const OWN: ScopeTag = ScopeTag([7; 16]);

const fn tagged(nth: u8) -> TaggedVersion {
    TaggedVersion { record: RecordTag([nth; 16]), version: VersionId([nth; 16]) }
}

fn erasure(versions: &[u8]) -> Erasure {
    Erasure { vault: vault(1), versions: versions.iter().copied().map(tagged).collect() }
}

fn scopes(world: &World, nth: u8) -> OpenScopes {
    let TaggedVersion { record, version } = tagged(nth);
    query::open_scopes(&world.state, &vault(1), &record, &version).unwrap()
}

#[test]
fn many_versions_are_erased_at_once_and_stay_so() {
    let mut world = World::new(4);
    world.accept(9, create(1));
    assert_eq!(world.refusal(9, Action::EraseVersions(erasure(&[1]))), Rejection::NotShared);
    let mut world = shared();
    let erase = |versions: &[u8]| Action::EraseVersions(erasure(versions));
    assert_eq!(world.refusal(8, erase(&[1, 2])), Rejection::NotTheOwner);
    let nowhere = Erasure { vault: vault(2), ..erasure(&[1]) };
    assert_eq!(world.refusal(9, Action::EraseVersions(nowhere)), Rejection::NoSuchVault);
    let TaggedVersion { record, version } = tagged(2);
    world.accept(9, Action::Erase { vault: vault(1), record, version });
    let first = crate::ledger::rows::ERASED.get(&world.state, &(vault(1), (record, version))).unwrap();
    let at = world.height();
    world.accept(9, erase(&[1, 2]));
    assert_eq!(
        (scopes(&world, 1), scopes(&world, 2), scopes(&world, 3)),
        (OpenScopes::None, OpenScopes::None, OpenScopes::All)
    );
    let again = crate::ledger::rows::ERASED.get(&world.state, &(vault(1), (record, version))).unwrap();
    assert_eq!(first, again, "what was erased before was erased then");
    assert_eq!(query::erasure(&world.state, &vault(1), &erasure(&[1, 2]).hash()).unwrap(), Some(at));
    assert_eq!(query::erasure(&world.state, &vault(1), &erasure(&[1]).hash()).unwrap(), None);
    assert_eq!(world.refusal(9, erase(&[1, 2])), Rejection::AlreadyErased);
    world.accept(9, erase(&[1, 2, 3]));
    let usage = crate::ledger::rows::VAULTS.get(&world.state, &vault(1)).unwrap().unwrap().usage;
    assert!(usage.bytes > 0, "it is charged to the vault");
}

#[test]
fn what_is_withdrawn_is_its_owners_alone() {
    let mut world = World::new(4);
    world.accept(9, create(1));
    let withdraw = |nth| Action::Withdraw { vault: vault(1), version: tagged(nth), keep: OWN };
    assert_eq!(world.refusal(9, withdraw(1)), Rejection::NotShared);
    let mut world = shared();
    assert_eq!(world.refusal(8, withdraw(1)), Rejection::NotTheOwner);
    world.accept(9, withdraw(1));
    assert_eq!(scopes(&world, 1), OpenScopes::Only(OWN));
    assert!(scopes(&world, 1).include(&OWN) && !scopes(&world, 1).include(&ScopeTag([8; 16])));
    assert_eq!(world.refusal(9, withdraw(1)), Rejection::AlreadyWithdrawn);
    world.accept(9, Action::EraseVersions(erasure(&[1, 2])));
    assert_eq!(scopes(&world, 1), OpenScopes::None);
    assert_eq!(world.refusal(9, withdraw(2)), Rejection::AlreadyErased);
}

#[test]
fn an_erased_vault_has_nothing_left_and_takes_nothing_more() {
    let mut world = shared();
    let first = world.accept(9, Action::Anchor(anchor(1, None, 1)));
    world.accept(9, Action::Grant(access::grant_of(1)));
    let whole = Action::EraseVersions(Erasure::of_vault(vault(1)));
    assert_eq!(world.refusal(8, whole.clone()), Rejection::NotTheOwner);
    let mut row = crate::ledger::rows::VAULTS.get(&world.state, &vault(1)).unwrap().unwrap();
    row.segments = limits::MAX_LAST_SEGMENTS + 1;
    let mut full = world.state.clone();
    full.insert(
        crate::ledger::rows::VAULTS.key(&vault(1)),
        crate::message::canonical::Canonical::encode(&row),
    );
    let signed = world.sign(9, whole.clone());
    assert_eq!(precheck(&full, &signed), Ok(Some(Rejection::SegmentsLeft { have: row.segments })));
    world.accept(9, whole.clone());
    assert!(query::is_vault_erased(&world.state, &vault(1)).unwrap());
    assert!(query::segments(&world.state, &vault(1), None, 9).unwrap().is_empty());
    let row = crate::ledger::rows::VAULTS.get(&world.state, &vault(1)).unwrap().unwrap();
    assert_eq!((row.segments, row.bytes), (0, 0));
    assert_eq!(scopes(&world, 7), OpenScopes::None, "whatever version of it");
    let refused = [
        Action::Anchor(anchor(1, Some(first), 2)),
        Action::Grant(access::grant_of(2)),
        access::batch(1),
        access::sharing(&world, 1),
    ];
    for action in refused {
        assert_eq!(world.refusal(9, action), Rejection::VaultErased);
    }
    assert_eq!(world.refusal(9, whole), Rejection::AlreadyErased);
    world.accept(9, revoke(1));
}

#[test]
fn a_claim_is_of_what_the_ledger_carried_out() {
    let mut world = shared();
    let at = world.height();
    world.accept(9, Action::EraseVersions(erasure(&[1])));
    let claim = |erasure: Hash, height| {
        let erasures = vec![CarriedOut { erasure, height }];
        Action::CertifyErasure(ErasureClaim { vault: vault(1), certificate: Hash([3; 32]), erasures })
    };
    let hash = erasure(&[1]).hash();
    assert_eq!(world.refusal(8, claim(hash, at)), Rejection::NotTheOwner);
    assert_eq!(world.refusal(9, claim(hash, at.next())), Rejection::NoSuchErasure);
    assert_eq!(world.refusal(9, claim(erasure(&[2]).hash(), at)), Rejection::NoSuchErasure);
    world.accept(9, claim(hash, at));
    // Once more with the receipts that came since.
    world.accept(9, claim(hash, at));
}

/// What is stated of the erasure of versions 1 and 2 at a height, with the receipts of these static nodes.
fn statement(height: Height, signers: &[u8]) -> ErasureStatement {
    let erasure = erasure(&[1, 2]);
    let time = Timestamp::from_unix_millis(5_000);
    let deletion = |nth: &u8| DeletionReceipt::sign(&NETWORK, &vault(1), erasure.hash(), time, &pair(*nth));
    ErasureStatement {
        network: NETWORK,
        vault: vault(1),
        subject: "xv://imaging/ct-7".into(),
        stated: time,
        deletions: signers.iter().map(deletion).collect(),
        releases: vec![ReleaseReceipt::sign(&NETWORK, &vault(1), time, vec![segment(1)], &pair(100))],
        remains: vec![
            Remainder::Keyslots { node: pair(4).public() },
            Remainder::Shared { segment: segment(2) },
            Remainder::Shard { segment: segment(1), node: pair(101).public() },
            Remainder::Opened {
                grant: GrantId([1; 16]),
                record: tagged(1).record,
                version: tagged(1).version,
                time,
            },
        ],
        names: vec![NamedRecord { record: tagged(1).record, name: "xv://imaging/ct-7".into() }],
        unlisted: 0,
        erasures: vec![CertifiedErasure { height, erasure }],
    }
}

/// A certificate of a world of four: its statement may be another than the one that the ledger has.
fn certificate(
    world: &mut World,
    claimed: &ErasureStatement,
    stated: ErasureStatement,
) -> ErasureCertificate {
    let signed = world.sign(9, Action::CertifyErasure(claimed.claim()));
    assert_eq!(world.block(std::slice::from_ref(&signed)), []);
    let header = world.blocks.last().unwrap().header;
    let last = last_leaf(&world.state, &header.record).unwrap();
    let mut paths = Paths::new(&world.state);
    let proof = log_proof(&mut paths, &signed.id(), &last, &[]).unwrap().unwrap();
    let note = checkpoint(world, &[1, 2, 3]).to_note(&world.genesis.roster);
    ErasureCertificate { statement: stated, transaction: signed, proof, note }
}

fn erased() -> (World, Height) {
    let mut world = shared();
    let at = world.height();
    world.accept(9, Action::EraseVersions(erasure(&[1, 2])));
    (world, at)
}

fn verify(world: &World, found: &ErasureCertificate) -> Result<Certified, Violation> {
    ErasureCertificate::from_text(&found.to_text())?.verify(&world.genesis, Policy::Quorum)
}

#[test]
fn a_certificate_says_who_signed_and_when_with_the_genesis_alone() {
    let (mut world, at) = erased();
    let good = statement(at, &[1, 2, 3]);
    let found = certificate(&mut world, &good, good.clone());
    assert_eq!(ErasureCertificate::from_text(&found.to_text()), Ok(found.clone()));
    let certified = verify(&world, &found).unwrap();
    assert_eq!((certified.owner, certified.members), (pair(9).public(), 4));
    let mut labels: Vec<_> = certified.signers.iter().map(|(_, label)| label.as_str()).collect();
    labels.sort_unstable();
    assert_eq!(labels, ["static-1", "static-2", "static-3"]);
    assert_eq!(certified.height, world.blocks.last().unwrap().header.record.height);
    assert_eq!(found.verify(&world.genesis, Policy::All), Err(Violation::NoQuorum));
    let other = Genesis { network: NetworkId([1; 32]), ..world.genesis.clone() };
    assert_eq!(found.verify(&other, Policy::Quorum), Err(Violation::WrongNetwork));
}

#[test]
fn a_certificate_is_refused_that_states_more_than_is_signed() {
    let (mut world, at) = erased();
    let good = statement(at, &[1, 2, 3]);
    let mut refused = |change: &dyn Fn(&mut ErasureStatement)| {
        let mut stated = good.clone();
        change(&mut stated);
        let found = certificate(&mut world, &stated.clone(), stated);
        verify(&world, &found).unwrap_err()
    };
    assert_eq!(refused(&|stated| stated.deletions.truncate(2)), Violation::NoQuorum);
    assert_eq!(refused(&|stated| stated.deletions[2] = stated.deletions[1].clone()), Violation::NoQuorum);
    assert_eq!(refused(&|stated| stated.deletions[0].signature[5] ^= 1), Violation::BadSignature);
    assert_eq!(refused(&|stated| stated.deletions[0].node = pair(8).public()), Violation::BadSignature);
    assert_eq!(refused(&|stated| stated.deletions[0].erasure = Hash([9; 32])), Violation::WrongReceipt);
    assert_eq!(refused(&|stated| stated.releases[0].segments.push(segment(9))), Violation::BadSignature);
    assert_eq!(refused(&|stated| stated.network = NetworkId([1; 32])), Violation::WrongNetwork);
    // The owner does not state what the ledger was told.
    let mut stated = good.clone();
    stated.remains.clear();
    let found = certificate(&mut world, &good, stated);
    assert_eq!(verify(&world, &found), Err(Violation::WrongReceipt));
    // Nor is every transaction a claim.
    let mut found = certificate(&mut world, &good, good.clone());
    let signed = world.sign(9, Action::RetireNode);
    found.transaction = signed;
    assert!(verify(&world, &found).is_err());
}

#[test]
fn no_byte_of_a_certificate_can_be_changed() {
    let (mut world, at) = erased();
    let good = statement(at, &[1, 2, 3]);
    let text = certificate(&mut world, &good, good.clone()).to_text();
    for at in 0..text.len() {
        let mut changed = text.clone().into_bytes();
        changed[at] ^= 1;
        // Most are no text of this kind; those that are do not verify.
        let Ok(changed) = String::from_utf8(changed) else { continue };
        let verified = ErasureCertificate::from_text(&changed)
            .and_then(|found| found.verify(&world.genesis, Policy::Quorum));
        assert!(verified.is_err(), "byte {at} of {}", text.len());
    }
    for wrong in ["", "c2sp.org/tlog-proof@v1\n", &text[..text.len() / 2], &format!("{text}\n")] {
        let verified = ErasureCertificate::from_text(wrong)
            .and_then(|found| found.verify(&world.genesis, Policy::Quorum));
        assert!(verified.is_err());
    }
    let long = "x".repeat(limits::MAX_CERTIFICATE_LEN + 1);
    assert_eq!(ErasureCertificate::from_text(&long), Err(Violation::TooLong));
}
