//! What must hold between parts: bitmaps and counts of groups, sharers of attribute blocks, sums.

use std::sync::Arc;

use super::checked_view::CheckedView;
use super::error::Error;
use super::fault::{Fault, GroupFault, SuperblockFault, XattrFault};
use super::group::Group;
use super::layout::Geometry;
use super::view::Unit;
use super::work::Work;
use crate::ext4::checksum::low;
use crate::ext4::ino::Ino;

impl Work<'_> {
    /// Judges what was touched, and hands over the view with all that is wrong.
    pub(super) fn judge(mut self) -> Result<CheckedView, Error> {
        let whole = self.is_whole();
        let groups = std::mem::take(&mut self.groups);
        let all = if whole { 0..self.geometry.groups } else { 0..0 };
        for group in all.chain(groups.into_iter().filter(|_| !whole)) {
            self.judge_group(group)?;
        }
        for block in std::mem::take(&mut self.shared) {
            self.judge_sharers(block);
        }
        self.judge_names();
        self.judge_journal()?;
        self.judge_orphan_file()?;
        self.judge_superblock();
        let faults = self.view.all_faults();
        Ok(CheckedView {
            view: self.view,
            faults,
        })
    }

    fn judge_group(&mut self, number: u32) -> Result<(), Error> {
        let geometry = Arc::clone(&self.geometry);
        let mut group = self.view.groups[number as usize].clone();
        group.free_blocks = geometry.group_blocks(number) - group.blocks.count();
        group.free_inodes = geometry.inodes_per_group - group.inodes.count();
        let mut faults = Vec::new();
        check_flags(&geometry, number, &group, &mut faults);
        check_counts(&group, &mut faults);
        let places = group.desc.places;
        if !group.desc.is_block_uninit(&geometry) && geometry.is_block(places.block_bitmap) {
            let bitmap = self.read_block(places.block_bitmap)?;
            check_block_bitmap(&geometry, number, (&group, &bitmap), &mut faults);
        } else if group.desc.is_block_uninit(&geometry) {
            self.check_uninit_blocks(number, &mut faults);
        }
        if !group.desc.is_inode_uninit(&geometry) && geometry.is_block(places.inode_bitmap) {
            let bitmap = self.read_block(places.inode_bitmap)?;
            check_inode_bitmap(&geometry, number, (&group, &bitmap), &mut faults);
        }
        let faults = faults.into_iter().map(|fault| Fault::Group {
            group: number,
            fault,
        });
        self.set_faults(Unit::Group(number), faults.collect());
        self.view.groups[number as usize] = group;
        Ok(())
    }

    /// Where there is no bitmap, nothing but tables may be taken.
    fn check_uninit_blocks(&self, number: u32, faults: &mut Vec<GroupFault>) {
        let start = self.geometry.group_start(number);
        let end = start + u64::from(self.geometry.group_blocks(number));
        let first = self.view.claims_in(start..end).next();
        if let Some((block, claim)) = first {
            faults.push(GroupFault::Bitmap {
                what: "block",
                bits: u32::try_from(claim.blocks).unwrap_or(u32::MAX),
                number: block.max(start),
                is_used: true,
            });
        }
    }

    fn judge_sharers(&mut self, block: u64) {
        let mut faults = Vec::new();
        if let Some(shared) = self.view.xattrs.get(&block) {
            faults.extend(shared.faults.iter().cloned());
            let is_read = !shared.faults.contains(&XattrFault::Header);
            if is_read && shared.block.sharers != shared.users {
                faults.push(XattrFault::Sharers {
                    found: shared.block.sharers,
                    expected: shared.users,
                });
            }
        }
        let faults = faults
            .into_iter()
            .map(|fault| Fault::Xattrs { block, fault });
        self.set_faults(Unit::Xattrs(block), faults.collect());
    }

    fn judge_superblock(&mut self) {
        let view = &self.view;
        let superblock = &view.superblock;
        let mut faults = superblock.faults.clone();
        let sums = view.groups.iter().fold((0, 0), |(blocks, inodes), group| {
            (
                blocks + u64::from(group.free_blocks),
                inodes + u64::from(group.free_inodes),
            )
        });
        let counts = [
            ("s_free_blocks_count", superblock.free_blocks, sums.0),
            ("s_free_inodes_count", superblock.free_inodes, sums.1),
        ];
        let wrong = counts
            .into_iter()
            .filter(|(_, found, expected)| found != expected);
        faults.extend(
            wrong.map(|(field, found, expected)| SuperblockFault::Count {
                field,
                found,
                expected,
            }),
        );
        if superblock.last_orphan.0 != 0 && !superblock.needs_recovery {
            faults.push(SuperblockFault::Orphan(superblock.last_orphan));
        }
        if view.inodes.get(&Ino::ROOT).is_none() {
            faults.push(SuperblockFault::NoRoot);
        }
        let faults = faults.into_iter().map(Fault::Superblock).collect();
        self.set_faults(Unit::Superblock, faults);
    }
}

