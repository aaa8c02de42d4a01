//! Drives the [`Upload`] machine over real connections.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::task::AbortHandle;

use crate::client::context::{Context, random};
use crate::client::members::{self, Known};
use crate::client::nodes::CHECK_NETWORK_ID;
use crate::client::{Error, ErrorKind, TroubleKind, failures, holders};
use crate::message::{Descriptor, ExpectedReceipt, PutShard, RefusalCode, Violation};
use crate::net::CallError;
use crate::runtime::Driver;
use crate::stripe::placement::{Candidate, place};
use crate::transfer::failure::{Failure, RequestId};
use crate::transfer::seal::CodedSegment;
use crate::transfer::upload::{
    Effect, Event, Outcome, Trouble, Upload, UploadConfig, UploadError, UploadPlan,
};
use crate::types::PublicKey;

/// A segment that is placed.
#[derive(Debug, Clone)]
pub(crate) struct Placed {
    pub(crate) descriptor: Descriptor,
    /// Nodes that hold no shard though they should, and why.
    pub(crate) troubles: Vec<(PublicKey, TroubleKind)>,
}

/// Places a coded segment on the network. `held` names nodes that have shards of it already; `room` is given back as soon as
/// only the last shards are waited for, or with the answer.
///
/// Shards that are still on their way then go on in the background.
pub(crate) async fn upload(
    ctx: &Arc<Context>,
    coded: CodedSegment,
    held: Vec<Option<PublicKey>>,
    room: OwnedSemaphorePermit,
) -> Result<Placed, Error> {
    members::refresh(ctx).await;
    let nodes = ctx.nodes();
    let plan = plan(ctx, &nodes, &coded, held)?;
    let avoided: BTreeMap<_, _> =
        nodes.in_service().filter_map(|node| Some((node.key, ctx.avoided(&node.key)?))).collect();
    let machine = Upload::new(ctx.clock.now(), plan, UploadConfig::default());
    let mut run = Run {
        ctx: Arc::clone(ctx),
        coded,
        driver: Driver::new(machine, ctx.clock),
        requests: BTreeMap::new(),
        room: Some(room),
    };
    let outcome = loop {
        let effect = run.driver.next_effect().await;
        if let Some(outcome) = run.perform(effect) {
            break outcome;
        }
    };
    match outcome {
        Ok(outcome) => {
            run.room = None;
            log_placed(ctx, &outcome);
            if !run.driver.machine().is_finished() {
                ctx.in_background(run.settle());
            }
            Ok(placed(outcome, &avoided))
        }
        Err(error) => Err(upload_error(ctx, &error)),
    }
}

/// What nodes that were asked did, and why others were not asked.
fn placed(outcome: Outcome, avoided: &BTreeMap<PublicKey, TroubleKind>) -> Placed {
    let said = outcome.troubles.into_iter().map(|(node, trouble)| match trouble {
        Trouble::Slow => (node, TroubleKind::Slow),
        // That it is not even tried tells less than why.
        Trouble::Failed(Failure::Unreachable) => {
            (node, avoided.get(&node).copied().unwrap_or(TroubleKind::Down))
        }
        Trouble::Failed(failure) => (node, kind_of(&failure)),
    });
    let mut troubles = avoided.clone();
    troubles.extend(said);
    troubles.retain(|node, _| !outcome.descriptor.holders.contains(&Some(*node)));
    Placed { descriptor: outcome.descriptor, troubles: troubles.into_iter().collect() }
}

/// The failure that an event tells of.
fn trouble_in(event: &Event) -> Option<Failure> {
    match event {
        Event::Refused { refusal, .. } => Some(Failure::Refused(refusal.clone())),
        Event::Failed { failure, .. } => Some(failure.clone()),
        Event::Accepted { .. } | Event::Progressed { .. } | Event::Persisted => None,
    }
}

fn kind_of(failure: &Failure) -> TroubleKind {
    match failure {
        Failure::Unreachable | Failure::Disconnected => TroubleKind::Down,
        Failure::TimedOut => TroubleKind::Slow,
        Failure::Refused(refusal) => match refusal.code {
            RefusalCode::Full => TroubleKind::Full,
            RefusalCode::Busy => TroubleKind::Busy,
            _ => TroubleKind::Refuses,
        },
        Failure::WrongKey | Failure::Version | Failure::Violation(_) => TroubleKind::BrokeProtocol,
    }
}

