//! The client's interface.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;

use crate::client::access::notes::is_own;
use crate::client::access::shred::{self, Shredder, Wanted};
use crate::client::context::Context;
use crate::client::get::{FrameReader, read_header};
use crate::client::holders;
use crate::client::kept;
use crate::client::members;
use crate::client::nodes::status;
use crate::client::packer::{Item, ItemKind, Packer, new_version};
use crate::client::put::{self, Given};
use crate::client::staged;
use crate::client::sync;
use crate::client::vault::{self, Vault};
use crate::client::{
    Ack, CollectionInfo, Download, Error, ErrorKind, GetOptions, LedgerClient, ListEntry, ListOptions,
    ListPage, NodeReport, PutOptions, PutReport, RecordAddress, RecordInfo, RecordStat, Remove, RemoveReport,
    SegmentHealth, Source,
};
use crate::crypto::seed::VaultKeys;
use crate::message::{Descriptor, StoredVersion, VersionEntry, VersionState};
use crate::net::Peers;
use crate::runtime::wall_time;
use crate::store::SharedIndex;
use crate::store::index::{Commit, Condition, Index, ListItem, ListQuery, Which};
use crate::types::limits::{MAX_BATCH_ITEMS, UPLOAD_LIFE_MICROS};
use crate::types::{CollectionName, Network, NodeInfo, RecordName, SegmentId, VersionId};

/// Entries of a page at most, so that a page has a bounded size.
const MAX_PAGE: usize = 10_000;
/// How long closing waits for what the next command would take up as well.
const RESUMABLE_PATIENCE: Duration = Duration::from_millis(500);
/// How long closing waits for shards that are still on their way.
pub(super) const CLOSE_PATIENCE: Duration = Duration::from_secs(10);

/// What a client works with.
#[derive(Debug, Clone)]
pub struct ClientConfig {
    /// The network.
    pub network: Network,
    /// The vault's keys.
    pub keys: VaultKeys,
    /// The folder of this vault's state on this device; made if need be.
    pub home: PathBuf,
}

/// A client of one vault on one network. Cloning gives another handle.
#[derive(Debug, Clone)]
pub struct Client {
    pub(super) ctx: Arc<Context>,
    pub(super) packer: Packer,
}

impl Client {
    /// Opens the vault's state, and takes up in the background what is staged or stored and not anchored. The nodes that were
    /// known when it was last open are known from the beginning. Needs a tokio runtime with time and I/O.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] if the folder cannot be used, [`ErrorKind::Locked`] if another process does not let go of it.
    pub async fn open(config: ClientConfig) -> Result<Self, Error> {
        let vault_id = *config.keys.vault();
        let (home, key) = (config.home.clone(), *config.keys.index_key());
        let opened = tokio::task::spawn_blocking(move || SharedIndex::new(&home, &key)).await;
        let index = opened.map_err(std::io::Error::other).and_then(|opened| opened).map_err(|error| {
            let kind = ErrorKind::of_io(&error, ErrorKind::Config);
            Error::new(kind, format!("cannot use {}", config.home.display())).caused_by(error)
        })?;
        let peers = Peers::new(&config.network, config.keys.signing());
        let vault = match &config.network.genesis {
            Some(_) => {
                Some(Vault::new(LedgerClient::new(&config.network, config.keys.signing())?, config.keys))
            }
            None => None,
        };
        let ctx = Arc::new(Context::new(config.home, config.network, vault_id, peers, index, vault));
        if let Some(vault) = &ctx.vault {
            kept::recall(&ctx, vault).await?;
        }
        let learning = Arc::clone(&ctx);
        ctx.in_background_resumable(async move { members::refresh(&learning).await });
        let packer = Packer::new(Arc::clone(&ctx));
        {
            let (resumed, resuming) = (Arc::clone(&ctx), packer.clone());
            ctx.in_background_resumable(async move {
                let settled = async {
                    staged::sweep(&resumed).await?;
                    resuming.resume().await?;
                    staged::finish(&resumed, &resuming).await
                };
                if let Err(error) = settled.await {
                    tracing::warn!(%error, "what was put before is not anchored yet");
                }
            });
        }
        Ok(Self { ctx, packer })
    }

