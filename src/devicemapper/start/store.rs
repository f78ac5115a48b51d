//! Checks the image store and the containers, and whether each of their layers has a device.

use std::ffi::OsStr;

use super::fault::StartFault;
use super::files::Devices;
use super::subject::Home;
use crate::chain::Chain;
use crate::docker::{
    CONFIG, CacheId, ContainerId, Diagnostics, Dir, Images, LEGACY_CONFIG, Layers, Mounts,
    ReadError, Status, check_images, read_containers, read_references,
};
use crate::tree::escape;

/// Reads the stores as the daemon does.
pub(super) fn check(
    home: &Home,
    devices: &Devices,
    faults: &mut Vec<StartFault>,
) -> Result<(), ReadError> {
    let image = Dir::open(&home.image)?;
    let mut notes = Diagnostics::default();
    let references = read_references(&image, &mut notes);
    for (_, fault) in std::mem::take(&mut notes.faults) {
        let message = Chain(&fault).to_string();
        faults.push(StartFault::References { message });
    }
    let images = Images::read(&image, &mut notes);
    let layerdb = image.dir("layerdb")?;
    let layers = Layers::read(&layerdb, &mut notes);
    let has_layer = |chain: &_| layers.present.contains(chain);
    check_images(&images.images, &references, has_layer, &mut notes);
    let mounts = Mounts::read(&layerdb, &mut notes);
    let has_device = |cache: &CacheId| devices.contains_key(OsStr::new(cache.as_str()));
    for (&chain, layer) in &layers.sound {
        if !has_device(&layer.cache) {
            let cache = layer.cache.clone();
            faults.push(StartFault::LayerWithoutDevice { chain, cache });
        }
    }
    for (container, mount) in &mounts.mounts {
        let rw = Some(("writable", mount.rw.cache_id()));
        let init = mount.init.as_ref().map(|init| ("init", init.cache_id()));
        for (what, cache) in rw.into_iter().chain(init) {
            if !has_device(cache) {
                faults.push(StartFault::MountWithoutDevice {
                    container: container.clone(),
                    what,
                    cache: cache.clone(),
                });
            }
        }
    }
    if let Some(root) = &home.root {
        let has_mount = |container: &_| mounts.mounts.contains_key(container);
        let root = Dir::open(root)?;
        check_containers(&root, has_mount, faults);
        let with_mount = mounts.mounts.keys();
        check_configs(&root, with_mount, faults);
    }
    let damage = notes
        .faults
        .iter()
        .map(|(_, fault)| Chain(fault).to_string());
    let warnings = notes.warnings.iter().map(ToString::to_string);
    let messages = damage.chain(warnings);
    faults.extend(messages.map(|message| StartFault::Store { message }));
    Ok(())
}

/// Checks for containers that should have been switched to this driver but were not, and for those whose config and
/// image store disagree. Any other fault of a container existed before.
fn check_containers(
    root: &Dir,
    has_mount: impl Fn(&ContainerId) -> bool,
    faults: &mut Vec<StartFault>,
) {
    for (container, config) in read_containers(root, &mut Diagnostics::default()) {
        if config.status == Status::Dead {
            continue;
        }
        let is_ours = config.driver == "devicemapper";
        if is_ours && config.id_in_config != container.as_str() {
            let found = escape(config.id_in_config.as_bytes());
            faults.push(StartFault::OtherId { container, found });
        } else if is_ours && !has_mount(&container) {
            faults.push(StartFault::ContainerWithoutMount { container });
        } else if !is_ours && has_mount(&container) {
            let driver = escape(config.driver.as_bytes());
            faults.push(StartFault::OtherDriver { container, driver });
        } else if config.is_aufs() {
            faults.push(StartFault::NotSwitched { container });
        }
    }
}

/// Checks for containers whose layers are in the image store but whose config is not in `containers/`. A Docker that is
/// killed while it creates or removes a container leaves this, too. What cannot be read is reported by the survey.
fn check_configs<'a>(
    root: &Dir,
    with_mount: impl Iterator<Item = &'a ContainerId>,
    faults: &mut Vec<StartFault>,
) {
    for container in with_mount {
        if let Ok(false) = has_config(root, container) {
            let container = container.clone();
            faults.push(StartFault::MountWithoutConfig { container });
        }
    }
}

fn has_config(root: &Dir, container: &ContainerId) -> Result<bool, ReadError> {
    let Some(containers) = root.dir_if_any("containers")? else {
        return Ok(false);
    };
    let Some(directory) = containers.dir_if_any(container.as_str())? else {
        return Ok(false);
    };
    Ok(directory.kind(CONFIG)?.is_some() || directory.kind(LEGACY_CONFIG)?.is_some())
}
