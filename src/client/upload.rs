//! Drives the [`Upload`] machine over real connections.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::mpsc;
use tokio::task::AbortHandle;

use crate::client::context::{Context, random};
use crate::client::nodes::CHECK_NETWORK_ID;
use crate::client::{Error, ErrorKind};
use crate::message::{Descriptor, ExpectedReceipt, PutShard, Violation};
use crate::net::CallError;
use crate::runtime::Driver;
use crate::stripe::placement::{Candidate, place};
use crate::transfer::failure::{Failure, RequestId};
use crate::transfer::seal::CodedSegment;
use crate::transfer::upload::{Effect, Event, Outcome, Upload, UploadConfig, UploadError, UploadPlan};
use crate::types::PublicKey;

/// Places a coded segment on the network. `held` names nodes that have shards of it already.
///
/// Shards that are still on their way when enough are held go on in the background.
pub(crate) async fn upload(
    ctx: &Arc<Context>,
    coded: CodedSegment,
    held: Vec<Option<PublicKey>>,
) -> Result<Outcome, Error> {
    let plan = plan(ctx, &coded, held)?;
    let machine = Upload::new(ctx.clock.now(), plan, UploadConfig::default());
    let mut run = Run {
        ctx: Arc::clone(ctx),
        coded,
        driver: Driver::new(machine, ctx.clock),
        requests: BTreeMap::new(),
    };
    let outcome = loop {
        let effect = run.driver.next_effect().await;
        if let Some(outcome) = run.perform(effect) {
            break outcome;
        }
    };
    match outcome {
        Ok(outcome) => {
            log_placed(ctx, &outcome);
            if !run.driver.machine().is_finished() {
                ctx.in_background(run.settle());
            }
            Ok(outcome)
        }
        Err(error) => Err(upload_error(ctx, &error)),
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

fn plan(ctx: &Context, coded: &CodedSegment, held: Vec<Option<PublicKey>>) -> Result<UploadPlan, Error> {
    let nodes = &ctx.network.nodes;
    let candidates: Vec<_> =
        nodes.iter().map(|node| Candidate::new(node, ctx.is_suspect(&node.key))).collect();
    let code = coded.layout.code();
    let Some(placement) = place(&coded.segment, code, &candidates) else {
        return Err(Error::new(ErrorKind::Config, "the network file lists no nodes"));
    };
    let ranking =
        placement.shards.into_iter().map(|place| [vec![place.node], place.spares].concat()).collect();
    Ok(UploadPlan {
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

fn upload_error(ctx: &Context, error: &UploadError) -> Error {
    let UploadError::NotEnoughReceipts { have, need, reasons, .. } = error;
    let full = |(_, failure): &(PublicKey, Failure)| matches!(failure, Failure::Refused(refusal) if refusal.code == crate::message::RefusalCode::Full);
    let message =
        format!("only {have} of the {need} shards needed were taken: {}", ctx.name_failures(reasons));
    let elsewhere = |(_, failure): &&(PublicKey, Failure)| failure.is_elsewhere();
    if reasons.iter().filter(elsewhere).count() * 2 > reasons.len() {
        // Trying again would not help; a few liars among good nodes are no reason to blame the file.
        let hint = match reasons.iter().find(elsewhere) {
            Some((_, Failure::WrongKey)) => "check the nodes' keys and addresses in the network file",
            _ => CHECK_NETWORK_ID,
        };
        return Error::new(ErrorKind::Config, message).with_hint(hint);
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
            Effect::Amend(descriptor) => self.amend(descriptor),
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
            let answer = ctx.peers.put_shard(&node, put, body, &progress).await;
            let expected = ExpectedReceipt {
                network: ctx.network.id,
                owner: ctx.owner,
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
            // The machine may be finished.
            drop(events.send(event).await);
        });
        self.requests.insert(request, task.abort_handle());
    }

    fn amend(&self, descriptor: Descriptor) {
        self.ctx.forget_descriptor(&descriptor.segment);
        let index = self.ctx.index.clone();
        self.ctx.in_background(async move {
            if let Err(error) = index.with(move |index| index.amend(&descriptor)).await {
                tracing::warn!(%error, "could not note where the last shards of a segment are");
            }
        });
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
