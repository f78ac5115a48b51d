//! Finds what has our mark; changes nothing.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::OFlag;

use super::left::{Device, Error, Leftovers};
use crate::mount_table::{mount_points, mount_points_of};
use crate::staging::{OWN_MOUNTS, STAGE_NAME};
use crate::sys::device_mapper::{self, DeviceMapper, Line};
use crate::sys::{block, loops};

/// The mounts that this process sees.
const MOUNTINFO: &str = "/proc/self/mountinfo";

/// All block devices, including loop devices.
const SYS_BLOCK: &str = "/sys/block";

/// The directory of the pool's files in the staging directory.
const POOL_FILES: &str = "devicemapper/devicemapper";

/// The suffix that sysfs adds to the path of a file that has been deleted.
/// Source: linux v6.6 `fs/d_path.c`.
const DELETED: &[u8] = b" (deleted)";

/// Finds what killed runs on `root` left. `uuid_prefix` is the prefix of their devices' UUIDs:
/// `AUFS2DM-<major>:<minor>-<inode>-` of the root. Changes nothing. Without device-mapper or loop devices in the
/// kernel, there are none of these.
///
/// # Errors
///
/// [`Error::Look`] and [`Error::List`].
///
/// # Panics
///
/// Panics if the prefix does not have that form: a shorter one would match devices that are not ours.
pub fn find(uuid_prefix: &str, root: &Path) -> Result<Leftovers, Error> {
    assert!(
        uuid_prefix.starts_with("AUFS2DM-") && uuid_prefix.ends_with('-') && uuid_prefix.len() > 9,
        "{uuid_prefix}: the mark of one root"
    );
    // The kernel reports paths without symbolic links.
    let stage = root
        .canonicalize()
        .map_err(look_error(root))?
        .join(STAGE_NAME);
    let (devices, numbers) = find_devices(uuid_prefix)?;
    Ok(Leftovers {
        mounts: find_mounts(&stage, &numbers)?,
        devices,
        loops: find_loops(&stage)?,
        stage,
    })
}

fn look_error(path: impl AsRef<Path>) -> impl FnOnce(io::Error) -> Error {
    move |source| Error::Look {
        path: path.as_ref().to_owned(),
        source,
    }
}

fn find_mounts(stage: &Path, devices: &[String]) -> Result<Vec<PathBuf>, Error> {
    let text = fs::read(MOUNTINFO).map_err(look_error(MOUNTINFO))?;
    Ok(mounts_of_ours(stage, devices, &text))
}

/// Our mount points in a staging directory, and those of devices by their numbers; innermost first, and of two at the
/// same place the upper one first. Other mounts there are the operator's.
fn mounts_of_ours(stage: &Path, devices: &[String], mountinfo: &[u8]) -> Vec<PathBuf> {
    let mut points = mount_points(mountinfo);
    let on_devices = devices
        .iter()
        .flat_map(|device| mount_points_of(mountinfo, device));
    let on_devices: HashSet<_> = on_devices.collect();
    let is_ours = |point: &Path| {
        let inside = |ours| {
            let top = stage.join(ours);
            point.starts_with(&top) && point != top
        };
        OWN_MOUNTS.into_iter().any(inside)
    };
    points.retain(|point| is_ours(point) || on_devices.contains(point));
    points.reverse();
    points.sort_by_key(|point| std::cmp::Reverse(point.components().count()));
    points
}

/// The devices in the order of removal, and their numbers.
fn find_devices(uuid_prefix: &str) -> Result<(Vec<Device>, Vec<String>), Error> {
    let dm = match DeviceMapper::open() {
        Ok(dm) => dm,
        Err(device_mapper::Error::Absent(error)) => {
            if !is_absence(&error) {
                log::warn!("device-mapper: {error}: not searched for devices of an earlier run");
            }
            return Ok(Default::default());
        }
        Err(error) => return Err(Error::List(error)),
    };
    let mut ours = dm.list().map_err(Error::List)?;
    ours.retain(|state| state.uuid.starts_with(uuid_prefix));
    // A device whose creator was killed before it had a table blocks nothing.
    ours.sort_by_cached_key(|state| removal(&dm.table(&state.name).unwrap_or_default()));
    let numbers = ours.iter().map(|state| block::number(state.rdev)).collect();
    let devices = ours.into_iter().map(|state| Device {
        name: state.name,
        uuid: state.uuid,
    });
    Ok((devices.collect(), numbers))
}

