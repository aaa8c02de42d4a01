//! Keyslots: what an owner writes so that a scope has a record.

use crate::client::Error;
use crate::client::context::random;
use crate::crypto::access::{
    AccessKeys, Kek, Keyslot, LineOf, ListKey, PrfKey, ScopeKey, SealedLine, SlotContent,
};
use crate::message::StoredVersion;
use crate::message::access::open::OpenItem;
use crate::message::access::package::line_hash;
use crate::message::access::{BatchPackage, ListLine, RecordEntry, SealedSlot, SlotEntry};
use crate::types::{
    BatchId, CollectionName, Day, NetworkId, RecordName, ScopePath, ScopeTag, Timestamp, VaultId, VersionId,
};

/// A version that is to be in a scope.
#[derive(Debug, Clone)]
pub(crate) struct Version {
    pub(crate) collection: CollectionName,
    pub(crate) name: RecordName,
    pub(crate) version: VersionId,
    pub(crate) created: Timestamp,
    pub(crate) stored: StoredVersion,
}

impl Version {
    /// Collection and name, as a note has them.
    pub(super) fn address(&self) -> String {
        format!("{}/{}", self.collection, self.name)
    }

    /// The record's day: that of its source if it is known, else that of the put.
    fn day(&self) -> Day {
        Day::of(self.stored.modified.unwrap_or(self.created))
    }

    fn line(&self) -> ListLine {
        ListLine {
            collection: self.collection.clone(),
            name: self.name.clone(),
            size: self.stored.size,
            created: self.created,
            modified: self.stored.modified,
            content_type: self.stored.content_type.clone(),
        }
    }

    fn content(&self) -> SlotContent {
        SlotContent {
            dek: self.stored.dek.clone(),
            content_version: self.stored.content_version,
            header: self.stored.header,
        }
    }
}

/// Writes slots of one scope.
pub(super) struct SlotWriter {
    network: NetworkId,
    vault: VaultId,
    dealing: u32,
    access: AccessKeys,
    prf: PrfKey,
    scope: ScopeTag,
    generation: u32,
    key: ScopeKey,
    list: ListKey,
}

impl SlotWriter {
    pub(super) fn new(
        (network, vault, dealing): (NetworkId, VaultId, u32),
        access: AccessKeys,
        path: &ScopePath,
        generation: u32,
    ) -> Self {
        let (prf, scope) = (access.prf_key(dealing), access.scope_tag(path));
        let key = access.scope_key(path, generation);
        let list = key.list_key();
        Self { network, vault, dealing, access, prf, scope, generation, key, list }
    }

    /// The scope as others know it.
    pub(super) const fn scope(&self) -> ScopeTag {
        self.scope
    }

    /// The package that brings versions into the scope. A CPU job: 90 microseconds a version.
    pub(super) fn batch(&self, versions: &[Version]) -> Result<BatchPackage, Error> {
        let batch = BatchId(random()?);
        let list = OpenItem::List { batch, scope: self.scope, generation: self.generation };
        let list = list.slot(self.network, self.vault, self.dealing);
        let output = self.prf.evaluate(&list);
        let mut made = Vec::with_capacity(versions.len());
        for version in versions {
            let record = self.access.record_tag(&version.collection, &version.name);
            let item = OpenItem::Record {
                record,
                version: version.version,
                scope: self.scope,
                generation: self.generation,
            };
            let slot_id = item.slot(self.network, self.vault, self.dealing);
            let (day, content) = (version.day(), version.content());
            let day_key = self.key.day(day);
            let kek = Kek::new(&day_key, &self.prf.evaluate(&slot_id), &slot_id);
            let slot = Keyslot::wrap(&kek, &slot_id, &content, &self.list, day, random()?);
            let of = LineOf { list: &list, record, version: version.version };
            let line = version.line().to_padded();
            let line = SealedLine::seal(&of, &day_key, &output, &self.list, day, random()?, &line);
            let sealed = SealedSlot { slot, line: line.as_bytes().to_vec() };
            let named = SlotEntry {
                scope: self.scope,
                generation: self.generation,
                slot: sealed.slot.hash(),
                line: line_hash(&sealed.line),
            };
            let entry = RecordEntry {
                record,
                version: version.version,
                dek_commit: version.stored.dek_commit,
                header: content.header_commit(),
                slots: vec![named],
            };
            made.push((entry, sealed));
        }
        let (entries, slots) = made.into_iter().map(|(entry, sealed)| (entry, Some(sealed))).unzip();
        Ok(BatchPackage { vault: self.vault, batch, entries, slots })
    }
}
