//! What must be true of the records: the other half of every comparison.

use std::collections::BTreeMap;

use crate::testing::sim::content::Content;
use crate::types::{RecordName, VersionId};

/// A record of a client, by the client's number.
pub type Record = (usize, RecordName);

/// A commit: the versions that become visible together.
pub type Commit = Vec<(Record, VersionId)>;

/// All that was written and acknowledged.
#[derive(Debug, Default)]
pub struct Model {
    /// What each version holds, from the moment its put begins; `None` for the mark of a removal.
    contents: BTreeMap<VersionId, Option<Content>>,
    /// Committed versions of each record, the latest last.
    committed: BTreeMap<Record, Vec<VersionId>>,
    /// Commits under way when their client died: each is there as a whole, or not at all.
    uncertain: Vec<Commit>,
    /// Records that were being erased when their client died: all versions are there, or none.
    uncertain_erasures: Vec<Record>,
}

impl Model {
    /// A version will hold this content if it is ever committed.
    pub fn intend(&mut self, version: VersionId, content: Option<Content>) {
        self.contents.insert(version, content);
    }

    /// The commit is durable: from now on none of it may be lost.
    pub fn committed(&mut self, commit: Commit) {
        for (record, version) in commit {
            self.committed.entry(record).or_default().push(version);
        }
    }

    /// The client died in the commit.
    pub fn uncertain(&mut self, commit: Commit) {
        self.uncertain.push(commit);
    }

    /// The client died while it erased the record.
    pub fn erasure_uncertain(&mut self, record: Record) {
        self.uncertain_erasures.push(record);
    }

    /// The record and all its versions were removed for good.
    pub fn erased(&mut self, record: &Record) {
        self.committed.remove(record);
    }

    /// Settles what became of a client's uncertain changes, by what its index has after the restart.
    ///
    /// # Errors
    /// In words, if a commit is there in part.
    pub fn settle(
        &mut self,
        client: usize,
        mut has: impl FnMut(&Record, &VersionId) -> bool,
    ) -> Result<(), String> {
        let is_of = |commit: &Commit| commit.iter().all(|((of, _), _)| *of == client);
        let (mine, others) = std::mem::take(&mut self.uncertain).into_iter().partition(is_of);
        self.uncertain = others;
        let mine: Vec<Commit> = mine;
        for commit in mine {
            let found = commit.iter().filter(|(record, version)| has(record, version)).count();
            if found == commit.len() {
                self.committed(commit);
            } else if found > 0 {
                return Err(format!("{found} of {} versions of one commit are there", commit.len()));
            }
        }
        let (mine, others): (Vec<_>, _) =
            std::mem::take(&mut self.uncertain_erasures).into_iter().partition(|record| record.0 == client);
        self.uncertain_erasures = others;
        for record in mine {
            // If some are there and some not, the comparison of the whole index finds it.
            if !self.versions(&record).iter().any(|version| has(&record, version)) {
                self.erased(&record);
            }
        }
        Ok(())
    }

    /// Every committed version of a record, the oldest first.
    #[must_use]
    pub fn versions(&self, record: &Record) -> &[VersionId] {
        self.committed.get(record).map_or(&[], Vec::as_slice)
    }

    /// What a version holds; `None` for the mark of a removal.
    #[must_use]
    pub fn content(&self, version: &VersionId) -> Option<Content> {
        self.contents.get(version).copied().flatten()
    }

    /// Every committed version of every record.
    pub fn all(&self) -> impl Iterator<Item = (Record, VersionId)> {
        self.committed
            .iter()
            .flat_map(|(record, versions)| versions.iter().map(|version| (record.clone(), *version)))
    }
}
