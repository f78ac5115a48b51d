//! Pools written by the direct engine, judged by others: `thin_check`, `thin_dump`, e2fsck, and the kernel's ext4, which
//! shows each device through a flat file put together by what `thin_dump` printed. No reader of the crate is involved.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::num::NonZeroUsize;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use aufs2dm::aufs::read_branch;
use aufs2dm::docker::CacheId;
use aufs2dm::engine;
use aufs2dm::engine::Checkpoints;
use aufs2dm::engine::direct::{self, Target};
use aufs2dm::plan::{self, Layout, PlannedDevice};
use aufs2dm::progress::{Cancel, Phase, Progress};
use aufs2dm::source::Layer;
use aufs2dm::thin::Pool;
use aufs2dm::tree::Timestamp;
use aufs2dm::units::Bytes;
use tempfile::TempDir;
use uuid::Uuid;

use crate::support::compare::assert_same;
use crate::support::merge::reference_merge;
use crate::support::walk::walk;

const BLOCK: usize = 64 * 1024;

/// Reports to nobody.
pub(crate) struct Quiet;

impl Progress for Quiet {
    fn start(&self, _: Phase, _: u64) {}
    fn inc(&self, _: u64) {}
    fn finish(&self) {}
}

/// A layer on disk: its name, the name of the one below, its branch.
pub(crate) type Source = (String, Option<String>, PathBuf);

/// Branches that lie one upon the other, the bottom one first.
pub(crate) fn chain(branches: &[PathBuf]) -> Vec<Source> {
    let name = |at: usize| format!("layer{at:05}");
    (0..branches.len())
        .map(|at| (name(at), at.checked_sub(1).map(name), branches[at].clone()))
        .collect()
}

/// What the tests choose unless they say otherwise: small file systems.
pub(crate) fn options() -> plan::Options {
    plan::Options {
        choices: plan::Choices {
            base_size: Some(Bytes::mib(512)),
            ..plan::Choices::default()
        },
        transaction_before: 0,
        uuid: Uuid::from_bytes(*b"\x7f0123456789abcde"),
        hash_seed: [0x1234_5678, 0x9abc_def0, 0xdead_beef, 0x0bad_cafe],
        created: Timestamp::new(1_700_000_000, 123_456_789),
    }
}

/// Reads the branches and plans the pool.
pub(crate) fn lay_out(layers: &[Source], options: &plan::Options) -> Result<Layout, plan::Error> {
    let id = |name: &str| CacheId::parse(name.as_bytes()).unwrap();
    let layers = layers.iter().map(|(name, parent, branch)| Layer {
        id: id(name),
        parent: parent.as_deref().map(id),
        branch: branch.clone(),
        tree: read_branch(branch, None).unwrap().tree,
    });
    plan::lay_out(layers.collect(), options)
}

/// How the engine is run.
pub(crate) fn with_jobs(jobs: usize) -> engine::Options<'static> {
    engine::Options {
        jobs: NonZeroUsize::new(jobs).unwrap(),
        cancel: Cancel::default(),
        checkpoints: Checkpoints::none(),
        checksums: false,
    }
}

/// Where a pool's files go in a directory.
pub(crate) fn target(dir: &Path) -> Target {
    Target {
        data: dir.join("data"),
        metadata: dir.join("metadata"),
    }
}

/// A written pool.
pub(crate) struct PoolFiles<'a> {
    pub(crate) target: Target,
    pub(crate) base_size: Bytes,
    pub(crate) pool: &'a Pool,
}

impl<'a> PoolFiles<'a> {
    /// Writes the plan's pool into `dir`.
    pub(crate) fn write(layout: &'a Layout, dir: &Path) -> Self {
        let target = target(dir);
        direct::write(layout, &target, &with_jobs(4), &Quiet).unwrap();
        Self {
            target,
            base_size: layout.plan.base_size,
            pool: &layout.pool,
        }
    }

