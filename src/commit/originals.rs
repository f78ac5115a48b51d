//! The originals of the containers' configs, if they are the only copy.
//!
//! An original is a second name of a config in place, or the config that was replaced. It is removed only if the file
//! in place is that config, or what a Docker on aufs has made of it since.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::config_paths::{CONFIGS, is_container};
use super::error::Error;
use super::regular_files::{look, names_in, read_regular};
use crate::docker::config_with_driver;

/// The first original in `configs` that is the only copy of its content.
pub(super) fn only_copy(root: &Path, configs: &Path) -> Result<Option<PathBuf>, Error> {
    let kept = configs.join("originals/containers");
    for id in names_in(&kept)?.iter().filter(|id| is_container(id)) {
        for name in CONFIGS {
            let original = kept.join(id).join(name);
            let place = root.join("containers").join(id).join(name);
            if is_only_copy(&place, &original)? {
                return Ok(Some(original));
            }
        }
    }
    Ok(None)
}

/// Whether `original` has content that is no longer in place. If its container was removed, it is not needed.
pub(super) fn is_only_copy(place: &Path, original: &Path) -> Result<bool, Error> {
    let Some(kept) = look(original)? else {
        return Ok(false);
    };
    let Some(now) = look(place)? else {
        let container = place.parent();
        return Ok(container.map_or(Ok(None), look)?.is_some());
    };
    if (now.dev(), now.ino()) == (kept.dev(), kept.ino()) {
        return Ok(false);
    }
    let now = read_regular(place)?;
    let is_of_aufs = |bytes: &Vec<u8>| matches!(config_with_driver(bytes, ""), Ok(Some(_)));
    if now.as_ref().is_some_and(is_of_aufs) {
        return Ok(false);
    }
    let kept = fs::read(original).map_err(Error::io(original, "read"))?;
    Ok(now != Some(kept))
}
