//! `xvault static`

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use serde_json::json;

use crate::cli::exit::{Exit, Failure};
use crate::cli::govern;
use crate::cli::input;
use crate::cli::node::{listens, reason, signals};
use crate::cli::output::{Output, Paint, escape};
use crate::cli::session::Session;
use crate::client::LedgerClient;
use crate::consensus::Timing;
use crate::crypto::ml_dsa::PqKeyPair;
use crate::ledger::ask::{Answer, Holdings, Question};
use crate::ledger::rows::{Standing, Static};
use crate::message::access::Care;
use crate::message::block::Header;
use crate::message::checkpoint::vkeys;
use crate::message::{Canonical as _, Genesis, Member};
use crate::roles::{NodeFolder, StaticConfig, StaticNode};
use crate::types::limits::SNAPSHOT_GAP;
use crate::types::{Network, NetworkId};

/// The genesis file's name in a static node's folder.
pub(crate) const GENESIS_FILE: &str = "genesis";

/// Run static nodes, and see how those of the network are.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Make a static node's folder: its key and settings. Prints what `network genesis` needs of it.
    Init(Init),
    /// Run the static node of a folder until it is interrupted.
    Run(Run),
    /// List the static nodes and what the ledger thinks of them.
    ///
    /// With --json also their keys as clients of transparency logs take them (C2SP vkeys, Ed25519 and ML-DSA-44). Where a static
    /// node serves its log is for its operator to say: `http` in its folder's node.toml, or --http of `static run`.
    Ls(Ls),
    /// Ask every static node how far it is.
    Status,
    /// Write a change of the static nodes to a file, for their operators to approve.
    #[command(subcommand)]
    Propose(govern::Propose),
    /// Sign the file of a change with a static node's key.
    Approve(govern::Approve),
    /// Bring a change to the ledger that enough static nodes approved.
    Submit(govern::Submit),
}

/// Arguments of `static init`.
#[derive(Debug, clap::Args)]
pub(crate) struct Init {
    /// The folder.
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,
    /// What people call it: letters, digits and . _ - :
    #[arg(long, value_name = "NAME")]
    name: String,
    /// Address and UDP port to listen on; the others reach it there.
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: SocketAddr,
    /// Who runs it: letters, digits and . _ - :
    #[arg(long, value_name = "NAME")]
    operator: String,
    /// Address and TCP port to serve the log on, for mirrors and monitors [default: it is not served].
    #[arg(long, value_name = "ADDRESS:PORT")]
    http: Option<SocketAddr>,
}

/// Arguments of `static ls`.
#[derive(Debug, clap::Args)]
pub(crate) struct Ls {
    /// Also those that left: that were removed or replaced, and the keys that others took the place of.
    #[arg(long)]
    all: bool,
}

/// Arguments of `static run`.
#[derive(Debug, clap::Args)]
pub(crate) struct Run {
    /// The static node's folder.
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,
    /// The genesis file [default: genesis in the folder].
    #[arg(long, value_name = "FILE")]
    genesis: Option<PathBuf>,
    /// Address and TCP port to serve the log on: <http://ADDRESS:PORT/checkpoint>, and the tiles and entries of C2SP
    /// tlog-tiles below /tile/ [default: `http` in the folder's node.toml; if there is none, it is not served].
    #[arg(long, value_name = "ADDRESS:PORT")]
    http: Option<SocketAddr>,
}

pub(crate) fn run(session: &Session, command: Command) -> anyhow::Result<Exit> {
    match command {
        Command::Init(args) => init(session, args),
        Command::Run(args) => serve(session, &args),
        Command::Ls(args) => session.with_ledger(async |ledger| ls(session.output(), ledger, &args).await),
        Command::Status => session.with_ledger(async |ledger| status(session.output(), ledger).await),
        Command::Propose(args) => govern::propose(session, &args),
        Command::Approve(args) => govern::approve(session, &args),
        Command::Submit(args) => govern::submit(session, &args),
    }
}

