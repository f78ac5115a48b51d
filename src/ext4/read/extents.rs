//! Which blocks an inode has, as it says itself: extent trees and the block maps of old.
//!
//! Source: linux v6.6 `fs/ext4/ext4_extents.h`, `Documentation/filesystems/ext4/blockmap.rst`. A node is read only if no
//! one had its block before, so that trees that run into each other cost no more than what is there.

use zerocopy::FromBytes;

use super::error::Error;
use super::fault::{ExtentFault, InodeFault};
use super::inode::{FLAG_EXTENTS, IN_INODE, InodeFields, Type, word};
use super::owner::{Owner, Part};
use super::work::Work;
use crate::ext4::format::{EXTENT_MAGIC, ExtentHeader, ExtentIndex, ExtentLeaf};
use crate::ext4::ino::Ino;

/// Bytes of a node's head and of its entries.
const ENTRY: usize = size_of::<ExtentHeader>();
/// Most levels below a root.
const MAX_DEPTH: u16 = 5;
/// Most blocks of a written run; a larger number says that it was never written.
const MAX_WRITTEN: u16 = 32_768;
/// Blocks that an old map names one by one in the inode.
const DIRECT: usize = 12;
/// Bytes beyond which a directory without `large_dir` does not reach.
const DIRECTORY_BYTES: u64 = 1 << 31;

/// A run of blocks of a file. What lies between runs is a hole and reads as zeros.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// Its first block's number in the file.
    pub logical: u32,
    /// How many blocks, of [`View::block_bytes`](super::view::View::block_bytes) each.
    pub blocks: u32,
    /// Its first block's number in the file system.
    pub physical: u64,
    /// Taken, but never written: it reads as zeros.
    pub unwritten: bool,
}

/// All blocks of an inode but those of attributes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Mapping {
    pub(super) runs: Box<[Run]>,
    /// Blocks that hold the tree itself.
    pub(super) nodes: Box<[u64]>,
    /// Something else has one of the blocks.
    pub(super) is_contested: bool,
}

impl Mapping {
    /// The number behind the last block.
    pub(super) fn end(&self) -> u64 {
        self.runs.last().map_or(0, end)
    }

    /// The number of the last block that was written, plus one.
    pub(super) fn written_end(&self) -> u64 {
        self.runs
            .iter()
            .filter(|run| !run.unwritten)
            .map(end)
            .max()
            .unwrap_or(0)
    }

    /// Blocks taken in all.
    pub(super) fn nr_blocks(&self) -> u64 {
        let data: u64 = self.runs.iter().map(|run| u64::from(run.blocks)).sum();
        data + self.nodes.len() as u64
    }
}

fn end(run: &Run) -> u64 {
    u64::from(run.logical) + u64::from(run.blocks)
}

/// An inode's blocks being gathered.
struct Walk<'w, 'a> {
    work: &'w mut Work<'a>,
    ino: Ino,
    own: &'w InodeFields,
    is_directory: bool,
    runs: Vec<Run>,
    nodes: Vec<u64>,
    is_contested: bool,
    faults: Vec<InodeFault>,
}

/// Takes an inode's blocks.
pub(super) fn read(
    work: &mut Work<'_>,
    ino: Ino,
    own: &InodeFields,
    faults: &mut Vec<InodeFault>,
) -> Result<Mapping, Error> {
    if !own.has_blocks() {
        return Ok(Mapping::default());
    }
    let mut walk = Walk {
        work,
        ino,
        own,
        is_directory: own.file_type() == Some(Type::Directory),
        runs: Vec::new(),
        nodes: Vec::new(),
        is_contested: false,
        faults: Vec::new(),
    };
    if own.flags & FLAG_EXTENTS != 0 {
        walk.extents()?;
    } else {
        walk.block_map()?;
    }
    faults.append(&mut walk.faults);
    Ok(Mapping {
        runs: walk.runs.into(),
        nodes: walk.nodes.into(),
        is_contested: walk.is_contested,
    })
}

impl Walk<'_, '_> {
    fn extents(&mut self) -> Result<(), Error> {
        let root = self.own.i_block;
        match header(&root, None) {
            Some(header) if header.eh_depth.get() <= MAX_DEPTH => self.node(&root, header, None),
            _ => {
                self.fault(ExtentFault::Header(0));
                Ok(())
            }
        }
    }

