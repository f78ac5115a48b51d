//! Items that stand on one another, and the orders in which a parent comes before its children.

use std::collections::HashSet;

/// Items from 0 on, each with at most one parent.
#[derive(Clone, Debug, Default)]
pub(crate) struct Forest {
    parents: Vec<Option<usize>>,
    roots: Vec<usize>,
    children: Vec<Vec<usize>>,
}

impl Forest {
    /// The forest in which each item has this parent.
    ///
    /// # Panics
    ///
    /// A parent is not an item.
    pub(crate) fn new(parents: Vec<Option<usize>>) -> Self {
        let mut children = vec![Vec::new(); parents.len()];
        let mut roots = Vec::new();
        for (item, parent) in parents.iter().enumerate() {
            parent.map_or(&mut roots, |at| &mut children[at]).push(item);
        }
        Self {
            parents,
            roots,
            children,
        }
    }

    /// The items without a parent.
    pub(crate) fn roots(&self) -> &[usize] {
        &self.roots
    }

    /// The items whose parent is `item`.
    pub(crate) fn children(&self, item: usize) -> &[usize] {
        &self.children[item]
    }

    /// All items level by level: those without a parent, their children, and so on. Items that are their own ancestors,
    /// and those above them, are left out.
    pub(crate) fn by_level(&self) -> Vec<usize> {
        let mut order = self.roots.clone();
        let mut next = 0;
        while let Some(&item) = order.get(next) {
            order.extend(&self.children[item]);
            next += 1;
        }
        order
    }

    /// The same items chain by chain: after each item comes everything above it, siblings by index.
    pub(crate) fn by_chain(&self) -> Vec<usize> {
        let mut order = Vec::with_capacity(self.parents.len());
        // A list, not recursion: a hostile chain may be deeper than the thread's stack.
        let mut pending: Vec<usize> = self.roots.iter().rev().copied().collect();
        while let Some(item) = pending.pop() {
            order.push(item);
            pending.extend(self.children[item].iter().rev());
        }
        order
    }

    /// The items that no order has, by index: what cannot be reached from an item without a parent is on a circle or
    /// above one.
    pub(crate) fn on_circles(&self) -> Vec<usize> {
        let mut is_reached = vec![false; self.parents.len()];
        for item in self.by_level() {
            is_reached[item] = true;
        }
        (0..self.parents.len())
            .filter(|&item| !is_reached[item])
            .collect()
    }

    /// These items and everything below them.
    pub(crate) fn with_all_below(&self, items: impl IntoIterator<Item = usize>) -> HashSet<usize> {
        let mut all = HashSet::new();
        for item in items {
            let mut at = Some(item);
            // What was there already has everything below it there too, and a circle ends where it began.
            while let Some(item) = at.filter(|&item| all.insert(item)) {
                at = self.parents[item];
            }
        }
        all
    }

    /// The items that are their own ancestors, circle by circle.
    pub(crate) fn circles(&self) -> Vec<Vec<usize>> {
        let mut circles = Vec::new();
        let mut is_settled = vec![false; self.parents.len()];
        for start in 0..self.parents.len() {
            let mut walked = Vec::new();
            let mut seen = HashSet::new();
            let mut at = Some(start);
            while let Some(item) = at.filter(|&item| !is_settled[item] && seen.insert(item)) {
                walked.push(item);
                at = self.parents[item];
            }
            for &item in &walked {
                is_settled[item] = true;
            }
            // The walk stopped at one of its own items. From that item on, the walk is a circle.
            if let Some(first) = at.and_then(|end| walked.iter().position(|&item| item == end)) {
                circles.push(walked.split_off(first));
            }
        }
        circles
    }

    /// For each item, the length of the longest chain above it.
    pub(crate) fn chains_above(&self) -> Vec<usize> {
        let mut above = vec![0; self.parents.len()];
        for item in self.by_level().into_iter().rev() {
            if let Some(parent) = self.parents[item] {
                above[parent] = above[parent].max(above[item] + 1);
            }
        }
        above
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parents_come_first_in_both_orders_and_circles_in_none() {
        let forest = Forest::new(vec![
            Some(2),
            Some(0),
            None,
            Some(2),
            Some(5),
            Some(4),
            Some(5),
        ]);
        assert_eq!(forest.by_level(), [2, 0, 3, 1]);
        assert_eq!(forest.by_chain(), [2, 0, 1, 3]);
        assert_eq!(forest.on_circles(), [4, 5, 6]);
        assert_eq!(forest.circles(), [[4, 5]]);
        assert_eq!(forest.with_all_below([1]), HashSet::from([1, 0, 2]));
        assert_eq!(forest.with_all_below([6, 2]), HashSet::from([2, 4, 5, 6]));
        assert_eq!(forest.chains_above()[..4], [1, 0, 2, 0]);
        assert_eq!(
            (forest.roots(), forest.children(2)),
            (&[2][..], &[0, 3][..])
        );
    }

    #[test]
    fn a_chain_deeper_than_a_stack_is_ordered() {
        let forest = Forest::new((0..200_000_usize).map(|at| at.checked_sub(1)).collect());
        assert!(forest.by_chain().into_iter().eq(0..200_000));
        assert!(forest.by_level().into_iter().eq(0..200_000));
    }
}
