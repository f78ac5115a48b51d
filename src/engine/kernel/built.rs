//! What a run made, and how it is taken back when the rest of the conversion fails.

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use uuid::Uuid;

use super::claim::{self, Claim};
use super::device_error;
use super::{Error, Names, Pool, Status};
use crate::thin::{self, ThinId};
use crate::units::{Bytes, MetaBlocks};

/// A pool with all devices of a plan.
#[derive(Debug)]
pub struct Built {
    /// UUID of the base device's file system.
    pub base_uuid: Uuid,
    /// What the devices take in the pool's data.
    pub used_data: Bytes,
    /// What the pool's metadata takes.
    pub used_metadata: MetaBlocks,
    pub(super) claim: Option<Claim>,
    pub(super) root: PathBuf,
}

impl Built {
    /// Removes what was made outside the staging directory.
    ///
    /// # Errors
    ///
    /// Why it cannot be removed.
    pub fn take_back(self) -> Result<(), Error> {
        self.claim
            .map_or(Ok(()), |claim| take_back(&claim, &self.root))
    }
}

/// Removes what a run made outside its staging directory, complete or not.
pub(super) fn take_back(claim: &Claim, root: &Path) -> Result<(), Error> {
    match claim {
        Claim::ThinPool(pool) => empty_pool(pool, root),
        Claim::Devices(devices) => wipe(devices),
    }
}

fn empty_pool(claim: &claim::ThinPool, root: &Path) -> Result<(), Error> {
    let path = Path::new("/dev/mapper").join(&claim.name);
    // No device is made, so the names are of no meaning.
    let pool = Pool::adopt(Names::new(root, root)?, &path)?;
    let ids = claim.first_thin_id..=claim.last_thin_id;
    let now = match pool.status()? {
        Status::Live(live) => live.transaction_id,
        Status::Failed => claim.transaction_id,
    };
    let done = claim.transaction_id + u64::from(claim.last_thin_id + 1 - claim.first_thin_id);
    if now != claim.transaction_id && now != done {
        return Err(Error::ClaimOutdated {
            what: path,
            why: "something else has used the pool since",
        });
    }
    for id in ids.rev() {
        let id = ThinId::new(id).map_err(|_| Error::ClaimOutdated {
            what: path.clone(),
            why: "the record has a thin id that there cannot be",
        })?;
        match pool.delete(id) {
            Err(device_error::Error::DeviceMapper(error))
                if error.errno() == Some(Errno::ENODATA) => {}
            deleted => deleted?,
        }
    }
    if now != claim.transaction_id {
        pool.set_transaction_id(now, claim.transaction_id)?;
    }
    Ok(pool.close()?)
}

/// Makes the metadata device begin with zeros again: then there is no pool on it. It does already where the run got no further.
fn wipe(claim: &claim::Devices) -> Result<(), Error> {
    let path = &claim.metadata.path;
    let outdated = |why| Error::ClaimOutdated {
        what: path.clone(),
        why,
    };
    let same = claim
        .metadata
        .is_there()
        .map_err(Error::io(path, "look at"))?;
    let boot_id = claim::boot_id().map_err(Error::io(path, "find out the boot of"))?;
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .open(path)
        .map_err(Error::io(path, "open"))?;
    let mut first = [0; 4096];
    file.read_exact_at(&mut first, 0)
        .map_err(Error::io(path, "read"))?;
    if !thin::begins_a_pool(&first) {
        return Ok(());
    }
    if !same || boot_id != claim.boot_id {
        return Err(outdated("it may be another device by now"));
    }
    file.write_all_at(&[0; 4096], 0)
        .and_then(|()| file.sync_all())
        .map_err(Error::io(path, "wipe"))
}
