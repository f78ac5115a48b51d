//! The way back to the root as it was before the conversion.

use std::path::{Path, PathBuf};

use serde::Serialize;

use super::dead_end::{dead_end, missing_of_aufs};
use super::error::Error;
use super::left::left_by_conversion;
use super::locked_root::LockedRoot;
use super::pool_of::recorded_target;
use super::put_back::put_aufs_side_back;
use super::read_only::expect_writable;
use super::recorded_options::RecordedOptions;
use super::request::RollbackRequest;
use super::verify::device_side;
use super::way_back::{Flaw, expect_right};
use super::whole_source::expect_all_of;
use crate::commit::{self, Changes, Conversion, Leftover, State};
use crate::content::WrittenAt;
use crate::docker::{self, CacheId};
use crate::engine::kernel;
use crate::pool::target::Target;
use crate::privileges::{self, Purpose};
use crate::units::Bytes;

/// The result of a rollback. The field names are part of the `--json` interface.
#[derive(Clone, Debug, Serialize)]
pub struct RollbackSummary {
    /// The root.
    pub root: PathBuf,
    /// Whether there was anything to undo.
    pub rolled_back: bool,
    /// Bytes on disk freed by removing the devicemapper side, without what is outside the root.
    pub freed: Bytes,
    /// What the operator should know.
    pub notices: Vec<String>,
    /// How the restored aufs side differs from what was converted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub aufs_differs: Option<String>,
    /// What Docker had done on the converted root; it is lost.
    #[serde(skip_serializing_if = "Changes::is_empty")]
    pub lost: Changes,
    /// What could not be restored, as one text each.
    pub not_restored: Vec<String>,
    /// The daemon's file that the conversion had changed; it is as it was before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub daemon_json: Option<PathBuf>,
    /// Whether anything may have been in place, in which case a daemon may have been configured for it.
    #[serde(skip)]
    pub may_be_told: bool,
}

/// Rolls a conversion back, whatever its state.
///
/// # Errors
///
/// [`Error::DockerHasRun`] unless forced, [`Error::Interrupted`], [`Error::Commit`] with [`commit::Error::TakingBack`]
/// if the root is between the two states, or whatever prevents the rollback; in this last case nothing has been
/// changed.
pub fn rollback(request: &RollbackRequest) -> Result<RollbackSummary, Error> {
    expect_writable(&request.root)?;
    put_aufs_side_back((&request.root, "rollback"), &request.host, &request.cancel)?;
    let held = LockedRoot::open(&request.root, &request.host);
    let mut held = held.map_err(|error| no_way_back(&request.root, error))?;
    let path = held.path().to_owned();
    // Renames need few privileges, so missing read privileges do not prevent a rollback.
    if let Err(error) = privileges::check(&request.host, &path, Purpose::Write) {
        held.notices.push(error.to_string());
    }
    let mut done = RollbackSummary {
        root: path.clone(),
        rolled_back: false,
        freed: Bytes(0),
        aufs_differs: None,
        notices: std::mem::take(&mut held.notices),
        lost: Changes::default(),
        not_restored: Vec::new(),
        daemon_json: None,
        may_be_told: false,
    };
    let left = Leftover::look_for(&path)?;
    request.expect_not_cancelled()?;
    match left {
        Leftover::None => {
            // Leftovers that a failed run could not take down, and reported.
            let left = kernel::Previous::find(&path, None)?;
            if left.describe().is_empty() {
                return Ok(done);
            }
            left.remove()?;
        }
        Leftover::Stage(stage) => commit::remove_leftover(&stage)?,
        Leftover::Conversion(..) => take_back(&held, request, &mut done)?,
    }
    done.rolled_back = true;
    held.release();
    Ok(done)
}

fn take_back(
    held: &LockedRoot,
    request: &RollbackRequest,
    done: &mut RollbackSummary,
) -> Result<(), Error> {
    let path = held.path();
    let Some(mut conversion) = Conversion::find(path)? else {
        return Ok(());
    };
    if conversion.story().state == State::Committing {
        let unfinished = commit::Error::Unfinished {
            path: path.to_owned(),
            state: State::Committing,
        };
        return Err(dead_end(path).unwrap_or_else(|| unfinished.into()));
    }
    done.may_be_told = conversion.story().state != State::Writing;
    // Leftovers of a killed run that are still active hide when the devices were last mounted.
    let left = left_by_conversion(path, Some(&conversion))?;
    left.but_its_content().remove()?;
    let damaged = expect_way_back(path, &conversion, request, done)?;
    request.expect_not_cancelled()?;
    // The devices and mounts of a killed run come first: they keep open what is to be moved. What cannot be undone is
    // reported while nothing has been moved.
    let previous = left_by_conversion(path, Some(&conversion))?;
    // Zeros in place of the pool mean that a run got no further or that a rollback had finished with it. Anything else
    // belongs to another disk.
    let is_finished = matches!(
        conversion.story().state,
        State::Converted | State::Switching
    );
    if is_finished {
        previous.expect_pool()?;
    }
    previous.take_down()?;
    if is_finished {
        previous.expect_content()?;
    }
    // The root matters more than the daemon's file, which an operator can edit.
    let options = RecordedOptions::storage_opts_of(conversion.story());
    let left_alone = conversion.check_daemon_file(&request.host, &options).err();
    if left_alone.is_some() {
        conversion.leave_daemon_file();
    }
    let taken_back = conversion.take_back(&|| held.expect_alone())?;
    done.not_restored = taken_back.gone;
    done.daemon_json = taken_back.daemon;
    done.not_restored.extend(damaged);
    done.not_restored
        .extend(left_alone.map(|error| error.to_string()));
    if conversion.story().switching.is_some() {
        conversion.sync_what_is_back()?;
        // The syncs may have taken minutes.
        if !request.onto_damaged {
            expect_right(&conversion, Flaw::find_in_place(&conversion)?)?;
        }
    }
    // Somebody may have put something there meanwhile.
    conversion.expect_rest_is_own()?;
    // The originals of a completed conversion were checked before.
    if conversion.story().state != State::Converted {
        done.not_restored.extend(conversion.configs_lost()?);
    }
    previous.remove()?;
    done.freed = conversion.bytes_staged();
    conversion.remove()?;
    Ok(())
}

