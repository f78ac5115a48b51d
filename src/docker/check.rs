//! Checks Docker's stores against the aufs driver's layers, and records which object needs which.

use std::collections::{BTreeMap, HashSet};
use std::path::PathBuf;

use super::container_state::Status;
use super::diagnostics::{Diagnostics, Subject};
use super::fault::Fault;
use super::id::{CacheId, ChainId, ContainerId, ImageId};
use super::model::Use;
use super::mount::Mount;
use super::reference::Reference;
use super::stores::Stores;
use super::users::{Names, Users};
use super::warning::Warning;

impl Stores {
    /// Checks the stores against each other.
    pub(super) fn check(&self, notes: &mut Diagnostics) {
        self.image.layers.check(notes);
        self.check_layers(notes);
        self.check_mounts(notes);
        self.check_containers(notes);
    }

    /// Checks that each image layer is in aufs and has the aufs layer of its parent as its parent.
    fn check_layers(&self, notes: &mut Diagnostics) {
        let registered: HashSet<_> = self
            .image
            .layers
            .sound
            .values()
            .map(|layer| &layer.cache)
            .collect();
        for (&chain, layer) in &self.image.layers.sound {
            let subject = Subject::Chain(chain);
            let file = self.image.layers.dir_of(chain).join("cache-id");
            let place = notes.keep(&subject, self.place(&layer.cache, file));
            let Some(place) = place.flatten() else {
                continue;
            };
            let expected = match layer.parent {
                None => None,
                Some(parent) => match self.image.layers.sound.get(&parent) {
                    Some(parent) => Some(&parent.cache),
                    None => continue, // already reported as missing or damaged
                },
            };
            let found = self.stack.parent_of(place);
            // BuildKit can build the same layer a second time. Docker then keeps the first in its store, while the
            // layers built on top have the second as their parent, whose contents are equal.
            // Source: moby `layer/migration.go`, `RegisterByGraphID`, and
            // `builder/builder-next/adapters/snapshot/layer.go`.
            let built_twice =
                |parent: &CacheId| parent.is_buildkit() && !registered.contains(parent);
            match found.filter(|parent| expected.is_some() && built_twice(parent)) {
                Some(parent) => {
                    let (layer, parent) = (layer.cache.clone(), parent.clone());
                    notes.warn(Warning::ParentOfBuildKit { layer, parent });
                }
                None => {
                    notes.keep(&subject, self.expect_parent(place, expected));
                }
            }
        }
    }

    /// The index of a layer that a file of a store names; `None` if the layer is damaged, which is reported separately.
    fn place(&self, id: &CacheId, path: PathBuf) -> Result<Option<usize>, Fault> {
        match self.stack.index.get(id) {
            None => Err(Fault::NotInAufs {
                path,
                id: id.clone(),
            }),
            Some(&place) => Ok(Some(place).filter(|place| self.stack.layers[*place].sound)),
        }
    }

    fn expect_parent(&self, place: usize, expected: Option<&CacheId>) -> Result<(), Fault> {
        let found = self.stack.parent_of(place);
        if found == expected {
            return Ok(());
        }
        let path = self.stack.list_of(&self.stack.layers[place].id);
        let (found, expected) = (found.cloned(), expected.cloned());
        Err(Fault::ParentDiffers {
            path,
            found,
            expected,
        })
    }

    fn check_mounts(&self, notes: &mut Diagnostics) {
        for (id, mount) in &self.image.mounts.sound {
            self.check_mount(id, mount, notes);
            if !id.is_buildkit() && !self.containers.contains_key(id) {
                notes.warn(Warning::MountWithoutContainer {
                    container: id.clone(),
                });
            }
        }
    }

    /// Checks that the image layers that containers name exist.
    pub(super) fn check_mount_parents(&self, notes: &mut Diagnostics) {
        for (id, mount) in &self.image.mounts.sound {
            let missing = |parent: &ChainId| !self.image.layers.present.contains(parent);
            if let Some(parent) = mount.parent.filter(missing) {
                let path = self.image.mounts.dir_of(id).join("parent");
                let subject = Subject::Mount(id.clone());
                notes.fault(subject, Fault::ParentChainMissing { path, parent });
            }
        }
    }

    /// Checks that a writable layer has its init layer as its parent, and the init layer the image's top layer.
    fn check_mount(&self, id: &ContainerId, mount: &Mount, notes: &mut Diagnostics) {
        let subject = Subject::Mount(id.clone());
        let dir = self.image.mounts.dir_of(id);
        let mut below = None;
        if let Some(parent) = mount.parent {
            match self.image.layers.sound.get(&parent) {
                Some(layer) => below = Some(&layer.cache),
                None if self.image.layers.present.contains(&parent) => return, // its own faults are reported
                None => {
                    notes.fault(
                        subject,
                        Fault::ParentChainMissing {
                            path: dir.join("parent"),
                            parent,
                        },
                    );
                    return;
                }
            }
        }
        let init = mount.init.as_ref().map(|init| (init, "init-id"));
        for (id, file) in init.into_iter().chain([(&mount.rw, "mount-id")]) {
            let place = notes.keep(&subject, self.place(id.cache_id(), dir.join(file)));
            if let Some(place) = place.flatten() {
                notes.keep(&subject, self.expect_parent(place, below));
            }
            below = Some(id.cache_id());
        }
    }

