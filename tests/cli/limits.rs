//! What neither aufs nor ext4 would take: whiteouts of other types, paths longer than the kernel takes, times, sizes and
//! numbers beyond what an inode holds. One such file costs nobody the host.

use std::fs;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::process::Command;

use nix::dir::Dir;
use nix::fcntl::{AT_FDCWD, OFlag};
use nix::sys::stat::{Mode, UtimensatFlags, mkdirat, utimensat};
use nix::sys::time::TimeSpec;
use tempfile::TempDir;

use super::run::{Ended, Tool, small_root};
use super::support::root::AufsRoot;

/// The root copied to a tmpfs, which holds what ext4 does not.
struct OnTmpfs {
    dir: TempDir,
    of: AufsRoot,
}

impl OnTmpfs {
    fn new(of: AufsRoot) -> Self {
        let dir = TempDir::new_in("/dev/shm").unwrap();
        let mut copy = Command::new("cp");
        copy.arg("-a").arg(of.path()).arg(dir.path());
        assert!(copy.status().unwrap().success());
        Self { dir, of }
    }

    fn path(&self) -> std::path::PathBuf {
        self.dir.path().join("docker")
    }

    fn branch(&self, layer: &str) -> std::path::PathBuf {
        let inner = self.of.branch(layer);
        self.path()
            .join(inner.strip_prefix(self.of.path()).unwrap())
    }
}

/// Converts, verifies everything and removes the aufs side.
#[track_caller]
fn goes_all_the_way(tool: &Tool, root: &Path) -> Ended {
    let run = tool.run("convert", root, &[]);
    run.expect(0, &[]);
    tool.run("verify", root, &["--full"]).expect(0, &[]);
    tool.run("commit", root, &["--yes"]).expect(0, &[]);
    run
}

#[test]
fn a_directory_in_the_place_of_a_whiteout_is_converted_and_named_with_its_image() {
    let root = AufsRoot::new()
        .recorded()
        .layer("base", |l| {
            l.file("usr/share/doc/f", "x").file("etc/a", "base")
        })
        .layer("app", |l| {
            l.file(".wh.usr/share/doc", "kept")
                .file("etc/.wh..wh..opq/b", "kept too")
        })
        .image("lab/app:1", "app");
    let run = goes_all_the_way(&Tool::new(), &root.path());
    let told = "is a directory with the name of a whiteout";
    for path in ["/.wh.usr", "/etc/.wh..wh..opq"] {
        let line = run
            .err
            .lines()
            .find(|line| line.contains(&format!("{path}: {told}")));
        let line = line.unwrap_or_else(|| panic!("{path}: {run:?}"));
        assert!(line.contains("image lab/app:1"), "{line}");
    }
}

#[test]
fn a_whiteout_that_is_a_symbolic_link_is_converted_and_commit_names_it() {
    let root = AufsRoot::new()
        .recorded()
        .layer("base", |l| l.file("a", "x"))
        .layer("app", |l| l.symlink(".wh.a", "elsewhere"))
        .image("lab/app:1", "app");
    let (tool, path) = (Tool::new(), root.path());
    tool.run("convert", &path, &[])
        .expect(0, &["/.wh.a: whiteout is not a regular file", "lab/app:1"]);
    tool.run("verify", &path, &["--full"]).expect(0, &[]);
    tool.run("commit", &path, &["--yes"])
        .expect(1, &["/.wh.a", "--drop-left-out"]);
}

/// Directories of long names, and a file, an xattr and a link at the end of them.
fn deep(branch: &Path) {
    let name = "n".repeat(250);
    let mut at = Dir::open(branch, OFlag::O_DIRECTORY, Mode::empty()).unwrap();
    for _ in 0..20 {
        mkdirat(&at, name.as_str(), Mode::S_IRWXU).unwrap();
        at = Dir::openat(&at, name.as_str(), OFlag::O_DIRECTORY, Mode::empty()).unwrap();
    }
    let inner = |name: &str| format!("/proc/self/fd/{}/{name}", at.as_raw_fd());
    fs::write(inner("file"), [7; 9000]).unwrap();
    xattr::set(inner("file"), "user.deep", b"value").unwrap();
    std::os::unix::fs::symlink("file", inner("link")).unwrap();
}

