//! The thin pool: one that this run made, or the operator's.

use std::collections::HashSet;
use std::path::Path;
use std::sync::{Arc, Mutex};

use nix::errno::Errno;

use super::backing::Backing;
use super::device_error::{BusyDevice, Error};
use super::in_use;
use super::names::{Names, What};
use super::pool_handle::{PoolHandle, lock};
use super::status::{
    ERROR_IF_NO_SPACE, ERROR_IF_NO_SPACE_SINCE, PoolTable, Problem, Status, THIN_POOL,
};
use super::target::{self, Contents};
use super::thin_device::Thin;
use crate::shell::quoted;
use crate::sys::block;
use crate::sys::device_mapper::{self, DeviceMapper, Line};
use crate::thin::ThinId;
use crate::units::Bytes;

/// The number of free data blocks below which the kernel sends an event. It is Docker's own value, so that the tables
/// are equal.
/// Source: moby v20.10 `pkg/devicemapper/devmapper.go`, `CreatePool`.
const LOW_WATER: u64 = 32768;

/// Docker's only feature argument: a block is not zeroed before it is written. Source: same as above.
const SKIP_BLOCK_ZEROING: &str = "skip_block_zeroing";

/// What a run did in a pool, for undoing it.
#[derive(Debug, Default)]
struct UndoLog {
    ids: Vec<ThinId>,
    /// The transaction id before the first change, and the current one.
    transaction: Option<(u64, u64)>,
    /// Whether everything in a pool on this run's devices or files was made by this run.
    all: bool,
}

/// The devices that this run's own pool is built on.
#[derive(Debug)]
struct OwnBacking {
    data: Backing,
    metadata: Backing,
}

impl OwnBacking {
    fn open(data: &Path, metadata: &Path) -> Result<Self, Error> {
        Ok(Self {
            data: Backing::open(data)?,
            metadata: Backing::open(metadata)?,
        })
    }
}

/// An active pool. Everything that is not [`close`](Self::close)d is undone: dropping is [`abandon`](Self::abandon).
///
/// Its methods may be called by several threads at once.
#[derive(Debug)]
pub struct Pool {
    shared: Arc<PoolHandle>,
    names: Names,
    /// `None` for the operator's pool.
    own: Option<OwnBacking>,
    done: Mutex<UndoLog>,
    over: bool,
}

impl Pool {
    /// Makes a new pool on two block devices or files, the second of which must begin with zeros. Files are attached to
    /// loop devices, which the kernel detaches together with the pool.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] if the metadata device does not begin with zeros; [`Error::DeviceMapper`], `Taken` if there
    /// is already a device with the pool's name; [`Error::Missing`], [`Error::Io`]. Everything is then as it was.
    pub fn create(
        names: Names,
        data: &Path,
        metadata: &Path,
        data_block: Bytes,
    ) -> Result<Self, Error> {
        let own = OwnBacking::open(data, metadata)?;
        own.metadata.expect_blank()?;
        let pool = Self::activate_on(own, names, data_block, true)?;
        lock(&pool.done).all = true;
        Ok(pool)
    }

    /// Activates the pool that an earlier run made on two block devices or files. It stays unchanged until it is [taken
    /// over](Self::take_over).
    ///
    /// # Errors
    ///
    /// Same as [`create`](Self::create), or the kernel's error for metadata that does not fit.
    pub(crate) fn reopen(
        names: Names,
        data: &Path,
        metadata: &Path,
        data_block: Bytes,
    ) -> Result<Self, Error> {
        Self::activate_on(OwnBacking::open(data, metadata)?, names, data_block, false)
    }

