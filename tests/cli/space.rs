//! Too little space, before and during a run.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::mount::{MsFlags, mount, umount};
use tempfile::TempDir;

use super::forged_journal::{BEGUN, forge};
use super::run::{Ended, Tool, large_root, small_root};
use super::support::trace::{assert_same, contents};
use crate::support::scratch::scratch;

/// A file system of its own with a copy of a root; unmounted when dropped.
pub(crate) struct Disk {
    dir: TempDir,
}

impl Disk {
    pub(crate) fn tmpfs(size: &str, root: &Path) -> Self {
        let dir = scratch();
        let options = format!("size={size}");
        let options = Some(options.as_str());
        mount(
            Some("disk"),
            dir.path(),
            Some("tmpfs"),
            MsFlags::empty(),
            options,
        )
        .unwrap();
        let disk = Self { dir };
        let copied = Command::new("cp")
            .arg("-a")
            .arg(root)
            .arg(disk.root())
            .status();
        assert!(copied.unwrap().success());
        disk
    }

    pub(crate) fn root(&self) -> PathBuf {
        self.dir.path().join("docker")
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        umount(self.dir.path()).unwrap();
    }
}

#[test]
fn too_little_space_is_refused_before_anything_is_written() {
    let (tool, root) = (Tool::new(), large_root());
    let disk = Disk::tmpfs("150m", &root.path());
    let before = contents(&disk.root());
    let ended = tool.run("convert", &disk.root(), &[]);
    ended.expect(1, &["the conversion writes", "is free"]);
    assert!(!ended.err.contains("writing data"), "{}", ended.err);
    assert_same(&before, &contents(&disk.root()));
    tool.run("convert", &disk.root(), &["--dry-run"])
        .expect(1, &["the conversion writes"]);
}

#[test]
fn what_an_earlier_run_left_counts_as_free() {
    let (tool, root) = (Tool::new(), large_root());
    let disk = Disk::tmpfs("224m", &root.path());
    forge(&disk.root(), &[BEGUN]);
    let mut home = disk.root().join(".aufs2dm");
    for part in ["devicemapper", "devicemapper"] {
        home.push(part);
        fs::create_dir(&home).unwrap();
        fs::set_permissions(&home, fs::Permissions::from_mode(0o700)).unwrap();
    }
    let left = home.join("data");
    fs::write(&left, vec![1; 50 << 20]).unwrap();
    fs::set_permissions(&left, fs::Permissions::from_mode(0o600)).unwrap();
    tool.run("convert", &disk.root(), &[])
        .expect(0, &["left behind by an interrupted run"]);
    assert!(!left.exists());
}

#[test]
fn a_disk_that_fills_during_the_run_leaves_the_root_as_it_was() {
    let (tool, root) = (Tool::new(), large_root());
    let disk = Disk::tmpfs("224m", &root.path());
    let before = contents(&disk.root());
    let child = tool.start(&disk.root(), &["--jobs", "1"]);
    super::interrupted::wait_for(&disk.root().join(".aufs2dm/devicemapper/devicemapper/data"));
    // Another process eats what the file system gives.
    let eater = disk.root().parent().unwrap().join("eater");
    let mut file = File::create(&eater).unwrap();
    let block = vec![1; 1 << 16];
    while std::io::Write::write_all(&mut file, &block).is_ok() {}
    let ended = Ended::new(&child.wait_with_output().unwrap());
    drop(file);
    fs::remove_file(&eater).unwrap();
    ended.expect(1, &[".aufs2dm/", "No space left", "hint: free up space"]);
    assert_same(&before, &contents(&disk.root()));
    tool.run("convert", &disk.root(), &[]).expect(0, &[]);
}

#[test]
fn a_root_on_a_read_only_mount_stays_as_it_is() {
    let (tool, root) = (Tool::new(), small_root());
    let disk = Disk::tmpfs("100m", &root.path());
    let none: Option<&str> = None;
    let point = disk.root();
    let bind = |flags| mount(Some(&point), &point, none, flags, none).unwrap();
    bind(MsFlags::MS_BIND);
    bind(MsFlags::MS_REMOUNT | MsFlags::MS_BIND | MsFlags::MS_RDONLY);
    let ended = tool.run("convert", &point, &[]);
    umount(&point).unwrap();
    ended.expect(1, &["ead-only file system"]);
    assert!(!point.join("devicemapper").exists());
}
