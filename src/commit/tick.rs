//! Change times distinguish a later write from earlier contents only if the write falls into another tick of the file
//! system's clock. ext3, and ext4 with 128-byte inodes, store whole seconds: there, a write in the same second in which
//! the times are recorded would look as if it had come before.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Paths that show the time resolution of the file systems on which the two sides may be.
const TOLD_BY: [&str; 6] = [
    "",
    "aufs/diff",
    "aufs/layers",
    "image/aufs",
    "devicemapper/devicemapper/data",
    ".aufs2dm/journal",
];

/// The maximum lag of the kernel's clock for files: one tick at 100 Hz, doubled.
const BEHIND: Duration = Duration::from_millis(20);

/// If times are whole seconds, waits for the current second to end. Times recorded after that cannot equal those of a
/// later write.
pub fn pass_the_second(root: &Path) {
    let is_whole = |path: &str| {
        let meta = root.join(path).symlink_metadata();
        meta.is_ok_and(|meta| meta.ctime_nsec() == 0)
    };
    if TOLD_BY.iter().any(|path| is_whole(path)) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        sleep(rest_of_the_second(now.unwrap_or_default()));
    }
}

fn rest_of_the_second(now: Duration) -> Duration {
    let gone = Duration::from_nanos(now.subsec_nanos().into());
    Duration::from_secs(1).saturating_sub(gone) + BEHIND
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wait_ends_in_the_next_second_wherever_it_begins() {
        for millis in [0, 1, 500, 979, 980, 999] {
            let now = Duration::from_secs(7) + Duration::from_millis(millis);
            let then = now + rest_of_the_second(now);
            assert_eq!(then, Duration::from_secs(8) + BEHIND, "{millis}");
        }
    }
}
