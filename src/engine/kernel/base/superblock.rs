//! The UUID of a file system, read as `blkid` does: the daemon compares with what that prints.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use uuid::Uuid;

/// Source: linux v6.6 `fs/ext4/ext4.h`, `struct ext4_super_block`: at byte 1024; `s_magic` at 0x38, `s_uuid` at 0x68.
const EXT4_MAGIC: (u64, [u8; 2]) = (1024 + 0x38, [0x53, 0xef]);
const EXT4_UUID: u64 = 1024 + 0x68;

/// Source: linux v6.6 `fs/xfs/libxfs/xfs_format.h`, `struct xfs_dsb`: `sb_magicnum` at 0, `sb_uuid` at 32.
const XFS_MAGIC: (u64, [u8; 4]) = (0, *b"XFSB");
const XFS_UUID: u64 = 32;

/// The UUID of an ext4, `None` where there is none.
pub(super) fn ext4_uuid(device: &File) -> io::Result<Option<Uuid>> {
    uuid_behind(device, EXT4_MAGIC, EXT4_UUID)
}

/// The UUID of an xfs, `None` where there is none.
pub(super) fn xfs_uuid(device: &File) -> io::Result<Option<Uuid>> {
    uuid_behind(device, XFS_MAGIC, XFS_UUID)
}

fn uuid_behind<const N: usize>(
    device: &File,
    (place, magic): (u64, [u8; N]),
    uuid_place: u64,
) -> io::Result<Option<Uuid>> {
    let mut found = [0; N];
    device.read_exact_at(&mut found, place)?;
    if found != magic {
        return Ok(None);
    }
    let mut uuid = [0; 16];
    device.read_exact_at(&mut uuid, uuid_place)?;
    Ok(Some(Uuid::from_bytes(uuid)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zeros_are_no_file_system() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(1 << 20).unwrap();
        assert_eq!(ext4_uuid(&file).unwrap(), None);
        assert_eq!(xfs_uuid(&file).unwrap(), None);
    }

    #[test]
    fn a_device_that_ends_before_the_superblock_is_an_error() {
        let file = tempfile::tempfile().unwrap();
        assert!(ext4_uuid(&file).is_err());
        assert!(xfs_uuid(&file).is_err());
    }
}
