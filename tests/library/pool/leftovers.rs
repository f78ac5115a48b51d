//! What a killed run left, on whatever kernel the machine has: also one without device-mapper.

use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use aufs2dm::pool::leftovers::{Leftovers, find};
use aufs2dm::sys::loops::Loop;
use sys_mount::{Mount, UnmountFlags, unmount};

/// The mark of no root: there are no devices with it.
const UUID_PREFIX: &str = "AUFS2DM-0:0-1-";

fn found(root: &Path) -> Leftovers {
    find(UUID_PREFIX, root).unwrap()
}

fn pool_files(root: &Path) -> PathBuf {
    let files = root.join(".aufs2dm/devicemapper/devicemapper");
    fs::create_dir_all(&files).unwrap();
    files
}

fn attach(path: &Path) -> Loop {
    let mut options = File::options();
    let file = options
        .read(true)
        .write(true)
        .create_new(true)
        .open(path)
        .unwrap();
    file.set_len(1 << 20).unwrap();
    Loop::attach(&file).unwrap()
}

#[test]
fn nothing_is_left_where_no_run_was() {
    let root = tempfile::tempdir().unwrap();
    let left = found(root.path());
    assert_eq!(left.describe(), [""; 0]);
    left.remove().unwrap();
    assert!(find(UUID_PREFIX, &root.path().join("none")).is_err());
}

#[test]
fn mounts_below_the_staging_directory_are_unmounted() {
    let root = tempfile::tempdir().unwrap();
    let stage = root.path().canonicalize().unwrap().join(".aufs2dm");
    let outer = stage.join("mnt/a \\b\n\u{e9}");
    let other = root.path().join(".aufs2dm.old");
    for point in [&outer, &outer, &outer.join("inner"), &other] {
        fs::create_dir_all(point).unwrap();
        Mount::builder()
            .fstype("tmpfs")
            .mount("tmpfs", point)
            .unwrap();
    }
    let left = found(root.path());
    let shown = format!("mount {}/mnt/a \\x5cb\\x0a\\xc3\\xa9", stage.display());
    assert_eq!(
        left.describe(),
        [format!("{shown}/inner"), shown.clone(), shown]
    );
    left.remove().unwrap();
    assert_eq!(found(root.path()).describe(), [""; 0]);
    assert_eq!(fs::read_dir(&outer).unwrap().count(), 0);
    unmount(&other, UnmountFlags::empty()).expect("it stayed mounted");
}

#[test]
fn a_mount_in_use_stays_and_is_named_with_its_command() {
    let root = tempfile::tempdir().unwrap();
    let point = root
        .path()
        .canonicalize()
        .unwrap()
        .join(".aufs2dm/mnt/it's");
    fs::create_dir_all(&point).unwrap();
    Mount::builder()
        .fstype("tmpfs")
        .mount("tmpfs", &point)
        .unwrap();
    let file = File::create(point.join("open")).unwrap();
    let error = found(root.path()).remove().unwrap_err().to_string();
    assert!(
        error.contains("/.aufs2dm/mnt/it's: Device or resource busy. Next: "),
        "{error}"
    );
    assert!(error.ends_with("/.aufs2dm/mnt/it'\\''s'"), "{error}");
    drop(file);
    found(root.path()).remove().unwrap();
    assert_eq!(found(root.path()).describe(), [""; 0]);
}

#[test]
fn loop_devices_on_files_there_or_deleted_are_detached_and_others_are_not() {
    let root = tempfile::tempdir().unwrap();
    let files = pool_files(root.path());
    let (data, deleted) = (attach(&files.join("data")), attach(&files.join("metadata")));
    fs::remove_file(files.join("metadata")).unwrap();
    let other = attach(&root.path().join("other"));
    let left = found(root.path());
    let mut expected: Vec<_> = [&data, &deleted]
        .iter()
        .map(|it| format!("loop device {}", it.path().display()))
        .collect();
    expected.sort();
    assert_eq!(left.describe(), expected);
    // As when their holder is killed.
    drop((data, deleted));
    left.remove().unwrap();
    assert_eq!(found(root.path()).describe(), [""; 0]);
    let backing = Path::new("/sys/block").join(other.path().file_name().unwrap());
    let backing = fs::read(backing.join("loop/backing_file")).expect("it stayed attached");
    assert!(backing.starts_with(root.path().as_os_str().as_bytes()));
}
