//! Hearing how high the ledger is, and waiting until the state here is as high: before something is refused for what the
//! state does not have.

use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};

use super::Ledger;
use crate::ledger::ask::{Answer, Question};
use crate::ledger::follow::{Event, height_heard};
use crate::ledger::query;
use crate::message::Canonical as _;
use crate::store::chain::ChainError;
use crate::types::{Committee, Height, PublicKey};

/// How long the static nodes may take to say how high they are.
const ROUND_PATIENCE: Duration = Duration::from_secs(2);
/// Between the beginnings of two rounds: however many strangers ask, so many questions reach the static nodes.
const ROUND_SPACING: Duration = Duration::from_millis(250);
/// How long the blocks up to what was heard may take.
const BLOCKS_PATIENCE: Duration = Duration::from_secs(3);
/// How long to wait for what only some say, and what may not be so.
const RUMOUR_PATIENCE: Duration = Duration::from_millis(500);
/// How long all of it may take, turns of others included.
const PATIENCE: Duration = Duration::from_secs(8);

/// Why it is not known whether the state here is that of now.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Behind {
    /// Fewer than a quorum of the static nodes said how high they are.
    #[error("too few static nodes answer to know what the ledger says now")]
    Silent,
    /// The blocks do not come in time.
    #[error("the ledger is here up to block {at} only, and there are more")]
    At {
        /// The last that is here.
        at: Height,
    },
    /// The state cannot be read, or is followed no more.
    #[error("the copy of the ledger cannot be used")]
    Broken,
}

/// The rounds in which static nodes are asked how high they are; those who wait share them.
#[derive(Debug, Default)]
pub(super) struct Rounds(tokio::sync::Mutex<Option<Round>>);

#[derive(Debug, Clone)]
struct Round {
    began: Instant,
    heard: Option<Heard>,
}

/// What static nodes say.
#[derive(Debug, Clone)]
struct Heard {
    claims: Vec<(PublicKey, Height)>,
    /// What is certain of it.
    height: Height,
}

impl Heard {
    fn of(claims: Vec<(PublicKey, Height)>, committee: &Committee) -> Option<Self> {
        let heights: Vec<_> = claims.iter().map(|(_, height)| *height).collect();
        let height = height_heard(&heights, committee)?;
        Some(Self { claims, height })
    }

    /// Who says to be at a height or above.
    fn by(&self, height: Height) -> Vec<PublicKey> {
        self.claims.iter().filter(|(_, claim)| *claim >= height).map(|(key, _)| *key).collect()
    }
}

impl Ledger {
    /// Waits, within bounds, until the state here has every block that was final when this was called.
    ///
    /// # Errors
    /// [`Behind`] says why that is not known.
    ///
    /// # Cancel safety
    /// Dropped, nothing is lost.
    pub async fn catch_up(&self) -> Result<(), Behind> {
        timeout(PATIENCE, self.caught_up()).await.unwrap_or(Err(Behind::Silent))
    }

    async fn caught_up(&self) -> Result<(), Behind> {
        let heard = self.hear().await.map_err(|_| Behind::Broken)?.ok_or(Behind::Silent)?;
        self.reach(&heard, heard.height, BLOCKS_PATIENCE).await?;
        // One that says more may be ahead of the others; or a liar, for whom nobody waits long.
        let most = heard.claims.iter().map(|(_, height)| *height).max().unwrap_or_default();
        drop(self.reach(&heard, most, RUMOUR_PATIENCE).await);
        Ok(())
    }

    async fn reach(&self, heard: &Heard, height: Height, patience: Duration) -> Result<(), Behind> {
        let at = self.tip().height;
        if at >= height {
            return Ok(());
        }
        // The next block that is missing is the one to ask for.
        let event = Event::Heard { height: at.next(), by: heard.by(height) };
        self.0.events.send(event).await.map_err(|_| Behind::Broken)?;
        let mut progress = self.progress();
        let reached = progress.wait_for(|progress| progress.tip.height >= height || progress.ended.is_some());
        let reached = match timeout(patience, reached).await {
            Ok(Ok(progress)) => progress.tip.height >= height,
            Ok(Err(_)) => return Err(Behind::Broken),
            Err(_) => false,
        };
        if reached { Ok(()) } else { Err(Behind::At { at: self.tip().height }) }
    }

    /// Asks the static nodes how high they are, in a round that begins after this was called.
    async fn hear(&self) -> Result<Option<Heard>, ChainError> {
        let came = Instant::now();
        let mut last = self.0.rounds.0.lock().await;
        if let Some(round) = &*last {
            if round.began >= came {
                return Ok(round.heard.clone());
            }
            sleep_until(round.began + ROUND_SPACING).await;
        }
        let began = Instant::now();
        let heard = self.round(began + ROUND_PATIENCE).await?;
        *last = Some(Round { began, heard: heard.clone() });
        Ok(heard)
    }

    async fn round(&self, until: Instant) -> Result<Option<Heard>, ChainError> {
        let roster = query::next_roster(self.view()?.state())?;
        let committee = roster.committee();
        let mut asked = JoinSet::new();
        for key in committee.members().iter().copied() {
            let peers = self.0.peers.clone();
            asked.spawn(async move {
                peers.insist(&key);
                let answer = peers.ask_ledger(&key, Question::Height.encode()).await.ok()?;
                match Answer::decode_bounded(&answer) {
                    Ok(Answer::Height(height)) => Some((key, height)),
                    _ => None,
                }
            });
        }
        let mut claims = Vec::new();
        while let Ok(Some(answer)) = tokio::time::timeout_at(until, asked.join_next()).await {
            claims.extend(answer.ok().flatten());
            if claims.len() >= committee.quorum() {
                break;
            }
        }
        if !claims.is_empty() {
            self.publish(|progress| progress.is_reached = true);
        }
        Ok(Heard::of(claims, committee))
    }
}
