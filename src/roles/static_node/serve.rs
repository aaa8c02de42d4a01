//! What a static node answers: other static nodes while they agree, and anybody who asks about the ledger.

use std::sync::mpsc::{SyncSender, TrySendError};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{Semaphore, oneshot};

use crate::ledger::ask::{Answer, Fate, Question};
use crate::message::access::desk::DeskRequest;
use crate::message::{
    Action, Canonical as _, LedgerTip, NodeStatus, Refusal, RefusalCode, Request, Response,
    SignedTransaction, Violation,
};
use crate::net::{Body, Handler, Reply};
use crate::roles::static_node::access::AccessDesk;
use crate::roles::static_node::keeper::Command;
use crate::roles::static_node::library::Library;
use crate::roles::static_node::tree_heads::SignedHead;
use crate::runtime::Clock;
use crate::store::chain::ChainError;
use crate::types::limits::BLOCK_WAIT_MILLIS;
use crate::types::{Height, NetworkId, PublicKey};

/// How long a submission waits for its block; then who asked is told to ask again.
const FINALITY_PATIENCE: Duration = Duration::from_secs(10);
/// What who is told to come back should wait.
const RETRY_AFTER_MS: u32 = 200;
/// What who finds too many waiting for the next block should wait.
const WAITERS_RETRY_MS: u32 = 5_000;

/// Answers requests.
#[derive(Debug)]
pub(super) struct Desk {
    pub(super) access: AccessDesk,
    pub(super) network: NetworkId,
    pub(super) library: Library,
    pub(super) keeper: SyncSender<Command>,
    /// One permit for each question that may wait for the next block.
    pub(super) waiters: Semaphore,
    pub(super) clock: Clock,
    pub(super) started: std::time::Instant,
}

impl Handler for Desk {
    async fn handle(&self, from: PublicKey, request: Request, body: Body) -> Reply {
        match request {
            Request::Consensus { len } => self.consensus(from, len, body).await.into(),
            Request::Cosign { height, cosignature } => self.cosign(from, height, &cosignature).into(),
            Request::SubmitTransaction(bytes) => self.submit(&bytes).await.map_or_else(Reply::from, reply),
            Request::AskLedger(question) => self.ask(&question).await.map_or_else(Reply::from, reply),
            Request::Access { len } => self.access(from, len, body).await.map_or_else(Reply::from, encoded),
            Request::GetStatus => Response::Status(self.status()).into(),
            Request::PutShard(_)
            | Request::ReadShard(_)
            | Request::HaveShards { .. }
            | Request::ListShards { .. }
            | Request::CertifyRelease { .. }
            | Request::ReleaseSegments { .. } => Refusal::from(Violation::OutOfBounds).into(),
        }
    }
}

impl Desk {
    fn tell(&self, command: Command) -> Result<(), Refusal> {
        self.keeper.try_send(command).map_err(|error| match error {
            TrySendError::Full(_) => Refusal::busy("the static node is busy", RETRY_AFTER_MS),
            TrySendError::Disconnected(_) => Refusal::busy("the static node is stopping", 1_000),
        })
    }

    async fn consensus(&self, from: PublicKey, len: u32, body: Body) -> Response {
        if !self.library.shared.is_voter(&from) {
            return Response::Refusal(Violation::NotAMember.into());
        }
        let told = match body.read(usize::try_from(len).unwrap_or(usize::MAX)).await {
            Ok(bytes) => self.tell(Command::Message { from, bytes }),
            Err(error) => Err(error.into()),
        };
        told.map_or_else(Response::Refusal, |()| Response::Done)
    }

    fn cosign(&self, from: PublicKey, height: Height, bytes: &[u8]) -> Response {
        let told = SignedHead::decode(bytes).map_err(Refusal::from).and_then(|signed| {
            if !self.library.shared.may_cosign(&from) {
                return Err(Violation::NotAMember.into());
            }
            self.tell(Command::Cosignature { from, height, signed: Box::new(signed) })
        });
        told.map_or_else(Response::Refusal, |()| Response::Done)
    }

    async fn access(&self, from: PublicKey, len: u32, body: Body) -> Result<Vec<u8>, Refusal> {
        let bytes = body.read(usize::try_from(len).unwrap_or(usize::MAX)).await?;
        let (desk, request) = (self.access.clone(), DeskRequest::decode(&bytes)?);
        let answered = tokio::task::spawn_blocking(move || desk.answer(&from, request)).await;
        let panicked = |_| Refusal::new(RefusalCode::Disk, "the static node failed; its log says why");
        Ok(answered.map_err(panicked)??.encode())
    }

