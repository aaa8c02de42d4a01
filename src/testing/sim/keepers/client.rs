//! Who wants something on the ledger: owners that anchor, storage nodes that come and go, and those who govern.

use std::collections::{BTreeMap, BTreeSet};

use crate::crypto::sign::KeyPair;
use crate::ledger::ask::{Answer, Question};
use crate::message::anchor::{Anchor, AnchoredSegment, AnchoredShard, NodeNumber, PackCommit};
use crate::message::transaction::NodeEntry;
use crate::message::{Action, Change, Governance, SignedTransaction, Transaction};
use crate::testing::sim::keepers::node::{GENERATIONS, key, member};
use crate::testing::sim::rng::Rng;
use crate::types::limits::MIN_COMMITTEE;
use crate::types::{
    Code, CollectionTag, Hash, Height, NetworkId, PublicKey, SegmentId, TransactionId, VaultId,
};

/// Blocks for which a transaction may wait.
const LIFE: u64 = 60;

/// Asks one static node.
pub(super) type Ask<'a> = &'a mut dyn FnMut(Question) -> Result<Answer, String>;

/// What a client does.
#[derive(Debug)]
pub(super) enum Role {
    /// Writes to two collections of a vault; another one, of the same owner, does too.
    Writer { vault: VaultId, owner: KeyPair },
    /// Registers storage nodes, changes and retires them.
    Registrant { node: KeyPair },
    /// Lets static nodes come and go; it has all keys, of so many places.
    Governor { author: KeyPair, places: usize },
}

/// A transaction on its way.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) signed: SignedTransaction,
    /// The nodes that refused it.
    pub(super) refused: BTreeSet<usize>,
}

/// One client.
#[derive(Debug)]
pub(super) struct Client {
    role: Role,
    pub(super) rng: Rng,
    pub(super) pending: Option<Pending>,
}

impl Client {
    pub(super) const fn new(role: Role, rng: Rng) -> Self {
        Self { role, rng, pending: None }
    }

    /// How long it rests at most, in microseconds.
    pub(super) const fn rest_micros(&self) -> u64 {
        match self.role {
            Role::Writer { .. } => 400_000,
            Role::Registrant { .. } => 1_500_000,
            Role::Governor { .. } => 2_500_000,
        }
    }

    pub(super) fn id(&self) -> Option<TransactionId> {
        self.pending.as_ref().map(|pending| pending.signed.id())
    }

    /// Begins the next transaction, by what one node says of the ledger.
    pub(super) fn begin(&mut self, network: NetworkId, ask: Ask<'_>) -> Result<(), String> {
        let Some((author, action)) = self.next(network, ask)? else { return Ok(()) };
        let nonce = match &action {
            Action::Anchor(Anchor { vault, collection, .. }) => {
                let (vault, collection) = (*vault, *collection);
                match ask(Question::Head { vault, collection })? {
                    Answer::Head(head) => head.map_or(0, |head| head.sequence),
                    other => return Err(format!("{other:?} is no head")),
                }
            }
            _ => match ask(Question::Nonce { author: author.public() })? {
                Answer::Nonce(nonce) => nonce,
                other => return Err(format!("{other:?} is no nonce")),
            },
        };
        let Answer::Tip { header, .. } = ask(Question::Tip)? else { return Err("no tip".into()) };
        let expires = Height(header.record.height.0 + LIFE);
        let signed = Transaction { network, author: author.public(), nonce, expires, action }.sign(&author);
        self.pending = Some(Pending { signed, refused: BTreeSet::new() });
        Ok(())
    }

    fn next(&mut self, network: NetworkId, ask: Ask<'_>) -> Result<Option<(KeyPair, Action)>, String> {
        let rng = &mut self.rng;
        match &mut self.role {
            Role::Writer { vault, owner } => {
                let action = write(*vault, rng, ask)?;
                Ok(Some((owner.clone(), action)))
            }
            Role::Registrant { node } => {
                let Answer::Nonce(sent) = ask(Question::Nonce { author: node.public() })? else {
                    return Err("no nonce".into());
                };
                if sent > 0 && rng.chance(500) {
                    *node = KeyPair::from_secret(&rng.bytes());
                    return Ok(None);
                }
                let action = match sent {
                    0 => Action::RegisterNode { node: entry(rng), sponsor: None },
                    1 => Action::UpdateNode(entry(rng)),
                    _ => Action::RetireNode,
                };
                Ok(Some((node.clone(), action)))
            }
            Role::Governor { author, places } => {
                let governance = govern(network, *places, rng, ask)?;
                Ok(governance.map(|governance| (author.clone(), Action::Govern(governance))))
            }
        }
    }
}

