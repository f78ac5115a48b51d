//! Random stacks of layers: converted, nothing differs; changed afterwards in one place of one branch, that is found.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt, PermissionsExt, lchown, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use aufs2dm::aufs::read_branch;
use aufs2dm::tree::{Kind, LayerTree};
use aufs2dm::verify::{Mode, Report, Tree, Verdict};
use nix::fcntl::AT_FDCWD;
use nix::sys::stat::{Mode as FileMode, UtimensatFlags, utimensat};
use nix::sys::time::TimeSpec;
use nix::unistd::mkfifo;

use super::reports::{Parts, convert, verified};
use crate::support::merge::reference_merge;
use crate::support::random::{Random, random_stack};
use crate::support::root::AufsRoot;
use crate::support::walk::os;

/// A root whose layers are the branches of the seed's stack.
fn root_of(seed: u64) -> (AufsRoot, Vec<PathBuf>) {
    let stack = random_stack(seed);
    let root = AufsRoot::new();
    let aufs = root.path().join("aufs");
    let mut below = String::new();
    let mut branches = Vec::new();
    for (at, branch) in stack.branches.iter().enumerate() {
        let name = format!("layer{at}");
        let moved = aufs.join("diff").join(&name);
        fs::rename(branch, &moved).unwrap();
        fs::write(aufs.join("layers").join(&name), &below).unwrap();
        below = format!("{name}\n{below}");
        branches.push(moved);
    }
    (root, branches)
}

fn check(root: &AufsRoot) -> Report {
    verified(&root.path(), Parts::Both, Mode::Full)
}

/// What is changed in a branch; what else such a change moves is put back.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Change {
    Mode,
    Owner,
    Time,
    Xattr,
    Byte,
    Longer,
    NewFile,
    NewLink,
    NewSymlink,
    Gone,
    Renamed,
    OtherType,
    BrokenLink,
    Whiteout,
    Hole,
}

const CHANGES: [Change; 15] = [
    Change::Mode,
    Change::Owner,
    Change::Time,
    Change::Xattr,
    Change::Byte,
    Change::Longer,
    Change::NewFile,
    Change::NewLink,
    Change::NewSymlink,
    Change::Gone,
    Change::Renamed,
    Change::OtherType,
    Change::BrokenLink,
    Change::Whiteout,
    Change::Hole,
];

/// Times of files before a change.
struct Times(Vec<(PathBuf, TimeSpec, TimeSpec)>);

impl Times {
    fn of(paths: &[&Path]) -> Self {
        let times = |path: &&Path| {
            let stat = path.symlink_metadata().unwrap();
            let (atime, mtime) = (stat.atime(), stat.mtime());
            (
                path.to_path_buf(),
                TimeSpec::new(atime, stat.atime_nsec()),
                TimeSpec::new(mtime, stat.mtime_nsec()),
            )
        };
        Self(paths.iter().map(times).collect())
    }

    fn put_back(&self) {
        for (path, atime, mtime) in &self.0 {
            if path.symlink_metadata().is_ok() {
                let flags = UtimensatFlags::NoFollowSymlink;
                utimensat(AT_FDCWD, path, atime, mtime, flags).unwrap();
            }
        }
    }
}

