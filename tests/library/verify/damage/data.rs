//! What lies in a pool's data file, and whether damage to it harms anyone.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::Command;

use aufs2dm::content::pool::{Pool, ThinDevice};
use aufs2dm::devicemapper::DeviceFiles;
use aufs2dm::engine::direct::Target as Files;
use aufs2dm::ext4::read::View;
use aufs2dm::pool::Target;
use aufs2dm::thin::ThinId;
use aufs2dm::units::Bytes;

use super::Word;
use super::root::Converted;
use super::wound::{Change, Wound};
use crate::command::{Dumped, PoolFiles};
use crate::ext4::{Structure, places};
use crate::support::compare::compare;
use crate::support::merged::MergedTree;
use crate::support::walk::walk;

/// The base device, among layers' ids.
pub(super) const BASE: &str = "base";

const BLOCK: u64 = 64 << 10;

/// A structure in the data file.
#[derive(Clone, Debug)]
pub(super) struct Spot {
    pub(super) kind: &'static str,
    pub(super) offset: u64,
    pub(super) bytes: u64,
}

/// A pool's data.
pub(super) struct Data {
    /// By kind.
    pub(super) spots: BTreeMap<&'static str, Vec<Spot>>,
    /// The end of the last block in use, in bytes.
    pub(super) end: u64,
    pub(super) len: u64,
    /// The devices that have a block of the data.
    owners: BTreeMap<u64, Vec<String>>,
    pool: Pool,
    numbers: BTreeMap<String, u32>,
    base_size: Bytes,
    dumps: BTreeMap<u32, Dumped>,
    /// What the kernel shows of undamaged devices.
    trees: RefCell<HashMap<String, MergedTree>>,
}

fn name(structure: Structure) -> &'static str {
    match structure {
        Structure::Superblock => "ext4: superblock",
        Structure::Descriptor => "ext4: group descriptor",
        Structure::BlockBitmap => "ext4: block bitmap",
        Structure::InodeBitmap => "ext4: inode bitmap",
        Structure::Inode => "ext4: inode",
        Structure::DirectoryLeaf => "ext4: directory leaf",
        Structure::Index => "ext4: directory index",
        Structure::ExtentNode => "ext4: extent node",
        Structure::XattrBlock => "ext4: attribute block",
        Structure::SymlinkBlock => "ext4: symlink block",
        Structure::Journal => "ext4: journal superblock",
        Structure::Content => "file content",
    }
}

/// Kinds that must be among those found.
const KINDS: [&str; 13] = [
    "ext4: superblock",
    "ext4: group descriptor",
    "ext4: block bitmap",
    "ext4: inode bitmap",
    "ext4: inode",
    "ext4: directory leaf",
    "ext4: directory index",
    "ext4: extent node",
    "ext4: attribute block",
    "ext4: symlink block",
    "ext4: journal superblock",
    "file content",
    "mapped, not in use",
];

