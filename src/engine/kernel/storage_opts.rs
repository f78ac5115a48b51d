//! Docker's options that name a pool. Source: moby v20.10 `daemon/graphdriver/devmapper/deviceset.go`, `NewDeviceSet`.

use std::path::{Path, absolute};

use crate::pool::target::Target;

/// The storage options that let Docker find a pool; none for loop files.
pub fn storage_opts(target: &Target) -> Vec<String> {
    let option = |key, path: &Path| {
        let path = absolute(path).unwrap_or_else(|_| path.to_owned());
        format!("{key}={}", path.display())
    };
    match target {
        Target::LoopFiles => Vec::new(),
        Target::Devices { data, metadata } => vec![
            option("dm.datadev", data),
            option("dm.metadatadev", metadata),
        ],
        Target::ThinPool { path } => vec![option("dm.thinpooldev", path)],
    }
}
