//! The staging directory as untrusted input: it may be on a disk from a compromised host, or be damaged.
//!
//! Every command begins here. The directory is opened relative to the root. Everything in it that a command would read,
//! write, or create something in is checked relative to its parent's descriptor. No link is followed, and nothing but
//! directories is opened, so a pipe cannot block the check. Anything that this tool does not create in this form is
//! refused by name.
//!
//! The directory itself belongs to the caller and is closed to everybody else, so nobody can change its contents after
//! the check. That is why one check at the beginning is enough.

use std::ffi::OsStr;
use std::io;
use std::path::Path;

use nix::sys::stat::{FileStat, SFlag};
use nix::unistd::geteuid;

use super::error::Error;
use super::{progress_file, second_place};
use crate::docker::{Dir, FileKind, ReadError};
use crate::engine::kernel::claim;
use crate::shell::word;
use crate::staging::{JOURNAL, STAGE_NAME};

/// Permission bits that nobody but the caller may have.
const OTHERS: u32 = 0o077;

/// Permission bits that Docker's directories never have: others may search them, but not write.
const OTHERS_WRITE: u32 = 0o022;

/// Opens the staging directory of a root and checks that everything in it has the form that this tool creates; `None`
/// if there is none.
///
/// # Errors
///
/// [`Error::Foreign`] naming what has not, [`Error::Read`].
pub(super) fn open(root: &Path) -> Result<Option<Dir>, Error> {
    let root = match Dir::open(root) {
        // Whoever opens the root as such reports more.
        Err(ReadError::Io { source, .. }) if is_absence(&source) => return Ok(None),
        opened => opened?,
    };
    let Some(stage) = subdirectory(&root, OsStr::new(STAGE_NAME))? else {
        return Ok(None);
    };
    let area = Area {
        owner: root.stat()?.st_uid,
        stage,
    };
    area.check(&root)?;
    Ok(Some(area.stage))
}

/// Opens and checks the place for configs in `containers`, if there is one.
///
/// # Errors
///
/// As for [`open`].
pub(super) fn open_beside(root: &Path) -> Result<Option<Dir>, Error> {
    let root = match Dir::open(root) {
        Err(ReadError::Io { source, .. }) if is_absence(&source) => return Ok(None),
        opened => opened?,
    };
    // Whoever reads the containers refuses anything else here.
    if root.kind(OsStr::new(second_place::CONTAINERS))? != Some(FileKind::Directory) {
        return Ok(None);
    }
    let containers = root.dir(second_place::CONTAINERS)?;
    let Some(place) = subdirectory(&containers, OsStr::new(STAGE_NAME))? else {
        return Ok(None);
    };
    expect_closed(&place)?;
    expect_no_mount(&place, &containers)?;
    for entry in place.list()? {
        let name = entry.name.as_os_str();
        match name.to_str() {
            Some("containers") => check_configs(&expect_ours(&place, name)?, Links::One)?,
            Some("originals") => check_originals(&expect_ours(&place, name)?)?,
            Some(second_place::MARK) => expect_file(&place, name)?,
            _ => expect_file_or_directory(&place, name)?,
        }
    }
    Ok(Some(place))
}

fn expect_no_mount(stage: &Dir, above: &Dir) -> Result<(), Error> {
    if stage.stat()?.st_dev == above.stat()?.st_dev {
        return Ok(());
    }
    let why = format!(
        "is a mount point, through which nothing is created or removed (`umount {}`)",
        word(stage.path())
    );
    Err(foreign(stage.path(), why))
}

fn is_absence(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
    )
}

struct Area {
    stage: Dir,
    /// The owner of the Docker root: the driver's home has the same owner.
    owner: u32,
}

impl Area {
    fn check(&self, root: &Dir) -> Result<(), Error> {
        let stage = &self.stage;
        expect_closed(stage)?;
        expect_no_mount(stage, root)?;
        for entry in stage.list()? {
            let name = entry.name.as_os_str();
            match name.to_str() {
                Some("devicemapper") => self.check_home(&expect_directory(stage, name)?)?,
                // These files are Docker's own and have the modes that Docker set; none is opened before it is in place
                // or removed.
                Some("image") => drop(expect_directory(stage, name)?),
                Some("containers") => check_configs(&expect_ours(stage, name)?, Links::One)?,
                Some("originals") => check_originals(&expect_ours(stage, name)?)?,
                // What is mounted there, or waits there for removal, is checked when that is done.
                Some("mnt" | "verify" | "removed") => drop(expect_ours(stage, name)?),
                Some(JOURNAL | claim::FILE | claim::NEW_FILE) => expect_file(stage, name)?,
                // An active run keeps replacing these.
                Some(progress_file::FILE | progress_file::NEW_FILE)
                    if stage.kind(name)?.is_none() => {}
                _ => expect_file_or_directory(stage, name)?,
            }
        }
        Ok(())
    }

