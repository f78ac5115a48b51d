//! The paths of containers' configs in a root.

use crate::docker::ContainerId;

/// The files of a container that contain the name of its driver.
pub(super) const CONFIGS: [&str; 2] = ["config.v2.json", "config.json"];

/// The container's directory of `containers/<id>/<config>`; `None` for any other path.
pub(super) fn directory_of_config(path: &str) -> Option<&str> {
    let (directory, name) = path.rsplit_once('/')?;
    let id = directory.strip_prefix("containers/")?;
    let is_config = CONFIGS.contains(&name) && is_container(id);
    is_config.then_some(directory)
}

/// Whether `id` is a valid container id.
pub(super) fn is_container(id: &str) -> bool {
    ContainerId::parse(id.as_bytes()).is_ok()
}
