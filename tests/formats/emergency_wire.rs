//! What the ledger has of emergencies, and the bounds of their terms.

use crate::shared::{NETWORK, pair};
use xvault::ledger::rows::{Clinician, Emergency, Veto};
use xvault::message::access::{
    EmergencyApproval, EmergencyOpening, EmergencyPolicy, EmergencyRequest, RoleCertificate,
};
use xvault::message::{Canonical as _, Violation};
use xvault::types::*;

pub(crate) fn emergency_policy() -> EmergencyPolicy {
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

pub(crate) fn certificate_of(nth: u8) -> RoleCertificate {
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

pub(crate) fn emergency_request() -> EmergencyRequest {
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

pub(crate) fn emergency_approval() -> EmergencyApproval {
    let (vault, request) = (VaultId([1; 32]), TransactionId([4; 32]));
    EmergencyApproval { vault, request, certificate: certificate_of(9) }
}

pub(crate) const fn emergency_opening() -> EmergencyOpening {
    let (vault, request) = (VaultId([1; 32]), TransactionId([4; 32]));
    EmergencyOpening { vault, request, open: Hash([6; 32]), records: 3 }
}

pub(crate) fn emergency(is_over: bool) -> Emergency {
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
