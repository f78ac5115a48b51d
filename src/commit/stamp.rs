//! Whether an aufs side is untouched while it is moved out of the root.

use std::fmt::Write as _;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rayon::prelude::*;
use sha2::{Digest, Sha256};

use super::aufs_side::sum_of;
use super::since::names_in;

/// A digest of the names in an aufs side and of when each entry was last changed, by the time that nobody can set. Its two directories
/// themselves do not count: a rename changes their times.
pub(super) fn of(aufs: &Path, image: &Path) -> String {
    let branches = aufs.join("diff");
    let tops: Vec<PathBuf> = [aufs, &branches, image]
        .into_iter()
        .flat_map(|directory| match names_in(directory) {
            Ok(names) => names.into_iter().map(|name| directory.join(name)).collect(),
            Err(_) => Vec::new(),
        })
        .filter(|top| *top != branches)
        .collect();
    let sums: Vec<String> = tops
        .into_par_iter()
        .map(|top| sum_of(&top, |sum, _, meta| changed_at(sum, meta)))
        .collect();
    let mut text = sums.join(" ");
    if let Ok(meta) = branches.symlink_metadata() {
        let _ = write!(text, " {} {}", meta.ctime(), meta.ctime_nsec());
    }
    format!("{:x}", Sha256::digest(text))
}

/// The time of change, which the kernel alone sets.
pub(super) fn changed_at(sum: &mut Sha256, meta: &std::fs::Metadata) {
    for number in [meta.ctime(), meta.ctime_nsec()] {
        sum.update(number.to_le_bytes());
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    type Write = fn(&Path, &Path) -> std::io::Result<()>;

    #[test]
    fn a_rename_leaves_the_stamp_and_each_kind_of_write_changes_it() {
        let dir = tempfile::tempdir().unwrap();
        let (aufs, image) = (dir.path().join("aufs"), dir.path().join("image"));
        for part in ["diff/a/b", "layers", "mnt"] {
            fs::create_dir_all(aufs.join(part)).unwrap();
        }
        fs::create_dir_all(image.join("layerdb")).unwrap();
        fs::write(aufs.join("diff/a/b/file"), "one").unwrap();
        let before = of(&aufs, &image);
        let out = dir.path().join("out");
        fs::rename(&aufs, &out).unwrap();
        assert_eq!(of(&out, &image), before);
        let writes: [Write; 5] = [
            |aufs, _| fs::write(aufs.join("diff/a/b/file"), "two"),
            |aufs, _| fs::create_dir(aufs.join("diff/new")),
            |aufs, _| fs::write(aufs.join("layers/new"), ""),
            |aufs, _| fs::write(aufs.join("beside"), ""),
            |_, image| fs::write(image.join("repositories.json"), "{}"),
        ];
        let mut last = before;
        for (at, write) in writes.iter().enumerate() {
            write(&out, &image).unwrap();
            let now = of(&out, &image);
            assert_ne!(now, last, "{at}");
            last = now;
        }
    }
}
