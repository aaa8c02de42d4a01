//! The owner takes in what others brought: each record is checked, becomes a version of the owner's own, and what waited is
//! settled on the ledger.
//!
//! A deposit's commit says what its depositor likes. What is taken of it is what its own segments have, opens under the key that it
//! names, and is of the scopes of its grant. Nothing that is there already is replaced, but by who brought it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tokio::task::JoinSet;

use crate::client::access::scope::{Scope, Subject};
use crate::client::access::shred;
use crate::client::context::Context;
use crate::client::get::{FrameReader, read_header};
use crate::client::ledger::{no_ledger, wrong_answer};
use crate::client::packer::{Item, ItemKind, new_version};
use crate::client::put::Given;
use crate::client::records::not_own;
use crate::client::vault::Vault;
use crate::client::{
    Ack, Client, Condition, Download, Error, ErrorKind, Progress, PutOptions, RecordAddress, RecordInfo,
    Source, sync,
};
use crate::crypto::access::Purpose;
use crate::crypto::frame::{CommitKey, sealed_len};
use crate::ledger::ask::{Answer, Question};
use crate::ledger::rows::DepositRow;
use crate::message::access::{AccessNotes, Deposit, DepositPack, Provenance, SettleDeposits};
use crate::message::changeset::{RecordChange, What};
use crate::message::{
    Action, Changeset, Descriptor, Member, RecordHeader, Rejection, StoredVersion, VersionEntry,
    VersionState, Violation,
};
use crate::store::Index;
use crate::transfer::open::OpenError;
use crate::types::limits::{MAX_SETTLED_DEPOSITS, UNANCHORED_LIFE_MICROS};
use crate::types::{GrantId, RecordName, SegmentId, Timestamp, TransactionId};

/// Records of one deposit that are taken in at once.
const RECORDS_AT_ONCE: usize = 32;
/// Up to which block the owner was told of deposits.
const TOLD: &[u8] = b"told of deposits";
/// How often a record is looked at anew because its collection moved.
const TRIES: usize = 8;

/// A record that was taken in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Brought {
    /// Where it is now: where its depositor wanted it, unless another record was there.
    pub at: RecordAddress,
    /// Under which grant it came.
    pub grant: GrantId,
    /// What the depositor calls itself, as far as the owner noted it.
    pub by: Option<String>,
}

/// What became of what waited.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TakenIn {
    /// Records that are the owner's now.
    pub records: Vec<Brought>,
    /// What was not taken and is gone, each with why.
    pub refused: Vec<String>,
    /// What waits on, each with why.
    pub left: Vec<String>,
}

/// Why something is not taken.
enum NotTaken {
    /// It is wrong, and will stay so.
    Wrong(String),
    /// It may be taken later.
    NotNow(Error),
}

impl From<Error> for NotTaken {
    fn from(error: Error) -> Self {
        // Bytes that do not open or read are the fault of who brought them, shards that are lost are not.
        let source = std::error::Error::source(&error);
        let is_theirs = source.is_some_and(|source| source.is::<OpenError>() || source.is::<Violation>());
        if is_theirs { Self::Wrong(error.to_string()) } else { Self::NotNow(error) }
    }
}

fn wrong<T>(what: &str) -> Result<T, NotTaken> {
    Err(NotTaken::Wrong(what.to_owned()))
}

/// A deposit, proved, with where its segments are and those of the parts before it.
struct Waiting {
    id: TransactionId,
    row: DepositRow,
    pack: DepositPack,
    segments: BTreeMap<SegmentId, Descriptor>,
}

