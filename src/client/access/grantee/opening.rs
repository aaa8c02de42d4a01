//! Records opened together, and what stays the same from one opening to the next.
//!
//! A request names up to [`MAX_RELEASE_ITEMS`] records: a batch costs a static node one signature, one seal, one proof and one entry of
//! its log. Who has the shares of the vault's key, and the commitments to them, are asked for once and kept: each request names the
//! sharing that it is for, and a static node that has another one says so, upon which they are asked for anew.

use std::sync::Arc;

use super::{Opened, Shared, SharedRecord, denied, is_passing};
use crate::client::ledger::wrong_answer;
use crate::client::{Download, Error, ErrorKind, GetOptions};
use crate::crypto::access::{Commitments, SlotContent};
use crate::ledger::rows::Sharing;
use crate::message::Roster;
use crate::message::access::Denial;
use crate::message::access::open::{OpenItem, OpenRequest};
use crate::types::limits::MAX_RELEASE_ITEMS;

/// A record that the static nodes opened: what it takes to read it. It is secret, and wiped on drop.
#[derive(Debug, Clone)]
pub struct OpenRecord {
    pub(super) record: SharedRecord,
    pub(super) content: SlotContent,
}

/// Who has the shares of the vault's key, and what proves that a part of an answer is made with one.
#[derive(Debug)]
pub(super) struct KnownSharing {
    pub(super) sharing: Sharing,
    pub(super) roster: Roster,
    pub(super) commitments: Commitments,
}

impl Shared {
    /// Has the static nodes open records, as many at a time as one request may name. What becomes of each is by itself; the nodes
    /// open all records of a request or none.
    ///
    /// # Errors
    /// As [`get`](Self::get), if a request is not answered as a whole.
    pub async fn open_all(&self, records: &[SharedRecord]) -> Result<Vec<Result<OpenRecord, Error>>, Error> {
        let mut found = Vec::with_capacity(records.len());
        for some in records.chunks(MAX_RELEASE_ITEMS) {
            let (opened, request) =
                self.release(some.iter().map(SharedRecord::item).collect(), "read").await?;
            found.extend(some.iter().map(|record| self.opened(record, &opened, &request)));
        }
        Ok(found)
    }

    /// Has the static nodes open a record.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub async fn open_one(&self, record: &SharedRecord) -> Result<OpenRecord, Error> {
        self.open_all(std::slice::from_ref(record)).await?.pop().ok_or_else(wrong_answer)?
    }

    /// Begins to read a record that was opened.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub async fn read(&self, opened: OpenRecord, options: GetOptions) -> Result<Download, Error> {
        let (info, stored) = self.stored(&opened.record, opened.content).await?;
        let range = match options.range {
            None => 0..stored.size,
            Some(range) => range
                .within(stored.size)
                .map_err(|error| Error::new(ErrorKind::Range, error.to_string()).caused_by(error))?,
        };
        Download::begin(&self.ctx, info, stored, range, options.progress).await
    }

    fn opened(
        &self,
        record: &SharedRecord,
        opened: &Opened,
        request: &OpenRequest,
    ) -> Result<OpenRecord, Error> {
        let at = request.items.binary_search(&record.item()).map_err(|_| wrong_answer())?;
        let content = self.unwrap(record, at, opened, request)?;
        Ok(OpenRecord { record: record.clone(), content })
    }

    /// Who has the shares of the vault's key, and whether that was kept from before.
    pub(super) async fn sharing(&self) -> Result<(Arc<KnownSharing>, bool), Error> {
        let mut known = self.sharing.lock().await;
        if let Some(known) = &*known {
            return Ok((Arc::clone(known), true));
        }
        let access = self.desks.access(self.row.grant.vault).await?;
        let access = access.ok_or_else(|| denied(Denial::OtherSharing))?;
        if access.sharing.dealing != self.body.dealing {
            return Err(denied(Denial::Rotated));
        }
        let roster = self.desks.roster(access.sharing.roster).await?;
        self.desks.follow(&roster);
        let commitments = self.commitments(&roster, &access).await?;
        let found = Arc::new(KnownSharing { sharing: access.sharing, roster, commitments });
        *known = Some(Arc::clone(&found));
        Ok((found, false))
    }

    /// A request failed: if it may be because the key was handed to others since, what is kept is not used again. Whether to ask
    /// again at once.
    pub(super) async fn doubt(&self, was_kept: bool, error: &Error) -> bool {
        let may_be_old = is_passing(error) || error.kind() == ErrorKind::Unavailable;
        if may_be_old {
            *self.sharing.lock().await = None;
        }
        may_be_old && was_kept
    }
}

impl SharedRecord {
    /// What opens it.
    pub(super) const fn item(&self) -> OpenItem {
        OpenItem::Record {
            record: self.record,
            version: self.version,
            scope: self.tag,
            generation: self.generation,
        }
    }
}
