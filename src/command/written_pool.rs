//! A pool that was written, and can be taken back until the result is in place.

use uuid::Uuid;

use super::error::Error;
use crate::commit::{self, Journal};
use crate::engine::direct::WrittenRun;
use crate::engine::kernel;
use crate::plan::Layout;
use crate::units::{Bytes, MetaBlocks};
use crate::verify::LayerDamage;

/// What an engine wrote.
#[derive(Debug)]
pub(super) struct WrittenPool {
    /// UUID of the base device's file system.
    pub(super) base_uuid: Uuid,
    /// What the devices take in the pool.
    pub(super) data_bytes: Bytes,
    /// What the pool's metadata takes.
    pub(super) metadata_blocks: MetaBlocks,
    /// Checksums of what was written, from the direct engine where they were asked for.
    pub(super) runs: Option<Vec<WrittenRun>>,
    /// Layers that were damaged before, as the verification found.
    pub(super) damaged: Vec<LayerDamage>,
    /// What lies outside the staging directory.
    outside: Option<kernel::FinishedPool>,
}

impl WrittenPool {
    pub(super) fn direct(layout: &Layout, runs: Option<Vec<WrittenRun>>) -> Self {
        Self {
            base_uuid: layout.uuid,
            data_bytes: layout.data_bytes(),
            metadata_blocks: layout.metadata_blocks,
            runs,
            damaged: Vec::new(),
            outside: None,
        }
    }

    pub(super) fn kernel(built: kernel::FinishedPool) -> Self {
        Self {
            base_uuid: built.base_uuid,
            data_bytes: built.used_data,
            metadata_blocks: built.used_metadata,
            runs: None,
            damaged: Vec::new(),
            outside: Some(built),
        }
    }

    /// Takes back what lies outside the staging directory, unless all is in place.
    pub(super) fn settle(
        mut self,
        in_place: Result<Vec<LayerDamage>, Error>,
        journal: &Journal,
    ) -> Result<Self, Error> {
        let Some(built) = self.outside.take() else {
            return in_place.map(|damaged| Self { damaged, ..self });
        };
        match in_place {
            Ok(damaged) => Ok(Self { damaged, ..self }),
            // The root refers to the pool in part: what is to become of it the operator decides.
            Err(error @ Error::Commit(commit::Error::HalfWay { .. })) => Err(error),
            Err(cause) => {
                journal.note_undone();
                Err(match built.take_back() {
                    Ok(()) => cause,
                    Err(left) => Error::PoolNotTakenBack {
                        cause: Box::new(cause),
                        left,
                    },
                })
            }
        }
    }
}
