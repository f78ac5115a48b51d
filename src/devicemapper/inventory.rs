//! The [`Inventory`] of a root with Docker's devicemapper driver: a converted root, or one that always had that driver.

use std::path::Path;

use super::device_files::DeviceFiles;
use crate::docker::{
    ContainerId, ContainerSummary, Diagnostics, Dir, Error, Inventory, Owner, ProblemSummary,
    Repairs, StoreDirs, Stores, Users, Warning, WarningSummary, count_volumes, image_summaries,
    is_of_either_driver, remapped_below, settle, sum,
};

/// The driver's name, and that of its directory.
const DRIVER: &str = "devicemapper";

impl Inventory {
    /// Whether a root has Docker's state with the devicemapper driver.
    pub fn is_devicemapper(root: &Path) -> bool {
        let has_both = || {
            let root = Dir::open(root)?;
            let image = root.dir("image")?.dir(DRIVER)?;
            Ok::<_, crate::docker::ReadError>(root.has_dir(DRIVER)? && image.has_dir("layerdb")?)
        };
        has_both().unwrap_or(false)
    }

    /// Takes an inventory of a root with the devicemapper driver, from its stores and the driver's small files. Does
    /// not open the pool.
    ///
    /// # Errors
    ///
    /// The root's own directories cannot be read.
    pub fn of_devicemapper(path: &Path) -> Result<Self, Error> {
        let root = Dir::open(path)?;
        let image = root.dir("image")?.dir(DRIVER)?;
        let devices = DeviceFiles::read(&path.join(DRIVER))?;
        let mut notes = Diagnostics::default();
        let dirs = StoreDirs {
            root: &root,
            image: Some(&image),
            aufs: None,
        };
        let stores = Stores::read(dirs, is_of_either_driver, Repairs::Off, &mut notes);
        stores.image.layers.check(&mut notes);
        stores.image.check_images(&mut notes);
        let users = stores.users();
        let images = image_summaries(
            &stores.image.images.by_id,
            &stores.image.layers.sound,
            &users,
        );
        let containers = containers(&stores, &devices, &users);
        let (problems, warnings) = settle(notes, &users, &stores.stack);
        let faults = devices.faults.iter().map(|fault| ProblemSummary {
            message: fault.to_string(),
            hits: crate::docker::Hits::default(),
            class: None,
            consequence: String::new(),
        });
        Ok(Self {
            root: path.to_path_buf(),
            driver: DRIVER,
            layout: "content-addressed",
            docker_versions: "1.10 to 24.0",
            owner: Owner::of_root(path),
            images,
            containers,
            nr_image_layers: stores.image.layers.sound.len(),
            nr_aufs_layers: 0,
            nr_devices: Some(devices.layers.len()),
            nr_buildkit_layers: devices.layers.keys().filter(|id| id.is_buildkit()).count(),
            buildkit: stores.buildkit,
            image_layer_bytes: sum(stores.image.layers.sound.values().map(|layer| layer.size.0)),
            nr_volumes: count_volumes(&root)?,
            orphans: Vec::new(),
            remapped_roots: remapped_below(&root)?,
            has_devicemapper: true,
            problems: problems
                .iter()
                .map(ProblemSummary::new)
                .chain(faults)
                .collect(),
            warnings: warnings
                .iter()
                .filter(|warning| is_of_images(warning))
                .map(WarningSummary::new)
                .collect(),
        })
    }
}

/// Whether a warning is about images. The other warnings say what a conversion of the root would leave out.
fn is_of_images(warning: &Warning) -> bool {
    matches!(
        warning,
        Warning::ImageUnverified { .. }
            | Warning::ImageWithoutLayers { .. }
            | Warning::DanglingReference { .. }
            | Warning::NoRepositories
    )
}

fn containers(stores: &Stores, devices: &DeviceFiles, users: &Users) -> Vec<ContainerSummary> {
    let has_device = |id: &ContainerId| {
        let mount = stores.image.mounts.sound.get(id);
        mount.is_some_and(|mount| devices.layers.contains_key(mount.rw.cache_id()))
    };
    let mut containers: Vec<_> = stores
        .containers
        .iter()
        .map(|(id, container)| {
            let is_its = container.driver == DRIVER && has_device(id);
            ContainerSummary::new((id, container), users, is_its)
        })
        .collect();
    containers.sort_by(|a, b| (&a.name, &a.id).cmp(&(&b.name, &b.id)));
    containers
}
