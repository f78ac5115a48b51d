//! The direct engine as a conversion sees it.

use uuid::Uuid;

use super::error::Error;
use super::run::write;
use super::target::Target;
use crate::engine::{self, ErrorKind, Job, Options, Place, PoolUsage, WrittenPool};
use crate::plan::{self, Fingerprint, Layout, Plan, PoolSizes};
use crate::progress::Progress;
use crate::source::Layer;

/// The direct engine. It needs nothing but two files.
#[derive(Clone, Copy, Debug)]
pub struct DirectEngine;

/// A layout to be written into two new files.
#[derive(Debug)]
struct DirectJob {
    layout: Layout,
}

impl engine::Engine for DirectEngine {
    fn plan(
        &self,
        layers: Vec<Layer>,
        options: &plan::Options,
    ) -> Result<Box<dyn Job>, plan::Error> {
        let layout = plan::lay_out(layers, options)?;
        Ok(Box::new(DirectJob { layout }))
    }
}

impl Job for DirectJob {
    fn engine(&self) -> &'static str {
        "direct"
    }

    fn plan(&self) -> &Plan {
        &self.layout.plan
    }

    fn fingerprint(&self) -> Fingerprint {
        self.layout.fingerprint()
    }

    fn layout(&self) -> Option<&Layout> {
        Some(&self.layout)
    }

    fn base_uuid(&self) -> Option<Uuid> {
        Some(self.layout.uuid)
    }

    fn pool_sizes(&self) -> Option<PoolSizes> {
        Some(PoolSizes {
            data: self.layout.data_size,
            metadata: self.layout.metadata_size,
        })
    }

    fn pool_usage(&self) -> PoolUsage {
        PoolUsage {
            data: self.layout.data_bytes(),
            metadata: self.layout.metadata_blocks,
        }
    }

    /// Each device has its own stretch of the data file, and nothing else is written there.
    fn keeps_layers(&self) -> bool {
        true
    }

    fn write(
        &self,
        place: &Place<'_>,
        options: &Options<'_>,
        progress: &dyn Progress,
    ) -> Result<WrittenPool, engine::Error> {
        let (data, metadata) = place.files.clone().expect("this job has sizes of files");
        let target = Target { data, metadata };
        let runs = write(&self.layout, &target, options, progress)?;
        let usage = self.pool_usage();
        Ok(WrittenPool {
            base_uuid: self.layout.uuid,
            data_bytes: usage.data,
            metadata_blocks: usage.metadata,
            runs: options.checksums.then_some(runs),
            outside: None,
        })
    }
}

impl From<Error> for engine::Error {
    fn from(error: Error) -> Self {
        let kind = match error {
            Error::Interrupted => ErrorKind::Interrupted,
            _ => ErrorKind::Other,
        };
        Self::new(kind, error)
    }
}
