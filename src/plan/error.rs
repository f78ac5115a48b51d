//! Why a plan cannot be made.

use super::limits::{LayerLimits, Listed};
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
    /// The file system is full.
    #[error("layer {layer}")]
    Layer {
        /// The layer.
        layer: CacheId,
        /// What it lacks.
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
    /// Layers hold entries that the file system cannot. All of them are found in one go.
    #[error("{}", Listed(layers))]
    Limits {
        /// The layers; at least one.
        layers: Vec<LayerLimits>,
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
