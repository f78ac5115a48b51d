//! Docker's own pid file as a lock: while it names a live process, no daemon starts.
//!
//! Source: moby `pkg/pidfile`: up to 23.0, a daemon refuses to start if the file names a process that exists; later
//! versions refuse if that process is alive. A stale file is overwritten. Daemons do not lock the file, so runs of this
//! program use a lock on it (`flock`) to decide which of them holds it.

use std::ffi::OsString;
use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{Flock, OFlag};
use thiserror::Error;

use super::finding::Host;
use super::processes::{is_live_daemon, parse_pid};
use crate::holder::AtWork;
use crate::lock::exclusive;
use crate::path_error::PathError;
use crate::tree::shown;

/// Why the pid file cannot be taken.
#[derive(Debug, Error)]
pub enum LockError {
    /// A daemon holds it.
    #[error(
        "{}: docker is running as process {pid}. Next: stop it (`systemctl stop docker.socket docker` or `service \
         docker stop`), then run the same command again",
        shown(path)
    )]
    DockerRuns {
        /// The pid file.
        path: PathBuf,
        /// The daemon.
        pid: u32,
    },
    /// Another run of this program holds it.
    #[error(
        "{}: {holder}. Next: wait until it has ended, then run the same command again",
        shown(path)
    )]
    Busy {
        /// The pid file.
        path: PathBuf,
        /// The run that holds it.
        holder: AtWork,
    },
    /// Another process replaced the file or wrote to ours.
    #[error("{}: is not what this run put there: {}, so docker may be starting", shown(path), Content(pid.as_ref()))]
    Taken {
        /// The pid file.
        path: PathBuf,
        /// The process that the file names now.
        pid: Option<u32>,
    },
    /// The file cannot be read or written.
    #[error(transparent)]
    Io(#[from] PathError),
}

struct Content<'a>(Option<&'a u32>);

impl fmt::Display for Content<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(pid) => write!(f, "it names process {pid}"),
            None => f.write_str("it names no process"),
        }
    }
}

/// The result of trying to keep daemons out.
#[derive(Debug)]
pub enum Hold {
    /// The file is ours until the lock is released or dropped.
    Held(PidFileLock),
    /// There is no directory for it, as in a rescue system. If there is a daemon, nothing keeps it from starting.
    NoDirectory {
        /// The missing directory.
        dir: PathBuf,
    },
    /// Nobody can write a file there, so a daemon that uses it cannot start either.
    ReadOnly,
    /// The existing file is not a pid file, judging by its kind or size. It stays unchanged.
    Other,
}

/// Docker's pid file with our own process id in it.
#[derive(Debug)]
pub struct PidFileLock {
    path: PathBuf,
    /// Open and locked for as long as it is held.
    file: Flock<File>,
    released: bool,
}

impl PidFileLock {
    /// Takes a pid file. Replaces a stale one in one step, so that the file always exists.
    ///
    /// A daemon that starts at the same moment may still get in before it, so
    /// [`check_stopped`](super::check::check_stopped) comes after this.
    ///
    /// # Errors
    /// [`LockError`]; in that case nothing is changed.
    pub fn acquire(path: &Path, host: &Host) -> Result<Hold, LockError> {
        let path = path.to_path_buf();
        let dir = path.parent().unwrap_or(Path::new("/")).to_path_buf();
        if !dir.is_dir() {
            return Ok(Hold::NoDirectory { dir });
        }
        if fs::symlink_metadata(&path).is_ok_and(|meta| is_other(&meta)) {
            return Ok(Hold::Other);
        }
        let ours = match Draft::write(&path) {
            Err(LockError::Io(PathError { source, .. }))
                if source.kind() == io::ErrorKind::ReadOnlyFilesystem =>
            {
                return Ok(Hold::ReadOnly);
            }
            written => written?,
        };
        // Each round ends unless another process changed the file in between.
        for _ in 0..16 {
            match fs::hard_link(&ours.path, &path) {
                Ok(()) => return Ok(Hold::Held(ours.into_lock(path))),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(io_error("create", &path)(error)),
            }
            if let Some(stale) = Stale::judge(&path, host)? {
                stale.replace_by(&ours, &path, host)?;
                return Ok(Hold::Held(ours.into_lock(path)));
            }
        }
        Err(busy(&path))
    }

