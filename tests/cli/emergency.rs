//! Break-glass by commands: an owner, an authority and two clinicians, each with a home of their own.

use std::os::unix::fs::PermissionsExt as _;

use crate::user::{User, content, eventually};

#[test]
fn an_emergency_is_asked_for_approved_seen_and_vetoed_by_commands() {
    let owner = User::with_key();
    let _devnet = owner.devnet();
    let [authority, doctor, surgeon] = [(), (), ()].map(|()| owner.other_with_key());
    owner.write("allergies", &content(1, 3_000));
    owner.run(["put", "allergies", "xv://vital/", "--meta", "labels=vital"]).ends(0);

    let by = authority.key();
    let grant = ["grant", "--emergency", "--until", "2099-01-01", "--approvals", "1", "--authority", &by];
    let none = owner.run(["grant", "--emergency", "--until", "2099-01-01"]).ends(2);
    assert!(none.stderr.contains("--authority"), "{}", none.stderr);
    let unnamed = owner.run(grant).ends(7);
    assert!(unnamed.stderr.contains("scope define emergency"), "{}", unnamed.stderr);
    owner.run(["scope", "define", "emergency", "label:vital"]).ends(0);
    owner.run([&grant[..], &["--lasts", "30d"]].concat()).ends(2);
    owner.run(["grant", "x", "--scope", "emergency", "--until", "2099-01-01", "--delay", "3h"]).ends(2);
    let both = owner.run([&["grant", "x"], &grant[1..]].concat()).ends(2);
    assert!(both.stderr.contains("emergency card"), "{}", both.stderr);
    let grant = owner.run(grant).ends(0).text().trim().to_owned();
    let listed = owner.run(["--json", "grants"]).ends(0).rows();
    assert_eq!((&listed[0]["grantee"], &listed[0]["emergency"]), (&"emergency".into(), &true.into()));

    owner.run(["emergency", "card", &grant, "-o", "card"]).ends(0);
    let mode = std::fs::metadata(owner.path("card")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    owner.run(["emergency", "card", &grant, "-o", "card"]).ends(7);
    owner.run(["emergency", "card", &"0".repeat(32), "-o", "other"]).ends(6);
    for user in [&doctor, &surgeon] {
        owner.hand("card", user);
    }
    for (user, institution) in [(&doctor, "clinic-north"), (&surgeon, "clinic-south")] {
        let certify = ["role", "certify", &user.key(), "--institution", institution, "--role", "physician"];
        authority.run([&certify[..], &["--until", "2099-01-01", "-o", institution]].concat()).ends(0);
        authority.hand(institution, user);
    }
    let shown = doctor.run(["role", "show", "clinic-north"]).ends(0);
    assert!(shown.text().contains(&by) && shown.text().contains("physician"), "{}", shown.text());
    doctor.write("junk", b"no certificate");
    doctor.run(["role", "show", "junk"]).ends(5);
    doctor.run(["role", "show", "missing"]).ends(6);

    let ask = |card: &str, certificate: &str| {
        let args = ["--json", "emergency", "request", card, "--certificate", certificate, "--reason"];
        doctor.run([&args[..], &["unconscious, alone"]].concat())
    };
    ask("junk", "clinic-north").ends(5);
    ask("missing", "clinic-north").ends(6);
    ask("card", "junk").ends(5);
    surgeon.hand("clinic-south", &doctor);
    let others = ask("card", "clinic-south").ends(7);
    assert!(others.stderr.contains("not of this home's key"), "{}", others.stderr);
    let asked = ask("card", "clinic-north").ends(0).rows().remove(0);
    let (vault, request) = (asked["vault"].as_str().unwrap(), asked["request"].as_str().unwrap());
    assert_eq!((asked["grant"].as_str(), asked["approvals"].as_u64()), (Some(&*grant), Some(1)));
    let early = doctor.run(["ls", "--grant", &grant]).ends(7);
    assert!(early.stderr.contains("emergencies only"), "{}", early.stderr);
    let held = doctor.run(["emergency", "held"]).ends(0);
    assert!(held.text().contains("unconscious, alone"), "{}", held.text());

    // Whatever the owner types tells of it, once.
    let mut told = owner.run(["ls"]).ends(0);
    eventually("the owner is told", || {
        if !told.stderr.contains("EMERGENCY") {
            told = owner.run(["ls"]).ends(0);
        }
        told.stderr.contains("EMERGENCY")
    });
    for shown in [request, "clinic-north", "xvault emergency veto", "waits for more"] {
        assert!(told.stderr.contains(shown), "{shown}: {}", told.stderr);
    }
    assert!(!owner.run(["ls"]).ends(0).stderr.contains("EMERGENCY"));
    let waiting = owner.run(["emergency", "ls"]).ends(0);
    assert!(waiting.text().starts_with(request) && waiting.text().contains("waiting"), "{}", waiting.text());

    let approve = |user: &User, certificate: &str| {
        user.run(["emergency", "approve", vault, request, "--certificate", certificate])
    };
    let own = approve(&doctor, "clinic-north").ends(7);
    assert!(own.stderr.contains("cannot approve it"), "{}", own.stderr);
    approve(&surgeon, "clinic-south").ends(0);
    eventually("it opens", || doctor.run(["ls", "--grant", &grant]).code == 0);
    assert_eq!(doctor.run(["ls", "--grant", &grant]).ends(0).text(), "xv://vital/allergies\n");
    let read = doctor.run(["cat", "--grant", &grant, "xv://vital/allergies"]).ends(0);
    assert_eq!(read.stdout, content(1, 3_000));

    eventually("what was opened is on the ledger", || {
        let listed = owner.run(["--json", "emergency", "ls"]).ends(0).rows().remove(0);
        assert_eq!(listed["state"], "active");
        assert_eq!(listed["approvals"][0]["institution"], "clinic-south");
        listed["records"] == 1
    });
    let log = owner.run(["--json", "access", "log"]).ends(0).rows();
    assert!(log.iter().any(|row| row["emergency"] == request && row["denied"].is_null()), "{log:?}");

    // A reason that others on the machine are not to see; and one emergency of a vault at a time.
    doctor.write("why", b"unconscious, and still\n");
    let again = ["--json", "emergency", "request", "card", "--certificate", "clinic-north", "--reason-file"];
    assert_eq!(doctor.run([&again[..], &["why"]].concat()).ends(0).rows()[0]["request"], request);
    let again = doctor.run([&again[..], &["why", "--reason", "x"]].concat()).ends(2);
    assert!(again.stderr.contains("cannot be used with"), "{}", again.stderr);

    // A card for one department serves nobody else.
    surgeon.run(["access", "request", "--name", "Department", "-o", "package"]).ends(0);
    surgeon.hand("package", &owner);
    owner.run(["emergency", "card", &grant, "--for", "package", "-o", "sealed"]).ends(0);
    owner.hand("sealed", &doctor);
    let sealed = ask("sealed", "clinic-north").ends(7);
    assert!(sealed.stderr.contains("another home"), "{}", sealed.stderr);

    let stranger = doctor.run(["emergency", "veto", request]).ends(6);
    assert!(stranger.stderr.contains("no emergency"), "{}", stranger.stderr);
    let vetoed = owner.run(["--json", "emergency", "veto", request]).ends(0).rows().remove(0);
    assert!(vetoed["acknowledged_ms"].as_f64() <= vetoed["final_ms"].as_f64(), "{vetoed}");
    let refused = doctor.run(["cat", "--grant", &grant, "xv://vital/allergies"]).ends(7);
    assert!(!refused.stderr.is_empty());
    eventually("it is not under way any more", || owner.run(["emergency", "ls"]).ends(0).text().is_empty());
    assert!(owner.run(["emergency", "ls", "--all"]).ends(0).text().contains("vetoed"));
}