impl Client {
    /// Deposits that wait for the owner, as more static nodes say than can be wrong.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`] if too few answer.
    pub async fn waiting_deposits(&self) -> Result<Vec<(TransactionId, DepositRow)>, Error> {
        let Some(vault) = &self.ctx.vault else { return Ok(Vec::new()) };
        let roster = vault.ledger.roster();
        let committee = roster.committee();
        let (mut said, mut answered, mut reasons) = (BTreeMap::new(), 0, Vec::new());
        let mut asked = JoinSet::new();
        for member in roster.members() {
            let (vault, member) = (Arc::clone(vault), member.clone());
            asked.spawn(async move { (deposits_at(&vault, &member).await, member.label) });
        }
        while let Some(done) = asked.join_next().await {
            match done {
                Ok((Ok(found), _)) => {
                    answered += 1;
                    for (id, row) in found {
                        said.entry(id).or_insert((row, 0)).1 += 1;
                    }
                }
                Ok((Err(error), label)) => reasons.push(format!("{label} {error}")),
                Err(_) => {}
            }
        }
        if answered < committee.quorum() {
            let message = format!("too few static nodes say what waits: {}", reasons.join("; "));
            return Err(Error::new(ErrorKind::Unavailable, message).with_hint("see `xvault static status`"));
        }
        let enough = |(_, (_, by)): &(_, (_, usize))| *by >= committee.one_honest();
        Ok(said.into_iter().filter(enough).map(|(id, (row, _))| (id, row)).collect())
    }

    /// How many of these the owner was not told of, at this home; it is, from here on.
    ///
    /// # Errors
    /// Those of the local index.
    pub async fn tell_of_deposits(&self, waiting: &[(TransactionId, DepositRow)]) -> Result<usize, Error> {
        let noted = self.ctx.index.with(|index| index.notes(TOLD)).await?.pop();
        let told = noted.and_then(|(_, height)| height.try_into().ok()).map_or(0, u64::from_be_bytes);
        let heights = waiting.iter().filter(|(_, row)| row.pack.is_some()).map(|(_, row)| row.height.0);
        let new: Vec<_> = heights.filter(|height| *height > told).collect();
        if let Some(newest) = new.iter().max() {
            let note = [(TOLD.to_vec(), newest.to_be_bytes().to_vec())];
            self.ctx.index.with(move |index| index.note(&note)).await?;
        }
        Ok(new.len())
    }

    /// Takes in what others brought. What is wrong with one deposit keeps no other back.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`] if the ledger cannot be asked: what was taken in by then stays.
    pub async fn take_in(&self) -> Result<TakenIn, Error> {
        let mut rows = self.waiting_deposits().await?;
        let mut taken = TakenIn::default();
        if rows.is_empty() {
            return Ok(taken);
        }
        self.tell_of_deposits(&rows).await?;
        let vault = Arc::clone(self.ctx.vault.as_ref().ok_or_else(no_ledger)?);
        let notes = self.access_notes().await?;
        rows.sort_by_key(|(id, row)| (row.height, *id));
        let (mut done, mut parts, mut whole) = (Vec::new(), Parts::default(), Vec::new());
        for (id, row) in rows {
            match proven(&vault, id).await {
                Ok(deposit) => match deposit.pack.clone() {
                    Some(pack) => whole.push((id, row, deposit, pack)),
                    None => parts.add(&vault, id, row, &deposit).await?,
                },
                Err(error) => taken.left.push(format!("deposit {}: {error}", id.short())),
            }
        }
        for (id, row, deposit, pack) in whole {
            let mut segments = parts.of(&deposit.grant);
            for segment in &deposit.segments {
                segments.insert(segment.segment, vault.descriptor(segment).await?);
            }
            let waiting = Waiting { id, row, pack, segments };
            self.settle_one(&vault, &notes, waiting, &mut parts, &mut taken, &mut done).await;
        }
        let now = vault.ledger.tip().await?.record.time;
        done.extend(parts.forsaken(now));
        self.settle_deposits(&vault, done).await?;
        Ok(taken)
    }

    /// Takes a deposit in and says what became of it.
    async fn settle_one(
        &self,
        vault: &Arc<Vault>,
        notes: &AccessNotes,
        waiting: Waiting,
        parts: &mut Parts,
        taken: &mut TakenIn,
        done: &mut Vec<TransactionId>,
    ) {
        let by = notes.grant(&waiting.row.grant).map(|about| about.name.clone());
        let (id, grant) = (waiting.id, waiting.row.grant);
        let who = format!("{} (grant {grant})", by.clone().unwrap_or_else(|| "somebody".to_owned()));
        let waiting = Arc::new(waiting);
        match self.take_deposit(vault, notes, &waiting).await {
            Ok(Outcome { records, wrong, used }) => {
                let brought = |at| Brought { at, grant, by: by.clone() };
                taken.records.extend(records.into_iter().map(brought));
                taken.refused.extend(wrong.into_iter().map(|what| format!("from {who}: {what}")));
                done.push(id);
                done.extend(parts.take(grant, &used));
            }
            Err(NotTaken::Wrong(what)) => {
                taken.refused.push(format!("from {who}: {what}"));
                done.push(id);
            }
            Err(NotTaken::NotNow(error)) => taken.left.push(format!("from {who}: {error}")),
        }
    }