    /// Has a user told what matters and is no error, as that a write waits for the ledger. The first `notice` stays.
    pub fn on_notice(&self, notice: impl Fn(&str) + Send + Sync + 'static) {
        self.ctx.on_notice(notice);
    }

    /// The network.
    #[must_use]
    pub fn network(&self) -> &Network {
        &self.ctx.network
    }

    /// Puts a record: a new version if there is one of the name. When it returns `Ok`, the version survives what
    /// [`Ack`] says: with the usual one the crash or loss of this machine, and the loss of any m shards of each segment.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`] or [`ErrorKind::Full`] if too few nodes take shards, [`ErrorKind::Refused`] if
    /// the condition does not hold, and others by their names. Nothing is changed then.
    ///
    /// # Cancel safety
    /// Dropped, the record may or may not get its new version.
    pub async fn put(
        &self,
        at: &RecordAddress,
        source: Source,
        options: PutOptions,
    ) -> Result<PutReport, Error> {
        not_own(&at.collection)?;
        self.put_any(at, source, options).await
    }

    /// The same, also for what xvault itself keeps in the vault.
    pub(super) async fn put_any(
        &self,
        at: &RecordAddress,
        source: Source,
        options: PutOptions,
    ) -> Result<PutReport, Error> {
        self.put_given(at, source, options, Given::default()).await
    }

    /// The same, of a version of which something is given.
    pub(super) async fn put_given(
        &self,
        at: &RecordAddress,
        source: Source,
        options: PutOptions,
        given: Given,
    ) -> Result<PutReport, Error> {
        if options.ack == Ack::Staged {
            return self.stage(at, source, options).await;
        }
        vault::register(&self.ctx, options.ack).await?;
        self.check(at, options.condition).await?;
        let again = match &source {
            Source::File(path) => Some((Source::File(path.clone()), options.clone())),
            Source::Bytes(_) | Source::Reader(_) => None,
        };
        let mut put = put::put(&self.ctx, &self.packer, at, source, options, given).await;
        if let (Err(error), Some((source, options))) = (&put, again)
            && error.kind() == ErrorKind::Changed
        {
            // What was stored of it is given up already; the second attempt is an upload of its own.
            tracing::info!(%at, "the file has changed since its interrupted upload: a new one begins");
            put = put::put(&self.ctx, &self.packer, at, source, options, given).await;
            if let Ok(report) = &mut put {
                report.restarted = true;
            }
        }
        let report = put?;
        tracing::info!(
            %at, version = %report.version, size = report.size, resumed_bytes = report.resumed_bytes,
            shards_held = report.shards_held, shards_total = report.shards_total, "stored a record"
        );
        Ok(report)
    }

    async fn stage(
        &self,
        at: &RecordAddress,
        source: Source,
        options: PutOptions,
    ) -> Result<PutReport, Error> {
        put::check(&options)?;
        if shred::class_of(&self.ctx, &at.collection).await?.is_shreddable() {
            let message = "nothing is staged for a shreddable collection: this machine would keep its key";
            return Err(
                Error::new(ErrorKind::Invalid, message).with_hint("leave --ack out, or say --ack stored")
            );
        }
        let report = staged::stage(&self.ctx, at, source, options).await?;
        let (ctx, packer) = (Arc::clone(&self.ctx), self.packer.clone());
        self.ctx.in_background_resumable(async move {
            // If it fails, or we crash, the next client of this home does it.
            if let Err(error) = staged::finish(&ctx, &packer).await {
                ctx.notice(&format!("staged and not stored yet: {error}"));
            }
        });
        Ok(report)
    }

    /// Begins to get a record.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`], or [`ErrorKind::Range`] for a range that the record does not have.
    pub async fn get(&self, at: &RecordAddress, options: GetOptions) -> Result<Download, Error> {
        let (info, stored) = self.stored(at, options.version).await?;
        let range = match options.range {
            None => 0..stored.size,
            Some(range) => range
                .within(stored.size)
                .map_err(|error| Error::new(ErrorKind::Range, error.to_string()).caused_by(error))?,
        };
        tracing::info!(%at, version = %info.version, ?range, "reads a record");
        Download::begin(&self.ctx, info, stored, range, options.progress).await
    }

