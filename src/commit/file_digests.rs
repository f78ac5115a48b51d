//! Docker's files as the conversion left them, by their digests.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde::{Deserialize, Serialize};

/// Docker's files as the conversion left them, by paths relative to the Docker root.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileDigests {
    /// The driver's notes and the names of images.
    pub(super) files: BTreeMap<String, FileDigest>,
    /// The containers' configs that were replaced.
    pub(super) configs: BTreeMap<String, FileDigest>,
    /// All containers there were.
    pub(super) containers: BTreeSet<String>,
}

/// A file as it was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct FileDigest {
    /// SHA-256 of its bytes.
    pub(super) sha256: String,
    /// When it was last written: seconds since 1970 and nanoseconds.
    pub(super) modified: (i64, i64),
}

/// Where the parts are that are staged.
#[derive(Clone, Copy, Debug)]
pub(super) struct Parts<'a> {
    pub(super) home: &'a Path,
    pub(super) image: &'a Path,
    /// The directory whose `containers` has the configs.
    pub(super) configs: &'a Path,
    pub(super) root: &'a Path,
}
