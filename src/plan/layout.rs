//! The place of everything: an ext4 file system for each layer, derived along the layer DAG, then data blocks, then the
//! pool's mappings and times.

use uuid::Uuid;

use super::devices::{DeviceIndex, Options, Plan, PlannedDevice};
use super::error::Error;
use super::graph::{LayerGraph, LayerIndex};
use super::limits::{EntryLimit, LayerLimits, LimitProblem};
use super::outline::{graph_of, in_order_of, outline};
use super::schedule::try_map_parents_first;
use super::size::{self, BaseShape, Lack};
use crate::devicemapper::driver_files::FileSystem;
use crate::devicemapper::{ID_FILE, ROOTFS};
use crate::ext4;
use crate::ext4::write::{CLUSTER_BLOCKS, Delta, EntryProblem, Image, problems_of};
use crate::source::Layer;
use crate::thin::{self, Mapping};
use crate::tree::Meta;
use crate::units::{BLOCK_BYTES, Bytes, DataBlocks, MetaBlocks};

/// The exact content of a device, block by block.
#[derive(Debug)]
pub struct LaidDevice {
    /// Its file system.
    pub image: Image,
    /// The difference between its file system and its parent's.
    pub delta: Delta,
    /// The 64 KiB clusters of the file system that are written for this device, ascending. Cluster *i* of this list
    /// goes to the pool's data block [`first_block`](Self::first_block) + *i*.
    pub clusters: Box<[u32]>,
    /// See [`clusters`](Self::clusters).
    pub first_block: DataBlocks,
}

impl LaidDevice {
    /// The number of bytes that are written for it to the data file.
    pub fn data_bytes(&self) -> Bytes {
        Bytes(self.clusters.len() as u64 * size::DATA_BLOCK.0)
    }

    /// The offset in the data file of a block of this device's file system, in bytes.
    ///
    /// # Panics
    ///
    /// Panics if the block is in none of the [`clusters`](Self::clusters).
    pub fn offset_of(&self, block: u32) -> u64 {
        let place = self
            .clusters
            .binary_search(&(block / CLUSTER_BLOCKS))
            .expect("the block is written for this device");
        let first = (self.first_block.0 + place as u64) * size::DATA_BLOCK.0;
        first + u64::from(block % CLUSTER_BLOCKS) * BLOCK_BYTES
    }
}

/// A plan with the place of every block.
#[derive(Debug)]
pub struct Layout {
    /// The plan.
    pub plan: Plan,
    /// UUID of the base file system.
    pub uuid: Uuid,
    /// Size of the (sparse) data file.
    pub data_size: Bytes,
    /// Size of the (sparse) metadata file.
    pub metadata_size: Bytes,
    /// The number of blocks of the metadata file that will be written. Counted once, because this needs a walk over all
    /// mappings.
    pub metadata_blocks: MetaBlocks,
    /// The plan's devices, in the same order.
    pub devices: Vec<LaidDevice>,
    /// The pool's metadata.
    pub pool: thin::Pool,
}

impl Layout {
    /// The number of bytes that will be written to the data file.
    pub fn data_bytes(&self) -> Bytes {
        Bytes(
            self.devices
                .iter()
                .map(|device| device.data_bytes().0)
                .sum(),
        )
    }

    /// Each device's content, with the device's index in the plan.
    pub fn iter_with_index(&self) -> impl Iterator<Item = (DeviceIndex, &LaidDevice)> {
        (0..).map(DeviceIndex).zip(&self.devices)
    }

    /// Each device of the plan with its content.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&PlannedDevice, &LaidDevice)> {
        self.plan.devices.iter().zip(&self.devices)
    }
}

