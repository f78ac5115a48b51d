//! The pool's files, and how they are written.

use std::fs::{File, OpenOptions};
use std::io;
use std::ops::Range;
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, FcntlArg, OFlag, fallocate, fcntl};

use super::error::Error;

/// Creates a file of the pool, which must not exist. Only root can read it, as with Docker.
pub(super) fn create(path: &Path, size: u64) -> Result<File, Error> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .map_err(|source| Error::target(path, "create", source))?;
    file.set_len(size)
        .map_err(|source| Error::target(path, "set the size", source))?;
    Ok(file)
}

/// Allocates the space first: a full disk is noticed before any work, and writes into allocated space are faster.
pub(super) fn preallocate(file: &File, range: Range<u64>, path: &Path) -> Result<(), Error> {
    let number = |at| {
        i64::try_from(at)
            .map_err(|_| Error::target(path, "allocate space", io::ErrorKind::FileTooLarge.into()))
    };
    let (start, len) = (number(range.start)?, number(range.end - range.start)?);
    match fallocate(file, FallocateFlags::FALLOC_FL_KEEP_SIZE, start, len) {
        // Not every file system supports this; there, the space may run out during the writes.
        Ok(()) | Err(Errno::EOPNOTSUPP | Errno::ENOSYS) => Ok(()),
        Err(errno) => Err(Error::target(path, "allocate space", errno.into())),
    }
}

/// Makes writes bypass the page cache, so that the data is touched only once. Where the file system does not support
/// this, they go through it.
pub(super) fn write_directly(file: &File, path: &Path) -> Result<(), Error> {
    let set = || -> nix::Result<()> {
        let flags = OFlag::from_bits_retain(fcntl(file.as_fd(), FcntlArg::F_GETFL)?);
        fcntl(file.as_fd(), FcntlArg::F_SETFL(flags | OFlag::O_DIRECT)).map(drop)
    };
    match set() {
        Ok(()) | Err(Errno::EINVAL) => Ok(()),
        Err(errno) => Err(Error::target(path, "enable direct I/O", errno.into())),
    }
}
