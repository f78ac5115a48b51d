//! Live mounts of the root's layers, in any mount namespace.

use std::collections::HashSet;
use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::finding::{Finding, Host, Notice};
use super::processes::Process;
use crate::docker::DataDir;
use crate::mount_table::{Mount, parse};

/// aufs mounts on the root's mount points. Daemons up to 1.12 kept them in a mount namespace of their own, so each
/// process's view counts; processes in the same namespace are read once.
pub(super) fn mounted(processes: &[Process], root: &DataDir, host: &Host) -> Vec<Finding> {
    // `aufs` may be a symbolic link, and so may `mnt` in it.
    let resolved = |path: PathBuf| path.canonicalize().unwrap_or(path);
    let aufs = root.path().join("aufs");
    let points = [resolved(aufs.join("mnt")), resolved(aufs).join("mnt")];
    let mut namespaces = HashSet::new();
    let mut findings = Vec::new();
    let mut seen = HashSet::new();
    let pids = processes
        .iter()
        .map(|process| process.pid)
        .chain([std::process::id()]);
    for pid in pids {
        let dir = host.proc.join(pid.to_string());
        let is_new = fs::read_link(dir.join("ns/mnt"))
            .map_or(true, |namespace| namespaces.insert(namespace));
        if !is_new {
            continue;
        }
        for mount in read_mounts(&dir) {
            let on_layer = points
                .iter()
                .any(|top| mount.point.starts_with(top) && mount.point != *top);
            if on_layer && mount.kind == b"aufs" && seen.insert(mount.point.clone()) {
                findings.push(Finding::Mounted {
                    mount_point: mount.point,
                    pid,
                });
            }
        }
    }
    findings
}

fn read_mounts(process: &Path) -> Vec<Mount> {
    let text = fs::read(process.join("mountinfo")).unwrap_or_default();
    parse(&text).collect()
}

/// Branches of this root in live aufs mounts. sysfs shows them whatever namespace they are in.
/// Source: aufs `fs/aufs/sysfs.c`: a file `br<N>` per branch with `<path>=<permission>`.
pub(super) fn branches_in_use(root: &DataDir, host: &Host) -> Vec<Finding> {
    let mut branches = Vec::new();
    for mount in fs::read_dir(&host.sys_aufs).into_iter().flatten().flatten() {
        if !mount.file_name().as_bytes().starts_with(b"si_") {
            continue;
        }
        for file in fs::read_dir(mount.path()).into_iter().flatten().flatten() {
            let name = file.file_name();
            let number = name.as_bytes().strip_prefix(b"br").unwrap_or_default();
            if number.is_empty() || !number.iter().all(u8::is_ascii_digit) {
                continue;
            }
            let text = fs::read(file.path()).unwrap_or_default();
            branches.extend(parse_branch(&text).filter(|path| is_branch_of(root, path)));
        }
    }
    branches.sort_unstable();
    branches.dedup();
    branches
        .into_iter()
        .map(|branch| Finding::BranchInUse { branch })
        .collect()
}

fn parse_branch(text: &[u8]) -> Option<PathBuf> {
    let end = text.iter().rposition(|byte| *byte == b'=')?;
    Some(PathBuf::from(OsString::from_vec(text[..end].to_vec())))
}

/// Whether a path is one of the root's branches: by its path, or by its inode if the mount was made through another
/// path to the same directory.
fn is_branch_of(root: &DataDir, path: &Path) -> bool {
    let diff = root.path().join("aufs/diff");
    let resolved = diff.canonicalize().unwrap_or_else(|_| diff.clone());
    if path.starts_with(&diff) || path.starts_with(&resolved) {
        return true;
    }
    let own = path
        .file_name()
        .and_then(|name| fs::symlink_metadata(diff.join(name)).ok());
    let identity = |meta: &fs::Metadata| (meta.dev(), meta.ino());
    own.is_some_and(|own| fs::metadata(path).is_ok_and(|there| identity(&there) == identity(&own)))
}

/// A mount point in a root, in this process's namespace, to which something would have to be renamed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MountPlace {
    /// The directory or file.
    pub path: PathBuf,
    /// Whether the mount shows the same directory or file that is below it. Old daemons make such mounts.
    pub on_itself: bool,
}

/// Mount points of the root that prevent renames. Changes nothing.
pub fn mounts_in_the_way(root: &DataDir, host: &Host) -> Vec<MountPlace> {
    let all = read_mounts(&host.proc.join("self"));
    let mut found: Vec<MountPlace> = Vec::new();
    for mount in &all {
        let Ok(inner) = mount.point.strip_prefix(root.path()) else {
            continue;
        };
        if !hinders_renames(inner) || found.iter().any(|one| one.path == mount.point) {
            continue;
        }
        // The mount below it: the last one with the longest prefix of its path.
        let below = all
            .iter()
            .filter(|one| one.point != mount.point && mount.point.starts_with(&one.point))
            .max_by_key(|one| one.point.as_os_str().len());
        let on_itself = below.is_some_and(|below| {
            let inside = mount.point.strip_prefix(&below.point);
            below.device == mount.device
                && inside.is_ok_and(|inside| below.top.join(inside) == mount.top)
        });
        found.push(MountPlace {
            path: mount.point.clone(),
            on_itself,
        });
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    found
}

/// The type of the file system that holds a path, as the kernel names it.
pub fn mount_of(path: &Path) -> Option<Vec<u8>> {
    let path = path.canonicalize().ok()?;
    let all = read_mounts(Path::new("/proc/self"));
    let on = all
        .into_iter()
        .filter(|mount| path.starts_with(&mount.point));
    on.max_by_key(|mount| mount.point.as_os_str().len())
        .map(|mount| mount.kind)
}

/// Directories of the root that are mount points in this process's namespace.
pub(super) fn notices(root: &DataDir, host: &Host) -> Vec<Notice> {
    let points: HashSet<_> = read_mounts(&host.proc.join("self"))
        .into_iter()
        .map(|mount| mount.point)
        .collect();
    let is_ours = |path: &PathBuf| {
        path.strip_prefix(root.path())
            .is_ok_and(|inner| hinders_renames(inner) || inner == Path::new("aufs"))
    };
    let mut mounted: Vec<_> = points.into_iter().filter(is_ours).collect();
    mounted.sort_unstable();
    mounted
        .into_iter()
        .map(|path| Notice::MountPoint { path })
        .collect()
}

/// Whether a mount point at this place in a root prevents a rename to it or below it. If `containers` is a mount point,
/// what is renamed in it is staged there. What daemons mount inside a container's directory (`shm`, `mounts`,
/// `secrets`) is never renamed.
fn hinders_renames(inner: &Path) -> bool {
    let names: Vec<_> = inner.iter().map(OsStrExt::as_bytes).collect();
    match names[..] {
        [b"image" | b"devicemapper"] | [b"image", b"devicemapper"] | [b"containers", _] => true,
        [b"containers", _, file] => file.starts_with(b"config."),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_branch_path_may_hold_an_equals_sign() {
        assert_eq!(
            parse_branch(b"/a=b/diff/x=rw\n").unwrap(),
            Path::new("/a=b/diff/x")
        );
        assert!(parse_branch(b"").is_none());
    }
}
