//! The owner's notes of access, kept as a record of the vault: a home that was recovered, or another one, knows names of
//! scopes, what grants are about, and which records are to join.

use bytes::Bytes;

use crate::client::{
    Ack, Client, Condition, Error, ErrorKind, GetOptions, PutOptions, RecordAddress, Source, sync,
};
use crate::message::access::AccessNotes;
use crate::message::{Canonical as _, VersionState};
use crate::store::Index;
use crate::types::limits::MAX_ACCESS_NOTES_LEN;
use crate::types::{CollectionName, VersionId};

/// The collection that xvault itself keeps records in; it is not shown.
const OWN: &str = "xvault.own";
const NAME: &str = "access";
/// In the local index: the version that was read last, and what it says.
const CACHED: &[u8] = b"access notes";
/// How often a change is made anew that another home was faster with.
const TRIES: usize = 8;

/// Whether a collection is xvault's own.
pub(crate) fn is_own(collection: &CollectionName) -> bool {
    collection.as_str() == OWN
}

fn address() -> RecordAddress {
    match (OWN.parse(), NAME.parse()) {
        (Ok(collection), Ok(name)) => RecordAddress { collection, name },
        _ => unreachable!("both are names"),
    }
}

impl Client {
    /// The notes as they are on the ledger; as they were when it was last asked if it cannot be.
    pub(super) async fn access_notes(&self) -> Result<AccessNotes, Error> {
        self.noted().await.map(|(_, notes)| notes)
    }

    async fn noted(&self) -> Result<(Option<VersionId>, AccessNotes), Error> {
        let at = address();
        // Not what is fresh enough for a listing: another home may have changed them a moment ago.
        let stale = match &self.ctx.vault {
            Some(vault) => sync::collection(&self.ctx, vault, &at.collection).await.err(),
            None => None,
        };
        let cached = self.ctx.index.with(|index| index.notes(CACHED)).await?.pop();
        let cached = cached.and_then(|(_, value)| {
            let (version, notes) = value.split_first_chunk()?;
            Some((VersionId(*version), AccessNotes::decode(notes).ok()?))
        });
        let latest = self.latest(&at).await?;
        match (latest, cached) {
            (Some(latest), Some((version, notes))) if latest == version => Ok((Some(version), notes)),
            (Some(latest), _) => Ok((Some(latest), self.read_notes(&at, latest).await?)),
            (None, Some((version, notes))) if stale.is_some() => Ok((Some(version), notes)),
            (None, _) => match stale {
                Some(error) => Err(error),
                None => Ok((None, AccessNotes::default())),
            },
        }
    }

    async fn latest(&self, at: &RecordAddress) -> Result<Option<VersionId>, Error> {
        let address = at.clone();
        let find = move |index: &mut Index| index.latest(&address.collection, &address.name);
        let entry = self.ctx.index.with(find).await?;
        Ok(entry.filter(|entry| matches!(entry.state, VersionState::Stored(_))).map(|entry| entry.version))
    }

    async fn read_notes(&self, at: &RecordAddress, version: VersionId) -> Result<AccessNotes, Error> {
        let options = GetOptions { version: Some(version), ..GetOptions::default() };
        let mut download = self.get(at, options).await?;
        let mut bytes = Vec::new();
        while let Some(piece) = download.next().await? {
            bytes.extend_from_slice(&piece);
            if bytes.len() > MAX_ACCESS_NOTES_LEN {
                return Err(Error::new(ErrorKind::Corrupt, "the vault's notes of access are too long"));
            }
        }
        let notes = AccessNotes::decode(&bytes).map_err(|violation| {
            Error::new(ErrorKind::Corrupt, "the vault's notes of access do not read")
                .caused_by(violation)
                .with_hint("they may be of a newer version of xvault than this one")
        })?;
        self.cache_notes(version, &notes).await?;
        Ok(notes)
    }

    async fn cache_notes(&self, version: VersionId, notes: &AccessNotes) -> Result<(), Error> {
        let note = [(CACHED.to_vec(), [&version.0[..], &notes.encode()].concat())];
        Ok(self.ctx.index.with(move |index| index.note(&note)).await?)
    }

    /// Changes the notes: anchored when it returns. Of two homes that change them at once the slower one changes what the
    /// faster one made.
    ///
    /// # Errors
    /// [`ErrorKind::Refused`] if they become too long, [`ErrorKind::Unavailable`], and those of a put.
    pub(super) async fn change_access_notes(
        &self,
        change: impl Fn(&mut AccessNotes) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let at = address();
        let mut tries = 0;
        loop {
            let (version, before) = self.noted().await?;
            let mut notes = before.clone();
            change(&mut notes)?;
            if notes == before {
                return Ok(());
            }
            let bytes = notes.encode();
            if bytes.len() > MAX_ACCESS_NOTES_LEN {
                let message = "the vault has as many scopes and grants as can be noted";
                return Err(Error::new(ErrorKind::Refused, message));
            }
            let condition = version.map_or(Condition::IfAbsent, Condition::IfVersion);
            let options = PutOptions { condition, ack: Ack::Anchored, ..PutOptions::default() };
            match self.put_any(&at, Source::Bytes(Bytes::from(bytes)), options).await {
                Ok(report) => {
                    self.cache_notes(report.version, &notes).await?;
                    if let Some(version) = version {
                        self.forget_version(&at, version).await;
                    }
                    return Ok(());
                }
                Err(error) if error.kind() == ErrorKind::Refused && tries < TRIES => tries += 1,
                Err(error) => return Err(error),
            }
        }
    }

    /// Nobody needs what the notes were. If it does not go now it stays: some kilobytes.
    async fn forget_version(&self, at: &RecordAddress, version: VersionId) {
        if let Err(error) = self.drop_versions(at, vec![version]).await {
            tracing::debug!(%error, "former notes of access stay");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_own_collection_has_a_name_like_others() {
        assert!(is_own(&address().collection));
        assert!(!is_own(&"imaging".parse().unwrap()));
    }
}
