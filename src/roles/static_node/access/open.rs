//! Opening: decide, log, then answer, in this order.

use std::sync::atomic::Ordering;

use zeroize::Zeroizing;

use super::{AccessDesk, Denials, LOGGED_DENIALS, Unanswered};
use crate::crypto::access::Purpose;
use crate::crypto::hash::{Context, derive_key};
use crate::ledger::access::{Decision, decide};
use crate::ledger::rows::{ACCESS, BATCH_NUMBERS};
use crate::message::Canonical as _;
use crate::message::access::desk::{DeskAnswer, LogEntry};
use crate::message::access::open::{OpenItem, OpenReply, OpenedItem, SignedOpenRequest, lines_digest};
use crate::message::access::{Denial, Grant};
use crate::store::access::{AccessStoreError, AccessView, HeldShare, Logged};
use crate::store::chain::View;
use crate::types::{GrantId, Hash, ScopeTag, Timestamp, VaultId};

/// Microseconds of a minute.
const MINUTE_MICROS: u64 = 60_000_000;

/// What was decided, once it is in the log.
struct Opening {
    held: HeldShare,
    epoch: u32,
    log_sequence: u64,
    store: AccessView,
}

impl AccessDesk {
    /// Answers a grantee's request.
    pub(super) fn open(&self, view: &View, bytes: &[u8]) -> Result<DeskAnswer, Unanswered> {
        let signed = SignedOpenRequest::decode(bytes)?;
        match self.decide(view, &signed)? {
            Ok(opening) => self.release(view, &opening, &signed),
            Err(denial) => Ok(DeskAnswer::Denied(denial)),
        }
    }

    /// Decides, and has it in the log durably. From here on the request is answered.
    fn decide(&self, view: &View, signed: &SignedOpenRequest) -> Result<Result<Opening, Denial>, Unanswered> {
        let request = signed.request();
        let mut denials = self.deciding();
        let (store, now) = (self.0.store.view()?, self.0.clock.now());
        let is_booting = !self.0.is_current.load(Ordering::Acquire);
        let decision = decide(view, &store, now, is_booting, signed)?;
        let held = store.share(&request.vault, (request.dealing, request.epoch))?;
        let (denied, records, epoch) = match decision {
            Decision::Deny { denial, is_known: false } => return Ok(Err(denial)),
            Decision::Deny { denial, is_known: true } => (Some(denial), 0, 0),
            Decision::Open { sharing, records } => (None, records, sharing.epoch),
        };
        let Some(held) = held else { return Ok(Err(denied.unwrap_or(Denial::NoShare))) };
        if let Some(denial) = denied
            && !may_log(&mut denials, &request.grant, now)
        {
            return Ok(Err(denial));
        }
        let entry = LogEntry {
            time: now,
            grant: request.grant,
            request: signed.hash(),
            items: request.items.clone(),
            purpose: request.purpose.clone(),
            emergency: request.emergency,
            denied,
        };
        let log_sequence = self.append(&store, &held, &request.vault, &request.nonce, &entry, records)?;
        Ok(match denied {
            Some(denial) => Err(denial),
            None => Ok(Opening { held, epoch, log_sequence, store }),
        })
    }

    /// Has it in the log that a grantee was not told which batches there are in a scope.
    pub(super) fn log_denied_list(
        &self,
        view: &View,
        grant: &Grant,
        scope: &ScopeTag,
        denial: Denial,
    ) -> Result<(), Unanswered> {
        let mut denials = self.deciding();
        let (store, now) = (self.0.store.view()?, self.0.clock.now());
        let Some(access) = ACCESS.get(view, &grant.vault)? else { return Ok(()) };
        let held = store.share(&grant.vault, (access.sharing.dealing, access.sharing.epoch))?;
        let Some(held) = held.filter(|_| may_log(&mut denials, &grant.grant, now)) else { return Ok(()) };
        // No request to name: those of a minute are one, at whichever node they arrive.
        let minute = now.unix_micros() / MINUTE_MICROS;
        let mut request = Hash([0; 32]);
        derive_key(Context::DeniedList, &[&grant.grant.0, &scope.0, &minute.to_le_bytes()], &mut request.0);
        let entry = LogEntry {
            time: now,
            grant: grant.grant,
            request,
            items: Vec::new(),
            purpose: "list".to_owned(),
            emergency: None,
            denied: Some(denial),
        };
        let nonce = random::<16>()?;
        self.append(&store, &held, &grant.vault, &nonce, &entry, 0).map(drop)
    }

