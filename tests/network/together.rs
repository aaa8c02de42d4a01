//! Records that a grantee has opened by one request.

use xvault::client::access::{OpenRecord, Shared};
use xvault::client::{Client, Error, GetOptions, PutOptions};
use xvault::message::access::Denial;

use crate::people::{config, content, denial, devnet, package, put, terms};

async fn read(shared: &Shared, opened: OpenRecord) -> Result<Vec<u8>, Error> {
    let mut download = shared.read(opened, GetOptions::default()).await?;
    let mut bytes = Vec::new();
    while let Some(more) = download.next().await? {
        bytes.extend_from_slice(&more);
    }
    Ok(bytes)
}

/// One request is one entry in the log, with all that it opened; and it is within the quota or opens nothing.
#[tokio::test(flavor = "multi_thread")]
async fn records_are_opened_together_or_not_at_all() {
    let dir = tempfile::tempdir().unwrap();
    let devnet = devnet(dir.path()).await;
    let network = devnet.network().clone();
    let owner = Client::open(config(dir.path(), &network, 1)).await.unwrap();
    let path = |nth: usize| format!("labs/{nth}");
    for nth in 0..5 {
        put(&owner, &path(nth), 500 + nth, PutOptions::default()).await;
    }
    let doctor = config(dir.path(), &network, 2);
    let asked = package(&doctor);
    let mut limited = terms(&["in:labs"]);
    limited.quota = Some(6);
    owner.grant(&asked, limited).await.unwrap();

    let shared = Shared::open(doctor, &asked).await.unwrap();
    let records = shared.list().await.unwrap();
    assert_eq!(records.len(), 5);
    let opened = shared.open_all(&records).await.unwrap();
    for (nth, opened) in opened.into_iter().enumerate() {
        assert_eq!(read(&shared, opened.unwrap()).await.unwrap(), content(&path(nth), 500 + nth), "{nth}");
    }
    let log = owner.access_log().await.unwrap();
    assert!(log.iter().any(|event| event.items.len() == 5 && event.opened.len() >= 3), "{log:?}");

    let over = shared.open_all(&records[..2]).await.unwrap_err();
    assert_eq!(denial(&over), Some(Denial::OverQuota), "{over}");
    let last = shared.open_one(&records[1]).await.unwrap();
    assert_eq!(read(&shared, last).await.unwrap(), content(&path(1), 501));
    let over = shared.open_one(&records[2]).await.unwrap_err();
    assert_eq!(denial(&over), Some(Denial::OverQuota), "{over}");
    assert!(shared.open_all(&[]).await.unwrap().is_empty());
}
