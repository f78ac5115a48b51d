//! Checks, before the layers of an interrupted conversion are removed, that they are not the only copy: what aufs lost
//! since they were written exists nowhere else.

use std::collections::BTreeMap;
use std::path::Path;

use rayon::prelude::*;

use super::error::Error;
use super::read::{layer_of, read_branch};
use super::recorded_options::{
    PlanRecord, RecordedOptions, images_without_layers, started_at, with_own_layer,
};
use crate::chain::Chain;
use crate::commit::{JournalState, Leftover, State};
use crate::docker::{
    self, AufsLayer, CONFIG, Class, ContainerId, CopyFault, LEGACY_CONFIG, Model, Orphans, Problem,
    Root, StoreEdits, Survey, Use,
};
use crate::plan::LayerMark;
use crate::progress::Cancel;
use crate::tree::LayerTree;

/// Checks that aufs has everything that the conversion in `leftover` has written.
///
/// # Errors
///
/// [`Error::SourceLost`], [`Error::Interrupted`]; nothing has been changed.
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

/// Checks the same for a conversion that is known to have been interrupted while it wrote layers into the staging
/// directory `stage`.
///
/// # Errors
///
/// As for [`expect_whole_source`].
pub(super) fn expect_all_of(
    (path, stage): (&Path, &Path),
    story: &JournalState,
    cancel: &Cancel,
) -> Result<(), Error> {
    let planned = RecordedOptions::planned_in(story);
    expect_store(path, stage, planned.as_ref())?;
    let lost_source = |lost| lost_source(path, lost);
    if story.durable.is_empty() {
        return Ok(());
    }
    let root = Root::open(path)?;
    let model = Survey::read(&root).into_model(Orphans::LeaveOut);
    let model = model.map_err(|error| lost_source(Chain(&error).to_string()))?;
    let Some(planned) = planned else {
        return Ok(());
    };
    if let Some(lost) = damaged_since(path, &model, &planned) {
        return Err(lost_source(lost));
    }
    let marks: BTreeMap<&str, &LayerMark> = planned
        .durable(story)
        .map(|mark| (mark.id.as_str(), mark))
        .collect();
    let view = View {
        root: &root,
        model: &model,
        planned: &planned,
        is_same_place: planned.is_same_place(path),
    };
    if let Some(lost) = view.lost_records() {
        return Err(lost_source(lost));
    }
    let layers = model.aufs.par_iter();
    let marked = layers.filter_map(|layer| Some((layer, *marks.get(layer.id.as_str())?)));
    let lost: Result<Vec<_>, Error> = marked
        .map(|(layer, mark)| view.lost(layer, mark, cancel))
        .collect();
    match lost?.into_iter().flatten().next() {
        Some(lost) => Err(lost_source(lost)),
        None => Ok(()),
    }
}

/// Checks the same for the image store alone.
///
/// # Errors
///
/// [`Error::SourceLost`]; nothing has been changed.
pub(super) fn expect_store_of(
    (path, stage): (&Path, &Path),
    story: &JournalState,
) -> Result<(), Error> {
    let planned = RecordedOptions::planned_in(story);
    expect_store(path, stage, planned.as_ref())
}

fn expect_store(path: &Path, stage: &Path, planned: Option<&PlanRecord>) -> Result<(), Error> {
    let none = StoreEdits::default();
    let edits = planned.map_or(&none, |planned| &planned.damage.edits);
    match lost_of_store(path, stage, edits) {
        Some(lost) => Err(lost_source(path, lost)),
        None => Ok(()),
    }
}

fn lost_source(path: &Path, lost: String) -> Error {
    Error::SourceLost {
        path: path.to_owned(),
        lost,
    }
}

/// The first damage that was not there when the conversion was planned.
fn damaged_since(path: &Path, model: &Model, planned: &PlanRecord) -> Option<String> {
    let is_new = |problem: &&Problem| {
        let at = problem.fault.path();
        let inner = at.strip_prefix(path).unwrap_or(at).to_string_lossy();
        problem.class != Class::Kept && !planned.damage.paths.contains(&*inner)
    };
    let new = model.problems.iter().find(is_new)?;
    Some(new.to_string())
}