    /// Appends an entry to the log durably; its number.
    fn append(
        &self,
        store: &AccessView,
        held: &HeldShare,
        vault: &VaultId,
        nonce: &[u8; 16],
        entry: &LogEntry,
        records: u32,
    ) -> Result<u64, Unanswered> {
        let sequence = store.log_end(vault)?.size;
        let context = LogEntry::context(&self.0.key.public(), sequence);
        let sealed = held.audit.seal(Purpose::Audit, &context, &entry.encode(), &*random::<64>()?);
        let (grant, now) = (&entry.grant, entry.time);
        let emergency = entry.emergency.as_ref().filter(|_| entry.denied.is_none());
        let emergency = emergency.map(|request| (request, &entry.request));
        self.0.store.log(&Logged {
            vault,
            grant,
            nonce,
            sequence,
            sealed: &sealed,
            records,
            emergency,
            now,
        })?;
        Ok(sequence)
    }

    /// This node's part of the release, and what it has of each item.
    fn release(
        &self,
        view: &View,
        opening: &Opening,
        signed: &SignedOpenRequest,
    ) -> Result<DeskAnswer, Unanswered> {
        let request = signed.request();
        let Some(inputs) = request.inputs() else { return Ok(DeskAnswer::Denied(Denial::NoSuchEntry)) };
        let partial = opening.held.share.evaluate(&inputs, &*random::<32>()?);
        let place = opening.held.share.index();
        let with_lines = request.lines_from == place;
        let items = request.items.iter().map(|item| self.item(view, opening, signed, item, with_lines));
        let reply = OpenReply {
            request: signed.hash(),
            partial: partial.to_bytes().to_vec(),
            items: items.collect::<Result<_, _>>()?,
            log_sequence: opening.log_sequence,
        };
        let context = OpenReply::context(&reply.request, place, opening.epoch);
        let plain = Zeroizing::new(reply.sign(&self.0.key));
        let sealed = request.reply_to.seal(Purpose::Partial, &context, &plain, &*random::<64>()?);
        Ok(DeskAnswer::Opened(sealed))
    }

    fn item(
        &self,
        view: &View,
        opening: &Opening,
        signed: &SignedOpenRequest,
        item: &OpenItem,
        with_lines: bool,
    ) -> Result<OpenedItem, Unanswered> {
        let (vault, store) = (&signed.request().vault, &opening.store);
        match item {
            OpenItem::Record { record, version, scope, generation } => {
                let gone = || AccessStoreError::Damaged("slots");
                let found = store.slot(vault, record, version, scope, *generation)?;
                let (entry, slot) = found.ok_or_else(gone)?;
                let (dek_commit, header) = (entry.dek_commit, entry.header);
                Ok(OpenedItem::Record { dek_commit, header, slot: Box::new(slot) })
            }
            OpenItem::List { batch, scope, generation } => {
                let number = BATCH_NUMBERS.get(view, &(*vault, *batch))?;
                let number = number.ok_or(AccessStoreError::Damaged("batches"))?;
                let mut lines = store.lines(vault, number, scope, *generation)?;
                let digest = lines_digest(&lines);
                if !with_lines {
                    lines.clear();
                }
                Ok(OpenedItem::List { digest, lines })
            }
        }
    }
}

/// Whether one more denial of a grant goes into the log in this minute.
fn may_log(denials: &mut Denials, grant: &GrantId, now: Timestamp) -> bool {
    let minute = now.unix_micros() / MINUTE_MICROS;
    denials.retain(|_, (of, _)| *of == minute);
    let (_, count) = denials.entry(*grant).or_insert((minute, 0));
    *count += 1;
    *count <= LOGGED_DENIALS
}

pub(super) fn random<const N: usize>() -> Result<Zeroizing<[u8; N]>, Unanswered> {
    let mut bytes = Zeroizing::new([0; N]);
    getrandom::fill(&mut *bytes).map_err(std::io::Error::other)?;
    Ok(bytes)
}
