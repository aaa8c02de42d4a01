//! Files that a command line names as what the command is about: one that is missing is told from one that is not what it
//! should be, by exit code. The network file and the keystore are the surroundings of a command, and end it as
//! [`Exit::Failed`]: that a record is missing, or its bytes are wrong, must not be confused with them.

use std::fmt::Display;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

use anyhow::Context as _;

use crate::cli::exit::{Exit, Failure};

/// Bytes of the longest file that is read whole: receipts and network files have less.
const MAX_LEN: u64 = 64 << 20;

/// Opens a file for reading.
///
/// # Errors
/// [`Exit::NotFound`] if there is none, else what the system says.
pub(crate) fn open(path: &Path) -> anyhow::Result<File> {
    File::open(path).map_err(|error| unreadable(path, error))
}

/// Why a file cannot be read.
pub(crate) fn unreadable(path: &Path, error: io::Error) -> anyhow::Error {
    let shown = path.display();
    if error.kind() == io::ErrorKind::NotFound {
        return Failure::new(Exit::NotFound, format!("there is no {shown}")).into();
    }
    anyhow::Error::from(error).context(format!("cannot read {shown}"))
}

/// Reads a file of text.
///
/// # Errors
/// [`Exit::NotFound`] if there is none, [`Exit::Corrupt`] if it is no text or longer than any such file, else what the
/// system says.
pub(crate) fn text(path: &Path) -> anyhow::Result<String> {
    let shown = path.display();
    let mut text = String::new();
    match open(path)?.take(MAX_LEN + 1).read_to_string(&mut text) {
        Err(error) if error.kind() == io::ErrorKind::InvalidData => Err(wrong(path, "it is no text").into()),
        Ok(_) if text.len() as u64 > MAX_LEN => Err(wrong(path, "it is too long").into()),
        read => read.map(|_| text).with_context(|| format!("cannot read {shown}")),
    }
}

/// Reads a file of text of at most so many bytes; of a longer one the beginning. The text may be a secret.
///
/// # Errors
/// [`Exit::NotFound`] if there is none, [`Exit::Corrupt`] if it is no text, [`Exit::Failed`] with what the system says.
pub(crate) fn short_text(path: &Path, most: u64, text: &mut String) -> Result<(), Failure> {
    let read = File::open(path).and_then(|file| file.take(most).read_to_string(text));
    read.map(drop).map_err(|error| match error.kind() {
        io::ErrorKind::InvalidData => wrong(path, "it is no text"),
        io::ErrorKind::NotFound => Failure::new(Exit::NotFound, format!("there is no {}", path.display())),
        _ => Failure::new(Exit::Failed, format!("cannot read {}: {error}", path.display())),
    })
}

/// A file is not what it should be.
pub(crate) fn wrong(path: &Path, why: impl Display) -> Failure {
    Failure::new(Exit::Corrupt, format!("{}: {why}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_told_from_what_is_wrong() {
        let dir = tempfile::tempdir().unwrap();
        let (missing, junk) = (dir.path().join("missing"), dir.path().join("junk"));
        assert_eq!(Exit::of(&text(&missing).unwrap_err()), Exit::NotFound);
        std::fs::write(&junk, b"\xff").unwrap();
        assert_eq!(Exit::of(&text(&junk).unwrap_err()), Exit::Corrupt);
        let short = |path| short_text(path, 3, &mut String::new()).unwrap_err().into();
        assert_eq!(Exit::of(&short(&junk)), Exit::Corrupt);
        assert_eq!(Exit::of(&short(&missing)), Exit::NotFound);
        assert_eq!(Exit::of(&short(dir.path())), Exit::Failed);
        std::fs::write(&junk, b"text").unwrap();
        assert_eq!(text(&junk).unwrap(), "text");
        let mut beginning = String::new();
        short_text(&junk, 3, &mut beginning).unwrap();
        assert_eq!(beginning, "tex");
        assert_eq!(Exit::of(&text(dir.path()).unwrap_err()), Exit::Failed, "a folder");
    }
}
