//! A source that changes while it is converted: noticed for every kind of entry, before anything is moved.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, lchown, symlink};
use std::path::{Path, PathBuf};

use nix::sys::signal::{Signal, kill};
use nix::sys::stat::{Mode, SFlag, makedev, mknod};
use nix::unistd::Pid;

use super::interrupted::wait_for;
use super::run::{Ended, Tool};
use super::support::root::{AufsRoot, container_id};
use super::support::trace::{assert_same, contents};

/// Every kind of entry, and data that takes a moment to write.
fn root() -> AufsRoot {
    let blob = vec![0x5a; 1 << 20];
    AufsRoot::new()
        .layer("base", |l| {
            let l = (0..16).fold(l, |l, n| l.file(format!("blob{n:02}"), &blob));
            let l = l
                .file("empty", "")
                .file("d/inner", "x")
                .file("one", "linked");
            let l = l.hard_link("one", "two").symlink("link", "target");
            l.char_device("device", 1, 3).fifo("fifo").dir("bare")
        })
        .layer("app", |l| {
            l.file("app", "1").whiteout("d/inner").dir("o").opaque("o")
        })
        .image("lab/app:1", "app")
        .container("web", ("lab/app:1", "app"), |l| l.file("log", "line"))
}

/// Converts `root`, which `change` changes while data is written.
/// Layers that took longer than from one checkpoint to the next are kept: on a slow machine, all of them.
fn converted_while(tool: &Tool, root: &Path, change: impl FnOnce()) -> Ended {
    let child = tool.start(root, &["--jobs", "1", "--checkpoint", "600"]);
    let pid = Pid::from_raw(child.id().cast_signed());
    wait_for(&root.join(".aufs2dm/devicemapper/devicemapper/data"));
    kill(pid, Signal::SIGSTOP).unwrap();
    change();
    kill(pid, Signal::SIGCONT).unwrap();
    Ended::new(&child.wait_with_output().unwrap())
}

/// The run must end with 1, name the words, and leave what the change made of the root.
#[track_caller]
fn noticed(change: impl Fn(&AufsRoot), words: &[&str]) {
    let (tool, root) = (Tool::new(), root());
    let mut changed = Vec::new();
    let ended = converted_while(&tool, &root.path(), || {
        change(&root);
        changed = vec![outside(&root.path())];
    });
    ended.expect(1, words);
    assert!(!root.path().join("devicemapper").exists(), "{ended:?}");
    assert!(!root.path().join(".aufs2dm").exists(), "{ended:?}");
    assert_eq!(changed, [outside(&root.path())], "{ended:?}");
}

/// The configs' bytes and the names in the containers' directories.
fn outside(root: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut files: Vec<_> = walkdir::WalkDir::new(root.join("containers"))
        .into_iter()
        .map(|entry| entry.unwrap().into_path())
        .map(|path| (path.clone(), fs::read(&path).unwrap_or_default()))
        .collect();
    files.sort();
    files
}

fn config(root: &AufsRoot) -> PathBuf {
    let containers = root.path().join("containers");
    containers.join(container_id("web")).join("config.v2.json")
}

#[test]
fn names_that_come_and_go_are_noticed() {
    let new = |layer: &'static str| {
        move |root: &AufsRoot| fs::write(root.branch(layer).join("new"), "new").unwrap()
    };
    noticed(new("base"), &["/new was added", "lab/app:1"]);
    noticed(new("web rw"), &["/new was added", "web"]);
    let remove = |name: &'static str| {
        move |root: &AufsRoot| fs::remove_file(root.branch("base").join(name)).unwrap()
    };
    noticed(remove("empty"), &["/empty was removed", "lab/app:1"]);
    noticed(remove("link"), &["/link was removed"]);
    noticed(
        |root| {
            fs::rename(
                root.branch("base").join("fifo"),
                root.branch("base").join("pipe"),
            )
            .unwrap();
        },
        &["/pipe was added"],
    );
}

