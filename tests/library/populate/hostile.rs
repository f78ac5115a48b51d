//! Trees and targets made to break whoever fills them.

use std::fs::{self, File};
use std::io::Write;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::Path;
use std::process::Command;
use std::sync::mpsc;
use std::time::Duration;

use aufs2dm::docker::CacheId;
use aufs2dm::source::Layer as Planned;
use aufs2dm::tree::{Kind, LayerTree, Listing, Meta, NodeId, Regular, Timestamp};
use aufs2dm::units::Bytes;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::{Mode, fstat, mkdirat};
use tempfile::TempDir;

use super::apply::{apply, judge, layer, pool};
use crate::command::{Mounted, in_memory, subdirectory, succeed};
use crate::support::layer::Layer;
use crate::support::random::random_stack;

const LEVELS: i64 = 5000;

/// Runs this very test once more, as a child of a shell that has set its limits, and `body` there.
fn in_child_of(shell: &str, test: &str, body: impl FnOnce()) {
    const CHILD: &str = "AUFS2DM_POPULATE_CHILD";
    if std::env::var_os(CHILD).is_some() {
        body();
        return;
    }
    let output = succeed(
        Command::new("sh")
            .arg("-c")
            .arg(format!("{shell} && exec \"$0\" --exact {test} --nocapture"))
            .arg(std::env::current_exe().unwrap())
            .env(CHILD, "1"),
    );
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("1 passed"), "{text}");
}

fn open_in(directory: &OwnedFd, name: &str, flags: OFlag) -> OwnedFd {
    let mode = Mode::from_bits_truncate(0o644);
    openat(directory, name, flags | OFlag::O_NOFOLLOW, mode).unwrap()
}

/// A branch of directories in directories with a file in the last one, and a layer of it with a time for each.
fn deep(branch: &Path) -> Planned {
    let mut tree = LayerTree::new(Meta::default());
    let mut nodes = vec![LayerTree::ROOT];
    let mut at: OwnedFd = File::open(branch).unwrap().into();
    for level in 1..=LEVELS {
        let meta = Meta {
            mode: 0o755,
            mtime: Timestamp::new(level, 5),
            ..Meta::default()
        };
        nodes.push(tree.add(meta, Kind::Directory(Box::default())));
        mkdirat(&at, "d", Mode::S_IRWXU).unwrap();
        at = open_in(&at, "d", OFlag::O_DIRECTORY);
    }
    let mut file = File::from(open_in(&at, "file", OFlag::O_WRONLY | OFlag::O_CREAT));
    file.write_all(b"at the bottom").unwrap();
    let stat = file.metadata().unwrap();
    let nsec = |nsec| u32::try_from(nsec).unwrap();
    let meta = Meta {
        mode: 0o644,
        mtime: Timestamp::new(stat.mtime(), nsec(stat.mtime_nsec())),
        ctime: Timestamp::new(stat.ctime(), nsec(stat.ctime_nsec())),
        ..Meta::default()
    };
    let regular = Regular {
        size: stat.len(),
        segments: None,
    };
    let file = tree.add(meta, Kind::Regular(regular));
    for pair in nodes.windows(2) {
        set(&mut tree, pair[0], &[("d", pair[1])]);
    }
    // The first name lies at the bottom, the second at the top.
    set(&mut tree, nodes[nodes.len() - 1], &[("file", file)]);
    set(
        &mut tree,
        LayerTree::ROOT,
        &[("d", nodes[1]), ("link", file)],
    );
    planned(branch, tree)
}

fn set(tree: &mut LayerTree, directory: NodeId, entries: &[(&str, NodeId)]) {
    let entries = entries
        .iter()
        .map(|&(name, node)| (name.as_bytes().into(), node))
        .collect();
    let listing = Listing {
        entries,
        ..Listing::default()
    };
    tree.set_directory(directory, listing);
}

fn planned(branch: &Path, tree: LayerTree) -> Planned {
    Planned {
        id: CacheId::parse(b"hostile").unwrap(),
        parent: None,
        branch: branch.to_owned(),
        tree,
    }
}

