//! Reading what changed.
//!
//! Whatever an inode consists of is read again when a block of it may differ; everything else stays. All inodes that
//! changed are taken out first and then taken in anew, so that blocks may go from one to another. Where things are
//! tangled (two owners of a block, a name twice, directories below themselves), what is wrong depends on more than what
//! changed, and all is read.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;

use super::checked_view::CheckedView;
use super::device::ReadAt;
use super::error::Error;
use super::inode::{Inode, Slot, Type};
use super::layout::{Geometry, SUPER_BYTES, SUPER_OFFSET};
use super::owner::Part;
use super::resize;
use super::view::{FixedMetadata, Unit, View, XattrBlockUse};
use super::whole::read_super;
use super::work::Work;
use crate::ext4::ino::Ino;

/// What has to be read again.
#[derive(Default)]
struct Stale {
    /// What stands in the table now, where that was read.
    slots: BTreeMap<Ino, Slot>,
    /// Inodes of which other blocks may differ.
    inodes: BTreeSet<Ino>,
    xattrs: BTreeSet<u64>,
}

impl View {
    /// Reads and checks a file system of which only the bytes in `changed` may differ from what `self` was read from:
    /// ranges that ascend. Finds what [`View::read`] would, at the cost of what changed; but if the parent or the child
    /// is so damaged that its parts cannot be told apart, or its size or features changed, everything is read.
    ///
    /// # Errors
    ///
    /// As [`View::read`].
    pub fn derive(
        &self,
        device: &dyn ReadAt,
        changed: &[Range<u64>],
    ) -> Result<CheckedView, Error> {
        let mut view = self.clone();
        let heads = SUPER_OFFSET..SUPER_OFFSET + SUPER_BYTES as u64;
        if changed
            .iter()
            .any(|range| range.start < heads.end && range.end > heads.start)
        {
            let (geometry, superblock) = read_super(device)?;
            // All places and numbers in the parent's view depend on its geometry.
            if geometry != *self.geometry {
                return Self::read(device);
            }
            view.superblock = superblock;
        }
        // Which of two owners gets a block depends on the order in which all inodes are read. Reading only some of them
        // again would find other faults than `View::read`.
        if self.is_tangled {
            return Self::read(device);
        }
        let blocks = blocks(changed, &self.geometry);
        let mut work = Work::new(device, view, Some(blocks));
        if !work.read_changed()? {
            return Self::read(device);
        }
        let checked = work.judge()?;
        // The tangle may involve parts that did not change and were not looked at.
        if checked.view.is_tangled {
            return Self::read(device);
        }
        Ok(checked)
    }
}

/// Ranges of bytes as ranges of whole blocks that do not touch, cut to the file system.
fn blocks(changed: &[Range<u64>], geometry: &Geometry) -> Vec<Range<u64>> {
    let unit = u64::from(geometry.block_bytes);
    let mut blocks: Vec<Range<u64>> = Vec::new();
    for range in changed {
        let range = range.start / unit..range.end.div_ceil(unit).min(geometry.blocks);
        // Byte ranges that share a block or touch become one range, so that whatever spans the boundary is looked at
        // once.
        match blocks.last_mut() {
            _ if range.is_empty() => {}
            Some(last) if last.end >= range.start => last.end = last.end.max(range.end),
            _ => blocks.push(range),
        }
    }
    blocks
}

