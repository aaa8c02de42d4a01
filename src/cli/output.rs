//! What goes where: results on stdout; notes, warnings, progress and errors on stderr.

use std::fmt::Display;
use std::fs::File;
use std::io::{self, BufWriter, IsTerminal as _, LineWriter, Write};
use std::os::fd::AsFd as _;
use std::sync::{Mutex, PoisonError};

use clap::ValueEnum;
use indicatif::MultiProgress;
use serde::Serialize;

use crate::cli::exit::{self, Exit, Failure};

/// Whether text is coloured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ColorChoice {
    /// On a terminal, unless NO_COLOR is set.
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

impl ColorChoice {
    /// Whether what goes to a terminal, or to something else, is coloured.
    pub(crate) fn applies(self, terminal: bool) -> bool {
        match self {
            Self::Always => true,
            Self::Never => false,
            Self::Auto => terminal && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty()),
        }
    }
}

/// Colours that carry a meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Paint {
    Good,
    Caution,
    Bad,
}

/// The one way by which commands speak.
///
/// Stdout is buffered: by line on a terminal, by block otherwise, since a listing may have a million
/// lines. [`finish`](Self::finish) writes what is left. Lines on a terminal go above the progress bars.
pub(crate) struct Output {
    json: bool,
    quiet: bool,
    /// Whether every item is worth a line.
    verbose: bool,
    color: bool,
    stdout: Mutex<Box<dyn Write + Send>>,
    bars: MultiProgress,
}

/// What warns from other threads.
#[derive(Debug, Clone)]
pub(crate) struct Warner {
    json: bool,
    quiet: bool,
    bars: MultiProgress,
}

impl Warner {
    /// Warns on stderr, unless quiet.
    pub(crate) fn warn(&self, text: impl Display) {
        if self.quiet {
            return;
        }
        if self.json {
            say(serde_json::json!({ "message_type": "warning", "v": 1, "message": text.to_string() }));
        } else {
            self.bars.suspend(|| say(format_args!("warning: {text}")));
        }
    }
}

impl Output {
    /// An output with no bars on the screen yet; they are added to `bars`.
    pub(crate) fn new(json: bool, quiet: bool, color: ColorChoice, bars: MultiProgress) -> Self {
        let terminal = io::stdout().is_terminal();
        let color = color.applies(terminal);
        let stdout: Box<dyn Write + Send> = if terminal {
            Box::new(LineWriter::new(io::stdout()))
        } else {
            Box::new(BufWriter::with_capacity(64 * 1024, unbuffered_stdout()))
        };
        Self { json, quiet, verbose: false, color, stdout: Mutex::new(stdout), bars }
    }

    /// The same, with a line for every item if it is to be verbose.
    pub(crate) fn verbose(self, verbose: bool) -> Self {
        Self { verbose, ..self }
    }

    /// Whether every item is worth a line.
    pub(crate) const fn is_verbose(&self) -> bool {
        self.verbose
    }

    /// Whether machines read the output.
    pub(crate) const fn is_json(&self) -> bool {
        self.json
    }

    /// Whether nothing but results and errors is wanted.
    pub(crate) const fn is_quiet(&self) -> bool {
        self.quiet
    }

    /// Where progress is drawn.
    pub(crate) const fn bars(&self) -> &MultiProgress {
        &self.bars
    }

    /// Writes a line of the result.
    pub(crate) fn line(&self, text: impl Display) -> Result<(), Failure> {
        self.write(|to| writeln!(to, "{text}"))
    }

    /// Writes a line of JSON as (part of) the result.
    pub(crate) fn json(&self, value: &impl Serialize) -> Result<(), Failure> {
        self.write(|to| {
            serde_json::to_writer(&mut *to, value)?;
            to.write_all(b"\n")
        })
    }

    /// Writes bytes of the result as they are.
    pub(crate) fn bytes(&self, bytes: &[u8]) -> Result<(), Failure> {
        self.write(|to| to.write_all(bytes))
    }

    /// Says something on stderr that is no part of the result, unless quiet or for machines.
    pub(crate) fn note(&self, text: impl Display) {
        if !self.quiet && !self.json {
            self.bars.suspend(|| say(text));
        }
    }

    /// Warns on stderr, unless quiet.
    pub(crate) fn warn(&self, text: impl Display) {
        self.warner().warn(text);
    }

    /// What warns on this output from other threads.
    pub(crate) fn warner(&self) -> Warner {
        Warner { json: self.json, quiet: self.quiet, bars: self.bars.clone() }
    }

    /// Reports an error that does not end the command.
    pub(crate) fn error(&self, error: &anyhow::Error) {
        self.bars.suspend(|| report(self.json, "error", error));
    }

