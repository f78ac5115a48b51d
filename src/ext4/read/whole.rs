//! Reading all of a file system.

use std::sync::Arc;

use imbl::{OrdMap, OrdSet, Vector};

use super::checked_view::CheckedView;
use super::device::ReadAt;
use super::error::Error;
use super::fault::{Fault, GroupFault};
use super::group::{Desc, Group};
use super::inode::{self, Slot};
use super::layout::{Geometry, SUPER_BYTES, SUPER_OFFSET};
use super::superblock::Super;
use super::view::{FixedMetadata, Unit, View};
use super::work::{self, Work};
use crate::ext4::ino::Ino;

/// Bytes of an inode table that are read at once.
const CHUNK: u64 = 256 << 10;
/// Groups without places in their descriptors that are put up with.
const MAX_EMPTY_GROUPS: usize = 4096;

impl View {
    /// Reads and checks all of a file system. Faults do not end it.
    ///
    /// # Errors
    ///
    /// [`Error`] if the device cannot be read, or its superblock is none that anything can be read by.
    pub fn read(device: &dyn ReadAt) -> Result<CheckedView, Error> {
        let (geometry, superblock) = read_super(device)?;
        check_end(device, &geometry)?;
        let view = Self {
            groups: Vector::new(),
            fixed: Arc::default(),
            geometry: Arc::new(geometry),
            superblock,
            inodes: OrdMap::new(),
            names: OrdMap::new(),
            links: OrdMap::new(),
            owners: OrdMap::new(),
            xattrs: OrdMap::new(),
            sharers: OrdSet::new(),
            faults: OrdMap::new(),
            nr_faults: 0,
            has_more_faults: false,
            is_tangled: false,
        };
        let mut work = Work::new(device, view, None);
        work.read_groups()?;
        for group in 0..work.geometry.groups {
            let visible = work.visible_inodes(group);
            work.read_table(group, 0..visible, |work, ino, slot| {
                work.add_slot(ino, slot, None)
            })?;
        }
        work.judge()
    }
}

pub(super) fn read_super(device: &dyn ReadAt) -> Result<(Geometry, Super), Error> {
    let mut bytes = [0; SUPER_BYTES];
    work::read(device, &mut bytes, SUPER_OFFSET)?;
    let (geometry, raw) = Geometry::parse(&bytes)?;
    let superblock = Super::new(&raw, &geometry);
    Ok((geometry, superblock))
}

/// Fails unless the device is as long as the file system says.
fn check_end(device: &dyn ReadAt, geometry: &Geometry) -> Result<(), Error> {
    let offset = geometry.offset(geometry.blocks - 1);
    let mut last = vec![0; geometry.block_size()];
    match device.read_at(&mut last, offset) {
        Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => Err(Error::Short {
            blocks: geometry.blocks,
            block_bytes: geometry.block_bytes,
        }),
        Err(source) => Err(Error::Io {
            offset,
            bytes: last.len(),
            source,
        }),
        Ok(()) => Ok(()),
    }
}

