//! What a static node has to read: its chain, the proofs of it, and the states that it holds for others.

use std::sync::Arc;

use crate::ledger::ask::{self, Answer, FinalBlock, Holdings, Question};
use crate::ledger::log::Paths;
use crate::ledger::rows::ARCHIVE;
use crate::roles::static_node::prove;
use crate::roles::static_node::shared::Shared;
use crate::roles::static_node::snapshots::Snapshots;
use crate::store::chain::{Chain, ChainError};
use crate::types::limits::{ANSWER_BLOCKS_LEN, MAX_ANSWER_BLOCKS};
use crate::types::{Height, Timestamp};

/// Answers questions about the ledger, without asking the keeper.
#[derive(Debug)]
pub(crate) struct Library {
    pub(crate) chain: Chain,
    pub(crate) shared: Arc<Shared>,
    pub(crate) snapshots: Arc<Snapshots>,
}

impl Library {
    /// Answers a question.
    ///
    /// # Errors
    /// [`ChainError`] if the ledger cannot be read.
    pub(crate) fn answer(&self, question: &Question, now: Timestamp) -> Result<Answer, ChainError> {
        let view = self.chain.view()?;
        if let Some(answer) = ask::answer(&view, question)? {
            return Ok(answer);
        }
        match question {
            Question::Blocks { from } => self.blocks(*from),
            Question::Anchors { from, until } => {
                Ok(Answer::Anchors(prove::anchors(&view, from, until.as_ref())?))
            }
            Question::Transaction { id } => {
                let Some(proven) = self.shared.proven() else { return Ok(Answer::Transaction(None)) };
                let proven = proven.prove(&mut Paths::new(&view), id, None)?;
                Ok(Answer::Transaction(proven.map(Box::new)))
            }
            Question::Cosignatures { height } => {
                Ok(Answer::Cosignatures(prove::cosignatures(&view, *height)?))
            }
            Question::Snapshot { above } => {
                let offer = self.snapshots.offer(*above, now)?;
                Ok(Answer::Snapshot(offer.map(Box::new)))
            }
            Question::SnapshotRows { height, after } => {
                Ok(Answer::SnapshotRows(self.snapshots.rows(*height, after.as_deref(), now)?))
            }
            Question::BlocksBefore { before } => self.blocks_before(*before),
            Question::Archive => {
                let archive = ARCHIVE.get(&view, &())?;
                let snapshot = archive.as_ref().map(|archive| archive.snapshot);
                let missing = archive.and_then(|archive| archive.missing);
                Ok(Answer::Archive(Box::new(Holdings { snapshot, missing, taking: self.shared.taking() })))
            }
            Question::Steps => {
                let proven = self.shared.proven();
                Ok(Answer::Steps(proven.map(|head| head.steps.clone()).unwrap_or_default()))
            }
            _ => {
                let note = self.shared.proven().map(|head| head.note.clone()).unwrap_or_default();
                Ok(Answer::Tip { header: Box::new(view.tip()?), note, waiting: 0 })
            }
        }
    }

    /// Blocks from a height on, as many as fit.
    pub(super) fn blocks(&self, from: Height) -> Result<Answer, ChainError> {
        self.blocks_at((from.0..=u64::MAX).map(Height))
    }

    fn blocks_before(&self, before: Height) -> Result<Answer, ChainError> {
        self.blocks_at((1..before.0).rev().map(Height))
    }

    /// Blocks of these heights, as many as fit, up to the first that is not here.
    fn blocks_at(&self, heights: impl Iterator<Item = Height>) -> Result<Answer, ChainError> {
        let view = self.chain.view()?;
        let (mut blocks, mut len) = (Vec::new(), 0);
        for height in heights {
            let (Some(block), Some(certificate)) = (view.block(height)?, view.certificate(height)?) else {
                break;
            };
            let certificate = certificate.encode();
            len += block.len() + certificate.len();
            blocks.push(FinalBlock { block, certificate });
            if blocks.len() == MAX_ANSWER_BLOCKS || len >= ANSWER_BLOCKS_LEN {
                break;
            }
        }
        Ok(Answer::Blocks(blocks))
    }
}
