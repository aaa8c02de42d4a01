//! What a command says when it does part of its work, and what it asks before it does it.

use std::os::unix::fs::PermissionsExt as _;

use crate::user::{Ran, Running, User, content};

fn message(ran: &Ran) -> String {
    ran.error()["message"].as_str().unwrap().to_owned()
}

#[test]
fn what_was_not_tried_is_counted() {
    let user = User::with_key();
    let devnet = user.devnet();
    for nth in 0..40 {
        user.write(&format!("tree/{nth}"), b"x");
    }
    let put = user.run(["put", "tree/", "xv://c/in"]).ends(0);
    assert_eq!(put.text(), "", "no line for each file of a folder");
    assert!(put.stderr.contains("stored 40 records"), "{}", put.stderr);
    assert_eq!(user.run(["-v", "put", "tree/", "xv://c/in"]).ends(0).text().lines().count(), 40);
    let got = user.run(["--json", "get", "-r", "xv://c/in", "out"]).ends(0).rows();
    assert_eq!((got.len(), &got[0]["message_type"], &got[0]["size"]), (41, &"item".into(), &1.into()));
    drop(devnet);
    for args in
        [&["get", "-r", "xv://c/in", "other", "-j", "1"][..], &["put", "tree/", "xv://c/in", "-j", "1"]]
    {
        let ran = user.run([&["--json"], args].concat()).ends(4);
        assert!(message(&ran).ends_with("0 were, 39 were not tried"), "{}", message(&ran));
        let summary = ran.rows().pop().unwrap();
        assert_eq!((&summary["failed"], &summary["not_tried"]), (&1.into(), &39.into()), "{summary}");
    }
}

#[test]
fn a_removal_of_several_says_what_went_and_what_not() {
    let user = User::with_key();
    let _devnet = user.devnet();
    for name in ["a", "b"] {
        user.run_with_input(b"x", ["put", "-", &format!("xv://c/{name}")]).ends(0);
    }
    let ran = user.run(["rm", "xv://c/a", "xv://c/absent", "xv://c/b"]).ends(6);
    for said in [
        "removed xv://c/a",
        "there is no xv://c/absent",
        "removed xv://c/b",
        "1 record could not be removed; 2 were",
    ] {
        assert!(ran.stderr.contains(said), "{said}: {}", ran.stderr);
    }
    assert_eq!(user.run(["ls", "xv://c"]).ends(0).text(), "");
}

#[test]
fn erasing_for_good_needs_a_yes() {
    let user = User::with_key();
    let _devnet = user.devnet();
    let put = user.run_with_input(b"x", ["--json", "put", "-", "xv://c/x"]).ends(0);
    let version = put.rows()[0]["version"].as_str().unwrap().to_owned();
    user.run(["rm", "--all-versions", "xv://c/x"]).ends(7);
    user.run(["rm", "--version", &version, "xv://c/x"]).ends(7);
    user.run(["rm", "--all-versions", "--dry-run", "xv://c/x"]).ends(0);
    assert_eq!(user.run(["cat", "xv://c/x"]).ends(0).stdout, b"x");
    user.run(["rm", "--version", &version, "-y", "xv://c/x"]).ends(0);
    user.run(["cat", "xv://c/x"]).ends(6);
    // Nothing is left of it: nor is the collection.
    assert_eq!(user.run(["ls"]).ends(0).text(), "");
    user.run(["ls", "xv://c/"]).ends(6);
    user.run(["ls", "xv://nope/"]).ends(6);
}

