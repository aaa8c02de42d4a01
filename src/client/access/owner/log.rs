//! The access log of a vault, as a quorum of the static nodes have it.

use std::collections::BTreeMap;

use crate::client::context::random;
use crate::client::ledger::wrong_answer;
use crate::client::{Error, ErrorKind, RecordAddress};
use crate::crypto::access::Purpose;
use crate::message::access::Denial;
use crate::message::access::desk::{DeskAnswer, DeskRequest, LogEntry, chain};
use crate::message::access::open::OpenItem;
use crate::message::{Canonical as _, Member};
use crate::types::{GrantId, Hash, Timestamp, TransactionId};

use super::Owner;

/// An entry of the access log, as the static nodes have it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccessEvent {
    /// When, by the clock of the first that has it.
    pub time: Timestamp,
    /// The grant.
    pub grant: GrantId,
    /// Hash of the request.
    pub request: Hash,
    /// The records and lists that were asked for, by their names where this home knows them.
    pub items: Vec<String>,
    /// What for, in the grantee's word.
    pub purpose: String,
    /// The emergency in which it was opened, as the first node says.
    pub emergency: Option<TransactionId>,
    /// The static nodes that say that they opened it: a record is open once enough of them did.
    pub opened: Vec<String>,
    /// The static nodes that say that they denied it, and why.
    pub denied: Vec<(String, Denial)>,
}

/// The access log, and by whose signed heads it was checked.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AccessLog {
    /// What was opened and denied, the oldest first.
    pub events: Vec<AccessEvent>,
    /// Static nodes whose log it is: a quorum at least, unless the vault's key was never shared.
    pub heads: Vec<String>,
    /// Static nodes that did not show theirs, or whose log is not what they sign.
    pub missing: Vec<String>,
}

impl AccessEvent {
    /// Why it was denied, as most say that denied it; none if a node opened it, as others may hide that they did.
    #[must_use]
    pub fn denial(&self) -> Option<Denial> {
        let often = |denial: &Denial| self.denied.iter().filter(|(_, other)| other == denial).count();
        let most = self.denied.iter().map(|(_, denial)| *denial).max_by_key(often);
        most.filter(|_| self.opened.is_empty())
    }
}

impl Owner<'_> {
    /// `about` is a record that is to be shown by its name, also if nothing is known of it here any more.
    pub(super) async fn access_log(&self, about: Option<&RecordAddress>) -> Result<AccessLog, Error> {
        let mut events = BTreeMap::new();
        let log = self
            .for_each_log(|member, entries| {
                entries.into_iter().for_each(|entry| note(&mut events, member, entry));
            })
            .await?;
        if events.is_empty() {
            return Ok(log);
        }
        let mut names: BTreeMap<_, _> =
            self.records().await?.into_iter().map(|(tag, at)| (tag.to_string(), at.to_string())).collect();
        if let Some(at) = about {
            let tag = self.vault.keys.access().record_tag(&at.collection, &at.name);
            names.insert(tag.to_string(), at.to_string());
        }
        let mut events: Vec<AccessEvent> = events.into_values().collect();
        for item in events.iter_mut().flat_map(|event| &mut event.items) {
            if let Some(name) = names.get(item) {
                name.clone_into(item);
            }
        }
        events.sort_by_key(|event| event.time);
        Ok(AccessLog { events, ..log })
    }

    /// All entries that a quorum of the static nodes have, each as often as it is there.
    pub(super) async fn raw_access_log(&self) -> Result<Vec<LogEntry>, Error> {
        let mut all = Vec::new();
        self.for_each_log(|_, entries| all.extend(entries)).await?;
        Ok(all)
    }

    /// Gives the log of each static node that shows it; answers a log without events, which says whose they were.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`] if fewer do than a quorum.
    async fn for_each_log(&self, mut give: impl FnMut(&Member, Vec<LogEntry>)) -> Result<AccessLog, Error> {
        self.vault.ledger.follow().await?;
        let mut log = AccessLog::default();
        if self.desks.access(self.id()).await?.is_none() {
            return Ok(log);
        }
        let roster = self.vault.ledger.roster();
        self.desks.follow(&roster);
        let mut reasons = Vec::new();
        for member in roster.members() {
            match self.log_of(member).await {
                Ok(entries) => {
                    log.heads.push(member.label.clone());
                    give(member, entries);
                }
                Err(error) => {
                    log.missing.push(member.label.clone());
                    reasons.push(error.to_string());
                }
            }
        }
        if log.heads.len() < roster.committee().quorum() {
            let message = format!("too few static nodes show their access log: {}", reasons.join("; "));
            return Err(Error::new(ErrorKind::Unavailable, message).with_hint("see `xvault static status`"));
        }
        Ok(log)
    }

    /// The whole log of the vault at one static node, checked against the head that it signs.
    pub(super) async fn log_of(&self, member: &Member) -> Result<Vec<LogEntry>, Error> {
        let damaged =
            |what: &str| Error::new(ErrorKind::Corrupt, format!("the access log of {} {what}", member.label));
        let (network, vault, nonce) = (self.vault.ledger.genesis().network, self.id(), random()?);
        // What was logged before a rotation is sealed to the key of then.
        let audits = self.vault.keys.access().audits();
        let (mut entries, mut head, mut after) = (Vec::new(), Hash([0; 32]), None);
        loop {
            let DeskAnswer::Log(page) =
                self.desks.say(member, &DeskRequest::Log { vault, after, nonce }).await?
            else {
                return Err(wrong_answer());
            };
            page.verify(&network, &vault, &nonce, &member.key)
                .map_err(|wrong| damaged("is not signed by it").caused_by(wrong))?;
            let first = after.map_or(0, |after: u64| after + 1);
            if page.first != first {
                return Err(damaged("has a gap"));
            }
            for (sequence, sealed) in (first..).zip(&page.entries) {
                head = chain(&head, sealed);
                let context = LogEntry::context(&member.key, sequence);
                let plain = audits.iter().find_map(|key| key.open(Purpose::Audit, &context, sealed).ok());
                let entry = plain.and_then(|plain| LogEntry::decode(&plain).ok());
                entries.push(entry.ok_or_else(|| damaged("has an entry that does not open"))?);
                after = Some(sequence);
            }
            let have = u64::try_from(entries.len()).unwrap_or(u64::MAX);
            if have >= page.size {
                // It may have grown since the first page: what it signed last must be what there is.
                let is_it = have > page.size || page.head == head;
                return if is_it { Ok(entries) } else { Err(damaged("is not what it signs")) };
            }
            if page.entries.is_empty() {
                return Err(damaged("is shorter than it says"));
            }
        }
    }
}