impl Work<'_> {
    /// Takes in all that changed; false when a table moved, so that all has to be read.
    fn read_changed(&mut self) -> Result<bool, Error> {
        let mut stale = Stale::default();
        for range in self.changed().to_vec() {
            if !self.find_fixed(range.clone(), &mut stale)? {
                return Ok(false);
            }
            // Looked up by the parent's owners, since nothing has been taken out yet. A block that moved to another
            // inode is read with that inode, whose own bytes or tree must have changed as well.
            self.find_owned(range, &mut stale);
        }
        // Attribute blocks before inodes: an inode takes a shared block's attributes from the view, and new attributes
        // in a block make all its sharers stale.
        self.read_stale_xattrs(&mut stale)?;
        self.read_stale_inodes(stale)?;
        Ok(true)
    }

    /// Looks at the tables that lie in a range of blocks.
    fn find_fixed(&mut self, range: Range<u64>, stale: &mut Stale) -> Result<bool, Error> {
        let fixed = Arc::clone(&self.view.fixed);
        // They do not overlap, so that only the one before may reach into the range.
        let mut at = fixed
            .partition_point(|(start, _)| *start < range.start)
            .saturating_sub(1);
        while let Some(&(start, kind)) = fixed.get(at).filter(|(start, _)| *start < range.end) {
            at += 1;
            match kind {
                // Behind the first superblock; of file systems that grew, in other groups too.
                FixedMetadata::Head { group } => {
                    self.find_kept(group, &range, stale);
                    // Only the first copy of the descriptors is read; `meta_bg` spreads it over the groups.
                    let has_first = group == 0 || self.geometry.features.meta_bg();
                    if has_first && !self.find_descriptors(&range, stale)? {
                        return Ok(false);
                    }
                }
                FixedMetadata::BlockBitmap { group } | FixedMetadata::InodeBitmap { group } => {
                    // Bitmaps are not kept. The group is judged again, which reads its bitmaps and compares them with
                    // what is in use.
                    if range.contains(&start) {
                        self.groups.insert(group);
                    }
                }
                FixedMetadata::InodeTable { group } => {
                    self.find_inodes((group, start), &range, stale)?;
                }
            }
        }
        Ok(true)
    }

    /// Looks whether a range has blocks that the resize inode keeps behind a group's descriptors.
    fn find_kept(&self, group: u32, range: &Range<u64>, stale: &mut Stale) {
        let geometry = &self.geometry;
        let start = geometry.group_start(group);
        let kept = start + 1 + u64::from(geometry.descriptor_blocks());
        let end = start + u64::from(geometry.head_blocks(group));
        if geometry.features.resize_inode() && range.start < end && range.end > kept {
            stale.inodes.insert(resize::INO);
        }
    }

    /// Reads descriptors in a range of blocks; false when one tells other places than before.
    fn find_descriptors(&mut self, range: &Range<u64>, stale: &mut Stale) -> Result<bool, Error> {
        let geometry = Arc::clone(&self.geometry);
        for index in 0..geometry.descriptor_blocks() {
            if !range.contains(&geometry.descriptor_block(index)) {
                continue;
            }
            let first = index * geometry.descriptors_per_block();
            for (group, desc) in (first..).zip(self.read_descs(index)?) {
                let old = self.view.groups[group as usize].desc;
                if old == desc {
                    continue;
                }
                // The list of fixed metadata, the blocks marked as taken for it and the inodes read from the old table
                // would all be wrong.
                if old.places != desc.places {
                    return Ok(false);
                }
                self.groups.insert(group);
                // Flags and counts in the descriptor decide how much of the table is read at all. The old number has to
                // be taken before the descriptor is replaced.
                let before = self.visible_inodes(group);
                self.view.groups[group as usize].desc = desc;
                let now = self.visible_inodes(group);
                self.find_visible(group, before, now, stale)?;
            }
        }
        Ok(true)
    }

    /// Inodes that come into view, or go out of it, without a change where they stand.
    fn find_visible(
        &mut self,
        group: u32,
        before: u32,
        now: u32,
        stale: &mut Stale,
    ) -> Result<(), Error> {
        let first = group * self.geometry.inodes_per_group + 1;
        // The table itself need not have changed here, so `find_inodes` may never see these.
        let gone = Ino(first + now.min(before))..Ino(first + before);
        let known: Vec<Ino> = self
            .view
            .inodes
            .range(gone.clone())
            .map(|(&ino, _)| ino)
            .collect();
        for ino in known {
            stale.slots.insert(ino, Slot::Free(Vec::new()));
        }
        // A free inode is not listed, but may have faults. Out of view, it has none.
        let units = Unit::Inode(gone.start)..Unit::Inode(gone.end);
        let wrong: Vec<Unit> = self
            .view
            .faults
            .range(units)
            .map(|(&unit, _)| unit)
            .collect();
        for unit in wrong {
            self.set_faults(unit, Vec::new());
        }
        self.read_table(group, before..now.max(before), |_, ino, slot| {
            stale.slots.insert(ino, slot);
            Ok(())
        })
    }

    /// Reads the inodes that stand in a range of blocks.
    fn find_inodes(
        &mut self,
        (group, table): (u32, u64),
        range: &Range<u64>,
        stale: &mut Stale,
    ) -> Result<(), Error> {
        let geometry = Arc::clone(&self.geometry);
        let end = table + u64::from(geometry.table_blocks());
        let blocks = range.start.max(table)..range.end.min(end);
        if blocks.is_empty() {
            return Ok(());
        }
        // The table is uninitialised beyond the last visible inode and may hold anything.
        let index = |block: u64| {
            let blocks = u32::try_from(block - table).expect("at most a group");
            (blocks * geometry.inodes_per_block()).min(self.visible_inodes(group))
        };
        let inodes = index(blocks.start)..index(blocks.end);
        // What reads as zeros without being there is not handed on.
        let first = group * geometry.inodes_per_group + 1;
        let known = Ino(first + inodes.start)..Ino(first + inodes.end);
        for (&ino, _) in self.view.inodes.range(known.clone()) {
            stale.slots.insert(ino, Slot::Free(Vec::new()));
        }
        // Free inodes with faults appear only here. Their faults go unless they are found again.
        for (unit, _) in self
            .view
            .faults
            .range(Unit::Inode(known.start)..Unit::Inode(known.end))
        {
            if let Unit::Inode(ino) = *unit {
                stale.slots.insert(ino, Slot::Free(Vec::new()));
            }
        }
        self.read_table(group, inodes, |work, ino, slot| {
            // One changed inode makes its whole block of the table stale. The others need not have their blocks and
            // names read again.
            if work.is_same(ino, &slot) {
                stale.slots.remove(&ino);
            } else {
                stale.slots.insert(ino, slot);
            }
            Ok(())
        })
    }

    /// Whether an inode's own bytes tell what they did before, and nothing is or was wrong with them.
    fn is_same(&self, ino: Ino, slot: &Slot) -> bool {
        // All faults of an inode form one list, whether they come from its own bytes or from its blocks, and can only
        // be replaced as a whole.
        if self.view.faults.contains_key(&Unit::Inode(ino)) {
            return false;
        }
        match (slot, self.view.inodes.get(&ino)) {
            (Slot::Used(own, faults), Some(inode)) => faults.is_empty() && **own == inode.own,
            (Slot::Free(faults), None) => faults.is_empty(),
            _ => false,
        }
    }

    /// Looks at whose the blocks in a range were.
    fn find_owned(&mut self, range: Range<u64>, stale: &mut Stale) {
        for (start, claim) in self.view.claims_in(range) {
            let ino = claim.owner.ino;
            match claim.owner.part {
                // These can change in place without a change to the inode.
                Part::Directory | Part::Node => drop(stale.inodes.insert(ino)),
                Part::Xattrs => drop(stale.xattrs.insert(start)),
                Part::Data => {
                    // A view holds no file contents, but it does hold the targets of symbolic links.
                    let kind = self.view.inode(ino).and_then(Inode::file_type);
                    if kind == Some(Type::Symlink) {
                        stale.inodes.insert(ino);
                    }
                }
            }
        }
    }

    /// Reads attribute blocks; whoever has one that tells other attributes is read too.
    fn read_stale_xattrs(&mut self, stale: &mut Stale) -> Result<(), Error> {
        for &block in &stale.xattrs {
            let Some(old) = self.view.xattrs.get(&block).cloned() else {
                continue;
            };
            // The block may hold anything by now. If it was freed, all its inodes have changed: each drops it later,
            // and the last one removes the entry.
            let new = self.read_shared(block)?;
            if new.block.xattrs != old.block.xattrs {
                let users = self
                    .view
                    .sharers
                    .range((block, Ino(0))..=(block, Ino(u32::MAX)));
                stale.inodes.extend(users.map(|(_, ino)| *ino));
            }
            // The parent's users stay until their inodes are exchanged one by one. Everything else is replaced even if
            // the attributes are equal, as the header's count of sharers may differ.
            let users = old.users;
            self.view
                .xattrs
                .insert(block, XattrBlockUse { users, ..new });
            self.shared.insert(block);
        }
        Ok(())
    }

    fn read_stale_inodes(&mut self, stale: Stale) -> Result<(), Error> {
        let Stale {
            mut slots, inodes, ..
        } = stale;
        for ino in inodes {
            if !slots.contains_key(&ino) && self.view.inodes.contains_key(&ino) {
                // What is wrong with its own bytes is not kept apart, so that they are read again too.
                let slot = self.read_slot(ino)?;
                slots.insert(ino, slot);
            }
        }
        // Kept past the removal: a directory takes its unchanged blocks from here, and its names are exchanged against
        // these.
        let old: Vec<_> = slots
            .keys()
            .map(|ino| self.view.inodes.get(ino).cloned())
            .collect();
        // Take all of them out before the first goes in. Otherwise a block that moved between inodes would have two
        // owners for a moment, which marks the view as tangled.
        for (&ino, old) in slots.keys().zip(&old) {
            if let Some(old) = old {
                self.remove(ino, old);
            }
        }
        for ((ino, slot), old) in slots.into_iter().zip(old) {
            self.add_slot(ino, slot, old.as_deref())?;
        }
        Ok(())
    }

    fn read_slot(&mut self, ino: Ino) -> Result<Slot, Error> {
        let (group, index) = self.geometry.inode_place(ino);
        // `read_table` skips holes, and an inode in a hole is free.
        let mut found = Slot::Free(Vec::new());
        self.read_table(group, index..index + 1, |_, _, slot| {
            found = slot;
            Ok(())
        })?;
        Ok(found)
    }
}