    fn activate_on(
        mut own: OwnBacking,
        names: Names,
        data_block: Bytes,
        is_new: bool,
    ) -> Result<Self, Error> {
        let dm = target::device_mapper_with_pools()?;
        let mut table = PoolTable {
            metadata: own.metadata.number(),
            data: own.data.number(),
            block_sectors: data_block.sectors().0,
            low_water: LOW_WATER,
            features: vec![SKIP_BLOCK_ZEROING.to_owned()],
        };
        if dm.target_version(THIN_POOL)? >= Some(ERROR_IF_NO_SPACE_SINCE) {
            table.features.push(ERROR_IF_NO_SPACE.to_owned());
        }
        let sectors = own.data.size()?.sectors().0;
        let line = Line::only(sectors, THIN_POOL, table.to_string());
        let (name, uuid) = (names.pool(), names.pool_uuid());
        // The kernel writes the metadata as soon as the table is loaded; if that fails, it has written nothing else.
        let created = dm.create(&name, &uuid, &line).inspect_err(|error| {
            if is_new && !matches!(error, device_mapper::Error::Taken { .. }) {
                own.metadata.wait_until_free();
                report(own.metadata.wipe());
            }
        });
        let rdev = created?.rdev;
        own.data.hand_over();
        own.metadata.hand_over();
        let found = target::FoundPool {
            name,
            uuid,
            rdev,
            table,
            read_only: false,
        };
        Self::with(dm, found, names, Some(own))
    }

    /// Uses the operator's pool, which [`Target::check`](super::target::Target::check) found suitable.
    ///
    /// # Errors
    ///
    /// Same as for that check, as far as the pool's name, state and table are concerned.
    pub fn adopt(names: Names, path: &Path) -> Result<Self, Error> {
        let dm = target::device_mapper_with_pools()?;
        let found = target::find(&dm, path)?;
        Self::with(dm, found, names, None)
    }

    fn with(
        dm: DeviceMapper,
        found: target::FoundPool,
        names: Names,
        own: Option<OwnBacking>,
    ) -> Result<Self, Error> {
        Ok(Self {
            shared: Arc::new(PoolHandle::new(dm, found, own.is_none())?),
            names,
            own,
            done: Mutex::default(),
            over: false,
        })
    }

    /// Its device-mapper name.
    pub fn name(&self) -> &str {
        &self.shared.name
    }

    /// The size of its data blocks.
    pub fn data_block(&self) -> Bytes {
        self.shared.data_block
    }

    /// Its status, without making the pool write anything.
    ///
    /// # Errors
    ///
    /// [`Error::DeviceMapper`], [`Error::Unreadable`].
    pub fn status(&self) -> Result<Status, Error> {
        self.shared.status()
    }

    /// Makes an empty thin device. It is durable on return, as are the other changes.
    ///
    /// # Errors
    ///
    /// [`Error::IdTaken`], or the problem of the pool if it refuses.
    pub fn create_thin(&self, id: ThinId) -> Result<(), Error> {
        self.make(id, &format!("create_thin {id}"))
    }

    /// Makes a thin device with the content of `origin`, which must not be active.
    ///
    /// # Errors
    ///
    /// Same as [`create_thin`](Self::create_thin).
    pub fn create_snap(&self, id: ThinId, origin: ThinId) -> Result<(), Error> {
        self.make(id, &format!("create_snap {id} {origin}"))
    }

    /// Changes the transaction id.
    ///
    /// # Errors
    ///
    /// [`Error::DeviceMapper`] with `EINVAL` if it is not `from`; the problem of the pool if it refuses.
    pub fn set_transaction_id(&self, from: u64, to: u64) -> Result<(), Error> {
        self.message(&format!("set_transaction_id {from} {to}"))?;
        let mut done = lock(&self.done);
        let before = done.transaction.map_or(from, |(before, _)| before);
        done.transaction = Some((before, to));
        Ok(())
    }

    /// Activates a thin device with a size of `size` bytes.
    ///
    /// # Errors
    ///
    /// [`Error::DeviceMapper`], or [`Error::Io`] if its node does not appear.
    pub fn activate(&self, id: ThinId, size: Bytes, what: What<'_>) -> Result<Thin, Error> {
        let params = format!("{} {id}", block::number(self.shared.rdev));
        let line = Line::only(size.sectors().0, "thin", params);
        let (name, uuid) = (self.names.thin(what), self.names.thin_uuid(what));
        Thin::activate(&self.shared, (name, &uuid), &line)
    }

