//! Devices of the operator that are not there: after a boot a pool of LVM may not be active, which is no damage.

use std::io;
use std::path::Path;

use super::error::Error;
use crate::engine::kernel::{ActivePool, Target, volume_at};
use crate::shell::word;

/// Makes sure that the operator's devices are there.
///
/// # Errors
///
/// [`Error::DeviceMissing`].
pub fn expect_devices(target: &Target) -> Result<(), Error> {
    let paths = match target {
        Target::LoopFiles => return Ok(()),
        Target::ThinPool { path } if ActivePool::is_at(path) => return Ok(()),
        Target::ThinPool { path } => vec![path],
        Target::Devices { data, metadata } => vec![data, metadata],
    };
    let is_missing = |path: &Path| {
        let looked = path.metadata();
        looked.is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
    };
    match paths.into_iter().find(|path| is_missing(path)) {
        None => Ok(()),
        Some(path) => Err(Error::DeviceMissing {
            remedy: remedy_for_missing(path),
            path: path.clone(),
        }),
    }
}

fn remedy_for_missing(path: &Path) -> String {
    match volume_at(path) {
        Some((group, volume)) => {
            let volume = word(Path::new(&format!("{group}/{volume}")));
            let group = word(Path::new(&group));
            format!("`lvchange -ay {volume}`, or `vgchange -ay {group}` for the whole volume group")
        }
        None => "attach its disk, or name the device that it is now".to_owned(),
    }
}
