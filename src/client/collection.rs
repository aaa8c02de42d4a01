//! Beginning a shreddable collection: a commit without changes, which says of what class it is, is anchored as its first.

use std::sync::Arc;

use crate::client::access::shred;
use crate::client::anchorer::StoredPack;
use crate::client::context::random;
use crate::client::ledger::no_ledger;
use crate::client::records::not_own;
use crate::client::upload::upload;
use crate::client::{Ack, Client, Error, ErrorKind, sync, vault};
use crate::message::Changeset;
use crate::transfer::Pack;
use crate::types::{CollectionClass, CollectionName, SegmentId};

impl Client {
    /// Begins a shreddable collection: what is put into it can be destroyed by destroying keys. Whether it was begun just
    /// now; if it is there already nothing happens.
    ///
    /// # Errors
    /// [`ErrorKind::Refused`] if there is a durable collection of the name: a class is for good;
    /// [`ErrorKind::Unavailable`] if too few nodes answer.
    pub async fn begin_shreddable(&self, collection: &CollectionName) -> Result<bool, Error> {
        not_own(collection)?;
        let vault = Arc::clone(self.ctx.vault.as_ref().ok_or_else(no_ledger)?);
        vault::register(&self.ctx, Ack::Anchored).await?;
        sync::collection(&self.ctx, &vault, collection).await?;
        if self.class(collection).await?.is_some() {
            return self.begun_before(collection).await;
        }
        // Its keyslots are under the vault's PRF key, which the static nodes are to have a share of before.
        self.require_shared_key().await?;
        let pack = self.first_pack(&vault, collection).await?;
        match self.packer.anchor_all(vec![pack]).await {
            Ok(()) => {}
            // Another device was faster: what it began counts.
            Err(error) if error.kind() == ErrorKind::Refused => {
                self.begun_before(collection).await.map_err(|_| error)?;
            }
            Err(error) => return Err(error),
        }
        self.begun_before(collection).await.map(|_| true)
    }

    /// The class of a collection; none if nothing of it is anchored as far as this home knows.
    ///
    /// # Errors
    /// Those of the local index.
    pub async fn class(&self, collection: &CollectionName) -> Result<Option<CollectionClass>, Error> {
        let collection = collection.clone();
        Ok(self.ctx.index.with(move |index| index.class(&collection)).await?)
    }

    async fn begun_before(&self, collection: &CollectionName) -> Result<bool, Error> {
        if shred::class_of(&self.ctx, collection).await?.is_shreddable() {
            return Ok(false);
        }
        let message = format!("the collection {collection} exists and is durable: a class is for good");
        Err(Error::new(ErrorKind::Refused, message)
            .with_hint("begin another one, and copy what is to be in it"))
    }

    /// Stores the pack that has nothing but the commit.
    async fn first_pack(
        &self,
        vault: &vault::Vault,
        collection: &CollectionName,
    ) -> Result<StoredPack, Error> {
        let ctx = &self.ctx;
        let changes = Changeset {
            collection: collection.clone(),
            changes: Vec::new(),
            standalone: false,
            class: CollectionClass::Shreddable,
        };
        let (segment, plain) = (SegmentId(random()?), changes.encode());
        let (coder, pool) = (ctx.coder(ctx.network.code), ctx.pool.clone());
        let key = vault.keys.commit_key().clone();
        let job = move || {
            let mut pack = Pack::with_commit(segment, plain.len(), &pool);
            pack.commit(&key, &plain);
            pack.into_segment(&coder, &pool)
        };
        let coded = ctx.workers.run(job).await?;
        let coded = coded
            .map_err(|error| Error::new(ErrorKind::Internal, "a commit is too long").caused_by(error))?;
        let room = Arc::clone(&ctx.segments).acquire_owned().await;
        let room =
            room.map_err(|error| Error::new(ErrorKind::Internal, "the client is closed").caused_by(error))?;
        let total = ctx.network.code.total();
        let descriptor = upload(ctx, coded, vec![None; total], room).await?.descriptor;
        Ok(StoredPack::unconditional(descriptor, changes))
    }
}
