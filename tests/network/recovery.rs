//! Keys that were lost come back through guardians, on a real network.

use std::path::Path;
use std::time::Duration;

use xvault::client::access::recovery::guardian;
use xvault::client::access::recovery::requester::Recovering;
use xvault::client::access::{Cut, SplitTerms, Stage, Standing, grantee};
use xvault::client::{Client, ClientConfig, ErrorKind, PutOptions};
use xvault::crypto::seed::Seed;
use xvault::crypto::shamir::Part;
use xvault::ledger::recovery::Progress;
use xvault::message::access::{GuardianShare, KeyPackage, Release};
use xvault::types::Network;

use crate::people::{blocks, config, content, devnet, get, later, now, put};
use crate::statics::eventually;

pub(crate) const OWNER: u8 = 1;
/// Long enough that what is done before it is over is seen to be refused, on most machines.
const DELAY: Duration = Duration::from_secs(8);

pub(crate) fn seed(person: u8) -> Seed {
    Seed::from_entropy([person; 32])
}

/// Three guardians, of whom two are needed: the shares that they accepted.
pub(crate) async fn split(
    dir: &Path,
    network: &Network,
    owner: &Client,
    guardians: [u8; 3],
) -> (Cut, Vec<KeyPackage>) {
    let packages: Vec<KeyPackage> = guardians
        .iter()
        .map(|person| {
            grantee::key_package(&config(dir, network, *person), "a guardian", later(3_600)).unwrap()
        })
        .collect();
    let terms = SplitTerms { threshold: 2, delay: DELAY, note: "for a rainy day".to_owned() };
    let cut = owner.cut_for_guardians(&seed(OWNER), &packages, &terms).await.unwrap();
    (cut, packages)
}

async fn accept(dir: &Path, network: &Network, guardians: [u8; 3], cut: &Cut) {
    for (person, (_, share)) in guardians.iter().zip(&cut.shares) {
        guardian::accept(&config(dir, network, *person), share).await.unwrap();
    }
}

fn begin(network: &Network, secret: u8) -> Recovering {
    let vault = *seed(OWNER).vault(0, 0).vault();
    Recovering::begin(network, vault, "It is me", now(), [secret; 32].into()).unwrap()
}

async fn approve(config: &ClientConfig, recovering: &Recovering) {
    assert!(guardian::approve(config, recovering.request(), &|_| ()).await.unwrap().is_some());
    assert_eq!(guardian::approve(config, recovering.request(), &|_| ()).await.unwrap(), None, "done before");
}

