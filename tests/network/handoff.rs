//! Static nodes change, and vaults' keys go with them: over QUIC, with owners away.

use std::path::Path;
use std::sync::Arc;

use xvault::client::access::Shared;
use xvault::client::{Client, ClientConfig, LedgerClient, PutOptions};
use xvault::crypto::access::{Commitments, KeyShare, PrfKey, SealPublic, Sharing};
use xvault::crypto::sign::KeyPair;
use xvault::ledger::ask::{Answer, Question};
use xvault::ledger::handoff::{Deal, deal};
use xvault::ledger::rows::Access;
use xvault::message::access::desk::{Ack, DeskAnswer, DeskRequest, SignedSealKey};
use xvault::message::access::handoff::{HandoffKeyOf, Piece, PieceKey};
use xvault::message::access::{Denial, HandOff, HandedVault, HandoffPackage, KeptBy, KeyPackage};
use xvault::message::{Action, Block, Canonical as _, Change, Governance, Member, Roster, Transaction};
use xvault::net::Peers;
use xvault::roles::{NodeFolder, StaticNode};
use xvault::store::{AccessStore, FileDisk};
use xvault::types::limits::MAX_UNNAMED_HANDOFFS;
use xvault::types::{Height, Network, ShareIndex, VaultId};

use crate::people::{Apart, config, config_of, content, devnet, package, peers_of, put, read, terms};
use crate::statics::{eventually, key, member, start};

/// A network with a patient's vault, a doctor who was let in, and no owner about.
struct Ward {
    apart: Apart,
    network: Network,
    ledger: LedgerClient,
    owner: ClientConfig,
    doctor: ClientConfig,
    asked: KeyPackage,
    vault: VaultId,
}

impl Ward {
    async fn open(dir: &Path) -> Self {
        let devnet = devnet(dir).await;
        let network = devnet.network().clone();
        let apart = Apart::from(devnet, dir).await;
        let (owner, doctor) = (config(dir, &network, 1), config(dir, &network, 2));
        let client = Client::open(owner.clone()).await.unwrap();
        put(&client, "labs/one", 500, PutOptions::default()).await;
        let asked = package(&doctor);
        client.grant(&asked, terms(&["in:labs"])).await.unwrap();
        client.close().await;
        let ledger = LedgerClient::new(&network, &KeyPair::from_secret(&[99; 32])).unwrap();
        let vault = *owner.keys.vault();
        Self { apart, network, ledger, owner, doctor, asked, vault }
    }

    /// What the doctor reads, in a home that knows nothing of before.
    async fn opens(&self) -> bool {
        let Ok(shared) = Shared::open(self.doctor.clone(), &self.asked).await else { return false };
        let Ok(records) = shared.list().await else { return false };
        let [record] = &records[..] else { return false };
        matches!(read(&shared, record).await, Ok(bytes) if bytes == content("labs/one", 500))
    }

    async fn access(&self) -> Access {
        let has = |answer: &Answer| matches!(answer, Answer::Access(Some(_)));
        match self.ledger.ask_for(&Question::Access { vault: self.vault }, has).await.unwrap() {
            Answer::Access(Some(access)) => access,
            other => panic!("{other:?}"),
        }
    }

    /// Changes the static nodes, with the keys of those who approve.
    async fn change(&self, change: Change, approvers: &[KeyPair], newcomer: Option<&KeyPair>) {
        self.ledger.follow().await.unwrap();
        let Answer::Sequence(sequence) = self.ledger.ask(&Question::Sequence).await.unwrap() else {
            panic!("no sequence");
        };
        let id = self.ledger.genesis().network;
        let mut governance = Governance::new(sequence, change);
        approvers.iter().for_each(|key| governance.approve(&id, key));
        newcomer.iter().for_each(|key| governance.possess(&id, key));
        let author = KeyPair::from_secret(&[200; 32]);
        self.ledger.carry_out(&author, Action::Govern(governance), &|_| {}).await.unwrap();
    }

