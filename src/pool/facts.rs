//! The properties of a suitable target.

use crate::units::Bytes;

/// The properties of a suitable target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// The device-mapper name of an existing pool, for `dm.thinpooldev=/dev/mapper/NAME`.
    pub pool: Option<String>,
    /// Size of its data blocks.
    pub data_block: Bytes,
    /// The free space; `None` if the files have yet to be made.
    pub space: Option<Space>,
    /// The transaction id before the first device.
    pub transaction_id: u64,
    /// What the operator should know, one line each.
    pub notices: Vec<String>,
}

/// The free space in a pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space {
    /// Free bytes for data.
    pub data: Bytes,
    /// Free bytes for metadata; the kernel reserves some of them.
    pub metadata: Bytes,
}
