//! Collects what is wrong while a root is read, so that one run reports every problem.

use super::fault::Fault;
use super::id::{CacheId, ChainId, ContainerId, ImageId};
use super::warning::Warning;

/// The object that a fault belongs to. It determines which images and containers are affected.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Subject {
    /// The stores as a whole: everything is affected.
    Root,
    /// The file of image names, without which no daemon starts: everything is affected.
    References,
    Image(ImageId),
    Chain(ChainId),
    Cache(CacheId),
    Mount(ContainerId),
    Container(ContainerId),
    /// Something that nothing can refer to, like a file in `aufs/layers` whose name is not an id.
    Nothing,
}

/// Faults and warnings found so far.
#[derive(Debug, Default)]
pub(crate) struct Diagnostics {
    pub(crate) faults: Vec<(Subject, Fault)>,
    pub(crate) warnings: Vec<Warning>,
}

impl Diagnostics {
    /// Records a fault.
    pub(super) fn fault(&mut self, subject: Subject, fault: impl Into<Fault>) {
        self.faults.push((subject, fault.into()));
    }

    /// Records a warning.
    pub(super) fn warn(&mut self, warning: Warning) {
        self.warnings.push(warning);
    }

    /// Returns the value of a result; an error is recorded.
    pub(super) fn keep<T>(
        &mut self,
        subject: &Subject,
        result: Result<T, impl Into<Fault>>,
    ) -> Option<T> {
        match result {
            Ok(value) => Some(value),
            Err(error) => {
                self.fault(subject.clone(), error);
                None
            }
        }
    }
}
