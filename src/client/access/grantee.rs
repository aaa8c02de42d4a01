//! What a grantee does: makes a key package, accepts the grant, lists and reads.
//!
//! A read takes two halves: the day's key, which came with the grant, and a release by the static nodes, which is asked for
//! anew each time and is in their logs before they answer. That a slot is what the ledger's batch says is told by the nodes:
//! as many have to say the same as it takes to release, so that an honest majority of them has checked it.

mod opening;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::client::access::deposit::{Depositor, require_wanted};
use crate::client::access::desk::Desks;
use crate::client::access::emergency::{CLOSED_HINT, HeldCard};
use crate::client::access::gathering::{Gathering, Opened, Unopened};
use crate::client::access::owner::is_named;
use crate::client::context::{Context, random};
use crate::client::get::read_header;
use crate::client::ledger::{LedgerClient, wrong_answer};
use crate::client::members;
use crate::client::packer::Packer;
use crate::client::put::{self, Given};
use crate::client::records::{CLOSE_PATIENCE, end_background, not_own};
use crate::client::vault::Vault;
use crate::client::{
    Ack, ClientConfig, Download, Error, ErrorKind, GetOptions, PutOptions, PutReport, RecordAddress,
    RecordInfo, Source,
};
use crate::crypto::access::{
    Commitments, DayKey, Kek, LineOf, PrfOutput, Purpose, SealKey, SealedLine, SlotContent,
};
use crate::crypto::sign::KeyPair;
use crate::ledger::ask::{Answer, Question};
use crate::ledger::rows::{Access, GrantRow};
use crate::message::access::body::MAX_NOTE_LEN;
use crate::message::access::desk::{DeskAnswer, DeskRequest, body_hash};
use crate::message::access::open::{ListedLine, OpenItem, OpenRequest, OpenedItem, SignedOpenRequest};
use crate::message::access::{BodyScope, Denial, GrantBody, KeyPackage, ListLine, Rights};
use crate::message::anchor::AnchoredSegment;
use crate::message::{Canonical as _, Extent, Member, RecordHeader, Roster, StoredVersion};
use crate::net::Peers;
use crate::runtime::wall_time;
use crate::store::SharedIndex;
use crate::types::limits::{MAX_CACHED_EXTENTS, MAX_RELEASE_ITEMS};
use crate::types::{
    BatchId, Day, GrantId, Hash, RecordTag, ScopeTag, SegmentId, ShareIndex, SlotId, Timestamp,
    TransactionId, VaultId, VersionId,
};

use opening::KnownSharing;
pub use opening::OpenRecord;

/// How often static nodes are asked again that have just started, and between two such tries.
const SERVING_TRIES: usize = 10;
const SERVING_PAUSE: Duration = Duration::from_millis(500);

/// A record that the grant lets be seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SharedRecord {
    /// What the owner's list says of it.
    pub line: ListLine,
    /// Its version.
    pub version: VersionId,
    /// The scope by which it is opened.
    pub scope: String,
    record: RecordTag,
    tag: ScopeTag,
    generation: u32,
    day: Day,
}

impl SharedRecord {
    /// What is known of it before it is opened.
    #[must_use]
    pub fn info(&self) -> RecordInfo {
        RecordInfo {
            name: self.line.name.clone(),
            version: self.version,
            created: self.line.created,
            deleted: false,
            size: self.line.size,
            content_type: self.line.content_type.clone(),
            modified: self.line.modified,
            provenance: None,
        }
    }
}

/// A vault, as somebody sees it who was let in.
#[derive(Debug)]
pub struct Shared {
    ctx: Arc<Context>,
    desks: Desks,
    /// Asks for descriptors as an owner's client would.
    vault: Arc<Vault>,
    /// What signs requests to open: the grant's key, or in an emergency the clinician's.
    signer: KeyPair,
    /// The emergency in which it is opened.
    emergency: Option<TransactionId>,
    row: GrantRow,
    body: GrantBody,
    /// Brings records, where the grant lets that be done.
    packer: Option<Packer>,
    /// Who has the shares of the vault's key, once it was asked for.
    sharing: tokio::sync::Mutex<Option<Arc<KnownSharing>>>,
}

