//! `xvault ledger`

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use serde_json::json;

use crate::cli::anchor;
use crate::cli::exit::{Exit, Failure};
use crate::cli::format;
use crate::cli::output::{Output, escape};
use crate::cli::session::Session;
use crate::client::LedgerClient;
use crate::ledger::ask::{Answer, FinalBlock, Question};
use crate::message::access::RecoveryAction;
use crate::message::block::{Block, BlockRecord};
use crate::message::{Action, Admission, CommitCertificate, Genesis, SignedTransaction};
use crate::types::{Height, TransactionId};

/// Between two looks for a new block.
const WATCH_EVERY: Duration = Duration::from_millis(500);

/// Look at the anchoring ledger, and check it.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// List the last blocks.
    Log(Log),
    /// Show a block by its height, the genesis as height 0, or a transaction by its id.
    Show(Show),
    /// List blocks as they become final, until interrupted.
    Watch,
    /// Fetch every block from the genesis on and check all of it: certificates, signatures, rules, state.
    Verify(Verify),
}

/// Arguments of `ledger log`.
#[derive(Debug, clap::Args)]
pub(crate) struct Log {
    /// How many blocks.
    #[arg(short = 'n', long, value_name = "N", default_value = "20")]
    limit: u64,
}

/// Arguments of `ledger show`.
#[derive(Debug, clap::Args)]
pub(crate) struct Show {
    /// A height, 0 for the genesis, or a transaction id of 64 hex digits.
    #[arg(value_name = "HEIGHT|ID")]
    what: String,
}

