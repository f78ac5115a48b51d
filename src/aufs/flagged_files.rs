//! Files of a branch with flags that `chattr` set. No device gets them.

use crate::sys::{InodeFlag, Stat};
use crate::tree::{LayerTree, NodeId};

/// How many are named of each branch.
const NAMED: usize = 8;

/// Files with flags that `chattr` set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FlaggedFiles {
    /// How many files, hard links of one counted once.
    pub files: u64,
    /// The first of them.
    pub first: Vec<FlaggedFile>,
    /// Whether kernel or file system would tell flags only of each file by itself, so that they were not looked for.
    pub untold: bool,
}

/// A file with flags.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FlaggedFile {
    /// Its path inside the layer, escaped.
    pub path: String,
    /// Its flags.
    pub flags: Vec<InodeFlag>,
}

/// What a walk has met so far.
#[derive(Debug, Default)]
pub(super) struct FlagCounts {
    files: u64,
    first: Vec<(NodeId, Vec<InodeFlag>)>,
    untold: bool,
}

impl FlagCounts {
    /// Notes a node's flags. Only regular files and directories have any.
    pub(super) fn look(&mut self, node: NodeId, stat: &Stat) {
        if !stat.is_file() && !stat.is_dir() {
            return;
        }
        let Some(mut flags) = stat.flags() else {
            self.untold = true;
            return;
        };
        let Some(flag) = flags.next() else {
            return;
        };
        self.files += 1;
        if self.first.len() < NAMED {
            let flags = std::iter::once(flag).chain(flags).collect();
            self.first.push((node, flags));
        }
    }

    /// With the paths, which the tree knows once it is whole.
    pub(super) fn named(self, tree: &LayerTree) -> FlaggedFiles {
        let named = |(node, flags)| FlaggedFile {
            path: tree.display_path(node),
            flags,
        };
        FlaggedFiles {
            files: self.files,
            first: self.first.into_iter().map(named).collect(),
            untold: self.untold,
        }
    }
}