    /// Takes in each record of a deposit.
    async fn take_deposit(
        &self,
        vault: &Arc<Vault>,
        notes: &AccessNotes,
        waiting: &Arc<Waiting>,
    ) -> Result<Outcome, NotTaken> {
        waiting.segments.values().for_each(|descriptor| self.ctx.know_descriptor(descriptor));
        let changes = open_commit(&self.ctx, vault, waiting).await?;
        if not_own(&changes.collection).is_err() {
            return wrong("it names a collection that is xvault's own");
        }
        let Some(about) = notes.grant(&waiting.row.grant) else {
            let message = "nobody noted what the grant is about";
            return Err(NotTaken::NotNow(Error::new(ErrorKind::NotFound, message)));
        };
        let scopes: Vec<Scope> = about.scopes.iter().filter_map(|scope| scope.meaning.parse().ok()).collect();
        let (scopes, collection) = (Arc::new(scopes), changes.collection.clone());
        let mut outcome = Outcome::default();
        let mut taking = JoinSet::new();
        let mut changes = by_name(changes.changes).into_iter();
        loop {
            while taking.len() < RECORDS_AT_ONCE
                && let Some((name, changes)) = changes.next()
            {
                let (client, waiting, scopes) = (self.clone(), Arc::clone(waiting), Arc::clone(&scopes));
                let at = RecordAddress { collection: collection.clone(), name };
                taking.spawn(async move {
                    let mut taken = Vec::new();
                    for change in changes {
                        taken.push(client.take_record(&waiting, &scopes, at.clone(), change).await);
                    }
                    (at, taken)
                });
            }
            let Some(taken) = taking.join_next().await else { return Ok(outcome) };
            let panicked =
                |error| Error::new(ErrorKind::Internal, "taking a record in panicked").caused_by(error);
            let (at, taken) = taken.map_err(panicked)?;
            for taken in taken {
                match taken {
                    Ok((at, used)) => {
                        outcome.records.push(at);
                        outcome.used.extend(used);
                    }
                    Err(NotTaken::Wrong(what)) => outcome.wrong.push(format!("{at}: {what}")),
                    // The others are taken already, and found so the next time.
                    Err(NotTaken::NotNow(error)) => return Err(NotTaken::NotNow(error)),
                }
            }
        }
    }

    /// Takes in one record; where it is then, and in which segments.
    async fn take_record(
        &self,
        waiting: &Waiting,
        scopes: &[Scope],
        at: RecordAddress,
        change: RecordChange,
    ) -> Result<(RecordAddress, Vec<SegmentId>), NotTaken> {
        let What::Version { entry: VersionEntry { state: VersionState::Stored(stored), .. }, .. } =
            change.what
        else {
            return wrong("it brings no content");
        };
        check_stored(waiting, &stored)?;
        let header = read_header(&self.ctx, &stored).await?;
        check_header(waiting, &at, &stored, &header)?;
        let subject = Subject { collection: &at.collection, name: &at.name, metadata: &header.metadata };
        if !scopes.iter().any(|scope| scope.contains(&subject)) {
            return wrong("it is not of the grant's scopes");
        }
        let used: Vec<_> = header.extents.iter().map(|extent| extent.segment).collect();
        let is_shreddable = shred::class_of(&self.ctx, &at.collection).await?.is_shreddable();
        for _ in 0..TRIES {
            let (to, condition) = match self.place_of(waiting, &at, &stored).await? {
                Place::Taken(at) => return Ok((at, used)),
                Place::Free(to, condition) => (to, condition),
            };
            let taken = if is_shreddable {
                self.take_copy(waiting, &to, condition, &stored, &header).await
            } else {
                self.take_version(waiting, &to, condition, &stored, &header).await
            };
            match taken {
                // Another home was faster, or the name was taken meanwhile.
                Err(error) if error.kind() == ErrorKind::Refused => {}
                done => return Ok(done.map(|()| (to, used))?),
            }
        }
        let message = format!("{at} changes all the time");
        Err(NotTaken::NotNow(Error::new(ErrorKind::Unavailable, message)))
    }

