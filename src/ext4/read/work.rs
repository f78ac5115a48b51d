//! A view being made: of a whole file system, or of a child from its parent's.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;

use super::device::ReadAt;
use super::error::Error;
use super::fault::Fault;
use super::layout::Geometry;
use super::owner::{Claim, Owner};
use super::view::{Unit, View};
use crate::ext4::ino::Ino;

/// Faults that are kept. A file system with more of them needs no list.
pub(super) const MAX_FAULTS: usize = 10_000;

/// The view as far as it is made, and what has to be looked at again at the end.
pub(super) struct Work<'a> {
    device: &'a dyn ReadAt,
    pub(super) geometry: Arc<Geometry>,
    pub(super) view: View,
    /// Blocks that may differ from what was read before, ascending; `None` when nothing was.
    changed: Option<Vec<Range<u64>>>,
    /// Groups of which a bit or a bitmap changed.
    pub(super) groups: BTreeSet<u32>,
    /// Inodes of which the names or the number of links changed; of a whole file system, none are noted.
    pub(super) linked: BTreeSet<Ino>,
    /// Attribute blocks of which the sharers changed.
    pub(super) shared: BTreeSet<u64>,
}

impl<'a> Work<'a> {
    pub(super) fn new(
        device: &'a dyn ReadAt,
        view: View,
        changed: Option<Vec<Range<u64>>>,
    ) -> Self {
        Self {
            device,
            geometry: Arc::clone(&view.geometry),
            view,
            changed,
            groups: BTreeSet::new(),
            linked: BTreeSet::new(),
            shared: BTreeSet::new(),
        }
    }

    /// Whether all of the file system is read.
    pub(super) fn is_whole(&self) -> bool {
        self.changed.is_none()
    }

    /// Whether a block may differ from what it was when it was read before.
    pub(super) fn is_changed(&self, block: u64) -> bool {
        let Some(changed) = &self.changed else {
            return true;
        };
        let behind = changed.partition_point(|range| range.start <= block);
        behind > 0 && changed[behind - 1].contains(&block)
    }

    /// Notes that an inode's names have to be looked at.
    pub(super) fn touch(&mut self, ino: Ino) {
        if !self.is_whole() {
            self.linked.insert(ino);
        }
    }

    pub(super) fn changed(&self) -> &[Range<u64>] {
        self.changed.as_deref().unwrap_or_default()
    }

    /// A block that is known to be one of the file system.
    pub(super) fn read_block(&self, block: u64) -> Result<Vec<u8>, Error> {
        let mut bytes = vec![0; self.geometry.block_size()];
        self.read(&mut bytes, self.geometry.offset(block))?;
        Ok(bytes)
    }

    pub(super) fn read(&self, bytes: &mut [u8], offset: u64) -> Result<(), Error> {
        read(self.device, bytes, offset)
    }

    /// Where, at or after a byte, the next ones lie that may be other than zero.
    pub(super) fn next_data(&self, offset: u64) -> Result<Option<u64>, Error> {
        let next = self.device.next_data(offset);
        next.map_err(|source| Error::Io {
            offset,
            bytes: 0,
            source,
        })
    }

    /// Gives a run of blocks of the file system to an owner. False when someone has one of them already.
    pub(super) fn claim(&mut self, start: u64, blocks: u64, owner: Owner) -> bool {
        if !self.set_blocks(start, blocks) {
            self.view.is_tangled = true;
            return false;
        }
        self.view.owners.insert(start, Claim { blocks, owner });
        true
    }

    /// Marks blocks as taken. False when one of them is already.
    pub(super) fn set_blocks(&mut self, start: u64, blocks: u64) -> bool {
        let mut is_free = true;
        for (group, bits) in self.by_group(start, blocks) {
            is_free &= self.view.groups[group as usize].blocks.set(bits);
            self.groups.insert(group);
        }
        is_free
    }

    pub(super) fn release(&mut self, start: u64, blocks: u64) {
        self.view.owners.remove(&start);
        for (group, bits) in self.by_group(start, blocks) {
            self.view.groups[group as usize].blocks.clear(bits);
            self.groups.insert(group);
        }
    }

    /// The parts of a run by group.
    fn by_group(&self, start: u64, blocks: u64) -> impl Iterator<Item = (u32, Range<u32>)> + use<> {
        let geometry = Arc::clone(&self.geometry);
        let mut at = start;
        std::iter::from_fn(move || {
            if at >= start + blocks {
                return None;
            }
            let (group, first) = geometry.place(at);
            let left = u64::from(geometry.blocks_per_group - first).min(start + blocks - at);
            at += left;
            let end = first + u32::try_from(left).expect("at most a group");
            Some((group, first..end))
        })
    }

    /// Replaces what is known to be wrong with a part.
    pub(super) fn set_faults(&mut self, unit: Unit, faults: Vec<Fault>) {
        let view = &mut self.view;
        if let Some(old) = view.faults.remove(&unit) {
            view.nr_faults -= old.len();
        }
        if faults.is_empty() {
            return;
        }
        if view.nr_faults + faults.len() > MAX_FAULTS {
            view.is_tangled = true;
            return view.has_more_faults = true;
        }
        view.nr_faults += faults.len();
        view.faults.insert(unit, faults.into());
    }

    /// Adds to what is known to be wrong with a part.
    pub(super) fn add_fault(&mut self, unit: Unit, fault: Fault) {
        let known = self.view.faults.get(&unit);
        let mut faults = known.map_or_else(Vec::new, |known| known.to_vec());
        faults.push(fault);
        self.set_faults(unit, faults);
    }
}

pub(super) fn read(device: &dyn ReadAt, bytes: &mut [u8], offset: u64) -> Result<(), Error> {
    let length = bytes.len();
    let done = device.read_at(bytes, offset);
    done.map_err(|source| Error::Io {
        offset,
        bytes: length,
        source,
    })
}
