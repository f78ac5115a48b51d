//! A file system as it was read: a persistent value.

use std::collections::BTreeSet;
use std::ops::{Bound, Range};
use std::sync::Arc;

use imbl::ordmap::DiffItem;
use imbl::{OrdMap, OrdSet, Vector};

use super::dirent::{MAX_NAME, key};
use super::extents::Run;
use super::fault::Fault;
use super::group::Group;
use super::inode::Inode;
use super::layout::Geometry;
use super::owner::{Claim, Part};
use super::superblock::Super;
use super::work::MAX_FAULTS;
use super::xattr::XattrBlock;
use crate::ext4::ino::Ino;

/// A file system that was read from a device and checked. Cloning it costs nothing; a child derived from its parent's
/// view shares what did not change.
#[derive(Clone, Debug)]
pub struct View {
    pub(super) geometry: Arc<Geometry>,
    pub(super) superblock: Super,
    pub(super) groups: Vector<Group>,
    /// Where tables and copies of the superblock lie, by their first blocks.
    pub(super) fixed: Arc<[(u64, FixedMetadata)]>,
    pub(super) inodes: OrdMap<Ino, Arc<Inode>>,
    /// By directory and name.
    pub(super) names: OrdMap<Arc<[u8]>, NameTarget>,
    /// How often an inode is named by a directory as being of a type.
    pub(super) links: OrdMap<Link, u32>,
    /// Runs of blocks, by their first.
    pub(super) owners: OrdMap<u64, Claim>,
    pub(super) xattrs: OrdMap<u64, XattrBlockUse>,
    /// Which inodes have which attribute block.
    pub(super) sharers: OrdSet<(u64, Ino)>,
    pub(super) faults: OrdMap<Unit, Arc<[Fault]>>,
    pub(super) nr_faults: usize,
    pub(super) has_more_faults: bool,
    /// Something is wrong that ties parts together, so that a child must be read as a whole.
    pub(super) is_tangled: bool,
}

/// What a name leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NameTarget {
    pub(super) ino: Ino,
    pub(super) file_type: u8,
}

/// Names of an inode in one directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Link {
    pub(super) ino: Ino,
    pub(super) directory: Ino,
    /// What the entries say it is.
    pub(super) file_type: u8,
}

/// An attribute block in use.
#[derive(Clone, Debug)]
pub(super) struct XattrBlockUse {
    pub(super) block: Arc<XattrBlock>,
    pub(super) faults: Arc<[super::fault::XattrFault]>,
    /// Inodes that have it.
    pub(super) users: u32,
}

/// What lies at a place that descriptors and the layout tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FixedMetadata {
    /// Superblock and descriptors, or copies of them.
    Head {
        group: u32,
    },
    BlockBitmap {
        group: u32,
    },
    InodeBitmap {
        group: u32,
    },
    InodeTable {
        group: u32,
    },
}

/// A part of which faults are known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Unit {
    Superblock,
    Tables(u32),
    Group(u32),
    Journal,
    OrphanFile,
    Inode(Ino),
    Links(Ino),
    Xattrs(u64),
}

impl View {
    /// The inode of a name in a directory.
    pub fn lookup(&self, directory: Ino, name: &[u8]) -> Option<Ino> {
        if name.len() > MAX_NAME {
            return None;
        }
        let named = self.names.get(&*key(directory, name))?;
        Some(named.ino)
    }

    /// The names in a directory but `.` and `..`, in byte order. No one holds a slash or NUL or is empty.
    pub fn names(&self, directory: Ino) -> impl Iterator<Item = (&[u8], Ino)> {
        let from = key(directory, b"");
        let to = directory.0.checked_add(1).map(|next| key(Ino(next), b""));
        let end = to.map_or(Bound::Unbounded, Bound::Excluded);
        let range = self
            .names
            .range::<_, Arc<[u8]>>((Bound::Included(from), end));
        range.map(|(key, named)| (&key[4..], named.ino))
    }

    /// What is known of an inode in use.
    pub fn inode(&self, ino: Ino) -> Option<&Inode> {
        self.inodes.get(&ino).map(|inode| &**inode)
    }

    /// All inodes in use, ascending; reserved ones and the journal among them.
    pub fn inodes(&self) -> impl Iterator<Item = (Ino, &Inode)> {
        self.inodes.iter().map(|(&ino, inode)| (ino, &**inode))
    }

    /// The directories that name an inode, each with the number of its names there.
    pub fn parents(&self, ino: Ino) -> impl Iterator<Item = (Ino, u32)> {
        self.links_of(ino)
            .map(|(link, &names)| (link.directory, names))
    }

    pub(super) fn links_of(&self, ino: Ino) -> impl Iterator<Item = (&Link, &u32)> {
        let link = |directory, file_type| Link {
            ino,
            directory: Ino(directory),
            file_type,
        };
        self.links.range(link(0, 0)..=link(u32::MAX, u8::MAX))
    }