/// The position in the order of removal: thin devices, then the pool, then what the pool is built on.
fn removal(table: &[Line]) -> u8 {
    match table.first().map(|line| line.target.as_str()) {
        Some("thin-pool") => 1,
        Some("linear") => 2,
        _ => 0,
    }
}

/// Whether the error means that the kernel has no such feature, as opposed to missing permission.
fn is_absence(error: &io::Error) -> bool {
    let errno = error.raw_os_error().map(Errno::from_raw);
    matches!(
        errno,
        Some(Errno::ENOENT | Errno::ENOTDIR | Errno::ENXIO | Errno::ENODEV)
    )
}

/// The nodes of loop devices on files below the staging directory.
///
/// For an existing file, the path from sysfs is not trusted. It starts at the root of the mount through which the file
/// was opened: a path from the namespace of a killed run lacks its beginning, and a path from another container can
/// look like ours.
pub(super) fn find_loops(stage: &Path) -> Result<Vec<PathBuf>, Error> {
    let mut found = loops_on_deleted_files(stage)?;
    for path in pool_files(stage)? {
        let flags = OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK;
        let file = OpenOptions::new()
            .read(true)
            .custom_flags(flags.bits())
            .open(&path)
            .map_err(look_error(&path))?;
        found.extend(or_none(loops::attached_to(&file), SYS_BLOCK)?);
    }
    found.sort_unstable();
    found.dedup();
    Ok(found)
}

/// Regular files in the pool's directory, if that is in its proper place.
fn pool_files(stage: &Path) -> Result<Vec<PathBuf>, Error> {
    let directory = stage.join(POOL_FILES);
    let resolved = directory.canonicalize();
    if or_none(resolved.map(Some), &directory)?.as_ref() != Some(&directory) {
        return Ok(Vec::new());
    }
    let mut files = Vec::new();
    for entry in fs::read_dir(&directory).map_err(look_error(&directory))? {
        let entry = entry.map_err(look_error(&directory))?;
        let kind = entry.file_type().map_err(look_error(&directory))?;
        files.extend(kind.is_file().then(|| entry.path()));
    }
    Ok(files)
}

fn loops_on_deleted_files(stage: &Path) -> Result<Vec<PathBuf>, Error> {
    let Some(devices) = or_none(fs::read_dir(SYS_BLOCK).map(Some), SYS_BLOCK)? else {
        return Ok(Vec::new());
    };
    let mut found = Vec::new();
    for device in devices {
        let device = device.map_err(look_error(SYS_BLOCK))?;
        // Most are not loop devices, or are loop devices without a file.
        let backing = fs::read(device.path().join("loop/backing_file")).unwrap_or_default();
        if is_deleted_file_below(stage, &backing) {
            found.push(Path::new("/dev").join(device.file_name()));
        }
    }
    Ok(found)
}

/// Whether a loop device's file is deleted and was below `stage`. sysfs gives its path, unescaped, and a newline.
fn is_deleted_file_below(stage: &Path, backing: &[u8]) -> bool {
    let path = backing.strip_suffix(b"\n").unwrap_or(backing);
    path.strip_suffix(DELETED)
        .map(|path| Path::new(OsStr::from_bytes(path)))
        .is_some_and(|path| path.starts_with(stage) && path != stage)
}

