//! The staging directory: where the result is built.
//!
//! ```text
//! <root>/.aufs2dm/
//!   devicemapper/…               becomes <root>/devicemapper
//!   image/…                      becomes <root>/image/devicemapper
//!   containers/<id>/<file>       replaces <root>/containers/<id>/<file>
//!   originals/containers/<id>/…  the original of the same, kept until all is in place
//!   mnt/<n>                      the kernel engine's mount points, gone when it is done
//!   claim.json                   what it makes outside of this directory
//!   switching                    there while results are moved out
//! ```

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, chown};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::sys::statvfs::statvfs;
use walkdir::WalkDir;

use super::copy::{copy_tree, write_file};
use super::error::Error;
use super::switch::{self, EditedConfig};
use crate::units::{BLOCK_BYTES, Bytes};

/// The staging directory's name in the Docker root. No storage driver has that name, so a daemon takes no notice of it.
pub const STAGE_NAME: &str = ".aufs2dm";

/// The staging directory of this run. Dropped before [`switch`](Self::switch), it is removed.
#[derive(Debug)]
pub struct Stage {
    root: PathBuf,
    path: PathBuf,
    keep: bool,
}

/// A root that only this run works on. The lock is on the open directory, leaves no trace and ends with the process.
#[derive(Debug)]
pub struct RootLock {
    _directory: Option<Flock<File>>,
}

impl RootLock {
    /// Takes the root. Docker's pid file keeps other runs out too, but not one that was told of another pid file, and not
    /// where there is no directory for it.
    ///
    /// # Errors
    ///
    /// [`Error::Busy`] when another run has it.
    pub fn acquire(root: &Path) -> Result<Self, Error> {
        let directory = File::open(root).map_err(Error::io(root, "open"))?;
        match Flock::lock(directory, FlockArg::LockExclusiveNonblock) {
            Ok(directory) => Ok(Self {
                _directory: Some(directory),
            }),
            Err((_, Errno::EWOULDBLOCK)) => Err(Error::Busy {
                path: root.to_owned(),
            }),
            Err((_, errno)) => {
                // NFS locks no directories.
                log::debug!("{}: cannot be locked: {errno}", root.display());
                Ok(Self { _directory: None })
            }
        }
    }
}

/// What an earlier run left in a root.
#[derive(Debug, PartialEq, Eq)]
pub enum Leftover {
    /// Nothing.
    None,
    /// A staging directory that was not moved in place: it can be replaced.
    Stage(PathBuf),
}

