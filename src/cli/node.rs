//! `xvault node`

use std::fs::File;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};

use crate::cli::exit::{Exit, Failure};
use crate::cli::format;
use crate::cli::govern::random_key;
use crate::cli::output::{Output, Paint, escape};
use crate::cli::registry;
use crate::cli::session::Session;
use crate::cli::static_node::{GENESIS_FILE, read_genesis};
use crate::client::{ErrorKind, LedgerClient, NodeReport, Nodes};
use crate::ledger::rows::Node;
use crate::message::{Genesis, NodeEntry, NodeNumber, NodeStatus};
use crate::roles::storage_node::{Described, NodeConfig, NodeFolder, StorageNode};
use crate::types::{NetworkId, NodeInfo};

/// Between two attempts to register, also of one that was refused: it may be sponsored meanwhile.
const REGISTER_AGAIN: Duration = Duration::from_secs(5);

/// Run storage nodes, and see how those of the network are.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Make a node's folder: its key and settings.
    Init(Init),
    /// Run the node of a folder until it is interrupted.
    Run(Run),
    /// Put a node on the ledger, which gives it a number.
    Register(registry::Register),
    /// Sign that a sponsor's key lets a storage node in: prints what `node register` needs.
    Sponsor(registry::Sponsor),
    /// Change what the ledger says of a node: its address, its name, who runs it and where.
    Update(registry::Entry),
    /// Take a node out for good: nothing new is stored on it.
    Retire(registry::Retire),
    /// List the network's nodes, with what the ledger says of them.
    Ls,
    /// Ask every node, or the one named, how it is.
    Status(Status),
}

/// Arguments of `node init`.
#[derive(Debug, clap::Args)]
pub(crate) struct Init {
    /// The folder.
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,
    /// What people call the node: letters, digits and . _ - :
    #[arg(long, value_name = "NAME")]
    name: String,
    /// Address and UDP port to listen on.
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: SocketAddr,
    /// Address and UDP port by which clients reach it, for the network file [default: that of --listen].
    #[arg(long, value_name = "ADDRESS:PORT")]
    advertise: Option<SocketAddr>,
    /// Who runs it: nodes of one operator are taken to fail together. Letters, digits and . _ - :
    #[arg(long, value_name = "NAME")]
    operator: String,
    /// Where it stands: nodes of one site are taken to fail together. Letters, digits and . _ - :
    #[arg(long, value_name = "NAME")]
    site: String,
    /// Id of the network it serves [default: that of the network file].
    #[arg(long, value_name = "ID")]
    network_id: Option<NetworkId>,
}

/// Arguments of `node run`.
#[derive(Debug, clap::Args)]
pub(crate) struct Run {
    /// The node's folder.
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,
    /// See to it that the ledger of the network file has the node, as its folder describes it.
    #[arg(long)]
    register: bool,
}

/// Arguments of `node status`.
#[derive(Debug, clap::Args)]
pub(crate) struct Status {
    /// The node's name in the network file.
    name: Option<String>,
}

pub(crate) fn run(session: &Session, command: Command) -> anyhow::Result<Exit> {
    match command {
        Command::Init(args) => init(session, args),
        Command::Run(args) => serve(session, &args),
        Command::Register(args) => registry::register(session, &args),
        Command::Sponsor(args) => registry::sponsor(session, &args),
        Command::Update(args) => registry::update(session, &args),
        Command::Retire(args) => registry::retire(session, &args),
        Command::Ls => ls(session),
        Command::Status(args) => {
            session.with_nodes(async |nodes| status(session.output(), nodes, &args).await)
        }
    }
}

/// The address that clients connect to: one that means the same to all of them.
pub(crate) fn advertised(listen: SocketAddr, advertise: Option<SocketAddr>) -> Result<SocketAddr, Failure> {
    let address = advertise.unwrap_or(listen);
    let wrong = if address.ip().is_unspecified() {
        "is every address of this machine, not one that others can connect to"
    } else if address.port() == 0 {
        "has no port"
    } else {
        return Ok(address);
    };
    let hint = "name the address and port by which clients reach the node with --advertise";
    Err(Failure::usage(format!("{address} {wrong}")).hint(hint))
}