    /// Until the key is where it should be, shared once more than `epoch` times.
    async fn settled(&self, epoch: u32) {
        let is_there = async || {
            if self.ledger.follow().await.is_err() {
                return false;
            }
            let sharing = self.access().await.sharing;
            sharing.epoch >= epoch && sharing.roster == self.ledger.roster().hash()
        };
        // Where one is away it takes a minute and more.
        for _ in 0..2_400 {
            if is_there().await {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
        panic!("the key is not handed on");
    }

    fn genesis_member(&self, nth: usize) -> Member {
        self.apart.genesis.roster.members()[nth].clone()
    }

    fn genesis_key(&self, nth: usize) -> KeyPair {
        NodeFolder::open(&self.apart.dir.join(self.genesis_member(nth).label)).unwrap().key
    }

    /// A static node that is not in the genesis, with an empty folder.
    async fn newcomer(&self, nth: u8) -> (Member, StaticNode) {
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let listen = socket.local_addr().unwrap();
        drop(socket);
        let dir = self.apart.dir.join(format!("newcomer-{nth}"));
        let network = self.network.id;
        let folder = NodeFolder {
            dir,
            name: format!("static-{nth}"),
            network,
            listen,
            http: None,
            key: key(nth),
            described: None,
        };
        folder.create().unwrap();
        (member(nth, listen), start(config_of(folder, &self.apart.genesis)).await)
    }
}

/// Issue 4 item 7: one static node after the other is replaced, until none is left of those to whom the owner dealt, while the
/// owner is away. The grantee opens all the time, and the owner's revocation bites when it is back.
#[tokio::test(flavor = "multi_thread")]
async fn a_key_goes_from_static_nodes_to_static_nodes_until_none_of_the_first_is_left() {
    let dir = tempfile::tempdir().unwrap();
    let mut ward = Ward::open(dir.path()).await;
    assert!(ward.opens().await);
    let mut keys: Vec<KeyPair> = (0..4).map(|nth| ward.genesis_key(nth)).collect();
    let mut newcomers = Vec::new();
    for round in 0..4_u8 {
        let old = ward.genesis_member(round.into()).key;
        let (new, node) = ward.newcomer(50 + round).await;
        newcomers.push(node);
        ward.change(Change::ReplaceStatic { old, new }, &keys[..3], Some(&key(50 + round))).await;
        keys.remove(0);
        keys.push(key(50 + round));
        ward.settled(u32::from(round) + 1).await;
        eventually("the grantee opens", async || ward.opens().await).await;
        // Who left is gone for good; the last stays to tell who knows none but the first who came after them.
        if round < 3 {
            ward.apart.stop(round.into()).await;
        }
    }
    // Every one of the newcomers has its share: any three of them open.
    for nth in 0..4 {
        let node = newcomers.remove(nth);
        node.stop().await;
        eventually("three open", async || ward.opens().await).await;
        let (_, again) = ward.restart(50 + u8::try_from(nth).unwrap()).await;
        newcomers.insert(nth, again);
        eventually("it is back", async || ward.without(50 + u8::try_from(nth).unwrap()).await == Some(0))
            .await;
    }
    let owner = Client::open(ward.owner.clone()).await.unwrap();
    let grant = owner.grants().await.unwrap()[0].row.grant.grant;
    owner.revoke(grant, |_| ()).await.unwrap();
    let shared = Shared::open(ward.doctor.clone(), &ward.asked).await.unwrap();
    let refused = shared.list().await.unwrap_err();
    let denial = std::error::Error::source(&refused).and_then(|source| source.downcast_ref::<Denial>());
    assert_eq!(denial, Some(&Denial::Revoked), "{refused}");
    // Who opened what is known to those who came after as well, as far as they were there.
    assert!(owner.access_log().await.unwrap().iter().any(|event| event.denied.is_empty()));
    owner.close().await;
    for node in newcomers {
        node.stop().await;
    }
}

impl Ward {
    /// A newcomer that ran before, again.
    async fn restart(&self, nth: u8) -> (Member, StaticNode) {
        let folder = NodeFolder::open(&self.apart.dir.join(format!("newcomer-{nth}"))).unwrap();
        let listen = folder.listen;
        (member(nth, listen), start(config_of(folder, &self.apart.genesis)).await)
    }

    /// Of how many vaults a static node of now has no share.
    async fn without(&self, nth: u8) -> Option<u64> {
        let roster = self.ledger.roster();
        let care = self.ledger.care(roster.member(&key(nth).public())?).await.ok()?;
        Some(care.without)
    }
}

/// The key is shared anew among the same static nodes when they want it; one is stopped in the middle of it. The owner shares it
/// anew when it likes.
#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_shared_anew_among_the_same_static_nodes() {
    let dir = tempfile::tempdir().unwrap();
    let mut ward = Ward::open(dir.path()).await;
    let keys: Vec<KeyPair> = (0..3).map(|nth| ward.genesis_key(nth)).collect();
    let before = ward.access().await.sharing;
    // Somebody who goes on reading while it happens.
    let reading = Shared::open(ward.doctor.clone(), &ward.asked).await.unwrap();
    let records = reading.list().await.unwrap();
    ward.change(Change::RefreshShares { every: None }, &keys, None).await;
    ward.apart.stop(1).await;
    ward.apart.start(1).await;
    ward.settled(1).await;
    let after = ward.access().await.sharing;
    assert_eq!((after.dealing, after.epoch, after.roster), (0, 1, before.roster));
    assert!(after.commitments != before.commitments && after.package == before.package);
    eventually("the grantee opens", async || ward.opens().await).await;
    assert_eq!(read(&reading, &records[0]).await.unwrap(), content("labs/one", 500));
    // All of them took theirs: any three open.
    for nth in 0..4 {
        eventually("all have their shares", async || {
            let care = ward.ledger.care(&ward.genesis_member(nth)).await;
            care.is_ok_and(|care| (care.vaults, care.due, care.without) == (1, 0, 0))
        })
        .await;
    }
    let client = Client::open(ward.owner.clone()).await.unwrap();
    client.share_key().await.unwrap();
    client.close().await;
    ward.settled(2).await;
    ward.apart.stop(0).await;
    eventually("the grantee opens with what the owner dealt", async || ward.opens().await).await;
}

/// A static node that has a share deals a bad part of it to another: it is shown, left out, and the key is handed on by the others.
/// One that was away meanwhile gets its share when it is back.
#[tokio::test(flavor = "multi_thread")]
async fn a_static_node_that_deals_badly_is_left_out() {
    let dir = tempfile::tempdir().unwrap();
    let mut ward = Ward::open(dir.path()).await;
    let keys: Vec<KeyPair> = (0..4).map(|nth| ward.genesis_key(nth)).collect();
    ward.apart.stop(3).await;
    ward.change(Change::RefreshShares { every: None }, &keys[..3], None).await;
    let crook = Crook::new(&ward, &keys[3]);
    let package = crook.deal_badly().await;
    crook.hoard().await;
    ward.settled(1).await;
    let mut rejected = 0;
    let mut next = Height(1);
    loop {
        let blocks = ward.ledger.blocks(next).await.unwrap();
        if blocks.is_empty() {
            break;
        }
        for block in blocks {
            for signed in Block::decode_bounded(&block.block).unwrap().transactions {
                let rejects = Action::RejectHandoff { package: package.hash() };
                rejected += usize::from(signed.transaction().action == rejects);
            }
            next = next.next();
        }
    }
    assert!(rejected >= 2, "{rejected}: the victim, and one that saw it");
    eventually("the grantee opens", async || ward.opens().await).await;
    ward.apart.start(3).await;
    eventually("who was away has its share", async || {
        let care = ward.ledger.care(&ward.genesis_member(3)).await;
        care.is_ok_and(|care| (care.due, care.without) == (0, 0))
    })
    .await;
    ward.apart.stop(0).await;
    eventually("its share is needed, and good", async || ward.opens().await).await;
}

/// A revocation that a quorum acknowledged and that never became final goes with the key: those who come later open nothing for the
/// grant, though the ledger says that it stands.
#[tokio::test(flavor = "multi_thread")]
async fn a_revocation_that_is_not_final_goes_with_the_key() {
    let dir = tempfile::tempdir().unwrap();
    let mut ward = Ward::open(dir.path()).await;
    let mut keys: Vec<KeyPair> = (0..4).map(|nth| ward.genesis_key(nth)).collect();
    let shared = Shared::open(ward.doctor.clone(), &ward.asked).await.unwrap();
    let (grant, owner) = (shared.grant().grant.grant, ward.owner.keys.signing());
    drop(shared);
    let action = Action::Revoke { vault: ward.vault, grant };
    let network = ward.network.id;
    // Of a number that never comes.
    let revoke =
        Transaction { network, author: owner.public(), nonce: 1_000, expires: Height(90_000), action }
            .sign(owner);
    let roster = ward.apart.genesis.roster.clone();
    let desks = Desks::new(&ward, owner, &roster);
    for nth in 0..4 {
        let kept = desks.say(nth, &DeskRequest::Revoke(revoke.bytes().to_vec())).await;
        assert!(matches!(kept, Some(DeskAnswer::Done(_))), "{kept:?}");
    }
    let mut newcomers = Vec::new();
    for round in 0..3_u8 {
        let old = ward.genesis_member(round.into()).key;
        let (new, node) = ward.newcomer(60 + round).await;
        newcomers.push(node);
        ward.change(Change::ReplaceStatic { old, new }, &keys[..3], Some(&key(60 + round))).await;
        keys.remove(0);
        keys.push(key(60 + round));
        ward.settled(u32::from(round) + 1).await;
        ward.apart.stop(round.into()).await;
    }
    // Three of the four never heard of it but from those who dealt: they would be enough to open.
    for nth in 0..3 {
        eventually("it has its share", async || ward.without(60 + nth).await == Some(0)).await;
    }
    let shared = Shared::open(ward.doctor.clone(), &ward.asked).await.unwrap();
    assert!(shared.grant().revoked.is_none());
    let refused = shared.list().await.unwrap_err();
    let denial = std::error::Error::source(&refused).and_then(|source| source.downcast_ref::<Denial>());
    assert_eq!(denial, Some(&Denial::Revoked), "{refused}");
    for node in newcomers {
        node.stop().await;
    }
}

/// A static node that is stopped, and whose key and share somebody uses who does not keep to the rules.
struct Crook<'a> {
    ward: &'a Ward,
    key: &'a KeyPair,
    roster: Roster,
    desks: Desks,
    share: KeyShare,
    commitments: Commitments,
}

