//! Static nodes that break the protocol over real QUIC, and strangers who try to fill the ledger.

use crate::statics::{NETWORK, Statics, eventually, key};
use bytes::Bytes;
use tokio::task::JoinSet;
use xvault::client::ledger::static_peers;
use xvault::crypto::ml_dsa::PqKeyPair;
use xvault::crypto::sign::KeyPair;
use xvault::ledger::ask::{Answer, Fate, Question};
use xvault::ledger::rows::{Fault, Standing};
use xvault::message::certificate::CommitCertificate;
use xvault::message::vote::{Vote, VoteKind};
use xvault::message::{
    Action, Canonical as _, Change, Checkpoint, RefusalCode, Rejection, SignedTransaction, Transaction,
    Violation,
};
use xvault::net::{CallError, Peers};
use xvault::types::limits::MAX_BLOCK_LEN;
use xvault::types::{BlockId, Height, LogHash, NetworkId, PublicKey, Round, VaultId};

/// The static node that goes wrong: the last of four.
const ROGUE: u8 = 3;

/// Somebody who has the rogue's key, beside the rogue itself: a copy of its machine.
struct Twin {
    peers: Peers,
    others: Vec<PublicKey>,
}

impl Twin {
    fn of(statics: &Statics, holder: &KeyPair) -> Self {
        let others = (0..3).map(|nth| key(nth).public()).collect();
        Self { peers: Peers::new(&static_peers(&statics.genesis), holder), others }
    }

    /// Says something to every other static node; how each took it.
    async fn say(&self, message: &[u8]) -> Vec<Result<(), CallError>> {
        let mut answers = Vec::new();
        for node in &self.others {
            answers.push(self.peers.consensus(node, Bytes::copy_from_slice(message)).await);
        }
        answers
    }
}

/// The bytes of a vote as consensus has them.
fn vote(height: Height, kind: VoteKind, block: Option<BlockId>, by: &KeyPair) -> Vec<u8> {
    vote_in(Round(0), height, kind, block, by)
}

fn vote_in(round: Round, height: Height, kind: VoteKind, block: Option<BlockId>, by: &KeyPair) -> Vec<u8> {
    let vote = Vote { network: NETWORK, kind, height, round, block }.sign(by);
    [&[1][..], &vote.encode()].concat()
}

async fn standing(statics: &Statics, nth: u8) -> Standing {
    let rows = statics.client.statics().await.unwrap();
    rows.into_iter().find(|row| row.member.key == key(nth).public()).unwrap().standing
}

async fn tip(statics: &Statics) -> Height {
    statics.client.tip().await.unwrap().record.height
}

