//! Where passphrases come from: a file, the environment, a command, the terminal; never an argument.

use std::fs::File;
use std::io::{self, IsTerminal as _, Read as _};
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::Context as _;
use zeroize::Zeroizing;

use crate::cli::exit::{Exit, Failure};

/// Bytes of a passphrase file or of a command's output that are read.
const MAX_LEN: u64 = 64 * 1024;

/// A passphrase that nobody had to type.
pub(crate) struct Given {
    pub(crate) passphrase: Zeroizing<String>,
    /// Says where it is from, for the error if it is wrong.
    pub(crate) origin: String,
}

/// The passphrase from the first of these that is set: the file, XVAULT_PASSPHRASE,
/// XVAULT_PASSPHRASE_FILE, XVAULT_PASSPHRASE_COMMAND.
pub(crate) fn given(file: Option<&Path>) -> anyhow::Result<Option<Given>> {
    let from_file = |path: &Path| {
        let shown = path.display();
        let passphrase = File::open(path)
            .and_then(first_line)
            .with_context(|| format!("cannot read the passphrase file {shown}"))?;
        Ok(Some(Given { passphrase, origin: format!("the passphrase in {shown}") }))
    };
    if let Some(path) = file {
        return from_file(path);
    }
    if let Ok(passphrase) = std::env::var("XVAULT_PASSPHRASE") {
        let passphrase = Zeroizing::new(passphrase);
        return Ok(Some(Given { passphrase, origin: "the passphrase in XVAULT_PASSPHRASE".into() }));
    }
    if let Some(path) = std::env::var_os("XVAULT_PASSPHRASE_FILE") {
        return from_file(Path::new(&path));
    }
    match std::env::var("XVAULT_PASSPHRASE_COMMAND") {
        Ok(command) => {
            let passphrase = from_command(&command)?;
            Ok(Some(Given { passphrase, origin: "the passphrase from XVAULT_PASSPHRASE_COMMAND".into() }))
        }
        Err(_) => Ok(None),
    }
}

/// Asks on the terminal, without showing what is typed.
pub(crate) fn ask(prompt: &str) -> anyhow::Result<Zeroizing<String>> {
    if !io::stderr().is_terminal() {
        return Err(nobody_to_ask().into());
    }
    let typed = rpassword::prompt_password(prompt).map_err(|_| nobody_to_ask())?;
    Ok(Zeroizing::new(typed))
}

/// Asks for a new passphrase twice, so that a slip does not lock its owner out.
pub(crate) fn ask_new() -> anyhow::Result<Zeroizing<String>> {
    let first = ask("New passphrase (empty for none): ")?;
    let second = ask("The same again: ")?;
    if *first != *second {
        return Err(Failure::new(Exit::WrongPassphrase, "the two passphrases differ").into());
    }
    Ok(first)
}

fn nobody_to_ask() -> Failure {
    Failure::new(Exit::WrongPassphrase, "a passphrase is needed, and there is no terminal to ask on")
        .hint("set XVAULT_PASSPHRASE, XVAULT_PASSPHRASE_FILE or XVAULT_PASSPHRASE_COMMAND, or use --passphrase-file")
}

fn from_command(command: &str) -> anyhow::Result<Zeroizing<String>> {
    let mut child = Command::new("sh")
        .args(["-c", command])
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot run XVAULT_PASSPHRASE_COMMAND")?;
    let line = child.stdout.take().map(first_line).transpose();
    let status = child.wait().context("cannot run XVAULT_PASSPHRASE_COMMAND")?;
    if !status.success() {
        let message = format!("XVAULT_PASSPHRASE_COMMAND failed: {status}");
        return Err(Failure::new(Exit::WrongPassphrase, message).into());
    }
    Ok(line.context("cannot read the output of XVAULT_PASSPHRASE_COMMAND")?.unwrap_or_default())
}

fn first_line(from: impl io::Read) -> io::Result<Zeroizing<String>> {
    let mut text = Zeroizing::new(String::new());
    from.take(MAX_LEN).read_to_string(&mut text)?;
    Ok(Zeroizing::new(text.lines().next().unwrap_or_default().to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_first_line_counts() {
        for (text, line) in [("a b \n", "a b "), ("a\r\nb\n", "a"), ("", ""), ("\nx", "")] {
            assert_eq!(*first_line(text.as_bytes()).unwrap(), line);
        }
        assert!(first_line(&b"\xff\n"[..]).is_err());
    }

    #[test]
    fn a_command_gives_its_first_line_unless_it_fails() {
        assert_eq!(*from_command("printf 'secret\\nmore\\n'").unwrap(), "secret");
        let failed = from_command("echo secret; exit 3").unwrap_err();
        assert_eq!(Exit::of(&failed), Exit::WrongPassphrase);
    }
}
