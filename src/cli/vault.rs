//! `xvault vault`: the vault on the ledger, and how it gets there where a sponsor must vouch for it.

use std::path::PathBuf;

use serde_json::json;

use crate::cli::exit::{Exit, Failure};
use crate::cli::format;
use crate::cli::registry::{print_sponsorship, read_sponsorship};
use crate::cli::rotate;
use crate::cli::session::Session;
use crate::client::rotation;
use crate::crypto::seed::VaultKeys;
use crate::message::Action;
use crate::roles::storage_node::NodeFolder;
use crate::types::{PublicKey, VaultId};

/// The vault on the ledger.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Show the vault's id and key, and what the ledger knows of it.
    Show,
    /// Register the vault on the ledger. The first `put` does so by itself where no sponsor is asked for.
    Register(Register),
    /// Sign that a sponsor's key lets a vault in: prints what `vault register` needs.
    Sponsor(Sponsor),
    /// Change how many bytes of ledger an epoch a registered vault may use, as the sponsor that let it in.
    ///
    /// At most as many as the sponsor's own terms say (`static propose sponsor --vault-bytes`), and not fewer than the vault
    /// has used of this epoch.
    Quota(Quota),
    /// Replace the vault's keys, after a device that had them was lost or stolen.
    ///
    /// Run it where the 24 words are. From the block on that it names, nothing that the old keys sign counts: they neither write
    /// nor read at storage nodes, nor grant, revoke or object. Keys that were let write are none any more. What was put
    /// before is read as before. Grants that stood are given again to the same grantees, under the same expressions, with new
    /// ids; those that another home gave are listed, and need a new key package. Every other device gets its keys anew:
    /// `xvault key export --device`. It does not help if somebody has the words. Run it again if it was interrupted.
    Rotate(rotate::Args),
    /// Share the key of access anew among the static nodes of now.
    ///
    /// The static nodes hand it on by themselves when they change. This is for when so many of those who had it are gone that
    /// nobody can be let in and no grant opens anything (`xvault doctor` says so). Grants stay as they are.
    Share,
}

/// Arguments of `vault register`.
#[derive(Debug, clap::Args)]
pub(crate) struct Register {
    /// What `vault sponsor` printed for the vault, where the network asks for a sponsor.
    #[arg(long, value_name = "LINE")]
    sponsorship: Option<String>,
}

/// Arguments of `vault sponsor`.
#[derive(Debug, clap::Args)]
pub(crate) struct Sponsor {
    /// The vault's id, as its owner's `xvault vault show` prints it.
    #[arg(value_name = "VAULT")]
    vault: VaultId,
    /// The vault's public key, as printed there.
    #[arg(value_name = "KEY")]
    owner: PublicKey,
    /// The folder of the static node or storage node whose key is a sponsor's.
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,
}

/// Arguments of `vault quota`.
#[derive(Debug, clap::Args)]
pub(crate) struct Quota {
    /// The vault's id, as its owner's `xvault vault show` prints it.
    #[arg(value_name = "VAULT")]
    vault: VaultId,
    /// Ledger bytes an epoch; an anchor of one pack takes about 1,200.
    #[arg(long, value_name = "BYTES")]
    bytes: u64,
    /// The folder of the static node or storage node whose key let the vault in.
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,
}

pub(crate) fn run(session: &Session, command: Command) -> anyhow::Result<Exit> {
    match command {
        Command::Show => show(session),
        Command::Register(args) => register(session, &args),
        Command::Sponsor(args) => sponsor(session, &args),
        Command::Quota(args) => quota(session, &args),
        Command::Rotate(args) => rotate::run(session, &args),
        Command::Share => share(session),
    }
}