/// Makes a key package to give to an owner: keys that serve for one grant.
///
/// # Errors
/// [`ErrorKind::Config`] if the network has no ledger.
pub fn key_package(config: &ClientConfig, name: &str, expires: Timestamp) -> Result<KeyPackage, Error> {
    let is_fine = (1..=MAX_NOTE_LEN).contains(&name.len()) && !name.chars().any(char::is_control);
    if !is_fine {
        let message = format!("a name has 1 to {MAX_NOTE_LEN} bytes and no control characters");
        return Err(Error::new(ErrorKind::Invalid, message));
    }
    let ledger = LedgerClient::new(&config.network, config.keys.signing())?;
    let number = u32::from_le_bytes(random()?);
    let (auth, seal) = config.keys.access().grantee(number);
    let package = KeyPackage {
        network: ledger.genesis().network,
        number,
        auth: auth.public(),
        seal: seal.public().clone(),
        name: name.to_owned(),
        expires,
        identity: config.keys.signing().public(),
        signature: [0; 64],
    };
    Ok(package.sign(config.keys.signing()))
}

impl Shared {
    /// Opens the grant that was given for a key package of this home.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if there is none (yet), [`ErrorKind::Refused`] if it is not for these keys or does not fit
    /// what the ledger says of it, [`ErrorKind::Unavailable`].
    pub async fn open(config: ClientConfig, package: &KeyPackage) -> Result<Self, Error> {
        let pair = config.keys.access().grantee_with(package.number, &package.auth);
        let (key, seal) = pair.ok_or_else(|| {
            Error::new(ErrorKind::Refused, "the key package is not of this home's keys")
                .with_hint("use the home in which it was made")
        })?;
        let signer = key.clone();
        Self::open_with(config, (key, seal), signer, None).await
    }

