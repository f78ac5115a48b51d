//! Checks whether this process can see everything in a root, and can preserve it.
//!
//! Being user 0 is not enough. The kernel hides `trusted.*` attributes from processes without `CAP_SYS_ADMIN` in the
//! first user namespace, shows owners that a user namespace does not map as 65534, and translates owners on an
//! id-mapped mount. None of this is an error when a layer is read: it would be converted, and compared, in the form
//! that is visible.
//!
//! Sources: linux v6.6 `fs/xattr.c` (`xattr_permission`), `capabilities(7)`, `user_namespaces(7)`, `fs/proc_namespace.c`
//! (`show_mnt_opts`), `include/uapi/linux/capability.h`.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::daemon::Host;
use crate::mount_table::mount_points;
use crate::tree::shown;

/// The purpose for which privileges are needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// To read a root and judge what is in it.
    Read,
    /// To write files with other users' ownership and modes as well.
    Write,
    /// To create every kind of file with every attribute as well: the kernel engine fills mounted file systems.
    MakeAll,
}

/// The reason why a root cannot be seen or carried over as it is.
#[derive(Debug, thiserror::Error)]
pub enum Unprivileged {
    /// The process file system is missing.
    #[error(
        "{}: cannot be read, so it is not known what this process can see or whether Docker is running (`mount -t proc \
         proc /proc`)",
        path.display()
    )]
    NoProc {
        /// The file that was looked for.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Capabilities are missing.
    #[error(
        "aufs2dm: runs without {}. Next: run it as root on the host itself, outside containers and units that limit \
         capabilities (CapabilityBoundingSet=)",
        listed(missing)
    )]
    Capabilities {
        /// Each with its purpose.
        missing: Vec<(&'static str, &'static str)>,
    },
    /// Some users of the host do not exist for this process.
    #[error(
        "{}: this process is in a user namespace, in which unmapped owners appear as 65534 and trusted.* attributes \
         are hidden. Next: run it as root on the host itself (not in a rootless or unprivileged container, not under \
         `unshare -r`)",
        path.display()
    )]
    UserNamespace {
        /// The map that shows it.
        path: PathBuf,
    },
    /// A mount shows wrong owners, or fewer attributes than there are.
    #[error(
        "{}: is mounted with `{option}`, which {effect}. Next: {remedy}",
        shown(point)
    )]
    Mount {
        /// The mount point.
        point: PathBuf,
        /// The mount option.
        option: &'static str,
        /// The effect of the option.
        effect: &'static str,
        /// What to do about it.
        remedy: String,
    },
}

fn listed(missing: &[(&str, &str)]) -> String {
    let each = missing
        .iter()
        .map(|(name, purpose)| format!("{name} ({purpose})"));
    each.collect::<Vec<_>>().join(", ")
}

/// A capability: its number, its name, and what goes wrong without it.
type Capability = (u32, &'static str, &'static str);

const READ: [Capability; 2] = [
    (21, "CAP_SYS_ADMIN", "the kernel hides trusted.* attributes"),
    (
        2,
        "CAP_DAC_READ_SEARCH",
        "not all files of other users can be read",
    ),
];
const WRITE: [Capability; 3] = [
    (
        1,
        "CAP_DAC_OVERRIDE",
        "directories of other users cannot be written to",
    ),
    (0, "CAP_CHOWN", "owners cannot be preserved"),
    (
        3,
        "CAP_FOWNER",
        "modes and times of other users' files cannot be preserved",
    ),
];
const MAKE_ALL: [Capability; 3] = [
    (27, "CAP_MKNOD", "device nodes cannot be created"),
    (31, "CAP_SETFCAP", "file capabilities cannot be preserved"),
    (4, "CAP_FSETID", "set-group-id bits cannot be preserved"),
];

impl Purpose {
    fn capabilities(self) -> impl Iterator<Item = &'static Capability> {
        let write: &[Capability] = if self == Self::Read { &[] } else { &WRITE };
        let make: &[Capability] = if self == Self::MakeAll {
            &MAKE_ALL
        } else {
            &[]
        };
        READ.iter().chain(write).chain(make)
    }
}

/// The number of the first user namespace. Source: linux `include/linux/proc_ns.h`, `PROC_USER_INIT_INO`, since 3.8.
const FIRST_USER_NAMESPACE: &str = "user:[4026531837]";

/// Checks that everything below `root` is visible as it is, and that what is to be written can be written.
///
/// # Errors
///
/// [`Unprivileged`]; nothing has been changed.
pub fn check(host: &Host, root: &Path, purpose: Purpose) -> Result<(), Unprivileged> {
    let own = host.proc.join("self");
    expect_first_user_namespace(&own)?;
    expect_capabilities(&own, purpose)?;
    expect_plain_mounts(&own, root)
}

fn read(path: PathBuf) -> Result<Vec<u8>, Unprivileged> {
    fs::read(&path).map_err(|source| Unprivileged::NoProc { path, source })
}

