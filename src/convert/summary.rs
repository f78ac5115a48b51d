//! What a conversion did, in numbers. The field names are part of the `--json` interface.

use std::collections::HashSet;
use std::time::Duration;

use serde::Serialize;

use super::execute::Prepared;
use crate::commit::EditedConfig;
use crate::docker::Status;
use crate::plan::{DeviceIndex, LaidDevice, PlannedDevice};

/// How far it went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Only a plan was made.
    Planned,
    /// The root is converted.
    Converted {
        /// How long writing and moving in place took.
        elapsed: Duration,
    },
}

/// A conversion in numbers.
#[derive(Clone, Debug, Serialize)]
pub struct Summary {
    /// The root.
    pub root: std::path::PathBuf,
    /// Whether the root was changed.
    pub converted: bool,
    /// Images in the store.
    pub images: usize,
    /// Containers that were (or would be) switched to devicemapper.
    pub containers: usize,
    /// Containers that stay with another driver.
    pub containers_left: usize,
    /// Layers, each a thin device.
    pub layers: usize,
    /// Names in all branches.
    pub entries: u64,
    /// Sum of the files' sizes in all branches, bytes.
    pub source_bytes: u64,
    /// Bytes written to the pool's data file.
    pub data_bytes: u64,
    /// 4 KiB blocks that the layers change; what [`data_bytes`](Self::data_bytes) is the cost of.
    pub changed_blocks: u64,
    /// Blocks of 4 KiB written to the pool's metadata file.
    pub metadata_blocks: u64,
    /// Virtual size of each device, bytes.
    pub base_size: u64,
    /// Size of the sparse data file, bytes.
    pub data_size: u64,
    /// Size of the sparse metadata file, bytes.
    pub metadata_size: u64,
    /// UUID of the base file system.
    pub uuid: String,
    /// The pool's transaction id.
    pub transaction_id: u64,
    /// Milliseconds that writing and moving in place took; absent from a plan.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub elapsed_ms: Option<u64>,
    /// Most memory the process has held, KiB.
    pub peak_memory_kib: u64,
    /// What the operator should know.
    pub notices: Vec<String>,
    /// Each thin device.
    pub devices: Vec<DeviceSummary>,
}

/// One thin device in numbers.
#[derive(Clone, Debug, Serialize)]
pub struct DeviceSummary {
    /// The layer's id; absent for the base device.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub layer: Option<String>,
    /// The pool's number for it.
    pub device_id: u32,
    /// The device it is a snapshot of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parent: Option<u32>,
    /// First data block of its own in the pool, in units of 64 KiB.
    pub first_data_block: u64,
    /// How many of its own it has.
    pub data_blocks: u64,
    /// Inodes in use in its file system.
    pub inodes: u32,
    /// 4 KiB blocks in use in its file system.
    pub blocks: u32,
}

impl Summary {
    pub(super) fn new(prepared: &Prepared, outcome: Outcome) -> Self {
        let Prepared {
            source,
            layout,
            configs,
            counts,
        } = prepared;
        let plan = &layout.plan;
        let others = |status: Status| status != Status::Dead;
        let left = source
            .model
            .containers
            .values()
            .filter(|container| !container.is_aufs() && others(container.status));
        Self {
            root: source.path().to_owned(),
            converted: outcome != Outcome::Planned,
            images: source.model.images.len(),
            containers: nr_containers(configs),
            containers_left: left.count(),
            layers: plan.devices.len() - 1,
            entries: counts.entries,
            source_bytes: counts.bytes.0,
            data_bytes: layout.data_bytes().0,
            changed_blocks: layout
                .devices
                .iter()
                .map(|device| device.delta.metadata_blocks + device.delta.data_blocks)
                .sum(),
            metadata_blocks: layout.metadata_blocks.0,
            base_size: plan.base_size.0,
            data_size: layout.data_size.0,
            metadata_size: layout.metadata_size.0,
            uuid: layout.uuid.to_string(),
            transaction_id: plan.transaction_id(),
            elapsed_ms: match outcome {
                Outcome::Planned => None,
                Outcome::Converted { elapsed } => u64::try_from(elapsed.as_millis()).ok(),
            },
            peak_memory_kib: peak_memory_kib(),
            notices: source.notices.clone(),
            devices: layout
                .iter()
                .map(|(device, laid)| DeviceSummary::new(device, laid, &plan.devices))
                .collect(),
        }
    }
}

impl DeviceSummary {
    fn new(device: &PlannedDevice, laid: &LaidDevice, all: &[PlannedDevice]) -> Self {
        let usage = laid.image.usage();
        Self {
            layer: device.layer.as_ref().map(|layer| layer.id.to_string()),
            device_id: device.thin_id.value(),
            parent: device.parent.map(|DeviceIndex(at)| all[at].thin_id.value()),
            first_data_block: laid.first_block.0,
            data_blocks: laid.clusters.len() as u64,
            inodes: usage.inodes - usage.free_inodes,
            blocks: usage.blocks - usage.free_blocks,
        }
    }
}

/// A container can have more than one configuration file.
fn nr_containers(configs: &[EditedConfig]) -> usize {
    let directories: HashSet<_> = configs.iter().map(|config| config.path.parent()).collect();
    directories.len()
}

/// The process's own high-water mark, 0 where the system does not tell.
fn peak_memory_kib() -> u64 {
    nix::sys::resource::getrusage(nix::sys::resource::UsageWho::RUSAGE_SELF)
        .ok()
        .and_then(|usage| u64::try_from(usage.max_rss()).ok())
        .unwrap_or(0)
}
