//! The program as its users meet it: arguments, files, streams and exit codes of the real binary.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]
#![expect(clippy::disallowed_methods, reason = "a test is a shell: it touches files and starts programs")]

mod access;
mod deposit;
mod emergency;
mod erase;
mod faults;
mod handoff;
mod ledger;
mod members;
mod mended;
mod news;
mod printed;
mod programs;
mod recovery;
mod secrets;
mod user;

use std::ffi::OsStr;
use std::io::{BufRead as _, Read as _};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use user::{Running, User, content, finish};

#[test]
fn every_command_explains_itself() {
    let user = User::new();
    for command in [
        "",
        "key",
        "key new",
        "key show",
        "key export",
        "key import",
        "key split",
        "key guardians",
        "key veto",
        "key recover",
        "guardian",
        "guardian accept",
        "guardian ls",
        "guardian approve",
        "guardian release",
        "vault",
        "vault show",
        "vault register",
        "vault sponsor",
        "vault quota",
        "vault rotate",
        "vault share",
        "receipt export",
        "verify",
        "put",
        "get",
        "cat",
        "ls",
        "stat",
        "versions",
        "cp",
        "rm",
        "erase",
        "collection",
        "collection create",
        "access",
        "access request",
        "access accept",
        "access held",
        "access log",
        "grant",
        "grants",
        "revoke",
        "scope",
        "scope define",
        "scope ls",
        "scope renew",
        "emergency",
        "role",
        "node",
        "node init",
        "node run",
        "node register",
        "node sponsor",
        "node update",
        "node retire",
        "node ls",
        "node status",
        "static",
        "static init",
        "static run",
        "static propose",
        "static propose add",
        "static propose remove",
        "static propose replace",
        "static propose rotate-key",
        "static propose readmit",
        "static propose sponsor",
        "static propose refresh",
        "static approve",
        "static submit",
        "static ls",
        "static status",
        "network",
        "network genesis",
        "ledger",
        "ledger log",
        "ledger show",
        "ledger watch",
        "ledger verify",
        "doctor",
        "devnet",
        "completions",
        "man",
    ] {
        let help = user.run(command.split_whitespace().chain(["--help"])).ends(0);
        assert!(help.text().contains("Usage: xvault"), "{command}");
        assert_eq!(help.stderr, "");
    }
    assert!(user.run(["--version"]).ends(0).text().starts_with("xvault "));
    assert!(user.run(["completions", "bash"]).ends(0).text().contains("xvault"));
    user.run(["man", "pages"]).ends(0);
    assert!(user.path("pages/xvault-put.1").is_file());
}

#[test]
fn a_senseless_command_line_is_told_from_a_failure() {
    let user = User::new();
    let long = format!("xv://c/{}", "n".repeat(1_025));
    for args in [
        &["frobnicate"][..],
        &["get"],
        &["cat", "clinic/x"],
        &["cat", "xv://Clinic/x"],
        &["cat", "xv://clinic/"],
        &["cat", &long],
        &["cat", "xv://c/x", "--range", "9-3"],
        &["cat", "xv://c/x", "--version", "latest"],
        &["devnet", "--code", "4"],
        &["devnet", "--nodes", "0"],
        &["put", "x", "xv://c/x", "--content-type", "text/plain\n"],
        &[
            "node",
            "init",
            "--dir",
            "n",
            "--name",
            "n",
            "--operator",
            "o",
            "--site",
            "s",
            "--listen",
            "0.0.0.0:4433",
            "--network-id",
            "0505050505050505050505050505050505050505050505050505050505050505",
        ],
    ] {
        assert_ne!(user.run(args).ends(2).stderr, "", "{args:?}");
        let error = user.run([&["--json"], args].concat()).ends(2).error();
        assert_eq!(
            (&error["message_type"], &error["kind"]),
            (&"exit_error".into(), &"usage".into()),
            "{args:?}"
        );
    }
}

