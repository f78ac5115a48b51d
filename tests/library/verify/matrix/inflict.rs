//! The entries of a layer, and how one of them is damaged.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, File, OpenOptions, Permissions};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, lchown, symlink};
use std::path::{Path, PathBuf};

use nix::fcntl::AT_FDCWD;
use nix::sys::stat::{Mode, SFlag, UtimensatFlags, makedev, mknod, utimensat};
use nix::sys::time::TimeSpec;

use super::table::{Damage, Entry};
use crate::support::layer::Layer;

/// `CAP_NET_BIND_SERVICE`, effective. Source: linux v6.6 `include/uapi/linux/capability.h`, `vfs_cap_data`.
const CAPABILITY: &[u8] = b"\x01\0\0\x02\0\x04\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
/// `CAP_NET_RAW`.
const OTHER_CAPABILITY: &[u8] = b"\x01\0\0\x02\0\x20\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
const CAPABILITY_NAME: &str = "security.capability";
const NOTE: &str = "trusted.note";

const SECONDS: i64 = 1_500_000_000;
const NANOSECONDS: i64 = 123_456_789;

/// A file that every layer has besides the entry that is damaged.
const ELSEWHERE: &str = "elsewhere";

/// What a layer has: one entry, and a file besides.
pub(super) fn add_entry(entry: Entry, l: Layer, within: &str) -> Layer {
    let path = format!("{within}/{}", entry.path());
    let l = made(entry, l, &path).file(format!("{within}/{ELSEWHERE}"), "");
    match entry {
        Entry::Whiteout => l,
        Entry::Twins => attributed(entry, attributed(entry, l, &path), &second(&path)),
        _ => attributed(entry, l, &path),
    }
}

/// What the layer below has of it.
pub(super) fn add_below(entry: Entry, l: Layer, within: &str) -> Layer {
    let path = format!("{within}/{}", entry.path());
    match entry {
        Entry::Whiteout => l.file(path, "below"),
        Entry::Override => l.file(&path, "what the layer below has").mode(path, 0o600),
        Entry::Directory | Entry::Opaque => l
            .file(format!("{path}/below"), "below")
            .file(format!("{path}/inside"), "inside, of the layer below"),
        _ => l,
    }
}

fn second(path: &str) -> String {
    format!("{path} too")
}

fn made(entry: Entry, l: Layer, path: &str) -> Layer {
    match entry {
        Entry::File | Entry::Override => l.file(path, [7; 5000]),
        Entry::Empty => l.file(path, ""),
        Entry::Directory => l.file(format!("{path}/inside"), "inside"),
        Entry::Symlink => l.symlink(path, "somewhere"),
        Entry::Pair => l.file(path, [9; 300]).hard_link(path, second(path)),
        Entry::Twins => l.file(path, "twin").file(second(path), "twin"),
        Entry::CharDevice => l.char_device(path, 5, 1),
        Entry::BlockDevice => l.block_device(path, 8, 3),
        Entry::Fifo => l.fifo(path),
        Entry::Socket => l.socket(path),
        Entry::Whiteout => l.whiteout(path),
        Entry::Opaque => l.file(format!("{path}/inside"), "inside").opaque(path),
    }
}

fn attributed(entry: Entry, l: Layer, path: &str) -> Layer {
    let is_privileged = matches!(entry, Entry::File | Entry::Pair);
    let l = l.owner(path, 1000, 1001);
    let l = match entry {
        Entry::Symlink => l,
        Entry::Directory | Entry::Opaque => l.mode(path, 0o750),
        _ if is_privileged => l.mode(path, 0o4755),
        _ => l.mode(path, 0o640),
    };
    let l = l.xattr(path, NOTE, b"as made");
    let l = if is_privileged {
        l.xattr(path, CAPABILITY_NAME, CAPABILITY)
    } else {
        l
    };
    let is_whole = entry == Entry::Empty;
    l.time(path, SECONDS, if is_whole { 0 } else { NANOSECONDS })
}

/// Changes the file that is never the damaged entry, or changes it back.
pub(super) fn change_elsewhere(within: &Path) {
    let path = within.join(ELSEWHERE);
    let mode = path.symlink_metadata().unwrap().mode();
    fs::set_permissions(path, Permissions::from_mode(mode ^ 0o011)).unwrap();
}

/// All attributes of a file.
struct Kept {
    path: PathBuf,
    mode: u32,
    owner: (u32, u32),
    modified: (i64, i64),
    xattrs: BTreeMap<OsString, Vec<u8>>,
}

impl Kept {
    /// `None`: it is not there.
    fn of(path: &Path) -> Option<Self> {
        let stat = path.symlink_metadata().ok()?;
        let value = |name: OsString| {
            let value = xattr::get(path, &name).unwrap().unwrap();
            (name, value)
        };
        Some(Self {
            path: path.to_owned(),
            mode: stat.mode(),
            owner: (stat.uid(), stat.gid()),
            modified: (stat.mtime(), stat.mtime_nsec()),
            xattrs: xattr::list(path).unwrap().map(value).collect(),
        })
    }

    /// Gives them to what is there now.
    fn put_back(&self) {
        let path = &self.path;
        let Ok(stat) = path.symlink_metadata() else {
            return;
        };
        // A change of the owner takes setuid and capabilities away.
        lchown(path, Some(self.owner.0), Some(self.owner.1)).unwrap();
        if !stat.is_symlink() {
            fs::set_permissions(path, Permissions::from_mode(self.mode & 0o7777)).unwrap();
        }
        for name in xattr::list(path).unwrap() {
            if !self.xattrs.contains_key(&name) {
                xattr::remove(path, name).unwrap();
            }
        }
        for (name, value) in &self.xattrs {
            xattr::set(path, name, value).unwrap();
        }
        let time = TimeSpec::new(self.modified.0, self.modified.1);
        utimensat(
            AT_FDCWD,
            path,
            &time,
            &time,
            UtimensatFlags::NoFollowSymlink,
        )
        .unwrap();
    }
}

