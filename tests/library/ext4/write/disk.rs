//! Planned images as real ones: written into a sparse file, checked by e2fsck, mounted by the kernel.

#![allow(clippy::unwrap_used)] // a test reports by panicking

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use aufs2dm::ext4::write::{CLUSTER_BLOCKS, DataRun, Delta, Image};
use aufs2dm::ext4::{Checksums, Params};
use aufs2dm::tree::Timestamp;
use tempfile::TempDir;

const BLOCK: usize = 4096;
const CLUSTER: usize = CLUSTER_BLOCKS as usize * BLOCK;

/// Parameters for an image of this many MiB.
pub(crate) fn params(mib: u32, checksums: Checksums) -> Params {
    Params {
        blocks: mib * 256,
        inodes_per_group: Params::INODES_PER_GROUP,
        uuid: *b"\x7f0123456789abcde",
        hash_seed: [0x1234_5678, 0x9abc_def0, 0xdead_beef, 0x0bad_cafe],
        checksums,
        created: Timestamp::new(1_700_000_000, 123_456_789),
    }
}

/// A file that holds an image.
pub(crate) struct Disk {
    folder: TempDir,
    file: File,
}

impl Disk {
    /// Writes a formatted image.
    pub(crate) fn new((image, delta): &(Image, Delta)) -> Self {
        let folder = TempDir::new().unwrap();
        let file = OpenOptions::new()
            .create_new(true)
            .read(true)
            .write(true)
            .open(folder.path().join("image"))
            .unwrap();
        file.set_len(u64::from(image.params().blocks) * BLOCK as u64)
            .unwrap();
        let disk = Self { folder, file };
        disk.write(image, delta, |_, _| panic!("an empty image has no data"));
        disk
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.folder.path().join("image")
    }

    /// Writes what a child has that its parent has not; `fill` makes the bytes of one block of a run.
    pub(crate) fn write(&self, image: &Image, delta: &Delta, fill: impl Fn(&DataRun, &mut [u8])) {
        let mut bytes = vec![0; CLUSTER];
        assert!(delta.metadata.is_sorted_by(|a, b| a < b));
        for &cluster in &delta.metadata {
            image.encode_cluster(cluster, &mut bytes);
            self.write_cluster(cluster, &bytes);
        }
        assert!(
            delta
                .data
                .is_sorted_by(|a, b| a.physical + a.blocks <= b.physical)
        );
        let mut open: Option<u32> = None;
        for run in &delta.data {
            for at in 0..run.blocks {
                let physical = run.physical + at;
                let cluster = physical / CLUSTER_BLOCKS;
                if open != Some(cluster) {
                    if let Some(open) = open {
                        self.write_cluster(open, &bytes);
                    }
                    assert!(delta.metadata.binary_search(&cluster).is_err());
                    bytes.fill(0);
                    open = Some(cluster);
                }
                let start = (physical % CLUSTER_BLOCKS) as usize * BLOCK;
                let block = DataRun {
                    logical: run.logical + at,
                    physical,
                    blocks: 1,
                    ..*run
                };
                fill(&block, &mut bytes[start..start + BLOCK]);
            }
        }
        if let Some(open) = open {
            self.write_cluster(open, &bytes);
        }
    }

    fn write_cluster(&self, cluster: u32, bytes: &[u8]) {
        let offset = u64::from(cluster) * CLUSTER as u64;
        // The file may end amid its last cluster.
        let left = self.file.metadata().unwrap().len() - offset;
        let length = bytes.len().min(usize::try_from(left).unwrap());
        assert!(bytes[length..].iter().all(|&byte| byte == 0));
        self.file.write_all_at(&bytes[..length], offset).unwrap();
    }

    /// Fails unless e2fsck has nothing to say.
    pub(crate) fn check(&self) {
        self.file.sync_all().unwrap();
        let output = run(Command::new("e2fsck").arg("-fn").arg(self.path()));
        let text = String::from_utf8_lossy(&output.stdout);
        // The passes' names and one line of figures; anything more is a complaint.
        let lines = text
            .lines()
            .filter(|line| !line.starts_with("Pass "))
            .count();
        assert!(
            output.status.success() && lines == 1,
            "e2fsck -fn: {}\n{text}{}",
            output.status,
            String::from_utf8_lossy(&output.stderr)
        );
    }

    /// Mounts the image, read-only without looking at the journal or read-write.
    pub(crate) fn mount(&self, options: &str) -> Mounted {
        let point = TempDir::new().unwrap();
        let output = run(Command::new("mount")
            .args(["-t", "ext4", "-o"])
            .arg(format!("loop,{options}"))
            .arg(self.path())
            .arg(point.path()));
        assert!(
            output.status.success(),
            "mount: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        Mounted { point }
    }

    /// What debugfs answers to a request.
    pub(crate) fn debugfs(&self, request: &str) -> String {
        let output = run(Command::new("debugfs")
            .arg("-R")
            .arg(request)
            .arg(self.path()));
        String::from_utf8(output.stdout).unwrap()
    }
}

fn run(command: &mut Command) -> Output {
    command
        .output()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"))
}

/// A mounted image.
pub(crate) struct Mounted {
    point: TempDir,
}

impl Mounted {
    pub(crate) fn path(&self) -> &Path {
        self.point.path()
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let status = Command::new("umount").arg(self.point.path()).status();
        if !std::thread::panicking() {
            assert!(status.unwrap().success(), "umount");
        }
    }
}
