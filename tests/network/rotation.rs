//! New keys for a vault on a real network: who had the old ones is shut out, and nothing is lost with them.

use std::path::Path;
use std::time::Duration;

use xvault::client::access::{EraseTarget, Shared};
use xvault::client::{Client, ClientConfig, ErrorKind, LedgerClient, PutOptions, Source, rotation};
use xvault::crypto::seed::VaultKeys;
use xvault::message::Action;
use xvault::message::access::recovery_action::next_key_hash;
use xvault::message::access::{Denial, RecoveryAction};
use xvault::types::{Network, VersionId};

use crate::people::{
    at, config, content, denial, devnet, get, labelled, names, package, put, runtime, terms, until_killed,
};
use crate::recovery::{OWNER, seed, split};
use crate::statics::eventually;

/// The owner's home with the keys of a generation.
fn home_of(dir: &Path, network: &Network, generation: u32) -> ClientConfig {
    let keys = seed(OWNER).vault(0, generation);
    ClientConfig { network: network.clone(), keys, home: dir.join(format!("generation-{generation}")) }
}

async fn rotated(from: &ClientConfig, to: &ClientConfig) -> rotation::Rotated {
    rotation::rotate(from, to, true, &|_| ()).await.unwrap()
}

fn some(path: &str) -> Source {
    Source::Bytes(content(path, 600))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stolen_device_is_shut_out_and_all_else_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let devnet = devnet(dir.path()).await;
    let network = devnet.network().clone();
    let (first, second) = (home_of(dir.path(), &network, 0), home_of(dir.path(), &network, 1));
    let owner = Client::open(first.clone()).await.unwrap();
    put(&owner, "imaging/knee.dcm", 300_000, PutOptions::default()).await;
    rotation::let_device_in(&first, &|_| ()).await.unwrap();
    // A device has the keys of now, and neither the words nor the next keys.
    let keys = VaultKeys::from_device_bytes(&first.keys.to_device_bytes()).unwrap();
    let home = dir.path().join("device");
    let device = Client::open(ClientConfig { network: network.clone(), keys, home }).await.unwrap();
    put(&device, "imaging/device.dcm", 900, PutOptions::default()).await;
    device.recover(|_| {}).await.unwrap();
    assert_eq!(get(&device, "imaging/knee.dcm", None).await.unwrap(), content("imaging/knee.dcm", 300_000));
    let doctor = config(dir.path(), &network, 2);
    let (asked, lost) = (package(&doctor), package(&config(dir.path(), &network, 3)));
    owner.grant(&asked, terms(&["in:imaging"])).await.unwrap();
    // This one is given by the device: the owner's home does not know what for.
    let strange = device.grant(&lost, terms(&["in:imaging"])).await.unwrap().grant;
    let before = Shared::open(doctor.clone(), &asked).await.unwrap();
    let records = before.list().await.unwrap();
    assert_eq!(names(&records), ["imaging/device.dcm", "imaging/knee.dcm"]);
    crate::people::read(&before, &records[0]).await.unwrap();
    owner.close().await;

    let done = rotated(&first, &second).await;
    assert!(done.generation == 1 && done.height.is_some() && !first.home.exists());
    assert_eq!(done.renewed.given.len(), 1);
    assert_eq!(done.renewed.lost.iter().map(|lost| lost.row.grant.grant).collect::<Vec<_>>(), [strange]);
    let again = rotated(&first, &second).await;
    assert!(again.height.is_none() && again.renewed.given.is_empty(), "done before");
    assert_eq!(rotation::generation_of_now(&first).await.unwrap(), Some(1));

    // The old keys do nothing.
    let refused = device.put(&at("imaging/late.dcm"), some("x"), PutOptions::default()).await;
    assert!(refused.is_err());
    assert!(get(&device, "imaging/knee.dcm", None).await.is_err(), "storage nodes refuse it");
    for kind in [
        device.grant(&package(&config(dir.path(), &network, 4)), terms(&["in:imaging"])).await.map(drop),
        device.revoke(done.renewed.given[0].1, |_| ()).await.map(drop),
        device.access_log().await.map(drop),
    ] {
        assert!(kind.is_err());
    }
    let cut = split(dir.path(), &network, &device, [11, 12, 13]).await.0;
    assert_eq!(device.set_guardians(&cut).await.unwrap_err().kind(), ErrorKind::Refused);
    device.close().await;

    // The owner reads all of it, writes on, and sees who opened what before.
    let owner = Client::open(second.clone()).await.unwrap();
    for (path, len) in [("imaging/knee.dcm", 300_000), ("imaging/device.dcm", 900)] {
        assert_eq!(get(&owner, path, None).await.unwrap(), content(path, len), "{path}");
    }
    put(&owner, "imaging/new.dcm", 700, PutOptions::default()).await;
    assert_eq!(owner.join_scopes(None).await.unwrap(), 1);
    assert!(!owner.access_log().await.unwrap().is_empty());
    // The grantee has what it was let into; the grant of before is over.
    let over = crate::people::read(&before, &records[0]).await.unwrap_err();
    assert!(matches!(denial(&over), Some(Denial::Rotated | Denial::OtherSharing)), "{over}");
    let unrenewed = Shared::open(config(dir.path(), &network, 3), &lost).await.unwrap();
    let over = unrenewed.list().await.unwrap_err();
    assert_eq!(denial(&over), Some(Denial::Rotated), "{over}");
    let shared = Shared::open(doctor, &asked).await.unwrap();
    assert_eq!(shared.note(), "for the knee");
    let records = shared.list().await.unwrap();
    assert_eq!(names(&records), ["imaging/device.dcm", "imaging/knee.dcm", "imaging/new.dcm"]);
    for record in &records {
        let path = format!("imaging/{}", record.line.name);
        let len = usize::try_from(record.line.size).unwrap();
        assert_eq!(crate::people::read(&shared, record).await.unwrap(), content(&path, len), "{path}");
    }
    owner.close().await;

    // A rotation that was interrupted after the ledger had it goes on; commits of three generations read in an empty home.
    let third = home_of(dir.path(), &network, 2);
    let ledger = LedgerClient::new(&network, third.keys.signing()).unwrap();
    let vault = *third.keys.vault();
    let next = next_key_hash(&vault, 3, third.keys.next_key().unwrap());
    let rotate = |key: &VaultKeys| {
        let (ledger, key) = (ledger.clone(), key.signing().clone());
        let action = Action::Recovery(RecoveryAction::Rotate { vault, generation: 2, next });
        async move { ledger.carry_out(&key, action, &|_| ()).await }
    };
    let thief = rotate(&seed(66).vault(0, 2)).await.unwrap_err();
    assert_eq!(thief.kind(), ErrorKind::Refused);
    rotate(&third.keys).await.unwrap();
    let done = rotated(&second, &third).await;
    assert_eq!((done.generation, done.height, done.renewed.given.len()), (2, None, 1));
    let owner = Client::open(third.clone()).await.unwrap();
    put(&owner, "imaging/newest.dcm", 800, PutOptions::default()).await;
    owner.close().await;
    let empty = ClientConfig { home: dir.path().join("empty"), ..third };
    let owner = Client::open(empty).await.unwrap();
    owner.recover(|_| {}).await.unwrap();
    for (path, len) in [("imaging/knee.dcm", 300_000), ("imaging/new.dcm", 700), ("imaging/newest.dcm", 800)]
    {
        assert_eq!(get(&owner, path, None).await.unwrap(), content(path, len), "{path}");
    }
    owner.close().await;
    devnet.stop().await;
}

