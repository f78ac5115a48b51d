//! A device that was opened, and the branches whose merge it holds.

use std::ops::Range;
use std::sync::Arc;

use crate::content::pool::ThinDevice;
use crate::ext4::read::Checked;
use crate::source::Layer;

/// A device that was read: what its children are derived from.
pub(super) struct OpenDevice<'a> {
    pub(super) device: ThinDevice<'a>,
    /// What there is to read of its file system.
    pub(super) checked: Option<Checked>,
    /// In which ranges of bytes it differs from its parent; `None` without a parent that was read.
    pub(super) changed: Option<Vec<Range<u64>>>,
    /// The branches of it and all below it, of a device that the kernel has to mount.
    pub(super) stack: Stack<'a>,
    /// Why there is nothing to read.
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

/// The branches that a device holds the merge of, the topmost first, or why they are not all there.
pub(super) type Stack<'a> = Result<Vec<BranchRef<'a>>, String>;

/// The stack of a target, whose own branch is `own`.
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
