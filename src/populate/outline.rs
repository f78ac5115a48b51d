//! The work in a layer's directories, cut into pieces for threads.

use std::ops::Range;

use super::directories::Directories;
use crate::source::Layer;
use crate::tree::{Entry, Kind, LayerTree, NodeId, Regular, Segment};

/// The minimum cost of a unit, where a small file costs one: enough that the path to its place and the overhead of a
/// task do not matter, and small enough that one layer keeps all threads busy.
const UNIT: u64 = 256;
/// The number of bytes of a file that cost as much as the file itself.
const BYTES: u64 = 16 << 10;
/// The size from which a file's data is written by several threads, in bytes, and the size of each thread's share.
pub(super) const LARGE: u64 = 32 << 20;

/// A part of a directory's entries. The directories, large files and further names among them are handled elsewhere.
#[derive(Clone, Debug)]
pub(super) struct Piece {
    /// The directory's index in [`Directories`].
    pub(super) directory: usize,
    pub(super) entries: Range<usize>,
    /// The cost, in small files.
    cost: u64,
    /// Whether nothing in the directory changes after this.
    pub(super) is_last: bool,
}

/// One entry of a directory.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    /// The directory's index in [`Directories`].
    pub(super) directory: usize,
    pub(super) entry: usize,
}

impl Place {
    pub(super) fn entry<'t>(&self, tree: &'t LayerTree, directories: &Directories) -> Entry<'t> {
        directories
            .listing(tree, self.directory)
            .entries_in(self.entry..self.entry + 1)
            .next()
            .expect("the place is of an entry")
    }
}

/// The work, in the order of the tree.
#[derive(Debug, Default)]
pub(super) struct Outline {
    pub(super) pieces: Vec<Piece>,
    /// Files that several threads write.
    pub(super) large: Vec<Place>,
    /// Further names of files.
    pub(super) links: Vec<Place>,
    /// Directories that still change after their pieces.
    pub(super) late: Vec<usize>,
}

/// The step that makes an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sort {
    Directory,
    Small,
    Large,
    Link,
}

/// The step for an entry of `directory`.
pub(super) fn sort(tree: &LayerTree, directory: NodeId, entry: Entry<'_>) -> Sort {
    if tree.first_name(entry.node) != Some((directory, entry.name)) {
        return Sort::Link;
    }
    match &tree.node(entry.node).kind {
        Kind::Directory(_) => Sort::Directory,
        Kind::Regular(file) if data_of(file) >= LARGE => Sort::Large,
        _ => Sort::Small,
    }
}

impl Outline {
    pub(super) fn new(layer: &Layer, directories: &Directories) -> Self {
        let mut outline = Self::default();
        for directory in 0..directories.nr() {
            outline.add(&layer.tree, directories, directory);
        }
        outline
    }

    fn add(&mut self, tree: &LayerTree, directories: &Directories, directory: usize) {
        let node = directories.node(directory);
        let listing = directories.listing(tree, directory);
        let before = (self.pieces.len(), self.large.len(), self.links.len());
        let (mut start, mut cost) = (0, 0);
        for (at, entry) in listing.entries().enumerate() {
            let place = Place {
                directory,
                entry: at,
            };
            match sort(tree, node, entry) {
                Sort::Directory => {}
                Sort::Small => cost += cost_of(tree, entry.node),
                Sort::Large => self.large.push(place),
                Sort::Link => self.links.push(place),
            }
            if cost >= UNIT {
                self.pieces.push(Piece {
                    directory,
                    entries: start..at + 1,
                    cost: std::mem::take(&mut cost),
                    is_last: false,
                });
                start = at + 1;
            }
        }
        let is_last = before == (self.pieces.len(), self.large.len(), self.links.len());
        self.pieces.push(Piece {
            directory,
            entries: start..listing.entries().len(),
            cost,
            is_last,
        });
        if !is_last {
            self.late.push(directory);
        }
    }

