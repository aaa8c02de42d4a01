//! `xvault receipt`

use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde_json::json;

use crate::cli::address;
use crate::cli::exit::{Exit, Failure};
use crate::cli::output::escape;
use crate::cli::session::Session;
use crate::client::{Client, RecordAddress};
use crate::types::VersionId;

/// Work with receipts: proofs that the ledger anchored a version.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Write the receipt of a version; `xvault verify` checks it, offline and on any machine.
    Export(Export),
}

/// Arguments of `receipt export`.
#[derive(Debug, clap::Args)]
pub(crate) struct Export {
    /// The record.
    #[arg(value_parser = address::record, value_name = "XV://COLLECTION/NAME")]
    record: RecordAddress,
    /// This version instead of the latest.
    #[arg(long, value_name = "ID")]
    version: Option<VersionId>,
    /// Write to this new file [default: standard output, with --json as the field `receipt`].
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

pub(crate) async fn run(session: &Session, client: &Client, command: Command) -> anyhow::Result<Exit> {
    let Command::Export(args) = command;
    let receipt = client.receipt(&args.record, args.version).await?;
    let (version, text) = (receipt.commitment.opening.version.to_string(), receipt.to_text());
    let (output, address) = (session.output(), args.record.to_string());
    if let Some(path) = &args.output {
        write_new(path, &text)?;
        output.note(format_args!("wrote the receipt of {} to {}", escape(&address), path.display()));
    }
    if output.is_json() {
        let receipt = args.output.is_none().then_some(text);
        output.json(&json!({
            "v": 1, "address": address, "version": version, "path": args.output, "receipt": receipt,
        }))?;
    } else if args.output.is_none() {
        output.bytes(text.as_bytes())?;
    }
    Ok(Exit::Ok)
}

/// Writes a file that is not there yet.
pub(crate) fn write_new(path: &Path, text: &str) -> anyhow::Result<()> {
    let shown = path.display();
    match std::fs::File::create_new(path) {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
            Err(Failure::refused(format!("{shown} exists")).hint("name another file").into())
        }
        made => made
            .and_then(|mut file| file.write_all(text.as_bytes()))
            .with_context(|| format!("cannot write {shown}")),
    }
}
