//! A directory's index as a whole: every leaf is reached once, on the right level, and holds its own hashes alone.

use std::collections::HashMap;

use super::dir::{BlockAt, pointer_fault};
use super::dirent::Pointer;
use super::fault::IndexFault;
use super::layout::Geometry;

/// Set in a hash in the index when the leaf before holds names of the same hash.
const CONTINUED: u32 = 1;

struct Check<'a> {
    blocks: HashMap<u32, &'a BlockAt>,
    pointers: HashMap<u32, u32>,
    faults: Vec<IndexFault>,
}

/// What is wrong with the index of a directory of these blocks; nothing about blocks that are malformed themselves.
pub(super) fn check(blocks: &[BlockAt], geometry: &Geometry) -> Vec<IndexFault> {
    let mut check = Check {
        blocks: blocks
            .iter()
            .map(|placed| (placed.logical, placed))
            .collect(),
        pointers: HashMap::new(),
        faults: Vec::new(),
    };
    let root = blocks.first().and_then(|placed| placed.block.root.as_ref());
    let Some(root) = root else {
        return vec![IndexFault::Level(0)];
    };
    if root.levels >= geometry.index_levels() {
        return vec![IndexFault::Field {
            field: "indirect_levels",
            value: root.levels.into(),
        }];
    }
    let first = blocks.first().expect("it has the root");
    check.level(&first.block.pointers, root.levels, (0, u32::MAX));
    for placed in &blocks[1..] {
        let pointers = check.pointers.get(&placed.logical).copied().unwrap_or(0);
        check.faults.extend(pointer_fault(placed.logical, pointers));
    }
    check.faults
}

impl Check<'_> {
    /// What is below a node with `levels` more nodes before the leaves, all of it for hashes within `range`.
    fn level(&mut self, pointers: &[Pointer], levels: u8, range: (u32, u32)) {
        if pointers
            .windows(2)
            .any(|pair| pair[1].hash & !CONTINUED < pair[0].hash & !CONTINUED)
        {
            self.faults.push(IndexFault::Order);
        }
        for (at, pointer) in pointers.iter().enumerate() {
            let low = if at == 0 {
                range.0
            } else {
                pointer.hash & !CONTINUED
            };
            let high = match pointers.get(at + 1) {
                // The highest hash that may be here: the next one's own only where that one continues it.
                Some(next) if next.hash & CONTINUED == 0 => next.hash.saturating_sub(1),
                Some(next) => next.hash,
                None => range.1,
            };
            self.pointer(pointer.block, levels, (low, high));
        }
    }

    fn pointer(&mut self, block: u32, levels: u8, range: (u32, u32)) {
        let Some(&placed) = self.blocks.get(&block) else {
            self.faults.push(IndexFault::Pointer(block));
            return;
        };
        let count = self.pointers.entry(block).or_default();
        *count += 1;
        // Followed once, however many lead there.
        if *count > 1 || block == 0 {
            return;
        }
        let node = &placed.block;
        if node.is_node != (levels > 0) {
            self.faults.push(IndexFault::Level(block));
        } else if levels > 0 {
            self.level(&node.pointers, levels - 1, range);
        } else if let Some((low, high)) = node.hashes
            && (low < range.0 || high > range.1)
        {
            self.faults.push(IndexFault::Hashes(block));
        }
    }
}
