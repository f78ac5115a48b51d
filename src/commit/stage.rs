//! The staging directory: where the result is built, and where the record of its move is kept.
//!
//! ```text
//! <root>/.aufs2dm/
//!   journal                      what was begun, what is durable, what was moved
//!   devicemapper/…               becomes <root>/devicemapper
//!   image/…                      becomes <root>/image/devicemapper
//!   containers/<id>/<file>       replaces <root>/containers/<id>/<file>
//!   originals/containers/<id>/…  the original of the same, for the way back
//!   originals/{devicemapper,image}  empty directories that stood where the result is now
//!   mnt/<n>                      the kernel engine's mount points, gone when it is done
//!   claim.json                   what it made outside of this directory
//!   progress                     how far the run is that works here, for display alone
//!   removed/                     the aufs side while it is removed
//! ```

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, chown};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::Flock;
use nix::sys::statvfs::statvfs;
use serde_json::Value;
use walkdir::WalkDir;

use super::aufs_side::{AufsSide, BranchesRead};
use super::content::PoolData;
use super::copy::{copy_tree, write_file};
use super::error::Error;
use super::file_digests::{FileDigests, Parts};
use super::journal::{Journal, JournalState};
use super::leftover::Leftover;
use super::moves::{Roots, create_private_dirs, place, replace};
use super::record::{Record, SwitchPlan};
use super::regular_files::names_in;
use super::remove::{expect_unmounted_stage, remove_leftover, remove_part, remove_stage};
use super::state::State;
use super::store_edit::{StoreEdit, edit_store};
use super::switch::{self, ExpectAlone, OnDaemonFailure};
use super::times::Times;
use super::{others, second_place, second_staging};
use crate::chain::Chain;
use crate::daemon::first_start::Switch;
use crate::durable::{create_new, sync_each_file, sync_file_system};
use crate::engine::kernel::claim;
use crate::holder::AtWork;
use crate::lock;
use crate::staging::STAGE_NAME;
use crate::sys::syncfs_tells_errors;
use crate::units::{BLOCK_BYTES, Bytes};

/// The staging directory of this run. If it is dropped before [`switch`](Self::switch), it is removed, unless it
/// contains something that a later run must continue from or take back.
#[derive(Debug)]
pub struct Stage {
    root: PathBuf,
    path: PathBuf,
    /// Where the containers' configs are staged: here, or beside them.
    configs: PathBuf,
    journal: Journal,
    /// Whether it stays for a later run.
    keep: bool,
    untold: OnDaemonFailure,
}

/// A container's configuration file with the storage driver changed.
#[derive(Clone, Debug)]
pub struct EditedConfig {
    /// The file, relative to the Docker root: `containers/<id>/config.v2.json`.
    pub path: PathBuf,
    /// Its content before.
    pub original: Vec<u8>,
    /// Its new content.
    pub content: Vec<u8>,
}

impl EditedConfig {
    /// Checks that the file still has the content that was edited.
    fn expect_original(&self, root: &Path) -> Result<(), Error> {
        let path = root.join(&self.path);
        let now = fs::read(&path).map_err(Error::io(&path, "read"))?;
        if now == self.original {
            Ok(())
        } else {
            Err(Error::Changed { path })
        }
    }
}

/// The lock on a root that only this run works on. The lock is on the open directory, leaves no trace and ends with the
/// process.
#[derive(Debug)]
pub struct RootLock {
    _directory: Option<Flock<File>>,
}

impl RootLock {
    /// Locks the root. Docker's pid file keeps other runs out too, but not a run that was given another pid file, and
    /// not if there is no directory for it.
    ///
    /// # Errors
    ///
    /// [`Error::Busy`] if another run has it.
    pub fn acquire(root: &Path) -> Result<Self, Error> {
        let directory = File::open(root).map_err(Error::io(root, "open"))?;
        match lock::exclusive(directory) {
            Ok(directory) => Ok(Self {
                _directory: Some(directory),
            }),
            Err(Errno::EWOULDBLOCK) => Err(Error::Busy {
                path: root.to_owned(),
                holder: AtWork::on(root),
            }),
            Err(errno) => {
                // NFS cannot lock directories.
                log::debug!("{}: cannot be locked: {errno}", root.display());
                Ok(Self { _directory: None })
            }
        }
    }
}

