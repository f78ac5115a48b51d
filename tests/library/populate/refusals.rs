//! What stops the applying of a layer, and what is said then.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};

use aufs2dm::plan::outline_xfs;
use aufs2dm::populate::{self, ApplyOptions, ClampedTime, Error};
use aufs2dm::progress::{Cancel, Phase, Progress};
use aufs2dm::source::SourceError;
use aufs2dm::tree::{Kind, LayerTree, Listing, Meta, Timestamp};
use aufs2dm::units::Bytes;
use tempfile::TempDir;

use super::apply::{apply, file_systems, layer, pool};
use crate::command::{Mounted, Quiet, in_memory, options, subdirectory, succeed, unmount};
use crate::support::layer::Layer;

const MIB: usize = 1 << 20;

fn branch(dir: &Path, make: impl FnOnce(Layer) -> Layer) -> PathBuf {
    make(Layer::new(dir.join("thelayer"))).finish()
}

/// What comes of a change to the branch after it was read.
fn error_after(size: usize, change: impl Fn(&Path)) -> Error {
    let dir = in_memory();
    let branch = branch(dir.path(), |l| l.file("d/file", vec![b'x'; size]));
    let layer = layer(&branch);
    change(&branch.join("d/file"));
    let rootfs = subdirectory(dir.path(), "rootfs");
    apply(&layer, &rootfs, &pool(3)).unwrap_err()
}

#[test]
fn a_file_that_changed_after_the_plan_is_named() {
    for size in [3, MIB, 70 * MIB] {
        let open = |path: &Path| File::options().write(true).open(path).unwrap();
        let written = error_after(size, |path| open(path).write_all_at(b"y", 0).unwrap());
        let shorter = error_after(size, |path| open(path).set_len(2).unwrap());
        let removed = error_after(size, |path| fs::remove_file(path).unwrap());
        let replaced = error_after(size, |path| {
            fs::remove_file(path).unwrap();
            nix::unistd::mkfifo(path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        });
        for (error, expected) in [
            (written, "its modification time"),
            (shorter, "its size"),
            (removed, "its name"),
            (replaced, "its type"),
        ] {
            let Error::Source(SourceError::Changed { layer, path, what }) = &error else {
                panic!("{size}: {error:?}")
            };
            assert_eq!((layer.as_str(), path.as_str()), ("thelayer", "/d/file"));
            assert_eq!(*what, expected, "{size}");
        }
    }
}

#[track_caller]
fn assert_target(error: &Error, expected: (&str, &str), cause: io::ErrorKind) {
    let Error::Target {
        layer,
        path,
        op,
        source,
    } = error
    else {
        panic!("{error:?}")
    };
    assert_eq!(layer.as_str(), "thelayer");
    assert_eq!((path.as_str(), &**op), expected);
    assert_eq!(source.kind(), cause);
}

struct Tmpfs<'a>(&'a Path);

impl<'a> Tmpfs<'a> {
    fn new(point: &'a Path, options: &str) -> Self {
        let mut mount = Command::new("mount");
        mount
            .args(["-t", "tmpfs", "-o", options, "tmpfs"])
            .arg(point);
        succeed(&mut mount);
        Self(point)
    }
}

impl Drop for Tmpfs<'_> {
    fn drop(&mut self) {
        unmount(self.0);
    }
}

#[test]
fn a_target_without_room_is_told_from_a_bad_source() {
    let dir = TempDir::new().unwrap();
    let target = subdirectory(dir.path(), "target");
    for size in [MIB + MIB / 2, 40 * MIB] {
        let branch = branch(dir.path(), |l| l.file("a \u{e9}", vec![1; size]));
        let _mounted = Tmpfs::new(&target, "size=1m");
        let error = apply(&layer(&branch), &target, &pool(3)).unwrap_err();
        assert_target(
            &error,
            ("/a \\xc3\\xa9", "write"),
            io::ErrorKind::StorageFull,
        );
        let text = error.to_string();
        let expected = "layer thelayer: /a \\xc3\\xa9: cannot write in the new file system";
        assert_eq!(text, expected);
        fs::remove_dir_all(&branch).unwrap();
    }
    let branch = branch(dir.path(), |l| l.dir("a/b").dir("a/c"));
    let _mounted = Tmpfs::new(&target, "nr_inodes=3");
    let error = apply(&layer(&branch), &target, &pool(3)).unwrap_err();
    assert_target(&error, ("/a/c", "create"), io::ErrorKind::StorageFull);
}

