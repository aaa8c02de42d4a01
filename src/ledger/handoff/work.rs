//! What dealers and takers of a handoff compute, from what they have. Draws no randomness: it is given.

use zeroize::Zeroizing;

use crate::crypto::access::{Commitments, Dealing, Handoff, KeyShare, ReshareError, SealPublic, Sharing};
use crate::message::access::HandedVault;
use crate::message::access::handoff::{DealtVault, HandoffKeyOf, HandoffPackage, Piece, PieceKey};
use crate::types::{Committee, NetworkId, ShareIndex};

/// What a dealer deals from.
#[derive(Debug)]
pub struct Deal<'a> {
    /// The network.
    pub network: NetworkId,
    /// Who deals, to whom, for which keys.
    pub of: HandoffKeyOf,
    /// The next members.
    pub members: &'a Committee,
    /// The vaults, ascending, with the dealer's shares and the commitments of their sharings.
    pub shares: Vec<(HandedVault, KeyShare, Commitments)>,
    /// The keys of the next members in their order; none of those of whom no key is known.
    pub keys: Vec<Option<(PieceKey, SealPublic)>>,
    /// Revocations that may not be final.
    pub revocations: Vec<Vec<u8>>,
}

/// A share that was put together.
#[derive(Debug)]
pub struct Took {
    /// The share.
    pub share: KeyShare,
    /// The commitments of the sharing that it is of.
    pub commitments: Commitments,
}

/// Deals every share anew, with coefficients of its own. `draw` fills with fresh random bytes.
///
/// # Errors
/// As `draw` says.
pub fn deal<E>(
    what: Deal<'_>,
    mut draw: impl FnMut(&mut [u8]) -> Result<(), E>,
) -> Result<HandoffPackage, E> {
    let Deal { network, of, members, shares, keys, revocations } = what;
    let sharing = Sharing::among(members);
    let (mut vaults, mut dealt) = (Vec::with_capacity(shares.len()), Vec::with_capacity(shares.len()));
    for (handed, share, old) in shares {
        let mut random = Zeroizing::new([0; 32]);
        draw(&mut *random)?;
        let Dealing { commitments, shares } = share.deal(sharing, &random);
        vaults.push(DealtVault { of: handed, old, dealt: commitments });
        dealt.push(shares);
    }
    let mut pieces = Vec::with_capacity(members.n());
    for (at, key) in keys.iter().enumerate() {
        let Some(((to, key), place)) = key.as_ref().zip(ShareIndex::at(at)) else {
            pieces.push(Piece::nothing());
            continue;
        };
        let context = HandoffPackage::piece_context(&of, &vaults, place);
        let parts: Vec<_> = dealt.iter().filter_map(|shares| shares.get(at)).collect();
        let mut random = Zeroizing::new([0; 64]);
        draw(&mut *random)?;
        pieces.push(Piece::seal((*to, key), &context, &parts, &random));
    }
    Ok(HandoffPackage { network, of, vaults, pieces, revocations })
}

/// A new member's share of a vault's key, from its parts of the chosen dealers' packages in the order of their places.
///
/// # Errors
/// [`ReshareError`]: cannot be with packages that were checked.
pub fn take(
    handed: &HandedVault,
    members: &Committee,
    chosen: &[(ShareIndex, &HandoffPackage, &KeyShare)],
) -> Result<Took, ReshareError> {
    let (have, want) = (chosen.len(), 1);
    let mut dealings = Vec::with_capacity(have);
    let mut old = None;
    for (place, package, _) in chosen {
        let dealer = *place;
        let (_, dealt) = package.vault(handed).ok_or(ReshareError::NotItsShare { dealer })?;
        old = old.or(Some(&dealt.old));
        dealings.push((dealer, dealt.dealt.clone()));
    }
    let old = old.ok_or(ReshareError::Dealers { have, want })?;
    let handoff = Handoff::new(old, Sharing::among(members), dealings)?;
    let parts: Vec<_> = chosen.iter().map(|(_, _, part)| (*part).clone()).collect();
    Ok(Took { share: handoff.combine(&parts)?, commitments: handoff.commitments().clone() })
}
