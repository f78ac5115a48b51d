//! Nothing is removed or read through a mount point, and what cannot be removed ends nothing.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use nix::fcntl::{AT_FDCWD, OFlag, openat};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::stat::{Mode, mkdirat};
use tempfile::TempDir;

use super::interrupted::wait_for;
use super::run::{BINARY, Ended, Tool, large_root, small_root};
use super::support::root::{AufsRoot, container_id};
use super::support::trace::{assert_same, contents};
use super::support::unmounted::wait_until_nobody_sees;
use crate::support::scratch::scratch;

/// Something mounted; unmounted when dropped.
pub(crate) struct Mounted(PathBuf);

impl Mounted {
    pub(crate) fn tmpfs(at: &Path) -> Self {
        fs::create_dir_all(at).unwrap();
        let none: Option<&str> = None;
        mount(Some("server"), at, Some("tmpfs"), MsFlags::empty(), none).unwrap();
        fs::write(at.join("precious"), "x").unwrap();
        Self(at.to_owned())
    }

    /// Of the same file system.
    pub(crate) fn bind(what: &Path, at: &Path) -> Self {
        let none: Option<&str> = None;
        mount(Some(what), at, none, MsFlags::MS_BIND, none).unwrap();
        Self(at.to_owned())
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        umount2(&self.0, MntFlags::MNT_DETACH).unwrap();
        wait_until_nobody_sees(&self.0);
    }
}

/// A directory of the host, beside the roots.
fn outside() -> TempDir {
    let dir = scratch();
    fs::write(dir.path().join("precious"), "x").unwrap();
    dir
}

fn umount_of(at: &Path) -> String {
    format!("umount {}", at.canonicalize().unwrap().display())
}

fn converted(tool: &Tool) -> AufsRoot {
    let root = small_root();
    tool.run("convert", &root.path(), &[]).expect(0, &[]);
    root
}

fn verified(tool: &Tool) -> AufsRoot {
    let root = converted(tool);
    tool.run("verify", &root.path(), &["--full"]).expect(0, &[]);
    root
}

/// Each of the commands names the mount and changes nothing, whatever is mounted.
fn refused(tool: &Tool, root: &Path, at: &Path, commands: &[(&str, &[&str])]) {
    let outside = outside();
    let made = at.ancestors().take_while(|one| !one.exists()).last();
    for is_bind in [true, false] {
        fs::create_dir_all(at).unwrap();
        let before = contents(root);
        let mounted = if is_bind {
            Mounted::bind(outside.path(), at)
        } else {
            Mounted::tmpfs(at)
        };
        for (verb, options) in commands {
            let ended = tool.run(verb, root, options);
            ended.expect(1, &["is a mount point", &umount_of(at)]);
            assert!(at.join("precious").exists(), "{verb}: {}", at.display());
        }
        drop(mounted);
        assert_same(&before, &contents(root));
    }
    // What the tool does not make in its staging directory would be refused from now on.
    if let Some(made) = made.filter(|made| made.starts_with(root.join(".aufs2dm"))) {
        fs::remove_dir_all(made).unwrap();
    }
}

#[test]
fn commit_refuses_what_is_mounted_in_anything_that_it_removes() {
    let tool = Tool::new();
    let root = verified(&tool);
    let branch = root.branch("base");
    for at in [
        root.path()
            .join("aufs/mnt")
            .join(container_id("web"))
            .join("data"),
        branch.join("etc"),
        branch,
        root.path().join("aufs/diff"),
        root.path().join("aufs/layers"),
        root.path().join("aufs/mnt"),
        root.path().join("image/aufs/layerdb/mounts"),
        root.path().join("image/aufs"),
        root.path().join("image/devicemapper"),
        root.path().join("image/devicemapper/layerdb"),
        root.path().join(".aufs2dm/originals"),
        root.path().join(".aufs2dm/removed/deep"),
    ] {
        refused(&tool, &root.path(), &at, &[("commit", &["--yes"])]);
    }
    tool.run("commit", &root.path(), &["--yes"]).expect(0, &[]);
    assert!(!root.path().join("aufs").exists());
}

