//! `xvault verify`

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde_json::json;

use crate::cli::exit::{Exit, Failure};
use crate::cli::output::{Output, escape};
use crate::cli::session::Session;
use crate::cli::{certificate, format, input};
use crate::message::{AnchorReceipt, Anchored, Genesis, Policy};
use crate::types::{Network, Timestamp};

/// Check a file against its receipt: that the static nodes signed that exactly these bytes were anchored, and when. Or
/// check an erasure certificate: what was erased, who signed that it is gone, and what remains.
///
/// Nothing is asked of the network, and no key is needed: only the genesis, which the network file has in it. What is forged,
/// damaged, or of other bytes ends with exit code 5; what holds, and was signed by fewer than --policy asks for, with 7.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The file; `-` for standard input.
    #[arg(required_unless_present = "certificate")]
    file: Option<PathBuf>,
    /// Its receipt, as `xvault receipt export` wrote it.
    #[arg(long, value_name = "FILE", required_unless_present = "certificate")]
    receipt: Option<PathBuf>,
    /// An erasure certificate, as `xvault erase` wrote it, instead of a file and its receipt.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["file", "receipt"])]
    certificate: Option<PathBuf>,
    /// The genesis file of the network, or a network file, which has it [default: the network file].
    #[arg(long, value_name = "FILE")]
    genesis: Option<PathBuf>,
    /// How many static nodes must have signed: a quorum, which no third of them can forge, or all; of an erasure also that
    /// the keyslots are gone.
    #[arg(long, value_name = "POLICY", value_enum, default_value_t = PolicyArg::Quorum)]
    policy: PolicyArg,
}

/// How many static nodes must have signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum PolicyArg {
    /// A quorum of them.
    Quorum,
    /// Every one.
    All,
}

pub(crate) fn run(session: &Session, args: &Args) -> anyhow::Result<Exit> {
    let genesis = genesis(session, args.genesis.as_deref())?;
    let policy = match args.policy {
        PolicyArg::Quorum => Policy::Quorum,
        PolicyArg::All => Policy::All,
    };
    if let Some(path) = &args.certificate {
        return certificate::verify(session.output(), path, &genesis, policy);
    }
    let (Some(file), Some(receipt)) = (&args.file, &args.receipt) else {
        return Err(Failure::usage("a file and its receipt, or a certificate").into());
    };
    let shown = receipt.display();
    let receipt = input::text(receipt)?;
    let wrong = |violation: crate::message::Violation| {
        Failure::new(Exit::Corrupt, format!("the receipt {shown} does not hold: {violation}"))
    };
    let receipt = AnchorReceipt::from_text(&receipt).map_err(wrong)?;
    let anchored = match receipt.verify(&genesis, policy) {
        Err(crate::message::Violation::NoQuorum) if policy == Policy::All => {
            // That fewer signed is no flaw of a receipt that a quorum signed.
            let found = receipt.verify(&genesis, Policy::Quorum).map_err(wrong)?;
            return Err(too_few(found.signers.len(), found.members, "signed by then", RECEIPT_HINT).into());
        }
        verified => verified.map_err(wrong)?,
    };
    let (content, size) = hash_file(file)?;
    if (content, size) != (anchored.opening.content.0, anchored.opening.size) {
        let message = format!("{} is not what was anchored", file.display());
        let hint = format!(
            "the receipt is of {} bytes with BLAKE3 {}; the file has {size} bytes",
            anchored.opening.size, anchored.opening.content
        );
        return Err(Failure::new(Exit::Corrupt, message).hint(hint).into());
    }
    report(session.output(), file, &anchored)?;
    Ok(Exit::Ok)
}

const RECEIPT_HINT: &str =
    "export the receipt again, for the signatures that came later, or use --policy quorum";

/// What holds, but was signed by fewer than the policy asks for: nothing is wrong with it.
pub(crate) fn too_few(signed: usize, members: usize, what: &str, hint: &str) -> Failure {
    let message =
        format!("only {signed} of {members} static nodes {what}, and --policy all asks for every one");
    Failure::refused(message).hint(hint)
}

fn genesis(session: &Session, file: Option<&Path>) -> anyhow::Result<Genesis> {
    let (text, path) = match file {
        Some(path) => (input::text(path)?, path.to_owned()),
        None => {
            let no_ledger = || {
                Failure::new(Exit::Failed, "the network file names no genesis").hint("name it with --genesis")
            };
            (session.network()?.genesis.ok_or_else(no_ledger)?, session.network_file())
        }
    };
    // A network file has the genesis in it.
    let text = Network::from_toml(&text).ok().and_then(|network| network.genesis).unwrap_or(text);
    let read = Genesis::from_text(&text);
    read.map_err(|_| input::wrong(&path, "there is no genesis in it, or it is damaged").into())
}

/// BLAKE3 and length.
fn hash_file(path: &Path) -> anyhow::Result<([u8; 32], u64)> {
    let mut hasher = blake3::Hasher::new();
    let read = if path == Path::new("-") {
        hasher.update_reader(std::io::stdin().lock()).map(drop)
    } else {
        hasher.update_reader(input::open(path)?).map(drop)
    };
    read.with_context(|| format!("cannot read {}", path.display()))?;
    Ok((hasher.finalize().into(), hasher.count()))
}

fn report(output: &Output, file: &Path, anchored: &Anchored) -> anyhow::Result<()> {
    let signed_at =
        |seconds: &u64| format::time(Timestamp::from_unix_micros(seconds.saturating_mul(1_000_000)));
    if output.is_json() {
        let signers: Vec<_> = anchored
            .signers
            .iter()
            .map(|(key, label, seconds)| json!({ "key": key.to_string(), "label": label, "time": signed_at(seconds) }))
            .collect();
        output.json(&json!({
            "version": anchored.opening.version.to_string(), "bytes": anchored.opening.size,
            "blake3": anchored.opening.content.to_string(), "anchor": anchored.id.to_string(),
            "author": anchored.author.to_string(), "vault": anchored.anchor.vault.to_string(),
            "height": anchored.height.0, "time": format::time(anchored.time),
            "signers": signers, "static_nodes": anchored.members,
        }))?;
        return Ok(());
    }
    // The exit code says it all.
    if output.is_quiet() {
        return Ok(());
    }
    output.line(format_args!("verified  {}", escape(&file.display().to_string())))?;
    output.line(format_args!("version   {}", anchored.opening.version))?;
    output.line(format_args!(
        "size      {} ({} bytes)",
        format::size(anchored.opening.size),
        anchored.opening.size
    ))?;
    output.line(format_args!("blake3    {}", anchored.opening.content))?;
    output.line(format_args!("anchor    {}", anchored.id))?;
    output.line(format_args!("by        {}", anchored.author))?;
    output.line(format_args!(
        "final     {} at the latest, in block {}",
        format::time(anchored.time),
        anchored.height
    ))?;
    output.line(format_args!(
        "signed    by {} of {} static nodes",
        anchored.signers.len(),
        anchored.members
    ))?;
    for (_, label, seconds) in &anchored.signers {
        output.line(format_args!("          {}  {}", signed_at(seconds), escape(label)))?;
    }
    Ok(())
}
