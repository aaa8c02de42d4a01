//! `xvault doctor`

use std::time::Duration;

use serde_json::json;

use crate::cli::exit::{Exit, Failure, hint};
use crate::cli::format;
use crate::cli::govern::random_key;
use crate::cli::node::{Answer, ask_all, ledger_words, reason};
use crate::cli::output::{Output, Paint, chain, indent};
use crate::cli::session::Session;
use crate::client::access::care::{self, KeyCare};
use crate::client::keystore::Keystore;
use crate::client::{Client, ClientConfig, ErrorKind, LedgerClient, Nodes};
use crate::crypto::sign::KeyPair;
use crate::runtime::wall_time;
use crate::store::{Disk as _, FileDisk};
use crate::stripe::placement::survives_any_operator;
use crate::types::{Network, NetworkId, Timestamp};

/// How far our clock may be from the nodes' without a warning.
const MAX_CLOCK_OFFSET: Duration = Duration::from_secs(2);
/// How far a node's clock may be from the other nodes' without a warning.
const MAX_NODE_CLOCK_OFFSET: Duration = Duration::from_secs(5);
/// 2020 began: before this there was no xvault, so a clock that says so is wrong.
const EARLIEST: Timestamp = Timestamp::from_unix_millis(1_577_836_800_000);
/// Less free space than this in the home folder is worth a warning.
const MIN_FREE_BYTES: u64 = 256 << 20;

