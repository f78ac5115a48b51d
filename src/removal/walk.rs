//! The walk down the tree and up again.

use std::ffi::{CStr, CString, OsStr};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nix::dir::{Dir, Type};
use nix::errno::Errno;
use nix::fcntl::{AtFlags, openat};
use nix::sys::stat::{Mode, fstatat};
use nix::unistd::{UnlinkatFlags, unlinkat};

use super::level::{DIRECTORY, Level};
use super::remainder::{Cause, Obstacle, Remainder};
use crate::sys::{Identity, frozen_name};

/// Maximum number of open directories; fewer if the process may not have so many.
const OPEN: usize = 32;

/// Removes a directory with everything below it, or whatever else has that name: a symbolic link itself, not its
/// target. The path need not exist. The directory above must be a directory and not a link.
///
/// Returns once everything removable is removed, with the remainder.
pub fn remove(path: &Path) -> Remainder {
    remove_unless(path, &|| false).expect("nobody stops it")
}

/// Like [`remove`], but stops when `stop` says so; returns `None` in that case, and part of the directory may be left.
pub fn remove_unless(path: &Path, stop: &dyn Fn() -> bool) -> Option<Remainder> {
    match begin(path) {
        Ok(None) => Some(Remainder::default()),
        Ok(Some(top)) => Walk::new(path, top).run(stop),
        Err(errno) => Some(stuck(path, Cause::Errno("remove", errno)).into()),
    }
}

fn stuck(path: &Path, cause: Cause) -> Obstacle {
    let path = path.to_owned();
    Obstacle { path, cause }
}

fn begin(path: &Path) -> Result<Option<Level>, Errno> {
    let (Some(above), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(Errno::EINVAL);
    };
    let above = if above == Path::new("") {
        Path::new(".")
    } else {
        above
    };
    let above = match Dir::open(above, DIRECTORY, Mode::empty()) {
        Err(Errno::ENOENT) => return Ok(None),
        above => above?,
    };
    let name = CString::new(name.as_bytes()).map_err(|_| Errno::EINVAL)?;
    match fstatat(&above, name.as_c_str(), AtFlags::AT_SYMLINK_NOFOLLOW) {
        Err(Errno::ENOENT) => Ok(None),
        there => there.and_then(|_| Level::with_one_name(above, name).map(Some)),
    }
}

/// The walk cannot continue at all.
struct WalkError;

struct Walk {
    /// The path of the directory above the one to remove.
    above: PathBuf,
    /// From that directory to the current one, which is always open.
    levels: Vec<Level>,
    /// The index of the outermost open directory.
    open_from: usize,
    kept: Remainder,
}

impl Walk {
    fn new(path: &Path, top: Level) -> Self {
        let flag = top.flag;
        let mut walk = Self {
            above: path.parent().map(Path::to_owned).unwrap_or_default(),
            levels: vec![top],
            open_from: 0,
            kept: Remainder::default(),
        };
        if let Some(flag) = flag {
            walk.keep(None, Cause::FlagAbove(flag));
        }
        walk
    }

    fn run(mut self, stop: &dyn Fn() -> bool) -> Option<Remainder> {
        while !self.levels.is_empty() {
            if stop() {
                return None;
            }
            let next = self.last().next();
            let step = match next {
                Ok(Some((name, kind))) => self.remove(&name, kind),
                Ok(None) => self.leave(),
                Err(errno) => {
                    self.keep(None, Cause::Errno("list", errno));
                    Ok(())
                }
            };
            if step.is_err() {
                break;
            }
        }
        Some(self.kept)
    }

    fn last(&mut self) -> &mut Level {
        self.levels.last_mut().expect("the walk ends without one")
    }

    /// Removes a name in the current directory, or enters it.
    fn remove(&mut self, name: &CStr, kind: Option<Type>) -> Result<(), WalkError> {
        let is_locked = self.last().flag.is_some();
        if kind == Some(Type::Directory) || is_locked && kind.is_none() {
            return self.enter(name);
        }
        if is_locked {
            self.last().pass(name);
            return Ok(());
        }
        match self.unlink(name, UnlinkatFlags::NoRemoveDir) {
            Ok(()) => Ok(()),
            Err(Errno::ENOENT) => {
                self.last().pass(name);
                Ok(())
            }
            // Not every file system says in its listing what a name is.
            Err(Errno::EISDIR) => self.enter(name),
            Err(errno) => self.cannot_unlink(name, errno),
        }
    }

    fn unlink(&mut self, name: &CStr, flags: UnlinkatFlags) -> Result<(), Errno> {
        unlinkat(self.last().open()?, name, flags)
    }

    fn cannot_unlink(&mut self, name: &CStr, errno: Errno) -> Result<(), WalkError> {
        let level = self.last();
        if errno == Errno::EPERM
            && let Some(dir) = &level.dir
            && let Ok((_, Some(flag))) = Identity::of(dir)
        {
            // The directory got the flag only now, or the file system did not report it before.
            level.flag = Some(flag);
            level.pass(name);
            self.keep(None, Cause::Flag(flag));
            return Ok(());
        }
        let cause = self.why(name, errno);
        self.keep(Some(name), cause);
        if errno == Errno::EROFS {
            return Err(WalkError);
        }
        Ok(())
    }