    /// The problem of the pool, or of what it is built on: the cause of an I/O error on one of its devices.
    pub fn explain(&self) -> Option<Error> {
        let problem = self.shared.problem().unwrap_or_else(|error| {
            log::debug!("{error}: {:?}", std::error::Error::source(&error));
            None
        });
        if let Some(own) = &self.own {
            let below = [&own.data, &own.metadata];
            if let Some(error) = below.into_iter().find_map(Backing::cannot_grow) {
                return Some(error);
            }
        }
        problem.map(|problem| Error::problem(&self.shared.name, problem))
    }

    /// Makes everything that was made so far durable.
    ///
    /// # Errors
    ///
    /// The problem of the pool.
    pub fn commit(&self) -> Result<(), Error> {
        self.shared.commit()
    }

    /// Ends the run and keeps everything that was made. The operator's pool stays active with its original table; this
    /// run's own pool is removed, and what it is built on is durable.
    ///
    /// # Errors
    ///
    /// The problem of the pool or of what it is built on; everything is then undone. [`Error::Stuck`] if something is
    /// left that should be gone; nothing is then undone.
    pub fn close(mut self) -> Result<(), Error> {
        self.commit()?;
        self.over = true;
        let mut stuck = self.remove_thins();
        stuck.extend(self.release());
        if !stuck.is_empty() {
            return Err(Error::Stuck(stuck));
        }
        let Some(own) = &self.own else {
            return Ok(());
        };
        let flushed = own.data.flush().and_then(|()| own.metadata.flush());
        if flushed.is_err() {
            report(own.metadata.wipe());
        }
        flushed
    }

    /// Undoes the run: deletes what was made in the operator's pool, or removes this run's own pool and overwrites the
    /// start of its metadata device with zeros.
    ///
    /// # Returns
    ///
    /// What could not be undone.
    #[must_use]
    pub fn abandon(mut self) -> Vec<BusyDevice> {
        self.undo()
    }

    /// Continues with what an earlier run made in the pool: sets the transaction id back, and deletes the devices that
    /// are not kept, the last one first. From then on the kept ones count as made by this run, and are undone with it.
    ///
    /// # Errors
    ///
    /// Same as [`empty`](Self::empty); it can be repeated, however far it got.
    pub(crate) fn take_over(
        &self,
        held: &Contents,
        kept: &HashSet<ThinId>,
        transaction: u64,
    ) -> Result<(), Error> {
        if held.transaction_id != transaction {
            let from = held.transaction_id;
            self.message(&format!("set_transaction_id {from} {transaction}"))?;
        }
        for id in held.ids.iter().rev().filter(|id| !kept.contains(id)) {
            self.message(&format!("delete {id}"))?;
        }
        let mut done = lock(&self.done);
        done.ids.clone_from(&held.ids);
        done.ids.retain(|id| kept.contains(id));
        done.all = true;
        Ok(())
    }

    /// Sets the transaction id of an operator's pool back and deletes the devices, the last one first: this undoes a
    /// run that is over. It can be repeated, wherever it stopped.
    ///
    /// # Errors
    ///
    /// [`Error::DeviceMapper`] if a device is active, or the problem of the pool if it refuses.
    pub(crate) fn empty(mut self, ids: &[ThinId], (from, to): (u64, u64)) -> Result<(), Error> {
        self.over = true;
        if from != to {
            self.message(&format!("set_transaction_id {from} {to}"))?;
        }
        let mut backwards = ids.iter().rev();
        backwards.try_for_each(|id| self.message(&format!("delete {id}")))
    }

    pub(super) fn shared(&self) -> Arc<PoolHandle> {
        Arc::clone(&self.shared)
    }

    fn make(&self, id: ThinId, message: &str) -> Result<(), Error> {
        match self.message(message) {
            Err(Error::DeviceMapper(error)) if error.errno() == Some(Errno::EEXIST) => {
                Err(Error::IdTaken {
                    pool: self.shared.name.clone(),
                    id,
                })
            }
            Err(error) => Err(error),
            Ok(()) => {
                lock(&self.done).ids.push(id);
                Ok(())
            }
        }
    }

