//! The command line: one file per command, each an `Args` struct whose doc comments are the manual,
//! and one function.
//!
//! This file has the arguments that all commands share and the dispatch; [`exit`] says how errors
//! become exit codes, [`output`] what goes to stdout and what to stderr, and [`session`] how a command
//! gets from folders and passphrases to an open vault.

mod access;
mod address;
mod anchor;
mod batch;
mod cat;
mod certificate;
mod collection;
mod completions;
mod cp;
mod devnet;
mod doctor;
mod emergency;
mod erase;
mod exit;
mod folder;
mod format;
mod get;
mod govern;
mod grant;
mod guardian;
mod input;
mod key;
mod ledger;
mod ls;
mod man;
mod media_type;
mod network;
mod news;
mod node;
mod output;
mod parse;
mod passphrase;
mod progress;
mod put;
mod receipt;
mod recover;
mod recovery;
mod registry;
mod rm;
mod role;
mod rotate;
mod session;
mod stat;
mod static_node;
mod sync;
mod vault;
mod verify;
mod versions;
mod walk;

use std::ffi::OsString;
use std::io::IsTerminal as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{ArgAction, Args, CommandFactory as _, Parser, Subcommand};

use crate::cli::exit::{Exit, Failure};
use crate::cli::output::ColorChoice;
use crate::cli::progress::ProgressMode;
use crate::cli::session::Session;

/// Encrypted records on many nodes: any k shards bring them back, and only you can read them.
///
/// Records live in collections and are addressed as xv://COLLECTION/NAME. To try it out, run
/// `xvault devnet` and type what it prints.
#[derive(Debug, Parser)]
#[command(name = "xvault", version, max_term_width = 100, disable_help_subcommand = true)]
struct Cli {
    #[command(flatten)]
    globals: Globals,
    #[command(subcommand)]
    command: Command,
}

/// Arguments of every command. `-h` shows the everyday ones only.
#[derive(Debug, Args)]
#[command(next_help_heading = "Global options")]
pub(crate) struct Globals {
    /// Folder of the keystore and the vaults' local state [default: the user's data folder for xvault].
    #[arg(
        long,
        global = true,
        hide_short_help = true,
        value_name = "DIR",
        env = "XVAULT_HOME",
        hide_env_values = true
    )]
    pub(crate) home: Option<PathBuf>,

    /// Network file [default: network.toml in the home folder, else that of the devnet there].
    #[arg(
        long,
        global = true,
        hide_short_help = true,
        value_name = "FILE",
        env = "XVAULT_NETWORK",
        hide_env_values = true
    )]
    pub(crate) network: Option<PathBuf>,

    /// Read the passphrase from the first line of this file.
    ///
    /// Without it the passphrase is taken from XVAULT_PASSPHRASE, from the file that
    /// XVAULT_PASSPHRASE_FILE names, from the output of the command in XVAULT_PASSPHRASE_COMMAND, or
    /// asked for on the terminal, in this order. It is never an argument: others can see those.
    #[arg(long, global = true, hide_short_help = true, value_name = "FILE")]
    pub(crate) passphrase_file: Option<PathBuf>,

    /// Write results and errors as JSON, for programs.
    #[arg(long, global = true)]
    pub(crate) json: bool,

    /// Write nothing but results and errors.
    #[arg(short, long, global = true)]
    pub(crate) quiet: bool,

    /// A line for every item, and a log of what happens on stderr; twice for details.
    #[arg(short, long, global = true, action = ArgAction::Count)]
    pub(crate) verbose: u8,

    /// When to colour text.
    #[arg(long, global = true, hide_short_help = true, value_name = "WHEN", value_enum, default_value_t = ColorChoice::Auto)]
    pub(crate) color: ColorChoice,

    /// How to show progress.
    #[arg(long, global = true, hide_short_help = true, value_name = "HOW", value_enum, default_value_t = ProgressMode::Auto)]
    pub(crate) progress: ProgressMode,
}

