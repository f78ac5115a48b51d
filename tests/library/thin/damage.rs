//! Metadata that is not what was written.

use std::sync::LazyLock;

use aufs2dm::thin::{Error, Pool, read};
use proptest::collection::vec;
use proptest::prelude::{ProptestConfig, Strategy, any, proptest};
use proptest::prop_oneof;

use super::layers::{Layer, Plan};
use super::pools::{bytes_of, written};

/// What each kind of block has its checksum xored with, by kind.
const SALTS: [u32; 4] = [160_774, 121_107, 240_779, 160_478];

/// The pool of these tests and its image.
static SAMPLE: LazyLock<(Pool, Vec<u8>)> = LazyLock::new(sample);

/// A pool with trees of two levels, shared nodes, and counts above 2; and its image, cut after the last block in use.
fn sample() -> (Pool, Vec<u8>) {
    let mut layers = vec![Layer::new(None, 0..600)];
    layers.extend((0..4).map(|i| Layer::new(Some(0), [0, 300 + i])));
    layers.push(Layer::new(None, []));
    let pool = Plan::of(&layers).pool;
    let mut bytes = bytes_of(&written(&pool));
    let needed = pool.metadata_blocks_needed().unwrap();
    bytes.truncate(usize::try_from(needed.bytes().0).unwrap());
    (pool, bytes)
}

fn checksum(block: &[u8], salt: u32) -> [u8; 4] {
    (!crc32c::crc32c(&block[4..]) ^ salt).to_le_bytes()
}

#[test]
fn damage_to_any_byte_is_noticed() {
    let (pool, mut bytes) = SAMPLE.clone();
    assert_eq!(read(&bytes).unwrap(), pool);
    // All of every header and of what stands first, and a sample of the rest that no field escapes.
    let sampled = |at: &usize| at % 4096 < 64 || at.is_multiple_of(7);
    for at in (0..bytes.len()).filter(sampled) {
        bytes[at] ^= 0x10;
        assert!(read(&bytes).is_err(), "damage at {at} is not noticed");
        bytes[at] ^= 0x10;
    }
}

#[test]
fn blocks_that_change_places_are_noticed() {
    let (_, bytes) = SAMPLE.clone();
    let mut swapped = bytes.clone();
    swapped[4096..8192].copy_from_slice(&bytes[8192..12288]);
    let error = read(&swapped).unwrap_err();
    assert!(
        matches!(
            error,
            Error::Misplaced {
                block: 1,
                found: 2,
                ..
            }
        ),
        "{error}"
    );
}

/// The sample with bytes put in a block and its checksum made good.
fn forged(block: usize, at: usize, value: &[u8]) -> Vec<u8> {
    let mut bytes = SAMPLE.1.clone();
    forge(&mut bytes[block * 4096..][..4096], at, value);
    bytes
}

fn forge(block: &mut [u8], at: usize, value: &[u8]) {
    let fits = |salt: &u32| checksum(block, *salt) == block[..4];
    let salt = SALTS.into_iter().find(fits).unwrap();
    block[at..at + value.len()].copy_from_slice(value);
    let sum = checksum(block, salt);
    block[..4].copy_from_slice(&sum);
}

/// Where a node's first key is, and the first value of one with values of 8 bytes.
const KEYS: usize = 32;
const VALUES: usize = KEYS + 8 * 252;

/// The base comes first: leaves of 252, 252 and 96 mappings in blocks 1 to 3, their root in 4.
const FORGERIES: &[(usize, usize, &[u8], &str)] = &[
    (1, 4, &[3], "metadata block 1 (b-tree node): node flags 0x3"),
    (1, 16, &[83], "metadata block 1 (b-tree node): 83 entries"),
    (1, 16, &[253], "metadata block 1 (b-tree node): 253 entries"),
    (
        1,
        20,
        &[126],
        "metadata block 1 (b-tree node): room for 126 entries",
    ),
    (
        1,
        24,
        &[16],
        "metadata block 1 (b-tree node): values of 16 bytes",
    ),
    (
        1,
        KEYS + 8,
        &[0],
        "metadata block 1 (b-tree node): key 0 is out of order",
    ),
    (
        1,
        VALUES + 6,
        &[1],
        "metadata block 1 (b-tree node): maps to data block 16777216",
    ),
    (
        1,
        VALUES + 3,
        &[1],
        "data block 1: 6 references, but the space map states 5",
    ),
    (
        3,
        KEYS + 8 * 95 + 6,
        &[1],
        "metadata block 3 (b-tree node): maps thin block 281474976711255",
    ),
    (
        4,
        KEYS + 8,
        &[251],
        "metadata block 1 (b-tree node): key 251 is out of order",
    ),
    (
        4,
        KEYS,
        &[1],
        "metadata block 1 (b-tree node): key 0 is out of order",
    ),
    (
        4,
        VALUES,
        &[0],
        "metadata block 4 (b-tree node): points to metadata block 0",
    ),
    (
        4,
        VALUES + 4,
        &[1],
        "metadata block 4 (b-tree node): points to metadata block 4294967297",
    ),
    (
        4,
        VALUES + 8,
        &[1],
        "metadata block 1 (b-tree node): key 0 is out of order",
    ),
];

