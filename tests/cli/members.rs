//! Static nodes and storage nodes come and go, by the commands of their operators.

use std::io::{BufRead as _, BufReader};
use std::net::UdpSocket;
use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;

use crate::user::{Ran, Running, User};

/// A network of static nodes that are processes of their own.
struct Operators {
    user: User,
    addresses: Vec<String>,
}

impl Operators {
    /// The folders of two static nodes, and the network of the first alone.
    fn new() -> Self {
        Self::of("open")
    }

    fn of(admission: &str) -> Self {
        let user = User::new();
        // All are held open until all are found, so that no two are the same.
        let sockets: Vec<_> = (0..3).map(|_| UdpSocket::bind("127.0.0.1:0").unwrap()).collect();
        let addresses = sockets.iter().map(|socket| socket.local_addr().unwrap().to_string()).collect();
        let operators = Self { user, addresses };
        for nth in [1, 2] {
            let (name, address) = (format!("s{nth}"), &operators.addresses[nth - 1]);
            let args = ["static", "init", "--dir", &name, "--name", &name, "--operator", &name];
            let ran = operators.user.run([&args[..], &["--listen", address]].concat()).ends(0);
            operators.user.write(&format!("m{nth}"), &ran.stdout);
        }
        let genesis = ["network", "genesis", "m1", "--dev", "--network-out", "net.toml", "--admission"];
        operators.user.run([&genesis[..], &[admission]].concat()).ends(0);
        operators
    }

    /// Approves and submits what was proposed, with the first static node alone.
    fn decide(&self, file: &str) {
        self.run(&["static", "approve", file, "--dir", "s1"]).ends(0);
        self.run(&["static", "submit", file]).ends(0);
    }

    fn start(&self, nth: usize) -> Running {
        let dir = format!("s{nth}");
        let args = ["static", "run", "--dir", &dir, "--genesis", "genesis"];
        self.spawn(&args)
    }

    /// Starts a node, and returns when it listens.
    fn spawn(&self, args: &[&str]) -> Running {
        let mut child = self.user.command(args).stdout(Stdio::null()).spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let line = lines.next().unwrap().unwrap();
        assert!(line.contains("listens"), "{line}");
        // Whoever says more must not find a closed pipe.
        std::thread::spawn(move || lines.count());
        Running(child)
    }

    fn run(&self, args: &[&str]) -> Ran {
        self.user.run([&["--network", "net.toml"], args].concat())
    }

    fn rows(&self, args: &[&str]) -> Vec<Value> {
        self.run(&[&["--json"], args].concat()).ends(0).rows()
    }

    fn voters(&self) -> Vec<(String, String)> {
        let text = |row: &Value, field: &str| row[field].as_str().unwrap().to_owned();
        let rows = self.rows(&["static", "ls"]);
        let voting = rows.iter().filter(|row| row["votes"] == true);
        voting.map(|row| (text(row, "name"), text(row, "key"))).collect()
    }