fn check_flags(geometry: &Geometry, number: u32, group: &Group, faults: &mut Vec<GroupFault>) {
    let desc = &group.desc;
    if let Some((found, expected)) = desc.wrong_sum {
        faults.push(GroupFault::Checksum {
            what: "descriptor",
            found: found.into(),
            expected: expected.into(),
        });
    }
    let has_sums = geometry.sums.of_descriptors();
    let is_last = number + 1 == geometry.groups;
    let contradictions = [
        (
            !has_sums && desc.has_uninit(),
            "marked as uninitialised, but there are no checksums",
        ),
        (
            is_last && desc.is_block_uninit(geometry),
            "the block bitmap of the last group must be initialised",
        ),
        (
            has_sums
                && (desc.unused_inodes > desc.free_inodes
                    || desc.unused_inodes > geometry.inodes_per_group),
            "more inodes are marked as never used than are free",
        ),
        (
            desc.is_inode_uninit(geometry) && group.free_inodes != geometry.inodes_per_group,
            "inodes are in use, but there is no bitmap for them",
        ),
        (
            group.inodes.end()
                > geometry.inodes_per_group - desc.unused_inodes.min(geometry.inodes_per_group)
                && has_sums,
            "inodes are in use that are marked as never used",
        ),
    ];
    let wrong = contradictions.into_iter().filter(|(is_wrong, _)| *is_wrong);
    faults.extend(wrong.map(|(_, what)| GroupFault::Contradiction { what }));
}

fn check_counts(group: &Group, faults: &mut Vec<GroupFault>) {
    let counts = [
        (
            "bg_free_blocks_count",
            group.desc.free_blocks,
            group.free_blocks,
        ),
        (
            "bg_free_inodes_count",
            group.desc.free_inodes,
            group.free_inodes,
        ),
        ("bg_used_dirs_count", group.desc.used_dirs, group.dirs),
    ];
    let wrong = counts
        .into_iter()
        .filter(|(_, found, expected)| found != expected);
    faults.extend(wrong.map(|(field, found, expected)| GroupFault::Count {
        field,
        found,
        expected,
    }));
}

fn check_block_bitmap(
    geometry: &Geometry,
    number: u32,
    (group, bitmap): (&Group, &[u8]),
    faults: &mut Vec<GroupFault>,
) {
    let blocks = geometry.group_blocks(number);
    let per_group = (geometry.blocks_per_group / 8) as usize;
    check_bitmap_sum(
        geometry,
        ("block bitmap", &bitmap[..per_group]),
        group.desc.block_sum,
        faults,
    );
    if let Some(difference) = group.blocks.difference(bitmap, blocks) {
        faults.push(GroupFault::Bitmap {
            what: "block",
            bits: difference.bits,
            number: geometry.group_start(number) + u64::from(difference.bit),
            is_used: !difference.is_set,
        });
    }
    if !is_padded(bitmap, blocks) {
        faults.push(GroupFault::Padding { what: "block" });
    }
}

fn check_inode_bitmap(
    geometry: &Geometry,
    number: u32,
    (group, bitmap): (&Group, &[u8]),
    faults: &mut Vec<GroupFault>,
) {
    let inodes = geometry.inodes_per_group;
    check_bitmap_sum(
        geometry,
        ("inode bitmap", &bitmap[..(inodes / 8) as usize]),
        group.desc.inode_sum,
        faults,
    );
    if let Some(difference) = group.inodes.difference(bitmap, inodes) {
        let first = u64::from(number) * u64::from(inodes) + 1;
        faults.push(GroupFault::Bitmap {
            what: "inode",
            bits: difference.bits,
            number: first + u64::from(difference.bit),
            is_used: !difference.is_set,
        });
    }
    if !is_padded(bitmap, inodes) {
        faults.push(GroupFault::Padding { what: "inode" });
    }
}

fn check_bitmap_sum(
    geometry: &Geometry,
    (what, bits): (&'static str, &[u8]),
    found: u32,
    faults: &mut Vec<GroupFault>,
) {
    if !geometry.sums.of_all() {
        return;
    }
    let mut expected = geometry.sums.bitmap(bits);
    if geometry.desc_bytes < 64 {
        expected = low(expected).into();
    }
    if found != expected {
        faults.push(GroupFault::Checksum {
            what,
            found,
            expected,
        });
    }
}

/// Whether all bits from `size` on are set.
fn is_padded(bitmap: &[u8], size: u32) -> bool {
    let (byte, bit) = ((size / 8) as usize, size % 8);
    let Some((&first, rest)) = bitmap.get(byte..).and_then(<[u8]>::split_first) else {
        return true;
    };
    first >> bit == 0xff >> bit && rest.iter().all(|&byte| byte == 0xff)
}
