//! What somebody does who has lost all keys: makes keys for the request, has guardians approve it, and puts what they release
//! together.

use std::collections::{BTreeMap, BTreeSet};

use zeroize::Zeroizing;

use super::{desks, ledger_time, refuse, state};
use crate::client::access::desk::Desks;
use crate::client::{Error, ErrorKind};
use crate::crypto::access::SealKey;
use crate::crypto::hash::{Context, derive_key};
use crate::crypto::seed::Seed;
use crate::crypto::shamir::{Part, combine, commitment};
use crate::crypto::sign::KeyPair;
use crate::ledger::recovery::Progress;
use crate::message::Canonical as _;
use crate::message::access::body::MAX_NOTE_LEN;
use crate::message::access::desk::{DeskAnswer, DeskRequest};
use crate::message::access::{GuardianSet, RecoveryRequest};
use crate::types::{Network, Timestamp, VaultId};

/// Bytes of the secret before the request in what is kept.
const SECRET_LEN: usize = 32;

/// A recovery under way: its keys, and the request that guardians see.
pub struct Recovering {
    secret: Zeroizing<[u8; SECRET_LEN]>,
    request: RecoveryRequest,
}

impl std::fmt::Debug for Recovering {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Recovering({})", self.request.vault.short())
    }
}

/// How far a recovery is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stage {
    /// No guardian has approved the request.
    Asking {
        /// How many must.
        need: usize,
    },
    /// As the ledger has it.
    Asked(Progress),
}

impl Recovering {
    /// Begins a recovery with keys of a fresh secret.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] for a name that cannot be shown.
    pub fn begin(
        network: &Network,
        vault: VaultId,
        name: &str,
        created: Timestamp,
        secret: Zeroizing<[u8; SECRET_LEN]>,
    ) -> Result<Self, Error> {
        if name.is_empty() || name.len() > MAX_NOTE_LEN || name.chars().any(char::is_control) {
            let message = format!("a name has 1 to {MAX_NOTE_LEN} bytes and no control characters");
            return Err(Error::new(ErrorKind::Invalid, message));
        }
        let (key, seal) = keys(&secret);
        let request = RecoveryRequest {
            network: network.id,
            vault,
            key: key.public(),
            seal: seal.public().clone(),
            created,
            name: name.to_owned(),
            signature: [0; 64],
        };
        Ok(Self { request: request.sign(&key), secret })
    }

    /// The request, for the guardians.
    #[must_use]
    pub const fn request(&self) -> &RecoveryRequest {
        &self.request
    }

    /// What is kept of it, to be sealed.
    #[must_use]
    pub fn to_bytes(&self) -> Zeroizing<Vec<u8>> {
        Zeroizing::new([&self.secret[..], &self.request.encode()].concat())
    }

