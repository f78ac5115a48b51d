//! Random stacks of aufs branches: few names, so that layers keep meeting each other's.

use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::layer::Layer;
use super::scratch::scratch;
use super::walk::os;

/// Branches on disk, the bottom one first; gone when dropped.
pub struct Stack {
    pub branches: Vec<PathBuf>,
    _dir: TempDir,
}

/// The stack that belongs to `seed`: the same every time, apart from the times of what sets none.
pub fn random_stack(seed: u64) -> Stack {
    random_stack_within(seed, Limits::LINUX)
}

/// What a file system can hold of what Linux lets anyone make.
#[derive(Clone, Copy)]
pub struct Limits {
    /// Bytes of the longest target of a symlink.
    pub link: usize,
    /// How many major and minor numbers a device can have.
    pub devices: (u64, u64),
}

impl Limits {
    /// All of it, as ext4 does.
    pub const LINUX: Self = Self {
        link: 4095,
        devices: (1 << 12, 1 << 20),
    };
    /// Source: linux v6.6 `fs/xfs/xfs_symlink.c`: shorter than `XFS_SYMLINK_MAXLEN`; `fs/xfs/xfs_iops.c`,
    /// `xfs_generic_create`: what Irix could say of a device.
    pub const XFS: Self = Self {
        link: 1023,
        devices: (1 << 9, 1 << 18),
    };
}

/// The same of nothing that goes beyond these limits.
pub fn random_stack_within(seed: u64, limits: Limits) -> Stack {
    let dir = scratch();
    let mut random = Random(seed);
    let nr_layers = 3 + random.below(6);
    let branches = (0..nr_layers)
        .map(|number| {
            random_branch(
                &mut random,
                dir.path().join(format!("branch{number}")),
                limits,
            )
        })
        .collect();
    Stack {
        branches,
        _dir: dir,
    }
}

/// The generator `SplitMix64`.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ (word >> 31)
    }

    /// A number from 0 to `end` - 1.
    pub fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    fn percent(&mut self, chance: u64) -> bool {
        self.below(100) < chance
    }

    fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        let at = self.below(u64::try_from(from.len()).unwrap());
        &from[usize::try_from(at).unwrap()]
    }

    fn bytes(&mut self, length: u64) -> Vec<u8> {
        (0..length).map(|_| self.next().to_le_bytes()[0]).collect()
    }
}

/// What a branch holds so far.
struct Draft {
    layer: Option<Layer>,
    /// Files that can get another name.
    linkable: Vec<PathBuf>,
    mounted: bool,
    limits: Limits,
}

fn random_branch(random: &mut Random, dir: PathBuf, limits: Limits) -> PathBuf {
    let mounted = random.percent(30);
    let mut draft = Draft {
        layer: Some(Layer::new(dir)),
        linkable: Vec::new(),
        mounted,
        limits,
    };
    if mounted {
        update(&mut draft, Layer::aufs_files);
    }
    fill(random, &mut draft, Path::new(""), 0);
    draft.layer.expect("put back after each step").finish()
}

fn names() -> Vec<Vec<u8>> {
    let mut names: Vec<Vec<u8>> = [
        "a",
        "b",
        "c",
        "d",
        "e",
        ".wh",
        ".whatever",
        ".wh_x",
        "..wh.x",
        ".whdir",
        " ",
        "-",
    ]
    .map(Into::into)
    .to_vec();
    names.push(b"\xff\xfe\x01\n\\".to_vec());
    names.push(vec![b'n'; 242]);
    names
}

fn fill(random: &mut Random, draft: &mut Draft, dir: &Path, depth: u32) {
    for name in names() {
        if random.percent(50) {
            let path = dir.join(os(&name));
            if random.percent(25) {
                update(draft, |layer| layer.whiteout(&path));
                // Now and then the name is there as well; without a tar-split it is hidden.
                if !random.percent(5) {
                    continue;
                }
            }
            add(random, draft, &path, depth);
        }
    }
    if random.percent(if depth == 0 { 8 } else { 20 }) {
        update(draft, |layer| layer.opaque(dir));
    }
    if random.percent(4) {
        // What aufs leaves while it removes a directory.
        let leftover = dir.join(".wh..wh.a.0f3c");
        update(draft, |layer| layer.file(leftover.join("x"), "x"));
    }
    if random.percent(3) {
        add_crowd(random, draft, dir);
    }
    if dir != Path::new("") || random.percent(30) {
        attributes(random, draft, dir, Type::Directory);
    }
}

/// Runs a step of the by-value builder in place.
fn update(draft: &mut Draft, step: impl FnOnce(Layer) -> Layer) {
    let layer = draft.layer.take().expect("put back after each step");
    draft.layer = Some(step(layer));
}

#[derive(Clone, Copy, PartialEq)]
enum Type {
    Directory,
    Regular,
    Symlink,
    Special,
}

