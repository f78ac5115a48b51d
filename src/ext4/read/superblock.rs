//! What of the superblock changes while a file system is used.

use super::fault::SuperblockFault;
use super::features::Features;
use super::geometry::Geometry;
use super::join;
use crate::ext4::format::SuperBlock;
use crate::ext4::inode::Ino;

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
    let mut faults = Vec::new();
    let mut exclude = |is_wrong: bool, names| {
        if is_wrong {
            faults.push(SuperblockFault::Features(names));
        }
    };
    exclude(
        features.metadata_csum() && features.gdt_csum(),
        "metadata_csum, uninit_bg",
    );
    exclude(
        !features.metadata_csum() && features.csum_seed(),
        "^metadata_csum, metadata_csum_seed",
    );
    exclude(
        features.is_64bit() && !features.extents(),
        "64bit, ^extents",
    );
    exclude(
        features.resize_inode() && features.meta_bg(),
        "resize_inode, meta_bg",
    );
    let extra = geometry.inode_bytes - super::geometry::OLD_INODE_BYTES;
    let is_extra =
        |bytes: u16| bytes == 0 || (4..=extra).contains(&bytes.into()) && bytes.is_multiple_of(4);
    let large = extra > 0;
    let reserved_high = if features.is_64bit() {
        raw.s_r_blocks_count_hi
    } else {
        0.into()
    };
    let reserved = join(raw.s_r_blocks_count_lo, reserved_high);
    let gdt = u64::from(geometry.reserved_gdt);
    let fields = [
        (
            "s_min_extra_isize",
            u64::from(raw.s_min_extra_isize.get()),
            !large || is_extra(raw.s_min_extra_isize.get()),
        ),
        (
            "s_want_extra_isize",
            u64::from(raw.s_want_extra_isize.get()),
            !large || is_extra(raw.s_want_extra_isize.get()),
        ),
        (
            "s_r_blocks_count",
            reserved,
            reserved <= geometry.blocks / 2,
        ),
        (
            "s_reserved_gdt_blocks",
            gdt,
            gdt == 0 || features.resize_inode(),
        ),
        (
            "s_desc_size",
            raw.s_desc_size.get().into(),
            raw.s_desc_size.get() <= 1024,
        ),
    ];
    let wrong = fields.into_iter().filter(|(.., is_right)| !is_right);
    faults.extend(wrong.map(|(field, value, _)| SuperblockFault::Field { field, value }));
    if raw.s_state.get() & STATE_ERRORS != 0 {
        faults.push(SuperblockFault::Errors);
    }
    faults
}
