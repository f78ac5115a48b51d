//! Names and UUIDs of the device-mapper devices of a run.
//!
//! The *names* are Docker's own for the future root, so that anyone can see what the devices are for. The *UUIDs* mark
//! them as ours: no other program uses this prefix, and it contains the number of the Docker root, on which only one
//! run works at a time. So if a device with a root's prefix exists when a run starts, a killed run left it.

use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::device_error::Error;
use crate::devicemapper::driver_files::PoolName;
use crate::docker::CacheId;
use crate::sys::block;
use crate::sys::device_mapper::OUR_UUIDS;

/// A thin device of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What<'a> {
    /// The base device.
    Base,
    /// The device of a layer.
    Layer(&'a CacheId),
}

/// The names of a run's devices.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Names {
    names: PoolName,
    uuid_prefix: String,
}

impl Names {
    /// Names for the directory that will be `devicemapper` in the Docker root `root`. Renaming either directory does
    /// not change the names.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] if one of the two does not exist.
    pub fn new(home: &Path, root: &Path) -> Result<Self, Error> {
        let (dev, inode) = numbers(&look(home)?);
        Ok(Self {
            names: PoolName::new(dev, inode),
            uuid_prefix: Self::uuid_prefix_of(root)?,
        })
    }

    /// The common prefix of the UUIDs of all devices that runs on this Docker root make.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] if the root does not exist.
    pub fn uuid_prefix_of(root: &Path) -> Result<String, Error> {
        let (dev, inode) = numbers(&look(root)?);
        Ok(uuid_prefix(dev, inode))
    }

    /// The pool's name.
    pub fn pool(&self) -> String {
        self.names.to_string()
    }

    /// The pool's UUID.
    pub fn pool_uuid(&self) -> String {
        format!("{}pool", self.uuid_prefix)
    }

    /// Whether a UUID belongs to a thin device of a run on this root.
    pub fn is_thin_uuid(&self, uuid: &str) -> bool {
        uuid.starts_with(&self.uuid_prefix) && uuid != self.pool_uuid()
    }

    /// A thin device's name.
    pub fn thin(&self, what: What<'_>) -> String {
        match what {
            What::Base => self.names.base(),
            What::Layer(id) => self.names.device(id),
        }
    }

    /// A thin device's UUID.
    pub fn thin_uuid(&self, what: What<'_>) -> String {
        let prefix = &self.uuid_prefix;
        match what {
            What::Base => format!("{prefix}base"),
            // A layer may be named `pool`.
            What::Layer(id) => format!("{prefix}layer-{id}"),
        }
    }
}

fn look(directory: &Path) -> Result<Metadata, Error> {
    fs::metadata(directory).map_err(Error::io(directory, "stat"))
}

fn numbers(meta: &Metadata) -> (u64, u64) {
    (meta.dev(), meta.ino())
}

fn uuid_prefix(dev: u64, inode: u64) -> String {
    format!("{OUR_UUIDS}{}-{inode}-", block::number(dev))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names() -> Names {
        Names {
            names: PoolName::new(0x801, 77),
            uuid_prefix: uuid_prefix(0x802, 5),
        }
    }

    #[test]
    fn names_are_dockers_and_uuids_are_ours() {
        let layer = CacheId::parse(b"abc-init").unwrap();
        let (names, layer) = (names(), What::Layer(&layer));
        assert_eq!(names.pool(), "docker-8:1-77-pool");
        assert_eq!(names.pool_uuid(), "AUFS2DM-8:2-5-pool");
        assert_eq!(names.thin(What::Base), "docker-8:1-77-base");
        assert_eq!(names.thin_uuid(What::Base), "AUFS2DM-8:2-5-base");
        assert!(names.is_thin_uuid(&names.thin_uuid(What::Base)));
        assert!(!names.is_thin_uuid(&names.pool_uuid()));
        assert!(!names.is_thin_uuid("AUFS2DM-8:2-55-base"));
        assert_eq!(names.thin(layer), "docker-8:1-77-abc-init");
        assert_eq!(names.thin_uuid(layer), "AUFS2DM-8:2-5-layer-abc-init");
    }

    #[test]
    fn the_longest_names_are_short_enough_for_device_mapper() {
        let id = format!("{}-init", "f".repeat(64));
        let layer = CacheId::parse(id.as_bytes()).unwrap();
        let largest = Names {
            names: PoolName::new(u64::MAX, u64::MAX),
            uuid_prefix: uuid_prefix(u64::MAX, u64::MAX),
        };
        // Linux include/uapi/linux/dm-ioctl.h: DM_NAME_LEN 128, DM_UUID_LEN 129, including the final zero.
        let (name, uuid) = (
            largest.thin(What::Layer(&layer)),
            largest.thin_uuid(What::Layer(&layer)),
        );
        assert!(name.len() < 128, "{}: {name}", name.len());
        assert!(uuid.len() < 129, "{}: {uuid}", uuid.len());
    }
}
