//! What can be wrong with a file system.

use std::fmt;

use crate::ext4::ino::Ino;
use crate::tree::escape;

/// Something that is not as it should be; says where it is first.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// In the superblock.
    #[error("superblock: {0}")]
    Superblock(SuperblockFault),
    /// In a group's descriptor, bitmaps or counts.
    #[error("group {group}: {fault}")]
    Group {
        /// Its number.
        group: u32,
        /// What.
        fault: GroupFault,
    },
    /// In an inode, the blocks it has or the names it is known by.
    #[error("inode {}: {fault}", ino.0)]
    Inode {
        /// Its number.
        ino: Ino,
        /// What.
        fault: InodeFault,
    },
    /// In a directory's block.
    #[error("inode {}: directory block {block}: {fault}", ino.0)]
    Directory {
        /// The directory.
        ino: Ino,
        /// The block's number in it.
        block: u32,
        /// What.
        fault: DirectoryFault,
    },
    /// In a block of extended attributes.
    #[error("attribute block {block}: {fault}")]
    Xattrs {
        /// Its number in the file system.
        block: u64,
        /// What.
        fault: XattrFault,
    },
    /// In the journal's superblock.
    #[error("journal: {0}")]
    Journal(JournalFault),
    /// There are more than are kept.
    #[error("file system: more than {0} faults; the others are not listed")]
    More(usize),
}

/// What is wrong with the superblock.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SuperblockFault {
    /// A field that contradicts another one.
    #[error("{field} is {value}")]
    Field {
        /// The field.
        field: &'static str,
        /// Its value.
        value: u64,
    },
    /// A count that is not the sum of what is there.
    #[error("{field} is {found}, not {expected}")]
    Count {
        /// The field.
        field: &'static str,
        /// Its value.
        found: u64,
        /// What is there.
        expected: u64,
    },
    /// Features that exclude or need one another.
    #[error("features {0} are not a valid combination")]
    Features(&'static str),
    /// There is no root directory.
    #[error("there is no root directory")]
    NoRoot,
    /// The kernel or a check noted errors.
    #[error("marked as having errors")]
    Errors,
    /// Files that were removed while open, or not yet cut off, wait to be released.
    #[error("inode {} is on the orphan list, but needs_recovery is not set", .0.0)]
    Orphan(Ino),
}

/// What is wrong with a group.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GroupFault {
    /// A checksum.
    #[error("{what}'s checksum is {found:#x}, not {expected:#x}")]
    Checksum {
        /// Of what.
        what: &'static str,
        /// What is stored.
        found: u32,
        /// What the bytes give.
        expected: u32,
    },
    /// A table that lies where none can be.
    #[error("{what} at block {block}: outside the file system or group")]
    Place {
        /// Which.
        what: &'static str,
        /// Where it is said to be.
        block: u64,
    },
    /// A table in blocks that are another's.
    #[error("{what} at block {block}: overlaps with other tables")]
    Overlap {
        /// Which.
        what: &'static str,
        /// Where it starts.
        block: u64,
    },
    /// A flag or count that contradicts another one.
    #[error("{what}")]
    Contradiction {
        /// Which.
        what: &'static str,
    },
    /// A count that is not what is there.
    #[error("{field} is {found}, not {expected}")]
    Count {
        /// The field.
        field: &'static str,
        /// Its value.
        found: u32,
        /// What is there.
        expected: u32,
    },
    /// A bitmap says that something is in use which is free, or the other way round.
    #[error("{what} bitmap differs in {bits} bits: {what} {number} is {}", used(*.is_used))]
    Bitmap {
        /// `block` or `inode`.
        what: &'static str,
        /// How many bits differ.
        bits: u32,
        /// The first one's block or inode.
        number: u64,
        /// Whether that one is in use, and the bitmap says it is free.
        is_used: bool,
    },
    /// The bits behind the last block or inode must be set.
    #[error("{what} bitmap: padding is not set")]
    Padding {
        /// `block` or `inode`.
        what: &'static str,
    },
}