    /// All that is known of a version; `deep` also asks the nodes what they hold.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`], and those of reading the header.
    pub async fn stat(
        &self,
        at: &RecordAddress,
        version: Option<VersionId>,
        deep: bool,
    ) -> Result<RecordStat, Error> {
        let (info, stored) = self.stored(at, version).await?;
        let header = read_header(&self.ctx, &stored).await?;
        let mut segments: Vec<SegmentId> = header.extents.iter().map(|extent| extent.segment).collect();
        segments.push(stored.header.segment);
        segments.dedup();
        let mut health = Vec::new();
        for segment in segments {
            let descriptor = self.ctx.descriptor(segment).await?;
            let held = descriptor.holders.iter().flatten().count();
            let reachable = if deep { Some(self.reachable(&descriptor).await) } else { None };
            let (code, len) = (descriptor.code, descriptor.len);
            health.push(SegmentHealth { segment, code, len, held, reachable });
        }
        let (address, version) = (at.clone(), info.version);
        let find = move |index: &mut Index| index.anchor_of(&address.collection, &address.name, &version);
        let anchor = self.ctx.index.with(find).await?;
        let class = self.class(&at.collection).await?.unwrap_or_default();
        Ok(RecordStat {
            class,
            info,
            metadata: header.metadata,
            content: stored.content,
            anchor,
            segments: health,
        })
    }

    /// Shards of a segment that nodes say they hold now. What the index did not know of it is noted.
    async fn reachable(&self, descriptor: &Descriptor) -> usize {
        let holders = holders::who_holds(&self.ctx, holders::shards_of(descriptor)).await;
        let found = holders.iter().filter_map(|(shard, nodes)| {
            let index = usize::from(shard.index);
            let is_known = descriptor.holders[index].is_some_and(|node| nodes.contains(&node));
            nodes.first().filter(|_| !is_known).map(|node| (index, *node))
        });
        holders::note_found(&self.ctx, descriptor, &found.collect::<Vec<_>>());
        holders.len()
    }

    /// A page of a collection's records.
    ///
    /// # Errors
    /// Those of the local index.
    pub async fn list(&self, collection: &CollectionName, options: ListOptions) -> Result<ListPage, Error> {
        let stale = self.refresh(collection).await;
        let collection = collection.clone();
        let query = ListQuery {
            prefix: options.prefix,
            delimiter: options.delimiter,
            after: options.after,
            limit: options.limit.clamp(1, MAX_PAGE),
            include_deleted: options.include_deleted,
        };
        let listing = self.ctx.index.with(move |index| index.list(&collection, &query)).await?;
        if let Some(error) = stale.filter(|_| listing.items.is_empty()) {
            return Err(unknown("what the collection has", &error));
        }
        let entry = |item| match item {
            ListItem::Record(name, entry) => ListEntry::Record(info(&name, &entry)),
            ListItem::Prefix(prefix) => ListEntry::Prefix(prefix),
        };
        Ok(ListPage { entries: listing.items.into_iter().map(entry).collect(), next: listing.next })
    }

    /// The vault's collections, in order of name.
    ///
    /// # Errors
    /// Those of the local index.
    pub async fn collections(&self) -> Result<Vec<CollectionInfo>, Error> {
        let mut stale = None;
        if let Some(vault) = &self.ctx.vault
            && let Err(error) = sync::all(&self.ctx, vault, |_| {}).await
        {
            self.ctx.notice(&format!("what other devices wrote may be missing: {error}"));
            stale = Some(error);
        }
        let found = self.ctx.index.with(|index| index.collections()).await?;
        if let Some(error) = stale.filter(|_| found.is_empty()) {
            return Err(unknown("which collections there are", &error));
        }
        let shown = found.into_iter().filter(|(name, ..)| !is_own(name));
        Ok(shown.map(|(name, created, class)| CollectionInfo { name, created, class }).collect())
    }

