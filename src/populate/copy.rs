//! The bytes of files.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;

use super::error::{Error, Failure};
use super::outline::data;
use super::workers::Workers;
use crate::source::branch_reader::{BranchReader, SourceFile};
use crate::tree::{NodeId, Regular};

/// The number of bytes that are read and written with one call.
pub(super) const BUFFER: usize = 256 << 10;

/// The branch that files are read from, and the buffer for their bytes.
pub(super) struct CopySource<'a> {
    branch: BranchReader<'a>,
    buffer: Vec<u8>,
}

impl<'a> CopySource<'a> {
    pub(super) fn new(crew: &Workers<'a>) -> Result<Self, Error> {
        Ok(Self {
            branch: BranchReader::new(crew.layer)?,
            buffer: vec![0; BUFFER],
        })
    }

    /// Fills a new file, and checks that the source is as planned.
    pub(super) fn copy(
        &mut self,
        crew: &Workers<'_>,
        (node, file): (NodeId, &Regular),
        target: &File,
    ) -> Result<(), Error> {
        let mut runs = data(file).peekable();
        let is_whole = runs.peek() == Some(&(0..file.size));
        if is_whole && file.size <= BUFFER as u64 {
            let size = usize::try_from(file.size).expect("it fits the buffer");
            let bytes = &mut self.buffer[..size];
            self.branch.read_whole(node, bytes)?;
            return write(crew, (node, target), bytes, 0);
        }
        if !is_whole && file.size > 0 {
            // This comes first: xfs reserves space for bytes that are written past the end of a file, and would keep it
            // in the holes.
            set_size(crew, (node, target), file.size)?;
        }
        if runs.peek().is_some() {
            let source = self.branch.open(node)?;
            let copy = Copy {
                crew,
                node,
                source: &source,
                target,
            };
            copy.runs(runs, &mut self.buffer)?;
            source.check()?;
        }
        Ok(())
    }
}

/// A file of the branch and its copy, both open.
#[derive(Clone, Copy)]
pub(super) struct Copy<'c> {
    pub(super) crew: &'c Workers<'c>,
    pub(super) node: NodeId,
    pub(super) source: &'c SourceFile<'c>,
    pub(super) target: &'c File,
}

impl Copy<'_> {
    /// Copies several runs of data.
    pub(super) fn runs(
        &self,
        runs: impl IntoIterator<Item = Range<u64>>,
        buffer: &mut [u8],
    ) -> Result<(), Error> {
        for mut run in runs {
            while !run.is_empty() {
                self.crew.go_on()?;
                let left = usize::try_from(run.end - run.start).unwrap_or(usize::MAX);
                let nr = left.min(buffer.len());
                let bytes = &mut buffer[..nr];
                self.source.read_at(bytes, run.start)?;
                write(self.crew, (self.node, self.target), bytes, run.start)?;
                run.start += nr as u64;
            }
        }
        Ok(())
    }
}

fn write(
    crew: &Workers<'_>,
    (node, target): (NodeId, &File),
    bytes: &[u8],
    offset: u64,
) -> Result<(), Error> {
    target
        .write_all_at(bytes, offset)
        .map_err(|source| error(crew, node, "write", source))?;
    crew.run.progress.inc(bytes.len() as u64);
    Ok(())
}

/// Sets a file's size, for holes or for bytes that are written in any order.
pub(super) fn set_size(
    crew: &Workers<'_>,
    (node, target): (NodeId, &File),
    size: u64,
) -> Result<(), Error> {
    target
        .set_len(size)
        .map_err(|source| error(crew, node, "set the size", source))
}

fn error(crew: &Workers<'_>, node: NodeId, op: &'static str, source: io::Error) -> Error {
    Failure::Call(op.into(), source).of(crew.layer, node)
}