#[tokio::test(flavor = "multi_thread")]
async fn a_static_node_that_votes_twice_is_blacklisted_and_replaced_as_soon_as_five_are_there() {
    let mut statics = Statics::start().await;
    let first = statics.decide().await;
    let twin = Twin::of(&statics, &key(ROGUE));
    // For some heights ahead, so that some are heard while they are voted on.
    eventually("the ledger has it", async || {
        let next = tip(&statics).await.0 + 1;
        for height in next..next + 3 {
            for block in [None, Some(BlockId([7; 32]))] {
                twin.say(&vote(Height(height), VoteKind::Prevote, block, &key(ROGUE))).await;
            }
        }
        matches!(standing(&statics, ROGUE).await, Standing::Blacklisted { fault: Fault::Equivocation, .. })
    })
    .await;
    // Never below four without the others' decision, and it goes on meanwhile.
    let rows = statics.client.statics().await.unwrap();
    assert_eq!(rows.iter().filter(|row| row.votes).count(), 4);
    let proof = rows.iter().find(|row| row.member.key == key(ROGUE).public()).unwrap().proof.unwrap();
    let second = statics.decide().await;
    statics.folder(4);
    statics.change(Change::AddStatic(statics.member(4)), &[0, 1, 2], Some(4)).await;
    statics.revive(4).await;
    eventually("it has no vote any more", async || {
        let rows = statics.client.statics().await.unwrap();
        rows.iter().all(|row| row.votes == (row.member.key != key(ROGUE).public()))
    })
    .await;
    let third = statics.decide().await;
    for proven in [first, second, third] {
        proven.verify(&statics.genesis).unwrap();
    }
    // Anybody can check what it did: the evidence is a transaction of the log.
    let mut found = None;
    eventually("whoever is asked shows it", async || {
        let is_there = |answer: &Answer| matches!(answer, Answer::Transaction(Some(_)));
        let answer = statics.client.ask_for(&Question::Transaction { id: proof }, is_there).await.unwrap();
        let Answer::Transaction(proven) = answer else { panic!("{answer:?}") };
        found = proven;
        found.is_some()
    })
    .await;
    let found = found.unwrap();
    found.verify(&statics.genesis).unwrap();
    let Action::Evidence(evidence) = &found.transaction.transaction().action else { panic!("{found:?}") };
    evidence.verify(NETWORK).unwrap();
    statics.stop_all().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_static_node_that_cosigns_another_log_is_called_to_order_with_the_proof() {
    let mut statics = Statics::start().await;
    statics.decide().await;
    let twin = Twin::of(&statics, &key(ROGUE));
    let header = statics.client.tip().await.unwrap();
    let checkpoint = Checkpoint::new(&NETWORK, header.record.log_size, LogHash([9; 32]));
    let pq = PqKeyPair::from_node_secret(&key(ROGUE).secret());
    let mut signed = Vec::new();
    checkpoint.size.write(&mut signed);
    checkpoint.root.write(&mut signed);
    checkpoint.cosign(1_700_000_000, &key(ROGUE), &pq).write(&mut signed);
    for node in &twin.others {
        twin.peers.cosign(node, header.record.height, signed.clone()).await.unwrap();
    }
    eventually("it is warned or worse", async || {
        matches!(
            standing(&statics, ROGUE).await,
            Standing::Warned { fault: Fault::FalseCosignature, .. }
                | Standing::OnProbation { .. }
                | Standing::Blacklisted { fault: Fault::FalseCosignature, .. }
        )
    })
    .await;
    statics.decide().await.verify(&statics.genesis).unwrap();
    statics.stop_all().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rubbish_among_static_nodes_stops_nothing_and_convicts_nobody() {
    let mut statics = Statics::start().await;
    while tip(&statics).await < Height(4) {
        statics.decide().await;
    }
    let twin = Twin::of(&statics, &key(ROGUE));
    let next = Height(tip(&statics).await.0 + 1);
    let forged =
        CommitCertificate { height: next, round: Round(0), block: BlockId([1; 32]), signatures: vec![] };
    let mut damaged = vote(next, VoteKind::Precommit, None, &key(ROGUE));
    *damaged.last_mut().unwrap() ^= 1;
    let rubbish = [
        Vec::new(),
        vec![0; 100],
        vec![255; 4_000],
        vec![2; 200_000],
        [&[5][..], &forged.encode()].concat(),
        damaged,
        // Somebody else's vote may be passed on, but not made.
        vote(next, VoteKind::Prevote, None, &KeyPair::from_secret(&[250; 32])),
        // Long ago, of a round that never was, or it would be a second vote; and in a far future.
        vote_in(Round(7), Height(1), VoteKind::Precommit, None, &key(ROGUE)),
        vote(Height(u64::MAX), VoteKind::Prevote, None, &key(ROGUE)),
    ];
    for _ in 0..20 {
        for message in &rubbish {
            twin.say(message).await;
        }
    }
    // More than any message may have is not even read.
    let refused = twin.say(&vec![2; 2 * MAX_BLOCK_LEN]).await;
    assert!(refused.iter().all(Result::is_err), "{refused:?}");
    statics.decide().await.verify(&statics.genesis).unwrap();
    for nth in 0..4 {
        assert_eq!(standing(&statics, nth).await, Standing::Good);
    }
    // Who is no static node has no word at all.
    let stranger = Twin::of(&statics, &KeyPair::from_secret(&[250; 32]));
    for answer in stranger.say(&vote(next, VoteKind::Prevote, None, &key(ROGUE))).await {
        let Err(CallError::Refused(refusal)) = answer else { panic!("{answer:?}") };
        assert_eq!(refusal.code, RefusalCode::Violation(Violation::NotAMember));
    }
    statics.stop_all().await;
}

/// A transaction that creates a vault of its author.
fn create(author: &KeyPair, network: NetworkId, nonce: u64, expires: u64) -> SignedTransaction {
    let action = Action::CreateVault { vault: VaultId(author.public().0), sponsor: None };
    Transaction { network, author: author.public(), nonce, expires: Height(expires), action }.sign(author)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_worthless_transactions_is_refused_by_name_and_keeps_nobody_out() {
    let mut statics = Statics::start().await;
    let first = key(0).public();
    let flood = Peers::new(&static_peers(&statics.genesis), &KeyPair::from_secret(&[251; 32]));
    let author = KeyPair::from_secret(&[252; 32]);
    let good = create(&author, NETWORK, 0, 5_000);
    let mut forged = good.bytes().to_vec();
    *forged.last_mut().unwrap() ^= 1;
    let submit = async |bytes: Vec<u8>| flood.submit(&first, bytes).await;
    // Not signed, of another chain, not a transaction: not even decoded further.
    let elsewhere = create(&author, NetworkId([1; 32]), 0, 5_000).bytes().to_vec();
    for (bytes, violation) in [
        (forged.clone(), Violation::BadSignature),
        (elsewhere, Violation::WrongNetwork),
        (vec![7; 90], Violation::Malformed),
    ] {
        let refused = submit(bytes).await.unwrap_err();
        let CallError::Refused(refusal) = refused else { panic!("{refused:?}") };
        assert_eq!(refusal.code, RefusalCode::Violation(violation));
    }
    let fate = async |signed: SignedTransaction| {
        let answer = submit(signed.bytes().to_vec()).await.unwrap();
        match Answer::decode_bounded(&answer).unwrap() {
            Answer::Fate(fate) => fate,
            other => panic!("{other:?}"),
        }
    };
    let far = create(&author, NETWORK, 0, u64::MAX);
    assert!(matches!(fate(far).await, Fate::Rejected(Rejection::ExpiresTooLate)));
    let ahead = create(&author, NETWORK, 7, 5_000);
    assert_eq!(fate(ahead).await, Fate::Rejected(Rejection::WrongNonce { expected: 0 }));

    // Thousands of these at once, while somebody else has something to decide.
    let mut flooding = JoinSet::new();
    for nth in 0..16_u8 {
        let (flood, forged) = (flood.clone(), forged.clone());
        flooding.spawn(async move {
            for round in 0..100_u8 {
                let mut bytes = forged.clone();
                bytes[40] ^= nth ^ round;
                assert!(flood.submit(&first, bytes).await.is_err());
            }
        });
    }
    statics.decide().await.verify(&statics.genesis).unwrap();
    flooding.join_all().await;
    // Replayed, a transaction is only ever final once, and is proved again.
    let Fate::Final(one) = fate(good.clone()).await else { panic!("not final") };
    let Fate::Final(again) = fate(good).await else { panic!("not final") };
    assert_eq!((one.height, &one.transaction), (again.height, &again.transaction));
    statics.stop_all().await;
}
