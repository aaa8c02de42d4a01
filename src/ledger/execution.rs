//! One block on its way from a state to its changes, the same for who builds and who checks.

use std::collections::BTreeMap;

use crate::crypto::lthash::LtHash;
use crate::ledger::apply::{ApplyError, Changes, Draft, Field, InvalidBlock};
use crate::ledger::log;
use crate::ledger::read::{Overlay, Read, ReadError};
use crate::ledger::rows::{
    COMMITTEES, HISTORY, Keys, LAST_LEAVES, PLACES, Past, Place, ROSTER_CHANGES, ROSTERS, SETTINGS,
    STATE_SUM, StateSum, TIP,
};
use crate::ledger::rules::{Context, Refused, carry_out, emergency, handoff, rogue, turns, voters};
use crate::ledger::tables::is_hashed;
use crate::message::Violation;
use crate::message::block::{BlockRecord, Header, certificate_hash};
use crate::message::canonical::Canonical as _;
use crate::message::certificate::CommitCertificate;
use crate::message::member::Roster;
use crate::message::rejection::Rejection;
use crate::message::transaction::SignedTransaction;
use crate::types::limits::{MAX_AUTHOR_BLOCK_TRANSACTIONS, MAX_BLOCK_LEN, MAX_BLOCK_TRANSACTIONS};
use crate::types::{Committee, Hash, Height, PublicKey, Timestamp};

/// A block on its way.
pub(super) struct Execution<'a, R> {
    state: Overlay<'a, R>,
    context: Context,
    tip: Header,
    /// Its place in the committee.
    proposer: u8,
    time: Timestamp,
    certificate: Hash,
    /// Bytes of the block so far, if every member had signed the certificate.
    len: usize,
    count: usize,
    by_author: BTreeMap<PublicKey, usize>,
}

/// Bytes of a block without transactions: header, and a certificate of the largest committee.
const EMPTY_BLOCK_LEN: usize = 8 * 1024;

impl<'a, R: Read> Execution<'a, R> {
    /// Does what comes before the transactions.
    pub(super) fn open(base: &'a R, draft: &Draft) -> Result<Self, ApplyError> {
        let mut state = Overlay::new(base);
        let tip = TIP.expect(&state, &())?;
        let height = tip.record.height.next();
        let committee = committee_of(&state, &tip.record.next_roster())?;
        let proposer = committee.position(&draft.proposer).and_then(|at| u8::try_from(at).ok());
        let proposer = proposer.ok_or(InvalidBlock::Header(Field::Proposer))?;
        let time = draft.time.max(after(&tip));
        let context = Context { settings: SETTINGS.expect(&state, &())?, height, time, committee };
        remember(&mut state, &tip);
        rogue::prune(&mut state, &context)?;
        emergency::settle_due(&mut state, tip.record.time)?;
        handoff::turn(&mut state, &context, &tip)?;
        judge_certificate(&mut state, &context, &tip, draft.certificate.as_ref())?;
        Ok(Self {
            state,
            context,
            proposer,
            time,
            certificate: certificate_hash(draft.certificate.as_ref()),
            tip,
            len: EMPTY_BLOCK_LEN,
            count: 0,
            by_author: BTreeMap::new(),
        })
    }

    /// Carries a transaction out; false if the block is full.
    pub(super) fn carry_out(&mut self, signed: &SignedTransaction) -> Result<bool, Refused> {
        let len = self.len + size_of::<u32>() + signed.bytes().len();
        if len > MAX_BLOCK_LEN || self.count == MAX_BLOCK_TRANSACTIONS {
            return Ok(false);
        }
        let of_author = self.by_author.get(&signed.transaction().author).copied().unwrap_or(0);
        if of_author == MAX_AUTHOR_BLOCK_TRANSACTIONS {
            return Err(Rejection::TooManyOfAuthor.into());
        }
        let mut attempt = Overlay::new(&self.state);
        carry_out(&mut attempt, &self.context, signed)?;
        let writes = attempt.into_writes();
        self.state.absorb(writes);
        self.by_author.insert(signed.transaction().author, of_author + 1);
        (self.len, self.count) = (len, self.count + 1);
        Ok(true)
    }

    /// Does what comes after the transactions, and says what all of it leads to.
    pub(super) fn close(mut self, taken: &[SignedTransaction]) -> Result<Changes, ApplyError> {
        never_refused(rogue::settle(&mut self.state, &self.context))?;
        let next = self.next_roster()?;
        let record = self.record(next.hash(), taken)?;
        let mut frontier = log::frontier(&self.state, self.tip.record.log_size)?;
        for (leaf, signed) in (self.tip.record.log_size..).zip(taken) {
            let place = Place { height: self.context.height, leaf };
            PLACES.put(&mut self.state, &signed.id(), &place);
        }
        LAST_LEAVES.put(&mut self.state, &(record.log_size - 1), &self.context.height);
        let last = record.encode();
        let leaves = taken.iter().map(SignedTransaction::bytes).chain([&last[..]]);
        log::append(&mut self.state, &mut frontier, leaves);
        assert_eq!(frontier.size(), record.log_size, "a leaf for each transaction and the record");
        let header = Header { record, log_root: frontier.root() };
        TIP.put(&mut self.state, &(), &header);
        Ok(Changes { writes: self.state.into_writes(), header, next })
    }