fn used(is_used: bool) -> &'static str {
    if is_used {
        "used, not marked"
    } else {
        "marked, not used"
    }
}

/// What is wrong with an inode.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InodeFault {
    /// The checksum.
    #[error("checksum is {found:#x}, not {expected:#x}")]
    Checksum {
        /// What is stored.
        found: u32,
        /// What the bytes give.
        expected: u32,
    },
    /// A field that has no meaning or contradicts another one.
    #[error("{field} is {value:#x}")]
    Field {
        /// The field.
        field: &'static str,
        /// Its value.
        value: u64,
    },
    /// A count that is not what is there.
    #[error("{field} is {found}, not {expected}")]
    Count {
        /// The field.
        field: &'static str,
        /// Its value.
        found: u64,
        /// What is there.
        expected: u64,
    },
    /// Its size does not go with its blocks.
    #[error("size of {size} bytes does not match blocks up to {blocks}")]
    Size {
        /// Bytes.
        size: u64,
        /// The number behind its last block.
        blocks: u64,
    },
    /// A node of its extent tree.
    #[error("extent tree: {0}")]
    Extents(ExtentFault),
    /// A block that is not the file system's, or one for tables, in an old block map.
    #[error("block map: block {0} is outside the file system")]
    BlockMap(u64),
    /// A block that something else has too.
    #[error("block {block} (of {blocks}) is in use elsewhere")]
    Claimed {
        /// The first block of the run it is in.
        block: u64,
        /// Blocks of the run.
        blocks: u64,
    },
    /// Attributes in the inode.
    #[error("attributes: {0}")]
    Xattrs(XattrFault),
    /// A symbolic link whose target is not what its size says.
    #[error("symbolic link: target is not {0} bytes in one place")]
    Symlink(u64),
    /// No directory has a name for it.
    #[error("has no name")]
    Unconnected,
    /// A directory that is not below the root.
    #[error("directory is below itself")]
    Loop,
    /// A directory with more than one name.
    #[error("directory has {0} names")]
    Names(u64),
    /// A directory whose `..` is not where its name is.
    #[error("`..` is inode {}, not {}", found.0, expected.0)]
    Parent {
        /// Where `..` points.
        found: Ino,
        /// Where the name is.
        expected: Ino,
    },
    /// Directories name it, but it is free.
    #[error("is named by directory {}, but is free", .0.0)]
    Free(Ino),
    /// A name with another type than the inode's.
    #[error("directory {} says it has type {found}, not {expected}", directory.0)]
    Type {
        /// Where the name is.
        directory: Ino,
        /// What is said there.
        found: u8,
        /// What it is.
        expected: u8,
    },
    /// A directory without any block, or with blocks missing.
    #[error("directory lacks block {0}")]
    Hole(u64),
    /// The index of a directory as a whole.
    #[error("directory index: {0}")]
    Index(IndexFault),
    /// The resize inode.
    #[error("resize inode: {0}")]
    Resize(&'static str),
    /// The orphan file.
    #[error("orphan file: block {block}: {what}")]
    OrphanFile {
        /// The block's number in it.
        block: u64,
        /// What.
        what: &'static str,
    },
}

/// What is wrong with an extent tree.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ExtentFault {
    /// A node's head.
    #[error("node at block {0}: malformed")]
    Header(u64),
    /// A node's checksum.
    #[error("node at block {0}: wrong checksum")]
    Checksum(u64),
    /// A run or node outside of the file system.
    #[error("{blocks} blocks at {start} are outside the file system")]
    Range {
        /// First block.
        start: u64,
        /// How many.
        blocks: u64,
    },
    /// A run without blocks.
    #[error("run at logical block {0} is empty")]
    Empty(u32),
    /// Runs that overlap or do not ascend, or a node whose runs start elsewhere than said above it.
    #[error("logical block {0} is out of order")]
    Order(u32),
    /// Runs of a directory that were never written.
    #[error("logical block {0} of a directory is unwritten")]
    Unwritten(u32),
    /// Runs beyond where a directory may end.
    #[error("logical block {0} is beyond a directory's end")]
    Beyond(u32),
}