/// Tells the log which nodes hold a segment.
fn log_placed(ctx: &Context, outcome: &Outcome) {
    if !tracing::enabled!(tracing::Level::INFO) {
        return;
    }
    let holders = &outcome.descriptor.holders;
    let name = |holder: &Option<PublicKey>| holder.map_or_else(|| "-".into(), |node| ctx.node_name(&node));
    let nodes = holders.iter().map(name).collect::<Vec<_>>().join(" ");
    let (segment, len) = (outcome.descriptor.segment.short(), outcome.descriptor.len);
    tracing::info!(%segment, len, held = outcome.held, degraded = outcome.degraded, %nodes, "placed a segment");
}

fn plan(
    ctx: &Context,
    nodes: &Known,
    coded: &CodedSegment,
    held: Vec<Option<PublicKey>>,
) -> Result<UploadPlan, Error> {
    let candidates: Vec<_> =
        nodes.in_service().map(|node| Candidate::new(node, ctx.is_suspect(&node.key))).collect();
    let code = coded.layout.code();
    let Some(placement) = place(&coded.segment, code, &candidates) else {
        if ctx.vault.is_some() && !nodes.is_told() {
            let message =
                "the network file lists no storage nodes, and the ledger does not say which there are";
            return Err(Error::new(ErrorKind::Unavailable, message)
                .with_hint("see `xvault static status`, then try again"));
        }
        let message = "neither the network file nor the ledger knows a storage node";
        return Err(Error::new(ErrorKind::Config, message)
            .with_hint("have operators register some: `xvault node run --register`"));
    };
    let ranking =
        placement.shards.into_iter().map(|place| [vec![place.node], place.spares].concat()).collect();
    Ok(UploadPlan {
        vault: ctx.vault_id,
        segment: coded.segment,
        code,
        len: coded.layout.len(),
        shard_len: coded.layout.shard_len(),
        roots: coded.roots.clone(),
        ranking,
        held,
        nonce_seed: random()?,
    })
}

/// What to do where the ledger does not let the key write.
const fn keeps_out_hint(ctx: &Context) -> &'static str {
    if ctx.vault.is_some() {
        "the nodes store only for owners and writers of vaults that are on the ledger: put once with `--ack anchored` while its static nodes can be reached, which registers the vault; if it has new keys, `xvault recover` takes them up"
    } else {
        "the grant to bring records is not in force any more, or not yet: ask the vault's owner for another"
    }
}

fn upload_error(ctx: &Context, error: &UploadError) -> Error {
    let UploadError::NotEnoughReceipts { have, need, reasons, .. } = error;
    let full = |(_, failure): &(PublicKey, Failure)| failures::is_code(failure, RefusalCode::Full);
    if let Some(said) = failures::all_keep_out(ctx, reasons) {
        return Error::new(ErrorKind::Refused, said).with_hint(keeps_out_hint(ctx));
    }
    let message =
        format!("only {have} of the {need} shards needed were taken: {}", failures::words(ctx, reasons));
    let elsewhere = |(_, failure): &&(PublicKey, Failure)| failure.is_elsewhere();
    if reasons.iter().filter(elsewhere).count() * 2 > reasons.len() {
        // Trying again would not help; a few liars among good nodes are no reason to blame the file.
        let hint = match reasons.iter().find(elsewhere) {
            Some((_, Failure::WrongKey)) => "check the nodes' keys and addresses in the network file",
            _ => CHECK_NETWORK_ID,
        };
        return Error::new(ErrorKind::Config, message).with_hint(hint);
    }
    if failures::most_keep_out(reasons) {
        return Error::new(ErrorKind::Refused, message).with_hint(keeps_out_hint(ctx));
    }
    let kind =
        if reasons.iter().any(full) && reasons.iter().all(|reason| full(reason) || !reason.1.is_passing()) {
            ErrorKind::Full
        } else {
            ErrorKind::Unavailable
        };
    Error::new(kind, message).with_hint("see `xvault doctor`; what was stored so far is kept, so try again")
}

