//! An active, finished pool, found without changing it.

use std::fs::File;
use std::path::{Path, PathBuf};

use super::device_error::Error;
use super::in_use;
use super::refusal::Refusal;
use super::status::{Problem, Status, THIN_POOL};
use super::target::{self, FoundPool};
use crate::sys::block::{self, Kind};
use crate::sys::device_mapper::{self, DeviceMapper};
use crate::sys::loops;

/// An active pool that nothing uses: everything it holds is on its disks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ActivePool {
    /// Its device-mapper name.
    pub name: String,
    /// Its device number, as in `st_rdev`.
    pub rdev: u64,
    /// The node of its data device.
    pub data: PathBuf,
    /// The node of its metadata device.
    pub metadata: PathBuf,
    /// What keeps it from being written to, if anything.
    pub problem: Option<Problem>,
}

impl ActivePool {
    /// Finds the pool at a path, such as `/dev/mapper/NAME`.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] if there is no pool, or if it cannot be written to or is in use, by thin devices or anything
    /// else; [`Error::Missing`], [`Error::DeviceMapper`], [`Error::Unreadable`], [`Error::Io`].
    pub fn find(path: &Path) -> Result<Self, Error> {
        let dm = target::device_mapper_with_pools()?;
        Self::idle(&dm, path, target::find(&dm, path)?)
    }

    /// Finds the pool at a path, even if it cannot be written to.
    ///
    /// # Errors
    ///
    /// Otherwise the same as [`find`](Self::find).
    pub fn find_to_read(path: &Path) -> Result<Self, Error> {
        let dm = target::device_mapper_with_pools()?;
        Self::idle(&dm, path, target::find_to_read(&dm, path)?)
    }

    /// Checks that a pool is active at a path. Device-mapper finds it by its name even if neither udev nor libdevmapper
    /// has created a node, or while LVM is creating it anew.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] if there is no pool, or it is not active; [`Error::Missing`], [`Error::DeviceMapper`],
    /// [`Error::Unreadable`].
    pub fn expect_at(path: &Path) -> Result<(), Error> {
        let dm = target::device_mapper_with_pools()?;
        target::find_to_read(&dm, path).map(drop)
    }

    /// Finds the pool that is active on two devices or files, if there is one.
    ///
    /// # Errors
    ///
    /// Same as [`find_to_read`](Self::find_to_read); also an error if something other than a pool uses one of the two.
    pub fn on(data: &Path, metadata: &Path) -> Result<Option<Self>, Error> {
        let dm = match DeviceMapper::open() {
            Ok(dm) => dm,
            Err(device_mapper::Error::Absent(_)) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let mut found: Option<Self> = None;
        for path in [data, metadata] {
            for holder in holders(path)? {
                let mapper = Path::new("/dev/mapper").join(&holder);
                let is_pool = dm
                    .table(&holder)?
                    .iter()
                    .any(|line| line.target == THIN_POOL);
                let to_read = || Self::idle(&dm, &mapper, target::find_to_read(&dm, &mapper)?);
                let pool = is_pool.then(to_read).transpose()?;
                if pool.is_none()
                    || found
                        .as_ref()
                        .is_some_and(|known| pool.as_ref() != Some(known))
                {
                    let by = format!("part of {}", mapper.display());
                    return Err(Error::refused(path, Refusal::InUse { by }));
                }
                found = pool;
            }
        }
        Ok(found)
    }

    fn idle(dm: &DeviceMapper, path: &Path, pool: FoundPool) -> Result<Self, Error> {
        target::expect_unused(dm, path, &pool.name)?;
        // The pool first writes out what it has not written yet.
        let status = target::read_committed_status(dm, &pool.name)?;
        if status == Status::Failed {
            let problem = Problem::Failed;
            return Err(Error::refused(path, Refusal::Broken { problem }));
        }
        let problem = match status.problem() {
            None | Some(Problem::ReadOnly) if pool.read_only => Some(Problem::WriteProtected),
            problem => problem,
        };
        Self::of(pool, problem)
    }

    fn of(pool: FoundPool, problem: Option<Problem>) -> Result<Self, Error> {
        Ok(Self {
            problem,
            data: target::node_of(&pool, &pool.table.data)?,
            metadata: target::node_of(&pool, &pool.table.metadata)?,
            name: pool.name,
            rdev: pool.rdev,
        })
    }
}

/// Names of the device-mapper devices on a block device, or on the loop devices of a file.
fn holders(path: &Path) -> Result<Vec<String>, Error> {
    let numbers = match block::kind(path).map_err(Error::io(path, "stat"))? {
        Kind::Block { rdev } => vec![rdev],
        Kind::File { .. } => loops_of(path)?,
        Kind::Other => return Err(Error::refused(path, Refusal::Kind)),
    };
    let mut names = Vec::new();
    for rdev in numbers {
        for holder in block::holders(rdev) {
            let node = Path::new("/dev").join(&holder);
            let name = match block::kind(&node) {
                Ok(Kind::Block { rdev }) => block::device_mapper_name(rdev),
                _ => None,
            };
            let in_use = || {
                Error::refused(
                    path,
                    Refusal::InUse {
                        by: in_use::users(rdev),
                    },
                )
            };
            names.push(name.ok_or_else(in_use)?);
        }
    }
    Ok(names)
}

fn loops_of(path: &Path) -> Result<Vec<u64>, Error> {
    let found = File::open(path).and_then(|file| loops::attached_to(&file));
    let found = found.map_err(Error::io(path, "find the loop devices"))?;
    let numbers = found.iter().filter_map(|node| match block::kind(node) {
        Ok(Kind::Block { rdev }) => Some(rdev),
        _ => None,
    });
    Ok(numbers.collect())
}
