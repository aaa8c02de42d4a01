//! A fresh devnet whose nodes are processes of their own, and what they use.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use xvault::client::keystore::vault_keys;
use xvault::client::{Client, ClientConfig};
use xvault::crypto::seed::Seed;
use xvault::types::Network;

use crate::report::{Outcome, Took};

const PROGRAM: &str = env!("CARGO_BIN_EXE_xvault");
const PASSPHRASE: &str = "a passphrase for benchmarks";
/// Clock ticks of `/proc/*/stat` a second: the same on every Linux that Rust's std supports.
const TICKS_PER_S: f64 = 100.0;

/// What processes used: CPU seconds of all, and the largest resident memory.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Used {
    pub(crate) cpu_s: f64,
    pub(crate) client_peak: u64,
    pub(crate) node_peak: u64,
}

pub(crate) struct Devnet {
    dir: tempfile::TempDir,
    nodes: Vec<Node>,
}

struct Node {
    /// What runs it: `node` or `static`.
    role: &'static str,
    dir: PathBuf,
    /// `None` while it is dead.
    child: Option<Child>,
}

impl Devnet {
    /// Six storage nodes, code 4+2, and so many static nodes, in a new folder under `dir`.
    pub(crate) fn start(dir: &Path, statics: usize) -> Outcome<Self> {
        let dir = tempfile::Builder::new().prefix("xvault-bench-").tempdir_in(dir)?;
        let mut devnet = Self { dir, nodes: Vec::new() };
        // The devnet makes the folders; then each node runs by itself.
        let mut maker = devnet
            .command(["--json", "devnet", "--statics", &statics.to_string()])
            .stdout(Stdio::piped())
            .spawn()?;
        let mut ready = String::new();
        BufReader::new(maker.stdout.take().ok_or("no standard output")?).read_line(&mut ready)?;
        maker.kill()?;
        maker.wait()?;
        if !ready.contains("ready") {
            return Err(format!("the devnet does not start: {ready}").into());
        }
        for number in 1..=6 {
            let dir = devnet.dir.path().join(format!("home/devnet/node-{number}"));
            devnet.nodes.push(Node { role: "node", dir, child: None });
        }
        let network = std::fs::read_to_string(devnet.path("home/devnet/network.toml"))?;
        let genesis = Network::from_toml(&network)?.genesis;
        for number in 1..=statics {
            let dir = devnet.dir.path().join(format!("home/devnet/static-{number}"));
            std::fs::write(dir.join("genesis"), genesis.as_ref().ok_or("the devnet has no genesis")?)?;
            devnet.nodes.push(Node { role: "static", dir, child: None });
        }
        devnet.revive()?;
        if !devnet.command(["-q", "key", "new"]).stdout(Stdio::null()).status()?.success() {
            return Err("no key was made".into());
        }
        Ok(devnet)
    }

    /// Starts every node that does not run.
    pub(crate) fn revive(&mut self) -> Outcome<()> {
        for at in 0..self.nodes.len() {
            if self.nodes[at].child.is_some() {
                continue;
            }
            let mut command = self.command([self.nodes[at].role, "run", "--dir"]);
            command.arg(&self.nodes[at].dir).stdout(Stdio::null()).stderr(Stdio::piped());
            let mut child = command.spawn()?;
            let mut line = String::new();
            BufReader::new(child.stderr.take().ok_or("no standard error")?).read_line(&mut line)?;
            if !line.contains("listens") {
                return Err(format!("a node does not start: {line}").into());
            }
            self.nodes[at].child = Some(child);
        }
        Ok(())
    }

    /// Kills the first `count` nodes as a power cut would.
    pub(crate) fn kill(&mut self, count: usize) -> Outcome<()> {
        for node in &mut self.nodes[..count] {
            if let Some(mut child) = node.child.take() {
                child.kill()?;
                child.wait()?;
            }
        }
        Ok(())
    }

    /// Kills all of them.
    pub(crate) fn stop(&mut self) -> Outcome<()> {
        self.kill(self.nodes.len())
    }

