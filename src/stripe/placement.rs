//! Placement: which node is to hold which shard of a segment.
//!
//! Rendezvous hashing ([Thaler and Ravishankar](https://www.eecs.umich.edu/techreports/cse/96/CSE-TR-316-96.pdf)):
//! every node has a score for every shard, and a shard goes to the best score among the nodes that
//! spread the segment best. So whoever knows the nodes finds the same places, load is even, and a new
//! node draws few shards to itself and moves few others. It decides where a segment is *written*;
//! where one *is* says its descriptor.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use crate::crypto::hash::{Context, derive_key};
use crate::types::{Code, NodeInfo, PublicKey, SegmentId};

/// Addresses that are likely to fail together: a /24 of IPv4, a /48 of IPv6.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AddressBlock([u8; 6]);

impl AddressBlock {
    /// The block that an address is in.
    #[must_use]
    pub const fn of(address: SocketAddr) -> Self {
        match address.ip().to_canonical() {
            IpAddr::V4(ip) => {
                let [a, b, c, _] = ip.octets();
                // 2002::/16 is 6to4: the IPv6 form of an IPv4 block, so the kinds do not mix.
                Self([0x20, 0x02, a, b, c, 0])
            }
            IpAddr::V6(ip) => {
                let [a, b, c, d, e, f, ..] = ip.octets();
                Self([a, b, c, d, e, f])
            }
        }
    }
}

/// A node that could hold a shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Candidate<'a> {
    /// Its identity.
    pub key: PublicKey,
    /// Who runs it: the first failure domain.
    pub operator: &'a str,
    /// Where it stands: the second.
    pub site: &'a str,
    /// Its part of the address space: the third.
    pub block: AddressBlock,
    /// It failed lately: used where nothing better is left.
    pub suspect: bool,
}

impl<'a> Candidate<'a> {
    /// A node of the network file.
    #[must_use]
    pub fn new(node: &'a NodeInfo, suspect: bool) -> Self {
        Self {
            key: node.key,
            operator: &node.operator,
            site: &node.site,
            block: AddressBlock::of(node.address),
            suspect,
        }
    }
}

/// Where the shards of a segment are to go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placement {
    /// For each shard its node and spares, by index of the shard.
    pub shards: Vec<Place>,
    /// Some node gets more than one shard, because there are too few of them.
    pub degraded: bool,
}

/// Where one shard is to go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The node that should hold it.
    pub node: PublicKey,
    /// Every other node, best first. A shard that fails takes the first that has not failed and is
    /// not taken by another shard; when all are taken, the first that has not failed.
    pub spares: Vec<PublicKey>,
}

/// Places every shard of a segment; `None` if there are no candidates at all.
///
/// In this order, no shard goes where another node would have been better: no node holds so many
/// shards that its loss loses the segment; nodes that are not suspect; one shard a node; then as few
/// as can be of one operator, of one site, of one address block.
///
/// # Panics
/// If a node is a candidate twice.
#[must_use]
pub fn place(segment: &SegmentId, code: Code, candidates: &[Candidate<'_>]) -> Option<Placement> {
    let field = Field::new(segment, code, candidates);
    let mut uses = Uses::default();
    let mut chosen = Vec::with_capacity(code.total());
    for shard in 0..code.total() {
        let best = (0..candidates.len()).min_by_key(|&node| field.cost(shard, node, &uses))?;
        uses.add(&candidates[best]);
        chosen.push(best);
    }
    let degraded = uses.nodes.values().any(|&shards| shards > 1);
    let shards = chosen.iter().enumerate();
    Some(Placement {
        shards: shards.map(|(shard, &node)| field.place(shard, node, &uses)).collect(),
        degraded,
    })
}

/// Whether these nodes can hold segments of this code, one shard a node, so that the loss of any one
/// operator with all its nodes loses no segment.
#[must_use]
pub fn survives_any_operator(code: Code, nodes: &[NodeInfo]) -> bool {
    let mut operators = BTreeMap::<&str, usize>::new();
    for node in nodes {
        *operators.entry(&node.operator).or_default() += 1;
    }
    operators.values().map(|nodes| code.m().min(*nodes)).sum::<usize>() >= code.total()
}

/// How many of so many nodes, whichever they are, may be lost with every segment still readable: m where there
/// are as many nodes as shards, fewer where a node holds several.
#[must_use]
pub fn survived_losses(code: Code, nodes: usize) -> usize {
    let Some(each) = code.total().checked_div(nodes) else { return 0 };
    // As even as can be: so many nodes hold one shard more than the others.
    let fuller = code.total() % nodes;
    (0..=nodes)
        .take_while(|&lost| lost * each + lost.min(fuller) <= code.m())
        .last()
        .unwrap_or(0)
        .min(code.m())
}

/// What placing one segment looks at.
struct Field<'a> {
    code: Code,
    candidates: &'a [Candidate<'a>],
    /// For each candidate its score for each shard.
    scores: Vec<Vec<u64>>,
}

