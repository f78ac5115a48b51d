//! Compares the image store that a conversion copied with its original.
//!
//! Docker never writes these files in place: a change makes a new file under the old name, with its own modification
//! time. A copy that differs but has the original's modification time is therefore damaged, and so is any differing
//! copy of a file that Docker never changes. A file that Docker may have written since must at least have the form
//! that Docker writes.
//! Source: moby v20.10 `image/fs.go`, `layer/filestore.go`, `reference/store.go`, `distribution/metadata/metadata.go`.

use std::ffi::{OsStr, OsString};
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use thiserror::Error;

use super::files::{Dir, FileKind, ReadError};
use super::id::{DiffId, ImageId};
use super::image_names::bad_names;
use super::json::Object;
use super::store_edits::StoreEdits;
use crate::tree::shown;

/// The deepest level that is compared. The store has five levels.
const MAX_DEPTH: usize = 16;

/// The number of bytes compared at once. A `tar-split.json.gz` may have hundreds of MiB.
const PIECE: usize = 64 << 10;

/// What is wrong with a copy.
#[derive(Debug, Error)]
pub enum CopyFault {
    /// The original or the copy cannot be read.
    #[error(transparent)]
    Unreadable(#[from] ReadError),
    /// The copy is missing, and Docker has not removed it.
    #[error("{}: is missing; {} was copied there", shown(path), shown(original))]
    Missing {
        /// The copy.
        path: PathBuf,
        /// The original.
        original: PathBuf,
    },
    /// The copy is of another kind than the original.
    #[error("{}: is a {found}; {} is a {expected}", shown(path), shown(original))]
    Kind {
        /// The copy.
        path: PathBuf,
        /// The original.
        original: PathBuf,
        /// The original's kind.
        expected: FileKind,
        /// The copy's kind.
        found: FileKind,
    },
    /// The copy has other bytes, and Docker has not written them.
    #[error(
        "{}: differs from {}, of which it is a copy, from byte {at} on",
        shown(path),
        shown(original)
    )]
    Differs {
        /// The copy.
        path: PathBuf,
        /// The original.
        original: PathBuf,
        /// The offset of the first byte that differs, from 0.
        at: u64,
    },
    /// A file that was written again instead of being copied is missing or has other bytes.
    #[error("{}: is not what the conversion wrote there", shown(path))]
    NotAsWritten {
        /// The file.
        path: PathBuf,
    },
    /// The copy was written since, but not by Docker.
    #[error("{}: is not what Docker writes there", shown(path))]
    Malformed {
        /// The copy.
        path: PathBuf,
    },
}

impl CopyFault {
    /// The path of the copy; `None` if one of the two sides cannot be read.
    pub fn copy(&self) -> Option<&Path> {
        match self {
            Self::Unreadable(_) => None,
            Self::Missing { path, .. }
            | Self::Kind { path, .. }
            | Self::Differs { path, .. }
            | Self::NotAsWritten { path }
            | Self::Malformed { path } => Some(path),
        }
    }
}

/// The faults of a copied image store, found by comparing it with its original. Docker may have used the copy since:
/// what Docker added, changed or removed is not a fault. `edits` are the differences that the copy was made with.
pub fn copy_faults(original: &Path, copy: &Path, edits: &StoreEdits) -> Vec<CopyFault> {
    let mut work = CopyComparison {
        edits,
        faults: Vec::new(),
        way: Vec::new(),
    };
    match (Dir::open(original), Dir::open(copy)) {
        (Ok(original), Ok(store)) => {
            work.keep(CopyComparison::directory, (&original, &store));
            work.written(copy);
        }
        (original, copy) => {
            let errors = [original.err(), copy.err()];
            work.faults
                .extend(errors.into_iter().flatten().map(Into::into));
        }
    }
    work.faults
}

/// Whether two regular files have the same bytes; `false` if one of them cannot be read.
pub fn same_bytes(a: &Path, b: &Path) -> bool {
    let open = |path: &Path| Dir::open(path.parent()?).ok()?.file(path.file_name()?).ok();
    let (Some(mut a), Some(mut b)) = (open(a), open(b)) else {
        return false;
    };
    matches!(first_difference(&mut a, &mut b), Ok(None))
}

struct CopyComparison<'a> {
    edits: &'a StoreEdits,
    faults: Vec<CopyFault>,
    /// The names that lead from the store's directory to the current entry.
    way: Vec<OsString>,
}