impl Stage {
    /// Looks for what an earlier run left in `root`; changes nothing.
    ///
    /// # Errors
    ///
    /// [`Error::HalfSwitched`] when that run was stopped between two renames.
    pub fn look_for_leftover(root: &Path) -> Result<Leftover, Error> {
        let path = root.join(STAGE_NAME);
        match path.symlink_metadata() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Leftover::None),
            Err(error) => Err(Error::io(&path, "look at")(error)),
            Ok(_) => match switch::half_switched(root, &path) {
                Some(state) => Err(Error::HalfSwitched { stage: path, state }),
                None => Ok(Leftover::Stage(path)),
            },
        }
    }

    /// Makes the staging directory in `root`, in place of one that an interrupted run left.
    ///
    /// # Errors
    ///
    /// As [`look_for_leftover`](Self::look_for_leftover), and [`Error::Io`].
    pub fn create(root: &Path) -> Result<Self, Error> {
        if let Leftover::Stage(path) = Self::look_for_leftover(root)? {
            remove_all(&path).map_err(Error::io(&path, "remove"))?;
        }
        let path = root.join(STAGE_NAME);
        create_dir(&path, 0o700)?;
        Ok(Self {
            root: root.to_owned(),
            path,
            keep: false,
        })
    }

    /// Checks that the root's file system has room for `needed` bytes, with what an earlier run left out of the way.
    ///
    /// # Errors
    ///
    /// [`Error::Space`] when it has not.
    pub fn check_space(root: &Path, needed: Bytes) -> Result<(), Error> {
        let stat = statvfs(root)
            .map_err(|errno| Error::io(root, "ask for the free space of")(errno.into()))?;
        let free = Bytes(
            stat.blocks_available() * stat.fragment_size() + bytes_held_by(&root.join(STAGE_NAME)),
        );
        if free < needed {
            return Err(Error::Space {
                path: root.to_owned(),
                needed,
                free,
            });
        }
        Ok(())
    }

    /// Bytes that [`copy_image_store`](Self::copy_image_store) will take, each file rounded up to 4 KiB.
    ///
    /// # Errors
    ///
    /// [`Error::Io`].
    pub fn size_of_image_store(root: &Path) -> Result<Bytes, Error> {
        let store = root.join("image/aufs");
        let mut bytes = 0;
        for entry in WalkDir::new(&store).follow_links(false) {
            let meta = entry
                .and_then(|entry| entry.metadata())
                .map_err(|error| Error::io(&store, "read")(error.into()))?;
            bytes += meta.len().next_multiple_of(BLOCK_BYTES);
        }
        Ok(Bytes(bytes))
    }

    /// The staging directory itself.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Makes the driver's home, which becomes `devicemapper`, with the owner of the (remapped) root.
    ///
    /// # Errors
    ///
    /// [`Error::Io`].
    pub fn create_driver_home(&self, owner: (u32, u32)) -> Result<PathBuf, Error> {
        let home = self.path.join("devicemapper");
        create_owned_dir(&home, owner)?;
        Ok(home)
    }

    /// Makes the directory of the pool's two loop files, and names them: data, metadata.
    ///
    /// # Errors
    ///
    /// [`Error::Io`].
    pub fn create_loop_directory(&self, owner: (u32, u32)) -> Result<(PathBuf, PathBuf), Error> {
        let loops = self.path.join("devicemapper/devicemapper");
        create_owned_dir(&loops, owner)?;
        Ok((loops.join("data"), loops.join("metadata")))
    }

    /// Writes the driver's own files into `devicemapper/metadata/`; each is a name and its content.
    ///
    /// # Errors
    ///
    /// [`Error::Io`].
    pub fn write_device_files<'a>(
        &self,
        files: impl IntoIterator<Item = (&'a str, Vec<u8>)>,
    ) -> Result<(), Error> {
        let directory = self.path.join("devicemapper/metadata");
        create_dir(&directory, 0o700)?;
        for (name, content) in files {
            let path = directory.join(name);
            let mut file = open_new(&path)?;
            io::Write::write_all(&mut file, &content).map_err(Error::io(&path, "write"))?;
        }
        Ok(())
    }

    /// Copies `image/aufs` as it is; it becomes `image/devicemapper`.
    ///
    /// # Errors
    ///
    /// [`Error::Io`].
    pub fn copy_image_store(&self) -> Result<(), Error> {
        copy_tree(&self.root.join("image/aufs"), &self.path.join("image"))
    }

    /// Writes the containers' edited configurations, with the originals' owner and mode.
    ///
    /// # Errors
    ///
    /// [`Error::Io`].
    pub fn write_configs(&self, configs: &[EditedConfig]) -> Result<(), Error> {
        for config in configs {
            let original = self.root.join(&config.path);
            let like = original
                .symlink_metadata()
                .map_err(Error::io(&original, "look at"))?;
            let staged = self.path.join(&config.path);
            let parent = staged
                .parent()
                .expect("a config lies in its container's directory");
            fs::create_dir_all(parent).map_err(Error::io(parent, "create"))?;
            write_file(&staged, &config.content, &like)?;
        }
        Ok(())
    }

    /// Makes all that is staged durable, then moves it in place.
    ///
    /// # Errors
    ///
    /// [`Error::Exists`] and [`Error::Io`]: nothing has moved. [`Error::RollbackFailed`]: the root is in between, and the
    /// error says how to mend it by hand.
    pub fn switch(&mut self, configs: &[EditedConfig]) -> Result<(), Error> {
        sync_file_system(&self.path)?;
        let switched = switch::switch(&self.root, &self.path, configs);
        // What the operator has to move by hand must not be removed by us.
        self.keep = matches!(switched, Err(Error::RollbackFailed { .. }));
        if switched.is_ok()
            && let Err(error) = self.remove()
        {
            // The conversion is done: an error would say that it is not.
            log::warn!("{}; remove it by hand", Chain(&error));
        }
        switched
    }

    fn remove(&mut self) -> Result<(), Error> {
        self.keep = true;
        fs::remove_dir_all(&self.path).map_err(Error::io(&self.path, "remove"))
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        if !self.keep
            && let Err(error) = self.remove()
        {
            log::warn!("{}; the next run removes it", Chain(&error));
        }
    }
}

/// Bytes on disk below a directory that may not be there, or may be going away.
fn bytes_held_by(path: &Path) -> u64 {
    let files = WalkDir::new(path).follow_links(false).into_iter().flatten();
    let blocks = files.filter_map(|entry| entry.metadata().ok()?.blocks().into());
    512 * blocks.sum::<u64>()
}

/// Removes a directory, or whatever else is there; a symbolic link itself, not what it leads to.
fn remove_all(path: &Path) -> io::Result<()> {
    if path.symlink_metadata()?.is_dir() {
        fs::remove_dir_all(path)
    } else {
        fs::remove_file(path)
    }
}

/// An error with its source.
struct Chain<'a>(&'a Error);

impl std::fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0)?;
        std::error::Error::source(self.0).map_or(Ok(()), |source| write!(f, ": {source}"))
    }
}

fn create_dir(path: &Path, mode: u32) -> Result<(), Error> {
    DirBuilder::new()
        .mode(mode)
        .create(path)
        .map_err(Error::io(path, "create"))?;
    Ok(())
}

fn create_owned_dir(path: &Path, (uid, gid): (u32, u32)) -> Result<(), Error> {
    create_dir(path, 0o700)?;
    chown(path, Some(uid), Some(gid)).map_err(Error::io(path, "set the owner of"))
}

fn open_new(path: &Path) -> Result<File, Error> {
    use std::os::unix::fs::OpenOptionsExt;
    fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .map_err(Error::io(path, "create"))
}

/// One call for thousands of small files, instead of one for each.
fn sync_file_system(path: &Path) -> Result<(), Error> {
    let directory = File::open(path).map_err(Error::io(path, "open"))?;
    nix::unistd::syncfs(&directory)
        .map_err(|errno| Error::io(path, "sync the file system of")(errno.into()))
}