/// The aufs side as it is now, and what was planned.
struct View<'a> {
    root: &'a Root,
    model: &'a Model,
    planned: &'a PlanRecord,
    /// Whether change times are meaningful.
    is_same_place: bool,
}

impl View<'_> {
    /// An image or container that still exists but lost its layers and their records: Docker removes them all together.
    fn lost_records(&self) -> Option<String> {
        let now = images_without_layers(self.root.path());
        let image = now.difference(&self.planned.images_without_layers).next();
        if let Some(image) = image {
            return Some(format!("image {image}: no longer has its layers"));
        }
        let now = with_own_layer(self.model);
        let mut lost = self.planned.containers.difference(&now);
        let is_there = |id: &&String| {
            let directory = self.root.path().join("containers").join(id);
            [CONFIG, LEGACY_CONFIG]
                .iter()
                .any(|name| directory.join(name).is_file())
        };
        let container = lost.find(is_there)?;
        Some(format!(
            "container {container}: no longer has its own layer"
        ))
    }

    /// How a layer differs from what was converted, if it does. A layer that Docker removed is in no model; a container
    /// that was started since may have any layer.
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
        let read = layer_of((self.root, self.model), layer, branch);
        let (now, tree) = (LayerMark::of(&read), read.tree);
        let what = if now.content != mark.content {
            "differs from what was written to its device"
        } else if self.is_same_place && now.times != mark.times {
            "was written to, or replaced by a copy, after its device was written"
        } else {
            return Ok(None);
        };
        let latest = latest_change(&tree);
        let hits = self.model.users_of(&layer.id);
        Ok(Some(format!(
            "layer {}: {what} (its latest change: {latest}; {hits})",
            layer.id
        )))
    }

    fn may_change(&self, used: &Use) -> bool {
        match used {
            Use::Writable(id) => self.was_used(id),
            _ => false,
        }
    }

    /// Whether a container was started since. A changed config alone is no sign of that: a disk may have changed it
    /// too.
    fn was_used(&self, id: &ContainerId) -> bool {
        let now = |name: &str| started_at(&self.root.read_config(id, name).ok()?);
        [CONFIG, LEGACY_CONFIG].iter().any(|name| {
            let then = self.planned.started.get(&format!("containers/{id}/{name}"));
            then.zip(now(name)).is_some_and(|(then, now)| now != *then)
        })
    }
}

/// The last change to a layer, by the time that nobody can set. If a name is gone, this is the directory that contained
/// it.
fn latest_change(tree: &LayerTree) -> String {
    let latest = tree.nodes().max_by_key(|(_, node)| node.meta.ctime);
    latest.map_or_else(String::new, |(id, _)| tree.display_path(id))
}

/// What the image store of aufs lost after it was copied to the staging directory.
fn lost_of_store(path: &Path, stage: &Path, edits: &StoreEdits) -> Option<String> {
    let (copy, store) = (stage.join("image"), path.join("image/aufs"));
    if !copy.is_dir() {
        return None;
    }
    // The two stores have swapped roles: what was copied is what the other must have. The copy was not synced, so its
    // bytes prove nothing.
    let faults = docker::copy_faults(&copy, &store, &StoreEdits::default()).into_iter();
    // The original never had what was written again.
    let is_rebuilt = |at: &Path| {
        let inner = at.strip_prefix(&store).unwrap_or(at);
        edits.touches(&inner.to_string_lossy())
    };
    let mut missing = faults
        .filter(|fault| matches!(fault, CopyFault::Missing { path, .. } if !is_rebuilt(path)));
    if let Some(lost) = missing.next() {
        return Some(Chain(&lost).to_string());
    }
    let has_buildkit = path.join("buildkit").symlink_metadata().is_ok();
    match docker::lost_images(&copy, &store, &StoreEdits::default(), has_buildkit) {
        Ok(lost) => lost.into_iter().next(),
        Err(error) => Some(Chain(&error).to_string()),
    }
}
