//! Why a plan cannot be made.

use super::xfs_problem::XfsProblem;
use crate::docker::CacheId;
use crate::units::Bytes;
use crate::{ext4, thin};

/// Why a plan cannot be made. Nothing has been written by then.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A layer's parent is not among the layers.
    #[error("layer {layer}: its parent {parent} does not exist")]
    MissingParent {
        /// The child.
        layer: CacheId,
        /// The parent it names.
        parent: CacheId,
    },
    /// A layer is its own ancestor.
    #[error("layer {layer}: its chain of parents never ends")]
    Cycle {
        /// A layer on the cycle or above it.
        layer: CacheId,
    },
    /// A layer holds something that an ext4 file system cannot, or the file system is full.
    #[error("layer {layer}")]
    Layer {
        /// The layer.
        layer: CacheId,
        /// What is wrong, with the entry's path.
        source: ext4::write::Error,
    },
    /// The empty file system that all layers start from cannot be made.
    #[error("base device of {size}")]
    Base {
        /// The requested size.
        size: Bytes,
        /// What is wrong with it.
        source: ext4::write::Error,
    },
    /// A requested size is not suitable.
    #[error("{what} of {size}: {reason}")]
    Size {
        /// The size's name, with its option.
        what: &'static str,
        /// The requested size.
        size: Bytes,
        /// Why it is not suitable, and which sizes are.
        reason: String,
    },
    /// A layer holds something that xfs cannot.
    #[error("layer {layer}: {path}: {problem}; ext4 has higher limits (--fs ext4)")]
    Xfs {
        /// The layer.
        layer: CacheId,
        /// The entry within the layer, escaped.
        path: String,
        /// What is wrong with it.
        problem: XfsProblem,
    },
    /// No base size up to the limit holds the merged layers.
    #[error(
        "layer {layer}: its merged tree does not fit into the largest file system that aufs2dm makes, {limit}"
    )]
    TooLarge {
        /// The layer that did not fit.
        layer: CacheId,
        /// The limit.
        limit: Bytes,
    },
    /// The pool's metadata cannot be made.
    #[error("thin pool")]
    Thin(#[source] thin::Error),
}
