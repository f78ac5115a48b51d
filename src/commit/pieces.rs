//! The state of an aufs side, piece by piece, when its removal began. It shows whether somebody wrote to the side
//! before it was out of the root, and, after an interruption, whether what waits for removal is still what was checked.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ffi::OsString;
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::clock::precisely_now;
use super::error::Error;
use super::sums::{PARTS, UNREADABLE, changed_at, entry, file_sum, objects, sum_of, sums_of};
use super::walk::walk;
use crate::path_kind::is_directory;
use crate::sys::birth;
use crate::tree::escape;

/// The two directories of an aufs side, by the names that their pieces have.
pub(super) const SIDES: [&str; 2] = ["aufs", "image"];

/// The depth, in the directory of pieces being removed, of the first directories that the removal did not create
/// itself: `aufs/diff/ID`.
const IN_A_PIECE: usize = 3;

/// The name of the image store, which is a single piece: half of it says nothing about the copy.
const WHOLE: &str = "image";

/// The pieces of an aufs side, by their paths in it: `aufs/diff/ID`, `image`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Pieces(BTreeMap<String, Piece>);

/// A part that is removed in one go: a branch, a list, the image store, or something else in `aufs`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Piece {
    /// A digest of its names, and of the attributes that reveal a write to the files: see [`HardLinks`].
    sum: String,
    /// Files in it that have another name outside it.
    #[serde(default)]
    shared: HardLinks,
    /// The same digest with the change time of its top, which a rename and `chattr -i` update.
    #[serde(skip)]
    with_top: String,
}

impl Pieces {
    /// Records the contents of `aufs` and `image`. If `aufs` `stays`, only the driver's part of it is removed.
    ///
    /// # Errors
    ///
    /// [`Error::Io`].
    pub(super) fn of(aufs: &Path, image: &Path, stays: bool) -> Result<Self, Error> {
        let mut found = Vec::new();
        for (side, at) in SIDES.into_iter().zip([aufs, image]) {
            for inner in pieces_in(side, at)? {
                if side == WHOLE || !stays || is_drivers(&inner) {
                    found.push((named(side, &inner), place(at, &inner)));
                }
            }
        }
        let looked = found.into_par_iter().map(|(name, path)| {
            let piece = Piece::of(&name, &path);
            (name, piece)
        });
        Ok(Self(looked.collect::<Vec<_>>().into_iter().collect()))
    }

    /// Whether everything is as it was before it was moved out of the root.
    pub(super) fn is_same(&self, now: &Self) -> bool {
        let sums = |all: &Self| -> Vec<(String, String)> {
            let sums = all.0.iter();
            sums.map(|(name, piece)| (name.clone(), piece.with_top.clone()))
                .collect()
        };
        sums(self) == sums(now)
    }

    /// What waits in `at` and was not there when the removal began, or was written to since; as paths in the side.
    ///
    /// # Errors
    ///
    /// [`Error::Io`].
    pub(super) fn unknown(&self, side: &str, at: &Path) -> Result<Vec<String>, Error> {
        let looked: Vec<(String, bool)> = pieces_in(side, at)?
            .into_par_iter()
            .map(|inner| {
                let name = named(side, &inner);
                let is_known = self
                    .0
                    .get(&name)
                    .is_some_and(|piece| piece.is_at(&name, &place(at, &inner)));
                (name, is_known)
            })
            .collect();
        let unknown = looked.into_iter().filter(|(_, is_known)| !is_known);
        Ok(unknown.map(|(name, _)| name).collect())
    }
}

