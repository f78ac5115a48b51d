//! What writes the pool: the engine, its target, and what it has planned.

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

/// What writes the pool, and where.
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

/// A writer that was found able to do it.
#[derive(Clone, Debug)]
pub(super) enum CheckedTarget {
    Direct,
    Kernel(Kernel),
}

/// What the kernel engine needs to know of its surroundings.
#[derive(Clone, Debug)]
pub(super) struct Kernel {
    pub(super) target: Target,
    pub(super) file_system: FileSystem,
    pub(super) facts: Facts,
    pub(super) programs: Programs,
}

/// What a writer is about to write.
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
    /// Sizes of the loop files, if the pool is on such.
    pub(super) sizes: Option<PoolSizes>,
}

impl Writer {
    /// What it takes to write with it.
    pub(super) fn purpose(&self) -> Purpose {
        match self {
            Self::Direct => Purpose::Write,
            Self::Kernel { .. } => Purpose::MakeAll,
        }
    }

    /// Looks whether it can be done here; changes nothing.
    pub(super) fn check(&self) -> Result<CheckedTarget, Error> {
        self.expect_names_for_docker()?;
        self.ready(Target::check)
    }

    /// Docker is told of the devices in `daemon.json` or by a flag, which are text.
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

    /// Looks whether it can be gone on with here what an earlier run began; changes nothing.
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
    /// What the target is called in messages.
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
            // However it was named, Docker finds it by its device-mapper name.
            (Target::ThinPool { .. }, Some(name)) => {
                vec![format!("dm.thinpooldev=/dev/mapper/{name}")]
            }
            (target, _) => pool_options(target),
        }
    }
}

/// The storage options by which Docker finds a pool; none for loop files.
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
    /// The device-mapper name of the operator's pool, if that is where the layers go.
    pub(super) fn pool(&self) -> Option<&str> {
        match self {
            Self::Direct => None,
            Self::Kernel(kernel) => kernel.facts.pool.as_deref(),
        }
    }

    /// The pool's transaction id before the first device is made.
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
            // Laid out although the kernel decides where blocks go: what ext4 cannot hold is refused before anything is
            // written, and both engines come to the same size.
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

    /// Tells it from any other.
    pub(super) fn fingerprint(&self) -> Fingerprint {
        match self {
            Self::Direct(layout) => layout.fingerprint(),
            Self::Kernel(work) => work.plan.fingerprint(),
        }
    }

    /// The plan to the block, where the direct engine writes it.
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

    /// Bytes that are written into the Docker root for the pool, estimated from above where the kernel does it.
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

    /// Makes sure that the target has room, where that is not the Docker root's own file system.
    ///
    /// # Errors
    ///
    /// [`Error::PoolTooSmall`]: more metadata might be needed than there is, for a pool that runs out of it must be repaired;
    /// or the files alone are larger than the pool. A notice when it may become scarce.
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
        // Docker makes no layer in a pool with less than a tenth free.
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

    /// What the daemon must be told about the pool, beside the driver.
    pub(super) fn storage_opts(&self) -> Vec<String> {
        match self {
            Self::Direct(_) => Vec::new(),
            Self::Kernel(work) => work.kernel.storage_opts(),
        }
    }
}
