//! Mappings of thin devices, as persistent B-trees.

mod changes;
mod data_place;
mod node;
mod runs;
mod tree;

pub use data_place::DataPlace;
pub(super) use data_place::MAX_TIME;
pub(super) use node::{BlockTime, Child, Internal, Leaf, Node, Run};
pub use runs::{MappedRun, Runs};
pub(super) use tree::MAX_THIN_BLOCKS;
pub use tree::{Iter, Mapping};