fn init(session: &Session, args: Init) -> anyhow::Result<Exit> {
    let key = govern::random_key()?;
    let member = Member {
        key: key.public(),
        pq_key: Box::new(*PqKeyPair::from_node_secret(&key.secret()).public()),
        label: args.name.clone(),
        operator: args.operator,
        address: args.listen,
    };
    // Names that cannot stand in a genesis do not read back.
    let encoded = member.encode();
    if Member::decode(&encoded).is_err() {
        let message = "name and operator take 1 to 63 letters, digits and . _ - : only";
        return Err(Failure::usage(message.to_owned()).into());
    }
    // The genesis will name the network; until then the folder belongs to none.
    let network = NetworkId([0; 32]);
    let (dir, name, listen, http) = (args.dir, args.name, args.listen, args.http);
    NodeFolder { dir, name, network, listen, http, key, described: None }.create()?;
    let line = data_encoding::BASE64.encode(&encoded);
    if session.output().is_json() {
        session.output().json(&json!({ "member": line, "key": member.key.to_string() }))?;
    } else {
        session.output().note("Give this line to whoever makes the genesis, or proposes to add the node:");
        session.output().line(line)?;
    }
    Ok(Exit::Ok)
}

pub(crate) fn read_genesis(path: &Path) -> anyhow::Result<Genesis> {
    let text = input::text(path)?;
    // A network file has the genesis in it.
    let text = Network::from_toml(&text).ok().and_then(|network| network.genesis).unwrap_or(text);
    let read = Genesis::from_text(&text);
    read.map_err(|_| input::wrong(path, "this is not a genesis file, or it is damaged").into())
}

fn serve(session: &Session, args: &Run) -> anyhow::Result<Exit> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("starting")?;
    // Again for each key that the node has.
    loop {
        let ended = runtime.block_on(serve_key(session, args))?;
        match ended {
            Ended::Interrupted => return Ok(Exit::Ok),
            Ended::Failed(reason) => {
                let message = format!("the static node must stop: {reason}");
                return Err(Failure::new(Exit::Failed, message).into());
            }
            Ended::Succeeded => session.output().note("going on under the new key"),
        }
    }
}

/// Why a static node does not run any more.
enum Ended {
    Interrupted,
    Failed(String),
    /// Another key took the place of its own.
    Succeeded,
}

async fn serve_key(session: &Session, args: &Run) -> anyhow::Result<Ended> {
    let folder = NodeFolder::open(&args.dir)?;
    let path = args.genesis.clone().unwrap_or_else(|| args.dir.join(GENESIS_FILE));
    if args.genesis.is_none() && !path.exists() {
        let missing = Failure::new(Exit::NotFound, format!("there is no {}", path.display()));
        return Err(missing.hint("name the genesis file with --genesis").into());
    }
    let genesis = Arc::new(read_genesis(&path)?);
    let config = StaticConfig {
        dir: folder.dir,
        listen: folder.listen,
        http: args.http.or(folder.http),
        genesis,
        key: folder.key,
        timing: Timing::default(),
        snapshot_gap: SNAPSHOT_GAP,
    };
    let (mut interrupt, mut terminate) = signals()?;
    let node = StaticNode::start(config).await?;
    listens(session.output(), "static node", &folder.name, node.address())?;
    if let Some(http) = node.http_address() {
        session.output().note(format_args!("and serves its log on http://{http}/checkpoint"));
    }
    let ended = tokio::select! {
        _ = interrupt.recv() => Ended::Interrupted,
        _ = terminate.recv() => Ended::Interrupted,
        reason = node.failed() => Ended::Failed(reason),
        () = node.succeeded() => Ended::Succeeded,
        () = announce(session.output(), &node) => Ended::Interrupted,
    };
    if !matches!(ended, Ended::Succeeded) {
        session.output().note("stopping");
    }
    node.stop().await;
    Ok(ended)
}

