//! What a pool is made of: each distinct node once, how often it is pointed to, and whether the pool is fit to be written.

use std::collections::HashMap;
use std::sync::Arc;

use crate::thin::error::Error;
use crate::thin::format::{DATA_BLOCK_SIZE_STEP, MAX_DATA_BLOCK_SIZE, MAX_DATA_BLOCKS};
use crate::thin::id::ThinId;
use crate::thin::mapping::{Leaf, MAX_TIME, Node, Run};
use crate::thin::pool::{Device, MAX_METADATA_BLOCKS, Pool};
use crate::thin::ref_counts::RefCounts;

/// The distinct nodes of a pool's mapping trees. Costs what the nodes cost, however many devices share them.
pub(super) struct Census<'p> {
    /// Devices by ascending id, each with the place of its root in `nodes`.
    pub(super) devices: Vec<(&'p Device, usize)>,
    /// Every distinct node, children before parents.
    pub(super) nodes: Vec<NodeCount<'p>>,
    /// References to data blocks, one for each entry of each distinct leaf.
    pub(super) data: RefCounts,
    places: HashMap<*const Node, usize>,
}

/// A node and the number of distinct pointers to it: from other nodes, or from devices.
pub(super) struct NodeCount<'p> {
    pub(super) node: &'p Node,
    pub(super) refs: u32,
}

/// Who can reach a node.
#[derive(Clone, Copy)]
struct Reach {
    /// The device that would be the first to write in place, and its snapshot time.
    writer: (u32, ThinId),
    by_several: bool,
}

impl Reach {
    fn join(a: Option<Self>, b: Self) -> Self {
        a.map_or(b, |a| Self {
            writer: a.writer.min(b.writer),
            by_several: true,
        })
    }
}

impl<'p> Census<'p> {
    /// Counts the pool and checks all that does not depend on the size of its image.
    ///
    /// # Errors
    ///
    /// All refusals of a pool but [`Error::MetadataFull`].
    pub(super) fn of(pool: &'p Pool) -> Result<Self, Error> {
        check_limits(pool)?;
        let mut devices: Vec<_> = pool.devices.iter().collect();
        devices.sort_by_key(|device| device.id);
        if let Some(pair) = devices.windows(2).find(|pair| pair[0].id == pair[1].id) {
            return Err(Error::DuplicateDevice { id: pair[0].id });
        }
        let mut census = Self {
            devices: Vec::with_capacity(devices.len()),
            nodes: Vec::new(),
            data: RefCounts::default(),
            places: HashMap::new(),
        };
        for device in devices {
            let visitor = Visitor { pool, device };
            visitor.check_time(device.creation_time)?;
            visitor.check_time(device.snapshotted_time)?;
            let root = census.visit(device.mapping.root(), visitor)?;
            census.devices.push((device, root));
        }
        census.check_sharing()?;
        Ok(census)
    }

    /// Where a node that is part of the pool stands in `nodes`.
    pub(super) fn place(&self, node: &Arc<Node>) -> usize {
        self.places[&Arc::as_ptr(node)]
    }

    /// Counts a pointer to `node`, and, the first time, all below it.
    fn visit(&mut self, node: &'p Arc<Node>, visitor: Visitor<'p>) -> Result<usize, Error> {
        if let Some(&place) = self.places.get(&Arc::as_ptr(node)) {
            self.nodes[place].refs += 1;
            return Ok(place);
        }
        match &**node {
            Node::Leaf(leaf) => {
                visitor.check_leaf(leaf)?;
                for run in &leaf.runs {
                    self.data.add_run(run.value.data_block(), run.len());
                }
            }
            Node::Internal(internal) => {
                for child in &internal.children {
                    self.visit(&child.node, visitor)?;
                }
            }
        }
        let place = self.nodes.len();
        self.nodes.push(NodeCount { node, refs: 1 });
        self.places.insert(Arc::as_ptr(node), place);
        Ok(place)
    }

    /// Makes sure that every device copies what is shared before it writes there.
    ///
    /// Parents come after children in `nodes`, so one pass from the end tells every node who reaches it: a device
    /// reaches a node of its tree on one way only.
    fn check_sharing(&self) -> Result<(), Error> {
        let mut reaches: Vec<Option<Reach>> = vec![None; self.nodes.len()];
        for &(device, root) in &self.devices {
            let own = Reach {
                writer: (device.snapshotted_time, device.id),
                by_several: false,
            };
            reaches[root] = Some(Reach::join(reaches[root], own));
        }
        for (place, counted) in self.nodes.iter().enumerate().rev() {
            let reach = reaches[place].expect("a device led to every node");
            match counted.node {
                Node::Leaf(leaf) => self.check_shared_leaf(leaf, reach)?,
                Node::Internal(internal) => {
                    for child in &internal.children {
                        let below = &mut reaches[self.place(&child.node)];
                        *below = Some(Reach::join(*below, reach));
                    }
                }
            }
        }
        Ok(())
    }

    fn check_shared_leaf(&self, leaf: &Leaf, reach: Reach) -> Result<(), Error> {
        let (snapshotted_time, device) = reach.writer;
        let in_place = |run: &&Run| run.value.time() >= snapshotted_time;
        for run in leaf.runs.iter().filter(in_place) {
            let first = run.value.data_block();
            let is_shared = |block: &u64| reach.by_several || self.data.count(*block) > 1;
            if let Some(data_block) = (first..first + run.len()).find(is_shared) {
                return Err(Error::SharedBlockWritable {
                    device,
                    data_block,
                    time: run.value.time(),
                    snapshotted_time,
                });
            }
        }
        Ok(())
    }
}

fn check_limits(pool: &Pool) -> Result<(), Error> {
    let sectors = pool.data_block_size.0;
    if sectors == 0
        || !sectors.is_multiple_of(DATA_BLOCK_SIZE_STEP)
        || sectors > MAX_DATA_BLOCK_SIZE
    {
        return Err(Error::DataBlockSize { sectors });
    }
    let blocks = pool.nr_data_blocks.0;
    if blocks > MAX_DATA_BLOCKS {
        return Err(Error::TooManyDataBlocks { blocks });
    }
    if pool.nr_metadata_blocks > MAX_METADATA_BLOCKS {
        return Err(Error::TooManyMetadataBlocks {
            blocks: pool.nr_metadata_blocks.0,
            most: MAX_METADATA_BLOCKS.0,
        });
    }
    if pool.time >= MAX_TIME {
        return Err(Error::TooManySnapshots { time: pool.time });
    }
    Ok(())
}

/// The device on whose behalf nodes are visited.
#[derive(Clone, Copy)]
struct Visitor<'p> {
    pool: &'p Pool,
    device: &'p Device,
}

impl Visitor<'_> {
    fn check_time(self, time: u32) -> Result<(), Error> {
        if time > self.pool.time {
            return Err(Error::TimeAfterPool {
                device: self.device.id,
                time,
                pool_time: self.pool.time,
            });
        }
        Ok(())
    }

    fn check_leaf(self, leaf: &Leaf) -> Result<(), Error> {
        let nr_data_blocks = self.pool.nr_data_blocks.0;
        for run in &leaf.runs {
            self.check_time(run.value.time())?;
            let last = run.value.data_block() + run.len() - 1;
            if last >= nr_data_blocks {
                return Err(Error::DataBlockOutOfRange {
                    device: self.device.id,
                    data_block: last,
                    nr_data_blocks,
                });
            }
        }
        Ok(())
    }
}