/// The value read; a default if the path does not exist.
fn or_none<T: Default>(answer: io::Result<T>, path: impl AsRef<Path>) -> Result<T, Error> {
    match answer {
        Err(error) if is_absence(&error) => Ok(T::default()),
        answer => answer.map_err(look_error(path)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_below_the_staging_directory_and_of_our_devices_are_found_innermost_first() {
        let stage = Path::new("/var/lib/my docker/.aufs2dm");
        let text = b"20 1 8:1 / / rw - ext4 /dev/sda rw\n\
            30 20 253:2 / /var/lib/my\\040docker/.aufs2dm/mnt/0 rw - ext4 /dev/dm-2 rw\n\
            31 30 253:2 / /var/lib/my\\040docker/.aufs2dm/mnt/0/deeper rw - ext4 /dev/dm-2 rw\n\
            32 20 253:3 / /var/lib/my\\040docker/.aufs2dm/mnt/\\134\\012 rw - ext4 /dev/dm-3 rw\n\
            33 20 8:2 / /var/lib/my\\040docker/.aufs2dm rw - ext4 /dev/sdb rw\n\
            34 20 8:2 / /var/lib/my\\040docker/.aufs2dm-old/mnt/0 rw - ext4 /dev/sdb rw\n\
            35 20 8:2 / /other/.aufs2dm/mnt/0 rw - ext4 /dev/sdb rw\n\
            36 20 8:2 / /var/lib/my docker/.aufs2dm/mnt/7 rw - ext4 /dev/sdb rw\n";
        let found = mounts_of_ours(stage, &[], text);
        let names = ["mnt/0/deeper", "mnt/\\\n", "mnt/0"].map(|name| stage.join(name));
        assert_eq!(found, names);
        let found = mounts_of_ours(stage, &["8:2".to_owned()], text);
        let others = [
            "/var/lib/my docker/.aufs2dm-old/mnt/0",
            "/var/lib/my docker/.aufs2dm",
            "/other/.aufs2dm/mnt/0",
            "/var/lib/my",
        ];
        let others = others.map(PathBuf::from);
        assert!(
            others.iter().all(|other| found.contains(other)),
            "{found:?}"
        );
        assert_eq!(found.len(), 3 + 4);
    }

    #[test]
    fn the_path_of_a_loop_devices_file_counts_once_the_file_is_deleted() {
        let stage = Path::new("/d/.aufs2dm");
        for (told, ours) in [
            (
                "/d/.aufs2dm/devicemapper/devicemapper/data (deleted)\n",
                true,
            ),
            ("/d/.aufs2dm/a\nb (deleted)\n", true),
            ("/d/.aufs2dm/devicemapper/devicemapper/data\n", false),
            ("/d/.aufs2dm (deleted)\n", false),
            ("/d/.aufs2dm-old/data (deleted)\n", false),
            ("/.aufs2dm/data (deleted)\n", false),
            ("", false),
        ] {
            assert_eq!(
                is_deleted_file_below(stage, told.as_bytes()),
                ours,
                "{told:?}"
            );
        }
    }

    #[test]
    fn a_pool_directory_behind_a_link_is_not_looked_into() {
        let dir = tempfile::tempdir().unwrap();
        let top = dir.path().canonicalize().unwrap();
        let elsewhere = top.join("elsewhere");
        fs::create_dir_all(elsewhere.join("devicemapper")).unwrap();
        fs::write(elsewhere.join("devicemapper/data"), "").unwrap();
        let stage = top.join("stage");
        fs::create_dir(&stage).unwrap();
        assert_eq!(pool_files(&stage).unwrap(), [""; 0].map(PathBuf::from));
        std::os::unix::fs::symlink(&elsewhere, stage.join("devicemapper")).unwrap();
        assert_eq!(pool_files(&stage).unwrap(), [""; 0].map(PathBuf::from));
        fs::remove_file(stage.join("devicemapper")).unwrap();
        fs::rename(&elsewhere, stage.join("devicemapper")).unwrap();
        let data = stage.join(POOL_FILES).join("data");
        assert_eq!(pool_files(&stage).unwrap(), [data]);
    }

    #[test]
    #[should_panic(expected = "the mark of one root")]
    fn a_prefix_of_other_roots_is_refused() {
        let _ = find("AUFS2DM-", Path::new("/"));
    }
}
