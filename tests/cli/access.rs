//! Letting others in by commands: an owner and a specialist, each with a home of their own.

use crate::user::{User, content};

#[test]
fn an_owner_lets_a_specialist_in_limits_what_is_seen_and_ends_it() {
    let owner = User::with_key();
    let _devnet = owner.devnet();
    let specialist = owner.other_with_key();
    for (name, labels) in [("knee.dcm", "labels=knee,imaging"), ("head.dcm", "labels=head,imaging")] {
        owner.write(name, &content(1, 40_000));
        owner.run(["put", name, "xv://imaging/", "--meta", labels]).ends(0);
    }
    specialist.run(["access", "request", "--name", "Dr Knee", "-o", "knee.package"]).ends(0);
    specialist.run(["access", "request", "--name", "Dr Knee", "-o", "knee.package"]).ends(7);
    let early = specialist.run(["access", "accept", "knee.package"]).ends(6);
    assert!(early.stderr.contains("xvault grant"), "{}", early.stderr);
    let package = std::fs::read(specialist.path("knee.package")).unwrap();
    owner.write("knee.package", &package);

    owner.run(["scope", "define", "knee", "label:knee and not label:private"]).ends(0);
    let wrong = owner.run(["scope", "define", "x", "label:a and"]).ends(2);
    assert!(wrong.stderr.contains("character"), "{}", wrong.stderr);
    assert!(owner.run(["scope", "ls"]).ends(0).text().starts_with("knee  label:knee"));
    owner.write("junk", b"not a package");
    owner.run(["grant", "junk", "--scope", "knee", "--until", "2099-01-01"]).ends(5);
    owner.run(["grant", "missing", "--scope", "knee", "--until", "2099-01-01"]).ends(6);
    owner.run(["grant", "knee.package", "--scope", "knee", "--until", "2001-01-01"]).ends(2);
    let granted = owner
        .run(["grant", "knee.package", "--scope", "knee", "--until", "2099-01-01", "--note", "for the knee"])
        .ends(0);
    let grant = granted.text().trim().to_owned();
    owner.run(["grant", "knee.package", "--scope", "knee", "--until", "2099-01-01"]).ends(7);

    let accepted = specialist.run(["access", "accept", "knee.package"]).ends(0);
    for shown in [&grant, "knee", "read, list", "2099-01-01", "for the knee"] {
        assert!(accepted.text().contains(shown), "{shown}: {}", accepted.text());
    }
    let list = ["ls", "--grant", &grant];
    assert_eq!(specialist.run(list).ends(0).text(), "xv://imaging/knee.dcm\n");
    let read = specialist.run(["cat", "--grant", &grant, "xv://imaging/knee.dcm"]).ends(0);
    assert_eq!(read.stdout, content(1, 40_000));
    specialist.run(["cat", "--grant", &grant, "xv://imaging/head.dcm"]).ends(6);
    specialist.run(["cat", "xv://imaging/knee.dcm"]).ends(6);

    // What is said of a record opens nothing, and is the same everywhere.
    let stat = specialist.run(["stat", "--grant", &grant, "xv://imaging/knee.dcm"]).ends(0);
    for shown in
        ["record    xv://imaging/knee.dcm", "size      39.0 KiB (40000 bytes)", "scope     knee", &grant]
    {
        assert!(stat.text().contains(shown), "{shown}: {}", stat.text());
    }
    assert!(!stat.text().contains("labels") && !stat.text().contains("blake3"), "{}", stat.text());
    let stat = specialist
        .run(["--json", "stat", "--grant", &grant, "xv://imaging/knee.dcm"])
        .ends(0)
        .rows()
        .remove(0);
    let listed = specialist.run(["--json", "ls", "--grant", &grant]).ends(0).rows().remove(0);
    let versions =
        specialist.run(["--json", "versions", "--grant", &grant, "xv://imaging/knee.dcm"]).ends(0).rows();
    assert_eq!(versions.len(), 1);
    for field in ["address", "name", "version", "created", "modified", "size", "content_type"] {
        assert_eq!(stat["record"][field], listed[field], "{field}");
        assert_eq!(versions[0][field], listed[field], "{field}");
    }
    specialist.run(["stat", "--grant", &grant, "xv://imaging/head.dcm"]).ends(6);
    specialist.run(["versions", "--grant", &grant, "xv://imaging/head.dcm"]).ends(6);
    specialist.run(["stat", "--grant", &grant, "--deep", "xv://imaging/knee.dcm"]).ends(2);
    assert_eq!(
        owner
            .run(["--json", "access", "log"])
            .ends(0)
            .rows()
            .iter()
            .filter(|row| row["purpose"] == "read")
            .count(),
        1
    );

    // What is put later joins by itself.
    owner.write("knee-2.dcm", &content(2, 1_000));
    owner.run(["put", "knee-2.dcm", "xv://imaging/", "--meta", "labels=knee"]).ends(0);
    specialist.run(["get", "-r", "--grant", &grant, "xv://imaging/", "out"]).ends(0);
    assert_eq!(std::fs::read(specialist.path("out/knee-2.dcm")).unwrap(), content(2, 1_000));
    assert!(!specialist.path("out/head.dcm").exists());

    // A get that something is in the way of asks nobody to open anything.
    let openings = || owner.run(["--json", "access", "log"]).ends(0).rows().len();
    let before = openings();
    specialist.run(["get", "--grant", &grant, "xv://imaging/knee.dcm", "knee.package"]).ends(7);
    assert_eq!(openings(), before);
    let unknown = owner.run(["revoke", &"0".repeat(32)]).ends(6);
    assert!(!unknown.stderr.contains("revoked after"), "{}", unknown.stderr);

    // Under new keys nothing joins for a grant of before; what it opened it opens still.
    owner.run(["scope", "renew", "nobody"]).ends(6);
    owner.run(["scope", "define", "unused", "label:x"]).ends(0);
    owner.run(["scope", "renew", "unused"]).ends(7);
    let renewed = owner.run(["--json", "scope", "renew", "knee"]).ends(0).rows().remove(0);
    assert_eq!((&renewed["generation"], &renewed["standing"][0]), (&1.into(), &grant.as_str().into()));
    owner.write("knee-3.dcm", &content(3, 1_000));
    owner.run(["put", "knee-3.dcm", "xv://imaging/", "--meta", "labels=knee"]).ends(0);
    specialist.run(["cat", "--grant", &grant, "xv://imaging/knee-3.dcm"]).ends(6);
    specialist.run(["cat", "--grant", &grant, "xv://imaging/knee.dcm"]).ends(0);
    specialist.run(["access", "request", "--name", "Dr Knee", "-o", "next.package"]).ends(0);
    owner.write("next.package", &std::fs::read(specialist.path("next.package")).unwrap());
    owner.run(["grant", "next.package", "--scope", "knee", "--until", "2099-01-01"]).ends(0);
    let accepted = specialist.run(["--json", "access", "accept", "next.package"]).ends(0).rows().remove(0);
    let next = accepted["grant"].as_str().unwrap();
    for name in ["knee.dcm", "knee-2.dcm", "knee-3.dcm"] {
        specialist.run(["cat", "--grant", next, &format!("xv://imaging/{name}")]).ends(0);
    }
    owner.run(["revoke", next]).ends(0);

    let listed = owner.run(["--json", "grants"]).ends(0).rows();
    assert_eq!((&listed[0]["grant"], &listed[0]["grantee"]), (&grant.as_str().into(), &"Dr Knee".into()));
    let revoked = owner.run(["--json", "revoke", &grant]).ends(0).rows().remove(0);
    assert!(revoked["acknowledged_ms"].as_f64() <= revoked["final_ms"].as_f64(), "{revoked}");
    let refused = specialist.run(["cat", "--grant", &grant, "xv://imaging/knee.dcm"]).ends(7);
    assert!(refused.stderr.contains("revoked"), "{}", refused.stderr);
    assert_eq!(owner.run(["grants"]).ends(0).text(), "");
    assert!(owner.run(["grants", "--all"]).ends(0).text().contains("revoked"));

    let log = owner.run(["--json", "access", "log"]).ends(0).rows();
    let opened = |path: &str| {
        log.iter().any(|row| {
            row["denied"].is_null()
                && row["grantee"] == "Dr Knee"
                && row["items"].as_array().unwrap().contains(&path.into())
        })
    };
    assert!(opened("xv://imaging/knee.dcm") && opened("xv://imaging/knee-2.dcm"), "{log:?}");
    assert!(!opened("xv://imaging/head.dcm"));
    let csv = owner.run(["access", "log", "--csv"]).ends(0);
    assert!(
        csv.text()
            .starts_with("time,grant,grantee,what,purpose,denied,opened_by,denied_by,request,emergency,"),
        "{}",
        csv.text()
    );
}
