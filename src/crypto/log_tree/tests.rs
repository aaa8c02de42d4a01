use data_encoding::HEXLOWER;

use super::*;

/// The leaves and roots that the implementations of certificate transparency share as test vectors
/// (google/certificate-transparency, `merkle_tree_test`).
const LEAVES: [&str; 8] =
    ["", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"];
const ROOTS: [&str; 9] = [
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
];

fn leaves(count: u64) -> Vec<LogHash> {
    (0..count).map(|at| leaf_hash(&at.to_le_bytes())).collect()
}

fn subtree(leaves: &[LogHash], range: &Range<u64>) -> LogHash {
    root(leaves[range.start as usize..range.end as usize].iter().copied())
}

fn proof(leaves: &[LogHash], ranges: &[Range<u64>]) -> Vec<LogHash> {
    ranges.iter().map(|range| subtree(leaves, range)).collect()
}

#[test]
fn roots_are_those_of_certificate_transparency() {
    let leaf = |hex: &&str| leaf_hash(&HEXLOWER.decode(hex.as_bytes()).unwrap());
    for (count, expected) in ROOTS.iter().enumerate() {
        assert_eq!(root(LEAVES[..count].iter().map(leaf)).to_string(), *expected, "{count} leaves");
    }
}

#[test]
fn the_nodes_that_are_handed_out_hash_every_range() {
    let mut nodes = std::collections::BTreeMap::new();
    let (mut frontier, all) = (Frontier::default(), leaves(70));
    for leaf in &all {
        frontier.push(*leaf, |node| {
            nodes.insert((node.level, node.index), node.hash);
        });
        let size = frontier.size();
        let mut read = |level, index| nodes.get(&(level, index)).copied().ok_or((level, index));
        assert_eq!(range_hash(&(0..size), &mut read), Ok(frontier.root()));
        assert_eq!(Frontier::new(size, frontier.peaks().to_vec()), Some(frontier.clone()));
        assert_eq!(Frontier::new(size + 1, vec![]), None);
    }
}

#[test]
fn every_leaf_of_every_tree_is_proved_and_nothing_else_is() {
    let all = leaves(40);
    for size in 1..=40 {
        let tree = subtree(&all, &(0..size));
        for index in 0..size {
            let proof = proof(&all, &inclusion_ranges(index, size).unwrap());
            let path = inclusion_path(&all[..size as usize], index as usize);
            assert_eq!(path, Some(proof.clone()));
            let leads =
                |leaf, at, size, proof: &[LogHash]| root_of_inclusion(leaf, at, size, proof) == Some(tree);
            let leaf = all[index as usize];
            assert!(leads(leaf, index, size, &proof), "{index} of {size}");
            let other = all[(index as usize + 1) % 40];
            assert!(!leads(other, index, size, &proof));
            for elsewhere in (0..=size).filter(|at| *at != index) {
                assert!(!leads(leaf, elsewhere, size, &proof), "{index} as {elsewhere} of {size}");
            }
            for at in 0..proof.len() {
                let mut changed = proof.clone();
                changed[at].0[at % 32] ^= 1;
                assert!(!leads(leaf, index, size, &changed));
                assert!(!leads(leaf, index, size, &proof[..at]));
            }
            assert!(!leads(leaf, index, size, &[&proof[..], &[leaf]].concat()));
        }
        assert_eq!(inclusion_ranges(size, size), None);
        assert_eq!(inclusion_path(&all[..size as usize], size as usize), None);
    }
}

#[test]
fn every_growth_is_proved_and_no_other_past_is() {
    let all = leaves(33);
    let roots: Vec<LogHash> = (0..=33).map(|size| subtree(&all, &(0..size))).collect();
    for new in 0..=33_u64 {
        for old in 0..=new {
            let proof = proof(&all, &consistency_ranges(old, new).unwrap());
            let (old_root, new_root) = (&roots[old as usize], &roots[new as usize]);
            assert!(is_consistent(old, old_root, new, new_root, &proof), "{old} to {new}");
            let wrong = LogHash([9; 32]);
            assert!(!is_consistent(old, &wrong, new, new_root, &proof), "{old} to {new}");
            assert!(old == 0 || !is_consistent(old, old_root, new, &wrong, &proof), "{old} to {new}");
            for at in 0..proof.len() {
                let mut changed = proof.clone();
                changed[at].0[0] ^= 1;
                assert!(!is_consistent(old, old_root, new, new_root, &changed));
                assert!(!is_consistent(old, old_root, new, new_root, &proof[..at]));
            }
            assert!(!is_consistent(old, old_root, new, new_root, &[&proof[..], &[wrong]].concat()));
        }
        assert_eq!(consistency_ranges(new + 1, new), None);
    }
}

#[test]
fn proofs_of_absurd_sizes_end() {
    let proof = [LogHash([1; 32]); MAX_PROOF_LEN];
    for (index, size) in [(0, u64::MAX), (u64::MAX - 1, u64::MAX), (u64::MAX, u64::MAX), (0, 0)] {
        let _ = root_of_inclusion(proof[0], index, size, &proof);
        let _ = is_consistent(index, &proof[0], size, &proof[1], &proof);
        assert!(inclusion_ranges(index, size).is_none_or(|ranges| ranges.len() < MAX_PROOF_LEN));
    }
}
