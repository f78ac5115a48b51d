//! Removes what was found.

use std::io;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use loopdev::LoopDevice;
use nix::errno::Errno;
use nix::mount::{MntFlags, umount2};

use super::find::find_loops;
use super::left::{Device, Error, Leftovers, Stay, Stays};
use crate::shell::quoted;
use crate::sys::device_mapper::DeviceMapper;
use crate::tree::shown;

/// How long a loop device may take to be detached once nothing holds it.
const DETACH_TIME: Duration = Duration::from_secs(5);

/// The time between two checks.
const INTERVAL: Duration = Duration::from_millis(50);

impl Leftovers {
    /// Unmounts, removes and detaches everything. What is already gone, or now belongs to something else, is left
    /// alone.
    ///
    /// # Errors
    ///
    /// [`Error::Stays`] with everything that could not be removed, after everything was tried.
    pub fn remove(&self) -> Result<(), Error> {
        let mut stays = Vec::new();
        for point in &self.mounts {
            stays.extend(unmount(point).err());
        }
        stays.extend(self.remove_devices());
        let looked = self.detach_loops().map(|loops| stays.extend(loops));
        if stays.is_empty() {
            looked
        } else {
            Err(Error::Stays(Stays(stays)))
        }
    }

    fn remove_devices(&self) -> Vec<Stay> {
        if self.devices.is_empty() {
            return Vec::new();
        }
        let dm = match DeviceMapper::open() {
            Ok(dm) => dm,
            Err(error) => return self.devices.iter().map(|it| it.stays(&error)).collect(),
        };
        let tried = self.devices.iter().map(|device| device.remove(&dm));
        tried.filter_map(Result::err).collect()
    }

    /// Detaches loop devices. The kernel detaches them itself when their pool is removed, but some time later.
    fn detach_loops(&self) -> Result<Vec<Stay>, Error> {
        let end = Instant::now() + DETACH_TIME;
        loop {
            let mut left = find_loops(&self.stage)?;
            left.retain(|node| self.loops.contains(node));
            if left.is_empty() {
                return Ok(Vec::new());
            }
            let tried: Vec<_> = left.iter().map(|node| (node, detach(node))).collect();
            if Instant::now() > end {
                return Ok(tried.into_iter().map(loop_stays).collect());
            }
            sleep(INTERVAL);
        }
    }
}

fn unmount(point: &Path) -> Result<(), Stay> {
    // Not a lazy unmount: its device would stay in use without being visible.
    match umount2(point, MntFlags::UMOUNT_NOFOLLOW) {
        Ok(()) => {
            log::info!("unmounted {}", shown(point));
            Ok(())
        }
        // It is not a mount point, or does not exist: it is gone.
        Err(Errno::EINVAL | Errno::ENOENT) => Ok(()),
        Err(errno) => Err(Stay {
            what: shown(point),
            why: errno.desc().to_owned(),
            command: format!("umount {}", quoted(point)),
        }),
    }
}

impl Device {
    fn remove(&self, dm: &DeviceMapper) -> Result<(), Stay> {
        let there = dm.state(&self.name).map_err(|error| self.stays(&error))?;
        if there.is_none_or(|state| state.uuid != self.uuid) {
            return Ok(());
        }
        dm.remove(&self.name).map_err(|error| self.stays(&error))?;
        log::info!("removed device-mapper device {}", self.name);
        Ok(())
    }

    fn stays(&self, error: &dyn std::error::Error) -> Stay {
        // A failed call has the system's error as its source, one level below.
        let why = error
            .source()
            .map_or_else(|| error.to_string(), ToString::to_string);
        Stay {
            what: format!("device-mapper device {}", self.name),
            why,
            command: format!("dmsetup remove {}", quoted(Path::new(&self.name))),
        }
    }
}

/// Detaches a loop device. While something holds the device, the kernel only marks it to be detached.
fn detach(node: &Path) -> io::Result<()> {
    LoopDevice::open(node)?.detach()
}

fn loop_stays((node, tried): (&PathBuf, io::Result<()>)) -> Stay {
    Stay {
        what: format!("loop device {}", node.display()),
        why: tried.map_or_else(|error| error.to_string(), |()| "in use".to_owned()),
        command: format!("losetup -d {}", quoted(node)),
    }
}
