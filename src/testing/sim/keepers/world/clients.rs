//! What clients and observers ask of nodes, and what they are told.

use bytes::Bytes;
use tokio::sync::oneshot;
use tokio::sync::oneshot::error::TryRecvError;

use super::{Delivery, Keepers};
use crate::ledger::ask::{Answer, Fate, Question};
use crate::message::anchor_receipt::RosterStep;
use crate::message::{Canonical as _, SignedTransaction};
use crate::roles::static_node::keeper::Command;
use crate::testing::sim::keepers::check::Wrong;
use crate::testing::sim::keepers::node::{Waiting, read};
use crate::types::TransactionId;

/// The longest way between a client and a node.
const WAY_MICROS: u64 = 30_000;

impl Keepers {
    /// A client submits what is pending to every static node, or begins something.
    pub(super) fn act(&mut self, client: usize) -> Result<(), Wrong> {
        let rest = self.clients[client].rest_micros();
        let pending = self.clients[client].pending.is_some();
        if !pending && !self.is_mended {
            let node = self.rng.index(self.nodes.len());
            let (now, network) = (self.clock(node), self.common.genesis.network);
            if let Some(alive) = &self.nodes[node].alive {
                let mut ask = |question: Question| read(&alive.ask(&question.encode(), now)?);
                let begun = self.clients[client].begin(network, &mut ask);
                begun.map_err(|what| self.wrong(what))?;
            }
        }
        if let Some(pending) = &self.clients[client].pending {
            let bytes = Bytes::copy_from_slice(pending.signed.bytes());
            for node in 0..self.nodes.len() {
                let way = self.random_delay(WAY_MICROS);
                self.schedule(way, Delivery::Submit(client, node, bytes.clone()));
            }
        }
        let rest = self.random_delay(rest) + self.random_delay(rest);
        self.schedule(rest, Delivery::Client(client));
        Ok(())
    }

    /// A transaction arrives. Of one client a node remembers that it waits once for each.
    pub(super) fn submit(&mut self, client: usize, node: usize, bytes: &[u8]) -> Result<(), Wrong> {
        let network = self.common.genesis.network;
        let Some(alive) = &mut self.nodes[node].alive else { return Ok(()) };
        let verified = SignedTransaction::decode(bytes).and_then(|signed| signed.into_verified(&network));
        let Ok(transaction) = verified else { return Err(self.wrong("a client's transaction is invalid")) };
        let id = transaction.signed().id();
        let (answer, fate) = oneshot::channel();
        alive.waiting.retain(|waiting| (waiting.client, waiting.id) != (client, id));
        alive.waiting.push(Waiting { client, id, fate });
        self.drive(node, |keeper| keeper.take(Command::Submit { transaction: Box::new(transaction), answer }))
    }

    /// Sends what a node has answered to those who wait.
    pub(super) fn pass_on_fates(&mut self, node: usize) -> Result<(), Wrong> {
        let Some(alive) = &mut self.nodes[node].alive else { return Ok(()) };
        let mut told = Vec::new();
        alive.waiting.retain_mut(|waiting| match waiting.fate.try_recv() {
            Ok(fate) => {
                told.push((waiting.client, waiting.id, fate));
                false
            }
            Err(TryRecvError::Empty) => true,
            Err(TryRecvError::Closed) => false,
        });
        for (client, id, fate) in told {
            if let Fate::Rejected(rejection) = &fate {
                let tip = self.nodes[node].seen;
                self.checker.refused(node, tip, id, rejection.to_string());
            }
            if let Fate::Final(proven) = &fate {
                self.nodes[node].spoke_of = self.nodes[node].spoke_of.max(proven.height);
            }
            let bytes = Bytes::from(Answer::Fate(fate).encode());
            let way = self.random_delay(WAY_MICROS);
            self.schedule(way, Delivery::Fate(client, node, id, bytes));
        }
        Ok(())
    }

    /// A client is told what became of a transaction.
    pub(super) fn fate(
        &mut self,
        client: usize,
        node: usize,
        id: TransactionId,
        bytes: &[u8],
    ) -> Result<(), Wrong> {
        self.trace.update(&[client as u8, node as u8]).update(bytes);
        let answer = read(bytes).map_err(|what| self.wrong(what))?;
        let is_wanted = self.clients[client].id() == Some(id);
        match answer {
            Answer::Fate(Fate::Final(proven)) => {
                self.checker.proof(id, *proven).map_err(|what| self.wrong(what))?;
                if is_wanted {
                    self.clients[client].pending = None;
                }
            }
            Answer::Fate(Fate::Rejected(_)) if is_wanted => {
                // As clients do: more must say so than can be wrong.
                let enough = (self.plan.members - 1) / 3 + 1;
                let actor = &mut self.clients[client];
                let refused = actor.pending.as_mut().map_or(0, |pending| {
                    pending.refused.insert(node);
                    pending.refused.len()
                });
                if refused >= enough {
                    actor.pending = None;
                    self.checker.summary.refused += 1;
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// Somebody asks a node for a transaction, its last block, or the changes of the static nodes.
    pub(super) fn observe(&mut self) -> Result<(), Wrong> {
        let next = self.random_delay(600_000);
        self.schedule(next, Delivery::Observe);
        let node = self.rng.index(self.nodes.len());
        let finals: Vec<TransactionId> = self.checker.finals().collect();
        let question = match self.rng.below(3) {
            0 => Question::Tip,
            1 => Question::Steps,
            _ if finals.is_empty() => return Ok(()),
            _ => Question::Transaction { id: *self.rng.pick(&finals) },
        };
        let now = self.clock(node);
        let Some(alive) = &self.nodes[node].alive else { return Ok(()) };
        let answer = alive.ask(&question.encode(), now).and_then(|bytes| read(&bytes));
        let answer = answer.map_err(|what| self.wrong(what))?;
        let seen = match (question, answer) {
            (Question::Tip, Answer::Tip { header, note, .. }) => {
                let noted = if note.is_empty() { Ok(()) } else { self.checker.note(&note) };
                noted.and_then(|()| self.checker.block(node, &header))
            }
            (Question::Steps, Answer::Steps(steps)) => RosterStep::follow(&self.common.genesis, &steps)
                .map(drop)
                .map_err(|violation| format!("steps with {violation}")),
            (Question::Transaction { id }, Answer::Transaction(found)) => match found {
                Some(proven) => self.checker.proof(id, *proven),
                // It may be behind.
                None => Ok(()),
            },
            (question, answer) => Err(format!("{question:?} is answered with {answer:?}")),
        };
        seen.map_err(|what| self.wrong(what))
    }

    /// Whether a node proves a transaction that is final; if not, who and what.
    pub(super) fn cannot_prove(
        &self,
        node: usize,
        id: Option<TransactionId>,
    ) -> Result<Option<String>, String> {
        let (Some(alive), Some(id)) = (&self.nodes[node].alive, id) else { return Ok(None) };
        let question = Question::Transaction { id };
        match alive.ask(&question.encode(), self.clock(node)).and_then(|bytes| read(&bytes))? {
            Answer::Transaction(Some(proven)) => {
                let verified = proven.verify(&self.common.genesis);
                verified.map(|()| None).map_err(|violation| format!("a proof of {id:?} with {violation}"))
            }
            other => Ok(Some(format!("node {node} cannot prove {id:?}: {other:?}"))),
        }
    }
}
