//! Whether what a conversion made outside of its root is still there. After a boot, a device's name may lead elsewhere,
//! and what is found there says nothing about the pool.

use std::io;
use std::path::Path;

use super::claim::{Claim, ThinPool};
use super::error::Error;
use super::take_back::{not_ours, path_of};
use crate::pool::target::{self, FoundPool, device_mapper_with_pools};
use crate::pool::volume_at;
use crate::shell::word;
use crate::sys::block;
use crate::sys::device_mapper::DeviceMapper;
use crate::thin;

/// Checks that a finished pool is not another one now, or an empty disk. A verification finds damage in it.
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
                // If it does not exist or cannot be read, the code that needs it reports that.
                Err(_) => Ok(()),
            }
        }
        Claim::ThinPool(pool) => {
            let path = path_of(pool);
            // The same applies here.
            let dm = device_mapper_with_pools();
            let found = dm
                .as_ref()
                .ok()
                .and_then(|dm| target::find_to_read(dm, &path).ok());
            let is_other = |found: &FoundPool| {
                Some(&*found.uuid).filter(|uuid| !uuid.is_empty()) != pool.uuid.as_deref()
            };
            let elsewhere = || renamed(dm.as_ref().ok()?, pool);
            match found {
                Some(found) if !is_other(&found) => Ok(()),
                Some(_) => Err(not_ours(
                    &path,
                    elsewhere()
                        .unwrap_or_else(|| "it is a different pool with the same name".to_owned()),
                )),
                None => elsewhere().map_or(Ok(()), |why| Err(not_ours(&path, why))),
            }
        }
    }
}

/// Also checks that the pool contains something. It does until the first step of undoing.
///
/// # Errors
///
/// Same as [`expect_pool`], or the pool cannot be read.
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

/// A message with the pool's current name and the command that restores its own name, if a device with its UUID has
/// another name.
fn renamed(dm: &DeviceMapper, pool: &ThinPool) -> Option<String> {
    let uuid = pool.uuid.as_deref()?;
    let devices = dm.list().ok()?;
    let now = devices.into_iter().find(|device| device.uuid == uuid)?;
    if now.name == pool.name {
        return None;
    }
    let volume = |name: &str| volume_at(&Path::new("/dev/mapper").join(name));
    let word = |name: &str| word(Path::new(name));
    let command = match (volume(&now.name), volume(&pool.name)) {
        (Some((group, is)), Some((own, was))) if uuid.starts_with("LVM-") && group == own => {
            format!("`lvrename {} {} {}`", word(&group), word(&is), word(&was))
        }
        (Some((is, _)), Some((was, _))) if uuid.starts_with("LVM-") => {
            format!("`vgrename {} {}`", word(&is), word(&was))
        }
        _ => format!("`dmsetup rename {} {}`", word(&now.name), word(&pool.name)),
    };
    Some(format!(
        "its name is {} now, but the conversion knows it by its old name. Next: {command} restores that name",
        now.name
    ))
}

fn not_there(path: &Path) -> Error {
    not_ours(
        path,
        "it contains no thin devices, but the pool that was converted into does; another disk may have this name \
         since a reboot. Next: attach the right disk under this name",
    )
}