/// The owner's keyslot of a shreddable version is under the keys of the generation in which it was put. Rotations leave it where it
/// is, and whatever leaves the scopes or is erased afterwards takes no other's slot with it.
#[tokio::test(flavor = "multi_thread")]
async fn shreddable_versions_of_before_rotations_read_on_when_others_are_withdrawn_and_erased() {
    let dir = tempfile::tempdir().unwrap();
    let devnet = devnet(dir.path()).await;
    let network = devnet.network().clone();
    let home = |generation| home_of(dir.path(), &network, generation);
    let owner = Client::open(home(0)).await.unwrap();
    owner.begin_shreddable(&"imaging".parse().unwrap()).await.unwrap();
    put(&owner, "imaging/knee", 900, labelled("knee")).await;
    put(&owner, "imaging/hip", 700, labelled("knee")).await;
    put(&owner, "imaging/spine", 600, PutOptions::default()).await;
    let of_first = newest(&owner, "imaging/knee").await;
    let doctor = config(dir.path(), &network, 2);
    let asked = package(&doctor);
    owner.grant(&asked, terms(&["label:knee"])).await.unwrap();
    owner.close().await;

    rotated(&home(0), &home(1)).await;
    let owner = Client::open(home(1)).await.unwrap();
    for (path, len) in [("imaging/knee", 900), ("imaging/hip", 700), ("imaging/spine", 600)] {
        assert_eq!(get(&owner, path, None).await.unwrap(), content(path, len), "{path}");
    }
    // The newer version, of these keys, takes that of the former ones out of the scopes, and leaves it to the owner.
    let shared = Shared::open(doctor.clone(), &asked).await.unwrap();
    let records = shared.list().await.unwrap();
    assert_eq!(names(&records), ["imaging/hip", "imaging/knee"]);
    put(&owner, "imaging/knee", 800, labelled("knee")).await;
    assert_eq!(owner.join_scopes(None).await.unwrap(), 1);
    let of_second = newest(&owner, "imaging/knee").await;
    let is_closed = async |shared: &Shared, record| matches!(crate::people::read(shared, record).await, Err(error) if denial(&error) == Some(Denial::Erased));
    eventually("the former version is withdrawn", async || is_closed(&shared, &records[1]).await).await;
    // What signed that it deleted, carried the withdrawal out before.
    owner.erase(&EraseTarget::Record(at("imaging/hip"), None)).await.unwrap();
    assert!(is_closed(&shared, &records[0]).await);
    let versions = [(of_first, 900), (of_second, 800)];
    let all_read = async |owner: &Client, versions: &[(VersionId, usize)]| {
        for (version, len) in versions {
            let read = get(owner, "imaging/knee", Some(*version)).await.unwrap();
            assert_eq!(read, content("imaging/knee", *len));
        }
        assert_eq!(get(owner, "imaging/spine", None).await.unwrap(), content("imaging/spine", 600));
    };
    all_read(&owner, &versions).await;
    owner.close().await;

    // Once more, with versions of two generations; and from nothing but the seed.
    rotated(&home(1), &home(2)).await;
    let owner = Client::open(home(2)).await.unwrap();
    put(&owner, "imaging/knee", 500, labelled("private")).await;
    owner.join_scopes(None).await.unwrap();
    let newest = newest(&owner, "imaging/knee").await;
    owner.erase(&EraseTarget::Record(at("imaging/knee"), Some(newest))).await.unwrap();
    assert!(get(&owner, "imaging/knee", Some(newest)).await.is_err());
    all_read(&owner, &versions).await;
    owner.close().await;
    let empty = Client::open(ClientConfig { home: dir.path().join("empty"), ..home(2) }).await.unwrap();
    empty.recover(|_| {}).await.unwrap();
    all_read(&empty, &versions).await;
    // And they can be erased as any other.
    empty.erase(&EraseTarget::Record(at("imaging/knee"), None)).await.unwrap();
    for (version, _) in versions {
        assert_eq!(get(&empty, "imaging/knee", Some(version)).await.unwrap_err().kind(), ErrorKind::NotFound);
    }
    assert_eq!(get(&empty, "imaging/spine", None).await.unwrap(), content("imaging/spine", 600));
    empty.close().await;
    devnet.stop().await;
}

