//! What may go wrong around the program: kills, full disks, damaged files, others at work at the same time.

use std::ffi::{OsStr, OsString};
use std::io::{BufRead as _, BufReader, Read as _};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::user::{Ran, Running, User, content, finish};

const MIB: usize = 1 << 20;

/// SplitMix64: the same moments in every run.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        (mixed ^ (mixed >> 27)) % bound
    }
}

/// The folder of the user's one vault.
fn vault(user: &User) -> PathBuf {
    let mut found = std::fs::read_dir(user.path("home/vaults")).unwrap();
    found.next().unwrap().unwrap().path()
}

/// Whether a large upload has begun.
fn is_uploading(user: &User) -> bool {
    let names = std::fs::read_dir(vault(user)).unwrap().map(|entry| entry.unwrap().file_name());
    names.into_iter().any(|name| name.to_string_lossy().starts_with("upload-"))
}

/// Waits until the program uploads; whether it does, and has not ended before.
fn wait_for_upload(user: &User, child: &mut Running) -> bool {
    while child.0.try_wait().unwrap().is_none() {
        if is_uploading(user) {
            return true;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    false
}

#[test]
fn a_client_killed_at_any_moment_of_a_put_resumes() {
    let user = User::with_key();
    let _devnet = user.devnet();
    let bytes = content(1, 40 * MIB);
    user.write("big", &bytes);
    user.run_with_input(b"x", ["put", "-", "xv://c/first"]).ends(0);
    let mut whole = Running(user.command(["put", "big", "xv://c/whole"]).spawn().unwrap());
    assert!(wait_for_upload(&user, &mut whole));
    let begun = Instant::now();
    assert!(whole.0.wait().unwrap().success());
    let takes = u64::try_from(begun.elapsed().as_micros()).unwrap();

    let mut random = Random(7);
    let (mut killed, mut resumed) = (0, 0);
    // On a machine whose pace changes all the time, more moments may be needed until one is in the middle.
    for moment in 0..15 {
        if moment >= 5 && killed >= 4 && resumed > 0 {
            break;
        }
        let name = format!("xv://c/big-{moment}");
        let mut put = Running(user.command(["put", "big", &name]).spawn().unwrap());
        if wait_for_upload(&user, &mut put) {
            std::thread::sleep(Duration::from_micros(takes * (moment % 5) / 5 + random.below(takes / 5)));
        }
        killed += u32::from(put.0.try_wait().unwrap().is_none());
        drop(put);
        let again = user.run(["--json", "put", "big", &name]).ends(0).rows();
        resumed += again[0]["resumed_bytes"].as_u64().unwrap();
        assert_eq!(user.run(["cat", &name]).ends(0).stdout, bytes, "moment {moment}");
    }
    println!("{killed} killed, {resumed} bytes resumed");
    assert!(killed >= 4 && resumed >= 8 << 20, "{killed} killed, {resumed} bytes resumed");
    user.run(["-q", "doctor"]).ends(0);
}

/// What Ctrl-C sends.
fn interrupt(child: &Running) {
    let pid = rustix::process::Pid::from_child(&child.0);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
}

#[test]
fn ctrl_c_ends_a_put_that_resumes_and_a_devnet_that_comes_back() {
    let user = User::with_key();
    let mut devnet = user.devnet();
    let bytes = content(1, 40 * MIB);
    user.write("big", &bytes);
    user.run_with_input(b"x", ["put", "-", "xv://c/first"]).ends(0);
    let mut put = Running(user.command(["put", "big", "xv://c/big"]).spawn().unwrap());
    assert!(wait_for_upload(&user, &mut put));
    std::thread::sleep(Duration::from_millis(100));
    interrupt(&put);
    let code = put.0.wait().unwrap().code();
    assert!(code == Some(130) || code == Some(0), "{code:?}");
    interrupt(&devnet);
    assert_eq!(devnet.0.wait().unwrap().code(), Some(0));
    let _devnet = user.devnet();
    user.run(["put", "big", "xv://c/big"]).ends(0);
    assert!(user.run(["cat", "xv://c/big"]).ends(0).stdout == bytes);
}

#[test]
fn a_put_that_resumes_after_the_file_changed_never_mixes_the_two() {
    let user = User::with_key();
    let _devnet = user.devnet();
    user.run_with_input(b"x", ["put", "-", "xv://c/first"]).ends(0);
    let (old, new) = (content(1, 40 * MIB), content(2, 40 * MIB));
    let path = user.write("big", &old);
    let modified = std::fs::metadata(&path).unwrap().modified().unwrap();
    let mut put = Running(user.command(["put", "big", "xv://c/big"]).spawn().unwrap());
    assert!(wait_for_upload(&user, &mut put));
    std::thread::sleep(Duration::from_millis(300));
    drop(put);
    // Other bytes, of the same length and the same time: nothing outside tells them apart.
    std::fs::write(&path, &new).unwrap();
    std::fs::File::options().write(true).open(&path).unwrap().set_modified(modified).unwrap();
    let again = user.run(["--json", "put", "big", "xv://c/big"]).ends(0).rows();
    println!("{}", again[0]);
    assert!(user.run(["cat", "xv://c/big"]).ends(0).stdout == new);
}

#[test]
fn nodes_killed_during_puts_keep_what_was_acknowledged() {
    let user = User::with_key();
    drop(user.devnet());
    let mut nodes: Vec<Running> = (1..=6).map(|number| user.node(number)).collect();
    let mut statics: Vec<Running> = (1..=4).map(|number| user.static_node(number)).collect();
    let mut random = Random(11);
    let mut acknowledged = Vec::new();
    for round in 0..8_u64 {
        let name = format!("file-{round}");
        let large = if round % 2 == 0 { 12 * MIB } else { 200_000 };
        let bytes = content(round, large);
        user.write(&name, &bytes);
        let put = user.command(["put", &name, "xv://c/"]).spawn().unwrap();
        // Up to two nodes die in the middle of it, the second soon after the first.
        let first = usize::try_from(random.below(6)).unwrap();
        let second = (first + 1 + usize::try_from(random.below(5)).unwrap()) % 6;
        for victim in [first, second] {
            std::thread::sleep(Duration::from_millis(random.below(400)));
            nodes[victim].0.kill().unwrap();
            nodes[victim].0.wait().unwrap();
        }
        // And a static node with them.
        let third = usize::try_from(random.below(4)).unwrap();
        statics[third].0.kill().unwrap();
        statics[third].0.wait().unwrap();
        let put = finish(put);
        // Not placed is no loss; placed and lost would be.
        match put.code {
            0 => acknowledged.push((name, bytes)),
            _ => assert_eq!(put.code, 4, "{}", put.stderr),
        }
        for victim in [first, second] {
            nodes[victim] = user.node(victim + 1);
        }
        statics[third] = user.static_node(third + 1);
    }
    println!("{} of 8 acknowledged", acknowledged.len());
    assert!(acknowledged.len() >= 6, "two dead nodes of six hinder no put");
    // A put while two nodes are down may leave two shards on one of the others: any one of them may go then.
    nodes.truncate(5);
    for (name, bytes) in &acknowledged {
        assert!(user.run(["cat", &format!("xv://c/{name}")]).ends(0).stdout == *bytes, "{name}");
    }
    // All of it is anchored: another home has nothing but the key.
    let phrase = user.run(["key", "export"]).ends(0).stdout;
    let other = User::new();
    other.run_with_input(&phrase, ["key", "import"]).ends(0);
    let network = user.path("home/devnet/network.toml");
    for (name, bytes) in &acknowledged {
        let cat = other.command(["cat", &format!("xv://c/{name}")]).env("XVAULT_NETWORK", &network).spawn();
        assert!(finish(cat.unwrap()).ends(0).stdout == *bytes, "{name}");
    }
}

#[test]
fn without_a_quorum_puts_wait_and_say_so_and_go_on_when_it_is_back() {
    let user = User::with_key();
    drop(user.devnet());
    let _nodes: Vec<Running> = (1..=6).map(|number| user.node(number)).collect();
    let mut statics: Vec<Running> = (1..=4).map(|number| user.static_node(number)).collect();
    user.write("one", b"one");
    user.write("two", b"two");
    user.run(["put", "one", "xv://c/"]).ends(0);
    // One of four may die.
    statics.truncate(3);
    user.run(["put", "two", "xv://c/"]).ends(0);
    statics.truncate(2);
    let mut waiting = user.command(["put", "two", "xv://c/three"]).spawn().unwrap();
    let mut said = String::new();
    BufReader::new(waiting.stderr.as_mut().unwrap()).read_line(&mut said).unwrap();
    assert!(said.contains("waiting for the static nodes"), "{said}");
    // What is there is read meanwhile.
    assert_eq!(user.run(["cat", "xv://c/one"]).ends(0).stdout, b"one");
    user.run(["cat", "xv://c/three"]).ends(6);
    statics.extend([user.static_node(3), user.static_node(4)]);
    finish(waiting).ends(0);
    assert_eq!(user.run(["cat", "xv://c/three"]).ends(0).stdout, b"two");
}

/// Runs a script in which `$XVAULT_HOME` is an empty disk of so many megabytes, which goes when the script ends;
/// `None` where this machine lets nobody mount one.
fn on_small_disk(user: &User, megabytes: usize, script: &str) -> Option<Ran> {
    let may = Command::new("unshare").args(["-rm", "true"]).stderr(Stdio::null()).status();
    if !may.is_ok_and(|status| status.success()) {
        return None;
    }
    std::fs::create_dir_all(user.path("home")).unwrap();
    let mount = format!("mount -t tmpfs -o size={megabytes}m none \"$XVAULT_HOME\" || exit 99\n{script}");
    let program = user.command([] as [&str; 0]);
    let mut shell = Command::new("unshare");
    shell.args(["-rm", "sh", "-c", &mount]).current_dir(user.dir.path());
    shell.env("XVAULT", program.get_program());
    for (name, value) in program.get_envs() {
        match value {
            Some(value) => shell.env(name, value),
            None => shell.env_remove(name),
        };
    }
    shell.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    Some(finish(shell.spawn().unwrap()))
}

#[test]
fn a_full_disk_here_is_said_and_costs_nothing() {
    let user = User::with_key();
    let _devnet = user.devnet();
    let bytes = content(1, 5 * MIB);
    user.write("big", &bytes);
    user.write("small", b"small");
    // What is noted of so many does not fit into what the index has to spare.
    for nth in 0..3_000 {
        user.write(&format!("many/{nth}-{}", "x".repeat(230)), b"small");
    }
    user.run(["put", "big", "xv://c/big"]).ends(0);

    let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
    let ran = finish(user.command(["cat", "xv://c/big"]).stdout(full).spawn().unwrap());
    assert_eq!(ran.code, 8, "{}", ran.stderr);

    let (keystore, network) = (user.path("home/keystore"), user.path("home/devnet/network.toml"));
    std::fs::copy(keystore, user.path("keystore")).unwrap();
    std::fs::copy(network, user.path("network.toml")).unwrap();
    let script = r#"
        set -u
        fail() { echo "$1: $2" >&2; exit 1; }
        cp keystore network.toml "$XVAULT_HOME"
        "$XVAULT" put small xv://c/kept || fail "put on an empty disk" $?
        dd if=/dev/zero of="$XVAULT_HOME/filler" bs=4096 >/dev/null 2>&1
        "$XVAULT" -q put many xv://c/ 2> said; code=$?
        [ $code = 8 ] || fail "put on a full disk" $code
        tail -n 1 said
        # The put that failed gave its space back.
        dd if=/dev/zero of="$XVAULT_HOME/filler2" bs=512 >/dev/null 2>&1
        "$XVAULT" get xv://c/kept "$XVAULT_HOME/copy"; code=$?
        [ $code = 8 ] || fail "get to a full disk" $code
        [ ! -e "$XVAULT_HOME/copy" ] || fail "a file that is not whole" 0
        "$XVAULT" cat xv://c/kept > read; code=$?
        case $code in 0) [ "$(cat read)" = small ] || fail "what was read" 0;; 8);; *) fail "cat on a full disk" $code;; esac
        echo "cat on a full disk: $code"
        rm "$XVAULT_HOME/filler" "$XVAULT_HOME/filler2"
        "$XVAULT" put big xv://c/big || fail "put when there is space again" $?
        "$XVAULT" cat xv://c/big | cmp - big || fail "compare" $?
        [ "$("$XVAULT" cat xv://c/kept)" = small ] || fail "what was there before" $?
    "#;
    match on_small_disk(&user, 8, script) {
        Some(ran) => drop(ran.ends(0)),
        None => println!("NOT TESTED: this machine lets nobody mount a small disk"),
    }
}