/// Files and directories below `top` that were created or written to after `at`, in seconds since 1970 and nanoseconds;
/// by path. The change time alone proves nothing while names are being removed: it moves when another name of the file
/// goes.
pub(super) fn written_after(top: &Path, at: Option<(i64, u32)>) -> Vec<PathBuf> {
    let Some(at) = at else {
        return Vec::new();
    };
    let now = precisely_now();
    let time = |seconds, nanoseconds: i64| (seconds, u32::try_from(nanoseconds).unwrap_or(0));
    let is_new = |path: &Path, meta: &Metadata| {
        let modified = time(meta.mtime(), meta.mtime_nsec());
        let is_written = !meta.is_dir() && time(meta.ctime(), meta.ctime_nsec()) > at;
        // A converted file may have a date in the future.
        is_written && modified > at && modified <= now || birth(path).is_some_and(|born| born > at)
    };
    let entries = walk(top).into_iter().flatten();
    let new = entries.filter(|entry| {
        let is_own = entry.depth() < IN_A_PIECE && entry.file_type().is_dir();
        let meta = entry.metadata();
        !is_own && meta.is_ok_and(|meta| is_new(entry.path(), &meta))
    });
    new.map(walkdir::DirEntry::into_path).collect()
}

/// Files that have another name outside a piece: when that name goes, their change times move. For these files, size,
/// modification time and similar attributes count; for all others the change time counts, which nobody can set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum HardLinks {
    /// These files, by inode.
    Only(BTreeSet<u64>),
    /// Too many to record, for example after a backup that used hard links: no file's change time counts.
    All,
}

impl Default for HardLinks {
    fn default() -> Self {
        Self::Only(BTreeSet::new())
    }
}

/// The maximum number recorded for a piece.
const MAX_SHARED: usize = 4096;

impl HardLinks {
    fn of(inodes: BTreeSet<u64>) -> Self {
        if inodes.len() > MAX_SHARED {
            return Self::All;
        }
        Self::Only(inodes)
    }

    fn has(&self, inode: u64) -> bool {
        match self {
            Self::Only(inodes) => inodes.contains(&inode),
            Self::All => true,
        }
    }
}

impl Piece {
    fn of(name: &str, path: &Path) -> Self {
        let mut names: HashMap<u64, (u64, u64)> = HashMap::new();
        let [whole, below_top] = sums_of(path, |[whole, below_top], entry| {
            let meta = entry.meta;
            changed_at(whole, meta);
            if !entry.inner.is_empty() {
                changed_at(below_top, meta);
            }
            if !meta.is_dir() && meta.nlink() > 1 {
                let seen = names.entry(meta.ino()).or_default();
                *seen = (seen.0 + 1, meta.nlink());
            }
        });
        let elsewhere = names.into_iter().filter(|(_, (seen, all))| seen < all);
        let shared = HardLinks::of(elsewhere.map(|(inode, _)| inode).collect());
        // If no file has another name outside, this is the digest that was just computed.
        let is_summed = shared == HardLinks::default() && name != WHOLE && is_directory(path);
        Self {
            sum: if is_summed {
                below_top.clone()
            } else {
                sum_of_rest(name, path, &shared)
            },
            with_top: if name == WHOLE { below_top } else { whole },
            shared,
        }
    }

    fn is_at(&self, name: &str, path: &Path) -> bool {
        // Nothing is known about something unreadable, even if it was unreadable both times.
        self.sum != UNREADABLE && self.sum == sum_of_rest(name, path, &self.shared)
    }
}

/// A digest that shows whether a waiting piece is unchanged. The image store and the lists are small, so their bytes
/// count and their times do not. The top's change time is left out, because a rename and `chattr -i` update it.
fn sum_of_rest(name: &str, path: &Path, shared: &HardLinks) -> String {
    let is_file = path.symlink_metadata().is_ok_and(|meta| meta.is_file());
    if name == WHOLE || is_file {
        return bytes_of(path, is_file);
    }
    sum_of(path, |sum, found| {
        let meta = found.meta;
        if !meta.is_dir() && shared.has(meta.ino()) {
            entry(sum, found);
        } else if !found.inner.is_empty() {
            changed_at(sum, meta);
        }
    })
}

