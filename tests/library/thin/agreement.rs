//! Damaged metadata: what `thin_check` finds wrong is found here, and what it finds right is not called wrong.
//!
//! Pools of three makers are damaged in each kind of block, hundreds of times, always the same for a seed.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use aufs2dm::thin::{Error, Fault, PoolReading, SpaceMap, examine};

use super::layers::{Layer, Plan};
use super::pools::written;
use super::tools::{dump, restore, thin_check_says};

const BLOCK: usize = 4096;

/// Damages of each pool.
const TIMES: usize = 120;

/// What each kind of block has its checksum xored with.
const SUPERBLOCK: u32 = 160_774;
const NODE: u32 = 121_107;
const BITMAP: u32 = 240_779;
const INDEX: u32 = 160_478;

/// What a block is for.
pub(crate) type Role = &'static str;

/// An image with the role of every block in use.
pub(crate) struct Image {
    /// The blocks up to the last in use.
    bytes: Vec<u8>,
    /// Bytes of the file, which has nothing behind them.
    len: u64,
    pub(crate) roles: BTreeMap<usize, (Role, u32)>,
}

impl Image {
    pub(crate) fn of(bytes: Vec<u8>) -> Self {
        let mut image = Self {
            len: bytes.len() as u64,
            bytes,
            roles: BTreeMap::from([(0, ("superblock", SUPERBLOCK))]),
        };
        for root in image.tree(image.u64(0, 320), ["top level", "top level"]) {
            image.tree(root, ["mapping leaf", "mapping node"]);
        }
        image.tree(image.u64(0, 328), ["details", "details"]);
        let index = image.u64(0, 80);
        for bitmap in image.tree(index, ["data index", "data index"]) {
            image.note(bitmap, "data bitmap", BITMAP);
        }
        image.tree(image.u64(0, 88), ["data counts", "data counts"]);
        let index = image.u64(0, 208);
        image.note(index, "metadata index", INDEX);
        let nr_bitmaps = image.u64(0, 192).div_ceil(16_320);
        for i in 0..nr_bitmaps {
            let bitmap = image.u64(index, 16 + 16 * i);
            image.note(bitmap, "metadata bitmap", BITMAP);
        }
        image.tree(image.u64(0, 216), ["metadata counts", "metadata counts"]);
        let last = image.roles.keys().next_back().unwrap();
        image.bytes.truncate((last + 1) * BLOCK);
        image
    }

    fn u64(&self, block: usize, at: usize) -> usize {
        let at = block * BLOCK + at;
        let bytes = self.bytes[at..at + 8].try_into().unwrap();
        usize::try_from(u64::from_le_bytes(bytes)).unwrap()
    }

    fn note(&mut self, block: usize, role: Role, salt: u32) {
        self.roles.insert(block, (role, salt));
    }

    /// Notes a tree's nodes; returns the first number of each value in its leaves.
    fn tree(&mut self, root: usize, [leaf, internal]: [Role; 2]) -> Vec<usize> {
        let number = |at| self.u64(root, at) & 0xffff_ffff;
        let (nr_entries, max_entries, size) = (number(16), number(20), number(24));
        let is_leaf = number(4) == 2;
        let value = |i| self.u64(root, 32 + 8 * max_entries + size * i);
        let values = if size < 8 { 0 } else { nr_entries };
        let values: Vec<_> = (0..values).map(value).collect();
        self.note(root, if is_leaf { leaf } else { internal }, NODE);
        if is_leaf {
            return values;
        }
        let below = values.into_iter();
        below
            .flat_map(|child| self.tree(child, [leaf, internal]))
            .collect()
    }

    fn block(&self, nr: usize) -> &[u8] {
        &self.bytes[nr * BLOCK..][..BLOCK]
    }

    /// Blocks of a role, or of any.
    fn blocks(&self, role: Option<Role>) -> Vec<usize> {
        let fits = |found: &Role| role.is_none_or(|role| role == *found);
        let roles = self.roles.iter().filter(|(_, (found, _))| fits(found));
        roles.map(|(block, _)| *block).collect()
    }
}

fn seal(block: &mut [u8], salt: u32) {
    let sum = !crc32c::crc32c(&block[4..]) ^ salt;
    block[..4].copy_from_slice(&sum.to_le_bytes());
}

/// Numbers (by the method `SplitMix64`) that look random and are the same for a seed.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, n: usize) -> usize {
        usize::try_from(self.next() % n as u64).unwrap()
    }

    pub(crate) fn of<T: Copy>(&mut self, list: &[T]) -> T {
        list[self.below(list.len())]
    }
}

