//! Layers for the tests: a builder for chosen ones, a generator for random ones.

#![allow(clippy::unwrap_used)] // a test reports by panicking

use std::collections::HashMap;

use aufs2dm::tree::{
    DeviceNumber, Kind, LayerTree, Listing, Meta, NodeId, Regular, Segment, Timestamp, Xattrs,
};

use super::build::{directory, file};
use super::model::Model;

/// Numbers that look random and are the same in every run.
pub(crate) struct Numbers(u64);

impl Numbers {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 8
    }

    pub(crate) fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    pub(crate) fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}

/// What kinds of changes a random layer has, in about what number.
pub(crate) struct Taste {
    pub(crate) changes: u64,
    pub(crate) name_bytes: u64,
}

/// A random layer on top of `below`.
pub(crate) fn random_layer(numbers: &mut Numbers, below: &Model, taste: &Taste) -> LayerTree {
    let mut maker = Maker {
        layer: LayerTree::new(random_meta(numbers)),
        numbers,
        below,
        taste,
        files: Vec::new(),
    };
    maker.fill(LayerTree::ROOT, Some(below.root), 0);
    maker.layer
}

struct Maker<'a> {
    layer: LayerTree,
    numbers: &'a mut Numbers,
    below: &'a Model,
    taste: &'a Taste,
    files: Vec<NodeId>,
}

impl Maker<'_> {
    fn fill(&mut self, id: NodeId, below: Option<u64>, depth: u64) {
        let names = below
            .and_then(|id| self.below.names(id))
            .cloned()
            .unwrap_or_default();
        let mut entries = HashMap::<Box<[u8]>, NodeId>::new();
        let mut removed = Vec::new();
        let opaque = depth > 0 && self.numbers.chance(6);
        for (name, id) in names {
            let name: Box<[u8]> = name.into();
            match self.numbers.below(100) {
                0..5 => removed.push(name),
                5..9 => {
                    let node = self.entry(None, depth);
                    entries.insert(name, node);
                }
                // Directories are gone through, some only for what is below.
                9..60 if self.below.names(id).is_some() => {
                    let node = self.directory(Some(id), depth);
                    entries.insert(name, node);
                }
                _ => {}
            }
        }
        let most = match self.layer.nr_nodes() {
            0..3000 => 1 + self.taste.changes / (1 + depth),
            _ => 1,
        };
        let new = self.numbers.below(most);
        for _ in 0..new {
            let name = self.name();
            let node = self.entry(None, depth);
            if !removed.contains(&name) {
                entries.entry(name).or_insert(node);
            }
        }
        if self.numbers.chance(20) {
            removed.push(b"never there".as_slice().into());
        }
        let listing = Listing {
            opaque,
            removed,
            entries: entries.into_iter().collect(),
        };
        self.layer.set_directory(id, listing);
    }

    fn directory(&mut self, below: Option<u64>, depth: u64) -> NodeId {
        let mut meta = random_meta(self.numbers);
        if self.numbers.chance(10) {
            meta.xattrs = default_acl();
        }
        let id = self.layer.add(meta, directory());
        if depth < 5 {
            self.fill(id, below, depth + 1);
        }
        id
    }

    fn entry(&mut self, below: Option<u64>, depth: u64) -> NodeId {
        if self.numbers.chance(12) {
            return self.directory(below, depth);
        }
        if self.numbers.chance(10) && !self.files.is_empty() {
            let at = self.numbers.below(self.files.len() as u64);
            return self.files[usize::try_from(at).unwrap()];
        }
        let kind = self.kind();
        let mut meta = random_meta(self.numbers);
        if !matches!(kind, Kind::Regular(_)) {
            meta.xattrs = xattrs_of_anything(self.numbers);
        }
        let id = self.layer.add(meta, kind);
        self.files.push(id);
        id
    }

    fn kind(&mut self) -> Kind {
        let numbers = &mut *self.numbers;
        match numbers.below(20) {
            0..2 => {
                let length = 1 + numbers.below(120);
                Kind::Symlink((0..length).map(|_| random_byte(numbers)).collect())
            }
            2 => Kind::Symlink(vec![b'x'; 4095].into()),
            3 => Kind::CharDevice(DeviceNumber {
                major: 1 + u32::try_from(numbers.below(4095)).unwrap(),
                minor: u32::try_from(numbers.below(1 << 20)).unwrap(),
            }),
            4 => Kind::BlockDevice(DeviceNumber { major: 8, minor: 1 }),
            5 => Kind::Fifo,
            6 => Kind::Socket,
            7..10 => sparse(numbers),
            10..13 => file(numbers.below(100_000)),
            _ => file(numbers.below(9_000)),
        }
    }

    fn name(&mut self) -> Box<[u8]> {
        let length = 1 + self.numbers.below(self.taste.name_bytes);
        (0..length).map(|_| random_byte(self.numbers)).collect()
    }
}

