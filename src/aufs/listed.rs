//! A directory of a branch while its names are read.

use crate::tree::{Listing, NodeId};

/// A directory, as far as its names have been read.
pub(super) struct Listed {
    pub(super) node: NodeId,
    pub(super) listing: Listing,
    /// In the order of the names.
    pub(super) subdirectories: Vec<Subdirectory>,
}

/// A directory that is to be read.
#[derive(Clone, Copy)]
pub(super) struct Subdirectory {
    pub(super) node: NodeId,
    pub(super) inode: u64,
    /// Whether it is opaque although it has no marker.
    pub(super) opaque: bool,
}

impl Listed {
    pub(super) fn new(node: NodeId, opaque: bool) -> Self {
        let listing = Listing {
            opaque,
            ..Listing::default()
        };
        Self {
            node,
            listing,
            subdirectories: Vec::new(),
        }
    }

    /// Sorts the entries; returns whether each name occurs once.
    pub(super) fn sort(&mut self) -> bool {
        let entries = &mut self.listing.entries;
        entries.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        entries.windows(2).all(|pair| pair[0].0 != pair[1].0)
    }

    /// Takes out the removed names that are entries as well. The entries must be sorted.
    pub(super) fn take_both(&mut self) -> Vec<Box<[u8]>> {
        let Listing {
            entries, removed, ..
        } = &mut self.listing;
        let is_entry = |name: &[u8]| {
            entries
                .binary_search_by(|(own, _)| (**own).cmp(name))
                .is_ok()
        };
        let (both, rest) = std::mem::take(removed)
            .into_iter()
            .partition(|name| is_entry(name));
        *removed = rest;
        both
    }
}
