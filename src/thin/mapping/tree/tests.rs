//! The persistent tree against a plain map, and what its nodes must keep to.

use std::collections::BTreeMap;
use std::collections::HashSet;
use std::ops::Range;

use proptest::collection::vec;
use proptest::prelude::{ProptestConfig, Strategy, prop_assert, prop_assert_eq, proptest};

use super::*;
use crate::thin::mapping::changes::Comparison;
use crate::thin::mapping::node::{MAX_ENTRIES, Run};
use crate::thin::mapping::runs::{MappedRun, Runs};

type Model = BTreeMap<u64, DataPlace>;

/// Checks a subtree's nodes; returns its height.
fn check_node(node: &Node, is_root: bool) -> u32 {
    let least = match (is_root, node) {
        (false, _) => MAX_ENTRIES / 3,
        (true, Node::Internal(_)) => 2,
        (true, Node::Leaf(_)) => 0,
    };
    assert!((least..=MAX_ENTRIES).contains(&node.nr_entries()));
    let Node::Internal(internal) = node else {
        return 0;
    };
    let below: u64 = internal.children.iter().map(|c| c.node.len()).sum();
    assert_eq!(node.len(), below);
    for (i, child) in internal.children.iter().enumerate() {
        assert_eq!(child.node.first_key(), Some(child.key));
        if let Some(next) = internal.children.get(i + 1) {
            assert!(child.node.last_key().unwrap() < next.key);
        }
    }
    let heights: HashSet<_> = internal
        .children
        .iter()
        .map(|child| check_node(&child.node, false))
        .collect();
    assert_eq!(heights.len(), 1, "leaves are at one depth");
    heights.into_iter().next().unwrap() + 1
}

/// Every node of a tree, by identity.
fn nodes(mapping: &Mapping) -> HashSet<*const Node> {
    let mut found = HashSet::new();
    let mut pending = vec![mapping.root()];
    while let Some(node) = pending.pop() {
        found.insert(Arc::as_ptr(node));
        if let Node::Internal(internal) = &**node {
            pending.extend(internal.children.iter().map(|child| &child.node));
        }
    }
    found
}

fn run(thin: u64, data: u64, len: u64) -> Vec<(u64, u64)> {
    (0..len).map(|i| (thin + i, data + i)).collect()
}

/// Changes of all shapes: runs and lone blocks, below, among and above what is mapped.
fn changes() -> impl Strategy<Value = Vec<(u64, u64)>> {
    let piece = (0_u64..4000, 0_u64..1 << 30, 1_u64..600);
    vec((piece, 1_u64..7), 0..6).prop_map(|pieces| {
        let mut changes = BTreeMap::new();
        for ((thin, data, len), step) in pieces {
            changes.extend((0..len).map(|i| (thin + i * step, data + i)));
        }
        changes.into_iter().collect()
    })
}

proptest! {
    #[test]
    fn it_behaves_like_a_plain_map_and_never_alters_an_older_version(steps in vec(changes(), 1..12)) {
        let mut versions = vec![(Mapping::new(), Model::new())];
        for (time, changes) in (0..).zip(&steps) {
            let (mapping, mut model) = versions.last().unwrap().clone();
            model.extend(changes.iter().map(|&(thin, data_block)| (thin, DataPlace { data_block, time })));
            versions.push((mapping.with(changes, time), model));
        }
        for (mapping, model) in versions {
            check_node(mapping.root(), true);
            prop_assert_eq!(mapping.len(), model.len() as u64);
            prop_assert!(mapping.iter().eq(model.iter().map(|(k, v)| (*k, *v))));
            for thin in (0..8000).step_by(17) {
                prop_assert_eq!(mapping.get(thin), model.get(&thin).copied());
            }
        }
    }
}

#[test]
fn three_levels_stay_even_whatever_is_inserted_where() {
    let mut mapping = Mapping::new().with(&run(1_000_000, 0, 70_000), 0);
    assert_eq!(check_node(mapping.root(), true), 2);
    for (time, (thin, len)) in (1..).zip([(0, 30_000), (500_000, 80_000), (1_030_000, 90_000)]) {
        mapping = mapping.with(&run(thin, 1 << 20, len), time);
        check_node(mapping.root(), true);
    }
    assert_eq!(mapping.len(), 230_000);
    assert_eq!(mapping.get(499_999), None);
    let expected = DataPlace {
        data_block: (1 << 20) + 7,
        time: 3,
    };
    assert_eq!(mapping.get(1_030_007), Some(expected));
}

#[test]
fn a_map_built_at_once_has_full_nodes() {
    let mapping = Mapping::new().with(&run(0, 0, 1_000_000), 0);
    assert_eq!(nodes(&mapping).len(), 3969 + 16 + 1);
}

#[test]
fn a_few_changes_copy_only_the_way_to_them() {
    let parent = Mapping::new().with(&run(0, 0, 1_000_000), 0);
    let child = parent.with(&[(5, 1 << 30), (500_000, (1 << 30) + 1)], 1);
    let copied = nodes(&child).difference(&nodes(&parent)).count();
    assert_eq!(copied, 2 + 2 + 1, "two leaves, the nodes above, the root");
}

#[test]
fn no_change_shares_everything() {
    let parent = Mapping::new().with(&run(0, 0, 1000), 0);
    assert_eq!(nodes(&parent.with(&[], 1)), nodes(&parent));
}