fn init(session: &Session, args: Init) -> anyhow::Result<Exit> {
    let address = advertised(args.listen, args.advertise)?;
    // What the ledger would refuse later is refused now.
    let entry = NodeEntry { label: args.name, operator: args.operator, site: args.site, address };
    let NodeEntry { label: name, operator, site, .. } = registry::checked(entry)?;
    let network = match args.network_id {
        Some(id) => id,
        None => session.network()?.id,
    };
    let key = random_key()?;
    let info = NodeInfo { name: name.clone(), key: key.public(), address, operator, site };
    let described =
        Some(Described { operator: info.operator.clone(), site: info.site.clone(), address: info.address });
    let (dir, listen) = (args.dir, args.listen);
    NodeFolder { dir, name, network, listen, http: None, key, described }.create()?;
    if session.output().is_json() {
        session.output().json(&info)?;
    } else {
        session.output().note("Add this to the network file:");
        let table = toml::to_string(&info).context("writing the node's table")?;
        session.output().line(format_args!("[[node]]\n{}", table.trim_end()))?;
    }
    Ok(Exit::Ok)
}

/// Runs on one thread: requests are small, and the store has threads of its own.
fn serve(session: &Session, args: &Run) -> anyhow::Result<Exit> {
    let folder = NodeFolder::open(&args.dir)?;
    let name = folder.name.clone();
    let genesis = genesis_of(session, &folder)?;
    let ledger = args.register.then(|| session.ledger(None)).transpose()?;
    let registering = folder.clone();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("starting")?;
    runtime.block_on(async {
        let (mut interrupt, mut terminate) = signals()?;
        let is_open = genesis.is_none();
        let node = StorageNode::start(NodeConfig::new(folder, genesis)).await?;
        listens(session.output(), "node", &name, node.address())?;
        if is_open {
            let why =
                "it knows no ledger: it stores for anybody; name a network file that has one with --network";
            session.output().warn(why);
        }
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            () = registration(session.output(), ledger, &registering) => {}
        }
        session.output().note("stopping");
        node.stop().await;
        Ok(Exit::Ok)
    })
}

/// Says that a node is ready, for people and programs.
pub(crate) fn listens(output: &Output, what: &str, name: &str, address: SocketAddr) -> anyhow::Result<()> {
    if output.is_json() {
        output.json(&json!({ "message_type": "ready", "v": 1, "name": name, "address": address }))?;
        output.finish()?;
    } else {
        output.note(format_args!("{what} {name} listens on {address}"));
    }
    Ok(())
}

/// The genesis whose ledger a node follows: that of its folder, or that of the network file, which the folder keeps from
/// then on. None for a network without a ledger.
fn genesis_of(session: &Session, folder: &NodeFolder) -> anyhow::Result<Option<Arc<Genesis>>> {
    let path = folder.dir.join(GENESIS_FILE);
    if path.exists() {
        return Ok(Some(Arc::new(read_genesis(&path)?)));
    }
    // A node may run without a network file, as it always could; but not with one that is damaged.
    let is_given = session.named_network_file().is_some() || session.network_file().exists();
    let found = is_given.then(|| session.network()).transpose()?;
    let ours = found.filter(|network| network.id == folder.network);
    let Some(text) = ours.and_then(|network| network.genesis) else { return Ok(None) };
    let genesis = Genesis::from_text(&text).context("the genesis in the network file is damaged")?;
    keep_genesis(&path, &text).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(Some(Arc::new(genesis)))
}

/// Durable up to its name: a node that followed a ledger once does so ever after.
fn keep_genesis(path: &Path, text: &str) -> std::io::Result<()> {
    let new = path.with_extension("new");
    std::fs::write(&new, text)?;
    File::open(&new)?.sync_all()?;
    std::fs::rename(&new, path)?;
    File::open(path.parent().unwrap_or_else(|| Path::new(".")))?.sync_all()
}

/// Has the ledger say of the node what its folder says, if that is asked for; tries until it does, unless it retired. Never
/// ends.
async fn registration(output: &Output, ledger: Option<LedgerClient>, folder: &NodeFolder) {
    let mut said = String::new();
    while let Some(ledger) = &ledger {
        // Its operator may have changed meanwhile what it says of itself.
        let now = NodeFolder::open(&folder.dir).unwrap_or_else(|_| folder.clone());
        let registered = async {
            ledger.follow().await?;
            registry::ensure(ledger, &now).await
        };
        match registered.await {
            Ok(done) => {
                output.note(format_args!("node {} is {}", folder.name, done.unwrap_or("on the ledger")));
                break;
            }
            Err(error) => {
                let is_over = error.kind() == ErrorKind::Refused && !registry::may_pass(&error);
                let (yet, what_to_do) = (if is_over { "" } else { " yet" }, registry::remedy(&error, folder));
                let warning = format!("the node is not registered{yet}: {error}{what_to_do}");
                // Each reason once, not each attempt.
                if said != warning {
                    output.warn(&warning);
                    said = warning;
                }
                if is_over {
                    break;
                }
                tokio::time::sleep(REGISTER_AGAIN).await;
            }
        }
    }
    std::future::pending::<()>().await;
}

