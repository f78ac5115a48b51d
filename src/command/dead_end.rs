//! Interrupted moves, rollbacks and removals that cannot be finished because the side they need is gone.

use std::path::{Path, PathBuf};

use super::error::Error;
use crate::commit::{Conversion, State};

/// The parts that a root of the aufs driver must have.
const AUFS_SIDE: [&str; 3] = ["aufs", "aufs/diff", "image/aufs"];

/// Why the command that the state of `path` calls for cannot finish it, if it cannot.
pub(super) fn dead_end(path: &Path) -> Option<Error> {
    let conversion = Conversion::find(path).ok().flatten()?;
    let state = conversion.story().state;
    if state == State::Committing {
        // As long as nothing of it is gone, it can come back.
        if conversion.story().aufs_is_whole {
            return None;
        }
        return conversion.expect_in_place().err().map(Into::into);
    }
    let missing = missing_of_aufs(path)?;
    let path = path.to_owned();
    match state {
        State::Switching => Some(Error::OnlyForward { path, missing }),
        State::RollingBack => Some(Error::BothGone {
            rest: path.join(crate::staging::STAGE_NAME),
            path,
            missing,
        }),
        _ => None,
    }
}

/// The first part of the aufs side that is missing.
pub(super) fn missing_of_aufs(path: &Path) -> Option<PathBuf> {
    let mut parts = AUFS_SIDE.iter().map(|part| path.join(part));
    parts.find(|part| part.symlink_metadata().is_err())
}
