//! Layers applied to mounted file systems, one upon the other, against a merge computed without the crate.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::{FileTypeExt, MetadataExt, symlink};
use std::path::{Path, PathBuf};

use aufs2dm::aufs::read_branch;
use aufs2dm::docker::CacheId;
use aufs2dm::populate::{self, ApplyOptions, Error};
use aufs2dm::progress::Cancel;
use aufs2dm::source::Layer as Planned;
use aufs2dm::tree::Timestamp;
use aufs2dm::units::Bytes;
use nix::sys::stat::{Mode, SFlag, major, makedev, minor, mknod};
use rayon::{ThreadPool, ThreadPoolBuilder};
use tempfile::TempDir;

use crate::command::{Mounted, Quiet, in_memory, subdirectory};
use crate::support::compare::assert_same;
use crate::support::fixture::unpack;
use crate::support::layer::Layer;
use crate::support::merge::reference_merge;
use crate::support::merged::MergedTree;
use crate::support::random::{Random, acl, random_stack};
use crate::support::walk::walk;

pub(crate) fn pool(threads: usize) -> ThreadPool {
    ThreadPoolBuilder::new()
        .num_threads(threads)
        .build()
        .unwrap()
}

/// The branch as a layer; its name is the directory's.
pub(crate) fn layer(branch: &Path) -> Planned {
    Planned {
        id: CacheId::parse(branch.file_name().unwrap().as_encoded_bytes()).unwrap(),
        parent: None,
        branch: branch.to_owned(),
        tree: read_branch(branch, None).unwrap().tree,
    }
}

pub(crate) fn apply(layer: &Planned, rootfs: &Path, pool: &ThreadPool) -> Result<(), Error> {
    let run = ApplyOptions {
        pool,
        cancel: &Cancel::default(),
        progress: &Quiet,
    };
    populate::apply(layer, File::open(rootfs).unwrap(), &run)
}

/// Applies the branches, and fails unless after each the tree is the reference's and all the layer's times are right.
pub(crate) fn judge(branches: &[PathBuf], rootfs: &Path) {
    let pool = pool(3);
    for nr in 1..=branches.len() {
        let layer = layer(&branches[nr - 1]);
        apply(&layer, rootfs, &pool).unwrap();
        assert_times(&layer, rootfs);
        let what = format!("{} in {}", layer.id, rootfs.display());
        let expected = without_twins(reference_merge(&branches[..nr]));
        assert_same(&what, &expected, &without_twins(walk(rootfs)));
    }
}

/// Fails unless access and modification times of everything in the layer are its own.
pub(crate) fn assert_times(layer: &Planned, rootfs: &Path) {
    for (id, node) in layer.tree.nodes() {
        let mut path = rootfs.to_owned();
        path.extend(
            layer
                .tree
                .path(id)
                .into_iter()
                .map(crate::support::walk::os),
        );
        let stat = fs::symlink_metadata(&path).unwrap();
        let time = |sec, nsec: i64| Timestamp::new(sec, u32::try_from(nsec).unwrap());
        let found = (
            time(stat.atime(), stat.atime_nsec()),
            time(stat.mtime(), stat.mtime_nsec()),
        );
        let expected = (node.meta.atime, node.meta.mtime);
        assert_eq!(found, expected, "{}", path.display());
    }
}

/// The tree less the second names under which XFS shows ACLs.
fn without_twins(mut tree: MergedTree) -> MergedTree {
    for entry in tree.entries.values_mut() {
        let own = |name: &Vec<u8>| name.starts_with(b"trusted.SGI_ACL_");
        entry.xattrs.retain(|name, _| !own(name));
    }
    tree
}

/// New file systems of both sorts, each with its image in a directory of its own.
pub(crate) fn file_systems() -> Vec<(Mounted, TempDir)> {
    ["ext4", "xfs"]
        .into_iter()
        .map(|of| {
            let dir = in_memory();
            (Mounted::made(of, Bytes::mib(700), dir.path()), dir)
        })
        .collect()
}

/// Branches of a test, judged on both file systems.
fn judge_everywhere(branches: &[PathBuf]) {
    for (disk, _dir) in file_systems() {
        judge(branches, &subdirectory(disk.path(), "rootfs"));
    }
}

/// XFS ends symbolic links at 1023 bytes, and device numbers at 511 and 2^18 - 1.
fn fit_into_xfs(dir: &Path) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let stat = path.symlink_metadata().unwrap();
        let of = stat.file_type();
        if of.is_dir() {
            fit_into_xfs(&path);
        } else if of.is_symlink() && stat.len() > 1023 {
            fs::remove_file(&path).unwrap();
            symlink("t".repeat(1023), &path).unwrap();
        } else if of.is_char_device() || of.is_block_device() {
            fs::remove_file(&path).unwrap();
            let number = makedev(major(stat.rdev()) % 512, minor(stat.rdev()) % (1 << 18));
            let of = SFlag::from_bits_truncate(stat.mode()) & SFlag::S_IFMT;
            mknod(&path, of, Mode::S_IRUSR, number).unwrap();
        }
    }
}

