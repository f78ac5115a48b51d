//! The staging directory as somebody else has prepared it.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use nix::sys::stat::{Mode, SFlag, makedev, mknod};
use nix::unistd::mkfifo;

use super::run::{Ended, Tool, small_root};
use super::support::root::{AufsRoot, container_id};
use super::support::trace::{assert_same, contents};
use crate::support::scratch::scratch;

/// The words of the refusal, and what brings it about.
type Form = (&'static str, fn(&Path));

/// Puts something else in the place of what is there.
const FORMS: [Form; 8] = [
    ("symbolic link", |path| {
        let aside = path.with_extension("aside");
        if path.exists() {
            fs::rename(path, &aside).unwrap();
        }
        symlink("/proc", path).unwrap();
    }),
    ("special file", |path| {
        remove(path);
        mkfifo(path, Mode::S_IRWXU).unwrap();
    }),
    ("special file", |path| {
        remove(path);
        mknod(path, SFlag::S_IFCHR, Mode::S_IRWXU, makedev(1, 5)).unwrap();
    }),
    ("belongs to user 12", |path| {
        ensure(path);
        chown(path, Some(12), None).unwrap();
    }),
    ("accessible to others", |path| {
        ensure(path);
        fs::set_permissions(path, fs::Permissions::from_mode(0o777)).unwrap();
    }),
    ("is a directory, not a regular file", |path| {
        remove(path);
        fs::create_dir(path).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o700)).unwrap();
    }),
    ("is a regular file, not a directory", |path| {
        remove(path);
        fs::write(path, "").unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
    }),
    ("has 2 names", |path| {
        ensure(path);
        fs::hard_link(path, path.with_extension("second")).unwrap();
    }),
];

fn remove(path: &Path) {
    let Ok(meta) = path.symlink_metadata() else {
        return;
    };
    if meta.is_dir() {
        fs::remove_dir_all(path).unwrap();
    } else {
        fs::remove_file(path).unwrap();
    }
}

/// A file where there is nothing.
fn ensure(path: &Path) {
    if !path.exists() {
        fs::write(path, "{}").unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
    }
}

/// Runs a command; one that waits for something is a failure.
#[track_caller]
fn run_in_time(tool: &Tool, verb: &str, root: &Path, options: &[&str]) -> Ended {
    let mut command = tool.command(verb, root, options);
    let piped = command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = piped.stdin(Stdio::null()).spawn().unwrap();
    let began = Instant::now();
    while child.try_wait().unwrap().is_none() {
        if began.elapsed() > Duration::from_secs(120) {
            child.kill().unwrap();
            panic!("{verb} hangs");
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    Ended::new(&child.wait_with_output().unwrap())
}

fn converted() -> (Tool, AufsRoot) {
    let (tool, root) = (Tool::new(), small_root());
    tool.run("convert", &root.path(), &[]).expect(0, &[]);
    (tool, root)
}

/// Each form of a place that it can have is refused by its name, by `verb`, and nothing is changed.
fn refused(verb: &str, options: &[&str], place: &str, forms: &[usize]) {
    for &form in forms {
        let (tool, root) = converted();
        let (words, make) = FORMS[form];
        make(&root.path().join(".aufs2dm").join(place));
        let before = contents(&root.path());
        let ended = run_in_time(&tool, verb, &root.path(), options);
        assert_eq!(ended.code, Some(1), "{place}, {words}: {ended:?}");
        let name = format!(".aufs2dm/{place}").trim_end_matches('/').to_owned();
        for word in [&name, words, "nothing was done"] {
            assert!(ended.err.contains(word), "{place}, {words}: {ended:?}");
        }
        assert_same(&before, &contents(&root.path()));
    }
}

const FILE: [usize; 7] = [0, 1, 2, 3, 4, 5, 7];
const DIRECTORY: [usize; 6] = [0, 1, 2, 3, 4, 6];

#[test]
fn a_journal_that_is_something_else_holds_nobody_up() {
    for (verb, options) in [
        ("status", &[][..]),
        ("convert", &["--dry-run"]),
        ("convert", &[]),
        ("verify", &[]),
        ("rollback", &[]),
        ("resume", &[]),
        ("commit", &["--yes"]),
    ] {
        refused(verb, options, "journal", &[0, 1]);
    }
    refused("rollback", &[], "journal", &FILE);
}

#[test]
fn a_claim_that_is_something_else_is_refused() {
    refused("rollback", &[], "claim.json", &FILE);
    refused("rollback", &[], "claim.json.new", &[0, 1]);
}

#[test]
fn directories_that_are_something_else_are_refused() {
    let container = format!("originals/containers/{}", container_id("web"));
    for place in ["originals", "originals/containers", &container] {
        refused("rollback", &[], place, &DIRECTORY);
    }
    for place in [
        "mnt",
        "verify",
        "removed",
        "containers",
        "image",
        "devicemapper",
    ] {
        refused("rollback", &[], place, &[0, 1, 6]);
    }
}

#[test]
fn an_original_is_a_file_of_dockers() {
    let place = format!(
        "originals/containers/{}/config.v2.json",
        container_id("web")
    );
    refused("rollback", &[], &place, &[0, 1, 2, 5]);
}

#[test]
fn the_staging_directory_itself_is_roots_alone() {
    for form in DIRECTORY {
        let (tool, root) = (Tool::new(), small_root());
        let (words, make) = FORMS[form];
        let stage = root.path().join(".aufs2dm");
        fs::create_dir(&stage).unwrap();
        fs::set_permissions(&stage, fs::Permissions::from_mode(0o700)).unwrap();
        make(&stage);
        for (verb, options) in [("convert", &[][..]), ("rollback", &[]), ("resume", &[])] {
            let ended = run_in_time(&tool, verb, &root.path(), options);
            ended.expect(1, &[".aufs2dm: ", words, "nothing was done"]);
        }
    }
}

#[test]
fn a_staging_directory_behind_a_link_is_refused_and_not_followed() {
    let (tool, root) = (Tool::new(), small_root());
    let victim = scratch();
    fs::write(victim.path().join("precious"), "1").unwrap();
    symlink(victim.path(), root.path().join(".aufs2dm")).unwrap();
    for verb in ["convert", "rollback", "resume", "status"] {
        tool.run(verb, &root.path(), &[])
            .expect(1, &[".aufs2dm: is a symbolic link"]);
    }
    assert!(victim.path().join("precious").exists());
}
