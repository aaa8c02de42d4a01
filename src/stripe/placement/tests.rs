use proptest::prelude::*;

use super::*;

fn segment(n: u64) -> SegmentId {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&n.to_le_bytes());
    SegmentId(bytes)
}

fn key(n: u8) -> PublicKey {
    PublicKey([n; 32])
}

/// Nodes of one operator and site each, in address blocks of their own.
fn apart(nodes: u8) -> Vec<NodeInfo> {
    (0..nodes).map(|n| node(n, n, n, n)).collect()
}

fn node(n: u8, operator: u8, site: u8, block: u8) -> NodeInfo {
    NodeInfo {
        name: format!("node-{n}"),
        key: key(n),
        address: SocketAddr::from(([10, 0, block, n], 4_000)),
        operator: format!("operator-{operator}"),
        site: format!("site-{site}"),
    }
}

fn place_on(segment: &SegmentId, nodes: &[NodeInfo], suspects: &[u8]) -> Placement {
    let suspect = |node: &NodeInfo| suspects.iter().any(|n| key(*n) == node.key);
    let candidates: Vec<_> = nodes.iter().map(|node| Candidate::new(node, suspect(node))).collect();
    place(segment, Code::DEFAULT, &candidates).unwrap()
}

/// How many shards each group of nodes has.
fn shards_by<T: Ord>(placement: &Placement, group: impl Fn(&PublicKey) -> T) -> BTreeMap<T, usize> {
    let mut count = BTreeMap::new();
    for place in &placement.shards {
        *count.entry(group(&place.node)).or_default() += 1;
    }
    count
}

fn most(counts: &BTreeMap<impl Ord, usize>) -> usize {
    counts.values().copied().max().unwrap_or(0)
}

#[test]
fn load_is_even_over_nodes_for_every_shard() {
    let nodes = apart(10);
    let mut load = BTreeMap::<_, usize>::new();
    for n in 0..3_000 {
        for (shard, place) in place_on(&segment(n), &nodes, &[]).shards.iter().enumerate() {
            *load.entry((shard, place.node)).or_default() += 1;
        }
    }
    assert_eq!(load.len(), 60);
    assert!(load.values().all(|count| (220..380).contains(count)), "{load:?}");
}

#[test]
fn a_new_node_draws_few_shards_and_moves_few_others() {
    let (old, new) = (apart(10), apart(11));
    let mut moved = 0;
    for n in 0..1_000 {
        let (before, after) = (place_on(&segment(n), &old, &[]), place_on(&segment(n), &new, &[]));
        let holders = |placement: &Placement| -> BTreeSet<_> {
            placement.shards.iter().map(|place| place.node).collect()
        };
        let gained: Vec<_> = holders(&after).difference(&holders(&before)).copied().collect();
        assert!(gained.is_empty() || gained == [key(10)], "{gained:?}");
        moved += before.shards.iter().zip(&after.shards).filter(|(a, b)| a.node != b.node).count();
    }
    // A segment has 6 shards on 11 nodes: the new node's fair share is 545 of 1,000 segments.
    assert!((545..1_090).contains(&moved), "{moved} shards moved");
}

#[test]
fn shards_spread_over_operators_then_sites_then_blocks() {
    // Three operators of four nodes, each on two sites, each in two blocks.
    let nodes: Vec<_> = (0..12).map(|n| node(n, n / 4, n / 2, n)).collect();
    let operator = |key: &PublicKey| key.0[0] / 4;
    let site = |key: &PublicKey| key.0[0] / 2;
    for n in 0..200 {
        let placement = place_on(&segment(n), &nodes, &[]);
        assert!(!placement.degraded);
        assert_eq!(shards_by(&placement, operator).len(), 3);
        assert_eq!(most(&shards_by(&placement, operator)), 2);
        assert_eq!(most(&shards_by(&placement, site)), 1);
    }
    // One operator and site, eight blocks of two nodes.
    let nodes: Vec<_> = (0..16).map(|n| node(n, 0, 0, n / 2)).collect();
    for n in 0..200 {
        let placement = place_on(&segment(n), &nodes, &[]);
        assert_eq!(most(&shards_by(&placement, |key| key.0[0] / 2)), 1);
    }
}

#[test]
fn nodes_double_up_only_when_they_are_too_few() {
    for (nodes, most_of_one) in [(1, 6), (2, 3), (3, 2), (4, 2), (5, 2), (6, 1), (9, 1)] {
        let placement = place_on(&segment(1), &apart(nodes), &[]);
        assert_eq!(most(&shards_by(&placement, |key| *key)), most_of_one, "{nodes} nodes");
        assert_eq!(placement.degraded, most_of_one > 1);
    }
    assert_eq!(place(&segment(1), Code::DEFAULT, &[]), None);
}

