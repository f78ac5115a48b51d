//! Identifies the pool of a record by its content: after a boot, a device may have another's number and name.

use std::fs::File;
use std::path::Path;

use uuid::Uuid;

use super::base;
use super::error::Error;
use crate::pool::DeviceError;
use crate::pool::Refusal;
use crate::sys::block;
use crate::thin::{self, Device};
use crate::units::{Bytes, SECTOR_BYTES};

/// Checks whether the pool on two devices, data and metadata, is the one of a record: it has devices, all of them begin
/// with the file system of the base device, whose UUID `mkfs` chose at random, and the data device has as many blocks
/// as the metadata says. Metadata of another run that was cut off before its first layer was written could pass with
/// our data.
///
/// Both are read as they are on the disk. Nothing is activated, because it may be somebody else's pool.
///
/// # Returns
///
/// Why it is not the same pool; `None` if it is.
pub(super) fn doubt((data, metadata): (&Path, &Path), uuid: Uuid) -> Result<Option<String>, Error> {
    let pool = read_metadata(metadata)?;
    let block = Bytes(pool.data_block_size.0 * SECTOR_BYTES);
    let size = File::open(data).and_then(|file| block::size(&file));
    let size = size.map_err(Error::io(data, "determine the size"))?;
    // A larger size is fine: the device may have been extended since.
    if size.0 / block.0 < pool.nr_data_blocks.0 {
        return Ok(Some(format!(
            "another pool is there now: it has {} data blocks, but {} has {}",
            pool.nr_data_blocks.0,
            data.display(),
            size.0 / block.0
        )));
    }
    if pool.devices.is_empty() {
        let why = "another pool is there now: it has no thin devices, but the pool that was made has some";
        return Ok(Some(why.to_owned()));
    }
    for device in &pool.devices {
        let found = file_system(data, device, block)?;
        if found != Some(uuid) {
            let found = found.map_or_else(
                || "no file system".to_owned(),
                |uuid| format!("file system {uuid}"),
            );
            return Ok(Some(format!(
                "another pool is there now: its thin device {} has {found}, not file system {uuid}",
                device.id
            )));
        }
    }
    Ok(None)
}

fn read_metadata(path: &Path) -> Result<thin::Pool, Error> {
    let file = File::open(path).map_err(Error::io(path, "open"))?;
    // Device-mapper bypasses this cache when it writes.
    block::drop_cache(&file).map_err(Error::io(path, "drop the cache"))?;
    let read = thin::examine(&file);
    read.map(|read| read.pool).map_err(|error| match error {
        thin::Error::Read { source, .. } => Error::io(path, "read")(source),
        error => DeviceError::refused(path, Refusal::of_metadata(error, path)).into(),
    })
}

