//! `xvault key`

use std::io::{self, IsTerminal as _, Read as _};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde_json::json;
use zeroize::Zeroizing;

use crate::cli::exit::{Exit, Failure};
use crate::cli::session::Session;
use crate::cli::{input, passphrase, recovery};
use crate::client::keystore::{Keystore, KeystoreError, SealRandom, Secret, write_new};
use crate::client::rotation;
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
    ///
    /// With --device the vault's keys of now go to a file instead, for a device that is not to have the words: if it is stolen,
    /// `xvault vault rotate` makes them useless.
    Export(Export),
    /// Restore a key from its 24 words, which are read from standard input or asked for; or take a device's keys.
    Import(Import),
    /// Cut the key up for guardians, some of whom together can bring it back if you lose all devices and the words.
    ///
    /// Each gets a file, which only they can open. Splitting again names other guardians and ends the shares of before.
    Split(recovery::Split),
    /// Show the vault's guardians, and what is asked of them.
    Guardians,
    /// Object to a request to recover this vault that is not yours.
    Veto(recovery::Veto),
    /// Get the key back from your guardians, on a machine that has no key.
    ///
    /// The first run makes a request for them. Run it again to see how far they are; once enough have released their parts it
    /// restores the key. What it keeps in the home folder meanwhile is sealed with the passphrase that the key will have.
    Recover(recovery::Recover),
}

/// Arguments of `key new`.
#[derive(Debug, clap::Args)]
pub(crate) struct New {
    /// Replace a key; the old keystore is kept beside the new one.
    #[arg(long)]
    force: bool,
}

/// Arguments of `key export`.
#[derive(Debug, clap::Args)]
pub(crate) struct Export {
    /// Write the vault's keys of now to a keystore for a device, in place of printing the words.
    #[arg(long, requires = "output")]
    device: bool,
    /// The keystore's file, which is new; sealed with the passphrase that is given or asked for.
    #[arg(short, long, value_name = "FILE", requires = "device")]
    output: Option<PathBuf>,
}

/// Arguments of `key import`.
#[derive(Debug, clap::Args)]
pub(crate) struct Import {
    /// Take the keys that `xvault key export --device` wrote to this file.
    #[arg(long, value_name = "FILE", conflicts_with = "from")]
    device: Option<PathBuf>,
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
        Command::Export(args) => match &args.output {
            Some(path) => export_device(session, path),
            None => export(session),
        },
        Command::Import(args) => import(session, &args),
        Command::Split(args) => recovery::split(session, &args),
        Command::Guardians => recovery::guardians(session),
        Command::Veto(args) => recovery::veto(session, &args),
        Command::Recover(args) => recovery::recover(session, &args),
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
            "device": keystore.is_device(),
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

/// Only once the next key is pledged: until then a thief of the device could pledge another.
fn export_device(session: &Session, path: &Path) -> anyhow::Result<Exit> {
    let (config, root) = session.rooted_config()?;
    let root = root.ok_or_else(|| KeystoreError::DeviceOnly { path: session.keystore_path() })?;
    let keys = session.run(async {
        let config = session.config_of_now(config, Some(root)).await?;
        rotation::let_device_in(&config, &|text| session.output().warn(text)).await?;
        Ok(config.keys)
    })?;
    let (generation, secret) = (keys.generation(), Secret::Device(Box::new(keys)));
    let passphrase = new_passphrase(session)?;
    let keystore = Keystore::create_of(path, &secret, &passphrase, Cost::INTERACTIVE, &seal_random()?)?;
    let output = session.output();
    if output.is_json() {
        output.json(
            &json!({ "v": 1, "public_key": keystore.public_key(), "generation": generation, "path": path }),
        )?;
    } else {
        output.line(format_args!("public key  {}, of generation {generation}", keystore.public_key()))?;
        output.note(format_args!(
            "on the device: xvault key import --device {}; if it is stolen: xvault vault rotate, here",
            path.display()
        ));
    }
    Ok(Exit::Ok)
}

fn import_device(session: &Session, path: &Path, force: bool) -> anyhow::Result<Exit> {
    let keystore = Keystore::load(path)?;
    if !keystore.is_device() {
        let failure = input::wrong(path, "is not the keystore of a device");
        return Err(failure.hint("one is made with `xvault key export --device`").into());
    }
    session.unlock_at(path)?;
    let bytes = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    set_aside(session, force)?;
    write_new(&session.keystore_path(), &bytes).context("writing the keystore")?;
    if session.output().is_json() {
        session.output().json(&json!({ "public_key": keystore.public_key() }))?;
    } else {
        session.output().line(format_args!("public key  {}", keystore.public_key()))?;
    }
    Ok(Exit::Ok)
}

fn import(session: &Session, args: &Import) -> anyhow::Result<Exit> {
    check_free(session, args.force)?;
    if let Some(path) = &args.device {
        return import_device(session, path, args.force);
    }
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
        return Err(KeystoreError::Exists { path }.into());
    }
    Ok(())
}

/// The passphrase that a key is to have.
pub(crate) fn new_passphrase(session: &Session) -> anyhow::Result<Zeroizing<String>> {
    match session.given_passphrase()? {
        Some(given) if given.passphrase.is_empty() => {
            let message = format!("{} is empty", given.origin);
            let hint =
                "a key without a passphrase is made at a terminal only: leave it unset, and enter nothing";
            Err(Failure::new(Exit::WrongPassphrase, message).hint(hint).into())
        }
        Some(given) => Ok(given.passphrase),
        None => passphrase::ask_new(),
    }
}

fn save(session: &Session, seed: &Seed, force: bool) -> anyhow::Result<Keystore> {
    save_with(session, seed, &new_passphrase(session)?, force)
}

/// Seals the key into the home's keystore.
pub(crate) fn save_with(
    session: &Session,
    seed: &Seed,
    passphrase: &str,
    force: bool,
) -> anyhow::Result<Keystore> {
    set_aside(session, force)?;
    Ok(Keystore::create(&session.keystore_path(), seed, passphrase, Cost::INTERACTIVE, &seal_random()?)?)
}

/// Makes room for a keystore; one that is there is kept beside it.
fn set_aside(session: &Session, force: bool) -> anyhow::Result<()> {
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
    Ok(())
}

fn seal_random() -> anyhow::Result<SealRandom> {
    let mut random = SealRandom { salt: [0; 16], nonce: [0; 24] };
    getrandom::fill(&mut random.salt)?;
    getrandom::fill(&mut random.nonce)?;
    Ok(random)
}
