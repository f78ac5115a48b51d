//! Flags set with `chattr` in the branches: no device gets them, and the operator is told so.

use serde::Serialize;

use crate::aufs::{FlaggedFile, FlaggedFiles};
use crate::docker::{CacheId, Hits};
use crate::sys::InodeFlag;

/// How many files are listed by name.
const NAMED: usize = 4;

/// Files whose flags no device gets.
#[derive(Clone, Debug, Default, Serialize)]
pub struct LostFlags {
    /// The number of files; hard links count once.
    pub files: u64,
    /// The first few of them.
    pub first: Vec<LostFlag>,
    /// Whether the kernel and file system report flags without opening each file; if not, no flags were looked for.
    pub looked_for: bool,
}

/// One file with flags.
#[derive(Clone, Debug, Serialize)]
pub struct LostFlag {
    /// The layer.
    pub layer: CacheId,
    /// The file's path inside the layer, escaped.
    pub path: String,
    /// Its flags: `immutable`, `append-only`, `no-dump`.
    pub flags: Vec<&'static str>,
    /// The images and containers that need the layer.
    pub hits: Hits,
}

impl LostFlags {
    /// No files yet.
    pub(super) fn none() -> Self {
        Self {
            looked_for: true,
            ..Self::default()
        }
    }

    /// Adds the flagged files of one layer.
    pub(super) fn add(&mut self, layer: &CacheId, flagged: &FlaggedFiles, hits: &Hits) {
        self.files += flagged.files;
        self.looked_for &= !flagged.untold;
        let room = NAMED.saturating_sub(self.first.len());
        let lost = |file: &FlaggedFile| LostFlag {
            layer: layer.clone(),
            path: file.path.clone(),
            flags: file.flags.iter().copied().map(name).collect(),
            hits: hits.clone(),
        };
        self.first.extend(flagged.first.iter().take(room).map(lost));
    }
}

fn name(flag: InodeFlag) -> &'static str {
    match flag {
        InodeFlag::Immutable => "immutable",
        InodeFlag::AppendOnly => "append-only",
        InodeFlag::NoDump => "no-dump",
    }
}
