//! `xvault completions`

use crate::cli::exit::Exit;
use crate::cli::session::Session;

/// Print a script that completes commands and arguments in a shell.
///
/// For example: `xvault completions bash > ~/.local/share/bash-completion/completions/xvault`
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Which shell.
    shell: clap_complete::Shell,
}

pub(crate) fn run(session: &Session, args: Args, command: &mut clap::Command) -> anyhow::Result<Exit> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, command, "xvault", &mut script);
    session.output().bytes(&script)?;
    Ok(Exit::Ok)
}
