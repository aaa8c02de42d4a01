//! Secrets are in nothing that commands print or log, and in no file that is not sealed or meant to be handed over: seeds, devices'
//! keys, emergency cards, guardians' shares and the keys of recoveries, each in the usual forms.

use std::cell::RefCell;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use data_encoding::{BASE64_NOPAD, BASE64URL_NOPAD, HEXLOWER, HEXUPPER};
use xvault::client::access::{HeldCard, Recovering};
use xvault::client::keystore::{Keystore, Secret};
use xvault::crypto::passphrase;
use xvault::crypto::seed::Seed;
use xvault::crypto::shamir;
use xvault::message::access::{EmergencyCard, GuardianShare};
use xvault::types::{Code, GrantId, Network, NetworkId, Timestamp};

use crate::user::{PASSPHRASE, Ran, Running, User, content, eventually, finish, has};

const LOG: (&str, &str) = ("XVAULT_LOG", "xvault=trace");

/// All that was printed and logged so far.
#[derive(Default)]
struct Shown(RefCell<Vec<u8>>);

impl Shown {
    fn run<const N: usize>(&self, user: &User, args: [&str; N]) -> Ran {
        let ran = finish(user.command(args).env(LOG.0, LOG.1).spawn().unwrap());
        let mut all = self.0.borrow_mut();
        all.extend_from_slice(&ran.stdout);
        all.extend_from_slice(ran.stderr.as_bytes());
        ran
    }
}

/// What is not to be seen, in the forms in which it might be.
struct Secrets {
    forms: Vec<(String, Vec<u8>)>,
    /// Places in it, by the first two bytes.
    begin: Vec<Vec<usize>>,
}

impl Secrets {
    fn new() -> Self {
        Self { forms: Vec::new(), begin: vec![Vec::new(); 1 << 16] }
    }

    fn watch(&mut self, what: &str, secret: &[u8]) {
        let listed = format!("{secret:?}");
        let texts = [
            HEXLOWER.encode(secret),
            HEXUPPER.encode(secret),
            BASE64_NOPAD.encode(secret),
            BASE64URL_NOPAD.encode(secret),
            listed.trim_matches(['[', ']']).to_owned(),
        ];
        for form in texts.into_iter().map(String::into_bytes).chain([secret.to_vec()]) {
            self.begin[usize::from(u16::from_le_bytes([form[0], form[1]]))].push(self.forms.len());
            self.forms.push((what.to_owned(), form));
        }
    }

    /// The first that is in there.
    fn find(&self, bytes: &[u8]) -> Option<&str> {
        bytes.windows(2).enumerate().find_map(|(at, two)| {
            let mut begin = self.begin[usize::from(u16::from_le_bytes([two[0], two[1]]))].iter();
            let found = begin.find(|form| bytes[at..].starts_with(&self.forms[**form].1))?;
            Some(self.forms[*found].0.as_str())
        })
    }
}

fn seed_of(user: &User) -> Seed {
    match Keystore::load(&user.path("home/keystore")).unwrap().open_any(PASSPHRASE).unwrap() {
        Secret::Seed(seed) => seed,
        Secret::Device(_) => panic!("a device's keys"),
    }
}

/// The seed, its words, and the keys that derive from it.
fn watch_seed(watched: &mut Secrets, who: &str, user: &User) {
    let seed = seed_of(user);
    let keys = seed.vault(0, 0);
    watched.watch(&format!("the seed of {who}"), seed.entropy());
    watched.watch(&format!("the words of {who}"), seed.phrase().as_bytes());
    watched.watch(&format!("the signing key of {who}"), &*keys.signing().secret());
    let package = keys.access().grantee(0).0;
    watched.watch(&format!("the key of a package of {who}"), &*package.secret());
}

/// What a device is given: behind the id of the vault, a root for each generation.
fn watch_device(watched: &mut Secrets, file: &Path) {
    let Secret::Device(keys) = Keystore::load(file).unwrap().open_any(PASSPHRASE).unwrap() else {
        panic!("the words");
    };
    for root in keys.to_device_bytes()[32..].chunks(32) {
        watched.watch("a device's keys", root);
    }
}

fn watch_share(watched: &mut Secrets, guardian: &User, file: &Path) {
    let share = GuardianShare::from_text(&std::fs::read_to_string(file).unwrap()).unwrap();
    let (_, seal) = seed_of(guardian).vault(0, 0).access().grantee(share.package);
    watched.watch("a guardian's share", share.open(&seal).unwrap().as_bytes());
}

/// Every file below a folder.
fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

