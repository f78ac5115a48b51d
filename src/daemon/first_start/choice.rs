//! Which storage driver a Docker uses if no setting names one.
//!
//! Source: moby `daemon/graphdriver/driver.go`, `New` and `scanPriorDrivers`, `driver_linux.go`, `priority`, by release.

use crate::devicemapper::Version;
use crate::docker::{DRIVERS, Dir, ReadError};

/// The driver that the root is converted to.
pub(super) const DRIVER: &str = "devicemapper";

/// Directories of drivers in a root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Directories(Vec<Directory>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Directory {
    driver: &'static str,
    is_empty: bool,
}

impl Directories {
    /// Reads those of a root, and adds devicemapper's, which will exist.
    pub(super) fn read(dir: &Dir) -> Result<Self, ReadError> {
        let mut found = Vec::new();
        for driver in DRIVERS {
            if driver == DRIVER {
                found.push(Directory {
                    driver,
                    is_empty: false,
                });
            } else if dir.kind(driver)?.is_some() {
                // aufs may be a link to another disk. A directory that cannot be listed counts.
                let listed = dir.dir_following(driver).and_then(|dir| dir.list());
                let is_empty = listed.is_ok_and(|entries| entries.is_empty());
                found.push(Directory { driver, is_empty });
            }
        }
        Ok(Self(found))
    }

    /// The drivers that a release considers to be the root's, in its order of preference.
    pub(super) fn prior(&self, version: Version) -> Vec<&'static str> {
        // Since 17.12, an empty directory does not count.
        let counts = |directory: &&Directory| !directory.is_empty || version < Version::new(17, 12);
        let there: Vec<_> = self.0.iter().filter(counts).map(|one| one.driver).collect();
        let order = priority(version).iter().copied();
        order.filter(|driver| there.contains(driver)).collect()
    }
}

/// The drivers of a release in its order of preference.
fn priority(version: Version) -> &'static [&'static str] {
    match version {
        v if v < Version::new(1, 13) => &["aufs", "btrfs", "zfs", DRIVER, "overlay"],
        v if v < Version::new(17, 12) => &["aufs", "btrfs", "zfs", "overlay2", "overlay", DRIVER],
        v if v < Version::new(23, 0) => &[
            "btrfs",
            "zfs",
            "overlay2",
            "fuse-overlayfs",
            "aufs",
            "overlay",
            DRIVER,
        ],
        v if v < Version::new(24, 0) => &[
            "overlay2",
            "fuse-overlayfs",
            "btrfs",
            "zfs",
            "aufs",
            "overlay",
            DRIVER,
        ],
        v if v < Version::new(25, 0) => &["overlay2", "fuse-overlayfs", "btrfs", "zfs", DRIVER],
        _ => &["overlay2", "fuse-overlayfs", "btrfs", "zfs"],
    }
}

/// What a release does if no setting names a driver; `None`: it uses devicemapper.
pub(super) fn without_a_name(directories: &Directories, version: Version) -> Option<String> {
    let prior = directories.prior(version);
    match &prior[..] {
        [only] if *only == DRIVER && version < Version::new(23, 0) => None,
        [only] if *only == DRIVER => Some(format!(
            "Docker {version} does not start with devicemapper unless it is set explicitly"
        )),
        [] => Some(format!("Docker {version} has no devicemapper driver")),
        [first, ..] => Some(format!(
            "Docker {version} finds {} side by side, tries {first} first, and does not start",
            prior.join(", ")
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn directories(names: &[(&'static str, bool)]) -> Directories {
        let one = |&(driver, is_empty): &(&'static str, bool)| Directory { driver, is_empty };
        Directories(names.iter().map(one).collect())
    }

    #[test]
    fn each_release_prefers_its_own_driver() {
        let both = directories(&[("aufs", false), (DRIVER, false), ("overlay2", false)]);
        for (major, minor, first) in [
            (1, 12, "aufs"),
            (17, 6, "aufs"),
            (17, 12, "overlay2"),
            (20, 10, "overlay2"),
            (24, 0, "overlay2"),
        ] {
            let text = without_a_name(&both, Version::new(major, minor)).unwrap();
            assert!(text.contains(&format!("tries {first} first")), "{text}");
        }
    }

    #[test]
    fn an_empty_directory_counts_up_to_17_11() {
        let moved = directories(&[("aufs", true), (DRIVER, false)]);
        assert!(without_a_name(&moved, Version::new(17, 11)).is_some());
        assert_eq!(without_a_name(&moved, Version::new(17, 12)), None);
        assert_eq!(without_a_name(&moved, Version::new(20, 10)), None);
    }

    #[test]
    fn later_releases_want_it_named() {
        let alone = directories(&[(DRIVER, false)]);
        for major in [23, 24, 25] {
            assert!(without_a_name(&alone, Version::new(major, 0)).is_some());
        }
        // 24.0 no longer has the aufs driver.
        let both = directories(&[("aufs", false), (DRIVER, false)]);
        let text = without_a_name(&both, Version::new(24, 0)).unwrap();
        assert!(text.contains("unless it is set explicitly"), "{text}");
    }
}
