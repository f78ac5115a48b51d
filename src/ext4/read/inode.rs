//! Inodes: what stands in the table, and what is known of one with its blocks.

use std::sync::Arc;

use zerocopy::FromBytes;

use super::dir::Directory;
use super::extents::Mapping;
use super::fault::InodeFault;
use super::layout::{Geometry, OLD_INODE_BYTES};
use super::xattr;
use crate::ext4::checksum::low;
use crate::ext4::format::{INODE_BYTES, RawInode, join};
use crate::ext4::ino::Ino;
use crate::tree::{DeviceNumber, Meta, Timestamp, Xattrs};

pub(super) const FLAG_IMMUTABLE: u32 = 0x10;
pub(super) const FLAG_APPEND: u32 = 0x20;
pub(super) const FLAG_ENCRYPT: u32 = 0x800;
pub(super) const FLAG_INDEX: u32 = 0x1000;
pub(super) const FLAG_IMAGIC: u32 = 0x2000;
pub(super) const FLAG_HUGE_FILE: u32 = 0x4_0000;
pub(super) const FLAG_EXTENTS: u32 = 0x8_0000;
pub(super) const FLAG_EA_INODE: u32 = 0x20_0000;
pub(super) const FLAG_INLINE_DATA: u32 = 0x1000_0000;
pub(super) const FLAG_CASEFOLD: u32 = 0x4000_0000;

/// How an inode is kept: by extents, by an index, with `i_blocks` in blocks, with its group chosen freely, with blocks behind
/// its end. Source: linux v6.6 `fs/ext4/ext4.h`, `EXT4_TOPDIR_FL`, `EXT4_EOFBLOCKS_FL`.
const FLAGS_OF_LAYOUT: u32 = FLAG_EXTENTS | FLAG_INDEX | FLAG_HUGE_FILE | 0x2_0000 | 0x40_0000;

/// Bytes of `i_block`; a symbolic link shorter than that stands in it.
pub(super) const IN_INODE: usize = 60;
/// Where the upper half of the checksum ends, counted from the extra bytes' start.
const SUM_HIGH_END: u16 = 4;

/// An inode's type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Type {
    /// A named pipe.
    Fifo,
    /// A character device.
    CharDevice,
    /// A directory.
    Directory,
    /// A block device.
    BlockDevice,
    /// A regular file.
    Regular,
    /// A symbolic link.
    Symlink,
    /// A socket.
    Socket,
}

impl Type {
    pub(super) fn of_mode(mode: u16) -> Option<Self> {
        Some(match mode >> 12 {
            0o01 => Self::Fifo,
            0o02 => Self::CharDevice,
            0o04 => Self::Directory,
            0o06 => Self::BlockDevice,
            0o10 => Self::Regular,
            0o12 => Self::Symlink,
            0o14 => Self::Socket,
            _ => return None,
        })
    }

    /// The type byte of directory entries.
    pub(super) fn byte(self) -> u8 {
        match self {
            Self::Regular => 1,
            Self::Directory => 2,
            Self::CharDevice => 3,
            Self::BlockDevice => 4,
            Self::Fifo => 5,
            Self::Socket => 6,
            Self::Symlink => 7,
        }
    }
}

/// All that an inode's own bytes tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct InodeFields {
    /// `i_mode`: type and permissions.
    pub(super) mode: u16,
    pub(super) links: u16,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) size: u64,
    pub(super) atime: Timestamp,
    pub(super) mtime: Timestamp,
    pub(super) ctime: Timestamp,
    pub(super) dtime: u32,
    pub(super) flags: u32,
    pub(super) generation: u32,
    /// `i_blocks`, in the unit that the flags tell.
    pub(super) sectors: u64,
    pub(super) acl_block: u64,
    pub(super) i_block: [u8; IN_INODE],
    /// Attributes in the inode.
    pub(super) xattrs: Xattrs,
}

/// A place in the inode table.
#[derive(Debug)]
pub(super) enum Slot {
    /// In no one's use, with what is wrong with it all the same.
    Free(Vec<InodeFault>),
    Used(Box<InodeFields>, Vec<InodeFault>),
}

/// An inode as it was read.
#[derive(Clone, Debug)]
pub struct Inode {
    pub(super) own: InodeFields,
    /// All attributes, wherever they are.
    pub(super) xattrs: Xattrs,
    pub(super) target: Option<Box<[u8]>>,
    pub(super) mapping: Mapping,
    pub(super) directory: Option<Arc<Directory>>,
}

impl Inode {
    /// Its type; `None` for reserved inodes that have none, and for damaged ones.
    pub fn file_type(&self) -> Option<Type> {
        Type::of_mode(self.own.mode)
    }

    /// Permissions, owner, times and attributes.
    pub fn meta(&self) -> Meta {
        Meta {
            mode: self.own.mode & 0o7777,
            uid: self.own.uid,
            gid: self.own.gid,
            atime: self.own.atime,
            mtime: self.own.mtime,
            ctime: self.own.ctime,
            xattrs: self.xattrs.clone(),
        }
    }

