//! A layer on its device.

use super::branch::PIECE;
use super::halt::Halt;
use super::lookup::{Finder, Names, Place, Step};
use super::once::Once;
use super::pool::ThinDevice;
use super::read_job::ReadJob;
use super::write_checksums::WriteChecksums;
use crate::crc64::{self, Crc64};
use crate::devicemapper::ROOTFS;
use crate::ext4::Ino;
use crate::ext4::read::{ReadAt, Type, View};
use crate::tar_split::{ContentRecord, Contents, FileLookup};
use crate::tree::{Segment, escape};

/// A layer's merged tree on its device.
#[derive(Clone, Copy)]
pub(crate) struct DeviceTree<'a> {
    pub(crate) view: &'a View,
    pub(crate) rootfs: Ino,
}

impl<'a> DeviceTree<'a> {
    /// The tree in a file system; `None` if it has none.
    pub(crate) fn of(view: &'a View) -> Option<Self> {
        let rootfs = view.lookup(Ino::ROOT, ROOTFS.as_bytes())?;
        is_directory(view, rootfs).then_some(Self { view, rootfs })
    }
}

pub(crate) fn is_directory(view: &View, ino: Ino) -> bool {
    view.inode(ino)
        .is_some_and(|inode| inode.file_type() == Some(Type::Directory))
}

impl Names for DeviceTree<'_> {
    type Node = Ino;

    fn root(&self) -> Ino {
        self.rootfs
    }

    fn step(&self, directory: Ino, name: &[u8]) -> Option<Step<'_, Ino>> {
        let ino = self.view.lookup(directory, name)?;
        let inode = self.view.inode(ino)?;
        Some(match inode.file_type() {
            Some(Type::Directory) => Step::Directory(ino),
            Some(Type::Symlink) => Step::Symlink(ino, inode.target().unwrap_or_default()),
            _ => Step::Other(ino),
        })
    }
}

/// A contiguous part of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stretch {
    /// The offset in the file where it begins, in bytes.
    pub(crate) offset: u64,
    /// Its length in bytes.
    pub(crate) bytes: u64,
    /// The offset on the device; `None`: the bytes are zeros.
    pub(crate) place: Option<u64>,
}

impl Stretch {
    fn end(&self) -> u64 {
        self.offset + self.bytes
    }
}

/// The locations of a file's bytes: adjoining stretches from its beginning to its end.
pub(crate) fn stretches(view: &View, ino: Ino, size: u64) -> Vec<Stretch> {
    let block = u64::from(view.block_bytes());
    let mut all: Vec<Stretch> = Vec::new();
    let mut end = 0;
    let zeros = |from: u64, to: u64| Stretch {
        offset: from,
        bytes: to - from,
        place: None,
    };
    for run in view.extents(ino).filter(|run| !run.unwritten) {
        let start = u64::from(run.logical) * block;
        // Overlapping runs are a fault of the file system, which is reported elsewhere.
        if start < end || start >= size {
            continue;
        }
        if start > end {
            all.push(zeros(end, start));
        }
        let bytes = (u64::from(run.blocks) * block).min(size - start);
        let place = run.physical * block;
        end = start + bytes;
        match all.last_mut() {
            // A long stretch consists of several runs, because a run's number of blocks is limited.
            Some(last)
                if last
                    .place
                    .is_some_and(|before| before + last.bytes == place) =>
            {
                last.bytes += bytes;
            }
            _ => all.push(Stretch {
                offset: start,
                bytes,
                place: Some(place),
            }),
        }
    }
    if end < size {
        all.push(zeros(end, size));
    }
    all
}

/// The regular files of a layer's device.
pub(crate) struct DeviceFiles<'a> {
    work: &'a ReadJob<'a>,
    device: ThinDevice<'a>,
    tree: DeviceTree<'a>,
    /// The stretches of the file that was opened last.
    open: Vec<Stretch>,
    buffer: Vec<u8>,
}

impl<'a> DeviceFiles<'a> {
    pub(crate) fn new(work: &'a ReadJob<'a>, device: ThinDevice<'a>, tree: DeviceTree<'a>) -> Self {
        Self {
            work,
            device,
            tree,
            open: Vec::new(),
            buffer: Vec::new(),
        }
    }

    /// Opens a file of `size` bytes.
    pub(crate) fn open(&mut self, ino: Ino, size: u64) {
        self.open = stretches(self.tree.view, ino, size);
    }

    /// The parts of the open file that have data, in ascending order.
    pub(crate) fn data(&self) -> impl Iterator<Item = Segment> {
        let stretches = self.open.iter().filter(|stretch| stretch.place.is_some());
        stretches.map(|stretch| Segment {
            start: stretch.offset,
            end: stretch.end(),
        })
    }

    /// Fills the whole `buffer` with the open file's bytes, beginning at `offset`.
    pub(crate) fn read_at(&self, buffer: &mut [u8], offset: u64) -> std::io::Result<()> {
        let first = self.open.partition_point(|stretch| stretch.end() <= offset);
        let mut filled = 0;
        for stretch in &self.open[first..] {
            if filled == buffer.len() {
                break;
            }
            let at = offset + filled as u64;
            let left = usize::try_from(stretch.end() - at).unwrap_or(usize::MAX);
            let part = left.min(buffer.len() - filled);
            let bytes = &mut buffer[filled..filled + part];
            match stretch.place {
                None => bytes.fill(0),
                Some(place) => {
                    self.device.read_at(bytes, place + (at - stretch.offset))?;
                    self.work.read(part as u64);
                }
            }
            filled += part;
        }
        buffer[filled..].fill(0);
        Ok(())
    }