/// Damages the entry in the directory that has it, and nothing else.
pub(super) fn inflict(entry: Entry, damage: Damage, within: &Path) {
    let path = within.join(entry.path());
    let other = within.join(second(entry.path()));
    let mut kept = Kept::of(&path);
    let around = [Kept::of(&other), Kept::of(within)];
    let is_of_attributes = kept
        .as_mut()
        .is_some_and(|kept| change_attribute(damage, kept));
    if !is_of_attributes {
        change_files((entry, damage), &path, &other);
    }
    for kept in kept.into_iter().chain(around.into_iter().flatten()) {
        // A pair is one file: what was given to its first name is not taken back by the second.
        if kept.path != other || entry != Entry::Pair || damage == Damage::Split {
            kept.put_back();
        }
    }
}

/// Changes what a file is given back. Returns false if the damage is none to attributes.
fn change_attribute(damage: Damage, kept: &mut Kept) -> bool {
    let xattrs = &mut kept.xattrs;
    let mut set = |name: &str, value: &[u8]| xattrs.insert(name.into(), value.into()).is_some();
    let was_there = match damage {
        Damage::NoteValue => set(NOTE, b"changed"),
        Damage::NoteAdded => !set("trusted.other", b"added"),
        Damage::CapabilityValue => set(CAPABILITY_NAME, OTHER_CAPABILITY),
        Damage::CapabilityAdded => !set(CAPABILITY_NAME, CAPABILITY),
        Damage::NoteGone => xattrs.remove(&OsString::from(NOTE)).is_some(),
        Damage::CapabilityGone => xattrs.remove(&OsString::from(CAPABILITY_NAME)).is_some(),
        Damage::NoteName => {
            let value = xattrs.remove(&OsString::from(NOTE)).unwrap();
            xattrs.insert("trusted.mote".into(), value).is_none()
        }
        _ => return change_inode(damage, kept),
    };
    assert!(was_there, "{damage:?} of {}", kept.path.display());
    true
}

fn change_inode(damage: Damage, kept: &mut Kept) -> bool {
    match damage {
        Damage::Mode => kept.mode ^= 0o010,
        Damage::SetuidAdded | Damage::SetuidGone => kept.mode ^= 0o4000,
        Damage::Uid => kept.owner.0 += 1,
        Damage::Gid => kept.owner.1 += 1,
        Damage::Seconds => kept.modified.0 += 1,
        Damage::Nanoseconds => kept.modified.1 += 1000,
        Damage::WholeSeconds => kept.modified.1 = 0,
        _ => return false,
    }
    true
}

fn change_files((entry, damage): (Entry, Damage), path: &Path, other: &Path) {
    match damage {
        Damage::Content => flip(path),
        Damage::Size => {
            let size = path.symlink_metadata().unwrap().len();
            let file = OpenOptions::new().write(true).open(path).unwrap();
            file.write_all_at(b"x", size).unwrap();
        }
        Damage::Target | Damage::TargetLength => {
            let target = if damage == Damage::Target {
                "elsewhere"
            } else {
                "other"
            };
            fs::remove_file(path).unwrap();
            symlink(target, path).unwrap();
        }
        Damage::DeviceNumber => {
            fs::remove_file(path).unwrap();
            let kind = if entry == Entry::CharDevice {
                SFlag::S_IFCHR
            } else {
                SFlag::S_IFBLK
            };
            make(path, kind, makedev(7, 2));
        }
        Damage::TypeChanged => change_type(entry, path),
        Damage::Gone => remove(path),
        Damage::NameAdded => drop(File::create_new(path.join("added")).unwrap()),
        Damage::LinkAdded => fs::hard_link(path, path.with_file_name("pair three")).unwrap(),
        Damage::Split => {
            let content = fs::read(path).unwrap();
            fs::remove_file(other).unwrap();
            fs::write(other, content).unwrap();
        }
        Damage::Joined => {
            fs::remove_file(other).unwrap();
            fs::hard_link(path, other).unwrap();
        }
        Damage::WhiteoutGone => fs::remove_file(marker(path)).unwrap(),
        Damage::WhiteoutAdded => drop(File::create_new(marker(&path.join("below"))).unwrap()),
        Damage::OpaqueGone => fs::remove_file(path.join(".wh..wh..opq")).unwrap(),
        Damage::OpaqueAdded => drop(File::create_new(path.join(".wh..wh..opq")).unwrap()),
        _ => unreachable!("{damage:?} is of attributes"),
    }
}

fn flip(path: &Path) {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .open(path)
        .unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, 100).unwrap();
    file.write_all_at(&[byte[0] ^ 1], 100).unwrap();
}

fn change_type(entry: Entry, path: &Path) {
    let number = path.symlink_metadata().unwrap().rdev();
    remove(path);
    match entry {
        Entry::CharDevice => make(path, SFlag::S_IFBLK, number),
        Entry::BlockDevice => make(path, SFlag::S_IFCHR, number),
        Entry::Fifo => drop(File::create_new(path).unwrap()),
        _ => make(path, SFlag::S_IFIFO, 0),
    }
}

fn make(path: &Path, kind: SFlag, number: u64) {
    mknod(path, kind, Mode::from_bits_truncate(0o644), number).unwrap();
}

fn remove(path: &Path) {
    if path.symlink_metadata().unwrap().is_dir() {
        fs::remove_dir_all(path).unwrap();
    } else {
        fs::remove_file(path).unwrap();
    }
}

fn marker(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap().to_str().unwrap();
    path.with_file_name(format!(".wh.{name}"))
}
