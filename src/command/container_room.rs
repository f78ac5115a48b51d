//! How much room containers have: on aufs that of the host's disk, with devicemapper a file system of a fixed size each.

use serde::Serialize;

use super::open_root::OpenRoot;
use crate::docker::{Model, Status};
use crate::engine::Job;
use crate::plan::LaidDevice;
use crate::tree::escape;
use crate::units::Bytes;

/// The number of containers that are named.
const SHOWN: usize = 5;

/// From this percentage on, a container may soon fail to write.
const ALMOST_FULL: u64 = 80;

/// How full the file system of a container is after the conversion.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ContainerRoom {
    /// The container's name, or its id if it has none.
    pub name: String,
    /// Used blocks or used inodes, whichever is more, in percent of all.
    pub percent: u64,
}

/// The fullest containers, the fullest first. None if the engine does not decide where blocks go.
pub(super) fn fullest(model: &Model, job: &dyn Job) -> Vec<ContainerRoom> {
    let Some(layout) = job.layout() else {
        return Vec::new();
    };
    let percent_of = |layer: &str| {
        let devices = job.plan().devices.iter();
        let is_it = |device: &crate::plan::PlannedDevice| {
            let own = device.layer.as_ref();
            own.is_some_and(|own| own.id.as_str() == layer)
        };
        let at = devices.into_iter().position(is_it)?;
        layout.devices.get(at).map(percent)
    };
    let mut found: Vec<_> = model
        .containers
        .iter()
        .filter(|(_, container)| container.is_aufs() && container.status != Status::Dead)
        .filter_map(|(id, container)| {
            let mount = model.mounts.get(id)?;
            let name = if container.name.is_empty() {
                id.to_string()
            } else {
                container.name.clone()
            };
            Some(ContainerRoom {
                name,
                percent: percent_of(&mount.rw.to_string())?,
            })
        })
        .collect();
    found.sort_by(|a, b| (b.percent, &a.name).cmp(&(a.percent, &b.name)));
    found.truncate(SHOWN);
    found
}

/// Used blocks or inodes, whichever is more, in percent of all.
fn percent(device: &LaidDevice) -> u64 {
    let usage = device.image.usage();
    let part =
        |all: u32, free: u32| u64::from(all.saturating_sub(free)) * 100 / u64::from(all.max(1));
    part(usage.blocks, usage.free_blocks).max(part(usage.inodes, usage.free_inodes))
}

/// The containers' names with their percentages.
fn listed(rooms: &[ContainerRoom]) -> String {
    let one = |room: &ContainerRoom| format!("{} {} %", escape(room.name.as_bytes()), room.percent);
    rooms.iter().map(one).collect::<Vec<_>>().join(", ")
}

/// What the operator should know about containers that are almost full.
pub(super) fn notice(source: &OpenRoot, job: &dyn Job) -> Option<String> {
    let mut almost_full = fullest(&source.model, job);
    almost_full.retain(|room| room.percent >= ALMOST_FULL);
    let limit = job.plan().base_size;
    let larger = Bytes(limit.0.saturating_mul(2)).0 >> 30;
    (!almost_full.is_empty()).then(|| {
        format!(
            "with devicemapper each container's file system is limited to {limit}, and a full one fails to write: {}; a \
             larger limit, such as --base-size {}G, gives all of them more room",
            listed(&almost_full),
            larger.max(1)
        )
    })
}
