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
        "{program}: neither in PATH nor in /usr/sbin, /sbin or /usr/local/sbin. Next: install {package}"
    )]
    Missing {
        /// Its name.
        program: &'static str,
        /// The package that contains it; it has the same name in all distributions.
        package: &'static str,
    },
    /// A program cannot be run.
    #[error("{program}: cannot {op}")]
    Run {
        /// Its path.
        program: PathBuf,
        /// The operation that failed.
        op: &'static str,
        /// The cause.
        source: io::Error,
    },
    /// A program ended with an error.
    #[error("{device}: {program}: {status}: {said}")]
    Failed {
        /// The device.
        device: PathBuf,
        /// The program's path.
        program: PathBuf,
        /// Its exit status.
        status: ExitStatus,
        /// The end of its output, escaped.
        said: String,
    },
    /// The device cannot be read.
    #[error("{device}: cannot {op}")]
    Device {
        /// The device.
        device: PathBuf,
        /// The operation that failed.
        op: &'static str,
        /// The cause.
        source: io::Error,
    },
    /// The device does not contain the file system that was just made on it.
    #[error(
        "{device}: no {kind} superblock, although {program} reported no error; has the device been lost?"
    )]
    NoSuperblock {
        /// The device.
        device: PathBuf,
        /// `ext4` or `xfs`.
        kind: &'static str,
        /// The program's path.
        program: PathBuf,
    },
    /// The run was stopped on request.
    #[error("interrupted")]
    Interrupted,
}

/// Options for making the file system.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The number of bytes per inode of ext4; `None` for the default of `mkfs.ext4`. xfs makes inodes as needed.
    pub bytes_per_inode: Option<u32>,
    /// Set to stop.
    pub cancel: Cancel,
}
