//! The files by which Docker's driver knows the devices of a plan.

use std::collections::HashSet;

use uuid::Uuid;

use crate::devicemapper::driver_files::{
    BASE_FILE, DEVICE_SET_FILE, Device, DeviceId, DeviceSet, TRANSACTION_FILE, Transaction,
};
use crate::plan::{Plan, PlannedDevice};

/// The files of `devicemapper/metadata`. The transaction file is written last and has the pool's own id: Docker deletes
/// the device of a transaction that is newer than the pool's.
pub(super) fn device_files(plan: &Plan, base_uuid: Uuid) -> Vec<(&str, Vec<u8>)> {
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
