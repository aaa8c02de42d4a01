//! The whole system under load: six storage nodes and a client, each a process of its own, on loopback.
//!
//! `scripts/bench [--quick] [--only NAME]` runs this and writes one JSON line a figure. CPU seconds per
//! GB (10⁹ bytes of user data), summed over all processes, are the figures that hold on a noisy machine;
//! beside them stands the limit model: the sum of the stages' costs measured in the same run.

mod model;
mod network;
mod process;
mod workloads;

use std::path::PathBuf;
use std::process::ExitCode;

/// What to run, from the command line.
#[derive(Debug)]
struct Options {
    /// A tenth of the data and of the repetitions: to see that it works.
    quick: bool,
    /// Only workloads whose name holds this.
    only: Option<String>,
    /// Where the network's data go.
    dir: PathBuf,
}

fn main() -> ExitCode {
    let options = match options() {
        Ok(options) => options,
        Err(wrong) => {
            eprintln!("{wrong}\nusage: scripts/bench [--quick] [--only NAME] [--dir DIR]");
            return ExitCode::from(2);
        }
    };
    // `cargo test --benches` builds and starts this without `--bench`: nothing to measure then.
    if !std::env::args().any(|arg| arg == "--bench") {
        return ExitCode::SUCCESS;
    }
    match workloads::run_all(&options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failed) => {
            eprintln!("bench failed: {failed:#}");
            ExitCode::FAILURE
        }
    }
}

fn options() -> Result<Options, String> {
    let mut options = Options { quick: false, only: None, dir: std::env::temp_dir() };
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        let mut value = || args.next().ok_or_else(|| format!("{arg} needs a value"));
        match arg.as_str() {
            "--bench" | "--test" | "--nocapture" => {}
            "--quick" => options.quick = true,
            "--only" => options.only = Some(value()?),
            "--dir" => options.dir = value()?.into(),
            _ => return Err(format!("unknown argument {arg}")),
        }
    }
    Ok(options)
}
