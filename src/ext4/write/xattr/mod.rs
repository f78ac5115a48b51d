//! Extended attributes, in the inode or in a block that inodes share.

mod acl;
mod set;

pub(super) use set::{BlockPlace, MAX_SHARERS, Set, StoredSet};