struct Run {
    ctx: Arc<Context>,
    coded: CodedSegment,
    driver: Driver<Upload>,
    requests: BTreeMap<RequestId, AbortHandle>,
    /// Held while the segment keeps others from beginning.
    room: Option<OwnedSemaphorePermit>,
}

impl Run {
    /// Carries out one effect; the answer is the machine's report.
    fn perform(&mut self, effect: Effect) -> Option<Result<Outcome, UploadError>> {
        match effect {
            Effect::Send { request, node, put, again } => {
                if again {
                    self.ctx.peers.insist(&node);
                }
                self.send(request, node, put);
            }
            Effect::Cancel { request } => {
                if let Some(task) = self.requests.remove(&request) {
                    task.abort();
                }
            }
            // The index is written when the record is complete, and before anybody is told.
            Effect::Persist(_) => self.driver.handle(Event::Persisted),
            Effect::Report(result) => return Some(result),
            Effect::Enough => {
                // With too many in grace already this one keeps its room until it has ended.
                if let Ok(in_grace) = Arc::clone(&self.ctx.in_grace).try_acquire_owned() {
                    self.room = Some(in_grace);
                }
            }
            Effect::Amend(descriptor) => holders::amend(&self.ctx, descriptor),
            Effect::Suspect { node } => self.ctx.note_slow(&[node]),
            Effect::Finished => {}
        }
        None
    }

    fn send(&mut self, request: RequestId, node: PublicKey, put: PutShard) {
        let (ctx, events) = (Arc::clone(&self.ctx), self.driver.sender());
        let body = self.coded.shard(usize::from(put.shard.index));
        let task = tokio::spawn(async move {
            let progress = progress(events.clone(), request);
            let was_suspect = ctx.peers.is_suspect(&node);
            let answer = ctx.peers.put_shard(&node, put, body, &progress).await;
            let expected = ExpectedReceipt {
                network: ctx.network.id,
                vault: put.vault,
                shard: put.shard,
                root: put.root,
                len: put.len,
                nonce: put.nonce,
                node,
            };
            let event = match answer.map(|receipt| receipt.verify(&expected)) {
                Ok(Ok(receipt)) => Event::Accepted { request, receipt },
                Ok(Err(violation)) => Event::Failed { request, failure: Failure::Violation(violation) },
                Err(CallError::Refused(refusal)) => Event::Refused { request, refusal },
                Err(error) => Event::Failed { request, failure: failure(&error) },
            };
            match trouble_in(&event) {
                // It was not even tried: what it did before is why.
                Some(Failure::Unreachable) if was_suspect => {}
                trouble => ctx.note_upload(&node, trouble.map(|failure| kind_of(&failure))),
            }
            // The machine may be finished.
            drop(events.send(event).await);
        });
        self.requests.insert(request, task.abort_handle());
    }

    /// Goes on until every shard is placed or given up.
    async fn settle(mut self) {
        while !self.driver.machine().is_finished() {
            let effect = self.driver.next_effect().await;
            self.perform(effect);
        }
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        self.requests.values().for_each(AbortHandle::abort);
    }
}

/// Tells the machine that bytes were sent. One of many may be lost: the next follows.
fn progress(events: mpsc::Sender<Event>, request: RequestId) -> impl Fn() + Sync {
    move || drop(events.try_send(Event::Progressed { request }))
}

/// A failed call in the terms that the machines decide by.
pub(crate) fn failure(error: &CallError) -> Failure {
    match error {
        CallError::UnknownNode(_) | CallError::Unreachable(_) | CallError::Local(_) => Failure::Unreachable,
        CallError::WrongKey => Failure::WrongKey,
        CallError::Version { .. } => Failure::Version,
        CallError::Refused(refusal) => Failure::Refused(refusal.clone()),
        CallError::TimedOut => Failure::TimedOut,
        CallError::Disconnected(_) => Failure::Disconnected,
        CallError::Violation(violation) => Failure::Violation(*violation),
    }
}

/// The violation of an answer, if it is one.
pub(crate) const fn violation(error: &CallError) -> Option<Violation> {
    match error {
        CallError::Violation(violation) => Some(*violation),
        _ => None,
    }
}
