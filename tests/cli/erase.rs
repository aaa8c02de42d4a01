//! Erasing by commands: a collection that is made for it, the certificate, and who checks it.

use serde_json::Value;

use crate::user::{User, content};

#[test]
fn a_shreddable_record_is_erased_and_anybody_checks_the_certificate() {
    let user = User::with_key();
    let _devnet = user.devnet();
    user.write("scan.dcm", &content(1, 40_000));
    user.run(["collection", "create", "xv://imaging"]).ends(2);
    user.run(["collection", "create", "xv://imaging/x", "--shreddable"]).ends(2);
    let begun = user.run(["--json", "collection", "create", "xv://imaging", "--shreddable"]).ends(0);
    let begun: Value = serde_json::from_str(begun.text()).unwrap();
    assert_eq!((&begun["begun"], &begun["class"]), (&true.into(), &"shreddable".into()));
    user.run(["collection", "create", "xv://imaging", "--shreddable"]).ends(0);
    user.run(["put", "scan.dcm", "xv://imaging/ct-7"]).ends(0);
    user.run(["put", "scan.dcm", "xv://labs/durable"]).ends(0);
    user.run(["collection", "create", "xv://labs", "--shreddable"]).ends(7);

    let listed = user.run(["--json", "ls"]).ends(0);
    let classes: Vec<Value> = listed.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let class = |name: &str| classes.iter().find(|row| row["collection"] == name).unwrap()["class"].clone();
    assert_eq!((class("imaging"), class("labs")), ("shreddable".into(), "durable".into()));
    assert!(user.run(["ls", "-l"]).ends(0).text().contains("shreddable  xv://imaging/"));
    let stat = user.run(["stat", "xv://imaging/ct-7"]).ends(0);
    assert!(stat.text().contains("class     shreddable"), "{}", stat.text());
    user.run(["put", "--ack", "staged", "scan.dcm", "xv://imaging/b"]).ends(2);

    let durable = user.run(["erase", "-y", "xv://labs/durable"]).ends(7);
    assert!(
        durable.stderr.contains("durable") && durable.stderr.contains("rm --all-versions"),
        "{}",
        durable.stderr
    );
    user.run(["erase", "-y", "xv://imaging/missing"]).ends(6);
    user.run(["erase", "-y", "xv://imaging", "--version", "00000000000000000000000000"]).ends(2);
    // Nobody is there to say yes.
    user.run(["erase", "xv://imaging/ct-7"]).ends(7);
    user.run(["cat", "xv://imaging/ct-7"]).ends(0);
    let erased = user.run(["erase", "-y", "xv://imaging/ct-7", "-o", "ct-7.erased"]).ends(0);
    assert!(erased.stderr.contains("ct-7.erased"), "{}", erased.stderr);
    user.run(["cat", "xv://imaging/ct-7"]).ends(6);
    user.run(["erase", "-y", "xv://imaging/ct-7", "-o", "ct-7.erased"]).ends(7);

    // Somebody with nothing but the network file.
    let other = User::new();
    let network = std::fs::read(user.path("home/devnet/network.toml")).unwrap();
    other.write("network.toml", &network);
    let certificate = std::fs::read(user.path("ct-7.erased")).unwrap();
    other.write("ct-7.erased", &certificate);
    let check = ["verify", "--certificate", "ct-7.erased", "--genesis", "network.toml"];
    let shown = other.run(check).ends(0);
    for words in
        ["erased    xv://imaging/ct-7", "1 version in block", "static nodes that the keyslots are gone"]
    {
        assert!(shown.text().contains(words), "{words}: {}", shown.text());
    }
    let json = other.run(["--json"].into_iter().chain(check)).ends(0);
    let json: Value = serde_json::from_str(json.text()).unwrap();
    assert_eq!(json["static_nodes"], 4);
    assert!(json["signers"].as_array().unwrap().len() >= 3);
    // One that holds, and was signed by fewer than all, is not wrong.
    let text = String::from_utf8(certificate.clone()).unwrap();
    other.write("of-3", crate::printed::signed_by(&text, 3).as_bytes());
    let few = ["verify", "--certificate", "of-3", "--genesis", "network.toml"];
    other.run(few).ends(0);
    let refused = other.run(few.into_iter().chain(["--policy", "all"])).ends(7);
    assert!(refused.stderr.contains("--policy quorum"), "{}", refused.stderr);
    let mut changed = certificate;
    let middle = changed.len() / 2;
    changed[middle] ^= 1;
    other.write("ct-7.erased", &changed);
    other.run(check).ends(5);
    other.run(["verify", "--certificate", "ct-7.erased", "--receipt", "x", "y"]).ends(2);
    other.run(["verify", "ct-7.erased"]).ends(2);
}
