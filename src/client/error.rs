//! One error for all of the client's operations: what went wrong and what a caller can do about it.

use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;

use crate::message::Rejection;
use crate::store::says_full;

/// What a caller can do about an error; each kind has one exit code and one HTTP status.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ErrorKind {
    /// No such record, version or collection.
    NotFound,
    /// A node refused, or a condition of the request does not hold.
    Refused,
    /// Too few nodes answer: try again later.
    Unavailable,
    /// Bytes are not what they should be and could not be recovered.
    Corrupt,
    /// The request makes no sense.
    Invalid,
    /// The record has not one byte of the range.
    Range,
    /// What is to be put cannot be read, or not as a whole.
    Source,
    /// What is to be put is not what it was when its upload began.
    Changed,
    /// Keys, network file or local state do not fit.
    Config,
    /// Another process holds the local index.
    Locked,
    /// No space here or at the nodes.
    Full,
    /// A bug or a broken machine.
    Internal,
}

/// An error of the client, with its cause and, where there is one, a hint what to do next.
#[derive(Debug)]
pub struct Error {
    kind: ErrorKind,
    message: String,
    hint: Option<String>,
    source: Option<Arc<dyn StdError + Send + Sync>>,
}

impl ErrorKind {
    /// The kind of an error of the system: want of space, or as given.
    pub(crate) fn of_io(error: &std::io::Error, otherwise: Self) -> Self {
        if says_full(error) { Self::Full } else { otherwise }
    }
}

impl Error {
    /// An error of this kind, said in one sentence.
    pub(crate) fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), hint: None, source: None }
    }

    /// The same error with what to do next.
    #[must_use]
    pub(crate) fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The same error with its cause.
    #[must_use]
    pub(crate) fn caused_by(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.source = Some(Arc::from(source.into()));
        self
    }

    /// The same error for another who waits for the same thing.
    pub(crate) fn again(&self) -> Self {
        Self {
            kind: self.kind,
            message: self.message.clone(),
            hint: self.hint.clone(),
            source: self.source.clone(),
        }
    }

    /// What a caller can do about it.
    #[must_use]
    pub const fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The ledger's own reason, where it is the ledger that refused.
    pub(crate) fn rejection(&self) -> Option<&Rejection> {
        self.source.as_ref()?.downcast_ref()
    }

    /// What a person could do next, where that is known.
    #[must_use]
    pub fn hint(&self) -> Option<&str> {
        self.hint.as_deref()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_deref().map(|source| source as &(dyn StdError + 'static))
    }
}