    /// Opens the grant of an emergency card. What it lets be read is read while the emergency is active.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub async fn open_in_emergency(config: ClientConfig, held: &HeldCard) -> Result<Self, Error> {
        let signer = config.keys.signing().clone();
        let opened = Self::open_with(config, held.card.secret.keys(), signer, held.request).await;
        opened.map_err(|error| match error.kind() {
            ErrorKind::Unavailable => error.with_hint(CLOSED_HINT),
            ErrorKind::NotFound => error.with_hint("the card is of no vault on this network"),
            _ => error,
        })
    }

    async fn open_with(
        config: ClientConfig,
        (key, seal): (KeyPair, SealKey),
        signer: KeyPair,
        emergency: Option<TransactionId>,
    ) -> Result<Self, Error> {
        let ledger = LedgerClient::new(&config.network, &key)?;
        // Whoever cannot be asked now is asked again.
        drop(ledger.follow().await);
        let desks = Desks::new(ledger.clone(), &key);
        desks.follow(&ledger.roster());
        let Answer::Grants(rows) = desks.agreed(&Question::GrantOf { grantee: key.public() }).await? else {
            return Err(wrong_answer());
        };
        let row = rows.into_iter().next().ok_or_else(|| {
            Error::new(ErrorKind::NotFound, "the ledger has no grant for this key package")
                .with_hint("give the package to the vault's owner, who grants with `xvault grant`")
        })?;
        let body = fetch_body(&desks, &row, &seal).await?;
        let ctx = open_context(&config, &key, row.grant.vault, &ledger).await?;
        let vault = Vault::new(ledger, config.keys);
        let packer = body.inbox.as_ref().map(|inbox| {
            let to = (row.grant.vault, row.grant.grant);
            let depositor = Depositor::new(Arc::clone(&vault), key, to, inbox);
            Packer::of_depositor(Arc::clone(&ctx), depositor)
        });
        let sharing = tokio::sync::Mutex::default();
        Ok(Self { ctx, desks, vault, signer, emergency, row, body, packer, sharing })
    }

    /// Brings a record into the vault: it is final on the ledger when this returns, and the owner takes it in from there. It
    /// cannot be read back under a right to append alone.
    ///
    /// # Errors
    /// [`ErrorKind::Refused`] if the grant does not let this record be brought, or no more; and those of a put.
    ///
    /// # Cancel safety
    /// Dropped, the record may or may not have been brought.
    pub async fn put(
        &self,
        at: &RecordAddress,
        source: Source,
        options: PutOptions,
    ) -> Result<PutReport, Error> {
        let (Some(packer), Some(inbox)) = (&self.packer, &self.body.inbox) else {
            return Err(Error::new(ErrorKind::Refused, "the grant lets nothing be brought into the vault")
                .with_hint("ask its owner for one with `xvault grant --append`"));
        };
        not_own(&at.collection)?;
        require_wanted(inbox, at, &options)?;
        let options = PutOptions { ack: Ack::Anchored, ..options };
        put::put(&self.ctx, packer, at, source, options, Given::default()).await
    }

    /// Which records the grant lets be brought: those of any of these expressions.
    #[must_use]
    pub fn appendable(&self) -> &[String] {
        self.body.inbox.as_ref().map_or(&[], |inbox| &inbox.scopes)
    }

    /// Has calls be told of what matters and is no error. The first `notice` stays.
    pub fn on_notice(&self, notice: impl Fn(&str) + Send + Sync + 'static) {
        self.ctx.on_notice(notice);
    }

    /// Waits, within bounds, for shards that are still on their way.
    pub async fn close(self) {
        let Self { ctx, packer, .. } = self;
        drop(packer);
        let finish = async {
            end_background(&ctx).await;
            ctx.peers.close().await;
        };
        drop(tokio::time::timeout(CLOSE_PATIENCE, finish).await);
    }

    /// The grant as the ledger has it.
    #[must_use]
    pub const fn grant(&self) -> &GrantRow {
        &self.row
    }

    /// What the owner says of it.
    #[must_use]
    pub fn note(&self) -> &str {
        &self.body.note
    }

    /// What the owner calls the scopes.
    pub fn scopes(&self) -> impl Iterator<Item = &str> {
        self.body.scopes.iter().map(|scope| scope.path.as_str())
    }

    /// The records that the grant lets be seen, in the order of their names: of each the newest version that is in a scope.
    ///
    /// # Errors
    /// [`ErrorKind::Refused`] names why the static nodes do not open their lists, [`ErrorKind::Unavailable`].
    pub async fn list(&self) -> Result<Vec<SharedRecord>, Error> {
        let mut found: BTreeMap<RecordAddress, SharedRecord> = BTreeMap::new();
        for scope in &self.body.scopes {
            let batches = self.batches(scope).await?;
            for some in batches.chunks(MAX_RELEASE_ITEMS) {
                for record in self.open_lists(scope, some).await? {
                    let line = &record.line;
                    let at = RecordAddress { collection: line.collection.clone(), name: line.name.clone() };
                    match found.get(&at) {
                        Some(known) if known.version >= record.version => {}
                        _ => drop(found.insert(at, record)),
                    }
                }
            }
        }
        Ok(found.into_values().collect())
    }

    /// A record that the grant lets be seen.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if it is not among them, and those of [`list`](Self::list).
    pub async fn find(&self, at: &RecordAddress) -> Result<SharedRecord, Error> {
        let is_it =
            |record: &SharedRecord| record.line.collection == at.collection && record.line.name == at.name;
        self.list().await?.into_iter().find(is_it).ok_or_else(|| {
            Error::new(ErrorKind::NotFound, format!("the grant lets no record {at} be seen"))
                .with_hint("`xvault ls --grant` lists those that it does")
        })
    }

    /// Begins to get a record that was listed.
    ///
    /// # Errors
    /// [`ErrorKind::Refused`] names why the static nodes do not open it; [`ErrorKind::Corrupt`] if what they open is not what
    /// the owner's entry says; [`ErrorKind::Unavailable`].
    pub async fn get(&self, record: &SharedRecord, options: GetOptions) -> Result<Download, Error> {
        let opened = self.open_one(record).await?;
        self.read(opened, options).await
    }

    fn day_key(&self, scope: ScopeTag, generation: u32, day: Day) -> Option<DayKey> {
        let is_it = |body: &&BodyScope| body.scope == scope && body.generation == generation;
        self.body.scopes.iter().find(is_it).and_then(|body| DayKey::find(&body.days, day))
    }

    fn unwrap(
        &self,
        record: &SharedRecord,
        at: usize,
        opened: &Opened,
        request: &OpenRequest,
    ) -> Result<SlotContent, Error> {
        let refused = |what: &str| Error::new(ErrorKind::Refused, what.to_owned());
        let slot_id = request.slots().get(at).copied().ok_or_else(wrong_answer)?;
        let (Some(OpenedItem::Record { dek_commit, header, slot }), Some(output)) =
            (opened.items.get(at), opened.outputs.get(at))
        else {
            return Err(wrong_answer());
        };
        let day = self.day_key(record.tag, record.generation, record.day);
        let day = day.ok_or_else(|| refused("the grant does not cover the record's day"))?;
        let content = slot.unwrap(&Kek::new(&day, output, &slot_id), &slot_id, dek_commit);
        let wrong = |error: crate::crypto::access::SlotError| {
            let message = format!("the record's keyslot is of no use: {error}");
            Error::new(ErrorKind::Corrupt, message).caused_by(error)
        };
        let content = content.map_err(wrong)?;
        if content.header_commit() == *header {
            Ok(content)
        } else {
            let message = "the keyslot leads to another header than the record's entry commits to";
            Err(Error::new(ErrorKind::Corrupt, message))
        }
    }

    /// What a keyslot leads to.
    async fn stored(
        &self,
        record: &SharedRecord,
        content: SlotContent,
    ) -> Result<(RecordInfo, StoredVersion), Error> {
        self.learn(&[content.header.segment]).await?;
        let mut stored = StoredVersion {
            size: 0,
            content_version: content.content_version,
            dek_commit: content.dek.commit(&content.content_version),
            dek: content.dek,
            header: content.header,
            extents: Vec::new(),
            content_type: None,
            modified: None,
            content: Hash([0; 32]),
        };
        let header: RecordHeader = read_header(&self.ctx, &stored).await?;
        let mut segments: Vec<SegmentId> =
            header.extents.iter().map(|extent: &Extent| extent.segment).collect();
        segments.sort_unstable();
        segments.dedup();
        // Of small records the body is beside the header.
        segments.retain(|segment| *segment != stored.header.segment);
        self.learn(&segments).await?;
        if header.extents.len() <= MAX_CACHED_EXTENTS {
            stored.extents = header.extents;
        }
        (stored.size, stored.content) = (header.size, header.content);
        (stored.content_type, stored.modified) = (header.content_type, header.modified);
        let info = RecordInfo {
            size: stored.size,
            content_type: stored.content_type.clone(),
            modified: stored.modified,
            ..record.info()
        };
        Ok((info, stored))
    }

    /// Learns where segments are. A static node that lies about it gives bytes that do not open.
    async fn learn(&self, segments: &[SegmentId]) -> Result<(), Error> {
        let vault = self.row.grant.vault;
        for some in segments.chunks(crate::types::limits::MAX_ANSWER_ROWS) {
            let question = Question::Segments { vault, segments: some.to_vec() };
            let has_all = |answer: &Answer| matches!(answer, Answer::Segments(rows) if rows.iter().all(Option::is_some));
            let Answer::Segments(rows) = self.vault.ledger.ask_for(&question, has_all).await? else {
                return Err(wrong_answer());
            };
            if rows.len() != some.len() {
                return Err(wrong_answer());
            }
            for (segment, row) in some.iter().zip(rows) {
                let row = row.ok_or_else(|| {
                    let message = format!("the ledger has segment {} no more", segment.short());
                    Error::new(ErrorKind::NotFound, message)
                        .with_hint("the record was erased, or written anew: list again")
                })?;
                let anchored =
                    AnchoredSegment { segment: *segment, code: row.code, len: row.len, shards: row.shards };
                let descriptor = self.vault.descriptor(&anchored).await?;
                self.ctx.know_descriptor(&descriptor);
                members::reach(&self.ctx, descriptor.holders.iter().flatten().copied()).await;
            }
        }
        Ok(())
    }

    /// The batches that list something in a scope, as more static nodes say than can hide some.
    async fn batches(&self, scope: &BodyScope) -> Result<Vec<BatchId>, Error> {
        let roster = self.desks.ledger.roster();
        let (mut found, mut answered, mut reasons) = (BTreeMap::new(), 0, Vec::new());
        for member in roster.members() {
            match self.batches_of(member, scope).await {
                Ok(batches) => {
                    answered += 1;
                    found.extend(batches);
                }
                Err(error) => reasons.push(error),
            }
            if answered >= roster.committee().one_honest() {
                return Ok(found.into_values().collect());
            }
        }
        match reasons.into_iter().next() {
            Some(error) => Err(error),
            None => Err(wrong_answer()),
        }
    }

    async fn batches_of(&self, member: &Member, scope: &BodyScope) -> Result<Vec<(u64, BatchId)>, Error> {
        let mut found: Vec<(u64, BatchId)> = Vec::new();
        loop {
            let after = found.last().map(|(number, _)| *number);
            let request = DeskRequest::Batches { scope: scope.scope, generation: scope.generation, after };
            match self.desks.say(member, &request).await? {
                DeskAnswer::Batches(page) => {
                    // In ascending order, so that it ends.
                    let page: Vec<_> = page.into_iter().filter(|(number, _)| Some(*number) > after).collect();
                    if page.is_empty() {
                        return Ok(found);
                    }
                    found.extend(page);
                }
                DeskAnswer::Denied(denial) => return Err(denied(denial)),
                _ => return Err(wrong_answer()),
            }
        }
    }

    /// The lines of batches that are of the grant's days.
    async fn open_lists(&self, scope: &BodyScope, batches: &[BatchId]) -> Result<Vec<SharedRecord>, Error> {
        let list = |batch: &BatchId| OpenItem::List {
            batch: *batch,
            scope: scope.scope,
            generation: scope.generation,
        };
        let (opened, request) = self.release(batches.iter().map(list).collect(), "list").await?;
        let mut found = Vec::new();
        for ((slot_id, output), item) in request.slots().iter().zip(&opened.outputs).zip(&opened.items) {
            let OpenedItem::List { lines, .. } = item else { return Err(wrong_answer()) };
            found.extend(lines.iter().filter_map(|line| open_line(scope, slot_id, output, line)));
        }
        Ok(found)
    }

    /// Asks the static nodes to release what opens these items; again for a while if they have just started, if the vault's key is
    /// handed to others at this moment, or if some have yet to carry out a block that others have.
    async fn release(&self, items: Vec<OpenItem>, purpose: &str) -> Result<(Opened, OpenRequest), Error> {
        let mut tries = 0;
        loop {
            let (error, was_kept) = match self.sharing().await {
                Ok((known, was_kept)) => match self.release_once(&known, items.clone(), purpose).await {
                    Ok(done) => return Ok(done),
                    Err(error) => (error, was_kept),
                },
                Err(error) => (error, false),
            };
            if self.doubt(was_kept, &error).await {
                continue;
            }
            if tries == SERVING_TRIES || !(is_passing(&error) || is_behind(&error, &items)) {
                let is_closed = error.kind() == ErrorKind::Unavailable && self.row.grant.emergency.is_some();
                return Err(if is_closed { error.with_hint(CLOSED_HINT) } else { error });
            }
            tries += 1;
            tokio::time::sleep(SERVING_PAUSE).await;
        }
    }

    async fn release_once(
        &self,
        known: &KnownSharing,
        mut items: Vec<OpenItem>,
        purpose: &str,
    ) -> Result<(Opened, OpenRequest), Error> {
        items.sort_unstable();
        items.dedup();
        let KnownSharing { sharing, roster, commitments } = known;
        let start = usize::from(u16::from_le_bytes(random()?));
        let mut last = None;
        // The node that is to send the lines may be the one that is down.
        for turn in 0..roster.members().len() {
            let at = (start + turn) % roster.members().len();
            let lines_from = ShareIndex::at(at).ok_or_else(wrong_answer)?;
            let reply = SealKey::from_seed(&random()?);
            let request = OpenRequest {
                network: self.desks.ledger.genesis().network,
                vault: self.row.grant.vault,
                dealing: sharing.dealing,
                epoch: sharing.epoch,
                grant: self.row.grant.grant,
                nonce: random()?,
                time: wall_time(),
                reply_to: reply.public().clone(),
                items: items.clone(),
                lines_from,
                purpose: purpose.to_owned(),
                emergency: self.emergency,
            };
            let signed = request.sign(&self.signer);
            match self.ask_release(roster, commitments, &reply, &signed).await {
                Ok(Some(opened)) => return Ok((opened, signed.request().clone())),
                Ok(None) => last = Some(wrong_answer()),
                Err(error) => return Err(error),
            }
        }
        Err(last.unwrap_or_else(wrong_answer))
    }

    /// The commitments that the ledger names, whose key is the one that the owner gave.
    async fn commitments(&self, roster: &Roster, access: &Access) -> Result<Commitments, Error> {
        let request = DeskRequest::Commitments { vault: self.row.grant.vault };
        let mut asked = self.desks.say_to_all(roster, &request);
        let mut reason = None;
        while let Some(answered) = asked.join_next().await {
            let Ok((_, answer)) = answered else { continue };
            match answer {
                Ok(DeskAnswer::Commitments(Some(bytes))) => {
                    let found = Commitments::from_slice(&bytes).ok();
                    let is_it = |found: &Commitments| {
                        is_named(access, found) && *found.key().as_bytes() == self.body.key
                    };
                    if let Some(found) = found.filter(is_it) {
                        return Ok(found);
                    }
                }
                Ok(DeskAnswer::Denied(denial)) => reason = Some(denied(denial)),
                Ok(_) => {}
                Err(error) => reason = reason.or(Some(error)),
            }
        }
        Err(reason.unwrap_or_else(|| {
            Error::new(ErrorKind::Unavailable, "no static node has the commitments of the vault's key")
                .caused_by(Denial::NoShare)
        }))
    }

    /// One request to every static node; none if all that is missing are the lines of a list.
    async fn ask_release(
        &self,
        roster: &Roster,
        commitments: &Commitments,
        reply: &SealKey,
        signed: &SignedOpenRequest,
    ) -> Result<Option<Opened>, Error> {
        let request = signed.request();
        let inputs = request.inputs().ok_or_else(wrong_answer)?;
        let mut gathering = Gathering::new(&inputs, commitments, signed);
        let mut asked = self.desks.say_to_all(roster, &DeskRequest::Open(signed.bytes().to_vec()));
        while !gathering.is_done()
            && let Some(answered) = asked.join_next().await
        {
            let Ok((member, answer)) = answered else { continue };
            let place = roster.committee().position(&member.key).and_then(ShareIndex::at);
            let Some(place) = place else { continue };
            match answer {
                Ok(DeskAnswer::Opened(sealed)) => gathering.add(reply, &member, place, &sealed),
                Ok(DeskAnswer::Denied(denial)) => gathering.deny(denial),
                Ok(_) => gathering.fail(format!("{} answers something else", member.label)),
                Err(error) => gathering.fail(error.to_string()),
            }
        }
        match gathering.finish() {
            Ok(opened) => Ok(Some(opened)),
            Err(Unopened::NoLines) => Ok(None),
            Err(Unopened::Denied(denial)) => Err(denied(denial)),
            Err(unopened) => Err(Error::new(ErrorKind::Unavailable, unopened.to_string())
                .caused_by(unopened)
                .with_hint("records of others open while two thirds of the static nodes answer; try again")),
        }
    }
}