#[test]
fn what_is_missing_is_named_with_what_to_do() {
    let user = User::new();
    let error = user.run(["--json", "key", "show"]).ends(1).error();
    assert!(error["hint"].as_str().unwrap().contains("key new"), "{error}");
    let error = user.run(["--json", "ls"]).ends(1).error();
    assert!(error["hint"].as_str().unwrap().contains("devnet"), "{error}");
    user.write("home/network.toml", b"id = 3");
    let error = user.run(["--json", "ls"]).ends(1).error();
    assert!(error["message"].as_str().unwrap().contains("network file"), "{error}");
    user.run(["doctor"]).ends(1);
}

#[test]
fn a_doctor_without_the_key_looks_at_all_that_needs_none() {
    let user = User::with_key();
    let _devnet = user.devnet();
    let checks = |ran: &user::Ran| -> Vec<(String, String)> {
        let rows = ran.text().lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
        let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
        rows.map(|row| (text(&row["check"]), text(&row["verdict"]))).collect()
    };
    let has = |checks: &[(String, String)], check: &str, verdict: &str| {
        checks.iter().filter(|(name, said)| name == check && said == verdict).count()
    };
    let stranger = User::new();
    let network = std::fs::read(user.path("home/devnet/network.toml")).unwrap();
    stranger.write("home/network.toml", &network);
    let found = checks(&stranger.run(["--json", "doctor"]).ends(1));
    assert_eq!((has(&found, "key", "fail"), has(&found, "vault", "warn")), (1, 1), "{found:?}");
    assert_eq!((has(&found, "node", "ok"), has(&found, "static", "ok")), (6, 4), "{found:?}");
    for check in ["disk", "network", "clock", "reach", "ledger"] {
        assert_eq!(has(&found, check, "ok"), 1, "{check}: {found:?}");
    }
    assert!(!stranger.path("home/vaults").exists());
    assert_eq!(stranger.run(["node", "status"]).ends(0).text().lines().count(), 6);
    let mut locked = user.command(["--json", "doctor"]);
    let found = checks(&finish(locked.env("XVAULT_PASSPHRASE", "wrong").spawn().unwrap()).ends(1));
    assert_eq!((has(&found, "key", "ok"), has(&found, "vault", "fail")), (1, 1), "{found:?}");
    assert_eq!((has(&found, "node", "ok"), has(&found, "index", "ok")), (6, 0), "{found:?}");
    let found = checks(&user.run(["--json", "doctor"]).ends(0));
    assert_eq!((has(&found, "index", "ok"), has(&found, "vault", "warn")), (1, 0), "{found:?}");
}

#[test]
fn a_key_goes_on_paper_and_comes_back() {
    let user = User::with_key();
    let public = user.run(["key", "show"]).ends(0).text().to_owned();
    let phrase = user.run(["key", "export"]).ends(0).text().to_owned();
    assert_eq!(phrase.split_whitespace().count(), 24);
    let other = User::new();
    other.run_with_input(phrase.as_bytes(), ["key", "import"]).ends(0);
    assert_eq!(other.run(["key", "show"]).ends(0).text(), public);

    let mut words: Vec<&str> = phrase.split_whitespace().collect();
    words.swap(0, 1);
    words[23] = if words[23] == "zoo" { "zone" } else { "zoo" };
    let third = User::new();
    third.run_with_input(words.join(" ").as_bytes(), ["key", "import"]).ends(1);
    assert!(!third.path("home/keystore").exists());
}

#[test]
fn a_key_is_never_overwritten() {
    let user = User::with_key();
    let public = user.run(["key", "show"]).ends(0).text().to_owned();
    user.run(["key", "new"]).ends(7);
    assert_eq!(user.run(["key", "show"]).ends(0).text(), public);
    user.run(["key", "new", "--force"]).ends(0);
    assert_ne!(user.run(["key", "show"]).ends(0).text(), public);
    let kept = std::fs::read_dir(user.path("home")).unwrap().map(|entry| entry.unwrap().path());
    let backup = kept.into_iter().find(|path| path.to_string_lossy().contains("keystore.")).unwrap();
    std::fs::rename(backup, user.path("home/keystore")).unwrap();
    assert_eq!(user.run(["key", "show"]).ends(0).text(), public);
}