    /// The record becomes a version of the owner's, under the segments that were brought.
    async fn take_version(
        &self,
        waiting: &Waiting,
        to: &RecordAddress,
        condition: Condition,
        stored: &StoredVersion,
        header: &RecordHeader,
    ) -> Result<(), Error> {
        let provenance = Some(waiting.provenance());
        let (version, created) = (new_version()?, waiting.row.time);
        let state = VersionState::Stored(stored.clone());
        let entry = VersionEntry { version, created, state, provenance };
        let mut used: Vec<_> = header.extents.iter().map(|extent| extent.segment).collect();
        used.extend([stored.header.segment, waiting.pack.segment]);
        used.sort_unstable();
        used.dedup();
        let segments = used.iter().filter_map(|segment| waiting.segments.get(segment)).cloned().collect();
        let what = ItemKind::Version(Box::new(entry), segments);
        let item = Item { at: to.clone(), condition, ack: Ack::Anchored, what };
        self.packer.commit(item).await.map(drop)
    }

    /// In a shreddable collection the record gets a data key of its own, that is in a keyslot alone: its bytes are put again.
    async fn take_copy(
        &self,
        waiting: &Waiting,
        to: &RecordAddress,
        condition: Condition,
        stored: &StoredVersion,
        header: &RecordHeader,
    ) -> Result<(), Error> {
        let info = RecordInfo {
            name: to.name.clone(),
            version: stored.content_version,
            created: waiting.row.time,
            deleted: false,
            size: stored.size,
            content_type: stored.content_type.clone(),
            modified: stored.modified,
            provenance: None,
        };
        let (range, progress) = (0..stored.size, Progress::default());
        let download = Download::begin(&self.ctx, info, stored.clone(), range, progress).await?;
        let options = PutOptions {
            content_type: stored.content_type.clone(),
            modified: stored.modified,
            metadata: header.metadata.clone(),
            condition,
            ..PutOptions::default()
        };
        let given = Given { version: None, provenance: Some(waiting.provenance()) };
        let source = Source::Reader(Box::new(FrameReader::of(download)));
        self.put_given(to, source, options, given).await.map(drop)
    }

    /// Where a record is to go: a name that nothing has, or that who brought it brought before.
    async fn place_of(
        &self,
        waiting: &Waiting,
        at: &RecordAddress,
        stored: &StoredVersion,
    ) -> Result<Place, NotTaken> {
        if let Some(vault) = &self.ctx.vault {
            sync::collection(&self.ctx, vault, &at.collection).await?;
        }
        let mut candidates = vec![at.clone()];
        // So that a letter of the same name as one that is there is neither lost nor in its place.
        let beside = format!("{}.{}", at.name, waiting.id.short()).parse();
        candidates.extend(beside.ok().map(|name| RecordAddress { name, ..at.clone() }));
        let mut free = None;
        for candidate in candidates {
            let address = candidate.clone();
            let find = move |index: &mut Index| index.versions(&address.collection, &address.name);
            let versions = self.ctx.index.with(find).await.map_err(Error::from)?;
            if versions.iter().any(|entry| is_taken(entry, waiting, stored)) {
                return Ok(Place::Taken(candidate));
            }
            let condition = condition_on(versions.first(), &waiting.row.grant);
            free = free.or_else(|| condition.map(|condition| (candidate, condition)));
        }
        match free {
            Some((at, condition)) => Ok(Place::Free(at, condition)),
            None => wrong("records of its name are there already"),
        }
    }

    /// What the holder of a grant called itself, as far as that is known.
    pub async fn grantee_name(&self, grant: &GrantId) -> Option<String> {
        let notes = self.access_notes().await.ok()?;
        notes.grant(grant).map(|about| about.name.clone())
    }

    /// Lets a deposit go without taking anything of it.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if none of this id waits, [`ErrorKind::Unavailable`].
    pub async fn refuse_deposit(&self, deposit: TransactionId) -> Result<(), Error> {
        let vault = self.ctx.vault.as_deref().ok_or_else(no_ledger)?;
        if self.settle_some(vault, &[deposit]).await? {
            return Ok(());
        }
        Err(Error::new(ErrorKind::NotFound, "no such deposit waits in the vault")
            .with_hint("`xvault access deposits` lists those that do"))
    }

