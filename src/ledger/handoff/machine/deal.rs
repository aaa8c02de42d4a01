//! Dealing this node's shares to the next static nodes: keys first, then the package to their desks, then its hash to the ledger.

use super::{Asked, Dealing, Effect, HandingOn, KEY_PATIENCE, Note, Round, Said, Step, Task};
use crate::ledger::handoff::Duty;
use crate::message::Action;
use crate::message::access::desk::{DeskAnswer, DeskRequest, SignedSealKey};
use crate::message::access::handoff::{HandoffKeyOf, PieceKey};
use crate::message::access::{HandOff, KeptBy};
use crate::types::limits::MAX_HANDOFF_VAULTS;
use crate::types::{Hash, Timestamp};

const fn said(duty: &Duty, to: Hash) -> Said {
    Said::Dealt { of: duty.handed, to }
}

impl HandingOn {
    /// Asks for keys, if there is something to deal that was not dealt a moment ago: as much as one package takes.
    pub(super) fn deal(&mut self, now: Timestamp, mut round: Box<Round>, nonce: [u8; 16]) {
        let to = round.look.roster.hash();
        round.look.duties.retain(|duty| !self.said.contains_key(&said(duty, to)));
        if round.look.duties.is_empty() {
            self.take(now, round);
            return;
        }
        round.has_more = round.look.duties.len() > MAX_HANDOFF_VAULTS;
        round.look.duties.truncate(MAX_HANDOFF_VAULTS);
        let of = HandoffKeyOf { dealer: self.own, to, nonce };
        let asked = self.ask(now, &round.look.roster, DeskRequest::HandoffKey { to, nonce });
        self.step = Step::Keys { round, of, asked };
    }

    /// Who does not answer is waited for at first; then what it gets is sealed to the key by which others know it, so that it
    /// can take it later.
    pub(super) fn keys(&mut self, now: Timestamp, round: Box<Round>, of: HandoffKeyOf, asked: Asked) {
        let mut keys = Vec::new();
        for (member, answer) in asked.answers() {
            if let DeskAnswer::HandoffKey(signed) = answer
                && signed.verify(&self.network, &of, &member).is_ok()
            {
                let (key, signature) = (SignedSealKey::hash_of(&signed.key), signed.signature);
                keys.push((member, PieceKey::Handoff { key, signature }, signed.key));
            }
        }
        let members = round.look.roster.committee();
        let have = keys.len() + usize::from(members.contains(&self.own));
        let waited = self.mark.map_or(KEY_PATIENCE, |(_, since)| now.since(since));
        if have < members.quorum() || (have < members.n() && waited < KEY_PATIENCE) {
            self.take(now, round);
            return;
        }
        let (roster, duties) = (round.look.roster.clone(), round.look.duties.clone());
        self.step = Step::Dealing { round };
        self.task(Task::Deal { roster, of, duties, keys });
    }

    /// Has every next member keep the package, which is durable here.
    pub(super) fn offer(&mut self, now: Timestamp, round: Box<Round>, dealing: Dealing) {
        let asked = self.ask(now, &dealing.roster, DeskRequest::Handoff(dealing.bytes.clone()));
        self.step = Step::Offering { round, dealing, asked };
    }

    /// Names the package on the ledger, if enough signed that they keep it.
    pub(super) fn offered(&mut self, now: Timestamp, round: Box<Round>, dealing: Dealing, asked: Asked) {
        let Dealing { package, vaults, roster, own, .. } = dealing;
        let mut kept: Vec<KeptBy> = own.into_iter().collect();
        for (member, answer) in asked.answers() {
            if let DeskAnswer::Done(ack) = answer
                && ack.verify(&self.network, &package.0, &member).is_ok()
            {
                kept.push(KeptBy { member, signature: ack.signature });
            }
        }
        kept.sort_by_key(|kept| kept.member);
        let (have, need) = (kept.len(), roster.committee().quorum());
        if have < need {
            self.effects.push_back(Effect::Note(Note::FewKeep { have, need }));
        } else {
            let to = roster.hash();
            for duty in &round.look.duties {
                self.is_news(said(duty, to), now);
            }
            self.say(Action::HandOff(HandOff { to, package, vaults, kept }));
        }
        self.take(now, round);
    }
}
