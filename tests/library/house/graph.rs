//! Circles in a graph of names.

use std::collections::{BTreeMap, BTreeSet};

/// A graph: to each name those that it leads to.
pub(super) type Graph<'n> = BTreeMap<&'n str, BTreeSet<&'n str>>;

/// All that can be reached from `from`, itself only along a circle.
fn reachable<'n>(graph: &Graph<'n>, from: &str) -> BTreeSet<&'n str> {
    let mut found = BTreeSet::new();
    let mut open: Vec<&str> = vec![from];
    while let Some(name) = open.pop() {
        for &next in graph.get(name).into_iter().flatten() {
            if found.insert(next) {
                open.push(next);
            }
        }
    }
    found
}

/// The circles: groups of names each of which leads to all others.
pub(super) fn circles<'n>(graph: &Graph<'n>) -> BTreeSet<BTreeSet<&'n str>> {
    let reached: BTreeMap<_, _> = graph
        .keys()
        .map(|&name| (name, reachable(graph, name)))
        .collect();
    let in_circle = reached.iter().filter(|(name, to)| to.contains(*name));
    in_circle
        .map(|(name, to)| {
            let back = to
                .iter()
                .filter(|&other| reached.get(other).is_some_and(|to| to.contains(name)));
            back.copied().collect()
        })
        .collect()
}

#[test]
fn circles_are_found_and_what_leads_to_them_is_none() {
    let graph = Graph::from([
        ("a", BTreeSet::from(["b"])),
        ("b", BTreeSet::from(["c", "d"])),
        ("c", BTreeSet::from(["b"])),
        ("d", BTreeSet::new()),
        ("e", BTreeSet::from(["e"])),
    ]);
    let expected = BTreeSet::from([BTreeSet::from(["b", "c"]), BTreeSet::from(["e"])]);
    assert_eq!(circles(&graph), expected);
}