fn show(session: &Session) -> anyhow::Result<Exit> {
    let keys = session.client_config()?.keys;
    let (vault, owner) = (*keys.vault(), keys.signing().public());
    session.with_ledger(async |ledger| {
        let row = ledger.vault(vault).await?;
        let generation = keys.generation();
        let erased = match &row {
            // Where too few say so it is not known.
            Some(_) => ledger.vault_erased(vault).await.ok().flatten(),
            None => None,
        };
        let output = session.output();
        if row.as_ref().is_some_and(|row| row.owner != owner) {
            output.warn("the ledger has another key of this vault: its keys were rotated, see `xvault recover`");
        }
        if output.is_json() {
            output.json(&json!({
                "v": 1, "vault": vault.to_string(), "public_key": owner.to_string(), "registered": row.is_some(),
                "generation": generation, "owner": row.as_ref().map(|row| row.owner.to_string()),
                "sponsor": row.as_ref().and_then(|row| row.sponsor).map(|key| key.to_string()),
                "segments": row.as_ref().map(|row| row.segments), "bytes": row.as_ref().map(|row| row.bytes),
                "ledger_bytes_per_epoch": row.as_ref().map(|row| row.quota),
                "erased": erased.map(|height| height.0),
            }))?;
            return Ok(Exit::Ok);
        }
        output.line(format_args!("vault       {vault}"))?;
        output.line(format_args!("public key  {owner}, of generation {generation}"))?;
        let Some(row) = row else {
            output.line("ledger      not registered yet")?;
            return Ok(Exit::Ok);
        };
        let sponsor = row.sponsor.map_or_else(|| "registered".into(), |key| format!("sponsored by {key}"));
        output.line(format_args!("ledger      {sponsor}"))?;
        if let Some(height) = erased {
            output.line(format_args!("erased      in block {height}: nothing is in it, and nothing comes into it"))?;
        }
        let (segments, bytes) = (format::count(row.segments, "segment"), format::size(row.bytes));
        output.line(format_args!("holds       {segments}, {bytes} of ciphertext"))?;
        output.line(format_args!("quota       {} of ledger an epoch", format::size(row.quota)))?;
        Ok(Exit::Ok)
    })
}

fn register(session: &Session, args: &Register) -> anyhow::Result<Exit> {
    let keys = session.client_config()?.keys;
    let (vault, owner) = (*keys.vault(), keys.signing().public());
    let maker = || maker(&keys);
    let sponsor = args.sponsorship.as_deref().map(|line| read_sponsorship(line, maker)).transpose()?;
    session.with_ledger(async |ledger| {
        let output = session.output();
        if ledger.vault(vault).await?.is_some() {
            if output.is_json() {
                output
                    .json(&json!({ "v": 1, "vault": vault.to_string(), "already": true, "height": null }))?;
            } else {
                output.note("the vault is on the ledger already");
            }
            return Ok(Exit::Ok);
        }
        if let Some(sponsorship) = &sponsor
            && sponsorship.verify(&ledger.genesis().network, &owner, &vault.0).is_err()
        {
            return Err(not_for_it(&keys).into());
        }
        let warner = output.warner();
        let action = Action::CreateVault { vault, sponsor };
        let height = ledger.carry_out(keys.signing(), action, &|notice| warner.warn(notice)).await?;
        rotation::pledge(ledger, &keys, &|notice| warner.warn(notice)).await?;
        if output.is_json() {
            output.json(&json!({
                "v": 1, "vault": vault.to_string(), "already": false, "height": height.0,
            }))?;
        } else {
            output.line(format_args!("registered the vault in block {height}"))?;
        }
        Ok(Exit::Ok)
    })
}

fn not_for_it(keys: &VaultKeys) -> Failure {
    Failure::usage("the sponsorship is for another vault, or of another network".to_owned())
        .hint(format!("have one made with {}", maker(keys)))
}

/// The command that a sponsor gives.
fn maker(keys: &VaultKeys) -> String {
    let (vault, owner) = (keys.vault(), keys.signing().public());
    format!(
        "`xvault vault sponsor {vault} {owner} --dir DIR`, DIR being the folder of a node whose key is a sponsor's"
    )
}

fn sponsor(session: &Session, args: &Sponsor) -> anyhow::Result<Exit> {
    let folder = NodeFolder::open(&args.dir)?;
    print_sponsorship(
        session,
        &args.dir,
        &folder,
        (&args.owner, &args.vault.0),
        "Give this line to the vault's owner, for `xvault vault register --sponsorship`:",
    )
}

fn quota(session: &Session, args: &Quota) -> anyhow::Result<Exit> {
    let folder = NodeFolder::open(&args.dir)?;
    session.with_ledger_of(Some(&args.dir), async |ledger| {
        let warner = session.output().warner();
        let (vault, quota) = (args.vault, args.bytes);
        let action = Action::SetQuota { vault, quota };
        let height = ledger.carry_out(&folder.key, action, &|notice| warner.warn(notice)).await?;
        let output = session.output();
        if output.is_json() {
            output.json(&json!({
                "v": 1, "vault": vault.to_string(), "ledger_bytes_per_epoch": quota, "height": height.0,
            }))?;
        } else {
            let quota = format::size(quota);
            output
                .line(format_args!("the vault may use {quota} of ledger an epoch, from block {height} on"))?;
        }
        Ok(Exit::Ok)
    })
}

fn share(session: &Session) -> anyhow::Result<Exit> {
    session.with_client(async |client| {
        let height = client.share_key().await?;
        let output = session.output();
        if output.is_json() {
            output.json(&json!({ "v": 1, "height": height.0 }))?;
        } else {
            output.line(format_args!("the static nodes of now have the key, from block {height} on"))?;
        }
        Ok(Exit::Ok)
    })
}
