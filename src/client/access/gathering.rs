//! Answers of static nodes to one request that opens, until enough of them say the same.
//!
//! A part of the release proves itself. What a node says of an entry does not: it counts once as many nodes say it as it takes
//! to release, most of which are honest and have checked it against the ledger. Whoever answers first settles nothing, so a
//! faulty node can be wrong, and not keep the others from being heard.

use crate::crypto::access::{Commitments, Inputs, Partial, PrfOutput, Purpose, Release, SealKey};
use crate::message::Member;
use crate::message::access::Denial;
use crate::message::access::open::{OpenReply, OpenedItem, SignedOpenRequest, lines_digest};
use crate::types::{Hash, ShareIndex};

#[cfg(test)]
mod tests;

/// A release: what it takes to open each item of a request.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) outputs: Vec<PrfOutput>,
    pub(super) items: Vec<OpenedItem>,
}

/// Why nothing is opened.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unopened {
    /// All is there but the lines of lists: the node that was to send them did not, or sent others.
    #[error("the lines of a list did not come")]
    NoLines,
    /// Too few open it, and this is what most of those say that deny it.
    #[error(transparent)]
    Denied(Denial),
    /// Enough open it, and too few say the same of it.
    #[error("static nodes contradict each other: {0}")]
    Contradiction(String),
    /// Too few answer as they should.
    #[error("too few static nodes open it: {0}")]
    TooFew(String),
}

/// See the module.
pub(super) struct Gathering<'a> {
    release: Release<'a>,
    threshold: usize,
    request: Hash,
    epoch: u32,
    lines_from: ShareIndex,
    /// What nodes say of the items, without lines, and how many do.
    said: Vec<(Vec<OpenedItem>, usize)>,
    /// What the node says that was to send the lines: without them, and with them.
    listed: Option<(Vec<OpenedItem>, Vec<OpenedItem>)>,
    denials: Vec<Denial>,
    reasons: Vec<String>,
}

impl<'a> Gathering<'a> {
    /// Of the answers to this request, whose items are these inputs.
    pub(super) fn new(inputs: &'a Inputs, commitments: &'a Commitments, signed: &SignedOpenRequest) -> Self {
        let request = signed.request();
        Self {
            release: Release::new(inputs, commitments),
            threshold: commitments.threshold(),
            request: signed.hash(),
            epoch: request.epoch,
            lines_from: request.lines_from,
            said: Vec::new(),
            listed: None,
            denials: Vec::new(),
            reasons: Vec::new(),
        }
    }

    /// Notes that a node denies it.
    pub(super) fn deny(&mut self, denial: Denial) {
        self.denials.push(denial);
    }

    /// Notes that a node gave no answer.
    pub(super) fn fail(&mut self, reason: String) {
        self.reasons.push(reason);
    }

    /// Whether no further answer is needed.
    pub(super) fn is_done(&self) -> bool {
        self.agreed().is_some_and(|agreed| self.has_lines(agreed))
    }

    /// Takes an answer, if it is a good one. `place` is the member's in the sharing.
    pub(super) fn add(&mut self, reply: &SealKey, member: &Member, place: ShareIndex, sealed: &[u8]) {
        if let Err(reason) = self.take(reply, member, place, sealed) {
            self.reasons.push(format!("{}: {reason}", member.label));
        }
    }

    fn take(
        &mut self,
        reply: &SealKey,
        member: &Member,
        place: ShareIndex,
        sealed: &[u8],
    ) -> Result<(), String> {
        let context = OpenReply::context(&self.request, place, self.epoch);
        let plain = reply.open(Purpose::Partial, &context, sealed).map_err(|error| error.to_string())?;
        let found =
            OpenReply::verify(&plain, &member.key, &self.request).map_err(|wrong| wrong.to_string())?;
        let is_lister = place == self.lines_from;
        if is_lister && !found.items.iter().all(is_whole) {
            return Err("it sends other lines than it says".to_owned());
        }
        let said: Vec<_> = found.items.iter().map(without_lines).collect();
        // Once enough say the same only lines may be missing.
        if self.agreed().is_none() {
            let partial = Partial::from_slice(&found.partial).map_err(|error| error.to_string())?;
            if partial.from() != place {
                return Err("it answers for another".to_owned());
            }
            self.release.add(partial).map_err(|error| error.to_string())?;
            match self.said.iter_mut().find(|(known, _)| *known == said) {
                Some((_, by)) => *by += 1,
                None => self.said.push((said.clone(), 1)),
            }
        }
        if is_lister {
            self.listed = Some((said, found.items));
        }
        Ok(())
    }

    /// What enough nodes say.
    fn agreed(&self) -> Option<&[OpenedItem]> {
        let enough = self.said.iter().find(|(_, by)| *by >= self.threshold);
        enough.map(|(items, _)| items.as_slice())
    }

    /// Whether the lines of its lists are there, if it has some.
    fn has_lines(&self, agreed: &[OpenedItem]) -> bool {
        !agreed.iter().any(|item| matches!(item, OpenedItem::List { .. }))
            || self.listed.as_ref().is_some_and(|(said, _)| said == agreed)
    }

    /// What was opened.
    ///
    /// # Errors
    /// [`Unopened`].
    pub(super) fn finish(self) -> Result<Opened, Unopened> {
        if let Some(agreed) = self.agreed() {
            if !self.has_lines(agreed) {
                return Err(Unopened::NoLines);
            }
            let items = match &self.listed {
                Some((said, listed)) if said == agreed => listed.clone(),
                _ => agreed.to_vec(),
            };
            let outputs = self.release.finish().map_err(|error| Unopened::TooFew(error.to_string()))?;
            return Ok(Opened { outputs, items });
        }
        if self.release.is_complete() {
            let counts: Vec<_> = self.said.iter().map(|(_, by)| by.to_string()).collect();
            let parties = format!("{} of them say different things", counts.join(", "));
            return Err(Unopened::Contradiction(parties));
        }
        let often = |denial: &&Denial| self.denials.iter().filter(|other| other == denial).count();
        match self.denials.iter().max_by_key(often) {
            Some(denial) => Err(Unopened::Denied(*denial)),
            None => Err(Unopened::TooFew(self.reasons.join("; "))),
        }
    }
}

/// What a node that sends no lines says of an item.
fn without_lines(item: &OpenedItem) -> OpenedItem {
    match item {
        OpenedItem::List { digest, .. } => OpenedItem::List { digest: *digest, lines: Vec::new() },
        record @ OpenedItem::Record { .. } => record.clone(),
    }
}

/// Whether lists have the lines that their digests say.
fn is_whole(item: &OpenedItem) -> bool {
    match item {
        OpenedItem::List { digest, lines } => lines_digest(lines) == *digest,
        OpenedItem::Record { .. } => true,
    }
}