    /// Takes up what was kept.
    ///
    /// # Errors
    /// [`ErrorKind::Corrupt`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Error> {
        let damaged = || Error::new(ErrorKind::Corrupt, "what was kept of the recovery is damaged");
        let (secret, rest) = bytes.split_first_chunk().ok_or_else(damaged)?;
        let request = RecoveryRequest::decode_bounded(rest).map_err(|_| damaged())?;
        let secret = Zeroizing::new(*secret);
        if request.verify().is_err() || keys(&secret).0.public() != request.key {
            return Err(damaged());
        }
        Ok(Self { secret, request })
    }

    /// How far it is.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if the vault has no guardians, [`ErrorKind::Unavailable`].
    pub async fn stage(&self, network: &Network) -> Result<Stage, Error> {
        let desks = desks(network, &keys(&self.secret).0).await?;
        self.look(&desks).await.map(|(_, stage)| stage)
    }

    async fn look(&self, desks: &Desks) -> Result<(GuardianSet, Stage), Error> {
        let found = state(desks, self.request.vault).await?;
        let set = found.guardians.map(|known| known.set).ok_or_else(|| {
            Error::new(ErrorKind::NotFound, "the ledger names no guardians of this vault")
                .with_hint("is it the right vault? without guardians only the 24 words bring it back")
        })?;
        let id = self.request.id();
        let Some(row) = found.requests.into_iter().find(|row| row.request == id) else {
            let need = usize::from(set.threshold);
            return Ok((set, Stage::Asking { need }));
        };
        let progress = row.progress(&set, ledger_time(desks).await?);
        Ok((set, Stage::Asked(progress)))
    }

    /// Puts the secret together from what guardians released.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`] says what is still missing; [`ErrorKind::Refused`] if the owner objected;
    /// [`ErrorKind::Corrupt`] if what the guardians have does not make the secret. A guardian whose part is wrong is named in
    /// each of them.
    pub async fn collect(&self, network: &Network) -> Result<Seed, Error> {
        let (key, seal) = keys(&self.secret);
        let desks = desks(network, &key).await?;
        let (set, stage) = self.look(&desks).await?;
        match stage {
            Stage::Asked(Progress::Due) => {}
            Stage::Asked(Progress::Vetoed) => {
                return Err(refuse("the vault's owner has objected to this request")
                    .with_hint("if it was not you, whoever has the vault's key is somebody else"));
            }
            _ => {
                return Err(Error::new(ErrorKind::Unavailable, "the guardians may not release anything yet"));
            }
        }
        let (parts, wrong) = self.fetch(&desks, &set, &seal).await;
        let need = usize::from(set.threshold);
        if parts.len() < need {
            let (have, about) = (parts.len(), about(&wrong));
            let message = format!("{have} of {need} guardians have released their part{about}");
            return Err(Error::new(ErrorKind::Unavailable, message)
                .with_hint("have more of them run `xvault guardian release`, then try again"));
        }
        let entropy = combine(&parts[..need])
            .map_err(|error| Error::new(ErrorKind::Internal, error.to_string()).caused_by(error))?;
        if commitment(&set.vault, set.number, &entropy) != set.commitment {
            let message = format!("the guardians' parts do not make the vault's secret{}", about(&wrong));
            return Err(Error::new(ErrorKind::Corrupt, message)
                .with_hint("each part is as the owner cut it: the owner's program must have been at fault"));
        }
        let seed = Seed::from_entropy(*entropy);
        if *seed.vault(0, 0).vault() == set.vault {
            Ok(seed)
        } else {
            Err(Error::new(ErrorKind::Corrupt, "the guardians' secret is that of another vault"))
        }
    }

    /// Good parts by their place, and the places of guardians that signed a wrong one. What a static node gives that no
    /// guardian signed is not looked at.
    async fn fetch(&self, desks: &Desks, set: &GuardianSet, seal: &SealKey) -> (Vec<Part>, BTreeSet<u8>) {
        let said = DeskRequest::Releases(Box::new(self.request.clone()));
        let mut asked = desks.say_to_all(&desks.ledger.roster(), &said);
        let (id, mut good, mut wrong) = (self.request.id(), BTreeMap::new(), BTreeSet::new());
        while let Some(answered) = asked.join_next().await {
            let Ok((_, Ok(DeskAnswer::Releases(releases)))) = answered else { continue };
            for release in releases {
                if good.contains_key(&release.place) || release.verify(&id, set).is_err() {
                    continue;
                }
                match release.open(&id, set, seal) {
                    Ok(part) => drop(good.insert(release.place, part)),
                    Err(_) => drop(wrong.insert(release.place)),
                }
            }
        }
        wrong.retain(|place| !good.contains_key(place));
        (good.into_values().collect(), wrong)
    }

    /// The guardians, by their place, whose parts are wrong: each signed one that is not what the owner cut.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`], [`ErrorKind::Unavailable`].
    pub async fn wrong_parts(&self, network: &Network) -> Result<Vec<u8>, Error> {
        let (key, seal) = keys(&self.secret);
        let desks = desks(network, &key).await?;
        let (set, _) = self.look(&desks).await?;
        Ok(self.fetch(&desks, &set, &seal).await.1.into_iter().collect())
    }
}

fn about(wrong: &BTreeSet<u8>) -> String {
    if wrong.is_empty() {
        return String::new();
    }
    let places: Vec<String> = wrong.iter().map(|place| format!("guardian {place}")).collect();
    format!("; a wrong part came from {}", places.join(", "))
}

fn keys(secret: &[u8; SECRET_LEN]) -> (KeyPair, SealKey) {
    let derived = |context| {
        let mut derived = Zeroizing::new([0; 32]);
        derive_key(context, &[secret], &mut *derived);
        derived
    };
    let signing = KeyPair::from_secret(&derived(Context::RecoverySigning));
    (signing, SealKey::from_seed(&derived(Context::RecoverySeal)))
}
