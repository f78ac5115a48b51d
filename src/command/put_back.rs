//! An aufs side that a removal had set out before it was interrupted, and that is still whole.

use std::path::Path;

use super::error::Error;
use super::locked_root::LockedRoot;
use crate::commit::{Conversion, State};
use crate::daemon::Host;
use crate::progress::Cancel;

/// Undoes a removal that has not removed anything yet, on behalf of the command `words`: the root counts as converted
/// again, and the command checks it like any converted root.
///
/// # Errors
///
/// Docker is running, [`Error::Interrupted`], or whatever prevents the moves.
pub(super) fn put_aufs_side_back(
    (root, words): (&Path, &'static str),
    host: &Host,
    cancel: &Cancel,
) -> Result<(), Error> {
    // If something cannot be found, whoever needs it reports why.
    let root = root.canonicalize().unwrap_or_else(|_| root.to_owned());
    if !Conversion::find(&root)
        .ok()
        .flatten()
        .is_some_and(|found| is_out_and_whole(&found))
    {
        return Ok(());
    }
    let held = LockedRoot::for_reading(&root, host)?;
    if cancel.is_set() {
        return Err(Error::Interrupted);
    }
    // Look again, now that nobody else is working on it.
    if let Some(found) = Conversion::find(&root)?.filter(is_out_and_whole) {
        found.expect_unmounted()?;
        found.put_aufs_side_back(words, &|| held.expect_alone())?;
        log::warn!("the aufs side, of which nothing had been removed yet, is back in its place");
    }
    held.release();
    Ok(())
}

/// Whether the removal of the aufs side was interrupted before anything of it was gone.
pub(super) fn is_out_and_whole(found: &Conversion) -> bool {
    let story = found.story();
    story.state == State::Committing && story.aufs_is_whole
}