#[test]
fn full_disks_at_the_nodes_are_said() {
    let user = User::new();
    user.write("small", b"small");
    // A node keeps more free than this whole disk has.
    let script = r#"
        set -u
        "$XVAULT" key new > key || exit 1
        "$XVAULT" --json devnet > ready & devnet=$!
        until grep -q ready ready; do kill -0 $devnet || exit 2; sleep 0.1; done
        "$XVAULT" --json put small xv://c/x; code=$?
        kill -9 $devnet
        exit $code
    "#;
    match on_small_disk(&user, 100, script) {
        Some(ran) => {
            let ran = ran.ends(8);
            assert_eq!(ran.error()["kind"], "full", "{}", ran.stderr);
        }
        None => println!("NOT TESTED: this machine lets nobody mount a small disk"),
    }
}

#[test]
fn two_puts_of_one_name_at_once_are_two_versions() {
    let user = User::with_key();
    let _devnet = user.devnet();
    let sources = [("one", content(1, 10 * MIB)), ("two", content(2, 10 * MIB))];
    for (name, bytes) in &sources {
        user.write(name, bytes);
    }
    // The same file twice, as a person would who is impatient, and another one.
    let puts = ["one", "one", "two"].map(|name| user.command(["put", name, "xv://c/x"]).spawn().unwrap());
    for put in puts {
        finish(put).ends(0);
    }
    let versions = user.run(["--json", "versions", "xv://c/x"]).ends(0).rows();
    assert_eq!(versions.len(), 3);
    let mut found: Vec<_> = versions
        .iter()
        .map(|version| {
            let id = version["version"].as_str().unwrap();
            let bytes = user.run(["cat", "xv://c/x", "--version", id]).ends(0).stdout;
            sources.iter().position(|(_, source)| *source == bytes).unwrap()
        })
        .collect();
    found.sort_unstable();
    assert_eq!(found, [0, 0, 1]);
    // With a condition one of two wins.
    let puts =
        ["one", "two"].map(|name| user.command(["put", "--if-absent", name, "xv://c/y"]).spawn().unwrap());
    let mut codes = puts.map(|put| finish(put).code);
    codes.sort_unstable();
    assert_eq!(codes, [0, 7]);
}

