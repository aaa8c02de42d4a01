//! What an owner is told beside whatever it typed: emergencies and requests to guardians, both in one command's run.

use crate::user::{User, content};

/// An owner with an emergency grant and two guardians; a clinician with the card; somebody who says to have lost the key.
fn asked_twice(owner: &User) {
    let [authority, doctor, first, second] = [(), (), (), ()].map(|()| owner.other_with_key());
    owner.write("allergies", &content(1, 300));
    owner.run(["put", "allergies", "xv://vital/", "--meta", "labels=vital"]).ends(0);
    owner.run(["scope", "define", "emergency", "label:vital"]).ends(0);
    let by = authority.key();
    let grant = ["grant", "--emergency", "--until", "2099-01-01", "--approvals", "1", "--authority", &by];
    let grant = owner.run(grant).ends(0).text().trim().to_owned();
    owner.run(["emergency", "card", &grant, "-o", "card"]).ends(0);
    owner.hand("card", &doctor);
    let certify = ["role", "certify", &doctor.key(), "--institution", "north", "--role", "physician"];
    authority.run([&certify[..], &["--until", "2099-01-01", "-o", "certificate"]].concat()).ends(0);
    authority.hand("certificate", &doctor);
    for (nth, guardian) in [&first, &second].into_iter().enumerate() {
        let file = format!("{nth}.package");
        guardian.run(["access", "request", "--name", "Aunt", "-o", &file]).ends(0);
        guardian.hand(&file, owner);
    }
    owner.run(["key", "split", "--guardians", "2", "0.package", "1.package", "-o", "."]).ends(0);
    owner.hand("guardian-1-set-1.share", &first);
    first.run(["guardian", "accept", "guardian-1-set-1.share"]).ends(0);

    let ask = ["emergency", "request", "card", "--certificate", "certificate", "--reason", "unconscious"];
    doctor.run(ask).ends(0);
    let lost = owner.other();
    let vault = owner.run(["--json", "vault", "show"]).ends(0).rows().remove(0)["vault"].clone();
    let begin = ["key", "recover", vault.as_str().unwrap(), "--name", "It is me", "-o", "asked"];
    lost.run(begin).ends(0);
    lost.hand("asked", &first);
    first.run(["guardian", "approve", "-y", "asked"]).ends(0);
}

/// Both are asked for while the command runs, and neither waits for the other. A command waits little for either when it is done, so
/// it may take several, each in a home that was told nothing yet.
#[test]
fn one_command_tells_of_an_emergency_and_of_a_request_to_guardians() {
    let owner = User::with_key();
    let _devnet = owner.devnet();
    asked_twice(&owner);
    let phrase = owner.run(["key", "export"]).ends(0).text().to_owned();
    let tells = |stderr: &str| (stderr.contains("EMERGENCY: "), stderr.contains("`xvault key veto`"));
    let told = (0..10).find_map(|_| {
        let home = owner.other();
        home.run_with_input(phrase.as_bytes(), ["key", "import"]).ends(0);
        let ran = home.run(["ls"]).ends(0);
        assert_eq!(ran.text(), "xv://vital/\n", "it goes to stderr");
        (tells(&ran.stderr) == (true, true)).then_some(home)
    });
    let home = told.unwrap();
    // Of an emergency it is told once; of a request until somebody objects.
    let again: Vec<_> = (0..10).map(|_| tells(&home.run(["ls"]).ends(0).stderr)).collect();
    assert!(again.iter().all(|(emergency, _)| !emergency), "{again:?}");
    assert!(again.iter().any(|(_, recovery)| *recovery), "{again:?}");
    let json = home.run(["--json", "ls"]).ends(0);
    json.stderr.lines().for_each(|line| drop(serde_json::from_str::<serde_json::Value>(line).unwrap()));
    home.run(["key", "veto"]).ends(0);
    let after: Vec<_> = (0..5).map(|_| tells(&home.run(["ls"]).ends(0).stderr)).collect();
    assert!(after.iter().all(|told| *told == (false, false)), "{after:?}");
}
