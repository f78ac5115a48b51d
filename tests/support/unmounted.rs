//! A mount that is taken down may live on in the mount namespace of a process that another test has started meanwhile.

use std::fs;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// Waits until no process sees a mount at or below `point` any more.
pub fn wait_until_nobody_sees(point: &Path) {
    let wanted = point.to_str().unwrap();
    let is_seen = || {
        let processes = fs::read_dir("/proc").unwrap().flatten();
        let tables = processes
            .filter_map(|process| fs::read_to_string(process.path().join("mountinfo")).ok());
        let mut lines = tables.flat_map(|table| {
            let points = table.lines().filter_map(|line| line.split(' ').nth(4));
            points.map(str::to_owned).collect::<Vec<_>>()
        });
        lines.any(|line| line.starts_with(wanted))
    };
    let began = Instant::now();
    while is_seen() && began.elapsed() < Duration::from_secs(60) {
        sleep(Duration::from_millis(20));
    }
}
