use super::*;
use crate::ledger::rows::VAULTS;
use crate::message::governance::SponsorTerms;
use crate::message::sponsorship::Sponsorship;

fn sponsored() -> World {
    let terms = SponsorTerms { sponsor: pair(50).public(), vaults: 2, nodes: 1, vault_bytes: 700 };
    let genesis = Genesis { sponsors: vec![terms], ..genesis(4, Admission::Sponsored) };
    World::of(genesis, (1..=4).collect())
}

pub(super) fn create_with(sponsor: u8, author: u8, nth: u8) -> Action {
    let sponsor = Sponsorship::sign(&NETWORK, &pair(sponsor), &pair(author).public(), &vault(nth).0);
    Action::CreateVault { vault: vault(nth), sponsor: Some(sponsor) }
}

fn register(sponsor: Option<u8>, author: u8) -> Action {
    let key = pair(author).public();
    let by = |nth| Sponsorship::sign(&NETWORK, &pair(nth), &key, &key.0);
    Action::RegisterNode { node: entry(author), sponsor: sponsor.map(by) }
}

#[test]
fn a_vault_is_created_once() {
    let mut world = World::new(4);
    world.accept(9, create(9));
    assert_eq!(world.refusal(9, create(9)), Rejection::VaultExists);
    assert_eq!(world.refusal(8, create(9)), Rejection::VaultExists);
}

#[test]
fn an_open_network_takes_so_many_an_epoch() {
    let mut world = World::new(4);
    for nth in 0..20 {
        world.accept(60 + nth, create(60 + nth));
    }
    assert_eq!(world.refusal(9, create(9)), Rejection::AdmissionFull { retry: Height(50) });
    assert_eq!(world.refusal(9, register(None, 9)), Rejection::AdmissionFull { retry: Height(50) });
    world.until(49);
    world.accept(9, create(9));
}

#[test]
fn a_sponsored_network_takes_whom_a_sponsor_pays_for() {
    let mut world = sponsored();
    let sponsor = pair(50).public();
    assert_eq!(world.refusal(9, create(9)), Rejection::NotSponsored);
    assert_eq!(world.refusal(9, register(None, 9)), Rejection::NotSponsored);
    let stranger = pair(51).public();
    assert_eq!(world.refusal(9, create_with(51, 9, 9)), Rejection::SponsorExhausted { sponsor: stranger });
    world.accept(9, create_with(50, 9, 9));
    let row = VAULTS.get(&world.state, &vault(9)).unwrap().unwrap();
    assert_eq!((row.sponsor, row.quota), (Some(sponsor), 700));
    world.accept(8, create_with(50, 8, 8));
    assert_eq!(world.refusal(7, create_with(50, 7, 7)), Rejection::SponsorExhausted { sponsor });
    world.accept(9, register(Some(50), 9));
    assert_eq!(world.refusal(8, register(Some(50), 8)), Rejection::SponsorExhausted { sponsor });
}

#[test]
fn a_sponsorship_is_for_one_author_and_one_subject() {
    let world = sponsored();
    let Action::CreateVault { sponsor, .. } = create_with(50, 9, 9) else { unreachable!() };
    for (author, nth) in [(8, 9), (9, 8)] {
        let stolen = world.sign(author, Action::CreateVault { vault: vault(nth), sponsor });
        assert_eq!(stolen.verify(&NETWORK), Err(crate::message::Violation::BadSignature));
    }
}

#[test]
fn a_vault_writes_no_more_than_its_quota_an_epoch() {
    let mut world = sponsored();
    world.accept(9, create_with(50, 9, 9));
    let head = world.accept(9, Action::Anchor(anchor(9, None, 1)));
    let refusal = world.refusal(9, Action::Anchor(anchor(9, Some(head), 2)));
    assert_eq!(refusal, Rejection::OverQuota { limit: 700, retry: Height(50) });
    world.until(49);
    world.accept(9, Action::Anchor(anchor(9, Some(head), 2)));
}

