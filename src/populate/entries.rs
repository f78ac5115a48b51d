//! The entries in a layer's directories: files, symbolic links, devices, fifos, sockets.

use std::fs::File;
use std::os::fd::AsFd;

use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::{Mode, SFlag, makedev, mknodat};
use nix::unistd::symlinkat;

use super::attributes::{self, NewEntry, Start};
use super::copy::CopySource;
use super::directories::Directories;
use super::error::{Error, Failure, failed};
use super::large;
use super::outline::{Outline, Piece, Sort, sort};
use super::remove::remove;
use super::workers::Workers;
use crate::source::Cursor;
use crate::tree::{DeviceNumber, Entry, Kind, Regular};

const NEW_FILE: OFlag = OFlag::O_WRONLY
    .union(OFlag::O_CREAT)
    .union(OFlag::O_EXCL)
    .union(OFlag::O_NOFOLLOW)
    .union(OFlag::O_CLOEXEC);

const NO_DEVICE: DeviceNumber = DeviceNumber { major: 0, minor: 0 };

/// Makes all entries except directories and further names of files.
pub(super) fn make<'s>(
    crew: &'s Workers<'_>,
    directories: &'s Directories,
    outline: &'s Outline,
) -> Result<(), Error> {
    crew.step(|scope| {
        for &place in &outline.large {
            scope.spawn(move |scope| {
                crew.attempt(|| large::make(crew, directories, place, scope));
            });
        }
        for unit in outline.units(directories) {
            scope.spawn(move |_| {
                crew.attempt(|| Worker::new(crew, directories)?.make(unit));
            });
        }
    })
}

/// The state for working on a unit.
struct Worker<'s, 'a> {
    crew: &'s Workers<'a>,
    directories: &'s Directories,
    target: Cursor<'s>,
    source: CopySource<'s>,
}

impl<'s, 'a> Worker<'s, 'a> {
    fn new(crew: &'s Workers<'a>, directories: &'s Directories) -> Result<Self, Error> {
        Ok(Self {
            crew,
            directories,
            target: crew.cursor(),
            source: CopySource::new(crew)?,
        })
    }

    fn make(&mut self, pieces: &[Piece]) -> Result<(), Error> {
        pieces.iter().try_for_each(|piece| self.make_piece(piece))
    }

    fn make_piece(&mut self, piece: &Piece) -> Result<(), Error> {
        let layer = self.crew.layer;
        let node = self.directories.node(piece.directory);
        let file = self
            .target
            .enter(node)
            .map_err(|errno| failed("open")(errno).of(layer, node))?;
        let directory = Directory {
            crew: self.crew,
            directories: self.directories,
            place: piece.directory,
            file,
        };
        let listing = self.directories.listing(&layer.tree, piece.directory);
        for entry in listing.entries_in(piece.entries.clone()) {
            if sort(&layer.tree, node, entry) == Sort::Small {
                self.crew.go_on()?;
                directory.make(entry, &mut self.source)?;
            }
        }
        if piece.is_last {
            self.directories
                .set_attributes(self.crew, piece.directory, file)
                .map_err(|failure| failure.of(layer, node))?;
        }
        Ok(())
    }
}

/// An open directory of the target.
pub(super) struct Directory<'s, 'a> {
    pub(super) crew: &'s Workers<'a>,
    pub(super) directories: &'s Directories,
    /// Its index among the directories.
    pub(super) place: usize,
    pub(super) file: &'s File,
}

impl Directory<'_, '_> {
    fn make(&self, entry: Entry<'_>, source: &mut CopySource<'_>) -> Result<(), Error> {
        let name = entry.name;
        let special = |of, number: DeviceNumber| {
            let number = makedev(number.major.into(), number.minor.into());
            move |mode| mknodat(self.file, name, of, mode, number)
        };
        let made = match &self.crew.layer.tree.node(entry.node).kind {
            Kind::Regular(file) => return self.make_file(entry, file, source),
            Kind::Directory(_) => Ok(()),
            Kind::Symlink(to) => self.make_unopened(entry, |_| symlinkat(&**to, self.file, name)),
            &Kind::CharDevice(number) => self.make_unopened(entry, special(SFlag::S_IFCHR, number)),
            &Kind::BlockDevice(number) => {
                self.make_unopened(entry, special(SFlag::S_IFBLK, number))
            }
            Kind::Fifo => self.make_unopened(entry, special(SFlag::S_IFIFO, NO_DEVICE)),
            Kind::Socket => self.make_unopened(entry, special(SFlag::S_IFSOCK, NO_DEVICE)),
        };
        made.map_err(|failure| failure.of(self.crew.layer, entry.node))
    }

    /// Makes an entry that is not a file with bytes and must not be opened.
    fn make_unopened(
        &self,
        entry: Entry<'_>,
        make: impl Fn(Mode) -> nix::Result<()>,
    ) -> Result<(), Failure> {
        let node = self.crew.layer.tree.node(entry.node);
        let start = self.directories.start(self.crew, self.place, entry.node);
        self.make_anew(entry.name, || make(start.mode))?;
        let made = NewEntry {
            directory: self.file.as_fd(),
            name: entry.name,
            start,
            has_mode: !matches!(node.kind, Kind::Symlink(_)),
        };
        attributes::set_unopened(self.crew, made, &node.meta)
    }

    fn make_file(
        &self,
        entry: Entry<'_>,
        file: &Regular,
        source: &mut CopySource<'_>,
    ) -> Result<(), Error> {
        let layer = self.crew.layer;
        let here = |failure: Failure| failure.of(layer, entry.node);
        let (target, start) = self.create(entry).map_err(here)?;
        source.copy(self.crew, (entry.node, file), &target)?;
        let meta = &layer.tree.node(entry.node).meta;
        attributes::set(self.crew, &target, meta, start).map_err(here)
    }

    /// Creates an empty file.
    pub(super) fn create(&self, entry: Entry<'_>) -> Result<(File, Start), Failure> {
        let start = self.directories.start(self.crew, self.place, entry.node);
        let create = || openat(self.file, entry.name, NEW_FILE, start.mode);
        Ok((self.make_anew(entry.name, create)?.into(), start))
    }

    /// Makes an entry in the place of what the layers below have there. The old one is removed, not overwritten,
    /// because it may have other names.
    pub(super) fn make_anew<T>(
        &self,
        name: &[u8],
        make: impl Fn() -> nix::Result<T>,
    ) -> Result<T, Failure> {
        match make() {
            Err(Errno::EEXIST) if !self.directories.is_bare(self.place) => {
                remove(self.crew, self.file, name)?;
                make()
            }
            made => made,
        }
        .map_err(failed("create"))
    }
}
