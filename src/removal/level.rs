//! The directories from the top down to the one that is being emptied.

use std::collections::HashSet;
use std::ffi::{CStr, CString};

use nix::dir::{Dir, Type};
use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::Mode;

use super::remainder::Cause;
use crate::sys::{Identity, Immutability};

pub(super) const DIRECTORY: OFlag = OFlag::O_RDONLY
    .union(OFlag::O_DIRECTORY)
    .union(OFlag::O_NOFOLLOW)
    .union(OFlag::O_CLOEXEC);

/// How many names are listed at once: initially, and at most. Each listing starts from the beginning, and the file
/// system has to skip what was removed before.
const NAMES: (usize, usize) = (1 << 10, 1 << 16);

/// A directory that is being emptied.
pub(super) struct Level {
    /// `None` if too many others are open.
    pub(super) dir: Option<Dir>,
    pub(super) identity: Identity,
    /// Its name in the directory above.
    pub(super) name: CString,
    /// A flag that keeps names from being removed here; the contents of directories below can still be removed.
    pub(super) flag: Option<Immutability>,
    /// Whether the remaining entries here were already reported.
    pub(super) told: bool,
    /// Names that stay, or that are listed but do not exist.
    passed: HashSet<CString>,
    names: Vec<(CString, Option<Type>)>,
    at_once: usize,
    unreadable: bool,
}

impl Level {
    /// The level for a directory that was opened as `name`.
    pub(super) fn new(dir: Dir, name: CString) -> Result<Self, Errno> {
        let (identity, flag) = Identity::of(&dir)?;
        Ok(Self {
            dir: Some(dir),
            identity,
            name,
            flag,
            told: false,
            passed: HashSet::new(),
            names: Vec::new(),
            at_once: NAMES.0,
            unreadable: false,
        })
    }

    /// A directory from which only one name is removed.
    pub(super) fn with_one_name(dir: Dir, name: CString) -> Result<Self, Errno> {
        let mut level = Self::new(dir, c"".to_owned())?;
        level.names.push((name, None));
        level.unreadable = true;
        Ok(level)
    }

    pub(super) fn open(&self) -> Result<&Dir, Errno> {
        self.dir.as_ref().ok_or(Errno::EBADF)
    }

    /// Opens it again from the directory below, if that is still inside it.
    pub(super) fn reopen(&mut self, below: &Dir) -> Result<(), Cause> {
        if self.dir.is_some() {
            return Ok(());
        }
        let failed = |errno| Cause::Errno("open", errno);
        let dir = openat(below, c"..", DIRECTORY, Mode::empty()).and_then(Dir::from_fd);
        let dir = dir.map_err(failed)?;
        let (identity, _) = Identity::of(&dir).map_err(failed)?;
        if identity != self.identity {
            return Err(Cause::Moved);
        }
        self.dir = Some(dir);
        Ok(())
    }

    /// The next name that was not skipped; `None` if there is nothing left to try.
    pub(super) fn next(&mut self) -> Result<Option<(CString, Option<Type>)>, Errno> {
        if self.names.is_empty() && !self.unreadable {
            let listed = self.list();
            self.unreadable = listed.is_err();
            listed?;
        }
        Ok(self.names.pop())
    }

    fn list(&mut self) -> Result<(), Errno> {
        let Some(dir) = &mut self.dir else {
            return Err(Errno::EBADF);
        };
        for entry in dir.iter() {
            let entry = entry?;
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") || self.passed.contains(name) {
                continue;
            }
            self.names.push((name.to_owned(), entry.file_type()));
            if self.names.len() >= self.at_once {
                break;
            }
        }
        self.at_once = (2 * self.at_once).min(NAMES.1);
        Ok(())
    }

    /// Skips a name from now on.
    pub(super) fn pass(&mut self, name: &CStr) {
        self.passed.insert(name.to_owned());
    }
}
