//! A grantee brings records into a vault that it may append to: packs as an owner makes them, each sealed under a key of its own
//! that only the owner's inbox opens. What is on the ledger waits there until the owner takes it in.

use std::sync::Arc;

use tokio::sync::Mutex;
use zeroize::Zeroizing;

use crate::client::access::scope::{Scope, Subject};
use crate::client::context::{Context, random};
use crate::client::vault::Vault;
use crate::client::{Condition, Error, ErrorKind, PutOptions, RecordAddress};
use crate::crypto::access::{Purpose, SealPublic};
use crate::crypto::frame::CommitKey;
use crate::crypto::sign::KeyPair;
use crate::message::access::{Deposit, DepositPack, Inbox};
use crate::message::anchor::AnchoredSegment;
use crate::message::{Action, Descriptor, Rejection};
use crate::types::limits::{MAX_ANCHOR_SEGMENTS, MAX_DEPOSIT_KEY_LEN, MAX_TRANSACTION_LEN};
use crate::types::{Code, GrantId, SegmentId, VaultId};

/// Bytes of a transaction for the segments that a deposit brings.
const SEGMENT_BYTES: usize = MAX_TRANSACTION_LEN - MAX_DEPOSIT_KEY_LEN - 1_024;

/// Who brings something in: under which grant, into which vault.
#[derive(Debug)]
pub(crate) struct Depositor {
    /// Asks the ledger.
    vault: Arc<Vault>,
    /// The grant's key.
    signer: KeyPair,
    to: VaultId,
    grant: GrantId,
    inbox: SealPublic,
    /// One transaction after the other: an author's have numbers.
    turn: Mutex<()>,
}

impl Depositor {
    pub(crate) fn new(
        vault: Arc<Vault>,
        signer: KeyPair,
        (to, grant): (VaultId, GrantId),
        inbox: &Inbox,
    ) -> Self {
        Self { vault, signer, to, grant, inbox: inbox.key.clone(), turn: Mutex::default() }
    }

    /// Puts a pack on the ledger whose commit is sealed with `key`, and the segments of large records that it names.
    pub(crate) async fn deposit(
        &self,
        ctx: &Context,
        key: &CommitKey,
        mut bodies: Vec<Descriptor>,
        pack: &Descriptor,
    ) -> Result<(), Error> {
        let _turn = self.turn.lock().await;
        // The same order whenever an upload is taken up again, so that parts are the same.
        bodies.sort_by_key(|descriptor| descriptor.segment);
        let at_once = segments_at_once(pack.code);
        let (parts, last) = parts_of(&bodies, at_once);
        for part in parts {
            let segments = self.vault.anchored(&part.iter().collect::<Vec<_>>()).await?;
            match self.submit(ctx, segments, None).await {
                // By an attempt before this one.
                Err(error) if there_already(&error, None).is_some() => {}
                done => done?,
            }
        }
        let mut last: Vec<_> = last.iter().chain([pack]).collect();
        let sealed = DepositPack { segment: pack.segment, key: self.seal(key, pack.segment)? };
        loop {
            let segments = self.vault.anchored(&last).await?;
            let done = self.submit(ctx, segments, Some(sealed.clone())).await;
            // An attempt before this one was final, and nobody was told. The pack may have other records, which were not in it.
            match done.as_ref().err().and_then(|error| there_already(error, Some(pack.segment))) {
                Some(there) => last.retain(|descriptor| descriptor.segment != there),
                None => return done,
            }
        }
    }

    fn seal(&self, key: &CommitKey, pack: SegmentId) -> Result<Vec<u8>, Error> {
        let context = DepositPack::context(&self.to, &self.grant, &pack);
        let random = Zeroizing::new(random()?);
        Ok(self.inbox.seal(Purpose::Inbox, &context, key.as_bytes(), &random))
    }

    async fn submit(
        &self,
        ctx: &Context,
        segments: Vec<AnchoredSegment>,
        pack: Option<DepositPack>,
    ) -> Result<(), Error> {
        let deposit = Deposit { vault: self.to, grant: self.grant, segments, pack };
        let notice = |text: &str| ctx.notice(text);
        let done = self.vault.ledger.carry_out(&self.signer, Action::Deposit(deposit), &notice).await;
        done.map(drop).map_err(told)
    }
}

/// What to do about a deposit that is refused.
fn told(error: Error) -> Error {
    match rejection_of(&error) {
        Some(Rejection::GrantNotInForce | Rejection::OverAppendBytes { .. } | Rejection::NoRightToAppend) => {
            error.with_hint("ask the vault's owner for another grant")
        }
        Some(Rejection::TooManyDeposits) => {
            error.with_hint("try again when the owner has taken them in, with `xvault sync`")
        }
        _ => error,
    }
}

fn rejection_of(error: &Error) -> Option<Rejection> {
    std::error::Error::source(error).and_then(|source| source.downcast_ref::<Rejection>()).copied()
}

/// The segment, other than this one, because of which a deposit is refused: it is there already.
fn there_already(error: &Error, but: Option<SegmentId>) -> Option<SegmentId> {
    match rejection_of(error) {
        Some(Rejection::SegmentExists { segment }) if Some(segment) != but => Some(segment),
        _ => None,
    }
}

/// Segments that one deposit can bring.
fn segments_at_once(code: Code) -> usize {
    (SEGMENT_BYTES / AnchoredSegment::encoded_len(code)).clamp(2, MAX_ANCHOR_SEGMENTS)
}