/// Arguments of `ledger verify`.
#[derive(Debug, clap::Args)]
pub(crate) struct Verify {
    /// Keep the checked copy in this folder, and go on from there next time [default: a folder that is removed].
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

pub(crate) fn run(session: &Session, command: Command) -> anyhow::Result<Exit> {
    let output = session.output();
    session.with_ledger(async |ledger| match &command {
        Command::Log(args) => log(output, ledger, args).await,
        Command::Show(args) => show(output, ledger, args).await,
        Command::Watch => watch(output, ledger).await,
        Command::Verify(args) => verify(output, ledger, args).await,
    })
}

fn decode(found: &FinalBlock) -> anyhow::Result<(Block, CommitCertificate)> {
    let block = Block::decode_bounded(&found.block).context("a block from a static node")?;
    let certificate =
        CommitCertificate::decode(&found.certificate).context("a certificate from a static node")?;
    Ok((block, certificate))
}

/// What people call a block's proposer; its number where the static nodes were others than those of the genesis and of now.
fn proposer(ledger: &LedgerClient, record: &BlockRecord) -> String {
    let now = ledger.roster();
    let roster = [&ledger.genesis().roster, &*now].into_iter().find(|roster| record.roster == roster.hash());
    let member = roster.and_then(|roster| roster.members().get(usize::from(record.proposer)));
    member.map_or_else(|| format!("member {}", record.proposer), |member| escape(&member.label))
}

fn line(output: &Output, ledger: &LedgerClient, found: &FinalBlock) -> anyhow::Result<()> {
    let (block, certificate) = decode(found)?;
    let record = &block.header.record;
    let (transactions, signers) = (block.transactions.len() as u64, certificate.signatures.len());
    if output.is_json() {
        output.json(&json!({
            "height": record.height.0, "id": block.header.id().to_string(), "time": format::time(record.time),
            "proposer": proposer(ledger, record), "transactions": transactions, "signers": signers,
            "bytes": found.block.len(), "log_size": record.log_size, "state": record.state.to_string(),
        }))?;
    } else {
        output.line(format_args!(
            "{:>8}  {}  {}  by {}  {:>15}  {signers} signed",
            record.height.0,
            block.header.id().short(),
            format::time(record.time),
            proposer(ledger, record),
            format::count(transactions, "transaction"),
        ))?;
    }
    Ok(())
}

async fn log(output: &Output, ledger: &LedgerClient, args: &Log) -> anyhow::Result<Exit> {
    let tip = ledger.tip().await?.record.height;
    let mut next = Height(tip.0.saturating_sub(args.limit) + 1);
    while next <= tip {
        let blocks = ledger.blocks(next).await?;
        if blocks.is_empty() {
            break;
        }
        for found in blocks.iter().take(usize::try_from(tip.0 - next.0 + 1).unwrap_or(usize::MAX)) {
            line(output, ledger, found)?;
        }
        next = Height(next.0 + blocks.len() as u64);
    }
    Ok(Exit::Ok)
}

async fn watch(output: &Output, ledger: &LedgerClient) -> anyhow::Result<Exit> {
    let mut next = ledger.tip().await?.record.height;
    loop {
        for found in ledger.blocks(next).await? {
            line(output, ledger, &found)?;
            next = next.next();
        }
        output.finish()?;
        tokio::time::sleep(WATCH_EVERY).await;
    }
}

/// A transaction's kind, in the words of the glossary.
fn kind(action: &Action) -> &'static str {
    match action {
        Action::CreateVault { .. } => "create vault",
        Action::Anchor(_) => "anchor",
        Action::PlaceShards { .. } => "place shards",
        Action::AddWriter { .. } => "add writer",
        Action::RemoveWriter { .. } => "remove writer",
        Action::RegisterNode { .. } => "register node",
        Action::UpdateNode(_) => "update node",
        Action::RetireNode => "retire node",
        Action::Govern(_) => "govern",
        Action::Evidence(_) => "evidence",
        Action::FalseCosignature(_) => "false cosignature",
        Action::Accuse { .. } => "accuse",
        Action::Correct => "correct",
        Action::SetQuota { .. } => "set quota",
        Action::ShareKey(_) => "share-key",
        Action::Grant(_) => "grant",
        Action::Revoke { .. } => "revoke",
        Action::AddEntries(_) => "add-entries",
        Action::Erase { .. } => "erase",
        Action::BumpScope { .. } => "bump-scope",
        Action::LogHead(_) => "log-head",
        Action::EmergencyRequest(_) => "emergency-request",
        Action::EmergencyApprove(_) => "emergency-approve",
        Action::EmergencyVeto { .. } => "emergency-veto",
        Action::EmergencyOpened(_) => "emergency-opened",
        Action::EraseVersions(_) => "erase-versions",
        Action::Withdraw { .. } => "withdraw",
        Action::CertifyErasure(_) => "certify-erasure",
        Action::Recovery(action) => match action {
            RecoveryAction::SetGuardians(_) => "set-guardians",
            RecoveryAction::Approve { .. } => "approve-recovery",
            RecoveryAction::Veto { .. } => "veto-recovery",
            RecoveryAction::PledgeKey { .. } => "pledge-key",
            RecoveryAction::Rotate { .. } => "rotate-vault",
        },
        Action::HandOff(_) => "hand-off",
        Action::TakeShares(_) => "take-shares",
        Action::RejectHandoff { .. } => "reject-handoff",
        Action::Deposit(_) => "deposit",
        Action::SettleDeposits(_) => "settle-deposits",
    }
}

fn transaction(output: &Output, height: Height, signed: &SignedTransaction) -> anyhow::Result<()> {
    let inner = signed.transaction();
    if output.is_json() {
        let mut value = json!({
            "id": signed.id().to_string(), "height": height.0, "kind": kind(&inner.action),
            "author": inner.author.to_string(), "nonce": inner.nonce, "bytes": signed.bytes().len(),
        });
        match &inner.action {
            Action::Anchor(found) => value["anchor"] = anchor::json(found),
            Action::Govern(governance) => value["change"] = governance.change.to_string().into(),
            _ => {}
        }
        output.json(&value)?;
        return Ok(());
    }
    let more = match &inner.action {
        Action::Anchor(found) => format!("  {}", anchor::words(found)),
        Action::Govern(governance) => format!("  {}", escape(&governance.change.to_string())),
        _ => String::new(),
    };
    output.line(format_args!(
        "  {}  {:17}  by {}  {} bytes{more}",
        signed.id(),
        kind(&inner.action),
        inner.author.short(),
        signed.bytes().len(),
    ))?;
    Ok(())
}

