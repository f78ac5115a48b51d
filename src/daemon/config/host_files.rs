//! Reads the host's own files: configuration, packages, programs.
//!
//! In a rescue system, the host's `/` may be mounted elsewhere. A symbolic link there must mean what it means on the
//! running host, so this module resolves links itself, and they never lead out of the host's root directory.

use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::ffi::{OsStr, OsString};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Component, Path, PathBuf};

use nix::fcntl::OFlag;

use crate::docker::{FileKind, MAX_FILE_BYTES, ReadError};

/// The number of links that are followed in one path, the same as in the kernel.
const MAX_LINKS: usize = 40;

/// The files below a host's root directory. Paths are those of the host; [`place`](Self::place) converts them to paths
/// on this system.
#[derive(Clone, Debug)]
pub(in crate::daemon) struct HostFiles {
    root: PathBuf,
    /// A file that is about to get another content.
    instead: Option<(PathBuf, Vec<u8>)>,
    /// Directories and their paths without symbolic links, as the host names them: hundreds of units are in the same
    /// directory.
    known: RefCell<HashMap<PathBuf, PathBuf>>,
}

impl HostFiles {
    pub(in crate::daemon) fn new(root: &Path) -> Self {
        Self {
            root: root.to_path_buf(),
            instead: None,
            known: RefCell::default(),
        }
    }

    /// The same files, one of them with this content. `place` is a path on this system.
    pub(in crate::daemon) fn with_content(mut self, place: &Path, content: &[u8]) -> Self {
        self.instead = Some((place.to_path_buf(), content.to_vec()));
        self
    }

    /// The host's root directory.
    pub(in crate::daemon) fn root(&self) -> &Path {
        &self.root
    }

    /// Whether these are the files of the system that runs this process.
    pub(in crate::daemon) fn is_running_system(&self) -> bool {
        self.root == Path::new("/")
    }

    /// The host's path without symbolic links. What does not exist stays as it is.
    pub(in crate::daemon) fn resolve(&self, path: &Path) -> io::Result<PathBuf> {
        match (path.parent(), path.file_name()) {
            (Some(dir), Some(name)) => {
                self.follow(self.directory(dir)?, VecDeque::from([name.to_owned()]))
            }
            _ => self.follow(PathBuf::from("/"), steps(path)),
        }
    }

    fn directory(&self, dir: &Path) -> io::Result<PathBuf> {
        if let Some(known) = self.known.borrow().get(dir) {
            return Ok(known.clone());
        }
        let place = self.follow(PathBuf::from("/"), steps(dir))?;
        let mut known = self.known.borrow_mut();
        known.insert(dir.to_owned(), place.clone());
        Ok(place)
    }

    /// Follows names from a directory whose path has no symbolic links.
    fn follow(&self, mut done: PathBuf, mut todo: VecDeque<OsString>) -> io::Result<PathBuf> {
        let mut links = 0;
        while let Some(name) = todo.pop_front() {
            if name == ".." {
                done.pop();
                continue;
            }
            done.push(&name);
            let Ok(target) = fs::read_link(self.below(&done)) else {
                continue;
            };
            links += 1;
            if links > MAX_LINKS {
                return Err(io::Error::from_raw_os_error(nix::libc::ELOOP));
            }
            done.pop();
            if target.is_absolute() {
                done = PathBuf::from("/");
            }
            for name in steps(&target).into_iter().rev() {
                todo.push_front(name);
            }
        }
        Ok(done)
    }

    /// The path of a host's file on this system, with symbolic links resolved as on the host.
    pub(in crate::daemon) fn place(&self, path: &Path) -> PathBuf {
        self.below(&self.resolve(path).unwrap_or_else(|_| path.to_path_buf()))
    }

    /// The host's path for a path on this system; a path that is not below the host's root directory stays as it is.
    pub(in crate::daemon) fn host_path(&self, place: &Path) -> PathBuf {
        let root = self.root.canonicalize();
        let root = root.as_deref().unwrap_or(&self.root);
        match place.strip_prefix(root) {
            Ok(rest) => Path::new("/").join(rest),
            Err(_) => place.to_owned(),
        }
    }

    fn below(&self, path: &Path) -> PathBuf {
        self.root.join(path.strip_prefix("/").unwrap_or(path))
    }

