//! Owner, mode, extended attributes and times, set in this order: a new owner removes setuid bits and capabilities, and
//! every change updates the times.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::sync::OnceLock;
use std::sync::atomic::Ordering;

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat};
use nix::sys::stat::{
    FchmodatFlags, FileStat, Mode, UtimensatFlags, fchmod, fchmodat, fstat, fstatat, futimens,
    utimensat,
};
use nix::sys::time::TimeSpec;
use nix::sys::utsname::uname;
use nix::unistd::{Gid, Uid, fchown, fchownat, getegid, geteuid};
use xattr::FileExt;

use super::error::{ClampedTime, Failure, failed};
use super::workers::Workers;
use crate::tree::{Meta, Timestamp, Xattrs, escape};

const OWNER: &str = "set the owner";
const MODE: &str = "set the mode";
const TIMES: &str = "set the times";

/// The attributes that this process gives to the files it makes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Process {
    pub(super) gid: u32,
    uid: u32,
    /// `None` if the kernel does not report it.
    umask: Option<u16>,
}

/// The attributes of a new file that are right from the start.
#[derive(Clone, Copy, Debug)]
pub(super) struct Start {
    /// The mode with which the file is made.
    pub(super) mode: Mode,
    mode_is_right: bool,
    owner_is_right: bool,
}

impl Start {
    /// No attribute is right.
    pub(super) const WRONG: Self = Self {
        mode: Mode::S_IRWXU,
        mode_is_right: false,
        owner_is_right: false,
    };
}

impl Process {
    pub(super) fn new() -> Self {
        Self {
            gid: getegid().as_raw(),
            uid: geteuid().as_raw(),
            umask: umask(),
        }
    }

    /// How to make a file. `group_is_ours`: new files in its directory get this process's group.
    ///
    /// The directory must not have a default ACL.
    pub(super) fn start(&self, meta: &Meta, group_is_ours: bool) -> Start {
        let mode_is_right = self
            .umask
            .is_some_and(|umask| meta.mode & (umask | 0o7000) == 0);
        let mode = if mode_is_right { meta.mode } else { 0o700 };
        Start {
            mode: Mode::from_bits_truncate(mode.into()),
            mode_is_right,
            owner_is_right: group_is_ours && (meta.uid, meta.gid) == (self.uid, self.gid),
        }
    }
}

/// The umask. Reading it with `umask` would change it for all threads meanwhile. The kernel reports it since Linux 4.7.
fn umask() -> Option<u16> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("Umask:"))?;
    u16::from_str_radix(line.trim(), 8).ok()
}

fn owner(meta: &Meta) -> (Option<Uid>, Option<Gid>) {
    (Some(Uid::from_raw(meta.uid)), Some(Gid::from_raw(meta.gid)))
}

fn mode(meta: &Meta) -> Mode {
    Mode::from_bits_truncate(meta.mode.into())
}

fn time_spec(time: Timestamp) -> TimeSpec {
    TimeSpec::new(time.sec(), time.nsec().into())
}

/// Sets the attributes of an open file or directory.
pub(super) fn set(
    crew: &Workers<'_>,
    file: &File,
    meta: &Meta,
    start: Start,
) -> Result<(), Failure> {
    if !start.owner_is_right {
        let (uid, gid) = owner(meta);
        fchown(file, uid, gid).map_err(failed(OWNER))?;
    }
    if !start.mode_is_right {
        fchmod(file, mode(meta)).map_err(failed(MODE))?;
    }
    set_xattrs(&meta.xattrs, |name, value| file.set_xattr(name, value))?;
    futimens(file, &time_spec(meta.atime), &time_spec(meta.mtime)).map_err(failed(TIMES))?;
    check_times(crew, meta, || fstat(file))
}

/// A new entry that must not be opened: a device, a fifo, a socket, a symbolic link.
#[derive(Clone, Copy)]
pub(super) struct NewEntry<'a> {
    pub(super) directory: BorrowedFd<'a>,
    pub(super) name: &'a [u8],
    pub(super) start: Start,
    /// Symbolic links have no mode of their own.
    pub(super) has_mode: bool,
}