impl<'a> Crook<'a> {
    fn new(ward: &'a Ward, key: &'a KeyPair) -> Self {
        let roster = ward.apart.genesis.roster.clone();
        let label = &roster.member(&key.public()).unwrap().label;
        let disk = FileDisk::open(ward.apart.dir.join(label).join("access")).unwrap();
        let store = AccessStore::open(Arc::new(disk), xvault::store::sealed_file::system_entropy()).unwrap();
        let held = store.view().unwrap().share(&ward.vault, (0, 0)).unwrap().unwrap();
        let desks = Desks::new(ward, key, &roster);
        Self { ward, key, roster, desks, share: held.share, commitments: held.commitments }
    }

    /// The places of those that run.
    fn others(&self) -> Vec<usize> {
        let own = self.roster.committee().position(&self.key.public()).unwrap();
        (0..4).filter(|nth| *nth != own).collect()
    }

    /// A package as it should be, and the keys that its pieces are sealed to.
    async fn package(&self, nonce: u8) -> (HandoffPackage, Vec<Option<(PieceKey, SealPublic)>>) {
        let of = HandoffKeyOf { dealer: self.key.public(), to: self.roster.hash(), nonce: [nonce; 16] };
        let mut keys: Vec<Option<(PieceKey, SealPublic)>> = vec![None; 4];
        for nth in self.others() {
            let request = DeskRequest::HandoffKey { to: of.to, nonce: of.nonce };
            // It may be a block behind.
            eventually("it gives a key", async || match self.desks.say(nth, &request).await {
                Some(DeskAnswer::HandoffKey(signed)) => {
                    let (key, signature) = (SignedSealKey::hash_of(&signed.key), signed.signature);
                    keys[nth] = Some((PieceKey::Handoff { key, signature }, signed.key));
                    true
                }
                _ => false,
            })
            .await;
        }
        let handed = HandedVault { vault: self.ward.vault, dealing: 0, epoch: 0, attempt: 0 };
        let (network, members) = (self.ward.network.id, self.roster.committee());
        let shares = vec![(handed, self.share.clone(), self.commitments.clone())];
        let what = Deal { network, of, members, shares, keys: keys.clone(), revocations: Vec::new() };
        let package = deal(what, |bytes| {
            fill(bytes);
            Ok::<_, std::convert::Infallible>(())
        });
        (package.unwrap(), keys)
    }