#[test]
fn what_xfs_cannot_hold_is_named_before_anything_is_written() {
    let dir = TempDir::new().unwrap();
    let long = branch(dir.path(), |l| l.symlink("d/link", "t".repeat(1024)));
    let error = outline_xfs(vec![layer(&long)], &options()).unwrap_err();
    let text = error.to_string();
    let expected =
        "layer thelayer: /d/link: symbolic link target of 1024 bytes: xfs allows at most 1023";
    assert!(text.starts_with(expected), "{text}");
    fs::remove_dir_all(&long).unwrap();
    let held = branch(dir.path(), |l| l.symlink("d/link", "t".repeat(1023)));
    let plan = outline_xfs(vec![layer(&held)], &options()).unwrap();
    assert_eq!(plan.devices.len(), 2);
}

#[test]
fn what_the_file_system_cannot_hold_is_named() {
    let dir = TempDir::new().unwrap();
    let long = branch(dir.path(), |l| l.symlink("link", "t".repeat(1024)));
    let (xfs, _image) = file_systems().pop().unwrap();
    let error = apply(&layer(&long), xfs.path(), &pool(1)).unwrap_err();
    assert_target(&error, ("/link", "create"), io::ErrorKind::InvalidFilename);

    let small = in_memory();
    let disk = made("ext4", &["-b", "1024"], small.path());
    fs::remove_dir_all(&long).unwrap();
    let big = branch(dir.path(), |l| {
        l.file("d/file", "").xattr("d/file", "user.big", &[7; 3000])
    });
    let error = apply(&layer(&big), disk.path(), &pool(1)).unwrap_err();
    let op = "set the extended attribute user.big";
    assert_target(&error, ("/d/file", op), io::ErrorKind::StorageFull);
}

fn made(of: &str, options: &[&str], folder: &Path) -> Mounted {
    let image = folder.join("image");
    File::create(&image)
        .unwrap()
        .set_len(Bytes::mib(400).0)
        .unwrap();
    let mut mkfs = Command::new(format!("mkfs.{of}"));
    succeed(mkfs.arg("-q").args(options).arg(&image));
    Mounted::new(&image, of, "rw")
}

#[test]
fn a_time_that_the_file_system_would_change_is_refused() {
    let after = 1 << 32;
    let cases = [
        (
            "xfs",
            &["-m", "bigtime=0"][..],
            after,
            5,
            (i64::from(i32::MAX), 0),
        ),
        ("ext4", &["-I", "128"], 1000, 7, (1000, 0)),
        ("ext4", &["-I", "128"], after, 0, (i64::from(i32::MAX), 0)),
    ];
    for (of, options, sec, nsec, (kept_sec, kept_nsec)) in cases {
        for path in ["d/file", "d", "link"] {
            let dir = in_memory();
            let branch = branch(dir.path(), |l| {
                let l = l.file("d/file", "x").symlink("link", "t").time("d", 1, 0);
                let l = l.time("d/file", 2, 0).time("link", 3, 0).time("", 4, 0);
                l.time(path, sec, i64::from(nsec))
            });
            let disk = made(of, options, dir.path());
            let error = apply(&layer(&branch), disk.path(), &pool(2)).unwrap_err();
            let Error::Time {
                path: found,
                time,
                kept,
                ..
            } = &error
            else {
                panic!("{of} {path}: {error:?}")
            };
            assert_eq!(*found, format!("/{path}"), "{of}");
            assert_eq!(*time, Timestamp::new(sec, nsec));
            assert_eq!(*kept, ClampedTime::As(Timestamp::new(kept_sec, kept_nsec)));
        }
    }
}