/// Changes a letter in the middle of a file.
fn damaged(user: &User, file: &str) -> String {
    let mut bytes = std::fs::read(user.path(file)).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] = if bytes[middle] == b'a' { b'b' } else { b'a' };
    let name = format!("damaged-{}", file.replace('/', "-"));
    user.write(&name, &bytes);
    name
}

#[test]
fn what_holds_a_secret_of_access_does_not_show_it_to_debuggers() {
    let seed = Seed::from_entropy([0xa7; 32]);
    let (keys, grant) = (seed.vault(0, 1), GrantId([3; 16]));
    let (network, vault) = (NetworkId([4; 32]), *keys.vault());
    let card = EmergencyCard { network, vault, grant, secret: keys.access().card(&grant) };
    let held = HeldCard { card: card.clone(), request: None, salt: [5; 16], reason: "unconscious".into() };
    let parts = shamir::split(seed.entropy(), 2, 3, &[6; 32]);
    let of = Network { id: network, code: Code::new(4, 2).unwrap(), genesis: None, nodes: Vec::new() };
    let now = Timestamp::from_unix_micros(7);
    let recovering = Recovering::begin(&of, vault, "It is me", now, [0xb8; 32].into()).unwrap();
    let mut secrets = Secrets::new();
    secrets.watch("the seed", seed.entropy());
    secrets.watch("the card", card.secret.as_bytes());
    secrets.watch("a recovery", &[0xb8; 32]);
    parts.iter().for_each(|part| secrets.watch("a part", part.as_bytes()));
    keys.to_device_bytes()[32..].chunks(32).for_each(|root| secrets.watch("a root", root));
    assert_eq!(secrets.find(format!("{:?}", parts[1].as_bytes()).as_bytes()), Some("a part"));
    let shown = [
        format!("{card:?} {held:?}"),
        format!("{parts:?}"),
        format!("{recovering:?}"),
        format!("{:?}", Secret::Seed(seed.clone())),
        format!("{:?}", Secret::Device(Box::new(keys))),
    ];
    for text in shown {
        assert_eq!(secrets.find(text.as_bytes()), None, "{text}");
    }
}

