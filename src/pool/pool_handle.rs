//! The shared handle of a pool: its status and its table.

use std::sync::{Mutex, MutexGuard, PoisonError};

use super::device_error::{BusyDevice, Error};
use super::lvm::{self, LvmLock};
use super::status::{ERROR_IF_NO_SPACE_SINCE, PoolTable, Problem, Status, THIN_POOL};
use super::suspended::{expect_left_alone, outlast_suspension, state_once_left_alone};
use super::target;
use crate::chain::Chain;
use crate::sys::device_mapper::{Commit, DeviceMapper, Line, State};
use crate::units::{Bytes, SECTOR_BYTES};

/// The handle that everything working on a pool shares: its thin devices and its watch.
#[derive(Debug)]
pub(super) struct PoolHandle {
    pub(super) dm: DeviceMapper,
    pub(super) name: String,
    uuid: String,
    pub(super) rdev: u64,
    pub(super) data_block: Bytes,
    /// Whether it is the operator's pool.
    is_given: bool,
    /// Whether the kernel can fail writes for which there is no space.
    can_error: bool,
    /// Whether this program added `error_if_no_space` to the table.
    changed: Mutex<bool>,
    seen: Mutex<LastStatus>,
}

/// The earlier status of a pool.
#[derive(Debug, Default)]
struct LastStatus {
    /// The first problem; later ones follow from it.
    problem: Option<Problem>,
    /// Whether metadata blocks were about to run out. A pool that runs out of them may fail completely, and then
    /// reports nothing any more (seen with Linux 7.2).
    metadata_was_short: bool,
}

impl PoolHandle {
    pub(super) fn new(
        dm: DeviceMapper,
        found: target::FoundPool,
        is_given: bool,
    ) -> Result<Self, Error> {
        let version = dm.target_version(THIN_POOL)?;
        Ok(Self {
            dm,
            name: found.name,
            uuid: found.uuid,
            rdev: found.rdev,
            data_block: Bytes(found.table.block_sectors.saturating_mul(SECTOR_BYTES)),
            is_given,
            can_error: version >= Some(ERROR_IF_NO_SPACE_SINCE),
            changed: Mutex::new(false),
            seen: Mutex::default(),
        })
    }

    /// The pool's status, without making the pool write anything.
    pub(super) fn status(&self) -> Result<Status, Error> {
        target::read_status(&self.dm, &self.name, Commit::No)
    }

    /// The first problem ever seen that keeps the pool from being written to.
    pub(super) fn problem(&self) -> Result<Option<Problem>, Error> {
        let status = self.status()?;
        let mut seen = lock(&self.seen);
        let problem = match (status, status.problem()) {
            (_, Some(Problem::Failed)) if seen.metadata_was_short => Some(Problem::MetadataFull),
            (_, problem) => problem,
        };
        if let Status::Live(live) = status {
            seen.metadata_was_short |= live.metadata_is_short();
        }
        seen.problem = seen.problem.or(problem);
        Ok(seen.problem)
    }

    /// Makes everything that was made so far durable.
    ///
    /// # Errors
    ///
    /// The problem of the pool.
    pub(super) fn commit(&self) -> Result<(), Error> {
        target::read_committed_status(&self.dm, &self.name)?;
        let problem = self.problem()?;
        problem.map_or(Ok(()), |problem| Err(Error::problem(&self.name, problem)))
    }

    /// Makes writes fail for which the pool has no space, including those that are already waiting.
    pub(super) fn stop_queueing(&self) -> Result<(), Error> {
        if !self.can_error {
            return Ok(());
        }
        let (_held_off, sectors, table) = self.table_in_use()?;
        if table.errors_if_no_space() {
            return Ok(());
        }
        // Set even if the call fails, because it may have been partly done.
        *lock(&self.changed) = true;
        let table = table.with_error_if_no_space();
        Ok(self.dm.reload(&self.name, &line(sectors, &table))?)
    }

    /// The size in sectors and the table, once nothing else is changing them. LVM may extend the pool at any time, and
    /// a pool cannot resume with a smaller size than it had, so LVM is kept out.
    fn table_in_use(&self) -> Result<(Option<LvmLock>, u64, PoolTable), Error> {
        // This comes before LVM is kept out, because LVM may be the one that ends the change.
        state_once_left_alone(&self.dm, &self.name)?;
        let held_off = lvm::hold_off(&self.name, &self.uuid);
        expect_left_alone(self.dm.state(&self.name)?.as_ref())?;
        let (sectors, table) = target::read_table(&self.dm, &self.name)?;
        Ok((held_off, sectors, table))
    }

    /// Undoes the change that [`stop_queueing`](Self::stop_queueing) made to the table.
    pub(super) fn restore_table(&self) -> Option<BusyDevice> {
        if !*lock(&self.changed) {
            return None;
        }
        let name = &self.name;
        let (error, command) = match self.table_in_use() {
            // LVM may already have done this.
            Ok((_, _, table)) if !table.errors_if_no_space() => return None,
            Ok((_held_off, sectors, table)) => {
                let line = line(sectors, &table.without_error_if_no_space());
                let Err(error) = self.dm.reload(name, &line) else {
                    *lock(&self.changed) = false;
                    return None;
                };
                let command = format!(
                    "dmsetup reload {name} --table '{line}' && dmsetup suspend --noflush {name} && dmsetup resume {name}"
                );
                (error.into(), command)
            }
            Err(error) => (error, format!("dmsetup table {name}")),
        };
        // LVM knows the table, even if it has extended the pool since.
        let lvms = lvm::volume(name, &self.uuid);
        let lvms = lvms.map(|volume| format!("lvchange --refresh {volume}"));
        Some(BusyDevice {
            what: format!(
                "{}: the pool fails writes when it is full, which it did not do before",
                Chain(&error)
            ),
            command: lvms.unwrap_or(command),
        })
    }

    /// Creates a device on the pool.
    pub(super) fn create_on(
        &self,
        (name, uuid): (&str, &str),
        line: &Line,
    ) -> Result<State, Error> {
        let create = || self.dm.create(name, uuid, line);
        if self.is_given {
            outlast_suspension(&self.dm, &self.name, create)
        } else {
            Ok(create()?)
        }
    }
}

fn line(sectors: u64, table: &PoolTable) -> Line {
    Line::only(sectors, THIN_POOL, table.to_string())
}

/// Locks a mutex. A thread that panicked while it held the lock left nothing half-done, because each value is set as a
/// whole.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