#[test]
fn two_homes_that_put_one_name_do_not_touch_each_others() {
    let user = User::with_key();
    let _devnet = user.devnet();
    let phrase = user.run(["key", "export"]).ends(0).stdout;
    let (twin, stranger) = (User::new(), User::with_key());
    twin.run_with_input(&phrase, ["key", "import"]).ends(0);
    let network = user.path("home/devnet/network.toml");
    let users = [&user, &twin, &stranger];
    let contents: Vec<_> = (0..3).map(|seed| content(seed, 3 * MIB)).collect();
    let puts: Vec<_> = users
        .iter()
        .zip(&contents)
        .map(|(user, bytes)| {
            user.write("x", bytes);
            user.command(["put", "x", "xv://c/x"]).env("XVAULT_NETWORK", &network).spawn().unwrap()
        })
        .collect();
    for put in puts {
        finish(put).ends(0);
    }
    let run = |user: &User, args: &[&str]| {
        finish(user.command(args).env("XVAULT_NETWORK", &network).spawn().unwrap())
    };
    // Two homes of one owner have one vault: both versions are there, in one order.
    let versions = |user: &User| {
        let versions = run(user, &["--json", "versions", "xv://c/x"]).ends(0);
        let id = |line: &str| serde_json::from_str::<serde_json::Value>(line).unwrap()["version"].clone();
        versions.text().lines().map(id).collect::<Vec<_>>()
    };
    let found = versions(&user);
    assert_eq!((found.len(), versions(&twin)), (2, found.clone()));
    let mut read: Vec<_> = found
        .iter()
        .map(|version| {
            run(&twin, &["cat", "xv://c/x", "--version", version.as_str().unwrap()]).ends(0).stdout
        })
        .collect();
    assert!(run(&user, &["cat", "xv://c/x"]).ends(0).stdout == read[0]);
    read.sort();
    let mut put = contents[..2].to_vec();
    put.sort();
    assert!(read == put);
    // What they remove for good, a stranger keeps.
    user.run(["rm", "-y", "--all-versions", "xv://c/x"]).ends(0);
    run(&twin, &["cat", "xv://c/x"]).ends(6);
    assert!(run(&stranger, &["cat", "xv://c/x"]).ends(0).stdout == contents[2]);
}

