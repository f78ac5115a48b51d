//! The removal of directory trees by itself.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use aufs2dm::removal::{Cause, remove};
use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use tempfile::TempDir;

fn tree() -> TempDir {
    let dir = TempDir::new().unwrap();
    fs::create_dir_all(dir.path().join("top/a/b/c")).unwrap();
    for name in ["top/f", "top/a/f", "top/a/b/c/f", "kept"] {
        fs::write(dir.path().join(name), name).unwrap();
    }
    dir
}

#[test]
fn a_tree_goes_and_nothing_beside_it() {
    let dir = tree();
    assert!(remove(&dir.path().join("top")).is_empty());
    assert!(remove(&dir.path().join("top")).is_empty());
    assert!(remove(&dir.path().join("no/such")).is_empty());
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    assert!(remove(&dir.path().join("kept")).is_empty());
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn links_are_removed_and_not_followed() {
    let (dir, outside) = (tree(), tree());
    let link =
        |name: &str| std::os::unix::fs::symlink(outside.path(), dir.path().join(name)).unwrap();
    for name in ["top/link", "top/a/b/link", "link"] {
        link(name);
    }
    // Nor one on the way: what is meant lies elsewhere.
    assert!(!remove(&dir.path().join("link/top")).is_empty());
    for name in ["top", "link"] {
        assert!(remove(&dir.path().join(name)).is_empty(), "{name}");
    }
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    assert!(outside.path().join("top/a/b/c/f").exists());
}

/// A directory that is a link to elsewhere the next moment, again and again.
#[test]
fn a_link_that_takes_a_directorys_place_meanwhile_leads_nowhere() {
    let (outside, done) = (tree(), AtomicBool::new(false));
    for _ in 0..20 {
        let dir = TempDir::new().unwrap();
        let top = dir.path().join("top");
        for n in 0..200 {
            fs::create_dir_all(top.join(format!("a/{n}"))).unwrap();
        }
        let (victim, link) = (top.join("a"), dir.path().join("link"));
        std::os::unix::fs::symlink(outside.path(), &link).unwrap();
        done.store(false, Ordering::Relaxed);
        thread::scope(|scope| {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    let flags = RenameFlags::RENAME_EXCHANGE;
                    let _ = renameat2(AT_FDCWD, &victim, AT_FDCWD, &link, flags);
                }
            });
            drop(remove(&top));
            done.store(true, Ordering::Relaxed);
        });
        assert!(outside.path().join("top/a/b/c/f").exists());
    }
}

#[test]
fn a_mount_point_stays_with_all_that_is_mounted() {
    let none: Option<&str> = None;
    let outside = tree();
    let bind =
        |what: &Path, at: &Path| mount(Some(what), at, none, MsFlags::MS_BIND, none).unwrap();
    for what in ["directory", "file", "tmpfs"] {
        let dir = tree();
        let at = match what {
            "file" => dir.path().join("top/a/b/c/f"),
            _ => dir.path().join("top/a/b"),
        };
        match what {
            "directory" => bind(&outside.path().join("top"), &at),
            "file" => bind(&outside.path().join("kept"), &at),
            _ => mount(Some("x"), &at, Some("tmpfs"), MsFlags::empty(), none).unwrap(),
        }
        let kept = remove(&dir.path().join("top"));
        umount2(&at, MntFlags::MNT_DETACH).unwrap();
        let [stuck] = kept.first() else {
            panic!("{what}: {kept}");
        };
        assert_eq!((&stuck.path, stuck.cause), (&at, Cause::MountPoint));
        assert!(outside.path().join("top/a/b/c/f").exists());
        // All else is gone.
        assert!(!dir.path().join("top/f").exists() && !dir.path().join("top/a/f").exists());
        assert!(remove(&dir.path().join("top")).is_empty());
    }
}

#[test]
fn more_names_than_are_listed_at_once_go() {
    let dir = TempDir::new().unwrap();
    let top = dir.path().join("top");
    fs::create_dir(&top).unwrap();
    for n in 0..5000 {
        fs::write(top.join(n.to_string()), "").unwrap();
    }
    assert!(remove(&top).is_empty());
    assert!(!top.exists());
}