/// Plans these layers on ext4, block by block.
///
/// # Errors
///
/// [`Error::MissingParent`] and [`Error::Cycle`] if the layers do not form a DAG; [`Error::Limits`] for entries
/// that ext4 cannot hold; [`Error::Layer`] if the file system is too small; [`Error::Size`] if a requested size is not suitable.
pub fn lay_out(layers: Vec<Layer>, options: &Options) -> Result<Layout, Error> {
    let graph = graph_of(&layers)?;
    let layers = in_order_of(&graph, layers);
    let (shape, base, images) = fit(&graph, &layers, options)?;
    let plan = outline(&graph, layers, FileSystem::Ext4, shape, options)?;
    let mut devices: Vec<_> = std::iter::once(base).chain(images).map(laid).collect();
    let used = place_data(&mut devices);
    let (data_size, pool) = plan_pool(&plan, &devices, used, options)?;
    let metadata_size = pool.nr_metadata_blocks.bytes();
    let metadata_blocks = pool.metadata_blocks_needed().map_err(Error::Thin)?;
    Ok(Layout {
        plan,
        uuid: options.uuid,
        data_size,
        metadata_size,
        metadata_blocks,
        devices,
        pool,
    })
}

type Derived = (Image, Delta);

/// Derives all images, with the first shape of the base in which they fit.
fn fit(
    graph: &LayerGraph,
    layers: &[Layer],
    options: &Options,
) -> Result<(BaseShape, Derived, Vec<Derived>), Error> {
    let mut shape = BaseShape::first(options.choices.base_size)?;
    loop {
        let base = Image::format(params(shape, options)).map_err(|source| Error::Base {
            size: shape.size,
            source,
        })?;
        let (at, lack, error) = match derive_all(graph, layers, &base.0, shape) {
            Ok(images) => return Ok((shape, base, images)),
            Err(Misfit::Cramped { layer, lack }) => (layer, lack, None),
            Err(Misfit::Refused { layer, source }) => match lack_of(&source) {
                Some(lack) => (layer, lack, Some(source)),
                None => return Err(refusal(layers, layer, source)),
            },
        };
        let layer = layers[at.0].id.clone();
        shape = match (shape.grown(lack), error) {
            (Some(grown), _) => grown,
            (None, Some(source)) if shape.fixed => return Err(Error::Layer { layer, source }),
            (None, _) => {
                return Err(Error::TooLarge {
                    layer,
                    limit: shape.size,
                });
            }
        };
        log::debug!(
            "trying a base device of {} with {} inodes per group",
            shape.size,
            shape.inodes_per_group
        );
    }
}

/// Why a layer does not fit the shape that was tried.
enum Misfit {
    Refused {
        layer: LayerIndex,
        source: ext4::write::Error,
    },
    Cramped {
        layer: LayerIndex,
        lack: Lack,
    },
}

/// The error for a layer that ext4 cannot hold. The others were not tried any more, so they are searched as well.
fn refusal(layers: &[Layer], at: LayerIndex, source: ext4::write::Error) -> Error {
    let limit = |path, problem| EntryLimit {
        path,
        problem: LimitProblem::Ext4(problem),
    };
    let limits = layers.iter().filter_map(|layer| {
        let problems = problems_of(&layer.tree).into_iter();
        let entries = problems.map(|EntryProblem { path, problem }| limit(path, problem));
        LayerLimits::of(&layer.id, entries)
    });
    let found: Vec<_> = limits.collect();
    let layer = &layers[at.0].id;
    match source {
        _ if !found.is_empty() => Error::Limits { layers: found },
        // Nothing that an entry shows by itself.
        ext4::write::Error::Entry { path, source } => Error::Limits {
            layers: LayerLimits::of(layer, std::iter::once(limit(path, source)))
                .into_iter()
                .collect(),
        },
        source => Error::Layer {
            layer: layer.clone(),
            source,
        },
    }
}

fn lack_of(error: &ext4::write::Error) -> Option<Lack> {
    match error {
        ext4::write::Error::NoSpace { .. } => Some(Lack::Blocks),
        ext4::write::Error::NoInodes { .. } => Some(Lack::Inodes),
        _ => None,
    }
}

fn params(shape: BaseShape, options: &Options) -> ext4::Params {
    ext4::Params {
        blocks: shape.blocks(),
        inodes_per_group: shape.inodes_per_group,
        uuid: options.uuid.into_bytes(),
        hash_seed: options.hash_seed,
        checksums: options.choices.checksums,
        created: options.created,
    }
}

