//! `xvault man`

use std::path::PathBuf;

use anyhow::Context as _;

use crate::cli::exit::Exit;
use crate::cli::session::Session;

/// Write the manual pages.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Folder for a page of each command; without it the main page goes to standard output.
    dir: Option<PathBuf>,
}

pub(crate) fn run(session: &Session, args: Args, command: clap::Command) -> anyhow::Result<Exit> {
    match args.dir {
        Some(dir) => {
            std::fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
            clap_mangen::generate_to(command, &dir)
                .with_context(|| format!("cannot write to {}", dir.display()))?;
        }
        None => {
            let mut page = Vec::new();
            clap_mangen::Man::new(command).render(&mut page)?;
            session.output().bytes(&page)?;
        }
    }
    Ok(Exit::Ok)
}