    /// All versions of a record, the newest first.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if there is none.
    pub async fn versions(&self, at: &RecordAddress) -> Result<Vec<RecordInfo>, Error> {
        let stale = self.refresh(&at.collection).await;
        let address = at.clone();
        let found =
            self.ctx.index.with(move |index| index.versions(&address.collection, &address.name)).await?;
        if found.is_empty() {
            return Err(missing(at, stale));
        }
        Ok(found.iter().map(|entry| info(&at.name, entry)).collect())
    }

    /// Copies a record within the vault. Within a collection no bytes are moved, both names share the segments.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if there is no such record or version.
    pub async fn copy(
        &self,
        from: &RecordAddress,
        version: Option<VersionId>,
        to: &RecordAddress,
    ) -> Result<RecordInfo, Error> {
        not_own(&to.collection)?;
        let (_, stored) = self.stored(from, version).await?;
        // A copy in a shreddable collection has a data key of its own: each is erased for itself.
        let is_shreddable = shred::class_of(&self.ctx, &to.collection).await?.is_shreddable();
        if self.ctx.vault.is_some() && (from.collection != to.collection || is_shreddable) {
            return self.copy_bytes(from, version, &stored, to).await;
        }
        let mut segments = Vec::new();
        if stored.extents.is_empty() && stored.size > 0 {
            // The row does not name them all: the commit must.
            for extent in read_header(&self.ctx, &stored).await?.extents {
                segments.push(self.ctx.descriptor(extent.segment).await?.as_ref().clone());
            }
        }
        let state = VersionState::Stored(stored);
        let (version, created) = (new_version()?, wall_time());
        self.commit(to, VersionEntry { version, created, state, provenance: None }, segments).await
    }

    /// Copies a record into another collection, whose segments the ledger keeps apart: its bytes are put again.
    async fn copy_bytes(
        &self,
        from: &RecordAddress,
        version: Option<VersionId>,
        stored: &StoredVersion,
        to: &RecordAddress,
    ) -> Result<RecordInfo, Error> {
        let options = PutOptions {
            content_type: stored.content_type.clone(),
            modified: stored.modified,
            metadata: read_header(&self.ctx, stored).await?.metadata,
            ..PutOptions::default()
        };
        let download = self.get(from, GetOptions { version, ..GetOptions::default() }).await?;
        let report = self.put(to, Source::Reader(Box::new(FrameReader::of(download))), options).await?;
        self.stored(to, Some(report.version)).await.map(|(info, _)| info)
    }

    /// Removes a record, or erases versions of it.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if there is no such record or version.
    pub async fn remove(&self, at: &RecordAddress, what: Remove) -> Result<RemoveReport, Error> {
        not_own(&at.collection)?;
        let which = match what {
            Remove::Mark => {
                self.find(at, None).await?;
                let state = VersionState::Deleted;
                let (version, created) = (new_version()?, wall_time());
                let marker = VersionEntry { version, created, state, provenance: None };
                self.commit(at, marker, Vec::new()).await?;
                if let Err(error) = self.join_scopes(Some(std::slice::from_ref(at))).await {
                    self.ctx.notice(&format!(
                        "removed, but still open to who was let in; `xvault sync` tries again: {error}"
                    ));
                }
                return Ok(RemoveReport { versions: 0, segments_released: 0 });
            }
            Remove::Version(version) => Which::Version(version),
            Remove::AllVersions => Which::All,
        };
        let versions = match self.ctx.vault {
            Some(_) => self.erase_versions(at, which).await?,
            None => {
                let at = at.clone();
                self.ctx.index.with(move |index| index.erase(&at.collection, &at.name, which)).await?.versions
            }
        };
        if versions == 0 {
            return Err(not_found(at));
        }
        let pending = self.ctx.index.with(|index| index.pending_releases(MAX_BATCH_ITEMS)).await?;
        if !pending.is_empty() {
            let ctx = Arc::clone(&self.ctx);
            self.ctx.in_background(async move { release(&ctx).await });
        }
        Ok(RemoveReport { versions, segments_released: pending.len() as u64 })
    }