impl Stage {
    /// Creates the staging directory in `root`, replacing one from which nothing was moved yet, and begins the journal.
    /// `order` is what a later run needs to know to continue.
    ///
    /// # Errors
    ///
    /// [`Error::Io`], and [`Error::Unfinished`] if there is a conversion that has to be finished first.
    pub fn create(root: &Path, order: Value) -> Result<Self, Error> {
        let leftover = Leftover::look_for(root)?;
        if let Some(state) = leftover.state().filter(|state| *state != State::Writing) {
            return Err(Error::Unfinished {
                path: root.to_owned(),
                state,
            });
        }
        match &leftover {
            Leftover::None => {}
            Leftover::Stage(path) => remove_leftover(path)?,
            Leftover::Conversion(path, story) => {
                let configs = second_place::configs(root, path, story.beside.as_ref());
                let files = others::in_stage(root, (path, &configs), Some(story))?;
                others::expect_none(root, files, "convert")?;
                // As in a rollback: a kill must not leave a journal that lists layers as durable although they are
                // gone.
                Journal::reopen(path)?.note_undone();
                remove_stage(path)?;
            }
        }
        let path = root.join(STAGE_NAME);
        let times = Times::of(root, "").map_err(Error::io(root, "stat"))?;
        create_dir(&path, 0o700)?;
        let journal = Journal::create(&path, times, order).inspect_err(|_| {
            // It contains nothing that anybody could continue from.
            drop(remove_leftover(&path));
        })?;
        let mut stage = Self {
            root: root.to_owned(),
            configs: path.clone(),
            path,
            journal,
            keep: false,
            untold: OnDaemonFailure::TakeBack,
        };
        let beside = second_staging::create(root, &stage.journal)?;
        stage.configs = second_place::configs(root, &stage.path, beside.as_ref());
        Ok(stage)
    }

    /// Continues in a staging directory in which layers were being written. Everything except the pool is made anew.
    ///
    /// # Errors
    ///
    /// [`Error::Io`].
    pub fn reopen(root: &Path) -> Result<Self, Error> {
        let path = root.join(STAGE_NAME);
        expect_unmounted_stage(root)?;
        let story = JournalState::read(&path)?;
        let beside = story.as_ref().and_then(|story| story.beside.clone());
        let configs = second_place::configs(root, &path, beside.as_ref());
        let files = others::in_stage(root, (&path, &configs), story.as_ref())?;
        others::expect_none(root, files, "resume")?;
        let journal = Journal::reopen(&path)?;
        for name in ["image", "containers", "originals", "devicemapper/metadata"] {
            remove_part(&path.join(name))?;
        }
        let beside = match beside {
            None => second_staging::create(root, &journal)?,
            known => known,
        };
        let configs = second_place::configs(root, &path, beside.as_ref());
        for name in ["containers", "originals"] {
            remove_part(&configs.join(name))?;
        }
        Ok(Self {
            root: root.to_owned(),
            configs,
            path,
            journal,
            keep: true,
            untold: OnDaemonFailure::Stay,
        })
    }

    /// The journal.
    pub fn journal(&self) -> &Journal {
        &self.journal
    }

    /// Sets whether it is kept for a later run if this one fails.
    pub fn keep_for_resume(&mut self, keep: bool) {
        self.keep = keep;
    }

