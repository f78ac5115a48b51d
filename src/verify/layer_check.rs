//! One layer under examination, with the device it lies on.

use super::open_device::OpenDevice;
use super::targets::Target;
use super::verification::Verification;
use crate::docker::CacheId;

/// A layer, looked at.
pub(super) struct LayerCheck<'r, 'a> {
    pub(super) run: &'r Verification<'a>,
    pub(super) target: &'r Target,
    pub(super) id: &'r CacheId,
    pub(super) opened: Option<&'r OpenDevice<'a>>,
    pub(super) below: Option<&'r OpenDevice<'a>>,
}
