//! Reads one branch directory into a [`LayerTree`].
//!
//! The walk meets a directory's names in any order, so a name is often read before its whiteout is seen. It is rare
//! that one branch has both, or needs its tar's order for another reason, so the branch is then simply read again, this
//! time knowing what to hide.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::conflict::{Verdicts, judge};
use super::counts::Counts;
use super::error::Error;
use super::finding::Finding;
use super::flagged_files::FlaggedFiles;
use super::pass::{Pass, PassResult};
use crate::tree::{LayerTree, Meta};

/// The result of reading a branch.
#[derive(Clone, Debug)]
pub struct Branch {
    /// What the layer changes.
    pub tree: LayerTree,
    /// What the operator should know, ascending.
    pub findings: Vec<Finding>,
    /// Files whose flags are lost.
    pub flagged: FlaggedFiles,
    /// The amounts that it holds.
    pub counts: Counts,
}

impl Branch {
    /// A layer that changes nothing but the attributes of the root directory, which get this owner (user id, group id).
    pub fn empty((uid, gid): (u32, u32)) -> Self {
        let meta = Meta {
            mode: 0o755,
            uid,
            gid,
            ..Meta::default()
        };
        Self {
            tree: LayerTree::new(meta),
            findings: Vec::new(),
            flagged: FlaggedFiles::default(),
            counts: Counts::default(),
        }
    }
}

/// Reads the branch at `dir` (`aufs/diff/<id>`).
///
/// `tar_split` is the layer's `tar-split.json.gz`. It is opened only if the branch has both a name and its whiteout, to
/// find out which came last, or a directory with a whiteout's name, to find out whether it deletes. Without it, or if it
/// is missing, such a name is hidden and such a directory deletes.
///
/// Writes nothing and reads no file's content. Branches can be read in parallel.
///
/// # Errors
///
/// Any variant of [`Error`]; the branch is then unusable.
pub fn read_branch(dir: &Path, tar_split: Option<&Path>) -> Result<Branch, Error> {
    read_branch_unless(&|| false, dir, tar_split)
}

/// [`read_branch`], aborted when `stop` returns `true`; it is called before every entry, because a branch may have
/// millions.
///
/// # Errors
///
/// Same as for [`read_branch`], and [`Error::Stopped`].
pub fn read_branch_unless(
    stop: &dyn Fn() -> bool,
    dir: &Path,
    tar_split: Option<&Path>,
) -> Result<Branch, Error> {
    // A trailing slash would make the kernel follow a symbolic link.
    let dir: PathBuf = dir.components().collect();
    let first = Pass::new(&dir, Verdicts::default())?.run(stop)?;
    if first.questions.first().is_none() {
        return Ok(branch_of(first));
    }
    let PassResult { questions, .. } = first;
    let verdicts = judge(questions, tar_split)?;
    let second = Pass::new(&dir, verdicts)?.run(stop)?;
    match second.questions.first() {
        None => Ok(branch_of(second)),
        Some(path) => Err(Error::Changed {
            path: dir.join(OsStr::from_bytes(path)),
        }),
    }
}

fn branch_of(read: PassResult) -> Branch {
    Branch {
        flagged: read.flagged.named(&read.tree),
        tree: read.tree,
        findings: read.findings,
        counts: read.counts,
    }
}
