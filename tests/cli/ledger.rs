//! The ledger's commands.

use crate::user::User;

#[test]
fn a_genesis_takes_four_static_nodes_or_says_that_it_is_for_trying_out() {
    let user = User::new();
    let mut members = Vec::new();
    for nth in 1..=4 {
        let (dir, name, listen) =
            (format!("s{nth}"), format!("static-{nth}"), format!("127.0.0.1:{}", 4_400 + nth));
        let args = [
            "static",
            "init",
            "--dir",
            &dir,
            "--name",
            &name,
            "--operator",
            if nth == 1 { "another" } else { "op" },
            "--listen",
            &listen,
            "--http",
            &listen,
        ];
        let ran = user.run(args).ends(0);
        members.push(format!("m{nth}"));
        user.write(&members[nth - 1], &ran.stdout);
        let settings = std::fs::read_to_string(user.path(&dir).join("node.toml")).unwrap();
        assert!(settings.contains(&format!("http = \"{listen}\"")), "{settings}");
    }
    let genesis = |args: &[&str]| user.run([&["network", "genesis"], args].concat());
    let few = genesis(&["m1", "m2", "m3"]).ends(2);
    assert!(few.stderr.contains("at least 4"), "{}", few.stderr);
    genesis(&["m1", "m2", "m3", "--dev", "--out", "dev", "--network-out", "dev.toml"]).ends(0);
    let made = user.run(["--json", "network", "genesis", "m1", "m2", "m3", "m4"]).ends(0);
    let printed: serde_json::Value = serde_json::from_str(made.text()).unwrap();
    assert_eq!((&printed["genesis_file"], &printed["static_nodes"]), (&"genesis".into(), &4.into()));
    // Three of four are of one operator.
    let warning: serde_json::Value = serde_json::from_str(made.stderr.trim()).unwrap();
    assert!(warning["message"].as_str().unwrap().starts_with("op runs 3 of 4 static nodes"), "{warning}");
    let text = std::fs::read_to_string(user.path("network.toml")).unwrap();
    assert!(text.contains("xvault genesis v1"), "{text}");
    // Nothing is overwritten, a member counts once, and names that no ledger takes are refused.
    genesis(&["m1", "m2", "m3", "m4"]).ends(7);
    for (dir, name, listen, same) in [
        ("twin-name", "static-1", "127.0.0.1:4409", "one name"),
        ("twin-address", "static-9", "127.0.0.1:4401", "one address"),
    ] {
        let init = ["static", "init", "--dir", dir, "--name", name, "--operator", "op", "--listen", listen];
        user.write(dir, &user.run(init.map(|word| if word == dir { "twin" } else { word })).ends(0).stdout);
        std::fs::remove_dir_all(user.path("twin")).unwrap();
        let refused = genesis(&["m1", "m2", "m3", dir, "--out", "x", "--network-out", "y"]).ends(7);
        assert!(
            refused.stderr.contains(&format!("m1 and {dir} are of static nodes with {same}")),
            "{refused:?}"
        );
    }
    user.write("copy", &std::fs::read(user.path("m1")).unwrap());
    let refused = genesis(&["m1", "m2", "m3", "copy", "--out", "x", "--network-out", "y"]).ends(7);
    assert!(refused.stderr.contains("m1 and copy are of static nodes with one key"), "{refused:?}");
    assert!(!user.path("x").exists() && !user.path("y").exists());
    let odd =
        ["static", "init", "--dir", "odd", "--name", "a b", "--operator", "op", "--listen", "127.0.0.1:1"];
    user.run(odd).ends(2);
    user.run(["static", "run", "--dir", "s1", "--genesis", "m1"]).ends(5);
    user.run(["static", "run", "--dir", "s1", "--genesis", "missing"]).ends(6);
    assert!(user.run(["static", "run", "--dir", "s1"]).ends(6).stderr.contains("--genesis"));
    let again =
        ["static", "init", "--dir", "s1", "--name", "s", "--operator", "op", "--listen", "127.0.0.1:1"];
    user.run(again).ends(7);
    user.write("junk", b"\xff");
    for (file, code) in [("missing", 6), ("genesis", 5), ("junk", 5)] {
        genesis(&["m1", "m2", "m3", file, "--out", "x", "--network-out", "y"]).ends(code);
        let nodes = ["m1", "m2", "m3", "m4", "--nodes", file, "--out", "x", "--network-out", "y"];
        genesis(&nodes).ends(code);
    }
    // Nobody runs: that is said once, also when it is asked again.
    let silent = user.run(["static", "status"].iter().chain(&["--network", "network.toml"])).ends(4);
    assert!(silent.text().contains("cannot be reached: "), "{}", silent.text());
    let all = [silent.text(), &silent.stderr].concat();
    assert!(!all.contains("reached: node cannot be reached"), "{all}");
}

#[test]
fn the_static_nodes_of_a_devnet_are_shown_and_their_ledger_checks() {
    let user = User::with_key();
    let _devnet = user.devnet();
    let rows = user.run(["--json", "static", "ls"]).ends(0);
    let rows: Vec<serde_json::Value> =
        rows.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(rows.len(), 4);
    assert!(rows.iter().all(|row| row["votes"] == true && row["standing"] == "good"), "{rows:?}");
    let name = |row: &serde_json::Value| {
        let keys = row["vkeys"].as_array().unwrap().clone();
        keys.iter().map(|key| key.as_str().unwrap().split_once('+').unwrap().0.to_owned()).collect::<Vec<_>>()
    };
    assert!(
        rows.iter()
            .all(|row| name(row)[0] == name(row)[1] && name(row)[0].ends_with(row["key"].as_str().unwrap()))
    );
    assert_eq!(user.run(["static", "status"]).ends(0).text().lines().count(), 4);
    let status = user.run(["--json", "static", "status"]).ends(0);
    for line in status.text().lines() {
        let row: serde_json::Value = serde_json::from_str(line).unwrap();
        assert!(row["archive"].is_object() && row["archive"]["missing"].is_null(), "{row}");
    }
    user.run(["ledger", "log"]).ends(0);
    assert!(user.run(["ledger", "verify"]).ends(0).text().starts_with("ok"));
    user.run(["ledger", "verify", "--dir", "copy"]).ends(0);
    let zero = user.run(["ledger", "show", "0"]).ends(0);
    assert!(zero.text().contains("the genesis") && zero.text().contains("4 static nodes"), "{}", zero.text());
    user.run(["ledger", "show", "999999"]).ends(6);
    user.run(["ledger", "show", &"0".repeat(64)]).ends(6);
    user.run(["ledger", "show", "nothing"]).ends(2);
}

#[test]
fn a_network_without_a_ledger_says_so() {
    let user = User::with_key();
    user.write("none.toml", format!("id = \"{}\"\ncode = \"4+2\"\n", "1".repeat(64)).as_bytes());
    assert!(user.run(["ledger", "log", "--network", "none.toml"]).code != 0);
}