    /// A node whose runs end before the logical block `end`, if there is more behind them.
    fn node(&mut self, bytes: &[u8], header: ExtentHeader, end: Option<u32>) -> Result<(), Error> {
        let entries = bytes[ENTRY..]
            .chunks_exact(ENTRY)
            .take(header.eh_entries.get().into());
        if header.eh_depth == 0 {
            for entry in entries {
                let leaf = ExtentLeaf::read_from_bytes(entry).expect("it has that size");
                self.leaf(&leaf, end);
            }
            return Ok(());
        }
        let index = |bytes: &[u8]| ExtentIndex::read_from_bytes(bytes).expect("it has that size");
        let mut entries = entries.map(index).peekable();
        while let Some(entry) = entries.next() {
            let end = entries.peek().map_or(end, |next| Some(next.ei_block.get()));
            self.child(&entry, header.eh_depth.get() - 1, end)?;
        }
        Ok(())
    }

    fn child(&mut self, entry: &ExtentIndex, depth: u16, end: Option<u32>) -> Result<(), Error> {
        let block = u64::from(entry.ei_leaf_hi.get()) << 32 | u64::from(entry.ei_leaf_lo.get());
        if !self.work.geometry.is_block(block) {
            self.fault(ExtentFault::Range {
                start: block,
                blocks: 1,
            });
            return Ok(());
        }
        if !self.take_node(block) {
            return Ok(());
        }
        let bytes = self.work.read_block(block)?;
        let Some(header) = header(&bytes, Some(depth)) else {
            self.fault(ExtentFault::Header(block));
            return Ok(());
        };
        if !self.has_right_sum(&bytes, header) {
            self.fault(ExtentFault::Checksum(block));
        }
        // Runs and index entries both start with their logical block.
        let first = u32::from_le_bytes(bytes[ENTRY..][..4].try_into().expect("four bytes"));
        if first != entry.ei_block.get() {
            self.fault(ExtentFault::Order(first));
        }
        self.node(&bytes, header, end)
    }

    fn has_right_sum(&self, bytes: &[u8], header: ExtentHeader) -> bool {
        let sums = self.work.geometry.sums;
        if !sums.of_all() {
            return true;
        }
        // Behind the last entry that there could be.
        let tail = ENTRY * (1 + usize::from(header.eh_max.get()));
        let Some(found) = bytes[tail..].first_chunk() else {
            return false;
        };
        let expected = sums
            .of_inode(self.ino, self.own.generation)
            .sum(&[&bytes[..tail]]);
        u32::from_le_bytes(*found) == expected
    }

    fn leaf(&mut self, leaf: &ExtentLeaf, end: Option<u32>) {
        let unwritten = leaf.ee_len.get() > MAX_WRITTEN;
        let blocks = leaf.ee_len.get() - if unwritten { MAX_WRITTEN } else { 0 };
        let run = Run {
            logical: leaf.ee_block.get(),
            blocks: blocks.into(),
            physical: u64::from(leaf.ee_start_hi.get()) << 32 | u64::from(leaf.ee_start_lo.get()),
            unwritten,
        };
        let first = self.runs.last().map_or(0, self::end);
        let last = self::end(&run);
        if run.blocks == 0 {
            self.fault(ExtentFault::Empty(run.logical));
        } else if !self.work.geometry.is_range(run.physical, run.blocks.into()) {
            self.fault(ExtentFault::Range {
                start: run.physical,
                blocks: run.blocks.into(),
            });
        } else if u64::from(run.logical) < first
            || end.is_some_and(|end| last > end.into())
            || last > 1 << 32
        {
            self.fault(ExtentFault::Order(run.logical));
        } else {
            self.check_directory_run(&run, first);
            self.take(run);
        }
    }

    fn check_directory_run(&mut self, run: &Run, first: u64) {
        if !self.is_directory {
            return;
        }
        let block_bytes = u64::from(self.work.geometry.block_bytes);
        let is_large = self.work.geometry.features.large_dir();
        if !is_large && end(run) * block_bytes > DIRECTORY_BYTES {
            self.fault(ExtentFault::Beyond(run.logical));
        }
        if run.unwritten {
            self.fault(ExtentFault::Unwritten(run.logical));
        }
        if u64::from(run.logical) > first {
            self.faults.push(InodeFault::Hole(first));
        }
    }

