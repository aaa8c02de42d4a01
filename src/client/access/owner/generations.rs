//! New keys for a scope.
//!
//! What is in a scope under one generation of its keys stays there, for the grants that were given for it. What joins from
//! then on does so under the next one, and so do grants: who has keys of before opens nothing of that, whoever helps.

use crate::client::ledger::no_ledger;
use crate::client::{Client, Error, ErrorKind};
use crate::message::Action;
use crate::runtime::wall_time;
use crate::types::{GrantId, Height, ScopePath};

/// A scope that has new keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewGeneration {
    /// The number of its keys.
    pub generation: u32,
    /// The block from which on they count.
    pub height: Height,
    /// Grants that stand and are for keys of before.
    pub standing: Vec<GrantId>,
}

impl Client {
    /// Gives a scope new keys: records that join it from here on open for no grant that was given before.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if no scope has this name, [`ErrorKind::Refused`] if nobody was ever let into it, or another home
    /// was faster, [`ErrorKind::Unavailable`].
    pub async fn renew_scope(&self, path: &ScopePath) -> Result<NewGeneration, Error> {
        if self.ctx.vault.is_none() {
            return Err(no_ledger());
        }
        let notes = self.access_notes().await?;
        if !notes.granted.iter().any(|scope| scope.path == *path) {
            let is_defined = notes.defined.iter().any(|scope| scope.path == *path);
            return Err(if is_defined {
                Error::new(ErrorKind::Refused, format!("nobody was ever let into the scope {path}"))
            } else {
                Error::new(ErrorKind::NotFound, format!("no scope {path} was granted"))
                    .with_hint("`xvault grants --all` shows the scopes of each grant")
            });
        }
        let owner = self.owner()?;
        let scope = owner.vault.keys.access().scope_tag(path);
        let generation = owner.generation(scope).await?.saturating_add(1);
        let height = owner.carry_out(Action::BumpScope { vault: owner.id(), scope, generation }).await?;
        let now = wall_time();
        let stands = |grant: &&crate::ledger::rows::GrantRow| {
            grant.revoked.is_none()
                && now < grant.grant.expires
                && grant.grant.scopes.iter().any(|of| of.scope == scope && of.last < generation)
        };
        let standing = owner.rows().await?.iter().filter(stands).map(|row| row.grant.grant).collect();
        Ok(NewGeneration { generation, height, standing })
    }
}
