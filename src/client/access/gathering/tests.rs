use super::*;
use crate::crypto::access::{Dealing, Keyslot, PrfKey, Sharing};
use crate::crypto::frame::DekCommit;
use crate::crypto::sign::KeyPair;
use crate::message::access::open::{ListedLine, OpenItem, OpenRequest};
use crate::types::{
    BatchId, Committee, GrantId, NetworkId, RecordTag, ScopeTag, Timestamp, VaultId, VersionId,
};

const SCOPE: ScopeTag = ScopeTag([4; 16]);

/// Seven static nodes, of which five open, and a request to them for a record and a list.
struct World {
    nodes: Vec<(Member, KeyPair)>,
    dealing: Dealing,
    prf: PrfKey,
    signed: SignedOpenRequest,
    inputs: Inputs,
}

fn place(nth: usize) -> ShareIndex {
    ShareIndex::at(nth).unwrap()
}

fn reply_key() -> SealKey {
    SealKey::from_seed(&[8; 32])
}

fn lines(count: u8) -> Vec<ListedLine> {
    let line =
        |nth| ListedLine { record: RecordTag([nth; 16]), version: VersionId([nth; 16]), line: vec![nth; 60] };
    (1..=count).map(line).collect()
}

/// What an honest node says; with the lines if it is to send them.
fn items(with_lines: bool) -> Vec<OpenedItem> {
    let slot = Keyslot::from_slice(&[&[1][..], &[9; Keyslot::LEN - 1]].concat()).unwrap();
    let record =
        OpenedItem::Record { dek_commit: DekCommit([2; 32]), header: Hash([3; 32]), slot: Box::new(slot) };
    let digest = lines_digest(&lines(3));
    vec![record, OpenedItem::List { digest, lines: if with_lines { lines(3) } else { Vec::new() } }]
}

/// What a faulty node may say instead: of the record, and of the list.
fn wrong_items() -> [Vec<OpenedItem>; 2] {
    let (mut record, mut list) = (items(false), items(false));
    if let OpenedItem::Record { header, .. } = &mut record[0] {
        header.0[0] ^= 1;
    }
    list[1] = OpenedItem::List { digest: lines_digest(&lines(2)), lines: Vec::new() };
    [record, list]
}

impl World {
    fn new() -> Self {
        let pairs: Vec<_> = (0..7).map(|nth| KeyPair::from_secret(&[nth + 1; 32])).collect();
        let committee = Committee::new(pairs.iter().map(KeyPair::public).collect()).unwrap();
        let prf = PrfKey::from_wide(&[7; 64]);
        let dealing = prf.deal(Sharing::among(&committee), &[5; 32]);
        let member = |key: &crate::types::PublicKey| Member {
            key: *key,
            pq_key: Box::new([0; _]),
            label: format!("s{}", key.short()),
            operator: "clinic".into(),
            address: ([127, 0, 0, 1], 1).into(),
        };
        let find = |key| pairs.iter().find(|pair| pair.public() == key).unwrap().clone();
        let nodes = committee.members().iter().map(|key| (member(key), find(*key))).collect();
        let request = OpenRequest {
            network: NetworkId([1; 32]),
            vault: VaultId([2; 32]),
            dealing: 0,
            epoch: 0,
            grant: GrantId([3; 16]),
            nonce: [4; 16],
            time: Timestamp::from_unix_millis(5),
            reply_to: reply_key().public().clone(),
            items: vec![
                OpenItem::Record {
                    record: RecordTag([5; 16]),
                    version: VersionId([6; 16]),
                    scope: SCOPE,
                    generation: 0,
                },
                OpenItem::List { batch: BatchId([7; 16]), scope: SCOPE, generation: 0 },
            ],
            lines_from: place(2),
            purpose: "read".into(),
            emergency: None,
        };
        let inputs = request.inputs().unwrap();
        let signed = request.sign(&KeyPair::from_secret(&[99; 32]));
        Self { nodes, dealing, prf, signed, inputs }
    }

