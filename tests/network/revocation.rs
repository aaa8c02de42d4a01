//! What is taken back stays taken back, on a real network: whoever is interrupted, and whoever comes back with less than it knew.

use std::path::Path;
use std::time::Duration;

use xvault::client::access::Shared;
use xvault::client::{Client, ClientConfig, ErrorKind, PutOptions};
use xvault::crypto::access::SealKey;
use xvault::message::access::desk::{DeskAnswer, DeskRequest};
use xvault::message::access::open::{OpenItem, OpenRequest};
use xvault::message::access::{Denial, KeyPackage};
use xvault::message::{Action, Transaction};
use xvault::types::{GrantId, Height, ShareIndex, VersionId};

use crate::people::{
    Apart, at, config, copy_folder, denial, devnet, now, package, put, read, runtime, terms,
};
use crate::statics::eventually;

/// Whether a grantee is told that its grant was revoked.
async fn is_shut_out(doctor: &ClientConfig, asked: &KeyPackage) -> bool {
    let shared = Shared::open(doctor.clone(), asked).await.unwrap();
    matches!(shared.list().await, Err(error) if denial(&error) == Some(Denial::Revoked))
}

/// An owner's client that is killed at any moment of a revocation leaves nothing that the next one cannot finish.
#[test]
fn a_revocation_that_was_interrupted_is_finished_by_the_next() {
    let dir = tempfile::tempdir().unwrap();
    let outer = runtime();
    let devnet = outer.block_on(devnet(dir.path()));
    let network = devnet.network().clone();
    let owning = config(dir.path(), &network, 1);
    let doctor = config(dir.path(), &network, 2);
    let given = outer.block_on(async {
        let owner = Client::open(owning.clone()).await.unwrap();
        put(&owner, "labs/one", 500, PutOptions::default()).await;
        let mut given = Vec::new();
        for _ in 0..10 {
            let asked = package(&doctor);
            given.push((owner.grant(&asked, terms(&["in:labs"])).await.unwrap().grant, asked));
        }
        owner.close().await;
        given
    });
    let (mut acknowledged, mut finished) = (0, 0);
    for (nth, (grant, asked)) in (0..).zip(&given) {
        let dying = runtime();
        let mut is_acknowledged = false;
        dying.block_on(async {
            let owner = Client::open(owning.clone()).await.unwrap();
            let (tell, told) = tokio::sync::oneshot::channel();
            let revoking = owner.revoke(*grant, |_| {
                is_acknowledged = true;
                tell.send(()).ok();
            });
            let end = async {
                match nth {
                    // As soon as a quorum has it.
                    0..3 => drop(told.await),
                    _ => tokio::time::sleep(Duration::from_millis(1 << (nth - 3))).await,
                }
            };
            tokio::select! {
                _ = revoking => {}
                () = end => {}
            }
        });
        // Everything of it stops where it is.
        dying.shutdown_background();
        acknowledged += u32::from(is_acknowledged);
        outer.block_on(async {
            if is_acknowledged {
                assert!(is_shut_out(&doctor, asked).await, "from then on nothing is opened");
            }
            let owner = Client::open(owning.clone()).await.unwrap();
            match owner.revoke(*grant, |_| ()).await {
                Ok(_) => finished += 1,
                // The first one came through by itself.
                Err(error) => assert_eq!(error.kind(), ErrorKind::Refused, "{error}"),
            }
            // Whoever is asked may be a block behind.
            eventually("it is final", async || {
                let granted = owner.grants().await.unwrap();
                let granted = granted.iter().find(|granted| granted.row.grant.grant == *grant).unwrap();
                granted.row.revoked.is_some()
            })
            .await;
            assert!(is_shut_out(&doctor, asked).await);
            owner.close().await;
        });
    }
    assert!(acknowledged >= 3 && finished > 0, "{acknowledged} acknowledged, {finished} finished");
    outer.block_on(devnet.stop());
}

/// One static node alone was told, of a transaction that never becomes final: the grant stands for the others, and the next
/// revocation ends it.
#[tokio::test(flavor = "multi_thread")]
async fn a_revocation_that_reached_one_static_node_is_finished_by_the_next() {
    let dir = tempfile::tempdir().unwrap();
    let devnet = devnet(dir.path()).await;
    let network = devnet.network().clone();
    let apart = Apart::from(devnet, dir.path()).await;
    let owning = config(dir.path(), &network, 1);
    let owner = Client::open(owning.clone()).await.unwrap();
    put(&owner, "labs/one", 500, PutOptions::default()).await;
    let doctor = config(dir.path(), &network, 2);
    let asked = package(&doctor);
    let grant = owner.grant(&asked, terms(&["in:labs"])).await.unwrap().grant;
    let (vault, author) = (*owning.keys.vault(), owning.keys.signing());
    let action = Action::Revoke { vault, grant };
    let signed = Transaction {
        network: network.id,
        author: author.public(),
        nonce: 1_000,
        expires: Height(90_000),
        action,
    }
    .sign(author);
    let told = apart.say(author, 0, &DeskRequest::Revoke(signed.bytes().to_vec())).await;
    assert!(matches!(told, Some(DeskAnswer::Done(_))), "{told:?}");
    let shared = Shared::open(doctor.clone(), &asked).await.unwrap();
    let records = shared.list().await.unwrap();
    read(&shared, &records[0]).await.unwrap();
    assert!(!is_shut_out(&doctor, &asked).await, "three others are enough");
    owner.revoke(grant, |_| ()).await.unwrap();
    assert!(is_shut_out(&doctor, &asked).await);
    owner.close().await;
}