    /// The program with this devnet's home.
    pub(crate) fn command<const N: usize>(&self, args: [&str; N]) -> Command {
        let mut command = Command::new(PROGRAM);
        command.env_remove("XVAULT_NETWORK").env_remove("XVAULT_LOG");
        command.env("XVAULT_HOME", self.dir.path().join("home")).env("XVAULT_PASSPHRASE", PASSPHRASE);
        command.args(args).stdin(Stdio::null());
        command
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A client in this process.
    pub(crate) async fn client(&self) -> Outcome<Client> {
        let text = std::fs::read_to_string(self.path("home/devnet/network.toml"))?;
        let network = Network::from_toml(&text)?;
        let keys = vault_keys(&Seed::from_entropy([7; 32]));
        Ok(Client::open(ClientConfig { network, keys, home: self.path("client") }).await?)
    }

    /// Bytes that the nodes' volumes take on disk, without what is reserved ahead of them: measured after a
    /// restart, which cuts that off.
    pub(crate) fn restart_and_measure_disk(&mut self) -> Outcome<u64> {
        self.kill(self.nodes.len())?;
        self.revive()?;
        let mut sum = 0;
        for node in self.nodes.iter().filter(|node| node.role == "node") {
            for entry in std::fs::read_dir(node.dir.join("store"))? {
                use std::os::unix::fs::MetadataExt as _;
                sum += entry?.metadata()?.blocks() * 512;
            }
        }
        Ok(sum)
    }

    pub(crate) fn node_cpu_s(&self) -> Outcome<f64> {
        self.cpu_s("")
    }

    /// CPU seconds of the nodes of one role, or of all.
    pub(crate) fn cpu_s(&self, role: &str) -> Outcome<f64> {
        let of_role = self.nodes.iter().filter(|node| role.is_empty() || node.role == role);
        let running = of_role.filter_map(|node| node.child.as_ref());
        running.map(|child| Ok(ticks(child.id(), [13, 14])? / TICKS_PER_S)).sum()
    }

    /// Bytes of memory that the nodes have to themselves now.
    pub(crate) fn resident(&self) -> Outcome<u64> {
        let running = self.nodes.iter().filter_map(|node| node.child.as_ref());
        running.map(|child| status_bytes(child.id(), "RssAnon:").ok_or_else(|| "no status".into())).sum()
    }

    fn node_peak(&self) -> u64 {
        let running = self.nodes.iter().filter_map(|node| node.child.as_ref());
        running.filter_map(|child| peak_bytes(child.id())).max().unwrap_or(0)
    }

    /// Runs a command of the client to its end and measures it and the nodes.
    pub(crate) fn measure_command(&self, mut command: Command, bytes: u64, records: u64) -> Outcome<Took> {
        let (nodes_before, waited_before) = (self.node_cpu_s()?, waited_cpu_s()?);
        let begun = Instant::now();
        let mut child = command.stdout(Stdio::null()).spawn()?;
        let mut client_peak = 0;
        let status = loop {
            client_peak = client_peak.max(peak_bytes(child.id()).unwrap_or(0));
            if let Some(status) = child.try_wait()? {
                break status;
            }
            std::thread::sleep(Duration::from_millis(5));
        };
        let elapsed = begun.elapsed();
        if !status.success() {
            return Err(format!("{command:?} ended with {status}").into());
        }
        let cpu_s = self.node_cpu_s()? - nodes_before + waited_cpu_s()? - waited_before;
        let used = Used { cpu_s, client_peak, node_peak: self.node_peak() };
        Ok(Took { elapsed, used, bytes, records })
    }

    /// Runs a workload of a client in this process and measures this process and the nodes.
    pub(crate) async fn measure<F>(&self, bytes: u64, records: u64, work: F) -> Outcome<Took>
    where
        F: AsyncFnOnce() -> Outcome<()>,
    {
        let (nodes_before, own_before) = (self.node_cpu_s()?, own_cpu_s()?);
        let begun = Instant::now();
        work().await?;
        let elapsed = begun.elapsed();
        let cpu_s = self.node_cpu_s()? - nodes_before + own_cpu_s()? - own_before;
        let client_peak = peak_bytes(std::process::id()).unwrap_or(0);
        let used = Used { cpu_s, client_peak, node_peak: self.node_peak() };
        Ok(Took { elapsed, used, bytes, records })
    }
}

impl Drop for Devnet {
    fn drop(&mut self) {
        self.kill(self.nodes.len()).ok();
    }
}

/// The sum of two fields of `/proc/PID/stat`, counted from 0 (proc(5) counts from 1).
fn ticks(pid: u32, fields: [usize; 2]) -> Outcome<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The second field is a name in parentheses that may hold anything.
    let rest = stat.rsplit_once(')').ok_or("no name in stat")?.1;
    let values: Vec<&str> = rest.split_whitespace().collect();
    let field =
        |number: usize| -> Outcome<f64> { Ok(values.get(number - 2).ok_or("a short stat")?.parse()?) };
    Ok(field(fields[0])? + field(fields[1])?)
}

/// CPU seconds of this process.
pub(crate) fn own_cpu_s() -> Outcome<f64> {
    Ok(ticks(std::process::id(), [13, 14])? / TICKS_PER_S)
}

/// Bytes of memory that this process has to itself now.
pub(crate) fn own_anon_bytes() -> Outcome<u64> {
    status_bytes(std::process::id(), "RssAnon:").ok_or_else(|| "no status".into())
}

/// CPU seconds of the children that this process has waited for.
fn waited_cpu_s() -> Outcome<f64> {
    Ok(ticks(std::process::id(), [15, 16])? / TICKS_PER_S)
}

/// The most memory a process had resident so far.
fn peak_bytes(pid: u32) -> Option<u64> {
    status_bytes(pid, "VmHWM:")
}

/// A field of `/proc/PID/status` that counts kibibytes.
fn status_bytes(pid: u32, field: &str) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(field))?;
    line.split_whitespace().next()?.parse::<u64>().ok().map(|kib| kib << 10)
}