    /// Reads the whole open file piece by piece; returns its checksum.
    fn read_all(&mut self, sink: &mut dyn FnMut(&[u8])) -> Result<u64, std::io::Error> {
        let size = self.open.last().map_or(0, Stretch::end);
        let mut buffer = std::mem::take(&mut self.buffer);
        let mut crc = Crc64::new();
        let mut at = 0;
        while at < size && !self.work.is_cancelled() {
            let bytes = (size - at).min(PIECE as u64);
            buffer.resize(usize::try_from(bytes).expect("at most a piece"), 0);
            self.read_at(&mut buffer, at)?;
            crc.update(&buffer);
            sink(&buffer);
            at += bytes;
        }
        self.buffer = buffer;
        Ok(crc.value())
    }

    /// The checksum of the open file, from the checksums recorded when it was written; stretches without a recorded
    /// checksum are read.
    fn checksum(&self, written: &WriteChecksums<'_>) -> Result<u64, std::io::Error> {
        self.checksum_by(|stretch, place| {
            match written.checksum(&self.device, place, stretch.bytes) {
                Some(known) => Ok(known),
                None => self.read_stretch(stretch),
            }
        })
    }

    /// The checksum of the open file if all of it was recorded; nothing is read.
    pub(crate) fn noted_checksum(&self, written: &WriteChecksums<'_>) -> Option<u64> {
        let noted = |stretch: Stretch, place| {
            let noted = written.checksum(&self.device, place, stretch.bytes);
            noted.ok_or(())
        };
        self.checksum_by(noted).ok()
    }

    /// The checksum of the open file, all of it read.
    pub(crate) fn read_checksum(&self) -> Result<u64, std::io::Error> {
        self.checksum_by(|stretch, _| self.read_stretch(stretch))
    }

    /// The checksum of the open file, combined from those of its stretches. `of` computes these from a stretch and its
    /// place on the device.
    fn checksum_by<E>(&self, of: impl Fn(Stretch, u64) -> Result<u64, E>) -> Result<u64, E> {
        let mut crc = crc64::EMPTY;
        let mut at = 0;
        for &stretch in &self.open {
            let part = match stretch.place {
                None => crc64::zeros(stretch.bytes),
                Some(place) => of(stretch, place)?,
            };
            crc = crc64::combine(crc, part, stretch.bytes);
            at += stretch.bytes;
        }
        debug_assert_eq!(at, self.open.last().map_or(0, Stretch::end));
        Ok(crc)
    }

    fn read_stretch(&self, stretch: Stretch) -> std::io::Result<u64> {
        let mut crc = Crc64::new();
        let mut buffer = vec![0; PIECE];
        let mut at = stretch.offset;
        while at < stretch.end() && !self.work.is_cancelled() {
            let bytes = (stretch.end() - at).min(PIECE as u64);
            let part = &mut buffer[..usize::try_from(bytes).expect("at most a piece")];
            self.read_at(part, at)?;
            crc.update(part);
            at += bytes;
        }
        Ok(crc.value())
    }
}

/// The files of a tar, read from the device.
pub(crate) struct TarFiles<'a> {
    files: DeviceFiles<'a>,
    finder: Finder<'a, DeviceTree<'a>>,
    /// Checksums of what was written, used instead of reading.
    written: Option<WriteChecksums<'a>>,
    /// The device below, of which the device is a snapshot.
    below: Option<&'a View>,
    once: Once<Ino>,
}

impl<'a> TarFiles<'a> {
    pub(crate) fn new(
        files: DeviceFiles<'a>,
        tree: &'a DeviceTree<'a>,
        (written, below): (Option<WriteChecksums<'a>>, Option<&'a View>),
    ) -> Self {
        Self {
            files,
            finder: Finder::new(tree),
            written,
            below,
            once: Once::default(),
        }
    }

    /// Whether a file may be read: each of the layer's own files may be read once. A tar's record may name other files.
    fn may_read(&mut self, ino: Ino, size: u64) -> bool {
        let view = self.files.tree.view;
        let is_same =
            |below: &View| below.inode(ino).is_some() && below.inode(ino) == view.inode(ino);
        if self.below.is_some_and(is_same) {
            self.once.note(ino);
        }
        self.once.may_read(ino, size)
    }
}

impl Contents for TarFiles<'_> {
    type Error = Halt;

    fn content(
        &mut self,
        path: &[u8],
        recorded: ContentRecord,
        sink: &mut dyn FnMut(&[u8]),
    ) -> Result<FileLookup, Halt> {
        self.files.work.go_on()?;
        let ino = match self.finder.find(path) {
            Place::Absent => return Ok(FileLookup::Absent),
            Place::Blocked => return Ok(FileLookup::Blocked),
            Place::Far => return Ok(FileLookup::Again),
            Place::Entry(ino) => ino,
        };
        let inode = self.files.tree.view.inode(ino);
        let Some(inode) = inode.filter(|inode| inode.file_type() == Some(Type::Regular)) else {
            return Ok(FileLookup::NotRegular);
        };
        if inode.size() != recorded.size {
            return Ok(FileLookup::OtherSize(inode.size()));
        }
        if !self.may_read(ino, recorded.size) {
            return Ok(FileLookup::Again);
        }
        self.files.open(ino, recorded.size);
        let crc64 = match &self.written {
            Some(written) => self.files.checksum(written),
            None => self.files.read_all(sink),
        };
        let crc64 = crc64.map_err(|source| Halt::Device {
            path: format!("/{}", escape(path)),
            source,
        })?;
        // A file whose reading was cut short by the signal has no checksum.
        self.files.work.go_on()?;
        Ok(FileLookup::Content { crc64 })
    }
}
