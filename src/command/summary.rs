//! The result of a conversion in numbers. The field names are part of the `--json` interface.

use std::collections::HashSet;
use std::time::Duration;

use serde::Serialize;

use super::container_room::{ContainerRoom, fullest};
use super::damage::Damage;
use super::first_start::target;
use super::lost_flags::LostFlags;
use super::planned_conversion::PlannedConversion;
use crate::commit::EditedConfig;
use crate::daemon::first_start::{Switch, is_applied, min_free, settings_file};
use crate::devicemapper::driver_files::FileSystem;
use crate::docker::Status;
use crate::engine::{Job, WrittenPool};
use crate::plan::{DeviceIndex, LaidDevice, Layout, PlannedDevice};
use crate::verify::LayerDamage;

/// A finished conversion.
#[derive(Debug)]
pub(super) struct Outcome {
    /// The pool that was written.
    pub(super) pool: WrittenPool,
    /// Layers that the verification found to have been damaged before.
    pub(super) damaged: Vec<LayerDamage>,
    /// How long it took to write and move into place.
    pub(super) elapsed: Duration,
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
    /// Containers that keep another driver.
    pub containers_left: usize,
    /// Layers, each a thin device.
    pub layers: usize,
    /// Number of names in all branches.
    pub entries: u64,
    /// Sum of the files' sizes in all branches, bytes.
    pub source_bytes: u64,
    /// Files with `chattr` flags, which no device gets.
    pub flags: LostFlags,
    /// Layers that already differed from what Docker had unpacked before they were converted.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub damaged: Vec<LayerDamage>,
    /// Damaged objects, and what becomes of each.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub damage: Vec<Damage>,
    /// Images and containers that are left out, each with its names.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub left_out: Vec<String>,
    /// The engine that writes the pool.
    pub engine: &'static str,
    /// The devices' file system.
    pub file_system: FileSystem,
    /// What the daemon must be told about the pool besides the driver, as its `storage-opts`.
    pub storage_opts: Vec<String>,
    /// Bytes of pool data that the layers occupy; in a plan of the kernel engine, an upper estimate.
    pub data_bytes: u64,
    /// 4 KiB blocks that the layers change, stored in [`data_bytes`](Self::data_bytes) of the pool. Only the direct
    /// engine knows this.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub changed_blocks: Option<u64>,
    /// 4 KiB blocks of pool metadata; estimated in the same way.
    pub metadata_blocks: u64,
    /// Virtual size of each device, bytes.
    pub base_size: u64,
    /// The containers whose file systems are fullest, the fullest first; absent if the engine does not decide that.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub fullest: Vec<ContainerRoom>,
    /// Free space of the pool in loop files, bytes, below which Docker creates no container and no layer
    /// (`dm.min_free_space`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_free: Option<u64>,
    /// Free space on the disk that holds the pool's sparse files, bytes; in a plan, what will be left.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disk_free: Option<u64>,
    /// Size of the sparse data file, bytes; absent if the pool is on given devices.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data_size: Option<u64>,
    /// Size of the sparse metadata file, bytes; absent in the same case.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metadata_size: Option<u64>,
    /// UUID of the base file system; absent from a plan of the kernel engine, because mkfs chooses it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uuid: Option<String>,
    /// The pool's transaction id.
    pub transaction_id: u64,
    /// Time to write and move into place, milliseconds; absent from a plan.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub elapsed_ms: Option<u64>,
    /// Peak memory use of the process, KiB.
    pub peak_memory_kib: u64,
    /// What the operator should know.
    pub notices: Vec<String>,
    /// The file that holds Docker's settings on this host; absent if nothing shows which one it is.
    #[serde(
        skip_serializing_if = "Option::is_none",
        serialize_with = "crate::path_form::serialize_known"
    )]
    pub settings_file: Option<std::path::PathBuf>,
    /// The daemon's file, if it was changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub daemon_json: Option<DaemonFile>,
    /// What Docker must be told by hand before it starts because it is not in `daemon.json`; each with its file and
    /// line.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub by_hand: Vec<String>,
    /// Whether Docker's settings were already right, so that nothing needs to be changed.
    #[serde(skip)]
    pub is_told: bool,
    /// The reasons why a run would refuse, each with its way out.
    pub obstacles: Vec<String>,
    /// Each thin device.
    pub devices: Vec<DeviceSummary>,
}

/// A `daemon.json` that now names devicemapper.
#[derive(Clone, Debug, Serialize)]
pub struct DaemonFile {
    /// The file.
    pub path: std::path::PathBuf,
    /// The previous file, which a rollback restores; absent if there was none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub original: Option<std::path::PathBuf>,
}

impl DaemonFile {
    /// The result of the change, if one was ordered.
    fn of(ordered: Option<&Switch>) -> Option<Self> {
        let switch = ordered?;
        match switch {
            Switch::Edit(edit) if is_applied(switch)? => Some(Self {
                path: edit.path.clone(),
                original: edit.original(),
            }),
            _ => None,
        }
    }
}

/// One thin device in numbers.
#[derive(Clone, Debug, Serialize)]
pub struct DeviceSummary {
    /// The layer's id; absent for the base device.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub layer: Option<String>,
    /// Its device id in the pool.
    pub device_id: u32,
    /// The device it is a snapshot of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parent: Option<u32>,
    /// Its place in the pool, if known before the pool is written.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub laid: Option<LaidSummary>,
}

