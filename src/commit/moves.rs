//! The steps that move the result into place. Each is a rename, and each can be done and undone any number of times:
//! the locations of the files show how much of it is done.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use serde::{Deserialize, Serialize};

use super::error::Error;
use super::originals::is_only_copy;
use super::regular_files::look;
use super::remainder::note_flag;
use crate::durable::sync_directory;
use crate::removal::Remainder;

/// One step. Paths are relative: `from`, `stood` and `original` to the staging directory (for a file, to the staging
/// directory of the configs), and `to` to the Docker root.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "move")]
pub enum Move {
    /// Puts a directory where there is none, or an empty one.
    Place {
        /// The staged directory.
        from: String,
        /// Its place.
        to: String,
        /// Where an empty directory that is in its place is kept.
        stood: String,
    },
    /// Replaces a file by another.
    Replace {
        /// The staged file.
        from: String,
        /// Its place.
        to: String,
        /// A second name of the file that it replaces, made before the first step.
        original: String,
    },
}

/// The result of undoing a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum UndoOutcome {
    /// Everything is as it was.
    Done,
    /// Somebody else removed the file's directory, and the file with it.
    DirectoryGone,
}

/// The directories in which the steps take place.
#[derive(Clone, Copy, Debug)]
pub(super) struct Roots<'a> {
    pub(super) root: &'a Path,
    pub(super) stage: &'a Path,
    /// Where the containers' configs are staged and their originals are kept: in the staging directory, or in
    /// `containers`.
    pub(super) configs: &'a Path,
}

impl Move {
    /// Its place, relative to the Docker root.
    pub(super) fn to(&self) -> &str {
        let (Self::Place { to, .. } | Self::Replace { to, .. }) = self;
        to
    }

    /// Whether its result is still in the staging directory.
    pub(super) fn is_staged(&self, ground: Roots<'_>) -> bool {
        self.staged(ground).symlink_metadata().is_ok()
    }

    /// Where its result is staged.
    pub(super) fn staged(&self, ground: Roots<'_>) -> PathBuf {
        let (Self::Place { from, .. } | Self::Replace { from, .. }) = self;
        self.staged_in(ground).join(from)
    }

    /// Whether it has replaced a file, so that undoing it replaces the new file by the old one.
    pub(super) fn is_replaced(&self, ground: Roots<'_>) -> bool {
        let Self::Replace { original, .. } = self else {
            return false;
        };
        let original = self.staged_in(ground).join(original);
        !self.is_staged(ground) && original.symlink_metadata().is_ok()
    }

