//! Keys that are lost and devices that are stolen, by commands: an owner, guardians, and somebody with an empty home.

use serde_json::Value;

use crate::user::{User, content, has};
use xvault::crypto::seed::Seed;

fn json(text: &str) -> Value {
    serde_json::from_str(text.trim()).unwrap()
}

#[test]
fn a_lost_key_comes_back_through_guardians_and_the_owner_sees_it() {
    let owner = User::with_key();
    let _devnet = owner.devnet();
    owner.write("knee.dcm", &content(1, 40_000));
    owner.run(["put", "knee.dcm", "xv://imaging/"]).ends(0);
    let phrase = owner.run(["key", "export"]).ends(0).text().trim().to_owned();
    let entropy = *Seed::from_phrase(&phrase).unwrap().entropy();
    let vault =
        json(owner.run(["--json", "vault", "show"]).ends(0).text())["vault"].as_str().unwrap().to_owned();
    assert!(owner.run(["key", "guardians"]).ends(0).stderr.contains("key split"));

    let guardians: Vec<User> = (0..2).map(|_| owner.other()).collect();
    for (nth, guardian) in guardians.iter().enumerate() {
        guardian.run(["key", "new"]).ends(0);
        let file = format!("{nth}.package");
        guardian.run(["access", "request", "--name", "Aunt", "-o", &file]).ends(0);
        guardian.hand(&file, &owner);
    }
    owner.run(["key", "split", "--guardians", "1", "0.package", "1.package"]).ends(2);
    owner.run(["key", "split", "--guardians", "2", "0.package", "0.package"]).ends(2);
    owner.run(["key", "split", "--guardians", "2", "0.package", "1.package", "--delay", "soon"]).ends(2);
    let split =
        ["key", "split", "--guardians", "2", "0.package", "1.package", "--delay", "4s", "-o", "shares"];
    owner.run(split).ends(0);
    assert!(owner.run(["key", "guardians"]).ends(0).text().contains("2 of 2"));
    for (nth, guardian) in guardians.iter().enumerate() {
        let file = format!("shares/guardian-{}-set-1.share", nth + 1);
        let share = std::fs::read(owner.path(&file)).unwrap();
        assert!(!has(&share, &entropy));
        guardian.write("my.share", &share);
        guardian.run(["guardian", "accept", "my.share"]).ends(0);
        assert!(guardian.run(["guardian", "ls"]).ends(0).text().contains("current"));
    }
    guardians[0].write("junk", b"not a share");
    guardians[0].run(["guardian", "accept", "junk"]).ends(5);
    guardians[0].run(["guardian", "accept", "missing"]).ends(6);

    let lost = owner.other();
    lost.run(["key", "recover", &vault]).ends(2);
    // Whoever names no file has the request in the answer, for people and for programs.
    let programmed = owner.other();
    let begun = json(programmed.run(["--json", "key", "recover", &vault, "--name", "Me"]).ends(0).text());
    assert_eq!((&begun["stage"], &begun["path"]), (&"begun".into(), &Value::Null));
    programmed.write("my.request", begun["recovery_request"].as_str().unwrap().as_bytes());
    programmed.run(["key", "new"]).ends(0);
    let shown = programmed.run(["guardian", "approve", "my.request"]).ends(7);
    assert!(shown.stderr.contains(begun["code"].as_str().unwrap()), "{}", shown.stderr);
    let begun = lost.run(["key", "recover", &vault, "--name", "It is me", "-o", "my.request"]).ends(0);
    assert!(begun.stderr.contains("code"), "{}", begun.stderr);
    let waits = lost.run(["--json", "key", "recover", &vault]).ends(4).error();
    assert_eq!((&waits["kind"], &waits["retry"]), (&"unavailable".into(), &true.into()));
    assert!(!has(&std::fs::read(lost.path("home/recovery")).unwrap(), b"It is me"), "it is sealed");
    for guardian in &guardians {
        lost.hand("my.request", guardian);
        guardian.run(["guardian", "approve", "my.request"]).ends(7);
        guardian.run(["guardian", "approve", "-y", "my.request"]).ends(0);
        guardian.run(["guardian", "approve", "-y", "my.request"]).ends(0);
    }
    let seen = owner.run(["ls", "xv://imaging/"]).ends(0);
    assert!(seen.stderr.contains("key veto"), "the owner is told: {}", seen.stderr);
    for guardian in &guardians {
        // Not before it is due, which may take until the next block.
        let mut tries = 0;
        while guardian.run(["guardian", "release", "my.request"]).code != 0 {
            tries += 1;
            assert!(tries < 60, "never due");
            std::thread::sleep(std::time::Duration::from_secs(1));
        }
    }
    let back = lost.run(["-vv", "key", "recover", &vault]).ends(0);
    assert!(!lost.path("home/recovery").exists());
    assert_eq!(lost.run(["key", "export"]).ends(0).text().trim(), phrase);
    lost.run(["recover"]).ends(0);
    assert_eq!(lost.run(["cat", "xv://imaging/knee.dcm"]).ends(0).stdout, content(1, 40_000));
    lost.run(["key", "recover", &vault]).ends(7);
    // No output and no log had the secret.
    let hex = data_encoding::HEXLOWER.encode(&entropy);
    for text in [&back.stderr, &begun.stderr, &back.text().to_owned()] {
        assert!(!text.contains(&hex) && !text.contains(&phrase), "{text}");
    }

    // The second time it is a trick.
    let thief = owner.other();
    thief.run(["key", "recover", &vault, "--name", "Me, honestly", "-o", "my.request"]).ends(0);
    std::fs::remove_file(guardians[0].path("my.request")).unwrap();
    thief.hand("my.request", &guardians[0]);
    guardians[0].run(["guardian", "approve", "-y", "my.request"]).ends(0);
    owner.run(["key", "veto", "0000-0000"]).ends(6);
    owner.run(["key", "veto"]).ends(0);
    guardians[0].run(["guardian", "release", "my.request"]).ends(7);
    thief.run(["key", "recover", &vault]).ends(7);
}

