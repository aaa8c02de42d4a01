//! `xvault vault rotate`

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde_json::json;

use crate::cli::exit::{Exit, Failure};
use crate::cli::format;
use crate::cli::output::escape;
use crate::cli::session::Session;
use crate::client::keystore::{FIRST_VAULT, KeystoreError, write_new};
use crate::client::rotation::{self, Rotated};
use crate::client::{ClientConfig, Error, ErrorKind};
use crate::crypto::seed::OwnerRoot;
use crate::types::limits::MAX_KEY_GENERATION;

/// Arguments of `vault rotate`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Do not anchor what is staged or stored first: nobody can afterwards.
    #[arg(long)]
    now: bool,
}

pub(crate) fn run(session: &Session, args: &Args) -> anyhow::Result<Exit> {
    let (config, root) = session.rooted_config()?;
    let root = root.ok_or_else(|| KeystoreError::DeviceOnly { path: session.keystore_path() })?;
    let note = under_way(session, &config);
    let target = target(session, &note, &config)?;
    if target > MAX_KEY_GENERATION {
        let message =
            format!("the vault's keys were rotated {MAX_KEY_GENERATION} times, and no more are made");
        return Err(Failure::refused(message).hint("begin another vault with `xvault key new`").into());
    }
    let (from, to) = homes(session, &config, &root, target);
    let warner = session.output().warner();
    let rotated = session
        .run(async { Ok(rotation::rotate(&from, &to, !args.now, &|text| warner.warn(text)).await?) })?;
    session.note_generation(&to)?;
    fs::remove_file(&note).with_context(|| format!("cannot remove {}", note.display()))?;
    if rotated.kept {
        session.output().warn(format_args!(
            "{} stays: puts in it were never anchored, and no key can any more; put them again",
            from.home.display()
        ));
    }
    show(session, &to, &rotated)
}

/// The note of a rotation that is under way: it has the generation that it leads to.
fn under_way(session: &Session, config: &ClientConfig) -> PathBuf {
    let name = format!("rotating-{}-{}", config.keys.vault().short(), config.network.id.short());
    session.vaults().join(name)
}

/// The generation to rotate to: that of a rotation that was interrupted, else the next one. It is durable before anything is done,
/// so that running this again goes on instead of rotating twice.
fn target(session: &Session, note: &Path, config: &ClientConfig) -> anyhow::Result<u32> {
    if let Ok(text) = fs::read_to_string(note) {
        let damaged = || Failure::new(Exit::Corrupt, format!("{} is damaged", note.display()));
        let target = text.trim().parse().map_err(|_| damaged().hint("remove it, then `xvault recover`"))?;
        session.output().note(format_args!("goes on with the rotation to generation {target}"));
        return Ok(target);
    }
    let now = session.run(async { Ok(rotation::generation_to_follow(config).await?) })?;
    let now = now.ok_or_else(|| {
        Error::new(ErrorKind::NotFound, "the vault is not on the ledger")
            .with_hint("a key that was never used is replaced by `xvault key new --force`")
    })?;
    if now != config.keys.generation() {
        let message = format!("the ledger has generation {now} of the vault's keys");
        return Err(Failure::refused(message)
            .hint("`xvault recover` takes them up here, then rotate")
            .into());
    }
    fs::create_dir_all(session.vaults()).context("making the folder of the vaults")?;
    write_new(note, (now + 1).to_string().as_bytes()).context("noting the rotation")?;
    Ok(now + 1)
}

/// What a client needs with the keys of before, and with those of now.
fn homes(
    session: &Session,
    config: &ClientConfig,
    root: &OwnerRoot,
    target: u32,
) -> (ClientConfig, ClientConfig) {
    let of = |generation| session.config_of(config.network.clone(), root.vault(FIRST_VAULT, generation));
    (of(target.saturating_sub(1)), of(target))
}

fn show(session: &Session, to: &ClientConfig, rotated: &Rotated) -> anyhow::Result<Exit> {
    let (output, key) = (session.output(), to.keys.signing().public());
    let lost: Vec<String> =
        rotated.renewed.lost.iter().map(|granted| granted.row.grant.grant.to_string()).collect();
    if output.is_json() {
        let given: Vec<_> = rotated
            .renewed
            .given
            .iter()
            .map(|(before, now)| json!({ "before": before.to_string(), "now": now.to_string() }))
            .collect();
        output.json(&json!({
            "v": 1, "generation": rotated.generation, "public_key": key.to_string(),
            "height": rotated.height.map(|height| height.0), "anchors": rotated.recovered.anchors,
            "grants_renewed": given, "grants_lost": lost,
        }))?;
        return Ok(Exit::Ok);
    }
    output.line(format_args!("public key  {key}, of generation {}", rotated.generation))?;
    if let Some(height) = rotated.height {
        output
            .line(format_args!("in effect   from block {height} on: nothing that older keys sign counts"))?;
    }
    let given = format::count(rotated.renewed.given.len() as u64, "grant");
    output.line(format_args!("renewed     {given}"))?;
    for granted in &rotated.renewed.lost {
        let about = granted.about.as_ref();
        let name = escape(about.map_or("somebody that another home let in", |about| &about.name));
        output.warn(format_args!(
            "{name} has grant {} no more: ask for a new key package",
            granted.row.grant.grant
        ));
    }
    output.note("each device that is still yours needs new keys: `xvault key export --device`");
    Ok(Exit::Ok)
}
