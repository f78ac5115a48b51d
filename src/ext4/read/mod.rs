//! Reads ext4 file systems back and checks them, independent of the writer: what it shares with it are the layouts in
//! `format.rs`, checksum polynomials and hash functions.
//!
//! [`View::read`] reads all metadata of a file system; [`View::derive`] makes a child's view from its parent's and
//! reads what changed. Both find what `e2fsck -fn` finds, where this page of the documentation does not say otherwise:
//! `docs/ext4.md`, "Reading back". Everything on disk is taken for hostile: whatever stands there, reading ends, and
//! costs no more than what is there.

mod acl;
mod bitmap;
mod check_inode;
mod checked_view;
mod derive;
mod device;
mod dir;
mod dirent;
mod error;
mod extents;
mod fault;
mod features;
mod group;
mod htree;
mod inode;
mod journal;
mod judge;
mod layout;
mod links;
mod load;
mod orphan_file;
mod owner;
mod resize;
mod sums;
mod superblock;
mod view;
mod whole;
mod work;
mod xattr;

pub use checked_view::CheckedView;
pub use device::ReadAt;
pub use error::Error;
pub use extents::Run;
pub use fault::{
    Defect, DirectoryFault, ExtentFault, Fault, GroupFault, IndexFault, InodeFault, JournalFault,
    SuperblockFault, XattrFault,
};
pub use inode::{Inode, Type};
pub use view::View;