    /// What `thin_dump` prints, by device. Fails unless `thin_check` is content and the dump equals the plan.
    pub(crate) fn dump(&self) -> BTreeMap<u32, Dumped> {
        let metadata = &self.target.metadata;
        succeed(Command::new("thin_check").arg(metadata));
        let text = succeed(Command::new("thin_dump").arg(metadata)).stdout;
        let dumped = parse(std::str::from_utf8(&text).unwrap());
        let planned = self.pool.devices.iter().map(|device| {
            let mapped = device
                .mapping
                .iter()
                .map(|(thin, to)| (thin, (to.data_block, to.time.into())));
            let times = (
                device.transaction_id,
                device.creation_time.into(),
                device.snapshotted_time.into(),
            );
            (device.id.value(), (times, mapped.collect()))
        });
        assert!(dumped == planned.collect(), "thin_dump equals the plan");
        dumped
    }

    /// Puts a device's file system together.
    pub(crate) fn flat(&self, dumped: &Dumped) -> Flat {
        let folder = in_memory();
        let path = folder.path().join("image");
        let image = File::create(&path).unwrap();
        image.set_len(self.base_size.0).unwrap();
        let data = File::open(&self.target.data).unwrap();
        let mut bytes = vec![0; BLOCK];
        for (&thin, &(block, _)) in &dumped.1 {
            data.read_exact_at(&mut bytes, block * BLOCK as u64)
                .unwrap();
            if bytes.iter().any(|&byte| byte != 0) {
                image.write_all_at(&bytes, thin * BLOCK as u64).unwrap();
            }
        }
        Flat { folder }
    }

    /// Fails unless the pool is as planned, and every layer's file system is clean and shows the merge of its branches.
    pub(crate) fn judge(&self, layers: &[Source], layout: &Layout) {
        self.judge_devices(layers, &layout.plan.devices);
    }

    /// The same, but looks into some of the devices only.
    pub(crate) fn judge_devices<'d>(
        &self,
        layers: &[Source],
        devices: impl IntoIterator<Item = &'d PlannedDevice>,
    ) {
        let dumps = self.dump();
        for device in devices {
            let flat = self.flat(&dumps[&device.thin_id.value()]);
            flat.check();
            if let Some(layer) = &device.layer {
                let branches = branches_of(layers, layer.id.as_str());
                let mounted = flat.mount("ro,noload");
                let found = walk(&mounted.rootfs());
                assert_same(layer.id.as_str(), &reference_merge(&branches), &found);
            }
        }
    }
}

/// Plans and writes the layers, and judges all of them.
pub(crate) fn judge(layers: &[Source], options: &plan::Options) -> Layout {
    let dir = in_memory();
    let layout = lay_out(layers, options).unwrap();
    PoolFiles::write(&layout, dir.path()).judge(layers, &layout);
    layout
}

/// The branches that a layer consists of, the bottom one first.
pub(crate) fn branches_of(layers: &[Source], top: &str) -> Vec<PathBuf> {
    let by_name: BTreeMap<_, _> = layers
        .iter()
        .map(|(name, parent, branch)| (name.as_str(), (parent.as_deref(), branch)))
        .collect();
    let (mut branches, mut at) = (Vec::new(), Some(top));
    while let Some(name) = at {
        let (parent, branch) = by_name[name];
        branches.push(branch.clone());
        at = parent;
    }
    branches.reverse();
    branches
}

/// A device as dumped: transaction, times of creation and snapshot, and data block and time by thin block.
pub(crate) type Dumped = ((u64, u64, u64), BTreeMap<u64, (u64, u64)>);