#[test]
fn names_that_are_too_long_or_no_text_are_named() {
    let user = User::with_key();
    let _devnet = user.devnet();
    let name = |len: usize| format!("xv://c/{}", "n".repeat(len));
    user.run_with_input(b"longest", ["put", "-", &name(1_024)]).ends(0);
    assert_eq!(user.run(["cat", &name(1_024)]).ends(0).stdout, b"longest");
    let error = user.run(["--json", "put", "x", &name(1_025)]).ends(2).error();
    assert!(error["message"].as_str().unwrap().contains("1025 bytes"), "{error}");
    let no_text = OsStr::from_bytes(b"xv://c/bad\xff");
    user.run([OsStr::new("cat"), no_text]).ends(2);

    // In a folder, the wrong names are named one by one and the others are stored.
    user.write("tree/ok", b"ok");
    user.write("tree/new\nline", b"newline");
    std::fs::write(user.path("tree").join(OsStr::from_bytes(b"bad\xff")), b"bad").unwrap();
    let deep: PathBuf = std::iter::repeat_n("d".repeat(200), 6).collect();
    user.write(Path::new("tree").join(deep).join("x").to_str().unwrap(), b"deep");
    let put = user.run(["--json", "put", "tree/", "xv://c/in/"]).ends(1);
    let summary = put.rows().pop().unwrap();
    assert_eq!((&summary["records"], &summary["failed"]), (&2.into(), &2.into()), "{summary}");
    assert_eq!(user.run(["ls", "-r", "xv://c/in"]).ends(0).text().lines().count(), 2);
}