    fn check_containers(&self, notes: &mut Diagnostics) {
        let faulty: HashSet<_> = notes
            .faults
            .iter()
            .map(|(subject, _)| subject.clone())
            .collect();
        for (id, container) in self
            .containers
            .iter()
            .filter(|(_, container)| container.is_aufs())
        {
            let mounted = self.image.mounts.sound.contains_key(id)
                || faulty.contains(&Subject::Mount(id.clone()));
            if !mounted && !container.is_legacy() {
                notes.warn(Warning::ContainerWithoutMount {
                    container: id.clone(),
                });
            }
            if let Some(image) = container.image
                && !self.image.images.by_id.contains_key(&image)
                && !faulty.contains(&Subject::Image(image))
            {
                notes.warn(Warning::ContainerImageGone {
                    container: id.clone(),
                    image,
                });
            }
        }
    }

    /// The direct users of each aufs layer, by the layer's index.
    pub(super) fn uses(&self) -> Vec<Vec<Use>> {
        let mut uses = vec![Vec::new(); self.stack.layers.len()];
        let mut add = |id: &CacheId, used: Use| {
            if let Some(&place) = self.stack.index.get(id) {
                uses[place].push(used);
            }
        };
        for (&chain, layer) in &self.image.layers.sound {
            add(&layer.cache, Use::ImageLayer(chain));
        }
        for (id, mount) in &self.image.mounts.sound {
            add(mount.rw.cache_id(), Use::Writable(id.clone()));
            if let Some(init) = &mount.init {
                add(init.cache_id(), Use::Init(id.clone()));
            }
        }
        for id in &self.graph {
            add(id, Use::Graph);
        }
        for id in self
            .containers
            .iter()
            .filter(|(_, container)| container.is_legacy())
            .map(|(id, _)| id)
        {
            for layer in legacy_layers(id) {
                add(&layer, Use::LegacyContainer(id.clone()));
            }
        }
        for (layer, uses) in self.stack.layers.iter().zip(&mut uses) {
            if self.buildkit && uses.is_empty() && layer.id.is_buildkit() {
                uses.push(Use::BuildKit);
            }
        }
        uses
    }

    /// The graph of which object needs which. It includes damaged objects.
    pub(crate) fn users(&self) -> Users {
        let mut users = Users::new(self.names());
        for (&chain, step) in &self.image.images.chains {
            if let Some(parent) = step.parent {
                users.needs(Subject::Chain(chain), Subject::Chain(parent));
            }
        }
        for (&id, image) in &self.image.images.by_id {
            if let Some(top) = image.top {
                users.needs(Subject::Image(id), Subject::Chain(top));
            }
        }
        for (&chain, layer) in &self.image.layers.sound {
            users.needs(Subject::Chain(chain), Subject::Cache(layer.cache.clone()));
            if let Some(parent) = layer.parent {
                users.needs(Subject::Chain(chain), Subject::Chain(parent));
            }
        }
        for (place, layer) in self.stack.layers.iter().enumerate() {
            if let Some(parent) = self.stack.parent_of(place) {
                users.needs(
                    Subject::Cache(layer.id.clone()),
                    Subject::Cache(parent.clone()),
                );
            }
        }
        self.add_mounts(&mut users);
        self.add_containers(&mut users);
        users
    }

    fn names(&self) -> Names {
        let mut references: BTreeMap<ImageId, Vec<Reference>> = BTreeMap::new();
        for (reference, &image) in &self.image.names.references {
            references.entry(image).or_default().push(reference.clone());
        }
        for names in references.values_mut() {
            names.sort_by_key(Reference::is_digest);
        }
        let containers = self
            .containers
            .iter()
            .map(|(id, container)| (id.clone(), container.name.clone()));
        Names {
            containers: containers.collect(),
            references,
            buildkit: self.buildkit,
        }
    }

    fn add_mounts(&self, users: &mut Users) {
        for (id, mount) in &self.image.mounts.sound {
            let subject = || Subject::Mount(id.clone());
            users.needs(subject(), Subject::Cache(mount.rw.cache_id().clone()));
            if let Some(init) = &mount.init {
                users.needs(subject(), Subject::Cache(init.cache_id().clone()));
            }
            if let Some(parent) = mount.parent {
                users.needs(subject(), Subject::Chain(parent));
            }
        }
    }

    fn add_containers(&self, users: &mut Users) {
        for (id, container) in &self.containers {
            // A container whose deletion is under way may lack its layers. Nothing is lost by that.
            if !(self.own)(&container.driver) || container.status == Status::Dead {
                continue;
            }
            users.needs(Subject::Container(id.clone()), Subject::Mount(id.clone()));
            if container.is_legacy() {
                for layer in legacy_layers(id) {
                    users.needs(Subject::Container(id.clone()), Subject::Cache(layer));
                }
            }
        }
        for image in &self.graph {
            let old = ImageId::from_file_name(image.as_str().as_bytes());
            if let Some(old) = old.filter(|_| self.stack.index.contains_key(image)) {
                users.needs(Subject::Image(old), Subject::Cache(image.clone()));
            }
        }
    }
}

/// The aufs layers of a container from before Docker 1.10: its own id, and its init layer.
fn legacy_layers(id: &ContainerId) -> [CacheId; 2] {
    let valid = "a container id is made of letters and digits";
    let init = format!("{id}-init");
    [id.as_str(), &init].map(|text| CacheId::parse(text.as_bytes()).expect(valid))
}