/// What is wrong with a directory's block.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DirectoryFault {
    /// The checksum, or the place for it.
    #[error("{0} checksum")]
    Checksum(Defect),
    /// An entry that reaches too far or not far enough.
    #[error("entry at byte {0} is malformed")]
    Entry(usize),
    /// The first two entries are not `.` and `..`.
    #[error("entry at byte {0} is not `.` or `..` as it should be")]
    Dots(usize),
    /// A name that no entry may have here.
    #[error("name {} is reserved, empty or contains NUL or a slash", escape(.0))]
    Name(Box<[u8]>),
    /// A name that is there twice.
    #[error("name {} appears twice", escape(.0))]
    Twice(Box<[u8]>),
    /// An entry for an inode that none may name.
    #[error("name {} refers to inode {}", escape(name), ino.0)]
    Inode {
        /// The name.
        name: Box<[u8]>,
        /// The inode.
        ino: Ino,
    },
    /// A node of the index.
    #[error("index: {0}")]
    Index(IndexFault),
}

/// How something fails to be right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Defect {
    /// It is not there.
    Missing,
    /// It is another.
    Wrong,
}

impl fmt::Display for Defect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Missing => "missing",
            Self::Wrong => "wrong",
        })
    }
}

/// What is wrong with a directory's index.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum IndexFault {
    /// A field of the root.
    #[error("{field} is {value}")]
    Field {
        /// The field.
        field: &'static str,
        /// Its value.
        value: u32,
    },
    /// Hashes that do not ascend.
    #[error("hashes are out of order")]
    Order,
    /// A pointer to a block that is not the directory's.
    #[error("points to block {0}")]
    Pointer(u32),
    /// A block that no or more than one pointer leads to.
    #[error("block {block} has {pointers} pointers")]
    Pointers {
        /// The block.
        block: u32,
        /// How many lead to it.
        pointers: u32,
    },
    /// Names in a leaf for other hashes.
    #[error("block {0} contains names with other hashes")]
    Hashes(u32),
    /// A leaf or node on the wrong level.
    #[error("block {0} is on the wrong level")]
    Level(u32),
}

/// What is wrong with extended attributes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum XattrFault {
    /// The block's checksum.
    #[error("checksum is {found:#x}, not {expected:#x}")]
    Checksum {
        /// What is stored.
        found: u32,
        /// What the bytes give.
        expected: u32,
    },
    /// The head.
    #[error("malformed header")]
    Header,
    /// Entries or values that overlap or reach too far.
    #[error("entries or values overlap or reach too far")]
    Layout,
    /// An entry that no one could ask for.
    #[error("entry without a name index")]
    Name,
    /// A value in an inode of its own.
    #[error("value in another inode")]
    ValueInode,
    /// A hash.
    #[error("wrong hash")]
    Hash,
    /// Entries that are not in the order in which they are searched.
    #[error("entries out of order")]
    Order,
    /// An access control list.
    #[error("malformed access control list")]
    Acl,
    /// A block that is not the file system's.
    #[error("block outside the file system")]
    Range,
    /// A block that something else has too.
    #[error("block is in use elsewhere")]
    Claimed,
    /// The number of inodes that share it.
    #[error("is shared by {found} inodes, not {expected}")]
    Sharers {
        /// What is stored.
        found: u32,
        /// How many there are.
        expected: u32,
    },
}

/// What is wrong with the journal.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum JournalFault {
    /// There is none, or it is no file of at least 1024 blocks.
    #[error("inode {} contains none", .0.0)]
    None(Ino),
    /// A field of its superblock.
    #[error("{field} is {value}")]
    Field {
        /// The field.
        field: &'static str,
        /// Its value.
        value: u32,
    },
    /// Its checksum.
    #[error("checksum is {found:#x}, not {expected:#x}")]
    Checksum {
        /// What is stored.
        found: u32,
        /// What the bytes give.
        expected: u32,
    },
}