#[test]
fn suspects_are_used_only_where_the_segment_would_hang_on_one_node() {
    let nodes = apart(8);
    let on_suspects = |suspects: &[u8]| {
        let placement = place_on(&segment(3), &nodes, suspects);
        let count = shards_by(&placement, |node| suspects.iter().any(|n| key(*n) == *node));
        (count.get(&true).copied().unwrap_or(0), placement.degraded)
    };
    assert_eq!(on_suspects(&[0, 1]), (0, false));
    assert_eq!(on_suspects(&[0, 1, 2, 3]), (0, true));
    assert_eq!(on_suspects(&[0, 1, 2, 3, 4, 5]), (2, true));
    assert_eq!(on_suspects(&[0, 1, 2, 3, 4, 5, 6, 7]), (6, false));
}

#[test]
fn spares_are_all_the_others_and_the_free_sound_ones_first() {
    let nodes = apart(9);
    let placement = place_on(&segment(5), &nodes, &[2]);
    let taken: BTreeSet<_> = placement.shards.iter().map(|place| place.node).collect();
    for place in &placement.shards {
        let mut all: Vec<_> = place.spares.iter().chain([&place.node]).copied().collect();
        all.sort();
        assert_eq!(all, (0..9).map(key).collect::<Vec<_>>());
        assert!(place.spares[..2].iter().all(|spare| !taken.contains(spare) && *spare != key(2)));
        assert_eq!(place.spares.last(), Some(&key(2)));
    }
}

#[test]
fn an_operators_loss_is_survived_where_the_others_hold_k_shards() {
    let nodes = |operators: &[u8]| -> Vec<_> {
        (0_u8..).zip(operators).map(|(n, operator)| node(n, *operator, 0, 0)).collect()
    };
    let survives = |operators: &[u8]| survives_any_operator(Code::DEFAULT, &nodes(operators));
    assert!(survives(&[0, 1, 2, 3, 4, 5]));
    assert!(survives(&[0, 0, 1, 1, 2, 2]));
    assert!(survives(&[0, 0, 0, 0, 1, 1, 2, 2]));
    assert!(!survives(&[0, 0, 0, 1, 1, 2]));
    assert!(!survives(&[0; 6]));
    assert!(!survives(&[0, 1, 2, 3, 4]));
}

#[test]
fn blocks_are_24_bits_of_ipv4_and_48_of_ipv6() {
    let block = |address: &str| AddressBlock::of(address.parse().unwrap());
    assert_eq!(block("10.1.2.3:1"), block("10.1.2.200:9"));
    assert_ne!(block("10.1.2.3:1"), block("10.1.3.3:1"));
    assert_eq!(block("[::ffff:10.1.2.3]:1"), block("10.1.2.3:1"));
    assert_eq!(block("[2001:db8:1:2::1]:1"), block("[2001:db8:1:3::1]:1"));
    assert_ne!(block("[2001:db8:1::1]:1"), block("[2001:db8:2::1]:1"));
}

proptest! {
    #[test]
    fn any_network_gets_a_sound_placement(
        domains in prop::collection::vec((0_u8..8, 0_u8..8, 0_u8..8), 1..20),
        turn in 0_usize..20,
        n in 0_u64..1_000,
    ) {
        let mut nodes: Vec<_> = (0_u8..).zip(&domains).map(|(n, (o, s, b))| node(n, *o, *s, *b)).collect();
        let operators: BTreeSet<_> = domains.iter().map(|(operator, ..)| *operator).collect();
        let placement = place_on(&segment(n), &nodes, &[]);
        let operator = |key: &PublicKey| domains[usize::from(key.0[0])].0;
        prop_assert_eq!(placement.shards.len(), 6);
        prop_assert_eq!(placement.degraded, nodes.len() < 6);
        if nodes.len() >= 6 {
            prop_assert_eq!(most(&shards_by(&placement, |key| *key)), 1);
            prop_assert_eq!(shards_by(&placement, operator).len(), operators.len().min(6));
        }
        nodes.rotate_left(turn % domains.len());
        prop_assert_eq!(place_on(&segment(n), &nodes, &[]), placement, "whatever the order of the nodes");
    }
}

#[test]
fn losses_that_are_survived_are_those_of_the_fullest_nodes() {
    let code = |k, m| Code::new(k, m).unwrap();
    for (code, nodes, survived) in [
        (code(4, 2), 6, 2),
        (code(4, 2), 7, 2),
        (code(4, 2), 5, 1),
        (code(4, 2), 3, 1),
        (code(4, 2), 2, 0),
        (code(4, 2), 1, 0),
        (code(4, 2), 0, 0),
        (code(2, 2), 4, 2),
        (code(1, 4), 3, 2),
        (code(2, 1), 3, 1),
    ] {
        assert_eq!(survived_losses(code, nodes), survived, "{code} on {nodes}");
    }
}