/// Sets the attributes of an entry that must not be opened.
pub(super) fn set_unopened(
    crew: &Workers<'_>,
    made: NewEntry<'_>,
    meta: &Meta,
) -> Result<(), Failure> {
    let NewEntry {
        directory,
        name,
        start,
        has_mode,
    } = made;
    if !start.owner_is_right {
        let (uid, gid) = owner(meta);
        let flags = AtFlags::AT_SYMLINK_NOFOLLOW;
        fchownat(directory, name, uid, gid, flags).map_err(failed(OWNER))?;
    }
    if has_mode && !start.mode_is_right {
        // Before Linux 6.6 there is no call that does not follow a symbolic link. This is not one: it has just been
        // made.
        let flags = FchmodatFlags::FollowSymlink;
        fchmodat(directory, name, mode(meta), flags).map_err(failed(MODE))?;
    }
    if !meta.xattrs.is_empty() {
        // No call takes a directory and a name, and a descriptor opened with O_PATH is not accepted by the calls for
        // files.
        let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let file = openat(directory, name, flags, Mode::empty()).map_err(failed("open"))?;
        let path = format!("/proc/self/fd/{}", file.as_raw_fd());
        set_xattrs(&meta.xattrs, |name, value| {
            xattr::set_deref(&path, name, value)
        })?;
    }
    let (atime, mtime) = (time_spec(meta.atime), time_spec(meta.mtime));
    let flags = UtimensatFlags::NoFollowSymlink;
    utimensat(directory, name, &atime, &mtime, flags).map_err(failed(TIMES))?;
    check_times(crew, meta, || {
        fstatat(directory, name, AtFlags::AT_SYMLINK_NOFOLLOW)
    })
}

fn set_xattrs(
    xattrs: &Xattrs,
    set: impl Fn(&OsStr, &[u8]) -> io::Result<()>,
) -> Result<(), Failure> {
    for (name, value) in xattrs.iter() {
        set(OsStr::from_bytes(name), value).map_err(|source| {
            let op = format!("set the extended attribute {}", escape(name));
            Failure::Call(op.into(), source)
        })?;
    }
    Ok(())
}

/// Checks that the times are kept, because a file system may silently change them: XFS without bigtime and ext4 with
/// inodes of 128 bytes end in 2038 or 1901, and the latter has no nanoseconds.
fn check_times(
    crew: &Workers<'_>,
    meta: &Meta,
    stat: impl FnOnce() -> Result<FileStat, Errno>,
) -> Result<(), Failure> {
    let times = [meta.atime, meta.mtime];
    let is_unusual = |time: &Timestamp| i32::try_from(time.sec()).map_or(true, |sec| sec < 0);
    let is_first = times.iter().any(|time| time.nsec() != 0)
        && !crew.keeps_nanoseconds.load(Ordering::Relaxed);
    if !is_first && !times.iter().any(is_unusual) {
        return Ok(());
    }
    let stat = stat().map_err(failed("stat"))?;
    let kept = [
        (stat.st_atime, stat.st_atime_nsec),
        (stat.st_mtime, stat.st_mtime_nsec),
    ];
    for (time, (sec, nsec)) in times.into_iter().zip(kept) {
        let kept = Timestamp::new(sec, u32::try_from(nsec).unwrap_or(u32::MAX));
        if kept != time {
            return Err(Failure::Time(time, ClampedTime::As(kept)));
        }
        if i32::try_from(time.sec()).is_err() && !kernel_tells() {
            return Err(Failure::Time(time, ClampedTime::Unknown));
        }
    }
    crew.keeps_nanoseconds.fetch_or(is_first, Ordering::Relaxed);
    Ok(())
}

/// Whether the kernel changes a time that does not fit when it is set, and not only when it is written: since Linux
/// 5.4, `timestamp_truncate`.
fn kernel_tells() -> bool {
    static TELLS: OnceLock<bool> = OnceLock::new();
    *TELLS.get_or_init(|| uname().is_ok_and(|system| is_since_5_4(system.release().as_bytes())))
}

fn is_since_5_4(release: &[u8]) -> bool {
    let mut numbers = release
        .split(|byte| !byte.is_ascii_digit())
        .map_while(|digits| str::from_utf8(digits).ok()?.parse::<u32>().ok());
    (numbers.next(), numbers.next()) >= (Some(5), Some(4))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_order_by_number() {
        for (release, expected) in [
            ("3.10.0-1160.el7.x86_64", false),
            ("4.19.0", false),
            ("5.3.18", false),
            ("5.4.0-42-generic", true),
            ("5.10.1", true),
            ("6.1-rc1", true),
            ("10.0", true),
            ("", false),
        ] {
            assert_eq!(is_since_5_4(release.as_bytes()), expected, "{release}");
        }
    }
}
