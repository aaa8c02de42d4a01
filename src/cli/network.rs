//! `xvault network`

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde_json::json;

use crate::cli::exit::{Exit, Failure};
use crate::cli::session::Session;
use crate::cli::{input, output};
use crate::message::genesis::GenesisNode;
use crate::message::{Admission, Canonical as _, Genesis, Member, NodeEntry, Params, Roster};
use crate::runtime::wall_time;
use crate::types::limits::{MAX_COMMITTEE, MIN_COMMITTEE};
use crate::types::{Code, Network, NetworkId, NodeInfo};

/// Make networks.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Make the genesis of a network from what `static init` printed, and its network file.
    Genesis(Make),
}

/// Arguments of `network genesis`.
#[derive(Debug, clap::Args)]
pub(crate) struct Make {
    /// Files with the lines that `static init` printed, one line each.
    #[arg(required = true, value_name = "MEMBER_FILE")]
    members: Vec<PathBuf>,
    /// Where to write the genesis file.
    #[arg(long, value_name = "FILE", default_value = "genesis")]
    out: PathBuf,
    /// Where to write the network file.
    #[arg(long, value_name = "FILE", default_value = "network.toml")]
    network_out: PathBuf,
    /// A network file with the `[[node]]` tables of the first storage nodes; its id and code become the network's.
    #[arg(long, value_name = "FILE")]
    nodes: Option<PathBuf>,
    /// Erasure code of new segments: data and parity shards [default: 4+2].
    #[arg(long, value_name = "K+M", conflicts_with = "nodes")]
    code: Option<Code>,
    /// Who may create vaults and register storage nodes: anybody, within limits, or whom a sponsor vouches for
    /// [default: sponsored, or open with --dev].
    #[arg(long, value_name = "WHO", value_enum)]
    admission: Option<AdmissionArg>,
    /// Allow fewer than four static nodes, which tolerate no fault, and let anybody in.
    #[arg(long)]
    dev: bool,
}

/// Who may come in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum AdmissionArg {
    /// Anybody, as many an epoch as the network's numbers say.
    Open,
    /// Whom a sponsor vouches for.
    Sponsored,
}

pub(crate) fn run(session: &Session, command: Command) -> anyhow::Result<Exit> {
    let Command::Genesis(args) = command;
    let members = args.members.iter().map(|path| read_member(path)).collect::<anyhow::Result<Vec<_>>>()?;
    if members.len() < MIN_COMMITTEE && !args.dev {
        let message =
            format!("{} static nodes tolerate no fault: at least {MIN_COMMITTEE} are needed", members.len());
        return Err(Failure::new(Exit::Usage, message).hint("for trying things out there is --dev").into());
    }
    require_distinct(&args.members, &members)?;
    let Network { id, code, nodes, .. } = match &args.nodes {
        None => empty(args.code.unwrap_or(Code::DEFAULT))?,
        Some(path) => read_nodes(path)?,
    };
    let genesis = Genesis {
        network: id,
        time: wall_time(),
        code,
        admission: match args.admission {
            Some(AdmissionArg::Open) => Admission::Open,
            Some(AdmissionArg::Sponsored) => Admission::Sponsored,
            None if args.dev => Admission::Open,
            None => Admission::Sponsored,
        },
        params: Params::DEFAULT,
        roster: roster(members)?,
        nodes: nodes.iter().map(genesis_node).collect(),
        sponsors: Vec::new(),
    };
    let text = genesis.to_text();
    // Names that cannot stand in a genesis do not read back.
    Genesis::from_text(&text).context(
        "a storage node's name, operator or site has other characters than letters, digits and . _ - :",
    )?;
    write(&args.out, &text)?;
    let network = Network { id: genesis.network, code: genesis.code, genesis: Some(text), nodes };
    write(&args.network_out, &network.to_toml())?;
    let output = session.output();
    if let Some((operator, count)) = dominant(&genesis.roster) {
        output.warn(format_args!(
            "{operator} runs {count} of {} static nodes, which stand the loss of {}: if it fails, nothing becomes final",
            genesis.roster.members().len(),
            genesis.roster.committee().f(),
        ));
    }
    if output.is_json() {
        output.json(&json!({
            "v": 1, "network": genesis.network.to_string(), "genesis_file": args.out, "network_file": args.network_out,
            "code": genesis.code.to_string(), "static_nodes": genesis.roster.members().len(),
            "storage_nodes": genesis.nodes.len(),
        }))?;
    } else {
        output.note(format_args!(
            "network {} with {} static nodes: give every one of them {}, and everybody {}",
            genesis.network.short(),
            genesis.roster.members().len(),
            args.out.display(),
            args.network_out.display(),
        ));
    }
    Ok(Exit::Ok)
}

