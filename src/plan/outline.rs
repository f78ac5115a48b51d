//! What a conversion makes with either engine: a thin device for each layer, its id, its transaction, its size.

use std::collections::HashMap;

use super::devices::{DeviceIndex, Options, Plan, PlannedDevice};
use super::error::Error;
use super::graph::LayerGraph;
use super::size::{self, BaseShape};
use super::{needs, xfs};
use crate::devicemapper::driver_files::FileSystem;
use crate::source::Layer;
use crate::thin::ThinId;

/// The plan for these layers on xfs. Its base size is Docker's default, doubled until the bytes of every chain fit.
/// What layers remove is not subtracted: a thin device costs what is written, so a larger one costs nothing.
///
/// # Errors
///
/// [`Error::MissingParent`] and [`Error::Cycle`] if the layers do not form a DAG; [`Error::Limits`] for entries that xfs
/// cannot hold; [`Error::Size`] if a requested size is not suitable; [`Error::TooLarge`].
pub fn outline_xfs(layers: Vec<Layer>, options: &Options) -> Result<Plan, Error> {
    xfs::expect_holdable(&layers)?;
    let graph = graph_of(&layers)?;
    let layers = in_order_of(&graph, layers);
    let mut shape = BaseShape::first(options.choices.base_size)?;
    let chains = needs::chains(&graph, &layers);
    while let Some(at) = size::cramped_chain(&chains, shape) {
        let Some(grown) = shape.grown(size::Lack::Blocks) else {
            return Err(Error::TooLarge {
                layer: layers[at].id.clone(),
                limit: shape.size,
            });
        };
        shape = grown;
    }
    outline(&graph, layers, FileSystem::Xfs, shape, options)
}

pub(super) fn graph_of(layers: &[Layer]) -> Result<LayerGraph, Error> {
    LayerGraph::new(
        &layers
            .iter()
            .map(|layer| (layer.id.clone(), layer.parent.clone()))
            .collect(),
    )
}

pub(super) fn in_order_of(graph: &LayerGraph, layers: Vec<Layer>) -> Vec<Layer> {
    let mut by_id: HashMap<_, _> = layers
        .into_iter()
        .map(|layer| (layer.id.clone(), layer))
        .collect();
    graph
        .iter()
        .map(|(_, id, _)| {
            by_id
                .remove(id)
                .expect("the graph was made of these layers")
        })
        .collect()
}

/// Numbers the devices. The layers must be in the graph's order.
pub(super) fn outline(
    graph: &LayerGraph,
    layers: Vec<Layer>,
    file_system: FileSystem,
    shape: BaseShape,
    options: &Options,
) -> Result<Plan, Error> {
    let before = options.transaction_before;
    let mut devices = vec![planned(0, None, before)?];
    for ((at, _, parent), layer) in graph.iter().zip(layers) {
        let parent = DeviceIndex(parent.map_or(0, |at| at.0 + 1));
        let mut device = planned(at.0 + 1, Some(parent), before)?;
        device.layer = Some(layer);
        devices.push(device);
    }
    Ok(Plan {
        file_system,
        base_size: shape.size,
        bytes_per_inode: shape.bytes_per_inode(),
        transaction_before: before,
        devices,
    })
}

/// A device without its layer.
fn planned(place: usize, parent: Option<DeviceIndex>, before: u64) -> Result<PlannedDevice, Error> {
    // Docker counts thin ids and transactions from 1, one transaction for each device.
    let number = u32::try_from(place + 1).unwrap_or(u32::MAX);
    Ok(PlannedDevice {
        layer: None,
        parent,
        thin_id: ThinId::new(number).map_err(|error| Error::Thin(error.into()))?,
        transaction_id: before.saturating_add(number.into()),
    })
}
