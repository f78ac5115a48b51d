//! The layer's branch in aufs.

use std::path::{Path, PathBuf};

use crate::content::{Halt, read_branch};
use crate::docker::ChainId;
use crate::source::Layer;
use crate::verify::conversion_notes::BranchNow;
use crate::verify::layer_check::LayerCheck;

/// A branch as a tree: known from a conversion, or just read.
pub(super) enum Branch<'a> {
    Known(&'a Layer),
    Read(Box<Layer>),
}

impl<'r> LayerCheck<'r, '_> {
    /// The layer's branch in aufs.
    pub(super) fn branch(&self) -> Result<Option<Branch<'r>>, Halt> {
        if let Some(layer) = self.run.known_branches.get(self.id) {
            return Ok(Some(Branch::Known(layer)));
        }
        let Some(aufs) = self.run.aufs.filter(|_| self.is_in_aufs()) else {
            return Ok(None);
        };
        let branch = aufs.join("diff").join(self.id.as_str());
        if branch.symlink_metadata().is_err() && self.branch_now() == BranchNow::Missing {
            return Ok(None);
        }
        let chain = self.target.known.chain();
        // Of the two records, this is the one that no conversion has touched.
        let tar_split = chain.map(|chain| {
            let original = self.run.original.as_deref();
            original.map_or_else(
                || self.run.store.tar_split(&chain),
                |store| tar_split_in(store, &chain),
            )
        });
        let layer = read_branch(&self.run.work, self.id, &branch, tar_split.as_deref())?;
        Ok(Some(Branch::Read(Box::new(layer))))
    }

    /// The state of a branch that the conversion recorded.
    pub(super) fn branch_now(&self) -> BranchNow {
        match self.run.noted.filter(|_| self.run.aufs.is_some()) {
            Some(noted) => (noted.branch)(self.id),
            None => BranchNow::Unknown,
        }
    }

    /// Whether there is a branch, even if aufs's lists of parents have changed since.
    pub(super) fn is_in_aufs(&self) -> bool {
        let is_there = || matches!(self.branch_now(), BranchNow::Same | BranchNow::Changed);
        self.target.known.in_aufs || is_there()
    }

    /// Why aufs has no branch of the layer.
    pub(super) fn why_no_branch(&self) -> &'static str {
        if self.run.aufs.is_none() {
            "there is no aufs side"
        } else if self.branch_now() == BranchNow::Missing {
            "its branch is missing from the aufs side"
        } else if self.target.known.is_empty {
            "aufs has no branch of it, and its digest says that it is empty"
        } else {
            "it was created after the conversion"
        }
    }
}

/// The path of a layer's tar-split in an image store.
pub(super) fn tar_split_in(store: &Path, chain: &ChainId) -> PathBuf {
    let layers = store.join("layerdb/sha256");
    layers.join(chain.file_name()).join("tar-split.json.gz")
}