fn open_line(
    scope: &BodyScope,
    slot_id: &SlotId,
    output: &PrfOutput,
    listed: &ListedLine,
) -> Option<SharedRecord> {
    let line = SealedLine::from_slice(&listed.line).ok()?;
    let day = line.day(&scope.list);
    let key = DayKey::find(&scope.days, day)?;
    let of = LineOf { list: slot_id, record: listed.record, version: listed.version };
    let line = ListLine::from_padded(&line.open(&of, &key, output).ok()?).ok()?;
    Some(SharedRecord {
        line,
        version: listed.version,
        scope: scope.path.to_string(),
        record: listed.record,
        tag: scope.scope,
        generation: scope.generation,
        day,
    })
}

/// Whether a failure is of a moment: it is over when all static nodes have the last blocks.
fn is_passing(error: &Error) -> bool {
    let Some(source) = std::error::Error::source(error) else { return false };
    let denial = source.downcast_ref::<Denial>();
    matches!(denial, Some(Denial::NotServing | Denial::OtherSharing | Denial::NoShare))
        || matches!(source.downcast_ref::<Unopened>(), Some(Unopened::Contradiction(_)))
}

/// Whether a static node has yet to carry out the block of a batch that others name.
fn is_behind(error: &Error, items: &[OpenItem]) -> bool {
    let source = std::error::Error::source(error).and_then(|source| source.downcast_ref::<Denial>());
    source == Some(&Denial::NoSuchEntry) && items.iter().all(|item| matches!(item, OpenItem::List { .. }))
}

