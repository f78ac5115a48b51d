//! What the kernel put into file systems of `mkfs.ext4`, read back: the kernel's own view of it is the measure.

#![allow(clippy::unwrap_used)] // a test reports by panicking

use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt};
use std::path::Path;

use aufs2dm::ext4::Ino;
use aufs2dm::ext4::read::{Error, Type, View};
use aufs2dm::tree::Timestamp;

use super::images::{Made, fill, run};
use super::views::read_clean;

/// Sizes in MiB and options of file systems that are read.
const KINDS: [(u64, &[&str]); 15] = [
    (600, &[]),
    (64, &["-b", "4096"]),
    (64, &["-b", "1024"]),
    (64, &["-b", "2048", "-I", "128"]),
    (64, &["-b", "4096", "-I", "512"]),
    (300, &["-b", "4096", "-O", "^metadata_csum,uninit_bg"]),
    (300, &["-b", "4096", "-O", "^metadata_csum,^uninit_bg"]),
    (64, &["-b", "4096", "-O", "^64bit"]),
    (
        64,
        &["-b", "4096", "-O", "64bit,metadata_csum_seed,orphan_file"],
    ),
    (64, &["-b", "4096", "-O", "^extent,^64bit"]),
    (64, &["-b", "1024", "-O", "^extent,^64bit,^metadata_csum"]),
    (300, &["-b", "4096", "-O", "^flex_bg"]),
    (300, &["-b", "1024", "-O", "meta_bg,^resize_inode"]),
    (300, &["-b", "4096", "-O", "sparse_super2,^has_journal"]),
    (
        64,
        &[
            "-b",
            "1024",
            "-O",
            "large_dir,^dir_index,^sparse_super,^resize_inode",
        ],
    ),
];

#[test]
fn what_is_read_is_what_the_kernel_shows() {
    for (mib, options) in KINDS {
        let made = Made::new(mib, options);
        made.mounted("rw", fill);
        println!("{options:?}");
        let view = read_clean(&made.path());
        let device = File::open(made.path()).unwrap();
        made.mounted("ro,noload", |root| {
            compare(&view, &device, (root, Ino::ROOT));
        });
    }
}

#[test]
fn other_hashes_are_read() {
    // Whether bytes of names count as signed is for the superblock to say.
    for (hash, flags) in [
        ("tea", "1"),
        ("legacy", "1"),
        ("half_md4", "2"),
        ("tea", "2"),
        ("legacy", "2"),
    ] {
        let made = Made::new(64, &["-b", "1024"]);
        for request in [
            format!("set_super_value def_hash_version {hash}"),
            format!("set_super_value flags {flags}"),
        ] {
            run(std::process::Command::new("debugfs")
                .args(["-w", "-R", &request])
                .arg(made.path()));
        }
        made.mounted("rw", |root| {
            for nth in 0..400 {
                File::create(root.join(format!("ein längerer Name als nötig, ö {nth:040}")))
                    .unwrap();
            }
        });
        let view = read_clean(&made.path());
        assert_eq!(view.names(Ino::ROOT).count(), 401);
    }
}

#[test]
fn features_that_are_not_read_are_named() {
    for (feature, name) in [
        ("inline_data", "inline_data"),
        ("ea_inode", "ea_inode"),
        ("bigalloc", "bigalloc"),
        ("quota", "quota"),
        ("mmp", "mmp"),
        ("encrypt", "encrypt"),
        ("casefold", "casefold"),
        ("verity", "verity"),
        ("project", "project"),
    ] {
        let made = Made::new(64, &["-b", "4096", "-O", feature]);
        let error = View::read(&File::open(made.path()).unwrap()).unwrap_err();
        let Error::Unsupported { names } = &error else {
            panic!("{error}")
        };
        assert!(names.split(' ').any(|found| found == name), "{names}");
    }
}

#[test]
fn an_unclean_file_system_says_so() {
    let made = Made::new(64, &["-b", "4096"]);
    let copy = made.path().with_extension("copy");
    made.mounted("rw", |root| {
        fs::write(root.join("file"), b"written").unwrap();
        nix::unistd::sync();
        fs::copy(made.path(), &copy).unwrap();
    });
    let checked = View::read(&File::open(&copy).unwrap()).unwrap();
    assert!(checked.view.needs_recovery());
    assert!(!read_clean(&made.path()).needs_recovery());
}

