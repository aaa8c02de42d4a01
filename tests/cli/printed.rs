//! What commands print: for people, for programs, and for nobody with -q.

use serde_json::Value;

use crate::user::User;

#[test]
fn a_receipt_is_a_file_a_stream_or_a_field() {
    let user = User::with_key();
    let _devnet = user.devnet();
    user.write("file", b"text");
    user.run(["put", "file", "xv://c/x"]).ends(0);
    let plain = user.run(["receipt", "export", "xv://c/x"]).ends(0);
    let field = user.run(["--json", "receipt", "export", "xv://c/x"]).ends(0).rows().remove(0);
    assert_eq!((field["receipt"].as_str(), &field["path"]), (Some(plain.text()), &Value::Null));

    let export = ["receipt", "export", "xv://c/x", "-o"];
    let to = |flags: &[&'static str], file| user.run([flags, &export, &[file]].concat());
    let said = to(&[], "r1").ends(0);
    assert_eq!((said.text(), said.stderr.trim()), ("", "wrote the receipt of xv://c/x to r1"));
    let quiet = to(&["-q"], "r2").ends(0);
    assert_eq!((quiet.text(), quiet.stderr.as_str()), ("", ""));
    let named = to(&["--json"], "r3").ends(0).rows().remove(0);
    assert_eq!((&named["path"], &named["receipt"]), (&"r3".into(), &Value::Null));
    to(&[], "r3").ends(7);

    let verify = |args: &[&'static str]| {
        let network = ["verify", "--network", "home/devnet/network.toml", "--receipt"];
        user.run([&network, args].concat())
    };
    assert!(verify(&["r1", "file"]).ends(0).text().starts_with("verified  file"));
    let quiet = verify(&["r1", "file", "-q"]).ends(0);
    assert_eq!((quiet.text(), quiet.stderr.as_str()), ("", ""));
    verify(&["missing", "file"]).ends(6);
    verify(&["r1", "missing"]).ends(6);
    verify(&["r1", "file", "--genesis", "missing"]).ends(6);
    verify(&["r1", "file", "--genesis", "file"]).ends(5);
    user.run(["put", "missing", "xv://c/x"]).ends(6);
}

#[test]
fn an_anchor_is_shown_with_what_it_contains() {
    let user = User::with_key();
    let _devnet = user.devnet();
    for name in ["a", "b", "c"] {
        user.write(&format!("tree/{name}"), b"x");
    }
    user.run(["put", "tree/", "xv://c/in"]).ends(0);
    let height = |row: &Value| row["height"].as_u64().unwrap();
    let blocks = user.run(["--json", "ledger", "log", "-n", "1000"]).ends(0).rows();
    let mut found = Vec::new();
    for block in blocks.iter().filter(|block| block["transactions"] != 0) {
        let shown = user.run(["--json", "ledger", "show", &height(block).to_string()]).ends(0);
        found.extend(shown.rows().into_iter().filter(|row| row["kind"] == "anchor"));
    }
    let versions: u64 = found.iter().map(|row| row["anchor"]["versions"].as_u64().unwrap()).sum();
    assert_eq!(versions, 3, "{found:?}");
    let (first, id) = (&found[0]["anchor"], found[0]["id"].as_str().unwrap());
    assert_eq!((&first["previous"], first["segments"][0]["code"].as_str()), (&Value::Null, Some("4+2")));
    assert_eq!(first["segments"][0]["shards"].as_array().unwrap().len(), 6);
    let segments = first["segments"].as_array().unwrap();
    assert!(segments.iter().any(|segment| segment["segment"] == first["commits"][0]["pack"]));

    let text = user.run(["ledger", "show", id]).ends(0);
    let vault = user.run(["--json", "vault", "show"]).ends(0).rows().remove(0)["vault"].clone();
    for shown in [
        vault.as_str().unwrap(),
        first["collection"].as_str().unwrap(),
        "it is the collection's first anchor",
        first["segments"][0]["segment"].as_str().unwrap(),
        "on nodes ",
        "0 released",
    ] {
        assert!(text.text().contains(shown), "{shown}: {}", text.text());
    }
    let block = user.run(["ledger", "show", &height(&found[0]).to_string()]).ends(0);
    // Packs that were stored meanwhile share an anchor.
    let segments = match first["segments"].as_array().unwrap().len() {
        1 => "1 segment of ".to_owned(),
        more => format!("{more} segments of "),
    };
    assert!(block.text().contains(&segments), "{}", block.text());
}

#[test]
fn less_redundancy_is_warned_of_once_a_command() {
    let user = User::with_key();
    let _devnet = user.devnet_of(&["--nodes", "4"]);
    for name in ["a", "b", "c"] {
        user.write(&format!("tree/{name}"), b"x");
    }
    let ran = user.run(["put", "tree/", "xv://c/in"]).ends(0);
    let warnings: Vec<_> = ran.stderr.lines().filter(|line| line.contains("less redundancy")).collect();
    assert_eq!(warnings.len(), 1, "{}", ran.stderr);
    assert!(
        warnings[0].contains("3 records are kept") && warnings[0].contains("for example: 6 of 6"),
        "{warnings:?}"
    );
    let one = user.run(["put", "tree/a", "xv://c/one"]).ends(0);
    assert!(one.stderr.contains("xv://c/one is kept with less redundancy"), "{}", one.stderr);
    let summary = user.run(["--json", "put", "tree/", "xv://c/in"]).ends(0).rows().pop().unwrap();
    assert_eq!(summary["degraded"], 3);
}