    /// Checks the driver's home: made by this tool, or changed by Docker since if a rollback was interrupted.
    fn check_home(&self, home: &Dir) -> Result<(), Error> {
        self.expect_driver(home)?;
        for entry in home.list()? {
            let part = expect_directory(home, &entry.name)?;
            self.expect_driver(&part)?;
            if entry.name == "mnt" {
                continue;
            }
            for file in part.list()? {
                let stat = expect_kind(&part, &file.name, SFlag::S_IFREG)?;
                let path = part.join(&file.name);
                self.expect_driver_owner(&path, &stat)?;
                expect_one_name(&path, &stat)?;
            }
        }
        Ok(())
    }

    fn expect_driver(&self, directory: &Dir) -> Result<(), Error> {
        self.expect_driver_owner(directory.path(), &directory.stat()?)
    }

    fn expect_driver_owner(&self, path: &Path, stat: &FileStat) -> Result<(), Error> {
        if stat.st_uid != geteuid().as_raw() && stat.st_uid != self.owner {
            return Err(foreign(path, owner(stat)));
        }
        expect_mode(path, stat, OTHERS_WRITE)
    }
}

/// How many names a file may have.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Links {
    One,
    Any,
}

/// Checks containers' configurations: `<id>/<file>`. The files have the owner and mode that Docker set.
fn check_configs(containers: &Dir, links: Links) -> Result<(), Error> {
    for container in containers.list()? {
        let directory = expect_ours(containers, &container.name)?;
        for file in directory.list()? {
            let stat = expect_kind(&directory, &file.name, SFlag::S_IFREG)?;
            if links == Links::One {
                expect_one_name(&directory.join(&file.name), &stat)?;
            }
        }
    }
    Ok(())
}

/// Checks the second names of Docker's files, and Docker's empty directories that were in the way.
fn check_originals(originals: &Dir) -> Result<(), Error> {
    for entry in originals.list()? {
        if entry.name == "containers" {
            check_configs(&expect_ours(originals, &entry.name)?, Links::Any)?;
        } else {
            expect_directory(originals, &entry.name)?;
        }
    }
    Ok(())
}

/// Opens a directory that only this tool makes.
fn expect_ours(parent: &Dir, name: &OsStr) -> Result<Dir, Error> {
    let directory = expect_directory(parent, name)?;
    expect_closed(&directory)?;
    Ok(directory)
}

fn expect_closed(directory: &Dir) -> Result<(), Error> {
    expect_private(directory.path(), &directory.stat()?)
}

/// Checks a file that only this tool makes. If it had a second name, it could be another root's.
fn expect_file(parent: &Dir, name: &OsStr) -> Result<(), Error> {
    let stat = expect_kind(parent, name, SFlag::S_IFREG)?;
    let path = parent.join(name);
    expect_private(&path, &stat)?;
    expect_one_name(&path, &stat)
}

fn expect_file_or_directory(parent: &Dir, name: &OsStr) -> Result<(), Error> {
    match parent.kind(name)? {
        Some(FileKind::Directory) => expect_ours(parent, name).map(drop),
        _ => expect_file(parent, name),
    }
}

fn expect_directory(parent: &Dir, name: &OsStr) -> Result<Dir, Error> {
    let path = parent.join(name);
    subdirectory(parent, name)?
        .ok_or_else(|| foreign(&path, "disappeared while it was being checked"))
}

/// Opens a directory without following a link.
fn subdirectory(parent: &Dir, name: &OsStr) -> Result<Option<Dir>, Error> {
    match parent.kind(name)? {
        None => Ok(None),
        Some(FileKind::Directory) => Ok(parent.dir_if_any(name)?),
        Some(found) => {
            let why = format!("is a {found}, not a directory");
            Err(foreign(&parent.join(name), why))
        }
    }
}

fn expect_kind(parent: &Dir, name: &OsStr, format: SFlag) -> Result<FileStat, Error> {
    let path = parent.join(name);
    let stat = parent
        .stat_of(name)?
        .ok_or_else(|| foreign(&path, "disappeared while it was being checked"))?;
    if SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT == format {
        return Ok(stat);
    }
    let found = parent.kind(name)?.unwrap_or(FileKind::Special);
    Err(foreign(&path, format!("is a {found}, not a regular file")))
}

fn expect_private(path: &Path, stat: &FileStat) -> Result<(), Error> {
    if stat.st_uid != geteuid().as_raw() {
        return Err(foreign(path, owner(stat)));
    }
    expect_mode(path, stat, OTHERS)
}

fn expect_mode(path: &Path, stat: &FileStat, forbidden: u32) -> Result<(), Error> {
    if stat.st_mode & forbidden == 0 {
        return Ok(());
    }
    let mode = stat.st_mode & 0o7777;
    Err(foreign(
        path,
        format!("is accessible to others: its mode is {mode:04o}"),
    ))
}

fn expect_one_name(path: &Path, stat: &FileStat) -> Result<(), Error> {
    if stat.st_nlink == 1 {
        return Ok(());
    }
    let why = format!(
        "has {} names, so it may also belong to something else",
        stat.st_nlink
    );
    Err(foreign(path, why))
}

fn owner(stat: &FileStat) -> String {
    format!("belongs to user {}", stat.st_uid)
}

fn foreign(path: &Path, why: impl Into<String>) -> Error {
    Error::Foreign {
        path: path.to_owned(),
        why: why.into(),
    }
}