fn add(random: &mut Random, draft: &mut Draft, path: &Path, depth: u32) {
    let of = match random.below(100) {
        0..30 if depth < 4 => {
            update(draft, |layer| layer.dir(path));
            fill(random, draft, path, depth + 1);
            return;
        }
        0..45 => {
            let length = random.below(9000);
            let content = random.bytes(length);
            update(draft, |layer| layer.file(path, content));
            Type::Regular
        }
        45..50 => {
            add_sparse(random, draft, path);
            Type::Regular
        }
        50..63 if !draft.linkable.is_empty() => {
            let existing = random.pick(&draft.linkable).clone();
            update(draft, |layer| layer.hard_link(existing, path));
            return;
        }
        63..70 => {
            let length = *random.pick(&[1, 59, 60, 61, 300, Limits::LINUX.link]);
            let length = length.min(draft.limits.link);
            let target = vec![b't'; length];
            update(draft, |layer| layer.symlink(path, os(&target)));
            Type::Symlink
        }
        70..80 => {
            add_special(random, draft, path);
            Type::Special
        }
        _ => {
            update(draft, |layer| layer.file(path, b""));
            Type::Regular
        }
    };
    attributes(random, draft, path, of);
    draft.linkable.push(path.to_owned());
    if draft.mounted && random.percent(5) {
        let link = format!("{}.{}", random.below(1 << 40), random.below(1 << 40));
        update(draft, |layer| layer.pseudo_link(path, &link));
    }
}

fn add_special(random: &mut Random, draft: &mut Draft, path: &Path) {
    let all = Limits::LINUX.devices;
    let (major, minor) = (random.below(all.0), random.below(all.1));
    let (majors, minors) = draft.limits.devices;
    let (major, minor) = (major % majors, minor % minors);
    let which = random.below(4);
    update(draft, |layer| match which {
        0 => layer.fifo(path),
        1 => layer.socket(path),
        2 => layer.char_device(path, major, minor),
        _ => layer.block_device(path, major, minor),
    });
}

fn add_sparse(random: &mut Random, draft: &mut Draft, path: &Path) {
    let size = 1 + random.below(1 << 20);
    let offsets: Vec<_> = (0..random.below(4)).map(|_| random.below(size)).collect();
    let data: Vec<(u64, &[u8])> = offsets
        .iter()
        .map(|&offset| (offset, &b"data"[..]))
        .collect();
    update(draft, |layer| layer.sparse(path, size, &data));
}

/// A directory above one block, with names of the full length.
fn add_crowd(random: &mut Random, draft: &mut Draft, dir: &Path) {
    let crowd = dir.join("crowd");
    for number in 0..300 + random.below(100) {
        let name = format!(
            "{number:0>width$}",
            width = if number % 3 == 0 { 255 } else { 9 }
        );
        update(draft, |layer| layer.file(crowd.join(name), b""));
    }
}

/// An ACL that names one user: version 2, then tag, permissions and id of each entry.
/// Source: linux v6.6 `include/uapi/linux/posix_acl_xattr.h`.
pub fn acl(uid: u32) -> Vec<u8> {
    let none = u32::MAX;
    let entries = [
        (1, 6, none),
        (2, 4, uid),
        (4, 4, none),
        (0x10, 4, none),
        (0x20, 0, none),
    ];
    let mut bytes = 2_u32.to_le_bytes().to_vec();
    for (tag, permissions, id) in entries {
        bytes.extend_from_slice(&u16::to_le_bytes(tag));
        bytes.extend_from_slice(&u16::to_le_bytes(permissions));
        bytes.extend_from_slice(&u32::to_le_bytes(id));
    }
    bytes
}

fn attributes(random: &mut Random, draft: &mut Draft, path: &Path, of: Type) {
    if random.percent(50) {
        let ids = [0, 1, 1000, 65_534, 65_536, 4_000_000_000];
        let (uid, gid) = (*random.pick(&ids), *random.pick(&ids));
        update(draft, |layer| layer.owner(path, uid, gid));
    }
    if of != Type::Symlink && random.percent(50) {
        let mode = u32::try_from(random.below(0o10000)).unwrap();
        update(draft, |layer| layer.mode(path, mode));
    }
    if random.percent(25) {
        xattrs(random, draft, path, of);
    }
    if random.percent(70) {
        let sec = i64::try_from(random.below(1 << 33)).unwrap() - (1 << 30);
        let nsec = i64::try_from(random.below(1_000_000_000)).unwrap();
        update(draft, |layer| layer.time(path, sec, nsec));
    }
}

fn xattrs(random: &mut Random, draft: &mut Draft, path: &Path, of: Type) {
    let length = *random.pick(&[0, 1, 20, 200, 1000]);
    let value = random.bytes(length);
    update(draft, |layer| layer.xattr(path, "trusted.t", &value));
    let plain = matches!(of, Type::Directory | Type::Regular);
    if plain && random.percent(60) {
        let name = format!("user.{}", random.below(3));
        update(draft, |layer| layer.xattr(path, &name, &value));
    }
    if of == Type::Regular && random.percent(40) {
        let capability = b"\x01\0\0\x02\0\x04\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
        update(draft, |layer| {
            layer.xattr(path, "security.capability", capability)
        });
    }
    if plain && random.percent(30) {
        update(draft, |layer| {
            layer.xattr(path, "system.posix_acl_access", &acl(1000))
        });
    }
    if of == Type::Directory && random.percent(20) {
        update(draft, |layer| {
            layer.xattr(path, "system.posix_acl_default", &acl(7))
        });
    }
}
