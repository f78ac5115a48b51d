//! A pool that was written, and that can be taken back until the result is in place.

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
    /// Space that the devices occupy in the pool.
    pub(super) data_bytes: Bytes,
    /// Space that the pool's metadata occupies.
    pub(super) metadata_blocks: MetaBlocks,
    /// Checksums of what was written, if the direct engine was asked for them.
    pub(super) runs: Option<Vec<WrittenRun>>,
    /// Layers that the verification found to have been damaged before.
    pub(super) damaged: Vec<LayerDamage>,
    /// The part that is outside the staging directory.
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

    /// Takes back the part outside the staging directory, unless everything is in place.
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
            // The root refers to part of the pool: the operator decides what to do with it.
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