#[test]
fn a_wrong_network_file_is_named() {
    let user = User::with_key();
    // A ledger would know better than the file.
    let devnet = user.devnet_of(&["--statics", "0"]);
    user.run_with_input(b"kept", ["put", "-", "xv://c/x"]).ends(0);
    let text = std::fs::read_to_string(user.path("home/devnet/network.toml")).unwrap();
    let with = |text: &str, args: &[&str]| {
        let file = user.write("other.toml", text.as_bytes());
        finish(user.command(["--json"]).args(args).env("XVAULT_NETWORK", file).spawn().unwrap())
    };
    // Every node is another than the file says: nobody is trusted with anything.
    let keys: Vec<&str> =
        text.lines().filter_map(|line| line.strip_prefix("key = \"")?.strip_suffix('"')).collect();
    let swapped = keys.iter().enumerate().fold(text.clone(), |text, (at, key)| {
        let next = keys[(at + 1) % keys.len()];
        text.replacen(&format!("\"{key}\""), &format!("\"NEXT {next}\""), 1)
    });
    let swapped = swapped.replace("NEXT ", "");
    assert_ne!(swapped, text);
    user.write("file", b"x");
    let ran = with(&swapped, &["put", "file", "xv://c/y"]).ends(1);
    assert!(ran.stderr.contains("check the nodes' keys and addresses"), "{}", ran.stderr);
    with(&swapped, &["node", "status"]).ends(1);
    let doctor = with(&swapped, &["doctor"]).ends(1);
    let remedy = doctor.rows().into_iter().find(|check| check["check"] == "node").unwrap();
    assert!(remedy["remedy"].as_str().unwrap().contains("network file is wrong"), "{remedy}");
    // The nodes' true network is another: their promises are for that one.
    let id = text.lines().find_map(|line| line.strip_prefix("id = \"")?.strip_suffix('"')).unwrap();
    let other = text.replace(id, &"5".repeat(64));
    for args in [&["put", "file", "xv://c/y"][..], &["cat", "xv://c/x"], &["ls"]] {
        let ran = with(&other, args).ends(1);
        assert!(ran.stderr.contains("another network"), "{}", ran.stderr);
        assert!(ran.stderr.contains("`id` in the network file"), "{}", ran.stderr);
    }
    let doctor = with(&other, &["doctor"]).ends(1);
    let nodes = doctor.rows().into_iter().filter(|check| check["check"] == "node");
    assert!(nodes.into_iter().all(|check| check["verdict"] == "fail"), "{}", doctor.text());
    with(&other, &["node", "status"]).ends(1);
    assert_eq!(std::fs::read_dir(user.path("home/vaults")).unwrap().count(), 1, "no folder for a wrong id");
    // Not a network file at all.
    for text in ["", "id = 3", &text[..text.len() / 2], &text.replace("4+2", "4+0")] {
        let error = with(text, &["cat", "xv://c/x"]).ends(1).error();
        assert!(error["message"].as_str().unwrap().contains("network file"), "{error}");
    }
    with("\u{0}\u{1}", &["cat", "xv://c/x"]).ends(1);
    let not_text = user.path("other.toml");
    std::fs::write(&not_text, b"\xff\xfe").unwrap();
    finish(user.command(["cat", "xv://c/x"]).env("XVAULT_NETWORK", &not_text).spawn().unwrap()).ends(1);
    assert_eq!(user.run(["cat", "xv://c/x"]).ends(0).stdout, b"kept");
    drop(devnet);
    assert_eq!(user.run(["--json", "cat", "xv://c/x"]).ends(4).error()["retry"], true);
}

