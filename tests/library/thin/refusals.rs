//! Pools that must not be written.

use std::collections::BTreeMap;

use aufs2dm::thin::{Device, Error, MAX_METADATA_BLOCKS, Mapping, Pool, ThinId};
use aufs2dm::units::{DataBlocks, MetaBlocks, Sectors};

use super::layers::{Layer, Plan};

/// A base of 300 blocks, and a child that overwrote the first.
fn pool() -> Pool {
    let base: Vec<_> = (0..300).map(|i| (i, i)).collect();
    let base = Mapping::new().with(&base, 0);
    let child = base.with(&[(0, 300)], 1);
    let device = |id, mapping, creation_time| Device {
        id: ThinId::new(id).unwrap(),
        mapping,
        transaction_id: 0,
        creation_time,
        snapshotted_time: 1,
    };
    Pool {
        data_block_size: Sectors(128),
        nr_data_blocks: DataBlocks(301),
        nr_metadata_blocks: MetaBlocks(64),
        transaction_id: 0,
        time: 1,
        devices: vec![device(0, base, 0), device(1, child, 1)],
    }
}

/// What the pool is refused for, once `spoil` is through with it; nothing may be written of it.
fn refusal(spoil: impl FnOnce(&mut Pool)) -> Error {
    let mut pool = pool();
    spoil(&mut pool);
    let mut sink = |_, _: &[u8]| panic!("a refused pool is not written");
    let error = pool.encode(&mut sink).unwrap_err();
    assert_eq!(pool.validate().unwrap_err().to_string(), error.to_string());
    error
}

#[test]
fn the_pool_that_the_others_vary_is_accepted() {
    pool().validate().unwrap();
}

#[test]
fn sizes_that_the_kernel_refuses_are_refused() {
    for sectors in [0, 64, 129, 2_097_152 + 128] {
        let error = refusal(|pool| pool.data_block_size = Sectors(sectors));
        assert!(matches!(error, Error::DataBlockSize { .. }), "{error}");
    }
    let error = refusal(|pool| pool.nr_data_blocks = DataBlocks((1 << 40) + 1));
    assert!(matches!(error, Error::TooManyDataBlocks { .. }), "{error}");
    let above = MetaBlocks(MAX_METADATA_BLOCKS.0 + 1);
    let error = refusal(|pool| pool.nr_metadata_blocks = above);
    assert!(
        matches!(error, Error::TooManyMetadataBlocks { .. }),
        "{error}"
    );
}

#[test]
fn a_device_defined_twice_is_refused() {
    let error = refusal(|pool| pool.devices[1].id = pool.devices[0].id);
    assert_eq!(error.to_string(), "thin device 0: defined twice");
}

#[test]
fn a_metadata_device_one_block_too_small_is_refused() {
    let needed = pool().metadata_blocks_needed().unwrap();
    let error = refusal(|pool| pool.nr_metadata_blocks = MetaBlocks(needed.0 - 1));
    let Error::MetadataFull {
        needed: told,
        available,
    } = error
    else {
        panic!("{error}");
    };
    assert_eq!((MetaBlocks(told), available), (needed, needed.0 - 1));
    let mut fits = pool();
    fits.nr_metadata_blocks = needed;
    fits.validate().unwrap();
}

#[test]
fn a_mapping_outside_the_data_device_is_refused() {
    let error = refusal(|pool| pool.nr_data_blocks = DataBlocks(300));
    assert_eq!(
        error.to_string(),
        "thin device 1: data block 300 is outside the 300 of the pool"
    );
}

#[test]
fn times_after_the_pools_are_refused() {
    let spoils: [fn(&mut Pool); 4] = [
        |pool| pool.time = 0,
        |pool| pool.devices[0].snapshotted_time = 2,
        |pool| pool.devices[0].creation_time = 2,
        |pool| pool.devices[0].mapping = pool.devices[0].mapping.with(&[(7, 7)], 2),
    ];
    for spoil in spoils {
        let error = refusal(spoil);
        assert!(matches!(error, Error::TimeAfterPool { .. }), "{error}");
    }
    let error = refusal(|pool| pool.time = 1 << 24);
    assert!(matches!(error, Error::TooManySnapshots { .. }), "{error}");
}

#[test]
fn a_block_of_two_devices_that_one_would_write_in_place_is_refused() {
    for device in [0, 1] {
        let error = refusal(|pool| pool.devices[device].snapshotted_time = 0);
        let Error::SharedBlockWritable { device: told, .. } = error else {
            panic!("{error}");
        };
        assert_eq!(told, ThinId::new(u32::try_from(device).unwrap()).unwrap());
    }
}

#[test]
fn a_block_shared_by_different_leaves_is_found_too() {
    let error = refusal(|pool| {
        let other = Mapping::new().with(&[(9, 300)], 0);
        pool.devices[0].mapping = other;
    });
    let Error::SharedBlockWritable {
        device,
        data_block: 300,
        time: 1,
        ..
    } = error
    else {
        panic!("{error}");
    };
    assert_eq!(device, ThinId::new(1).unwrap());
}

#[test]
fn a_failing_sink_is_reported_with_its_reason() {
    let error = pool()
        .encode(&mut |_, _| Err(std::io::ErrorKind::StorageFull.into()))
        .unwrap_err();
    assert!(matches!(error, Error::Write { block: 1, .. }), "{error}");
    assert!(std::error::Error::source(&error).is_some());
}

/// What the rule says, told block by block: whoever reaches a block that is reached twice was the origin or the result of a
/// snapshot after the block was mapped, and no time is after the pool's.
fn keeps_to_the_rule(pool: &Pool) -> bool {
    let mut reached: BTreeMap<u64, Vec<bool>> = BTreeMap::new();
    for device in &pool.devices {
        if device.snapshotted_time > pool.time || device.creation_time > pool.time {
            return false;
        }
        for (_, mapped) in &device.mapping {
            if mapped.time > pool.time {
                return false;
            }
            let copies = mapped.time < device.snapshotted_time;
            reached.entry(mapped.data_block).or_default().push(copies);
        }
    }
    let mut shared = reached.values().filter(|by| by.len() > 1);
    shared.all(|by| by.iter().all(|copies| *copies))
}

#[test]
fn changed_times_are_refused_if_and_only_if_they_break_the_rule() {
    let mut layers = vec![Layer::new(None, 0..300)];
    layers.extend((0..12).map(|i| Layer::new(Some(i / 2), [i as u64, 290, 400 + i as u64])));
    let right = Plan::of(&layers).pool;
    assert!(keeps_to_the_rule(&right));
    let (mut broken, mut harmless) = (0, 0);
    for at in 0..right.devices.len() {
        for time in 0..=right.time + 1 {
            let mut pool = right.clone();
            pool.devices[at].snapshotted_time = time;
            let mut changed = vec![pool];
            for thin_block in [0, 5, 200, 290, 405] {
                let mut pool = right.clone();
                let mapping = &pool.devices[at].mapping;
                if let Some(mapped) = mapping.get(thin_block) {
                    pool.devices[at].mapping =
                        mapping.with(&[(thin_block, mapped.data_block)], time);
                    changed.push(pool);
                }
            }
            for pool in changed {
                let keeps = keeps_to_the_rule(&pool);
                assert_eq!(pool.validate().is_ok(), keeps, "device {at}, time {time}");
                if keeps {
                    harmless += 1;
                } else {
                    broken += 1;
                }
            }
        }
    }
    assert!(broken > 200 && harmless > 200, "{broken}, {harmless}");
}