#[test]
fn errors_of_get_name_the_file() {
    let user = User::with_key();
    let _devnet = user.devnet();
    user.run_with_input(b"x", ["put", "-", "xv://c/in/x"]).ends(0);
    user.write("taken", b"mine");
    user.write("out/x", b"mine");
    for (args, name) in [
        (&["get", "xv://c/in/x", "taken"][..], "taken exists"),
        (&["get", "xv://c/in/x", "out"], "out/x exists"),
        (&["get", "xv://c/in/x", "absent/x"], "the folder absent:"),
    ] {
        let ran = user.run([&["--json"], args].concat());
        assert!(message(&ran).contains(name) && ran.code != 0, "{}", ran.stderr);
    }
    let ran = user.run(["get", "-r", "xv://c/in", "out"]).ends(7);
    assert!(ran.stderr.contains("out/x exists"), "{}", ran.stderr);
    // What is missing is missing, whatever there is here.
    user.run(["get", "xv://c/absent", "taken"]).ends(6);
}

#[test]
fn a_listing_goes_on_where_it_was_cut() {
    let user = User::with_key();
    let _devnet = user.devnet();
    for name in ["a", "b b", "c"] {
        user.write(&format!("tree/{name}"), b"x");
    }
    user.run(["put", "tree/.", "xv://c"]).ends(0);
    let first = user.run(["ls", "--limit", "2", "xv://c"]).ends(0);
    assert_eq!(first.text(), "a\nb b\n");
    assert!(first.stderr.contains("--after 'b b'"), "{}", first.stderr);
    let first = user.run(["--json", "ls", "--limit", "2", "xv://c"]).ends(0).rows();
    assert_eq!(first[2]["next"], "b b");
    let rest = user.run(["ls", "--limit", "2", "--after", "b b", "xv://c"]).ends(0);
    assert_eq!((rest.text(), rest.stderr.as_str()), ("c\n", ""));
}

#[test]
fn a_log_tells_of_segments_without_colours_or_secrets() {
    let user = User::with_key();
    let _devnet = user.devnet();
    user.write("big", &content(1, 3 << 20));
    let ran = user.run(["-v", "put", "big", "xv://c/big", "--meta", "secret=hunter2"]).ends(0);
    assert!(ran.stderr.contains("placed a segment") && ran.stderr.contains("node-1"), "{}", ran.stderr);
    assert!(!ran.stderr.contains('\x1b') && !ran.stderr.contains("hunter2"), "{}", ran.stderr);
    let stat = user.run(["stat", "xv://c/big"]).ends(0);
    assert!(stat.text().contains("all 2 segments: 6 of 6 shards held"), "{}", stat.text());
    assert_eq!(user.run(["-v", "stat", "xv://c/big"]).ends(0).text().matches("segment   ").count(), 2);
    let twice = user.run(["put", "big", "xv://c/big", "--meta", "a=1", "--meta", "a=2"]).ends(2);
    assert!(twice.stderr.contains("--meta gives a twice"), "{}", twice.stderr);
}

#[test]
fn a_devnet_of_few_nodes_says_what_it_survives() {
    let user = User::with_key();
    let devnet = user.command(["--json", "devnet", "--nodes", "4"]).spawn().unwrap();
    let mut devnet = Running(devnet);
    let mut lines = std::io::BufReader::new(devnet.0.stderr.take().unwrap());
    let mut warning = String::new();
    std::io::BufRead::read_line(&mut lines, &mut warning).unwrap();
    assert!(warning.contains("survive the loss of 1 node, not of 2"), "{warning}");
}

#[test]
fn an_index_that_cannot_be_written_is_no_bug() {
    let user = User::with_key();
    let _devnet = user.devnet();
    user.run_with_input(b"kept", ["put", "-", "xv://c/x"]).ends(0);
    let vaults = std::fs::read_dir(user.path("home/vaults")).unwrap();
    for vault in vaults {
        for file in std::fs::read_dir(vault.unwrap().path()).unwrap() {
            std::fs::set_permissions(file.unwrap().path(), std::fs::Permissions::from_mode(0o400)).unwrap();
        }
    }
    let read = user.run(["--json", "cat", "xv://c/x"]);
    // The super-user may write to every file.
    if read.code == 0 {
        assert_eq!(read.stdout, b"kept");
    } else {
        assert!(read.ends(1).error()["hint"].as_str().unwrap().contains("writable"));
    }
}
