//! File systems to read: made by `mkfs.ext4`, filled by the kernel.

#![allow(clippy::unwrap_used)] // a test reports by panicking

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{FileExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::fcntl::{FallocateFlags, fallocate};
use nix::sys::stat::{Mode, SFlag, makedev, mknod};
use tempfile::TempDir;

/// A file with a file system in it.
pub(crate) struct Made {
    folder: TempDir,
}

impl Made {
    /// What `mkfs.ext4` makes of so many MiB with these options.
    pub(crate) fn new(mib: u64, options: &[&str]) -> Self {
        let made = Self {
            folder: TempDir::new().unwrap(),
        };
        let file = File::create(made.path()).unwrap();
        file.set_len(mib << 20).unwrap();
        let mut command = Command::new("mkfs.ext4");
        command.args(["-q", "-F"]).args(options).arg(made.path());
        run(&mut command);
        made
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.folder.path().join("image")
    }

    /// Runs something in the mounted file system.
    pub(crate) fn mounted<T>(&self, options: &str, work: impl FnOnce(&Path) -> T) -> T {
        let point = self.folder.path().join("mounted");
        fs::create_dir_all(&point).unwrap();
        let mut command = Command::new("mount");
        command.args(["-t", "ext4", "-o", &format!("loop,{options}")]);
        run(command.arg(self.path()).arg(&point));
        let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| work(&point)));
        // A mount namespace that another test made meanwhile may keep the file system alive, so that unmounting writes
        // nothing yet.
        run_once_free(Command::new("mount").args(["-o", "remount,ro"]).arg(&point));
        run_once_free(Command::new("umount").arg(&point));
        done.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}

/// Runs a command that fails as long as a file of a file system is open: a program that another test starts has our open
/// files until it runs.
fn run_once_free(command: &mut Command) {
    for _ in 0..600 {
        if command.output().is_ok_and(|output| output.status.success()) {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    run(command);
}

pub(crate) fn run(command: &mut Command) -> String {
    let output = command
        .output()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{command:?}: {text}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Fills a mounted file system with something of every kind.
pub(crate) fn fill(root: &Path) {
    let tree = root.join("tree");
    fs::create_dir(&tree).unwrap();
    plain_files(&tree);
    special_files(&tree);
    attributes(&tree);
    large_directory(&tree.join("large"), 700);
    // So that there are freed inodes and blocks, and leaves that are not full.
    for nth in (0..700).step_by(3) {
        fs::remove_file(tree.join("large").join(long_name(nth))).unwrap();
    }
}

fn long_name(nth: u32) -> String {
    format!("a name that is long enough to need an index of its directory {nth:060}")
}

fn large_directory(path: &Path, names: u32) {
    fs::create_dir(path).unwrap();
    for nth in 0..names {
        File::create(path.join(long_name(nth))).unwrap();
    }
}

fn plain_files(tree: &Path) {
    for nth in 0..40_u32 {
        let folder = tree.join(format!("folder {}", nth % 7));
        fs::create_dir_all(&folder).unwrap();
        let bytes: Vec<u8> = (0..nth * 777)
            .map(|at| (at * nth).to_le_bytes()[1])
            .collect();
        let path = folder.join(format!("file {nth}"));
        fs::write(&path, bytes).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o4755 >> (nth % 5))).unwrap();
        chown(&path, Some(nth * 10_000), Some(nth + 3)).unwrap();
    }
    for nth in 0..3 {
        fs::hard_link(
            tree.join("folder 1/file 8"),
            tree.join(format!("link {nth}")),
        )
        .unwrap();
    }
    let sparse = File::create(tree.join("sparse")).unwrap();
    for nth in 0..900_u64 {
        sparse.write_all_at(&[7; 100], nth * 20_000).unwrap();
    }
    sparse.set_len(1 << 33).unwrap();
    let mapped = OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(tree.join("reserved"))
        .unwrap();
    // Old block maps know no unwritten blocks.
    let _ = fallocate(&mapped, FallocateFlags::empty(), 0, 1 << 20);
    mapped.write_all_at(b"in the middle", 500_000).unwrap();
}

fn special_files(tree: &Path) {
    for length in [1, 59, 60, 61, 900] {
        symlink("t".repeat(length), tree.join(format!("symlink {length}"))).unwrap();
    }
    let mode = Mode::from_bits_truncate(0o640);
    for (name, kind, device) in [
        ("char", SFlag::S_IFCHR, makedev(5, 1)),
        ("block", SFlag::S_IFBLK, makedev(259, 70_000)),
        ("fifo", SFlag::S_IFIFO, 0),
        ("socket", SFlag::S_IFSOCK, 0),
    ] {
        mknod(&tree.join(name), kind, mode, device).unwrap();
    }
}

fn attributes(tree: &Path) {
    let acl = |entries: &[(u16, u16, u32)]| {
        let mut bytes = 2_u32.to_le_bytes().to_vec();
        for (tag, permissions, id) in entries {
            bytes.extend(tag.to_le_bytes());
            bytes.extend(permissions.to_le_bytes());
            bytes.extend(id.to_le_bytes());
        }
        bytes
    };
    let none = u32::MAX;
    let list = acl(&[
        (1, 7, none),
        (2, 5, 1000),
        (4, 5, none),
        (8, 4, 70_000),
        (16, 7, none),
        (32, 0, none),
    ]);
    for nth in 0..12 {
        let path = tree.join(format!("attributes {nth}"));
        fs::write(&path, b"x").unwrap();
        xattr::set(&path, "user.small", b"value").unwrap();
        if nth % 2 == 0 {
            // The same for all of them, so that they share a block.
            xattr::set(&path, "user.large", &[b'v'; 700]).unwrap();
            xattr::set(&path, "security.capability", &[2; 20]).ok();
        }
        if nth % 3 == 0 {
            xattr::set(&path, "trusted.empty", b"").unwrap();
            xattr::set(&path, "system.posix_acl_access", &list).unwrap();
        }
    }
    let folder = tree.join("folder 2");
    xattr::set(&folder, "system.posix_acl_default", &list).unwrap();
    fs::write(folder.join("inherits"), b"").unwrap();
}