    /// All extended attributes, in the form that `getxattr` gives.
    pub fn xattrs(&self) -> &Xattrs {
        &self.xattrs
    }

    /// `i_flags` as `lsattr` shows them, without those by which the file system tells how it keeps an inode.
    pub fn attribute_flags(&self) -> u32 {
        self.own.flags & !FLAGS_OF_LAYOUT
    }

    /// `i_links_count`: names of anything but a directory.
    pub fn links(&self) -> u16 {
        self.own.links
    }

    /// Bytes of a file, of a directory's blocks or of a link's target.
    pub fn size(&self) -> u64 {
        self.own.size
    }

    /// A symbolic link's target, where it can be read.
    pub fn target(&self) -> Option<&[u8]> {
        self.target.as_deref()
    }

    /// A device's number. Source: linux v6.6 `include/linux/kdev_t.h`.
    pub fn device(&self) -> Option<DeviceNumber> {
        if !matches!(self.file_type()?, Type::CharDevice | Type::BlockDevice) {
            return None;
        }
        let (short, long) = (word(&self.own.i_block, 0), word(&self.own.i_block, 1));
        Some(if short != 0 {
            DeviceNumber {
                major: short >> 8 & 0xff,
                minor: short & 0xff,
            }
        } else {
            DeviceNumber {
                major: long >> 8 & 0xfff,
                minor: long & 0xff | long >> 12 & 0xf_ff00,
            }
        })
    }
}

/// All but a directory's names, which are kept elsewhere, and where its blocks are.
impl PartialEq for Inode {
    fn eq(&self, other: &Self) -> bool {
        if self.xattrs != other.xattrs || self.target != other.target {
            return false;
        }
        if self.directory.is_none() || other.directory.is_none() {
            return self.own == other.own && self.mapping == other.mapping;
        }
        self.meta() == other.meta() && self.own.flags & !FLAG_INDEX == other.own.flags & !FLAG_INDEX
    }
}

impl InodeFields {
    pub(super) fn file_type(&self) -> Option<Type> {
        Type::of_mode(self.mode)
    }

    pub(super) fn has(&self, flag: u32) -> bool {
        self.flags & flag != 0
    }

    /// A symbolic link that stands in the inode.
    pub(super) fn is_fast_symlink(&self) -> bool {
        self.file_type() == Some(Type::Symlink) && (1..IN_INODE as u64).contains(&self.size)
    }

    /// Whether `i_block` tells blocks.
    pub(super) fn has_blocks(&self) -> bool {
        match self.file_type() {
            Some(Type::Directory | Type::Regular) => true,
            Some(Type::Symlink) => !self.is_fast_symlink(),
            _ => false,
        }
    }
}

/// The `at`-th word of `i_block`.
pub(super) fn word(i_block: &[u8; IN_INODE], at: usize) -> u32 {
    let bytes = i_block[4 * at..][..4].try_into().expect("four bytes");
    u32::from_le_bytes(bytes)
}

/// What stands at an inode's place; all of it zero is free.
pub(super) fn decode(bytes: &[u8], ino: Ino, geometry: &Geometry) -> Slot {
    let mut faults = Vec::new();
    // Smaller inodes end before the extra fields, larger ones hold more attributes.
    let mut padded = [0; INODE_BYTES];
    let length = bytes.len().min(INODE_BYTES);
    padded[..length].copy_from_slice(&bytes[..length]);
    let raw = RawInode::read_from_bytes(&padded).expect("it has that size");
    check_sum(bytes, (ino, &raw), geometry, &mut faults);
    let is_reserved = ino < geometry.first_ino && ino != Ino::ROOT;
    if raw.i_links_count == 0
        && (!is_reserved || bytes[..OLD_INODE_BYTES].iter().all(|&byte| byte == 0))
    {
        check_free(&raw, ino, geometry, &mut faults);
        return Slot::Free(faults);
    }
    let extra = extra_bytes(&raw, bytes.len(), &mut faults);
    let mut own = own(&raw, extra, geometry);
    check_unused_fields(&raw, &own, geometry, &mut faults);
    match xattr::in_inode(bytes, OLD_INODE_BYTES + usize::from(extra)) {
        Ok(xattrs) => own.xattrs = xattrs,
        Err(fault) => faults.push(InodeFault::Xattrs(fault)),
    }
    Slot::Used(Box::new(own), faults)
}