#[test]
fn whiteouts_and_opaque_markers_are_noticed() {
    let write = |name: &'static str| {
        move |root: &AufsRoot| fs::write(root.branch("app").join(name), "").unwrap()
    };
    let remove = |name: &'static str| {
        move |root: &AufsRoot| fs::remove_file(root.branch("app").join(name)).unwrap()
    };
    noticed(write(".wh.empty"), &["/empty gained a whiteout"]);
    noticed(remove("d/.wh.inner"), &["/d/inner lost its whiteout"]);
    noticed(write("d/.wh..wh..opq"), &["/d became opaque"]);
    noticed(
        remove("o/.wh..wh..opq"),
        &["/o became opaque or stopped being opaque"],
    );
}

#[test]
fn entries_without_content_that_change_are_noticed() {
    let mode = |name: &'static str, mode| {
        move |root: &AufsRoot| {
            let path = root.branch("base").join(name);
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        }
    };
    noticed(mode("empty", 0o4755), &["/empty changed"]);
    noticed(mode("bare", 0o700), &["/bare changed"]);
    noticed(
        |root| fs::write(root.branch("base").join("empty"), "filled").unwrap(),
        &["/empty"],
    );
    noticed(
        |root| {
            let link = root.branch("base").join("link");
            fs::remove_file(&link).unwrap();
            symlink("other", &link).unwrap();
        },
        &["/link changed"],
    );
    noticed(
        |root| {
            let device = root.branch("base").join("device");
            fs::remove_file(&device).unwrap();
            mknod(
                &device,
                SFlag::S_IFCHR,
                Mode::from_bits_truncate(0o644),
                makedev(1, 5),
            )
            .unwrap();
        },
        &["/device changed"],
    );
    noticed(
        |root| lchown(root.branch("base").join("fifo"), Some(7), Some(7)).unwrap(),
        &["/fifo changed"],
    );
    noticed(
        |root| xattr::set(root.branch("base").join("link"), "trusted.a", b"1").unwrap(),
        &["/link changed"],
    );
}

#[test]
fn a_change_whose_times_were_put_back_is_noticed() {
    noticed(
        |root| {
            let path = root.branch("base").join("one");
            let before = path.metadata().unwrap().modified().unwrap();
            let mut file = OpenOptions::new().write(true).open(&path).unwrap();
            file.write_all(b"LINKED").unwrap();
            file.set_modified(before).unwrap();
        },
        &["changed"],
    );
}

#[test]
fn dockers_own_files_that_change_are_noticed() {
    let append = |path: &'static str| {
        move |root: &AufsRoot| {
            let path = root.path().join(path);
            let mut file = OpenOptions::new().append(true).open(path).unwrap();
            file.write_all(b" ").unwrap();
        }
    };
    noticed(
        append("image/aufs/repositories.json"),
        &["repositories.json: changed while the root was being converted"],
    );
    noticed(
        |root| fs::write(root.path().join("aufs/layers").join(root.id("app")), "").unwrap(),
        &["aufs/layers/", "changed while the root was being converted"],
    );
    noticed(
        |root| fs::create_dir(root.path().join("image/aufs/layerdb/mounts/new")).unwrap(),
        &["layerdb/mounts/new: was added"],
    );
    noticed(
        |root| fs::create_dir(root.path().join("containers/new")).unwrap(),
        &["containers/new: was added"],
    );
}

#[test]
fn a_container_config_that_changed_is_never_overwritten_with_the_older_one() {
    let renamed = |root: &AufsRoot| {
        fs::read_to_string(config(root))
            .unwrap()
            .replace("/web", "/ebw")
    };
    noticed(
        |root| fs::write(config(root), renamed(root)).unwrap(),
        &["config.v2.json: changed while the root was being converted"],
    );
    noticed(
        |root| {
            let new = config(root).with_extension("new");
            fs::write(&new, renamed(root)).unwrap();
            fs::rename(&new, config(root)).unwrap();
        },
        &["config.v2.json: changed while the root was being converted"],
    );
}

#[test]
fn a_log_that_is_trimmed_meanwhile_does_no_harm() {
    let (tool, root) = (Tool::new(), root());
    let log = config(&root).with_file_name("x-json.log");
    fs::write(&log, "long").unwrap();
    let ended = converted_while(&tool, &root.path(), || fs::write(&log, "").unwrap());
    ended.expect(0, &[]);
    let before = contents(&root.path().join("aufs"));
    tool.run("verify", &root.path(), &["--full"]).expect(0, &[]);
    assert_same(&before, &contents(&root.path().join("aufs")));
}
