//! What a chain of layers should look like, kept as plainly as possible, and compared with a mounted image.

#![allow(clippy::unwrap_used)] // a test reports by panicking

use std::collections::{BTreeMap, HashMap};
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;

use aufs2dm::tree::{
    DeviceNumber, Directory, Kind, LayerTree, Meta, NodeId, Regular, Segment, Timestamp,
};

/// A merged tree: a map of names in every directory, nothing shared but hard-linked files.
#[derive(Clone, Default)]
pub(crate) struct Model {
    inodes: HashMap<u64, Inode>,
    next: u64,
    pub(crate) root: u64,
}

#[derive(Clone)]
pub(crate) struct Inode {
    pub(crate) meta: Meta,
    pub(crate) kind: ModelKind,
}

#[derive(Clone)]
pub(crate) enum ModelKind {
    Directory(BTreeMap<Vec<u8>, u64>),
    /// With the seed of its bytes.
    Regular(Regular, u64),
    Symlink(Vec<u8>),
    Special(u32, DeviceNumber),
}

/// A layer being applied, and what its nodes became.
struct Source<'a> {
    layer: &'a LayerTree,
    seed_of: &'a dyn Fn(NodeId) -> u64,
    ids: HashMap<NodeId, u64>,
}

impl Model {
    pub(crate) fn new() -> Self {
        let mut model = Self::default();
        model.root = model.add(Inode {
            meta: Meta::default(),
            kind: ModelKind::Directory(BTreeMap::new()),
        });
        model
    }

    pub(crate) fn inode(&self, id: u64) -> &Inode {
        &self.inodes[&id]
    }

    fn add(&mut self, inode: Inode) -> u64 {
        self.next += 1;
        self.inodes.insert(self.next, inode);
        self.next
    }

    /// The names of a directory, none for anything else.
    pub(crate) fn names(&self, id: u64) -> Option<&BTreeMap<Vec<u8>, u64>> {
        match &self.inode(id).kind {
            ModelKind::Directory(names) => Some(names),
            _ => None,
        }
    }

    /// Applies a layer whose file `node` holds the bytes of seed `seed_of(node)`.
    pub(crate) fn apply(&mut self, layer: &LayerTree, seed_of: impl Fn(NodeId) -> u64) {
        let mut source = Source {
            layer,
            seed_of: &seed_of,
            ids: HashMap::new(),
        };
        self.merge(self.root, LayerTree::ROOT, &mut source);
    }

    fn merge(&mut self, id: u64, node: NodeId, source: &mut Source<'_>) {
        let layer = source.layer;
        let listing: &Directory = layer.directory(node).unwrap();
        let mut names = self.names(id).unwrap().clone();
        if listing.is_opaque() {
            names.clear();
        }
        for name in listing.removed() {
            names.remove(name);
        }
        for entry in listing.entries() {
            let below = names.get(entry.name).copied();
            let is_directory = layer.directory(entry.node).is_some();
            let child = match below {
                Some(below) if is_directory && self.names(below).is_some() => below,
                _ => self.id_of(entry.node, source),
            };
            names.insert(entry.name.to_vec(), child);
            if is_directory {
                self.merge(child, entry.node, source);
            }
        }
        let inode = self.inodes.get_mut(&id).unwrap();
        inode.meta = layer.node(node).meta.clone();
        inode.kind = ModelKind::Directory(names);
    }

    fn id_of(&mut self, node: NodeId, source: &mut Source<'_>) -> u64 {
        if let Some(&id) = source.ids.get(&node) {
            return id;
        }
        let id = self.add(new_inode(source.layer, node, (source.seed_of)(node)));
        source.ids.insert(node, id);
        id
    }

    /// Fails unless the tree at `root` is this model's.
    pub(crate) fn compare(&self, root: &Path) {
        let mut links = HashMap::<u64, u64>::new();
        self.count_links(self.root, &mut links);
        let mut seen = HashMap::new();
        self.compare_inode(self.root, root, (&links, &mut seen));
        assert_eq!(seen.len(), links.len());
    }

    fn count_links(&self, id: u64, links: &mut HashMap<u64, u64>) {
        *links.entry(id).or_default() += 1;
        for &child in self.names(id).into_iter().flat_map(BTreeMap::values) {
            self.count_links(child, links);
        }
    }

