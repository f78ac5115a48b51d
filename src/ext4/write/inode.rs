//! Inodes: the record kept in memory and the 256 bytes on disk.

use std::sync::Arc;

use zerocopy::{FromZeros, IntoBytes};

use super::dir::Dir;
use super::error::Problem;
use super::extents::Blocks;
use super::xattr::StoredSet;
use crate::ext4::checksum::{InodeSummer, high, low};
use crate::ext4::format::{BLOCK, INODE_BYTES, RawInode};
use crate::tree::{DeviceNumber, Timestamp};

/// `EXT4_EXTENTS_FL`.
const FLAG_EXTENTS: u32 = 0x8_0000;
/// `EXT4_INDEX_FL`.
const FLAG_INDEX: u32 = 0x1000;
/// Most names of a file, and the count of subdirectories from which on a directory's links read 1 (`dir_nlink`).
pub(super) const MAX_LINKS: u16 = 65_000;
/// Bytes of an inode beyond the 128 of the first ext2.
const EXTRA_BYTES: u16 = 32;
/// Sectors of 512 bytes in a block: the unit of `i_blocks`.
const SECTORS: u64 = (BLOCK / 512) as u64;
/// Longest symbolic link, plus one, that fits the inode.
pub(super) const FAST_SYMLINK: usize = 60;

/// A time as an inode stores it: 32 bits of seconds, above them 30 bits of nanoseconds and 2 more of seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct PackedTime(u64);

impl PackedTime {
    /// From 1901 to 2446.
    pub(super) fn new(time: Timestamp) -> Result<Self, Problem> {
        let seconds = time.sec();
        let from_1901 = seconds.saturating_add(1 << 31);
        if !(0..1 << 34).contains(&from_1901) || time.nsec() > 999_999_999 {
            return Err(Problem::Time { seconds });
        }
        // What the sign-extended low word lacks, in units of 2^32 s.
        let epoch = u32::try_from(from_1901 >> 32).expect("34 bits were checked");
        let extra = time.nsec() << 2 | epoch;
        let low = seconds.cast_unsigned() & 0xffff_ffff;
        Ok(Self(u64::from(extra) << 32 | low))
    }

    pub(super) fn seconds(self) -> u32 {
        (self.0 & 0xffff_ffff) as u32
    }

    pub(super) fn extra(self) -> u32 {
        (self.0 >> 32) as u32
    }

    pub(super) fn timestamp(self) -> Timestamp {
        let epoch = i64::from(self.extra() & 3) << 32;
        let seconds = i64::from(self.seconds().cast_signed()) + epoch;
        Timestamp::new(seconds, self.extra() >> 2)
    }
}

/// One inode. A million of them are kept for a host, so its size is asserted.
#[derive(Clone, Debug, Default)]
pub(super) struct Inode {
    /// Bytes of a regular file or symbolic link.
    pub(super) size: u64,
    pub(super) atime: PackedTime,
    pub(super) ctime: PackedTime,
    pub(super) mtime: PackedTime,
    pub(super) xattrs: Option<Arc<StoredSet>>,
    pub(super) body: Body,
    pub(super) uid: u32,
    pub(super) gid: u32,
    /// `i_mode`: type and permissions.
    pub(super) mode: u16,
    /// Names of anything but a directory.
    pub(super) links: u16,
}

const _: () = assert!(size_of::<Inode>() <= 80);

/// What an inode holds.
#[derive(Clone, Debug, Default)]
pub(super) enum Body {
    #[default]
    Free,
    /// A regular file whose bytes come from elsewhere.
    File(Blocks),
    /// A regular file of one block whose bytes are part of the plan.
    Content(Arc<InBlock>),
    Directory(Arc<Dir>),
    Symlink(Arc<InBlock>),
    Device {
        major: u32,
        minor: u32,
    },
    /// A named pipe or socket.
    Bare,
}

/// Bytes that the plan itself holds.
#[derive(Clone, Debug)]
pub(super) struct InBlock {
    pub(super) bytes: Box<[u8]>,
    /// Where they lie; `None` for those in the inode and for none.
    pub(super) block: Option<u32>,
}

impl Inode {
    pub(super) fn is_free(&self) -> bool {
        matches!(self.body, Body::Free)
    }

    pub(super) fn directory(&self) -> Option<&Arc<Dir>> {
        match &self.body {
            Body::Directory(dir) => Some(dir),
            _ => None,
        }
    }

    /// What it holds in blocks as runs, the nodes of their tree apart.
    pub(super) fn blocks(&self) -> Option<&Blocks> {
        match &self.body {
            Body::File(blocks) => Some(blocks),
            Body::Directory(dir) => Some(&dir.blocks),
            _ => None,
        }
    }

    /// The 256 bytes on disk.
    pub(super) fn encode(&self, summer: &InodeSummer, out: &mut [u8]) {
        if self.is_free() {
            return;
        }
        let mut raw = RawInode::new_zeroed();
        self.encode_attributes(&mut raw);
        self.encode_body(&mut raw);
        if let Some(stored) = &self.xattrs {
            stored.encode_in_inode(&mut raw);
        }
        let sectors = self.allocated_blocks() * SECTORS;
        raw.i_blocks_lo = low_word(sectors).into();
        raw.i_blocks_high = low(high_word(sectors)).into();
        if summer.is_full() {
            let sum = summer.sum(&[raw.as_bytes()]);
            raw.i_checksum_lo = low(sum).into();
            raw.i_checksum_hi = high(sum).into();
        }
        out[..INODE_BYTES].copy_from_slice(raw.as_bytes());
    }

