//! What a static node offers to who is far behind, and what is made of it when all of it came.

use crate::ledger::apply::Writes;
use crate::ledger::query;
use crate::ledger::read::{Entry, Read, ReadError};
use crate::ledger::rows::{ARCHIVE, Archive, LOG_NODES, Missing, PAST_HEADERS, ROSTER_CHANGES, ROSTERS, TIP};
use crate::ledger::tables::LAST_UNHASHED;
use crate::message::Violation;
use crate::message::anchor_receipt::RosterStep;
use crate::message::block::{Header, MAX_CERTIFICATE_LEN};
use crate::message::canonical::{Canonical, read_bytes, read_list, write_bytes, write_list};
use crate::message::certificate::CommitCertificate;
use crate::message::checkpoint::Cosignature;
use crate::message::genesis::Genesis;
use crate::message::member::Roster;
use crate::types::limits::{MAX_ANSWER_LEAVES, MAX_RECEIPT_STEPS, MAX_SNAPSHOT_ROWS, SNAPSHOT_ROWS_LEN};
use crate::types::{Height, LogHash};

/// Rows that are read at once: few enough that the longest ones fit into memory.
const SCAN: usize = 256;

/// What a node has of its own before it takes a snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Own {
    /// The header of its last block.
    pub tip: Header,
    /// What it has of the blocks before.
    pub archive: Option<Archive>,
    /// Blocks that changed the static nodes.
    pub changes: Vec<Height>,
}

impl Own {
    /// What there is.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn read(state: &impl Read) -> Result<Self, ReadError> {
        let changes = query::roster_changes(state, Height::GENESIS, MAX_RECEIPT_STEPS)?;
        let changes = changes.into_iter().map(|(height, _)| height).collect();
        Ok(Self { tip: query::tip(state)?, archive: ARCHIVE.get(state, &())?, changes })
    }
}

/// A snapshot that is offered: the block whose state it is, and what shows that a quorum decided on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offer {
    /// The block's header.
    pub header: Header,
    /// That it is final.
    pub certificate: CommitCertificate,
    /// The changes of the static nodes before the block, from the genesis on.
    pub steps: Vec<RosterStep>,
    /// Who decides on the next block.
    pub next: Roster,
}

impl Offer {
    /// Checks with the genesis alone that the block is final. Its certificate is by those static nodes that follow from
    /// the genesis, each change by a quorum's cosignatures.
    ///
    /// # Errors
    /// As [`RosterStep::follow`] and [`CommitCertificate::verify`]; [`Violation::WrongNetwork`],
    /// [`Violation::WrongRoster`] or [`Violation::WrongBlock`].
    pub fn verify(&self, genesis: &Genesis) -> Result<(), Violation> {
        let record = &self.header.record;
        if record.network != genesis.network {
            return Err(Violation::WrongNetwork);
        }
        let (roster, since) = RosterStep::follow(genesis, &self.steps)?;
        let is_of_its_time = since < record.height && roster.hash() == record.roster;
        if !is_of_its_time || self.next.hash() != record.next_roster() {
            return Err(Violation::WrongRoster);
        }
        if (self.certificate.height, self.certificate.block) != (record.height, self.header.id()) {
            return Err(Violation::WrongBlock);
        }
        self.certificate.verify(roster.committee(), genesis.network)
    }

    /// The rows beside the state that follow from the offer: who the static nodes were, and what of the blocks is not
    /// here. The steps of the offer lead from the genesis to now; what this node knew besides would not fit between them.
    fn rows_beside(&self, own: &Own) -> Writes {
        let mut writes: Writes =
            own.changes.iter().map(|height| (ROSTER_CHANGES.key(height), None)).collect();
        let mut rows = Vec::new();
        for step in &self.steps {
            let (height, next) = (step.last.record.height, step.next.hash());
            rows.push((ROSTERS.key(&next), step.next.encode()));
            rows.push((ROSTER_CHANGES.key(&height), next.encode()));
            rows.push((PAST_HEADERS.key(&height), step_header(step).encode()));
        }
        let height = self.header.record.height;
        rows.push((PAST_HEADERS.key(&height), self.header.encode()));
        if let Some(next) = self.header.record.new_roster {
            rows.push((ROSTER_CHANGES.key(&height), next.encode()));
        }
        let row = Archive { snapshot: height, missing: Some(self.missing(own)) };
        rows.push((ARCHIVE.key(&()), row.encode()));
        writes.extend(rows.into_iter().map(|(key, value)| (key, Some(value))));
        writes
    }

