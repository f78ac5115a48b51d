//! Finds mounts inside a directory, in any mount namespace.

use std::cmp::Reverse;
use std::collections::HashSet;
use std::fmt;
use std::fs::File;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::entry::Mount;
use super::view::{Place, View, place_in, views};
use crate::shell::word;
use crate::sys::Identity;
use crate::tree::escape;

/// A mount.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct MountFound {
    /// The mount point, as it is named in its namespace.
    pub point: PathBuf,
    /// A process in that namespace; `None`: this process also sees the mount.
    pub pid: Option<u32>,
}

/// Who sees a mount.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Visibility {
    /// This process.
    Here,
    /// Others, in another mount namespace, but not this process.
    Elsewhere,
}

/// The mounts at the time they were read.
#[derive(Debug)]
pub struct Table {
    /// The views; this process's own comes first.
    views: Vec<View>,
    /// The directories on which something is mounted that this process sees.
    here: HashSet<Place>,
}

impl Table {
    /// Reads the mounts that this process sees, from the process file system.
    pub fn here(proc: &Path) -> Self {
        Self::of(views(proc, false))
    }

    /// Reads the mounts that any process sees whose tables can be read.
    pub fn everywhere(proc: &Path) -> Self {
        Self::of(views(proc, true))
    }

    fn of(views: Vec<View>) -> Self {
        let own = &views[0];
        let mounts = own.mounts().iter();
        let here = mounts.filter_map(|mount| own.place(mount)).collect();
        Self { views, here }
    }

    /// Finds mounts inside `top`, a directory without symbolic links in its path, for which `wanted` is true, given the
    /// path within `top`; and whatever is mounted on those. The result is innermost first, in the order of unmounting.
    /// A mount on the same directory here and elsewhere is found once, here. Elsewhere, a directory that is mounted on
    /// itself does not count.
    ///
    /// A directory is identified by its device and its path from the root of that, so the name under which a namespace
    /// shows it does not matter. If this cannot be determined, because a process's root is not a mount point, its path
    /// decides.
    pub fn inside(
        &self,
        top: &Path,
        wanted: &dyn Fn(&Path, Visibility) -> bool,
    ) -> Vec<MountFound> {
        let search = Search {
            top,
            place: place_of(top, &self.views[0]),
            here: &self.here,
            wanted,
        };
        let mut found: Vec<_> = self
            .views
            .iter()
            .flat_map(|view| search.in_view(view))
            .collect();
        let mut told = HashSet::new();
        found.retain(|mount| told.insert(mount.clone()));
        found.sort_by_key(|mount| (mount.pid, Reverse(mount.point.components().count())));
        found
    }
}

impl Table {
    /// Another place, in any process, where the file system that this process sees on `point`, or a part of it, is
    /// mounted: anything that is not inside `point`.
    pub fn other_point(&self, point: &Path) -> Option<MountFound> {
        let own = self.views[0].mounts();
        let topmost = own.iter().rfind(|mount| mount.point == point)?;
        self.views.iter().find_map(|view| {
            let same = view.mounts().iter();
            let mut same = same.filter(|mount| mount.device == topmost.device);
            // A namespace that was created as a copy has the same mount.
            let other = same.find(|mount| !view.path(mount).starts_with(point))?;
            Some(MountFound {
                point: view.path(other),
                pid: view.pid,
            })
        })
    }
}

/// The place of a directory, determined by the mount through which it is seen.
fn place_of(directory: &Path, own: &View) -> Option<Place> {
    let open = File::open(directory).ok()?;
    let (identity, _) = Identity::of(&open).ok()?;
    place_in(own.by_id(identity.mount)?, directory)
}

struct Search<'a> {
    top: &'a Path,
    place: Option<Place>,
    here: &'a HashSet<Place>,
    wanted: &'a dyn Fn(&Path, Visibility) -> bool,
}

impl Search<'_> {
    fn in_view(&self, view: &View) -> Vec<MountFound> {
        let mounts = view.mounts();
        let wanted = mounts.iter().filter(|mount| self.is_wanted(view, mount));
        let mut ids: HashSet<_> = wanted.map(|mount| mount.id).collect();
        // Mounts on them must be unmounted before them.
        let mut before = 0;
        while before < ids.len() {
            before = ids.len();
            let on = mounts.iter().filter(|mount| ids.contains(&mount.parent));
            let on: Vec<_> = on.map(|mount| mount.id).collect();
            ids.extend(on);
        }
        let found = mounts.iter().filter(|mount| ids.contains(&mount.id));
        found
            .map(|mount| MountFound {
                point: view.path(mount),
                pid: view.pid,
            })
            .collect()
    }

    fn is_wanted(&self, view: &View, mount: &Mount) -> bool {
        let place = view.place(mount);
        let seen = match (view.pid, &place) {
            (None, _) => Visibility::Here,
            (_, Some(place)) if self.here.contains(place) || shows(mount, place) => return false,
            _ => Visibility::Elsewhere,
        };
        let inner = match (&self.place, place) {
            (Some(top), Some(place)) => {
                if place.device != top.device {
                    return false;
                }
                place.path.strip_prefix(&top.path).map(Path::to_owned)
            }
            _ => view.path(mount).strip_prefix(self.top).map(Path::to_owned),
        };
        inner.is_ok_and(|inner| (self.wanted)(&inner, seen))
    }
}

/// Whether what is mounted on a directory is that directory itself.
fn shows(mount: &Mount, place: &Place) -> bool {
    mount.device == place.device && mount.top == place.path
}

impl MountFound {
    /// The command that unmounts it.
    pub fn command(&self) -> String {
        let point = word(&self.point);
        match self.pid {
            None => format!("umount {point}"),
            Some(pid) => format!("nsenter -t {pid} -m umount {point}"),
        }
    }
}

impl fmt::Display for MountFound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", MountNotice(self, ""))
    }
}

/// A mount, the text about it, and its command.
struct MountNotice<'a>(&'a MountFound, &'a str);

impl fmt::Display for MountNotice<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(mount, what) = self;
        let point = escape(mount.point.as_os_str().as_bytes());
        write!(f, "{point}: is a mount point")?;
        if let Some(pid) = mount.pid {
            write!(f, " in the mount namespace of process {pid}")?;
        }
        write!(f, "{what}: {}", mount.command())
    }
}

/// The mounts for a message, each with its command; `what` follows "mount point".
pub(crate) fn told(mounts: &[MountFound], what: &str) -> String {
    if let [mount] = mounts {
        return MountNotice(mount, &format!(" {what}")).to_string();
    }
    let lines = mounts.iter().map(|mount| format!("\n  {mount}"));
    format!("mount points {what}:{}", lines.collect::<String>())
}
