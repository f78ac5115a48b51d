//! Access control lists: what `getxattr` gives, made into what ext4 stores.
//!
//! Source: linux v6.6 `include/uapi/linux/posix_acl_xattr.h`, `fs/ext4/acl.h`. Both are a version and entries of tag,
//! permissions and id; on disk only those for a named user or group have the id.

/// Version of the form that `getxattr` gives.
const XATTR_VERSION: u32 = 2;
/// Version of the form on disk.
const DISK_VERSION: u32 = 1;

const USER_OBJ: u16 = 0x01;
const USER: u16 = 0x02;
const GROUP_OBJ: u16 = 0x04;
const GROUP: u16 = 0x08;
const MASK: u16 = 0x10;
const OTHER: u16 = 0x20;

/// The form on disk; `None` when the value is no list.
pub(super) fn to_disk(value: &[u8]) -> Option<Vec<u8>> {
    let (version, entries) = value.split_first_chunk()?;
    if u32::from_le_bytes(*version) != XATTR_VERSION || entries.is_empty() {
        return None;
    }
    let mut disk = DISK_VERSION.to_le_bytes().to_vec();
    for entry in entries.chunks(8) {
        let entry: &[u8; 8] = entry.try_into().ok()?;
        let tag = u16::from_le_bytes([entry[0], entry[1]]);
        let permissions = u16::from_le_bytes([entry[2], entry[3]]);
        let bytes = match tag {
            USER | GROUP => 8,
            USER_OBJ | GROUP_OBJ | MASK | OTHER => 4,
            _ => return None,
        };
        if permissions > 7 {
            return None;
        }
        disk.extend_from_slice(&entry[..bytes]);
    }
    Some(disk)
}
