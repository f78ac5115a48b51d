//! What of the superblock changes while a file system is used.

use super::fault::SuperblockFault;
use super::features::Features;
use super::layout::{Geometry, OLD_INODE_BYTES};
use crate::ext4::format::{SuperBlock, join};
use crate::ext4::ino::Ino;

/// `EXT4_ERROR_FS`.
const STATE_ERRORS: u16 = 2;

/// Counts and states, and contradictions between fields.
#[derive(Clone, Debug)]
pub(super) struct Super {
    pub(super) uuid: [u8; 16],
    pub(super) free_blocks: u64,
    pub(super) free_inodes: u64,
    pub(super) needs_recovery: bool,
    pub(super) last_orphan: Ino,
    pub(super) orphan_present: bool,
    pub(super) faults: Vec<SuperblockFault>,
}

impl Super {
    pub(super) fn new(raw: &SuperBlock, geometry: &Geometry) -> Self {
        let features = Features::new(raw);
        let free_high = if features.is_64bit() {
            raw.s_free_blocks_count_hi
        } else {
            0.into()
        };
        Self {
            uuid: raw.s_uuid,
            free_blocks: join(raw.s_free_blocks_count_lo, free_high),
            free_inodes: raw.s_free_inodes_count.get().into(),
            needs_recovery: features.needs_recovery(),
            last_orphan: Ino(raw.s_last_orphan.get()),
            orphan_present: features.orphan_present(),
            faults: check(raw, geometry),
        }
    }
}

fn check(raw: &SuperBlock, geometry: &Geometry) -> Vec<SuperblockFault> {
    let features = geometry.features;
    let contradictions = [
        (
            features.metadata_csum() && features.gdt_csum(),
            "metadata_csum, uninit_bg",
        ),
        (
            !features.metadata_csum() && features.csum_seed(),
            "^metadata_csum, metadata_csum_seed",
        ),
        (
            features.is_64bit() && !features.extents(),
            "64bit, ^extents",
        ),
        (
            features.resize_inode() && features.meta_bg(),
            "resize_inode, meta_bg",
        ),
    ];
    let wrong = contradictions.into_iter().filter(|(is_wrong, _)| *is_wrong);
    let mut faults: Vec<_> = wrong
        .map(|(_, names)| SuperblockFault::Features(names))
        .collect();
    let most = geometry.inode_bytes - OLD_INODE_BYTES;
    let is_extra = |bytes: u64| {
        let is_within = (4..=most as u64).contains(&bytes) && bytes.is_multiple_of(4);
        most == 0 || bytes == 0 || is_within
    };
    let (least, want) = (
        raw.s_min_extra_isize.get().into(),
        raw.s_want_extra_isize.get().into(),
    );
    let high = if features.is_64bit() {
        raw.s_r_blocks_count_hi
    } else {
        0.into()
    };
    let reserved = join(raw.s_r_blocks_count_lo, high);
    let kept = u64::from(geometry.reserved_gdt);
    let fields = [
        ("s_min_extra_isize", least, is_extra(least)),
        ("s_want_extra_isize", want, is_extra(want)),
        (
            "s_r_blocks_count",
            reserved,
            reserved <= geometry.blocks / 2,
        ),
        (
            "s_reserved_gdt_blocks",
            kept,
            kept == 0 || features.resize_inode(),
        ),
    ];
    let wrong = fields.into_iter().filter(|(.., is_right)| !is_right);
    faults.extend(wrong.map(|(field, value, _)| SuperblockFault::Field { field, value }));
    faults.extend(other_journal(raw));
    if raw.s_state.get() & STATE_ERRORS != 0 {
        faults.push(SuperblockFault::Errors);
    }
    faults
}

/// Fields that name a journal on another device, for which `e2fsck` then looks.
fn other_journal(raw: &SuperBlock) -> impl Iterator<Item = SuperblockFault> {
    let byte = raw.s_journal_uuid.iter().find(|&&byte| byte != 0);
    let fields = [
        ("s_journal_dev", raw.s_journal_dev.get().into()),
        ("s_journal_uuid", byte.copied().unwrap_or(0).into()),
    ];
    let wrong = fields.into_iter().filter(|(_, value)| *value != 0);
    wrong.map(|(field, value)| SuperblockFault::Field { field, value })
}
