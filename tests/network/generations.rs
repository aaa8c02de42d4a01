//! New keys for a scope, on a real network.

use xvault::client::access::{GrantTerms, Scope, Shared};
use xvault::client::{Client, ClientConfig, ErrorKind, Remove};

use crate::people::{at, config, devnet, labelled, names, package, put, read, terms};
use crate::statics::eventually;

#[tokio::test(flavor = "multi_thread")]
async fn under_new_keys_nothing_joins_for_grants_of_before_and_what_is_removed_leaves_them() {
    let dir = tempfile::tempdir().unwrap();
    let devnet = devnet(dir.path()).await;
    let network = devnet.network().clone();
    let first = Client::open(config(dir.path(), &network, 1)).await.unwrap();
    for name in ["imaging/knee-1", "imaging/knee-2"] {
        put(&first, name, 500, labelled("knee")).await;
    }
    let (path, scope) = ("knee".parse().unwrap(), "label:knee".parse::<Scope>().unwrap());
    assert_eq!(first.renew_scope(&path).await.unwrap_err().kind(), ErrorKind::NotFound);
    first.define_scope(&path, &scope).await.unwrap();
    assert_eq!(first.renew_scope(&path).await.unwrap_err().kind(), ErrorKind::Refused);
    let knee = || GrantTerms { scopes: vec![(path.clone(), scope.clone())], ..terms(&[]) };
    let doctor = config(dir.path(), &network, 2);
    let (before, after) = (package(&doctor), package(&doctor));
    let granted = first.grant(&before, knee()).await.unwrap();
    let old = Shared::open(doctor.clone(), &before).await.unwrap();
    assert_eq!(names(&old.list().await.unwrap()), ["imaging/knee-1", "imaging/knee-2"]);

    let renewed = first.renew_scope(&path).await.unwrap();
    assert_eq!((renewed.generation, renewed.standing), (1, vec![granted.grant]));
    // A home that knows nothing of before: what it puts joins under the new keys, what it removes leaves the old ones too.
    let second = ClientConfig { home: dir.path().join("second"), ..config(dir.path(), &network, 1) };
    let second = Client::open(second).await.unwrap();
    put(&second, "imaging/knee-3", 500, labelled("knee")).await;
    second.remove(&at("imaging/knee-1"), Remove::Mark).await.unwrap();
    assert_eq!(second.join_scopes(None).await.unwrap(), 2);
    eventually("the removed record has left the scope", async || {
        names(&old.list().await.unwrap()) == ["imaging/knee-2"]
    })
    .await;

    second.grant(&after, knee()).await.unwrap();
    let new = Shared::open(doctor, &after).await.unwrap();
    let listed = new.list().await.unwrap();
    assert_eq!(names(&listed), ["imaging/knee-2", "imaging/knee-3"]);
    assert_eq!(read(&new, &listed[1]).await.unwrap().len(), 500);
    // Both are for keys of before these.
    let again = second.renew_scope(&path).await.unwrap();
    assert_eq!((again.generation, again.standing.len()), (2, 2));
    first.close().await;
    second.close().await;
    devnet.stop().await;
}
