//! Files of a branch with flags set by `chattr`. No device gets these flags.

use crate::sys::{InodeFlag, Stat};
use crate::tree::{LayerTree, NodeId};

/// The maximum number of files that are named for each branch.
const NAMED: usize = 8;

/// Files with flags set by `chattr`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FlaggedFiles {
    /// The number of files; hard links to the same file count once.
    pub files: u64,
    /// The first few of them.
    pub first: Vec<FlaggedFile>,
    /// Whether the flags were not checked, because the kernel or the file system reports them only for each file
    /// separately.
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

/// The flagged files that a walk has met so far.
#[derive(Debug, Default)]
pub(super) struct FlagCounts {
    files: u64,
    first: Vec<(NodeId, Vec<InodeFlag>)>,
    untold: bool,
}

impl FlagCounts {
    /// Records a node's flags. Only regular files and directories have any.
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

    /// Adds the paths, which the tree knows once it is complete.
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
