//! `xvault erase`

use std::io::{self, IsTerminal as _};
use std::path::PathBuf;

use serde_json::json;

use crate::cli::address;
use crate::cli::certificate;
use crate::cli::exit::{Exit, Failure};
use crate::cli::output::escape;
use crate::cli::receipt::write_new;
use crate::cli::session::Session;
use crate::client::access::EraseTarget;
use crate::client::{Client, RecordAddress};
use crate::message::Policy;
use crate::types::{RecordPath, VersionId};

/// Erase what is in a shreddable collection, and write a certificate of it.
///
/// The keys are destroyed: the static nodes delete the keyslots and replace the key under which they had them, and sign that.
/// From then on nobody reads what was erased, not with the 24 words and every shard either. Storage nodes free the segments
/// that nothing else uses, and sign that too. The certificate has all of it, and what remains with whom: ciphertext in
/// segments that other records use, nodes that did not sign yet, and who opened the record before. `xvault verify --certificate`
/// checks it, offline and on any machine. With --vault all of the vault goes, durable collections too.
///
/// Run again it goes on where it was interrupted, and adds receipts that came later. It asks first; where there is no terminal
/// it needs -y. What is durable is not erased: see `xvault rm`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The record, all its versions; or a collection, all that is in it.
    #[arg(value_parser = address::path, value_name = "XV://COLLECTION/NAME", required_unless_present = "vault")]
    path: Option<RecordPath>,
    /// All that is in the vault, and the vault itself: nothing can be put into it any more.
    ///
    /// The static nodes delete their shares of its key as well, and storage nodes free all its segments. What was durable is
    /// not unreadable by that for who kept shards and has the 24 words; the certificate names it.
    #[arg(long, conflicts_with_all = ["path", "version"])]
    vault: bool,
    /// This version of the record only.
    #[arg(long, value_name = "ID")]
    version: Option<VersionId>,
    /// Write the certificate to this new file [default: standard output, with --json as the field `certificate`].
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Do not ask.
    #[arg(short, long)]
    yes: bool,
}

pub(crate) async fn run(session: &Session, client: &Client, args: Args) -> anyhow::Result<Exit> {
    let target = target(&args)?;
    if let Some(path) = args.output.as_ref().filter(|path| path.exists()) {
        let message = format!("{} exists", path.display());
        return Err(Failure::refused(message).hint("name another file").into());
    }
    let shown = escape(&target.to_string()).to_string();
    confirm(&shown, args.yes)?;
    let found = client.erase(&target).await?;
    let output = session.output();
    let text = found.to_text();
    if let Some(path) = &args.output {
        write_new(path, &text)?;
    }
    let certified = found.verify(client.genesis()?, Policy::Quorum)?;
    if output.is_json() {
        let text = args.output.is_none().then_some(text);
        output.json(&json!({
            "v": 1, "erased": target.to_string(), "path": args.output, "certificate": text,
            "statement": certificate::json(&found, &certified),
        }))?;
        return Ok(Exit::Ok);
    }
    match &args.output {
        Some(path) => output.note(format_args!("erased {shown}; the certificate is in {}", path.display())),
        None => output.bytes(text.as_bytes())?,
    }
    for line in certificate::remains(&found.statement) {
        output.note(format_args!("remains: {line}"));
    }
    Ok(Exit::Ok)
}

fn target(args: &Args) -> anyhow::Result<EraseTarget> {
    let Some(path) = &args.path else { return Ok(EraseTarget::Vault) };
    let collection = path.collection.clone();
    if path.rest.is_empty() {
        if args.version.is_some() {
            return Err(Failure::usage("a version is of a record: name it").into());
        }
        return Ok(EraseTarget::Collection(collection));
    }
    let at = RecordAddress { collection, name: path.record_name()? };
    Ok(EraseTarget::Record(at, args.version))
}

/// Asks whether to go on; only a person at a terminal can say so other than by -y.
fn confirm(shown: &str, yes: bool) -> anyhow::Result<()> {
    if yes {
        return Ok(());
    }
    if !io::stdin().is_terminal() || !io::stderr().is_terminal() {
        let message = format!("erasing {shown} needs a yes");
        return Err(Failure::refused(message).hint("-y says yes").into());
    }
    eprint!("Destroy the keys of {shown}, so that nobody can ever read it again? [y/N] ");
    let mut answer = String::new();
    io::stdin().read_line(&mut answer)?;
    if matches!(answer.trim(), "y" | "Y" | "yes") {
        Ok(())
    } else {
        Err(Failure::refused("nothing was erased").into())
    }
}