/// Ctrl-C and the service manager's request to end.
pub(crate) fn signals() -> anyhow::Result<(tokio::signal::unix::Signal, tokio::signal::unix::Signal)> {
    Ok((signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?))
}

/// A node of the network file, and what the ledger says of it; either may be missing.
type Listed = (NodeInfo, Option<(NodeNumber, Node)>);

fn ls(session: &Session) -> anyhow::Result<Exit> {
    let network = session.network()?;
    if network.genesis.is_none() {
        let listed = network.nodes.into_iter().map(|node| (node, None));
        return list(session.output(), listed.collect(), "no ledger");
    }
    session.with_ledger(async |ledger| {
        let known = ledger.nodes().await;
        if let Err(error) = &known {
            session.output().warn(format_args!("without what the ledger says: {error}"));
        }
        // That a node is not on the ledger is said only if the ledger was asked.
        let without = if known.is_ok() { "not on the ledger" } else { "the ledger does not answer" };
        list(session.output(), merged(network.nodes, known.unwrap_or_default()), without)
    })
}

/// The nodes of the file with their numbers, then those that only the ledger knows.
fn merged(nodes: Vec<NodeInfo>, mut known: Vec<(NodeNumber, Node)>) -> Vec<Listed> {
    let take = |node: NodeInfo, known: &mut Vec<(NodeNumber, Node)>| {
        let at = known.iter().position(|(_, row)| row.key == node.key);
        let row = at.map(|at| known.remove(at));
        let info = row.as_ref().map_or(node, |(_, row)| row.info());
        (info, row)
    };
    let mut listed: Vec<Listed> = nodes.into_iter().map(|node| take(node, &mut known)).collect();
    listed.extend(known.into_iter().map(|row| (row.1.info(), Some(row))));
    listed
}

fn list(output: &Output, nodes: Vec<Listed>, without: &str) -> anyhow::Result<Exit> {
    for (node, row) in nodes {
        if output.is_json() {
            let mut value = serde_json::to_value(&node)?;
            if let Some((number, row)) = &row {
                value["number"] = number.0.into();
                value["since"] = row.since.0.into();
                value["retired"] = row.retired.map(|height| height.0).into();
            }
            output.json(&value)?;
            continue;
        }
        let (name, operator, site) = (escape(&node.name), escape(&node.operator), escape(&node.site));
        let (key, address) = (node.key.short(), node.address.to_string());
        let ledger = row.map(|(number, row)| format!("{number}  {}", registry::state(&row)));
        output.line(format_args!(
            "{name:16}  {key}  {address:21}  {operator:16}  {site:16}  {}",
            ledger.as_deref().unwrap_or(without)
        ))?;
    }
    Ok(Exit::Ok)
}

async fn status(output: &Output, nodes: &Nodes, args: &Status) -> anyhow::Result<Exit> {
    let wanted = |node: &&NodeInfo| args.name.as_ref().is_none_or(|name| *name == node.name);
    let asked: Vec<NodeInfo> = nodes.network().nodes.iter().filter(wanted).cloned().collect();
    if asked.is_empty() {
        let name = args.name.as_deref().unwrap_or_default();
        let message = format!("neither the network file nor the ledger has a node {}", escape(name));
        return Err(Failure::new(Exit::NotFound, message).hint("`xvault node ls` lists them").into());
    }
    let (mut silent, mut other) = (0_u64, 0_u64);
    for (node, report) in ask_all(nodes, asked).await {
        match &report {
            Ok(report) => other += u64::from(report.status.network != nodes.network().id),
            Err(error) if error.kind() == ErrorKind::Config => other += 1,
            Err(_) => silent += 1,
        }
        show(output, nodes.network().id, &node, &report)?;
    }
    if other > 0 {
        let message = format!("{} not what the network file says", is_are(other, "node"));
        return Err(Failure::new(Exit::Failed, message).hint("see `xvault doctor`").into());
    }
    if silent > 0 {
        let message = format!("{} did not answer", format::count(silent, "node"));
        return Err(Failure::new(Exit::Unavailable, message).into());
    }
    Ok(Exit::Ok)
}

