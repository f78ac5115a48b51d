//! The writer of the pool: the engine, its target, and its plan.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::error::Error;
use crate::devicemapper::driver_files::FileSystem;
use crate::engine::kernel;
use crate::engine::kernel::base::{Programs, find_programs};
use crate::plan::{self, Fingerprint, Layout, Plan, PoolSizes};
use crate::pool::Facts;
use crate::pool::target::Target;
use crate::privileges::Purpose;
use crate::source::Layer;
use crate::units::Bytes;

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

/// A writer that was found usable.
#[derive(Clone, Debug)]
pub(super) enum CheckedTarget {
    Direct,
    Kernel(Kernel),
}

/// What the kernel engine needs to know about its environment.
#[derive(Clone, Debug)]
pub(super) struct Kernel {
    pub(super) target: Target,
    pub(super) file_system: FileSystem,
    pub(super) facts: Facts,
    pub(super) programs: Programs,
}

/// The work ahead of a writer.
#[derive(Debug)]
pub(super) enum EngineJob {
    Direct(Layout),
    Kernel(Box<KernelJob>),
}

/// The kernel engine's work.
#[derive(Debug)]
pub(super) struct KernelJob {
    pub(super) kernel: Kernel,
    pub(super) plan: Plan,
    /// Sizes of the loop files, if the pool uses them.
    pub(super) sizes: Option<PoolSizes>,
}

impl Writer {
    /// The privileges that it needs.
    pub(super) fn purpose(&self) -> Purpose {
        match self {
            Self::Direct => Purpose::Write,
            Self::Kernel { .. } => Purpose::MakeAll,
        }
    }

    /// Checks whether it can work here; changes nothing.
    pub(super) fn check(&self) -> Result<CheckedTarget, Error> {
        self.expect_names_for_docker()?;
        self.ready(Target::check)
    }