/// The file of the user's index, which has twenty records.
fn index_of_twenty(user: &User) -> PathBuf {
    for nth in 0..20_u64 {
        user.write(&format!("tree/{nth}"), &content(nth, 1_000));
    }
    user.run(["put", "tree", "xv://c/"]).ends(0);
    vault(user).join("index.sealed")
}

/// Reads one of the twenty with a damaged index: it is right, or the damage is named; which of the two.
fn is_unharmed(user: &User, nth: u64) -> bool {
    let cat = user.run(["--json", "cat", &format!("xv://c/tree/{nth}")]);
    if cat.code == 0 {
        assert_eq!(cat.stdout, content(nth, 1_000));
        return true;
    }
    let error = cat.ends(5).error();
    assert!(error["hint"].as_str().unwrap().contains("backup"), "{error}");
    false
}

#[test]
fn a_damaged_index_is_named_and_never_read_as_another() {
    let user = User::with_key();
    let _devnet = user.devnet();
    let index = index_of_twenty(&user);
    let good = std::fs::read(&index).unwrap();
    let (mut random, mut unharmed) = (Random(3), 0);
    for nth in 0..12 {
        let mut bytes = good.clone();
        let at = usize::try_from(random.below(good.len() as u64)).unwrap();
        bytes[at] ^= 1 << random.below(8);
        std::fs::write(&index, &bytes).unwrap();
        unharmed += u32::from(is_unharmed(&user, nth));
    }
    println!("{unharmed} of 12 flipped bits did no harm");
    for bytes in [&good[..10], b"not a sealed file, but of its length".repeat(1_000).as_slice()] {
        std::fs::write(&index, bytes).unwrap();
        assert!(!is_unharmed(&user, 0));
    }
    std::fs::write(&index, &good).unwrap();
    assert!(is_unharmed(&user, 0));
}

#[test]
fn an_index_that_was_cut_is_named() {
    let user = User::with_key();
    let _devnet = user.devnet();
    let index = index_of_twenty(&user);
    let good = std::fs::read(&index).unwrap();
    for len in [good.len() - 1, good.len() / 2, 30_000, 21_000, 0] {
        std::fs::write(&index, &good[..len]).unwrap();
        assert!(!is_unharmed(&user, 0), "cut to {len}");
    }
    std::fs::write(&index, &good).unwrap();
    assert!(is_unharmed(&user, 0));
}