    /// The directory to which `from`, `stood` and `original` are relative.
    fn staged_in<'g>(&self, ground: Roots<'g>) -> &'g Path {
        match self {
            Self::Place { .. } => ground.stage,
            Self::Replace { .. } => ground.configs,
        }
    }

    /// Gives the file that is about to be replaced its second name.
    pub(super) fn keep_original(&self, ground: Roots<'_>) -> Result<(), Error> {
        let Self::Replace { to, original, .. } = self else {
            return Ok(());
        };
        self.expect_no_links(ground)?;
        let (to, original) = (ground.root.join(to), ground.configs.join(original));
        create_parent(&original)?;
        // A link, not a copy: it is whole from the start, takes no space, and brings back the very inode with its
        // owner, mode and times.
        fs::hard_link(&to, &original).map_err(Error::io(&to, "keep the original"))
    }

    /// Does the step, or the rest of it.
    ///
    /// # Errors
    ///
    /// [`Error::Exists`] if something is in the way, [`Error::Lost`] if the step was not done and cannot be done.
    pub(super) fn forward(&self, ground: Roots<'_>) -> Result<(), Error> {
        self.expect_no_links(ground)?;
        let (Self::Place { from, to, .. } | Self::Replace { from, to, .. }) = self;
        let (from, to) = (self.staged_in(ground).join(from), ground.root.join(to));
        if look(&from)?.is_none() {
            // Done by a run before.
            return match look(&to)? {
                Some(_) => Ok(()),
                None => Err(Error::Lost {
                    root: ground.root.to_owned(),
                    path: from,
                }),
            };
        }
        // A kill between setting aside and the rename leaves the place free and the result staged. The next run finds
        // nothing to set aside and goes on with the rename.
        match self {
            Self::Place { stood, .. } => set_aside(&to, &ground.stage.join(stood))?,
            Self::Replace { original, .. } => expect_same(&to, &ground.configs.join(original))?,
        }
        fs::rename(&from, &to).map_err(Error::io(&to, "move the result into place"))
    }

    /// Undoes the step, as far as it was done.
    pub(super) fn back(&self, ground: Roots<'_>) -> Result<UndoOutcome, Error> {
        let (from, to, kept) = match self {
            Self::Place { from, to, stood } => (from, to, stood),
            Self::Replace { from, to, original } => (from, to, original),
        };
        self.expect_no_links(ground)?;
        let staged = self.staged_in(ground);
        let from = staged.join(from);
        let (to, kept) = (ground.root.join(to), staged.join(kept));
        match self {
            Self::Place { .. } => {
                // The result is in one of the two places. While it is staged, whatever lies at `to` is not ours.
                if look(&from)?.is_none() && look(&to)?.is_some() {
                    create_parent(&from)?;
                    fs::rename(&to, &from).map_err(Error::io(&to, "move back"))?;
                }
                // Asked by itself: after a kill between the two renames this is the one that is left.
                if look(&kept)?.is_some() {
                    match fs::rename(&kept, &to) {
                        // Docker has made something there since, which is worth more than an empty directory.
                        Err(error) if is_taken(&error) => {}
                        restored => restored.map_err(Error::io(&to, "restore"))?,
                    }
                }
            }
            Self::Replace { .. } => {
                // The second name is made before the first move and goes when this one is back: without it all is done.
                if look(&kept)?.is_none() {
                    return Ok(UndoOutcome::Done);
                }
                // A config alone would not bring the container back.
                if look(parent(&to))?.is_none() {
                    return Ok(UndoOutcome::DirectoryGone);
                }
                if look(&from)?.is_some() && look(&to)?.is_some() {
                    // Not replaced: what lies there is the original, or what a Docker on aufs put there.
                    if is_only_copy(&to, &kept)? {
                        return Err(Error::OnlyOriginal { path: to, kept });
                    }
                    return match fs::remove_file(&kept) {
                        Err(error) => Err(Error::io(&kept, "remove")(error)),
                        Ok(()) => Ok(UndoOutcome::Done),
                    };
                }
                // One rename over the new file: a kill leaves one config or the other, never none.
                fs::rename(&kept, &to).map_err(Error::io(&to, "restore"))?;
                // Two names of one file: a rename leaves both.
                match fs::remove_file(&kept) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => {
                        return Err(Error::io(&kept, "remove")(error));
                    }
                    _ => {}
                }
            }
        }
        Ok(UndoOutcome::Done)
    }

    /// Checks that undoing the step loses no config, and notes the attribute flags that would prevent the undoing, as
    /// far as there is anything to undo.
    ///
    /// # Errors
    ///
    /// [`Error::OnlyOriginal`].
    pub(super) fn expect_way_back(
        &self,
        ground: Roots<'_>,
        flagged: &mut Remainder,
    ) -> Result<(), Error> {
        let (from, to, kept) = match self {
            Self::Place { from, to, stood } => (from, to, stood),
            Self::Replace { from, to, original } => (from, to, original),
        };
        let staged = self.staged_in(ground);
        let (from, to, kept) = (staged.join(from), ground.root.join(to), staged.join(kept));
        let is_to_do = match self {
            Self::Place { .. } => look(&from)?.is_none() || look(&kept)?.is_some(),
            Self::Replace { .. } => look(&kept)?.is_some(),
        };
        if let Self::Replace { .. } = self
            && look(&from)?.is_some()
            && look(&to)?.is_some()
            && is_only_copy(&to, &kept)?
        {
            return Err(Error::OnlyOriginal { path: to, kept });
        }
        // A step that is back already asks nothing of these directories, so a flag on them is no obstacle.
        if is_to_do {
            for path in [parent(&to), &to, parent(&kept), &kept] {
                note_flag(path, flagged);
            }
        }
        Ok(())
    }

    /// Checks that no directory on the path to what is moved is a symbolic link: a rename follows such links.
    fn expect_no_links(&self, ground: Roots<'_>) -> Result<(), Error> {
        let (from, to, kept) = match self {
            Self::Place { from, to, stood } => (from, to, stood),
            Self::Replace { from, to, original } => (from, to, original),
        };
        let staged = self.staged_in(ground);
        for (top, path) in [(ground.root, to), (staged, from), (staged, kept)] {
            // The last component may be anything: neither `rename` nor `link` follows it.
            let above = Path::new(path).ancestors().skip(1);
            for directory in above.map(|inner| top.join(inner)) {
                if look(&directory)?.is_some_and(|meta| !meta.is_dir()) {
                    return Err(Error::NoDirectory { path: directory });
                }
            }
        }
        Ok(())
    }

    /// Makes the step durable, forward or back.
    pub(super) fn sync(&self, ground: Roots<'_>) -> Result<(), Error> {
        let to = ground.root.join(self.to());
        // A container that was removed meanwhile took its directory along, and no name is left in it to sync.
        match look(parent(&to))? {
            Some(_) => Ok(sync_directory(parent(&to))?),
            None => Ok(()),
        }
    }
}