/// Bodies cut up for deposits: those that go before, and those that come with the pack.
fn parts_of(bodies: &[Descriptor], at_once: usize) -> (std::slice::Chunks<'_, Descriptor>, &[Descriptor]) {
    let with_pack = at_once - 1;
    if bodies.len() <= with_pack {
        return ([].chunks(at_once), bodies);
    }
    let rest = bodies.len() % at_once;
    // What is left over goes with the pack, if there is room for it.
    let before = if rest <= with_pack { bodies.len() - rest } else { bodies.len() };
    let (before, last) = bodies.split_at(before);
    (before.chunks(at_once), last)
}

/// Refuses what the owner would not take in, before anything is sent.
pub(super) fn require_wanted(inbox: &Inbox, at: &RecordAddress, options: &PutOptions) -> Result<(), Error> {
    if options.condition != Condition::Any {
        let message = "nothing is known here of what the vault has: a deposit is under no condition";
        return Err(Error::new(ErrorKind::Invalid, message));
    }
    let subject = Subject { collection: &at.collection, name: &at.name, metadata: &options.metadata };
    let takes = |text: &String| text.parse::<Scope>().is_ok_and(|scope| scope.contains(&subject));
    if inbox.scopes.iter().any(takes) {
        return Ok(());
    }
    let message = format!("the grant lets no such record be brought as {at}");
    let hint = format!("it lets these be brought: {}", inbox.scopes.join(", or "));
    Err(Error::new(ErrorKind::Refused, message).with_hint(hint))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::settle::refused;
    use crate::crypto::access::SealKey;
    use crate::message::anchor::AnchoredShard;
    use crate::message::{SignedTransaction, Transaction};
    use crate::types::{Hash, Height, NetworkId};

    fn bodies(count: usize) -> Vec<Descriptor> {
        let body = |nth: usize| Descriptor {
            segment: id(nth),
            code: Code::DEFAULT,
            len: 1,
            roots: Vec::new(),
            holders: Vec::new(),
        };
        (0..count).map(body).collect()
    }

    fn id(nth: usize) -> SegmentId {
        let mut id = [0; 32];
        id[..8].copy_from_slice(&(nth as u64).to_be_bytes());
        SegmentId(id)
    }

    #[test]
    fn every_body_is_in_one_part_and_the_last_has_room_for_the_pack() {
        for at_once in 2..6 {
            for count in 0..20 {
                let bodies = bodies(count);
                let (parts, last) = parts_of(&bodies, at_once);
                let parts: Vec<_> = parts.collect();
                assert!(parts.iter().all(|part| (1..=at_once).contains(&part.len())));
                assert!(last.len() < at_once);
                let all: Vec<_> = parts.concat().iter().chain(last).map(|body| body.segment).collect();
                assert_eq!(all, bodies.iter().map(|body| body.segment).collect::<Vec<_>>());
            }
        }
    }

    #[test]
    fn the_fullest_deposit_of_any_code_is_no_longer_than_a_transaction() {
        for (k, m) in [(1, 1), (4, 2), (10, 4), (20, 8)] {
            let code = Code::new(k, m).unwrap();
            let most = segments_at_once(code);
            let shards = vec![AnchoredShard { root: Hash([1; 32]), holder: None }; code.total()];
            let segment =
                |nth| AnchoredSegment { segment: id(nth), code, len: 1 << 20, shards: shards.clone() };
            let sealed =
                SealKey::from_seed(&[1; 32]).public().seal(Purpose::Inbox, &[0; 80], &[2; 32], &[3; 64]);
            let deposit = Deposit {
                vault: VaultId([1; 32]),
                grant: GrantId([2; 16]),
                segments: (0..most).map(segment).collect(),
                pack: Some(DepositPack { segment: id(0), key: sealed }),
            };
            let key = KeyPair::from_secret(&[1; 32]);
            let (network, author, action) = (NetworkId([1; 32]), key.public(), Action::Deposit(deposit));
            let signed = Transaction { network, author, nonce: 1, expires: Height(9), action }.sign(&key);
            let len = signed.bytes().len();
            assert!(SignedTransaction::decode(signed.bytes()).is_ok(), "{code}: {len} bytes");
        }
    }

    #[test]
    fn only_what_the_owner_takes_is_brought() {
        let scopes = vec!["in:reports and label:knee".to_owned(), "record:letters/one".to_owned()];
        let inbox = Inbox { key: SealKey::from_seed(&[1; 32]).public().clone(), scopes };
        let wanted = |address: &str, labels: &str| {
            let (collection, name) = address.split_once('/').unwrap();
            let at = RecordAddress { collection: collection.parse().unwrap(), name: name.parse().unwrap() };
            let metadata = [("labels".to_owned(), labels.to_owned())].into();
            require_wanted(&inbox, &at, &PutOptions { metadata, ..PutOptions::default() })
        };
        assert!(wanted("reports/a", "knee").is_ok() && wanted("letters/one", "").is_ok());
        for (address, labels) in [("reports/a", "head"), ("letters/two", "knee"), ("other/a", "knee")] {
            assert_eq!(wanted(address, labels).unwrap_err().kind(), ErrorKind::Refused);
        }
        let at = RecordAddress { collection: "letters".parse().unwrap(), name: "one".parse().unwrap() };
        let options = PutOptions { condition: Condition::IfAbsent, ..PutOptions::default() };
        assert_eq!(require_wanted(&inbox, &at, &options).unwrap_err().kind(), ErrorKind::Invalid);
    }

    #[test]
    fn a_segment_that_is_there_says_that_an_attempt_before_was_final() {
        let rejected = |rejection| refused(&rejection);
        let there = rejected(Rejection::SegmentExists { segment: id(1) });
        assert_eq!(
            (there_already(&there, None), there_already(&there, Some(id(2)))),
            (Some(id(1)), Some(id(1)))
        );
        assert_eq!(there_already(&there, Some(id(1))), None, "the new pack cannot be there");
        assert_eq!(there_already(&rejected(Rejection::TooManyDeposits), None), None);
    }
}