fn expect_capabilities(own: &Path, purpose: Purpose) -> Result<(), Unprivileged> {
    let path = own.join("status");
    let status = read(path.clone())?;
    let effective = effective_capabilities(&status).ok_or_else(|| Unprivileged::NoProc {
        path,
        source: io::Error::other("it has no CapEff line"),
    })?;
    let lacking = |one: &&Capability| effective & (1 << one.0) == 0;
    let missing: Vec<_> = purpose.capabilities().filter(lacking).collect();
    if missing.is_empty() {
        return Ok(());
    }
    Err(Unprivileged::Capabilities {
        missing: missing.iter().map(|one| (one.1, one.2)).collect(),
    })
}

fn effective_capabilities(status: &[u8]) -> Option<u64> {
    let text = String::from_utf8_lossy(status);
    let line = text.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
    u64::from_str_radix(line.trim(), 16).ok()
}

/// A kernel without user namespaces has neither the maps nor the link.
fn expect_first_user_namespace(own: &Path) -> Result<(), Unprivileged> {
    for name in ["uid_map", "gid_map"] {
        let path = own.join(name);
        let is_whole = fs::read(&path).map_or(true, |map| maps_all(&map));
        if !is_whole {
            return Err(Unprivileged::UserNamespace { path });
        }
    }
    let path = own.join("ns/user");
    match fs::read_link(&path) {
        // All ids may be mapped, and yet the capabilities are only those of the namespace.
        Ok(namespace) if namespace != Path::new(FIRST_USER_NAMESPACE) => {
            Err(Unprivileged::UserNamespace { path })
        }
        _ => Ok(()),
    }
}

/// Whether every id is mapped to itself.
fn maps_all(map: &[u8]) -> bool {
    let text = String::from_utf8_lossy(map);
    text.split_ascii_whitespace().eq(["0", "0", "4294967295"])
}

/// Mount options and what they hide.
const HIDING: [(&str, &str); 3] = [
    ("idmapped", "shows owners other than those on the disk"),
    ("nouser_xattr", "hides user.* attributes"),
    ("noacl", "hides access control lists"),
];

/// Parts of a root that may be mounts of their own, or links to mounts.
const PARTS: [&str; 4] = ["", "aufs", "image", "containers"];

fn expect_plain_mounts(own: &Path, root: &Path) -> Result<(), Unprivileged> {
    let text = read(own.join("mountinfo"))?;
    for part in PARTS {
        let Ok(path) = root.join(part).canonicalize() else {
            continue;
        };
        let Some((point, options)) = mount_of(&text, &path) else {
            continue;
        };
        for (option, effect) in HIDING {
            if options.contains(&option.as_bytes()) {
                let remedy = remedy(option, &point);
                return Err(Unprivileged::Mount {
                    point,
                    option,
                    effect,
                    remedy,
                });
            }
        }
    }
    Ok(())
}

fn remedy(option: &str, point: &Path) -> String {
    let point = crate::shell::quoted(point);
    match option {
        "idmapped" => "name the root through a mount that is not id-mapped".to_owned(),
        option => {
            let wanted = option.trim_start_matches("no");
            format!("`mount -o remount,{wanted} {point}`, to see everything")
        }
    }
}