    /// Erases versions on the ledger; how many.
    async fn erase_versions(&self, at: &RecordAddress, which: Which) -> Result<u64, Error> {
        self.refresh(&at.collection).await;
        let address = at.clone();
        let versions =
            self.ctx.index.with(move |index| index.versions(&address.collection, &address.name)).await?;
        let goes = |entry: &VersionEntry| match which {
            Which::All => true,
            Which::Version(version) => entry.version == version,
        };
        let versions: Vec<_> = versions.into_iter().filter(goes).collect();
        // Before the record itself: if we stop here it is still in the index, and erased again.
        self.erase_slots(at, &versions).await?;
        self.drop_versions(at, versions.into_iter().map(|entry| entry.version).collect()).await
    }

    /// Takes versions that nobody was let into off the ledger; how many.
    pub(super) async fn drop_versions(
        &self,
        at: &RecordAddress,
        versions: Vec<VersionId>,
    ) -> Result<u64, Error> {
        let mut erasing = JoinSet::new();
        for version in versions {
            let (packer, at) = (self.packer.clone(), at.clone());
            let what = ItemKind::Erase(version);
            erasing.spawn(async move {
                packer.commit(Item { at, condition: Condition::Any, ack: Ack::Anchored, what }).await
            });
        }
        let mut erased = 0;
        while let Some(done) = erasing.join_next().await {
            done.map_err(|error| Error::new(ErrorKind::Internal, "a removal panicked").caused_by(error))??;
            erased += 1;
        }
        Ok(erased)
    }

    /// How a node is, and how far its clock is from ours.
    ///
    /// # Errors
    /// As [`Nodes::status`](crate::client::Nodes::status).
    pub async fn node_status(&self, node: &NodeInfo) -> Result<NodeReport, Error> {
        status(&self.ctx.peers, node).await
    }

    /// Waits, within bounds, for what is still on its way: last shards, and segments to release.
    pub async fn close(self) {
        let Self { ctx, packer } = self;
        drop(packer);
        let finish = async {
            let life_ago = wall_time().unix_micros().saturating_sub(UPLOAD_LIFE_MICROS);
            let older_than = crate::types::Timestamp::from_unix_micros(life_ago);
            if let Err(error) = ctx.index.with(move |index| index.abandon_uploads(older_than)).await {
                tracing::debug!(%error, "could not look for abandoned uploads");
            }
            end_background(&ctx).await;
            release(&ctx).await;
            end_background(&ctx).await;
            // What is staged or stored is durable: the next command goes on with it.
            drop(tokio::time::timeout(RESUMABLE_PATIENCE, ctx.resumable().join_all()).await);
            if let Some(vault) = &ctx.vault {
                // Proofs may have told of new static nodes.
                kept::keep(&ctx, vault, None).await;
            }
            ctx.peers.close().await;
        };
        // What is not done by then is taken up by the next command.
        drop(tokio::time::timeout(CLOSE_PATIENCE, finish).await);
    }

    async fn commit(
        &self,
        at: &RecordAddress,
        entry: VersionEntry,
        segments: Vec<Descriptor>,
    ) -> Result<RecordInfo, Error> {
        let made = info(&at.name, &entry);
        if self.ctx.vault.is_some() {
            let what = ItemKind::Version(Box::new(entry), segments);
            self.packer
                .commit(Item { at: at.clone(), condition: Condition::Any, ack: Ack::Anchored, what })
                .await?;
            return Ok(made);
        }
        let commit = Commit {
            collection: at.collection.clone(),
            name: at.name.clone(),
            entry,
            condition: Condition::Any,
            segments,
            upload: None,
        };
        self.ctx.index.commit(vec![commit]).await?;
        Ok(made)
    }

    /// A version that has content, with its data key: the latest if none is named.
    pub(super) async fn stored(
        &self,
        at: &RecordAddress,
        version: Option<VersionId>,
    ) -> Result<(RecordInfo, StoredVersion), Error> {
        let (info, state) = self.find(at, version).await?;
        let stored = match state {
            VersionState::Stored(stored) => stored,
            VersionState::Slotted(slotted) => {
                let wanted = Wanted { at: at.clone(), version: info.version, slotted };
                Shredder::new(&self.ctx)?.open(wanted).await?
            }
            VersionState::Deleted => return Err(not_found(at)),
        };
        Ok((info, stored))
    }

