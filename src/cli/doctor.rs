//! `xvault doctor`

use serde_json::json;

use crate::cli::exit::{Exit, Failure};
use crate::cli::format;
use crate::cli::node::{ask_all, reason};
use crate::cli::output::{Output, Paint};
use crate::cli::session::Session;
use crate::client::keystore::Keystore;
use crate::client::{Client, NodeReport};
use crate::store::{Disk as _, FileDisk};
use crate::stripe::placement::survives_any_operator;
use crate::types::{Network, NodeInfo};

/// Clocks that differ by more are worth a warning.
const MAX_CLOCK_OFFSET_MS: i64 = 2_000;
/// Less free space than this in the home folder is worth a warning.
const MIN_FREE_BYTES: u64 = 256 << 20;

/// Check keys, network file, clock, nodes and disk, and say what to do about what is wrong.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Verdict {
    Ok,
    Warn,
    Fail,
}

/// One thing that was checked.
struct Check {
    verdict: Verdict,
    what: &'static str,
    found: String,
    remedy: Option<String>,
}

impl Check {
    fn ok(what: &'static str, found: impl Into<String>) -> Self {
        Self { verdict: Verdict::Ok, what, found: found.into(), remedy: None }
    }

    fn bad(verdict: Verdict, what: &'static str, found: impl Into<String>, remedy: &str) -> Self {
        Self { verdict, what, found: found.into(), remedy: Some(remedy.to_owned()) }
    }
}

pub(crate) fn run(session: &Session, _args: Args) -> anyhow::Result<Exit> {
    let mut checks = vec![keystore(session), disk(session)];
    let network = session.network();
    match &network {
        Err(error) => {
            let remedy = "name a network file with --network, or start a network with `xvault devnet`";
            checks.push(Check::bad(Verdict::Fail, "network", format!("{error:#}"), remedy));
        }
        Ok(network) => {
            checks.push(network_file(session, network));
            if checks[0].verdict == Verdict::Ok {
                checks.extend(vault(session)?);
            }
        }
    }
    for check in &checks {
        show(session.output(), check)?;
    }
    let failed = checks.iter().filter(|check| check.verdict == Verdict::Fail).count();
    if failed > 0 {
        let message = format!("{} failed", format::count(failed as u64, "check"));
        return Err(Failure::new(Exit::Failed, message).into());
    }
    Ok(Exit::Ok)
}

fn keystore(session: &Session) -> Check {
    let path = session.keystore_path();
    match Keystore::load(&path) {
        Ok(keystore) => {
            let sealed = if keystore.has_passphrase() { "sealed" } else { "without a passphrase" };
            Check::ok("key", format!("{} ({sealed})", &keystore.public_key()[..8]))
        }
        Err(error) => {
            Check::bad(Verdict::Fail, "key", error.to_string(), error.hint().unwrap_or("check the file"))
        }
    }
}

fn disk(session: &Session) -> Check {
    let home = session.home();
    let free = FileDisk::open(home).and_then(|disk| disk.free_bytes());
    match free {
        Ok(free) if free >= MIN_FREE_BYTES => {
            Check::ok("disk", format!("{} free in {}", format::size(free), home.display()))
        }
        Ok(free) => {
            let found = format!("only {} free in {}", format::size(free), home.display());
            Check::bad(Verdict::Warn, "disk", found, "free some space, or use another --home")
        }
        Err(error) => {
            let found = format!("cannot use {}: {error}", home.display());
            Check::bad(Verdict::Fail, "disk", found, "check the folder's permissions, or use another --home")
        }
    }
}

fn network_file(session: &Session, network: &Network) -> Check {
    let shown = session.network_file();
    let found = format!("{} nodes, code {}, {}", network.nodes.len(), network.code, shown.display());
    if survives_any_operator(network.code, &network.nodes) {
        return Check::ok("network", found);
    }
    let remedy = "add nodes of more operators: records may be lost with one of them";
    Check::bad(Verdict::Warn, "network", found, remedy)
}

