//! Asks the kernel: it activates the pool and mounts the devices, all read-only.
//!
//! Files are attached to read-only loop devices, the pool has the feature `read_only`, thin devices are read-only, and
//! file systems are mounted without replaying a journal. So no byte changes. A pool that is already active only gets
//! read-only thin devices.
//!
//! All devices carry the root's mark, so that the next run takes down what a killed one left:
//! [`leftovers`](crate::pool::leftovers).

use std::fs;
use std::io;
use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::Mutex;

use nix::sys::statvfs::statvfs;

use super::attach::ActiveReadOnlyPool;
use super::device::Device;
use super::error::{Error, Fault};
use crate::progress::{Cancel, Progress};
use crate::schedule::run_parents_first;

/// Maximum number of names in a directory that are read. An intact file system has fewer in its root and in `rootfs`.
const MOST_NAMES: usize = 1 << 20;

/// Has the kernel mount every device, and checks what it shows: the root directory, `rootfs` in it if there is one, and
/// the file system's own statistics. At most `jobs` devices are active at a time.
///
/// # Returns
///
/// The kernel's objections, in the order of `devices`.
///
/// # Errors
///
/// [`Error::Interrupted`]; [`Error::Stuck`] if a device cannot be taken down.
pub fn ask(
    attached: &ActiveReadOnlyPool,
    devices: &[Device],
    (jobs, cancel): (NonZeroUsize, &Cancel),
    progress: &dyn Progress,
) -> Result<Vec<Fault>, Error> {
    let faults = Mutex::new(Vec::new());
    run_parents_first(&vec![None; devices.len()], jobs, |at| {
        if cancel.is_set() {
            return Err(Error::Interrupted);
        }
        let device = &devices[at];
        let mut seen = Ok(());
        let heard = attached.with_mounted(device, &mut |root| seen = look(root));
        let heard = heard.and_then(|()| {
            seen.map_err(|source| {
                let device = device.clone();
                Error::Fault(Fault::Read { device, source })
            })
        });
        progress.inc(1);
        match heard {
            Err(Error::Fault(fault)) => {
                let mut faults = faults.lock().expect("nothing panics while it is held");
                faults.push((at, fault));
                Ok(())
            }
            heard => heard,
        }
    })?;
    let mut faults = faults
        .into_inner()
        .expect("nothing panics while it is held");
    faults.sort_by_key(|(at, _)| *at);
    Ok(faults.into_iter().map(|(_, fault)| fault).collect())
}

/// At most `n` elements of a list, spread over it, including the first and the last.
pub fn sample<T: Clone>(all: &[T], n: usize) -> Vec<T> {
    if all.len() <= n {
        return all.to_vec();
    }
    let last = all.len() - 1;
    let steps = n.saturating_sub(1).max(1);
    (0..n).map(|i| all[i * last / steps].clone()).collect()
}

/// Checks a mounted file system.
fn look(root: &Path) -> io::Result<()> {
    let figures = statvfs(root)?;
    if figures.blocks_free() > figures.blocks() || figures.files_free() > figures.files() {
        return Err(io::Error::other(
            "more blocks or inodes are free than exist",
        ));
    }
    look_at_names(root)?;
    match fs::symlink_metadata(root.join("rootfs")) {
        Ok(meta) if meta.is_dir() => look_at_names(&root.join("rootfs")),
        Ok(_) => Err(io::Error::other("rootfs is not a directory")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

fn look_at_names(directory: &Path) -> io::Result<()> {
    for entry in fs::read_dir(directory)?.take(MOST_NAMES) {
        entry?.metadata()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_is_spread_over_all() {
        let all: Vec<_> = (0..100).collect();
        assert_eq!(sample(&all, 4), [0, 33, 66, 99]);
        assert_eq!(sample(&all, 1), [0]);
        assert_eq!(sample(&all, 0), [0; 0]);
        assert_eq!(sample(&all, 100), all);
        assert_eq!(sample(&all[..3], 2), [0, 2]);
        assert_eq!(sample(&all[..0], 2), [0; 0]);
    }

    #[test]
    fn a_tree_is_looked_at() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("rootfs")).unwrap();
        look(root.path()).unwrap();
        fs::remove_dir(root.path().join("rootfs")).unwrap();
        look(root.path()).unwrap();
        fs::write(root.path().join("rootfs"), "").unwrap();
        look(root.path()).unwrap_err();
        look(&root.path().join("none")).unwrap_err();
    }
}
