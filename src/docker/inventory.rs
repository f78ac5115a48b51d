//! What `inspect` shows about a root. The field names are part of the `--json` interface.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Serialize;

use super::container::Container;
use super::container_state::{RestartPolicy, Status};
use super::data_dir::{DataDir, Owner};
use super::files::{Dir, FileKind, ReadError};
use super::id::{CacheId, ChainId, ContainerId, ImageId};
use super::image::Image;
use super::layer::Layer;
use super::model::{Model, OrphanReason, Use};
use super::problem::{Class, Problem};
use super::reference::Reference;
use super::root::remapped_below;
use super::survey::Survey;
use super::users::{Hits, Users};
use super::warning::Warning;

/// A root in numbers and lists. Sizes are in bytes.
#[derive(Debug, Serialize)]
pub struct Inventory {
    /// The root.
    pub root: PathBuf,
    /// Its storage driver: `aufs` or `devicemapper`.
    pub driver: &'static str,
    /// Its layout: `content-addressed`.
    pub layout: &'static str,
    /// The Docker versions that use this layout with this driver.
    pub docker_versions: &'static str,
    /// The owner on this host of files that belong to root in a container; not 0 with `--userns-remap`.
    pub owner: Owner,
    /// Images, those with names first.
    pub images: Vec<ImageSummary>,
    /// Containers of all drivers, by name.
    pub containers: Vec<ContainerSummary>,
    /// Number of layers in Docker's layer store.
    pub nr_image_layers: usize,
    /// Number of aufs layers that can be converted, orphans included.
    pub nr_aufs_layers: usize,
    /// Number of thin devices of layers, if the driver is devicemapper.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nr_devices: Option<usize>,
    /// Number of layers that only the build cache uses.
    pub nr_buildkit_layers: usize,
    /// Whether there is a build cache.
    pub buildkit: bool,
    /// Sum of the sizes that Docker recorded for its image layers.
    pub image_layer_bytes: u64,
    /// Number of volumes. The conversion does not touch them.
    pub nr_volumes: usize,
    /// aufs layers that nothing uses.
    pub orphans: Vec<OrphanSummary>,
    /// Other roots of `--userns-remap` below this one.
    pub remapped_roots: Vec<PathBuf>,
    /// Whether there is already a devicemapper root.
    pub has_devicemapper: bool,
    /// What is damaged; on an aufs root, with what becomes of it in a conversion.
    pub problems: Vec<ProblemSummary>,
    /// Further facts that the operator should know.
    pub warnings: Vec<WarningSummary>,
}

/// An image.
#[derive(Debug, Serialize)]
pub struct ImageSummary {
    /// Its id.
    pub id: ImageId,
    /// Its tags, then its digests.
    pub references: Vec<Reference>,
    /// Number of layers.
    pub nr_layers: usize,
    /// Sum of the sizes that Docker recorded for its layers.
    pub bytes: u64,
}

/// A container.
#[derive(Debug, Serialize)]
pub struct ContainerSummary {
    /// Its id.
    pub id: ContainerId,
    /// Its name.
    pub name: String,
    /// The image it was created from.
    pub image: Option<ImageId>,
    /// That image's first name.
    pub image_name: Option<Reference>,
    /// Its state when Docker last wrote its config.
    pub status: Status,
    /// Its restart policy.
    pub restart: RestartPolicy,
    /// The driver in its config; empty means aufs.
    pub driver: String,
    /// Whether it belongs to the root's driver and has its layers. On an aufs root it is then converted; on a
    /// devicemapper root Docker loads it.
    pub converted: bool,
}

/// An aufs layer that nothing uses.
#[derive(Debug, Serialize)]
pub struct OrphanSummary {
    /// The layer.
    pub id: CacheId,
    /// Why nothing uses it.
    pub reason: OrphanReason,
}

/// A problem as text.
#[derive(Debug, Serialize)]
pub struct ProblemSummary {
    /// What is wrong and which images and containers it affects.
    pub message: String,
    /// The images and containers that it affects.
    pub hits: Hits,
    /// What becomes of the object in a conversion; null for the devices of a devicemapper root.
    pub class: Option<Class>,
    /// The same in words; empty if there is nothing to say.
    pub consequence: String,
}

/// A warning as text.
#[derive(Debug, Serialize)]
pub struct WarningSummary {
    /// Its kind.
    pub code: &'static str,
    /// Its text.
    pub message: String,
}

