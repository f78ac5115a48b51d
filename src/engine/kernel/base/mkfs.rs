//! The file system of the base device, made with the programs and options that Docker's driver uses.
//!
//! Source: moby v20.10 `daemon/graphdriver/devmapper/deviceset.go`, `createFilesystem`. The caller chooses between the
//! two kinds of file system: Docker reads the kind from the device at each mount.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use uuid::Uuid;

use super::error::{Error, Options};
use super::{child, superblock};
use crate::devicemapper::driver_files::FileSystem;
use crate::sys::kernel_version;
use crate::sys::program::{find_in, program_directories};

/// The inode tables and the journal are written at once. Otherwise the kernel would write them later for each snapshot;
/// this way all snapshots share them. Discards are useless on a device that maps nothing yet.
const EXT4_EXTENDED: &str = "nodiscard,lazy_itable_init=0,lazy_journal_init=0";

/// For e2fsprogs before 1.42, which does not know the third option.
const EXT4_EXTENDED_OLD: &str = "nodiscard,lazy_itable_init=0";

/// The first kernel that can read what `mkfs.xfs` makes by default since xfsprogs 3.2.3: checksums and the free inode
/// tree.
const KERNEL_WITH_XFS_FINOBT: (u32, u32) = (3, 16);

/// The programs that make one kind of file system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Programs {
    /// The programs of e2fsprogs.
    Ext4 {
        /// `mkfs.ext4`.
        mkfs: PathBuf,
        /// `tune2fs`.
        tune2fs: PathBuf,
    },
    /// The programs of xfsprogs.
    Xfs {
        /// `mkfs.xfs`.
        mkfs: PathBuf,
    },
}

/// Looks for the programs in PATH and in the system's directories; changes nothing.
///
/// # Errors
///
/// [`Error::Missing`].
pub fn find_programs(kind: FileSystem) -> Result<Programs, Error> {
    find_programs_in(kind, &program_directories())
}

/// [`find_programs`], but only in these directories; the first one that has a program wins.
///
/// # Errors
///
/// [`Error::Missing`].
pub fn find_programs_in(kind: FileSystem, directories: &[PathBuf]) -> Result<Programs, Error> {
    let find =
        |program, package| find_in(directories, program).ok_or(Error::Missing { program, package });
    Ok(match kind {
        FileSystem::Ext4 => Programs::Ext4 {
            mkfs: find("mkfs.ext4", "e2fsprogs")?,
            tune2fs: find("tune2fs", "e2fsprogs")?,
        },
        FileSystem::Xfs => Programs::Xfs {
            mkfs: find("mkfs.xfs", "xfsprogs")?,
        },
    })
}

/// Makes the file system on an empty device, and returns its UUID. Durable on return.
///
/// # Errors
///
/// [`Error::Failed`] with the program's output, [`Error::Interrupted`] soon after [`Options::cancel`] was set, and all
/// others except [`Error::Missing`].
pub fn make(programs: &Programs, device: &Path, options: &Options) -> Result<Uuid, Error> {
    let mkfs = match programs {
        Programs::Ext4 { mkfs, tune2fs } => {
            make_ext4(mkfs, device, options)?;
            // No check is ever due, whatever the number of mounts or the time.
            let never = ["-c", "-1", "-i", "0"].map(OsString::from);
            child::run(tune2fs, &never, device, &options.cancel)?;
            mkfs
        }
        Programs::Xfs { mkfs } => {
            child::run(
                mkfs,
                &xfs_arguments(kernel_version()),
                device,
                &options.cancel,
            )?;
            mkfs
        }
    };
    let file = File::open(device).map_err(device_error(device, "open"))?;
    file.sync_all().map_err(device_error(device, "sync"))?;
    let (kind, name) = match programs {
        Programs::Ext4 { .. } => (FileSystem::Ext4, "ext4"),
        Programs::Xfs { .. } => (FileSystem::Xfs, "xfs"),
    };
    uuid(device, kind)?.ok_or_else(|| Error::NoSuperblock {
        device: device.to_owned(),
        kind: name,
        program: mkfs.clone(),
    })
}

/// The UUID of the file system on a device; `None` if there is none of that kind.
///
/// # Errors
///
/// [`Error::Device`].
pub fn uuid(device: &Path, kind: FileSystem) -> Result<Option<Uuid>, Error> {
    let file = File::open(device).map_err(device_error(device, "open"))?;
    let mut first = [0; 4096];
    file.read_exact_at(&mut first, 0)
        .map_err(device_error(device, "read"))?;
    Ok(match kind {
        FileSystem::Ext4 => superblock::ext4_uuid(&first),
        FileSystem::Xfs => superblock::xfs_uuid(&first),
    })
}

/// The UUID of the file system, of either kind, that starts with these bytes.
pub(in crate::engine::kernel) fn uuid_in(first: &[u8; 4096]) -> Option<Uuid> {
    superblock::ext4_uuid(first).or_else(|| superblock::xfs_uuid(first))
}

fn device_error(device: &Path, op: &'static str) -> impl FnOnce(io::Error) -> Error {
    move |source| Error::Device {
        device: device.to_owned(),
        op,
        source,
    }
}

fn make_ext4(mkfs: &Path, device: &Path, options: &Options) -> Result<(), Error> {
    let run = |extended| {
        let arguments = ext4_arguments(extended, options.bytes_per_inode);
        child::run(mkfs, &arguments, device, &options.cancel)
    };
    match run(EXT4_EXTENDED) {
        Err(error @ Error::Failed { .. }) => {
            log::debug!("{error}; once more without lazy_journal_init");
            run(EXT4_EXTENDED_OLD)
        }
        made => made,
    }
}

fn ext4_arguments(extended: &str, bytes_per_inode: Option<u32>) -> Vec<OsString> {
    let mut arguments = vec!["-E".into(), extended.into()];
    if let Some(bytes) = bytes_per_inode {
        arguments.extend(["-i".into(), bytes.to_string().into()]);
    }
    arguments
}

fn xfs_arguments(kernel: Option<(u32, u32)>) -> Vec<OsString> {
    // An unknown kernel is some unusual new one.
    if kernel.is_some_and(|version| version < KERNEL_WITH_XFS_FINOBT) {
        vec!["-m".into(), "crc=0,finobt=0".into()]
    } else {
        Vec::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ext4_gets_dockers_options() {
        assert_eq!(
            ext4_arguments(EXT4_EXTENDED, None),
            ["-E", "nodiscard,lazy_itable_init=0,lazy_journal_init=0"]
        );
        assert_eq!(
            ext4_arguments(EXT4_EXTENDED_OLD, Some(4096)),
            ["-E", "nodiscard,lazy_itable_init=0", "-i", "4096"]
        );
    }

    #[test]
    fn xfs_for_a_kernel_before_3_16_has_no_checksums() {
        for (kernel, old) in [
            (Some((2, 6)), true),
            (Some((3, 15)), true),
            (Some((3, 16)), false),
            (Some((10, 0)), false),
            (None, false),
        ] {
            let expected: &[&str] = if old { &["-m", "crc=0,finobt=0"] } else { &[] };
            assert_eq!(xfs_arguments(kernel), expected, "{kernel:?}");
        }
    }
}
