//! The kernel engine as a conversion sees it.

use super::base::{Programs, find_programs};
use super::error::Error;
use super::finished_pool::FinishedPool;
use super::place::{PoolPlace, RunPlace};
use super::run::write;
use super::storage_opts::storage_opts;
use crate::devicemapper::driver_files::FileSystem;
use crate::engine::{self, ErrorKind, Job, Options, Outside, Place, PoolUsage, WrittenPool};
use crate::plan::{self, Plan, PoolSizes};
use crate::pool::Facts;
use crate::pool::target::Target;
use crate::progress::Progress;
use crate::source::Layer;
use crate::units::Bytes;

/// The kernel engine with a target that suits it.
#[derive(Clone, Debug)]
pub struct KernelEngine {
    target: Target,
    file_system: FileSystem,
    facts: Facts,
    programs: Programs,
}

/// A plan to be carried out in a pool.
#[derive(Debug)]
struct KernelJob {
    engine: KernelEngine,
    plan: Plan,
    /// Sizes of the loop files, if the pool uses them.
    sizes: Option<PoolSizes>,
}

impl KernelEngine {
    /// Checks whether the kernel can write a new pool there; changes nothing.
    ///
    /// # Errors
    ///
    /// What does not suit, or what is missing.
    pub fn check(target: &Target, file_system: FileSystem) -> Result<Self, Error> {
        Self::with(target, file_system, target.check()?)
    }

    /// Checks whether the work of an earlier run can be continued there; changes nothing. `transaction_before` is the
    /// pool's transaction id before that run.
    ///
    /// # Errors
    ///
    /// Same as [`check`](Self::check).
    pub fn check_left(
        target: &Target,
        file_system: FileSystem,
        transaction_before: u64,
    ) -> Result<Self, Error> {
        Self::with(target, file_system, target.check_left(transaction_before)?)
    }

    fn with(target: &Target, file_system: FileSystem, facts: Facts) -> Result<Self, Error> {
        Ok(Self {
            target: target.clone(),
            file_system,
            facts,
            programs: find_programs(file_system)?,
        })
    }

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
}

impl engine::Engine for KernelEngine {
    fn notices(&self) -> &[String] {
        &self.facts.notices
    }

    fn pool(&self) -> Option<&str> {
        self.facts.pool.as_deref()
    }

    fn transaction_before(&self) -> u64 {
        self.facts.transaction_id
    }

    fn plan(
        &self,
        layers: Vec<Layer>,
        options: &plan::Options,
    ) -> Result<Box<dyn Job>, plan::Error> {
        let plan = match self.file_system {
            // Laid out although the kernel places the blocks: this refuses what ext4 cannot hold before anything is
            // written, and gives both engines the same size.
            FileSystem::Ext4 => plan::lay_out(layers, options)?.plan,
            FileSystem::Xfs => plan::outline_xfs(layers, options)?,
        };
        let sizes = match self.target {
            Target::LoopFiles => Some(plan.pool_sizes(options)?),
            _ => None,
        };
        Ok(Box::new(KernelJob {
            engine: self.clone(),
            plan,
            sizes,
        }))
    }
}

impl Job for KernelJob {
    fn engine(&self) -> &'static str {
        "kernel"
    }

    fn plan(&self) -> &Plan {
        &self.plan
    }

    fn target(&self) -> &Target {
        &self.engine.target
    }

    fn data_block(&self) -> Bytes {
        self.engine.facts.data_block
    }

    fn pool_sizes(&self) -> Option<PoolSizes> {
        self.sizes
    }

    fn pool_usage(&self) -> PoolUsage {
        let needs = self.plan.needs(self.engine.facts.data_block);
        PoolUsage {
            data: needs.data,
            metadata: needs.metadata,
        }
    }

    /// More metadata might be needed than there is, and a pool that runs out of it must be repaired; so the upper
    /// estimate decides. For data, only what the files alone take.
    fn check_room(&self) -> Result<Option<String>, engine::Error> {
        let KernelEngine { facts, .. } = &self.engine;
        let Some(space) = facts.space else {
            return Ok(None);
        };
        let needs = self.plan.needs(facts.data_block);
        let too_small = |what, needed, free| Error::PoolTooSmall {
            target: self.engine.name(),
            what,
            needed,
            free,
        };
        let metadata = needs.metadata.bytes();
        if metadata > space.metadata {
            return Err(too_small("metadata", metadata, space.metadata).into());
        }
        if needs.least > space.data {
            return Err(too_small("data", needs.least, space.data).into());
        }
        // Docker creates no layer in a pool with less than a tenth free.
        let ample = Bytes(needs.data.0 + needs.data.0 / 9);
        Ok((ample > space.data).then(|| {
            format!(
                "{}: {} of data is free, and the layers with a tenth to spare may take up to {ample}; if they do not fit, \
                 the run stops and removes what it wrote",
                self.engine.name(),
                space.data
            )
        }))
    }

    /// A run that fails takes everything back.
    fn keeps_layers(&self) -> bool {
        false
    }

    fn write(
        &self,
        place: &Place<'_>,
        options: &Options<'_>,
        progress: &dyn Progress,
    ) -> Result<WrittenPool, engine::Error> {
        let target = &self.engine.target;
        let run = RunPlace {
            root: place.root,
            stage: place.stage,
            home: place.home,
            target,
            pool: PoolPlace::of(target, place, self.sizes),
            programs: &self.engine.programs,
        };
        let pool = write(&self.plan, &run, options, progress)?;
        Ok(WrittenPool {
            base_uuid: pool.base_uuid,
            data_bytes: pool.used_data,
            metadata_blocks: pool.used_metadata,
            runs: None,
            outside: Some(Box::new(pool)),
        })
    }

    fn storage_opts(&self) -> Vec<String> {
        match (&self.engine.target, &self.engine.facts.pool) {
            // However the operator named it, Docker finds it by its device-mapper name.
            (Target::ThinPool { .. }, Some(name)) => {
                vec![format!("dm.thinpooldev=/dev/mapper/{name}")]
            }
            (target, _) => storage_opts(target),
        }
    }
}

impl Outside for FinishedPool {
    fn take_back(self: Box<Self>) -> Result<(), engine::Error> {
        Ok(Self::take_back(*self)?)
    }
}

impl From<Error> for engine::Error {
    fn from(error: Error) -> Self {
        let kind = match &error {
            Error::Interrupted => ErrorKind::Interrupted,
            Error::NotResumed(_) => ErrorKind::NotResumed,
            Error::Populate(crate::populate::Error::Target { .. }) => ErrorKind::FileSystem,
            _ => ErrorKind::Other,
        };
        Self::new(kind, error)
    }
}
