//! What a keeper finds outside: the time, and the others.

use bytes::Bytes;

use super::Command;
use crate::consensus::To;
use crate::ledger::ask::{Answer, Question};
use crate::message::Roster;
use crate::types::{Height, PublicKey, Timestamp};

/// The outside. Nothing of it blocks or fails: what cannot be delivered is lost, and the keeper says and asks it again.
pub(crate) trait Outside: Send {
    /// Now: it never runs backwards.
    fn now(&self) -> Timestamp;

    /// What the machine's wall clock says, for what is signed with a time.
    fn wall_time(&self) -> Timestamp;

    /// From here on these are the static nodes, this one perhaps among them.
    fn follow(&mut self, roster: &Roster);

    /// Sends a letter; what is sent to nobody that is [followed](Self::follow) is dropped.
    fn send(&mut self, to: To, letter: Letter);

    /// One of the others, another one each time.
    fn turn(&mut self) -> Option<PublicKey>;
}

/// What a keeper has for another static node.
#[derive(Debug, Clone)]
pub(crate) enum Letter {
    /// A message of consensus.
    Consensus(Bytes),
    /// A cosignature of a block's tree head.
    Cosign(Height, Bytes),
    /// A question.
    Ask(Ask),
}

/// What a keeper asks, and for what.
#[derive(Debug, Clone)]
pub(crate) enum Ask {
    /// Blocks from a height on; they come as [`Command::Synced`].
    Fetch(Height),
    /// Who has cosigned a tree head; it comes as [`Command::Gathered`].
    Gather(Height),
    /// What is answered comes as [`Command::Answered`] with this number, also that nothing is.
    Numbered(u64, Question),
}

impl Ask {
    /// The question.
    pub(crate) fn question(&self) -> Question {
        match self {
            Self::Fetch(from) => Question::Blocks { from: *from },
            Self::Gather(height) => Question::Cosignatures { height: *height },
            Self::Numbered(_, question) => question.clone(),
        }
    }

    /// What the keeper is told of the answer, or of none.
    pub(crate) fn answered(&self, from: PublicKey, answer: Option<Answer>) -> Option<Command> {
        match (self, answer) {
            (Self::Fetch(_), Some(Answer::Blocks(blocks))) => Some(Command::Synced { from, blocks }),
            (Self::Gather(height), Some(Answer::Cosignatures(cosignatures))) => {
                Some(Command::Gathered { height: *height, cosignatures })
            }
            (Self::Fetch(_) | Self::Gather(_), _) => None,
            (Self::Numbered(number, _), answer) => {
                Some(Command::Answered { from, number: *number, answer: answer.map(Box::new) })
            }
        }
    }
}
