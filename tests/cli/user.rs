//! A user of the program: folders of their own, and the programs they run.

use std::ffi::{OsStr, OsString};
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;
use xvault::types::Network;

use tempfile::TempDir;

pub(crate) const PASSPHRASE: &str = "correct horse";

/// How a run ended.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: i32,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: String,
}

impl Ran {
    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.stdout).unwrap()
    }

    /// The lines of stdout, as JSON.
    pub(crate) fn rows(&self) -> Vec<Value> {
        self.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// The last line of stderr, as JSON.
    pub(crate) fn error(&self) -> Value {
        serde_json::from_str(self.stderr.lines().last().unwrap()).unwrap()
    }

    /// With --json every line is JSON, of results and of all else that is said; but for what is a record's own bytes.
    #[track_caller]
    fn is_for_programs(&self) {
        for line in self.text().lines().chain(self.stderr.lines()) {
            let read = serde_json::from_str::<Value>(line);
            assert!(read.is_ok_and(|value| value.is_object()), "{line}");
        }
    }

    #[track_caller]
    pub(crate) fn ends(self, code: i32) -> Self {
        assert_eq!(self.code, code, "{}\n{}", String::from_utf8_lossy(&self.stdout), self.stderr);
        self
    }
}

/// A user's folders, and nothing else of the environment that the program reads.
pub(crate) struct User {
    pub(crate) dir: TempDir,
}

impl User {
    pub(crate) fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn with_key() -> Self {
        let user = Self::new();
        user.run(["key", "new"]).ends(0);
        user
    }

    /// Somebody else on this user's devnet, who has no key yet.
    pub(crate) fn other(&self) -> Self {
        let user = Self::new();
        let network = std::fs::read(self.path("home/devnet/network.toml")).unwrap();
        user.write("home/network.toml", &network);
        user
    }

    /// Somebody else on this user's devnet.
    pub(crate) fn other_with_key(&self) -> Self {
        let user = self.other();
        user.run(["key", "new"]).ends(0);
        user
    }

    /// What `key show` prints.
    pub(crate) fn key(&self) -> String {
        self.run(["key", "show"]).ends(0).text().trim().to_owned()
    }

    /// Gives a file to somebody.
    pub(crate) fn hand(&self, file: &str, to: &Self) {
        to.write(file, &std::fs::read(self.path(file)).unwrap());
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, bytes).unwrap();
        path
    }

    pub(crate) fn command<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_xvault"));
        for name in ["XVAULT_NETWORK", "XVAULT_PASSPHRASE_FILE", "XVAULT_PASSPHRASE_COMMAND", "XVAULT_LOG"] {
            command.env_remove(name);
        }
        command.env("XVAULT_HOME", self.path("home")).env("XVAULT_PASSPHRASE", PASSPHRASE);
        command.args(args).current_dir(self.dir.path());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    #[track_caller]
    pub(crate) fn run<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> Ran {
        let args: Vec<OsString> = args.into_iter().map(|arg| arg.as_ref().to_owned()).collect();
        let ran = finish(self.command(&args).spawn().unwrap());
        let has = |wanted: &str| args.iter().any(|arg| arg == wanted);
        if has("--json") && !["cat", "-", "-v", "-vv"].into_iter().any(has) {
            ran.is_for_programs();
        }
        ran
    }

    pub(crate) fn run_with_input<A: AsRef<OsStr>>(
        &self,
        input: &[u8],
        args: impl IntoIterator<Item = A>,
    ) -> Ran {
        let mut child = self.command(args).stdin(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(input).unwrap();
        finish(child)
    }

    pub(crate) fn devnet(&self) -> Running {
        self.devnet_of(&[])
    }

    /// A devnet with these arguments.
    pub(crate) fn devnet_of(&self, args: &[&str]) -> Running {
        let command = [&["--json", "devnet"], args].concat();
        let mut child = self.command(command).stderr(Stdio::null()).spawn().unwrap();
        let mut ready = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut ready).unwrap();
        assert!(ready.contains("ready"), "{ready}");
        Running(child)
    }

    /// A node of the devnet's folder in a process of its own.
    pub(crate) fn node(&self, number: usize) -> Running {
        self.run_role("node", number)
    }

    /// A static node of the devnet's folder in a process of its own.
    pub(crate) fn static_node(&self, number: usize) -> Running {
        let network = std::fs::read_to_string(self.path("home/devnet/network.toml")).unwrap();
        let genesis = Network::from_toml(&network).unwrap().genesis.unwrap();
        self.write(&format!("home/devnet/static-{number}/genesis"), genesis.as_bytes());
        self.run_role("static", number)
    }

    fn run_role(&self, role: &str, number: usize) -> Running {
        let dir = self.path("home").join("devnet").join(format!("{role}-{number}"));
        let args: [OsString; 4] = [role.into(), "run".into(), "--dir".into(), dir.into()];
        let mut child = self.command(args).stdout(Stdio::null()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stderr.take().unwrap()).read_line(&mut line).unwrap();
        assert!(line.contains("listens"), "{line}");
        Running(child)
    }
}

pub(crate) fn finish(child: Child) -> Ran {
    let done = child.wait_with_output().unwrap();
    Ran {
        code: done.status.code().unwrap_or(-1),
        stdout: done.stdout,
        stderr: String::from_utf8(done.stderr).unwrap(),
    }
}

/// Asks until the answer is the one hoped for; bounded, since a test must end.
pub(crate) fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    for _ in 0..300 {
        if holds() {
            return;
        }
        std::thread::sleep(Duration::from_millis(200));
    }
    panic!("it did not come about: {what}");
}

pub(crate) fn has(bytes: &[u8], wanted: &[u8]) -> bool {
    bytes.windows(wanted.len()).any(|at| at == wanted)
}

/// A process that is killed with -9 when it is dropped.
pub(crate) struct Running(pub(crate) Child);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

/// Bytes that do not repeat.
pub(crate) fn content(seed: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}