    /// What is still missing of an earlier snapshot stays so; blocks between the two are fetched again.
    fn missing(&self, own: &Own) -> Missing {
        let (until, last) = (self.header.record.height, self.header.id());
        match own.archive.as_ref().and_then(|archive| archive.missing.clone()) {
            Some(earlier) => Missing { until, last, ..earlier },
            None => {
                let Header { record, .. } = own.tip;
                let (from, below, below_size) = (record.height.next(), own.tip.id(), record.log_size);
                Missing { from, below, below_size, until, last }
            }
        }
    }

    /// What a node writes when it has all rows and all nodes of the log, with what [`Restore`](super::Restore) says.
    pub(super) fn adopt(self, own: &Own, beside: Writes) -> Adoption {
        let mut writes = self.rows_beside(own);
        writes.extend(beside);
        let cosigned =
            self.steps.into_iter().map(|step| (step.last.record.height, step.cosignatures)).collect();
        Adoption { header: self.header, certificate: self.certificate, writes, cosigned, next: self.next }
    }
}

/// The header of the block that changed the static nodes.
fn step_header(step: &RosterStep) -> Header {
    Header { record: step.last.record, log_root: step.root }
}

impl Canonical for Offer {
    fn write(&self, to: &mut Vec<u8>) {
        self.header.write(to);
        write_bytes(&self.certificate.encode(), to);
        write_list(&self.steps, to);
        self.next.write(to);
    }

    fn read(from: &mut &[u8]) -> Result<Self, Violation> {
        Ok(Self {
            header: Canonical::read(from)?,
            certificate: CommitCertificate::decode(&read_bytes(from, MAX_CERTIFICATE_LEN)?)?,
            steps: read_list(from, MAX_RECEIPT_STEPS)?,
            next: Canonical::read(from)?,
        })
    }
}

/// A snapshot that came in whole: what is to be written with the rows that were stored as they came, in one step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Adoption {
    /// The block whose state it is.
    pub header: Header,
    /// That it is final.
    pub certificate: CommitCertificate,
    /// Rows beside the state.
    pub writes: Writes,
    /// Cosignatures of the blocks that changed the static nodes.
    pub cosigned: Vec<(Height, Vec<Cosignature>)>,
    /// Who decides on the next block.
    pub next: Roster,
}

/// The next rows of a snapshot, in order, after the key given, as many as one answer has; none when it is over.
///
/// # Errors
/// [`ReadError`].
pub fn rows(state: &impl Read, after: Option<&[u8]>) -> Result<Vec<Entry>, ReadError> {
    let (mut found, mut len): (Vec<Entry>, _) = (Vec::new(), 0);
    loop {
        let from = match found.last().map(|(key, _)| &key[..]).or(after) {
            // Rows beside the state are in no snapshot.
            Some(key) if key.first() > Some(&LAST_UNHASHED) => [key, &[0]].concat(),
            _ => vec![LAST_UNHASHED + 1],
        };
        let more = state.scan(&[], &from, SCAN)?;
        let is_over = more.len() < SCAN;
        for (key, value) in more {
            if len >= SNAPSHOT_ROWS_LEN || found.len() == MAX_SNAPSHOT_ROWS {
                return Ok(found);
            }
            len += key.len() + value.len();
            found.push((key, value));
        }
        if is_over {
            return Ok(found);
        }
    }
}

/// The hashes of leaves of the log from one on, as many as one answer has; none past the last.
///
/// # Errors
/// [`ReadError`].
pub fn leaves(state: &impl Read, from: u64) -> Result<Vec<LogHash>, ReadError> {
    let size = TIP.expect(state, &())?.record.log_size;
    let last = from.saturating_add(u64::try_from(MAX_ANSWER_LEAVES).unwrap_or(u64::MAX)).min(size);
    let (before, count) = (from.checked_sub(1), last.saturating_sub(from));
    let after = before.map(|before| LOG_NODES.key(&(0, before)));
    let rows = LOG_NODES.scan(state, &0_u8, after.as_deref(), usize::try_from(count).unwrap_or(0))?;
    Ok(rows.into_iter().map(|(_, hash)| hash).collect())
}