impl CopyComparison<'_> {
    fn keep<T>(&mut self, step: fn(&mut Self, T) -> Result<(), ReadError>, with: T) {
        if let Err(error) = step(self, with) {
            self.faults.push(error.into());
        }
    }

    fn directory(&mut self, (original, copy): (&Dir, &Dir)) -> Result<(), ReadError> {
        if self.way.len() > MAX_DEPTH {
            return Ok(());
        }
        for listed in original.list()? {
            self.way.push(listed.name);
            self.keep(Self::entry, (original, copy, listed.kind));
            self.way.pop();
        }
        Ok(())
    }

    fn entry(
        &mut self,
        (original, copy, expected): (&Dir, &Dir, FileKind),
    ) -> Result<(), ReadError> {
        let name = self.way.last().expect("an entry has a name").clone();
        let inner: PathBuf = self.way.iter().collect();
        if self.edits.is_left_out(&inner) || self.edits.is_written(&inner) {
            return Ok(());
        }
        let paths = || (copy.join(&name), original.join(&name));
        match (expected, copy.kind(&name)?) {
            (_, None) => {
                let is_gone = may_go(&self.way) && modified(original, ".")? != modified(copy, ".")?;
                if !is_gone {
                    let (path, original) = paths();
                    self.faults.push(CopyFault::Missing { path, original });
                }
            }
            (_, Some(found)) if found != expected => {
                let (path, original) = paths();
                self.faults.push(CopyFault::Kind {
                    path,
                    original,
                    expected,
                    found,
                });
            }
            (FileKind::Directory, _) => {
                let below = (original.dir(&name)?, copy.dir(&name)?);
                self.directory((&below.0, &below.1))?;
            }
            (FileKind::Regular, _) => self.file(original, copy, &name)?,
            _ => {}
        }
        Ok(())
    }

    /// Checks the files that were written again, in the copy.
    fn written(&mut self, copy: &Path) {
        for inner in self.edits.written() {
            let path = copy.join(inner);
            let way: Vec<OsString> = inner.iter().map(OsStr::to_owned).collect();
            let now = match read_file(&path) {
                Ok(now) => now,
                Err(error) => {
                    self.faults.push(error.into());
                    continue;
                }
            };
            let is_right = match now {
                // Docker removes whole records.
                None => is_fixed(&way) && !path.parent().is_some_and(Path::is_dir),
                Some(now) => {
                    self.edits.is_as_written(inner, &now) == Some(true)
                        || !is_fixed(&way) && is_well_formed(&way, &now, b"")
                }
            };
            if !is_right {
                self.faults.push(CopyFault::NotAsWritten { path });
            }
        }
    }

    fn file(&mut self, original: &Dir, copy: &Dir, name: &OsStr) -> Result<(), ReadError> {
        let read = |source| ReadError::Io {
            op: "read",
            path: copy.join(name),
            source,
        };
        let (mut a, mut b) = (original.file(name)?, copy.file(name)?);
        let Some(at) = first_difference(&mut a, &mut b).map_err(read)? else {
            return Ok(());
        };
        let path = copy.join(name);
        let is_written = modified(original, name)? != modified(copy, name)?;
        if is_fixed(&self.way) || !is_written {
            let original = original.join(name);
            self.faults.push(CopyFault::Differs { path, original, at });
        } else if !is_well_formed(&self.way, &copy.read(name)?, &original.read(name)?) {
            self.faults.push(CopyFault::Malformed { path });
        }
        Ok(())
    }
}

