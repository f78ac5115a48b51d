//! Makes sure that what an interrupted conversion has written is not the only copy, before it is removed: what aufs lost since it was written
//! has no other.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rayon::prelude::*;
use sha2::{Digest, Sha256};

use super::error::Error;
use super::order::{Order, Planned};
use super::read::{layer_of, read_branch};
use crate::chain::Chain;
use crate::commit::{Leftover, State, Story};
use crate::docker::{
    self, AufsLayer, CONFIG, CacheId, ContainerId, CopyFault, LEGACY_CONFIG, Model, Orphans, Root,
    Survey, Use,
};
use crate::engine::Cancel;
use crate::plan::LayerMark;

/// Makes sure that aufs has all that the conversion in `leftover` has written.
///
/// # Errors
///
/// [`Error::WayBackBroken`], [`Error::Interrupted`]; nothing has been changed.
pub(super) fn expect_whole_source(
    path: &Path,
    leftover: &Leftover,
    cancel: &Cancel,
) -> Result<(), Error> {
    match leftover {
        Leftover::Conversion(stage, story) if story.state == State::Writing => {
            expect_all_of((path, stage), story, cancel)
        }
        _ => Ok(()),
    }
}

/// The same of one that is known to be interrupted while it wrote layers, in the staging directory `stage`.
///
/// # Errors
///
/// As [`expect_whole_source`].
pub(super) fn expect_all_of(
    (path, stage): (&Path, &Path),
    story: &Story,
    cancel: &Cancel,
) -> Result<(), Error> {
    expect_store_of((path, stage))?;
    let broken = |broken| broken_source(path, broken);
    if story.durable.is_empty() {
        return Ok(());
    }
    let root = Root::open(path)?;
    let model = Survey::read(&root).into_model(Orphans::LeaveOut);
    let model = model.map_err(|error| broken(Chain(&error).to_string()))?;
    let Some(planned) = Order::planned_in(story) else {
        return Ok(());
    };
    let marks: BTreeMap<&str, &LayerMark> = planned
        .durable(story)
        .map(|mark| (mark.id.as_str(), mark))
        .collect();
    let view = View {
        root: &root,
        model: &model,
        planned: &planned,
    };
    let layers = model.aufs.par_iter();
    let marked = layers.filter_map(|layer| Some((layer, *marks.get(layer.id.as_str())?)));
    let lost: Result<Vec<_>, Error> = marked
        .map(|(layer, mark)| view.lost(layer, mark, cancel))
        .collect();
    match lost?.into_iter().flatten().next() {
        Some(lost) => Err(broken(lost)),
        None => Ok(()),
    }
}

/// The same of the image store alone.
///
/// # Errors
///
/// [`Error::WayBackBroken`]; nothing has been changed.
pub(super) fn expect_store_of((path, stage): (&Path, &Path)) -> Result<(), Error> {
    match lost_of_store(path, stage) {
        Some(lost) => Err(broken_source(path, lost)),
        None => Ok(()),
    }
}

fn broken_source(path: &Path, broken: String) -> Error {
    Error::WayBackBroken {
        path: path.to_owned(),
        broken,
    }
}

/// The aufs side now, and what was planned.
struct View<'a> {
    root: &'a Root,
    model: &'a Model,
    planned: &'a Planned,
}

impl View<'_> {
    /// In what a layer is not what was converted. One that Docker removed is in no model; one of a container that was started since may be
    /// anything.
    fn lost(
        &self,
        layer: &AufsLayer,
        mark: &LayerMark,
        cancel: &Cancel,
    ) -> Result<Option<String>, Error> {
        if layer.uses.iter().any(|used| self.may_change(used)) {
            return Ok(None);
        }
        let branch = match read_branch((self.root, self.model), layer, cancel) {
            Err(Error::Interrupted) => return Err(Error::Interrupted),
            Err(error) => return Ok(Some(Chain(&error).to_string())),
            Ok(branch) => branch,
        };
        let now = LayerMark::of(&layer_of((self.root, self.model), layer, branch));
        let what = if now.content != mark.content {
            "is not what it was when it was written"
        } else if now.times != mark.times {
            "was written to, or replaced by a copy, after it was written to a device"
        } else {
            return Ok(None);
        };
        Ok(Some(told(self.model, &layer.id, what)))
    }

    fn may_change(&self, used: &Use) -> bool {
        match used {
            Use::Writable(id) => self.was_used(id),
            _ => false,
        }
    }

    /// Whether Docker wrote a container's config since: each start does.
    fn was_used(&self, id: &ContainerId) -> bool {
        let now = |name: &str| {
            let bytes = self.root.read_config(id, name).ok()?;
            Some(format!("{:x}", Sha256::digest(bytes)))
        };
        [CONFIG, LEGACY_CONFIG].iter().any(|name| {
            let noted = self.planned.configs.get(&format!("containers/{id}/{name}"));
            noted.is_some_and(|noted| now(name).as_ref() != Some(noted))
        })
    }
}

fn told(model: &Model, id: &CacheId, what: &str) -> String {
    format!("layer {id}: {what} ({})", model.users_of(id))
}

/// What the image store of aufs lost that was copied to the staging directory.
fn lost_of_store(path: &Path, stage: &Path) -> Option<String> {
    let (copy, store) = (stage.join("image"), path.join("image/aufs"));
    if !copy.is_dir() {
        return None;
    }
    // The two have changed their parts: what was copied is what the other must have.
    let mut faults = docker::copy_faults(&copy, &store).into_iter();
    let lost = faults.find(|fault| !is_torn(fault, (&copy, &store)));
    if let Some(lost) = lost {
        return Some(Chain(&lost).to_string());
    }
    let has_buildkit = path.join("buildkit").symlink_metadata().is_ok();
    match docker::lost_images(&copy, &store, has_buildkit) {
        Ok(lost) => lost.into_iter().next(),
        Err(error) => Some(Chain(&error).to_string()),
    }
}

/// Whether a kill has left the copy as it is: it gets its time of modification when it is complete.
fn is_torn(fault: &CopyFault, (copy, store): (&Path, &Path)) -> bool {
    let inner = fault.copy().and_then(|path| path.strip_prefix(store).ok());
    let modified = |path: &Path| {
        let meta = fs::symlink_metadata(path).ok()?;
        Some((meta.mtime(), meta.mtime_nsec()))
    };
    inner.is_some_and(|inner| {
        let theirs = modified(&store.join(inner));
        theirs.is_some() && theirs != modified(&copy.join(inner))
    })
}