fn compare(view: &View, device: &File, (path, ino): (&Path, Ino)) {
    let stat = fs::symlink_metadata(path).unwrap();
    let inode = view.inode(ino).unwrap();
    let meta = inode.meta();
    let name = path.display();
    assert_eq!(stat.ino(), u64::from(ino.0), "{name}");
    let time = |sec, nsec: i64| Timestamp::new(sec, u32::try_from(nsec).unwrap());
    let expected = (
        (stat.mode() & 0o7777, stat.uid(), stat.gid(), stat.nlink()),
        time(stat.atime(), stat.atime_nsec()),
        time(stat.mtime(), stat.mtime_nsec()),
        time(stat.ctime(), stat.ctime_nsec()),
    );
    let found = (
        (
            meta.mode.into(),
            meta.uid,
            meta.gid,
            u64::from(inode.links()),
        ),
        meta.atime,
        meta.mtime,
        meta.ctime,
    );
    assert_eq!(found, expected, "{name}");
    let mut xattrs: Vec<_> = xattr::list(path)
        .unwrap()
        .map(|name| {
            (
                name.as_bytes().to_vec(),
                xattr::get(path, &name).unwrap().unwrap(),
            )
        })
        .collect();
    xattrs.sort_unstable();
    let found = meta
        .xattrs
        .iter()
        .map(|(name, value)| (name.to_vec(), value.to_vec()));
    assert_eq!(found.collect::<Vec<_>>(), xattrs, "{name}");
    match inode.file_type().unwrap() {
        Type::Directory => compare_directory(view, device, (path, ino)),
        Type::Regular => compare_content(view, device, (path, ino)),
        Type::Symlink => {
            let target = fs::read_link(path).unwrap();
            assert_eq!(
                inode.target(),
                Some(target.as_os_str().as_bytes()),
                "{name}"
            );
        }
        Type::CharDevice | Type::BlockDevice => {
            let device = inode.device().unwrap();
            let number = nix::sys::stat::makedev(device.major.into(), device.minor.into());
            assert_eq!(stat.rdev(), number, "{name}");
        }
        Type::Fifo => assert!(stat.file_type().is_fifo()),
        Type::Socket => assert!(stat.file_type().is_socket()),
    }
}

fn compare_directory(view: &View, device: &File, (path, ino): (&Path, Ino)) {
    let mut names: Vec<_> = fs::read_dir(path)
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    names.sort_unstable();
    let found: Vec<_> = view.names(ino).collect();
    assert_eq!(found.len(), names.len(), "{}", path.display());
    for ((name, child), expected) in found.into_iter().zip(names) {
        assert_eq!(name, expected.as_bytes());
        assert_eq!(view.lookup(ino, name), Some(child));
        compare(view, device, (&path.join(expected), child));
    }
}

fn compare_content(view: &View, device: &File, (path, ino): (&Path, Ino)) {
    let file = File::open(path).unwrap();
    let (size, unit) = (
        file.metadata().unwrap().len(),
        u64::from(view.block_bytes()),
    );
    assert_eq!(view.inode(ino).unwrap().size(), size);
    let mut at = 0;
    for run in view.extents(ino) {
        let start = u64::from(run.logical) * unit;
        compare_zeros(&file, at..start.min(size));
        let end = (start + u64::from(run.blocks) * unit).min(size);
        at = end;
        if run.unwritten {
            compare_zeros(&file, start..end);
            continue;
        }
        let length = usize::try_from(end.saturating_sub(start)).unwrap();
        let (mut own, mut theirs) = (vec![0; length], vec![0; length]);
        device.read_exact_at(&mut own, run.physical * unit).unwrap();
        file.read_exact_at(&mut theirs, start).unwrap();
        assert!(own == theirs, "{}: block {}", path.display(), run.logical);
    }
    compare_zeros(&file, at..size);
}

/// Fails unless a file is zero there; of long ranges both ends are looked at.
fn compare_zeros(file: &File, range: std::ops::Range<u64>) {
    let mut bytes = vec![0; 1 << 16];
    for start in [
        range.start,
        range.end.saturating_sub(1 << 16).max(range.start),
    ] {
        let length = usize::try_from((range.end.saturating_sub(start)).min(1 << 16)).unwrap();
        file.read_exact_at(&mut bytes[..length], start).unwrap();
        assert!(bytes[..length].iter().all(|&byte| byte == 0), "{range:?}");
    }
}
