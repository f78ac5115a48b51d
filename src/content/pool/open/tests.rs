//! A pool in files, without a kernel.

use std::fs;
use std::os::unix::fs::FileExt;

use super::*;
use crate::content::pool::device::Place;
use crate::ext4::read::ReadAt;
use crate::path_error::PathError;
use crate::thin::{Device, Mapping};
use crate::units::{DataBlocks, MetaBlocks, Sectors};

fn id(number: u32) -> ThinId {
    ThinId::new(number).unwrap()
}

fn device(number: u32, mapping: Mapping, time: u32) -> Device {
    Device {
        id: id(number),
        mapping,
        transaction_id: 0,
        creation_time: time,
        snapshotted_time: 1,
    }
}

/// A base that maps thin blocks 1, 2 and 4, and a snapshot with another block 2 and a block 9.
fn sample(block: Sectors) -> thin::Pool {
    let base = Mapping::new().with(&[(1, 7), (2, 8), (4, 3)], 0);
    let child = base.with(&[(2, 5), (9, 6)], 1);
    thin::Pool {
        data_block_size: block,
        nr_data_blocks: DataBlocks(10),
        nr_metadata_blocks: MetaBlocks(64),
        transaction_id: 2,
        time: 1,
        devices: vec![device(1, base, 0), device(2, child, 1)],
    }
}

/// A driver's home with the pool in it; each data block begins and ends with the letter for its number.
fn home(pool: &thin::Pool) -> tempfile::TempDir {
    let home = tempfile::tempdir().unwrap();
    fs::create_dir(home.path().join("devicemapper")).unwrap();
    let [data, metadata] = loop_files(home.path()).map(|path| File::create(path).unwrap());
    let block = pool.data_block_size.0 * 512;
    data.set_len(pool.nr_data_blocks.0 * block).unwrap();
    for nr in 0..pool.nr_data_blocks.0 {
        let letter = [b'a' + u8::try_from(nr).unwrap()];
        data.write_all_at(&letter, nr * block).unwrap();
        data.write_all_at(&letter, (nr + 1) * block - 1).unwrap();
    }
    metadata.set_len(pool.nr_metadata_blocks.bytes().0).unwrap();
    let mut sink = |first: u64, bytes: &[u8]| metadata.write_all_at(bytes, first * 4096);
    let superblock = pool.encode(&mut sink).unwrap();
    metadata.write_all_at(&superblock, 0).unwrap();
    home
}

fn open(home: &tempfile::TempDir) -> Result<Pool, Error> {
    Pool::open(home.path(), &Target::LoopFiles)
}

#[test]
fn devices_read_what_they_map_and_zeros_elsewhere() {
    for block in [128, 384, 2_097_152] {
        let home = home(&sample(Sectors(block)));
        let pool = open(&home).unwrap();
        assert!(pool.remarks().is_empty() && pool.fault().is_none());
        let bytes = block * 512;
        for (number, letters) in [(1, *b"\0hi\0d\0\0\0\0\0"), (2, *b"\0hf\0d\0\0\0\0g")] {
            let device = pool.device(id(number), Bytes(bytes * 10)).unwrap();
            let mut around = [0; 2];
            for (nr, letter) in (0..).zip(letters) {
                let mut first = [1];
                device.read_at(&mut first, nr * bytes).unwrap();
                assert_eq!(first, [letter], "device {number}, block {nr}");
                if nr > 0 {
                    device.read_at(&mut around, nr * bytes - 1).unwrap();
                    let before = letters[usize::try_from(nr - 1).unwrap()];
                    assert_eq!(around, [before, letter]);
                }
            }
        }
    }
}

#[test]
fn one_read_may_cover_all_of_a_device() {
    let home = home(&sample(Sectors(128)));
    let pool = open(&home).unwrap();
    let device = pool.device(id(2), Bytes(65536 * 10)).unwrap();
    let mut all = vec![0xff; 655_360];
    device.read_at(&mut all, 0).unwrap();
    let mut by_bytes = vec![0xff; 655_360];
    for (nr, piece) in by_bytes.chunks_mut(5000).enumerate() {
        device.read_at(piece, nr as u64 * 5000).unwrap();
    }
    assert!(all == by_bytes);
    assert_eq!(all.iter().filter(|byte| **byte != 0).count(), 2 * 4);
    device.read_at(&mut [], 655_360).unwrap();
    for (len, offset) in [(1, 655_360), (2, 655_359), (1, u64::MAX)] {
        let error = device.read_at(&mut vec![0; len], offset).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::UnexpectedEof);
    }
}

