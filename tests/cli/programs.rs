//! What access, emergencies, recoveries and erasures say to programs: the names that they may rely on, and errors too.
//! That each line is JSON whatever is run with --json is checked by [`User::run`](crate::user::User::run).

use serde_json::Value;

use crate::user::{User, content};

/// Runs a command for programs; its lines.
#[track_caller]
fn rows(user: &User, args: &[&str]) -> Vec<Value> {
    user.run([&["--json"], args].concat()).ends(0).rows()
}

/// The one line of a command, which has these fields.
#[track_caller]
fn row(user: &User, args: &[&str], fields: &str) -> Value {
    let rows = rows(user, args);
    assert_eq!(rows.len(), 1, "{rows:?}");
    let row = rows.into_iter().next().unwrap();
    let found: Vec<_> = row.as_object().unwrap().keys().map(String::as_str).collect();
    let mut wanted: Vec<_> = fields.split_whitespace().collect();
    wanted.sort_unstable();
    assert_eq!(found, wanted, "{args:?}");
    row
}

#[test]
fn what_programs_rely_on_has_its_names() {
    let owner = User::with_key();
    let _devnet = owner.devnet();
    let friend = owner.other_with_key();
    row(&owner, &["collection", "create", "xv://c", "--shreddable"], "v collection class begun");
    owner.write("x", &content(1, 400));
    owner.run(["put", "x", "xv://c/x", "--meta", "labels=vital"]).ends(0);
    row(&friend, &["access", "request", "--name", "F"], "v path package");
    row(&friend, &["access", "request", "--name", "F", "-o", "one"], "v path package");
    friend.hand("one", &owner);
    row(&owner, &["scope", "define", "emergency", "label:vital"], "v name expression standing");
    row(&owner, &["scope", "ls"], "v name expression");
    let terms = ["--scope", "emergency", "--until", "2099-01-01"];
    let granted = row(
        &owner,
        &[&["grant", "one"][..], &terms].concat(),
        "v grant height records records_brought grantee identity",
    );
    let grant = granted["grant"].as_str().unwrap();
    row(
        &friend,
        &["access", "accept", "one"],
        "v grant vault rights scopes note not_before expires quota revoked appendable append_bytes",
    );
    row(&friend, &["access", "held"], "v grant name");
    row(
        &friend,
        &["ls", "--grant", grant],
        "v address collection name size version created modified scope content_type",
    );
    row(&friend, &["stat", "--grant", grant, "xv://c/x"], "record scope grant rights expires");
    row(&owner, &["scope", "renew", "emergency"], "v scope generation height standing");
    row(
        &owner,
        &["grants"],
        "v grant grantee scopes days note rights state height revoked not_before expires quota emergency append_bytes \
         brought_bytes",
    );
    row(&owner, &["revoke", grant], "v grant height acknowledged_ms final_ms");
    let log = rows(&owner, &["access", "log"]);
    assert!(log.iter().all(|row| row["denied_by"].is_array() && row["opened_by"].is_array()), "{log:?}");

    let by = owner.run(["key", "show"]).ends(0).text().trim().to_owned();
    let emergency = ["grant", "--emergency", "--until", "2099-01-01", "--authority", &by, "--delay", "1h"];
    let emergency =
        row(&owner, &emergency, "v grant height records records_brought grantee identity")["grant"].clone();
    let emergency = emergency.as_str().unwrap();
    row(&owner, &["emergency", "card", emergency, "-o", "card"], "v grant path sealed_for");
    let clinician = friend.run(["key", "show"]).ends(0).text().trim().to_owned();
    let certify =
        ["role", "certify", &clinician, "--institution", "a", "--role", "b", "--until", "2099-01-01"];
    row(&owner, &certify, "v path certificate");
    row(&owner, &[&certify[..], &["-o", "role"]].concat(), "v path certificate");
    row(&owner, &["role", "show", "role"], "v network authority holder institution role expires");
    owner.hand("card", &friend);
    owner.hand("role", &friend);
    let ask = ["emergency", "request", "card", "--certificate", "role", "--reason", "r"];
    let asked = row(&friend, &ask, "v vault request grant approvals institutions delay_s lasts_s records");
    row(&friend, &["emergency", "held"], "v vault grant request reason salt");
    // The static node that is asked may be a block behind.
    let mut tries = 0;
    while rows(&owner, &["emergency", "ls"]).is_empty() {
        tries += 1;
        assert!(tries < 120, "the request is on the ledger and not listed");
        std::thread::sleep(std::time::Duration::from_millis(500));
    }
    row(
        &owner,
        &["emergency", "ls"],
        "v request grant state requester requested reason approvals begins ends vetoed records openings",
    );
    let request = asked["request"].as_str().unwrap();
    row(&owner, &["emergency", "veto", request], "v request height acknowledged_ms final_ms");

    assert_eq!(row(&owner, &["key", "guardians"], "v set")["set"], Value::Null);
    let second = owner.other_with_key();
    for (user, file) in [(&friend, "g1"), (&second, "g2")] {
        user.run(["access", "request", "--name", "G", "-o", file]).ends(0);
        user.hand(file, &owner);
    }
    let split = ["key", "split", "--guardians", "2", "g1", "g2", "--delay", "1h", "-o", "shares"];
    let split = row(&owner, &split, "v set threshold height vault delay_s shares");
    friend.write("share", &std::fs::read(owner.path(split["shares"][0].as_str().unwrap())).unwrap());
    row(&friend, &["guardian", "accept", "share"], "v vault set place threshold guardians note");
    row(&friend, &["guardian", "ls"], "v vault set place state threshold guardians note requests");
    let vault = split["vault"].as_str().unwrap();
    let lost = User::new();
    owner.hand("home/devnet/network.toml", &lost);
    let network = lost.path("home/devnet/network.toml");
    let recover = ["--network", network.to_str().unwrap(), "key", "recover", vault, "--name", "Me"];
    let begun = row(&lost, &recover, "v vault stage code request path recovery_request");
    friend.write("request", begun["recovery_request"].as_str().unwrap().as_bytes());
    row(&friend, &["guardian", "approve", "-y", "request"], "v request code height already");
    let listed = row(&owner, &["key", "guardians"], "v set threshold guardians delay_s height requests");
    assert_eq!(listed["requests"][0]["code"], begun["code"]);
    row(&owner, &["key", "veto"], "v request code height");

    let erased = row(&owner, &["erase", "-y", "xv://c/x"], "v erased path certificate statement");
    owner.write("certificate", erased["certificate"].as_str().unwrap().as_bytes());
    let network = "home/devnet/network.toml";
    row(
        &owner,
        &["verify", "--network", network, "--certificate", "certificate"],
        "v subject vault owner height time claim erasures names signers static_nodes releases remains unlisted",
    );
    row(
        &owner,
        &["vault", "show"],
        "v vault public_key registered generation owner sponsor segments bytes ledger_bytes_per_epoch erased",
    );
    row(&owner, &["recover"], "collections anchors changes stored erased");

    // Errors have theirs, whatever fails.
    for (user, args, kind) in [
        (&friend, &["cat", "--grant", grant, "xv://c/x"][..], "refused"),
        (&friend, &["stat", "--grant", "0", "xv://c/x"], "usage"),
        (&friend, &["guardian", "release", "request"], "refused"),
        (&friend, &["guardian", "accept", "missing"], "not_found"),
        (&owner, &["grant", "x", "--scope", "emergency", "--until", "2099-01-01"], "corrupt"),
        (&owner, &["revoke", &"0".repeat(32)], "not_found"),
        (&owner, &["scope", "renew", "none"], "not_found"),
        (&owner, &["erase", "xv://c/x"], "refused"),
        (&owner, &["emergency", "veto", request], "refused"),
        (&owner, &["key", "veto"], "not_found"),
    ] {
        let ran = user.run([&["--json"], args].concat());
        let error = ran.error();
        assert_eq!(
            (&error["message_type"], &error["kind"]),
            (&"exit_error".into(), &kind.into()),
            "{args:?}: {error}"
        );
        assert_eq!(error["code"], ran.code, "{args:?}");
    }
}
