//! The merge of aufs branches, straight from the directories on disk and from the top down, as aufs itself looks names
//! up. Deliberately plain, and without any code of the crate: what the crate computes is compared with this.
//!
//! Where aufs would go on below an upper opaque marker to a lower one, this stops at the upper one.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::merged::{Entry, MergedTree, join};
use super::walk::{entry, list, os};

/// An inode: the branch it lies in, counted from the top, and its number there.
type Inode = (usize, u64);

/// A directory in one branch.
#[derive(Clone)]
struct Part {
    branch: usize,
    dir: PathBuf,
}

/// What a fresh mount of the branches shows, the bottom branch first in `branches`.
pub fn reference_merge(branches: &[PathBuf]) -> MergedTree {
    let mut parts = Vec::new();
    for (branch, dir) in branches.iter().rev().enumerate() {
        parts.push(Part {
            branch,
            dir: dir.clone(),
        });
        if is_opaque(dir) {
            break;
        }
    }
    let mut entries = BTreeMap::new();
    let root = entry(&parts[0].dir);
    entries.insert(b"/".to_vec(), (root, inode(&parts[0].dir, 0)));
    merge_directory(&parts, b"/", &mut entries);
    MergedTree::grouped(entries)
}

/// Adds what is in a directory that `parts` make up, the topmost first.
fn merge_directory(parts: &[Part], path: &[u8], entries: &mut BTreeMap<Vec<u8>, (Entry, Inode)>) {
    let mut found: BTreeMap<Vec<u8>, Vec<Part>> = BTreeMap::new();
    // Names at which the search has come to its end.
    let mut ended = BTreeSet::new();
    for part in parts {
        let names = list(&part.dir);
        ended.extend(names.keys().filter_map(|name| whited_out(name)));
        for (name, stat) in names {
            if name.starts_with(b".wh.") || ended.contains(&name) {
                continue;
            }
            let file = part.dir.join(os(&name));
            if !stat.is_dir() || is_opaque(&file) {
                ended.insert(name.clone());
            }
            let upper = found.entry(name).or_default();
            // Below a directory, anything but a directory is hidden.
            if upper.is_empty() || stat.is_dir() {
                upper.push(Part {
                    branch: part.branch,
                    dir: file,
                });
            }
        }
    }
    for (name, parts) in found {
        let (path, top) = (join(path, &name), &parts[0]);
        entries.insert(path.clone(), (entry(&top.dir), inode(&top.dir, top.branch)));
        if top.dir.symlink_metadata().unwrap().is_dir() {
            merge_directory(&parts, &path, entries);
        }
    }
}

fn whited_out(name: &[u8]) -> Option<Vec<u8>> {
    let rest = name.strip_prefix(b".wh.")?;
    (!rest.starts_with(b".wh.")).then(|| rest.to_vec())
}

fn is_opaque(dir: &Path) -> bool {
    dir.join(".wh..wh..opq").symlink_metadata().is_ok()
}

fn inode(file: &Path, branch: usize) -> Inode {
    (branch, file.symlink_metadata().unwrap().ino())
}