fn derive_all(
    graph: &LayerGraph,
    layers: &[Layer],
    base: &Image,
    shape: BaseShape,
) -> Result<Vec<Derived>, Misfit> {
    try_map_parents_first(graph, |at, parent: Option<&Derived>| {
        let derived = derive(&layers[at.0], base, parent.map(|(image, _)| image))
            .map_err(|source| Misfit::Refused { layer: at, source })?;
        match size::cramped(&derived.0.usage()) {
            Some(lack) if !shape.fixed => Err(Misfit::Cramped { layer: at, lack }),
            _ => Ok(derived),
        }
    })
}

fn derive(
    layer: &Layer,
    base: &Image,
    parent: Option<&Image>,
) -> Result<Derived, ext4::write::Error> {
    let mut draft = parent.unwrap_or(base).draft();
    if parent.is_none() {
        let meta = Meta {
            mode: 0o600,
            ..Meta::default()
        };
        draft.add_file(ID_FILE.as_bytes(), &meta, layer.id.as_str().as_bytes())?;
    }
    draft.apply(ROOTFS.as_bytes(), &layer.tree)?;
    Ok(draft.finish())
}

/// A device without its place in the data file.
fn laid((image, delta): Derived) -> LaidDevice {
    LaidDevice {
        clusters: written_clusters(&delta),
        image,
        delta,
        first_block: DataBlocks(0),
    }
}

fn written_clusters(delta: &Delta) -> Box<[u32]> {
    let mut clusters = delta.metadata.clone();
    for run in &delta.data {
        let end = run.physical + run.blocks;
        clusters.extend(run.physical / CLUSTER_BLOCKS..end.div_ceil(CLUSTER_BLOCKS));
    }
    clusters.sort_unstable();
    clusters.dedup();
    clusters.into()
}

/// Assigns every device its range of the data file, one after the other; returns the end, which is the space that the
/// pool uses.
fn place_data(devices: &mut [LaidDevice]) -> DataBlocks {
    let mut next = 0;
    for device in devices {
        device.first_block = DataBlocks(next);
        next += device.clusters.len() as u64;
    }
    DataBlocks(next)
}

/// The pool's metadata: each device is a snapshot of its parent, in the order of the plan.
///
/// The kernel takes a block as shared if the device was snapshotted after the block was mapped. So every snapshot
/// raises the pool's time, and marks its origin with it (the rule, and why a mistake loses data:
/// docs/thin-metadata.md).
fn plan_pool(
    plan: &Plan,
    devices: &[LaidDevice],
    used: DataBlocks,
    options: &Options,
) -> Result<(Bytes, thin::Pool), Error> {
    let mut thin_devices: Vec<thin::Device> = Vec::with_capacity(devices.len());
    let mut time = 0;
    for (device, laid) in plan.devices.iter().zip(devices) {
        let inherited = match device.parent {
            None => Mapping::new(),
            Some(DeviceIndex(parent)) => {
                time += 1;
                thin_devices[parent].snapshotted_time = time;
                thin_devices[parent].mapping.clone()
            }
        };
        let changes: Vec<_> = laid
            .clusters
            .iter()
            .map(|&cluster| u64::from(cluster))
            .zip(laid.first_block.0..)
            .collect();
        thin_devices.push(thin::Device {
            id: device.thin_id,
            mapping: inherited.with(&changes, time),
            transaction_id: device.transaction_id,
            creation_time: time,
            snapshotted_time: time,
        });
    }
    let data_size = size::data_size(options.choices.data_size, used)?;
    let mut pool = thin::Pool {
        data_block_size: size::DATA_BLOCK.sectors(),
        nr_data_blocks: DataBlocks(data_size.0 / size::DATA_BLOCK.0),
        nr_metadata_blocks: thin::MAX_METADATA_BLOCKS,
        transaction_id: plan.transaction_id(),
        time,
        devices: thin_devices,
    };
    let image = pool.metadata_blocks_needed().map_err(Error::Thin)?;
    let metadata_size =
        size::metadata_size(options.choices.metadata_size, image, pool.nr_data_blocks)?;
    pool.nr_metadata_blocks = MetaBlocks(metadata_size.0 / BLOCK_BYTES);
    Ok((data_size, pool))
}
