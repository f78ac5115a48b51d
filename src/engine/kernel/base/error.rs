//! Why the base device's file system cannot be made.

use std::io;
use std::path::PathBuf;
use std::process::ExitStatus;

use crate::progress::Cancel;

/// Why the base device has no file system.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A program is not installed.
    #[error(
        "{program}: neither in PATH nor in /usr/sbin, /sbin, /usr/local/sbin; install {package}"
    )]
    Missing {
        /// Its name.
        program: &'static str,
        /// The package that brings it, named alike in all distributions.
        package: &'static str,
    },
    /// A program cannot be run.
    #[error("{program}: cannot {op}")]
    Run {
        /// Its file.
        program: PathBuf,
        /// What was tried.
        op: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// A program ended with an error.
    #[error("{device}: {program}: {status}: {said}")]
    Failed {
        /// The device.
        device: PathBuf,
        /// The program's file.
        program: PathBuf,
        /// How it ended.
        status: ExitStatus,
        /// The last it said, escaped.
        said: String,
    },
    /// The device cannot be read.
    #[error("{device}: cannot {op}")]
    Device {
        /// The device.
        device: PathBuf,
        /// What was tried.
        op: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// The device does not hold what was just made on it.
    #[error("{device}: no {kind} superblock, though {program} said nothing; is the device lost?")]
    NoSuperblock {
        /// The device.
        device: PathBuf,
        /// `ext4` or `xfs`.
        kind: &'static str,
        /// The program's file.
        program: PathBuf,
    },
    /// The run was told to stop.
    #[error("interrupted")]
    Interrupted,
}

/// How the file system is made.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Bytes for which ext4 gets an inode; `None` for the default of `mkfs.ext4`. xfs makes inodes as they are needed.
    pub bytes_per_inode: Option<u32>,
    /// Set to stop.
    pub cancel: Cancel,
}
