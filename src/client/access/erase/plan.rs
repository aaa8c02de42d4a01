//! What an erasure is to do and has done so far: a note in the index of this home, written before the first step, so that an
//! erasure that was interrupted goes on, and receipts that come late are added.

use std::collections::BTreeSet;

use crate::client::RecordAddress;
use crate::message::access::certificate::NamedRecord;
use crate::message::access::{DeletionReceipt, Erasure, ReleaseReceipt, TaggedVersion};
use crate::message::canonical::{Canonical, read_bytes, read_list, write_bytes, write_list};
use crate::message::{Descriptor, Violation};
use crate::types::limits::{
    MAX_CERTIFICATE_ROWS, MAX_CLAIM_ERASURES, MAX_ERASURE_VERSIONS, MAX_SHARDS, MAX_SUBJECT_LEN,
};
use crate::types::{Height, PublicKey, SegmentId, VaultId, VersionId};

/// A version that goes, and where it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Going {
    /// Its record's address, as text.
    pub(super) address: String,
    /// The version.
    pub(super) version: VersionId,
}

impl Going {
    /// The record's address.
    pub(super) fn at(&self) -> Option<RecordAddress> {
        let (collection, name) = self.address.strip_prefix("xv://")?.split_once('/')?;
        Some(RecordAddress { collection: collection.parse().ok()?, name: name.parse().ok()? })
    }
}

/// A segment that versions were in, and which nodes had shards of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Held {
    pub(super) segment: SegmentId,
    pub(super) holders: Vec<PublicKey>,
}

/// An erasure, and its block once it is carried out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Planned {
    pub(super) erasure: Erasure,
    pub(super) height: Option<Height>,
}

/// See the module.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Plan {
    pub(super) erasures: Vec<Planned>,
    pub(super) names: Vec<NamedRecord>,
    /// Versions that the index is to forget, removal markers among them.
    pub(super) going: Vec<Going>,
    pub(super) segments: Vec<Held>,
    pub(super) deletions: Vec<DeletionReceipt>,
    pub(super) releases: Vec<ReleaseReceipt>,
}

impl Plan {
    /// Adds versions that are to go. `false` if they are more than one certificate has room for: then nothing is added.
    pub(super) fn add(
        &mut self,
        vault: VaultId,
        mut tagged: Vec<TaggedVersion>,
        names: Vec<NamedRecord>,
        going: Vec<Going>,
        segments: &[Descriptor],
    ) -> bool {
        let before = self.clone();
        // What an attempt before this one was about to erase is not to be erased twice.
        let known: BTreeSet<_> =
            self.erasures.iter().flat_map(|planned| planned.erasure.versions.iter().copied()).collect();
        tagged.retain(|version| !known.contains(version));
        tagged.sort_unstable();
        tagged.dedup();
        for versions in tagged.chunks(MAX_ERASURE_VERSIONS) {
            let erasure = Erasure { vault, versions: versions.to_vec() };
            self.erasures.push(Planned { erasure, height: None });
        }
        for name in names {
            if !self.names.iter().any(|known| known.record == name.record) {
                self.names.push(name);
            }
        }
        let known: BTreeSet<_> = self.going.iter().map(|going| going.version).collect();
        self.going.extend(going.into_iter().filter(|going| !known.contains(&going.version)));
        self.hold(segments);
        let rows = [self.names.len(), self.going.len(), self.segments.len()];
        // One has to be left for the end of the vault.
        let fits = self.erasures.len() < MAX_CLAIM_ERASURES
            && rows.into_iter().all(|rows| rows <= MAX_CERTIFICATE_ROWS);
        if !fits {
            *self = before;
        }
        fits
    }
}

impl Plan {
    /// Notes who has shards of these segments.
    fn hold(&mut self, segments: &[Descriptor]) {
        for descriptor in segments {
            let holders: BTreeSet<PublicKey> = descriptor.holders.iter().flatten().copied().collect();
            let holders = holders.into_iter().collect();
            match self.segments.iter_mut().find(|held| held.segment == descriptor.segment) {
                Some(held) => held.holders = holders,
                None => self.segments.push(Held { segment: descriptor.segment, holders }),
            }
        }
    }

    /// Ends with the whole vault, and what is left in it.
    pub(super) fn end_vault(&mut self, vault: VaultId, left: &[Descriptor]) {
        let room = MAX_CERTIFICATE_ROWS.saturating_sub(self.segments.len());
        self.hold(&left[..left.len().min(room)]);
        self.erasures.push(Planned { erasure: Erasure::of_vault(vault), height: None });
    }

    /// Whether it ends the vault.
    pub(super) fn is_of_vault(&self) -> bool {
        self.erasures.iter().any(|planned| planned.erasure.is_of_vault())
    }
}

