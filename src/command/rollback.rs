//! The way back: the root as it was before the conversion.

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

/// What a rollback did. The field names are part of the `--json` interface.
#[derive(Clone, Debug, Serialize)]
pub struct RollbackSummary {
    /// The root.
    pub root: PathBuf,
    /// Whether there was anything to take back.
    pub rolled_back: bool,
    /// Bytes on disk that the removal of the devicemapper side gave back; what lies outside of the root is not counted.
    pub freed: Bytes,
    /// What the operator should know.
    pub notices: Vec<String>,
    /// In what the aufs side that is back is not what was converted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub aufs_differs: Option<String>,
    /// What Docker had done on the new root, and is lost.
    #[serde(skip_serializing_if = "Changes::is_empty")]
    pub lost: Changes,
    /// What could not come back, a text each.
    pub not_restored: Vec<String>,
    /// The daemon's file that the conversion had changed, and that is as it was before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub daemon_json: Option<PathBuf>,
    /// Whether anything may have been in place, so that a daemon may have been told of it.
    #[serde(skip)]
    pub may_be_told: bool,
}

/// Takes a conversion back, wherever it stands.
///
/// # Errors
///
/// [`Error::DockerHasRun`] unless forced, [`Error::Interrupted`], [`Error::Commit`] with [`commit::Error::TakingBack`] when the root is in between,
/// or what stands in the way; nothing has been changed then.
pub fn rollback(request: &RollbackRequest) -> Result<RollbackSummary, Error> {
    expect_writable(&request.root)?;
    put_aufs_side_back((&request.root, "rollback"), &request.host, &request.cancel)?;
    let held = LockedRoot::open(&request.root, &request.host);
    let mut held = held.map_err(|error| no_way_back(&request.root, error))?;
    let path = held.path().to_owned();
    // Renames need little, so going back is not refused for what only reading needs.
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
            // What a run that failed could not take down, and said so.
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
    // What a killed run left active hides when the devices were last mounted.
    let left = left_by_conversion(path, Some(&conversion))?;
    left.but_its_content().remove()?;
    let damaged = expect_way_back(path, &conversion, request, done)?;
    request.expect_not_cancelled()?;
    // Devices and mounts of a killed run first: they hold what is to be moved. And what cannot be taken back is told as long as
    // nothing has been moved.
    let previous = left_by_conversion(path, Some(&conversion))?;
    // Zeros where the pool was mean that a run got no further, or a rollback was done with it. Else they are another disk's.
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
    // Of what was converted the originals were looked at.
    if conversion.story().state != State::Converted {
        done.not_restored.extend(conversion.configs_lost()?);
    }
    previous.remove()?;
    done.freed = conversion.bytes_staged();
    conversion.remove()?;
    Ok(())
}

/// Makes sure, before anything is changed, that going back loses only what was waived. Returns which originals are damaged.
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

/// Whether a device outside of the root was mounted to be written to since the conversion: `docker cp` into a stopped container changes
/// no file of Docker's. A pool that cannot be read is for the steps after this to tell.
fn is_written_in_place(path: &Path, conversion: &Conversion) -> bool {
    let state = conversion.story().state;
    if matches!(state, State::Writing | State::Committing) {
        return false;
    }
    // Files in the root have times of their own.
    let target = recorded_target(conversion).filter(|target| *target != Target::LoopFiles);
    let Some(target) = target else {
        return false;
    };
    // While the move is interrupted the driver's directory may be on either side of it.
    let homes = [path, conversion.stage()].map(|at| at.join("devicemapper"));
    let Some(home) = homes.iter().find(|home| home.is_dir()) else {
        return false;
    };
    let written_at = |id: &CacheId| conversion.note_written_at(id);
    let times = (&written_at as WrittenAt<'_>, conversion.switched_at());
    crate::content::mounted_since_noted(home, &target, times).unwrap_or(false)
}

/// That the pool's metadata is not what the latest verification had before it: that alone is no content, but it shows that somebody used
/// the pool.
fn metadata_written(path: &Path, conversion: &Conversion) -> Option<String> {
    let verified = conversion.story().verified.latest.as_ref()?;
    let seen = verified.seen.as_ref()?;
    // Devices that are not there are told by whoever needs them.
    let now = device_side(path, conversion, None).ok()?;
    let is_written = seen.written_until(&now).contains(&"the pool's metadata");
    is_written.then(|| {
        "the pool's metadata was written to after the latest verification, as by a start of Docker; nothing else that was done there shows"
            .to_owned()
    })
}

/// Where the aufs side of a converted root is gone, that is what there is to tell.
fn no_way_back(root: &Path, error: Error) -> Error {
    let path = root.canonicalize().unwrap_or_else(|_| root.to_owned());
    let found = Conversion::find(&path).ok().flatten();
    let missing = match &error {
        Error::Docker(docker::Error::MissingPart { path }) => Some(path.clone()),
        Error::Docker(docker::Error::NotAufs { .. }) => missing_of_aufs(&path),
        _ => None,
    };
    // What is mounted over a part of it can be why that looks as if it were gone.
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
