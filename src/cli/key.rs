//! `xvault key`

use std::io::{self, IsTerminal as _, Read as _};
use std::path::PathBuf;

use anyhow::Context as _;
use serde_json::json;
use zeroize::Zeroizing;

use crate::cli::exit::{Exit, Failure};
use crate::cli::session::Session;
use crate::cli::{input, passphrase};
use crate::client::keystore::{Keystore, SealRandom};
use crate::crypto::passphrase::Cost;
use crate::crypto::seed::Seed;

/// Bytes of a phrase that are read: 24 words have at most 215.
const MAX_PHRASE_LEN: u64 = 4_096;

/// Make, show, save and restore the key of your vault.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Make a new key and print its 24 words, once: write them down.
    New(New),
    /// Show the vault's public key.
    Show,
    /// Print the 24 words again.
    Export,
    /// Restore a key from its 24 words, which are read from standard input or asked for.
    Import(Import),
}

/// Arguments of `key new`.
#[derive(Debug, clap::Args)]
pub(crate) struct New {
    /// Replace a key; the old keystore is kept beside the new one.
    #[arg(long)]
    force: bool,
}

/// Arguments of `key import`.
#[derive(Debug, clap::Args)]
pub(crate) struct Import {
    /// Read the words from this file.
    #[arg(long, value_name = "FILE")]
    from: Option<PathBuf>,
    /// Replace a key; the old keystore is kept beside the new one.
    #[arg(long)]
    force: bool,
}

pub(crate) fn run(session: &Session, command: Command) -> anyhow::Result<Exit> {
    match command {
        Command::New(args) => new(session, &args),
        Command::Show => show(session),
        Command::Export => export(session),
        Command::Import(args) => import(session, &args),
    }
}

fn new(session: &Session, args: &New) -> anyhow::Result<Exit> {
    check_free(session, args.force)?;
    let mut entropy = Zeroizing::new([0; 32]);
    getrandom::fill(&mut *entropy)?;
    let seed = Seed::from_entropy(*entropy);
    let keystore = save(session, &seed, args.force)?;
    let output = session.output();
    let phrase = seed.phrase();
    if output.is_json() {
        output.json(&json!({ "public_key": keystore.public_key(), "phrase": *phrase }))?;
    } else {
        output.line(format_args!("public key  {}", keystore.public_key()))?;
        output.line(format_args!("phrase      {}", *phrase))?;
        output.note(
            "Write the 24 words down and keep them apart from this machine: they are the only way back to",
        );
        output.note("your records if the machine is lost, and whoever has them can read everything.");
    }
    Ok(Exit::Ok)
}

fn show(session: &Session) -> anyhow::Result<Exit> {
    let keystore = Keystore::load(&session.keystore_path())?;
    if session.output().is_json() {
        session.output().json(&json!({
            "public_key": keystore.public_key(),
            "keystore": session.keystore_path(),
            "passphrase": keystore.has_passphrase(),
        }))?;
    } else {
        session.output().line(keystore.public_key())?;
    }
    Ok(Exit::Ok)
}

fn export(session: &Session) -> anyhow::Result<Exit> {
    let phrase = session.unlock()?.phrase();
    if session.output().is_json() {
        session.output().json(&json!({ "phrase": *phrase }))?;
    } else {
        session.output().line(&*phrase)?;
    }
    Ok(Exit::Ok)
}

fn import(session: &Session, args: &Import) -> anyhow::Result<Exit> {
    check_free(session, args.force)?;
    let phrase = read_phrase(args)?;
    let seed = Seed::from_phrase(&phrase).map_err(|error| Failure::new(Exit::Failed, error.to_string()))?;
    let keystore = save(session, &seed, args.force)?;
    if session.output().is_json() {
        session.output().json(&json!({ "public_key": keystore.public_key() }))?;
    } else {
        session.output().line(format_args!("public key  {}", keystore.public_key()))?;
    }
    Ok(Exit::Ok)
}

fn read_phrase(args: &Import) -> anyhow::Result<Zeroizing<String>> {
    let mut phrase = Zeroizing::new(String::new());
    match &args.from {
        Some(path) => {
            let read = input::open(path)?.take(MAX_PHRASE_LEN).read_to_string(&mut phrase);
            read.with_context(|| format!("cannot read {}", path.display()))?;
        }
        None if io::stdin().is_terminal() => return passphrase::ask("The 24 words: "),
        None => {
            io::stdin().take(MAX_PHRASE_LEN).read_to_string(&mut phrase)?;
        }
    }
    Ok(phrase)
}

/// Refuses early if there is a keystore, before a passphrase is asked for.
fn check_free(session: &Session, force: bool) -> anyhow::Result<()> {
    let path = session.keystore_path();
    if !force && path.exists() {
        return Err(crate::client::keystore::KeystoreError::Exists { path }.into());
    }
    Ok(())
}

fn save(session: &Session, seed: &Seed, force: bool) -> anyhow::Result<Keystore> {
    let passphrase = match session.given_passphrase()? {
        Some(given) if given.passphrase.is_empty() => {
            let message = format!("{} is empty", given.origin);
            let hint =
                "a key without a passphrase is made at a terminal only: leave it unset, and enter nothing";
            return Err(Failure::new(Exit::WrongPassphrase, message).hint(hint).into());
        }
        Some(given) => given.passphrase,
        None => passphrase::ask_new()?,
    };
    let home = session.home();
    std::fs::create_dir_all(home).with_context(|| format!("cannot make {}", home.display()))?;
    let path = session.keystore_path();
    if force && path.exists() {
        let mut random = [0; 4];
        getrandom::fill(&mut random)?;
        let backup = home.join(format!("keystore.old-{}", data_encoding::HEXLOWER.encode(&random)));
        Keystore::replace(&path, &backup)?;
        session.output().note(format_args!("the old keystore is now {}", backup.display()));
    }
    let mut random = SealRandom { salt: [0; 16], nonce: [0; 24] };
    getrandom::fill(&mut random.salt)?;
    getrandom::fill(&mut random.nonce)?;
    Ok(Keystore::create(&path, seed, &passphrase, Cost::INTERACTIVE, &random)?)
}
