//! The end of a run: all is mended, all becomes well, and all is checked once more.

use std::time::Duration;

use super::Keepers;
use crate::ledger::rows::ARCHIVE;
use crate::testing::sim::keepers::check::{Summary, Wrong};
use crate::testing::sim::validators::Weather;
use crate::types::{Hash, Height};

/// After this long all must be well again.
const MENDED_WITHIN: Duration = Duration::from_secs(120);
/// How many blocks all nodes must have then that nobody had before.
const NEW_BLOCKS: u64 = 3;

impl Keepers {
    /// Everything works again, and clients begin nothing new.
    pub(super) fn mend(&mut self) -> Result<(), Wrong> {
        self.is_mended = true;
        self.links.split(vec![0; self.nodes.len()]);
        self.links.weather = Weather { loss: 0, ..self.links.weather };
        for node in 0..self.nodes.len() {
            self.nodes[node].disk.lose_power_at(u64::MAX);
            if let Some(alive) = &self.nodes[node].alive {
                alive.set_fuse(None);
            }
            self.start(node)?;
        }
        Ok(())
    }

    /// New blocks and whole archives everywhere, and an answer for every client.
    pub(super) fn demand_peace(&mut self) -> Result<(), Wrong> {
        let goal = Height(self.checker.summary.blocks + NEW_BLOCKS);
        let end = self.now + MENDED_WITHIN;
        while let Some(missing) = self.missing(goal)? {
            if self.next_time().is_none_or(|next| next > end) {
                return Err(self.wrong(format!("all is mended, but {missing}")));
            }
            self.step()?;
        }
        Ok(())
    }

    /// What is not well yet, if something is not.
    fn missing(&self, goal: Height) -> Result<Option<String>, Wrong> {
        for node in &self.nodes {
            let Some(alive) = &node.alive else { return Ok(Some(format!("{node:?} is down"))) };
            if node.seen < goal {
                return Ok(Some(format!("{node:?} has block {} and not {goal}", node.seen)));
            }
            let archive = alive.library.chain.view().map_err(|error| self.wrong(error.to_string()))?;
            let archive = ARCHIVE.get(&archive, &()).map_err(|error| self.wrong(error.to_string()))?;
            if let Some(missing) = archive.and_then(|archive| archive.missing) {
                return Ok(Some(format!("{node:?} has no blocks {missing:?}")));
            }
        }
        if let Some(client) = self.clients.iter().find(|client| client.pending.is_some()) {
            return Ok(Some(format!("a client waits: {client:?}")));
        }
        let newest = self.checker.newest_final();
        let cannot = (0..self.nodes.len())
            .map(|node| self.cannot_prove(node, newest))
            .find(|found| found != &Ok(None));
        cannot.unwrap_or(Ok(None)).map_err(|what| self.wrong(what))
    }

    /// What must hold at the end of a run.
    pub(super) fn check_all(mut self) -> Result<Summary, Wrong> {
        for node in 0..self.nodes.len() {
            let Some(alive) = &self.nodes[node].alive else { continue };
            let view = alive.library.chain.view();
            let checked =
                view.map_err(|error| error.to_string()).and_then(|view| self.checker.chain(node, &view));
            checked.map_err(|what| self.wrong(what))?;
        }
        for (nth, id) in self.checker.finals().enumerate() {
            let node = nth % self.nodes.len();
            match self.cannot_prove(node, Some(id)) {
                Ok(None) => {}
                Ok(Some(what)) | Err(what) => return Err(self.wrong(what)),
            }
        }
        self.checker.proofs().map_err(|what| self.wrong(what))?;
        let trace = Some(Hash(*self.trace.finalize().as_bytes()));
        Ok(Summary { trace, ..self.checker.summary() })
    }
}