async fn until_due(network: &Network, recovering: &Recovering) {
    eventually("the time to object is over", async || {
        recovering.stage(network).await.unwrap() == Stage::Asked(Progress::Due)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_home_comes_back_through_two_of_three_guardians() {
    const GUARDIANS: [u8; 3] = [11, 12, 13];
    let dir = tempfile::tempdir().unwrap();
    let devnet = devnet(dir.path()).await;
    let network = devnet.network().clone();
    let home = |person| config(dir.path(), &network, person);
    let owner = Client::open(home(OWNER)).await.unwrap();
    put(&owner, "imaging/knee.dcm", 200_000, PutOptions::default()).await;
    let (cut, packages) = split(dir.path(), &network, &owner, GUARDIANS).await;
    let early = guardian::accept(&home(11), &cut.shares[0].1).await.unwrap_err();
    assert_eq!(early.kind(), ErrorKind::Refused, "not on the ledger yet");
    owner.set_guardians(&cut).await.unwrap();
    let others = guardian::accept(&home(12), &cut.shares[0].1).await.unwrap_err();
    assert_eq!(others.kind(), ErrorKind::Refused, "another's share");
    accept(dir.path(), &network, GUARDIANS, &cut).await;
    let kept = guardian::guarded(&home(11)).await.unwrap();
    assert_eq!((kept.len(), kept[0].standing, kept[0].share.place), (1, Standing::Current, 1));
    // The home is lost.
    owner.close().await;
    std::fs::remove_dir_all(dir.path().join("home-1")).unwrap();

    let recovering = begin(&network, 0xaa);
    assert_eq!(recovering.stage(&network).await.unwrap(), Stage::Asking { need: 2 });
    let kept = Recovering::from_bytes(&recovering.to_bytes()).unwrap();
    assert_eq!(kept.request(), recovering.request(), "it is taken up again");
    let early = guardian::release(&home(11), recovering.request()).await.unwrap_err();
    assert_eq!(early.kind(), ErrorKind::Unavailable);
    let stranger = guardian::approve(&home(14), recovering.request(), &|_| ()).await.unwrap_err();
    assert_eq!(stranger.kind(), ErrorKind::NotFound, "it has no share");
    approve(&home(11), &recovering).await;
    let one = Stage::Asked(Progress::Approving { have: 1, need: 2 });
    assert_eq!(recovering.stage(&network).await.unwrap(), one);
    approve(&home(12), &recovering).await;
    let due = Stage::Asked(Progress::Due);
    let early = guardian::release(&home(11), recovering.request()).await;
    let is_due = recovering.stage(&network).await.unwrap() == due;
    assert!(is_due || early.is_err_and(|error| error.kind() == ErrorKind::Unavailable));
    // Nor does a static node take it from a guardian that does not ask the ledger.
    let part = cut.shares[1].1.open(&home(12).keys.access().grantee(packages[1].number).1).unwrap();
    let (key, _) = home(12).keys.access().grantee(packages[1].number);
    let release = |part: &Part| Release::make(recovering.request(), 1, part, &key, &[7; 64]);
    let deposit = async |release| {
        guardian::deposit_as_is(&home(12), packages[1].number, recovering.request(), release).await
    };
    let early = tokio::time::timeout(Duration::from_secs(1), deposit(release(&part))).await;
    let is_due = recovering.stage(&network).await.unwrap() == due;
    assert!(is_due || !matches!(early, Ok(Ok(()))));

    until_due(&network, &recovering).await;
    // Nor, once it is due, from anybody but the guardian whose part it is.
    for (person, package) in [(14, 1), (13, packages[2].number)] {
        let request = recovering.request();
        let forged = guardian::deposit_as_is(&home(person), package, request, release(&part)).await;
        assert!(forged.is_err(), "{person}");
    }
    let none = recovering.collect(&network).await.unwrap_err();
    assert!(none.to_string().contains("0 of 2"), "{none}");
    guardian::release(&home(11), recovering.request()).await.unwrap();
    // The second one's part is wrong: it is told whose it is, and the third one's does.
    deposit(release(&Part::new(2, [9; 32]).unwrap())).await.unwrap();
    let wrong = recovering.collect(&network).await.unwrap_err();
    assert!(wrong.to_string().contains("guardian 2"), "{wrong}");
    assert_eq!(wrong.kind(), ErrorKind::Unavailable);
    guardian::release(&home(13), recovering.request()).await.unwrap();
    let found = kept.collect(&network).await.unwrap();
    assert_eq!(found, seed(OWNER));
    assert_eq!(kept.wrong_parts(&network).await.unwrap(), [2]);
    // Somebody else's request gets nothing of it, though it can ask.
    let stranger = begin(&network, 0xbb);
    assert!(stranger.collect(&network).await.is_err());

    let restored = Client::open(config(&dir.path().join("new"), &network, OWNER)).await.unwrap();
    restored.recover(|_| {}).await.unwrap();
    assert_eq!(get(&restored, "imaging/knee.dcm", None).await.unwrap(), content("imaging/knee.dcm", 200_000));
    restored.close().await;

    // Nothing secret is on the ledger, nor who the guardians are.
    let bytes = blocks(&network).await.concat();
    let has = |wanted: &[u8]| bytes.windows(wanted.len()).any(|at| at == wanted);
    assert!(has(&cut.set.commitment.0), "the search finds what is there");
    assert!(!has(&[OWNER; 32]) && !has(b"for a rainy day") && !has(b"It is me") && !has(b"a guardian"));
    for (person, (package, (_, share))) in GUARDIANS.iter().zip(packages.iter().zip(&cut.shares)) {
        let (_, seal) = home(*person).keys.access().grantee(package.number);
        assert!(!has(share.open(&seal).unwrap().as_bytes()) && !has(&share.sealed[..64]));
        assert!(!has(&package.identity.0) && !has(&package.seal.to_bytes()[..32]));
    }
    devnet.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_owner_that_is_tricked_objects_and_names_guardians_anew() {
    const GUARDIANS: [u8; 3] = [11, 12, 13];
    let dir = tempfile::tempdir().unwrap();
    let devnet = devnet(dir.path()).await;
    let network = devnet.network().clone();
    let home = |person| config(dir.path(), &network, person);
    let owner = Client::open(home(OWNER)).await.unwrap();
    let (cut, _) = split(dir.path(), &network, &owner, GUARDIANS).await;
    owner.set_guardians(&cut).await.unwrap();
    assert_eq!(owner.set_guardians(&cut).await.unwrap_err().kind(), ErrorKind::Refused, "once");
    accept(dir.path(), &network, GUARDIANS, &cut).await;

    let trick = begin(&network, 0xcc);
    approve(&home(11), &trick).await;
    approve(&home(12), &trick).await;
    let open = owner.open_recoveries().await.unwrap();
    assert_eq!((open.len(), open[0].request.request), (1, trick.request().id()), "the owner sees it");
    owner.veto(trick.request().id()).await.unwrap();
    assert_eq!(owner.open_recoveries().await.unwrap(), []);
    assert_eq!(trick.stage(&network).await.unwrap(), Stage::Asked(Progress::Vetoed));
    for person in [11, 12] {
        let refused = guardian::release(&home(person), trick.request()).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Refused, "{refused}");
    }
    let refused = guardian::approve(&home(13), trick.request(), &|_| ()).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Refused);
    assert_eq!(trick.collect(&network).await.unwrap_err().kind(), ErrorKind::Refused);

    // Others are named: who has a share of before does nothing with it any more.
    const NEXT: [u8; 3] = [12, 13, 14];
    let (next, _) = split(dir.path(), &network, &owner, NEXT).await;
    owner.set_guardians(&next).await.unwrap();
    let again = begin(&network, 0xdd);
    for person in [11, 12] {
        let old = guardian::approve(&home(person), again.request(), &|_| ()).await.unwrap_err();
        assert!(old.to_string().contains("old set"), "{old}");
    }
    assert_eq!(guardian::guarded(&home(11)).await.unwrap()[0].standing, Standing::Replaced);
    let old: &GuardianShare = &cut.shares[0].1;
    assert!(guardian::accept(&home(11), old).await.unwrap_err().to_string().contains("old set"));
    accept(dir.path(), &network, NEXT, &next).await;
    approve(&home(12), &again).await;
    approve(&home(14), &again).await;
    until_due(&network, &again).await;
    for person in [13, 14] {
        guardian::release(&home(person), again.request()).await.unwrap();
    }
    assert_eq!(again.collect(&network).await.unwrap(), seed(OWNER));
    owner.close().await;
    devnet.stop().await;
}
