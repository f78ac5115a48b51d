//! A directory with everything in it as a value: put down elsewhere as often as wanted, and compared.

use std::collections::{BTreeMap, HashMap};
use std::ffi::OsString;
use std::fs::{self, File, Metadata};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt, lchown, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::fcntl::AT_FDCWD;
use nix::sys::stat::{Mode, SFlag, UtimensatFlags, mknod, utimensat};
use nix::sys::time::TimeSpec;
use nix::unistd::{Whence, lseek64};

/// A directory, by paths relative to it; each after the directory that it is in.
#[derive(Clone, Debug)]
pub struct Tree {
    entries: BTreeMap<PathBuf, Entry>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    what: What,
    /// With the file's type.
    mode: u32,
    owner: (u32, u32),
    /// Seconds and nanoseconds.
    modified: (i64, i64),
    xattrs: BTreeMap<OsString, Vec<u8>>,
    /// The first path of the same file.
    first: Option<PathBuf>,
}

#[derive(Clone, PartialEq, Eq)]
enum What {
    Directory,
    /// Size, and where there is data: offset and bytes.
    File(u64, Arc<Vec<(u64, Vec<u8>)>>),
    Symlink(PathBuf),
    /// Devices, pipes, sockets.
    Special(u64),
}

impl std::fmt::Debug for What {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Directory => write!(f, "directory"),
            Self::File(size, data) => {
                let start = data.first().map_or(&[][..], |(_, bytes)| bytes);
                let start = start[..start.len().min(60)].escape_ascii();
                let taken: usize = data.iter().map(|(_, bytes)| bytes.len()).sum();
                write!(f, "file of {size} bytes, {taken} of data: {start}")
            }
            Self::Symlink(to) => write!(f, "link to {}", to.display()),
            Self::Special(number) => write!(f, "special file {number:#x}"),
        }
    }
}

impl Tree {
    /// Reads all of `top`. Access times move.
    pub fn read(top: &Path) -> Result<Self> {
        let mut reader = Reader {
            top,
            firsts: HashMap::new(),
            entries: BTreeMap::new(),
        };
        reader.add(Path::new(""))?;
        Ok(Self {
            entries: reader.entries,
        })
    }

    /// Makes it anew at `top`, where nothing is.
    pub fn write(&self, top: &Path) -> Result<()> {
        for (path, entry) in &self.entries {
            entry
                .write(&top.join(path), top)
                .with_context(|| path.display().to_string())?;
        }
        // Innermost first: what is made in a directory moves its times.
        for (path, entry) in self.entries.iter().rev() {
            if entry.what == What::Directory {
                entry.set_times(&top.join(path))?;
            }
        }
        Ok(())
    }

    /// How `other` differs from this, for each path in one line. Directories' own times are compared unless `moves` is true
    /// for their path: what is renamed in and out of a directory moves them.
    pub fn differences(&self, other: &Self, moves: impl Fn(&Path) -> bool) -> Vec<String> {
        let mut told = Vec::new();
        for path in self.entries.keys().chain(other.entries.keys()) {
            let (before, after) = (self.entries.get(path), other.entries.get(path));
            let same = match (before, after) {
                (Some(before), Some(after)) if moves(path) => {
                    let mut after = after.clone();
                    after.modified = before.modified;
                    *before == after
                }
                _ => before == after,
            };
            if !same {
                told.push(format!("{}: {before:?} became {after:?}", path.display()));
            }
        }
        told.dedup();
        told
    }
}

