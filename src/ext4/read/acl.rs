//! Access control lists: what ext4 stores, made into what `getxattr` gives.
//!
//! Source: linux v6.6 `fs/ext4/acl.h`, `include/uapi/linux/posix_acl_xattr.h`.

/// Version of the form on disk.
const DISK_VERSION: u32 = 1;
/// Version of the form that `getxattr` gives.
const XATTR_VERSION: u32 = 2;
/// Id of entries that are for no one named.
const NO_ID: u32 = u32::MAX;

/// The form that `getxattr` gives; `None` when the value is no list.
pub(super) fn from_disk(value: &[u8]) -> Option<Box<[u8]>> {
    let (version, mut rest) = value.split_first_chunk()?;
    if u32::from_le_bytes(*version) != DISK_VERSION {
        return None;
    }
    let mut list = XATTR_VERSION.to_le_bytes().to_vec();
    while !rest.is_empty() {
        let (head, behind) = rest.split_first_chunk::<4>()?;
        rest = behind;
        list.extend_from_slice(head);
        match u16::from_le_bytes([head[0], head[1]]) {
            // The owner, the owning group, the mask, everyone else.
            0x01 | 0x04 | 0x10 | 0x20 => list.extend_from_slice(&NO_ID.to_le_bytes()),
            // A user, a group.
            0x02 | 0x08 => {
                let (id, behind) = rest.split_first_chunk::<4>()?;
                rest = behind;
                list.extend_from_slice(id);
            }
            _ => return None,
        }
    }
    Some(list.into())
}
