//! Compares extended attributes, only some of which are in a tar.

use crate::tree::{Kind, Node, Xattrs, escape};
use crate::verify::reasons::TAR;
use crate::verify::unpack::Unsure;

const CAPABILITY: &[u8] = b"security.capability";
/// The offset of an ACL's entries, and the size of each. Source: linux v6.6 `include/uapi/linux/posix_acl_xattr.h`.
const ACL_HEADER: usize = 4;
const ACL_ENTRY: usize = 8;

/// The faults of the tar's attributes on disk. Additional attributes are allowed: a tar made by Docker contains only
/// capabilities, and what it makes a tar of stays unchanged.
pub(super) fn faults(expected: &Node, unsure: Unsure, found: &Xattrs) -> Vec<String> {
    let value = |name: &[u8]| found.iter().find(|(own, _)| *own == name);
    let mut faults = Vec::new();
    for (name, told) in expected.meta.xattrs.iter() {
        if !is_kept(name, told, &expected.kind) {
            continue;
        }
        let what = match value(name) {
            None if name == CAPABILITY && unsure.has(Unsure::PRIVILEGE) => continue,
            None => "is missing",
            Some((_, is)) if !is_same(name, told, is) => "differs from the one in",
            Some(_) => continue,
        };
        let name = escape(name);
        faults.push(match what {
            "is missing" => format!("attribute {name} is missing"),
            differs => format!("attribute {name} {differs} {TAR}"),
        });
    }
    faults
}

/// Whether the attribute ends up on disk as it is in the tar. Docker ignores what the kernel refuses. Sources: linux
/// v6.6 `fs/xattr.c`, `xattr_permission` (`user.*` on anything but files and directories); `fs/posix_acl.c` (an ACL
/// that says no more than the mode is not stored); security modules and integrity checks have values of their own.
fn is_kept(name: &[u8], value: &[u8], kind: &Kind) -> bool {
    let is_plain = matches!(kind, Kind::Regular(_) | Kind::Directory(_));
    let owner_group_others = ACL_HEADER + 3 * ACL_ENTRY;
    match name {
        CAPABILITY => true,
        b"system.posix_acl_access" | b"system.posix_acl_default" => {
            is_plain && value.len() > owner_group_others
        }
        _ if name.starts_with(b"user.") => is_plain,
        _ => name.starts_with(b"trusted."),
    }
}

fn is_same(name: &[u8], told: &[u8], is: &[u8]) -> bool {
    match name {
        CAPABILITY => told == is || capability(told) == capability(is),
        // The mode, which is set last, changes the permissions in it.
        b"system.posix_acl_access" => told.len() == is.len(),
        _ => told == is,
    }
}

/// A capability without its user namespace, which Docker does not put into tars. Source: linux v6.6
/// `include/uapi/linux/capability.h`, `vfs_ns_cap_data`; moby v20.10.24 `pkg/archive/archive.go`,
/// `ReadSecurityXattrToTarHeader`.
fn capability(value: &[u8]) -> Option<(bool, &[u8])> {
    let (magic, rest) = value.split_first_chunk()?;
    let magic = u32::from_le_bytes(*magic);
    let is_known = matches!(magic >> 24, 2 | 3) && rest.len() >= 16;
    is_known.then(|| (magic & 1 != 0, &rest[..16]))
}
