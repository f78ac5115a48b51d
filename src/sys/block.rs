//! Block devices and the files that are used in their place.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Seek, SeekFrom};
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};
use nix::libc::{O_DIRECT, O_EXCL};
use nix::sys::stat::{major, makedev, minor};

use crate::units::Bytes;

/// How long devtmpfs and udev may take to make a node.
const NODE_TIMEOUT: Duration = Duration::from_secs(5);

/// The kind of file at a path, symlinks followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A block device with this number.
    Block {
        /// `st_rdev`.
        rdev: u64,
    },
    /// A regular file.
    File {
        /// `st_dev`.
        dev: u64,
        /// `st_ino`.
        inode: u64,
    },
    /// Neither of the two.
    Other,
}

/// Determines the kind of file at a path.
///
/// # Errors
///
/// The errors of `stat`.
pub fn kind(path: &Path) -> io::Result<Kind> {
    let meta = fs::metadata(path)?;
    let kind = meta.file_type();
    Ok(if kind.is_block_device() {
        Kind::Block { rdev: meta.rdev() }
    } else if kind.is_file() {
        Kind::File {
            dev: meta.dev(),
            inode: meta.ino(),
        }
    } else {
        Kind::Other
    })
}

/// The size of an open block device or file.
///
/// # Errors
///
/// The errors of `lseek`.
pub fn size(mut file: &File) -> io::Result<Bytes> {
    file.seek(SeekFrom::End(0)).map(Bytes)
}

/// Opens a block device for reading, as its only user until the file is closed.
///
/// # Errors
///
/// `EBUSY` if it is mounted, used as swap, or part of a device-mapper or RAID device.
pub fn open_exclusive(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .custom_flags(O_EXCL)
        .open(path)
}

/// Reads 4 KiB without the page cache, which may hold what was there before device-mapper wrote. If the file system
/// does not support this, it reads through the page cache.
///
/// # Errors
///
/// The errors of `open` and `pread`.
pub fn read_direct(path: &Path, offset: u64, block: &mut [u8; 4096]) -> io::Result<()> {
    #[repr(C, align(4096))]
    struct Aligned([u8; 4096]);
    let mut aligned = Box::new(Aligned([0; 4096]));
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(O_DIRECT)
        .open(path)
        .or_else(|error| match error.kind() {
            io::ErrorKind::InvalidInput => File::open(path),
            _ => Err(error),
        })?;
    file.read_exact_at(&mut aligned.0, offset)?;
    *block = aligned.0;
    Ok(())
}

/// Makes the next reads of a file or block device come from the disk as far as possible: drops what is cached of it and
/// already written. The cache of a block device may be older than what device-mapper wrote without it.
///
/// # Errors
///
/// The errors of `BLKFLSBUF`, which needs `CAP_SYS_ADMIN`. None for a file, whose cache is never older than the file.
pub fn drop_cache(file: &File) -> io::Result<()> {
    if file.metadata()?.file_type().is_block_device() {
        return flush_buffers(file);
    }
    if let Err(errno) = posix_fadvise(file, 0, 0, PosixFadviseAdvice::POSIX_FADV_DONTNEED) {
        log::debug!("the cache of a file was not dropped: {errno}");
    }
    Ok(())
}

#[allow(unsafe_code)]
fn flush_buffers(device: &File) -> io::Result<()> {
    mod ioctl {
        // Source: linux v6.6 `include/uapi/linux/fs.h`, `BLKFLSBUF`.
        nix::ioctl_none!(flush_buffers, 0x12, 97);
    }
    // SAFETY: the descriptor is open for the duration of the call, which takes no argument.
    unsafe { ioctl::flush_buffers(device.as_raw_fd()) }?;
    Ok(())
}

/// Parses a device number like `8:1`; the result is in the form of `st_rdev`.
pub fn parse_number(text: &str) -> Option<u64> {
    let (major, minor) = text.split_once(':')?;
    Some(makedev(major.parse().ok()?, minor.parse().ok()?))
}

/// The device number as `major:minor`, as in device-mapper tables and `/sys/dev/block`.
pub fn number(rdev: u64) -> String {
    format!("{}:{}", major(rdev), minor(rdev))
}

/// The node in `/dev` that the kernel itself creates for a block device, such as `/dev/dm-3`. Waits briefly for it, and
/// checks that it is this device's.
///
/// # Errors
///
/// There is no such device, or it has no node.
pub fn wait_for_node(rdev: u64) -> io::Result<PathBuf> {
    let sys = sysfs(rdev);
    let uevent = fs::read_to_string(sys.join("uevent"))?;
    let name = uevent
        .lines()
        .find_map(|line| line.strip_prefix("DEVNAME="));
    let name =
        name.ok_or_else(|| io::Error::other(format!("{}: no device name", sys.display())))?;
    let path = Path::new("/dev").join(name);
    let end = Instant::now() + NODE_TIMEOUT;
    loop {
        if kind(&path).ok() == Some(Kind::Block { rdev }) {
            return Ok(path);
        }
        if Instant::now() > end {
            let what = format!("{}: no node for device {}", path.display(), number(rdev));
            return Err(io::Error::new(io::ErrorKind::NotFound, what));
        }
        sleep(Duration::from_millis(5));
    }
}

/// The names of the devices that are built on this one: `dm-3`, `md0`, …
pub fn holders(rdev: u64) -> Vec<String> {
    let entries = fs::read_dir(sysfs(rdev).join("holders"));
    let names = entries
        .into_iter()
        .flatten()
        .filter_map(Result::ok)
        .map(|entry| entry.file_name().to_string_lossy().into_owned());
    names.collect()
}

/// Whether the kernel refuses to write to the device.
pub fn is_read_only(rdev: u64) -> bool {
    let text = fs::read(sysfs(rdev).join("ro"));
    text.is_ok_and(|text| text.starts_with(b"1"))
}

/// The device-mapper name of a block device; `None` if it is not a device-mapper device.
pub fn device_mapper_name(rdev: u64) -> Option<String> {
    let text = fs::read_to_string(sysfs(rdev).join("dm/name")).ok()?;
    Some(text.trim_end_matches('\n').to_owned())
}

/// The file that a loop device is attached to, as the kernel names it; `None` if it is not a loop device, or is not
/// attached.
/// Source: linux v6.6 `drivers/block/loop.c`, `loop_attr_backing_file_show`.
pub fn loop_file(rdev: u64) -> Option<PathBuf> {
    let mut name = fs::read(sysfs(rdev).join("loop/backing_file")).ok()?;
    if name.ends_with(b"\n") {
        name.pop();
    }
    Some(OsString::from_vec(name).into())
}

fn sysfs(rdev: u64) -> PathBuf {
    Path::new("/sys/dev/block").join(number(rdev))
}