/// The mount of a path without links, with the options of the mount and of its file system.
fn mount_of<'t>(text: &'t [u8], path: &Path) -> Option<(PathBuf, Vec<&'t [u8]>)> {
    let mut found: Option<(PathBuf, &[u8])> = None;
    for line in text.split(|byte| *byte == b'\n') {
        let Some(point) = mount_points(line).pop() else {
            continue;
        };
        // If there are several mounts on one point, the last one hides the others.
        let is_nearer = found
            .as_ref()
            .is_none_or(|(known, _)| point.starts_with(known));
        if path.starts_with(&point) && is_nearer {
            found = Some((point, line));
        }
    }
    let (point, line) = found?;
    let fields: Vec<&[u8]> = line.split(|byte| *byte == b' ').collect();
    let of_mount = fields.get(5).copied().unwrap_or_default();
    let of_file_system = fields.last().copied().unwrap_or_default();
    let options = [of_mount, of_file_system]
        .into_iter()
        .flat_map(|options| options.split(|byte| *byte == b','));
    Some((point, options.collect()))
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;

    const ALL: &str = "000001ffffffffff";

    /// A process table with these entries for this process.
    fn host(capabilities: &str, map: &str, mounts: &str) -> (TempDir, Host) {
        let temp = tempfile::tempdir().unwrap();
        let own = temp.path().join("self");
        fs::create_dir(&own).unwrap();
        fs::write(
            own.join("status"),
            format!("Name:\tx\nCapPrm:\t{ALL}\nCapEff:\t{capabilities}\n"),
        )
        .unwrap();
        for name in ["uid_map", "gid_map"] {
            fs::write(own.join(name), map).unwrap();
        }
        fs::write(own.join("mountinfo"), mounts).unwrap();
        let host = Host {
            proc: temp.path().to_owned(),
            ..Host::default()
        };
        (temp, host)
    }

    const WHOLE: &str = "         0          0 4294967295\n";

    fn without(bits: &[u32]) -> String {
        let all = u64::from_str_radix(ALL, 16).unwrap();
        let left = bits.iter().fold(all, |left, bit| left & !(1 << bit));
        format!("{left:016x}")
    }

    fn said(host: &Host, root: &Path, purpose: Purpose) -> String {
        check(host, root, purpose).map_or_else(|error| error.to_string(), |()| String::new())
    }

    #[test]
    fn each_capability_is_wanted_for_what_it_does() {
        let root = tempfile::tempdir().unwrap();
        for (bit, name, read, write) in [
            (21, "CAP_SYS_ADMIN", true, true),
            (2, "CAP_DAC_READ_SEARCH", true, true),
            (1, "CAP_DAC_OVERRIDE", false, true),
            (0, "CAP_CHOWN", false, true),
            (3, "CAP_FOWNER", false, true),
            (27, "CAP_MKNOD", false, false),
            (31, "CAP_SETFCAP", false, false),
            (4, "CAP_FSETID", false, false),
        ] {
            let (_temp, host) = host(&without(&[bit]), WHOLE, "");
            for (purpose, wanted) in [
                (Purpose::Read, read),
                (Purpose::Write, write),
                (Purpose::MakeAll, true),
            ] {
                let said = said(&host, root.path(), purpose);
                assert_eq!(said.contains(name), wanted, "{purpose:?} {name}: {said}");
            }
        }
        let (_temp, host) = host(&without(&[24, 40]), WHOLE, "");
        assert_eq!(said(&host, root.path(), Purpose::MakeAll), "");
    }

    #[test]
    fn a_map_that_leaves_out_or_moves_one_id_is_refused() {
        let root = tempfile::tempdir().unwrap();
        for map in [
            "0 0 1\n",
            "0 1000 1\n",
            "0 100000 65536\n",
            "0 0 65536\n",
            "0 0 1000\n1000 1001 4294966295\n",
            "",
        ] {
            let (_temp, host) = host(ALL, map, "");
            let said = said(&host, root.path(), Purpose::Read);
            assert!(said.contains("user namespace"), "{map:?}: {said}");
        }
        let (temp, host) = host(ALL, WHOLE, "");
        let own = temp.path().join("self");
        fs::write(own.join("gid_map"), "0 0 1\n").unwrap();
        assert!(said(&host, root.path(), Purpose::Read).contains("gid_map"));
        fs::remove_file(own.join("gid_map")).unwrap();
        fs::remove_file(own.join("uid_map")).unwrap();
        assert_eq!(said(&host, root.path(), Purpose::Read), "");
        fs::create_dir(own.join("ns")).unwrap();
        std::os::unix::fs::symlink("user:[4026532000]", own.join("ns/user")).unwrap();
        assert!(said(&host, root.path(), Purpose::Read).contains("user namespace"));
    }

    #[test]
    fn a_mount_that_hides_something_is_named_with_its_option() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path().canonicalize().unwrap();
        fs::create_dir(root.join("aufs")).unwrap();
        let line = |point: &Path, options: &str, of_file_system: &str| {
            let point = point.display();
            format!("36 35 98:0 / {point} {options} shared:1 - ext4 /dev/a {of_file_system}\n")
        };
        let plain = line(Path::new("/"), "rw", "rw");
        let aufs = root.join("aufs");
        for (mounts, word) in [
            (plain.clone(), ""),
            (line(Path::new("/"), "rw,idmapped", "rw"), "id-mapped"),
            (line(Path::new("/"), "rw", "rw,noacl"), "remount,acl '/'"),
            (
                plain.clone() + &line(&root, "rw", "rw,nouser_xattr"),
                "remount,user_xattr",
            ),
            (
                plain.clone() + &line(&aufs, "rw,relatime,idmapped", "rw"),
                "/aufs: ",
            ),
            (
                plain.clone() + &line(&root.join("volumes"), "rw,idmapped", "rw"),
                "",
            ),
            // What is mounted over it is what is visible.
            (
                line(Path::new("/"), "rw,idmapped", "rw") + &line(&root, "rw", "rw"),
                "",
            ),
        ] {
            let (_temp, host) = host(ALL, WHOLE, &mounts);
            let said = said(&host, &root, Purpose::Read);
            assert_eq!(said.is_empty(), word.is_empty(), "{mounts}: {said}");
            assert!(said.contains(word), "{mounts}: {said}");
        }
    }

    #[test]
    fn without_proc_nothing_is_believed() {
        let temp = tempfile::tempdir().unwrap();
        let host = Host {
            proc: temp.path().join("proc"),
            ..Host::default()
        };
        let said = said(&host, temp.path(), Purpose::Read);
        assert!(said.contains("mount -t proc"), "{said}");
    }
}