    /// The file's path.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether the file exists. It is an error if it is not the one that this lock put there.
    pub(super) fn is_there(&mut self) -> Result<bool, LockError> {
        match fs::symlink_metadata(&self.path) {
            Err(error) if is_absence(&error) => return Ok(false),
            Err(error) => return Err(io_error("stat", &self.path)(error)),
            Ok(_) => {}
        }
        let is_same = is_same(&self.path, &self.file);
        let pid = if is_same {
            named(&mut self.file, &self.path)?
        } else {
            // Not our file, so it may be a pipe.
            let mut options = OpenOptions::new();
            let opened = options
                .read(true)
                .custom_flags((OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK).bits())
                .open(&self.path);
            opened
                .ok()
                .and_then(|mut file| named(&mut file, &self.path).ok().flatten())
        };
        if is_same && pid == Some(std::process::id()) {
            return Ok(true);
        }
        Err(LockError::Taken {
            path: self.path.clone(),
            pid,
        })
    }

    /// Removes the file, so that Docker can start.
    ///
    /// # Errors
    /// The file cannot be removed. A file that is no longer ours is left alone and is not an error.
    pub fn release(mut self) -> Result<(), LockError> {
        self.released = true;
        self.remove()
    }

    fn remove(&self) -> Result<(), LockError> {
        // If another process wrote to our file, the file belongs to it.
        let is_ours = self.file.try_clone().is_ok_and(|mut file| {
            named(&mut file, &self.path).is_ok_and(|pid| pid == Some(std::process::id()))
        });
        if is_ours && is_same(&self.path, &self.file) {
            fs::remove_file(&self.path).map_err(io_error("remove", &self.path))?;
        }
        Ok(())
    }
}

impl Drop for PidFileLock {
    fn drop(&mut self) {
        if self.released {
            return;
        }
        if let Err(error) = self.remove() {
            log::warn!("{error}: remove it by hand before docker starts");
        }
    }
}

/// Our file under a temporary name, complete and locked before it takes the pid file's place.
struct Draft {
    path: PathBuf,
    file: Option<Flock<File>>,
}

impl Draft {
    fn write(pid_file: &Path) -> Result<Self, LockError> {
        let pid = std::process::id();
        for attempt in 0_u32.. {
            let mut name = OsString::from(pid_file);
            name.push(format!(".aufs2dm-{pid}-{attempt}"));
            let path = PathBuf::from(name);
            let mut options = OpenOptions::new();
            let file = match options
                .read(true)
                .write(true)
                .create_new(true)
                .mode(0o644)
                .open(&path)
            {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists && attempt < 100 => {
                    continue;
                }
                other => other.map_err(io_error("create", &path))?,
            };
            let mut draft = Self {
                path: path.clone(),
                file: None,
            };
            let mut file = lock(file, &path)?.ok_or_else(|| busy(&path))?;
            // In Docker's format: decimal, no newline.
            write!(*file, "{pid}").map_err(io_error("write", &path))?;
            draft.file = Some(file);
            return Ok(draft);
        }
        unreachable!("the last attempt returns")
    }

    fn into_lock(mut self, path: PathBuf) -> PidFileLock {
        let file = self
            .file
            .take()
            .expect("a draft is only returned with its file");
        PidFileLock {
            path,
            file,
            released: false,
        }
    }
}

/// Removes the draft's temporary name. The pid file itself, once linked or renamed, is another name.
impl Drop for Draft {
    fn drop(&mut self) {
        match fs::remove_file(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                log::warn!("{}: cannot remove: {error}", shown(&self.path));
            }
            _ => {}
        }
    }
}

/// A pid file that names no live daemon, locked so that only one run replaces it.
struct Stale {
    file: Flock<File>,
}

impl Stale {
    /// Checks a pid file for a live daemon. `None`: the file disappeared or was replaced in the meantime.
    fn judge(path: &Path, host: &Host) -> Result<Option<Self>, LockError> {
        let mut options = OpenOptions::new();
        options
            .read(true)
            .custom_flags((OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK).bits());
        let file = match options.open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other.map_err(io_error("open", path))?,
        };
        let Some(mut file) = lock(file, path)? else {
            return Err(busy(path));
        };
        if let Some(pid) = live_daemon(&mut file, path, host)? {
            return Err(LockError::DockerRuns {
                path: path.to_path_buf(),
                pid,
            });
        }
        Ok(is_same(path, &file).then_some(Self { file }))
    }

    /// Puts our file in its place. If a daemon wrote to the old file in between, the pid file names that daemon again.
    fn replace_by(mut self, ours: &Draft, path: &Path, host: &Host) -> Result<(), LockError> {
        fs::rename(&ours.path, path).map_err(io_error("replace", path))?;
        let Some(pid) = live_daemon(&mut self.file, path, host)? else {
            return Ok(());
        };
        fs::write(path, pid.to_string()).map_err(io_error("write", path))?;
        Err(LockError::DockerRuns {
            path: path.to_path_buf(),
            pid,
        })
    }
}