/// Changes every volume of a node; how many there were.
fn change_volumes(user: &User, node: usize, change: impl Fn(&mut Vec<u8>)) -> usize {
    let store = user.path("home/devnet").join(format!("node-{node}")).join("store");
    let paths = std::fs::read_dir(store).unwrap().map(|entry| entry.unwrap().path());
    let volumes: Vec<_> = paths.filter(|path| path.to_string_lossy().contains("volume-")).collect();
    for path in &volumes {
        let mut bytes = std::fs::read(path).unwrap();
        change(&mut bytes);
        std::fs::write(path, bytes).unwrap();
    }
    volumes.len()
}

#[test]
fn damaged_volumes_are_read_around_and_with_too_many_it_is_said() {
    let user = User::with_key();
    let devnet = user.devnet();
    let bytes = content(1, 9 * MIB);
    user.write("big", &bytes);
    user.run(["put", "big", "xv://c/big"]).ends(0);
    user.run_with_input(b"small", ["put", "-", "xv://c/small"]).ends(0);
    drop(devnet);
    let flip = |bytes: &mut Vec<u8>| (0..bytes.len()).step_by(997).for_each(|at| bytes[at] ^= 0x10);
    let cut = |bytes: &mut Vec<u8>| bytes.truncate(bytes.len() / 2);
    assert!(change_volumes(&user, 2, flip) > 0);
    assert!(change_volumes(&user, 5, cut) > 0);
    let devnet = user.devnet();
    assert!(user.run(["cat", "xv://c/big"]).ends(0).stdout == bytes);
    assert_eq!(user.run(["cat", "xv://c/small"]).ends(0).stdout, b"small");
    drop(devnet);
    change_volumes(&user, 1, flip);
    let _devnet = user.devnet();
    let ran = user.run(["--json", "cat", "xv://c/big"]).ends(5);
    let error = ran.error();
    assert_eq!(error["kind"], "corrupt", "{error}");
    assert!(bytes.starts_with(&ran.stdout), "what came before the error is right");
    // The network takes and gives new records all the same.
    user.run_with_input(b"new", ["put", "-", "xv://c/new"]).ends(0);
    assert_eq!(user.run(["cat", "xv://c/new"]).ends(0).stdout, b"new");
}

#[test]
fn a_damaged_node_folder_is_named() {
    let user = User::with_key();
    drop(user.devnet());
    let folder = user.path("home/devnet/node-1");
    let run = || user.run([OsString::from("node"), "run".into(), "--dir".into(), folder.clone().into()]);
    for (file, wrong) in [("node.toml", "name = 1"), ("node.toml", ""), ("node.key", "05"), ("node.key", "")]
    {
        let path = folder.join(file);
        let good = std::fs::read(&path).unwrap();
        std::fs::write(&path, wrong).unwrap();
        let ran = run().ends(5);
        assert!(ran.stderr.contains(file), "{}", ran.stderr);
        std::fs::write(&path, good).unwrap();
    }
    let _node = user.node(1);
    run().ends(11);
}

/// Most memory that the program ever held, in bytes, as it is now; 0 once it has ended.
fn peak_memory(child: &Running) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", child.0.id())).unwrap_or_default();
    let kib = status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB"));
    kib.map_or(0, |kib| kib.trim().parse::<u64>().unwrap() << 10)
}