/// What a grantee asks of a desk, without looking at what it may ask.
fn opening(owner: &ClientConfig, doctor: &ClientConfig, asked: &KeyPackage, of: Wanted<'_>) -> DeskRequest {
    let keys = owner.keys.access();
    let at = at(of.path);
    let request = OpenRequest {
        network: owner.network.id,
        vault: *owner.keys.vault(),
        dealing: 0,
        epoch: 0,
        grant: of.grant,
        nonce: *blake3::hash(&now().unix_micros().to_le_bytes()).as_bytes().first_chunk().unwrap(),
        time: now(),
        reply_to: SealKey::from_seed(&[7; 32]).public().clone(),
        items: vec![OpenItem::Record {
            record: keys.record_tag(&at.collection, &at.name),
            version: of.version,
            scope: keys.scope_tag(&"in:labs".parse().unwrap()),
            generation: 0,
        }],
        lines_from: ShareIndex::at(0).unwrap(),
        purpose: "none".to_owned(),
        emergency: None,
    };
    let (key, _) = doctor.keys.access().grantee(asked.number);
    DeskRequest::Open(request.sign(&key).bytes().to_vec())
}

/// A version that is to be opened, and by which grant.
#[derive(Clone, Copy)]
struct Wanted<'a> {
    path: &'a str,
    version: VersionId,
    grant: GrantId,
}

/// C10: a static node whose folder was restored from a copy of before a revocation opens nothing until it has heard from the others how
/// high the ledger is; and then it knows of the revocation.
#[tokio::test(flavor = "multi_thread")]
async fn c10_a_static_node_that_was_rolled_back_opens_nothing_until_it_knows_the_ledger_of_now() {
    let dir = tempfile::tempdir().unwrap();
    let devnet = devnet(dir.path()).await;
    let network = devnet.network().clone();
    let mut apart = Apart::from(devnet, dir.path()).await;
    let (owning, doctor) = (config(dir.path(), &network, 1), config(dir.path(), &network, 2));
    let owner = Client::open(owning.clone()).await.unwrap();
    put(&owner, "labs/one", 500, PutOptions::default()).await;
    let asked = package(&doctor);
    let grant = owner.grant(&asked, terms(&["in:labs"])).await.unwrap().grant;
    let version = owner.versions(&at("labs/one")).await.unwrap()[0].version;
    let wanted = Wanted { path: "labs/one", version, grant };
    let ask = async |apart: &Apart| {
        let key = doctor.keys.signing();
        apart.say(key, 0, &opening(&owning, &doctor, &asked, wanted)).await
    };
    eventually("it opens", async || matches!(ask(&apart).await, Some(DeskAnswer::Opened(_)))).await;
    apart.stop(0).await;
    let folder = apart.dir.join(&apart.genesis.roster.members()[0].label);
    let copy = dir.path().join("copy");
    copy_folder(&folder, &copy);
    apart.start(0).await;
    owner.revoke(grant, |_| ()).await.unwrap();
    owner.close().await;
    let revoked = Some(DeskAnswer::Denied(Denial::Revoked));
    eventually("it knows of it", async || ask(&apart).await == revoked).await;

    for nth in 0..4 {
        apart.stop(nth).await;
    }
    replace_folder(&copy, &folder);
    apart.start(0).await;
    // It is alone: several looks at the others.
    for _ in 0..50 {
        let answer = ask(&apart).await;
        assert_eq!(answer, Some(DeskAnswer::Denied(Denial::NotServing)));
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    for nth in 1..4 {
        apart.start(nth).await;
    }
    eventually("it knows of it again", async || {
        let answer = ask(&apart).await;
        assert!(!matches!(answer, Some(DeskAnswer::Opened(_))), "{answer:?}");
        answer == revoked
    })
    .await;
}

fn replace_folder(by: &Path, folder: &Path) {
    std::fs::remove_dir_all(folder).unwrap();
    copy_folder(by, folder);
}
