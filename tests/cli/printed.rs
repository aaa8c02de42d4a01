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
    // A quorum signed it at least. That not all did is no flaw of it; that fewer did is.
    let receipt = std::fs::read_to_string(user.path("r1")).unwrap();
    user.write("of-3", signed_by(&receipt, 3).as_bytes());
    user.write("of-2", signed_by(&receipt, 2).as_bytes());
    verify(&["of-3", "file"]).ends(0);
    let few = verify(&["of-3", "file", "--policy", "all", "--json"]).ends(7).error();
    assert_eq!(few["kind"], "refused");
    assert!(few["message"].as_str().unwrap().starts_with("only 3 of 4 static nodes signed"), "{few}");
    for policy in ["quorum", "all"] {
        verify(&["of-2", "file", "--policy", policy]).ends(5);
    }
    verify(&["missing", "file"]).ends(6);
    verify(&["r1", "missing"]).ends(6);
    verify(&["r1", "file", "--genesis", "missing"]).ends(6);
    verify(&["r1", "file", "--genesis", "file"]).ends(5);
    user.run(["put", "missing", "xv://c/x"]).ends(6);
}

/// The text of a receipt or certificate with the signatures of so many static nodes, two lines each.
pub(crate) fn signed_by(text: &str, nodes: usize) -> String {
    let is_signature = |line: &&str| line.starts_with("\u{2014} ");
    let surplus = text.lines().filter(is_signature).skip(2 * nodes).collect::<Vec<_>>();
    let kept = text.lines().filter(|line| !surplus.contains(line));
    kept.map(|line| format!("{line}\n")).collect()
}

#[test]
fn no_name_moves_the_cursor_and_programs_have_it_as_it_is() {
    const NAME: &str = "a\nb\u{1b}[2J\u{202e}\\c";
    const SHOWN: &str = "a\\nb\\u{1b}[2J\\u{202e}\\\\c";
    let user = User::with_key();
    let _devnet = user.devnet();
    user.run(["collection", "create", "xv://c", "--shreddable"]).ends(0);
    let path = format!("xv://c/{NAME}");
    let put = user
        .run_with_input(b"x", ["put", "-", &path, "--meta", "labels=x", "--meta", "k=v\u{1b}[2J"])
        .ends(0);
    assert!(put.text().contains(SHOWN), "{}", put.text());
    assert_eq!(user.run(["ls", "xv://c"]).ends(0).text(), format!("{SHOWN}\n"));
    for args in
        [&["ls", "-l", "xv://c"][..], &["stat", &path], &["versions", &path], &["cat", "xv://c/\u{1b}[2J"]]
    {
        let ran = user.run(args);
        let shown = format!("{}{}", ran.text(), ran.stderr);
        assert!(!shown.contains(['\u{1b}', '\u{202e}']), "{args:?}: {shown}");
    }
    assert_eq!(user.run(["--json", "ls", "xv://c"]).ends(0).rows()[0]["name"], NAME);
    assert_eq!(user.run(["cat", &path]).ends(0).stdout, b"x");
    // The certificate has the name as it is, and shows it as it can be shown.
    user.run(["erase", "-y", &path, "-o", "gone"]).ends(0);
    let verify = ["--network", "home/devnet/network.toml", "verify", "--certificate", "gone"];
    let verified = user.run(verify).ends(0);
    assert!(verified.text().contains(SHOWN), "{}", verified.text());
    assert_eq!(user.run([&["--json"], &verify[..]].concat()).ends(0).rows()[0]["subject"], path);
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
