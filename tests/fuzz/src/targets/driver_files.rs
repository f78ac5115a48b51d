//! The small files of the devicemapper driver.

use aufs2dm::devicemapper::driver_files::{
    Device, DeviceRecord, DeviceSet, DeviceSetRecord, OpenTransaction,
};

/// What is accepted as ours is written and read as the same.
pub(super) fn driver_files(input: &[u8]) {
    match Device::decode(input) {
        Ok(device) => {
            let record = DeviceRecord::parse(input).expect("a device is a record");
            assert_eq!(record.id, i64::from(device.id().get()));
            let again = Device::decode(&device.encode()).expect("what was written is read");
            assert_eq!(again.id(), device.id());
            assert_eq!(again.size(), device.size());
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
    match DeviceSet::decode(input) {
        Ok(set) => {
            assert!(DeviceSetRecord::parse(input).is_ok());
            let again = DeviceSet::decode(&set.encode()).expect("what was written is read");
            assert_eq!(again, set);
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
    let open = OpenTransaction::decode(input);
    let is_object = serde_json::from_slice::<serde_json::Map<_, serde_json::Value>>(input).is_ok();
    assert!(open.is_some() || !is_object);
}