    /// Whether the name exists, even as a dangling symbolic link.
    pub(in crate::daemon) fn exists(&self, path: &Path) -> bool {
        let (Some(dir), Some(name)) = (path.parent(), path.file_name()) else {
            return true;
        };
        self.place(dir).join(name).symlink_metadata().is_ok()
    }

    /// A regular file's bytes; `None` if the name does not exist.
    pub(in crate::daemon) fn read(&self, path: &Path) -> Result<Option<Vec<u8>>, ReadError> {
        let place = self.place(path);
        if let Some((_, content)) = self.instead.as_ref().filter(|(at, _)| *at == place) {
            return Ok(Some(content.clone()));
        }
        let Some(file) = self.open(path)? else {
            return Ok(None);
        };
        let mut bytes = Vec::new();
        match file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes) {
            Err(source) => Err(io_error("read", place)(source)),
            Ok(_) if bytes.len() as u64 > MAX_FILE_BYTES => {
                Err(ReadError::TooLarge { path: place })
            }
            Ok(_) => Ok(Some(bytes)),
        }
    }

    /// Opens a regular file; `None` if the name does not exist.
    pub(super) fn open(&self, path: &Path) -> Result<Option<File>, ReadError> {
        let place = self.place(path);
        let mut options = OpenOptions::new();
        options
            .read(true)
            .custom_flags((OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_NOCTTY).bits());
        let found = match place.symlink_metadata() {
            Err(error) if is_absent(&error) => return Ok(None),
            found => found.map_err(io_error("stat", place.clone()))?,
        };
        if !found.is_file() {
            return Err(ReadError::WrongKind {
                found: if found.is_dir() {
                    FileKind::Directory
                } else {
                    FileKind::Special
                },
                path: place,
                expected: FileKind::Regular,
            });
        }
        match options.open(&place) {
            Err(error) if is_absent(&error) => Ok(None),
            opened => opened.map(Some).map_err(io_error("open", place)),
        }
    }

    /// The names in a directory, sorted; none if it does not exist.
    pub(in crate::daemon) fn names(&self, path: &Path) -> Vec<OsString> {
        let entries = fs::read_dir(self.place(path)).into_iter().flatten();
        let mut names: Vec<_> = entries.flatten().map(|entry| entry.file_name()).collect();
        names.sort_unstable();
        names
    }
}

fn is_absent(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
    )
}

fn io_error(op: &'static str, path: PathBuf) -> impl FnOnce(io::Error) -> ReadError {
    move |source| ReadError::Io { op, path, source }
}

fn steps(path: &Path) -> VecDeque<OsString> {
    path.components()
        .filter_map(|component| match component {
            Component::Normal(name) => Some(name.to_owned()),
            Component::ParentDir => Some(OsStr::new("..").to_owned()),
            _ => None,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn links_are_followed_below_the_hosts_root() {
        let temp = tempfile::tempdir().unwrap();
        let at = |path: &str| temp.path().join(path);
        fs::create_dir_all(at("usr/lib/systemd")).unwrap();
        fs::create_dir_all(at("etc")).unwrap();
        fs::write(at("usr/lib/systemd/unit"), "x").unwrap();
        symlink("usr/lib", at("lib")).unwrap();
        symlink("/lib/systemd/unit", at("etc/unit")).unwrap();
        symlink("../../../../etc/unit", at("etc/up")).unwrap();
        let host = HostFiles::new(temp.path());
        for path in ["/lib/systemd/unit", "/etc/unit", "/etc/up"] {
            assert_eq!(host.read(Path::new(path)).unwrap().unwrap(), b"x", "{path}");
            assert_eq!(host.place(Path::new(path)), at("usr/lib/systemd/unit"));
        }
    }

    #[test]
    fn a_circle_of_links_a_pipe_and_a_directory_are_errors() {
        let temp = tempfile::tempdir().unwrap();
        symlink("b", temp.path().join("a")).unwrap();
        symlink("a", temp.path().join("b")).unwrap();
        nix::unistd::mkfifo(&temp.path().join("p"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        let host = HostFiles::new(temp.path());
        for path in ["/a", "/p", "/"] {
            assert!(host.read(Path::new(path)).is_err(), "{path}");
        }
        assert!(host.read(Path::new("/none/at/all")).unwrap().is_none());
    }
}
