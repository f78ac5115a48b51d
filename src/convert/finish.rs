//! What else than writing layers can have been interrupted, and is gone on with.

use std::path::Path;

use super::discard::Discard;
use super::error::Error;
use super::held::Held;
use super::rollback::{RollbackRequest, rollback};
use crate::commit::{Conversion, State};
use crate::docker::daemon::Host;

/// What became of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finished {
    /// Nothing but the writing of layers can be gone on with, see [`Source::resume`](super::Source::resume).
    Nothing,
    /// Nothing was interrupted: the root is converted.
    Converted,
    /// The result is in place now.
    Switched,
    /// The root is as it was before the conversion.
    RolledBack,
    /// The aufs side is gone.
    Committed,
}

/// Ends a move, a rollback or a removal that was interrupted.
///
/// # Errors
///
/// As for what was interrupted.
pub fn finish(root: &Path, host: &Host) -> Result<Finished, Error> {
    let path = root.canonicalize().unwrap_or_else(|_| root.to_owned());
    let Some(conversion) = Conversion::find(&path)? else {
        return Ok(Finished::Nothing);
    };
    Ok(match conversion.story().state {
        State::Writing => Finished::Nothing,
        State::Converted => Finished::Converted,
        State::Switching => {
            let held = Held::open(&path, host)?;
            // Again, now that nobody else works on it.
            if let Some(conversion) = Conversion::find(&path)?
                && conversion.story().state == State::Switching
            {
                conversion.finish_switch()?;
            }
            held.release();
            Finished::Switched
        }
        State::RollingBack => {
            rollback(&RollbackRequest {
                root: path,
                host: host.clone(),
                force: false,
            })?;
            Finished::RolledBack
        }
        State::Committing => {
            Discard::open(&path, host)?.execute()?;
            Finished::Committed
        }
    })
}