#[derive(Debug, Subcommand)]
enum Command {
    #[command(subcommand)]
    Key(key::Command),
    #[command(subcommand)]
    Vault(vault::Command),
    Put(put::Args),
    Get(get::Args),
    Cat(cat::Args),
    Ls(ls::Args),
    Stat(stat::Args),
    Versions(versions::Args),
    #[command(subcommand)]
    Access(access::Command),
    Grant(grant::Args),
    Grants(grant::ListArgs),
    Revoke(grant::RevokeArgs),
    #[command(subcommand)]
    Scope(grant::ScopeCommand),
    #[command(subcommand)]
    Emergency(emergency::Command),
    #[command(subcommand)]
    Role(role::Command),
    Cp(cp::Args),
    Rm(rm::Args),
    #[command(subcommand)]
    Collection(collection::Command),
    Erase(erase::Args),
    #[command(subcommand)]
    Guardian(guardian::Command),
    #[command(subcommand)]
    Receipt(receipt::Command),
    Verify(verify::Args),
    Recover(recover::Args),
    Sync(sync::Args),
    #[command(subcommand)]
    Node(node::Command),
    #[command(subcommand, name = "static")]
    StaticNode(static_node::Command),
    #[command(subcommand)]
    Network(network::Command),
    #[command(subcommand)]
    Ledger(ledger::Command),
    Doctor(doctor::Args),
    Devnet(devnet::Args),
    Completions(completions::Args),
    Man(man::Args),
}

/// Runs the program with these arguments, the first of which is its name, and reports how it ended.
///
/// Errors are reported on stderr before this returns.
#[must_use]
pub fn run(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let args: Vec<OsString> = args.into_iter().collect();
    let json = args.iter().any(|arg| arg == "--json");
    let cli = match Cli::try_parse_from(&args) {
        Ok(cli) => cli,
        Err(error) => return usage(json, &error).into(),
    };
    let done = catch_unwind(AssertUnwindSafe(|| execute(cli)));
    let result = done.unwrap_or_else(|_| Err(Failure::new(Exit::Internal, "a bug in xvault").into()));
    match result {
        Ok(exit) => exit.into(),
        Err(error) => {
            let exit = Exit::of(&error);
            if exit != Exit::BrokenPipe {
                output::report_final(json, &error);
            }
            exit.into()
        }
    }
}

/// Reports what is wrong with the command line; help and version are no errors.
fn usage(json: bool, error: &clap::Error) -> Exit {
    if !error.use_stderr() {
        return if error.print().is_ok() { Exit::Ok } else { Exit::BrokenPipe };
    }
    if json {
        let text = error.to_string();
        output::report_final(json, &Failure::usage(text.trim_start_matches("error: ").trim_end()).into());
    } else {
        error.print().ok();
    }
    Exit::Usage
}

fn execute(cli: Cli) -> anyhow::Result<Exit> {
    start_log(&cli.globals);
    let session = Session::new(cli.globals)?;
    let exit = dispatch(cli.command, &session)?;
    session.output().finish()?;
    Ok(exit)
}

