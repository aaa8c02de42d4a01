//! Drives the [`Download`] machine over real connections.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use tokio::task::AbortHandle;

use crate::client::context::{Context, guard};
use crate::client::upload::{failure, violation};
use crate::client::{Error, ErrorKind, failures, holders};
use crate::crypto::frame::FrameKey;
use crate::crypto::tree;
use crate::message::{Descriptor, ReadShard, ShardSlice, Violation};
use crate::net::CallError;
use crate::runtime::Driver;
use crate::stripe::Layout;
use crate::transfer::buffer::Buffer;
use crate::transfer::download::{Columns, Download, DownloadConfig, DownloadError, Effect, Event, ReadPlan};
use crate::transfer::failure::RequestId;
use crate::transfer::open::{OpenError, ShardBytes, assemble, open_unit};
use crate::transfer::plan::ReadUnit;
use crate::types::{Hash, PublicKey};

/// A slice of at most this many bytes is verified where it arrives: a worker would cost more.
const INLINE_VERIFY_BYTES: usize = 64 << 10;

/// Reads and opens one unit of a record: its plaintext, frame by frame.
pub(crate) async fn read_unit(
    ctx: &Arc<Context>,
    unit: ReadUnit,
    key: FrameKey,
) -> Result<Vec<Bytes>, Error> {
    let descriptor = ctx.descriptor(unit.extent.segment).await?;
    let layout = Layout::new(descriptor.code, descriptor.len)
        .map_err(|error| corrupt(&descriptor).caused_by(error))?;
    let range = unit.in_segment();
    if range.end > layout.len() {
        return Err(corrupt(&descriptor));
    }
    let (columns, bytes) = fetch(ctx, &descriptor, &layout, range.clone()).await?;
    let (coder, pool) = (ctx.coder(descriptor.code), ctx.pool.clone());
    let small = unit_len(&columns) <= INLINE_VERIFY_BYTES;
    let open = move || -> Result<Vec<Bytes>, OpenError> {
        let sealed = assemble(&layout, &coder, range, bytes, columns.rebuild.as_ref(), &pool)?;
        open_unit(&unit, &key, sealed)
    };
    let opened = if small { open() } else { ctx.workers.run(open).await? };
    opened.map_err(|error| corrupt(&descriptor).caused_by(error))
}

/// Reads a range of a segment as it is, ciphertext.
pub(crate) async fn read_sealed(
    ctx: &Arc<Context>,
    descriptor: &Arc<Descriptor>,
    layout: &Layout,
    range: Range<u64>,
) -> Result<Buffer, Error> {
    let (columns, bytes) = fetch(ctx, descriptor, layout, range.clone()).await?;
    let (coder, pool, layout) = (ctx.coder(descriptor.code), ctx.pool.clone(), *layout);
    let job = move || assemble(&layout, &coder, range, bytes, columns.rebuild.as_ref(), &pool);
    ctx.workers.run(job).await?.map_err(|error| corrupt(descriptor).caused_by(error))
}

fn unit_len(columns: &Columns) -> usize {
    let len = columns.parts.iter().map(|part| part.range.end - part.range.start).sum::<u64>();
    usize::try_from(len).unwrap_or(usize::MAX)
}

fn corrupt(descriptor: &Descriptor) -> Error {
    Error::new(
        ErrorKind::Corrupt,
        format!("segment {} does not hold what the index says", descriptor.segment.short()),
    )
}

/// Reads a range of a segment: the verified bytes of the columns that make it up.
async fn fetch(
    ctx: &Arc<Context>,
    descriptor: &Arc<Descriptor>,
    layout: &Layout,
    range: Range<u64>,
) -> Result<(Columns, Vec<ShardBytes>), Error> {
    let plan = plan(ctx, descriptor, layout, range.clone());
    let machine = Download::new(ctx.clock.now(), plan, DownloadConfig::default());
    let mut run = Run {
        ctx: Arc::clone(ctx),
        descriptor: Arc::clone(descriptor),
        shard_len: layout.shard_len(),
        driver: Driver::new(machine, ctx.clock),
        requests: BTreeMap::new(),
        arrived: Arc::default(),
        locating: None,
    };
    let columns = loop {
        let effect = run.driver.next_effect().await;
        if let Some(result) = run.perform(effect) {
            break result.map_err(|error| download_error(ctx, &error))?;
        }
    };
    ctx.note_slow(&columns.late);
    holders::note_found(ctx, descriptor, &columns.found);
    let rebuilt = columns.rebuild.is_some();
    tracing::debug!(segment = %descriptor.segment.short(), start = range.start, len = range.end - range.start,
        shards = columns.parts.len(), rebuilt, "read of a segment");
    let mut arrived = guard(&run.arrived);
    let bytes = columns.parts.iter().filter_map(|part| {
        let bytes = arrived.remove(&part.request)?;
        Some(ShardBytes { shard: part.shard, start: part.range.start, bytes })
    });
    let bytes = bytes.collect();
    drop(arrived);
    Ok((columns, bytes))
}

fn plan(ctx: &Context, descriptor: &Descriptor, layout: &Layout, range: Range<u64>) -> ReadPlan {
    let wanted = layout.columns(range);
    let hull_len = wanted.hull.end - wanted.hull.start;
    let latencies = guard(&ctx.latencies);
    let patience =
        |holder: &Option<PublicKey>| latencies.patience(&holder.unwrap_or(PublicKey([0; 32])), hull_len);
    let hedge_after = descriptor.holders.iter().map(patience).collect();
    drop(latencies);
    let suspects = descriptor.holders.iter().flatten().filter(|node| ctx.is_suspect(node)).copied().collect();
    ReadPlan {
        vault: ctx.vault_id,
        segment: descriptor.segment,
        code: descriptor.code,
        holders: descriptor.holders.clone(),
        wanted: wanted.data,
        hedge_after,
        suspects,
    }
}