/// Blocks that are written over an image, where its file ends if that is damaged, and what was done.
struct Damage {
    blocks: Vec<(usize, Vec<u8>)>,
    end: Option<usize>,
    words: String,
}

impl Damage {
    /// Something wrong with one block.
    fn of(image: &Image, victim: usize, random: &mut Random) -> Self {
        let (role, salt) = image.roles[&victim];
        let mut block = image.block(victim).to_vec();
        let mut words = format!("block {victim} ({role}): ");
        let other = random.of(&image.blocks(None));
        match random.below(12) {
            0 => {
                words += "zeros";
                block.fill(0);
            }
            1 => {
                write!(words, "swapped with {other}").unwrap();
                let blocks = vec![(victim, image.block(other).to_vec()), (other, block)];
                return Self {
                    blocks,
                    end: None,
                    words,
                };
            }
            2 => {
                let end = victim * BLOCK + random.below(2) * 512;
                write!(words, "the file ends at {end}").unwrap();
                return Self {
                    blocks: Vec::new(),
                    end: Some(end),
                    words,
                };
            }
            3 => {
                let like = random.of(&image.blocks(Some(role)));
                write!(words, "the content of {like}").unwrap();
                block.copy_from_slice(image.block(like));
                block[8..16].copy_from_slice(&(victim as u64).to_le_bytes());
                seal(&mut block, salt);
            }
            4 => {
                let at = random.below(BLOCK);
                write!(words, "bit flipped in byte {at}").unwrap();
                block[at] ^= 1 << random.below(8);
            }
            _ => Self::change_a_number(&mut block, salt, &mut words, random),
        }
        Self {
            blocks: vec![(victim, block)],
            end: None,
            words,
        }
    }

    /// Someone who knows the checksums writes something: mostly to a field that means something.
    fn change_a_number(block: &mut [u8], salt: u32, words: &mut String, random: &mut Random) {
        let fields: Vec<usize> = (4..BLOCK)
            .step_by(4)
            .filter(|at| block[*at..at + 4] != [0; 4] || *at < 64)
            .collect();
        let at = match random.below(3) {
            0 => 4 + random.below(BLOCK - 8),
            _ => random.of(&fields),
        };
        let before = u32::from_le_bytes(block[at..at + 4].try_into().unwrap());
        let small = u32::try_from(random.below(300)).unwrap();
        let after = match random.below(5) {
            0 => before.wrapping_add(1),
            1 => before.wrapping_sub(1),
            2 => small,
            3 => before ^ 1 << random.below(32),
            _ => u32::try_from(random.next() >> 32).unwrap(),
        };
        write!(words, "{before} at byte {at} becomes {after}").unwrap();
        block[at..at + 4].copy_from_slice(&after.to_le_bytes());
        seal(block, salt);
    }
}

/// Everything that is found here, in words.
fn found(bytes: &Vec<u8>) -> Vec<Error> {
    match examine(bytes) {
        Err(error) => vec![error],
        Ok(PoolReading { remarks, .. }) => remarks.into_first(),
    }
}

/// Blocks that `thin_check` 0.9 does not read: it counts metadata blocks only.
const UNREAD: [Role; 3] = ["data index", "data bitmap", "data counts"];

/// What `thin_check` 0.9 does not look at in a block of this role, though it matters or costs the kernel something.
fn only_we_judge(role: Role, error: &Error) -> bool {
    if UNREAD.contains(&role) {
        return true;
    }
    match error {
        // The kernel refuses such a superblock, or makes the pool read-only.
        Error::Magic { .. }
        | Error::Misplaced { block: 0, .. }
        | Error::NeedsCheck
        | Error::Unsupported(_)
        // A mapping leads elsewhere, and its data block is counted once too often.
        | Error::RefCount {
            map: SpaceMap::Data,
            ..
        }
        // The number that `dmsetup status` tells of a device.
        | Error::MappedBlocks { .. } => true,
        Error::Malformed { fault, .. } => matches!(
            fault,
            // The kernel trusts these when it looks for free blocks.
            Fault::IndexEntry | Fault::NrAllocated(..)
            // No device has such blocks, and no table such sizes.
            | Fault::ThinBlock(_) | Fault::DataBlock(_) | Fault::Field { .. }
            // Bits that no kernel sets, and room that none computes.
            | Fault::NodeFlags(_) | Fault::MaxEntries(_)
        ),
        _ => false,
    }
}

/// A pool under damage: in memory for us, in a file for `thin_check`.
struct Patient<'i> {
    image: &'i Image,
    bytes: Vec<u8>,
    path: PathBuf,
    file: File,
}