#[test]
fn a_run_takes_one_piece_of_memory() {
    let mapping = Mapping::new().with(&run(7, 9, 252), 0);
    let Node::Leaf(leaf) = &**mapping.root() else {
        panic!("252 mappings fit a leaf");
    };
    assert_eq!(leaf.runs.len(), 1);
    assert_eq!(size_of::<Run>(), 16);
}

#[test]
fn the_largest_values_are_kept_apart() {
    let last = MAX_DATA_BLOCKS - 1;
    let changes = [(MAX_THIN_BLOCKS - 2, last), (MAX_THIN_BLOCKS - 1, 0)];
    let mapping = Mapping::new().with(&changes, MAX_TIME - 1);
    let found: Vec<_> = mapping.iter().map(|(k, v)| (k, v.data_block)).collect();
    assert_eq!(found, changes);
}

#[test]
#[should_panic(expected = "changes ascend")]
fn changes_out_of_order_are_a_bug() {
    let _ = Mapping::new().with(&[(2, 0), (1, 1)], 0);
}

/// What of a range is mapped, told block by block.
fn blocks_of(runs: Runs<'_>) -> Vec<(u64, u64)> {
    let blocks = |run: MappedRun| (run.thin_block..run.end()).zip(run.data_block..);
    runs.flat_map(blocks).collect()
}

/// The data block of each thin block that [`changes`] may map.
fn blocks_of_all(mapping: &Mapping) -> Vec<Option<u64>> {
    let mut blocks = vec![None; 8000];
    for (thin_block, mapped) in mapping {
        blocks[usize::try_from(thin_block).unwrap()] = Some(mapped.data_block);
    }
    blocks
}

/// The thin blocks of ranges, which must be as few as can be.
fn blocks_in(ranges: &[Range<u64>]) -> Vec<u64> {
    assert!(ranges.windows(2).all(|pair| pair[0].end < pair[1].start));
    ranges.iter().cloned().flatten().collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn runs_tell_what_is_mapped_in_a_range(steps in vec(changes(), 1..4), start in 0_u64..8000, len in 0_u64..4000) {
        let mapping = (0..).zip(&steps).fold(Mapping::new(), |mapping, (time, changes)| mapping.with(changes, time));
        for range in [start..start + len, 0..u64::MAX] {
            let expected: Vec<_> = mapping
                .iter()
                .filter(|(thin_block, _)| range.contains(thin_block))
                .map(|(thin_block, mapped)| (thin_block, mapped.data_block))
                .collect();
            prop_assert_eq!(blocks_of(mapping.runs(range)), expected);
        }
    }

    #[test]
    fn two_mappings_differ_where_their_data_blocks_do(steps in vec((changes(), 0_usize..8), 1..8)) {
        let mut versions = vec![Mapping::new()];
        for (time, (changes, parent)) in (1..).zip(&steps) {
            versions.push(versions[parent % versions.len()].with(changes, time));
        }
        // The same again, sharing nothing.
        let last = versions.last().unwrap();
        let again: Vec<_> = last.iter().map(|(thin_block, mapped)| (thin_block, mapped.data_block)).collect();
        versions.push(Mapping::new().with(&again, 0));
        let plain: Vec<Vec<_>> = versions.iter().map(blocks_of_all).collect();
        let of_all = || versions.iter().zip(&plain);
        for ((a, blocks_a), (b, blocks_b)) in of_all().flat_map(|a| of_all().map(move |b| (a, b))) {
            let differ = |at: &usize| blocks_a[*at] != blocks_b[*at];
            let expected: Vec<u64> = (0..8000).filter(differ).map(|at| at as u64).collect();
            prop_assert_eq!(blocks_in(&a.changed(b)), expected);
        }
    }
}

#[test]
fn telling_few_differences_looks_into_few_nodes() {
    let parent = Mapping::new().with(&run(0, 0, 1_000_000), 0);
    let child = parent.with(&[(5, 1 << 30), (500_000, (1 << 30) + 1)], 1);
    let child = child.with(&run(1_000_000, 1 << 31, 10), 2);
    assert_eq!(
        parent.changed(&child),
        [5..6, 500_000..500_001, 1_000_000..1_000_010]
    );
    let steps = |a, b| {
        let mut comparison = Comparison::new(a, b);
        std::iter::from_fn(|| comparison.step().then_some(())).count()
    };
    // Of 4000 nodes: three levels on three ways, each node's children passed over one by one.
    assert!(steps(&parent, &child) < 2000, "{}", steps(&parent, &child));
    assert_eq!(steps(&parent, &parent.clone()), 1);
}

#[test]
fn ends_of_mappings_and_of_ranges_are_no_exceptions() {
    let empty = Mapping::new();
    let one = empty.with(&[(MAX_THIN_BLOCKS - 1, 7)], 0);
    let last = MAX_THIN_BLOCKS - 1..MAX_THIN_BLOCKS;
    assert_eq!(empty.changed(&Mapping::new()), []);
    assert_eq!(empty.changed(&one), std::slice::from_ref(&last));
    assert_eq!(one.changed(&empty), std::slice::from_ref(&last));
    assert_eq!(blocks_of(empty.runs(0..u64::MAX)), []);
    assert_eq!(blocks_of(one.runs(last)), [(MAX_THIN_BLOCKS - 1, 7)]);
    assert_eq!(blocks_of(one.runs(7..7)), []);
}