/// The layer's own entries that fit the change: paths in the branch.
fn candidates(change: Change, branches: &[PathBuf], at: usize) -> Vec<PathBuf> {
    let branch = &branches[at];
    let tree = read_branch(branch, None).unwrap().tree;
    let path = |node| {
        let components = tree.path(node);
        components
            .iter()
            .fold(branch.clone(), |path, name| path.join(os(name)))
    };
    if change == Change::Whiteout {
        return hideable(branches, at, &tree);
    }
    let fits = |kind: &Kind| match change {
        Change::Mode | Change::Xattr => !matches!(kind, Kind::Symlink(_)),
        Change::Owner | Change::Time => true,
        Change::Byte => {
            matches!(kind, Kind::Regular(file) if file.size > 0 && file.segments.is_none())
        }
        Change::Hole => matches!(kind, Kind::Regular(file) if file.size == 0),
        Change::Longer => matches!(kind, Kind::Regular(_)),
        Change::NewFile | Change::NewSymlink => matches!(kind, Kind::Directory(_)),
        Change::NewLink
        | Change::Gone
        | Change::Renamed
        | Change::OtherType
        | Change::BrokenLink => !matches!(kind, Kind::Directory(_)),
        Change::Whiteout => unreachable!("returned above"),
    };
    let nodes = tree.nodes().filter(|(_, node)| fits(&node.kind));
    let mut paths: Vec<_> = nodes.map(|(node, _)| path(node)).collect();
    if change == Change::BrokenLink {
        let all: Vec<u64> = visible_inodes(branch, &tree);
        paths.retain(|path| {
            let ino = path.symlink_metadata().unwrap().ino();
            all.iter().filter(|other| **other == ino).count() > 1
        });
    }
    paths.sort();
    paths
}

/// The inode number behind every name of a branch that is not aufs's own.
fn visible_inodes(branch: &Path, tree: &LayerTree) -> Vec<u64> {
    let mut inodes = Vec::new();
    for (node, _) in tree.nodes() {
        let Some(directory) = tree.directory(node) else {
            continue;
        };
        let components = tree.path(node);
        let at = components
            .iter()
            .fold(branch.to_owned(), |path, name| path.join(os(name)));
        inodes.extend(
            directory
                .entries()
                .map(|entry| at.join(os(entry.name)).symlink_metadata().unwrap().ino()),
        );
    }
    inodes
}

/// Where a whiteout would hide something of the layers below that shows through this one.
fn hideable(branches: &[PathBuf], at: usize, tree: &LayerTree) -> Vec<PathBuf> {
    let merged = reference_merge(&branches[..=at]);
    let branch = &branches[at];
    let mut paths = Vec::new();
    for path in merged.entries.keys().skip(1) {
        let slash = path.iter().rposition(|&byte| byte == b'/').unwrap();
        let (above, name) = (&path[1..slash.max(1)], &path[slash + 1..]);
        let mut node = Some(LayerTree::ROOT);
        for component in above
            .split(|&byte| byte == b'/')
            .filter(|name| !name.is_empty())
        {
            node = node.and_then(|node| tree.directory(node)?.entry(component));
        }
        let own = node
            .and_then(|node| tree.directory(node))
            .map(|dir| dir.entry(name));
        if own == Some(None) && name.len() <= 242 {
            let whiteout = [b".wh.", name].concat();
            paths.push(branch.join(os(above)).join(os(&whiteout)));
        }
    }
    paths
}