#[test]
fn a_wrong_passphrase_is_told_from_damage() {
    let user = User::with_key();
    let with = |passphrase: &str| {
        finish(user.command(["key", "export"]).env("XVAULT_PASSPHRASE", passphrase).spawn().unwrap())
    };
    with("wrong").ends(12);
    with("").ends(12);
    finish(user.command(["key", "export"]).env_remove("XVAULT_PASSPHRASE").spawn().unwrap()).ends(12);
    let file = user.write("passphrase", b"correct horse\nnot this\n");
    let from_file =
        [OsStr::new("--passphrase-file"), file.as_os_str(), OsStr::new("key"), OsStr::new("export")];
    user.run(from_file).ends(0);

    let path = user.path("home/keystore");
    let good = std::fs::read(&path).unwrap();
    let sealed = good.windows(6).position(|at| at == b"sealed").unwrap() + 20;
    let mut flipped = good.clone();
    flipped[sealed] ^= 1;
    for damaged in [&flipped[..], &good[..good.len() / 2], b""] {
        std::fs::write(&path, damaged).unwrap();
        user.run(["key", "export"]).ends(5);
    }
}

#[test]
fn records_of_all_sources_read_back() {
    let user = User::with_key();
    let _devnet = user.devnet();
    let big = content(1, 9 << 20);
    user.write("big.bin", &big);
    let put = user.run(["put", "big.bin", "xv://c/big"]).ends(0);
    assert!(put.text().starts_with("xv://c/big"), "{}", put.text());
    assert_eq!(user.run(["cat", "xv://c/big"]).ends(0).stdout, big);
    assert_eq!(
        user.run(["cat", "xv://c/big", "--range", "8388600-8388700"]).ends(0).stdout,
        &big[8_388_600..=8_388_700]
    );
    assert_eq!(user.run(["get", "xv://c/big", "-", "--range", "-7"]).ends(0).stdout, &big[big.len() - 7..]);
    user.run(["cat", "xv://c/big", "--range", "99999999-"]).ends(1);

    user.run_with_input(b"piped", ["put", "-", "xv://c/stdin"]).ends(0);
    user.run_with_input(b"", ["put", "-", "xv://c/empty"]).ends(0);
    user.run_with_input(b"", ["put", "-", "xv://c/folder/"]).ends(2);
    assert_eq!(user.run(["cat", "xv://c/stdin", "xv://c/empty"]).ends(0).stdout, b"piped");

    for (name, bytes) in [("tree/a", &b"A"[..]), ("tree/deep/b", b"B"), ("tree/deep/c", b"")] {
        user.write(name, bytes);
    }
    let put = user.run(["--json", "put", "tree", "xv://c/"]).ends(0);
    let summary: serde_json::Value = serde_json::from_str(put.text().lines().last().unwrap()).unwrap();
    assert_eq!((&summary["records"], &summary["failed"]), (&3.into(), &0.into()));
    assert_eq!(put.stderr, "", "no progress where there is no terminal");
    assert_eq!(user.run(["ls", "-r", "xv://c/tree"]).ends(0).text(), "tree/a\ntree/deep/b\ntree/deep/c\n");
    assert_eq!(user.run(["ls", "xv://c/tree/"]).ends(0).text(), "tree/a\ntree/deep/\n");
    user.run(["get", "-r", "xv://c/tree", "out"]).ends(0);
    assert_eq!(std::fs::read(user.path("out/deep/b")).unwrap(), b"B");
    assert_eq!(std::fs::read(user.path("out/deep/c")).unwrap(), b"");
    user.run(["get", "-r", "xv://c/tree", "out"]).ends(7);
    user.run(["get", "-r", "--force", "xv://c/tree", "out"]).ends(0);
    user.run(["-q", "doctor"]).ends(0);
}