async fn newest(client: &Client, path: &str) -> VersionId {
    client.versions(&at(path)).await.unwrap()[0].version
}

/// Whenever a rotation is killed, the same call goes on from there: all reads, each grantee is given one grant, and the home whose index
/// opens with the old keys is gone.
#[test]
fn a_rotation_that_is_killed_at_any_time_goes_on_and_gives_each_grant_once() {
    const GRANTEES: std::ops::RangeInclusive<u8> = 2..=5;
    let dir = tempfile::tempdir().unwrap();
    let outer = runtime();
    let devnet = outer.block_on(devnet(dir.path()));
    let network = devnet.network().clone();
    let (first, second) = (home_of(dir.path(), &network, 0), home_of(dir.path(), &network, 1));
    let records = ["imaging/knee", "imaging/hip", "labs/blood"];
    let asked = outer.block_on(async {
        let owner = Client::open(first.clone()).await.unwrap();
        owner.begin_shreddable(&"imaging".parse().unwrap()).await.unwrap();
        let mut asked = Vec::new();
        for path in records {
            put(&owner, path, 500, labelled("knee")).await;
        }
        for person in GRANTEES {
            let grantee = config(dir.path(), &network, person);
            let package = package(&grantee);
            owner.grant(&package, terms(&["label:knee"])).await.unwrap();
            asked.push((grantee, package));
        }
        owner.close().await;
        asked
    });
    let mut killed = 0;
    for nth in 0..22_i32 {
        let limit = Duration::from_millis(15).mul_f64(1.3_f64.powi(nth));
        match until_killed(limit, rotation::rotate(&first, &second, true, &|_| ())) {
            Some(done) => drop(done.unwrap()),
            None => killed += 1,
        }
        if !first.home.exists() {
            // It goes when all else is done: what only it knows is needed until then.
            assert!(outer.block_on(rotated(&first, &second)).renewed.given.is_empty());
            break;
        }
    }
    assert!(killed > 0);
    outer.block_on(async {
        let done = rotated(&first, &second).await;
        assert!(!done.kept && !first.home.exists());
        assert_eq!((done.generation, done.renewed.lost.len()), (1, 0));
        let owner = Client::open(second.clone()).await.unwrap();
        for path in records {
            assert_eq!(get(&owner, path, None).await.unwrap(), content(path, 500), "{path}");
        }
        let grants = owner.grants().await.unwrap();
        assert_eq!(grants.iter().filter(|granted| granted.row.revoked.is_none()).count(), asked.len());
        owner.close().await;
        for (grantee, package) in &asked {
            let shared = Shared::open(grantee.clone(), package).await.unwrap();
            let found = shared.list().await.unwrap();
            assert_eq!(names(&found), ["imaging/hip", "imaging/knee", "labs/blood"]);
            for record in &found {
                let path = format!("{}/{}", record.line.collection, record.line.name);
                assert_eq!(crate::people::read(&shared, record).await.unwrap(), content(&path, 500));
            }
        }
        // Of each enough was noted to give it again.
        let next = rotated(&second, &home_of(dir.path(), &network, 2)).await;
        assert_eq!((next.renewed.given.len(), next.renewed.lost.len()), (asked.len(), 0));
        devnet.stop().await;
    });
}