    fn eventually(&self, what: &str, holds: impl Fn(&Self) -> bool) {
        for _ in 0..200 {
            if holds(self) {
                return;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        panic!("it did not come about: {what}");
    }
}

#[test]
fn operators_add_a_static_node_rotate_its_key_and_remove_it() {
    let net = Operators::new();
    let _first = net.start(1);
    let _second = net.start(2);

    // Nothing that the ledger would refuse gets as far as the operators.
    assert!(net.run(&["static", "propose", "add", "m1"]).ends(7).stderr.contains("is or was"));
    assert!(net.run(&["static", "propose", "remove", "s1"]).ends(7).stderr.contains("last static node"));
    net.run(&["static", "propose", "remove", "s9"]).ends(6);
    net.run(&["static", "propose", "readmit", "s1"]).ends(7);
    net.run(&["static", "propose", "rotate-key", "--dir", "s2"]).ends(7);
    assert!(!net.user.path("change").exists() && !net.user.path("s2/node.key.next").exists());

    let proposed = net.run(&["static", "propose", "add", "m2", "--out", "add"]).ends(0);
    assert!(proposed.text().starts_with("0 of 1 approved; 1 more of s1; s2 has to sign"), "{proposed:?}");
    net.run(&["static", "propose", "add", "m2", "--out", "add"]).ends(7);
    std::fs::copy(net.user.path("add"), net.user.path("copy")).unwrap();
    let early = net.run(&["static", "submit", "add"]).ends(7);
    assert!(early.stderr.contains("1 more of s1"), "{}", early.stderr);
    net.run(&["static", "approve", "add", "--dir", "s1"]).ends(0);
    let early = net.run(&["--json", "static", "submit", "add"]).ends(7);
    assert!(early.error()["message"].as_str().unwrap().contains("s2 has to sign"), "{}", early.stderr);
    // Signed apart, submitted together.
    net.run(&["static", "approve", "copy", "--dir", "s2"]).ends(0);
    let edited = std::fs::read_to_string(net.user.path("copy")).unwrap().replace("s2 of s2", "s3 of s2");
    net.user.write("edited", edited.as_bytes());
    assert!(net.run(&["static", "submit", "edited"]).ends(5).stderr.contains("was edited"));
    net.run(&["static", "submit", "missing"]).ends(6);
    net.run(&["static", "approve", "m1", "--dir", "s1"]).ends(5);
    net.run(&["static", "approve", "add", "--dir", "missing"]).ends(6);
    assert!(net.run(&["static", "submit", "add", "copy"]).ends(0).text().starts_with("done in block"));
    net.eventually("two vote", |net| net.voters().len() == 2);
    // It serves once, and who brings it again is told so.
    assert!(
        net.run(&["static", "submit", "add", "copy"]).ends(0).text().starts_with("already done in block")
    );
    assert_eq!(net.rows(&["static", "submit", "add", "copy"])[0]["already"], true);
    assert!(net.run(&["static", "approve", "add", "--dir", "s1"]).ends(0).text().starts_with("already done"));

    // Of two both must agree, so the second one's new key must be at work afterwards.
    let before = net.voters();
    net.run(&["static", "propose", "rotate-key", "--dir", "s2", "--out", "rotate"]).ends(0);
    net.run(&["static", "approve", "rotate", "--dir", "s1"]).ends(0);
    let enough = net.run(&["static", "approve", "rotate", "--dir", "s2"]).ends(0);
    assert!(enough.text().starts_with("2 of 2 approved"), "{enough:?}");
    net.run(&["static", "submit", "rotate"]).ends(0);
    net.eventually("another key votes", |net| net.voters() != before && net.voters().len() == 2);
    // The row of the key that was is out of the way.
    assert_eq!(net.rows(&["static", "ls"]).len(), 2);
    let all = net.rows(&["static", "ls", "--all"]);
    let left: Vec<_> = all.iter().filter(|row| row["standing"] == "left").collect();
    assert_eq!((all.len(), left.len(), &left[0]["name"]), (3, 1, &"s2".into()));

    net.run(&["static", "propose", "remove", "s2", "--out", "remove"]).ends(0);
    // Another change has its number.
    net.run(&["static", "propose", "sponsor", &before[0].1, "--out", "late"]).ends(0);
    net.run(&["static", "approve", "remove", "--dir", "s1"]).ends(0);
    net.eventually("the new key is taken up", |net| !net.user.path("s2/node.key.next").exists());
    net.run(&["static", "approve", "remove", "--dir", "s2"]).ends(0);
    net.run(&["static", "submit", "remove"]).ends(0);
    net.eventually("one votes", |net| net.voters().len() == 1);
    assert!(net.run(&["static", "submit", "late"]).ends(7).stderr.contains("propose this one anew"));
    net.run(&["ledger", "verify"]).ends(0);
}

#[test]
fn a_key_that_was_rotated_approves_before_its_node_has_taken_it_up() {
    let user = User::with_key();
    drop(user.devnet());
    let _three: Vec<Running> = (1..=3).map(|nth| user.static_node(nth)).collect();
    let dir = |nth: usize| user.path(&format!("home/devnet/static-{nth}")).to_string_lossy().into_owned();
    let approve = |file: &str, nth| user.run(["static", "approve", file, "--dir", &dir(nth)]).ends(0);
    let last = dir(4);
    user.run(["static", "propose", "rotate-key", "--dir", &last, "--out", "rotate"]).ends(0);
    (1..=4).for_each(|nth| drop(approve("rotate", nth)));
    user.run(["static", "submit", "rotate"]).ends(0);
    // The fourth does not run: its folder has the new key beside the old.
    assert!(user.path("home/devnet/static-4/node.key.next").exists());
    let early = user.run(["static", "propose", "rotate-key", "--dir", &last, "--out", "again"]).ends(7);
    assert!(early.stderr.contains("has not taken it up yet"), "{}", early.stderr);
    user.run(["static", "propose", "remove", "static-1", "--out", "remove"]).ends(0);
    assert!(approve("remove", 4).text().starts_with("1 of 3 approved"));
}

#[test]
fn a_storage_node_registers_moves_and_retires() {
    let net = Operators::new();
    let _first = net.start(1);
    let address = net.addresses[2].as_str();
    let init = ["node", "init", "--dir", "n1", "--name", "node-1", "--operator", "clinic", "--site", "north"];
    net.run(&[&init[..], &["--listen", address]].concat()).ends(0);
    net.run(&["node", "update", "--dir", "n1"]).ends(7);
    assert!(net.run(&["node", "ls"]).ends(0).text().is_empty());

    let node = net.spawn(&["--network", "net.toml", "node", "run", "--dir", "n1", "--register"]);
    net.eventually("it registers by itself", |net| net.rows(&["node", "ls"]).len() == 1);
    drop(node);
    let row = &net.rows(&["node", "ls"])[0];
    assert_eq!((&row["name"], &row["number"], &row["retired"]), (&"node-1".into(), &0.into(), &Value::Null));
    assert_eq!(row["address"].as_str(), Some(address));
    net.run(&["node", "register", "--dir", "n1"]).ends(7);

    let moved = ["node", "update", "--dir", "n1", "--advertise", "192.0.2.7:4433"];
    assert!(net.run(&moved).ends(0).text().contains("node-1 at 192.0.2.7:4433 is number 0"));
    net.run(&["node", "update", "--dir", "n1", "--name", "a b"]).ends(2);
    assert_eq!(net.rows(&["node", "update", "--dir", "n1"])[0]["address"], "192.0.2.7:4433");
    let settings = std::fs::read_to_string(net.user.path("n1/node.toml")).unwrap();
    assert!(settings.contains("192.0.2.7:4433") && settings.contains("node-1"), "{settings}");

    net.run(&["node", "retire", "--dir", "n1"]).ends(2);
    assert!(net.run(&["node", "retire", "--dir", "n1", "--yes"]).ends(0).text().contains("retired in block"));
    assert!(net.run(&["node", "ls"]).ends(0).text().contains("retired in block"));
    net.run(&["node", "update", "--dir", "n1"]).ends(7);
    net.run(&["node", "register", "--dir", "n1"]).ends(7);

    // One that a sponsor lets in, whom the static nodes let do so for one node.
    let init = ["--json", "node", "init", "--dir", "n2", "--name", "node-2", "--listen", address];
    // Nothing that the ledger would refuse later gets into a folder.
    for (operator, site) in [("", "south"), ("clinic", ""), ("clinic", "a b")] {
        let ran = net.run(&[&init[..], &["--operator", operator, "--site", site]].concat()).ends(2);
        assert!(ran.stderr.contains("operator and site take 1 to 63 letters"), "{}", ran.stderr);
    }
    net.run(&[&init[..], &["--operator", "clinic"]].concat()).ends(2);
    assert!(!net.user.path("n2").exists());
    let node = net.run(&[&init[..], &["--operator", "clinic", "--site", "north"]].concat()).ends(0);
    assert_eq!(
        net.run(&[&init[..], &["--operator", "clinic", "--site", "north"]].concat()).ends(7).stdout,
        b""
    );
    let key = |ran: &Ran| serde_json::from_slice::<Value>(&ran.stdout).unwrap()["key"].clone();
    let key = key(&node);
    // A folder of before that was asked for may not say where the node stands.
    let settings = std::fs::read_to_string(net.user.path("n2/node.toml")).unwrap();
    assert!(settings.contains("site = \"north\""), "{settings}");
    net.user.write("n2/node.toml", settings.replace("north", "").as_bytes());
    assert!(net.run(&["node", "register", "--dir", "n2"]).ends(2).stderr.contains("--site"));
    let sponsored = net.run(&["node", "sponsor", key.as_str().unwrap(), "--dir", "s1"]).ends(0);
    let register = ["node", "register", "--dir", "n2", "--site", "south", "--sponsorship"];
    let register = || net.run(&[&register[..], &[sponsored.text().trim()]].concat());
    assert!(register().ends(7).stderr.contains("nothing left to give"));
    let sponsor = &net.voters()[0].1;
    net.run(&["static", "propose", "sponsor", sponsor, "--nodes", "1"]).ends(0);
    net.decide("change");
    assert!(register().ends(0).text().contains("is number 1"));
    net.run(&["node", "register", "--dir", "n2", "--sponsorship", "rubbish"]).ends(2);
    let other = net.run(&["node", "sponsor", sponsor, "--dir", "s1"]).ends(0);
    let wrong = net.run(&["node", "register", "--dir", "n2", "--sponsorship", other.text().trim()]).ends(2);
    assert!(wrong.stderr.contains("for another node"), "{}", wrong.stderr);
}

#[test]
fn a_node_that_runs_goes_on_once_a_sponsor_lets_it_in() {
    let net = Operators::of("sponsored");
    let _first = net.start(1);
    let init =
        ["--json", "node", "init", "--dir", "n1", "--name", "node-1", "--operator", "clinic", "--site"];
    let node = net.run(&[&init[..], &["north", "--listen", &net.addresses[2]]].concat()).ends(0);
    let node: Value = serde_json::from_slice(&node.stdout).unwrap();
    let key = node["key"].as_str().unwrap();
    let args = ["--network", "net.toml", "node", "run", "--dir", "n1", "--register"];
    let mut running = Running(net.user.command(args).stdout(Stdio::null()).spawn().unwrap());
    let mut lines = BufReader::new(running.0.stderr.take().unwrap()).lines().map(Result::unwrap);
    assert!(lines.next().unwrap().contains("listens"));
    let told = lines.next().unwrap();
    assert!(told.contains("not registered yet") && told.contains(&format!("node sponsor {key}")), "{told}");
    assert!(told.contains("node register --dir n1 --sponsorship LINE"), "{told}");

    net.run(&["static", "propose", "sponsor", &net.voters()[0].1, "--nodes", "1"]).ends(0);
    net.decide("change");
    let line = net.run(&["node", "sponsor", key, "--dir", "s1"]).ends(0);
    net.run(&["node", "register", "--dir", "n1", "--sponsorship", line.text().trim()]).ends(0);
    assert_eq!(lines.next().unwrap(), "node node-1 is on the ledger");
}

#[test]
fn a_vault_comes_in_by_a_sponsor() {
    let net = Operators::of("sponsored");
    let _first = net.start(1);
    net.run(&["key", "new"]).ends(0);
    let show = || net.rows(&["vault", "show"]).remove(0);
    let before = show();
    assert_eq!((&before["registered"], &before["sponsor"]), (&false.into(), &Value::Null));
    net.user.write("file", b"text");
    let refused = net.run(&["put", "file", "xv://notes/file"]).ends(7);
    assert!(
        refused.stderr.contains("sponsor") && refused.stderr.contains("xvault vault --help"),
        "{refused:?}"
    );

    let text = |field: &str| before[field].as_str().unwrap().to_owned();
    let (vault, owner) = (text("vault"), text("public_key"));
    let sponsored = net.run(&["vault", "sponsor", &vault, &owner, "--dir", "s1"]).ends(0);
    let register = |line: &str| net.run(&["vault", "register", "--sponsorship", line]);
    assert!(register(sponsored.text().trim()).ends(7).stderr.contains("nothing left to give"));
    let sponsor = &net.voters()[0].1;
    net.run(&["static", "propose", "sponsor", sponsor, "--vaults", "1"]).ends(0);
    net.decide("change");
    // For another vault, and no line at all.
    let other = net.run(&["vault", "sponsor", &owner, &owner, "--dir", "s1"]).ends(0);
    assert!(register(other.text().trim()).ends(2).stderr.contains("for another vault"));
    register("rubbish").ends(2);
    assert!(register(sponsored.text().trim()).ends(0).text().starts_with("registered the vault in block"));
    let after = show();
    assert_eq!((&after["registered"], after["sponsor"].as_str()), (&true.into(), Some(sponsor.as_str())));
    assert_eq!(after["ledger_bytes_per_epoch"], xvault::message::Params::DEFAULT.vault_bytes);
    register(sponsored.text().trim()).ends(0);
    assert_eq!(net.rows(&["vault", "register"])[0]["already"], true);
    assert!(net.run(&["vault", "show"]).ends(0).text().contains("sponsored by"));

    // The sponsor gives it less, and more only once its own terms allow it.
    let quota = |bytes: &str, dir: &str| net.run(&["vault", "quota", &vault, "--bytes", bytes, "--dir", dir]);
    assert!(quota("2000", "s2").ends(7).stderr.contains("not the vault's sponsor"));
    assert!(quota("2000", "s1").ends(0).text().starts_with("the vault may use 1.9 KiB of ledger an epoch"));
    assert_eq!(show()["ledger_bytes_per_epoch"], 2_000);
    let beyond = quota("9000000", "s1").ends(7);
    assert!(
        beyond.stderr.contains("at most 4194304") && beyond.stderr.contains("propose sponsor"),
        "{beyond:?}"
    );
    let terms = ["static", "propose", "sponsor", sponsor, "--vault-bytes", "9000000", "--out", "terms"];
    net.run(&terms).ends(0);
    net.decide("terms");
    let raised = net.rows(&["vault", "quota", &vault, "--bytes", "9000000", "--dir", "s1"]).remove(0);
    assert_eq!(raised["ledger_bytes_per_epoch"], 9_000_000);
    assert_eq!(show()["ledger_bytes_per_epoch"], 9_000_000);
}
