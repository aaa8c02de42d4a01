//! What static nodes agree on where nothing is proved: what `need` of them say counts, which is more than can be wrong. Pure.

use std::collections::BTreeMap;

use crate::ledger::rows::Node;
use crate::message::NodeNumber;

/// The storage nodes as one static node lists them, by ascending number.
pub(crate) type NodeList = Vec<(NodeNumber, Node)>;

/// The list that so many gave as a whole.
pub(crate) fn list(lists: &[NodeList], need: usize) -> Option<&NodeList> {
    lists.iter().find(|list| lists.iter().filter(|other| other == list).count() >= need)
}

/// What so many agree on where some of them are behind: each row counts for itself. An empty list is an answer only if so
/// many gave it: that no row is agreed on does not mean that there are none.
pub(crate) fn rows(lists: &[NodeList], need: usize) -> Option<NodeList> {
    if let Some(agreed) = list(lists, need) {
        return Some(agreed.clone());
    }
    let mut said: BTreeMap<NodeNumber, Vec<(&Node, usize)>> = BTreeMap::new();
    for list in lists {
        // By number once: a list that repeats a row does not say it twice.
        let list: BTreeMap<_, _> = list.iter().map(|(number, node)| (*number, node)).collect();
        for (number, node) in list {
            let versions = said.entry(number).or_default();
            match versions.iter_mut().find(|(known, _)| *known == node) {
                Some((_, count)) => *count += 1,
                None => versions.push((node, 1)),
            }
        }
    }
    let row = |(number, versions): (NodeNumber, Vec<(&Node, usize)>)| {
        let agreed = versions.into_iter().filter(|(_, count)| *count >= need);
        // Of two versions of one node the one that retired is the later; else what more say.
        let (node, _) = agreed.max_by_key(|(node, count)| (node.retired.is_some(), *count))?;
        Some((number, node.clone()))
    };
    let rows: NodeList = said.into_iter().filter_map(row).collect();
    (!rows.is_empty()).then_some(rows)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::NodeEntry;
    use crate::types::{Height, PublicKey};

    /// Of four static nodes one may be wrong.
    const NEED: usize = 2;

    fn row(number: u16, port: u16) -> (NodeNumber, Node) {
        let entry = NodeEntry {
            label: format!("node-{number}"),
            operator: "somebody".into(),
            site: "here".into(),
            address: ([127, 0, 0, 1], port).into(),
        };
        let key = PublicKey([u8::try_from(number).unwrap(); 32]);
        (NodeNumber(number), Node { key, entry, since: Height(1), retired: None })
    }

    /// A list of these nodes, which have not moved.
    fn of(numbers: &[u16]) -> NodeList {
        numbers.iter().map(|number| row(*number, 1_000 + number)).collect()
    }

    #[test]
    fn a_list_that_enough_give_is_agreed_before_the_others_answer() {
        let lists = [of(&[1, 2]), of(&[1]), of(&[1, 2])];
        assert_eq!(list(&lists[..2], NEED), None);
        assert_eq!(list(&lists, NEED), Some(&of(&[1, 2])));
        assert_eq!(rows(&lists, NEED), Some(of(&[1, 2])));
    }

    #[test]
    fn where_some_are_behind_each_row_counts_for_itself() {
        let lists = [of(&[1]), of(&[1, 2]), of(&[1, 2, 3])];
        assert_eq!(list(&lists, NEED), None);
        assert_eq!(rows(&lists, NEED), Some(of(&[1, 2])));
    }

    #[test]
    fn a_liar_adds_nothing_however_long_its_list_and_however_often_it_says_a_row() {
        let liar = vec![row(1, 1_001), row(2, 6_666), row(3, 6_666), row(3, 6_666), row(3, 6_666)];
        let lists = [liar, of(&[1, 2]), of(&[1, 2, 4])];
        assert_eq!(rows(&lists, NEED), Some(of(&[1, 2])));
    }

    #[test]
    fn that_there_are_none_is_agreed_only_if_enough_say_so() {
        assert_eq!(rows(&[of(&[]), of(&[1]), of(&[])], NEED), Some(of(&[])));
        assert_eq!(rows(&[of(&[]), of(&[1]), of(&[2])], NEED), None);
        assert_eq!(rows(&[of(&[]), of(&[1])], NEED), None);
    }

    #[test]
    fn one_list_or_none_is_no_agreement() {
        assert_eq!(rows(&[], NEED), None);
        assert_eq!(rows(&[of(&[])], NEED), None);
        assert_eq!(rows(&[of(&[1, 2])], NEED), None);
        assert_eq!(rows(&[of(&[1, 2])], 1), Some(of(&[1, 2])));
    }

    #[test]
    fn who_retired_stays_so_and_of_two_addresses_more_say_the_one_that_counts() {
        let (moved, mut retired) = (row(1, 2_001), row(2, 1_002));
        retired.1.retired = Some(Height(9));
        let old = of(&[1, 2]);
        let new = |extra| vec![moved.clone(), retired.clone(), row(extra, 1)];
        // Enough give each version, since the nodes changed a moment ago.
        let lists = [old.clone(), [old, of(&[8])].concat(), new(3), new(4), new(5)];
        assert_eq!(rows(&lists, NEED), Some(vec![moved, retired]));
    }
}