#[test]
fn versions_copies_and_removals_keep_their_promises() {
    let user = User::with_key();
    let _devnet = user.devnet();
    for text in ["one", "two"] {
        user.run_with_input(text.as_bytes(), ["put", "-", "xv://c/x"]).ends(0);
    }
    user.run_with_input(b"three", ["put", "--if-absent", "-", "xv://c/x"]).ends(7);
    let versions = user.run(["--json", "versions", "xv://c/x"]).ends(0);
    let ids: Vec<String> = versions
        .text()
        .lines()
        .map(|line| {
            let version: serde_json::Value = serde_json::from_str(line).unwrap();
            version["version"].as_str().unwrap().to_owned()
        })
        .collect();
    assert_eq!(ids.len(), 2);
    assert_eq!(user.run(["cat", "xv://c/x", "--version", &ids[1]]).ends(0).stdout, b"one");
    user.run(["cp", "--version", &ids[1], "xv://c/x", "xv://d/copy/"]).ends(0);

    user.run(["rm", "xv://c/x"]).ends(0);
    user.run(["cat", "xv://c/x"]).ends(6);
    assert_eq!(user.run(["cat", "xv://c/x", "--version", &ids[0]]).ends(0).stdout, b"two");
    user.run(["rm", "-y", "--all-versions", "xv://c/x"]).ends(0);
    user.run(["cat", "xv://c/x", "--version", &ids[0]]).ends(6);
    assert_eq!(user.run(["cat", "xv://d/copy/x"]).ends(0).stdout, b"one");
    user.run(["rm", "-r", "xv://d/copy"]).ends(7);
    user.run(["rm", "-r", "--dry-run", "xv://d/copy"]).ends(0);
    assert_eq!(user.run(["cat", "xv://d/copy/x"]).ends(0).stdout, b"one");
    user.run(["rm", "-r", "-y", "xv://d/copy"]).ends(0);
    user.run(["cat", "xv://d/copy/x"]).ends(6);
    user.run(["rm", "xv://d/absent"]).ends(6);
}

#[test]
fn names_stay_names() {
    let user = User::with_key();
    let _devnet = user.devnet();
    for name in ["../escape", "a\nb", "ok"] {
        user.run_with_input(b"x", ["put", "-", &format!("xv://c/in/{name}")]).ends(0);
    }
    assert_eq!(user.run(["ls", "-r", "xv://c"]).ends(0).text(), "in/../escape\nin/a\\nb\nin/ok\n");
    user.run(["get", "-r", "xv://c/in", "out/here"]).ends(7);
    assert!(user.path("out/here/ok").is_file() && user.path("out/here/a\nb").is_file());
    assert!(!user.path("out/escape").exists());
    user.run(["get", "xv://c/in/../escape", "named"]).ends(0);

    user.write("taken", b"mine");
    user.run(["get", "xv://c/in/ok", "taken"]).ends(7);
    assert_eq!(std::fs::read(user.path("taken")).unwrap(), b"mine");
    user.run(["get", "--force", "xv://c/in/ok", "taken"]).ends(0);
    assert_eq!(std::fs::read(user.path("taken")).unwrap(), b"x");

    let bad = Path::new(OsStr::from_bytes(b"bad\xff"));
    std::fs::write(user.dir.path().join(bad), b"x").unwrap();
    user.run([OsStr::new("put"), bad.as_os_str(), OsStr::new("xv://c/")]).ends(2);
    // Neither a file nor a folder: putting a file in its place would take it away from who listens.
    let _listener = std::os::unix::net::UnixListener::bind(user.path("socket")).unwrap();
    user.run(["get", "--force", "xv://c/in/ok", "socket"]).ends(7);
}

#[test]
fn a_reader_that_leaves_ends_the_command_without_a_word() {
    let user = User::with_key();
    let _devnet = user.devnet();
    user.write("big.bin", &content(2, 4 << 20));
    user.run(["put", "big.bin", "xv://c/big"]).ends(0);
    let mut child = user.command(["cat", "xv://c/big"]).spawn().unwrap();
    let mut first = [0; 10];
    let mut stdout = child.stdout.take().unwrap();
    stdout.read_exact(&mut first).unwrap();
    drop(stdout);
    let ran = finish(child).ends(3);
    assert_eq!(ran.stderr, "");
}