fn download_error(ctx: &Context, error: &DownloadError) -> Error {
    let DownloadError::NotEnoughShards { segment, have, need, reasons } = error;
    if let Some(said) = failures::all_keep_out(ctx, reasons) {
        return Error::new(ErrorKind::Refused, said).with_hint(keeps_out_hint(ctx));
    }
    let message = format!(
        "only {have} of the {need} shards needed of segment {} can be read: {}",
        segment.short(),
        failures::words(ctx, reasons)
    );
    if failures::most_keep_out(reasons) {
        return Error::new(ErrorKind::Refused, message).with_hint(keeps_out_hint(ctx));
    }
    // A node that cannot be talked to, for whatever reason, may still have its shard.
    let lost = reasons.iter().all(|(_, failure)| failure.is_loss());
    let kind = if lost { ErrorKind::Corrupt } else { ErrorKind::Unavailable };
    Error::new(kind, message).with_hint("see `xvault doctor` for the nodes' state, then try again")
}

/// What to do where the ledger does not let the key read.
const fn keeps_out_hint(ctx: &Context) -> &'static str {
    if ctx.vault.is_some() {
        "`xvault vault show` tells what the ledger has of the vault; if it has new keys, `xvault recover` takes them up"
    } else {
        "the grant is not in force any more, or not yet: ask the vault's owner for another"
    }
}

struct Run {
    ctx: Arc<Context>,
    descriptor: Arc<Descriptor>,
    shard_len: u64,
    driver: Driver<Download>,
    requests: BTreeMap<RequestId, AbortHandle>,
    /// Verified bytes by request.
    arrived: Arc<Mutex<BTreeMap<RequestId, Bytes>>>,
    locating: Option<AbortHandle>,
}

impl Run {
    /// Carries out one effect; the answer is the machine's report.
    fn perform(&mut self, effect: Effect) -> Option<Result<Columns, DownloadError>> {
        match effect {
            Effect::Read { request, node, read, again } => {
                if again {
                    self.ctx.peers.insist(&node);
                }
                self.read(request, node, read);
            }
            Effect::Cancel { request } => {
                if let Some(task) = self.requests.remove(&request) {
                    task.abort();
                }
                guard(&self.arrived).remove(&request);
            }
            Effect::AskHedge { request } => {
                if guard(&self.ctx.hedges).spend() {
                    tracing::debug!(segment = %self.descriptor.segment.short(), "a node is slow: asks another too");
                    self.driver.handle(Event::HedgeGranted { request });
                }
            }
            Effect::Locate => self.locate(),
            Effect::Report(result) => return Some(result),
        }
        None
    }

    /// Asks all nodes which shards of the segment they hold.
    fn locate(&mut self) {
        let mut answers = holders::ask_all(&self.ctx, holders::shards_of(&self.descriptor), true);
        let events = self.driver.sender();
        let task = tokio::spawn(async move {
            let mut silent = Vec::new();
            while let Some((node, held)) = answers.recv().await {
                let event = match held {
                    Ok(held) => {
                        Event::Located { node, shards: held.iter().map(|shard| shard.index.into()).collect() }
                    }
                    Err(error) => {
                        silent.push((node, failure(&error)));
                        continue;
                    }
                };
                // The machine may be finished.
                drop(events.send(event).await);
            }
            drop(events.send(Event::LocateEnded { silent }).await);
        });
        self.locating = Some(task.abort_handle());
    }

    fn read(&mut self, request: RequestId, node: PublicKey, read: ReadShard) {
        guard(&self.ctx.hedges).earn();
        let (ctx, events, arrived) = (Arc::clone(&self.ctx), self.driver.sender(), Arc::clone(&self.arrived));
        let (root, shard_len) = (self.descriptor.roots[usize::from(read.shard.index)], self.shard_len);
        let task = tokio::spawn(async move {
            let begun = ctx.clock.now();
            let event = match ctx.peers.read_shard(&node, read).await {
                Ok((slice, bytes)) => match verify(&ctx, root, shard_len, read, slice, bytes).await {
                    Ok(bytes) => {
                        guard(&ctx.latencies).record(node, read.len, ctx.clock.now().since(begun));
                        guard(&arrived).insert(request, bytes);
                        Event::Verified { request }
                    }
                    Err(violation) => Event::Violated { request, violation },
                },
                Err(CallError::Refused(refusal)) => Event::Refused { request, refusal },
                Err(error) => match violation(&error) {
                    Some(violation) => Event::Violated { request, violation },
                    None => Event::Failed { request, failure: failure(&error) },
                },
            };
            // The machine may be finished.
            drop(events.send(event).await);
        });
        self.requests.insert(request, task.abort_handle());
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        self.requests.values().chain(&self.locating).for_each(AbortHandle::abort);
    }
}

/// Checks a slice against the shard's root.
async fn verify(
    ctx: &Context,
    root: Hash,
    shard_len: u64,
    read: ReadShard,
    slice: ShardSlice,
    bytes: Bytes,
) -> Result<Bytes, Violation> {
    if slice.shard_len != shard_len || bytes.len() as u64 != read.len.min(shard_len - read.start) {
        return Err(Violation::WrongLength);
    }
    let small = bytes.len() <= INLINE_VERIFY_BYTES;
    let check = move || tree::verify(&root, shard_len, read.start, &bytes, &slice.proof).map(|()| bytes);
    let checked =
        if small { check() } else { ctx.workers.run(check).await.map_err(|_| Violation::Malformed)? };
    checked.map_err(|_| Violation::WrongShard)
}
