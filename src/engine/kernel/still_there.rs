//! Whether what a conversion made outside of its root is where it made it. Names of devices lead elsewhere after a boot: what is found
//! there then says nothing of the pool.

use std::io;
use std::path::Path;

use super::claim::Claim;
use super::take_back::{not_ours, path_of};
use super::target::{self, Found};
use super::{Error, device_mapper_with_pools};
use crate::sys::block;
use crate::thin;

/// Makes sure that a finished pool is not another one, or an empty disk. What is damaged in it is for a verification to tell.
///
/// # Errors
///
/// [`Error::NotOurs`].
pub(super) fn expect_pool(claim: &Claim) -> Result<(), Error> {
    match claim {
        Claim::Devices(devices) => {
            let path = &devices.metadata.path;
            let mut first = [0; 4096];
            match block::read_direct(path, 0, &mut first) {
                Ok(()) if thin::begins_a_pool(&first) => Ok(()),
                Ok(()) => Err(not_there(path)),
                // A loop device without its file.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Err(not_there(path)),
                // One that is not there or cannot be read is told by whoever needs it.
                Err(_) => Ok(()),
            }
        }
        Claim::ThinPool(pool) => {
            let path = path_of(pool);
            // Likewise.
            let found = device_mapper_with_pools().and_then(|dm| target::find(&dm, &path));
            let is_other = |found: &Found| {
                Some(&*found.uuid).filter(|uuid| !uuid.is_empty()) != pool.uuid.as_deref()
            };
            if found.is_ok_and(|found| is_other(&found)) {
                return Err(not_ours(&path, "it is another pool of that name"));
            }
            Ok(())
        }
    }
}

/// Makes sure, too, that it holds something. As long as no step back was made, it does.
///
/// # Errors
///
/// As [`expect_pool`], and as reading the pool.
pub(super) fn expect_content(claim: &Claim) -> Result<(), Error> {
    expect_pool(claim)?;
    let Claim::ThinPool(pool) = claim else {
        return Ok(());
    };
    let path = path_of(pool);
    if target::contents(&path)?.ids.is_empty() {
        return Err(not_there(&path));
    }
    Ok(())
}

fn not_there(path: &Path) -> Error {
    not_ours(
        path,
        "it holds no thin devices, and the pool that was converted into does: another disk may have its name since a boot; attach the \
         right one under this name",
    )
}
