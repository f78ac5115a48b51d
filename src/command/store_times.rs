//! Docker's own files by inode and times, to detect writes in the meantime.

use std::collections::BTreeMap;
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use walkdir::WalkDir;

use crate::docker::{CONFIG, LEGACY_CONFIG};
use crate::staging::STAGE_NAME;

/// The state of Docker's own files beside the branches: which ones exist, and, for those that are copied or replaced,
/// their identity, attributes and times.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Stores(BTreeMap<PathBuf, Option<File>>);

impl Stores {
    /// Looks at the files. Unreadable files are left out: whoever needs them reports why.
    pub(super) fn look(root: &Path) -> Self {
        let mut files = BTreeMap::new();
        for part in ["image/aufs", "aufs/layers"] {
            let walk = WalkDir::new(root.join(part)).follow_links(false);
            for entry in walk.into_iter().filter_map(Result::ok) {
                let file = entry.metadata().ok().map(|meta| identity(&meta));
                files.insert(entry.into_path(), file);
            }
        }
        for branch in below(&root.join("aufs/diff"), 1) {
            files.insert(branch.into_path(), None);
        }
        let staged = root.join("containers").join(STAGE_NAME);
        for entry in below(&root.join("containers"), 2) {
            if entry.path().starts_with(&staged) {
                continue;
            }
            let is_config = entry.file_name() == CONFIG || entry.file_name() == LEGACY_CONFIG;
            if entry.depth() == 1 {
                files.insert(entry.into_path(), None);
            } else if is_config {
                // Logs and the like are not copied, so trimming them does no harm.
                let file = entry.metadata().ok().map(|meta| config_identity(&meta));
                files.insert(entry.into_path(), file);
            }
        }
        Self(files)
    }

    /// The first file that differs from its state in `self`.
    pub(super) fn difference<'a>(&'a self, now: &'a Self) -> Option<(&'a Path, &'static str)> {
        let changed = |(path, file): (&'a PathBuf, &Option<File>)| match now.0.get(path) {
            None => Some((path.as_path(), "was removed")),
            Some(same) if same == file => None,
            Some(_) => Some((path.as_path(), "changed")),
        };
        // The directory of a new file comes first and has changed too, but it says less.
        let added = now.0.keys().find(|path| !self.0.contains_key(*path));
        added
            .map(|path| (path.as_path(), "was added"))
            .or_else(|| {
                self.0
                    .iter()
                    .filter(|(_, file)| !is_directory(**file))
                    .find_map(changed)
            })
            .or_else(|| self.0.iter().find_map(changed))
    }
}

/// Inode, type and mode, owner, group, size, modification and change time.
type File = (u64, u32, u32, u32, u64, [(i64, i64); 2]);

fn below(directory: &Path, depth: usize) -> impl Iterator<Item = walkdir::DirEntry> {
    WalkDir::new(directory)
        .follow_links(false)
        .min_depth(1)
        .max_depth(depth)
        .into_iter()
        .filter_map(Result::ok)
}

/// The identity without the change time: an interrupted run has made a second name of the config for the way back, and
/// a resumed run removes that, which changes the time. The bytes are compared before the config is replaced.
fn config_identity(meta: &Metadata) -> File {
    let (inode, mode, uid, gid, size, [modified, _]) = identity(meta);
    (inode, mode, uid, gid, size, [modified, (0, 0)])
}

fn identity(meta: &Metadata) -> File {
    let times = [
        (meta.mtime(), meta.mtime_nsec()),
        (meta.ctime(), meta.ctime_nsec()),
    ];
    (
        meta.ino(),
        meta.mode(),
        meta.uid(),
        meta.gid(),
        meta.len(),
        times,
    )
}

fn is_directory(file: Option<File>) -> bool {
    let kind = nix::sys::stat::SFlag::S_IFMT.bits();
    file.is_none_or(|(_, mode, ..)| mode & kind == nix::sys::stat::SFlag::S_IFDIR.bits())
}