    /// Deals to the first of the others a part of something else, and brings it to the ledger.
    async fn deal_badly(&self) -> HandoffPackage {
        let (mut package, keys) = self.package(5).await;
        let victim = self.others()[0];
        let (to, key) = keys[victim].clone().unwrap();
        let place = ShareIndex::at(victim).unwrap();
        let context = HandoffPackage::piece_context(&package.of, &package.vaults, place);
        let sharing = Sharing::among(self.roster.committee());
        let wrong = PrfKey::from_wide(&[9; 64]).deal(sharing, &[3; 32]).shares.remove(victim);
        package.pieces[victim] = Piece::seal((to, &key), &context, &[&wrong], &[4; 64]);
        let hash = package.hash();
        // The victim refuses it. The dealer says itself that it keeps it, so there is a quorum.
        let own_word = Ack::sign(&self.ward.network.id, &hash.0, self.key).signature;
        let mut kept = vec![KeptBy { member: self.key.public(), signature: own_word }];
        for nth in self.others() {
            let request = DeskRequest::Handoff(package.encode());
            if let Some(DeskAnswer::Done(ack)) = self.desks.say(nth, &request).await {
                kept.push(KeptBy { member: self.roster.members()[nth].key, signature: ack.signature });
            }
        }
        assert_eq!(kept.len(), 3, "all but the victim keep it");
        kept.sort_by_key(|kept| kept.member);
        let action = HandOff { to: package.of.to, package: hash, vaults: package.handed(), kept };
        self.ward.ledger.carry_out(self.key, Action::HandOff(action), &|_| {}).await.unwrap();
        package
    }