/// A digest of the bytes of all files of an image store, or of one file.
fn bytes_of(path: &Path, is_file: bool) -> String {
    let mut sum = Sha256::new();
    let added = if is_file {
        file_sum(path).map(|digest| sum.update(digest))
    } else {
        objects(path).map(|objects| {
            for (name, digest) in objects {
                sum.update((name.len() as u64).to_le_bytes());
                sum.update(name);
                sum.update(digest);
            }
        })
    };
    match added {
        Ok(()) => format!("{:x}", sum.finalize()),
        Err(_) => UNREADABLE.to_owned(),
    }
}

/// The paths of the pieces in one of the two directories. In `aufs`, these are its entries, and the entries of the
/// three directories that the driver keeps there. A link has none, wherever it leads.
pub(super) fn pieces_in(side: &str, at: &Path) -> Result<Vec<PathBuf>, Error> {
    if side == WHOLE {
        let is_there = at.symlink_metadata().is_ok();
        return Ok(is_there.then(PathBuf::new).into_iter().collect());
    }
    let mut pieces = Vec::new();
    for name in list(at)? {
        let is_part = PARTS.iter().any(|part| *part == name);
        if !is_part || !is_directory(&at.join(&name)) {
            pieces.push(PathBuf::from(name));
            continue;
        }
        let inner = list(&at.join(&name))?.into_iter();
        pieces.extend(inner.map(|inner| Path::new(&name).join(inner)));
    }
    Ok(pieces)
}

/// The path of a piece of a side.
pub(super) fn place(side: &Path, inner: &Path) -> PathBuf {
    // Joined with an empty path, it would end with a slash and follow a link.
    if inner.as_os_str().is_empty() {
        side.to_owned()
    } else {
        side.join(inner)
    }
}

fn list(directory: &Path) -> Result<Vec<OsString>, Error> {
    if !is_directory(directory) {
        return Ok(Vec::new());
    }
    let listed = fs::read_dir(directory).and_then(|entries| {
        let names = entries.map(|entry| Ok(entry?.file_name()));
        names.collect::<io::Result<Vec<_>>>()
    });
    listed.map_err(Error::io(directory, "read"))
}

fn is_drivers(inner: &Path) -> bool {
    PARTS.iter().any(|part| inner.starts_with(part))
}

fn named(side: &str, inner: &Path) -> String {
    if inner.as_os_str().is_empty() {
        return side.to_owned();
    }
    format!("{side}/{}", escape(inner.as_os_str().as_bytes()))
}

#[cfg(test)]
mod tests {
    use std::fs::{File, FileTimes};
    use std::time::SystemTime;

    use super::*;

    type Write = fn(&Path, &Path) -> io::Result<()>;

    const WRITES: [Write; 8] = [
        |aufs, _| fs::write(aufs.join("layers/c"), "other"),
        |aufs, _| fs::write(aufs.join("diff/a/b/file"), "two"),
        |aufs, _| fs::create_dir(aufs.join("diff/a/b/new")),
        |aufs, _| fs::create_dir(aufs.join("diff/new")),
        |aufs, _| fs::write(aufs.join("layers/new"), ""),
        |aufs, _| fs::write(aufs.join("beside"), ""),
        |_, image| fs::write(image.join("repositories.json"), "{}"),
        |aufs, _| {
            let path = aufs.join("diff/a/b/file");
            let times = FileTimes::new().set_modified(SystemTime::UNIX_EPOCH);
            fs::write(&path, "two")?;
            File::options().write(true).open(path)?.set_times(times)
        },
    ];

    fn side(at: &Path) -> (PathBuf, PathBuf) {
        let (aufs, image) = (at.join("aufs"), at.join("image"));
        for part in ["diff/a/b", "diff/c", "layers", "mnt"] {
            fs::create_dir_all(aufs.join(part)).unwrap();
        }
        fs::create_dir_all(image.join("layerdb")).unwrap();
        fs::write(aufs.join("layers/c"), "lists").unwrap();
        let file = aufs.join("diff/a/b/file");
        fs::write(&file, "one").unwrap();
        let times = FileTimes::new().set_modified(SystemTime::UNIX_EPOCH);
        let open = File::options().write(true).open(file).unwrap();
        open.set_times(times).unwrap();
        (aufs, image)
    }

