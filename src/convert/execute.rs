//! Writes a plan and moves it in place.

use std::collections::HashSet;
use std::time::Instant;

use uuid::Uuid;

use super::error::Error;
use super::source::Source;
use super::summary::{Outcome, Summary};
use crate::aufs::Counts;
use crate::commit::{EditedConfig, Stage};
use crate::docker::devicemapper::{
    BASE_FILE, DEVICE_SET_FILE, Device, DeviceId, DeviceSet, TRANSACTION_FILE, Transaction,
};
use crate::engine::{Phase, Progress, direct};
use crate::plan::{Layout, Plan, PlannedDevice};
use crate::units::Bytes;

/// A root that was read, with its plan. Nothing has been written.
#[derive(Debug)]
pub struct Prepared {
    pub(super) source: Source,
    pub(super) layout: Layout,
    pub(super) configs: Vec<EditedConfig>,
    pub(super) counts: Counts,
}

impl Prepared {
    /// The plan, to the block.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// What the operator should know, whether or not the plan is executed.
    pub fn notices(&self) -> &[String] {
        &self.source.notices
    }

    /// The plan in numbers; nothing has been done yet.
    pub fn summary(&self) -> Summary {
        Summary::new(self, Outcome::Planned)
    }

    /// Bytes that the conversion writes: the pool's two files, and the copies of the image store and the configurations.
    pub(super) fn bytes_needed(&self) -> Result<Bytes, Error> {
        let metadata = self.layout.metadata_blocks.bytes();
        let configs: usize = self.configs.iter().map(|config| config.content.len()).sum();
        let image_store = Stage::size_of_image_store(self.source.root.path())?;
        Ok(Bytes(
            self.layout.data_bytes().0 + metadata.0 + image_store.0 + configs as u64,
        ))
    }

    /// Writes the pool and Docker's files, and moves them in place. All is durable on return.
    ///
    /// # Errors
    ///
    /// [`Error::Engine`], [`Error::Commit`], [`Error::Interrupted`].
    pub fn execute(self, progress: &dyn Progress) -> Result<Summary, Error> {
        let began = Instant::now();
        let request = &self.source.request;
        let stage = Stage::create(self.source.root.path())?;
        let owner = self.source.root.owner();
        let (data, metadata) = stage.create_driver_home((owner.uid, owner.gid))?;
        let options = direct::Options {
            jobs: request.jobs,
            cancel: request.cancel.clone(),
        };
        direct::write(
            &self.layout,
            &direct::Target { data, metadata },
            &options,
            progress,
        )?;
        progress.start(Phase::Switch, 0);
        stage.write_device_files(device_files(&self.layout.plan, self.layout.uuid))?;
        stage.copy_image_store()?;
        stage.write_configs(&self.configs)?;
        if request.cancel.is_set() {
            return Err(Error::Interrupted);
        }
        stage.switch(&self.configs)?;
        progress.finish();
        let summary = Summary::new(
            &self,
            Outcome::Converted {
                elapsed: began.elapsed(),
            },
        );
        if let Some(lock) = self.source.lock
            && let Err(error) = lock.release()
        {
            // The conversion is done: an error would say that it is not.
            log::warn!("{error}: remove it by hand before Docker starts");
        }
        Ok(summary)
    }
}

/// The files of `devicemapper/metadata`. The transaction is written last and names the pool's own: Docker deletes the
/// device of a transaction that is newer than the pool's.
fn device_files(plan: &Plan, base_uuid: Uuid) -> Vec<(&str, Vec<u8>)> {
    let mut files: Vec<(&str, Vec<u8>)> = plan
        .devices
        .iter()
        .map(|device| device_file(plan, device))
        .collect();
    let last = plan.devices.last().expect("a plan has a base device");
    let last_device = device_id(last);
    let set = DeviceSet {
        last_device,
        base_uuid,
        file_system: plan.file_system,
    };
    files.push((DEVICE_SET_FILE, set.encode()));
    let layer = last.layer.as_ref().map(|layer| &layer.id);
    let transaction = Transaction {
        id: plan.transaction_id(),
        layer,
        device: last_device,
    };
    files.push((TRANSACTION_FILE, transaction.encode()));
    debug_assert_eq!(
        files
            .iter()
            .map(|(name, _)| name)
            .collect::<HashSet<_>>()
            .len(),
        files.len()
    );
    files
}

fn device_file<'a>(plan: &Plan, device: &'a PlannedDevice) -> (&'a str, Vec<u8>) {
    match &device.layer {
        None => (
            BASE_FILE,
            Device::base(plan.base_size, device.transaction_id).encode(),
        ),
        Some(layer) => (
            layer.id.as_str(),
            Device::layer(device_id(device), plan.base_size, device.transaction_id).encode(),
        ),
    }
}

fn device_id(device: &PlannedDevice) -> DeviceId {
    DeviceId::new(device.thin_id.value().into()).expect("thin ids have 24 bits in both parts")
}