    /// Checks that the root's file system has room for `needed` bytes, counting the space that an earlier run's
    /// leftovers will free.
    ///
    /// # Errors
    ///
    /// [`Error::Space`] if it has not.
    pub fn check_space(root: &Path, needed: Bytes) -> Result<(), Error> {
        let stat = statvfs(root)
            .map_err(|errno| Error::io(root, "determine its free space")(errno.into()))?;
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

    /// Bytes that [`copy_image_store`](Self::copy_image_store) will need, with each file rounded up to 4 KiB.
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

    /// Creates the driver's home, which becomes `devicemapper`, with the owner of the (remapped) root.
    ///
    /// # Errors
    ///
    /// [`Error::Io`].
    pub fn create_driver_home(&self, owner: (u32, u32)) -> Result<PathBuf, Error> {
        let home = self.path.join("devicemapper");
        ensure_owned_dir(&home, owner)?;
        Ok(home)
    }

    /// Creates the directory of the pool's two loop files, and returns their paths: data, metadata.
    ///
    /// # Errors
    ///
    /// [`Error::Io`].
    pub fn create_loop_directory(&self, owner: (u32, u32)) -> Result<(PathBuf, PathBuf), Error> {
        let loops = self.path.join("devicemapper/devicemapper");
        ensure_owned_dir(&loops, owner)?;
        Ok((loops.join("data"), loops.join("metadata")))
    }

    /// Writes the driver's own files into `devicemapper/metadata/`; each is given as a name and its content.
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
            let mut file = create_new(&path)?;
            io::Write::write_all(&mut file, &content).map_err(Error::io(&path, "write"))?;
        }
        Ok(())
    }

    /// Copies `image/aufs`; the copy becomes `image/devicemapper`. It differs from the original only by the edits.
    ///
    /// # Errors
    ///
    /// [`Error::Io`].
    pub fn copy_image_store(&self, edits: &[StoreEdit]) -> Result<(), Error> {
        let copy = self.path.join("image");
        copy_tree(&self.root.join("image/aufs"), &copy)?;
        edit_store(&copy, edits)
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
                .map_err(Error::io(&original, "stat"))?;
            let staged = self.configs.join(&config.path);
            let parent = staged
                .parent()
                .expect("a config lies in its container's directory");
            create_private_dirs(parent)?;
            write_file(&staged, &config.content, &like)?;
        }
        Ok(())
    }

    /// Makes everything staged durable, then moves it into place and, if requested, switches the daemon, unless
    /// somebody else is at work. The staging directory stays, for the way back.
    ///
    /// # Errors
    ///
    /// [`Error::NotAlone`], [`Error::Exists`] and [`Error::Io`]: nothing has moved. [`Error::HalfWay`]: the root is
    /// between the two states, and the error says how to get out of that.
    pub fn switch(
        &mut self,
        configs: &[EditedConfig],
        daemon: Option<Switch>,
        read: &BranchesRead,
        alone: ExpectAlone<'_>,
    ) -> Result<(), Error> {
        let ground = self.ground();
        let mut switching = self.prepare_switch(configs, daemon, read)?;
        for step in &switching.moves {
            step.keep_original(ground)?;
        }
        self.sync_staged()?;
        switching.data = PoolData::of(&self.path.join("devicemapper"))?;
        // As late as possible: whoever wrote one since wants that version to stay.
        configs
            .iter()
            .try_for_each(|config| config.expect_original(&self.root))?;
        let kept = self.keep;
        // This record distinguishes a kill after this point from one before it.
        self.journal
            .append(&Record::Switching(Box::new(switching.clone())))?;
        let switched = switch::begin(
            &switching,
            self.ground(),
            &self.journal,
            (alone, self.untold),
        );
        self.keep = match &switched {
            Ok(()) | Err(Error::HalfWay { .. }) => true,
            Err(_) => kept,
        };
        switched
    }

    fn ground(&self) -> Roots<'_> {
        Roots {
            root: &self.root,
            stage: &self.path,
            configs: &self.configs,
        }
    }

    fn prepare_switch(
        &self,
        configs: &[EditedConfig],
        daemon: Option<Switch>,
        read: &BranchesRead,
    ) -> Result<SwitchPlan, Error> {
        let mut moves = vec![
            place("devicemapper", "devicemapper"),
            place("image", "image/devicemapper"),
        ];
        let mut directories = vec!["image".to_owned()];
        for config in configs {
            let path = config.path.to_str().expect("container ids are text");
            moves.push(replace(path));
            if let Some((directory, _)) = path.rsplit_once('/')
                && directories.last().is_none_or(|last| last != directory)
            {
                directories.push(directory.to_owned());
            }
        }
        let times = directories
            .iter()
            .map(|path| {
                Times::of(&self.root, path).map_err(Error::io(&self.root.join(path), "stat"))
            })
            .collect::<Result<_, _>>()?;
        let parts = Parts {
            home: &self.path.join("devicemapper"),
            image: &self.path.join("image"),
            configs: &self.configs,
            root: &self.root,
        };
        Ok(SwitchPlan {
            moves,
            times,
            written: FileDigests::of(&parts)?,
            data: None,
            aufs: Some(AufsSide::of(
                &self.root,
                parts.image,
                &names_in(&parts.home.join("metadata"))?,
                read,
            )?),
            daemon,
        })
    }

    fn sync_staged(&self) -> Result<(), Error> {
        let mut places = vec![&self.path];
        if self.configs != self.path {
            places.push(&self.configs);
        }
        for place in places {
            if !syncfs_tells_errors() {
                sync_each_file(place)?;
            }
            sync_file_system(place)?;
        }
        Ok(())
    }

    fn remove(&mut self) -> Result<(), Error> {
        self.keep = true;
        self.journal.note_undone();
        remove_stage(&self.path)
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        if self.keep {
            return;
        }
        if self.path.join(claim::FILE).symlink_metadata().is_ok() {
            log::warn!(
                "{}: is kept, because it contains the record of what the next run undoes",
                self.path.display()
            );
        } else if let Err(error) = self.remove() {
            log::warn!("{}; the next run removes it", Chain(&error));
        }
    }
}