#[test]
fn random_stacks_equal_the_reference_merge() {
    for (number, (disk, _dir)) in file_systems().into_iter().enumerate() {
        for seed in 0..12 {
            let stack = random_stack(seed);
            let is_xfs = number == 1;
            for branch in stack.branches.iter().filter(|_| is_xfs) {
                fit_into_xfs(branch);
            }
            judge(
                &stack.branches,
                &subdirectory(disk.path(), &format!("rootfs{seed}")),
            );
        }
    }
}

#[test]
fn the_layers_of_a_real_root_equal_the_reference_merge() {
    let root = unpack("small.tar.xz");
    let aufs = root.path().join("docker/aufs");
    let chains: BTreeMap<String, Vec<String>> = fs::read_dir(aufs.join("layers"))
        .unwrap()
        .map(|entry| {
            let entry = entry.unwrap();
            let below = fs::read_to_string(entry.path()).unwrap();
            let id = entry.file_name().into_string().unwrap();
            (id, below.lines().map(str::to_owned).collect())
        })
        .collect();
    let is_below = |id: &String| chains.values().any(|below| below.contains(id));
    let dir = in_memory();
    let disk = Mounted::made("ext4", Bytes::mib(2000), dir.path());
    let tops: Vec<_> = chains.iter().filter(|(id, _)| !is_below(id)).collect();
    assert!(tops.len() > 5, "{}", tops.len());
    for (top, below) in tops {
        let ids = below.iter().rev().chain([top]);
        let branches: Vec<_> = ids.map(|id| aufs.join("diff").join(id)).collect();
        judge(&branches, &subdirectory(disk.path(), top));
    }
}

#[test]
fn nothing_is_inherited_from_a_directorys_default_acl_or_setgid_bit() {
    let dir = TempDir::new().unwrap();
    let both = |layer: Layer, path: &str| {
        layer.dir(path).owner(path, 5, 6).mode(path, 0o2775).xattr(
            path,
            "system.posix_acl_default",
            &acl(7),
        )
    };
    let base = both(Layer::new(dir.path().join("lower")), "d")
        .file("d/file", "x")
        .dir("d/sub")
        .fifo("d/fifo");
    let top = both(Layer::new(dir.path().join("top")), "d")
        .file("d/new", "y")
        .dir("d/sub/new")
        .symlink("d/link", "t")
        .char_device("d/null", 1, 3);
    let top = both(top, "d/other")
        .file("d/other/file", "")
        .dir("d/other/sub");
    // The layer above finds both below and has neither itself.
    let plain = Layer::new(dir.path().join("plain"))
        .file("d/last", "z")
        .mode("d", 0o777)
        .mode("d/last", 0o666);
    judge_everywhere(&[base.finish(), top.finish(), plain.finish()]);
}

#[test]
fn a_file_that_shares_an_inode_below_is_replaced_and_not_written_to() {
    let dir = TempDir::new().unwrap();
    let base = Layer::new(dir.path().join("lower"))
        .file("a", "lower")
        .hard_link("a", "b")
        .hard_link("a", "d/c")
        .mode("a", 0o600);
    let top = Layer::new(dir.path().join("top"))
        .file("a", "the upper one is longer")
        .file("d/x", "")
        .hard_link("d/x", "d/c")
        .hard_link("d/x", "e/f/g")
        .time("e/f", 7, 8)
        .time("d", 9, 10);
    judge_everywhere(&[base.finish(), top.finish()]);
}

#[test]
fn whatever_is_in_the_way_is_replaced() {
    let dir = TempDir::new().unwrap();
    let names = ["dir", "file", "link", "fifo", "dev", "sock", "hard"];
    let fill = |mut layer: Layer, at: &str, turn: usize| {
        layer = layer.file(format!("{at}/first{turn}"), "first");
        for (number, name) in names.iter().enumerate() {
            let path = format!("{at}/{name}");
            layer = match (number + turn) % names.len() {
                0 => layer
                    .file(format!("{path}/deep/er"), "x")
                    .fifo(format!("{path}/f")),
                1 => layer.file(path, "content"),
                2 => layer.symlink(path, "first0"),
                3 => layer.fifo(path),
                4 => layer.char_device(path, 5, 1),
                5 => layer.socket(path),
                _ => layer.hard_link(format!("{at}/first{turn}"), path),
            };
        }
        layer
    };
    let branches: Vec<_> = (0..names.len())
        .map(|turn| {
            let layer = Layer::new(dir.path().join(format!("layer{turn}")));
            fill(fill(layer, "a", turn), "b/c", turn * 2).finish()
        })
        .collect();
    judge_everywhere(&branches);
}