#[test]
fn a_tree_thousands_of_levels_deep_needs_few_descriptors() {
    in_child_of(
        "ulimit -n 256",
        "populate::hostile::a_tree_thousands_of_levels_deep_needs_few_descriptors",
        || {
            let dir = in_memory();
            // All of it is on a disk that goes as a whole: nothing else removes such a tree.
            let disk = Mounted::made("ext4", Bytes::mib(300), dir.path());
            let layer = deep(&subdirectory(disk.path(), "branch"));
            let rootfs = subdirectory(disk.path(), "rootfs");
            let pool = pool(4);
            for _ in 0..2 {
                apply(&layer, &rootfs, &pool).unwrap();
                let mut at: OwnedFd = File::open(&rootfs).unwrap().into();
                for level in 1..=LEVELS {
                    at = open_in(&at, "d", OFlag::O_DIRECTORY);
                    let stat = fstat(&at).unwrap();
                    assert_eq!((stat.st_mtime, stat.st_mtime_nsec), (level, 5));
                }
                let bottom = File::from(open_in(&at, "file", OFlag::O_RDONLY));
                let top = rootfs.join("link");
                assert_eq!(
                    bottom.metadata().unwrap().ino(),
                    top.metadata().unwrap().ino()
                );
                assert_eq!(fs::read(&top).unwrap(), b"at the bottom");
            }
            // Removed by its name, and replaced by a file.
            let mut tree = LayerTree::new(Meta::default());
            let listing = Listing {
                removed: vec![b"d".as_slice().into()],
                ..Listing::default()
            };
            tree.set_directory(LayerTree::ROOT, listing);
            apply(&planned(disk.path(), tree), &rootfs, &pool).unwrap();
            assert!(!rootfs.join("d").exists() && rootfs.join("link").exists());
            apply(&layer, &rootfs, &pool).unwrap();
            let mut tree = LayerTree::new(Meta::default());
            let fifo = tree.add(Meta::default(), Kind::Fifo);
            set(&mut tree, LayerTree::ROOT, &[("d", fifo)]);
            apply(&planned(disk.path(), tree), &rootfs, &pool).unwrap();
            assert!(!rootfs.join("d").is_dir());
        },
    );
}

#[test]
fn the_umask_does_not_matter() {
    for umask in ["000", "027", "777"] {
        in_child_of(
            &format!("umask {umask}"),
            "populate::hostile::the_umask_does_not_matter",
            || {
                let dir = TempDir::new().unwrap();
                let mut base = Layer::new(dir.path().join("lower"));
                for mode in [0o000, 0o644, 0o666, 0o4755, 0o2711, 0o1777, 0o777] {
                    base = base
                        .file(format!("file{mode}"), "x")
                        .mode(format!("file{mode}"), mode)
                        .dir(format!("dir{mode}/sub"))
                        .fifo(format!("dir{mode}/fifo"))
                        .mode(format!("dir{mode}/fifo"), mode)
                        .mode(format!("dir{mode}"), mode);
                }
                let branch = base.finish();
                let disk = Mounted::made("ext4", Bytes::mib(100), dir.path());
                judge(&[branch], &subdirectory(disk.path(), "rootfs"));
            },
        );
    }
}

#[test]
fn a_symbolic_link_in_the_target_leads_nowhere() {
    let dir = TempDir::new().unwrap();
    let outside = subdirectory(dir.path(), "outside");
    fs::write(outside.join("file"), "mine").unwrap();
    let rootfs = subdirectory(dir.path(), "rootfs");
    for link in ["d", "file", "opaque", "removed", "hard"] {
        symlink(&outside, rootfs.join(link)).unwrap();
    }
    subdirectory(&rootfs, "gone");
    symlink(&outside, rootfs.join("gone/link")).unwrap();
    let top = Layer::new(dir.path().join("top"))
        .file("d/file", "theirs")
        .whiteout("d/file2")
        .file("file", "theirs")
        .opaque("opaque")
        .whiteout("removed")
        .hard_link("file", "hard")
        .file("gone", "")
        .finish();
    apply(&layer(&top), &rootfs, &pool(2)).unwrap();
    assert_eq!(fs::read(outside.join("file")).unwrap(), b"mine");
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 1);
    let is_directory = |name: &str| rootfs.join(name).symlink_metadata().unwrap().is_dir();
    assert!(is_directory("d") && is_directory("opaque"));
    assert!(rootfs.join("removed").symlink_metadata().is_err());
    assert_eq!(fs::read(rootfs.join("hard")).unwrap(), b"theirs");
}

#[test]
fn many_chains_at_once_share_few_threads() {
    let (done, is_done) = mpsc::channel();
    // A thread of its own, for one that waits forever would not fail.
    std::thread::spawn(move || {
        let dir = in_memory();
        let disk = Mounted::made("ext4", Bytes::mib(700), dir.path());
        let pool = pool(2);
        let work = |seed: u64| {
            let stack = random_stack(seed);
            let rootfs = subdirectory(disk.path(), &seed.to_string());
            for branch in &stack.branches {
                apply(&layer(branch), &rootfs, &pool).unwrap();
            }
            let found = crate::support::walk::walk(&rootfs);
            let expected = crate::support::merge::reference_merge(&stack.branches);
            crate::support::compare::assert_same("chain", &expected, &found);
        };
        std::thread::scope(|scope| {
            for seed in 100..108 {
                scope.spawn(move || work(seed));
            }
        });
        done.send(()).unwrap();
    });
    is_done.recv_timeout(Duration::from_secs(300)).unwrap();
}
