//! Digests of Docker's files as the conversion left them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde::{Deserialize, Serialize};

/// Digests of Docker's files as the conversion left them, by path relative to the Docker root.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileDigests {
    /// The driver's metadata files and the file of image names.
    pub(super) files: BTreeMap<String, FileDigest>,
    /// The containers' configs that were replaced.
    pub(super) configs: BTreeMap<String, FileDigest>,
    /// All containers at that time.
    pub(super) containers: BTreeSet<String>,
}

/// The recorded state of a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct FileDigest {
    /// SHA-256 of its bytes.
    pub(super) sha256: String,
    /// When it was last written: seconds since 1970 and nanoseconds.
    pub(super) modified: (i64, i64),
}

/// The locations of the staged parts.
#[derive(Clone, Copy, Debug)]
pub(super) struct Parts<'a> {
    pub(super) home: &'a Path,
    pub(super) image: &'a Path,
    /// The directory whose `containers` holds the configs.
    pub(super) configs: &'a Path,
    pub(super) root: &'a Path,
}