#[test]
fn a_client_stays_small_whatever_the_size_of_the_file() {
    const LEN: usize = 300 * MIB;
    const BOUND: u64 = 256 << 20;
    let user = User::with_key();
    let _devnet = user.devnet();
    let bytes = content(1, LEN);
    user.write("big", &bytes);
    let mut put = Running(user.command(["put", "big", "xv://c/big"]).spawn().unwrap());
    let mut peak = 0;
    while put.0.try_wait().unwrap().is_none() {
        peak = peak.max(peak_memory(&put));
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(put.0.wait().unwrap().success());
    println!("put: {} MiB", peak >> 20);
    assert!(peak > 0 && peak < BOUND, "{peak}");

    let mut get = Running(user.command(["cat", "xv://c/big"]).spawn().unwrap());
    let mut stdout = get.0.stdout.take().unwrap();
    let (mut at, mut peak, mut piece) = (0, 0, vec![0; MIB]);
    loop {
        let read = stdout.read(&mut piece).unwrap();
        if read == 0 {
            break;
        }
        assert!(bytes[at..at + read] == piece[..read], "at {at}");
        at += read;
        peak = peak.max(peak_memory(&get));
    }
    assert!(get.0.wait().unwrap().success() && at == LEN);
    println!("get: {} MiB", peak >> 20);
    assert!(peak > 0 && peak < BOUND, "{peak}");
}

#[test]
fn what_may_be_there_is_not_said_to_be_missing_while_nobody_can_be_asked() {
    let user = User::with_key();
    let devnet = user.devnet();
    user.run_with_input(b"one", ["put", "-", "xv://c/one"]).ends(0);
    drop(devnet);
    // Known here: only its bytes are out of reach. Not known here: another device may have put it.
    user.run(["stat", "xv://c/other"]).ends(4);
    user.run(["versions", "xv://c/other"]).ends(4);
    user.run(["ls", "xv://elsewhere/"]).ends(4);
    assert_eq!(user.run(["ls", "xv://c/"]).ends(0).text(), "one\n");
    let doctor = user.run(["doctor"]).ends(1);
    assert!(doctor.text().contains("0 of 4 static nodes answer"), "{}", doctor.text());
    let staged = user.run_with_input(b"two", ["put", "--ack", "staged", "-", "xv://c/two"]).ends(0);
    assert!(staged.stderr.contains("staged here"), "{}", staged.stderr);
    let _devnet = user.devnet();
    user.run(["cat", "xv://c/other"]).ends(6);
    user.run(["sync"]).ends(0);
    assert_eq!(user.run(["cat", "xv://c/two"]).ends(0).stdout, b"two");
}

#[test]
fn staged_bytes_of_a_put_that_was_killed_are_removed() {
    let user = User::with_key();
    let _devnet = user.devnet();
    user.run_with_input(b"one", ["put", "-", "xv://c/one"]).ends(0);
    let vault = std::fs::read_dir(user.path("home/vaults")).unwrap().next().unwrap().unwrap().path();
    let orphan = vault.join("staged-0123456789ABCDEFGHJKMNPQRS");
    std::fs::write(&orphan, content(1, 70_000)).unwrap();
    user.run(["sync"]).ends(0);
    assert!(!orphan.exists());
}

#[test]
fn a_receipt_is_checked_without_any_network_and_says_when_it_does_not_hold() {
    let user = User::with_key();
    let devnet = user.devnet();
    user.write("scan", &content(1, 300_000));
    user.run(["put", "scan", "xv://c/"]).ends(0);
    user.run(["receipt", "export", "xv://c/scan", "-o", "receipt"]).ends(0);
    user.run(["receipt", "export", "xv://c/scan", "-o", "receipt"]).ends(7);
    drop(devnet);
    let verified = user.run(["--json", "verify", "--receipt", "receipt", "scan"]).ends(0);
    let verified: serde_json::Value = serde_json::from_str(verified.text()).unwrap();
    assert_eq!(verified["bytes"], 300_000);
    assert!(verified["signers"].as_array().unwrap().len() >= 3);
    let network = user.path("home/devnet/network.toml");
    let stranger = User::new();
    for file in ["scan", "receipt"] {
        stranger.write(file, &std::fs::read(user.path(file)).unwrap());
    }
    let genesis = network.to_str().unwrap();
    stranger.run(["verify", "--genesis", genesis, "--receipt", "receipt", "scan"]).ends(0);
    for (file, at) in [("scan", 7), ("receipt", 5), ("receipt", 400), ("receipt", 3_000)] {
        let good = std::fs::read(stranger.path(file)).unwrap();
        let mut bad = good.clone();
        bad[at] ^= 1;
        stranger.write(file, &bad);
        stranger.run(["verify", "--genesis", genesis, "--receipt", "receipt", "scan"]).ends(5);
        stranger.write(file, &good);
    }
}