/// A denial as an error.
fn denied(denial: Denial) -> Error {
    let kind = match denial {
        Denial::NotServing | Denial::NoShare | Denial::Replayed => ErrorKind::Unavailable,
        Denial::NoSuchEntry | Denial::Erased => ErrorKind::NotFound,
        _ => ErrorKind::Refused,
    };
    let error = Error::new(kind, denial.to_string()).caused_by(denial);
    match denial {
        Denial::Revoked | Denial::Rotated | Denial::Expired | Denial::NotGranted => {
            error.with_hint("ask the vault's owner for another grant")
        }
        Denial::NotActivated => error.with_hint(
            "`xvault emergency request` asks for one; `xvault emergency ls --vault` shows what it waits for: approvals, its delay, or the ledger's next block",
        ),
        Denial::EmergencyOver | Denial::OverEmergencyQuota => {
            error.with_hint("if it is one still, ask anew with `xvault emergency request`")
        }
        _ => error,
    }
}

/// The sealed body of a grant, opened, if it is what the ledger's grant says.
async fn fetch_body(desks: &Desks, row: &GrantRow, seal: &SealKey) -> Result<GrantBody, Error> {
    let request = DeskRequest::GrantBody { body: row.grant.body };
    let roster = desks.ledger.roster();
    let mut asked = desks.say_to_all(&roster, &request);
    let mut reason = None;
    let sealed = loop {
        let Some(answered) = asked.join_next().await else {
            return Err(reason.unwrap_or_else(|| {
                Error::new(ErrorKind::Unavailable, "no static node has the grant's body")
                    .with_hint("try again")
            }));
        };
        match answered {
            Ok((_, Ok(DeskAnswer::GrantBody(Some(bytes))))) if body_hash(&bytes) == row.grant.body => {
                break bytes;
            }
            Ok((_, Err(error))) => reason = reason.or(Some(error)),
            _ => {}
        }
    };
    let wrong = |what: &str| Error::new(ErrorKind::Refused, format!("the grant {what}"));
    let plain = seal.open(Purpose::Grant, &GrantBody::context(&row.grant), &sealed);
    let plain = plain.map_err(|error| wrong("is not sealed to this key package").caused_by(error))?;
    let body = GrantBody::decode(&plain).map_err(|violation| wrong("does not read").caused_by(violation))?;
    let covers = |scope: &BodyScope| {
        row.grant.covers(Rights::READ, &scope.scope, scope.generation)
            || row.grant.covers(Rights::LIST, &scope.scope, scope.generation)
    };
    if body.vault != row.grant.vault || !body.scopes.iter().all(covers) {
        return Err(wrong("promises other scopes than the ledger has of it"));
    }
    Ok(body)
}

