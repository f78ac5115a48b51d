//! The kernel's view of a pool: missing, in use, or in no state to be written to. None of that is damage, so there is
//! no verdict; it has to be fixed first.

use std::io;
use std::path::Path;

use super::error::Error;
use crate::content::pool::{self, Pool};
use crate::pool::DeviceError;
use crate::pool::target::Target;
use crate::pool::{ActivePool, Problem, Refusal, volume_at};
use crate::shell::word;
use crate::thin;

/// Checks that the operator's devices exist.
///
/// # Errors
///
/// [`Error::DeviceMissing`], [`Error::PoolOutOfReach`].
pub fn expect_devices(target: &Target) -> Result<(), Error> {
    let paths = match target {
        Target::LoopFiles => return Ok(()),
        Target::ThinPool { path } => return expect_pool(path),
        Target::Devices { data, metadata } => [data, metadata],
    };
    match paths.into_iter().find(|path| is_missing(path)) {
        None => Ok(()),
        Some(path) => Err(missing(path)),
    }
}

fn expect_pool(path: &Path) -> Result<(), Error> {
    ActivePool::expect_at(path).map_err(|error| match &error {
        DeviceError::Refused { why, .. } if matches!(**why, Refusal::Missing) => missing(path),
        // Its name shows how to activate it, and the activation loads what the kernel lacks.
        DeviceError::Missing { .. } if is_missing(path) => missing(path),
        _ => Error::PoolOutOfReach(error),
    })
}

fn is_missing(path: &Path) -> bool {
    let looked = path.metadata();
    looked.is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
}

fn missing(path: &Path) -> Error {
    Error::DeviceMissing {
        remedy: remedy_for_missing(path),
        path: path.to_owned(),
    }
}

fn remedy_for_missing(path: &Path) -> String {
    match volume_of(path) {
        Some(Volume { group, path }) => {
            format!("`lvchange -ay {path}`, or `vgchange -ay {group}` for the whole volume group")
        }
        None => "attach its disk, or pass the path that the device has now".to_owned(),
    }
}

/// The first block of the pool's metadata; `None` if it cannot be read, which a verification reports. `home` as for
/// [`Pool::open`].
///
/// # Errors
///
/// [`Error::PoolOutOfReach`], [`Error::LinkedPool`].
pub fn superblock(home: &Path, target: &Target) -> Result<Option<[u8; 4096]>, Error> {
    match pool::superblock(home, target) {
        Ok(block) => Ok(Some(block)),
        Err(error) => unless_out_of_reach(error).map(|_| None),
    }
}

/// Distinguishes a pool that cannot be read in its present state from one that cannot be read at all.
///
/// # Errors
///
/// [`Error::PoolOutOfReach`] and [`Error::LinkedPool`] for the first.
pub(super) fn unless_out_of_reach(error: pool::Error) -> Result<pool::Error, Error> {
    let is_broken = match &error {
        pool::Error::Active(DeviceError::Refused { why, .. }) => {
            matches!(**why, Refusal::Broken { .. })
        }
        pool::Error::Active(error) => !matches!(error, DeviceError::Missing { .. }),
        _ => true,
    };
    match error {
        pool::Error::Active(error) if !is_broken => Err(Error::PoolOutOfReach(error)),
        pool::Error::Link { path, target } => Err(Error::LinkedPool { path, target }),
        error => Ok(error),
    }
}

/// Checks that the kernel allows writes to the pool if it is active: otherwise Docker could not continue with it.
///
/// # Errors
///
/// [`Error::PoolNotWritable`].
pub(super) fn expect_writable(pool: &Pool) -> Result<(), Error> {
    let active = pool.active().and_then(|one| Some((one, one.problem?)));
    let Some((active, problem)) = active.filter(|(_, problem)| *problem != Problem::DataFull)
    else {
        return Ok(());
    };
    let path = Path::new("/dev/mapper").join(&active.name);
    let remedy = match (problem, volume_of(&path)) {
        (Problem::WriteProtected, Some(Volume { path, .. })) => format!("`lvchange -prw {path}`"),
        (Problem::WriteProtected, None) => "make it and the devices below it writable".to_owned(),
        (Problem::MetadataFull, Some(Volume { path, .. })) => {
            format!("`lvextend --poolmetadatasize +1G {path}`")
        }
        (_, Some(Volume { path, .. })) => {
            format!("`lvchange -an {path}`, `lvconvert --repair {path}` and `lvchange -ay {path}`")
        }
        (_, None) => format!(
            "remove it with `dmsetup remove {}`, run `thin_check {}`, repair what that finds with `thin_repair`, create the pool again",
            word(Path::new(&active.name)),
            word(pool.metadata_path())
        ),
    };
    Err(Error::PoolNotWritable {
        path,
        problem,
        remedy,
    })
}

/// The message that a pool is full: its contents are there all the same.
pub(super) fn full(pool: &Pool) -> Option<String> {
    let active = pool.active()?;
    if active.problem != Some(Problem::DataFull) {
        return None;
    }
    let path = Path::new("/dev/mapper").join(&active.name);
    let remedy = match volume_of(&path) {
        Some(Volume { path, .. }) => format!("`lvextend -L +10G {path}`"),
        None => "extend its data device".to_owned(),
    };
    Some(format!(
        "{}: its data device is full, so Docker could not write to it. Next: {remedy}",
        path.display()
    ))
}

/// The message about the mark that keeps the kernel from writing to the pool, with the command that removes it.
pub(super) fn needs_check(pool: &Pool, target: &Target) -> Option<String> {
    let is_marked = |remark: &thin::Error| matches!(remark, thin::Error::NeedsCheck);
    if !pool.remarks().first().iter().any(is_marked) {
        return None;
    }
    let path = pool.metadata_path();
    let command = match target {
        Target::ThinPool { path } => match volume_of(path) {
            Some(Volume { path, .. }) => {
                format!("`lvchange -an {path}`, then `lvconvert --repair {path}`")
            }
            None => "deactivate the pool, then repair its metadata with `thin_repair`".to_owned(),
        },
        _ => format!("`thin_check --clear-needs-check-flag {}`", word(path)),
    };
    Some(format!(
        "{}: the pool is marked as needing a check, so the kernel does not allow writes. Next: {command}",
        path.display()
    ))
}

/// An LVM volume, quoted as words of a command.
struct Volume {
    group: String,
    /// `GROUP/VOLUME`.
    path: String,
}

fn volume_of(path: &Path) -> Option<Volume> {
    let (group, volume) = volume_at(path)?;
    let path = word(Path::new(&format!("{group}/{volume}")));
    let group = word(Path::new(&group));
    Some(Volume { group, path })
}