impl Work<'_> {
    /// Reads the descriptors and takes the blocks that they and the layout tell.
    fn read_groups(&mut self) -> Result<(), Error> {
        let geometry = Arc::clone(&self.geometry);
        let mut empty = 0;
        for index in 0..geometry.descriptor_blocks() {
            let block = geometry.descriptor_block(index);
            if !geometry.is_block(block) {
                return Err(Error::Superblock {
                    field: "s_first_meta_bg",
                    value: block,
                });
            }
            let descs = self.read_descs(index)?;
            let is_empty = |desc: &Desc| desc.places == super::group::Places::default();
            empty += descs.iter().filter(|desc| is_empty(desc)).count();
            // What claims to be there and is not would cost memory for each of its groups.
            if empty > MAX_EMPTY_GROUPS {
                return Err(Error::Superblock {
                    field: "s_blocks_count (without descriptors for as many groups)",
                    value: geometry.blocks,
                });
            }
            self.view.groups.extend(descs.into_iter().map(|desc| Group {
                desc,
                ..Group::default()
            }));
        }
        self.take_fixed();
        Ok(())
    }

    /// The descriptors in a block of the first table.
    pub(super) fn read_descs(&self, index: u32) -> Result<Vec<Desc>, Error> {
        let geometry = &self.geometry;
        let bytes = self.read_block(geometry.descriptor_block(index))?;
        let groups = index * geometry.descriptors_per_block()..geometry.groups;
        let slots = bytes.chunks_exact(geometry.desc_bytes);
        Ok(groups
            .zip(slots)
            .map(|(group, slot)| Desc::parse(slot, group, geometry))
            .collect())
    }

    /// Takes the blocks of superblocks, descriptors, bitmaps and inode tables, and the reserved inodes.
    fn take_fixed(&mut self) {
        let geometry = Arc::clone(&self.geometry);
        let mut fixed = Vec::new();
        for group in 0..geometry.groups {
            let blocks = geometry
                .head_blocks(group)
                .min(geometry.group_blocks(group));
            let start = geometry.group_start(group);
            if blocks > 0 {
                self.set_blocks(start, blocks.into());
                fixed.push((start, FixedMetadata::Head { group }));
            }
        }
        for group in 0..geometry.groups {
            let places = self.view.groups[group as usize].desc.places;
            let tables = [
                (
                    "block bitmap",
                    places.block_bitmap,
                    1,
                    FixedMetadata::BlockBitmap { group },
                ),
                (
                    "inode bitmap",
                    places.inode_bitmap,
                    1,
                    FixedMetadata::InodeBitmap { group },
                ),
                (
                    "inode table",
                    places.inode_table,
                    geometry.table_blocks(),
                    FixedMetadata::InodeTable { group },
                ),
            ];
            for (what, block, blocks, kind) in tables {
                let fault = if !may_be_in(&geometry, group, block, blocks.into()) {
                    GroupFault::Place { what, block }
                } else if !self.set_blocks(block, blocks.into()) {
                    GroupFault::Overlap { what, block }
                } else {
                    fixed.push((block, kind));
                    continue;
                };
                // A table that is not where it can be is not read either.
                self.view.is_tangled = true;
                self.add_fault(Unit::Tables(group), Fault::Group { group, fault });
            }
        }
        fixed.sort_unstable_by_key(|(block, _)| *block);
        self.view.fixed = fixed.into();
        for ino in (1..geometry.first_ino.0).map(Ino) {
            let (group, index) = geometry.inode_place(ino);
            let bits = &mut self.view.groups[group as usize].inodes;
            bits.set(index..index + 1);
        }
    }

    /// Inodes of a group that may be in use, none where there is no table.
    pub(super) fn visible_inodes(&self, group: u32) -> u32 {
        let desc = &self.view.groups[group as usize].desc;
        let table = (desc.places.inode_table, FixedMetadata::InodeTable { group });
        let fixed = &self.view.fixed;
        let at = fixed.binary_search_by_key(&table.0, |(block, _)| *block);
        // Something else that begins there was there first.
        if !at.is_ok_and(|at| fixed[at] == table) {
            return 0;
        }
        desc.visible_inodes(&self.geometry)
    }

    /// Hands on what stands at the places of a range of a group's inode table, but for those where nothing is.
    pub(super) fn read_table(
        &mut self,
        group: u32,
        range: std::ops::Range<u32>,
        mut take: impl FnMut(&mut Self, Ino, Slot) -> Result<(), Error>,
    ) -> Result<(), Error> {
        // A group without a table has an empty range, and says nothing of where the table is.
        if range.is_empty() {
            return Ok(());
        }
        let geometry = Arc::clone(&self.geometry);
        let each = geometry.inode_bytes as u64;
        let table = geometry.offset(self.view.groups[group as usize].desc.places.inode_table);
        let (mut at, end) = (u64::from(range.start), u64::from(range.end));
        let mut bytes = Vec::new();
        while at < end {
            let Some(data) = self.next_data(table + at * each)? else {
                break;
            };
            at = at.max((data - table) / each);
            let count = (CHUNK / each).min(end.saturating_sub(at));
            bytes.resize(usize::try_from(count * each).expect("a chunk"), 0);
            self.read(&mut bytes, table + at * each)?;
            for slot in bytes.chunks_exact(geometry.inode_bytes) {
                let number = u64::from(group) * u64::from(geometry.inodes_per_group) + at + 1;
                let ino = Ino(u32::try_from(number).expect("at most all inodes"));
                take(self, ino, inode::decode(slot, ino, &geometry))?;
                at += 1;
            }
        }
        Ok(())
    }

    /// Takes in what stands at an inode's place.
    pub(super) fn add_slot(
        &mut self,
        ino: Ino,
        slot: Slot,
        old: Option<&inode::Inode>,
    ) -> Result<(), Error> {
        match slot {
            Slot::Used(own, faults) => self.add(ino, *own, faults, old),
            Slot::Free(faults) => {
                self.exchange_names(ino, old.and_then(|old| old.directory.as_deref()), None);
                let faults = faults.into_iter().map(|fault| Fault::Inode { ino, fault });
                self.set_faults(Unit::Inode(ino), faults.collect());
                Ok(())
            }
        }
    }
}

/// Whether a group's table may lie there: without `flex_bg`, in the group itself.
fn may_be_in(geometry: &Geometry, group: u32, block: u64, blocks: u64) -> bool {
    if !geometry.is_range(block, blocks) {
        return false;
    }
    let start = geometry.group_start(group);
    let end = start + u64::from(geometry.group_blocks(group));
    geometry.features.flex_bg() || start <= block && block + blocks <= end
}