/// Refuses two static nodes that would be one, or could not be told apart.
fn require_distinct(files: &[PathBuf], members: &[Member]) -> Result<(), Failure> {
    for (at, member) in members.iter().enumerate() {
        for (file, before) in files.iter().zip(&members[..at]) {
            let same = if member.key == before.key || member.pq_key == before.pq_key {
                "key"
            } else if member.label == before.label {
                "name"
            } else if member.address == before.address {
                "address"
            } else {
                continue;
            };
            let message =
                format!("{} and {} are of static nodes with one {same}", file.display(), files[at].display());
            let hint = "each has a key, a --name and a --listen of its own: see `xvault static init --help`";
            return Err(Failure::refused(message).hint(hint));
        }
    }
    Ok(())
}

fn roster(members: Vec<Member>) -> Result<Roster, Failure> {
    let message = format!("{} static nodes are too many: at most {MAX_COMMITTEE} can vote", members.len());
    Roster::new(members).map_err(|_| Failure::usage(message))
}

/// An operator that can stop the network alone, and how many of the static nodes it runs: more than may fail. None where
/// no fault is tolerated at all.
fn dominant(roster: &Roster) -> Option<(&str, usize)> {
    let (members, f) = (roster.members(), roster.committee().f());
    let runs = |operator: &str| members.iter().filter(|member| member.operator == operator).count();
    let counted = members.iter().map(|member| (member.operator.as_str(), runs(&member.operator)));
    counted.max_by_key(|(_, count)| *count).filter(|(_, count)| f > 0 && *count > f)
}

pub(crate) fn read_member(path: &Path) -> anyhow::Result<Member> {
    let text = input::text(path)?;
    let bytes = data_encoding::BASE64.decode(text.trim().as_bytes()).ok();
    let member = bytes.and_then(|bytes| Member::decode(&bytes).ok());
    member.ok_or_else(|| input::wrong(path, "this is not what `static init` printed").into())
}

/// A network of a new id, with no storage nodes yet.
fn empty(code: Code) -> anyhow::Result<Network> {
    let mut id = [0; 32];
    getrandom::fill(&mut id)?;
    Ok(Network { id: NetworkId(id), code, genesis: None, nodes: Vec::new() })
}

fn read_nodes(path: &Path) -> anyhow::Result<Network> {
    let named = |error| {
        let error = anyhow::Error::from(error);
        input::wrong(path, output::chain(&error)).into()
    };
    Network::from_toml(&input::text(path)?).map_err(named)
}

fn genesis_node(info: &NodeInfo) -> GenesisNode {
    let entry = NodeEntry {
        label: info.name.clone(),
        operator: info.operator.clone(),
        site: info.site.clone(),
        address: info.address,
    };
    GenesisNode { key: info.key, entry }
}

/// Writes a file that is not there yet.
fn write(path: &PathBuf, text: &str) -> anyhow::Result<()> {
    use std::io::Write as _;
    if path.exists() {
        let exists = Failure::new(Exit::Refused, format!("{} exists", path.display()));
        return Err(exists.hint("name other files with --out and --network-out").into());
    }
    let mut file =
        std::fs::File::create_new(path).with_context(|| format!("cannot make {}", path.display()))?;
    file.write_all(text.as_bytes())?;
    file.sync_all().with_context(|| format!("cannot write {}", path.display()))
}