impl<'i> Patient<'i> {
    fn new(image: &'i Image, directory: &Path) -> Self {
        let path = directory.join("metadata");
        fs::write(&path, &image.bytes).unwrap();
        let file = File::options().write(true).open(&path).unwrap();
        file.set_len(image.len).unwrap();
        let bytes = image.bytes.clone();
        Self {
            image,
            bytes,
            path,
            file,
        }
    }

    fn put(&mut self, nr: usize, block: &[u8]) {
        self.bytes[nr * BLOCK..][..BLOCK].copy_from_slice(block);
        self.file.write_all_at(block, (nr * BLOCK) as u64).unwrap();
    }

    /// What `thin_check` says of a damage, and what is found here; then it is healed.
    fn ask(&mut self, damage: &Damage) -> (Option<String>, Vec<Error>) {
        for (nr, block) in &damage.blocks {
            self.put(*nr, block);
        }
        let end = damage.end.unwrap_or(self.bytes.len());
        self.bytes.truncate(end);
        let len = damage.end.map_or(self.image.len, |end| end as u64);
        self.file.set_len(len).unwrap();
        let answers = (thin_check_says(&self.path), found(&self.bytes));
        let lost = &self.image.bytes[end..];
        self.bytes.extend_from_slice(lost);
        self.file.write_all_at(lost, end as u64).unwrap();
        self.file.set_len(self.image.len).unwrap();
        for (nr, _) in &damage.blocks {
            self.put(*nr, self.image.block(*nr));
        }
        answers
    }
}

/// Damages a pool many times and asks both.
fn agree(image: &Image, seed: u64) {
    let directory = tempfile::tempdir().unwrap();
    let mut patient = Patient::new(image, directory.path());
    assert!(found(&image.bytes).is_empty(), "{:?}", found(&image.bytes));
    let roles: BTreeSet<Role> = image.roles.values().map(|(role, _)| *role).collect();
    let mut random = Random(seed);
    let mut by_both = BTreeSet::new();
    let mut disagreements = String::new();
    for role in roles.iter().cycle().take(TIMES) {
        let victim = random.of(&image.blocks(Some(role)));
        let damage = Damage::of(image, victim, &mut random);
        match patient.ask(&damage) {
            (Some(_), ours) if !ours.is_empty() => drop(by_both.insert(*role)),
            (None, ours) if ours.iter().all(|error| only_we_judge(role, error)) => {}
            (theirs, ours) => {
                let ours: Vec<_> = ours.iter().map(ToString::to_string).collect();
                let words = &damage.words;
                writeln!(disagreements, "{words}: {theirs:?}, here: {ours:?}").unwrap();
            }
        }
    }
    assert!(disagreements.is_empty(), "{disagreements}");
    let read = roles.into_iter().filter(|role| !UNREAD.contains(role));
    let read: BTreeSet<_> = read.collect();
    assert!(by_both.is_superset(&read), "found by both: {by_both:?}");
}

/// Trees of two levels, devices by the hundred, shared nodes, counts above 2, and one device without mappings.
fn layers() -> Vec<Layer> {
    let mut layers = vec![Layer::new(None, 0..600)];
    layers.extend((0..4).map(|i| Layer::new(Some(0), [0, 300 + i])));
    layers.extend((0..260).map(|i| Layer::new(Some(4 + i), [i as u64])));
    layers.push(Layer::new(None, []));
    layers
}

/// The blocks in use of a metadata file.
fn bytes_of(file: &File) -> Vec<u8> {
    let len = usize::try_from(file.metadata().unwrap().len()).unwrap();
    let mut bytes = vec![0; len];
    file.read_exact_at(&mut bytes, 0).unwrap();
    bytes
}

#[test]
fn a_pool_of_ours() {
    let file = written(&Plan::of(&layers()).pool);
    agree(&Image::of(bytes_of(&file)), 1);
}

#[test]
fn a_pool_of_thin_restore() {
    let file = written(&Plan::of(&layers()[..40]).pool);
    let (restored, _) = restore(&dump(&file));
    agree(&Image::of(bytes_of(&restored)), 2);
}

#[test]
fn a_pool_of_dockers() {
    let directory = tempfile::tempdir().unwrap();
    let member = "docker/devicemapper/devicemapper/metadata";
    let archive = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/small-dm.tar.zst");
    let mut tar = Command::new("tar");
    tar.arg("-xf")
        .arg(archive)
        .arg("-C")
        .arg(directory.path())
        .arg(member);
    assert!(tar.status().unwrap().success());
    let file = File::open(directory.path().join(member)).unwrap();
    agree(&Image::of(bytes_of(&file)), 3);
}
