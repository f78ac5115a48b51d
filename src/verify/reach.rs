//! The devices that only the kernel can read, because no reader here supports their file system.

use std::sync::atomic::AtomicUsize;

use super::kernel::ActiveReadOnlyPool;
use super::kernel_check::word_of;
use super::report::KernelCheck;
use super::request::Request;
use crate::content::pool::Pool;

/// The pool as the kernel sees it, or why the kernel does not have it.
#[derive(Debug)]
pub(super) struct Reach {
    pub(super) attached: Result<ActiveReadOnlyPool, KernelCheck>,
    pub(super) mounted: AtomicUsize,
}

impl Reach {
    /// Activates a pool.
    pub(super) fn open(request: &Request<'_>, pool: &Pool) -> Self {
        let attached = match request.kernel {
            None => Err(KernelCheck::No {
                reason: "only the kernel reads xfs, and the kernel check was not requested"
                    .to_owned(),
            }),
            Some(how) => ActiveReadOnlyPool::open(how.root, pool, how.mounts).map_err(word_of),
        };
        Self {
            attached,
            mounted: AtomicUsize::new(0),
        }
    }

    /// Takes the pool down. Returns the kernel's verdict on the pool as a whole; its verdicts on single devices are in
    /// the layers' reports.
    pub(super) fn close(self) -> KernelCheck {
        match self.attached {
            Err(word) => word,
            Ok(attached) => match attached.close() {
                Ok(()) => KernelCheck::Yes {
                    mounted: self.mounted.into_inner(),
                    faults: Vec::new(),
                },
                Err(error) => word_of(error),
            },
        }
    }
}
