//! What happens to containers: those that Docker will not load, with their volumes, and those that it starts by itself.

use std::fmt::Write as _;

use super::outlook::Finding;
use crate::docker::{
    CONFIG, Container, ContainerId, LEGACY_CONFIG, Model, Root, Status, Warning, volumes_of,
};

/// The number of names that one message lists.
const SHOWN: usize = 20;

/// What the operator should know about the root's containers before Docker starts.
pub(super) fn findings(root: &Root, model: &Model) -> Vec<Finding> {
    let mut findings = Vec::new();
    let behind = model.containers.iter().filter_map(|(id, container)| {
        let why = why_not_loaded(model, id, container)?;
        let volumes = volumes(root, id, container);
        (!volumes.is_empty()).then(|| (name(id, container), why, volumes))
    });
    for (name, why, volumes) in behind {
        let message = format!(
            "container {name}: {why}, so Docker does not load it, and `docker volume prune` deletes its volumes as \
             unused: {}: do not prune, or copy them first",
            listed(&volumes)
        );
        findings.push(Finding::warning("volumes-unprotected", message));
    }
    let loaded = model
        .containers
        .iter()
        .filter(|(id, container)| why_not_loaded(model, id, container).is_none());
    let (mut started, mut removed) = (Vec::new(), Vec::new());
    for (id, container) in loaded {
        if container.will_start {
            started.push(format!("{} ({})", name(id, container), container.restart));
        } else if container.auto_remove {
            removed.push(name(id, container));
        }
    }
    if !started.is_empty() {
        let message = format!(
            "Docker's first start also starts these containers, because of their restart policies: {}: `docker update \
             --restart=no` before Docker is stopped prevents that",
            listed(&started)
        );
        findings.push(Finding::remark("will-start", message));
    }
    if !removed.is_empty() {
        let message = format!(
            "Docker's first start removes these containers, because they were started with --rm: {}",
            listed(&removed)
        );
        findings.push(Finding::remark("will-be-removed", message));
    }
    findings
}

/// Why Docker will not load a container; `None` if it will.
fn why_not_loaded(model: &Model, id: &ContainerId, container: &Container) -> Option<String> {
    if !container.is_aufs() && container.driver != super::choice::DRIVER {
        return Some(format!("belongs to driver {:?}", container.driver));
    }
    if container.status == Status::Dead {
        return None; // the daemon continues its removal
    }
    if !model.mounts.contains_key(id) {
        return Some("has no mount".to_owned());
    }
    let other_id = |warning: &Warning| matches!(warning, Warning::ContainerIdDiffers { container, .. } if container == id);
    model
        .warnings
        .iter()
        .any(other_id)
        .then(|| "has a different id in its config".to_owned())
}

fn name(id: &ContainerId, container: &Container) -> String {
    if container.name.is_empty() {
        id.to_string()
    } else {
        crate::tree::escape(container.name.as_bytes())
    }
}

/// The names of a container's volumes. A config that cannot be read is reported by the survey.
fn volumes(root: &Root, id: &ContainerId, container: &Container) -> Vec<String> {
    let file = if container.is_legacy() {
        LEGACY_CONFIG
    } else {
        CONFIG
    };
    let text = root.read_config(id, file).unwrap_or_default();
    let mut volumes = volumes_of(&text).unwrap_or_default();
    volumes.sort_unstable();
    volumes.dedup();
    volumes
}

fn listed(names: &[String]) -> String {
    let shown = names
        .iter()
        .take(SHOWN)
        .map(|name| crate::tree::escape(name.as_bytes()));
    let mut text = shown.collect::<Vec<_>>().join(", ");
    if names.len() > SHOWN {
        // Writing to a String cannot fail.
        let _ = write!(text, " and {} more", names.len() - SHOWN);
    }
    text
}