#[test]
fn a_sponsor_changes_what_its_vault_may_write() {
    let mut world = sponsored();
    let set = |nth, quota| Action::SetQuota { vault: vault(nth), quota };
    assert_eq!(world.refusal(50, set(9, 700)), Rejection::NoSuchVault);
    world.accept(9, create_with(50, 9, 9));
    let head = world.accept(9, Action::Anchor(anchor(9, None, 1)));
    let next = || Action::Anchor(anchor(9, Some(head), 2));
    assert!(matches!(world.refusal(9, next()), Rejection::OverQuota { limit: 700, .. }));
    // Nobody but the sponsor, not the owner either, and not beyond what the network lets the sponsor give.
    for stranger in [9, 51] {
        assert_eq!(world.refusal(stranger, set(9, 600)), Rejection::NotTheSponsor);
    }
    assert_eq!(world.refusal(50, set(9, 701)), Rejection::BeyondTerms { limit: 700 });
    let used = VAULTS.get(&world.state, &vault(9)).unwrap().unwrap().usage.bytes;
    assert_eq!(world.refusal(50, set(9, used - 1)), Rejection::BelowUse { used });

    let terms = SponsorTerms { sponsor: pair(50).public(), vaults: 0, nodes: 0, vault_bytes: 5_000 };
    let change = world.governance(Change::SetSponsor(terms), &[1, 2, 3], None);
    world.accept(1, change);
    let raise = world.sign(50, set(9, 5_000));
    assert_eq!(world.block(std::slice::from_ref(&raise)), []);
    assert_eq!(VAULTS.get(&world.state, &vault(9)).unwrap().unwrap().quota, 5_000);
    world.accept(9, next());
    // One that was carried out does not come back after another one.
    let used = VAULTS.get(&world.state, &vault(9)).unwrap().unwrap().usage.bytes;
    world.accept(50, set(9, used));
    assert_eq!(world.refusal_of(&raise), Rejection::WrongNonce { expected: 2 });
    // What was used of an epoch that is over counts no more.
    world.until(49);
    world.accept(50, set(9, 0));
}

#[test]
fn a_vault_without_a_sponsor_keeps_its_quota() {
    let terms = SponsorTerms { sponsor: pair(50).public(), vaults: 2, nodes: 1, vault_bytes: 700 };
    let genesis = Genesis { sponsors: vec![terms], ..genesis(4, Admission::Open) };
    let mut world = World::of(genesis, (1..=4).collect());
    world.accept(9, create(9));
    let quota = Action::SetQuota { vault: vault(9), quota: 500 };
    assert_eq!(world.refusal(50, quota.clone()), Rejection::NotTheSponsor);
    assert_eq!(world.refusal(9, quota), Rejection::NotTheSponsor);
}

#[test]
fn an_author_writes_no_more_than_its_quota_an_epoch() {
    let mut world = World::new(4);
    world.accept(9, register(None, 9));
    let update = || Action::UpdateNode(entry(9));
    let next = world.sign(9, update());
    let (one, nonce) = (next.bytes().len() as u64, next.transaction().nonce);
    let fits = (50_000 - world.sign(9, register(None, 9)).bytes().len() as u64) / one;
    let mut left = fits;
    while left > 0 {
        let batch: Vec<_> =
            (0..left.min(250)).map(|at| world.sign_nth(9, nonce + fits - left + at, update())).collect();
        left -= batch.len() as u64;
        assert_eq!(world.block(&batch), []);
    }
    assert_eq!(world.refusal(9, update()), Rejection::OverQuota { limit: 50_000, retry: Height(50) });
}

#[test]
fn storage_nodes_register_move_and_retire() {
    let mut world = World::new(4);
    assert_eq!(world.refusal(9, Action::UpdateNode(entry(9))), Rejection::NoSuchNode);
    assert_eq!(world.refusal(9, Action::RetireNode), Rejection::NoSuchNode);
    world.accept(9, register(None, 9));
    assert_eq!(world.refusal(9, register(None, 9)), Rejection::NodeExists);
    let number = query::node_number(&world.state, &pair(9).public()).unwrap().unwrap();
    assert_eq!(number, NodeNumber(6), "after the six of the genesis");
    world.accept(9, Action::UpdateNode(entry(10)));
    world.accept(9, Action::RetireNode);
    let (_, row) = query::nodes(&world.state, Some(NodeNumber(5)), 9).unwrap().pop().unwrap();
    assert_eq!((row.entry, row.retired), (entry(10), Some(Height(3))));
    assert_eq!(world.refusal(9, Action::UpdateNode(entry(9))), Rejection::NoSuchNode);
    assert_eq!(world.refusal(9, register(None, 9)), Rejection::NodeExists, "a key has one number for ever");
}
