//! The disk space that a directory occupies, and that its removal frees.

use std::collections::HashMap;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use walkdir::WalkDir;

use crate::units::{Bytes, SECTOR_BYTES};

/// Bytes that removing these paths frees: a file that has a name elsewhere frees nothing. Mounts inside them and
/// unreadable entries are left out.
pub(super) fn of<'p>(paths: impl IntoIterator<Item = &'p Path>) -> Bytes {
    let mut sectors = 0;
    // For each file with several names: the names seen so far, and the sectors that it occupies.
    let mut linked: HashMap<(u64, u64), (u64, u64, u64)> = HashMap::new();
    for path in paths {
        let entries = WalkDir::new(path)
            .follow_links(false)
            .same_file_system(true);
        for meta in entries
            .into_iter()
            .flatten()
            .filter_map(|entry| entry.metadata().ok())
        {
            if meta.is_dir() || meta.nlink() == 1 {
                sectors += meta.blocks();
                continue;
            }
            let file = (meta.dev(), meta.ino());
            let seen = linked
                .entry(file)
                .or_insert((0, meta.nlink(), meta.blocks()));
            seen.0 += 1;
        }
    }
    let whole = linked.values().filter(|(seen, names, _)| seen >= names);
    sectors += whole.map(|(.., held)| held).sum::<u64>();
    Bytes(sectors * SECTOR_BYTES)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_file_counts_once_and_only_if_all_its_names_are_there() {
        let dir = tempfile::tempdir().unwrap();
        let (inside, outside) = (dir.path().join("inside"), dir.path().join("outside"));
        fs::create_dir(&inside).unwrap();
        let empty = of([&*inside]);
        fs::write(inside.join("a"), vec![1; 1 << 20]).unwrap();
        let one = of([&*inside]).0 - empty.0;
        assert!(one >= 1 << 20, "{one}");
        fs::hard_link(inside.join("a"), inside.join("b")).unwrap();
        assert_eq!(of([&*inside]).0 - empty.0, one);
        fs::hard_link(inside.join("a"), &outside).unwrap();
        assert!(of([&*inside]).0 < one);
        assert_eq!(of([&*dir.path().join("none")]), Bytes(0));
    }
}