    fn block_map(&mut self) -> Result<(), Error> {
        let i_block: &[u8; IN_INODE] = &self.own.i_block;
        for at in 0..DIRECT {
            self.mapped(word(i_block, at).into(), u32::try_from(at).expect("12"));
        }
        let per_block = self.work.geometry.block_bytes / 4;
        let mut logical = u32::try_from(DIRECT).expect("12");
        for level in 1..=3 {
            let at = DIRECT - 1 + level as usize;
            self.indirect(word(i_block, at).into(), level, logical)?;
            logical += per_block.pow(level);
        }
        self.take_pending();
        Ok(())
    }

    /// A block of block numbers, `level` steps above the file's own.
    fn indirect(&mut self, block: u64, level: u32, logical: u32) -> Result<(), Error> {
        if block == 0 {
            return Ok(());
        }
        if !self.work.geometry.is_block(block) {
            self.faults.push(InodeFault::BlockMap(block));
            return Ok(());
        }
        if !self.take_node(block) {
            return Ok(());
        }
        let bytes = self.work.read_block(block)?;
        let span = (self.work.geometry.block_bytes / 4).pow(level - 1);
        let mut logical = logical;
        for entry in bytes.chunks_exact(4) {
            let block = u32::from_le_bytes(entry.try_into().expect("four bytes")).into();
            match level {
                1 => self.mapped(block, logical),
                _ => self.indirect(block, level - 1, logical)?,
            }
            logical += span;
        }
        Ok(())
    }

    /// One block of the file, joined to the run before it if both meet.
    fn mapped(&mut self, block: u64, logical: u32) {
        if block == 0 {
            return;
        }
        if !self.work.geometry.is_block(block) {
            self.faults.push(InodeFault::BlockMap(block));
            return;
        }
        if let Some(last) = self.runs.last_mut()
            && end(last) == u64::from(logical)
            && last.physical + u64::from(last.blocks) == block
        {
            last.blocks += 1;
            return;
        }
        let first = self.runs.last().map_or(0, end);
        self.take_pending();
        let run = Run {
            logical,
            blocks: 1,
            physical: block,
            unwritten: false,
        };
        self.check_directory_run(&run, first);
        self.runs.push(run);
    }

    /// Takes the last run of a block map, which grows while it is read.
    fn take_pending(&mut self) {
        if let Some(run) = self.runs.pop() {
            self.take(run);
        }
    }

    fn take(&mut self, run: Run) {
        let part = if self.is_directory {
            Part::Directory
        } else {
            Part::Data
        };
        let owner = Owner {
            ino: self.ino,
            part,
            logical: run.logical,
        };
        if !self.work.claim(run.physical, run.blocks.into(), owner) {
            self.contested(run.physical, run.blocks.into());
        }
        self.runs.push(run);
    }

    /// Whether the block of a node was no one else's.
    fn take_node(&mut self, block: u64) -> bool {
        let is_free = self.work.claim(block, 1, Owner::new(self.ino, Part::Node));
        if is_free {
            self.nodes.push(block);
        } else {
            self.contested(block, 1);
        }
        is_free
    }

    fn contested(&mut self, block: u64, blocks: u64) {
        self.is_contested = true;
        self.faults.push(InodeFault::Claimed { block, blocks });
    }

    fn fault(&mut self, fault: ExtentFault) {
        self.faults.push(InodeFault::Extents(fault));
    }
}

/// The head of a node, if it makes sense; a root's depth is not known before.
pub(super) fn header(bytes: &[u8], depth: Option<u16>) -> Option<ExtentHeader> {
    let header = ExtentHeader::read_from_prefix(bytes).ok()?.0;
    let most = u16::try_from((bytes.len() - ENTRY) / ENTRY).ok()?;
    let (entries, max) = (header.eh_entries.get(), header.eh_max.get());
    let is_node = depth.is_some();
    let is_right = header.eh_magic.get() == EXTENT_MAGIC
        && entries <= max
        // A little room may be kept for what comes behind.
        && (most.saturating_sub(2)..=most).contains(&max)
        && depth.is_none_or(|depth| header.eh_depth.get() == depth)
        && (entries > 0 || !is_node);
    is_right.then_some(header)
}