#[allow(clippy::too_many_lines)] // one arm for each kind of change
fn apply(change: Change, path: &Path, random: &mut Random) {
    let parent = path.parent().unwrap();
    let of_file = || Times::of(&[path]);
    let of_parent = || Times::of(&[parent]);
    let beside = parent.join(format!("added{}", random.below(1000)));
    match change {
        Change::Mode => {
            let mode = path.symlink_metadata().unwrap().permissions().mode();
            fs::set_permissions(path, fs::Permissions::from_mode(mode ^ 0o1)).unwrap();
        }
        Change::Owner => {
            let uid = path.symlink_metadata().unwrap().uid();
            lchown(path, Some(uid ^ 1), None).unwrap();
        }
        Change::Time => {
            let mut times = of_file();
            let mtime = &mut times.0[0].2;
            *mtime = TimeSpec::new(mtime.tv_sec(), mtime.tv_nsec() ^ 1);
            times.put_back();
        }
        Change::Xattr => xattr::set(path, "trusted.added", b"x").unwrap(),
        Change::Byte => {
            let times = of_file();
            let file = OpenOptions::new()
                .read(true)
                .write(true)
                .open(path)
                .unwrap();
            let at = random.below(file.metadata().unwrap().len());
            let mut byte = [0];
            file.read_exact_at(&mut byte, at).unwrap();
            file.write_all_at(&[byte[0] ^ 1], at).unwrap();
            times.put_back();
        }
        Change::Longer | Change::Hole => {
            let times = of_file();
            let file = OpenOptions::new().write(true).open(path).unwrap();
            let by = if change == Change::Hole { 1 << 20 } else { 1 };
            file.set_len(file.metadata().unwrap().len() + by).unwrap();
            times.put_back();
        }
        Change::NewFile | Change::NewSymlink => {
            let times = of_file();
            let new = path.join("added");
            if change == Change::NewFile {
                fs::write(new, "").unwrap();
            } else {
                symlink("x", new).unwrap();
            }
            times.put_back();
        }
        Change::NewLink => {
            let times = of_parent();
            fs::hard_link(path, beside).unwrap();
            times.put_back();
        }
        Change::Gone => {
            let times = of_parent();
            fs::remove_file(path).unwrap();
            times.put_back();
        }
        Change::Renamed => {
            let times = of_parent();
            fs::rename(path, beside).unwrap();
            times.put_back();
        }
        Change::OtherType => {
            let (of_parent, of_file) = (of_parent(), of_file());
            let was_fifo = path.symlink_metadata().unwrap().file_type().is_fifo();
            fs::remove_file(path).unwrap();
            if was_fifo {
                File::create(path).unwrap();
            } else {
                mkfifo(path, FileMode::S_IRWXU).unwrap();
            }
            of_file.put_back();
            of_parent.put_back();
        }
        Change::BrokenLink => {
            let times = of_parent();
            run("cp", &["-a", "--no-dereference"], &[path, &beside]);
            fs::rename(&beside, path).unwrap();
            times.put_back();
        }
        Change::Whiteout => {
            let times = of_parent();
            File::create(path).unwrap();
            times.put_back();
        }
    }
}

fn run(program: &str, options: &[&str], paths: &[&Path]) {
    let status = Command::new(program)
        .args(options)
        .arg("--")
        .args(paths)
        .status();
    assert!(status.unwrap().success(), "{program} {paths:?}");
}

#[test]
fn converted_stacks_differ_in_nothing() {
    for seed in 100..106 {
        let (root, branches) = root_of(seed);
        convert(&root.path());
        let report = check(&root);
        assert_eq!(report.verdict, Verdict::Sound, "seed {seed}: {report}");
        let spaced = report.layers.iter().find(|layer| !layer.space.is_empty());
        assert!(spaced.is_none(), "seed {seed}: {spaced:?}");
        let same = report
            .layers
            .iter()
            .filter(|layer| matches!(layer.tree, Tree::Same { entries: 1.. }));
        assert!(same.count() + 1 >= branches.len(), "seed {seed}: {report}");
    }
}

#[test]
fn any_single_change_of_a_branch_is_found() {
    let mut tried = 0;
    for seed in 200..203 {
        let (root, branches) = root_of(seed);
        convert(&root.path());
        let mut random = Random(seed);
        for change in CHANGES {
            let at = usize::try_from(random.below(branches.len() as u64)).unwrap();
            let all = candidates(change, &branches, at);
            if all.is_empty() {
                continue;
            }
            let chosen = usize::try_from(random.below(all.len() as u64)).unwrap();
            let path = &all[chosen];
            let kept = root.path().join("aufs/kept");
            run("cp", &["-a"], &[&branches[at], &kept]);
            apply(change, path, &mut random);
            let report = check(&root);
            let place = path.display();
            assert_eq!(
                report.verdict,
                Verdict::Wrong,
                "seed {seed}: {change:?} of {place}"
            );
            fs::remove_dir_all(&branches[at]).unwrap();
            fs::rename(&kept, &branches[at]).unwrap();
            tried += 1;
        }
        let report = check(&root);
        assert_eq!(
            report.verdict,
            Verdict::Sound,
            "seed {seed}, put back: {report}"
        );
    }
    assert!(tried > 35, "{tried}");
}