#[test]
fn opaque_directories_and_removed_names_hide_what_lies_below() {
    let dir = TempDir::new().unwrap();
    let base = Layer::new(dir.path().join("lower"))
        .file("d/one/two/three", "x")
        .symlink("d/link", "/etc")
        .file("e/stays", "")
        .file("e/goes/a/b", "")
        .file("gone", "");
    let top = Layer::new(dir.path().join("top"))
        .opaque("d")
        .file("d/one/new", "y")
        .whiteout("e/goes")
        .whiteout("gone")
        .whiteout("never/there");
    let root = Layer::new(dir.path().join("root"))
        .opaque("")
        .file("only", "");
    judge_everywhere(&[base.finish(), top.finish(), root.finish()]);
}

#[test]
fn attributes_of_directories_below_are_replaced_and_not_added_to() {
    let dir = TempDir::new().unwrap();
    let base = Layer::new(dir.path().join("lower"))
        .dir("d")
        .owner("d", 1, 2)
        .mode("d", 0o1777)
        .xattr("d", "user.old", b"1")
        .xattr("d", "trusted.both", b"below")
        .xattr("d", "system.posix_acl_access", &acl(7))
        .xattr("", "user.root", b"x");
    let top = Layer::new(dir.path().join("top"))
        .dir("d")
        .mode("d", 0o500)
        .xattr("d", "trusted.both", b"above")
        .time("d", -5, 123)
        .time("", 1, 2);
    judge_everywhere(&[base.finish(), top.finish()]);
}

fn noise(length: usize) -> Vec<u8> {
    let mut random = Random(1);
    let words = length.div_ceil(8);
    let bytes = (0..words).flat_map(|_| random.next().to_le_bytes());
    bytes.take(length).collect()
}

#[test]
fn large_and_sparse_files_are_whole() {
    let dir = TempDir::new().unwrap();
    let bytes = noise(100 << 20);
    let end = (300_u64 << 20) - 10;
    let base = Layer::new(dir.path().join("lower"))
        .file("large", &bytes)
        .owner("large", 3, 4)
        .mode("large", 0o6755)
        .time("large", 12, 34)
        .sparse(
            "holes",
            300 << 20,
            &[(1 << 20, &bytes[..40 << 20]), (end, &bytes[..10])],
        )
        .sparse(
            "tail",
            50_000_000,
            &[(0, b"x"), (9_000_000, &bytes[..1_000_000])],
        )
        .sparse("nothing", 1 << 40, &[])
        .file("buffer", &bytes[..256 << 10])
        .file("more", &bytes[..=256 << 10])
        .time("", 5, 6)
        .finish();
    for (disk, _dir) in file_systems() {
        // Read below, and a tebibyte takes its time.
        let layer = layer(&base);
        let rootfs = subdirectory(disk.path(), "rootfs");
        apply(&layer, &rootfs, &pool(4)).unwrap();
        assert_times(&layer, &rootfs);
        for name in ["large", "holes", "tail", "buffer", "more"] {
            let [expected, found] = [&base, &rootfs].map(|dir| fs::read(dir.join(name)).unwrap());
            assert!(expected == found, "{name}");
        }
        let stat = |name: &str| rootfs.join(name).metadata().unwrap();
        assert_eq!(stat("nothing").len(), 1 << 40);
        assert_eq!(stat("nothing").blocks(), 0);
        assert!(stat("holes").blocks() * 512 < 50 << 20);
        let large = stat("large");
        assert_eq!(
            (large.uid(), large.gid(), large.mode() & 0o7777),
            (3, 4, 0o6755)
        );
        assert!(!large.file_type().is_fifo());
    }
}

#[test]
fn a_directory_of_many_files_and_a_crowd_of_directories_are_whole() {
    let dir = in_memory();
    let branch = subdirectory(dir.path(), "branch");
    let crowd = subdirectory(&branch, "crowd");
    for number in 0..70_000 {
        fs::write(crowd.join(number.to_string()), number.to_string()).unwrap();
    }
    for number in 0..1500 {
        let inner = branch.join(format!("many/{}/{number}", number % 3));
        fs::create_dir_all(&inner).unwrap();
        fs::hard_link(crowd.join(number.to_string()), inner.join("link")).unwrap();
    }
    let disk = Mounted::made("ext4", Bytes::mib(1500), dir.path());
    judge(&[branch], &subdirectory(disk.path(), "rootfs"));
}