    /// Where a file's or directory's blocks are, ascending within it; what lies between is a hole.
    pub fn extents(&self, ino: Ino) -> impl Iterator<Item = Run> {
        let inode = self.inode(ino);
        inode
            .into_iter()
            .flat_map(|inode| inode.mapping.runs.iter().copied())
    }

    /// Bytes of a block: the unit of [`Run`].
    pub fn block_bytes(&self) -> u32 {
        self.geometry.block_bytes
    }

    /// Blocks of the file system.
    pub fn blocks(&self) -> u64 {
        self.geometry.blocks
    }

    /// The file system's UUID.
    pub fn uuid(&self) -> [u8; 16] {
        self.superblock.uuid
    }

    /// The journal holds changes that are not in their places yet. What is read here is then what was there before, and
    /// faults may be none.
    pub fn needs_recovery(&self) -> bool {
        self.superblock.needs_recovery
    }

    /// The inodes of which bytes of content lie in these ranges of the device, ascending and not overlapping: regular
    /// files and symbolic links, but not the file system's own: each mount writes to the journal. The runs are cut to the
    /// ranges, up to whole blocks.
    ///
    /// With a device's changed ranges this tells which content has to be compared beside what
    /// [`View::changed_since`] names. Costs what lies in the ranges.
    pub fn content_in(&self, ranges: &[Range<u64>]) -> impl Iterator<Item = (Ino, Run)> {
        let unit = u64::from(self.geometry.block_bytes);
        let blocks = ranges
            .iter()
            .map(move |range| range.start / unit..range.end.div_ceil(unit));
        blocks
            .flat_map(|range| {
                let claims = self.claims_in(range.clone());
                claims.map(move |(start, claim)| (start, claim, range.clone()))
            })
            .filter(|(_, claim, _)| {
                let ino = claim.owner.ino;
                let is_own =
                    ino < self.geometry.first_ino || Some(ino) == self.geometry.orphan_file;
                claim.owner.part == Part::Data && !is_own
            })
            .filter_map(|(start, claim, range)| {
                let runs = &self.inode(claim.owner.ino)?.mapping.runs;
                let at = runs.binary_search_by_key(&claim.owner.logical, |run| run.logical);
                let run = runs[at.ok()?];
                let skip = range.start.saturating_sub(start);
                let end = (start + claim.blocks).min(range.end);
                let small = |n: u64| u32::try_from(n).expect("within a run");
                let cut = Run {
                    logical: run.logical + small(skip),
                    physical: start + skip,
                    blocks: small(end - start - skip),
                    ..run
                };
                Some((claim.owner.ino, cut))
            })
    }

    /// The claims of which a block lies in a range of blocks.
    pub(super) fn claims_in(&self, range: Range<u64>) -> impl Iterator<Item = (u64, Claim)> {
        let before = self.owners.get_prev(&range.start);
        let first = before
            .filter(|(start, claim)| **start < range.start && *start + claim.blocks > range.start)
            .map(|(start, _)| *start);
        let start = first.unwrap_or(range.start);
        let end = range.end.max(start);
        self.owners
            .range(start..end)
            .map(|(&start, &claim)| (start, claim))
    }

    /// The inodes that are new, gone or differ from those of another view: attributes, blocks, targets; of directories
    /// the names, not where they are stored. Costs what differs, if one was derived from the other.
    pub fn changed_since(&self, parent: &Self) -> impl Iterator<Item = Ino> + use<> {
        let mut changed = BTreeSet::new();
        for item in parent.inodes.diff(&self.inodes) {
            let (DiffItem::Add(&ino, _)
            | DiffItem::Remove(&ino, _)
            | DiffItem::Update { new: (&ino, _), .. }) = item;
            changed.insert(ino);
        }
        changed.extend(self.changed_names(parent).map(|(directory, _)| directory));
        changed.into_iter()
    }

    /// The names that are new, gone or lead elsewhere than in another view, each with its directory. Costs what differs, as
    /// [`View::changed_since`] does.
    pub fn changed_names<'a>(&'a self, parent: &'a Self) -> impl Iterator<Item = (Ino, &'a [u8])> {
        parent.names.diff(&self.names).map(|item| {
            let (DiffItem::Add(key, _)
            | DiffItem::Remove(key, _)
            | DiffItem::Update { new: (key, _), .. }) = item;
            let (directory, name) = key.split_first_chunk().expect("keys start with a number");
            (Ino(u32::from_be_bytes(*directory)), name)
        })
    }

    /// All that is wrong, in the order of places.
    pub(super) fn all_faults(&self) -> Vec<Fault> {
        let known = self
            .faults
            .values()
            .flat_map(|faults| faults.iter().cloned());
        let more = self.has_more_faults.then_some(Fault::More(MAX_FAULTS));
        known.chain(more).collect()
    }
}