pub(in crate::client) async fn open_index(config: &ClientConfig) -> Result<SharedIndex, Error> {
    let (home, key): (PathBuf, _) = (config.home.clone(), *config.keys.index_key());
    let opened = tokio::task::spawn_blocking(move || SharedIndex::new(&home, &key)).await;
    opened.map_err(std::io::Error::other).and_then(|opened| opened).map_err(|error| {
        let kind = ErrorKind::of_io(&error, ErrorKind::Config);
        Error::new(kind, format!("cannot use {}", config.home.display())).caused_by(error)
    })
}

/// What reads the vault's shards with the grant's key.
async fn open_context(
    config: &ClientConfig,
    key: &KeyPair,
    vault: VaultId,
    ledger: &LedgerClient,
) -> Result<Arc<Context>, Error> {
    let index = open_index(config).await?;
    let peers = Peers::new(&config.network, key);
    let (home, network) = (config.home.clone(), config.network.clone());
    let ctx = Context::new(home, network, vault, peers, index, None);
    Ok(Arc::new(ctx.of_guest(ledger.clone())))
}

/// What a grantee noted of a grant that it accepted.
const HELD: &[u8] = b"held/";

/// Notes an accepted grant in the home, so that it is opened by its id from here on.
///
/// # Errors
/// [`ErrorKind::Config`] or [`ErrorKind::Locked`] if the home cannot be used.
pub async fn hold(config: &ClientConfig, shared: &Shared, package: &KeyPackage) -> Result<(), Error> {
    let index = open_index(config).await?;
    let key = [HELD, &shared.row.grant.grant.0].concat();
    let notes = [(key, package.encode())];
    Ok(index.with(move |index| index.note(&notes)).await?)
}

/// The key packages of the grants that this home accepted, by the grant's id.
///
/// # Errors
/// [`ErrorKind::Config`] or [`ErrorKind::Locked`] if the home cannot be used.
pub async fn held(config: &ClientConfig) -> Result<Vec<(GrantId, KeyPackage)>, Error> {
    let index = open_index(config).await?;
    let notes = index.with(|index| index.notes(HELD)).await?;
    let read = notes.into_iter().filter_map(|(key, value)| {
        let grant = GrantId(key.get(HELD.len()..)?.try_into().ok()?);
        Some((grant, KeyPackage::decode(&value).ok()?))
    });
    Ok(read.collect())
}
