//! The image store beside the devices: a copy of the aufs one, which is the reference as long as it exists.

use std::path::{Path, PathBuf};

use super::request::Request;
use crate::chain::Chain;
use crate::docker::{self, CopyFault, Dir, ReadError};

/// The file of image names in an image store.
const NAMES: &str = "repositories.json";

/// The store from which the devices' store was copied, if it exists.
pub(super) fn original(request: &Request<'_>) -> Option<PathBuf> {
    request.devices.as_ref()?;
    let store = request.original?;
    store.is_dir().then(|| store.to_owned())
}

/// The faults of the stores, as one text each.
#[derive(Debug, Default)]
pub(super) struct StoreFaults {
    /// Faults of the copy.
    pub(super) faults: Vec<String>,
    /// Faults of the original only: the copy is still what was copied.
    pub(super) aufs: Vec<String>,
}

impl StoreFaults {
    /// Checks the store. Damage that the original has too existed before, and Docker tolerates it.
    ///
    /// # Errors
    ///
    /// One of the stores cannot be opened.
    pub(super) fn find(request: &Request<'_>) -> Result<Self, ReadError> {
        let (root, image) = (request.stores.root, request.stores.image);
        let noted = request.noted;
        let mut found = Self::default();
        let mut before = Vec::new();
        if let Some(original) = original(request).as_deref() {
            let is_of_aufs = |fault: &CopyFault| {
                let inner = fault.copy().and_then(|copy| copy.strip_prefix(image).ok());
                noted
                    .zip(inner)
                    .is_some_and(|(noted, inner)| (noted.is_copied)(inner))
            };
            for fault in docker::copy_faults(original, image, &request.before.edits) {
                let text = Chain(&fault).to_string();
                if is_of_aufs(&fault) {
                    found
                        .aufs
                        .push(format!("{text}; only in aufs, since the conversion"));
                } else {
                    found.faults.push(text);
                }
            }
            before = docker::unsound_images(original)?;
            found.faults.extend(docker::lost_images(
                original,
                image,
                &request.before.edits,
                root.join("buildkit").symlink_metadata().is_ok(),
            )?);
        } else if let Some(known) = request.images_without_layers {
            found.faults.extend(without_layers(image, known)?);
        }
        if original(request).is_none() {
            found.faults.extend(names_lost(image, request)?);
        }
        let unsound = docker::unsound_images(image)?;
        let new = unsound.into_iter().filter(|text| !before.contains(text));
        found.faults.extend(new);
        Ok(found)
    }
}

/// Images that lost their layers since the aufs side was removed, as one text each. The images in `known` had none
/// then.
fn without_layers(image: &Path, known: &[String]) -> Result<Vec<String>, ReadError> {
    let without = docker::images_without_layers(image)?;
    let new = without.into_iter().filter(|(id, _)| !known.contains(id));
    Ok(new.map(|(_, text)| text).collect())
}

/// The fault of the file of image names if there is no original: Docker rewrites it and never removes it.
fn names_lost(image: &Path, request: &Request<'_>) -> Result<Option<String>, ReadError> {
    let path = image.join(NAMES);
    // Docker writes names again whose ids it does not understand.
    let had_bad_names = request
        .before
        .paths
        .contains("image/aufs/repositories.json");
    let is_right = |bytes: &[u8]| {
        docker::is_file_of_names(bytes) || had_bad_names && docker::image_names(bytes).is_ok()
    };
    let what = match Dir::open(image)?.read_if_any(NAMES) {
        Ok(None) if request.has_names => "is missing, so no image has a name",
        Ok(Some(bytes)) if !is_right(&bytes) => "is not what Docker writes there",
        // An unreadable file is reported as such.
        _ => return Ok(None),
    };
    Ok(Some(format!("{}: {what}", path.display())))
}
