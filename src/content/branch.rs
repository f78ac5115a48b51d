//! A layer in aufs: its branch.

use std::path::Path;

use super::halt::Halt;
use super::lookup::{Finder, Names, Place, Step};
use super::once::Once;
use super::read_job::ReadJob;
use crate::aufs;
use crate::crc64::Crc64;
use crate::docker::CacheId;
use crate::source::Layer;
use crate::source::branch_reader::BranchReader;
use crate::tar_split::{ContentRecord, Contents, FileLookup};
use crate::tree::{Kind, LayerTree, NodeId, Segment};

/// Number of bytes that are read at a time.
pub(crate) const PIECE: usize = 1 << 20; // 1 MiB: large enough for any disk, small enough for every thread

impl Names for LayerTree {
    type Node = NodeId;

    fn root(&self) -> NodeId {
        Self::ROOT
    }

    fn step(&self, directory: NodeId, name: &[u8]) -> Option<Step<'_, NodeId>> {
        let node = self.directory(directory)?.entry(name)?;
        Some(match &self.node(node).kind {
            Kind::Directory(_) => Step::Directory(node),
            Kind::Symlink(target) => Step::Symlink(node, target),
            _ => Step::Other(node),
        })
    }
}

/// Reads a branch.
pub(crate) fn read_branch(
    work: &ReadJob<'_>,
    id: &CacheId,
    branch: &Path,
    tar_split: Option<&Path>,
) -> Result<Layer, Halt> {
    let stop = || work.is_cancelled();
    match aufs::read_branch_unless(&stop, branch, tar_split) {
        Ok(read) => Ok(Layer {
            id: id.clone(),
            parent: None,
            branch: branch.to_owned(),
            tree: read.tree,
        }),
        Err(aufs::Error::Stopped) => Err(Halt::Interrupted),
        Err(source) => Err(Halt::Branch {
            path: branch.to_owned(),
            source,
        }),
    }
}

/// Takes a piece of a file, with its offset in the file.
type Sink<'s> = dyn FnMut(u64, &[u8]) -> Result<(), Halt> + 's;

/// The files of a tar, read from aufs.
pub(crate) struct BranchFiles<'a> {
    work: &'a ReadJob<'a>,
    layer: &'a Layer,
    finder: Finder<'a, LayerTree>,
    reader: BranchReader<'a>,
    buffer: Vec<u8>,
    once: Once<NodeId>,
}

impl<'a> BranchFiles<'a> {
    pub(crate) fn new(work: &'a ReadJob<'a>, layer: &'a Layer) -> Result<Self, Halt> {
        Ok(Self {
            work,
            layer,
            finder: Finder::new(&layer.tree),
            reader: BranchReader::new(layer)?,
            buffer: Vec::new(),
            once: Once::default(),
        })
    }

    /// Passes a regular file's bytes to `sink` piece by piece, each with its offset in the file.
    pub(crate) fn read(&mut self, node: NodeId, sink: &mut Sink<'_>) -> Result<(), Halt> {
        let size = self.layer.tree.regular(node).map_or(0, |file| file.size);
        let whole = Segment {
            start: 0,
            end: size,
        };
        self.read_parts(node, &[whole], sink)
    }

    /// Passes parts of a regular file to `sink` in the same way.
    pub(crate) fn read_parts(
        &mut self,
        node: NodeId,
        parts: &[Segment],
        sink: &mut Sink<'_>,
    ) -> Result<(), Halt> {
        let file = self.reader.open(node)?;
        for part in parts {
            let mut at = part.start;
            while at < part.end {
                self.work.go_on()?;
                let bytes = (part.end - at).min(PIECE as u64);
                let length = usize::try_from(bytes).expect("at most a piece");
                self.buffer.resize(length, 0);
                file.read_at(&mut self.buffer, at)?;
                self.work.read(bytes);
                sink(at, &self.buffer)?;
                at += bytes;
            }
        }
        file.check()?;
        Ok(())
    }
}

impl Contents for BranchFiles<'_> {
    type Error = Halt;

    fn content(
        &mut self,
        path: &[u8],
        recorded: ContentRecord,
        sink: &mut dyn FnMut(&[u8]),
    ) -> Result<FileLookup, Halt> {
        let node = match self.finder.find(path) {
            Place::Absent => return Ok(FileLookup::Absent),
            Place::Blocked => return Ok(FileLookup::Blocked),
            Place::Far => return Ok(FileLookup::Again),
            Place::Entry(node) => node,
        };
        let Some(file) = self.layer.tree.regular(node) else {
            return Ok(FileLookup::NotRegular);
        };
        if file.size != recorded.size {
            return Ok(FileLookup::OtherSize(file.size));
        }
        if !self.once.may_read(node, file.size) {
            return Ok(FileLookup::Again);
        }
        let mut crc = Crc64::new();
        self.read(node, &mut |_, bytes| {
            crc.update(bytes);
            sink(bytes);
            Ok(())
        })?;
        Ok(FileLookup::Content { crc64: crc.value() })
    }
}
