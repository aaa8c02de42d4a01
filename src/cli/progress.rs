//! How far transfers are: bars on a terminal, lines for logs, nothing otherwise.

use std::io::{self, IsTerminal as _, Write as _};
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::ValueEnum;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio::task::AbortHandle;

use crate::cli::format;
use crate::cli::output::Output;
use crate::client::AtomicProgress;

/// Work shorter than this shows no bar.
const BAR_AFTER: Duration = Duration::from_secs(1);

/// How often a bar moves.
const BAR_EVERY: Duration = Duration::from_millis(100);

/// How often a line is written.
const LINE_EVERY: Duration = Duration::from_secs(10);

/// How progress is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ProgressMode {
    /// A bar if stderr is a terminal, otherwise nothing.
    Auto,
    /// A bar.
    Bar,
    /// A line every ten seconds; with --json a status line of JSON.
    Line,
    /// Nothing.
    None,
}

impl ProgressMode {
    /// Where bars are drawn.
    pub(crate) fn target(self, silent: bool) -> ProgressDrawTarget {
        let bars = match self {
            Self::Auto => io::stderr().is_terminal(),
            Self::Bar => true,
            Self::Line | Self::None => false,
        };
        if bars && !silent { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() }
    }
}

/// Shows progress until it is dropped.
#[derive(Debug)]
pub(crate) struct Meter {
    task: Option<AbortHandle>,
    bar: ProgressBar,
}

impl Meter {
    /// Starts to watch, in the background of the current runtime.
    pub(crate) fn start(
        mode: ProgressMode,
        output: Arc<Output>,
        verb: &'static str,
        progress: Arc<AtomicProgress>,
    ) -> Self {
        let bar = ProgressBar::hidden();
        let task = match mode {
            ProgressMode::Line if !output.is_quiet() => Some(tokio::spawn(lines(output, verb, progress))),
            _ if output.bars().is_hidden() => None,
            _ => Some(tokio::spawn(move_bar(output, verb, progress, bar.clone()))),
        };
        Self { task: task.map(|task| task.abort_handle()), bar }
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
        self.bar.finish_and_clear();
    }
}

async fn move_bar(output: Arc<Output>, verb: &'static str, progress: Arc<AtomicProgress>, bar: ProgressBar) {
    tokio::time::sleep(BAR_AFTER).await;
    let style = "{msg} {bar:30} {percent:>3} %  {bytes} of {total_bytes}  {bytes_per_sec}  {eta} left";
    if let Ok(style) = ProgressStyle::with_template(style) {
        bar.set_style(style);
    }
    let bar = output.bars().add(bar);
    bar.set_message(verb);
    loop {
        bar.set_length(progress.total().max(progress.done()));
        bar.set_position(progress.done());
        tokio::time::sleep(BAR_EVERY).await;
    }
}

async fn lines(output: Arc<Output>, verb: &'static str, progress: Arc<AtomicProgress>) {
    let started = Instant::now();
    loop {
        tokio::time::sleep(LINE_EVERY).await;
        let (done, total, seconds) = (progress.done(), progress.total(), started.elapsed().as_secs_f64());
        if output.is_json() {
            let status = serde_json::json!({
                "message_type": "status", "v": 1, "bytes_done": done, "bytes_total": total, "seconds": seconds,
            });
            output.json(&status).ok();
        } else {
            let (done, total) = (format::size(done), format::size(total));
            writeln!(io::stderr(), "{verb}: {done} of {total} in {seconds:.0} s").ok();
        }
    }
}
