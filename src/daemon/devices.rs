//! Devices of the devicemapper driver that are active although no daemon is running.
//!
//! A killed daemon removes no devices, and a stopped one leaves those that were in use. The pool keeps its loop files
//! even if they are moved or removed, and the next daemon continues with that pool, because it finds it by its name.

use std::collections::HashSet;
use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::finding::{Finding, Host};
use crate::devicemapper::driver_files::PoolName;
use crate::mount_table::mount_points_of;
use crate::shell::quoted;
use crate::sys::device_mapper::{self, DeviceMapper, OUR_UUIDS, State};
use crate::sys::{block, loops};

/// The files of a pool that Docker made, in the home of the driver.
const LOOP_FILES: [&str; 2] = ["devicemapper/data", "devicemapper/metadata"];

/// The devices of a driver with this home: thin devices before their pool, then loop devices on the pool's files.
/// Devices that this program made there are left out.
pub(super) fn active(home: &Path, host: &Host) -> Vec<Finding> {
    let Ok(meta) = fs::metadata(home) else {
        return Vec::new();
    };
    let all = list();
    let name = PoolName::new(meta.dev(), meta.ino());
    let (prefix, pool) = (name.prefix(), name.to_string());
    let mut named: Vec<_> = all
        .iter()
        .filter(|state| state.name.starts_with(&prefix) && !is_ours(state))
        .collect();
    named.sort_by_key(|state| (state.name == pool, state.name.clone()));
    let mountinfo = fs::read(host.proc.join("self/mountinfo")).unwrap_or_default();
    let mut findings: Vec<_> = named
        .iter()
        .map(|state| Finding::Device {
            name: state.name.clone(),
            command: removal(state, &mountinfo),
        })
        .collect();
    // A loop device of Docker's is detached along with its pool.
    let known: HashSet<&str> = named.iter().map(|state| state.name.as_str()).collect();
    for file in LOOP_FILES {
        findings.extend(attached(&home.join(file), &all, &known));
    }
    findings
}

/// All device-mapper devices; none if there is no device-mapper.
fn list() -> Vec<State> {
    let listed = DeviceMapper::open().and_then(|dm| dm.list());
    listed.unwrap_or_else(|error| {
        let is_absent = matches!(error, device_mapper::Error::Absent(_));
        if !is_absent {
            log::warn!("{error}: it is not known whether Docker's devices are active");
        }
        Vec::new()
    })
}

/// Whether this program made the device. The next run removes such devices itself.
fn is_ours(state: &State) -> bool {
    state.uuid.starts_with(OUR_UUIDS)
}

/// The commands that remove a device.
fn removal(state: &State, mountinfo: &[u8]) -> String {
    let mut points = mount_points_of(mountinfo, &block::number(state.rdev));
    points.reverse();
    let unmounts = points
        .iter()
        .map(|point| format!("umount {}", quoted(point)));
    let remove = format!("dmsetup remove {}", quoted(Path::new(&state.name)));
    let commands: Vec<_> = unmounts.chain([remove]).collect();
    commands.join(" && ")
}

/// Loop devices on one of the pool's files, except those that belong to a device that is already reported or to one of
/// this program's.
fn attached(path: &Path, all: &[State], known: &HashSet<&str>) -> Vec<Finding> {
    let is_file = path.symlink_metadata().is_ok_and(|meta| meta.is_file());
    let Some(file) = is_file.then(|| File::open(path).ok()).flatten() else {
        return Vec::new();
    };
    let free = |node: &PathBuf| holders(node).is_empty();
    let mut nodes = loops::attached_to(&file).unwrap_or_default();
    if nodes.iter().any(free) {
        // Its pool may have just been removed; the kernel detaches the loop device some time later.
        nodes = loops::wait_until_detached(&file).unwrap_or(nodes);
    }
    let mut findings = Vec::new();
    for node in nodes {
        let holders = holders(&node);
        let is_known = |name: &String| {
            known.contains(name.as_str())
                || all
                    .iter()
                    .any(|state| state.name == *name && is_ours(state))
        };
        if !holders.is_empty() && holders.iter().all(is_known) {
            continue;
        }
        let removals = holders
            .iter()
            .map(|name| format!("dmsetup remove {}", quoted(Path::new(name))));
        let detach = format!("losetup -d {}", quoted(&node));
        let commands: Vec<_> = removals.chain([detach]).collect();
        findings.push(Finding::LoopDevice {
            file: path.to_owned(),
            node,
            command: commands.join(" && "),
        });
    }
    findings
}

/// The devices on a loop device, by their device-mapper names if they have one.
fn holders(node: &Path) -> Vec<String> {
    let Ok(block::Kind::Block { rdev }) = block::kind(node) else {
        return Vec::new();
    };
    let name = |holder: String| {
        let node = Path::new("/dev").join(&holder);
        let mapped = match block::kind(&node) {
            Ok(block::Kind::Block { rdev }) => block::device_mapper_name(rdev),
            _ => None,
        };
        mapped.unwrap_or(holder)
    };
    block::holders(rdev).into_iter().map(name).collect()
}
