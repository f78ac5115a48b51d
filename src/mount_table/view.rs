//! The visible mount tables: that of each namespace, through the processes in it.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};

use super::entry::{Mount, parse};

/// The mounts that a process sees.
#[derive(Debug)]
pub(super) struct View {
    /// `None` for this process.
    pub(super) pid: Option<u32>,
    /// Its root directory, as far as it can be determined.
    root: PathBuf,
    mounts: Vec<Mount>,
    by_id: HashMap<u64, usize>,
}

/// A directory on a file system, whatever its name in a mount namespace: the device, and the path from its root.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Place {
    pub(super) device: Vec<u8>,
    pub(super) path: PathBuf,
}

/// This process's own view first, then one for each other namespace, and for each root directory in it: `mountinfo`
/// omits what is outside of the process's root. Threads may have a namespace of their own. What cannot be read belongs
/// to a process that has ended, or is not accessible to this one.
pub(super) fn views(proc: &Path, others: bool) -> Vec<View> {
    let own = proc.join("self");
    let mut seen = HashSet::from([key(&own)]);
    let mut views = vec![View::read(None, &own)];
    if !others {
        return views;
    }
    let this = std::process::id();
    for pid in numbers(proc).filter(|pid| *pid != this) {
        for thread in numbers(&proc.join(pid.to_string()).join("task")) {
            let dir = proc.join(thread.to_string());
            let key = key(&dir);
            if key.0.is_some() && seen.insert(key) {
                views.push(View::read(Some(thread), &dir));
            }
        }
    }
    views
}

fn numbers(directory: &Path) -> impl Iterator<Item = u32> + use<> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

fn key(process: &Path) -> (Option<PathBuf>, Option<PathBuf>) {
    let link = |name| fs::read_link(process.join(name)).ok();
    (link("ns/mnt"), link("root"))
}

impl View {
    fn read(pid: Option<u32>, process: &Path) -> Self {
        let text = fs::read(process.join("mountinfo")).unwrap_or_default();
        let mounts: Vec<_> = parse(&text).collect();
        let by_id = mounts.iter().enumerate();
        Self {
            pid,
            root: pid
                .and_then(|_| fs::read_link(process.join("root")).ok())
                .unwrap_or_else(|| PathBuf::from("/")),
            by_id: by_id.map(|(index, mount)| (mount.id, index)).collect(),
            mounts,
        }
    }

    pub(super) fn mounts(&self) -> &[Mount] {
        &self.mounts
    }

    pub(super) fn by_id(&self, id: u64) -> Option<&Mount> {
        self.by_id.get(&id).map(|index| &self.mounts[*index])
    }

    /// The path of a mount point, from the root of its namespace.
    pub(super) fn path(&self, mount: &Mount) -> PathBuf {
        let inner = mount.point.strip_prefix("/").unwrap_or(&mount.point);
        self.root.join(inner)
    }

    /// The directory on which it is mounted; `None` if the table does not contain the mount that holds it.
    pub(super) fn place(&self, mount: &Mount) -> Option<Place> {
        let holder = self
            .by_id(mount.parent)
            .filter(|holder| holder.id != mount.id)?;
        place_in(holder, &mount.point)
    }
}

/// The place on its file system of a path that is seen through a mount.
pub(super) fn place_in(mount: &Mount, path: &Path) -> Option<Place> {
    let inner = path.strip_prefix(&mount.point).ok()?;
    Some(Place {
        device: mount.device.clone(),
        path: mount.top.join(inner),
    })
}
