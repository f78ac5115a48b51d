//! The ways to convert: engine, target and file system.

use std::{ffi::OsString, fmt};

use crate::storage::{Storage, Target};

/// What writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Engine {
    /// Our own writer.
    Direct,
    /// The kernel's.
    Kernel,
}

/// What is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FileSystem {
    /// Docker's default for the older versions.
    Ext4,
    /// Docker's default for the newer ones.
    Xfs,
}

/// One way to convert.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Variant {
    /// What writes.
    pub(crate) engine: Engine,
    /// Where to.
    pub(crate) target: Target,
    /// What.
    pub(crate) file_system: FileSystem,
}

/// The direct engine, which has but one way.
pub(crate) const DIRECT: Variant = Variant {
    engine: Engine::Direct,
    target: Target::Files,
    file_system: FileSystem::Ext4,
};

/// The kernel engine on a target with a file system.
pub(crate) const fn kernel(target: Target, file_system: FileSystem) -> Variant {
    Variant {
        engine: Engine::Kernel,
        target,
        file_system,
    }
}

impl Variant {
    fn arguments(self) -> Vec<&'static str> {
        match (self.engine, self.file_system) {
            (Engine::Direct, _) => vec!["--engine", "direct"],
            (Engine::Kernel, FileSystem::Ext4) => vec!["--engine", "kernel", "--fs", "ext4"],
            (Engine::Kernel, FileSystem::Xfs) => vec!["--engine", "kernel", "--fs", "xfs"],
        }
    }

    /// All options that ask the tool for it, on devices of its target.
    pub(crate) fn all_arguments(self, storage: &Storage) -> Vec<OsString> {
        let own = self.arguments().into_iter().map(OsString::from);
        own.chain(storage.arguments().into_iter().map(OsString::from))
            .collect()
    }
}

impl fmt::Display for FileSystem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ext4 => "ext4",
            Self::Xfs => "xfs",
        })
    }
}

impl fmt::Display for Variant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let target = match (self.engine, self.target) {
            (Engine::Direct, _) => return f.write_str("direct"),
            (Engine::Kernel, Target::Files) => "files",
            (Engine::Kernel, Target::Devices) => "devices",
            (Engine::Kernel, Target::Pool) => "pool",
        };
        write!(f, "kernel_{target}_{}", self.file_system)
    }
}
