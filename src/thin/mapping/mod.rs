//! Mappings of thin devices, as persistent B-trees.

mod changes;
mod node;
mod runs;
mod tree;

pub(super) use node::{BlockTime, Child, Internal, Leaf, Node, Run};
pub use runs::{MappedRun, Runs};
pub use tree::{DataPlace, Iter, Mapping};
pub(super) use tree::{MAX_THIN_BLOCKS, MAX_TIME};