    /// Says on the ledger that these need not wait any more.
    async fn settle_deposits(&self, vault: &Vault, mut done: Vec<TransactionId>) -> Result<(), Error> {
        done.sort_unstable();
        for some in done.chunks(MAX_SETTLED_DEPOSITS) {
            if self.settle_some(vault, some).await? {
                continue;
            }
            // Another home was faster with one of them.
            for one in some {
                self.settle_some(vault, std::slice::from_ref(one)).await?;
            }
        }
        Ok(())
    }

    /// Whether it was done: not if one of them waits no more.
    async fn settle_some(&self, vault: &Vault, some: &[TransactionId]) -> Result<bool, Error> {
        let settled = SettleDeposits { vault: *vault.keys.vault(), deposits: some.to_vec() };
        let notice = |text: &str| self.ctx.notice(text);
        let action = Action::SettleDeposits(settled);
        match vault.ledger.carry_out(vault.keys.signing(), action, &notice).await {
            Ok(_) => Ok(true),
            Err(error) => {
                let source = std::error::Error::source(&error);
                match source.and_then(|source| source.downcast_ref::<Rejection>()) {
                    Some(Rejection::NoSuchDeposit) => Ok(false),
                    _ => Err(error),
                }
            }
        }
    }
}

/// What became of the records of a deposit.
#[derive(Default)]
struct Outcome {
    records: Vec<RecordAddress>,
    wrong: Vec<String>,
    /// Segments of those that were taken.
    used: BTreeSet<SegmentId>,
}

/// Where a record goes.
enum Place {
    /// It is there already.
    Taken(RecordAddress),
    /// There, if this holds.
    Free(RecordAddress, Condition),
}

/// The changes of each record, in their order: one that was brought twice has two versions.
fn by_name(changes: Vec<RecordChange>) -> BTreeMap<RecordName, Vec<RecordChange>> {
    let mut found: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for change in changes {
        found.entry(change.name.clone()).or_default().push(change);
    }
    found
}

/// Whether a version is what a deposit brought, taken in before. A copy has a data key of its own, so that what is known of
/// its content has to do.
fn is_taken(entry: &VersionEntry, waiting: &Waiting, brought: &StoredVersion) -> bool {
    let is_of = entry.provenance.is_some_and(|provenance| provenance.deposit == waiting.id);
    is_of
        && match &entry.state {
            VersionState::Stored(found) => found.content_version == brought.content_version,
            VersionState::Slotted(found) => (found.size, found.modified) == (brought.size, brought.modified),
            VersionState::Deleted => false,
        }
}

/// What must hold of a record for one that was brought under a grant to take its place; none if it may not.
fn condition_on(latest: Option<&VersionEntry>, grant: &GrantId) -> Option<Condition> {
    match latest {
        None => Some(Condition::IfAbsent),
        Some(entry) if entry.state == VersionState::Deleted => Some(Condition::IfAbsent),
        Some(entry) => {
            let is_theirs = entry.provenance.is_some_and(|provenance| provenance.grant == *grant);
            is_theirs.then_some(Condition::IfVersion(entry.version))
        }
    }
}

impl Waiting {
    const fn provenance(&self) -> Provenance {
        Provenance { grant: self.row.grant, deposit: self.id }
    }

    /// Whether a run is within a segment that was brought.
    fn has(&self, segment: &SegmentId, offset: u64, len: u64) -> bool {
        let end = offset.checked_add(len);
        self.segments.get(segment).is_some_and(|found| end.is_some_and(|end| end <= found.len))
    }
}

fn check_stored(waiting: &Waiting, stored: &StoredVersion) -> Result<(), NotTaken> {
    if stored.dek.commit(&stored.content_version) != stored.dek_commit {
        return wrong("its data key is not the one that it commits to");
    }
    let header = &stored.header;
    if !waiting.has(&header.segment, header.offset, header.len.into()) {
        return wrong("its header is in no segment that was brought with it");
    }
    Ok(())
}

