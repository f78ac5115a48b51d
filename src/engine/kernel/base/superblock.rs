//! The UUID of a file system, read as `blkid` does: the daemon compares it with the output of `blkid`.

use uuid::Uuid;

/// Source: linux v6.6 `fs/ext4/ext4.h`, `struct ext4_super_block`: at byte 1024; `s_magic` at 0x38, `s_uuid` at 0x68.
const EXT4_MAGIC: (usize, &[u8]) = (1024 + 0x38, &[0x53, 0xef]);
const EXT4_UUID: usize = 1024 + 0x68;

/// Source: linux v6.6 `fs/xfs/libxfs/xfs_format.h`, `struct xfs_dsb`: `sb_magicnum` at 0, `sb_uuid` at 32.
const XFS_MAGIC: (usize, &[u8]) = (0, b"XFSB");
const XFS_UUID: usize = 32;

/// The UUID of an ext4 that starts with these bytes; `None` if there is none.
pub(super) fn ext4_uuid(first: &[u8; 4096]) -> Option<Uuid> {
    uuid_behind(first, EXT4_MAGIC, EXT4_UUID)
}

/// The UUID of an xfs that starts with these bytes; `None` if there is none.
pub(super) fn xfs_uuid(first: &[u8; 4096]) -> Option<Uuid> {
    uuid_behind(first, XFS_MAGIC, XFS_UUID)
}

fn uuid_behind(
    first: &[u8; 4096],
    (place, magic): (usize, &[u8]),
    uuid_place: usize,
) -> Option<Uuid> {
    first[place..].starts_with(magic).then(|| {
        let uuid = first[uuid_place..].first_chunk();
        Uuid::from_bytes(*uuid.expect("a superblock ends before the block"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uuid_is_found_behind_its_own_magic_only() {
        let mut first = [0; 4096];
        first[32..48].fill(1);
        first[1024 + 104..1024 + 120].fill(2);
        assert_eq!((ext4_uuid(&first), xfs_uuid(&first)), (None, None));
        first[..4].copy_from_slice(b"XFSB");
        assert_eq!(xfs_uuid(&first), Some(Uuid::from_bytes([1; 16])));
        assert_eq!(ext4_uuid(&first), None);
        first[1024 + 56..1024 + 58].copy_from_slice(&[0x53, 0xef]);
        assert_eq!(ext4_uuid(&first), Some(Uuid::from_bytes([2; 16])));
    }
}
