//! Places for the bytes of a layer's files.

use super::state::{DataRun, Draft};
use crate::ext4::format::BLOCK;
use crate::ext4::ino::Ino;
use crate::ext4::write::alloc::Open;
use crate::ext4::write::error::{Error, Problem};
use crate::ext4::write::extents::{Blocks, Extent, push};
use crate::ext4::write::inode::Body;
use crate::tree::{Kind, LayerTree, NodeId, Regular};

/// Largest file: 2^32 blocks less one.
const MAX_BLOCKS: u64 = u32::MAX as u64;

/// A file of the layer that is to get its blocks.
#[derive(Clone, Copy, Debug)]
pub(super) struct File {
    pub(super) node: NodeId,
    pub(super) ino: Ino,
}

/// Blocks of a file that hold data: first block and number, ascending and disjoint.
pub(super) fn ranges(file: &Regular) -> Result<Vec<(u32, u32)>, Problem> {
    let blocks = file.size.div_ceil(BLOCK as u64);
    let whole = u32::try_from(blocks)
        .ok()
        .filter(|_| blocks < MAX_BLOCKS)
        .ok_or(Problem::FileSize { bytes: file.size })?;
    let Some(segments) = &file.segments else {
        return Ok(if whole == 0 {
            Vec::new()
        } else {
            vec![(0, whole)]
        });
    };
    let (mut ranges, mut last_end) = (Vec::<(u32, u32)>::new(), 0);
    for segment in segments.iter() {
        if segment.start < last_end || segment.end <= segment.start || segment.end > file.size {
            return Err(Problem::Segments);
        }
        last_end = segment.end;
        let block = |bytes: u64| u32::try_from(bytes).expect("inside the file");
        let first = block(segment.start / BLOCK as u64);
        let end = block(segment.end.div_ceil(BLOCK as u64));
        match ranges.last_mut() {
            Some((start, count)) if first <= *start + *count => *count = end - *start,
            _ => ranges.push((first, end - first)),
        }
    }
    Ok(ranges)
}

/// Blocks that the files of a layer take.
pub(super) fn total_blocks(layer: &LayerTree) -> u64 {
    let files = layer.nodes().filter_map(|(_, node)| match &node.kind {
        Kind::Regular(file) => ranges(file).ok(),
        _ => None,
    });
    files.flatten().map(|(_, blocks)| u64::from(blocks)).sum()
}

impl Draft {
    /// Gives files their blocks in the order of the list, packed, in clusters of their own.
    pub(super) fn place_files(
        &mut self,
        files: &[File],
        regular: impl Fn(NodeId) -> Vec<(u32, u32)>,
    ) -> Result<(), Error> {
        let count = |file: &File| {
            regular(file.node)
                .iter()
                .map(|&(_, n)| u64::from(n))
                .sum::<u64>()
        };
        let total: u64 = files.iter().map(count).sum();
        let (mut left, mut open) = (total, Open::default());
        // Nearly all files get one run.
        self.data.reserve_exact(files.len());
        let mut scattered = Vec::new();
        for &file in files {
            let mut extents = Vec::new();
            for (logical, blocks) in regular(file.node) {
                let mut rest = (logical, blocks);
                while rest.1 > 0 {
                    let extent = self.place_run(rest, left, &mut open);
                    let extent = extent.ok_or_else(|| self.no_space(0))?;
                    left -= u64::from(extent.blocks);
                    rest = (rest.0 + extent.blocks, rest.1 - extent.blocks);
                    self.data.push(DataRun {
                        node: file.node,
                        ino: file.ino,
                        logical: extent.logical,
                        physical: extent.physical,
                        blocks: extent.blocks,
                    });
                    push(&mut extents, extent);
                }
            }
            let blocks = Blocks::from(extents);
            if blocks.missing_nodes() > 0 {
                scattered.push(file.ino);
            }
            self.inode_mut(file.ino).body = Body::File(blocks);
        }
        // Their nodes come last: a node in between would take a cluster out of the middle of the data.
        scattered
            .into_iter()
            .try_for_each(|ino| self.place_file_nodes(ino))
    }

    fn place_run(
        &mut self,
        (logical, blocks): (u32, u32),
        left: u64,
        open: &mut Open,
    ) -> Option<Extent> {
        let image = &mut self.image;
        let run = image.space.next_run(&image.groups, open, (blocks, left))?;
        let extent = Extent {
            logical,
            physical: run.start,
            blocks: run.end - run.start,
        };
        self.take(run);
        Some(extent)
    }

    fn place_file_nodes(&mut self, ino: Ino) -> Result<(), Error> {
        let Body::File(mut blocks) = self.inode(ino).body.clone() else {
            return Ok(());
        };
        self.place_nodes(ino, &mut blocks)?;
        self.inode_mut(ino).body = Body::File(blocks);
        Ok(())
    }
}