    fn compare_inode(
        &self,
        id: u64,
        path: &Path,
        (links, seen): (&HashMap<u64, u64>, &mut HashMap<u64, u64>),
    ) {
        let inode = self.inode(id);
        let stat = fs::symlink_metadata(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let is_new = match seen.insert(id, stat.ino()) {
            Some(before) => {
                assert_eq!(before, stat.ino(), "{}: hard link", path.display());
                false
            }
            None => true,
        };
        if !is_new {
            return;
        }
        compare_meta(&inode.meta, path, &stat);
        let (file_type, nlink) = match &inode.kind {
            ModelKind::Directory(names) => {
                let below = names.values().filter(|&&id| self.names(id).is_some());
                let links = 2 + below.count() as u64;
                (0o040_000, if links < 65_000 { links } else { 1 })
            }
            ModelKind::Regular(..) => (0o100_000, links[&id]),
            ModelKind::Symlink(_) => (0o120_000, links[&id]),
            ModelKind::Special(file_type, _) => (*file_type, links[&id]),
        };
        assert_eq!(
            stat.mode() & 0o170_000,
            file_type,
            "{}: type",
            path.display()
        );
        assert_eq!(stat.nlink(), nlink, "{}: links", path.display());
        match &inode.kind {
            ModelKind::Directory(names) => {
                let found: Vec<_> = sorted_names(path);
                let expected: Vec<_> = names.keys().cloned().collect();
                assert!(found == expected, "{}: names differ", path.display());
                for (name, &child) in names {
                    let path = path.join(OsStr::from_bytes(name));
                    self.compare_inode(child, &path, (links, seen));
                }
            }
            ModelKind::Regular(file, seed) => compare_bytes(file, *seed, path),
            ModelKind::Symlink(target) => {
                let found = fs::read_link(path).unwrap();
                assert_eq!(found.as_os_str().as_bytes(), target);
            }
            ModelKind::Special(_, number) => {
                let found = (major(stat.rdev()), minor(stat.rdev()));
                assert_eq!(found, (number.major.into(), number.minor.into()));
            }
        }
    }
}

fn new_inode(layer: &LayerTree, node: NodeId, seed: u64) -> Inode {
    let none = DeviceNumber { major: 0, minor: 0 };
    let node = layer.node(node);
    let kind = match &node.kind {
        Kind::Directory(_) => ModelKind::Directory(BTreeMap::new()),
        Kind::Regular(file) => ModelKind::Regular(file.clone(), seed),
        Kind::Symlink(target) => ModelKind::Symlink(target.to_vec()),
        Kind::CharDevice(number) => ModelKind::Special(0o020_000, *number),
        Kind::BlockDevice(number) => ModelKind::Special(0o060_000, *number),
        Kind::Fifo => ModelKind::Special(0o010_000, none),
        Kind::Socket => ModelKind::Special(0o140_000, none),
    };
    Inode {
        meta: node.meta.clone(),
        kind,
    }
}

fn sorted_names(path: &Path) -> Vec<Vec<u8>> {
    let mut names: Vec<_> = fs::read_dir(path)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().as_bytes().to_vec())
        .collect();
    names.sort_unstable();
    names
}

fn compare_meta(meta: &Meta, path: &Path, stat: &fs::Metadata) {
    let time = |sec, nsec: i64| Timestamp::new(sec, u32::try_from(nsec).unwrap());
    let found = (
        (stat.mode() & 0o7777, stat.uid(), stat.gid()),
        time(stat.atime(), stat.atime_nsec()),
        time(stat.mtime(), stat.mtime_nsec()),
        time(stat.ctime(), stat.ctime_nsec()),
    );
    let expected = (
        (u32::from(meta.mode), meta.uid, meta.gid),
        meta.atime,
        meta.mtime,
        meta.ctime,
    );
    assert_eq!(found, expected, "{}", path.display());
    let mut found: Vec<_> = xattr::list(path)
        .unwrap()
        .map(|name| {
            let value = xattr::get(path, &name).unwrap().unwrap();
            (name.as_bytes().to_vec(), value)
        })
        .collect();
    found.sort_unstable();
    let expected: Vec<_> = meta
        .xattrs
        .iter()
        .map(|(name, value)| (name.to_vec(), value.to_vec()))
        .collect();
    assert!(
        found == expected,
        "{}: xattrs {found:?}, not {expected:?}",
        path.display()
    );
}

fn compare_bytes(file: &Regular, seed: u64, path: &Path) {
    let found = fs::File::open(path).unwrap();
    assert_eq!(
        found.metadata().unwrap().len(),
        file.size,
        "{}",
        path.display()
    );
    let whole = [Segment {
        start: 0,
        end: file.size,
    }];
    let segments = file
        .segments
        .as_ref()
        .map_or(&whole[..], |segments| &segments[..]);
    // Large holes are not read: the blocks on both sides of a run's ends are enough.
    let (mut found_block, mut block) = ([0; 4096], [0; 4096]);
    let ends = segments
        .iter()
        .flat_map(|s| [s.start / 4096, s.end.div_ceil(4096)]);
    let insides = segments
        .iter()
        .flat_map(|s| s.start / 4096..s.end.div_ceil(4096));
    let mut blocks: Vec<_> = ends
        .flat_map(|at| at.saturating_sub(1)..at + 1)
        .chain(insides)
        .collect();
    blocks.sort_unstable();
    blocks.dedup();
    for at in blocks.into_iter().filter(|at| at * 4096 < file.size) {
        let length = usize::try_from((file.size - at * 4096).min(4096)).unwrap();
        found
            .read_exact_at(&mut found_block[..length], at * 4096)
            .unwrap();
        fill(file, seed, at, &mut block);
        assert!(
            found_block[..length] == block[..length],
            "{}: block {at}",
            path.display()
        );
    }
}

/// The bytes of a file's block, zero in holes and behind its end.
pub(crate) fn fill(file: &Regular, seed: u64, block: u64, out: &mut [u8]) {
    let whole = [Segment {
        start: 0,
        end: file.size,
    }];
    let segments = file
        .segments
        .as_ref()
        .map_or(&whole[..], |segments| &segments[..]);
    let (start, end) = (block * 4096, block * 4096 + 4096);
    let mut bytes = [0; 4096];
    for (at, word) in (start / 8..).zip(bytes.chunks_exact_mut(8)) {
        let number = (seed ^ at).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        word.copy_from_slice(&number.to_le_bytes());
    }
    out.fill(0);
    let first = segments.partition_point(|segment| segment.end <= start);
    for segment in segments[first..]
        .iter()
        .take_while(|segment| segment.start < end)
    {
        let within = |at: u64| usize::try_from(at.clamp(start, end) - start).unwrap();
        let range = within(segment.start)..within(segment.end);
        out[range.clone()].copy_from_slice(&bytes[range]);
    }
}

fn major(device: u64) -> u64 {
    (device >> 8) & 0xfff | (device >> 32) & 0xffff_f000
}

fn minor(device: u64) -> u64 {
    device & 0xff | (device >> 12) & 0xffff_ff00
}
