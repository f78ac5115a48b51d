//! Leaves damaged objects out of a model, with everything that is built on them, and says how the new image store then
//! differs from the original.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::diagnostics::Subject;
use super::id::CacheId;
use super::image_names;
use super::model::Model;
use super::repair::{NewContent, RecordChange};
use super::users::User;

impl Model {
    /// Leaves out layers of the driver and everything that is built on them.
    pub fn leave_out_layers<'i>(&mut self, ids: impl IntoIterator<Item = &'i CacheId>) {
        let subjects = ids.into_iter().map(|id| Subject::Cache(id.clone()));
        let subjects: Vec<_> = subjects.collect();
        self.leave_out(&subjects);
    }

    /// Leaves out objects and everything that needs them.
    pub(super) fn leave_out(&mut self, subjects: &[Subject]) {
        for subject in self.users.reach_all(subjects) {
            self.left_out.add(subject);
        }
        for subject in subjects {
            self.left_out.add(subject);
        }
        let left = &self.left_out;
        self.images.retain(|id, _| !left.images.contains(id));
        self.references
            .retain(|_, image| !left.images.contains(image));
        self.layers.retain(|chain, _| !left.chains.contains(chain));
        self.mounts.retain(|id, _| !left.mounts.contains(id));
        let layers = left.layers.clone();
        self.retain(|layer| !layers.contains(&layer.id));
    }

    /// The images and containers that are left out, with their names.
    pub fn users_left_out(&self) -> Vec<User> {
        let images = self.left_out.images.iter().map(|id| User::Image {
            id: *id,
            references: self.users.references_of(*id).to_vec(),
        });
        let containers = self.left_out.containers.iter().map(|id| User::Container {
            id: id.clone(),
            name: self.users.name_of(id),
        });
        images.chain(containers).collect()
    }

    /// How the new image store differs from the original: what is rebuilt, and what is left out. Paths are relative to
    /// the store; nothing else differs.
    pub fn store_changes(&self) -> Vec<RecordChange> {
        let gone = self.left_out.paths();
        let is_gone = |path: &Path| path.ancestors().any(|above| gone.contains(above));
        let mut changes: BTreeMap<PathBuf, NewContent> = self
            .changes
            .iter()
            .filter(|change| !is_gone(&change.path))
            .map(|change| (change.path.clone(), change.content.clone()))
            .collect();
        let is_kept = |image| !self.left_out.images.contains(&image);
        let names = PathBuf::from(image_names::FILE);
        if let Some(text) = self.names.rewritten(is_kept) {
            changes.insert(names, NewContent::Bytes(text));
        } else if self.names.is_damaged {
            changes.insert(names, NewContent::Nothing);
        }
        changes.extend(gone.into_iter().map(|path| (path, NewContent::Nothing)));
        let change = |(path, content)| RecordChange { path, content };
        changes.into_iter().map(change).collect()
    }
}