impl Data {
    pub(super) fn of(root: &Converted) -> Self {
        let files = DeviceFiles::read(&root.home()).unwrap();
        let pool = Pool::open(&root.home(), &Target::LoopFiles).unwrap();
        let base = files.base.unwrap();
        let mut devices = vec![(BASE.to_owned(), base)];
        devices.extend(
            files
                .layers
                .iter()
                .map(|(id, file)| (id.to_string(), *file)),
        );
        let mut found: BTreeMap<u64, (&'static str, u64)> = BTreeMap::new();
        let mut owners: BTreeMap<u64, Vec<String>> = BTreeMap::new();
        let mut numbers = BTreeMap::new();
        for (label, file) in &devices {
            let id = ThinId::new(file.id().get()).unwrap();
            let device = pool.device(id, file.size()).unwrap();
            numbers.insert(label.clone(), id.value());
            for place in device.places(0..file.size().0) {
                for block in place.data_offset / BLOCK..(place.data_offset + place.bytes) / BLOCK {
                    owners.entry(block).or_default().push(label.clone());
                }
            }
            find(&device, &mut found);
        }
        let end = (owners.keys().next_back().unwrap() + 1) * BLOCK;
        let base_size = base.size();
        let files = PoolFiles {
            target: Files {
                data: root.data(),
                metadata: root.metadata(),
            },
            base_size,
            pool: pool.thin(),
        };
        let dumps = files.dump();
        let data = Self {
            spots: spots(&found, &owners),
            end,
            len: fs::metadata(root.data()).unwrap().len(),
            owners,
            pool,
            numbers,
            base_size,
            dumps,
            trees: RefCell::default(),
        };
        for kind in KINDS {
            assert!(data.spots.contains_key(kind), "{kind}");
        }
        data
    }

    fn owners(&self, spot: &Spot) -> &[String] {
        &self.owners[&(spot.offset / BLOCK)]
    }

    /// Whether a device is named that has these bytes.
    pub(super) fn is_named(&self, spot: &Spot, word: &Word) -> bool {
        let wrong = word.layers();
        let owners: BTreeSet<&String> = self.owners(spot).iter().collect();
        wrong.iter().any(|layer| owners.contains(layer))
    }

    /// What `e2fsck` and the kernel have to say of damage.
    pub(super) fn harm(&self, root: &Converted, spot: &Spot, change: &Change) -> Option<String> {
        let owners = self.owners(spot);
        // The first and the last that have it: whatever lies there, one of the two uses it if any does.
        let mut asked: Vec<&String> = owners
            .iter()
            .take(2)
            .chain(owners.iter().rev().take(2))
            .collect();
        asked.sort_unstable();
        asked.dedup();
        for label in &asked {
            if !self.trees.borrow().contains_key(*label) {
                let tree = self.look(root, label).unwrap();
                self.trees.borrow_mut().insert((*label).clone(), tree);
            }
        }
        let _wound = Wound::inflict(&root.data(), change, self.end);
        asked.into_iter().find_map(|label| {
            let looked = catch_unwind(AssertUnwindSafe(|| self.look(root, label)));
            let tree = match looked {
                Ok(Ok(tree)) => tree,
                Ok(Err(said)) => return Some(format!("{label}: {said}")),
                Err(_) => return Some(format!("{label}: it cannot be mounted or read")),
            };
            let differences = compare(&self.trees.borrow()[label], &tree);
            differences.first().map(|first| format!("{label}: {first}"))
        })
    }

    /// A device's whole tree as the kernel shows it, or what `e2fsck` says.
    fn look(&self, root: &Converted, label: &str) -> Result<MergedTree, String> {
        let files = PoolFiles {
            target: Files {
                data: root.data(),
                metadata: root.metadata(),
            },
            base_size: self.base_size,
            pool: self.pool.thin(),
        };
        let flat = files.flat(&self.dumps[&self.numbers[label]]);
        let output = Command::new("e2fsck")
            .arg("-fn")
            .arg(flat.path())
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        let complaints: Vec<_> = text
            .lines()
            .filter(|line| {
                !line.is_empty() && !line.starts_with("Pass ") && !line.contains(" files (")
            })
            .collect();
        if !output.status.success() || !complaints.is_empty() {
            return Err(format!("e2fsck: {}", complaints.join(" / ")));
        }
        let mounted = flat.mount("ro,noload");
        Ok(walk(mounted.path()))
    }
}

/// Notes a device's structures by their places in the data.
fn find(device: &ThinDevice<'_>, found: &mut BTreeMap<u64, (&'static str, u64)>) {
    let view = View::read(device).unwrap().view;
    for (structure, offset, bytes) in places(device, &view) {
        // What is not mapped is zeros that nobody wrote.
        if let Some(place) = device.places(offset..offset + bytes).next() {
            found.insert(place.data_offset, (name(structure), bytes));
        }
    }
}

/// All spots by kind, with those that no device uses.
fn spots(
    found: &BTreeMap<u64, (&'static str, u64)>,
    owners: &BTreeMap<u64, Vec<String>>,
) -> BTreeMap<&'static str, Vec<Spot>> {
    let mut spots: BTreeMap<&'static str, Vec<Spot>> = BTreeMap::new();
    let mut add = |kind, offset, bytes| {
        let spot = Spot {
            kind,
            offset,
            bytes,
        };
        spots.entry(kind).or_default().push(spot);
    };
    for (&offset, &(kind, bytes)) in found {
        add(kind, offset, bytes);
    }
    for block in owners.keys().flat_map(|block| block * 16..(block + 1) * 16) {
        let offset = block * 4096;
        let within: Vec<_> = found.range(offset..offset + 4096).collect();
        if within.is_empty() {
            add("mapped, not in use", offset, 4096);
        }
        if within.iter().any(|(_, (kind, _))| *kind == "ext4: inode") {
            let slots = (offset..offset + 4096).step_by(256);
            for slot in slots.filter(|slot| !found.contains_key(slot)) {
                add("ext4: free inode", slot, 256);
            }
        }
        for (&offset, &(kind, bytes)) in within {
            if kind == "file content" && bytes < 4096 {
                add("behind a file's end", offset + bytes, 4096 - bytes);
            }
        }
    }
    spots
}