#[test]
fn a_stolen_device_is_rotated_away() {
    let owner = User::with_key();
    let _devnet = owner.devnet();
    owner.write("knee.dcm", &content(1, 40_000));
    owner.run(["key", "export", "--device", "-o", "device.keys"]).ends(6);
    owner.run(["put", "knee.dcm", "xv://imaging/"]).ends(0);
    owner.run(["key", "export", "--device"]).ends(2);
    owner.run(["key", "export", "--device", "-o", "device.keys"]).ends(0);
    let device = owner.other();
    owner.hand("device.keys", &device);
    device.run(["key", "import", "--device", "device.keys"]).ends(0);
    device.run(["key", "export"]).ends(7);
    device.run(["vault", "rotate"]).ends(7);
    assert_eq!(device.run(["cat", "xv://imaging/knee.dcm"]).ends(0).stdout, content(1, 40_000));
    device.write("more.dcm", &content(2, 500));
    device.run(["put", "more.dcm", "xv://imaging/"]).ends(0);
    let phrase = owner.run(["key", "export"]).ends(0).text().to_owned();

    let elsewhere = owner.other();
    elsewhere.write("words", phrase.as_bytes());
    elsewhere.run(["key", "import", "--from", "words"]).ends(0);
    assert_eq!(elsewhere.run(["cat", "xv://imaging/knee.dcm"]).ends(0).stdout, content(1, 40_000));

    let rotated = json(owner.run(["--json", "vault", "rotate"]).ends(0).text());
    assert_eq!(rotated["generation"], 1);
    let shown = json(owner.run(["--json", "vault", "show"]).ends(0).text());
    assert_eq!((&shown["generation"], &shown["public_key"]), (&1.into(), &shown["owner"]));
    for (name, bytes) in [("knee.dcm", content(1, 40_000)), ("more.dcm", content(2, 500))] {
        assert_eq!(owner.run(["cat", &format!("xv://imaging/{name}")]).ends(0).stdout, bytes);
    }
    // Why, once, with all who say so; and what to do.
    for args in [&["put", "more.dcm", "xv://imaging/late.dcm"][..], &["cat", "xv://imaging/knee.dcm"]] {
        let refused = device.run([&["--json"], args].concat()).ends(7);
        let said: Vec<Value> = refused.stderr.lines().map(json).collect();
        let why = said.iter().find(|line| line["kind"] == "refused").unwrap();
        let message = why["message"].as_str().unwrap();
        assert_eq!(message.matches("the ledger does not let this key").count(), 1, "{message}");
        for said in ["all nodes that were asked say no: ", "node-1, node-2, ", " refuse: ", " as of block "] {
            assert!(message.contains(said), "{said}: {message}");
        }
        assert_eq!(why["retry"], false);
        assert!(why["hint"].as_str().unwrap().contains("xvault recover"), "{why}");
    }
    assert!(device.run(["vault", "show"]).ends(0).stderr.contains("rotated"));

    // As if it had been interrupted before the end: it goes on, and does not rotate twice.
    let vaults = owner.path("home/vaults");
    let names = std::fs::read_dir(&vaults).unwrap();
    let mut names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let noted = names.find(|name| name.starts_with("generation-")).unwrap();
    std::fs::rename(vaults.join(&noted), vaults.join(noted.replace("generation", "rotating"))).unwrap();
    let again = owner.run(["--json", "vault", "rotate"]).ends(0);
    assert_eq!((&json(again.text())["generation"], &json(again.text())["height"]), (&1.into(), &Value::Null));
    assert_eq!(owner.run(["cat", "xv://imaging/knee.dcm"]).ends(0).stdout, content(1, 40_000));

    // Another home with the words takes the new keys up; one with the words and nothing else finds them.
    assert_ne!(elsewhere.run(["put", "words", "xv://imaging/words"]).code, 0);
    elsewhere.run(["recover"]).ends(0);
    elsewhere.run(["put", "words", "xv://imaging/words"]).ends(0);
    let empty = owner.other();
    empty.write("words", phrase.as_bytes());
    empty.run(["key", "import", "--from", "words"]).ends(0);
    assert_eq!(empty.run(["cat", "xv://imaging/words"]).ends(0).stdout, phrase.as_bytes());
    assert_eq!(json(empty.run(["--json", "vault", "show"]).ends(0).text())["generation"], 1);

    // The next device gets the keys of now.
    owner.run(["key", "export", "--device", "-o", "next.keys"]).ends(0);
    owner.hand("next.keys", &device);
    device.run(["key", "import", "--force", "--device", "next.keys"]).ends(0);
    assert_eq!(device.run(["cat", "xv://imaging/words"]).ends(0).stdout, phrase.as_bytes());
    assert_eq!(json(owner.run(["--json", "vault", "rotate"]).ends(0).text())["generation"], 2);
    assert_ne!(device.run(["cat", "xv://imaging/words"]).code, 0);
    assert_eq!(owner.run(["cat", "xv://imaging/words"]).ends(0).stdout, phrase.as_bytes());
    // A home that was two generations behind stays with what it took up, and so does an empty one.
    let last = owner.other();
    last.write("words", phrase.as_bytes());
    last.run(["key", "import", "--from", "words"]).ends(0);
    for home in [&last, &last] {
        assert_eq!(home.run(["cat", "xv://imaging/words"]).ends(0).stdout, phrase.as_bytes());
    }
    assert_eq!(json(last.run(["--json", "vault", "show"]).ends(0).text())["generation"], 2);
}
