//! Recognizes the loop files of a Docker root: what a root's own driver keeps is never a target of a conversion.

use std::io;
use std::path::{Path, PathBuf};

use super::claim::{Claim, Devices};
use crate::sys::block::{self, Kind};

/// The Docker root that owns one of the record's devices, either as a loop file or attached to one, with that device;
/// `None` if there is none, or the device does not exist.
///
/// # Errors
///
/// The system's error.
pub(super) fn of_claim(claim: &Claim) -> io::Result<Option<(&Path, PathBuf)>> {
    let Claim::Devices(Devices { data, metadata, .. }) = claim else {
        return Ok(None);
    };
    for device in [data, metadata] {
        if let Some(root) = of_device(&device.path)? {
            return Ok(Some((&device.path, root)));
        }
    }
    Ok(None)
}

fn of_device(path: &Path) -> io::Result<Option<PathBuf>> {
    let real = match path.canonicalize() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        real => real?,
    };
    Ok(match block::kind(&real)? {
        Kind::Block { rdev } => block::loop_file(rdev).and_then(|file| of_file(&file)),
        _ => of_file(&real),
    })
}

/// The root whose driver owns a file. The driver keeps its files in `devicemapper`, beside the other parts of a root.
fn of_file(file: &Path) -> Option<PathBuf> {
    let homes = file.ancestors().skip(1);
    let mut homes =
        homes.filter(|home| home.file_name().is_some_and(|name| name == "devicemapper"));
    homes.find_map(|home| {
        let root = home.parent()?;
        let is_root = home.join("metadata").is_dir()
            || ["image", "containers", "volumes"]
                .iter()
                .any(|part| root.join(part).is_dir());
        is_root.then(|| root.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_file_of_a_roots_driver_is_known_by_whatever_name() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap().join("docker");
        let home = root.join("devicemapper/devicemapper");
        fs::create_dir_all(&home).unwrap();
        fs::write(home.join("metadata"), "").unwrap();
        let elsewhere = dir.path().join("metadata");
        symlink(home.join("metadata"), &elsewhere).unwrap();
        // A directory of the operator that has this name.
        assert_eq!(of_device(&elsewhere).unwrap(), None);
        fs::create_dir(root.join("image")).unwrap();
        assert_eq!(of_device(&elsewhere).unwrap(), Some(root.clone()));
        assert_eq!(of_device(&home.join("metadata")).unwrap(), Some(root));
        assert_eq!(of_device(&home.join("none")).unwrap(), None);
    }
}
