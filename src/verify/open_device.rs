//! An open device, and the branches whose merge it holds.

use std::ops::Range;
use std::sync::Arc;

use crate::content::pool::ThinDevice;
use crate::ext4::read::CheckedView;
use crate::source::Layer;

/// A device that was read: its children are derived from it.
pub(super) struct OpenDevice<'a> {
    pub(super) device: ThinDevice<'a>,
    /// What can be read of its file system.
    pub(super) checked: Option<CheckedView>,
    /// The byte ranges in which it differs from its parent; `None` if no parent was read.
    pub(super) changed: Option<Vec<Range<u64>>>,
    /// Its branch and all branches below it, if the kernel has to mount the device.
    pub(super) stack: Stack<'a>,
    /// Why it cannot be read.
    pub(super) unreadable: Option<String>,
}

/// A branch, known or read.
#[derive(Clone, Debug)]
pub(super) enum BranchRef<'a> {
    Known(&'a Layer),
    Read(Arc<Layer>),
}

impl BranchRef<'_> {
    pub(super) fn layer(&self) -> &Layer {
        match self {
            BranchRef::Known(layer) => layer,
            BranchRef::Read(layer) => layer,
        }
    }
}

/// The branches whose merge a device holds, topmost first, or why some are missing.
pub(super) type Stack<'a> = Result<Vec<BranchRef<'a>>, String>;

/// The stack of a target with the branch `own`.
pub(super) fn stack<'a>(
    own: Result<BranchRef<'a>, String>,
    below: Option<&OpenDevice<'a>>,
) -> Stack<'a> {
    let own = own?;
    let below = match below {
        Some(below) => below.stack.as_ref().map_err(Clone::clone)?,
        None => return Err("its parent cannot be read".to_owned()),
    };
    let mut all = Vec::with_capacity(below.len() + 1);
    all.push(own);
    all.extend(below.iter().cloned());
    Ok(all)
}
