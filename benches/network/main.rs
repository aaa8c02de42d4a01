//! The figures of the README, measured: a fresh devnet as separate processes, a client, and their CPU time.
//!
//! `scripts/bench` runs it. Each line of its output is one figure as JSON. CPU seconds are summed over all
//! processes, for 10⁹ bytes of user data: on a machine that others use too they are what holds; elapsed times
//! are what this run saw. The limit model is the sum of the stage costs measured just before, in [`model`].
#![expect(clippy::disallowed_methods, reason = "a benchmark is a shell: it starts programs and reads clocks")]

mod access;
mod large;
mod ledger;
mod model;
mod network;
mod report;
mod rest;
mod small;

use std::path::PathBuf;
use std::process::ExitCode;

use report::Report;

/// What to measure.
struct Options {
    /// Only workloads whose name contains this.
    only: Option<String>,
    /// Bytes of the large record.
    large_bytes: u64,
    /// Records of the long listing.
    listed: u64,
    /// Records that are anchored by many writers.
    anchored: u64,
    /// Where the devnets live; removed afterwards.
    dir: PathBuf,
    /// What another such process runs, to measure memory.
    use_vaults: Option<PathBuf>,
}

impl Options {
    fn parse() -> Result<Self, String> {
        let mut options = Self {
            only: None,
            large_bytes: 1 << 30,
            listed: 100_000,
            anchored: 20_000,
            dir: std::env::temp_dir(),
            use_vaults: None,
        };
        let mut args = std::env::args().skip(1);
        while let Some(arg) = args.next() {
            // What `cargo bench` says to every benchmark.
            if arg == "--bench" {
                continue;
            }
            let value = args.next().ok_or_else(|| format!("{arg} needs a value"))?;
            let number = || value.parse::<u64>().map_err(|error| format!("{arg} {value}: {error}"));
            match arg.as_str() {
                "--only" => options.only = Some(value),
                "--large-mib" => options.large_bytes = number()? << 20,
                "--listed" => options.listed = number()?,
                "--anchored" => options.anchored = number()?,
                "--dir" => options.dir = value.into(),
                "--use-vaults" => options.use_vaults = Some(value.into()),
                _ => {
                    return Err(format!(
                        "unknown option {arg}; known: --only, --large-mib, --listed, --anchored, --dir"
                    ));
                }
            }
        }
        Ok(options)
    }

    fn wants(&self, name: &str) -> bool {
        self.only.as_deref().is_none_or(|only| name.contains(only))
    }
}

fn main() -> ExitCode {
    let outcome = match Options::parse() {
        Ok(options) => match &options.use_vaults {
            Some(folder) => rest::use_vaults(folder),
            None => run(&options),
        },
        Err(error) => Err(error.into()),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> report::Outcome<()> {
    let report = Report::begin()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let stages = model::measure(&runtime, &options.dir)?;
    report.stages(&stages);
    if options.wants("large") {
        large::run(options, &report, &stages, &runtime)?;
    }
    if options.wants("ledger") {
        ledger::run(options, &report, &runtime)?;
    }
    if options.wants("access") {
        access::run(options, &report, &runtime)?;
    }
    if options.wants("access: vaults") {
        rest::of_vaults(options, &report)?;
    }
    for (name, workload) in small::WORKLOADS {
        if options.wants(name) {
            workload(options, &report, &runtime)?;
        }
    }
    Ok(())
}