fn sparse(numbers: &mut Numbers) -> Kind {
    let mut segments = Vec::new();
    let mut at = 0;
    let most = if numbers.chance(10) { 900 } else { 8 };
    let runs = numbers.below(most);
    for _ in 0..runs {
        let start = at + numbers.below(30_000);
        at = start + 1 + numbers.below(9_000);
        segments.push(Segment { start, end: at });
    }
    Kind::Regular(Regular {
        size: at + numbers.below(20_000),
        segments: Some(Box::new(segments)),
    })
}

/// Any byte that a name may have, `.` left out so that no name is `.` or `..`.
fn random_byte(numbers: &mut Numbers) -> u8 {
    loop {
        let byte = numbers.next().to_le_bytes()[0];
        if ![0, b'/', b'.'].contains(&byte) {
            return byte;
        }
    }
}

fn random_meta(numbers: &mut Numbers) -> Meta {
    let mut time = || {
        // Up to 2310: e2fsck takes what is later for a time before 1970 that an old kernel stored wrong.
        let seconds = i64::try_from(numbers.below(3 << 32)).unwrap() - (1 << 31);
        Timestamp::new(
            seconds,
            u32::try_from(numbers.below(1_000_000_000)).unwrap(),
        )
    };
    let (atime, mtime, ctime) = (time(), time(), time());
    Meta {
        mode: u16::try_from(numbers.below(0o10000)).unwrap(),
        uid: u32::try_from(numbers.below(200_000)).unwrap(),
        gid: u32::try_from(numbers.below(u64::from(u32::MAX) - 1)).unwrap(),
        atime,
        mtime,
        ctime,
        xattrs: random_xattrs(numbers),
    }
}

fn random_xattrs(numbers: &mut Numbers) -> Xattrs {
    let value = |bytes: usize| -> Box<[u8]> { vec![0x5a; bytes].into() };
    let pairs: Vec<(&[u8], Box<[u8]>)> = match numbers.below(20) {
        0 => vec![(b"user.a", value(5))],
        1 => vec![(
            b"security.selinux",
            b"system_u:object_r:svirt_sandbox_file_t:s0\0"
                .as_slice()
                .into(),
        )],
        2 => vec![(b"trusted.big", value(3000)), (b"user.empty", value(0))],
        3 => vec![
            (
                b"security.capability",
                b"\x01\0\0\x02\0\x20\0\0\0\0\0\0\0\0\0\0\0\0\0\0"
                    .as_slice()
                    .into(),
            ),
            (b"user.long name of an attribute", value(60)),
            (b"trusted.x", value(7)),
        ],
        4 => vec![(b"system.posix_acl_access", acl())],
        5 => {
            let bytes = usize::try_from(numbers.below(200)).unwrap();
            vec![(b"trusted.varied", value(bytes))]
        }
        _ => vec![],
    };
    pairs
        .into_iter()
        .map(|(name, value)| (name.into(), value))
        .collect()
}

/// The kernel gives user attributes and ACLs to files and directories alone.
fn xattrs_of_anything(numbers: &mut Numbers) -> Xattrs {
    let value: Box<[u8]> = match numbers.below(10) {
        0 => vec![1; 9].into(),
        1 => vec![2; 2500].into(),
        _ => return Xattrs::default(),
    };
    [(b"trusted.any".as_slice().into(), value)]
        .into_iter()
        .collect()
}

fn default_acl() -> Xattrs {
    let names = [&b"system.posix_acl_access"[..], b"system.posix_acl_default"];
    names.into_iter().map(|name| (name.into(), acl())).collect()
}

fn acl() -> Box<[u8]> {
    let mut bytes = 2_u32.to_le_bytes().to_vec();
    for (tag, permissions, id) in [
        (1_u16, 7_u16, u32::MAX),
        (2, 5, 1000),
        (4, 5, u32::MAX),
        (8, 4, 70_000),
        (16, 7, u32::MAX),
        (32, 0, u32::MAX),
    ] {
        bytes.extend_from_slice(&tag.to_le_bytes());
        bytes.extend_from_slice(&permissions.to_le_bytes());
        bytes.extend_from_slice(&id.to_le_bytes());
    }
    bytes.into()
}