/// Checks, before anything is changed, that going back loses only what was waived. Returns the damaged originals.
fn expect_way_back(
    path: &Path,
    conversion: &Conversion,
    request: &RollbackRequest,
    done: &mut RollbackSummary,
) -> Result<Vec<String>, Error> {
    conversion.expect_unmounted()?;
    conversion.expect_nobody_elses()?;
    done.lost = conversion.changes()?;
    done.lost.pool_data |= is_written_in_place(path, conversion);
    if done.lost.loses_by_going_back() && !request.force {
        return Err(Error::DockerHasRun {
            path: path.to_owned(),
            state: conversion.story().state,
            changes: Box::new(done.lost.clone()),
        });
    }
    let flaw = Flaw::find(conversion)?;
    if request.onto_damaged {
        done.aufs_differs = flaw.map(|flaw| flaw.to_string());
    } else {
        if conversion.story().state == State::Writing {
            expect_all_of(
                (path, conversion.stage()),
                conversion.story(),
                &request.cancel,
            )?;
        }
        expect_right(conversion, flaw)?;
    }
    let mut damaged = conversion.damaged_originals()?;
    damaged.extend(conversion.lost_containers()?);
    if !damaged.is_empty() && !request.onto_damaged {
        return Err(Error::OriginalsDamaged {
            path: path.to_owned(),
            damaged,
        });
    }
    conversion.expect_way_back()?;
    if done.lost.is_empty() && conversion.story().state == State::Converted {
        done.notices.extend(metadata_written(path, conversion));
    }
    Ok(damaged)
}

/// Whether a device outside the root was mounted writable since the conversion: `docker cp` into a stopped container
/// changes none of Docker's files. If the pool cannot be read, later steps report it.
fn is_written_in_place(path: &Path, conversion: &Conversion) -> bool {
    let state = conversion.story().state;
    if matches!(state, State::Writing | State::Committing) {
        return false;
    }
    // Files in the root have their own times.
    let target = recorded_target(conversion).filter(|target| *target != Target::LoopFiles);
    let Some(target) = target else {
        return false;
    };
    // While a move is interrupted, the driver's directory may be in either place.
    let homes = [path, conversion.stage()].map(|at| at.join("devicemapper"));
    let Some(home) = homes.iter().find(|home| home.is_dir()) else {
        return false;
    };
    let written_at = |id: &CacheId| conversion.note_written_at(id);
    let times = (&written_at as WrittenAt<'_>, conversion.switched_at());
    crate::content::mounted_since_noted(home, &target, times).unwrap_or(false)
}

/// The message that the pool's metadata differs from what the latest verification saw: this alone is no content, but it
/// shows that somebody used the pool.
fn metadata_written(path: &Path, conversion: &Conversion) -> Option<String> {
    let verified = conversion.story().verified.latest.as_ref()?;
    let seen = verified.seen.as_ref()?;
    // Whoever needs missing devices reports them.
    let now = device_side(path, conversion, None).ok()?;
    let is_written = seen.written_until(&now).contains(&"the pool's metadata");
    is_written.then(|| {
        "the pool's metadata was written to after the latest verification, as when Docker starts; no other change shows"
            .to_owned()
    })
}

/// Replaces the error if the aufs side of a converted root is gone, because that is the real cause.
fn no_way_back(root: &Path, error: Error) -> Error {
    let path = root.canonicalize().unwrap_or_else(|_| root.to_owned());
    let found = Conversion::find(&path).ok().flatten();
    let missing = match &error {
        Error::Docker(docker::Error::MissingPart { path }) => Some(path.clone()),
        Error::Docker(docker::Error::NotAufs { .. }) => missing_of_aufs(&path),
        _ => None,
    };
    // A mount over part of the aufs side can make that part look gone.
    let unmounted = found.as_ref().map(Conversion::expect_unmounted);
    if let (Error::Docker(_), Some(Err(mounted @ commit::Error::Mounted { .. }))) =
        (&error, unmounted)
    {
        return mounted.into();
    }
    let Some(missing) = missing else {
        return error;
    };
    if let Some(end) = dead_end(&path) {
        return end;
    }
    match found.map(|one| one.story().state) {
        Some(State::Converted) => Error::NoWayBack { path, missing },
        Some(state @ State::Committing) => Error::Commit(commit::Error::Unfinished { path, state }),
        _ => error,
    }
}
