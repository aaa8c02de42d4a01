//! What an owner is told beside whatever command it typed: that somebody asks guardians for the key, of
//! emergencies, and of what others brought.

use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

use crate::cli::output::Output;
use crate::cli::{emergency, recovery};
use crate::client::access::{OpenRecovery, SeenEmergency};
use crate::client::{Client, Error};
use crate::ledger::rows::DepositRow;
use crate::types::TransactionId;

/// How long a command that is done waits for what static nodes have to tell.
const PATIENCE: Duration = Duration::from_millis(300);

/// What there is to tell of one kind.
enum News {
    Emergencies(Result<Vec<SeenEmergency>, Error>),
    Recoveries(Result<Vec<OpenRecovery>, Error>),
    Deposits(Result<Waiting, Error>),
}

/// Deposits of others that wait.
type Waiting = Vec<(TransactionId, DepositRow)>;

/// Runs a command on an open vault, asks meanwhile what there is to tell, and tells it at the end. What has not been heard a moment
/// after the command is done, the next command tells.
pub(crate) async fn beside<T>(output: &Output, client: &Client, command: impl Future<Output = T>) -> T {
    let mut asking = JoinSet::new();
    let (asked, other, third) = (client.clone(), client.clone(), client.clone());
    asking.spawn(async move { News::Emergencies(asked.emergency_news().await) });
    asking.spawn(async move { News::Recoveries(other.open_recoveries().await) });
    asking.spawn(async move { News::Deposits(third.waiting_deposits().await) });
    let result = command.await;
    let until = Instant::now() + PATIENCE;
    while let Ok(Some(heard)) = timeout_at(until, asking.join_next()).await {
        match heard {
            Ok(news) => tell(output, client, news).await,
            Err(error) => tracing::error!(%error, "what the owner is to be told cannot be asked"),
        }
    }
    result
}

async fn tell(output: &Output, client: &Client, news: News) {
    match news {
        News::Emergencies(Ok(found)) if !found.is_empty() => {
            found.iter().for_each(|seen| output.warn(emergency::notice(seen)));
            if let Err(error) = client.told_of_emergencies(&found).await {
                tracing::warn!(%error, "the owner will be told of emergencies again");
            }
        }
        News::Recoveries(Ok(found)) => {
            found.iter().for_each(|request| output.warn(recovery::notice(request)));
        }
        News::Deposits(Ok(waiting)) => match client.tell_of_deposits(&waiting).await {
            Ok(0) => {}
            Ok(1) => output.warn("1 deposit of others waits: `xvault sync` takes it in"),
            Ok(new) => {
                output.warn(format_args!("{new} deposits of others wait: `xvault sync` takes them in"));
            }
            Err(error) => tracing::warn!(%error, "the owner will be told of deposits again"),
        },
        News::Deposits(Err(error)) => tracing::info!(%error, "whether deposits wait is not known"),
        News::Emergencies(Ok(_)) => {}
        News::Emergencies(Err(error)) => tracing::info!(%error, "whether there are emergencies is not known"),
        News::Recoveries(Err(error)) => {
            tracing::info!(%error, "whether somebody asks guardians is not known");
        }
    }
}
