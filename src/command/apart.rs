//! Checks that the side that stays is separate from the side that goes: through a link or a mount, one may be part of
//! the other.

use std::collections::HashSet;
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use walkdir::WalkDir;

use crate::tree::shown;

/// The directories of the side that stays, and how deep each is searched: the pool's files and the driver's notes are
/// on the second level.
const STAYS: [(&str, usize); 2] = [("devicemapper", 2), ("image/devicemapper", usize::MAX)];

/// The directories of the side that goes. Everything deeper in `aufs` belongs to a branch or is a list.
const GOES: [(&str, usize); 2] = [("aufs", 2), ("image/aufs", usize::MAX)];

/// The first part of the devicemapper side that is part of the aufs side or leads into it, in words; `None` if there is
/// none.
pub(super) fn shared_with_aufs(root: &Path) -> Option<String> {
    let gone: Vec<PathBuf> = GOES
        .iter()
        .filter_map(|(part, _)| root.join(part).canonicalize().ok())
        .collect();
    let directories: HashSet<(u64, u64)> = GOES
        .iter()
        .flat_map(|(part, depth)| entries(&root.join(part), *depth))
        .filter(|(_, meta)| meta.is_dir())
        .map(|(_, meta)| identity(&meta))
        .collect();
    STAYS
        .iter()
        .flat_map(|(part, depth)| entries(&root.join(part), *depth))
        .find_map(|(path, meta)| {
            let real = path
                .is_symlink()
                .then(|| path.canonicalize().ok())
                .flatten();
            let leads = real
                .as_ref()
                .filter(|real| gone.iter().any(|part| real.starts_with(part)));
            if let Some(real) = leads {
                return Some(format!("{} leads to {}", shown(&path), shown(real)));
            }
            let is_same = meta.is_dir() && directories.contains(&identity(&meta));
            is_same.then(|| format!("{} is a directory of the aufs side", shown(&path)))
        })
}

/// A directory and its contents, across mount points. If the top is a link, it counts as its target, because the target
/// is what is removed or kept.
fn entries(top: &Path, depth: usize) -> impl Iterator<Item = (PathBuf, Metadata)> + use<> {
    let walk = WalkDir::new(top).max_depth(depth).into_iter().flatten();
    walk.filter_map(|entry| {
        let meta = if entry.depth() == 0 {
            entry.path().metadata().ok()?
        } else {
            entry.metadata().ok()?
        };
        Some((entry.into_path(), meta))
    })
}

fn identity(meta: &Metadata) -> (u64, u64) {
    (meta.dev(), meta.ino())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    fn root() -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for part in [
            "aufs/diff/id",
            "image/aufs/layerdb/sha256",
            "devicemapper/metadata",
            "devicemapper/devicemapper",
            "image/devicemapper/layerdb/sha256",
        ] {
            fs::create_dir_all(root.path().join(part)).unwrap();
        }
        root
    }

    #[test]
    fn two_sides_that_lie_apart_share_nothing_wherever_a_link_leads_otherwise() {
        let root = root();
        assert_eq!(shared_with_aufs(root.path()), None);
        let elsewhere = tempfile::tempdir().unwrap();
        let data = elsewhere.path().join("data");
        fs::write(&data, "").unwrap();
        symlink(&data, root.path().join("devicemapper/devicemapper/data")).unwrap();
        assert_eq!(shared_with_aufs(root.path()), None);
    }

    #[test]
    fn a_link_into_the_aufs_side_is_told_wherever_it_is() {
        for (path, target) in [
            (
                "image/devicemapper/repositories.json",
                "../aufs/repositories.json",
            ),
            ("image/devicemapper/imagedb", "../aufs/layerdb"),
            ("image/devicemapper/layerdb/mounts", "../../aufs/layerdb"),
            ("devicemapper/devicemapper/data", "../../aufs/data"),
        ] {
            let root = root();
            for file in ["aufs/data", "image/aufs/repositories.json"] {
                fs::write(root.path().join(file), "x").unwrap();
            }
            symlink(target, root.path().join(path)).unwrap();
            let told = shared_with_aufs(root.path());
            assert!(told.is_some_and(|told| told.contains("leads to")), "{path}");
        }
    }
}