fn entry(rng: &mut Rng) -> NodeEntry {
    let word = rng.below(1_000);
    NodeEntry {
        label: format!("node-{word}"),
        operator: format!("operator-{word}"),
        site: "site".into(),
        address: ([127, 0, 0, 1], 5_000 + word as u16).into(),
    }
}

/// The vault if there is none, else an anchor on the head that the node knows.
fn write(vault: VaultId, rng: &mut Rng, ask: Ask<'_>) -> Result<Action, String> {
    match ask(Question::Vault { vault })? {
        Answer::Vault(None) => return Ok(Action::CreateVault { vault, sponsor: None }),
        Answer::Vault(Some(_)) => {}
        other => return Err(format!("{other:?} is no vault")),
    }
    let collection = CollectionTag([1 + rng.below(2) as u8; 32]);
    let Answer::Head(head) = ask(Question::Head { vault, collection })? else { return Err("no head".into()) };
    let segment = SegmentId(rng.bytes());
    let shard = |index: u8| AnchoredShard { root: Hash([index; 32]), holder: Some(NodeNumber(index.into())) };
    let shards = (0..6).map(shard).collect();
    Ok(Action::Anchor(Anchor {
        vault,
        collection,
        previous: head.map(|head| head.anchor),
        segments: vec![AnchoredSegment { segment, code: Code::DEFAULT, len: 1 + rng.below(1_000), shards }],
        released: Vec::new(),
        commits: vec![PackCommit::of(segment, &[])],
    }))
}

/// A change that all who vote approve; none if there is none to make.
fn govern(
    network: NetworkId,
    places: usize,
    rng: &mut Rng,
    ask: Ask<'_>,
) -> Result<Option<Governance>, String> {
    let Answer::Statics(rows) = ask(Question::Statics)? else { return Err("no static nodes".into()) };
    let Answer::Sequence(sequence) = ask(Question::Sequence)? else { return Err("no sequence".into()) };
    let known: BTreeSet<PublicKey> = rows.iter().map(|row| row.member.key).collect();
    let pairs: BTreeMap<PublicKey, (usize, u8)> = (0..places)
        .flat_map(|place| (0..GENERATIONS).map(move |generation| (place, generation)))
        .map(|(place, generation)| (key(place, generation).public(), (place, generation)))
        .collect();
    let voters: Vec<(PublicKey, usize, u8)> = rows
        .iter()
        .filter(|row| row.votes)
        .filter_map(|row| pairs.get(&row.member.key).map(|(place, nth)| (row.member.key, *place, *nth)))
        .collect();
    // The first key of a place that never was a static node's.
    let fresh = |place| (0..GENERATIONS).find(|nth| !known.contains(&key(place, *nth).public()));
    let spare: Vec<usize> =
        (0..places).filter(|place| voters.iter().all(|(_, voter, _)| voter != place)).collect();
    let (old, place, _) = *rng.pick(&voters);
    let spare = (!spare.is_empty()).then(|| *rng.pick(&spare));
    let comes = |place| fresh(place).map(|nth| (member(place, nth), key(place, nth)));
    let (change, newcomer) = match (rng.below(4), spare.and_then(comes)) {
        (0, Some((new, pair))) => (Change::AddStatic(new), Some(pair)),
        (1, Some((new, pair))) => (Change::ReplaceStatic { old, new }, Some(pair)),
        (2, _) if voters.len() > MIN_COMMITTEE => (Change::RemoveStatic(old), None),
        _ => {
            let Some((new, pair)) = comes(place) else { return Ok(None) };
            (Change::RotateStatic { old, new }, Some(pair))
        }
    };
    let mut governance = Governance::new(sequence, change);
    for (_, place, nth) in voters {
        governance.approve(&network, &key(place, nth));
    }
    if let Some(pair) = newcomer {
        governance.possess(&network, &pair);
    }
    Ok(Some(governance))
}
