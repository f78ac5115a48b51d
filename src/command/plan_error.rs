//! A plan's error, with the images and containers that need the layers at fault.

use std::path::Path;

use super::beyond::BeyondLimits;
use super::error::Error;
use crate::docker::Model;
use crate::plan;

/// The error of a plan, with the users of the layers at fault.
pub(super) fn told(error: plan::Error, path: &Path, model: &Model) -> Error {
    let plan::Error::Limits { layers } = error else {
        return Error::Plan(error);
    };
    let layers = layers.into_iter().map(|limits| BeyondLimits {
        hits: model.users_of(&limits.layer),
        limits,
    });
    Error::Beyond {
        path: path.to_owned(),
        layers: layers.collect(),
    }
}
