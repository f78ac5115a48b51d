//! The pool's files: made, or found as an earlier run left them.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::ops::Range;
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, FcntlArg, OFlag, fallocate, fcntl};

use super::error::Error;

/// Creates a file of the pool, which must not exist, readable by root alone as Docker has it.
pub(super) fn create(path: &Path, size: u64) -> Result<File, Error> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .map_err(|source| Error::target(path, "create", source))?;
    file.set_len(size)
        .map_err(|source| Error::target(path, "set the size of", source))?;
    Ok(file)
}

/// Removes a file that an earlier run left without anything that counts.
pub(super) fn remove(path: &Path) -> Result<(), Error> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(Error::target(path, "remove", error))
        }
        _ => Ok(()),
    }
}

/// Opens a file that an earlier run left, and makes sure that it can be that one.
pub(super) fn reopen(path: &Path, size: u64) -> Result<File, Error> {
    // O_NONBLOCK: should a fifo have taken the file's place, the open must not wait.
    let flags = OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK;
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(flags.bits())
        .open(path)
        .map_err(|source| Error::target(path, "open", source))?;
    let meta = file
        .metadata()
        .map_err(|source| Error::target(path, "look at", source))?;
    let strange = |what: String| Error::NotOurs {
        path: path.to_owned(),
        what,
    };
    if !meta.is_file() {
        return Err(strange("is no regular file".to_owned()));
    }
    let user = nix::unistd::geteuid().as_raw();
    if meta.uid() != user {
        return Err(strange(format!(
            "belongs to user {}, not to user {user}",
            meta.uid()
        )));
    }
    if meta.len() != size {
        let len = meta.len();
        return Err(strange(format!("has {len} bytes, not {size}")));
    }
    Ok(file)
}

/// Takes space first: a full disk is noticed before any work, and writes into allocated space are faster.
pub(super) fn preallocate(file: &File, range: Range<u64>, path: &Path) -> Result<(), Error> {
    let number = |at| {
        i64::try_from(at)
            .map_err(|_| Error::target(path, "allocate", io::ErrorKind::FileTooLarge.into()))
    };
    let (start, len) = (number(range.start)?, number(range.end - range.start)?);
    match fallocate(file, FallocateFlags::FALLOC_FL_KEEP_SIZE, start, len) {
        // Not every file system can; then space runs out while writing, if it does.
        Ok(()) | Err(Errno::EOPNOTSUPP | Errno::ENOSYS) => Ok(()),
        Err(errno) => Err(Error::target(path, "allocate space for", errno.into())),
    }
}

/// Lets writes go past the page cache, so that the data is touched once; through it where the file system cannot.
pub(super) fn write_directly(file: &File, path: &Path) -> Result<(), Error> {
    let set = || -> nix::Result<()> {
        let flags = OFlag::from_bits_retain(fcntl(file.as_fd(), FcntlArg::F_GETFL)?);
        fcntl(file.as_fd(), FcntlArg::F_SETFL(flags | OFlag::O_DIRECT)).map(drop)
    };
    match set() {
        Ok(()) | Err(Errno::EINVAL) => Ok(()),
        Err(errno) => Err(Error::target(path, "write past the cache to", errno.into())),
    }
}

/// Makes the names in a file's directory durable, its own among them.
pub(super) fn sync_directory_of(path: &Path) -> Result<(), Error> {
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    File::open(directory)
        .and_then(|directory| directory.sync_all())
        .map_err(|source| Error::target(directory, "sync", source))
}