    /// Waits until the transaction is final or refused, but not for ever.
    async fn submit(&self, bytes: &[u8]) -> Result<Answer, Refusal> {
        let signed = SignedTransaction::decode(bytes)?;
        let transaction = Box::new(signed.into_verified(&self.network)?);
        self.note_ending(transaction.signed()).await;
        let (answer, answered) = oneshot::channel();
        self.tell(Command::Submit { transaction, answer })?;
        match tokio::time::timeout(FINALITY_PATIENCE, answered).await {
            Ok(Ok(fate)) => Ok(Answer::Fate(fate)),
            Ok(Err(_)) => Err(Refusal::busy("the static node is stopping", 1_000)),
            Err(_) => Ok(Answer::Fate(Fate::Waiting)),
        }
    }

    /// A revocation or a veto counts from here on, long before it is final. If it cannot be noted it counts when it is.
    async fn note_ending(&self, signed: &SignedTransaction) {
        let request = match signed.transaction().action {
            Action::Revoke { .. } => DeskRequest::Revoke(signed.bytes().to_vec()),
            Action::EmergencyVeto { .. } => DeskRequest::Veto(signed.bytes().to_vec()),
            _ => return,
        };
        let (desk, author) = (self.access.clone(), signed.transaction().author);
        let noted = tokio::task::spawn_blocking(move || desk.answer(&author, request)).await;
        if let Ok(Err(refusal)) = noted {
            tracing::debug!(%refusal, "a submitted revocation or veto is not noted");
        }
    }

    async fn ask(&self, question: &[u8]) -> Result<Answer, Refusal> {
        match Question::decode(question)? {
            Question::BlocksAfter { after } => self.blocks_after(after).await,
            question => self.library.answer(&question, self.clock.now()).map_err(|error| unreadable(&error)),
        }
    }

    /// Waits until there is a block after this one, but not for ever.
    async fn blocks_after(&self, after: Height) -> Result<Answer, Refusal> {
        let Ok(_place) = self.waiters.try_acquire() else {
            return Err(Refusal::busy("too many wait here for the next block", WAITERS_RETRY_MS));
        };
        let mut news = self.library.shared.news();
        let next = async {
            loop {
                let is_leaving = *news.borrow_and_update();
                let answer = self.library.blocks(after.next())?;
                let is_there = matches!(&answer, Answer::Blocks(blocks) if !blocks.is_empty());
                // What is below the tip and not here does not come by waiting.
                let is_gone = || Ok::<_, ChainError>(self.library.chain.view()?.tip()?.record.height > after);
                if is_there || is_leaving || is_gone()? || news.changed().await.is_err() {
                    return Ok(answer);
                }
            }
        };
        match tokio::time::timeout(Duration::from_millis(BLOCK_WAIT_MILLIS), next).await {
            Ok(answer) => answer.map_err(|error: ChainError| unreadable(&error)),
            Err(_) => Ok(Answer::Blocks(Vec::new())),
        }
    }

    fn status(&self) -> NodeStatus {
        let tip = self.library.chain.view().and_then(|view| view.tip()).ok();
        NodeStatus {
            network: self.network,
            version: env!("CARGO_PKG_VERSION").into(),
            shards: 0,
            shard_bytes: 0,
            disk_bytes: 0,
            free_bytes: 0,
            uptime_seconds: self.started.elapsed().as_secs(),
            clock: self.clock.now(),
            problems: Vec::new(),
            ledger: tip.map(|tip| LedgerTip { height: tip.record.height, time: tip.record.time }),
        }
    }
}

fn unreadable(error: &ChainError) -> Refusal {
    tracing::error!(%error, "the ledger cannot be read");
    Refusal::new(RefusalCode::Disk, "the static node cannot read its ledger; its log says why")
}

fn reply(answer: Answer) -> Reply {
    encoded(answer.encode())
}

fn encoded(answer: Vec<u8>) -> Reply {
    let body = Bytes::from(answer);
    let len = u32::try_from(body.len()).unwrap_or(u32::MAX);
    Reply { response: Response::Answer { len }, body: vec![body] }
}