    /// Sends a message. A pool with a problem refuses every message with the same `EOPNOTSUPP`, so its status is then
    /// read for the cause.
    fn message(&self, message: &str) -> Result<(), Error> {
        let sent = self.shared.dm.message(&self.shared.name, message);
        sent.map_err(|error| match error.errno() {
            Some(Errno::EEXIST | Errno::EINVAL) => error.into(),
            _ => self.explain().unwrap_or_else(|| error.into()),
        })
    }

    fn undo(&mut self) -> Vec<BusyDevice> {
        self.over = true;
        let mut stuck = self.remove_thins();
        if self.own.is_none() {
            stuck.extend(self.undo_messages());
        }
        let held = self.release();
        let is_all = lock(&self.done).all;
        if let Some(own) = self.own.as_ref().filter(|_| is_all) {
            let blank = if held.is_empty() {
                own.metadata.wipe()
            } else {
                Some(own.metadata.unwiped("wipe it once the pool is removed"))
            };
            stuck.extend(held.into_iter().chain(blank));
        } else {
            stuck.extend(held);
        }
        stuck
    }

    /// Removes this run's own pool, or returns the operator's to its former state.
    fn release(&mut self) -> Vec<BusyDevice> {
        let Some(own) = &mut self.own else {
            return self.shared.restore_table().into_iter().collect();
        };
        if let Err(error) = self.shared.dm.remove(&self.shared.name) {
            return vec![still_there(&error, &self.shared.name)];
        }
        let mut stuck = own.data.wait_until_free();
        stuck.extend(own.metadata.wait_until_free());
        stuck
    }

    /// Removes the thin devices that are still active after a failure.
    fn remove_thins(&self) -> Vec<BusyDevice> {
        let states = self.shared.dm.list().unwrap_or_default();
        let ours = states
            .iter()
            .filter(|state| self.names.is_thin_uuid(&state.uuid));
        let mut stuck = Vec::new();
        for state in ours {
            if let Err(error) = self.shared.dm.remove(&state.name) {
                stuck.extend(in_use::mount_points(state.rdev).into_iter().map(|point| {
                    BusyDevice {
                        what: format!("{} is mounted", state.name),
                        command: format!("umount {}", quoted(&point)),
                    }
                }));
                stuck.push(still_there(&error, &state.name));
            }
        }
        stuck
    }

    fn undo_messages(&self) -> Vec<BusyDevice> {
        let done = std::mem::take(&mut *lock(&self.done));
        // First the transaction, as in `empty`: a pool with this transaction id is known to have all devices.
        let transaction = done
            .transaction
            .map(|(before, now)| format!("set_transaction_id {now} {before}"));
        let deletions = done.ids.iter().rev().map(|id| format!("delete {id}"));
        let pool = &self.shared.name;
        let sent: Vec<_> = transaction
            .into_iter()
            .chain(deletions)
            .map(|message| (self.shared.dm.message(pool, &message), message))
            .collect();
        // The kernel reports a message as done before it is committed, and reverts it if the commit fails.
        // Source: linux v6.6 drivers/md/dm-thin.c, `pool_message`.
        let now = self.shared.status().map(|status| status.problem());
        let lasts = matches!(now, Ok(None | Some(Problem::DataFull)));
        let stuck = sent.into_iter().filter_map(|(outcome, message)| {
            let what = match outcome {
                Err(error) => error.to_string(),
                Ok(()) if lasts => return None,
                Ok(()) => format!(
                    "device-mapper device {pool}: accepted this message, but may have lost it"
                ),
            };
            Some(BusyDevice {
                what,
                command: format!("dmsetup message {pool} 0 '{message}'"),
            })
        });
        stuck.collect()
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        if !self.over {
            report(self.undo());
        }
    }
}

fn still_there(error: &device_mapper::Error, name: &str) -> BusyDevice {
    let why = error.errno().map_or("in use", Errno::desc);
    BusyDevice {
        what: format!("device-mapper device {name}: {why}"),
        command: format!("dmsetup remove {name}"),
    }
}

fn report(stuck: impl IntoIterator<Item = BusyDevice>) {
    for stuck in stuck {
        log::warn!("something was left behind. Next: run this by hand: {stuck}");
    }
}
