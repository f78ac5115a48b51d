//! Layers as a plan would have them: which layer stands on which, and what each changes.

use std::collections::BTreeMap;

use aufs2dm::thin::{DataPlace, Device, Mapping, Pool, ThinId};
use aufs2dm::units::{DataBlocks, MetaBlocks, Sectors};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::{Just, Strategy, any};
use proptest::prop_oneof;
use proptest::sample::Index;

use super::tools::parse_dump;

/// One layer. Parents come before children.
#[derive(Clone, Debug)]
pub(crate) struct Layer {
    parent: Option<usize>,
    changes: Vec<u64>,
}

impl Layer {
    /// A layer that writes these thin blocks.
    pub(crate) fn new(parent: Option<usize>, changes: impl IntoIterator<Item = u64>) -> Self {
        let mut changes: Vec<_> = changes.into_iter().collect();
        changes.sort_unstable();
        changes.dedup();
        Self { parent, changes }
    }
}

/// What `thin_dump` is to tell of a device.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Told {
    pub(crate) transaction_id: u64,
    pub(crate) creation_time: u32,
    pub(crate) snapshotted_time: u32,
    pub(crate) mappings: BTreeMap<u64, DataPlace>,
}

/// What `thin_dump` is to tell of a pool: its time, transaction id and data blocks, then devices by id.
pub(crate) type ToldPool = ((u64, u64, u64), BTreeMap<u32, Told>);

/// A pool made from layers, and the same in plain maps.
pub(crate) struct Plan {
    pub(crate) pool: Pool,
    told: BTreeMap<u32, Told>,
}

impl Plan {
    /// Takes snapshots as the kernel would: parents first, one tick for each.
    pub(crate) fn of(layers: &[Layer]) -> Self {
        let mut devices: Vec<Device> = Vec::new();
        let mut told: Vec<Told> = Vec::new();
        let (mut time, mut next_data) = (0, 0);
        for (i, layer) in layers.iter().enumerate() {
            let mut mapping = Mapping::new();
            let mut mappings = BTreeMap::new();
            if let Some(parent) = layer.parent {
                time += 1;
                mapping = devices[parent].mapping.clone();
                mappings = told[parent].mappings.clone();
                devices[parent].snapshotted_time = time;
                told[parent].snapshotted_time = time;
            }
            let changes: Vec<_> = layer.changes.iter().copied().zip(next_data..).collect();
            next_data += changes.len() as u64;
            mappings.extend(
                changes
                    .iter()
                    .map(|&(thin, data_block)| (thin, DataPlace { data_block, time })),
            );
            devices.push(Device {
                id: device_id(i),
                mapping: mapping.with(&changes, time),
                transaction_id: i as u64,
                creation_time: time,
                snapshotted_time: time,
            });
            told.push(Told {
                transaction_id: i as u64,
                creation_time: time,
                snapshotted_time: time,
                mappings,
            });
        }
        let ids = (0..).map(|i| device_id(i).value());
        devices.sort_by_key(|device| device.id);
        let pool = Pool {
            data_block_size: Sectors(128),
            nr_data_blocks: DataBlocks(next_data + 1000),
            nr_metadata_blocks: MetaBlocks(2048),
            transaction_id: layers.len() as u64,
            time,
            devices,
        };
        Self {
            pool,
            told: ids.zip(told).collect(),
        }
    }

    /// Checks that `thin_dump` tells this pool, no more and no less.
    pub(crate) fn check_dump(&self, text: &str) {
        let (pool, devices) = parse_dump(text);
        let expected = (
            u64::from(self.pool.time),
            self.pool.transaction_id,
            self.pool.nr_data_blocks.0,
        );
        assert_eq!(pool, expected);
        assert!(devices == self.told, "thin_dump tells the plan");
    }
}

/// Ids neither dense nor in the order of the layers.
fn device_id(layer: usize) -> ThinId {
    let layer = u32::try_from(layer).unwrap();
    ThinId::new((layer * 7919 + 16_000_000) % (ThinId::MAX.value() + 1)).unwrap()
}

/// Up to forty layers: chains, siblings, several bases, layers that change nothing.
pub(crate) fn any_layers() -> impl Strategy<Value = Vec<Layer>> {
    let layer = (
        any::<Index>(),
        option::weighted(0.9, 0_usize..4),
        any_changes(),
    );
    vec(layer, 0..40).prop_map(|layers| {
        let place = |i: usize, any: Index, kind: Option<usize>| match kind {
            _ if i == 0 => None,
            None => None,
            Some(0) => Some(any.index(i)),
            Some(_) => Some(i - 1),
        };
        let layers = layers.into_iter().enumerate();
        layers
            .map(|(i, (any, kind, changes))| Layer::new(place(i, any, kind), changes))
            .collect()
    })
}

/// Nothing, a few hot blocks, blocks all over, or whole runs.
fn any_changes() -> impl Strategy<Value = Vec<u64>> {
    let run = (0_u64..6000, 1_u64..2500, 1_u64..4);
    prop_oneof![
        1 => Just(Vec::new()),
        4 => vec(0_u64..600, 1..8),
        2 => vec(0_u64..20_000, 1..300),
        3 => run.prop_map(|(first, len, step)| (0..len).map(|i| first + i * step).collect()),
    ]
}
