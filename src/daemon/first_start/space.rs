//! Whether there is room for new layers after the conversion.

use super::outlook::Finding;
use crate::daemon::config::{HostFiles, Settings};
use crate::daemon::finding::Host;
use crate::devicemapper::Target;
use crate::devicemapper::storage_option::min_free_percent;
use crate::units::Bytes;

/// Findings about `dm.min_free_space` and about the disk that holds sparse loop files.
/// Source: moby v20.10 `daemon/graphdriver/devmapper/deviceset.go`, `poolHasFreeSpace`.
pub(super) fn findings(target: &Target, options: &[&str]) -> Vec<Finding> {
    let mut findings = Vec::new();
    let Some(space) = target.space else {
        return findings;
    };
    let percent = min_free_percent(options);
    let parts = [
        ("data", space.data, space.data_used),
        ("metadata", space.metadata, space.metadata_used),
    ];
    for (what, all, used) in parts {
        let (free, wanted) = (all.0.saturating_sub(used.0), part(all, percent));
        if free < wanted {
            let message = format!(
                "the pool will have {} of free {what} space, and with dm.min_free_space={percent}% Docker creates no \
                 container and no layer below {}: make the pool larger or the percentage smaller",
                Bytes(free),
                Bytes(wanted)
            );
            findings.push(Finding::warning("pool-too-full", message));
        }
    }
    let Some(disk_free) = target.files.and_then(|files| files.disk_free) else {
        return findings;
    };
    let pool_free = Bytes(space.data.0.saturating_sub(space.data_used.0));
    let reserve = Bytes(part(space.data, percent));
    let text = format!(
        "the pool's file is sparse: Docker will count {pool_free} as free, but the disk below has {disk_free}"
    );
    if disk_free < reserve {
        let message = format!(
            "{text}: when the disk is full, writes in containers fail, because dm.min_free_space={percent}% \
             ({reserve}) considers only the pool: free up space on the disk, or \
             give the pool a smaller file with --data-size"
        );
        findings.push(Finding::warning("disk-smaller-than-pool", message));
    } else if disk_free < pool_free {
        findings.push(Finding::remark("disk-smaller-than-pool", text));
    }
    findings
}

/// The free space of a pool of this size below which the Docker of this host creates no container and no layer.
pub fn min_free(host: &Host, data: Bytes) -> Bytes {
    let settings = Settings::read(&HostFiles::new(&host.root));
    let options: Vec<_> = settings.options().iter().map(|one| &*one.value).collect();
    Bytes(part(data, min_free_percent(&options)))
}

/// A percentage of a size.
fn part(all: Bytes, percent: u64) -> u64 {
    u64::try_from(u128::from(all.0) * u128::from(percent) / 100).unwrap_or(u64::MAX)
}
