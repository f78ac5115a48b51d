//! Thin-pool metadata: what is written must satisfy the tools of the format's authors, and be read back as it was.

#![allow(clippy::unwrap_used)] // helpers of tests: a failed unwrap is a failed test

use std::fs::File;
use std::os::unix::fs::FileExt;

use aufs2dm::thin::{Estimate, Pool, read};
use aufs2dm::units::MetaBlocks;
use proptest::prelude::{ProptestConfig, proptest};

use super::layers::{Layer, Plan, any_layers};
use super::tools::{dump, restore, thin_check};

/// A metadata file with the pool in it.
pub(super) fn written(pool: &Pool) -> File {
    let file = tempfile::tempfile().unwrap();
    file.set_len(pool.nr_metadata_blocks.bytes().0).unwrap();
    let mut next = 1;
    let mut sink = |first: u64, bytes: &[u8]| {
        assert_eq!(first, next, "pieces come without a gap");
        assert_eq!(bytes.len() % 4096, 0);
        next += bytes.len() as u64 / 4096;
        file.write_all_at(bytes, first * 4096)
    };
    let superblock = pool.encode(&mut sink).unwrap();
    assert_eq!(MetaBlocks(next), pool.metadata_blocks_needed().unwrap());
    assert!(MetaBlocks(next) <= estimate(pool).image());
    file.write_all_at(&superblock, 0).unwrap();
    file
}

/// What one would guess without a look at the mappings' nodes.
fn estimate(pool: &Pool) -> Estimate {
    Estimate {
        mappings: pool.devices.iter().map(|device| device.mapping.len()).sum(),
        devices: pool.devices.len() as u64,
        nr_data_blocks: pool.nr_data_blocks,
    }
}

/// Checks all that is claimed of a written pool.
fn check(layers: &[Layer]) {
    let plan = Plan::of(layers);
    let file = written(&plan.pool);
    thin_check(&file);
    let text = dump(&file);
    plan.check_dump(&text);

    let (restored, nr_metadata_blocks) = restore(&text);
    assert!(dump(&restored) == text, "thin_restore makes the same pool");
    let expected = Pool {
        nr_metadata_blocks,
        ..plan.pool.clone()
    };
    assert_eq!(read(&restored).unwrap(), expected);

    let pool = read(&file).unwrap();
    assert_eq!(pool, plan.pool);
    pool.validate().unwrap();
    assert!(
        bytes_of(&written(&pool)) == bytes_of(&file),
        "what was read shares what was shared"
    );
}

/// The blocks in use of a metadata file.
pub(super) fn bytes_of(file: &File) -> Vec<u8> {
    let mut bytes = vec![0; 2048 * 4096];
    let len = file.read_at(&mut bytes, 0).unwrap();
    bytes.truncate(len);
    bytes
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, max_shrink_iters: 60, ..ProptestConfig::default() })]

    #[test]
    fn any_layers_are_written_as_planned(layers in any_layers()) {
        check(&layers);
    }
}

#[test]
fn a_pool_without_devices_is_written() {
    check(&[]);
}

#[test]
fn devices_without_mappings_have_a_root_each_or_share_one() {
    let empty = |parent| Layer::new(parent, []);
    check(&[
        empty(None),
        empty(None),
        empty(Some(0)),
        empty(Some(2)),
        empty(Some(2)),
    ]);
}

#[test]
fn counts_of_one_two_three_and_more_are_written() {
    // Each child rewrites the first leaf: block 1 of the base stands in one leaf more with each of them. The second
    // leaf stays shared, so its own count rises instead.
    for children in 0..7 {
        let mut layers = vec![Layer::new(None, 0..504)];
        layers.extend((0..children).map(|_| Layer::new(Some(0), [0])));
        check(&layers);
    }
}

#[test]
fn trees_of_three_levels_are_written() {
    let mut layers = vec![Layer::new(None, 0..70_000)];
    for i in 0..5 {
        let changes = [0, i, 300 * i + 1000, 69_000 + 300 * i];
        layers.push(Layer::new(Some(0), changes));
    }
    layers.push(Layer::new(Some(5), 60_000..80_000));
    check(&layers);
}

#[test]
fn a_top_level_of_two_levels_is_written() {
    let base = Layer::new(None, 0..2000);
    let chain = (0..299).map(|i| Layer::new(Some(i), [0, 40, 2000 + i as u64]));
    check(&[base].into_iter().chain(chain).collect::<Vec<_>>());
}

#[test]
fn many_siblings_share_one_root() {
    let base = Layer::new(None, 0..1000);
    let siblings = (0..300).map(|_| Layer::new(Some(0), []));
    check(&[base].into_iter().chain(siblings).collect::<Vec<_>>());
}
