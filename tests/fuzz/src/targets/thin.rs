//! A thin pool's metadata.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::LazyLock;

use aufs2dm::thin::{
    Device, Mapping, Pool, ReadBlocks, ThinId, begins_a_pool, devices_made, examine, read,
    transaction_id,
};
use aufs2dm::units::{DataBlocks, MetaBlocks, Sectors};

use super::changes;
use super::sparse::Sparse;

const BLOCK: usize = 4096;

/// What the checksum of each kind of block is xored with: superblock, node, bitmap, index. Source: linux v6.6, the `*_CSUM_XOR`
/// constants in `drivers/md/dm-thin-metadata.c` and `drivers/md/persistent-data`.
const SALTS: [u32; 4] = [160_774, 121_107, 240_779, 160_478];

/// Good metadata, and the kind of each of its blocks.
struct Base {
    device: Sparse,
    salts: BTreeMap<u64, u32>,
}

/// Trees of one level; trees of two, some of whose nodes are shared; no device at all.
static BASES: LazyLock<[Base; 3]> = LazyLock::new(|| {
    [
        Base::of(&pool(&[(None, 0..3), (Some(0), 1..2), (Some(1), 7..9)])),
        Base::of(&pool(&[
            (None, 0..600),
            (Some(0), 300..301),
            (Some(0), 599..700),
            (None, 0..0),
        ])),
        Base::of(&pool(&[])),
    ]
});

/// A pool of layers: each has a parent, and thin blocks that it writes.
fn pool(layers: &[(Option<usize>, std::ops::Range<u64>)]) -> Pool {
    let mut devices: Vec<Device> = Vec::new();
    let (mut time, mut next) = (0, 0);
    for (number, (parent, written)) in (1..).zip(layers) {
        let mut mapping = Mapping::new();
        if let Some(parent) = *parent {
            time += 1;
            devices[parent].snapshotted_time = time;
            mapping = devices[parent].mapping.clone();
        }
        let written: Vec<_> = written.clone().zip(next..).collect();
        next += written.len() as u64;
        devices.push(Device {
            id: ThinId::new(number).expect("a small number"),
            mapping: mapping.with(&written, time),
            transaction_id: number.into(),
            creation_time: time,
            snapshotted_time: time,
        });
    }
    Pool {
        data_block_size: Sectors(128),
        nr_data_blocks: DataBlocks(next + 100),
        nr_metadata_blocks: MetaBlocks(256),
        transaction_id: layers.len() as u64,
        time,
        devices,
    }
}

/// The pool's metadata, if it fits.
fn written(pool: &Pool) -> Option<Sparse> {
    let mut device = Sparse::new(BLOCK, pool.nr_metadata_blocks.bytes().0);
    let mut sink = |first: u64, bytes: &[u8]| {
        device.write(first * BLOCK as u64, bytes);
        Ok(())
    };
    let superblock = pool.encode(&mut sink).ok()?;
    device.write(0, &superblock);
    Some(device)
}

fn checksum(block: &[u8], salt: u32) -> [u8; 4] {
    (!crc32c::crc32c(&block[4..]) ^ salt).to_le_bytes()
}

impl Base {
    fn of(pool: &Pool) -> Self {
        let device = written(pool).expect("a small pool fits");
        let salt = |number: &u64| {
            let block = device.get(*number)?;
            let fits = |salt: &u32| checksum(block, *salt) == block[..4];
            Some((*number, SALTS.into_iter().find(fits)?))
        };
        let salts = device.numbers().iter().filter_map(salt).collect();
        Self { device, salts }
    }
}

/// Levels that a tree may have.
const DEEPEST: u64 = 12;

/// Counts how often each block is read.
struct Counting<'a> {
    device: &'a Sparse,
    reads: Cell<u64>,
    blocks: RefCell<BTreeSet<u64>>,
}

impl ReadBlocks for Counting<'_> {
    fn read_block(&self, nr: u64, block: &mut [u8; BLOCK]) -> io::Result<()> {
        self.reads.set(self.reads.get() + 1);
        self.blocks.borrow_mut().insert(nr);
        let offset = nr.checked_mul(BLOCK as u64);
        self.device
            .read(block, offset.ok_or(io::ErrorKind::UnexpectedEof)?)
    }
}

impl<'a> Counting<'a> {
    fn new(device: &'a Sparse) -> Self {
        Self {
            device,
            reads: Cell::new(0),
            blocks: RefCell::default(),
        }
    }

    /// Every block is read once, but for those of a tree that leads into itself: it is followed as deep as a tree may be.
    fn check(&self) {
        let (reads, blocks) = (self.reads.get(), self.blocks.borrow().len() as u64);
        assert!(
            reads <= blocks + DEEPEST,
            "{reads} reads of {blocks} blocks"
        );
    }
}

/// Metadata is read or refused with no more work than it has blocks. What is read without a remark and keeps the rules can be
/// written again, and then reads as the same pool.
///
/// The first byte chooses the metadata that is changed; with its highest bit, checksums stay as they were.
pub(super) fn thin(input: &[u8]) {
    let Some((&choice, input)) = input.split_first() else {
        return;
    };
    let base = &BASES[usize::from(choice & 0x7f) % BASES.len()];
    let mut device = base.device.clone();
    let changed = changes::apply(input, &mut device);
    if choice & 0x80 == 0 {
        for number in changed {
            seal(&mut device, base, number);
        }
    }
    let source = Counting::new(&device);
    let all = examine(&source);
    source.check();
    let source = Counting::new(&device);
    let _ = (transaction_id(&source), devices_made(&source));
    let mut first = [0; BLOCK];
    if source.read_block(0, &mut first).is_ok() {
        begins_a_pool(&first);
    }
    match all {
        Err(error) => assert!(!error.to_string().is_empty()),
        Ok(reading) => {
            let is_good = reading.remarks.is_empty();
            assert_eq!(read(&Counting::new(&device)).is_ok(), is_good);
            if is_good {
                round_trip(&reading.pool);
            }
        }
    }
}

/// Makes a block's checksum good, and its number. A copy of another block is of that block's kind.
fn seal(device: &mut Sparse, base: &Base, number: u64) {
    let Some(block) = device.get_mut(number) else {
        return;
    };
    let mut from = [0; 8];
    from.copy_from_slice(&block[8..16]);
    let from = u64::from_le_bytes(from);
    let salt = base.salts.get(&from).or_else(|| base.salts.get(&number));
    block[8..16].copy_from_slice(&number.to_le_bytes());
    let sum = checksum(block, salt.copied().unwrap_or(SALTS[1]));
    block[..4].copy_from_slice(&sum);
}

fn round_trip(pool: &Pool) {
    let fits = pool.nr_metadata_blocks <= MetaBlocks(4096);
    if !fits || pool.validate().is_err() {
        return;
    }
    if let Some(device) = written(pool) {
        let again = read(&Counting::new(&device)).expect("what was written is read");
        assert_eq!(again, *pool);
    }
}