fn own(raw: &RawInode, extra: u16, geometry: &Geometry) -> InodeFields {
    // A time's upper half counts when the extra bytes reach behind it.
    let time = |low: u32, high: u32, end: u16| {
        let high = if extra >= end { high } else { 0 };
        let epoch = i64::from(high & 3) << 32;
        Timestamp::new(i64::from(low.cast_signed()) + epoch, high >> 2)
    };
    let halves = |low: u16, high: u16| u32::from(high) << 16 | u32::from(low);
    let features = geometry.features;
    let blocks_high = if features.huge_file() {
        raw.i_blocks_high.get()
    } else {
        0
    };
    let acl_high = if features.is_64bit() {
        raw.i_file_acl_high.get()
    } else {
        0
    };
    InodeFields {
        mode: raw.i_mode.get(),
        links: raw.i_links_count.get(),
        uid: halves(raw.i_uid.get(), raw.i_uid_high.get()),
        gid: halves(raw.i_gid.get(), raw.i_gid_high.get()),
        size: join(raw.i_size_lo, raw.i_size_high),
        atime: time(raw.i_atime.get(), raw.i_atime_extra.get(), 16),
        mtime: time(raw.i_mtime.get(), raw.i_mtime_extra.get(), 12),
        ctime: time(raw.i_ctime.get(), raw.i_ctime_extra.get(), 8),
        dtime: raw.i_dtime.get(),
        flags: raw.i_flags.get(),
        generation: raw.i_generation.get(),
        sectors: u64::from(blocks_high) << 32 | u64::from(raw.i_blocks_lo.get()),
        acl_block: u64::from(acl_high) << 32 | u64::from(raw.i_file_acl_lo.get()),
        i_block: raw.i_block,
        xattrs: Xattrs::default(),
    }
}

fn check_sum(
    bytes: &[u8],
    (ino, raw): (Ino, &RawInode),
    geometry: &Geometry,
    faults: &mut Vec<InodeFault>,
) {
    if !geometry.sums.of_all() {
        return;
    }
    let has_high = bytes.len() > OLD_INODE_BYTES && raw.i_extra_isize.get() >= SUM_HIGH_END;
    let sums = geometry.sums.of_inode(ino, raw.i_generation.get());
    // Both halves of the sum count as zero.
    let (before, rest) = bytes.split_at(124);
    let (zero, rest) = (&[0; 2], &rest[2..]);
    let (mut expected, found);
    if has_high {
        let (between, behind) = rest.split_at(4);
        expected = sums.sum(&[before, zero, between, zero, &behind[2..]]);
        found = u32::from(raw.i_checksum_hi.get()) << 16 | u32::from(raw.i_checksum_lo.get());
    } else {
        expected = sums.sum(&[before, zero, rest]);
        expected = low(expected).into();
        found = raw.i_checksum_lo.get().into();
    }
    // A place that was never used carries none.
    if found != expected && bytes[..OLD_INODE_BYTES].iter().any(|&byte| byte != 0) {
        faults.push(InodeFault::Checksum { found, expected });
    }
}

fn check_free(raw: &RawInode, ino: Ino, geometry: &Geometry, faults: &mut Vec<InodeFault>) {
    if ino < geometry.first_ino {
        return;
    }
    if raw.i_dtime == 0 && raw.i_mode != 0 {
        let mode = raw.i_mode.get().into();
        faults.push(field("i_mode without links and i_dtime", mode));
    }
    // What was a link in the list of inodes to be released.
    if raw.i_dtime != 0 && raw.i_dtime.get() < geometry.inodes() && !geometry.has_early_times {
        faults.push(field("i_dtime", raw.i_dtime.get().into()));
    }
}

/// Bytes of extra fields that are there.
fn extra_bytes(raw: &RawInode, inode_bytes: usize, faults: &mut Vec<InodeFault>) -> u16 {
    if inode_bytes == OLD_INODE_BYTES {
        return 0;
    }
    let extra = raw.i_extra_isize.get();
    let most = inode_bytes - OLD_INODE_BYTES;
    if extra != 0 && (extra < SUM_HIGH_END || usize::from(extra) > most || !extra.is_multiple_of(4))
    {
        faults.push(field("i_extra_isize", extra.into()));
        return 0;
    }
    extra
}

fn check_unused_fields(
    raw: &RawInode,
    own: &InodeFields,
    geometry: &Geometry,
    faults: &mut Vec<InodeFault>,
) {
    let features = geometry.features;
    let mut must_be_zero = |name, value: u64| {
        if value != 0 {
            faults.push(field(name, value));
        }
    };
    must_be_zero("i_obso_faddr", raw.i_obso_faddr.get().into());
    if !features.is_64bit() {
        must_be_zero("i_file_acl_high", raw.i_file_acl_high.get().into());
    }
    if !features.huge_file() || own.has(FLAG_HUGE_FILE) {
        must_be_zero("i_blocks_high", raw.i_blocks_high.get().into());
    }
    if own.file_type() == Some(Type::Directory) && !features.large_dir() {
        must_be_zero("i_size_high", raw.i_size_high.get().into());
    }
}

pub(super) fn field(field: &'static str, value: u64) -> InodeFault {
    InodeFault::Field { field, value }
}