    /// A version that has content: the latest if none is named.
    pub(super) async fn find(
        &self,
        at: &RecordAddress,
        version: Option<VersionId>,
    ) -> Result<(RecordInfo, VersionState), Error> {
        let stale = self.refresh(&at.collection).await;
        let address = at.clone();
        let found = self
            .ctx
            .index
            .with(move |index| match version {
                Some(version) => index.version(&address.collection, &address.name, &version),
                None => index.latest(&address.collection, &address.name),
            })
            .await?;
        let entry = found.ok_or_else(|| match version {
            Some(version) if stale.is_none() => {
                let message = format!("there is no version {version} of {at}");
                Error::new(ErrorKind::NotFound, message)
                    .with_hint(format!("`xvault versions {at}` lists what there is"))
            }
            _ => missing(at, stale),
        })?;
        let info = info(&at.name, &entry);
        match entry.state {
            state @ (VersionState::Stored(_) | VersionState::Slotted(_)) => Ok((info, state)),
            VersionState::Deleted => Err(not_found(at)
                .with_hint(format!("it was removed; `xvault versions {at}` lists what there was"))),
        }
    }
}

/// A record that is not known here: there is none, unless what others wrote could not be learned.
fn missing(at: &RecordAddress, stale: Option<Error>) -> Error {
    stale.map_or_else(|| not_found(at), |error| unknown(&format!("whether there is {at}"), &error))
}

fn unknown(what: &str, error: &Error) -> Error {
    let known = Error::new(error.kind(), format!("it is not known here {what}: {error}"));
    known.with_hint(error.hint().unwrap_or("try again").to_owned())
}

pub(super) fn not_own(collection: &CollectionName) -> Result<(), Error> {
    if !is_own(collection) {
        return Ok(());
    }
    let message = format!("{collection} is where xvault keeps what it needs itself");
    Err(Error::new(ErrorKind::Refused, message).with_hint("take another name for the collection"))
}

fn not_found(at: &RecordAddress) -> Error {
    Error::new(ErrorKind::NotFound, format!("there is no {at}"))
}

fn info(name: &RecordName, entry: &VersionEntry) -> RecordInfo {
    let (deleted, size, content_type, modified) = match &entry.state {
        VersionState::Deleted => (true, 0, None, None),
        VersionState::Stored(stored) => (false, stored.size, stored.content_type.clone(), stored.modified),
        VersionState::Slotted(slotted) => {
            (false, slotted.size, slotted.content_type.clone(), slotted.modified)
        }
    };
    RecordInfo {
        name: name.clone(),
        version: entry.version,
        created: entry.created,
        deleted,
        size,
        content_type,
        modified,
        provenance: entry.provenance,
    }
}

/// Waits for what runs in the background, and for what that leaves there: late receipts to be written.
pub(super) async fn end_background(ctx: &Context) {
    loop {
        let background = ctx.background();
        if background.is_empty() {
            return;
        }
        background.join_all().await;
    }
}

/// Tells every node to free what nothing uses any more. A node that does not answer keeps it noted for next time.
pub(super) async fn release(ctx: &Arc<Context>) {
    let pending = ctx.index.with(|index| index.pending_releases(MAX_BATCH_ITEMS)).await;
    let segments = match pending {
        Ok(segments) if !segments.is_empty() => segments,
        _ => return,
    };
    let mut told = JoinSet::new();
    members::refresh(ctx).await;
    for node in ctx.nodes().all().iter().map(|node| node.key) {
        let (ctx, segments) = (Arc::clone(ctx), segments.clone());
        told.spawn(async move { ctx.peers.release_segments(&node, ctx.vault_id, segments).await.is_ok() });
    }
    let everybody = told.join_all().await.into_iter().all(|heard| heard);
    if everybody && let Err(error) = ctx.index.with(move |index| index.released(&segments)).await {
        tracing::debug!(%error, "could not note released segments");
    }
}
