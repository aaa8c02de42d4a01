//! After a crash: the log leads the engine back to where it was.
//!
//! The engine derives its votes again from the logged inputs and compares them with the logged ones; one that
//! differs stops the node. A vote it derives that is not in the log was cut off with its end, so nobody has seen it:
//! it is logged and said now.

use std::collections::BTreeSet;

use bytes::Bytes;

use super::bodies::Body;
use super::codec::Entry;
use super::context::Value;
use super::engine::Engine;
use super::event::{Effect, Stop, WalEntry};
use super::machine::Consensus;
use crate::message::Violation;
use crate::types::{Height, Round};

/// A replay under way.
#[derive(Debug, Default)]
pub(super) struct Replay {
    /// What need not be logged again.
    pub(super) logged: BTreeSet<Bytes>,
    /// The last round for which the engine asked for a block.
    pub(super) build: Option<Round>,
}

impl Replay {
    /// The entries of this height. Those of heights before are left over from a crash between the commit of a
    /// block and the end of its log.
    pub(super) fn read(height: Height, wal: &[WalEntry]) -> Result<Vec<Entry>, Stop> {
        let mut log = Vec::new();
        for (at, WalEntry(bytes)) in wal.iter().enumerate() {
            let stop = |violation| Stop::Log { entry: at, violation };
            let entry = Entry::decode(bytes).map_err(stop)?;
            if entry.height() > height {
                return Err(stop(Violation::OutOfBounds));
            }
            if entry.height() == height {
                log.push(entry);
            }
        }
        Ok(log)
    }
}

impl Consensus {
    pub(super) fn replay(&mut self, log: &[Entry]) {
        let logged = log.iter().map(Entry::encode).collect();
        self.replay = Some(Replay { logged, build: None });
        log.iter().for_each(|entry| self.restore(entry));
        self.feed(Engine::start);
        for entry in log {
            self.feed(|engine| engine.input(entry));
            if let Entry::Over(_, round, wait) = entry {
                self.timers.over(*round, *wait);
            }
        }
        let build = self.replay.as_ref().and_then(|replay| replay.build);
        if let Some(round) = build {
            self.resume_build(round, log);
        }
        self.say_again(log);
        self.replay = None;
        if let Some(engine) = &mut self.engine {
            engine.end_replay();
        }
    }

    /// Takes the bytes of a block from the log.
    fn restore(&mut self, entry: &Entry) {
        if let Entry::Verdict(verdict) = entry {
            let (id, block, round) = (verdict.id, verdict.block.clone(), verdict.round);
            let body = Body { id, block, round, proposal: None, valid: Some(verdict.valid) };
            self.bodies.put(verdict.bytes, body, None);
        }
    }

    /// Says its proposal of this round again: the engine takes it from the log, but the crash may have come before it
    /// was sent.
    fn say_again(&mut self, log: &[Entry]) {
        let own = self.settings.pair.public();
        let Some(round) = self.engine.as_ref().map(Engine::round) else { return };
        let said = log.iter().find_map(|entry| match entry {
            Entry::Proposal(signed) if signed.proposer == own && signed.proposal.round == round => {
                Some(*signed)
            }
            _ => None,
        });
        if let Some(signed) = said {
            self.say_proposal(signed);
        }
    }

    /// If the round still waits for this node's proposal: proposes the block that it had got, or asks for one.
    fn resume_build(&mut self, round: Round, log: &[Entry]) {
        let waits = |engine: &Engine| engine.round() == round && engine.wants_proposal();
        if !self.engine.as_ref().is_some_and(waits) {
            return;
        }
        let own = self.settings.pair.public();
        let built = log.iter().find_map(|entry| match entry {
            Entry::Verdict(verdict) if verdict.proposer == own && verdict.round == round => Some(verdict),
            _ => None,
        });
        match built {
            Some(verdict) => {
                let value = Value { id: verdict.id, bytes: verdict.bytes };
                self.feed(|engine| engine.propose(round, value));
            }
            None => self.effects.push_back(Effect::Build { height: self.height, round }),
        }
    }
}