    /// The pieces, cut into units.
    pub(super) fn units(&self, directories: &Directories) -> Vec<&[Piece]> {
        cut(&self.pieces, |piece| {
            (directories.depth(piece.directory), piece.cost)
        })
    }
}

/// Cuts a list into units that each cost enough. `weigh` returns an item's depth in the tree and its other cost.
///
/// A unit costs at least as much as the path to its start: a tree may be thousands of levels deep.
pub(super) fn cut<T>(items: &[T], weigh: impl Fn(&T) -> (usize, u64)) -> Vec<&[T]> {
    let (mut units, mut start, mut cost) = (Vec::new(), 0, 0);
    let mut least = 0;
    for (at, item) in items.iter().enumerate() {
        let (depth, own) = weigh(item);
        if at == start {
            least = UNIT.max(depth as u64);
        }
        cost += 1 + own;
        if cost >= least {
            units.push(&items[start..=at]);
            (start, cost) = (at + 1, 0);
        }
    }
    if start < items.len() {
        units.push(&items[start..]);
    }
    units
}

fn cost_of(tree: &LayerTree, node: NodeId) -> u64 {
    1 + tree.regular(node).map_or(0, |file| data_of(file) / BYTES)
}

/// The runs of data in a file.
pub(super) fn data(file: &Regular) -> impl Iterator<Item = Range<u64>> {
    let whole = Segment {
        start: 0,
        end: file.size,
    };
    let whole = (file.segments.is_none() && file.size > 0).then_some(whole);
    let segments = file.segments.as_deref().map_or(&[][..], Vec::as_slice);
    let segments = segments.iter().copied().chain(whole);
    segments.map(|segment| segment.start..segment.end)
}

fn data_of(file: &Regular) -> u64 {
    data(file).map(|data| data.end - data.start).sum()
}

/// The runs of data in groups of at most [`LARGE`] bytes.
pub(super) fn shares(file: &Regular) -> Vec<Vec<Range<u64>>> {
    let (mut shares, mut share, mut left) = (Vec::new(), Vec::new(), LARGE);
    for mut data in data(file) {
        while !data.is_empty() {
            let end = data.end.min(data.start + left);
            left -= end - data.start;
            share.push(data.start..end);
            data.start = end;
            if left == 0 {
                shares.push(std::mem::take(&mut share));
                left = LARGE;
            }
        }
    }
    shares.extend((!share.is_empty()).then_some(share));
    shares
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_cost_as_much_as_the_way_to_them() {
        let depths: Vec<usize> = (0..100_000).collect();
        let units = cut(&depths, |&depth| (depth, 0));
        assert!(units.concat() == depths);
        let (_, whole) = units.split_last().unwrap();
        for unit in whole {
            assert!(
                unit.len() >= unit[0].max(256),
                "{} at {}",
                unit.len(),
                unit[0]
            );
        }
        assert!((8..16).contains(&units.len()), "{}", units.len());
    }

    #[test]
    fn units_of_shallow_trees_are_small() {
        let costs = vec![10_u64; 1000];
        let units = cut(&costs, |&cost| (5, cost));
        assert_eq!(units.concat(), costs);
        assert!(units.iter().all(|unit| unit.len() <= 24));
    }

    #[test]
    fn shares_hold_all_data_in_parts_of_the_size() {
        let part = |start, end| Segment { start, end };
        let segments = vec![
            part(0, 10),
            part(LARGE, 3 * LARGE + 5),
            part(1 << 40, (1 << 40) + 1),
        ];
        let file = Regular {
            size: 1 << 41,
            segments: Some(Box::new(segments)),
        };
        let shares = shares(&file);
        let bytes = |share: &Vec<Range<u64>>| share.iter().map(|run| run.end - run.start).sum();
        let sizes: Vec<u64> = shares.iter().map(bytes).collect();
        assert_eq!(sizes, [LARGE, LARGE, 16]);
        assert_eq!(shares[0], [0..10, LARGE..2 * LARGE - 10]);
        assert_eq!(shares[2].last(), Some(&((1 << 40)..(1 << 40) + 1)));
    }
}
