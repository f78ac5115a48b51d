//! Makes sure, right before the result is moved in place, that it was made of what is there now.
//!
//! The engines look at a file again when they have read its bytes; everything else was read once, at the beginning. A second walk
//! over all names, without contents, finds the rest: each change moves the change time of an entry or of its directory, and that
//! time no program can set.

use std::collections::BTreeMap;
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rayon::prelude::*;
use walkdir::WalkDir;

use super::error::Error;
use super::read::{read_layer, threads};
use super::write::Prepared;
use crate::docker::{CONFIG, LEGACY_CONFIG};
use crate::progress::{Phase, Progress};
use crate::staging::STAGE_NAME;
use crate::tree::first_difference;

/// What Docker's own files beside the branches were: which there are, and for those that are copied or replaced, which file it is,
/// its attributes and its times.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Stores(BTreeMap<PathBuf, Option<File>>);

/// Inode, type and mode, owner, group, size, modification and change time.
type File = (u64, u32, u32, u32, u64, [(i64, i64); 2]);

impl Stores {
    /// Looks at them. What cannot be read is left out: whoever needs it says why.
    pub(super) fn look(root: &Path) -> Self {
        let mut files = BTreeMap::new();
        for part in ["image/aufs", "aufs/layers"] {
            let walk = WalkDir::new(root.join(part)).follow_links(false);
            for entry in walk.into_iter().filter_map(Result::ok) {
                let file = entry.metadata().ok().map(|meta| identity(&meta));
                files.insert(entry.into_path(), file);
            }
        }
        for branch in below(&root.join("aufs/diff"), 1) {
            files.insert(branch.into_path(), None);
        }
        let staged = root.join("containers").join(STAGE_NAME);
        for entry in below(&root.join("containers"), 2) {
            if entry.path().starts_with(&staged) {
                continue;
            }
            let is_config = entry.file_name() == CONFIG || entry.file_name() == LEGACY_CONFIG;
            if entry.depth() == 1 {
                files.insert(entry.into_path(), None);
            } else if is_config {
                // Logs and the like are not taken along: who trims them does no harm.
                let file = entry.metadata().ok().map(|meta| config_identity(&meta));
                files.insert(entry.into_path(), file);
            }
        }
        Self(files)
    }

    /// The first file that is not what it was in `self`.
    fn difference<'a>(&'a self, now: &'a Self) -> Option<(&'a Path, &'static str)> {
        let changed = |(path, file): (&'a PathBuf, &Option<File>)| match now.0.get(path) {
            None => Some((path.as_path(), "was removed")),
            Some(same) if same == file => None,
            Some(_) => Some((path.as_path(), "changed")),
        };
        // The directory of a new file comes before it and has changed too, but says less.
        let added = now.0.keys().find(|path| !self.0.contains_key(*path));
        added
            .map(|path| (path.as_path(), "was added"))
            .or_else(|| {
                self.0
                    .iter()
                    .filter(|(_, file)| !is_directory(**file))
                    .find_map(changed)
            })
            .or_else(|| self.0.iter().find_map(changed))
    }
}

fn below(directory: &Path, depth: usize) -> impl Iterator<Item = walkdir::DirEntry> {
    WalkDir::new(directory)
        .follow_links(false)
        .min_depth(1)
        .max_depth(depth)
        .into_iter()
        .filter_map(Result::ok)
}

fn identity(meta: &Metadata) -> File {
    let times = [
        (meta.mtime(), meta.mtime_nsec()),
        (meta.ctime(), meta.ctime_nsec()),
    ];
    (
        meta.ino(),
        meta.mode(),
        meta.uid(),
        meta.gid(),
        meta.len(),
        times,
    )
}

/// The change time left out: a second name of the config, which an interrupted run has made for the way back and which a resumed one
/// removes, moves it. Its bytes are compared before it is replaced.
fn config_identity(meta: &Metadata) -> File {
    let (inode, mode, uid, gid, size, [modified, _]) = identity(meta);
    (inode, mode, uid, gid, size, [modified, (0, 0)])
}

fn is_directory(file: Option<File>) -> bool {
    let kind = nix::sys::stat::SFlag::S_IFMT.bits();
    file.is_none_or(|(_, mode, ..)| mode & kind == nix::sys::stat::SFlag::S_IFDIR.bits())
}

impl Prepared {
    /// Reads all names and attributes once more.
    ///
    /// # Errors
    ///
    /// [`Error::LayerChanged`] and [`Error::StoreChanged`] name the first entry that is not what it was; [`Error::Branch`],
    /// [`Error::Interrupted`].
    pub(super) fn expect_unchanged(&self, progress: &dyn Progress) -> Result<(), Error> {
        let layers: Vec<_> = self
            .work
            .plan()
            .devices
            .iter()
            .filter_map(|device| device.layer.as_ref())
            .collect();
        let pool = threads(self.source.request.jobs)?;
        progress.start(Phase::Recheck, layers.len() as u64);
        let same: Result<(), Error> = pool.install(|| {
            layers
                .into_par_iter()
                .try_for_each(|layer| self.expect_layer(layer).inspect(|()| progress.inc(1)))
        });
        progress.finish();
        // Last, since Docker's own files are few: a container that was made meanwhile shows in both.
        same.and_then(|()| self.expect_stores())
    }

    fn expect_layer(&self, layer: &crate::source::Layer) -> Result<(), Error> {
        let model = &self.source.model;
        let Some(place) = model.place_of(&layer.id) else {
            return Ok(());
        };
        let now = read_layer(&self.source, &model.aufs[place])?;
        match first_difference(&layer.tree, &now.tree) {
            None => Ok(()),
            Some(difference) => Err(Error::LayerChanged {
                layer: layer.id.clone(),
                hits: model.users_of(&layer.id),
                difference,
            }),
        }
    }

    fn expect_stores(&self) -> Result<(), Error> {
        let now = Stores::look(self.source.root.path());
        match self.source.stores.difference(&now) {
            None => Ok(()),
            Some((path, what)) => Err(Error::StoreChanged {
                path: path.to_owned(),
                what,
            }),
        }
    }
}
