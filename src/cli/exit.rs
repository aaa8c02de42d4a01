//! Exit codes: the one place where an error becomes a number that scripts may rely on.
//!
//! The numbers are stable. New ones may come, so a script treats every unknown code as a failure.
//! README.md shows the same table; a test compares the two.

use std::fmt;
use std::process::ExitCode;

use crate::client::keystore::KeystoreError;
use crate::client::{Error as ClientError, ErrorKind};
use crate::roles::StaticError;
use crate::roles::devnet::DevnetError;
use crate::roles::storage_node::{NodeError, NodeFolderError};
use crate::store::says_full;
use crate::types::name::NameError;

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(crate) enum Exit {
    /// Everything asked for was done.
    Ok = 0,
    /// It failed, or part of it did, for a reason that no other code names.
    Failed = 1,
    /// The command line makes no sense: nothing was tried.
    Usage = 2,
    /// The reader of stdout went away, as in `ls | head`.
    BrokenPipe = 3,
    /// Too few nodes answer.
    Unavailable = 4,
    /// Bytes are not what they should be and could not be recovered, or a file that the command line names is not of the
    /// kind that the command takes.
    Corrupt = 5,
    /// No such record, version or collection, or no such file or folder as the command line names.
    NotFound = 6,
    /// A condition does not hold, or carrying on would overwrite or leave something.
    Refused = 7,
    /// No space, here or at the nodes.
    Full = 8,
    /// Another process holds the vault's local state, the node's folder or the devnet's folder.
    Locked = 11,
    /// The passphrase is wrong, or there is none.
    WrongPassphrase = 12,
    /// A bug or a broken machine.
    Internal = 70,
    /// Ctrl-C.
    Interrupted = 130,
}

impl Exit {
    /// Every code, for the table in README.md.
    #[cfg(test)]
    const ALL: [Self; 13] = [
        Self::Ok,
        Self::Failed,
        Self::Usage,
        Self::BrokenPipe,
        Self::Unavailable,
        Self::Corrupt,
        Self::NotFound,
        Self::Refused,
        Self::Full,
        Self::Locked,
        Self::WrongPassphrase,
        Self::Internal,
        Self::Interrupted,
    ];

    /// The number that the shell sees.
    pub(crate) const fn code(self) -> u8 {
        self as u8
    }

    /// The word for it in JSON output.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Failed => "failed",
            Self::Usage => "usage",
            Self::BrokenPipe => "broken_pipe",
            Self::Unavailable => "unavailable",
            Self::Corrupt => "corrupt",
            Self::NotFound => "not_found",
            Self::Refused => "refused",
            Self::Full => "full",
            Self::Locked => "locked",
            Self::WrongPassphrase => "wrong_passphrase",
            Self::Internal => "internal",
            Self::Interrupted => "interrupted",
        }
    }

    /// Whether the same command may succeed later with nothing changed here.
    pub(crate) const fn retry(self) -> bool {
        matches!(self, Self::Unavailable | Self::Locked | Self::Interrupted)
    }

    /// The code of an error: that of the first error in its chain that has one.
    pub(crate) fn of(error: &anyhow::Error) -> Self {
        error.chain().find_map(known).unwrap_or(Self::Failed)
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        exit.code().into()
    }
}

impl From<ErrorKind> for Exit {
    fn from(kind: ErrorKind) -> Self {
        match kind {
            ErrorKind::NotFound => Self::NotFound,
            ErrorKind::Refused => Self::Refused,
            ErrorKind::Unavailable => Self::Unavailable,
            ErrorKind::Corrupt => Self::Corrupt,
            ErrorKind::Invalid => Self::Usage,
            ErrorKind::Config | ErrorKind::Range | ErrorKind::Source | ErrorKind::Changed => Self::Failed,
            ErrorKind::Locked => Self::Locked,
            ErrorKind::Full => Self::Full,
            ErrorKind::Internal => Self::Internal,
        }
    }
}

/// An error that the command line itself finds, with its exit code and what to do next.
#[derive(Debug)]
pub(crate) struct Failure {
    exit: Exit,
    message: String,
    hint: Option<String>,
}

impl Failure {
    pub(crate) fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, message: message.into(), hint: None }
    }

    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::new(Exit::Usage, message)
    }

    pub(crate) fn refused(message: impl Into<String>) -> Self {
        Self::new(Exit::Refused, message)
    }

    /// The same failure with what a person could do next.
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}

/// The hint of the first error in the chain that has one.
pub(crate) fn hint(error: &anyhow::Error) -> Option<String> {
    error.chain().find_map(|cause| {
        if let Some(failure) = cause.downcast_ref::<Failure>() {
            return failure.hint.clone();
        }
        if let Some(client) = cause.downcast_ref::<ClientError>() {
            return client.hint().map(str::to_owned);
        }
        cause.downcast_ref::<KeystoreError>().and_then(KeystoreError::hint).map(str::to_owned)
    })
}

