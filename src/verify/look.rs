//! One layer under examination, with the device it lies on.

use super::context::Run;
use super::opened::Opened;
use super::targets::Target;
use crate::docker::CacheId;

/// A layer, looked at.
pub(super) struct Look<'r, 'a> {
    pub(super) run: &'r Run<'a>,
    pub(super) target: &'r Target,
    pub(super) id: &'r CacheId,
    pub(super) opened: Option<&'r Opened<'a>>,
    pub(super) below: Option<&'r Opened<'a>>,
}