    fn why(&mut self, name: &CStr, errno: Errno) -> Cause {
        let level = self.last();
        let Some(dir) = &level.dir else {
            return Cause::Errno("remove", errno);
        };
        match errno {
            Errno::EPERM => frozen_name(dir, name).map(Cause::Flag),
            Errno::EBUSY => {
                let elsewhere = |there: Identity| there.mount != level.identity.mount;
                let is_mount = Identity::of_name(dir, name).is_none_or(elsewhere);
                is_mount.then_some(Cause::MountPoint)
            }
            _ => None,
        }
        .unwrap_or(Cause::Errno("remove", errno))
    }

    /// Records what stays: a name in the current directory, or the directory itself.
    fn keep(&mut self, name: Option<&CStr>, cause: Cause) {
        let mut path = self.above.clone();
        let names = self.levels.iter().skip(1).map(|level| &*level.name);
        path.extend(
            names
                .chain(name)
                .map(|name| OsStr::from_bytes(name.to_bytes())),
        );
        self.kept.add(Obstacle { path, cause });
        self.last().told = true;
        if let Some(name) = name {
            self.last().pass(name);
        }
    }

    fn enter(&mut self, name: &CStr) -> Result<(), WalkError> {
        let dir = match self.open(name) {
            Ok(dir) => dir,
            Err(Errno::ENOENT) => {
                self.last().pass(name);
                return Ok(());
            }
            // Something else has that name by now, or it never was a directory.
            Err(Errno::ENOTDIR | Errno::ELOOP) if self.last().flag.is_some() => {
                self.last().pass(name);
                return Ok(());
            }
            Err(Errno::ENOTDIR | Errno::ELOOP) => {
                return match self.unlink(name, UnlinkatFlags::NoRemoveDir) {
                    Ok(()) => Ok(()),
                    Err(errno) => self.cannot_unlink(name, errno),
                };
            }
            Err(errno) => {
                self.keep(Some(name), Cause::Errno("open", errno));
                return Ok(());
            }
        };
        match Level::new(dir, name.to_owned()) {
            Ok(level) => self.push(level),
            Err(errno) => self.keep(Some(name), Cause::Errno("stat", errno)),
        }
        Ok(())
    }

    /// Opens a directory. If no more may be open, closes directories further up.
    fn open(&mut self, name: &CStr) -> Result<Dir, Errno> {
        loop {
            let above = self.last().open()?.as_fd();
            match openat(above, name, DIRECTORY, Mode::empty()).and_then(Dir::from_fd) {
                Err(Errno::EMFILE | Errno::ENFILE) if self.open_from + 1 < self.levels.len() => {
                    self.close_outermost();
                }
                opened => return opened,
            }
        }
    }

    fn close_outermost(&mut self) {
        self.levels[self.open_from].dir = None;
        self.open_from += 1;
    }

    fn push(&mut self, level: Level) {
        let above = self.last().identity;
        let elsewhere = if level.identity.mount != above.mount {
            Some(Cause::MountPoint)
        } else if level.identity.device != above.device {
            Some(Cause::Subvolume)
        } else {
            None
        };
        if let Some(cause) = elsewhere {
            self.keep(Some(&level.name), cause);
            return;
        }
        let flag = level.flag;
        self.levels.push(level);
        if let Some(flag) = flag {
            self.keep(None, Cause::Flag(flag));
        }
        if self.levels.len() - self.open_from > OPEN {
            self.close_outermost();
        }
    }

    /// Removes the current directory, once it is as empty as possible, and continues with the one above.
    fn leave(&mut self) -> Result<(), WalkError> {
        let Some(done) = self.levels.pop() else {
            return Ok(());
        };
        let Some(above) = self.levels.last_mut() else {
            return Ok(());
        };
        let reopened = match &done.dir {
            Some(dir) => above.reopen(dir),
            None => Err(Cause::Moved),
        };
        if let Err(cause) = reopened {
            self.keep(Some(&done.name), cause);
            return Err(WalkError);
        }
        self.open_from = self.open_from.min(self.levels.len() - 1);
        self.remove_empty(&done)
    }

    fn remove_empty(&mut self, done: &Level) -> Result<(), WalkError> {
        if done.flag.is_some() || self.last().flag.is_some() {
            self.last().told = true;
            self.last().pass(&done.name);
            return Ok(());
        }
        match self.unlink(&done.name, UnlinkatFlags::RemoveDir) {
            Ok(()) => Ok(()),
            Err(Errno::ENOENT) => {
                self.last().pass(&done.name);
                Ok(())
            }
            Err(Errno::ENOTEMPTY | Errno::EEXIST) if done.told => {
                self.last().told = true;
                self.last().pass(&done.name);
                Ok(())
            }
            Err(errno) => self.cannot_unlink(&done.name, errno),
        }
    }
}