impl Entry {
    fn write(&self, path: &Path, top: &Path) -> Result<()> {
        if let Some(first) = &self.first {
            return Ok(fs::hard_link(top.join(first), path)?);
        }
        match &self.what {
            What::Directory => fs::create_dir(path)?,
            What::Symlink(to) => symlink(to, path)?,
            What::Special(number) => {
                mknod(
                    path,
                    SFlag::from_bits_truncate(self.mode),
                    Mode::empty(),
                    *number,
                )?;
            }
            What::File(size, data) => {
                let file = File::create_new(path)?;
                for (offset, bytes) in data.iter() {
                    file.write_all_at(bytes, *offset)?;
                }
                file.set_len(*size)?;
            }
        }
        lchown(path, Some(self.owner.0), Some(self.owner.1))?;
        for (name, value) in &self.xattrs {
            xattr::set(path, name, value)?;
        }
        if !matches!(self.what, What::Symlink(_)) {
            use std::os::unix::fs::PermissionsExt;
            fs::set_permissions(path, fs::Permissions::from_mode(self.mode & 0o7777))?;
        }
        self.set_times(path)
    }

    fn set_times(&self, path: &Path) -> Result<()> {
        let modified = TimeSpec::new(self.modified.0, self.modified.1);
        let flags = UtimensatFlags::NoFollowSymlink;
        Ok(utimensat(AT_FDCWD, path, &modified, &modified, flags)?)
    }
}

struct Reader<'a> {
    top: &'a Path,
    /// The first path of each file with several, by its device and number.
    firsts: HashMap<(u64, u64), PathBuf>,
    entries: BTreeMap<PathBuf, Entry>,
}

impl Reader<'_> {
    fn add(&mut self, path: &Path) -> Result<()> {
        let at = self.top.join(path);
        let stat = at
            .symlink_metadata()
            .with_context(|| at.display().to_string())?;
        let mut names = Vec::new();
        if stat.is_dir() {
            for entry in fs::read_dir(&at)? {
                names.push(entry?.file_name());
            }
            names.sort();
        }
        let entry = self
            .entry(path, &at, &stat)
            .with_context(|| at.display().to_string())?;
        self.entries.insert(path.to_owned(), entry);
        names.iter().try_for_each(|name| self.add(&path.join(name)))
    }

    fn entry(&mut self, path: &Path, at: &Path, stat: &Metadata) -> Result<Entry> {
        let mut first = None;
        if !stat.is_dir() && stat.nlink() > 1 {
            let known = self.firsts.entry((stat.dev(), stat.ino()));
            let known = known.or_insert_with(|| path.to_owned());
            first = (*known != path).then(|| known.clone());
        }
        let what = if stat.is_dir() {
            What::Directory
        } else if stat.is_symlink() {
            What::Symlink(fs::read_link(at)?)
        } else if stat.is_file() {
            What::File(stat.len(), Arc::new(data(at, stat.len())?))
        } else {
            What::Special(stat.rdev())
        };
        let mut xattrs = BTreeMap::new();
        for name in xattr::list(at)? {
            let value = xattr::get(at, &name)?.context("an xattr that goes away")?;
            xattrs.insert(name, value);
        }
        Ok(Entry {
            what,
            mode: stat.mode(),
            owner: (stat.uid(), stat.gid()),
            modified: (stat.mtime(), stat.mtime_nsec()),
            xattrs,
            first,
        })
    }
}

/// Where a file has data, and what. The pool's files are sparse and of any size.
fn data(path: &Path, size: u64) -> Result<Vec<(u64, Vec<u8>)>> {
    let file = File::open(path)?;
    let mut found = Vec::new();
    let mut at = 0;
    while at < size {
        let start = match lseek64(&file, at.cast_signed(), Whence::SeekData) {
            Err(Errno::ENXIO) => break,
            start => start?.cast_unsigned(),
        };
        let end = lseek64(&file, start.cast_signed(), Whence::SeekHole)?.cast_unsigned();
        let mut bytes = vec![0; usize::try_from(end - start)?];
        file.read_exact_at(&mut bytes, start)?;
        found.push((start, bytes));
        at = end;
    }
    Ok(found)
}

/// Removes a directory with all that is in it, or nothing.
pub fn remove(top: &Path) -> io::Result<()> {
    match fs::remove_dir_all(top) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        done => done,
    }
}