    fn gathering(&self) -> Gathering<'_> {
        Gathering::new(&self.inputs, &self.dealing.commitments, &self.signed)
    }

    /// A node's answer with a partial of the share at `share` and these items.
    fn answer(&self, nth: usize, share: usize, items: Vec<OpenedItem>) -> Vec<u8> {
        let partial = self.dealing.shares[share].evaluate(&self.inputs, &[6; 32]);
        let request = self.signed.hash();
        let reply = OpenReply { request, partial: partial.to_bytes().to_vec(), items, log_sequence: 0 };
        let context = OpenReply::context(&request, place(nth), 0);
        let plain = reply.sign(&self.nodes[nth].1);
        self.signed.request().reply_to.seal(Purpose::Partial, &context, &plain, &[7; 64])
    }

    fn take(&self, gathering: &mut Gathering<'_>, nth: usize, items: Vec<OpenedItem>) {
        let sealed = self.answer(nth, nth, items);
        gathering.add(&reply_key(), &self.nodes[nth].0, place(nth), &sealed);
    }

    fn take_honest(&self, gathering: &mut Gathering<'_>, nths: std::ops::Range<usize>) {
        nths.for_each(|nth| self.take(gathering, nth, items(nth == 2)));
    }

    fn is_right(&self, opened: &Opened) -> bool {
        let expected: Vec<_> =
            self.signed.request().slots().iter().map(|slot| self.prf.evaluate(slot)).collect();
        let same = |(one, other): (&PrfOutput, &PrfOutput)| one.as_bytes() == other.as_bytes();
        opened.outputs.iter().zip(&expected).all(same) && opened.items == items(true)
    }
}

#[test]
fn faulty_nodes_that_answer_first_keep_nobody_from_opening() {
    let world = World::new();
    for wrong in wrong_items() {
        let mut gathering = world.gathering();
        world.take(&mut gathering, 0, wrong.clone());
        world.take(&mut gathering, 1, wrong);
        world.take_honest(&mut gathering, 2..7);
        assert!(gathering.is_done());
        assert!(world.is_right(&gathering.finish().unwrap()));
    }
}

#[test]
fn too_few_that_say_the_same_open_nothing() {
    let world = World::new();
    for wrong in wrong_items() {
        let mut gathering = world.gathering();
        world.take_honest(&mut gathering, 0..4);
        (4..7).for_each(|nth| world.take(&mut gathering, nth, wrong.clone()));
        assert!(!gathering.is_done());
        let unopened = gathering.finish().unwrap_err();
        assert_eq!(
            unopened.to_string(),
            "static nodes contradict each other: 4, 3 of them say different things"
        );
    }
}

#[test]
fn lines_count_only_if_the_others_say_that_they_are_all() {
    let world = World::new();
    let hidden =
        vec![items(true)[0].clone(), OpenedItem::List { digest: lines_digest(&lines(2)), lines: lines(2) }];
    let other_than_said =
        vec![items(true)[0].clone(), OpenedItem::List { digest: lines_digest(&lines(3)), lines: lines(2) }];
    for wrong in [hidden, other_than_said] {
        let mut gathering = world.gathering();
        world.take_honest(&mut gathering, 0..2);
        world.take(&mut gathering, 2, wrong);
        world.take_honest(&mut gathering, 3..7);
        assert!(!gathering.is_done());
        assert!(matches!(gathering.finish(), Err(Unopened::NoLines)));
    }
}

#[test]
fn lines_may_come_last() {
    let world = World::new();
    let mut gathering = world.gathering();
    world.take_honest(&mut gathering, 0..2);
    world.take_honest(&mut gathering, 3..7);
    assert!(!gathering.is_done());
    world.take_honest(&mut gathering, 2..3);
    assert!(gathering.is_done());
    assert!(world.is_right(&gathering.finish().unwrap()));
}

#[test]
fn who_answers_twice_or_with_anothers_share_counts_once_or_not() {
    let world = World::new();
    let mut gathering = world.gathering();
    world.take_honest(&mut gathering, 0..4);
    world.take_honest(&mut gathering, 0..4);
    let stolen = world.answer(4, 3, items(false));
    gathering.add(&reply_key(), &world.nodes[4].0, place(4), &stolen);
    // Sealed for another place, and signed by another.
    let other = world.answer(5, 5, items(false));
    gathering.add(&reply_key(), &world.nodes[6].0, place(6), &other);
    gathering.add(&reply_key(), &world.nodes[6].0, place(5), &other);
    assert!(!gathering.is_done());
    assert!(matches!(gathering.finish(), Err(Unopened::TooFew(_))));
}

#[test]
fn the_denial_that_most_say_is_the_reason() {
    let world = World::new();
    let mut gathering = world.gathering();
    gathering.deny(Denial::NotServing);
    gathering.deny(Denial::Revoked);
    gathering.deny(Denial::Revoked);
    gathering.fail("one is away".into());
    assert!(matches!(gathering.finish(), Err(Unopened::Denied(Denial::Revoked))));
}
