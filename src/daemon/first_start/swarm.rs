//! Whether the host is a node of a swarm, which starts a node's tasks elsewhere while its Docker is stopped.
//!
//! Source: moby v20.10 `daemon/cluster/cluster.go`, `stateFile`, which a node removes when it leaves its swarm.

use std::path::Path;

use super::outlook::Finding;
use crate::daemon::config::HostFiles;
use crate::docker::{Model, Root};
use crate::shell::word;

/// The state of a node, in the root.
const STATE: &str = "docker-state.json";

/// The label of a container that belongs to a task.
const TASK: &[u8] = b"\"com.docker.swarm.task.id\"";

/// What the operator should know about a swarm.
pub(super) fn findings(files: &HostFiles, root: &Root, model: &Model) -> Vec<Finding> {
    let swarm = root.data.dir.dir_following_if_any("swarm").ok().flatten();
    let is_node = swarm.is_some_and(|dir| matches!(dir.kind(STATE), Ok(Some(_))));
    let is_task = |id: &&crate::docker::ContainerId| {
        let config = root
            .read_config(id, crate::docker::CONFIG)
            .unwrap_or_default();
        memchr::memmem::find(&config, TASK).is_some()
    };
    let tasks = model.containers.keys().filter(is_task).count();
    if !is_node {
        return Vec::new();
    }
    let name = files.read(Path::new("/etc/hostname")).ok().flatten();
    let name = name.unwrap_or_default();
    let name = String::from_utf8_lossy(name.trim_ascii()).into_owned();
    let is_name = !name.is_empty() && !name.chars().any(char::is_control);
    let name = if is_name { &*name } else { "NODE" };
    let node = word(Path::new(name));
    let message = format!(
        "this host is a node of a swarm, with {tasks} containers of its tasks: while its Docker is stopped, the swarm \
         starts them on other nodes, and the first start removes those that are here: drain it on a manager before \
         Docker is stopped: `docker node update --availability drain {node}`, and afterwards `docker node update \
         --availability active {node}`"
    );
    vec![Finding::warning("swarm-node", message)]
}
