//! The engine and its target, as they were asked for.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::error::Error;
use crate::devicemapper::driver_files::FileSystem;
use crate::engine::Engine;
use crate::engine::direct::DirectEngine;
use crate::engine::kernel::KernelEngine;
use crate::pool::target::Target;
use crate::privileges::Purpose;

/// The writer of the pool, and where it writes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Writer {
    /// Our own writer, into new loop files.
    Direct,
    /// The kernel.
    Kernel {
        /// The pool.
        target: Target,
        /// The devices' file system.
        file_system: FileSystem,
    },
}

impl Writer {
    /// The privileges that it needs.
    pub(super) fn purpose(&self) -> Purpose {
        match self {
            Self::Direct => Purpose::Write,
            Self::Kernel { .. } => Purpose::MakeAll,
        }
    }

    /// Where it writes.
    pub(super) fn target(&self) -> &Target {
        match self {
            Self::Direct => &Target::LoopFiles,
            Self::Kernel { target, .. } => target,
        }
    }

    /// The engine, if it can work here; changes nothing.
    pub(super) fn check(&self) -> Result<Box<dyn Engine>, Error> {
        self.expect_names_for_docker()?;
        Ok(match self {
            Self::Direct => Box::new(DirectEngine),
            Self::Kernel {
                target,
                file_system,
            } => Box::new(KernelEngine::check(target, *file_system)?),
        })
    }

    /// The engine, if it can continue an earlier run's work here; changes nothing.
    pub(super) fn check_left(&self, transaction_before: u64) -> Result<Box<dyn Engine>, Error> {
        Ok(match self {
            Self::Direct => Box::new(DirectEngine),
            Self::Kernel {
                target,
                file_system,
            } => Box::new(KernelEngine::check_left(
                target,
                *file_system,
                transaction_before,
            )?),
        })
    }

    /// Checks that Docker's settings can name the devices: `daemon.json` and flags are text.
    fn expect_names_for_docker(&self) -> Result<(), Error> {
        let paths: &[&PathBuf] = match self.target() {
            Target::LoopFiles => &[],
            Target::Devices { data, metadata } => &[data, metadata],
            Target::ThinPool { path } => &[path],
        };
        match paths.iter().find(|path| path.to_str().is_none()) {
            Some(path) => Err(Error::DeviceName {
                path: (*path).clone(),
            }),
            None => Ok(()),
        }
    }
}