#[test]
fn places_and_differences_are_told_in_bytes() {
    const BLOCK: u64 = 65536;
    let home = home(&sample(Sectors(128)));
    let pool = open(&home).unwrap();
    let [base, child] = [1, 2].map(|number| pool.device(id(number), Bytes(BLOCK * 10)).unwrap());
    let places: Vec<_> = base.places(BLOCK + 100..BLOCK * 4 + 1).collect();
    let place = |offset, data_offset, bytes| Place {
        offset,
        data_offset,
        bytes,
    };
    assert_eq!(
        places,
        [
            place(BLOCK + 100, BLOCK * 7 + 100, BLOCK * 2 - 100),
            place(BLOCK * 4, BLOCK * 3, 1)
        ]
    );
    let changed = [BLOCK * 2..BLOCK * 3, BLOCK * 9..BLOCK * 10];
    assert_eq!(child.changed(&base), changed);
    assert_eq!(base.changed(&child), changed);
    assert_eq!(base.changed(&base), []);
    assert_eq!(base.next_data(0).unwrap(), Some(BLOCK));
    assert_eq!(base.next_data(BLOCK + 7).unwrap(), Some(BLOCK + 7));
    assert_eq!(base.next_data(BLOCK * 5).unwrap(), None);
    assert_eq!(base.next_data(u64::MAX).unwrap(), None);
    // Blocks mapped after the end that Docker states do not belong to the device.
    let short = pool.device(id(2), Bytes(BLOCK * 2 + 10)).unwrap();
    let end = short.places(0..BLOCK * 2 + 10).last().unwrap();
    assert_eq!(end, place(BLOCK * 2, BLOCK * 5, 10));
    assert!(pool.device(id(3), Bytes(BLOCK)).is_none());
}

#[test]
fn damaged_metadata_is_told_with_its_file_and_block() {
    let home = home(&sample(Sectors(128)));
    let [_, metadata] = loop_files(home.path());
    let file = File::options().write(true).open(&metadata).unwrap();
    file.write_all_at(b"x", 4096 + 100).unwrap();
    let error = open(&home).unwrap_err();
    assert!(
        error.to_string().ends_with("devicemapper/metadata"),
        "{error}"
    );
    let source = std::error::Error::source(&error).unwrap().to_string();
    assert!(
        source.starts_with("metadata block 1 (b-tree node): checksum"),
        "{source}"
    );
}

#[test]
fn times_that_would_corrupt_a_device_are_a_fault_of_a_pool_that_reads_well() {
    let right = sample(Sectors(128));
    let home = home(&right);
    let mut wrong = right;
    wrong.devices[0].snapshotted_time = 0;
    assert!(wrong.validate().is_err());
    let [_, metadata] = loop_files(home.path());
    let mut bytes = fs::read(&metadata).unwrap();
    let details = u64::from_le_bytes(bytes[328..336].try_into().unwrap());
    let at = usize::try_from(details).unwrap() * 4096;
    let node = &mut bytes[at..at + 4096];
    node[32 + 8 * 126 + 20] = 0;
    let salt = 121_107; // of b-tree nodes
    let sum = !crc32c::crc32c(&node[4..]) ^ salt;
    node[..4].copy_from_slice(&sum.to_le_bytes());
    fs::write(&metadata, bytes).unwrap();
    let pool = open(&home).unwrap();
    let fault = pool.fault().unwrap().to_string();
    assert!(fault.contains("would be written in place"), "{fault}");
}

#[test]
fn data_that_ends_early_and_links_are_refused() {
    let home = home(&sample(Sectors(128)));
    let [data, metadata] = loop_files(home.path());
    let file = File::options().write(true).open(&data).unwrap();
    file.set_len(65536 * 10 - 1).unwrap();
    let error = open(&home).unwrap_err().to_string();
    let words = "data: has 655359 bytes, but the pool's metadata says 655360";
    assert!(error.ends_with(words), "{error}");
    let moved = home.path().join("elsewhere");
    fs::rename(&metadata, &moved).unwrap();
    std::os::unix::fs::symlink(&moved, &metadata).unwrap();
    assert!(matches!(open(&home), Err(Error::Link { .. })));
    fs::remove_file(&metadata).unwrap();
    assert!(matches!(
        open(&home),
        Err(Error::Io(PathError { op: "open", .. }))
    ));
}
