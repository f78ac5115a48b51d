//! What a killed run left in the kernel, and how it is removed.
//!
//! A run removes everything of its own when it ends, however it ends, unless it is killed. Then its device-mapper
//! devices stay, and with them the loop devices below the pool. Its mounts disappear with its mount namespace, if it
//! had one of its own.
//!
//! Only what has a mark of this root is considered: device-mapper devices by the prefix of their UUID, mounts by a
//! place below the staging directory, loop devices by a file there. The caller must hold the lock on the root: then
//! these cannot belong to a live run.

use std::fmt;
use std::io;
use std::path::PathBuf;

use crate::sys::device_mapper;
use crate::tree::shown;

/// Why what a killed run left cannot be found or removed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The kernel's lists cannot be read.
    #[error("{path}: cannot be read to find what an earlier run left")]
    Look {
        /// The file or directory.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The device-mapper devices cannot be listed.
    #[error("devices that an earlier run left")]
    List(#[source] device_mapper::Error),
    /// Some of it could not be removed.
    #[error("{0}")]
    Stays(Stays),
}

/// What a killed run left, in the order of removal.
#[derive(Debug, Default)]
pub struct Leftovers {
    /// The root's staging directory, with symbolic links resolved; empty if there is no such root.
    pub(super) stage: PathBuf,
    /// Mount points, innermost first.
    pub(super) mounts: Vec<PathBuf>,
    /// Thin devices, then the pool.
    pub(super) devices: Vec<Device>,
    /// Nodes of loop devices.
    pub(super) loops: Vec<PathBuf>,
}

/// A device-mapper device with our mark.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Device {
    pub(super) name: String,
    pub(super) uuid: String,
}

impl Leftovers {
    /// Whether nothing was left.
    pub fn is_empty(&self) -> bool {
        self.mounts.is_empty() && self.devices.is_empty() && self.loops.is_empty()
    }

    /// One line for each item, in the order of removal.
    pub fn describe(&self) -> Vec<String> {
        let mounts = self.mounts.iter();
        let mounts = mounts.map(|point| format!("mount {}", shown(point)));
        let devices = self.devices.iter();
        let devices = devices.map(|device| format!("device-mapper device {}", device.name));
        let loops = self.loops.iter();
        let loops = loops.map(|node| format!("loop device {}", node.display()));
        mounts.chain(devices).chain(loops).collect()
    }
}

/// What could not be removed.
#[derive(Debug)]
pub struct Stays(pub(super) Vec<Stay>);

#[derive(Debug)]
pub(super) struct Stay {
    pub(super) what: String,
    pub(super) why: String,
    pub(super) command: String,
}

impl fmt::Display for Stays {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "an earlier run was killed, and what it left cannot be removed: "
        )?;
        for (at, stay) in self.0.iter().enumerate() {
            let separator = if at == 0 { "" } else { "; " };
            write!(f, "{separator}{}: {}", stay.what, stay.why)?;
        }
        let commands: Vec<_> = self.0.iter().map(|stay| stay.command.as_str()).collect();
        write!(
            f,
            ". Next: stop what uses it, then run: {}",
            commands.join(" && ")
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_that_was_left_is_named_in_the_order_of_removal() {
        let device = |name: &str| Device {
            name: name.to_owned(),
            uuid: format!("AUFS2DM-8:1-5-{name}"),
        };
        let left = Leftovers {
            stage: "/d/.aufs2dm".into(),
            mounts: vec!["/d/.aufs2dm/mnt/\x1b".into()],
            devices: vec![device("docker-8:1-9-base"), device("docker-8:1-9-pool")],
            loops: vec!["/dev/loop7".into()],
        };
        assert!(!left.is_empty());
        assert_eq!(
            left.describe(),
            [
                "mount /d/.aufs2dm/mnt/\\x1b",
                "device-mapper device docker-8:1-9-base",
                "device-mapper device docker-8:1-9-pool",
                "loop device /dev/loop7",
            ]
        );
        assert!(Leftovers::default().is_empty());
    }

    #[test]
    fn what_stays_is_named_with_its_reason_and_the_commands() {
        let stay = |what: &str, command: &str| Stay {
            what: what.to_owned(),
            why: "in use".to_owned(),
            command: command.to_owned(),
        };
        let stays = Stays(vec![stay("a", "umount 'a'"), stay("b", "losetup -d b")]);
        assert_eq!(
            Error::Stays(stays).to_string(),
            "an earlier run was killed, and what it left cannot be removed: a: in use; b: in use. \
             Next: stop what uses it, then run: umount 'a' && losetup -d b"
        );
    }
}
