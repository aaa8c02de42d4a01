//! Storage nodes come, change their entry and retire. A number is never given out again.

use crate::ledger::read::{Overlay, Read};
use crate::ledger::rows::{COUNTERS, NODE_NUMBERS, NODES, Node};
use crate::ledger::rules::admission::{Entry, admit};
use crate::ledger::rules::{Context, Outcome, Refused};
use crate::message::anchor::NodeNumber;
use crate::message::rejection::Rejection;
use crate::message::sponsorship::Sponsorship;
use crate::message::transaction::NodeEntry;
use crate::types::PublicKey;
use crate::types::limits::MAX_STORAGE_NODES;

pub(super) fn register<R: Read>(
    state: &mut Overlay<'_, R>,
    context: &Context,
    author: &PublicKey,
    entry: &NodeEntry,
    sponsorship: Option<&Sponsorship>,
) -> Outcome {
    if NODE_NUMBERS.contains(state, author)? {
        return Err(Rejection::NodeExists.into());
    }
    if COUNTERS.expect(state, &())?.nodes >= MAX_STORAGE_NODES {
        return Err(Rejection::TooManyNodes.into());
    }
    admit(state, context, Entry::Node, sponsorship)?;
    let mut counters = COUNTERS.expect(state, &())?;
    let number = counters.nodes;
    counters.nodes += 1;
    COUNTERS.put(state, &(), &counters);
    NODE_NUMBERS.put(state, author, &NodeNumber(number));
    let node = Node { key: *author, entry: entry.clone(), since: context.height, retired: None };
    NODES.put(state, &number, &node);
    Ok(())
}

pub(super) fn update<R: Read>(state: &mut Overlay<'_, R>, author: &PublicKey, entry: &NodeEntry) -> Outcome {
    let (number, node) = active(state, author)?;
    NODES.put(state, &number, &Node { entry: entry.clone(), ..node });
    Ok(())
}

pub(super) fn retire<R: Read>(state: &mut Overlay<'_, R>, context: &Context, author: &PublicKey) -> Outcome {
    let (number, node) = active(state, author)?;
    NODES.put(state, &number, &Node { retired: Some(context.height), ..node });
    Ok(())
}

fn active(state: &impl Read, key: &PublicKey) -> Result<(u16, Node), Refused> {
    let NodeNumber(number) = NODE_NUMBERS.get(state, key)?.ok_or(Rejection::NoSuchNode)?;
    let node = NODES.expect(state, &number)?;
    if node.retired.is_none() { Ok((number, node)) } else { Err(Rejection::NoSuchNode.into()) }
}