/// The maximum size of a pid file in bytes. A number needs ten.
const MAX_BYTES: u64 = 64;

/// Whether this cannot be a pid file, so that it must not be replaced. A symbolic link is refused later, when it is
/// opened.
fn is_other(meta: &fs::Metadata) -> bool {
    !(meta.is_file() || meta.is_symlink()) || meta.is_file() && meta.len() > MAX_BYTES
}

/// The daemon that an open pid file names, if it is alive.
fn live_daemon(file: &mut File, path: &Path, host: &Host) -> Result<Option<u32>, LockError> {
    Ok(named(file, path)?.filter(|pid| is_live_daemon(&host.proc, *pid)))
}

/// The process that an open pid file names.
fn named(file: &mut File, path: &Path) -> Result<Option<u32>, LockError> {
    let mut text = Vec::new();
    file.rewind().map_err(io_error("read", path))?;
    file.take(MAX_BYTES)
        .read_to_end(&mut text)
        .map_err(io_error("read", path))?;
    Ok(parse_pid(&text))
}

fn is_absence(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
    )
}

/// Locks a file. `None`: another process holds the lock.
fn lock(file: File, path: &Path) -> Result<Option<Flock<File>>, LockError> {
    match exclusive(file) {
        Ok(file) => Ok(Some(file)),
        Err(Errno::EWOULDBLOCK) => Ok(None),
        Err(errno) => Err(io_error("lock", path)(errno.into())),
    }
}

fn busy(path: &Path) -> LockError {
    LockError::Busy {
        path: path.to_path_buf(),
        holder: AtWork::on(path),
    }
}

/// Whether the path still leads to this open file.
fn is_same(path: &Path, file: &File) -> bool {
    let identity = |meta: fs::Metadata| (meta.dev(), meta.ino());
    let (there, here) = (
        fs::symlink_metadata(path).map(identity),
        file.metadata().map(identity),
    );
    matches!((there, here), (Ok(there), Ok(here)) if there == here)
}

