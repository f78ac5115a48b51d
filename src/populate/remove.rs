//! Removes what a layer removes or replaces.

use std::ffi::CString;
use std::os::fd::AsFd;

use nix::dir::{Dir, Type};
use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::Mode;
use nix::unistd::{UnlinkatFlags, unlinkat};

use super::error::{Failure, failed};
use super::workers::Workers;

const DIRECTORY: OFlag = OFlag::O_RDONLY
    .union(OFlag::O_DIRECTORY)
    .union(OFlag::O_NOFOLLOW)
    .union(OFlag::O_CLOEXEC);

/// Removes a name with everything below it; the name need not exist.
pub(super) fn remove(crew: &Workers<'_>, directory: impl AsFd, name: &[u8]) -> Result<(), Failure> {
    match unlinkat(&directory, name, UnlinkatFlags::NoRemoveDir) {
        Ok(()) | Err(Errno::ENOENT) => Ok(()),
        Err(Errno::EISDIR) => {
            let inner = open(&directory, name)?;
            empty_open(crew, inner)?;
            unlinkat(&directory, name, UnlinkatFlags::RemoveDir).map_err(failed("remove"))
        }
        Err(errno) => Err(failed("remove")(errno)),
    }
}

/// Removes everything in a directory.
pub(super) fn empty(crew: &Workers<'_>, directory: impl AsFd) -> Result<(), Failure> {
    empty_open(crew, open(&directory, b".")?)
}

fn open(directory: impl AsFd, name: &[u8]) -> Result<Dir, Failure> {
    openat(directory, name, DIRECTORY, Mode::empty())
        .and_then(Dir::from_fd)
        .map_err(failed("open the directory to be removed"))
}

/// Goes down and up again with one open directory and a list of names, so that it handles any depth.
fn empty_open(crew: &Workers<'_>, mut at: Dir) -> Result<(), Failure> {
    // For each directory on the path, the directories in it that still exist; the last one is entered.
    let mut ways = vec![unlink_files(crew, &mut at)?];
    loop {
        let last = ways.last().expect("the top is left by the return below");
        if let Some(name) = last.last() {
            let mut below = open(&at, name.as_bytes())?;
            ways.push(unlink_files(crew, &mut below)?);
            at = below;
            continue;
        }
        ways.pop();
        let Some(way) = ways.last_mut() else {
            return Ok(());
        };
        at = open(&at, b"..")?;
        let name = way.pop().expect("it was gone into");
        unlinkat(&at, name.as_c_str(), UnlinkatFlags::RemoveDir).map_err(failed("remove"))?;
    }
}

/// Removes everything except directories, whose names are returned.
fn unlink_files(crew: &Workers<'_>, directory: &mut Dir) -> Result<Vec<CString>, Failure> {
    let mut names = Vec::new();
    for entry in directory.iter() {
        let entry = entry.map_err(failed("list the directory to be removed"))?;
        if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
            names.push((entry.file_name().to_owned(), entry.file_type()));
        }
    }
    let mut directories = Vec::new();
    for (name, of) in names {
        crew.go_on()?;
        if of == Some(Type::Directory) {
            directories.push(name);
            continue;
        }
        match unlinkat(&*directory, name.as_c_str(), UnlinkatFlags::NoRemoveDir) {
            Ok(()) => {}
            // Not every file system reports the kind of a name in the listing.
            Err(Errno::EISDIR) => directories.push(name),
            Err(errno) => return Err(failed("remove")(errno)),
        }
    }
    Ok(directories)
}
