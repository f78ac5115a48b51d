//! What must hold within one inode.

use super::extents::Mapping;
use super::fault::InodeFault;
use super::inode::{
    FLAG_APPEND, FLAG_CASEFOLD, FLAG_EA_INODE, FLAG_ENCRYPT, FLAG_EXTENTS, FLAG_HUGE_FILE,
    FLAG_IMAGIC, FLAG_IMMUTABLE, FLAG_INDEX, FLAG_INLINE_DATA, InodeFields, Type, field, word,
};
use super::layout::Geometry;
use super::{extents, resize};
use crate::ext4::ino::Ino;

/// Bytes beyond which a file needs the feature `large_file`.
const LARGE_FILE: u64 = 1 << 31;
/// The boot loader's inode, the one reserved one that may hold anything but a directory.
const BOOT_LOADER: Ino = Ino(5);

/// Adds what is wrong with an inode and its blocks, which were found before.
pub(super) fn check(
    geometry: &Geometry,
    (ino, own): (Ino, &InodeFields),
    mapping: &Mapping,
    faults: &mut Vec<InodeFault>,
) {
    if own.dtime != 0 {
        faults.push(field("i_dtime", own.dtime.into()));
    }
    check_flags(geometry, own, faults);
    check_number(geometry, ino, own, faults);
    check_type(own, faults);
    let mut blocks = mapping.nr_blocks() + u64::from(own.acl_block != 0);
    if ino == resize::INO && !mapping.nodes.is_empty() {
        blocks += resize::kept_blocks(geometry);
    }
    check_blocks(geometry, own, blocks, faults);
    check_size(geometry, (ino, own), mapping, faults);
}

fn check_flags(geometry: &Geometry, own: &InodeFields, faults: &mut Vec<InodeFault>) {
    let features = geometry.features;
    let kind = own.file_type();
    let unsupported = FLAG_INLINE_DATA | FLAG_CASEFOLD | FLAG_ENCRYPT | FLAG_EA_INODE | FLAG_IMAGIC;
    let is_file = matches!(kind, Some(Type::Regular | Type::Directory));
    let misplaced = [
        own.flags & unsupported != 0,
        own.has(FLAG_EXTENTS) && (!features.extents() || !own.has_blocks()),
        own.has(FLAG_INDEX) && (kind != Some(Type::Directory) || !features.dir_index()),
        own.flags & (FLAG_IMMUTABLE | FLAG_APPEND) != 0 && kind.is_some() && !is_file,
    ];
    if misplaced.contains(&true) {
        faults.push(field("i_flags", own.flags.into()));
    }
    // The root of a tree in an inode that says it has a map.
    if is_file && !own.has(FLAG_EXTENTS) && extents::header(&own.i_block, None).is_some() {
        faults.push(field("i_flags without extents", own.flags.into()));
    }
}

/// Inodes with a purpose.
fn check_number(geometry: &Geometry, ino: Ino, own: &InodeFields, faults: &mut Vec<InodeFault>) {
    let kind = own.file_type();
    let is_special = ino == geometry.journal_ino || Some(ino) == geometry.orphan_file;
    let is_right = if ino == Ino::ROOT {
        kind == Some(Type::Directory)
    } else if is_special {
        kind == Some(Type::Regular)
    } else if ino == BOOT_LOADER {
        kind != Some(Type::Directory)
    } else if ino == resize::INO {
        own.mode == 0 || kind == Some(Type::Regular)
    } else if ino < geometry.first_ino {
        own.mode == 0
    } else {
        kind.is_some()
    };
    if !is_right {
        faults.push(field("i_mode", own.mode.into()));
    }
    let must_be_empty = ino == Ino::JOURNAL && !is_special || ino.0 == 1;
    let is_empty = own.links == 0 && own.sectors == 0 && word(&own.i_block, 0) == 0;
    if must_be_empty && !is_empty {
        faults.push(field("i_links_count", own.links.into()));
    }
}

fn check_type(own: &InodeFields, faults: &mut Vec<InodeFault>) {
    match own.file_type() {
        Some(Type::Fifo | Type::Socket | Type::CharDevice | Type::BlockDevice) if own.size != 0 => {
            faults.push(field("i_size", own.size));
        }
        _ => {}
    }
}

fn check_blocks(geometry: &Geometry, own: &InodeFields, blocks: u64, faults: &mut Vec<InodeFault>) {
    let in_blocks = geometry.features.huge_file() && own.has(FLAG_HUGE_FILE);
    let unit = if in_blocks {
        1
    } else {
        u64::from(geometry.block_bytes / 512)
    };
    if own.sectors != blocks * unit {
        faults.push(InodeFault::Count {
            field: "i_blocks",
            found: own.sectors,
            expected: blocks * unit,
        });
    }
}

fn check_size(
    geometry: &Geometry,
    (ino, own): (Ino, &InodeFields),
    mapping: &Mapping,
    faults: &mut Vec<InodeFault>,
) {
    let unit = u64::from(geometry.block_bytes);
    let is_right = match own.file_type() {
        Some(Type::Directory) => {
            if mapping.runs.is_empty() {
                faults.push(InodeFault::Hole(0));
            }
            own.size == mapping.end() * unit
        }
        // A link's size is compared with its target, a special file's with zero.
        Some(Type::Regular) => {
            let most = if own.has(FLAG_EXTENTS) {
                (unit << 32) - 1
            } else {
                map_bytes(unit)
            };
            // The block behind the end may be there already.
            let last = mapping.written_end().saturating_sub(1);
            ino == resize::INO || own.size <= most && own.size >= last * unit
        }
        _ => true,
    };
    if !is_right {
        faults.push(InodeFault::Size {
            size: own.size,
            blocks: mapping.end(),
        });
    }
    let is_large = own.file_type() == Some(Type::Regular) && own.size >= LARGE_FILE;
    if is_large && !geometry.features.large_file() {
        faults.push(field("i_size without large_file", own.size));
    }
}

/// What an old block map reaches.
fn map_bytes(unit: u64) -> u64 {
    let per_block = unit / 4;
    (12 + per_block + per_block.pow(2) + per_block.pow(3)) * unit
}
