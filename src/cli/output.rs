//! What goes where: results on stdout; notes, warnings, progress and errors on stderr.

use std::borrow::Cow;
use std::fmt::{self, Display, Write as _};
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

/// Ends a colour.
const PLAIN: &str = "\x1b[0m";

impl Paint {
    /// Begins the colour.
    const fn code(self) -> &'static str {
        match self {
            Self::Good => "\x1b[32m",
            Self::Caution => "\x1b[33m",
            Self::Bad => "\x1b[31m",
        }
    }
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
            self.bars.suspend(|| say(format_args!("warning: {}", indent(&text.to_string()))));
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

    /// Writes a line of the result. Commands escape what others named; whatever they forget, no control character but
    /// those of [`paint`](Self::paint) reaches a terminal.
    pub(crate) fn line(&self, text: impl Display) -> Result<(), Failure> {
        self.write(|to| write_tamed(to, &text))
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
            self.bars.suspend(|| write_tamed(&mut io::stderr().lock(), &text)).ok();
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
        if self.color { format!("{}{word}{PLAIN}", paint.code()) } else { word.to_owned() }
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
pub(crate) fn indent(message: &str) -> String {
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

/// Writes a line as [`tame`] has it. Nothing of it is copied, since some lines are secrets.
fn write_tamed(to: &mut dyn Write, text: &dyn Display) -> io::Result<()> {
    let mut tamer = Tamer { to, failed: None };
    let written = writeln!(tamer, "{text}");
    match tamer.failed {
        Some(error) => Err(error),
        None => written.map_err(io::Error::other),
    }
}

/// Tames what is written through it.
struct Tamer<'a> {
    to: &'a mut dyn Write,
    failed: Option<io::Error>,
}

impl fmt::Write for Tamer<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.to.write_all(tame(text).as_bytes()).map_err(|error| {
            self.failed = Some(error);
            fmt::Error
        })
    }
}

/// Text with no control character but ends of lines, tabs and our own colours.
fn tame(text: &str) -> Cow<'_, str> {
    let is_tame = |c: char| matches!(c, '\n' | '\t') || !(c.is_control() || is_invisible(c));
    if text.chars().all(is_tame) {
        return Cow::Borrowed(text);
    }
    let ours = [PLAIN, Paint::Good.code(), Paint::Caution.code(), Paint::Bad.code()];
    let (mut shown, mut rest) = (String::with_capacity(text.len()), text);
    while let Some(c) = rest.chars().next() {
        let paint = ours.iter().find(|code| rest.starts_with(**code));
        let len = paint.map_or_else(|| c.len_utf8(), |code| code.len());
        if paint.is_some() || is_tame(c) {
            shown.push_str(&rest[..len]);
        } else {
            shown.extend(c.escape_default());
        }
        rest = &rest[len..];
    }
    Cow::Owned(shown)
}

/// Line separators, characters of no width, the controls of writing direction, and tags.
const fn is_invisible(c: char) -> bool {
    matches!(
        c,
        '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}'
    )
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
            ("a\u{61c}b\u{ad}", "a\\u{61c}b\\u{ad}"),
            ("\u{9b}2J", "\\u{9b}2J"),
        ] {
            assert_eq!(escape(name), shown);
        }
    }

    #[test]
    fn a_message_cannot_forge_a_line_of_ours() {
        assert_eq!(indent("no x\nerror: y\x1b[2J\n"), "no x\n  error: y\\u{1b}[2J");
    }

    #[test]
    fn a_name_that_a_command_forgot_to_escape_moves_no_cursor() {
        assert_eq!(tame("plain\ttext\nünï"), "plain\ttext\nünï");
        assert_eq!(tame("\x1b[32mok\x1b[0m  x\x1b[2J\u{202e}"), "\x1b[32mok\x1b[0m  x\\u{1b}[2J\\u{202e}");
        assert_eq!(tame("a\rb\x08"), "a\\rb\\u{8}");
    }

    #[test]
    fn an_error_says_each_cause_once() {
        let error = Err::<(), _>(io::Error::other("disk gone")).context("reading k: disk gone").unwrap_err();
        assert_eq!(chain(&error), "reading k: disk gone");
        let error = Err::<(), _>(io::Error::other("disk gone")).context("reading k").unwrap_err();
        assert_eq!(chain(&error), "reading k: disk gone");
    }
}
