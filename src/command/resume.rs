//! Continues interrupted operations other than the writing of layers.

use std::path::Path;

use super::commit::Commit;
use super::error::Error;
use super::locked_root::LockedRoot;
use super::read_only::expect_writable;
use super::recorded_options::RecordedOptions;
use super::request::{MayLose, ResumeRequest, RollbackRequest};
use super::rollback::rollback;
use crate::commit::{
    Conversion, Depth, Leftover, RootLock, State, expect_unmounted_stage, remove_leftover,
};
use crate::docker::{self, Root};

/// What was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResumeOutcome {
    /// Only the writing of layers can be continued, see [`OpenRoot::resume`](super::open_root::OpenRoot::resume).
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

/// Finishes an interrupted move, rollback or removal.
///
/// # Errors
///
/// As for the operation that was interrupted.
pub fn finish(request: &ResumeRequest) -> Result<ResumeOutcome, Error> {
    let (host, cancel) = (&request.host, &request.cancel);
    let root = &request.root;
    let path = root.canonicalize().unwrap_or_else(|_| root.clone());
    let Some(conversion) = Conversion::find(&path)? else {
        return finish_removal(&path);
    };
    if !matches!(conversion.story().state, State::Converted) {
        expect_writable(&path)?;
    }
    Ok(match conversion.story().state {
        State::Writing => ResumeOutcome::Nothing,
        State::Converted => ResumeOutcome::Converted,
        State::Switching => {
            finish_move(&path, request)?;
            ResumeOutcome::Switched
        }
        State::RollingBack => {
            rollback(&RollbackRequest {
                root: path,
                host: host.clone(),
                force: false,
                onto_damaged: false,
                cancel: cancel.clone(),
            })?;
            ResumeOutcome::RolledBack
        }
        State::Committing => {
            Commit::open(&path, host, MayLose::default(), cancel)?.execute()?;
            ResumeOutcome::Committed
        }
    })
}

/// Finishes a move. This needs no aufs side; later commands report whether there is a way back.
fn finish_move(path: &Path, request: &ResumeRequest) -> Result<(), Error> {
    let held = LockedRoot::for_reading(path, &request.host)?;
    if request.cancel.is_set() {
        return Err(Error::Interrupted);
    }
    expect_unmounted_stage(path)?;
    // Look again, now that nobody else is working on it.
    if let Some(mut conversion) = Conversion::find(path)?
        && conversion.story().state == State::Switching
    {
        conversion.expect_way_free()?;
        expect_all_converted(path, &conversion, request)?;
        let options = RecordedOptions::storage_opts_of(conversion.story());
        conversion
            .check_daemon_file(&request.host, &options)
            .map_err(|source| Error::DaemonFile {
                root: path.to_owned(),
                source,
            })?;
        conversion.finish_switch(&|| held.expect_alone())?;
    }
    held.release();
    Ok(())
}

/// Checks that the devices have everything that aufs has: data written there after the conversion exists only in aufs.
/// Data that is gone there still exists in the devices, so it is no reason to stop.
fn expect_all_converted(
    path: &Path,
    conversion: &Conversion,
    request: &ResumeRequest,
) -> Result<(), Error> {
    let Some(changes) = conversion.aufs_changes(Depth::Entries)? else {
        return Ok(());
    };
    let is_known = changes.changed.is_empty() && changes.new.is_empty() && changes.names.is_empty();
    if is_known {
        return Ok(());
    }
    if request.leave_aufs_changes {
        log::warn!(
            "the aufs side was written to after it was converted, and the devices do not have these changes: {changes}"
        );
        return Ok(());
    }
    Err(Error::AufsWritten {
        path: path.to_owned(),
        changes: Box::new(changes),
    })
}

/// Finishes a removal whose journal is gone: when the aufs side is removed, the journal goes next to last and the
/// staging directory last.
fn finish_removal(path: &Path) -> Result<ResumeOutcome, Error> {
    let has_aufs = !matches!(Root::open(path), Err(docker::Error::NotAufs { .. }));
    if has_aufs || !path.join("devicemapper").is_dir() {
        return Ok(ResumeOutcome::Nothing);
    }
    let _lock = RootLock::acquire(path)?;
    match Leftover::look_for(path)? {
        Leftover::Stage(stage) => {
            remove_leftover(&stage)?;
            Ok(ResumeOutcome::Committed)
        }
        Leftover::None => Err(Error::NothingToResume {
            path: path.to_owned(),
        }),
        Leftover::Conversion(..) => Ok(ResumeOutcome::Nothing),
    }
}