#[test]
fn a_run_that_is_told_to_stop_stops() {
    /// Tells the run to stop after some bytes.
    struct Stop(Cancel, AtomicU64);
    impl Progress for Stop {
        fn start(&self, _: Phase, _: u64) {}
        fn inc(&self, amount: u64) {
            if self.1.fetch_add(amount, Ordering::Relaxed) + amount >= 10 {
                self.0.flag().store(true, Ordering::Relaxed);
            }
        }
        fn finish(&self) {}
    }
    let dir = TempDir::new().unwrap();
    let branch = branch(dir.path(), |mut l| {
        for number in 0..100 {
            l = l.file(format!("file{number}"), "x");
        }
        l
    });
    let cancel = Cancel::default();
    let run = ApplyOptions {
        pool: &pool(1),
        cancel: &cancel,
        progress: &Stop(cancel.clone(), AtomicU64::new(0)),
    };
    let rootfs = subdirectory(dir.path(), "rootfs");
    let error = populate::apply(&layer(&branch), File::open(&rootfs).unwrap(), &run).unwrap_err();
    assert!(matches!(error, Error::Interrupted), "{error:?}");
    assert_eq!(fs::read_dir(&rootfs).unwrap().count(), 10);
}

#[test]
fn the_bytes_that_are_counted_are_those_that_are_announced() {
    struct Count(AtomicU64);
    impl Progress for Count {
        fn start(&self, _: Phase, _: u64) {}
        fn inc(&self, amount: u64) {
            self.0.fetch_add(amount, Ordering::Relaxed);
        }
        fn finish(&self) {}
    }
    let dir = in_memory();
    let branch = branch(dir.path(), |l| {
        l.file("large", vec![1; 80 * MIB])
            .sparse("holes", 9 << 20, &[(1 << 20, b"data")])
            .file("small", "12345")
            .hard_link("small", "again")
    });
    let (layer, count) = (layer(&branch), Count(AtomicU64::new(0)));
    let run = ApplyOptions {
        pool: &pool(3),
        cancel: &Cancel::default(),
        progress: &count,
    };
    let rootfs = subdirectory(dir.path(), "rootfs");
    populate::apply(&layer, File::open(&rootfs).unwrap(), &run).unwrap();
    assert_eq!(count.0.into_inner(), populate::data_bytes(&layer.tree));
}

#[test]
fn a_file_that_cannot_be_synced_is_named() {
    let dir = TempDir::new().unwrap();
    let branch = branch(dir.path(), |l| {
        l.file("a/one", "1")
            .file("a/two", "2")
            .hard_link("a/two", "link")
    });
    let (layer, pool) = (layer(&branch), pool(2));
    let rootfs = subdirectory(dir.path(), "rootfs");
    apply(&layer, &rootfs, &pool).unwrap();
    let run = ApplyOptions {
        pool: &pool,
        cancel: &Cancel::default(),
        progress: &Quiet,
    };
    let sync = || populate::sync_files(&layer, File::open(&rootfs).unwrap(), &run);
    sync().unwrap();
    // Of several names, the one closest to the root is the first.
    fs::remove_file(rootfs.join("link")).unwrap();
    assert_target(
        &sync().unwrap_err(),
        ("/link", "sync"),
        io::ErrorKind::NotFound,
    );
}

#[test]
fn a_directory_with_two_names_is_refused() {
    let dir = TempDir::new().unwrap();
    let mut layer = layer(&branch(dir.path(), |l| l));
    let mut tree = LayerTree::new(Meta::default());
    let twice = tree.add(Meta::default(), Kind::Directory(Box::default()));
    let names = [b"a", b"b"].map(|name| (name.as_slice().into(), twice));
    let listing = Listing {
        entries: names.into(),
        ..Listing::default()
    };
    tree.set_directory(LayerTree::ROOT, listing);
    layer.tree = tree;
    let error = apply(&layer, dir.path(), &pool(1)).unwrap_err();
    assert!(
        matches!(&error, Error::LinkedDirectory { path, .. } if path == "/a"),
        "{error:?}"
    );
}
