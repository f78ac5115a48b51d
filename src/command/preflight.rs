//! Obstacles to a run, found before anything is written: a dry run reports all of them, a run stops before its first
//! step.
//!
//! Each obstacle is a text that names the object first and the way out last. Nothing here changes anything.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::sys::resource::{Resource, getrlimit};
use nix::sys::statvfs::statvfs;

use super::earlier_run::EarlierRun;
use super::error::Error;
use super::read_only::read_only;
use crate::commit::has_own_mount;
use crate::daemon::first_start::Switch;
use crate::daemon::{Host, MountPlace, mounts_in_the_way};
use crate::docker::{CONFIG, LEGACY_CONFIG, Model, Root};
use crate::engine::Job;
use crate::mount_table::{directory_at, paths_of};
use crate::shell::{SameCommand, word};
use crate::staging::STAGE_NAME;
use crate::sys::{self, frozen};
use crate::tree::escape;
use crate::units::Bytes;
use crate::words::counted;

/// What prevents the renames, given the root as it is.
pub(super) fn of_the_root(root: &Root, host: &Host) -> Vec<String> {
    let mut found: Vec<_> = mounts_in_the_way(root.data_dir(), host)
        .iter()
        .map(mounted)
        .collect();
    found.extend(of_a_read_only_place(root.path()));
    found.extend(read_only_containers(root.path()));
    found.extend(containers_of_another(root.path()));
    found.extend(frozen_places(root.path()));
    found
}

/// The obstacle if `containers` is mounted from another Docker root: the configs of that root would be replaced.
fn containers_of_another(root: &Path) -> Option<String> {
    let containers = root.join("containers");
    let mounts = fs::read("/proc/self/mountinfo").ok()?;
    let (directory, device) = directory_at(&mounts, &containers)?;
    let others = paths_of(&mounts, (&directory, &device));
    // The same root may be visible at several paths.
    let place = |path: &Path| path.metadata().map(|meta| (meta.dev(), meta.ino())).ok();
    let is_another = |path: &PathBuf| {
        path.parent()
            .is_some_and(|other| other.join("image").is_dir() && place(other) != place(root))
    };
    let other = others.into_iter().find(is_another)?;
    Some(format!(
        "{}: is mounted from {}, which is in another Docker root, so that root's containers would be converted here: \
         `umount {}`, and give this root its own containers",
        shown(&containers),
        shown(&other),
        word(&containers)
    ))
}

/// The obstacle if a root's containers are somewhere else: it would be converted without them.
pub(super) fn of_the_containers(root: &Root, model: &Model) -> Option<String> {
    let directory = root.path().join("containers");
    let is_one = |name: std::ffi::OsString| name != STAGE_NAME;
    let has_none = fs::read_dir(&directory).map_or(true, |entries| {
        let mut names = entries.flatten().map(|entry| entry.file_name());
        !names.any(is_one)
    });
    if model.mounts.is_empty() || !has_none {
        return None;
    }
    Some(format!(
        "{}: is empty, but image/aufs/layerdb/mounts has records of {}: is its file system mounted? If not, mount it, \
         then run the same command again; if these containers were removed for good, move their records away",
        shown(&directory),
        counted(model.mounts.len() as u64, "container"),
    ))
}

/// The limits that the pool's files exceed.
pub(super) fn of_the_pool(root: &Path, job: &dyn Job) -> Vec<String> {
    let Some(sizes) = job.pool_sizes() else {
        return Vec::new();
    };
    let largest = sizes.data.max(sizes.metadata);
    let mut found = Vec::new();
    if let Ok((limit, _)) = getrlimit(Resource::RLIMIT_FSIZE)
        && largest.0 > limit
    {
        found.push(format!(
            "the process: may write files of at most {}, but the pool has one of {largest}: `ulimit -f unlimited`, \
             then run the same command again",
            Bytes(limit)
        ));
    }
    if let Some((kind, limit)) = largest_file(root)
        && largest.0 > limit
    {
        found.push(format!(
            "{}: a file on {kind} can have at most {}, but the pool has one of {largest}: --data-size makes it \
             smaller, --thin-pool needs none",
            shown(root),
            Bytes(limit)
        ));
    }
    found
}

/// Why the ordered change of the daemon's settings is impossible.
pub(super) fn untold(switch: Option<&Switch>) -> Vec<String> {
    match switch {
        Some(Switch::ByHand { lines }) => vec![format!(
            "--switch-daemon cannot change this host's settings, so change them by hand: {}",
            lines.join("; ")
        )],
        Some(switch @ Switch::Edit(_)) => crate::daemon::config::hindrances(switch)
            .into_iter()
            .map(|what| format!("--switch-daemon: {what}"))
            .collect(),
        Some(Switch::Nothing) | None => Vec::new(),
    }
}

