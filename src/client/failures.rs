//! What nodes did not do, in words for people: each reason once, with the nodes that gave it.

use crate::client::context::Context;
use crate::message::RefusalCode;
use crate::transfer::failure::Failure;
use crate::types::PublicKey;

/// So many nodes are named with a reason; of the others it is said how many they are.
const NAMED: usize = 6;

/// A reason and the nodes that gave it.
struct Reason<'a> {
    failure: &'a Failure,
    nodes: Vec<String>,
}

/// "node-1 and node-2 refuse: …; node-3 cannot be reached".
pub(crate) fn words(ctx: &Context, reasons: &[(PublicKey, Failure)]) -> String {
    let named = reasons.iter().map(|(node, failure)| (ctx.node_name(node), failure));
    tell(&by_reason(named))
}

/// What the nodes say, if all that were asked keep this key out: that the ledger does not let it, and since which block.
pub(crate) fn all_keep_out(ctx: &Context, reasons: &[(PublicKey, Failure)]) -> Option<String> {
    let keeps_out = |(_, failure): &(PublicKey, Failure)| is_code(failure, RefusalCode::NotAdmitted);
    if reasons.is_empty() || !reasons.iter().all(keeps_out) {
        return None;
    }
    Some(format!("all nodes that were asked say no: {}", words(ctx, reasons)))
}

/// Whether more nodes keep this key out than not: a few liars among nodes that are down are no reason to blame the key.
pub(crate) fn most_keep_out(reasons: &[(PublicKey, Failure)]) -> bool {
    let keeps_out = reasons.iter().filter(|(_, failure)| is_code(failure, RefusalCode::NotAdmitted)).count();
    keeps_out * 2 > reasons.len()
}

/// Whether a node refused with this code.
pub(crate) fn is_code(failure: &Failure, code: RefusalCode) -> bool {
    matches!(failure, Failure::Refused(refusal) if refusal.code == code)
}

/// Reasons that differ in numbers alone are one: nodes are some blocks apart.
fn by_reason<'a>(failures: impl Iterator<Item = (String, &'a Failure)>) -> Vec<Reason<'a>> {
    let without_numbers = |failure: &Failure| -> String {
        failure.to_string().chars().filter(|c| !c.is_ascii_digit()).collect()
    };
    let mut reasons: Vec<(String, Reason<'a>)> = Vec::new();
    for (node, failure) in failures {
        let text = without_numbers(failure);
        match reasons.iter_mut().find(|(known, _)| *known == text) {
            Some((_, reason)) if reason.nodes.contains(&node) => {}
            Some((_, reason)) => reason.nodes.push(node),
            None => reasons.push((text, Reason { failure, nodes: vec![node] })),
        }
    }
    let mut reasons: Vec<_> = reasons.into_iter().map(|(_, reason)| reason).collect();
    reasons.iter_mut().for_each(|reason| reason.nodes.sort_unstable());
    reasons
}

fn tell(reasons: &[Reason<'_>]) -> String {
    let told = |reason: &Reason<'_>| match reason.nodes.as_slice() {
        [node] => format!("{node} {}", reason.failure),
        nodes => format!("{} {}", list(nodes), reason.failure.of_several()),
    };
    reasons.iter().map(told).collect::<Vec<_>>().join("; ")
}

/// "a, b and c".
fn list(names: &[String]) -> String {
    let (shown, more) = names.split_at(names.len().min(NAMED));
    match (shown, more.len()) {
        ([first @ .., last], 0) if !first.is_empty() => format!("{} and {last}", first.join(", ")),
        (_, 0) => shown.join(", "),
        (_, more) => format!("{} and {more} more", shown.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::Refusal;

    fn refused(code: RefusalCode, message: &str) -> Failure {
        Failure::Refused(Refusal::new(code, message))
    }

    fn told(failures: &[(&str, Failure)]) -> String {
        tell(&by_reason(failures.iter().map(|(node, failure)| ((*node).to_owned(), failure))))
    }

    #[test]
    fn each_reason_is_said_once_with_the_nodes_that_gave_it() {
        let out = |height| refused(RefusalCode::NotAdmitted, &format!("not this key as of block {height}"));
        assert_eq!(told(&[("a", out(7))]), "a refuses: not this key as of block 7");
        assert_eq!(
            told(&[("d", out(7)), ("b", Failure::Unreachable), ("c", out(8)), ("c", out(9)), ("a", out(7))]),
            "a, c and d refuse: not this key as of block 7; b cannot be reached"
        );
        assert_eq!(told(&[("a", Failure::TimedOut), ("b", Failure::TimedOut)]), "a and b do not answer");
        let nodes = ["a", "b", "c", "d", "e", "f", "g", "h"];
        let many = nodes.map(|node| (node, Failure::Disconnected));
        assert_eq!(told(&many), "a, b, c, d, e, f and 2 more disconnected");
    }

    #[test]
    fn a_few_that_keep_the_key_out_do_not_speak_for_all() {
        let node = |nth| PublicKey([nth; 32]);
        let out = || refused(RefusalCode::NotAdmitted, "no");
        let down = || Failure::Unreachable;
        assert!(most_keep_out(&[(node(1), out()), (node(2), out()), (node(3), down())]));
        assert!(!most_keep_out(&[(node(1), out()), (node(2), down())]));
        assert!(!most_keep_out(&[]));
    }
}