/// A file's bytes; `None` if it does not exist.
fn read_file(path: &Path) -> Result<Option<Vec<u8>>, ReadError> {
    let (Some(directory), Some(name)) = (path.parent(), path.file_name()) else {
        return Ok(None);
    };
    match Dir::open(directory) {
        Ok(directory) => directory.read_if_any(name),
        Err(ReadError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// The offset of the first difference between two files.
fn first_difference(a: &mut impl Read, b: &mut impl Read) -> io::Result<Option<u64>> {
    let mut pieces = [vec![0; PIECE], vec![0; PIECE]];
    let mut at = 0;
    loop {
        let [left, right] = &mut pieces;
        let (left, right) = (fill(a, left)?, fill(b, right)?);
        if left != right {
            let same = left.iter().zip(right).take_while(|(a, b)| a == b).count();
            return Ok(Some(at + same as u64));
        }
        if left.is_empty() {
            return Ok(None);
        }
        at += left.len() as u64;
    }
}

fn fill<'a>(file: &mut impl Read, piece: &'a mut [u8]) -> io::Result<&'a [u8]> {
    let mut filled = 0;
    while filled < piece.len() {
        match file.read(&mut piece[filled..]) {
            Ok(0) => break,
            Ok(bytes) => filled += bytes,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(&piece[..filled])
}

/// The modification time of a name in a directory: seconds since 1970 and nanoseconds.
fn modified(dir: &Dir, name: impl AsRef<OsStr>) -> Result<Option<(i64, i64)>, ReadError> {
    let stat = dir.stat_of(name)?;
    Ok(stat.map(|stat| (stat.st_mtime, stat.st_mtime_nsec)))
}

fn texts(way: &[OsString]) -> Vec<&[u8]> {
    way.iter().map(|name| name.as_bytes()).collect()
}

/// Whether Docker writes the file once and never changes it: image configs, and the files of layers and of containers'
/// mounts.
fn is_fixed(way: &[OsString]) -> bool {
    matches!(
        texts(way)[..],
        [b"imagedb", b"content", _, _] | [b"layerdb", b"sha256" | b"mounts", _, _]
    )
}

/// Whether Docker ever removes this entry while it keeps the directory that the entry is in.
fn may_go(way: &[OsString]) -> bool {
    match texts(way)[..] {
        [b"layerdb", b"sha256" | b"mounts", _]
        | [b"layerdb", b"tmp", ..]
        | [b"imagedb", b"content", _, _]
        | [b"imagedb", b"metadata", _, _, ..] => true,
        [b"repositories.json" | b"imagedb" | b"layerdb", ..] => false,
        _ => true,
    }
}

/// Whether a file that may change has the form that Docker writes. Nothing is known about files that only other
/// versions have.
fn is_well_formed(way: &[OsString], bytes: &[u8], original: &[u8]) -> bool {
    match texts(way)[..] {
        // Docker writes again what it does not understand.
        [b"repositories.json"] => is_file_of_names(bytes) || has_bad_names_of(bytes, original),
        [b"imagedb", b"metadata", _, _, b"parent"] => ImageId::parse(bytes).is_ok(),
        [b"imagedb", b"metadata", _, _, b"lastUpdated"] => is_time(bytes),
        [b"distribution", b"diffid-by-digest", _, _] => DiffId::parse(bytes).is_ok(),
        [b"distribution", b"v2metadata-by-diffid", _, _] => {
            serde_json::from_slice::<Vec<serde::de::IgnoredAny>>(bytes).is_ok()
        }
        _ => true,
    }
}

/// Whether the text is a `repositories.json` as Docker writes it: it has the map, which may be empty. Source: moby
/// v20.10 `reference/store.go`, `save`.
pub fn is_file_of_names(bytes: &[u8]) -> bool {
    bad_names(bytes).is_ok_and(|bad| bad.is_empty()) && has_map(bytes)
}

/// Whether it is one but for names whose ids are not ids, and the original has these too.
fn has_bad_names_of(bytes: &[u8], original: &[u8]) -> bool {
    let (Ok(bad), Ok(known)) = (bad_names(bytes), bad_names(original)) else {
        return false;
    };
    bad.iter()
        .all(|(name, value)| known.get(name) == Some(value))
        && has_map(bytes)
}

fn has_map(bytes: &[u8]) -> bool {
    Object::parse(bytes).is_ok_and(|object| object.raw("Repositories").is_some())
}

/// Whether the text looks like `2006-01-02T15:04:05.999999999Z07:00`.
pub fn is_time(text: &[u8]) -> bool {
    let form = b"dddd-dd-ddTdd:dd:dd";
    let fits = |(byte, form): (&u8, &u8)| match form {
        b'd' => byte.is_ascii_digit(),
        _ => byte == form,
    };
    let rest = |byte: &u8| byte.is_ascii_digit() || b".:+-Z".contains(byte);
    text.len() > form.len()
        && text.iter().zip(form).all(fits)
        && text[form.len()..].iter().all(rest)
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File, FileTimes};
    use std::time::{Duration, SystemTime};

    use super::*;

    const LAYER: &str = "layerdb/sha256/aa/diff";
    const CONFIG: &str = "imagedb/content/sha256/bb";
    const PARENT: &str = "imagedb/metadata/sha256/bb/parent";
    const NAMES: &str = "repositories.json";

    struct Stores {
        _dir: tempfile::TempDir,
        original: PathBuf,
        copy: PathBuf,
    }

    fn set_time(path: &Path, seconds: u64) {
        let time = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        let times = FileTimes::new().set_modified(time);
        File::open(path).unwrap().set_times(times).unwrap();
    }

    impl Stores {
        /// All files have the same modification time.
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            let [original, copy] = ["aufs", "devicemapper"].map(|name| dir.path().join(name));
            for store in [&original, &copy] {
                for name in [LAYER, CONFIG, PARENT, NAMES] {
                    let path = store.join(name);
                    fs::create_dir_all(path.parent().unwrap()).unwrap();
                    fs::write(&path, name).unwrap();
                    set_time(&path, 1_000_000_000);
                }
            }
            let stores = Self {
                _dir: dir,
                original,
                copy,
            };
            stores.settle();
            stores
        }

        /// Sets the directories' times as a copy leaves them.
        fn settle(&self) {
            for store in [&self.original, &self.copy] {
                for entry in walkdir::WalkDir::new(store) {
                    let entry = entry.unwrap();
                    if entry.file_type().is_dir() {
                        set_time(entry.path(), 1_000_000_000);
                    }
                }
            }
        }

        /// Overwrites a copy, either as Docker does or as a disk that loses data does.
        fn put(&self, name: &str, text: &str, by_docker: bool) {
            let path = self.copy.join(name);
            fs::write(&path, text).unwrap();
            set_time(&path, 1_000_000_000 + u64::from(by_docker));
        }

        fn told(&self) -> Vec<String> {
            let faults = copy_faults(&self.original, &self.copy, &StoreEdits::default());
            faults.iter().map(ToString::to_string).collect()
        }
    }

    #[test]
    fn other_bytes_of_the_same_time_are_damage() {
        for name in [LAYER, CONFIG, PARENT, NAMES] {
            let stores = Stores::new();
            assert_eq!(stores.told(), Vec::<String>::new());
            let other = name.replacen('e', "x", 1);
            stores.put(name, &other, false);
            let told = stores.told();
            let path = stores.copy.join(name);
            assert_eq!(told.len(), 1, "{told:?}");
            assert!(told[0].starts_with(path.to_str().unwrap()), "{told:?}");
            assert!(told[0].contains("differs from"), "{told:?}");
        }
    }

    #[test]
    fn what_docker_wrote_since_must_be_what_it_writes() {
        let id = format!("sha256:{}", "ab".repeat(32));
        let names = format!(r#"{{"Repositories":{{"a":{{"a:1":"{id}"}}}}}}"#);
        for (name, text, told) in [
            (NAMES, names.as_str(), 0),
            (NAMES, "{", 1),
            (PARENT, id.as_str(), 0),
            (PARENT, "sha256:", 1),
            (LAYER, id.as_str(), 1),
            (CONFIG, "{}", 1),
        ] {
            let stores = Stores::new();
            stores.put(name, text, true);
            assert_eq!(stores.told().len(), told, "{name} {text}");
        }
    }

    #[test]
    fn what_docker_removed_is_not_missed_and_what_is_lost_is() {
        for (gone, settled, told) in [
            ("layerdb/sha256/aa", false, 0),
            ("layerdb/sha256/aa", true, 1),
            (CONFIG, false, 0),
            (CONFIG, true, 1),
            (LAYER, false, 1),
            (NAMES, false, 1),
        ] {
            let stores = Stores::new();
            let path = stores.copy.join(gone);
            if path.is_dir() {
                fs::remove_dir_all(path).unwrap();
            } else {
                fs::remove_file(path).unwrap();
            }
            if settled {
                stores.settle();
            }
            assert_eq!(stores.told().len(), told, "{gone} {settled}");
        }
    }

    #[test]
    fn times_are_told_from_other_texts() {
        for text in [
            "2026-01-02T03:04:05.123456789Z",
            "2026-01-02T03:04:05+02:00",
        ] {
            assert!(is_time(text.as_bytes()), "{text}");
        }
        for text in ["", "2026-01-02T03:04:05", "2026-01-02 03:04:05Z", "x"] {
            assert!(!is_time(text.as_bytes()), "{text}");
        }
    }
}