/// The reasons in [`untold`], with the way out for a run that has written nothing.
pub(super) fn of_the_daemon(root: &Path, switch: Option<&Switch>) -> Vec<String> {
    let (then, ordered) = match switch {
        Some(Switch::ByHand { .. }) => ("; then", untold(switch)),
        _ => ("; or", untold(switch)),
    };
    let way_on = |what: String| {
        // The same run, with all its other options.
        let command = SameCommand::new("convert", root).without("--switch-daemon");
        format!("{what}{then} run again without --switch-daemon: `{command}`")
    };
    ordered.into_iter().map(way_on).collect()
}

/// Fails if there are any obstacles. `resumed` is the conversion being continued.
pub(super) fn expect_none(
    root: &Path,
    resumed: Option<&EarlierRun>,
    obstacles: &[String],
) -> Result<(), Error> {
    if obstacles.is_empty() {
        return Ok(());
    }
    Err(Error::Obstacles {
        path: root.to_owned(),
        kept: resumed.map(|resumed| resumed.done.len()),
        obstacles: obstacles.to_vec(),
    })
}

/// The message of `resume` about too little space: it has none of the options that make a conversion write less, and
/// the layers that it continues from must stay as they are.
pub(super) fn of_the_space_to_go_on(path: &Path, needed: Bytes, free: Bytes) -> String {
    format!(
        "{}: the conversion writes {needed} in all, but there is room for only {free}, including what it has already \
         written: free up {} on that file system, but leave the Docker root as it is",
        shown(path),
        Bytes(needed.0.saturating_sub(free.0))
    )
}

fn mounted(mount: &MountPlace) -> String {
    let path = shown(&mount.path);
    let name = word(&mount.path);
    if mount.on_itself {
        return format!(
            "{path}: is mounted on itself, and nothing can be renamed to a mount point: unmount it first: `umount \
             {name}`"
        );
    }
    let kept = word(&beside(&mount.path));
    format!(
        "{path}: is a mount point, and no file can be renamed from one mount to another: copy its contents to the \
         root's own file system before you unmount it: `cp -a {name} {kept} && umount {name} && rmdir {name} && mv \
         {kept} {name}`, and remove its line from /etc/fstab"
    )
}

fn beside(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".copy");
    name.into()
}

fn of_a_read_only_place(root: &Path) -> Option<String> {
    read_only(root).map(|point| {
        format!(
            "{}: is on a read-only file system: `mount -o remount,rw {}`",
            shown(root),
            word(&point)
        )
    })
}

/// The obstacle if the containers are on a read-only mount of their own: their configs are replaced there.
fn read_only_containers(root: &Path) -> Option<String> {
    let containers = root.join("containers");
    match has_own_mount(root) {
        Ok(true) if read_only(root).is_none() => of_a_read_only_place(&containers),
        _ => None,
    }
}

/// Obstacles in files that are replaced, and in directories whose entries come and go.
fn frozen_places(root: &Path) -> Vec<String> {
    let mut places = vec![
        root.to_owned(),
        root.join("image"),
        root.join("image/devicemapper"),
    ];
    if let Ok(true) = has_own_mount(root) {
        places.push(root.join("containers"));
    }
    let containers = fs::read_dir(root.join("containers")).into_iter().flatten();
    let mut containers: Vec<_> = containers.flatten().map(|entry| entry.path()).collect();
    containers.sort_unstable();
    for container in containers {
        places.extend([CONFIG, LEGACY_CONFIG].map(|name| container.join(name)));
        places.push(container);
    }
    let told = |path: PathBuf| {
        let (what, letter) = match frozen(&path)? {
            sys::Immutability::Immutable => ("immutable", 'i'),
            sys::Immutability::AppendOnly => ("append-only", 'a'),
        };
        Some(format!(
            "{}: is {what}, but must be changed: `chattr -{letter} {}`",
            shown(&path),
            word(&path)
        ))
    };
    places.into_iter().filter_map(told).collect()
}

/// The maximum file size of the root's file system in bytes, if a pool may need more.
/// Source: linux v6.6 `Documentation/filesystems/ext2.rst`, "Limitations"; `include/uapi/linux/msdos_fs.h`.
fn largest_file(root: &Path) -> Option<(&'static str, u64)> {
    const GIB: u64 = 1 << 30;
    let block = statvfs(root).ok()?.block_size();
    let mount = crate::daemon::mount_of(root)?;
    match (&*mount, block) {
        (b"ext2", 1024) => Some(("ext2 with 1 KiB blocks", 16 * GIB)),
        (b"ext3", 1024) => Some(("ext3 with 1 KiB blocks", 16 * GIB)),
        (b"ext2" | b"ext3", 2048) => Some(("ext2 or ext3 with 2 KiB blocks", 256 * GIB)),
        (b"ext2" | b"ext3", _) => Some(("ext2 or ext3", 2048 * GIB)),
        (b"vfat" | b"msdos", _) => Some(("vfat", (4 * GIB) - 1)),
        (b"ext4", _) => Some(("ext4", 16 * 1024 * GIB)),
        _ => None,
    }
}

fn shown(path: &Path) -> String {
    use std::os::unix::ffi::OsStrExt;
    escape(path.as_os_str().as_bytes())
}