    fn encode_attributes(&self, raw: &mut RawInode) {
        raw.i_mode = self.mode.into();
        raw.i_uid = low(self.uid).into();
        raw.i_uid_high = high(self.uid).into();
        raw.i_gid = low(self.gid).into();
        raw.i_gid_high = high(self.gid).into();
        raw.i_extra_isize = EXTRA_BYTES.into();
        raw.i_atime = self.atime.seconds().into();
        raw.i_atime_extra = self.atime.extra().into();
        raw.i_mtime = self.mtime.seconds().into();
        raw.i_mtime_extra = self.mtime.extra().into();
        raw.i_ctime = self.ctime.seconds().into();
        raw.i_ctime_extra = self.ctime.extra().into();
        // No kernel interface tells when a file was made; its last change is the nearest that does no harm.
        raw.i_crtime = raw.i_ctime;
        raw.i_crtime_extra = raw.i_ctime_extra;
        raw.i_links_count = self.link_count().into();
        let size = self.size_on_disk();
        raw.i_size_lo = low_word(size).into();
        raw.i_size_high = high_word(size).into();
    }

    fn encode_body(&self, raw: &mut RawInode) {
        match &self.body {
            Body::Free | Body::Bare => {}
            Body::File(blocks) => encode_blocks(blocks, raw),
            Body::Directory(dir) => {
                encode_blocks(&dir.blocks, raw);
                if dir.is_indexed() {
                    raw.i_flags = (FLAG_EXTENTS | FLAG_INDEX).into();
                }
            }
            Body::Symlink(text) if text.block.is_none() => {
                raw.i_block[..text.bytes.len()].copy_from_slice(&text.bytes);
            }
            Body::Symlink(text) | Body::Content(text) => encode_blocks(&text.blocks(), raw),
            &Body::Device { major, minor } => {
                let (word, number) = encode_device(major, minor);
                raw.i_block[4 * word..][..4].copy_from_slice(&number.to_le_bytes());
            }
        }
    }

    /// `i_links_count`.
    fn link_count(&self) -> u16 {
        match self.directory() {
            Some(dir) => match u16::try_from(dir.subdirectories + 2) {
                Ok(links) if links < MAX_LINKS => links,
                _ => 1,
            },
            None => self.links,
        }
    }

    fn size_on_disk(&self) -> u64 {
        match self.directory() {
            Some(dir) => u64::from(dir.nr_blocks()) * BLOCK as u64,
            None => self.size,
        }
    }

    /// Blocks of data, of extent nodes and of attributes.
    fn allocated_blocks(&self) -> u64 {
        let own = match &self.body {
            Body::Symlink(text) | Body::Content(text) => u64::from(text.block.is_some()),
            _ => self.blocks().map_or(0, |blocks| {
                u64::from(blocks.nr_blocks()) + blocks.nodes().len() as u64
            }),
        };
        let attributes = self.xattrs.as_ref().and_then(|stored| stored.block);
        own + u64::from(attributes.is_some())
    }
}

impl InBlock {
    fn blocks(&self) -> Blocks {
        match self.block {
            Some(start) => Blocks::One { start, blocks: 1 },
            None => Blocks::None,
        }
    }
}

fn encode_blocks(blocks: &Blocks, raw: &mut RawInode) {
    raw.i_flags = FLAG_EXTENTS.into();
    blocks.encode_root(&mut raw.i_block);
}

/// Which word of `i_block` holds a device number, and the number. Source: linux v6.6 `include/linux/kdev_t.h`.
fn encode_device(major: u32, minor: u32) -> (usize, u32) {
    if major < 256 && minor < 256 {
        (0, major << 8 | minor)
    } else {
        (1, minor & 0xff | major << 8 | (minor & !0xff) << 12)
    }
}

/// The number, if an inode can hold it.
pub(super) fn device(number: DeviceNumber) -> Result<Body, Problem> {
    let DeviceNumber { major, minor } = number;
    if major >= 1 << 12 || minor >= 1 << 20 {
        return Err(Problem::Device { major, minor });
    }
    Ok(Body::Device { major, minor })
}

pub(super) fn low_word(value: u64) -> u32 {
    (value & 0xffff_ffff) as u32
}

pub(super) fn high_word(value: u64) -> u32 {
    (value >> 32) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_from_1901_to_2446_survive_packing() {
        for seconds in [
            i64::from(i32::MIN),
            -1,
            0,
            i64::from(i32::MAX),
            i64::from(i32::MAX) + 1,
            4_294_967_296,
            15_032_385_535,
        ] {
            let time = Timestamp::new(seconds, 999_999_999);
            assert_eq!(PackedTime::new(time).unwrap().timestamp(), time);
        }
    }

    #[test]
    fn times_beyond_are_refused() {
        for seconds in [
            i64::from(i32::MIN) - 1,
            15_032_385_536,
            i64::MAX / 2,
            i64::MIN / 2,
        ] {
            let time = Timestamp::new(seconds, 0);
            assert_eq!(PackedTime::new(time), Err(Problem::Time { seconds }));
        }
    }

    #[test]
    fn device_numbers_take_the_short_form_where_it_fits() {
        assert_eq!(encode_device(8, 1), (0, 0x801));
        assert_eq!(encode_device(259, 0x12345), (1, 0x1231_0345));
    }
}