/// The UUID of the file system on a thin device.
fn file_system(data: &Path, device: &Device, block: Bytes) -> Result<Option<Uuid>, Error> {
    let place = device.mapping.get(0);
    let Some(place) = place.and_then(|mapped| mapped.data_block.checked_mul(block.0)) else {
        return Ok(None);
    };
    let mut first = [0; 4096];
    block::read_direct(data, place, &mut first).map_err(Error::io(data, "read"))?;
    Ok(base::mkfs::uuid_in(&first))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt;

    use tempfile::TempDir;

    use super::*;
    use crate::thin::{Mapping, ThinId};
    use crate::units::{DataBlocks, MetaBlocks, Sectors};

    const OURS: Uuid = Uuid::from_u128(1);
    const THEIRS: Uuid = Uuid::from_u128(2);

    fn device(number: u32, mapping: Mapping) -> Device {
        Device {
            id: ThinId::new(number).unwrap(),
            mapping,
            transaction_id: 0,
            creation_time: number - 1,
            snapshotted_time: 1,
        }
    }

    /// A base device and a snapshot with a first block of its own, with the file systems on them and their data blocks.
    fn pool(file_systems: [Uuid; 2], first: [u64; 2]) -> TempDir {
        let base = Mapping::new().with(&[(0, first[0]), (1, 7)], 0);
        let child = base.with(&[(0, first[1])], 1);
        let pool = thin::Pool {
            data_block_size: Sectors(128),
            nr_data_blocks: DataBlocks(10),
            nr_metadata_blocks: MetaBlocks(64),
            transaction_id: 0,
            time: 1,
            devices: vec![device(1, base), device(2, child)],
        };
        let dir = tempfile::tempdir().unwrap();
        let data = File::create(dir.path().join("data")).unwrap();
        data.set_len(10 << 16).unwrap();
        for (uuid, nr) in file_systems.iter().zip(first) {
            data.write_all_at(&[0x53, 0xef], (nr << 16) + 1080).unwrap();
            data.write_all_at(uuid.as_bytes(), (nr << 16) + 1128)
                .unwrap();
        }
        let metadata = File::create(dir.path().join("metadata")).unwrap();
        metadata.set_len(64 << 12).unwrap();
        let mut sink = |first: u64, bytes: &[u8]| metadata.write_all_at(bytes, first * 4096);
        let superblock = pool.encode(&mut sink).unwrap();
        metadata.write_all_at(&superblock, 0).unwrap();
        dir
    }

    /// Why the pool on `data` and `metadata` is not the one of a record with `uuid`.
    fn doubt_of(data: &TempDir, metadata: &TempDir, uuid: Uuid) -> Option<String> {
        let parts = (data.path().join("data"), metadata.path().join("metadata"));
        doubt((&parts.0, &parts.1), uuid).unwrap()
    }

    #[test]
    fn the_pool_of_a_record_is_known_by_its_file_systems() {
        let ours = pool([OURS; 2], [3, 5]);
        assert_eq!(doubt_of(&ours, &ours, OURS), None);
        let other = doubt_of(&ours, &ours, THEIRS).unwrap();
        assert!(other.contains("another pool is there now"), "{other}");
    }

    #[test]
    fn a_pool_without_devices_is_not_ours() {
        let ours = pool([OURS; 2], [3, 5]);
        let empty = thin::Pool {
            data_block_size: Sectors(128),
            nr_data_blocks: DataBlocks(10),
            nr_metadata_blocks: MetaBlocks(64),
            transaction_id: 0,
            time: 0,
            devices: vec![],
        };
        let path = ours.path().join("metadata");
        let metadata = File::options().write(true).open(&path).unwrap();
        let mut sink = |first: u64, bytes: &[u8]| metadata.write_all_at(bytes, first * 4096);
        let superblock = empty.encode(&mut sink).unwrap();
        metadata.write_all_at(&superblock, 0).unwrap();
        let why = doubt_of(&ours, &ours, OURS).unwrap();
        assert!(why.contains("no thin devices"), "{why}");
    }

    #[test]
    fn metadata_of_another_pool_is_not_taken_for_ours() {
        let ours = pool([OURS; 2], [3, 5]);
        // The base devices are in the same place, the snapshots are not.
        let theirs = pool([THEIRS; 2], [3, 6]);
        let crossed = doubt_of(&ours, &theirs, OURS).unwrap();
        assert!(
            crossed.contains("thin device 2 has no file system"),
            "{crossed}"
        );
        let crossed = doubt_of(&theirs, &ours, OURS).unwrap();
        assert!(crossed.contains("thin device 1 has"), "{crossed}");
    }

    #[test]
    fn a_data_device_that_is_too_small_is_not_ours() {
        let ours = pool([OURS; 2], [3, 5]);
        let data = ours.path().join("data");
        let file = File::options().write(true).open(&data).unwrap();
        file.set_len(11 << 16).unwrap();
        assert_eq!(doubt_of(&ours, &ours, OURS), None);
        file.set_len(9 << 16).unwrap();
        let why = doubt_of(&ours, &ours, OURS).unwrap();
        assert!(why.contains("10 data blocks"), "{why}");
    }
}