/// Says whether the node votes, at first and whenever that changes. Never ends.
async fn announce(output: &Output, node: &StaticNode) {
    let (mut voters, mut said) = (node.voters(), None);
    loop {
        let votes = voters.borrow_and_update().as_ref().map(|now| now.contains(&node.public_key()));
        match (said, votes) {
            (None, Some(false)) => output.warn("it does not vote: it follows the ledger until it is added"),
            (Some(false), Some(true)) => output.note("it votes from now on"),
            (Some(true), Some(false)) => output.warn("it does not vote any more: it follows the ledger"),
            _ => {}
        }
        said = votes;
        if voters.changed().await.is_err() {
            return std::future::pending().await;
        }
    }
}

/// What the ledger thinks of a static node, in words.
fn standing(row: &Static) -> (&'static str, String) {
    match row.standing {
        Standing::Good => ("good", String::new()),
        Standing::Warned { fault, deadline } => {
            ("warned", format!("{fault:?}, to answer by block {deadline}"))
        }
        Standing::OnProbation { until } => ("on probation", format!("until block {until}")),
        Standing::Blacklisted { fault, since } => ("blacklisted", format!("{fault:?}, since block {since}")),
        Standing::Left => ("left", String::new()),
    }
}

async fn ls(output: &Output, ledger: &LedgerClient, args: &Ls) -> anyhow::Result<Exit> {
    let is_shown = |row: &Static| args.all || row.standing != Standing::Left;
    for row in ledger.statics().await?.into_iter().filter(is_shown) {
        let (word, more) = standing(&row);
        let member = &row.member;
        if output.is_json() {
            output.json(&json!({
                "name": member.label, "key": member.key.to_string(), "operator": member.operator,
                "address": member.address, "votes": row.votes, "standing": word, "more": more, "faults": row.faults,
                "proof": row.proof.map(|id| id.to_string()),
                "vkeys": vkeys(&ledger.genesis().network, member),
            }))?;
            continue;
        }
        let votes = if row.votes { "votes" } else { "-" };
        let paint = if matches!(row.standing, Standing::Good) { Paint::Good } else { Paint::Caution };
        output.line(format_args!(
            "{:16}  {}  {:21}  {:16}  {votes:5}  {}  {more}",
            escape(&member.label),
            member.key.short(),
            member.address.to_string(),
            escape(&member.operator),
            output.paint(paint, word),
        ))?;
        if let Some(proof) = row.proof {
            output.line(format_args!("{:16}  `xvault ledger show {proof}` has the evidence", ""))?;
        }
    }
    Ok(Exit::Ok)
}

/// What a static node is doing about what it does not have of the ledger, in words; nothing if it has all.
fn at_work(holdings: &Holdings) -> Option<String> {
    if let Some(taking) = &holdings.taking {
        let (height, rows) = (taking.height.0, taking.rows);
        let log = taking.leaves.checked_mul(100).and_then(|leaves| leaves.checked_div(taking.log_size));
        let percent = log.unwrap_or(0);
        return Some(format!("taking a snapshot of block {height}: {rows} rows, {percent}% of the log"));
    }
    let missing = holdings.missing.as_ref()?;
    let (from, until) = (missing.from.0, missing.until.0);
    Some(format!("filling in its archive, from block {until} down to {from}"))
}

fn holdings_json(holdings: &Holdings) -> serde_json::Value {
    json!({
        "snapshot": holdings.snapshot.map(|height| height.0),
        "missing": holdings.missing.as_ref().map(|missing| json!({
            "from": missing.from.0, "until": missing.until.0,
        })),
        "taking": holdings.taking.map(|taking| json!({
            "height": taking.height.0, "rows": taking.rows, "leaves": taking.leaves, "log_size": taking.log_size,
        })),
    })
}

/// What a static node says of itself.
fn say(
    output: &Output,
    member: &Member,
    header: &Header,
    holdings: &Holdings,
    care: Option<&Care>,
) -> anyhow::Result<()> {
    let time = crate::cli::format::time(header.record.time);
    if output.is_json() {
        output.json(&json!({
            "name": member.label, "reachable": true, "height": header.record.height.0,
            "time": time, "state": header.record.state.to_string(), "archive": holdings_json(holdings),
            "keys": care.map(care_json),
        }))?;
        return Ok(());
    }
    let ok = output.paint(Paint::Good, "ok  ");
    let more = at_work(holdings).map(|more| format!("  {more}")).unwrap_or_default();
    output.line(format_args!(
        "{:16}  {ok}  block {:>8}  {time}{more}",
        escape(&member.label),
        header.record.height.0,
    ))?;
    for words in care.iter().flat_map(|care| care_words(care)) {
        output.line(format_args!("{:16}        {}", "", output.paint(Paint::Caution, &words)))?;
    }
    Ok(())
}