/// Check keys, network file, clock, nodes and disk, and say what to do about what is wrong.
///
/// Without the key, or its passphrase, it checks all that needs neither: the nodes answer anybody how they are.
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
    checks.extend(own_clock(wall_time()));
    match session.network() {
        Err(error) => {
            let remedy = "name a network file with --network, or start a network with `xvault devnet`";
            checks.push(Check::bad(Verdict::Fail, "network", chain(&error), remedy));
        }
        Ok(network) => {
            checks.push(network_file(session, &network));
            let unlocked =
                if checks[0].verdict == Verdict::Ok { Some(session.client_config()) } else { None };
            checks.extend(without_vault(unlocked.as_ref()));
            checks.extend(session.run(of_network(network, unlocked.and_then(Result::ok)))?);
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
    // Of a network with a ledger the nodes are looked at when it was asked.
    if network.genesis.is_some() || survives_any_operator(network.code, &network.nodes) {
        return Check::ok("network", found);
    }
    let remedy = "add nodes of more operators: records may be lost with one of them";
    Check::bad(Verdict::Warn, "network", found, remedy)
}

/// Warns if the nodes of the ledger are of too few operators.
fn spread(network: &Network) -> Option<Check> {
    if network.genesis.is_none() || survives_any_operator(network.code, &network.nodes) {
        return None;
    }
    let found = format!("{} nodes in service, code {}", network.nodes.len(), network.code);
    let remedy = "add nodes of more operators: records may be lost with one of them";
    Some(Check::bad(Verdict::Warn, "operators", found, remedy))
}

/// What is not looked at without the vault's keys, and why.
fn without_vault(unlocked: Option<&anyhow::Result<ClientConfig>>) -> Option<Check> {
    let unseen = "not looked at without the key: the local index, and who has the key of access";
    match unlocked {
        Some(Ok(_)) => None,
        Some(Err(error)) => {
            let found = format!("{}; {unseen}", chain(error));
            let remedy = hint(error).unwrap_or_else(|| "give the right passphrase".to_owned());
            Some(Check::bad(Verdict::Fail, "vault", found, &remedy))
        }
        None => Some(Check::bad(Verdict::Warn, "vault", unseen, "mend what is said of the key above")),
    }
}

/// Asks the nodes, and looks at the vault if its keys are there.
async fn of_network(network: Network, config: Option<ClientConfig>) -> anyhow::Result<Vec<Check>> {
    let key = match &config {
        Some(config) => config.keys.signing().clone(),
        None => random_key()?,
    };
    let mut nodes = Nodes::asked_by(&network, &key);
    if let Err(error) = nodes.learn().await {
        // What the static nodes answer is looked at below.
        tracing::debug!(%error, "without the nodes that only the ledger knows");
    }
    let mut checks = Vec::new();
    if let Some(config) = &config {
        checks.push(index(config.clone()).await);
    }
    let answers = ask_all(&nodes, nodes.network().nodes.clone()).await;
    let median = median_offset(&answers);
    checks.extend(answers.iter().map(|answer| node_check(nodes.network().id, median, answer)));
    checks.extend(median.map(clock));
    checks.push(reach(nodes.network(), &answers));
    checks.extend(spread(nodes.network()));
    if nodes.network().genesis.is_some() {
        checks.extend(ledger(nodes.network(), &key).await);
        if let Some(config) = &config {
            checks.extend(key_care(config).await);
        }
    }
    nodes.close().await;
    Ok(checks)
}

/// Asks the static nodes how they are, and whether they are enough to make anything final.
async fn ledger(network: &Network, key: &KeyPair) -> Vec<Check> {
    let ledger = match LedgerClient::new(network, key) {
        Ok(ledger) => ledger,
        Err(error) => {
            let remedy = error.hint().unwrap_or("get a new network file").to_owned();
            return vec![Check::bad(Verdict::Fail, "ledger", error.to_string(), &remedy)];
        }
    };
    // If nobody answers, those of the genesis are asked.
    drop(ledger.follow().await);
    let roster = ledger.roster();
    let mut checks = Vec::new();
    let mut alive = 0;
    for member in roster.members() {
        match ledger.status(member).await {
            Ok(_) => {
                alive += 1;
                checks.push(Check::ok("static", format!("{} answers", member.label)));
            }
            Err(error) => {
                let found = format!("{} at {}: {}", member.label, member.address, reason(&error));
                checks.push(Check::bad(Verdict::Warn, "static", found, "start it, or tell its operator"));
            }
        }
    }
    let (total, quorum) = (roster.members().len(), roster.committee().quorum());
    let found = format!("{alive} of {total} static nodes answer, {quorum} are needed");
    checks.push(if alive >= quorum {
        Check::ok("ledger", found)
    } else {
        Check::bad(
            Verdict::Fail,
            "ledger",
            found,
            "puts wait until enough static nodes are back; reads go on",
        )
    });
    checks
}

/// Whether enough of those who have the key of access are there; nothing if it was never shared, or nobody can tell.
async fn key_care(config: &ClientConfig) -> Option<Check> {
    care::key_care(config).await.ok().flatten().map(|found| judge_care(&found))
}

fn judge_care(care: &KeyCare) -> Check {
    let KeyCare { members, alive, threshold, is_present, .. } = *care;
    let whose = if is_present { "static nodes" } else { "former static nodes" };
    let found = format!("{alive} of the {members} {whose} that have the key answer, {threshold} are needed");
    if alive >= threshold {
        return Check::ok("access", found);
    }
    let remedy = if is_present {
        "grants open nothing until more static nodes are back"
    } else {
        "grants open nothing and the key cannot be handed on: `xvault vault share` gives it to the static nodes of now"
    };
    Check::bad(Verdict::Fail, "access", found, remedy)
}

/// Looks at the index, if there is one; this must not be what makes it.
async fn index(config: ClientConfig) -> Check {
    if !config.home.exists() {
        return Check::ok("index", "none yet: nothing was stored from here in this network");
    }
    let client = match Client::open(config).await {
        Ok(client) => client,
        Err(error) => return broken_index(&error),
    };
    let check = match client.collections().await {
        Ok(found) => Check::ok("index", format::count(found.len() as u64, "collection")),
        Err(error) => broken_index(&error),
    };
    client.close().await;
    check
}

fn broken_index(error: &crate::client::Error) -> Check {
    let remedy = error.hint().unwrap_or("check the home folder");
    let (what, cause) = (error.to_string(), reason(error));
    let found = if cause == what { what } else { format!("{what}: {cause}") };
    Check::bad(Verdict::Fail, "index", found, remedy)
}

fn node_check(network: NetworkId, median_ms: Option<i64>, (node, report): &Answer) -> Check {
    let name = &node.name;
    let report = match report {
        Ok(report) => report,
        Err(error) if error.kind() == ErrorKind::Config => {
            let remedy = error.hint().unwrap_or("check the network file");
            return Check::bad(Verdict::Fail, "node", error.to_string(), remedy);
        }
        Err(error) => {
            let found = format!("{name} at {}: {}", node.address, reason(error));
            let remedy = "start it, or open its UDP port in the firewall";
            return Check::bad(Verdict::Warn, "node", found, remedy);
        }
    };
    if report.status.network != network {
        let (theirs, ours) = (report.status.network.short(), network.short());
        let found = format!("{name} belongs to another network: {theirs}, not {ours}");
        let remedy = "correct the network file: its `id`, or the table of this node";
        return Check::bad(Verdict::Fail, "node", found, remedy);
    }
    if !report.status.problems.is_empty() {
        let found = format!("{name}: {}", report.status.problems.join("; "));
        return Check::bad(Verdict::Warn, "node", found, "tell its operator");
    }
    let off = report.clock_offset_ms.saturating_sub(median_ms.unwrap_or(0));
    if span(off) > MAX_NODE_CLOCK_OFFSET {
        let found = format!("{name}: its clock is {} the other nodes'", ahead(off));
        return Check::bad(Verdict::Warn, "node", found, "tell its operator to set it, for example by NTP");
    }
    let free = format::size(report.status.free_bytes);
    let millis = report.round_trip.as_secs_f64() * 1e3;
    let ledger = ledger_words(&report.status).map(|words| format!(", {words}")).unwrap_or_default();
    Check::ok("node", format!("{name} answers in {millis:.1} ms, {free} free{ledger}"))
}

/// How far the middle one of the nodes' clocks is ahead of ours, milliseconds.
fn median_offset(answers: &[Answer]) -> Option<i64> {
    let mut offsets: Vec<i64> =
        answers.iter().filter_map(|(_, report)| Some(report.as_ref().ok()?.clock_offset_ms)).collect();
    offsets.sort_unstable();
    offsets.get(offsets.len() / 2).copied()
}

/// Judges our clock by the nodes'.
fn clock(median_ms: i64) -> Check {
    let found = format!("{} the nodes' clocks", ahead(median_ms.saturating_neg()));
    if span(median_ms) <= MAX_CLOCK_OFFSET {
        Check::ok("clock", found)
    } else {
        Check::bad(Verdict::Warn, "clock", found, "set this machine's clock, for example by NTP")
    }
}

/// A clock that cannot be right.
fn own_clock(now: Timestamp) -> Option<Check> {
    let found = || format!("this machine's clock says {}", format::time(now));
    let remedy = "set it: versions of records are dated by it";
    (now < EARLIEST).then(|| Check::bad(Verdict::Fail, "clock", found(), remedy))
}

const fn span(offset_ms: i64) -> Duration {
    Duration::from_millis(offset_ms.unsigned_abs())
}

/// `0.1 s ahead of`, `3 min behind`.
fn ahead(offset_ms: i64) -> String {
    let side = if offset_ms >= 0 { "ahead of" } else { "behind" };
    format!("{} {side}", format::duration(span(offset_ms)))
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
    output.line(format_args!("{word}  {:8}  {}", check.what, indent(&check.found)))?;
    if let Some(remedy) = &check.remedy {
        output.line(format_args!("                -> {}", indent(remedy)))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;
    use crate::client::NodeReport;
    use crate::message::NodeStatus;
    use crate::types::{NodeInfo, PublicKey};

    const OURS: NetworkId = NetworkId([7; 32]);

    fn answer(network: NetworkId, clock_offset_ms: i64) -> Answer {
        let node = NodeInfo {
            name: "node-1".into(),
            key: PublicKey([1; 32]),
            address: SocketAddr::from(([127, 0, 0, 1], 4_433)),
            operator: "operator".into(),
            site: "here".into(),
        };
        let status = NodeStatus {
            network,
            version: String::new(),
            shards: 0,
            shard_bytes: 0,
            disk_bytes: 0,
            free_bytes: 0,
            uptime_seconds: 0,
            clock: Timestamp::ZERO,
            problems: Vec::new(),
            ledger: None,
        };
        (node, Ok(NodeReport { status, round_trip: Duration::ZERO, clock_offset_ms }))
    }

    #[test]
    fn a_node_of_another_network_fails() {
        let check = node_check(OURS, Some(0), &answer(NetworkId([8; 32]), 0));
        assert!(check.verdict == Verdict::Fail && check.found.contains("another network"), "{}", check.found);
        assert_eq!(node_check(OURS, Some(0), &answer(OURS, 0)).verdict, Verdict::Ok);
    }

    #[test]
    fn a_clock_is_judged_by_those_of_the_others() {
        let answers = [answer(OURS, 60_000), answer(OURS, 60_100), answer(OURS, 54_000)];
        let median = median_offset(&answers);
        assert_eq!(median, Some(60_000));
        let verdicts = answers.each_ref().map(|answer| node_check(OURS, median, answer).verdict);
        assert_eq!(verdicts, [Verdict::Ok, Verdict::Ok, Verdict::Warn]);
        assert!(node_check(OURS, median, &answers[2]).found.contains("6.0 s behind"));
        assert_eq!(clock(60_000).found, "1 min behind the nodes' clocks");
        assert_eq!(clock(60_000).verdict, Verdict::Warn);
        assert_eq!(clock(-1_500).verdict, Verdict::Ok);
    }

    #[test]
    fn a_key_with_too_few_of_those_who_had_it_is_to_be_shared_by_its_owner() {
        use crate::ledger::rows::Sharing;
        use crate::types::{Hash, Height};
        let hash = Hash([0; 32]);
        let sharing = Sharing {
            dealing: 0,
            epoch: 3,
            roster: hash,
            commitments: hash,
            package: hash,
            height: Height(9),
        };
        let care = KeyCare { sharing, members: 4, alive: 3, threshold: 3, is_present: false };
        assert_eq!(judge_care(&care).verdict, Verdict::Ok);
        let few = judge_care(&KeyCare { alive: 2, ..care.clone() });
        assert_eq!(few.verdict, Verdict::Fail);
        assert!(few.remedy.unwrap().contains("xvault vault share"));
        let away = judge_care(&KeyCare { alive: 2, is_present: true, ..care });
        assert!(!away.remedy.unwrap().contains("vault share"), "the same static nodes need no other sharing");
    }

    #[test]
    fn a_clock_before_2020_is_wrong() {
        assert!(own_clock(Timestamp::ZERO).is_some_and(|check| check.verdict == Verdict::Fail));
        assert!(own_clock(Timestamp::from_unix_millis(1_795_478_400_123)).is_none());
    }
}