/// What there is before the first block.
fn genesis(output: &Output, genesis: &Genesis) -> anyhow::Result<()> {
    let Genesis { network, time, code, admission, roster, nodes, .. } = genesis;
    let (time, statics) = (format::time(*time), roster.members().len() as u64);
    let admission = match admission {
        Admission::Open => "open",
        Admission::Sponsored => "sponsored",
    };
    if output.is_json() {
        output.json(&json!({
            "height": 0, "id": genesis.id().to_string(), "time": time, "network": network.to_string(),
            "code": code.to_string(), "admission": admission, "static_nodes": statics, "storage_nodes": nodes.len(),
        }))?;
        return Ok(());
    }
    output.line(format_args!("{:>8}  {}  {time}  the genesis, no block", 0, genesis.id().short()))?;
    let (statics, nodes) =
        (format::count(statics, "static node"), format::count(nodes.len() as u64, "storage node"));
    output
        .line(format_args!("  network {network}: {statics}, {nodes}, code {code}, admission {admission}"))?;
    Ok(())
}

async fn show(output: &Output, ledger: &LedgerClient, args: &Show) -> anyhow::Result<Exit> {
    let missing = || Failure::new(Exit::NotFound, format!("the ledger has no {}", args.what));
    let id: Option<TransactionId> = args.what.parse().ok();
    // An id may have no letters.
    if let (None, Ok(height)) = (id, args.what.parse()) {
        let height = Height(height);
        if height == Height::GENESIS {
            genesis(output, ledger.genesis())?;
            return Ok(Exit::Ok);
        }
        let blocks = ledger.blocks(height).await?;
        let found = blocks.first().ok_or_else(missing)?;
        line(output, ledger, found)?;
        for signed in &decode(found)?.0.transactions {
            transaction(output, height, signed)?;
        }
        return Ok(Exit::Ok);
    }
    let senseless = || Failure::usage("expected a height or a transaction id of 64 hex digits");
    let id = id.ok_or_else(senseless)?;
    let is_there = |answer: &Answer| matches!(answer, Answer::Transaction(Some(_)));
    match ledger.ask_for(&Question::Transaction { id }, is_there).await? {
        Answer::Transaction(Some(proven)) => {
            transaction(output, proven.height, &proven.transaction)?;
            if !output.is_json() {
                if let Action::Anchor(found) = &proven.transaction.transaction().action {
                    anchor::show(output, found)?;
                }
                output.line(format_args!("\n{}", proven.note.trim_end()))?;
            }
            Ok(Exit::Ok)
        }
        _ => Err(missing().into()),
    }
}

async fn verify(output: &Output, ledger: &LedgerClient, args: &Verify) -> anyhow::Result<Exit> {
    let scratch = args.dir.is_none().then(Scratch::new).transpose()?;
    let folder = args.dir.as_deref().or_else(|| scratch.as_ref().map(|scratch| scratch.0.as_path()));
    let folder = folder.context("no folder")?;
    let replayed = ledger.replay(folder, |_| {}).await?;
    let record = &replayed.tip.record;
    if output.is_json() {
        output.json(&json!({
            "height": record.height.0, "blocks": replayed.blocks, "transactions": replayed.transactions,
            "id": replayed.tip.id().to_string(), "state": record.state.to_string(), "log_size": record.log_size,
        }))?;
    } else {
        output.line(format_args!(
            "ok    {} with {} checked, up to block {}",
            format::count(replayed.blocks, "block"),
            format::count(replayed.transactions, "transaction"),
            record.height.0,
        ))?;
        output.line(format_args!("state {}", record.state))?;
    }
    Ok(Exit::Ok)
}

/// A folder that goes when it is dropped.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> anyhow::Result<Self> {
        let mut name = [0; 8];
        getrandom::fill(&mut name)?;
        let name = format!("xvault-verify-{}", data_encoding::HEXLOWER.encode(&name));
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir(&path).with_context(|| format!("cannot make {}", path.display()))?;
        Ok(Self(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // A leftover in the temporary folder does no harm.
        drop(std::fs::remove_dir_all(&self.0));
    }
}