/// Adds what one node has to what others have of the same request.
fn note(events: &mut BTreeMap<Hash, AccessEvent>, member: &Member, entry: LogEntry) {
    let item = |item: &OpenItem| match item {
        OpenItem::Record { record, .. } => record.to_string(),
        OpenItem::List { .. } => "a list".to_owned(),
    };
    let event = events.entry(entry.request).or_insert_with(|| AccessEvent {
        time: entry.time,
        grant: entry.grant,
        request: entry.request,
        items: if entry.items.is_empty() {
            vec!["a list".to_owned()]
        } else {
            entry.items.iter().map(item).collect()
        },
        purpose: entry.purpose.clone(),
        emergency: entry.emergency,
        opened: Vec::new(),
        denied: Vec::new(),
    });
    event.time = event.time.min(entry.time);
    let label = member.label.clone();
    match entry.denied {
        None if !event.opened.contains(&label) => event.opened.push(label),
        Some(denial) if event.denied.iter().all(|(node, _)| *node != label) => {
            event.denied.push((label, denial));
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{PublicKey, RecordTag, ScopeTag, VersionId};

    fn member(label: &str) -> Member {
        Member {
            key: PublicKey([1; 32]),
            pq_key: Box::new([0; _]),
            label: label.to_owned(),
            operator: "clinic".into(),
            address: ([127, 0, 0, 1], 1).into(),
        }
    }

    fn entry(request: u8, time: u64, denied: Option<Denial>) -> LogEntry {
        LogEntry {
            time: Timestamp::from_unix_millis(time),
            grant: GrantId([1; 16]),
            request: Hash([request; 32]),
            items: vec![OpenItem::Record {
                record: RecordTag([2; 16]),
                version: VersionId([3; 16]),
                scope: ScopeTag([4; 16]),
                generation: 0,
            }],
            purpose: "read".into(),
            emergency: None,
            denied,
        }
    }

    #[test]
    fn one_request_is_one_event_whatever_nodes_say_of_it() {
        let mut events = BTreeMap::new();
        note(&mut events, &member("s1"), entry(1, 9, Some(Denial::OverQuota)));
        note(&mut events, &member("s2"), entry(1, 7, None));
        note(&mut events, &member("s3"), entry(1, 8, None));
        note(&mut events, &member("s3"), entry(1, 8, None));
        note(&mut events, &member("s1"), entry(2, 1, Some(Denial::Revoked)));
        note(&mut events, &member("s2"), entry(2, 1, Some(Denial::Revoked)));
        note(&mut events, &member("s3"), entry(2, 1, Some(Denial::NotYet)));
        let [mixed, denied] = [&events[&Hash([1; 32])], &events[&Hash([2; 32])]];
        assert_eq!((events.len(), mixed.time), (2, Timestamp::from_unix_millis(7)));
        assert_eq!((mixed.opened.len(), mixed.denied.len(), mixed.denial()), (2, 1, None));
        assert_eq!((denied.opened.len(), denied.denial()), (0, Some(Denial::Revoked)));
    }
}
