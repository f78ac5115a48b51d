//! The location of the second staging place: in `containers`, if that is a mount of its own.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::times::Times;
use crate::staging::STAGE_NAME;

/// The directory of the containers.
pub(super) const CONTAINERS: &str = "containers";

/// The file that holds the id.
pub(super) const MARK: &str = "conversion";

/// The record of the second staging place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecondPlace {
    /// Chosen at random.
    pub(super) id: String,
    /// The times of `containers` before the conversion.
    pub(super) times: Times,
}

impl SecondPlace {
    /// Whether a conversion writes such a record.
    pub(super) fn is_sound(&self) -> bool {
        self.times.path == CONTAINERS && Uuid::parse_str(&self.id).is_ok()
    }
}

/// The directory of the second staging place.
pub(super) fn place(root: &Path) -> PathBuf {
    root.join(CONTAINERS).join(STAGE_NAME)
}

/// Where the configs are staged: in the second place, or in the staging directory of the root.
pub(super) fn configs(root: &Path, stage: &Path, beside: Option<&SecondPlace>) -> PathBuf {
    match beside {
        Some(_) => place(root),
        None => stage.to_owned(),
    }
}
