//! What a target that suits is like.

use crate::units::Bytes;

/// What a target that suits is like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// The device-mapper name of a pool that is there, for `dm.thinpooldev=/dev/mapper/NAME`.
    pub pool: Option<String>,
    /// Size of its data blocks.
    pub data_block: Bytes,
    /// What is free; `None` where the files are yet to be made.
    pub space: Option<Space>,
    /// The transaction id to begin with.
    pub transaction_id: u64,
    /// What the operator should know, each a line.
    pub notices: Vec<String>,
}

/// Room in a pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space {
    /// Free bytes for data.
    pub data: Bytes,
    /// Free bytes for metadata; the kernel keeps some of it for itself.
    pub metadata: Bytes,
}