#[test]
fn no_output_log_or_file_shows_a_secret_of_access() {
    let (owner, shown) = (User::with_key(), Shown::default());
    let log = owner.path("devnet.log");
    let mut devnet = owner.command(["--json", "devnet"]);
    devnet.env(LOG.0, LOG.1).stdout(Stdio::null()).stderr(File::create(&log).unwrap());
    let _devnet = Running(devnet.spawn().unwrap());
    eventually("the devnet runs", || {
        owner.path("home/devnet/network.toml").exists() && owner.run(["static", "status"]).code == 0
    });
    let [authority, doctor, first, second, device, lost] =
        ["authority", "doctor", "first guardian", "second guardian", "device", "lost"].map(|who| {
            let user = owner.other();
            if !["device", "lost"].contains(&who) {
                user.run(["key", "new"]).ends(0);
            }
            user
        });
    let mut watched = Secrets::new();
    watched.watch("the passphrase", PASSPHRASE.as_bytes());
    for (who, user) in
        [("the owner", &owner), ("the doctor", &doctor), ("a guardian", &first), ("another", &second)]
    {
        watch_seed(&mut watched, who, user);
    }

    owner.write("allergies", &content(1, 300));
    shown.run(&owner, ["put", "allergies", "xv://vital/", "--meta", "labels=vital"]).ends(0);
    // A device: its keys in a file that is sealed.
    shown.run(&owner, ["key", "export", "--device", "-o", "device.keys"]).ends(0);
    watch_device(&mut watched, &owner.path("device.keys"));
    owner.hand("device.keys", &device);
    let wrong = damaged(&device, "device.keys");
    assert_ne!(shown.run(&device, ["key", "import", "--device", &wrong]).code, 0);
    shown.run(&device, ["key", "import", "--device", "device.keys"]).ends(0);
    shown.run(&device, ["cat", "xv://vital/allergies"]).ends(0);
    shown.run(&device, ["key", "export"]).ends(7);

    // An emergency: its card in a file that is handed over.
    let (by, clinician) = (authority.key(), doctor.key());
    shown.run(&owner, ["scope", "define", "emergency", "label:vital"]).ends(0);
    let granted = shown.run(
        &owner,
        [
            "grant",
            "--emergency",
            "--until",
            "2099-01-01",
            "--approvals",
            "0",
            "--institutions",
            "1",
            "--authority",
            &by,
        ],
    );
    let grant = granted.ends(0).text().trim().to_owned();
    shown.run(&owner, ["emergency", "card", &grant, "-o", "card"]).ends(0);
    let card = EmergencyCard::from_text(&std::fs::read_to_string(owner.path("card")).unwrap()).unwrap();
    watched.watch("an emergency card", card.secret.as_bytes());
    let text = card.to_text();
    for line in text.lines().filter(|line| !line.starts_with("-----")) {
        watched.watch("a line of an emergency card", line.as_bytes());
    }
    owner.hand("card", &doctor);
    let certify = ["role", "certify", &clinician, "--institution", "north", "--role", "physician"];
    authority.run([&certify[..], &["--until", "2099-01-01", "-o", "certificate"]].concat()).ends(0);
    authority.hand("certificate", &doctor);
    let ask = |card: &str| {
        let why = ["--certificate", "certificate", "--reason", "unconscious"];
        shown.run(&doctor, ["emergency", "request", card, why[0], why[1], why[2], why[3]])
    };
    ask(&damaged(&doctor, "card")).ends(5);
    ask("certificate").ends(5);
    ask("card").ends(0);
    shown.run(&doctor, ["emergency", "held"]).ends(0);
    eventually("it opens", || {
        shown.run(&doctor, ["cat", "--grant", &grant, "xv://vital/allergies"]).code == 0
    });

    // Guardians: their shares in files that are handed over, each sealed to its guardian.
    for (nth, guardian) in [&first, &second].into_iter().enumerate() {
        let file = format!("{nth}.package");
        shown.run(guardian, ["access", "request", "--name", "Aunt", "-o", &file]).ends(0);
        guardian.hand(&file, &owner);
    }
    let delay = ["--delay", "2s", "-o", "."];
    let split = ["key", "split", "--guardians", "2", "0.package", "1.package"];
    shown
        .run(
            &owner,
            [
                split[0], split[1], split[2], split[3], split[4], split[5], delay[0], delay[1], delay[2],
                delay[3],
            ],
        )
        .ends(0);
    for (nth, guardian) in [&first, &second].into_iter().enumerate() {
        let file = format!("guardian-{}-set-1.share", nth + 1);
        owner.hand(&file, guardian);
        watch_share(&mut watched, guardian, &owner.path(&file));
        assert_ne!(shown.run(guardian, ["guardian", "accept", &damaged(guardian, &file)]).code, 0);
        shown.run(guardian, ["guardian", "accept", &file]).ends(0);
    }
    let others = ["guardian", "accept", "guardian-1-set-1.share"];
    first.hand(others[2], &second);
    assert_ne!(shown.run(&second, others).code, 0, "it is sealed to another");

    // A recovery: its secret in a file that is sealed.
    let vault = seed_of(&owner).vault(0, 0).vault().to_string();
    shown.run(&lost, ["key", "recover", &vault, "--name", "It is me", "-o", "asked"]).ends(0);
    let kept = passphrase::open(&std::fs::read(lost.path("home/recovery")).unwrap(), PASSPHRASE).unwrap();
    watched.watch("the secret of a recovery", &kept[..32]);
    for guardian in [&first, &second] {
        lost.hand("asked", guardian);
        shown.run(guardian, ["guardian", "approve", "-y", "asked"]).ends(0);
    }
    for guardian in [&first, &second] {
        eventually("it is due", || shown.run(guardian, ["guardian", "release", "asked"]).code == 0);
    }
    shown.run(&lost, ["key", "recover", &vault]).ends(0);
    assert!(seed_of(&lost) == seed_of(&owner));
    shown.run(&owner, ["vault", "rotate"]).ends(0);
    shown.run(&owner, ["doctor"]);

    // The search finds what is there.
    assert_eq!(
        watched.find(&std::fs::read(owner.path("card")).unwrap()),
        Some("a line of an emergency card")
    );
    let shown = shown.0.into_inner();
    let logged = std::fs::read(&log).unwrap();
    assert!(has(&shown, b"xvault::") && has(&logged, b"xvault::"), "there are logs");
    assert_eq!(watched.find(&shown), None, "it was printed");
    assert_eq!(watched.find(&logged), None, "it is in a log of nodes");
    let homes = [&owner, &doctor, &first, &second, &device, &lost].map(|user| user.path("home"));
    let kept: Vec<_> = homes.iter().flat_map(|home| files(home)).collect();
    assert!(kept.iter().any(|path| path.ends_with("keystore")));
    for path in &kept {
        // What nodes replace meanwhile is gone.
        let bytes = std::fs::read(path).unwrap_or_default();
        assert_eq!(watched.find(&bytes), None, "{}", path.display());
    }
}
