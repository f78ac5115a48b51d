//! Metadata blocks made from an image's state, one cluster at a time.

use zerocopy::IntoBytes;

use super::image::{Image, Owner};
use super::inode::Body;
use super::layout::{CLUSTER_BLOCKS, DESCRIPTORS_PER_BLOCK, FixedBlock};
use super::superblock::{self, Facts};
use super::xattr::BlockPlace;
use crate::ext4::format::{BLOCK, DESC_BYTES, GroupDesc, INODE_BYTES};
use crate::ext4::ino::Ino;

/// Bytes of a cluster.
const CLUSTER: usize = CLUSTER_BLOCKS as usize * BLOCK;
/// Where the superblock lies in the file system's first block; a copy lies at its block's start.
const SUPER_OFFSET: usize = 1024;

impl Image {
    /// Writes every metadata block of a cluster into `out`, and zeros everywhere else.
    ///
    /// # Panics
    ///
    /// Panics when `out` is not 64 KiB.
    pub fn encode_cluster(&self, cluster: u32, out: &mut [u8]) {
        assert_eq!(out.len(), CLUSTER, "a cluster is 64 KiB");
        out.fill(0);
        let first = cluster * CLUSTER_BLOCKS;
        for (block, out) in (first..).zip(out.chunks_exact_mut(BLOCK)) {
            if let Some(fixed) = self.constants.layout.fixed(block) {
                self.encode_fixed(fixed, out);
            }
        }
        for (&block, owner) in self.owners.range(first..first + CLUSTER_BLOCKS) {
            let start = (block - first) as usize * BLOCK;
            self.encode_owned(block, owner, &mut out[start..start + BLOCK]);
        }
    }

    fn encode_fixed(&self, fixed: FixedBlock, out: &mut [u8]) {
        match fixed {
            FixedBlock::Super { group } => self.encode_super(group, out),
            FixedBlock::Descriptors { index } => self.encode_descriptors(index, out),
            FixedBlock::BlockBitmap { group } => {
                if self.groups[group as usize].has_block_bitmap {
                    self.space.copy_bitmap(group, out);
                }
            }
            FixedBlock::InodeBitmap { group } => {
                if self.groups[group as usize].has_inode_bitmap {
                    self.inodes.copy_bitmap(group, out);
                }
            }
            FixedBlock::Inodes { index } => {
                let Some((first, inodes)) = self.inodes.block(index) else {
                    return;
                };
                let slots = out.chunks_exact_mut(INODE_BYTES);
                for ((number, inode), slot) in (first.0..).zip(inodes).zip(slots) {
                    let summer = self.constants.rules.summer.of_inode(Ino(number));
                    inode.encode(&summer, slot);
                }
            }
        }
    }

    fn encode_super(&self, group: u32, out: &mut [u8]) {
        let facts = Facts {
            params: &self.constants.params,
            layout: &self.constants.layout,
            usage: self.usage(),
            journal: self.journal(),
            group,
        };
        let offset = if group == 0 { SUPER_OFFSET } else { 0 };
        let raw = facts.encode();
        out[offset..offset + size_of_val(&raw)].copy_from_slice(raw.as_bytes());
    }

    fn encode_descriptors(&self, index: u32, out: &mut [u8]) {
        let groups = index * DESCRIPTORS_PER_BLOCK..self.constants.layout.groups;
        for (group, slot) in groups.zip(out.chunks_exact_mut(DESC_BYTES)) {
            slot.copy_from_slice(self.descriptor(group).as_bytes());
        }
    }

    fn descriptor(&self, number: u32) -> GroupDesc {
        let layout = &self.constants.layout;
        let summer = &self.constants.rules.summer;
        let group = self.groups[number as usize];
        let mut raw = GroupDesc {
            bg_block_bitmap_lo: layout.block_bitmap(number).into(),
            bg_inode_bitmap_lo: layout.inode_bitmap(number).into(),
            bg_inode_table_lo: layout.inode_table(number).into(),
            bg_free_blocks_count_lo: group.free_blocks.into(),
            bg_free_inodes_count_lo: group.free_inodes.into(),
            bg_used_dirs_count_lo: group.used_dirs.into(),
            bg_flags: group.flags().into(),
            bg_itable_unused_lo: group.unused_inodes.into(),
            ..GroupDesc::default()
        };
        let mut bits = [0; BLOCK];
        if summer.is_full() && group.has_block_bitmap {
            self.space.copy_bitmap(number, &mut bits);
            raw.bg_block_bitmap_csum_lo = summer.bitmap(&bits).into();
        }
        if summer.is_full() && group.has_inode_bitmap {
            self.inodes.copy_bitmap(number, &mut bits);
            let used = (layout.inodes_per_group / 8) as usize;
            raw.bg_inode_bitmap_csum_lo = summer.bitmap(&bits[..used]).into();
        }
        raw.bg_checksum = summer.descriptor(number, &raw).into();
        raw
    }

    fn encode_owned(&self, block: u32, owner: &Owner, out: &mut [u8]) {
        let summer = &self.constants.rules.summer;
        let inode = |ino| self.inodes.inode(ino).expect("an owner is in use");
        match owner {
            &Owner::Directory { ino, logical } => {
                if let Some(dir) = inode(ino).directory() {
                    dir.encode_block(logical, &summer.of_inode(ino), out);
                }
            }
            &Owner::ExtentNode { ino, index } => {
                if let Some(blocks) = inode(ino).blocks() {
                    blocks.encode_node(index as usize, &summer.of_inode(ino), out);
                }
            }
            &Owner::InBlock(ino) => {
                if let Body::Symlink(text) | Body::Content(text) = &inode(ino).body {
                    out[..text.bytes.len()].copy_from_slice(&text.bytes);
                }
            }
            Owner::Xattrs { sharers, stored } => {
                let place = BlockPlace {
                    block,
                    sharers: *sharers,
                };
                stored.set.encode_block(place, summer, out);
            }
            Owner::Journal => {
                let blocks = self.journal().nr_blocks();
                superblock::encode_journal(blocks, self.constants.params.uuid, out);
            }
        }
    }
}
