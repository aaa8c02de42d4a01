//! What this node itself has to say on the ledger: evidence, accusations, answers. A statement waits here until the ledger
//! has it or will never take it: evidence is often found before the block that it is about is final.

use std::collections::VecDeque;

use super::{Keeper, KeeperError};
use crate::consensus::Event;
use crate::ledger::mempool::NotQueued;
use crate::ledger::query;
use crate::message::transaction::Lane;
use crate::message::{Action, Rejection, Transaction};
use crate::types::Height;

/// Statements that wait. Whoever breaks the protocol more often than this is convicted by the first.
const KEPT: usize = 64;
/// Blocks for which a statement's transaction is good.
const LIFE: u64 = 1_000;

/// Statements in the order in which they came up.
#[derive(Debug, Default)]
pub(super) struct Statements(VecDeque<Action>);

impl Statements {
    fn add(&mut self, action: Action) {
        if self.0.len() < KEPT && !self.0.contains(&action) {
            self.0.push_back(action);
        }
    }
}

impl Keeper {
    /// Has something to be put on the ledger by this node.
    pub(super) fn say(&mut self, action: Action) -> Result<(), KeeperError> {
        // It would wait here for ever: only who votes puts anything into blocks.
        if self.votes() {
            self.statements.add(action);
            self.speak()?;
        }
        Ok(())
    }

    /// Submits the next statement: one at a time, since each has the number after that of the one before.
    pub(super) fn speak(&mut self) -> Result<(), KeeperError> {
        let mut at = 0;
        while let Some(action) = self.statements.0.get(at).cloned()
            && !self.mempool.has_any_of(&self.key.public())
        {
            match self.submit_own(action)? {
                Ok(()) => self.event(Event::Wake),
                // The block that it is about is not final yet, or there is no room.
                Err(NotQueued::Rejected(Rejection::EvidenceAhead)) => at += 1,
                Err(NotQueued::Rejected(rejection)) => {
                    tracing::debug!(%rejection, "a statement of this node is on the ledger, or never will be");
                    self.statements.0.remove(at);
                }
                Err(_) => return Ok(()),
            }
        }
        Ok(())
    }

    fn submit_own(&mut self, action: Action) -> Result<Result<(), NotQueued>, KeeperError> {
        let view = self.chain.view()?;
        let author = self.key.public();
        let nonce = query::next_nonce(&view, &Lane::Author(author))?;
        let expires = Height(view.tip()?.record.height.0 + LIFE);
        let transaction = Transaction { network: self.genesis.network, author, nonce, expires, action };
        match transaction.sign(&self.key).into_verified(&self.genesis.network) {
            Ok(verified) => self.queue(verified),
            Err(violation) => {
                tracing::warn!(%violation, "this node cannot show what it saw");
                Ok(Err(NotQueued::Rejected(Rejection::NotAnOffence)))
            }
        }
    }
}
