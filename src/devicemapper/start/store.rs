//! Checks the image store and the containers, and whether each of their layers has a device.

use std::ffi::OsStr;

use super::fault::StartFault;
use super::files::Devices;
use super::subject::Home;
use crate::chain::Chain;
use crate::docker::{
    CONFIG, CacheId, ContainerId, Diagnostics, Dir, Fault, ImageStore, LEGACY_CONFIG, ReadError,
    Status, Subject, read_containers,
};
use crate::tree::escape;

/// Reads the stores as the daemon does.
pub(super) fn check(
    home: &Home,
    devices: &Devices,
    faults: &mut Vec<StartFault>,
) -> Result<(), ReadError> {
    let image = Dir::open(&home.image)?;
    // Docker does not start without it.
    image.dir("layerdb")?;
    let mut notes = Diagnostics::default();
    let store = ImageStore::read(&image, &mut notes);
    store.check_images(&mut notes);
    let has_device = |cache: &CacheId| devices.contains_key(OsStr::new(cache.as_str()));
    for (&chain, layer) in &store.layers.sound {
        if !has_device(&layer.cache) {
            let cache = layer.cache.clone();
            faults.push(StartFault::LayerWithoutDevice { chain, cache });
        }
    }
    for (container, mount) in &store.mounts.sound {
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
        let has_mount = |container: &_| store.mounts.sound.contains_key(container);
        let root = Dir::open(root)?;
        check_containers(&root, has_mount, faults);
        let with_mount = store.mounts.sound.keys();
        check_configs(&root, with_mount, faults);
    }
    faults.extend(notes.faults.iter().map(|(subject, fault)| {
        let message = Chain(fault).to_string();
        match (subject, fault) {
            // Docker ignores that name.
            (_, Fault::BadReference { .. }) => StartFault::Store { message },
            (Subject::References, _) => StartFault::References { message },
            _ => StartFault::Store { message },
        }
    }));
    let warnings = notes.warnings.iter().map(ToString::to_string);
    faults.extend(warnings.map(|message| StartFault::Store { message }));
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