    fn unknown(pieces: &Pieces, aufs: &Path, image: &Path) -> Vec<String> {
        let [of_aufs, of_image] = SIDES;
        let mut all = pieces.unknown(of_aufs, aufs).unwrap();
        all.extend(pieces.unknown(of_image, image).unwrap());
        all
    }

    #[test]
    fn a_move_leaves_all_as_it_was_and_each_kind_of_write_shows() {
        for (at, write) in WRITES.iter().enumerate() {
            let dir = tempfile::tempdir().unwrap();
            let (aufs, image) = side(dir.path());
            let before = Pieces::of(&aufs, &image, false).unwrap();
            let out = dir.path().join("out");
            fs::create_dir(&out).unwrap();
            let (aufs, image) = [aufs, image]
                .map(|path| {
                    let to = out.join(path.file_name().unwrap());
                    fs::rename(path, &to).unwrap();
                    to
                })
                .into();
            assert!(before.is_same(&Pieces::of(&aufs, &image, false).unwrap()));
            let noted = serde_json::to_string(&before).unwrap();
            let noted: Pieces = serde_json::from_str(&noted).unwrap();
            assert_eq!(unknown(&noted, &aufs, &image), Vec::<String>::new());
            write(&aufs, &image).unwrap();
            assert!(
                !before.is_same(&Pieces::of(&aufs, &image, false).unwrap()),
                "{at}"
            );
            assert_eq!(unknown(&noted, &aufs, &image).len(), 1, "{at}");
        }
    }

    #[test]
    fn what_is_gone_is_no_change_of_the_rest_though_files_had_names_there() {
        let dir = tempfile::tempdir().unwrap();
        let (aufs, image) = side(dir.path());
        let file = aufs.join("diff/a/b/file");
        for other in ["diff/c/file", "diff/a/other"] {
            fs::hard_link(&file, aufs.join(other)).unwrap();
        }
        let noted = Pieces::of(&aufs, &image, false).unwrap();
        fs::remove_dir_all(aufs.join("diff/a")).unwrap();
        assert_eq!(unknown(&noted, &aufs, &image), Vec::<String>::new());
        fs::write(aufs.join("diff/c/file"), "three").unwrap();
        assert_eq!(unknown(&noted, &aufs, &image), ["aufs/diff/c"]);
    }

    #[test]
    fn a_file_with_a_name_elsewhere_hides_no_write_to_another() {
        for write in [WRITES[7], |aufs, _| {
            xattr::set(aufs.join("diff/a/b/file"), "user.note", b"new")
        }] {
            let dir = tempfile::tempdir().unwrap();
            let (aufs, image) = side(dir.path());
            let outside = dir.path().join("outside");
            fs::write(aufs.join("diff/a/linked"), "x").unwrap();
            fs::hard_link(aufs.join("diff/a/linked"), &outside).unwrap();
            let noted = Pieces::of(&aufs, &image, false).unwrap();
            fs::remove_file(outside).unwrap();
            assert_eq!(unknown(&noted, &aufs, &image), Vec::<String>::new());
            write(&aufs, &image).unwrap();
            assert_eq!(unknown(&noted, &aufs, &image), ["aufs/diff/a"]);
        }
    }

    #[test]
    fn of_an_aufs_that_stays_only_what_is_the_drivers_counts() {
        let dir = tempfile::tempdir().unwrap();
        let (aufs, image) = side(dir.path());
        let before = Pieces::of(&aufs, &image, true).unwrap();
        fs::write(aufs.join("precious"), "x").unwrap();
        assert!(before.is_same(&Pieces::of(&aufs, &image, true).unwrap()));
        assert!(!before.is_same(&Pieces::of(&aufs, &image, false).unwrap()));
    }
}