    /// The word in the colour of its meaning.
    pub(crate) fn paint(&self, paint: Paint, word: &str) -> String {
        let code = match paint {
            Paint::Good => 32,
            Paint::Caution => 33,
            Paint::Bad => 31,
        };
        if self.color { format!("\x1b[{code}m{word}\x1b[0m") } else { word.to_owned() }
    }

    /// Writes what is still buffered.
    pub(crate) fn finish(&self) -> Result<(), Failure> {
        self.write(|to| to.flush())
    }

    fn write(&self, write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<(), Failure> {
        let mut stdout = self.stdout.lock().unwrap_or_else(PoisonError::into_inner);
        self.bars.suspend(|| write(&mut *stdout)).map_err(|error| match error.kind() {
            io::ErrorKind::BrokenPipe => Failure::new(Exit::BrokenPipe, "the reader of stdout went away"),
            io::ErrorKind::StorageFull => {
                Failure::new(Exit::Full, format!("cannot write to stdout: {error}"))
            }
            _ => Failure::new(Exit::Failed, format!("cannot write to stdout: {error}")),
        })
    }
}

/// Reports the error that ends the command: text and a hint, or one line of JSON, on stderr.
pub(crate) fn report_final(json: bool, error: &anyhow::Error) {
    report(json, "exit_error", error);
}

fn report(json: bool, message_type: &str, error: &anyhow::Error) {
    let (exit, hint) = (Exit::of(error), exit::hint(error));
    let message = chain(error);
    if json {
        say(serde_json::json!({
            "message_type": message_type,
            "v": 1,
            "code": exit.code(),
            "kind": exit.name(),
            "retry": exit.retry(),
            "message": message,
            "hint": hint,
        }));
    } else {
        say(format_args!("error: {}", indent(&message)));
        if let Some(hint) = hint {
            say(format_args!("hint: {}", indent(&hint)));
        }
    }
}

/// The error and its causes in one line; a cause that its parent already quotes is left out.
pub(crate) fn chain(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain() {
        let cause = cause.to_string();
        if text.is_empty() {
            text = cause;
        } else if !text.ends_with(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    text
}

/// Writes a line to stderr; there is nobody to tell if that fails.
fn say(text: impl Display) {
    writeln!(io::stderr().lock(), "{text}").ok();
}

/// Stdout without the line buffer that the standard library puts before it.
fn unbuffered_stdout() -> Box<dyn Write + Send> {
    match io::stdout().as_fd().try_clone_to_owned() {
        Ok(fd) => Box::new(File::from(fd)),
        Err(_) => Box::new(io::stdout()),
    }
}

/// A name that is safe to show: control characters and those that reorder or hide text become
/// escapes, and so does the backslash, so that no two names look the same.
pub(crate) fn escape(name: &str) -> String {
    let mut shown = String::with_capacity(name.len());
    for c in name.chars() {
        if c == '\\' || c.is_control() || is_invisible(c) {
            shown.extend(c.escape_default());
        } else {
            shown.push(c);
        }
    }
    shown
}

/// A message that may quote names and have several lines: no control character reaches the terminal,
/// and no line of it looks like one of ours.
fn indent(message: &str) -> String {
    let mut shown = String::with_capacity(message.len());
    for c in message.trim_end().chars() {
        match c {
            '\n' => shown.push_str("\n  "),
            c if c.is_control() || is_invisible(c) => shown.extend(c.escape_default()),
            c => shown.push(c),
        }
    }
    shown
}

/// Line separators, zero-width characters, and the controls of writing direction.
const fn is_invisible(c: char) -> bool {
    matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use anyhow::Context as _;

    use super::*;

    #[test]
    fn no_name_can_forge_another_line_or_order() {
        for (name, shown) in [
            ("scan 1.dcm", "scan 1.dcm"),
            ("ünï/日本", "ünï/日本"),
            ("a\nb", "a\\nb"),
            ("a\\nb", "a\\\\nb"),
            ("\x1b[2Jx", "\\u{1b}[2Jx"),
            ("gpj.\u{202e}exe", "gpj.\\u{202e}exe"),
        ] {
            assert_eq!(escape(name), shown);
        }
    }

    #[test]
    fn a_message_cannot_forge_a_line_of_ours() {
        assert_eq!(indent("no x\nerror: y\x1b[2J\n"), "no x\n  error: y\\u{1b}[2J");
    }

    #[test]
    fn an_error_says_each_cause_once() {
        let error = Err::<(), _>(io::Error::other("disk gone")).context("reading k: disk gone").unwrap_err();
        assert_eq!(chain(&error), "reading k: disk gone");
        let error = Err::<(), _>(io::Error::other("disk gone")).context("reading k").unwrap_err();
        assert_eq!(chain(&error), "reading k: disk gone");
    }
}
