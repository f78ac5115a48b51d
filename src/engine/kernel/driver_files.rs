//! What Docker has made and removed in a pool since the conversion, according to the files of its driver.

use std::collections::BTreeSet;
use std::path::Path;

use crate::devicemapper::DeviceFiles;

/// What the driver's files say about the pool.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct DriverFiles {
    /// The devices that have a file, or belong to the transaction that was started last.
    ids: BTreeSet<u32>,
    /// The id of that transaction: the pool's own, or the next one while it is in progress.
    /// Source: moby v20.10 `daemon/graphdriver/devmapper/deviceset.go`, `openTransaction`, `closeTransaction`.
    open_transaction: Option<u64>,
}

impl DriverFiles {
    /// Reads the files of a root: in their place, or in the staging directory if a conversion is not yet or no longer
    /// in place. What cannot be read is ignored.
    pub(super) fn read(root: &Path, stage: &Path) -> Self {
        let homes = [root, stage].map(|parent| parent.join("devicemapper"));
        let read = homes.iter().find_map(|home| DeviceFiles::read(home).ok());
        read.map(|files| Self::of(&files)).unwrap_or_default()
    }

    fn of(files: &DeviceFiles) -> Self {
        let devices = files.base.iter().chain(files.layers.values());
        let mut ids: BTreeSet<_> = devices.map(|device| device.id().get()).collect();
        let open = files.open.as_ref();
        ids.extend(open.and_then(|open| u32::try_from(open.device).ok()));
        Self {
            ids,
            open_transaction: open.map(|open| open.id),
        }
    }

    /// Whether the device with this id is Docker's.
    pub(super) fn has(&self, id: u32) -> bool {
        self.ids.contains(&id)
    }

    /// Whether Docker has changed the pool since it had this transaction id.
    pub(super) fn came_after(&self, transaction_id: u64) -> bool {
        self.open_transaction
            .is_some_and(|open| open > transaction_id)
    }

    /// Whether Docker can have set the pool to this transaction id.
    pub(super) fn left(&self, transaction_id: u64) -> bool {
        let open = self.open_transaction;
        open == Some(transaction_id) || open.is_some() && open == transaction_id.checked_add(1)
    }
}

#[cfg(test)]
impl DriverFiles {
    /// Driver files for tests of the code that uses them.
    pub(super) fn with(ids: &[u32], open_transaction: u64) -> Self {
        Self {
            ids: ids.iter().copied().collect(),
            open_transaction: Some(open_transaction),
        }
    }
}
