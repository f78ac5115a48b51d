//! Decides what becomes of what is damaged, before anything is written.

use std::collections::HashMap;

use super::damage::Damage;
use super::error::Error;
use super::open_root::OpenRoot;
use crate::commit::StoreEdit;
use crate::docker::{CacheId, ChainId, Class, DamageRecord, Model, NewContent, StoreEdits};
use crate::source;
use crate::tree::{Kind, LayerTree};

impl OpenRoot {
    /// Adds the damage that was found in the branches, and leaves out what cannot be converted.
    ///
    /// # Errors
    ///
    /// [`Error::Damaged`] with all objects that Docker shows and that cannot be converted, unless they are to be left
    /// out.
    pub(super) fn settle_damage(&mut self, found: Vec<(CacheId, Damage)>) -> Result<(), Error> {
        self.model.leave_out_layers(found.iter().map(|(id, _)| id));
        self.damage
            .extend(found.into_iter().map(|(_, damage)| damage));
        self.damage
            .sort_by(|a, b| (a.class, &a.path).cmp(&(b.class, &b.path)));
        let is_damaged = |damage: &&Damage| damage.class == Class::Damaged;
        let refused: Vec<_> = self.damage.iter().filter(is_damaged).cloned().collect();
        if !refused.is_empty() && !self.request.choices.skip_damaged {
            return Err(Error::Damaged {
                path: self.root.path().to_owned(),
                damage: refused,
            });
        }
        self.damage.iter_mut().for_each(Damage::leave_out);
        let told = self.damage.iter().map(ToString::to_string);
        self.notices.extend(told);
        Ok(())
    }

    /// The changes to the copy of the image store, with the sizes of the layers that were read.
    pub(super) fn store_edits(&self, layers: &[source::Layer]) -> Vec<StoreEdit> {
        let sizes: HashMap<&CacheId, u64> = layers
            .iter()
            .map(|layer| (&layer.id, bytes_in(&layer.tree)))
            .collect();
        let size_of = |chain: &ChainId| {
            let layer = self.model.layers.get(chain)?;
            sizes.get(&layer.cache).copied()
        };
        let edits = self
            .model
            .store_changes()
            .into_iter()
            .map(|change| StoreEdit {
                content: match change.content {
                    NewContent::Bytes(bytes) => Some(bytes),
                    NewContent::SizeOf(chain) => {
                        Some(size_of(&chain).unwrap_or(0).to_string().into_bytes())
                    }
                    NewContent::Nothing => None,
                },
                path: change.path,
            });
        edits.collect()
    }

    /// What the journal records of the damage.
    pub(super) fn damage_record(&self, edits: &[StoreEdit]) -> DamageRecord {
        let root = self.root.path();
        let inner = |damage: &Damage| {
            let inner = damage.path.strip_prefix(root).unwrap_or(&damage.path);
            inner.to_string_lossy().into_owned()
        };
        let files = edits
            .iter()
            .map(|edit| (edit.path.as_path(), edit.content.as_deref()));
        let containers = self.model.left_out.containers.iter();
        DamageRecord {
            edits: StoreEdits::of(files),
            left_out: left_out(&self.model),
            containers: containers.map(ToString::to_string).collect(),
            paths: self.damage.iter().map(inner).collect(),
        }
    }
}

/// The images and containers that are left out, for people.
pub(super) fn left_out(model: &Model) -> Vec<String> {
    let users = model.users_left_out();
    users.iter().map(ToString::to_string).collect()
}

/// The size of a layer as Docker's aufs driver counts it: each file once, and symbolic links by their targets. Source:
/// moby v20.10 `pkg/directory/directory_unix.go`, `Size`.
fn bytes_in(tree: &LayerTree) -> u64 {
    let sizes = tree.nodes().map(|(_, node)| match &node.kind {
        Kind::Regular(file) => file.size,
        Kind::Symlink(target) => target.len() as u64,
        _ => 0,
    });
    sizes.fold(0, u64::saturating_add)
}
