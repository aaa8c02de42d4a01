//! The `xvault` program: everything is in [`xvault::cli`].

use std::process::ExitCode;

fn main() -> ExitCode {
    xvault::cli::run(std::env::args_os())
}
