//! Static nodes come and go on a real network: over QUIC, on loopback, with their logs on disk.

use std::time::Duration;

use crate::statics::{NETWORK, Statics, eventually, key};
use xvault::client::{ClientConfig, ErrorKind, Nodes};
use xvault::crypto::seed::Seed;
use xvault::crypto::sign::KeyPair;
use xvault::ledger::ask::{Answer, Proven, Question};
use xvault::ledger::rows::{Node, Standing};
use xvault::message::{Action, Change, Member, NodeEntry, NodeNumber};
use xvault::roles::{NodeFolder, StaticConfig, StaticError, StaticNode};
use xvault::types::limits::MAX_ANSWER_BLOCKS;
use xvault::types::{Height, Network};

impl Statics {
    /// Whether a node proves a transaction to who has nothing but the genesis.
    async fn proves_over(&self, nth: u8, wanted: &Proven, steps: usize) -> bool {
        match self.ask(nth, &Question::Transaction { id: wanted.transaction.id() }).await {
            Some(Answer::Transaction(Some(proven))) => {
                proven.verify(&self.genesis).unwrap();
                assert_eq!(proven.proof.steps.len(), steps);
                true
            }
            _ => false,
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fifth_static_node_comes_in_and_votes_and_who_was_away_catches_up_and_proves() {
    let mut statics = Statics::start().await;
    let early = statics.decide().await;
    // Whoever is not in the genesis follows the ledger, and proves what is in it.
    statics.revive(4).await;
    eventually("a follower proves", async || statics.proves_over(4, &early, 0).await).await;

    statics.stop(3).await;
    let fifth = statics.member(4);
    statics.change(Change::AddStatic(fifth), &[0, 1, 2], Some(4)).await;
    // Of five four are a quorum: without the fifth nothing would be decided.
    let late = statics.decide().await;
    assert_eq!(late.proof.steps.len(), 1);
    eventually("it votes", async || statics.signs(4).await).await;

    // It was away when the static nodes changed, and is not called by the fifth before it knows it.
    statics.revive(3).await;
    let tip = statics.height(0).await.unwrap();
    eventually("it catches up", async || statics.height(3).await >= Some(tip)).await;
    eventually("it proves over the change", async || statics.proves_over(3, &late, 1).await).await;
    eventually("it votes again", async || statics.signs(3).await).await;
    // So does one that begins with nothing but the genesis, and is none of them.
    statics.revive(5).await;
    eventually("a newcomer proves over the change", async || statics.proves_over(5, &late, 1).await).await;

    // Any one of the five may go.
    statics.stop(0).await;
    statics.decide().await;
    statics.stop_all().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_newcomer_fetches_more_blocks_than_fit_one_answer() {
    let mut statics = Statics::start().await;
    // A vault each, in a block of its own more often than not.
    while statics.height(0).await.unwrap() < Height(MAX_ANSWER_BLOCKS as u64 + 20) {
        statics.decide().await;
    }
    let (late, tip) = (statics.decide().await, statics.height(0).await.unwrap());
    statics.revive(4).await;
    eventually("it has all of them", async || statics.height(4).await >= Some(tip)).await;
    eventually("it proves the last", async || statics.proves_over(4, &late, 0).await).await;
    statics.stop_all().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_static_node_is_replaced_and_another_removed() {
    let mut statics = Statics::start().await;
    statics.decide().await;
    statics.stop(3).await;
    let new = statics.member(4);
    statics.revive(4).await;
    let old = key(3).public();
    statics.change(Change::ReplaceStatic { old, new }, &[0, 1, 2], Some(4)).await;
    assert!(statics.client.roster().member(&key(4).public()).is_some(), "the client follows");
    // With another one gone the newcomer is needed.
    statics.stop(2).await;
    let proven = statics.decide().await;
    eventually("it votes", async || statics.signs(4).await).await;
    statics.revive(2).await;

    // Who was replaced learns of it, and follows from then on.
    statics.revive(3).await;
    eventually("it proves its own leave", async || statics.proves_over(3, &proven, 1).await).await;
    assert!(!statics.signs(3).await);

    // One that lives is taken out; of three all must sign.
    let leaver = key(2).public();
    statics.change(Change::RemoveStatic(leaver), &[0, 1, 4], None).await;
    let last = statics.decide().await;
    assert_eq!(last.proof.steps.len(), 2);
    eventually("who left follows", async || statics.proves_over(2, &last, 2).await).await;
    let rows = statics.client.statics().await.unwrap();
    let row = rows.iter().find(|row| row.member.key == leaver).unwrap();
    assert!(!row.votes && row.standing == Standing::Left);
    statics.stop_all().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_static_node_goes_on_under_a_new_key() {
    let mut statics = Statics::start().await;
    statics.decide().await;
    let folder = statics.folder(3);
    NodeFolder::make_next_key(&folder.dir, key(6)).unwrap();
    let new = Member { address: statics.addresses[3], ..statics.member(6) };
    let old = key(3).public();
    statics.change(Change::RotateStatic { old, new }, &[0, 1, 2], Some(6)).await;
    tokio::time::timeout(Duration::from_secs(20), statics.running[&3].succeeded()).await.unwrap();
    statics.stop(3).await;
    statics.revive(3).await;
    assert_eq!(statics.running[&3].public_key(), key(6).public());
    assert_eq!(NodeFolder::open(&folder.dir).unwrap().key.public(), key(6).public());
    eventually("it votes under its new key", async || statics.signs(6).await).await;
    statics.stop(1).await;
    statics.decide().await;
    statics.stop_all().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_static_node_whose_consensus_log_is_damaged_goes_on_under_a_new_key() {
    let mut statics = Statics::start().await;
    statics.decide().await;
    statics.stop(3).await;
    let folder = statics.folder(3);
    let log = folder.dir.join("ledger/consensus.log");
    let mut bytes = std::fs::read(&log).unwrap();
    bytes[10] ^= 1;
    std::fs::write(&log, bytes).unwrap();
    let refused = StaticNode::start(statics.config(3)).await.unwrap_err();
    assert!(matches!(refused, StaticError::Wal { .. }), "{refused:?}");
    NodeFolder::make_next_key(&folder.dir, key(6)).unwrap();
    // It waits without a vote until the ledger knows its new key.
    statics.revive(3).await;
    assert_eq!(statics.running[&3].public_key(), key(6).public());
    let new = Member { address: statics.addresses[3], ..statics.member(6) };
    let old = key(3).public();
    statics.change(Change::RotateStatic { old, new }, &[0, 1, 2], Some(6)).await;
    statics.stop(0).await;
    statics.decide().await;
    assert!(folder.dir.join("node.key.former").exists());
    // The key whose log is gone signs nothing, whoever brings it back.
    statics.stop(3).await;
    let brought_back = StaticConfig { key: key(3), ..statics.config(3) };
    let refused = StaticNode::start(brought_back).await.unwrap_err();
    assert!(matches!(refused, StaticError::RetiredKey { .. }), "{refused:?}");
    statics.stop_all().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_storage_node_registers_moves_and_retires() {
    let statics = Statics::start().await;
    let node = KeyPair::from_secret(&[150; 32]);
    let entry = |port| NodeEntry {
        label: "node-1".into(),
        operator: "clinic".into(),
        site: "north".into(),
        address: ([192, 0, 2, 1], port).into(),
    };
    let act = async |action| statics.client.carry_out(&node, action, &|_| {}).await;
    let lists = async |wanted: &Node| {
        eventually("it is listed so", async || {
            match statics.client.ask(&Question::Nodes { after: None }).await {
                Ok(Answer::Nodes(nodes)) => nodes == [(NodeNumber(0), wanted.clone())],
                other => panic!("{other:?}"),
            }
        })
        .await;
    };
    let since = act(Action::RegisterNode { node: entry(1), sponsor: None }).await.unwrap();
    let row = Node { key: node.public(), entry: entry(1), since, retired: None };
    lists(&row).await;
    let again = act(Action::RegisterNode { node: entry(1), sponsor: None }).await.unwrap_err();
    assert_eq!(again.kind(), ErrorKind::Refused);
    act(Action::UpdateNode(entry(2))).await.unwrap();
    lists(&Node { entry: entry(2), ..row.clone() }).await;
    let retired = Some(act(Action::RetireNode).await.unwrap());
    lists(&Node { entry: entry(2), retired, ..row }).await;
    assert_eq!(act(Action::UpdateNode(entry(3))).await.unwrap_err().kind(), ErrorKind::Refused);
    statics.stop_all().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_knows_only_the_genesis_finds_the_storage_nodes_of_now_with_a_static_node_dead() {
    let mut statics = Statics::start().await;
    let entry = NodeEntry {
        label: "node-1".into(),
        operator: "clinic".into(),
        site: "north".into(),
        address: ([192, 0, 2, 1], 1).into(),
    };
    let action = Action::RegisterNode { node: entry, sponsor: None };
    statics.client.carry_out(&KeyPair::from_secret(&[150; 32]), action, &|_| {}).await.unwrap();
    for (old, new, approvers) in [(3, 4, [0, 1, 2]), (2, 5, [0, 1, 4])] {
        statics.stop(old).await;
        statics.revive(new).await;
        let change = Change::ReplaceStatic { old: key(old).public(), new: statics.member(new) };
        statics.change(change, &approvers, Some(new)).await;
    }
    statics.decide().await;
    // Of those of the genesis one is left: too few to be believed by themselves.
    statics.stop(1).await;
    let genesis = Some(statics.genesis.to_text());
    let network = Network { id: NETWORK, code: statics.genesis.code, genesis, nodes: Vec::new() };
    let keys = Seed::from_entropy([1; 32]).vault(0, 0);
    let home = statics.dir.path().join("home");
    let mut nodes = Nodes::new(&ClientConfig { network, keys, home });
    nodes.learn().await.unwrap();
    let names: Vec<_> = nodes.network().nodes.iter().map(|node| node.name.as_str()).collect();
    assert_eq!(names, ["node-1"]);
    nodes.close().await;
    statics.stop_all().await;
}