impl Canonical for Going {
    fn write(&self, to: &mut Vec<u8>) {
        write_bytes(self.address.as_bytes(), to);
        self.version.write(to);
    }

    fn read(from: &mut &[u8]) -> Result<Self, Violation> {
        let address = read_bytes(from, MAX_SUBJECT_LEN)?;
        let address = String::from_utf8(address).map_err(|_| Violation::Malformed)?;
        Ok(Self { address, version: Canonical::read(from)? })
    }
}

impl Canonical for Held {
    fn write(&self, to: &mut Vec<u8>) {
        self.segment.write(to);
        write_list(&self.holders, to);
    }

    fn read(from: &mut &[u8]) -> Result<Self, Violation> {
        Ok(Self { segment: Canonical::read(from)?, holders: read_list(from, MAX_SHARDS)? })
    }
}

impl Canonical for Planned {
    fn write(&self, to: &mut Vec<u8>) {
        self.erasure.write(to);
        self.height.write(to);
    }

    fn read(from: &mut &[u8]) -> Result<Self, Violation> {
        Ok(Self { erasure: Canonical::read(from)?, height: Canonical::read(from)? })
    }
}

impl Canonical for Plan {
    fn write(&self, to: &mut Vec<u8>) {
        write_list(&self.erasures, to);
        write_list(&self.names, to);
        write_list(&self.going, to);
        write_list(&self.segments, to);
        write_list(&self.deletions, to);
        write_list(&self.releases, to);
    }

    fn read(from: &mut &[u8]) -> Result<Self, Violation> {
        Ok(Self {
            erasures: read_list(from, MAX_CLAIM_ERASURES)?,
            names: read_list(from, MAX_CERTIFICATE_ROWS)?,
            going: read_list(from, MAX_CERTIFICATE_ROWS)?,
            segments: read_list(from, MAX_CERTIFICATE_ROWS)?,
            deletions: read_list(from, MAX_CERTIFICATE_ROWS)?,
            releases: read_list(from, MAX_CERTIFICATE_ROWS)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{Code, Hash, RecordTag};

    fn plan(versions: u32) -> (Plan, bool) {
        let mut plan = Plan::default();
        let id = |nth: u32| {
            let mut id = [0; 16];
            id[..4].copy_from_slice(&nth.to_be_bytes());
            id
        };
        let tagged = (0..versions)
            .map(|nth| TaggedVersion { record: RecordTag([1; 16]), version: VersionId(id(nth)) })
            .collect();
        let going = (0..versions)
            .map(|nth| Going { address: "xv://c/a/b".to_owned(), version: VersionId(id(nth)) })
            .collect();
        let names = vec![NamedRecord { record: RecordTag([1; 16]), name: "xv://c/a/b".to_owned() }];
        let descriptor = Descriptor {
            segment: SegmentId([3; 32]),
            code: Code::DEFAULT,
            len: 9,
            roots: vec![Hash([4; 32]); 6],
            holders: vec![Some(PublicKey([5; 32])); 6],
        };
        let fits = plan.add(VaultId([2; 32]), tagged, names, going, &[descriptor]);
        (plan, fits)
    }

    #[test]
    fn a_plan_survives_its_note_and_grows_without_repeating_itself() {
        let (mut plan, fits) = plan(1_500);
        assert!(fits);
        assert_eq!(plan.erasures.iter().map(|planned| planned.erasure.versions.len()).sum::<usize>(), 1_500);
        assert_eq!((plan.erasures.len(), plan.segments[0].holders.len()), (2, 1));
        assert_eq!(plan.going[0].at().unwrap().name.as_str(), "a/b");
        plan.erasures[0].height = Some(Height(9));
        assert_eq!(Plan::decode(&plan.encode()), Ok(plan.clone()));
        let before = plan.clone();
        let tagged = before.erasures[1].erasure.versions.clone();
        assert!(plan.add(VaultId([2; 32]), tagged, before.names.clone(), before.going.clone(), &[]));
        assert_eq!(plan, before);
    }

    #[test]
    fn a_plan_has_no_more_than_a_certificate_has_room_for() {
        let most = u32::try_from((MAX_CLAIM_ERASURES - 1) * MAX_ERASURE_VERSIONS).unwrap();
        assert!(plan(most).1);
        let (plan, fits) = plan(most + 1);
        assert!(!fits && plan == Plan::default());
    }

    #[test]
    fn a_vault_ends_last() {
        let (mut plan, _) = plan(3);
        assert!(!plan.is_of_vault());
        plan.end_vault(VaultId([2; 32]), &[]);
        assert!(plan.is_of_vault() && plan.erasures[1].erasure.is_of_vault());
        assert_eq!(Plan::decode(&plan.encode()), Ok(plan));
    }
}