#[test]
fn rollback_refuses_what_is_mounted_in_anything_that_it_moves_or_removes() {
    let tool = Tool::new();
    let root = converted(&tool);
    for at in [
        root.path().join("devicemapper/metadata"),
        root.path().join("devicemapper"),
        root.path().join("image/devicemapper/imagedb"),
        root.path().join("image/devicemapper"),
        root.path().join("image/aufs"),
        root.path().join("image/aufs/layerdb"),
        root.path().join(".aufs2dm/originals/containers"),
        root.path().join(".aufs2dm/mnt"),
    ] {
        refused(&tool, &root.path(), &at, &[("rollback", &[])]);
    }
    tool.run("rollback", &root.path(), &[]).expect(0, &[]);
}

#[test]
fn what_an_interrupted_run_left_is_not_removed_through_a_mount() {
    let (tool, root) = (Tool::new(), large_root());
    let mut child = tool.start(&root.path(), &["--jobs", "1", "--checkpoint", "0"]);
    wait_for(&root.path().join(".aufs2dm/devicemapper/devicemapper/data"));
    child.kill().unwrap();
    child.wait().unwrap();
    for inner in [
        "devicemapper/devicemapper",
        "image",
        "devicemapper/metadata/x",
    ] {
        let at = root.path().join(".aufs2dm").join(inner);
        let commands: [(&str, &[&str]); 4] = [
            ("rollback", &[]),
            ("resume", &[]),
            ("convert", &[]),
            ("convert", &["--dry-run"]),
        ];
        refused(&tool, &root.path(), &at, &commands);
    }
    tool.run("rollback", &root.path(), &[]).expect(0, &[]);
}

#[test]
fn a_disk_that_is_mounted_for_the_staging_directory_is_not_emptied() {
    let (tool, root) = (Tool::new(), small_root());
    let at = root.path().join(".aufs2dm");
    let commands: [(&str, &[&str]); 3] = [
        ("convert", &[]),
        ("convert", &["--dry-run"]),
        ("rollback", &[]),
    ];
    refused(&tool, &root.path(), &at, &commands);
}

#[test]
fn no_file_is_read_through_a_mount() {
    let (tool, root) = (Tool::new(), small_root());
    let branch = root.branch("base");
    let container = root.path().join("containers").join(container_id("web"));
    for at in [
        branch.join("etc/host"),
        branch,
        root.path().join("aufs/layers/deep"),
        root.path().join("image/aufs/layerdb/sha256"),
        root.path().join("image/aufs/imagedb"),
        container,
    ] {
        let commands: [(&str, &[&str]); 4] = [
            ("convert", &["--dry-run"]),
            ("convert", &[]),
            ("verify", &[]),
            ("verify", &["--full"]),
        ];
        let made = !at.exists();
        refused_in_words(&tool, &root.path(), &at, &commands);
        if made {
            fs::remove_dir(at).unwrap();
        }
    }
    let motd = root.branch("base").join("etc/motd");
    let outside = outside();
    let mounted = Mounted::bind(&outside.path().join("precious"), &motd);
    let ended = tool.run("convert", &root.path(), &[]);
    ended.expect(1, &["is a mount point", &umount_of(&motd)]);
    drop(mounted);
    // What a killed daemon leaves is in nobody's way.
    let shm = root
        .path()
        .join("containers")
        .join(container_id("web"))
        .join("shm");
    let mounted = Mounted::tmpfs(&shm);
    tool.run("convert", &root.path(), &[]).expect(0, &[]);
    drop(mounted);
}

/// A container's directory is refused by another part already, whose words differ.
fn refused_in_words(tool: &Tool, root: &Path, at: &Path, commands: &[(&str, &[&str])]) {
    let is_container = at
        .parent()
        .is_some_and(|above| above.ends_with("containers"));
    let commands: Vec<_> = commands
        .iter()
        .copied()
        .filter(|command| !is_container || command.1 == ["--dry-run"])
        .collect();
    refused(tool, root, at, &commands);
}

/// A process with a mount namespace of its own, in which something is mounted.
pub(crate) struct Namespace(Child);

