//! Synthetic aufs roots, the same on every machine.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::layerdb;

/// A small generator with a fixed seed: sizes and bytes only need to be varied and repeatable. (The generator is `SplitMix64`.)
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }
}

/// How large files are: cumulative shares in a thousand with the range of sizes, in bytes.
pub(crate) struct FileSizes(Vec<(u64, u64, u64)>);

impl FileSizes {
    /// 55 % up to 4 KiB, 39 % up to 64 KiB, 6 % larger, 30 KB on average: as measured on installed Debian packages.
    pub(crate) fn like_installed_software() -> Self {
        Self(vec![
            (554, 1, 4096),
            (942, 4097, 40_000),
            (998, 65_536, 600_000),
            (1000, 600_000, 6_000_000),
        ])
    }

    fn pick(&self, numbers: &mut Numbers) -> usize {
        let share = numbers.below(1000);
        let (_, low, high) = self
            .0
            .iter()
            .find(|(limit, ..)| share < *limit)
            .expect("the shares end at 1000");
        usize::try_from(low + numbers.below(high - low)).expect("sizes are small")
    }
}

/// A Docker root with aufs layers that no image refers to.
pub(crate) struct AufsRoot {
    path: PathBuf,
}

impl AufsRoot {
    pub(crate) fn at(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
        }
    }

    /// A root on a tmpfs of its own, so that a million files are soon made and sooner gone.
    pub(crate) fn on_tmpfs(path: &Path) -> Self {
        fs::create_dir_all(path).expect("the mount point can be made");
        // One that an earlier run left is taken down first; without one this fails, as it should.
        let _ = Command::new("umount")
            .arg(path)
            .stderr(std::process::Stdio::null())
            .status();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=12g,nr_inodes=3m", "tmpfs"])
            .arg(path)
            .status();
        assert!(
            mounted.expect("mount runs").success(),
            "mounting a tmpfs needs root"
        );
        Self {
            path: path.to_owned(),
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Builds the root unless an earlier run has.
    pub(crate) fn build_once(&self, build: impl FnOnce(&Self)) {
        let ready = self.path.join("aufs/ready");
        if !ready.exists() {
            for name in ["layerdb/sha256", "imagedb/content/sha256"] {
                fs::create_dir_all(self.path.join("image/aufs").join(name))
                    .expect("the root can be made");
            }
            let no_names = br#"{"Repositories":{}}"#;
            fs::write(self.path.join("image/aufs/repositories.json"), no_names)
                .expect("the root can be made");
            for name in ["layers", "diff", "mnt"] {
                fs::create_dir_all(self.path.join("aufs").join(name))
                    .expect("the root can be made");
            }
            build(self);
            File::create(ready).expect("the root can be made");
        }
    }

    /// Takes a conversion back, for the next round.
    pub(crate) fn take_back(&self) {
        let status = crate::tool("rollback", self).stdout(Stdio::null()).status();
        assert!(status.expect("the binary runs").success());
    }

    /// Gives all layers, in the order in which they were made, Docker's record of them, and an image its name.
    pub(crate) fn record(&self) {
        let store = self.path.join("image/aufs");
        let mut ids: Vec<_> = fs::read_dir(self.path.join("aufs/layers"))
            .and_then(Iterator::collect::<Result<Vec<_>, _>>)
            .expect("the tree is at rest")
            .iter()
            .map(|entry| entry.file_name().into_string().expect("the ids are hex"))
            .collect();
        ids.sort();
        let (mut parent, mut diff_ids) = (None, Vec::new());
        for id in ids {
            let branch = self.path.join("aufs/diff").join(&id);
            let (chain, diff_id) = layerdb::record(&store, &branch, &id, parent.as_deref());
            parent = Some(chain);
            diff_ids.push(diff_id);
        }
        layerdb::image(&store, &diff_ids);
    }

    pub(crate) fn chain(&self, layers: usize, files: usize, sizes: &FileSizes) {
        let mut numbers = Numbers(1);
        let mut content = vec![0; 6_000_000];
        fill(&mut numbers, &mut content);
        let mut ancestors = Vec::new();
        for layer in 0..layers {
            let branch = self.layer(layer, &mut ancestors);
            for file in layer * files / layers..(layer + 1) * files / layers {
                let dir = branch.join(format!("usr/d{:03}/s{}", file / 60, file / 10 % 6));
                fs::create_dir_all(&dir).expect("a directory of the tree can be made");
                let size = sizes.pick(&mut numbers);
                fs::write(dir.join(format!("file-{file:06}.so")), &content[..size])
                    .expect("a file of the tree can be made");
            }
        }
    }

    pub(crate) fn one_directory(&self, entries: u32) {
        let branch = self.layer(0, &mut Vec::new());
        for entry in 0..entries {
            File::create(branch.join(format!("entry-{entry:08}")))
                .expect("a file of the tree can be made");
        }
    }

    pub(crate) fn many_small(&self, files: usize) {
        let branch = self.layer(0, &mut Vec::new());
        for file in 0..files {
            let dir = branch.join(format!("d{:04}", file / 100));
            if file % 100 == 0 {
                fs::create_dir(&dir).expect("a directory of the tree can be made");
            }
            fs::write(dir.join(format!("file-{file:07}.txt")), format!("{file}"))
                .expect("a file of the tree can be made");
        }
    }

    /// A new layer on top of the `ancestors` (nearest first), which it joins; gives its branch directory.
    fn layer(&self, number: usize, ancestors: &mut Vec<String>) -> PathBuf {
        let id = format!("{number:064x}");
        let mut lines = ancestors.join("\n");
        if !lines.is_empty() {
            lines.push('\n');
        }
        fs::write(self.path.join("aufs/layers").join(&id), lines).expect("the root can be made");
        let branch = self.path.join("aufs/diff").join(&id);
        fs::create_dir(&branch).expect("the root can be made");
        ancestors.insert(0, id);
        branch
    }

    /// Sum of the files' sizes.
    pub(crate) fn bytes(&self) -> u64 {
        self.files()
            .map(|entry| entry.metadata().expect("the tree is at rest").len())
            .sum()
    }

    /// Reads every file, so that the page cache holds them all.
    pub(crate) fn read_all(&self) {
        let mut buffer = vec![0; 1 << 20];
        for entry in self.files() {
            let mut file = File::open(entry.path()).expect("the tree is at rest");
            while file.read(&mut buffer).expect("the tree can be read") > 0 {}
        }
    }

    fn files(&self) -> impl Iterator<Item = walkdir::DirEntry> {
        let entries = walkdir::WalkDir::new(self.path.join("aufs/diff")).into_iter();
        entries
            .map(|entry| entry.expect("the tree is at rest"))
            .filter(|entry| entry.file_type().is_file())
    }
}

/// Makes a file of that many bytes, in the page cache unless `cold`.
pub(crate) fn make_raw(path: &Path, bytes: u64, cold: bool) {
    if path.metadata().is_ok_and(|meta| meta.len() == bytes) {
        if !cold {
            std::io::copy(
                &mut File::open(path).expect("it was made"),
                &mut std::io::sink(),
            )
            .expect("it can be read");
        }
        return;
    }
    let mut numbers = Numbers(2);
    let mut content = vec![0; 1 << 20];
    fill(&mut numbers, &mut content);
    let mut file = File::create(path).expect("the raw file can be made");
    let mut left = bytes;
    while left > 0 {
        let part = usize::try_from(left.min(1 << 20)).expect("at most a MiB");
        file.write_all(&content[..part])
            .expect("the raw file can be written");
        left -= part as u64;
    }
    file.sync_all().expect("the raw file can be written");
    if cold {
        fs::write("/proc/sys/vm/drop_caches", "3").expect("root may drop the caches");
    }
}

fn fill(numbers: &mut Numbers, bytes: &mut [u8]) {
    for chunk in bytes.chunks_mut(8) {
        chunk.copy_from_slice(&numbers.next().to_le_bytes()[..chunk.len()]);
    }
}