#[test]
fn blocks_that_contradict_the_format_are_told_apart() {
    for (block, at, value, message) in FORGERIES {
        let error = read(&forged(*block, *at, value)).unwrap_err();
        assert_eq!(error.to_string(), *message);
    }
}

#[test]
fn a_tree_that_leads_into_itself_is_noticed() {
    let pool = Plan::of(&[Layer::new(None, 0..25_200)]).pool;
    let mut bytes = bytes_of(&written(&pool));
    // A hundred leaves, then their root.
    forge(&mut bytes[101 * 4096..][..4096], VALUES, &[101]);
    let error = read(&bytes).unwrap_err();
    assert_eq!(
        error.to_string(),
        "metadata block 101 (b-tree node): tree of uneven or impossible depth"
    );
}

#[test]
fn device_trees_that_disagree_are_noticed() {
    let (details, top_level) = (root_in_superblock(328), root_in_superblock(320));
    let mapped_blocks = 32 + 8 * 126;
    for (block, at, value, message) in [
        (
            details,
            mapped_blocks,
            1,
            "16000000: 600 mappings, but its details state 513",
        ),
        (
            details,
            KEYS,
            1,
            "16000000: in only one of the two device trees",
        ),
        (
            top_level,
            KEYS,
            1,
            "16000000: in only one of the two device trees",
        ),
        (
            top_level,
            16,
            5,
            "16039595: in only one of the two device trees",
        ),
    ] {
        let error = read(&forged(block, at, &[value])).unwrap_err();
        assert_eq!(error.to_string(), format!("thin device {message}"));
    }
}

#[test]
fn space_maps_that_disagree_with_the_references_are_noticed() {
    let (index, overflow) = (root_in_superblock(80), root_in_superblock(88));
    let large_counts = usize::from(SAMPLE.1[overflow * 4096 + VALUES]);
    let data_bitmap = usize::from(SAMPLE.1[index * 4096 + 32 + 8 * 168]);
    let metadata_index = root_in_superblock(208);
    let metadata_bitmap = usize::from(SAMPLE.1[metadata_index * 4096 + 16]);
    for (block, at, value, message) in [
        (
            0,
            72,
            0,
            "metadata block 0 (superblock): 512 data blocks are counted as in use".to_owned(),
        ),
        (index, 32 + 8 * 168, 1, reached_twice(index, "b-tree node")),
        (
            metadata_index,
            16,
            1,
            reached_twice(metadata_index, "space map index"),
        ),
        (
            index,
            32 + 8 * 168 + 8,
            0xff,
            format!(
                "metadata block {data_bitmap} (bitmap): index entry does not agree with its bitmap"
            ),
        ),
        (
            data_bitmap,
            16,
            0b01,
            "data block 1: 5 references, but the space map states 0".to_owned(),
        ),
        (
            metadata_bitmap,
            16,
            0b01,
            "metadata block 1: 1 references, but the space map states 0".to_owned(),
        ),
        (
            large_counts,
            32 + 8 * 336,
            6,
            "data block 1: 5 references, but the space map states 6".to_owned(),
        ),
        (
            large_counts,
            32 + 8 * 336,
            2,
            format!(
                "metadata block {overflow} (b-tree node): overflow count of block 1 is missing or superfluous"
            ),
        ),
    ] {
        let error = read(&forged(block, at, &[value])).expect_err(&message);
        assert_eq!(error.to_string(), message);
    }
}

/// What is said of a block that points to a block in use.
fn reached_twice(at: usize, kind: &str) -> String {
    format!(
        "metadata block {at} ({kind}): points to metadata block 1, which something else also points to"
    )
}

/// A block number that the superblock holds.
fn root_in_superblock(at: usize) -> usize {
    usize::from(SAMPLE.1[at])
}

#[test]
fn a_device_that_ends_early_is_a_read_error() {
    let (_, bytes) = SAMPLE.clone();
    for blocks in 0..bytes.len() / 4096 {
        let error = read(&bytes[..blocks * 4096].to_vec()).unwrap_err();
        assert!(matches!(error, Error::Read { .. }), "{error}");
    }
}

#[test]
fn an_image_without_its_superblock_is_unformatted() {
    let (_, mut bytes) = SAMPLE.clone();
    bytes[..4096].fill(0);
    assert!(matches!(read(&bytes), Err(Error::Unformatted)));
}

/// Bytes that pass first checks: numbers here are small, so most of their bytes are too.
fn any_value() -> impl Strategy<Value = u8> {
    prop_oneof![0_u8..16, any::<u8>()]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4000, ..ProptestConfig::default() })]

    /// Someone who knows the checksums can write anything.
    #[test]
    fn forged_blocks_are_refused_or_read_but_never_a_panic(
        forgeries in vec((any::<u16>(), 0_usize..400, any_value()), 1..4),
    ) {
        let (_, mut bytes) = SAMPLE.clone();
        let nr_blocks = bytes.len() / 4096;
        for (block, at, value) in forgeries {
            let block = usize::from(block) % nr_blocks * 4096;
            forge(&mut bytes[block..][..4096], 4 + at, &[value]);
        }
        if let Ok(pool) = read(&bytes) {
            for device in &pool.devices {
                assert_eq!(device.mapping.iter().count() as u64, device.mapping.len());
            }
        }
    }
}