fn io_error(op: &'static str, path: &Path) -> impl FnOnce(io::Error) -> LockError {
    let error = PathError::on(path, op);
    move |source| error(source).into()
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;
    use std::thread;

    use super::*;

    /// A host whose process table has one daemon, 77, and one other process, 78.
    fn host() -> (tempfile::TempDir, Host) {
        let temp = tempfile::tempdir().unwrap();
        for (pid, line) in [("77", "/usr/bin/dockerd\0"), ("78", "vi\0x\0")] {
            fs::create_dir_all(temp.path().join("proc").join(pid)).unwrap();
            fs::write(temp.path().join("proc").join(pid).join("cmdline"), line).unwrap();
        }
        fs::create_dir(temp.path().join("run")).unwrap();
        let host = Host {
            proc: temp.path().join("proc"),
            sys_aufs: temp.path().join("sys"),
            pid_file: temp.path().join("run/docker.pid"),
            ..Host::default()
        };
        (temp, host)
    }

    fn take(host: &Host) -> PidFileLock {
        match PidFileLock::acquire(&host.pid_file, host).unwrap() {
            Hold::Held(lock) => lock,
            other => panic!("{other:?}"),
        }
    }

    fn names_in_run(host: &Host) -> usize {
        fs::read_dir(host.pid_file.parent().unwrap())
            .unwrap()
            .count()
    }

    #[test]
    fn the_file_names_us_while_it_is_held_and_goes_afterwards() {
        let (_temp, host) = host();
        let lock = take(&host);
        assert_eq!(
            fs::read_to_string(&host.pid_file).unwrap(),
            std::process::id().to_string()
        );
        assert_eq!(names_in_run(&host), 1);
        lock.release().unwrap();
        assert_eq!(names_in_run(&host), 0);
        drop(take(&host));
        assert_eq!(names_in_run(&host), 0);
    }

    #[test]
    fn a_live_daemon_keeps_its_file() {
        let (_temp, host) = host();
        fs::write(&host.pid_file, "77").unwrap();
        let error = PidFileLock::acquire(&host.pid_file, &host).unwrap_err();
        assert!(
            matches!(error, LockError::DockerRuns { pid: 77, .. }),
            "{error}"
        );
        assert_eq!(fs::read_to_string(&host.pid_file).unwrap(), "77");
        assert_eq!(names_in_run(&host), 1);
    }

    #[test]
    fn stale_files_of_every_kind_are_replaced() {
        for text in ["76", "78", "", "not a number", "99999999999999999999"] {
            let (_temp, host) = host();
            fs::write(&host.pid_file, text).unwrap();
            let lock = take(&host);
            assert_eq!(
                fs::read_to_string(&host.pid_file).unwrap(),
                std::process::id().to_string()
            );
            assert_eq!(names_in_run(&host), 1, "{text}");
            lock.release().unwrap();
        }
    }

    #[test]
    fn a_second_run_is_refused() {
        let (_temp, host) = host();
        let _lock = take(&host);
        assert!(matches!(
            PidFileLock::acquire(&host.pid_file, &host),
            Err(LockError::Busy { .. })
        ));
        assert_eq!(names_in_run(&host), 1);
    }

    #[test]
    fn of_many_at_once_one_gets_it() {
        for stale in [None, Some("76")] {
            let (_temp, host) = host();
            if let Some(text) = stale {
                fs::write(&host.pid_file, text).unwrap();
            }
            let (start, end) = (Barrier::new(8), Barrier::new(8));
            let held = thread::scope(|scope| {
                let runs: Vec<_> = (0..8)
                    .map(|_| {
                        scope.spawn(|| {
                            start.wait();
                            let lock = PidFileLock::acquire(&host.pid_file, &host);
                            end.wait();
                            lock.is_ok()
                        })
                    })
                    .collect();
                runs.into_iter()
                    .map(|run| run.join().unwrap())
                    .filter(|ok| *ok)
                    .count()
            });
            assert_eq!(held, 1, "{stale:?}");
            assert_eq!(names_in_run(&host), 0);
        }
    }

    #[test]
    fn a_link_in_its_place_is_not_followed() {
        let (temp, host) = host();
        fs::write(temp.path().join("victim"), "1").unwrap();
        std::os::unix::fs::symlink("../victim", &host.pid_file).unwrap();
        assert!(matches!(
            PidFileLock::acquire(&host.pid_file, &host),
            Err(LockError::Io(PathError { op: "open", .. }))
        ));
        assert_eq!(fs::read_to_string(temp.path().join("victim")).unwrap(), "1");
    }

    #[test]
    fn no_run_directory_is_told_not_made() {
        let (temp, mut host) = host();
        host.pid_file = temp.path().join("gone/docker.pid");
        assert!(matches!(
            PidFileLock::acquire(&host.pid_file, &host),
            Ok(Hold::NoDirectory { .. })
        ));
        assert!(!temp.path().join("gone").exists());
    }

    #[test]
    fn what_is_no_pid_file_is_left() {
        for make in [
            |path: &Path| fs::write(path, [b'1'; 65]).unwrap(),
            |path: &Path| fs::create_dir(path).unwrap(),
            |path: &Path| nix::unistd::mkfifo(path, nix::sys::stat::Mode::S_IRWXU).unwrap(),
        ] {
            let (_temp, host) = host();
            make(&host.pid_file);
            let before = fs::symlink_metadata(&host.pid_file).unwrap();
            let hold = PidFileLock::acquire(&host.pid_file, &host);
            assert!(matches!(hold, Ok(Hold::Other)), "{hold:?}");
            let after = fs::symlink_metadata(&host.pid_file).unwrap();
            assert_eq!((before.ino(), before.len()), (after.ino(), after.len()));
            assert_eq!(names_in_run(&host), 1);
        }
    }

    #[test]
    fn a_file_that_was_written_to_or_replaced_is_told_and_left() {
        for replace in [true, false] {
            let (_temp, host) = host();
            let mut lock = take(&host);
            assert!(lock.is_there().unwrap());
            if replace {
                fs::remove_file(&host.pid_file).unwrap();
            }
            fs::write(&host.pid_file, "77").unwrap();
            let error = lock.is_there().unwrap_err();
            assert!(
                matches!(error, LockError::Taken { pid: Some(77), .. }),
                "{error}"
            );
            drop(lock);
            assert_eq!(fs::read_to_string(&host.pid_file).unwrap(), "77");
        }
    }

    #[test]
    fn a_file_that_became_someone_elses_is_left() {
        let (_temp, host) = host();
        let lock = take(&host);
        fs::remove_file(&host.pid_file).unwrap();
        fs::write(&host.pid_file, "77").unwrap();
        lock.release().unwrap();
        assert_eq!(fs::read_to_string(&host.pid_file).unwrap(), "77");
    }
}
