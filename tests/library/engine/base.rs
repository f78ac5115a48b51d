//! The base device's file system: what Docker's options make, judged by the tools of the file systems' authors.

use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use aufs2dm::devicemapper::driver_files::FileSystem;
use aufs2dm::engine::kernel::base::{
    Error, Options, Programs, find_programs, find_programs_in, make,
};
use aufs2dm::progress::Cancel;
use tempfile::TempDir;
use uuid::Uuid;

/// Bytes of the devices: above the least that any `mkfs.xfs` takes.
const SIZE: u64 = 1 << 30;

/// An empty device with a file system on it.
struct Made {
    _dir: TempDir,
    device: PathBuf,
    uuid: Uuid,
}

fn made(kind: FileSystem, options: &Options) -> Made {
    let dir = tempfile::tempdir().unwrap();
    let device = empty(dir.path());
    let uuid = make(&find_programs(kind).unwrap(), &device, options).unwrap();
    Made {
        _dir: dir,
        device,
        uuid,
    }
}

fn empty(dir: &Path) -> PathBuf {
    let device = dir.join("device");
    File::create(&device).unwrap().set_len(SIZE).unwrap();
    device
}

/// What a tool prints that finds nothing wrong.
fn succeed(program: &str, arguments: &[&str], device: &Path) -> String {
    let output = Command::new(program)
        .args(arguments)
        .arg(device)
        .env("LC_ALL", "C")
        .output()
        .unwrap_or_else(|error| panic!("{program}: {error}: install e2fsprogs and xfsprogs"));
    assert!(output.status.success(), "{program}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

fn field(text: &str, name: &str) -> String {
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    line.unwrap_or_else(|| panic!("no {name} in {text}"))
        .trim()
        .to_owned()
}

/// Mounted, it shows nothing but what `mkfs` puts there.
fn assert_fresh_root(device: &Path, kind: &str, names: &[&str]) {
    let point = tempfile::tempdir().unwrap();
    succeed(
        "mount",
        &["-o", "loop,ro", "-t", kind, device.to_str().unwrap()],
        point.path(),
    );
    let meta = fs::metadata(point.path()).unwrap();
    let found: Vec<_> = fs::read_dir(point.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    succeed("umount", &[], point.path());
    assert_eq!((meta.mode(), meta.uid(), meta.gid()), (0o40755, 0, 0));
    assert_eq!(found, names);
}

#[test]
fn ext4_is_made_as_docker_makes_it() {
    let made = made(FileSystem::Ext4, &Options::default());
    succeed("e2fsck", &["-fn"], &made.device);
    assert_eq!(
        succeed("blkid", &["-p", "-s", "UUID", "-o", "value"], &made.device).trim(),
        made.uuid.to_string()
    );
    let text = succeed("dumpe2fs", &[], &made.device);
    assert_eq!(field(&text, "Filesystem UUID:"), made.uuid.to_string());
    assert_eq!(field(&text, "Maximum mount count:"), "-1");
    assert!(field(&text, "Check interval:").starts_with("0 "));
    assert_eq!(field(&text, "Mount count:"), "0");
    assert_eq!(field(&text, "Filesystem state:"), "clean");
    // Inode tables that the kernel would still have to zero lack this mark.
    let groups = text
        .lines()
        .filter(|line| line.contains(": (Blocks "))
        .count();
    let zeroed = text.matches("ITABLE_ZEROED").count();
    assert_eq!((groups, zeroed), (8, 8), "{text}");
    assert_fresh_root(&made.device, "ext4", &["lost+found"]);
}

#[test]
fn ext4_gets_as_many_inodes_as_are_asked_for() {
    let count = |bytes_per_inode| {
        let options = Options {
            bytes_per_inode,
            ..Options::default()
        };
        let text = succeed(
            "dumpe2fs",
            &["-h"],
            &made(FileSystem::Ext4, &options).device,
        );
        field(&text, "Inode count:").parse::<u64>().unwrap()
    };
    assert_eq!(count(None), SIZE / 16384);
    assert_eq!(count(Some(4096)), SIZE / 4096);
}

#[test]
fn xfs_is_made_as_docker_makes_it() {
    let made = made(FileSystem::Xfs, &Options::default());
    succeed("xfs_repair", &["-n"], &made.device);
    assert_eq!(
        succeed("blkid", &["-p", "-s", "UUID", "-o", "value"], &made.device).trim(),
        made.uuid.to_string()
    );
    assert_fresh_root(&made.device, "xfs", &[]);
}

#[test]
fn a_missing_program_is_named_with_its_package() {
    let dir = tempfile::tempdir().unwrap();
    // Neither a directory nor a file that cannot be run is a program.
    fs::create_dir(dir.path().join("mkfs.ext4")).unwrap();
    fs::write(dir.path().join("mkfs.xfs"), "").unwrap();
    for (kind, program, package) in [
        (FileSystem::Ext4, "mkfs.ext4", "e2fsprogs"),
        (FileSystem::Xfs, "mkfs.xfs", "xfsprogs"),
    ] {
        for directories in [vec![], vec![dir.path().to_owned()]] {
            let text = find_programs_in(kind, &directories)
                .unwrap_err()
                .to_string();
            assert!(text.starts_with(&format!("{program}: ")), "{text}");
            assert!(text.ends_with(&format!("install {package}")), "{text}");
        }
    }
    script(dir.path(), "mkfs.xfs", "");
    let found = find_programs_in(FileSystem::Xfs, &["/nonexistent".into(), dir.path().into()]);
    let mkfs = dir.path().join("mkfs.xfs");
    assert_eq!(found.unwrap(), Programs::Xfs { mkfs });
}

/// Programs of our own in the place of the real ones.
fn script(dir: &Path, name: &str, body: &str) {
    let path = dir.join(name);
    fs::write(&path, format!("#!/bin/sh\n{body}\n")).unwrap();
    fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
}

#[test]
fn a_program_that_hangs_is_killed_when_the_run_is_told_to_stop() {
    let dir = tempfile::tempdir().unwrap();
    let pid_file = dir.path().join("pid");
    script(
        dir.path(),
        "mkfs.xfs",
        &format!(
            "trap '' INT TERM HUP; echo $$ > {0}.new; mv {0}.new {0}; exec sleep 1000",
            pid_file.display()
        ),
    );
    let programs = find_programs_in(FileSystem::Xfs, &[dir.path().to_owned()]).unwrap();
    let options = Options::default();
    let cancel: Cancel = options.cancel.clone();
    let begin = Instant::now();
    let result = std::thread::scope(|scope| {
        let run = scope.spawn(|| make(&programs, Path::new("/nonexistent"), &options));
        while !pid_file.exists() && begin.elapsed() < Duration::from_secs(60) {
            std::thread::sleep(Duration::from_millis(10));
        }
        cancel
            .flag()
            .store(true, std::sync::atomic::Ordering::Relaxed);
        run.join().unwrap()
    });
    assert!(matches!(result, Err(Error::Interrupted)), "{result:?}");
    let pid = fs::read_to_string(&pid_file).unwrap();
    assert!(!Path::new("/proc").join(pid.trim()).exists(), "it lives");
    assert!(begin.elapsed() < Duration::from_secs(60));
}

#[test]
fn a_failure_shows_what_the_program_said() {
    let dir = tempfile::tempdir().unwrap();
    let device = dir.path().join("missing");
    let error = make(
        &find_programs(FileSystem::Ext4).unwrap(),
        &device,
        &Options::default(),
    );
    let text = error.unwrap_err().to_string();
    let begin = format!("{}: /", device.display());
    assert!(text.starts_with(&begin), "{text}");
    assert!(text.contains("mkfs.ext4: exit status: 1: "), "{text}");
    assert!(text.contains("does not exist"), "{text}");
}

#[test]
fn an_old_mkfs_is_asked_again_without_the_option_it_does_not_know() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("log");
    let old = format!(
        "echo \"$@\" >> {}; case \"$*\" in *journal*) exit 1;; esac",
        log.display()
    );
    script(dir.path(), "mkfs.ext4", &old);
    script(
        dir.path(),
        "tune2fs",
        &format!("echo tune \"$@\" >> {}", log.display()),
    );
    let programs = find_programs_in(FileSystem::Ext4, &[dir.path().to_owned()]).unwrap();
    let device = empty(dir.path());
    let error = make(&programs, &device, &Options::default()).unwrap_err();
    assert!(
        matches!(error, Error::NoSuperblock { kind: "ext4", .. }),
        "{error}"
    );
    let device = device.display();
    assert_eq!(
        fs::read_to_string(&log).unwrap(),
        format!(
            "-E nodiscard,lazy_itable_init=0,lazy_journal_init=0 {device}\n\
             -E nodiscard,lazy_itable_init=0 {device}\n\
             tune -c -1 -i 0 {device}\n"
        )
    );
}