impl Namespace {
    pub(crate) fn with_bind(what: &Path, at: &Path) -> Self {
        let mut child = Command::new("unshare")
            .args(["-m", "sh", "-c"])
            .arg("mount --bind \"$1\" \"$2\" && echo ready && exec cat")
            .arg("sh")
            .args([what, at])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let out = child.stdout.as_mut().unwrap();
        BufReader::new(out).read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n");
        Self(child)
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

#[test]
fn a_mount_that_another_namespace_sees_is_named_with_a_process_in_it() {
    let (tool, outside) = (Tool::new(), outside());
    let root = verified(&tool);
    let before = contents(&root.path());
    for (verb, options, inner) in [
        ("commit", &["--yes"][..], "aufs/diff"),
        ("commit", &["--yes"], "aufs"),
        ("rollback", &[], ".aufs2dm/originals"),
    ] {
        let at = root.path().join(inner);
        let namespace = Namespace::with_bind(outside.path(), &at);
        let enter = format!("nsenter -t {} -m {}", namespace.0.id(), umount_of(&at));
        tool.run(verb, &root.path(), options)
            .expect(1, &["in the mount namespace of process", &enter]);
        assert_same(&before, &contents(&root.path()));
    }
    // A directory that is mounted on itself holds nothing else.
    let at = root.path().join("aufs");
    let namespace = Namespace::with_bind(&at, &at);
    tool.run("commit", &root.path(), &["--yes"]).expect(0, &[]);
    drop(namespace);
    assert_eq!(contents(outside.path()).len(), 2);
}

#[test]
fn of_an_aufs_directory_on_a_mount_of_its_own_only_dockers_parts_go() {
    let (tool, elsewhere) = (Tool::new(), scratch());
    let root = small_root();
    let (aufs, real) = (root.path().join("aufs"), elsewhere.path().join("aufs"));
    fs::rename(&aufs, &real).unwrap();
    fs::write(real.join("precious"), "x").unwrap();
    fs::create_dir(&aufs).unwrap();
    let mounted = Mounted::bind(&real, &aufs);
    tool.run("convert", &root.path(), &[]).expect(0, &[]);
    tool.run("verify", &root.path(), &["--full"]).expect(0, &[]);
    let at = aufs.join("mnt");
    refused(&tool, &root.path(), &at, &[("commit", &["--yes"])]);
    let words = ["a mount of the directory", "commit --drop-linked-aufs"];
    tool.run("commit", &root.path(), &["--yes"])
        .expect(1, &words);
    // What stays needs no word.
    tool.run("commit", &root.path(), &["--yes", "--drop-linked-aufs"])
        .expect(0, &[]);
    drop(mounted);
    let left: Vec<_> = fs::read_dir(&real).unwrap().collect();
    assert_eq!(left.len(), 1, "{left:?}");
}

/// Takes the attribute flags away in the end.
pub(crate) struct Flags(pub(crate) PathBuf);

impl Flags {
    pub(crate) fn set(&self, flag: &str, path: &Path) {
        assert!(path.starts_with(&self.0));
        chattr(&[flag], path);
    }

    /// Takes them away now.
    pub(crate) fn clear(&self) {
        // Some directories are gone by then.
        let _ = Command::new("chattr")
            .args(["-R", "-f", "-i", "-a", "-d"])
            .arg(&self.0)
            .status();
    }
}

impl Drop for Flags {
    fn drop(&mut self) {
        self.clear();
    }
}

fn chattr(options: &[&str], path: &Path) {
    let done = Command::new("chattr").args(options).arg(path).status();
    assert!(done.unwrap().success(), "{}", path.display());
}

#[test]
fn what_cannot_be_removed_is_named_and_the_next_commit_removes_it() {
    let (tool, root) = (Tool::new(), small_root());
    let flags = Flags(root.path());
    let branch = root.branch("base");
    fs::create_dir_all(branch.join("im/d/deep")).unwrap();
    for name in ["im/f", "im/g", "im/d/deep/goes"] {
        fs::write(branch.join(name), name).unwrap();
    }
    flags.set("+i", &branch.join("im/f"));
    flags.set("+i", &branch.join("im/d"));
    flags.set("+a", &branch.join("im/g"));
    tool.run("convert", &root.path(), &[]).expect(0, &[]);
    tool.run("verify", &root.path(), &["--full"]).expect(0, &[]);
    let id = branch.file_name().unwrap();
    let left = root
        .path()
        .canonicalize()
        .unwrap()
        .join(".aufs2dm/removed/going/aufs/diff")
        .join(id)
        .join("im");
    let chattr_of = |name| format!("chattr -R -i -a {}", left.join(name).display());
    for verb in ["commit", "resume"] {
        let options: &[&str] = if verb == "commit" { &["--yes"] } else { &[] };
        let words = [&*chattr_of("f"), &chattr_of("d"), &chattr_of("g")];
        tool.run(verb, &root.path(), options).expect(1, &words);
        assert!(!left.join("d/deep/goes").exists());
        assert_eq!(fs::read_dir(&left).unwrap().count(), 3);
        // Docker has its new side and no old one in the meantime.
        assert!(root.path().join("devicemapper/metadata").is_dir());
        assert!(root.path().join("image/devicemapper/layerdb").is_dir());
        assert!(!root.path().join("aufs").exists() && !root.path().join("image/aufs").exists());
        let status = tool.run("status", &root.path(), &["--json"]);
        assert!(status.out.contains("committing"), "{status:?}");
    }
    for name in ["f", "d", "g"] {
        chattr(&["-R", "-i", "-a"], &left.join(name));
    }
    tool.run("commit", &root.path(), &["--yes"]).expect(0, &[]);
    assert!(!root.path().join(".aufs2dm/removed").exists());
}

#[test]
fn directories_that_cannot_be_moved_are_seen_before_anything_is_removed() {
    let tool = Tool::new();
    let root = verified(&tool);
    let flags = Flags(root.path());
    for (flag, inner) in [
        ("+i", "aufs"),
        ("+i", "aufs/diff"),
        ("+a", "aufs/layers"),
        ("+i", "aufs/mnt"),
        ("+a", "image/aufs"),
        ("+i", ""),
        ("+i", ".aufs2dm"),
        ("+a", "image"),
    ] {
        let before = contents(&root.path());
        let at = root.path().join(inner);
        flags.set(flag, &at);
        let shown = at.canonicalize().unwrap();
        let ended = tool.run("commit", &root.path(), &["--yes"]);
        chattr(&["-i", "-a"], &at);
        ended.expect(
            1,
            &[
                "chattr",
                &format!("-i -a {}", shown.display()),
                "nothing was changed",
            ],
        );
        assert_same(&before, &contents(&root.path()));
    }
    // A branch of its own goes when it can be moved; the rest goes before.
    flags.set("+i", &root.branch("base"));
    let left = root.path().canonicalize().unwrap();
    let left = left
        .join(".aufs2dm/removed/aufs/diff")
        .join(root.branch("base").file_name().unwrap());
    tool.run("verify", &root.path(), &["--full"]).expect(0, &[]);
    tool.run("commit", &root.path(), &["--yes"])
        .expect(1, &[&format!("chattr -i -a {}", left.display())]);
    assert!(left.join("bin/sh").exists());
    let branches = left.parent().unwrap();
    assert_eq!(fs::read_dir(branches).unwrap().count(), 1);
    chattr(&["-i", "-a"], &left);
    tool.run("commit", &root.path(), &["--yes"]).expect(0, &[]);
}

#[test]
fn a_rollback_that_cannot_remove_all_has_brought_the_root_back() {
    let (tool, root) = (Tool::new(), small_root());
    let flags = Flags(root.path());
    let before = contents(&root.path());
    tool.run("convert", &root.path(), &[]).expect(0, &[]);
    flags.set("+i", &root.path().join("devicemapper/metadata/base"));
    let left = root
        .path()
        .canonicalize()
        .unwrap()
        .join(".aufs2dm/devicemapper/metadata/base");
    let command = format!("chattr -R -i -a {}", left.display());
    tool.run("rollback", &root.path(), &[])
        .expect(1, &[&command]);
    assert!(!root.path().join("devicemapper").exists());
    chattr(&["-R", "-i", "-a"], &left);
    tool.run("rollback", &root.path(), &[]).expect(0, &[]);
    assert_same(&before, &contents(&root.path()));
}

#[test]
fn a_tree_ten_thousand_deep_goes_with_few_descriptors() {
    let tool = Tool::new();
    let root = verified(&tool);
    let mode = Mode::from_bits_truncate(0o755);
    let flags = OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let mnt = root.path().join("aufs/mnt");
    let mut at = openat(AT_FDCWD, &mnt, flags, Mode::empty()).unwrap();
    for _ in 0..10_000 {
        mkdirat(&at, "deeper", mode).unwrap();
        at = openat(&at, "deeper", flags, Mode::empty()).unwrap();
    }
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -n 128 && exec \"$@\"", "sh", BINARY]);
    command.args(["commit", "--yes", "--drop-aufs-changes", "--root"]);
    command
        .arg(root.path())
        .arg("--pidfile")
        .arg(tool.pid_file());
    command.arg("--host-root").arg(tool.host_root());
    Ended::new(&command.output().unwrap()).expect(0, &[]);
    assert!(!root.path().join("aufs").exists());
}