#[test]
fn a_path_longer_than_the_kernel_takes_is_converted_verified_and_removed() {
    let root = small_root();
    deep(&root.branch("web rw"));
    goes_all_the_way(&Tool::new(), &root.path());
    assert!(!root.path().join("aufs").exists());
}

#[test]
fn a_change_in_a_deep_directory_keeps_commit_from_removing_it() {
    let root = small_root();
    let branch = root.branch("web rw");
    deep(&branch);
    let (tool, path) = (Tool::new(), root.path());
    tool.run("convert", &path, &[]).expect(0, &[]);
    tool.run("verify", &path, &["--full"]).expect(0, &[]);
    let mut at = Dir::open(&branch, OFlag::O_DIRECTORY, Mode::empty()).unwrap();
    for _ in 0..20 {
        let name = "n".repeat(250);
        at = Dir::openat(&at, name.as_str(), OFlag::O_DIRECTORY, Mode::empty()).unwrap();
    }
    fs::write(format!("/proc/self/fd/{}/new", at.as_raw_fd()), "new").unwrap();
    let refused = tool.run("commit", &path, &["--yes"]);
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(path.join("aufs").exists());
}

/// A time of access and one of modification, in seconds since 1970.
fn set_times(path: &Path, (atime, mtime): (i64, i64)) {
    let times = (TimeSpec::new(atime, 5), TimeSpec::new(mtime, 5));
    let flags = UtimensatFlags::NoFollowSymlink;
    utimensat(AT_FDCWD, path, &times.0, &times.1, flags).unwrap();
}

const YEAR_1: i64 = -62_135_596_800;
const YEAR_2500: i64 = 16_725_225_600;

#[test]
fn a_time_that_ext4_does_not_hold_becomes_the_nearest_one_and_is_told_once() {
    let root = OnTmpfs::new(small_root());
    let branch = root.branch("web rw");
    for (name, times) in [
        ("log", (0, YEAR_1)),
        ("late", (0, YEAR_2500)),
        ("read", (YEAR_1, 0)),
    ] {
        fs::write(branch.join(name), name).unwrap();
        set_times(&branch.join(name), times);
    }
    let run = goes_all_the_way(&Tool::new(), &root.path());
    let told: Vec<_> = run
        .err
        .lines()
        .filter(|line| line.contains("a time that ext4 does not hold"))
        .collect();
    assert_eq!(told.len(), 1, "{run:?}");
    assert!(told[0].contains("like 2 other files"), "{told:?}");
    assert!(told[0].contains("container web"), "{told:?}");
}

#[test]
fn all_that_ext4_does_not_hold_is_named_in_one_run_with_its_users_and_a_way_on() {
    let root = OnTmpfs::new(small_root());
    let (app, web) = (root.branch("app"), root.branch("web rw"));
    xattr::set(app.join("app/data"), "trusted.photo", &[b'x'; 15_000]).unwrap();
    for number in 0..65_001 {
        fs::hard_link(web.join("log"), web.join(format!("link{number}"))).unwrap();
    }
    let huge = fs::File::create(web.join("huge")).unwrap();
    huge.set_len(20 << 40).unwrap();
    let tool = Tool::new();
    let run = tool.run("convert", &root.path(), &[]);
    run.expect(
        1,
        &[
            "lab/app:1",
            "container web",
            "/app/data: extended attributes take",
            ": more than 65000 hard links",
            "/huge: file of 21990232555520 bytes",
            "Next: xfs has higher limits there: `aufs2dm convert --fs=xfs",
        ],
    );
    assert!(!root.path().join("devicemapper").exists());
}