/// How many shards each failure domain has so far.
#[derive(Clone, Default)]
struct Uses<'a> {
    nodes: BTreeMap<PublicKey, usize>,
    operators: BTreeMap<&'a str, usize>,
    sites: BTreeMap<&'a str, usize>,
    blocks: BTreeMap<AddressBlock, usize>,
}

/// What speaks against a node, worst first; the node with the least is taken.
type Cost = (bool, bool, [usize; 4], Reverse<u64>, PublicKey);

impl<'a> Field<'a> {
    fn new(segment: &SegmentId, code: Code, candidates: &'a [Candidate<'a>]) -> Self {
        let distinct: BTreeSet<_> = candidates.iter().map(|node| node.key).collect();
        assert_eq!(distinct.len(), candidates.len(), "a node is a candidate once");
        let scores = candidates.iter().map(|node| scores(segment, &node.key, code.total())).collect();
        Self { code, candidates, scores }
    }

    fn cost(&self, shard: usize, node: usize, uses: &Uses<'_>) -> Cost {
        let candidate = &self.candidates[node];
        let counts = uses.of(candidate);
        let fatal = counts[0] >= self.code.m();
        (fatal, candidate.suspect, counts, Reverse(self.scores[node][shard]), candidate.key)
    }

    /// The place of a shard on `node`, when `uses` is that of the whole segment.
    fn place(&self, shard: usize, node: usize, uses: &Uses<'a>) -> Place {
        let mut others = uses.clone();
        others.remove(&self.candidates[node]);
        let mut spares: Vec<_> = (0..self.candidates.len()).filter(|&spare| spare != node).collect();
        spares.sort_by_cached_key(|&spare| self.cost(shard, spare, &others));
        Place {
            node: self.candidates[node].key,
            spares: spares.into_iter().map(|spare| self.candidates[spare].key).collect(),
        }
    }
}

impl<'a> Uses<'a> {
    /// Shards on the candidate's node, operator, site and address block.
    fn of(&self, at: &Candidate<'_>) -> [usize; 4] {
        let (node, operator) = (self.nodes.get(&at.key), self.operators.get(at.operator));
        let (site, block) = (self.sites.get(at.site), self.blocks.get(&at.block));
        [node, operator, site, block].map(|count| count.copied().unwrap_or(0))
    }

    fn add(&mut self, at: &Candidate<'a>) {
        for count in self.counts(at) {
            *count += 1;
        }
    }

    fn remove(&mut self, at: &Candidate<'a>) {
        for count in self.counts(at) {
            *count -= 1;
        }
    }

    fn counts(&mut self, at: &Candidate<'a>) -> [&mut usize; 4] {
        [
            self.nodes.entry(at.key).or_default(),
            self.operators.entry(at.operator).or_default(),
            self.sites.entry(at.site).or_default(),
            self.blocks.entry(at.block).or_default(),
        ]
    }
}

/// A node's score for each shard of a segment.
fn scores(segment: &SegmentId, node: &PublicKey, shards: usize) -> Vec<u64> {
    let mut bytes = vec![[0; 8]; shards];
    derive_key(Context::Placement, &[segment.as_bytes(), node.as_bytes()], bytes.as_flattened_mut());
    bytes.into_iter().map(u64::from_le_bytes).collect()
}

#[cfg(test)]
mod tests;