/// Checks that the file that is about to be replaced is the one that was kept: a program that saves a file writes a new
/// one and renames it.
fn expect_same(to: &Path, kept: &Path) -> Result<(), Error> {
    let (Some(now), Some(before)) = (look(to)?, look(kept)?) else {
        return Ok(());
    };
    let same_file = (now.dev(), now.ino()) == (before.dev(), before.ino());
    // Another inode with the same bytes loses nothing when it is replaced: what is kept says the same.
    let same_bytes = || -> Result<bool, Error> {
        let read = |path: &Path| fs::read(path).map_err(Error::io(path, "read"));
        Ok(now.is_file() && before.is_file() && read(to)? == read(kept)?)
    };
    if same_file || same_bytes()? {
        return Ok(());
    }
    Err(Error::Changed {
        path: to.to_owned(),
    })
}

/// Moves an empty directory out of the way as a whole, so that it can come back as it was.
fn set_aside(to: &Path, stood: &Path) -> Result<(), Error> {
    let Some(meta) = look(to)? else {
        return Ok(());
    };
    let exists = || Error::Exists {
        path: to.to_owned(),
    };
    // Where one was set aside already, this is a second one that somebody made since. Moving it there would replace the
    // first, and only the first can come back as it was.
    if !meta.is_dir() || look(stood)?.is_some() {
        return Err(exists());
    }
    let mut entries = fs::read_dir(to).map_err(Error::io(to, "read"))?;
    if entries.next().is_some() {
        return Err(exists());
    }
    // The move into place would replace an empty directory by itself, and take its owner, mode and times along.
    create_parent(stood)?;
    fs::rename(to, stood).map_err(Error::io(to, "set aside"))
}

fn is_taken(error: &io::Error) -> bool {
    let errno = error.raw_os_error();
    [Errno::ENOTEMPTY, Errno::EEXIST]
        .iter()
        .any(|one| errno == Some(*one as i32))
}

fn parent(path: &Path) -> &Path {
    path.parent()
        .expect("it lies below the Docker root or the staging directory")
}

/// Creates directories in the staging directory, closed to others like the staging directory itself.
pub(super) fn create_private_dirs(path: &Path) -> Result<(), Error> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(Error::io(path, "create"))
}

fn create_parent(path: &Path) -> Result<(), Error> {
    let parent: PathBuf = parent(path).to_owned();
    create_private_dirs(&parent)
}

pub(super) fn place(from: &str, to: &str) -> Move {
    Move::Place {
        from: from.to_owned(),
        to: to.to_owned(),
        stood: format!("originals/{from}"),
    }
}

pub(super) fn replace(path: &str) -> Move {
    Move::Replace {
        from: path.to_owned(),
        to: path.to_owned(),
        original: format!("originals/{path}"),
    }
}