fn parse(text: &str) -> BTreeMap<u32, Dumped> {
    let mut devices: BTreeMap<u32, Dumped> = BTreeMap::new();
    let mut current = 0;
    for line in text.lines().map(str::trim) {
        let number = |name| attribute(line, name);
        if line.starts_with("<device ") {
            current = u32::try_from(number("dev_id")).unwrap();
            let times = (
                number("transaction"),
                number("creation_time"),
                number("snap_time"),
            );
            devices.insert(current, (times, BTreeMap::new()));
        } else if line.starts_with("<single_mapping ") {
            let to = (number("data_block"), number("time"));
            let mappings = &mut devices.get_mut(&current).unwrap().1;
            mappings.insert(number("origin_block"), to);
        } else if line.starts_with("<range_mapping ") {
            let mappings = &mut devices.get_mut(&current).unwrap().1;
            for at in 0..number("length") {
                let to = (number("data_begin") + at, number("time"));
                mappings.insert(number("origin_begin") + at, to);
            }
        }
    }
    devices
}

fn attribute(line: &str, name: &str) -> u64 {
    let (_, rest) = line.split_once(&format!(" {name}=\"")).unwrap();
    rest.split_once('"').unwrap().0.parse().unwrap()
}

/// A directory that is quick to fill and gone soon, on a disk only where there is no other.
pub(crate) fn in_memory() -> TempDir {
    TempDir::new_in("/dev/shm")
        .or_else(|_| TempDir::new())
        .unwrap()
}

/// A file system in a file of its own.
pub(crate) struct Flat {
    folder: TempDir,
}

impl Flat {
    pub(crate) fn path(&self) -> PathBuf {
        self.folder.path().join("image")
    }

    /// Fails unless e2fsck has nothing to say.
    pub(crate) fn check(&self) {
        let output = succeed(Command::new("e2fsck").arg("-fn").arg(self.path()));
        let text = String::from_utf8_lossy(&output.stdout);
        // The passes' names and one line of figures; anything more is a complaint.
        let lines = text.lines().filter(|line| !line.starts_with("Pass "));
        assert_eq!(lines.count(), 1, "e2fsck -fn: {text}");
    }

    pub(crate) fn mount(&self, options: &str) -> Mounted {
        Mounted::new(&self.path(), "ext4", options)
    }
}

/// A file system mounted by a loop device.
pub(crate) struct Mounted {
    point: TempDir,
}

impl Mounted {
    pub(crate) fn new(image: &Path, of: &str, options: &str) -> Self {
        let point = TempDir::new().unwrap();
        succeed(
            Command::new("mount")
                .args(["-t", of, "-o"])
                .arg(format!("loop,{options}"))
                .arg(image)
                .arg(point.path()),
        );
        Self { point }
    }

    /// A new file system, mounted.
    pub(crate) fn made(of: &str, size: Bytes, folder: &Path) -> Self {
        let image = folder.join(format!("{of}.image"));
        let file = OpenOptions::new()
            .create_new(true)
            .write(true)
            .open(&image)
            .unwrap();
        file.set_len(size.0).unwrap();
        succeed(Command::new(format!("mkfs.{of}")).arg("-q").arg(&image));
        Self::new(&image, of, "rw")
    }

    pub(crate) fn path(&self) -> &Path {
        self.point.path()
    }

    /// The layer's root.
    pub(crate) fn rootfs(&self) -> PathBuf {
        self.path().join("rootfs")
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        unmount(self.point.path());
    }
}

/// Unmounts what is mounted at `point`.
pub(crate) fn unmount(point: &Path) {
    // A process that another test is about to start has all our open files until it runs its program.
    for _ in 0..100 {
        let umount = Command::new("umount").arg(point).output();
        if umount.is_ok_and(|output| output.status.success()) {
            return;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    assert!(std::thread::panicking(), "umount {}", point.display());
}

/// Runs a tool; that it is missing, or fails, is a failed test.
pub(crate) fn succeed(command: &mut Command) -> Output {
    let output = command
        .output()
        .unwrap_or_else(|error| panic!("{command:?}: {error}: tests/lab/deps.sh installs it"));
    assert!(
        output.status.success(),
        "{command:?}: {}\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    output
}

/// Makes an empty directory in `dir`.
pub(crate) fn subdirectory(dir: &Path, name: &str) -> PathBuf {
    let path = dir.join(name);
    fs::create_dir(&path).unwrap();
    path
}
