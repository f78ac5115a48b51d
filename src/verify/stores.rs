//! The image store beside the devices: a copy of the one of aufs, as long as that is there.

use std::path::{Path, PathBuf};

use super::request::Request;
use crate::chain::Chain;
use crate::docker::{self, ReadError};

/// The store that the devices' was copied from, if it is there.
pub(super) fn original(request: &Request<'_>) -> Option<PathBuf> {
    request.devices.as_ref()?;
    request.stores.aufs?;
    let store = request.stores.root.join("image/aufs");
    store.is_dir().then_some(store)
}

/// What is wrong with the store. Damage that the original has too was there before, and Docker lives with it.
///
/// # Errors
///
/// One of the stores cannot be opened.
pub(super) fn faults(image: &Path, original: Option<&Path>) -> Result<Vec<String>, ReadError> {
    let mut faults: Vec<String> = Vec::new();
    let mut before = Vec::new();
    if let Some(original) = original {
        let differing = docker::copy_faults(original, image);
        faults.extend(differing.iter().map(|fault| Chain(fault).to_string()));
        before = docker::unsound_images(original)?;
    }
    let unsound = docker::unsound_images(image)?;
    faults.extend(unsound.into_iter().filter(|text| !before.contains(text)));
    Ok(faults)
}