    /// Brings packages to a desk that it never names: so many are kept, and no more.
    async fn hoard(&self) {
        let (at, mut kept) = (self.others()[1], 0);
        for nth in 0..=u8::try_from(MAX_UNNAMED_HANDOFFS).unwrap() {
            let (package, _) = self.package(100 + nth).await;
            let answer = self.desks.say(at, &DeskRequest::Handoff(package.encode())).await;
            kept += usize::from(matches!(answer, Some(DeskAnswer::Done(_))));
        }
        assert!(kept <= MAX_UNNAMED_HANDOFFS);
        // On a slow machine the others may be done by now, and what is not due is not kept.
        let is_due = self.ward.access().await.sharing.epoch == 0;
        assert!(kept == MAX_UNNAMED_HANDOFFS || !is_due, "{kept}");
    }
}

/// Fills with bytes that differ each time; a test needs no better.
fn fill(bytes: &mut [u8]) {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    blake3::Hasher::new().update(&now.as_nanos().to_le_bytes()).finalize_xof().fill(bytes);
}

/// The desks, as a static node calls them.
struct Desks {
    peers: Peers,
    roster: Roster,
}

impl Desks {
    fn new(ward: &Ward, key: &KeyPair, roster: &Roster) -> Self {
        Self { peers: peers_of(&ward.apart.genesis, roster, key), roster: roster.clone() }
    }

    async fn say(&self, nth: usize, request: &DeskRequest) -> Option<DeskAnswer> {
        let bytes = self.peers.access(&self.roster.members()[nth].key, request.encode()).await.ok()?;
        DeskAnswer::decode(&bytes).ok()
    }
}