/// What of the vaults' keys is not where it should be, in words.
fn care_words(care: &Care) -> Vec<String> {
    let mut words = Vec::new();
    let vaults = |count| crate::cli::format::count(count, "vault");
    if care.due > 0 {
        let (due, all) = (care.due, vaults(care.vaults));
        words
            .push(format!("handing keys on: {due} of {all} to go, {} with former static nodes", care.former));
    }
    if care.without > 0 {
        let (without, all) = (care.without, vaults(care.vaults));
        words.push(format!(
            "has no share of {without} of the keys of {all}: it gets one when they are shared anew"
        ));
    }
    words
}

fn care_json(care: &Care) -> serde_json::Value {
    json!({ "vaults": care.vaults, "former": care.former, "due": care.due, "without": care.without })
}

async fn status(output: &Output, ledger: &LedgerClient) -> anyhow::Result<Exit> {
    let mut silent = 0_u64;
    for member in ledger.roster().members() {
        let why = match ledger.ask_one(member, &Question::Tip).await {
            Ok(Answer::Tip { header, .. }) => {
                // One that does not know the question has all that it ever will.
                let holdings = match ledger.ask_one(member, &Question::Archive).await {
                    Ok(Answer::Archive(holdings)) => *holdings,
                    _ => Holdings::default(),
                };
                // One that does not know the question has no part in it.
                let care = ledger.care(member).await.ok();
                say(output, member, &header, &holdings, care.as_ref())?;
                continue;
            }
            Ok(_) => "answers something else than it was asked".to_owned(),
            Err(error) => reason(&error),
        };
        silent += 1;
        if output.is_json() {
            output.json(&json!({ "name": member.label, "reachable": false, "error": why }))?;
        } else {
            let (name, fail) = (escape(&member.label), output.paint(Paint::Bad, "fail"));
            output.line(format_args!("{name:16}  {fail}  {}", escape(&why)))?;
        }
    }
    if silent > 0 {
        let message = format!("{} did not answer", crate::cli::format::count(silent, "static node"));
        return Err(Failure::new(Exit::Unavailable, message).into());
    }
    Ok(Exit::Ok)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::rows::Missing;
    use crate::ledger::snapshot::Taking;
    use crate::types::{BlockId, Height};

    #[test]
    fn what_a_static_node_does_not_have_is_said_plainly() {
        let mut holdings = Holdings::default();
        assert_eq!(at_work(&holdings), None);
        let id = BlockId([0; 32]);
        let (from, until) = (Height(1), Height(700));
        holdings.snapshot = Some(Height(900));
        holdings.missing = Some(Missing { from, below: id, below_size: 0, until, last: id });
        assert_eq!(at_work(&holdings).unwrap(), "filling in its archive, from block 700 down to 1");
        holdings.taking = Some(Taking { height: Height(9_000), rows: 5, leaves: 25, log_size: 100 });
        let words = "taking a snapshot of block 9000: 5 rows, 25% of the log";
        assert_eq!(at_work(&holdings).unwrap(), words);
        let care = Care { vaults: 9, former: 3, due: 4, without: 1 };
        let words = care_words(&care);
        assert_eq!(words[0], "handing keys on: 4 of 9 vaults to go, 3 with former static nodes");
        assert!(words[1].starts_with("has no share of 1 of the keys of 9 vaults"), "{}", words[1]);
        assert!(care_words(&Care { vaults: 9, ..Care::default() }).is_empty());
        let json = holdings_json(&holdings);
        assert_eq!((&json["snapshot"], &json["missing"]["until"]), (&json!(900), &json!(700)));
        assert_eq!(json["taking"]["height"], 9_000);
    }
}
