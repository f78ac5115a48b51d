//! The journal: its inode and its superblock. What it holds is not looked at.
//!
//! Source: linux v6.6 `include/linux/jbd2.h`, `Documentation/filesystems/ext4/journal.rst`.

use zerocopy::FromBytes;

use super::error::Error;
use super::fault::{Fault, JournalFault};
use super::view::Unit;
use super::work::Work;
use crate::ext4::checksum::crc32c;
use crate::ext4::format::{JOURNAL_MAGIC, JournalSuperBlock};

/// Blocks of the smallest journal.
const MIN_BLOCKS: u64 = 1024;
/// `JBD2_FEATURE_INCOMPAT_*`: revoked blocks, 64 bits, commits out of order, two kinds of
/// checksums, fast commits.
const KNOWN_INCOMPAT: u32 = 0x3f;
const CSUM_V2: u32 = 0x8;
const CSUM_V3: u32 = 0x10;
/// `JBD2_FEATURE_COMPAT_CHECKSUM`.
const COMPAT_CHECKSUM: u32 = 0x1;
/// `JBD2_SUPERBLOCK_V1` and `V2`.
const SUPERBLOCKS: [u32; 2] = [3, 4];
/// Bytes of the superblock, and where its checksum and the kind of it stand.
const BYTES: usize = 1024;
const SUM: usize = 0xfc;
const SUM_TYPE: usize = 0x50;
/// `JBD2_CRC32C_CHKSUM`.
const CRC32C: u8 = 4;

impl Work<'_> {
    pub(super) fn judge_journal(&mut self) -> Result<(), Error> {
        if !self.geometry.features.has_journal() {
            return Ok(());
        }
        let ino = self.geometry.journal_ino;
        let block = self.view.inodes.get(&ino).and_then(|inode| {
            let first = inode.mapping.runs.first()?;
            let blocks = inode.mapping.end();
            let is_whole = blocks >= MIN_BLOCKS
                && inode.mapping.runs.windows(2).all(|runs| {
                    u64::from(runs[0].logical) + u64::from(runs[0].blocks)
                        == u64::from(runs[1].logical)
                });
            (first.logical == 0 && is_whole).then_some((first.physical, blocks))
        });
        let faults = match block {
            None => vec![JournalFault::None(ino)],
            Some((block, blocks)) => {
                check(&self.read_block(block)?, self.geometry.block_bytes, blocks)
            }
        };
        let faults = faults.into_iter().map(Fault::Journal).collect();
        self.set_faults(Unit::Journal, faults);
        Ok(())
    }
}

fn check(bytes: &[u8], block_bytes: u32, blocks: u64) -> Vec<JournalFault> {
    let raw = JournalSuperBlock::read_from_prefix(bytes)
        .expect("a block is larger")
        .0;
    let kind = raw.h_blocktype.get();
    // The first version has no features.
    let is_v2 = kind == SUPERBLOCKS[1];
    let second = |value: u32| if is_v2 { value } else { 0 };
    let incompat = second(raw.s_feature_incompat.get());
    let ro_compat = second(raw.s_feature_ro_compat.get());
    let users = second(raw.s_nr_users.get());
    let sums = incompat & (CSUM_V2 | CSUM_V3);
    let old_sums = raw.s_feature_compat.get() & COMPAT_CHECKSUM != 0;
    let contradict = sums == CSUM_V2 | CSUM_V3 || sums != 0 && old_sums;
    let (magic, unit, length) = (raw.h_magic.get(), raw.s_blocksize.get(), raw.s_maxlen.get());
    let errno = raw.s_errno.get();
    let fields = [
        ("magic number", magic, magic == JOURNAL_MAGIC),
        ("h_blocktype", kind, SUPERBLOCKS.contains(&kind)),
        ("s_blocksize", unit, unit == block_bytes),
        ("s_maxlen", length, u64::from(length) <= blocks),
        (
            "s_feature_incompat",
            incompat,
            incompat & !KNOWN_INCOMPAT == 0 && !contradict,
        ),
        ("s_feature_ro_compat", ro_compat, ro_compat == 0),
        ("s_nr_users", users, users <= 1),
        ("s_errno", errno, errno == 0),
    ];
    let wrong = fields.into_iter().filter(|(.., is_right)| !is_right);
    let mut faults: Vec<_> = wrong
        .map(|(field, value, _)| JournalFault::Field { field, value })
        .collect();
    if sums != 0 {
        faults.extend(check_sum(bytes));
    }
    faults
}

fn check_sum(bytes: &[u8]) -> Option<JournalFault> {
    let found = u32::from_be_bytes(bytes[SUM..][..4].try_into().expect("four bytes"));
    let parts = [&bytes[..SUM], &[0; 4], &bytes[SUM + 4..BYTES]];
    let expected = parts.iter().fold(!0, |sum, part| crc32c(sum, part));
    let is_right = found == expected && bytes[SUM_TYPE] == CRC32C;
    (!is_right).then_some(JournalFault::Checksum { found, expected })
}