    /// Who decides on the next block; noted where receipts and evidence look for it.
    fn next_roster(&mut self) -> Result<Roster, ReadError> {
        let roster = voters::roster(&self.state)?;
        let hash = roster.hash();
        if hash != self.tip.record.next_roster() {
            note_roster(&mut self.state, &roster, hash);
            ROSTER_CHANGES.put(&mut self.state, &self.context.height, &hash);
        }
        Ok(roster)
    }

    fn record(&mut self, next_roster: Hash, taken: &[SignedTransaction]) -> Result<BlockRecord, ReadError> {
        let leaves = u64::try_from(taken.len()).unwrap_or(u64::MAX);
        Ok(BlockRecord {
            network: self.context.settings.network,
            height: self.context.height,
            previous: self.tip.id(),
            time: self.time,
            proposer: self.proposer,
            roster: self.tip.record.next_roster(),
            new_roster: (next_roster != self.tip.record.next_roster()).then_some(next_roster),
            log_size: self.tip.record.log_size + leaves + 1,
            state: sum_up(&mut self.state)?,
            certificate: self.certificate,
        })
    }
}

/// The earliest time that the block after this one may have.
pub(super) const fn after(tip: &Header) -> Timestamp {
    Timestamp::from_unix_micros(tip.record.time.unix_micros().saturating_add(1))
}

/// The rules of the block itself refuse nothing: they ask before they act.
fn never_refused(outcome: Result<(), Refused>) -> Result<(), ReadError> {
    match outcome {
        Ok(()) => Ok(()),
        Err(Refused::Read(error)) => Err(error),
        Err(Refused::Rejection(rejection)) => panic!("a block's own rules refused: {rejection}"),
    }
}

/// Remembers the block before, as of which evidence may come.
pub(super) fn remember<R: Read>(state: &mut Overlay<'_, R>, tip: &Header) {
    let past = Past {
        block: tip.id(),
        log_size: tip.record.log_size,
        log_root: tip.log_root,
        roster: tip.record.roster,
    };
    HISTORY.put(state, &tip.record.height, &past);
}

/// Checks the certificate of the block before, and notes who signed it.
fn judge_certificate<R: Read>(
    state: &mut Overlay<'_, R>,
    context: &Context,
    tip: &Header,
    certificate: Option<&CommitCertificate>,
) -> Result<(), ApplyError> {
    let wrong = |violation| ApplyError::from(InvalidBlock::Certificate(violation));
    let certificate = match certificate {
        None if tip.record.height == Height::GENESIS => return Ok(()),
        Some(certificate) if tip.record.height != Height::GENESIS => certificate,
        _ => return Err(wrong(Violation::Malformed)),
    };
    if (certificate.height, certificate.block) != (tip.record.height, tip.id()) {
        return Err(wrong(Violation::WrongBlock));
    }
    let committee = committee_of(state, &tip.record.roster)?;
    certificate.verify(&committee, context.settings.network).map_err(wrong)?;
    turns::note(state, context.height, &committee, certificate)?;
    Ok(never_refused(rogue::note_presence(state, context, &committee, certificate))?)
}

/// The committee of a roster.
pub(super) fn committee_of(state: &impl Read, roster: &Hash) -> Result<Committee, ReadError> {
    let Keys(keys) = COMMITTEES.expect(state, roster)?;
    Committee::new(keys).map_err(|_| ReadError::Missing("committee"))
}

/// Notes a roster where receipts and evidence look for it.
pub(super) fn note_roster<R: Read>(state: &mut Overlay<'_, R>, roster: &Roster, hash: Hash) {
    ROSTERS.put(state, &hash, roster);
    COMMITTEES.put(state, &hash, &Keys(roster.committee().members().to_vec()));
}

/// Brings the sum of the state up to date with all writes so far; answers the state hash.
pub(super) fn sum_up<R: Read>(state: &mut Overlay<'_, R>) -> Result<Hash, ReadError> {
    let StateSum(sum) = STATE_SUM.expect(state, &())?;
    let mut sum = LtHash::from_bytes(&sum).ok_or(ReadError::Missing("state sum"))?;
    for (key, value) in state.writes().iter().filter(|(key, _)| is_hashed(key)) {
        let before = state.base().get(key)?;
        if before == *value {
            continue;
        }
        if let Some(before) = before {
            sum.remove(key, &before);
        }
        if let Some(value) = value {
            sum.add(key, value);
        }
    }
    STATE_SUM.put(state, &(), &StateSum(sum.to_bytes()));
    Ok(sum.digest())
}