impl Inventory {
    /// Takes an inventory of a root.
    ///
    /// # Errors
    /// The root's own directories cannot be listed.
    pub fn new(root: &DataDir, survey: &Survey) -> Result<Self, ReadError> {
        let model = &survey.model;
        let orphans = model.aufs.iter().filter_map(|layer| {
            layer.orphan.map(|reason| OrphanSummary {
                id: layer.id.clone(),
                reason,
            })
        });
        Ok(Self {
            root: root.path().to_path_buf(),
            driver: "aufs",
            layout: "content-addressed",
            docker_versions: "1.10 to 23.0",
            owner: root.owner(),
            images: image_summaries(&model.images, &model.layers, &model.users),
            containers: containers(model),
            nr_image_layers: model.layers.len(),
            nr_aufs_layers: model.aufs.len(),
            nr_devices: None,
            nr_buildkit_layers: model
                .aufs
                .iter()
                .filter(|layer| layer.uses == [Use::BuildKit])
                .count(),
            buildkit: model.buildkit,
            image_layer_bytes: sum(model.layers.values().map(|layer| layer.size.0)),
            nr_volumes: count_volumes(&root.dir)?,
            orphans: orphans.collect(),
            remapped_roots: remapped_below(&root.dir)?,
            has_devicemapper: has_devicemapper(&root.dir)?,
            problems: survey.problems().iter().map(ProblemSummary::new).collect(),
            warnings: survey.warnings().iter().map(WarningSummary::new).collect(),
        })
    }
}

/// Whether there is anything of the devicemapper driver.
fn has_devicemapper(root: &Dir) -> Result<bool, ReadError> {
    let is_taken = |above: &Dir| {
        Ok::<_, ReadError>(match above.kind("devicemapper")? {
            None => false,
            Some(FileKind::Directory) => !above.dir("devicemapper")?.list()?.is_empty(),
            Some(_) => true,
        })
    };
    let in_store = match root.dir_following_if_any("image")? {
        Some(image) => is_taken(&image)?,
        None => false,
    };
    Ok(in_store || is_taken(root)?)
}

/// The sum of sizes. They come from files, so it could overflow; it is at most `u64::MAX`.
pub(crate) fn sum(sizes: impl Iterator<Item = u64>) -> u64 {
    sizes.fold(0, u64::saturating_add)
}

/// The number of volumes. `volumes` may be a link to another disk; it is followed.
pub(crate) fn count_volumes(root: &Dir) -> Result<usize, ReadError> {
    let volumes = match root.dir_following_if_any("volumes")? {
        Some(volumes) => volumes.list()?,
        None => Vec::new(),
    };
    let directories = volumes
        .iter()
        .filter(|entry| entry.kind == FileKind::Directory);
    Ok(directories.count())
}

/// Images with their sizes, those with names first.
pub(crate) fn image_summaries(
    images: &BTreeMap<ImageId, Image>,
    layers: &BTreeMap<ChainId, Layer>,
    users: &Users,
) -> Vec<ImageSummary> {
    let mut images: Vec<_> = images
        .iter()
        .map(|(&id, image)| {
            let mut bytes = 0_u64;
            let mut chain = image.top;
            for _ in 0..image.nr_layers {
                let Some(layer) = chain.and_then(|chain| layers.get(&chain)) else {
                    break;
                };
                bytes = bytes.saturating_add(layer.size.0);
                chain = layer.parent;
            }
            let references = users.references_of(id).to_vec();
            ImageSummary {
                id,
                references,
                nr_layers: image.nr_layers,
                bytes,
            }
        })
        .collect();
    images.sort_by(|a, b| {
        let unnamed = |image: &ImageSummary| image.references.is_empty();
        (unnamed(a), &a.references, a.id).cmp(&(unnamed(b), &b.references, b.id))
    });
    images
}

fn containers(model: &Model) -> Vec<ContainerSummary> {
    let mut containers: Vec<_> = model
        .containers
        .iter()
        .map(|(id, container)| {
            let mount = model.mounts.get(id);
            let has_layers =
                mount.is_some_and(|mount| model.place_of(mount.rw.cache_id()).is_some());
            let is_converted = container.is_aufs() && has_layers;
            ContainerSummary::new((id, container), &model.users, is_converted)
        })
        .collect();
    containers.sort_by(|a, b| (&a.name, &a.id).cmp(&(&b.name, &b.id)));
    containers
}

impl ContainerSummary {
    pub(crate) fn new(
        (id, container): (&ContainerId, &Container),
        users: &Users,
        converted: bool,
    ) -> Self {
        let image_name = container
            .image
            .and_then(|image| users.references_of(image).first().cloned());
        Self {
            id: id.clone(),
            name: container.name.clone(),
            image: container.image,
            image_name,
            status: container.status,
            restart: container.restart,
            driver: container.driver.clone(),
            converted,
        }
    }
}

impl ProblemSummary {
    pub(crate) fn new(problem: &Problem) -> Self {
        Self {
            message: problem.to_string(),
            hits: problem.hits.clone(),
            class: Some(problem.class),
            consequence: problem.consequence(),
        }
    }
}

impl WarningSummary {
    /// A warning for `--json`.
    pub fn new(warning: &Warning) -> Self {
        Self {
            code: warning.code(),
            message: warning.to_string(),
        }
    }
}