/// Bytes on disk below a directory that may be missing, or may be disappearing.
fn bytes_held_by(path: &Path) -> u64 {
    let files = WalkDir::new(path)
        .follow_links(false)
        .same_file_system(true)
        .into_iter()
        .flatten();
    let blocks = files.filter_map(|entry| entry.metadata().ok()?.blocks().into());
    512 * blocks.sum::<u64>()
}

fn create_dir(path: &Path, mode: u32) -> Result<(), Error> {
    DirBuilder::new()
        .mode(mode)
        .create(path)
        .map_err(Error::io(path, "create"))?;
    Ok(())
}

/// Creates a directory that may already exist because of an interrupted run.
fn ensure_owned_dir(path: &Path, (uid, gid): (u32, u32)) -> Result<(), Error> {
    match DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        created => created.map_err(Error::io(path, "create"))?,
    }
    chown(path, Some(uid), Some(gid)).map_err(Error::io(path, "set its owner"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_staging_directory_goes_unless_it_has_a_record() {
        let root = tempfile::tempdir().unwrap();
        let stage = Stage::create(root.path(), Value::Null).unwrap();
        let path = stage.path().to_owned();
        drop(stage);
        assert!(!path.exists());
        let stage = Stage::create(root.path(), Value::Null).unwrap();
        fs::write(path.join(claim::FILE), "{}").unwrap();
        drop(stage);
        assert!(path.join(claim::FILE).exists());
    }

    #[test]
    fn what_is_kept_can_be_gone_on_with_and_the_small_files_are_made_anew() {
        let root = tempfile::tempdir().unwrap();
        let mut stage = Stage::create(root.path(), Value::Null).unwrap();
        stage.create_driver_home((0, 0)).unwrap();
        stage.write_device_files([("base", vec![])]).unwrap();
        stage.keep_for_resume(true);
        drop(stage);
        let leftover = Leftover::look_for(root.path()).unwrap();
        assert_eq!(leftover.state(), Some(State::Writing));
        let stage = Stage::reopen(root.path()).unwrap();
        stage.create_driver_home((0, 0)).unwrap();
        stage.write_device_files([("base", vec![])]).unwrap();
    }
}