/// Opens the vault and asks the nodes.
fn vault(session: &Session) -> anyhow::Result<Vec<Check>> {
    let config = match session.client_config() {
        Ok(config) => config,
        Err(error) => {
            return Ok(vec![Check::bad(
                Verdict::Fail,
                "vault",
                format!("{error:#}"),
                "give the right passphrase",
            )]);
        }
    };
    session.run(async {
        let client = match Client::open(config).await {
            Ok(client) => client,
            Err(error) => return Ok(vec![broken_index(&error)]),
        };
        let mut checks = vec![index(&client).await];
        let answers = ask_all(&client, client.network().nodes.clone()).await;
        checks.extend(answers.iter().map(|(node, report)| node_check(node, report)));
        checks.extend(clock(&answers));
        checks.push(reach(client.network(), &answers));
        client.close().await;
        Ok(checks)
    })
}

async fn index(client: &Client) -> Check {
    match client.collections().await {
        Ok(found) => Check::ok("index", format::count(found.len() as u64, "collection")),
        Err(error) => broken_index(&error),
    }
}

fn broken_index(error: &crate::client::Error) -> Check {
    let remedy = error.hint().unwrap_or("check the home folder");
    let (what, cause) = (error.to_string(), reason(error));
    let found = if cause == what { what } else { format!("{what}: {cause}") };
    Check::bad(Verdict::Fail, "index", found, remedy)
}

type Answer = (NodeInfo, Result<NodeReport, crate::client::Error>);

fn node_check(node: &NodeInfo, report: &Result<NodeReport, crate::client::Error>) -> Check {
    match report {
        Ok(report) if report.status.problems.is_empty() => {
            let free = format::size(report.status.free_bytes);
            Check::ok(
                "node",
                format!(
                    "{} answers in {:.1} ms, {free} free",
                    node.name,
                    report.round_trip.as_secs_f64() * 1e3
                ),
            )
        }
        Ok(report) => {
            let found = format!("{}: {}", node.name, report.status.problems.join("; "));
            Check::bad(Verdict::Warn, "node", found, "tell its operator")
        }
        Err(error) => {
            let found = format!("{} at {}: {}", node.name, node.address, reason(error));
            Check::bad(Verdict::Warn, "node", found, "start it, or open its UDP port in the firewall")
        }
    }
}

/// How far our clock is from the middle one of the nodes'.
fn clock(answers: &[Answer]) -> Option<Check> {
    let mut offsets: Vec<i64> =
        answers.iter().filter_map(|(_, report)| Some(report.as_ref().ok()?.clock_offset_ms)).collect();
    offsets.sort_unstable();
    let median = *offsets.get(offsets.len() / 2)?;
    let found = format!("{median} ms from the nodes' clocks");
    Some(if median.abs() <= MAX_CLOCK_OFFSET_MS {
        Check::ok("clock", found)
    } else {
        Check::bad(Verdict::Warn, "clock", found, "set this machine's clock, for example by NTP")
    })
}

/// Whether enough nodes answer to read every record: at most m shards of a segment may be silent, and a
/// network of fewer nodes than shards keeps several on a node.
fn reach(network: &Network, answers: &[Answer]) -> Check {
    let alive = answers.iter().filter(|(_, report)| report.is_ok()).count();
    let (total, code) = (answers.len(), network.code);
    let found = format!("{alive} of {total} nodes answer");
    let silent_shards = (total - alive) * code.total().div_ceil(total.max(1));
    if alive == total {
        Check::ok("reach", found)
    } else if silent_shards <= code.m() {
        let remedy = "records can be read and written; bring the other nodes back";
        Check::bad(Verdict::Warn, "reach", found, remedy)
    } else {
        let remedy = "some records cannot be read now: bring nodes back";
        Check::bad(Verdict::Fail, "reach", found, remedy)
    }
}

fn show(output: &Output, check: &Check) -> anyhow::Result<()> {
    let (word, paint) = match check.verdict {
        Verdict::Ok => ("ok", Paint::Good),
        Verdict::Warn => ("warn", Paint::Caution),
        Verdict::Fail => ("fail", Paint::Bad),
    };
    if output.is_json() {
        output.json(
            &json!({ "verdict": word, "check": check.what, "found": check.found, "remedy": check.remedy }),
        )?;
        return Ok(());
    }
    let word = output.paint(paint, &format!("{word:4}"));
    output.line(format_args!("{word}  {:8}  {}", check.what, check.found))?;
    if let Some(remedy) = &check.remedy {
        output.line(format_args!("                -> {remedy}"))?;
    }
    Ok(())
}
