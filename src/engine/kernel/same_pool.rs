//! Tells the pool of a record from all others, by what is in it: after a boot a device may have another's number and name.

use std::path::Path;

use uuid::Uuid;

use super::{Error, base, claim, target};
use crate::sys::block;
use crate::units::{Bytes, SECTOR_BYTES};

/// Whether the pool on two devices has the base device that the record says. `mkfs` drew that file system's UUID by chance.
/// Both are read as they are on the disk; nothing is activated, for it may be somebody else's pool.
///
/// A record without a UUID, of a run that ended before the base device was durable, is of no pool for certain.
pub(super) fn is_of(claim: &claim::Devices) -> Result<bool, Error> {
    match &claim.base_uuid {
        None => Ok(false),
        Some(uuid) => Ok(base_uuid(&claim.data.path, &claim.metadata.path)?
            .is_some_and(|found| found.to_string() == *uuid)),
    }
}

/// The UUID of the file system on a pool's first device.
fn base_uuid(data: &Path, metadata: &Path) -> Result<Option<Uuid>, Error> {
    let pool = target::read_metadata(metadata)?;
    let block = Bytes(pool.data_block_size.0 * SECTOR_BYTES);
    let place = pool
        .devices
        .first()
        .and_then(|base| base.mapping.get(0))
        .and_then(|mapped| mapped.data_block.checked_mul(block.0));
    let Some(place) = place else {
        return Ok(None);
    };
    let mut first = [0; 4096];
    block::read_direct(data, place, &mut first).map_err(Error::io(data, "read"))?;
    Ok(base::uuid_in(&first))
}
