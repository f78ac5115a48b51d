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
}

/// A fault that other data of the root makes good.
#[derive(Debug)]
pub(crate) struct Repaired {
    pub(crate) subject: Subject,
    pub(crate) fault: Fault,
    /// What the object is rebuilt from, in words.
    pub(crate) source: &'static str,
}

/// Faults and warnings found so far.
#[derive(Debug, Default)]
pub(crate) struct Diagnostics {
    pub(crate) faults: Vec<(Subject, Fault)>,
    pub(crate) repaired: Vec<Repaired>,
    pub(crate) warnings: Vec<Warning>,
}

impl Diagnostics {
    /// Records a fault.
    pub(super) fn fault(&mut self, subject: Subject, fault: impl Into<Fault>) {
        self.faults.push((subject, fault.into()));
    }

    /// Records a fault that is made good.
    pub(super) fn repaired(&mut self, subject: Subject, fault: Fault, source: &'static str) {
        self.repaired.push(Repaired {
            subject,
            fault,
            source,
        });
    }

    /// Takes the faults of a subject so far as made good.
    pub(super) fn repair(&mut self, of: &Subject, source: &'static str) {
        let is_lost = |(subject, fault): &mut (Subject, Fault)| {
            subject == of && !matches!(fault, Fault::BadReference { .. })
        };
        let made_good: Vec<_> = self.faults.extract_if(.., is_lost).collect();
        for (subject, fault) in made_good {
            self.repaired(subject, fault, source);
        }
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