fn known(cause: &(dyn std::error::Error + 'static)) -> Option<Exit> {
    if let Some(failure) = cause.downcast_ref::<Failure>() {
        return Some(failure.exit);
    }
    if let Some(client) = cause.downcast_ref::<ClientError>() {
        return Some(client.kind().into());
    }
    if let Some(keystore) = cause.downcast_ref::<KeystoreError>() {
        return Some(keystore_exit(keystore));
    }
    match cause.downcast_ref::<DevnetError>() {
        Some(DevnetError::Locked { .. }) => return Some(Exit::Locked),
        Some(_) => return None,
        None => {}
    }
    match cause.downcast_ref::<NodeError>() {
        Some(NodeError::Locked { .. }) => return Some(Exit::Locked),
        Some(NodeError::Store { source, .. }) if source.is_full() => return Some(Exit::Full),
        Some(_) => return None,
        None => {}
    }
    if let Some(StaticError::Locked { .. }) = cause.downcast_ref::<StaticError>() {
        return Some(Exit::Locked);
    }
    if let Some(folder) = cause.downcast_ref::<NodeFolderError>() {
        return folder_exit(folder);
    }
    if cause.is::<NameError>() {
        return Some(Exit::Usage);
    }
    cause.downcast_ref::<std::io::Error>().and_then(io_exit)
}

const fn folder_exit(error: &NodeFolderError) -> Option<Exit> {
    match error {
        NodeFolderError::Exists { .. } => Some(Exit::Refused),
        NodeFolderError::Missing { .. } => Some(Exit::NotFound),
        NodeFolderError::Settings { .. } | NodeFolderError::Key { .. } => Some(Exit::Corrupt),
        // The system's own reason may have a code.
        NodeFolderError::Io { .. } => None,
    }
}

fn io_exit(error: &std::io::Error) -> Option<Exit> {
    says_full(error).then_some(Exit::Full)
}

fn keystore_exit(error: &KeystoreError) -> Exit {
    match error {
        KeystoreError::WrongPassphrase { .. } => Exit::WrongPassphrase,
        KeystoreError::DeviceOnly { .. } => Exit::Refused,
        KeystoreError::Damaged { .. } => Exit::Corrupt,
        KeystoreError::Exists { .. } => Exit::Refused,
        KeystoreError::Io { source, .. } => io_exit(source).unwrap_or(Exit::Failed),
        KeystoreError::Missing { .. } | KeystoreError::Unsupported { .. } => Exit::Failed,
    }
}

#[cfg(test)]
mod tests {
    use anyhow::Context as _;

    use super::*;

    #[test]
    fn every_kind_of_client_error_has_its_code() {
        for (kind, code) in [
            (ErrorKind::NotFound, 6),
            (ErrorKind::Refused, 7),
            (ErrorKind::Unavailable, 4),
            (ErrorKind::Corrupt, 5),
            (ErrorKind::Invalid, 2),
            (ErrorKind::Config, 1),
            (ErrorKind::Range, 1),
            (ErrorKind::Source, 1),
            (ErrorKind::Changed, 1),
            (ErrorKind::Locked, 11),
            (ErrorKind::Full, 8),
            (ErrorKind::Internal, 70),
        ] {
            assert_eq!(Exit::from(kind).code(), code, "{kind:?}");
        }
    }

    #[test]
    fn a_full_disk_has_its_code_wherever_it_is_met() {
        use std::path::PathBuf;
        use std::sync::Arc;

        use crate::store::StoreError;

        let full = || std::io::Error::from(std::io::ErrorKind::StorageFull);
        let store = |source: Arc<dyn std::error::Error + Send + Sync>| NodeError::Store {
            dir: PathBuf::new(),
            source: StoreError::Disk { during: "opening the index", source },
        };
        let errors: [anyhow::Error; 5] = [
            KeystoreError::Io { path: PathBuf::new(), source: full() }.into(),
            NodeError::Io { path: PathBuf::new(), source: full() }.into(),
            store(Arc::new(full())).into(),
            store(Arc::new(redb::DatabaseError::Storage(redb::StorageError::Io(full())))).into(),
            NodeError::Store { dir: PathBuf::new(), source: StoreError::Full { free: 0, reserve: 1 } }.into(),
        ];
        for error in errors {
            assert_eq!(Exit::of(&error), Exit::Full, "{error:?}");
        }
        let other: anyhow::Error = store(Arc::new(std::io::Error::from(std::io::ErrorKind::NotFound))).into();
        assert_eq!(Exit::of(&other), Exit::Failed);
    }

    #[test]
    fn the_code_and_hint_survive_any_context() {
        let failure = Failure::new(Exit::Full, "no space").hint("free some");
        let error = Err::<(), _>(failure).context("inner").context("outer").unwrap_err();
        assert_eq!(Exit::of(&error), Exit::Full);
        assert_eq!(hint(&error).as_deref(), Some("free some"));
    }

    #[test]
    fn an_error_without_a_code_is_a_plain_failure() {
        assert_eq!(Exit::of(&anyhow::anyhow!("what?")), Exit::Failed);
        let full = std::io::Error::from(std::io::ErrorKind::StorageFull);
        assert_eq!(Exit::of(&anyhow::Error::from(full)), Exit::Full);
    }

    #[test]
    fn the_readme_has_every_code() {
        let readme = include_str!("../../README.md");
        for exit in Exit::ALL {
            let row = format!("| `{}` | `{}` |", exit.code(), exit.name());
            assert!(readme.contains(&row), "README.md lacks a row that begins {row}");
        }
    }
}