/// What the direct engine knows about a device.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct LaidSummary {
    /// First data block of its own in the pool, in units of 64 KiB.
    pub first_data_block: u64,
    /// The number of data blocks of its own.
    pub data_blocks: u64,
    /// Inodes in use in its file system.
    pub inodes: u32,
    /// 4 KiB blocks in use in its file system.
    pub blocks: u32,
}

impl Summary {
    /// The summary; `done` is `None` if the conversion is only planned.
    pub(super) fn new(prepared: &PlannedConversion, done: Option<Outcome>) -> Self {
        let PlannedConversion {
            source,
            job,
            configs,
            counts,
            lost_flags,
            daemon,
            ..
        } = prepared;
        let is_done = done.is_some();
        let plan = job.plan();
        let pool = PoolSummary::new(&**job, done.as_ref());
        let others = |status: Status| status != Status::Dead;
        let left = source
            .model
            .containers
            .values()
            .filter(|container| !container.is_aufs() && others(container.status));
        Self {
            root: source.path().to_owned(),
            converted: is_done,
            images: source.model.images.len(),
            containers: nr_containers(configs),
            containers_left: left.count(),
            layers: plan.devices.len() - 1,
            entries: counts.entries,
            source_bytes: counts.bytes.0,
            flags: lost_flags.clone(),
            damaged: done.map_or_else(Vec::new, |done| done.damaged),
            damage: source.damage.clone(),
            left_out: prepared.damage.left_out.clone(),
            engine: job.engine(),
            file_system: plan.file_system,
            storage_opts: job.storage_opts(),
            data_bytes: pool.data_bytes,
            changed_blocks: job.layout().map(changed_blocks),
            metadata_blocks: pool.metadata_blocks,
            base_size: plan.base_size.0,
            fullest: fullest(&source.model, &**job),
            min_free: job
                .pool_sizes()
                .map(|sizes| min_free(&source.request.host, sizes.data).0),
            disk_free: disk_free(prepared, is_done),
            data_size: job.pool_sizes().map(|sizes| sizes.data.0),
            metadata_size: job.pool_sizes().map(|sizes| sizes.metadata.0),
            uuid: pool.uuid,
            transaction_id: plan.transaction_id(),
            elapsed_ms: pool.elapsed_ms,
            peak_memory_kib: peak_memory_kib(),
            notices: source.notices.clone(),
            settings_file: settings_file(&source.request.host),
            daemon_json: is_done.then(|| DaemonFile::of(daemon.as_ref())).flatten(),
            by_hand: source.by_hand.clone(),
            is_told: source.is_told,
            obstacles: source.obstacles.clone(),
            devices: devices(&**job),
        }
    }
}

/// The free space on the disk below the pool's files.
fn disk_free(prepared: &PlannedConversion, is_done: bool) -> Option<u64> {
    let job = &*prepared.job;
    let left = target(&prepared.source, job).files?.disk_free?;
    // What is planned is already written then.
    let written = if is_done { job.bytes_needed().0 } else { 0 };
    Some(left.0.saturating_add(written))
}

/// What is known about the pool before or after it is written.
struct PoolSummary {
    data_bytes: u64,
    metadata_blocks: u64,
    uuid: Option<String>,
    elapsed_ms: Option<u64>,
}

impl PoolSummary {
    fn new(job: &dyn Job, done: Option<&Outcome>) -> Self {
        if let Some(Outcome { pool, elapsed, .. }) = done {
            return Self {
                data_bytes: pool.data_bytes.0,
                metadata_blocks: pool.metadata_blocks.0,
                uuid: Some(pool.base_uuid.to_string()),
                elapsed_ms: u64::try_from(elapsed.as_millis()).ok(),
            };
        }
        let usage = job.pool_usage();
        Self {
            data_bytes: usage.data.0,
            metadata_blocks: usage.metadata.0,
            uuid: job.base_uuid().map(|uuid| uuid.to_string()),
            elapsed_ms: None,
        }
    }
}

fn changed_blocks(layout: &Layout) -> u64 {
    let changed = |laid: &LaidDevice| laid.delta.metadata_blocks + laid.delta.data_blocks;
    layout.devices.iter().map(changed).sum()
}

fn devices(job: &dyn Job) -> Vec<DeviceSummary> {
    let all = &job.plan().devices;
    let summary = |(at, device): (usize, &PlannedDevice)| DeviceSummary {
        layer: device.layer.as_ref().map(|layer| layer.id.to_string()),
        device_id: device.thin_id.value(),
        parent: device.parent.map(|DeviceIndex(at)| all[at].thin_id.value()),
        laid: job
            .layout()
            .map(|layout| LaidSummary::new(&layout.devices[at])),
    };
    all.iter().enumerate().map(summary).collect()
}

impl LaidSummary {
    fn new(laid: &LaidDevice) -> Self {
        let usage = laid.image.usage();
        Self {
            first_data_block: laid.first_block.0,
            data_blocks: laid.clusters.len() as u64,
            inodes: usage.inodes - usage.free_inodes,
            blocks: usage.blocks - usage.free_blocks,
        }
    }
}

/// The number of containers; each can have more than one configuration file.
fn nr_containers(configs: &[EditedConfig]) -> usize {
    let directories: HashSet<_> = configs.iter().map(|config| config.path.parent()).collect();
    directories.len()
}

/// The process's peak memory use in KiB; 0 if the system does not report it.
fn peak_memory_kib() -> u64 {
    nix::sys::resource::getrusage(nix::sys::resource::UsageWho::RUSAGE_SELF)
        .ok()
        .and_then(|usage| u64::try_from(usage.max_rss()).ok())
        .unwrap_or(0)
}