    /// Checks that Docker's settings can name the devices: `daemon.json` and flags are text.
    fn expect_names_for_docker(&self) -> Result<(), Error> {
        let Self::Kernel { target, .. } = self else {
            return Ok(());
        };
        let paths: &[&PathBuf] = match target {
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

    /// Checks whether the work of an earlier run can be continued here; changes nothing.
    pub(super) fn check_left(&self, transaction_before: u64) -> Result<CheckedTarget, Error> {
        self.ready(|target| target.check_left(transaction_before))
    }

    fn ready(
        &self,
        check: impl FnOnce(&Target) -> Result<Facts, crate::pool::DeviceError>,
    ) -> Result<CheckedTarget, Error> {
        Ok(match self {
            Self::Direct => CheckedTarget::Direct,
            Self::Kernel {
                target,
                file_system,
            } => CheckedTarget::Kernel(Kernel {
                target: target.clone(),
                file_system: *file_system,
                facts: check(target).map_err(kernel::Error::from)?,
                programs: find_programs(*file_system).map_err(kernel::Error::from)?,
            }),
        })
    }
}

impl Kernel {
    /// The target's name in messages.
    fn name(&self) -> String {
        match &self.target {
            Target::LoopFiles => "loop files".to_owned(),
            Target::Devices { data, metadata } => {
                format!("{} with {}", data.display(), metadata.display())
            }
            Target::ThinPool { path } => path.display().to_string(),
        }
    }

    /// Docker's options that name the pool. Source: moby v20.10 `daemon/graphdriver/devmapper/deviceset.go`,
    /// `NewDeviceSet`.
    fn storage_opts(&self) -> Vec<String> {
        match (&self.target, &self.facts.pool) {
            // However the operator named it, Docker finds it by its device-mapper name.
            (Target::ThinPool { .. }, Some(name)) => {
                vec![format!("dm.thinpooldev=/dev/mapper/{name}")]
            }
            (target, _) => pool_options(target),
        }
    }
}

/// The storage options that let Docker find a pool; none for loop files.
pub(super) fn pool_options(target: &Target) -> Vec<String> {
    let absolute = |path: &PathBuf| std::path::absolute(path).unwrap_or_else(|_| path.clone());
    let option = |key, path: &PathBuf| format!("{key}={}", absolute(path).display());
    match target {
        Target::LoopFiles => Vec::new(),
        Target::Devices { data, metadata } => vec![
            option("dm.datadev", data),
            option("dm.metadatadev", metadata),
        ],
        Target::ThinPool { path } => vec![option("dm.thinpooldev", path)],
    }
}

impl CheckedTarget {
    /// The device-mapper name of the operator's pool, if the layers go there.
    pub(super) fn pool(&self) -> Option<&str> {
        match self {
            Self::Direct => None,
            Self::Kernel(kernel) => kernel.facts.pool.as_deref(),
        }
    }

    /// The pool's transaction id before the first device is created.
    pub(super) fn transaction_before(&self) -> u64 {
        match self {
            Self::Direct => 0,
            Self::Kernel(kernel) => kernel.facts.transaction_id,
        }
    }

    /// Plans the layers for this writer.
    pub(super) fn plan(
        &self,
        layers: Vec<Layer>,
        options: &plan::Options,
    ) -> Result<EngineJob, Error> {
        let kernel = match self {
            Self::Direct => return Ok(EngineJob::Direct(plan::lay_out(layers, options)?)),
            Self::Kernel(kernel) => kernel.clone(),
        };
        let plan = match kernel.file_system {
            // Laid out although the kernel places the blocks: this refuses what ext4 cannot hold before anything is
            // written, and gives both engines the same size.
            FileSystem::Ext4 => plan::lay_out(layers, options)?.plan,
            FileSystem::Xfs => plan::outline_xfs(layers, options)?,
        };
        let sizes = match kernel.target {
            Target::LoopFiles => Some(plan.pool_sizes(options)?),
            _ => None,
        };
        Ok(EngineJob::Kernel(Box::new(KernelJob {
            kernel,
            plan,
            sizes,
        })))
    }
}

impl EngineJob {
    /// The devices.
    pub(super) fn plan(&self) -> &Plan {
        match self {
            Self::Direct(layout) => &layout.plan,
            Self::Kernel(work) => &work.plan,
        }
    }

    /// The fingerprint that distinguishes the plan from any other.
    pub(super) fn fingerprint(&self) -> Fingerprint {
        match self {
            Self::Direct(layout) => layout.fingerprint(),
            Self::Kernel(work) => work.plan.fingerprint(),
        }
    }

    /// The plan down to the block, if the direct engine writes it.
    pub(super) fn layout(&self) -> Option<&Layout> {
        match self {
            Self::Direct(layout) => Some(layout),
            Self::Kernel(_) => None,
        }
    }

    /// The engine's name, as `--engine` takes it.
    pub(super) fn engine(&self) -> &'static str {
        match self {
            Self::Direct(_) => "direct",
            Self::Kernel(_) => "kernel",
        }
    }

    /// Sizes of the pool's sparse files, unless it is on given devices.
    pub(super) fn pool_sizes(&self) -> Option<PoolSizes> {
        match self {
            Self::Direct(layout) => Some(PoolSizes {
                data: layout.data_size,
                metadata: layout.metadata_size,
            }),
            Self::Kernel(work) => work.sizes,
        }
    }

    /// Bytes written into the Docker root for the pool; an upper estimate if the kernel writes it.
    pub(super) fn pool_bytes(&self) -> Bytes {
        match self {
            Self::Direct(layout) => Bytes(layout.data_bytes().0 + layout.metadata_blocks.bytes().0),
            Self::Kernel(work) if work.kernel.target == Target::LoopFiles => {
                let needs = work.plan.needs(work.kernel.facts.data_block);
                Bytes(needs.data.0 + needs.metadata.bytes().0)
            }
            Self::Kernel(_) => Bytes(0),
        }
    }

    /// Checks that the target has enough space, if it is outside the Docker root's own file system. Returns a notice if
    /// space may become scarce.
    ///
    /// # Errors
    ///
    /// [`Error::PoolTooSmall`]: more metadata might be needed than there is, and a pool that runs out of it must be
    /// repaired; or the files alone are larger than the pool.
    pub(super) fn check_room(&self) -> Result<Option<String>, Error> {
        let Self::Kernel(work) = self else {
            return Ok(None);
        };
        let KernelJob { kernel, plan, .. } = &**work;
        let Some(space) = kernel.facts.space else {
            return Ok(None);
        };
        let needs = plan.needs(kernel.facts.data_block);
        let too_small = |what, needed, free| Error::PoolTooSmall {
            target: kernel.name(),
            what,
            needed,
            free,
        };
        let metadata = needs.metadata.bytes();
        if metadata > space.metadata {
            return Err(too_small("metadata", metadata, space.metadata));
        }
        if needs.least > space.data {
            return Err(too_small("data", needs.least, space.data));
        }
        // Docker creates no layer in a pool with less than a tenth free.
        let ample = Bytes(needs.data.0 + needs.data.0 / 9);
        Ok((ample > space.data).then(|| {
            format!(
                "{}: {} of data are free, and the layers with a tenth to spare may take up to {ample}; if they do not fit, \
                 the run stops and takes back what it wrote",
                kernel.name(),
                space.data
            )
        }))
    }

    /// What the daemon must be told about the pool besides the driver.
    pub(super) fn storage_opts(&self) -> Vec<String> {
        match self {
            Self::Direct(_) => Vec::new(),
            Self::Kernel(work) => work.kernel.storage_opts(),
        }
    }
}
