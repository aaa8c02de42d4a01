//! Erasures, and what static and storage nodes sign of them, against damage.

use crate::shared::{NETWORK, canonical, holds_in_every_byte, pair};
use xvault::message::access::certificate::{CertifiedErasure, NamedRecord};
use xvault::message::access::{
    CarriedOut, DeletionReceipt, Erasure, ErasureClaim, ErasureStatement, ReleaseReceipt, Remainder,
    TaggedVersion,
};
use xvault::message::{Canonical as _, Violation};
use xvault::types::*;

pub(crate) fn erasure() -> Erasure {
    let version = |nth| TaggedVersion { record: RecordTag([nth; 16]), version: VersionId([nth; 16]) };
    Erasure { vault: VaultId([1; 32]), versions: vec![version(3), version(4)] }
}

pub(crate) fn claim() -> ErasureClaim {
    let erasures = vec![CarriedOut { erasure: erasure().hash(), height: Height(5) }];
    ErasureClaim { vault: VaultId([1; 32]), certificate: Hash([6; 32]), erasures }
}

pub(crate) fn statement() -> ErasureStatement {
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
    let mut loud = statement();
    // Exactly what a record's name may have.
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
    holds_in_every_byte("deletion", &deletion.encode(), |bytes| {
        DeletionReceipt::decode(bytes).and_then(|found| found.verify(&NETWORK, &vault))
    });
    holds_in_every_byte("release", &release.encode(), |bytes| {
        ReleaseReceipt::decode(bytes).and_then(|found| found.verify(&NETWORK, &vault))
    });
}