fn dispatch(command: Command, session: &Session) -> anyhow::Result<Exit> {
    match command {
        Command::Key(command) => key::run(session, command),
        Command::Vault(command) => vault::run(session, command),
        Command::Put(args) => {
            let hint = args.interrupted_hint();
            if let Some(grant) = args.grant {
                return session
                    .with_shared(grant, async |shared| put::run_shared(session, shared, args).await);
            }
            session.with_client_hinting(hint, async |client| put::run(session, client, args).await)
        }
        Command::Get(args) => match args.grant {
            Some(grant) => {
                session.with_shared(grant, async |shared| get::run_shared(session, shared, args).await)
            }
            None => session.with_client(async |client| get::run(session, client, args).await),
        },
        Command::Cat(args) => match args.grant {
            Some(grant) => {
                session.with_shared(grant, async |shared| cat::run_shared(session, shared, args).await)
            }
            None => session.with_client(async |client| cat::run(session, client, args).await),
        },
        Command::Ls(args) => match args.grant {
            Some(grant) => {
                session.with_shared(grant, async |shared| ls::run_shared(session, shared, args).await)
            }
            None => session.with_client(async |client| ls::run(session, client, args).await),
        },
        Command::Stat(args) => match args.grant {
            Some(grant) => {
                session.with_shared(grant, async |shared| stat::run_shared(session, shared, args).await)
            }
            None => session.with_client(async |client| stat::run(session, client, args).await),
        },
        Command::Versions(args) => match args.grant {
            Some(grant) => {
                session.with_shared(grant, async |shared| versions::run_shared(session, shared, args).await)
            }
            None => session.with_client(async |client| versions::run(session, client, args).await),
        },
        Command::Access(command) => access::run(session, command),
        Command::Grant(args) => session.with_client(async |client| grant::run(session, client, args).await),
        Command::Grants(args) => {
            session.with_client(async |client| grant::list(session, client, &args).await)
        }
        Command::Revoke(args) => {
            session.with_client(async |client| grant::revoke(session, client, &args).await)
        }
        Command::Scope(command) => {
            session.with_client(async |client| grant::scope(session, client, command).await)
        }
        Command::Emergency(command) => emergency::run(session, command),
        Command::Role(command) => role::run(session, command),
        Command::Cp(args) => session.with_client(async |client| cp::run(session, client, args).await),
        Command::Rm(args) => session.with_client(async |client| rm::run(session, client, args).await),
        Command::Collection(command) => {
            session.with_client(async |client| collection::run(session, client, command).await)
        }
        Command::Erase(args) => session.with_client(async |client| erase::run(session, client, args).await),
        Command::Receipt(command) => {
            session.with_client(async |client| receipt::run(session, client, command).await)
        }
        Command::Guardian(command) => guardian::run(session, command),
        Command::Verify(args) => verify::run(session, &args),
        Command::Recover(args) => {
            session.with_client_of_now(async |client| recover::run(session, client, args).await)
        }
        Command::Sync(args) => session.with_client(async |client| sync::run(session, client, args).await),
        Command::Node(command) => node::run(session, command),
        Command::StaticNode(command) => static_node::run(session, command),
        Command::Network(command) => network::run(session, command),
        Command::Ledger(command) => ledger::run(session, command),
        Command::Doctor(args) => doctor::run(session, args),
        Command::Devnet(args) => devnet::run(session, args),
        Command::Completions(args) => completions::run(session, args, &mut Cli::command()),
        Command::Man(args) => man::run(session, args, Cli::command()),
    }
}

/// Logs to stderr: errors only by default, since commands report their own; XVAULT_LOG overrides.
fn start_log(globals: &Globals) {
    use tracing_subscriber::EnvFilter;
    let default = match (globals.quiet, globals.verbose) {
        (true, _) => "off",
        (false, 0) => "error",
        (false, 1) => "xvault=info,warn",
        (false, _) => "xvault=debug,info",
    };
    let filter = EnvFilter::try_from_env("XVAULT_LOG").unwrap_or_else(|_| EnvFilter::new(default));
    let color = globals.color.applies(std::io::stderr().is_terminal());
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_ansi(color);
    log.with_writer(std::io::stderr).try_init().ok();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_tree_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_and_argument_has_help() {
        fn check(command: &clap::Command, path: &str) {
            assert!(command.get_about().is_some(), "{path} has no help");
            for argument in command.get_arguments() {
                let id = argument.get_id();
                assert!(argument.get_help().is_some(), "{path}: {id} has no help");
            }
            for inner in command.get_subcommands() {
                check(inner, &format!("{path} {}", inner.get_name()));
            }
        }
        check(&Cli::command(), "xvault");
    }
}
