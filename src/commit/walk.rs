//! How a tree is walked that is somebody else's.

use std::path::Path;

use walkdir::WalkDir;

/// A walk that stays on one file system and follows no link, not at its top either.
pub(super) fn walk(top: &Path) -> WalkDir {
    // Of a link at the top walkdir would ask for the file system that it leads to.
    let is_link = top.symlink_metadata().is_ok_and(|meta| meta.is_symlink());
    WalkDir::new(top)
        .follow_links(false)
        .follow_root_links(false)
        .same_file_system(!is_link)
}