#[test]
fn a_killed_devnet_comes_back_with_everything() {
    let user = User::with_key();
    let devnet = user.devnet();
    user.run_with_input(b"kept", ["put", "-", "xv://c/x"]).ends(0);
    user.run(["devnet"]).ends(11);
    drop(devnet);
    let _devnet = user.devnet();
    assert_eq!(user.run(["cat", "xv://c/x"]).ends(0).stdout, b"kept");
    user.run(["devnet", "--code", "2+1"]).ends(11);
}

#[test]
fn two_nodes_may_die_and_a_third_is_said_so() {
    let user = User::with_key();
    drop(user.devnet());
    let mut nodes: Vec<Running> = (1..=6).map(|number| user.node(number)).collect();
    let _statics: Vec<Running> = (1..=4).map(|number| user.static_node(number)).collect();
    let bytes = content(3, 5 << 20);
    user.write("x", &bytes);
    user.run(["put", "x", "xv://c/x"]).ends(0);
    nodes.truncate(4);
    assert_eq!(user.run(["cat", "xv://c/x"]).ends(0).stdout, bytes);
    user.run_with_input(b"degraded", ["put", "-", "xv://c/y"]).ends(0);
    user.run(["node", "status"]).ends(4);
    nodes.truncate(3);
    let error = user.run(["--json", "cat", "xv://c/x"]).ends(4).error();
    assert_eq!(error["retry"], true, "{error}");
    user.run(["doctor"]).ends(1);
    nodes.extend((4..=6).map(|number| user.node(number)));
    assert_eq!(user.run(["cat", "xv://c/x"]).ends(0).stdout, bytes);
    assert_eq!(user.run(["cat", "xv://c/y"]).ends(0).stdout, b"degraded");
    user.run(["doctor"]).ends(0);
}

#[test]
fn what_there_is_is_shown() {
    let user = User::with_key();
    let mut devnet = user.command(["--json", "devnet", "--nodes", "4", "--code", "2+2"]);
    let mut devnet = Running(devnet.stderr(std::process::Stdio::null()).spawn().unwrap());
    let mut ready = String::new();
    std::io::BufReader::new(devnet.0.stdout.take().unwrap()).read_line(&mut ready).unwrap();
    let ready: serde_json::Value = serde_json::from_str(&ready).unwrap();
    assert_eq!((&ready["nodes"], &ready["code"]), (&4.into(), &"2+2".into()));

    user.write("scan.dcm", b"scan");
    user.run(["put", "--meta", "ward=3\x1b[2J", "scan.dcm", "xv://clinic/2026/"]).ends(0);
    let at = "xv://clinic/2026/scan.dcm";
    assert_eq!(user.run(["ls"]).ends(0).text(), "xv://clinic/\n");
    assert!(user.run(["ls", "-l", "xv://clinic/2026/"]).ends(0).text().contains("4 B"));
    let stat = user.run(["stat", "--deep", at]).ends(0);
    for shown in [at, "application/dicom", "ward = 3", "4 of 4 shards answer"] {
        assert!(stat.text().contains(shown), "{shown}: {}", stat.text());
    }
    assert!(!stat.text().contains('\x1b'), "nothing that is stored moves the cursor");
    let stat: serde_json::Value =
        serde_json::from_str(user.run(["--json", "stat", at]).ends(0).text()).unwrap();
    assert_eq!(stat["metadata"]["ward"], "3\x1b[2J");
    assert_eq!(user.run(["node", "ls"]).ends(0).text().lines().count(), 4);
    assert_eq!(user.run(["--json", "node", "status"]).ends(0).text().lines().count(), 4);
    user.run(["node", "status", "node-9"]).ends(6);
    assert_eq!(user.run(["-v", "cat", at]).ends(0).stdout, b"scan");
    user.run(["-q", "doctor"]).ends(0);
}

#[test]
fn an_empty_secret_is_no_passphrase() {
    let user = User::new();
    let made = finish(user.command(["key", "new"]).env("XVAULT_PASSPHRASE", "").spawn().unwrap()).ends(12);
    assert!(made.stderr.contains("XVAULT_PASSPHRASE is empty"), "{}", made.stderr);
    assert!(!user.path("home/keystore").exists());
}
