//! Why a layer cannot be applied.

use std::borrow::Cow;
use std::io;

use nix::errno::Errno;

use crate::docker::CacheId;
use crate::source::{Layer, branch_reader};
use crate::tree::{NodeId, Timestamp, escape};

/// Why a layer cannot be applied.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file of the branch cannot be read, or has changed since the plan was made.
    #[error(transparent)]
    Source(#[from] branch_reader::Error),
    /// The new file system refuses an operation, has no space, or fails.
    #[error("layer {layer}: {path}: cannot {op} in the new file system")]
    Target {
        /// The layer.
        layer: CacheId,
        /// The file within the layer, escaped.
        path: String,
        /// The operation that failed.
        op: Cow<'static, str>,
        /// The cause: `ENOSPC`, `EDQUOT` and `EIO` may come from what is below the file system.
        source: io::Error,
    },
    /// The new file system cannot hold a time.
    #[error("layer {layer}: {path}: the new file system cannot store the time {} ({kept})", seconds(*time))]
    Time {
        /// The layer.
        layer: CacheId,
        /// The file within the layer, escaped.
        path: String,
        /// The time.
        time: Timestamp,
        /// What the file system made of it.
        kept: ClampedTime,
    },
    /// The layer gives a directory a second name, which no file system supports.
    #[error("layer {layer}: {path}: a directory with a second name")]
    LinkedDirectory {
        /// The layer.
        layer: CacheId,
        /// The directory within the layer, escaped.
        path: String,
    },
    /// The run was stopped on request.
    #[error("interrupted")]
    Interrupted,
}

/// What a file system makes of a time that it cannot hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClampedTime {
    /// It keeps another time.
    As(Timestamp),
    /// Unknown: kernels before 5.4 show the right time until the inode is read again.
    Unknown,
}

impl std::fmt::Display for ClampedTime {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::As(time) => write!(f, "it stores {}", seconds(*time)),
            Self::Unknown => f.write_str("kernels before 5.4 do not report whether it can"),
        }
    }
}

fn seconds(time: Timestamp) -> String {
    format!("{}.{:09}", time.sec(), time.nsec())
}

/// An error with one file of the target, before it is known which.
#[derive(Debug)]
pub(super) enum Failure {
    Call(Cow<'static, str>, io::Error),
    Time(Timestamp, ClampedTime),
    Stopped,
}

/// The run was stopped on request, or another thread failed.
#[derive(Debug)]
pub(super) struct Interruption;

impl From<Interruption> for Failure {
    fn from(_: Interruption) -> Self {
        Self::Stopped
    }
}

impl From<Interruption> for Error {
    fn from(_: Interruption) -> Self {
        Self::Interrupted
    }
}

/// Makes a [`Failure`] from the error of a system call.
pub(super) fn failed(op: &'static str) -> impl Fn(Errno) -> Failure {
    move |errno| Failure::Call(op.into(), errno.into())
}

impl Failure {
    /// The error for a file of the layer.
    pub(super) fn of(self, layer: &Layer, node: NodeId) -> Error {
        self.at(layer, layer.tree.display_path(node))
    }

    /// The error for a name in a directory of the layer that the layer itself does not have.
    pub(super) fn beneath(self, layer: &Layer, directory: NodeId, name: &[u8]) -> Error {
        let mut path = layer.tree.display_path(directory);
        if !path.ends_with('/') {
            path.push('/');
        }
        self.at(layer, path + &escape(name))
    }

    fn at(self, layer: &Layer, path: String) -> Error {
        let layer = layer.id.clone();
        match self {
            Self::Call(op, source) => Error::Target {
                layer,
                path,
                op,
                source,
            },
            Self::Time(time, kept) => Error::Time {
                layer,
                path,
                time,
                kept,
            },
            Self::Stopped => Error::Interrupted,
        }
    }
}
