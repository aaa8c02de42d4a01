//! A provider brings records by commands, and the owner takes them in.

use crate::user::{Ran, User, content};

#[test]
fn a_provider_brings_a_report_that_the_owner_takes_in_and_nobody_else_sees() {
    let owner = User::with_key();
    let _devnet = owner.devnet();
    let clinic = owner.other_with_key();
    owner.write("own", b"mine");
    owner.run(["put", "own", "xv://reports/own"]).ends(0);
    clinic.run(["access", "request", "--name", "Clinic North", "-o", "clinic.package"]).ends(0);
    clinic.hand("clinic.package", &owner);
    let terms = ["grant", "clinic.package", "--append", "--scope", "in:reports", "--until", "2099-01-01"];
    owner.run([&terms[..2], &terms[3..], &["--append-bytes", "1M"]].concat()).ends(2);
    owner.run([&terms[..], &["--append-bytes", "a lot"]].concat()).ends(2);
    let granted = owner.run([&terms[..], &["--append-bytes", "50M"]].concat()).ends(0);
    assert!(granted.stderr.contains("Clinic North may bring records"), "{}", granted.stderr);
    let grant = granted.text().trim().to_owned();

    let accepted = clinic.run(["access", "accept", "clinic.package"]).ends(0);
    let said = format!("{}{}", accepted.text(), accepted.stderr);
    for shown in ["append", "in:reports", "47.6 MiB in all", "xvault put --grant"] {
        assert!(said.contains(shown), "{shown}: {said}");
    }
    clinic.write("knee.pdf", &content(3, 400_000));
    let put = ["put", "--grant", &grant, "knee.pdf", "xv://reports/2026/"];
    let brought = clinic.run([&put[..], &["--meta", "labels=knee"]].concat()).ends(0);
    assert!(brought.stderr.contains("for the vault's owner to take in"), "{}", brought.stderr);
    clinic.run([&put[..], &["--if-absent"]].concat()).ends(2);
    let elsewhere = clinic.run(["put", "--grant", &grant, "knee.pdf", "xv://letters/knee"]).ends(7);
    assert!(elsewhere.stderr.contains("in:reports"), "{}", elsewhere.stderr);
    assert_eq!(clinic.run(["ls", "--grant", &grant]).ends(0).text(), "");
    clinic.run(["cat", "--grant", &grant, "xv://reports/2026/knee.pdf"]).ends(6);
    clinic.run(["cat", "--grant", &grant, "xv://reports/own"]).ends(6);

    // The owner is told with whatever it does next, and once.
    let told = |ran: Ran| ran.stderr.contains("1 deposit of others waits");
    assert!(told(owner.run(["ls", "xv://reports"]).ends(0)));
    assert!(!told(owner.run(["ls", "xv://reports"]).ends(0)));
    let waiting = owner.run(["access", "deposits"]).ends(0);
    assert!(waiting.text().contains("Clinic North"), "{}", waiting.text());
    let waiting = owner.run(["--json", "access", "deposits"]).ends(0).rows();
    assert_eq!(
        (waiting.len(), waiting[0]["grant"].as_str(), waiting[0]["complete"].as_bool()),
        (1, Some(&*grant), Some(true))
    );
    let synced = owner.run(["sync"]).ends(0);
    assert_eq!(synced.text(), "xv://reports/2026/knee.pdf  from Clinic North\n");
    assert_eq!(owner.run(["cat", "xv://reports/2026/knee.pdf"]).ends(0).stdout, content(3, 400_000));
    let stat = owner.run(["stat", "xv://reports/2026/knee.pdf"]).ends(0);
    assert!(
        stat.text().contains(&format!("brought   by Clinic North, under grant {grant}")),
        "{}",
        stat.text()
    );
    let stat = &owner.run(["--json", "stat", "xv://reports/2026/knee.pdf"]).ends(0).rows()[0];
    assert_eq!(
        (stat["brought"]["by"].as_str(), stat["brought"]["grant"].as_str()),
        (Some("Clinic North"), Some(&*grant))
    );
    let again = &owner.run(["--json", "sync"]).ends(0).rows()[0];
    assert_eq!(again["taken_in"].as_array().map(Vec::len), Some(0));

    // One that the owner does not want; and what was brought so far is in the list of grants.
    clinic.run(put).ends(0);
    let waiting = owner.run(["--json", "access", "deposits"]).ends(0).rows();
    let deposit = waiting[0]["deposit"].as_str().unwrap().to_owned();
    owner.run(["access", "refuse", &deposit]).ends(0);
    owner.run(["access", "refuse", &deposit]).ends(6);
    owner.run(["access", "refuse", "no-id"]).ends(2);
    assert_eq!(owner.run(["access", "deposits"]).ends(0).text(), "");
    let listed = &owner.run(["--json", "grants"]).ends(0).rows()[0];
    assert_eq!(listed["append_bytes"].as_u64(), Some(50_000_000));
    assert!(listed["brought_bytes"].as_u64() > Some(800_000), "{listed}");
    owner.run(["revoke", &grant]).ends(0);
    let over = clinic.run(put).ends(7);
    assert!(over.stderr.contains("another grant") || over.stderr.contains("let this key"), "{}", over.stderr);
}
