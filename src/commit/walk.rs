//! Walks a tree that belongs to somebody else.

use std::path::Path;

use walkdir::WalkDir;

/// A walk that stays on one file system and follows no link, not even at its top.
pub(super) fn walk(top: &Path) -> WalkDir {
    // For a link at the top, walkdir would use the file system of its target.
    let is_link = top.symlink_metadata().is_ok_and(|meta| meta.is_symlink());
    WalkDir::new(top)
        .follow_links(false)
        .follow_root_links(false)
        .same_file_system(!is_link)
}
