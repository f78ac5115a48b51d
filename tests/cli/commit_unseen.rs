//! What is written after the full verification, behind names, sizes and times of modification, keeps `commit`.

use std::fs::{self, File, FileTimes};
use std::path::{Path, PathBuf};
use std::process::Command;

use super::commit_conditions::Ready;

/// Puts a copy in the place of what is there, with all that a copy can keep.
fn replace_by_copy(path: &Path) {
    let copy = path.with_extension("copy");
    let status = Command::new("cp")
        .args(["-a", "--sparse=always"])
        .args([path, &copy])
        .status();
    assert!(status.unwrap().success());
    let old = path.with_extension("old");
    fs::rename(path, &old).unwrap();
    fs::rename(&copy, path).unwrap();
    if old.is_dir() {
        fs::remove_dir_all(old).unwrap();
    } else {
        fs::remove_file(old).unwrap();
    }
}

/// The one file of that name in a branch of aufs.
fn in_aufs(ready: &Ready, inner: &str) -> PathBuf {
    let branches = fs::read_dir(ready.path("aufs/diff")).unwrap();
    let mut paths = branches.map(|branch| branch.unwrap().path().join(inner));
    paths.find(|path| path.is_file()).unwrap()
}

#[test]
fn a_pool_file_that_a_copy_replaced_must_be_verified_first() {
    for name in ["data", "metadata"] {
        let ready = Ready::new();
        replace_by_copy(&ready.path("devicemapper/devicemapper").join(name));
        ready.refused(1, &["the pool's files", "verify --full"]);
        ready.run("verify", &["--full"]).expect(0, &[]);
        ready.committed(&[]);
    }
}

#[test]
fn a_branch_that_a_copy_replaced_must_be_verified_first() {
    let ready = Ready::new();
    let branch = in_aufs(&ready, "data").parent().unwrap().to_owned();
    replace_by_copy(&branch);
    ready.refused(1, &["replaced by a copy", "verify --full"]);
    ready.run("verify", &["--full"]).expect(0, &[]);
    ready.committed(&[]);
}

#[test]
fn an_xattr_or_bytes_with_their_time_set_back_must_be_verified_first() {
    let writes: [fn(&Path); 2] = [
        |path| xattr::set(path, "user.note", b"new").unwrap(),
        |path| {
            let modified = fs::metadata(path).unwrap().modified().unwrap();
            fs::write(path, [9; 9000]).unwrap();
            let file = File::options().write(true).open(path).unwrap();
            let times = FileTimes::new().set_modified(modified);
            file.set_times(times).unwrap();
        },
    ];
    for write in writes {
        let ready = Ready::new();
        write(&in_aufs(&ready, "data"));
        ready.refused(1, &["the aufs side was written to", "verify --full"]);
        ready.run("verify", &["--full"]).expect(3, &[]);
        ready.refused(1, &[]);
    }
}

#[test]
fn a_read_of_either_side_is_no_write() {
    let ready = Ready::new();
    fs::read(in_aufs(&ready, "data")).unwrap();
    fs::read(ready.path("devicemapper/devicemapper/metadata")).unwrap();
    ready.committed(&[]);
}
