//! Whether LVM finds `thin_check`, with which it checks a thin pool each time it activates it.
//!
//! The setting is described in lvm.conf(5) and lvmthin(7), "Metadata check and repair".

use std::path::{Path, PathBuf};

use super::outlook::Finding;
use crate::daemon::config::HostFiles;
use crate::devicemapper::Target;
use crate::tree::shown;

const CONFIG: &str = "/etc/lvm/lvm.conf";

/// Where distributions install it.
const USUAL: [&str; 3] = [
    "/usr/sbin/thin_check",
    "/sbin/thin_check",
    "/usr/bin/thin_check",
];

/// The finding if a pool of LVM may not come up after a boot.
pub(super) fn findings(files: &HostFiles, target: &Target) -> Vec<Finding> {
    let is_given_pool = |option: &String| option.starts_with("dm.thinpooldev=");
    let text = files.read(Path::new(CONFIG)).ok().flatten();
    let (true, Some(text)) = (target.storage_opts.iter().any(is_given_pool), text) else {
        return Vec::new();
    };
    let place = shown(&files.place(Path::new(CONFIG)));
    let (path, who) = match executable(&text) {
        // LVM then checks nothing.
        Some((path, _)) if path.as_os_str().is_empty() => return Vec::new(),
        Some((path, line)) => (
            path,
            format!("{place}, line {line}: thin_check_executable is"),
        ),
        None if USUAL.iter().any(|path| files.exists(Path::new(path))) => return Vec::new(),
        None => (PathBuf::from(USUAL[0]), format!("{place}: LVM looks for")),
    };
    if files.exists(&path) {
        return Vec::new();
    }
    let message = format!(
        "{who} {}, which does not exist: LVM checks a thin pool with it at each activation, and may not activate the pool \
         after a boot: install thin-provisioning-tools (device-mapper-persistent-data on Red Hat's systems)",
        shown(&path)
    );
    vec![Finding::warning("no-thin-check", message)]
}

/// The program that the configuration names, and its line.
fn executable(text: &[u8]) -> Option<(PathBuf, usize)> {
    let text = String::from_utf8_lossy(text);
    let mut lines = text.lines().zip(1..);
    lines.find_map(|(line, number)| {
        let (key, value) = line.trim().split_once('=')?;
        let key = key.trim();
        if key != "thin_check_executable" && key != "global/thin_check_executable" {
            return None;
        }
        let value = value.trim().strip_prefix('"')?;
        Some((PathBuf::from(value.split('"').next()?), number))
    })
}