fn check_header(
    waiting: &Waiting,
    at: &RecordAddress,
    stored: &StoredVersion,
    header: &RecordHeader,
) -> Result<(), NotTaken> {
    let says_the_same = header.name == at.name
        && header.version == stored.content_version
        && (header.size, header.content) == (stored.size, stored.content)
        && (&header.content_type, header.modified) == (&stored.content_type, stored.modified)
        && (stored.extents.is_empty() || stored.extents == header.extents);
    if !says_the_same {
        return wrong("its header says something else than its commit");
    }
    let is_brought = |extent: &crate::message::Extent| {
        waiting.has(&extent.segment, extent.offset, sealed_len(extent.plain_len))
    };
    if header.extents.iter().all(is_brought) {
        return Ok(());
    }
    wrong("its content is in a segment that was not brought with it")
}

/// What waits, as one static node says.
async fn deposits_at(vault: &Vault, member: &Member) -> Result<Vec<(TransactionId, DepositRow)>, Error> {
    let mut found: Vec<(TransactionId, DepositRow)> = Vec::new();
    loop {
        let after = found.last().map(|(id, _)| *id);
        let question = Question::Deposits { vault: *vault.keys.vault(), after };
        let Answer::Deposits(page) = vault.ledger.ask_one(member, &question).await? else {
            return Err(wrong_answer());
        };
        // In ascending order, so that it ends.
        let page: Vec<_> = page.into_iter().filter(|(id, _)| Some(*id) > after).collect();
        if page.is_empty() {
            return Ok(found);
        }
        found.extend(page);
    }
}

/// The deposit of a transaction that is final.
async fn proven(vault: &Vault, id: TransactionId) -> Result<Deposit, Error> {
    let proven = vault.transaction(id).await?;
    match &proven.transaction.transaction().action {
        Action::Deposit(deposit) if deposit.vault == *vault.keys.vault() => Ok(deposit.clone()),
        _ => Err(wrong_answer()),
    }
}

/// What a deposit says it brings.
async fn open_commit(ctx: &Arc<Context>, vault: &Vault, waiting: &Waiting) -> Result<Changeset, NotTaken> {
    let DepositPack { segment, key } = &waiting.pack;
    let context = DepositPack::context(vault.keys.vault(), &waiting.row.grant, segment);
    let opened = vault.keys.access().inboxes().into_iter().find_map(|inbox| {
        let secret = inbox.open(Purpose::Inbox, &context, key).ok()?;
        <[u8; 32]>::try_from(secret.as_slice()).ok().map(CommitKey::from_bytes)
    });
    let Some(key) = opened else { return wrong("its key is not sealed to this vault's inbox") };
    let Some(pack) = waiting.segments.get(segment) else { return wrong("it has no pack") };
    Ok(sync::read_deposit(ctx, &key, pack).await?)
}

/// Deposits that brought segments for a later one.
#[derive(Default)]
struct Parts(Vec<Part>);

struct Part {
    id: TransactionId,
    row: DepositRow,
    segments: BTreeMap<SegmentId, Descriptor>,
}

impl Parts {
    async fn add(
        &mut self,
        vault: &Vault,
        id: TransactionId,
        row: DepositRow,
        deposit: &Deposit,
    ) -> Result<(), Error> {
        let mut segments = BTreeMap::new();
        for segment in &deposit.segments {
            segments.insert(segment.segment, vault.descriptor(segment).await?);
        }
        self.0.push(Part { id, row, segments });
        Ok(())
    }

    /// The segments of those that came under a grant.
    fn of(&self, grant: &GrantId) -> BTreeMap<SegmentId, Descriptor> {
        let theirs = self.0.iter().filter(|part| part.row.grant == *grant);
        theirs.flat_map(|part| part.segments.clone()).collect()
    }

    /// Takes those out of which a deposit under this grant used something.
    fn take(&mut self, grant: GrantId, used: &BTreeSet<SegmentId>) -> Vec<TransactionId> {
        let is_used =
            |part: &Part| part.row.grant == grant && part.segments.keys().any(|id| used.contains(id));
        let taken = self.0.iter().filter(|part| is_used(part)).map(|part| part.id).collect();
        self.0.retain(|part| !is_used(part));
        taken
    }

    /// Those whose deposit never came.
    fn forsaken(&self, now: Timestamp) -> impl Iterator<Item = TransactionId> {
        let until = now.unix_micros().saturating_sub(UNANCHORED_LIFE_MICROS);
        self.0.iter().filter(move |part| part.row.time.unix_micros() < until).map(|part| part.id)
    }
}