/// `1 node is`, `2 nodes are`.
fn is_are(number: u64, noun: &str) -> String {
    format!("{} {}", format::count(number, noun), if number == 1 { "is" } else { "are" })
}

/// Asks nodes at the same time; answers in the order asked.
pub(crate) async fn ask_all(nodes: &Nodes, asked: Vec<NodeInfo>) -> Vec<Answer> {
    let asked: Vec<_> = asked
        .into_iter()
        .map(|node| {
            let nodes = nodes.clone();
            tokio::spawn(async move {
                let report = nodes.status(&node).await;
                (node, report)
            })
        })
        .collect();
    let mut answers = Vec::new();
    for answer in asked {
        answers.extend(answer.await.ok());
    }
    answers
}

/// A node and what it answered.
pub(crate) type Answer = (NodeInfo, Result<NodeReport, crate::client::Error>);

fn show(
    output: &Output,
    network: NetworkId,
    node: &NodeInfo,
    report: &Result<NodeReport, crate::client::Error>,
) -> anyhow::Result<()> {
    let name = escape(&node.name);
    match report {
        Ok(report) if output.is_json() => {
            let status = &report.status;
            output.json(&json!({
                "node": node.name, "reachable": true, "network": status.network.to_string(), "version": status.version, "shards": status.shards,
                "shard_bytes": status.shard_bytes, "disk_bytes": status.disk_bytes, "free_bytes": status.free_bytes,
                "uptime_seconds": status.uptime_seconds, "problems": status.problems,
                "ledger_height": status.ledger.map(|tip| tip.height.0), "ledger_age_seconds": ledger_age(status).map(|age| age.as_secs()),
                "round_trip_ms": report.round_trip.as_secs_f64() * 1e3, "clock_offset_ms": report.clock_offset_ms,
            }))?;
        }
        Ok(report) => {
            let status = &report.status;
            let elsewhere = (status.network != network).then(|| "it belongs to another network".to_owned());
            let problems: Vec<_> = elsewhere.iter().chain(&status.problems).collect();
            let good = problems.is_empty();
            let word = output
                .paint(if good { Paint::Good } else { Paint::Caution }, if good { "ok" } else { "warn" });
            output.line(format_args!(
                "{name:16}  {word:4}  {:>8} shards  {:>10} held  {:>10} free  {:.1} ms{}",
                status.shards,
                format::size(status.shard_bytes),
                format::size(status.free_bytes),
                report.round_trip.as_secs_f64() * 1e3,
                ledger_words(status).map(|words| format!("  {words}")).unwrap_or_default(),
            ))?;
            for problem in problems {
                output.line(format_args!("{:16}  {}", "", escape(problem)))?;
            }
        }
        Err(error) if output.is_json() => {
            output.json(&json!({ "node": node.name, "reachable": false, "error": reason(error) }))?;
        }
        Err(error) => {
            let word = output.paint(Paint::Bad, "fail");
            output.line(format_args!("{name:16}  {word:4}  {}", escape(&reason(error))))?;
        }
    }
    Ok(())
}

/// How old the last block is that a node has, by its own clock.
fn ledger_age(status: &NodeStatus) -> Option<Duration> {
    status.ledger.map(|tip| status.clock.since(tip.time))
}

/// How far a node follows the ledger, if its network has one.
pub(crate) fn ledger_words(status: &NodeStatus) -> Option<String> {
    let (tip, age) = status.ledger.zip(ledger_age(status))?;
    Some(format!("block {} is {} old", tip.height, format::duration(age)))
}

/// The innermost cause: what the network said.
pub(crate) fn reason(error: &crate::client::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_of_the_network_file_can_be_connected_to() {
        let address = |text: &str| text.parse::<SocketAddr>().unwrap();
        let (every, good) = (address("0.0.0.0:4433"), address("192.0.2.7:4433"));
        assert_eq!(advertised(good, None).unwrap(), good);
        assert_eq!(advertised(every, Some(good)).unwrap(), good);
        for wrong in ["0.0.0.0:4433", "[::]:4433", "192.0.2.7:0"] {
            assert!(advertised(address(wrong), None).is_err(), "{wrong}");
            assert!(advertised(good, Some(address(wrong))).is_err(), "{wrong}");
        }
    }
}
