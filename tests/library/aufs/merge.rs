//! Branches put one on another: rule by rule, by the tar's order, and random stacks against the reference merge.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use aufs2dm::aufs::{Error, Finding, read_branch};
use flate2::Compression;
use flate2::write::GzEncoder;
use proptest::test_runner::{Config, TestCaseError, TestRunner};
use tempfile::TempDir;

use super::branch::{Make, listing, read};
use crate::support::apply::apply_layers;
use crate::support::compare::{assert_same, compare};
use crate::support::layer::Layer;
use crate::support::merge::reference_merge;
use crate::support::merged::{Entry, Kind, MergedTree};
use crate::support::random::{Stack, random_stack};
use crate::support::walk::walk;

/// A lower and an upper branch, and the paths that show.
const LAYERS: &[(&str, Make, Make, &[&str])] = &[
    (
        "directory over file",
        |l| l.file("x", ""),
        |l| l.file("x/y", ""),
        &["/", "/x", "/x/y"],
    ),
    (
        "file over directory",
        |l| l.file("x/y", ""),
        |l| l.file("x", ""),
        &["/", "/x"],
    ),
    (
        "nothing to delete",
        |l| l.file("x", ""),
        |l| l.whiteout("y"),
        &["/", "/x"],
    ),
    (
        "deleted directory",
        |l| l.file("x/y", ""),
        |l| l.whiteout("x"),
        &["/"],
    ),
    (
        "opaque root",
        |l| l.file("x", ""),
        |l| l.opaque("").dir("d"),
        &["/", "/d"],
    ),
    (
        "opaque directory",
        |l| l.file("x/y", ""),
        |l| l.file("x/z", "").opaque("x"),
        &["/", "/x", "/x/z"],
    ),
    (
        "merged directory",
        |l| l.file("x/y", ""),
        |l| l.file("x/z", ""),
        &["/", "/x", "/x/y", "/x/z"],
    ),
    (
        "hidden by its whiteout",
        |l| l.file("x", ""),
        |l| l.whiteout("x").file("x", ""),
        &["/"],
    ),
    (
        "symlink over directory",
        |l| l.file("x/y", ""),
        |l| l.symlink("x", "/"),
        &["/", "/x"],
    ),
];

#[test]
fn layers_change_each_other_as_under_aufs() {
    for (what, lower, upper, expected) in LAYERS {
        let branches = [read(lower), read(upper)];
        let layers: Vec<_> = branches
            .iter()
            .map(|read| (read.branch.tree.clone(), read.dir.path().join("branch")))
            .collect();
        let found = apply_layers(&layers);
        let paths: Vec<_> = found
            .entries
            .keys()
            .map(|path| path.escape_ascii().to_string())
            .collect();
        assert_eq!(&paths, expected, "{what}");
    }
}

/// A tar-split with entries of these names.
fn tar_split(dir: &Path, names: &[&str]) -> PathBuf {
    let path = dir.join("tar-split.json.gz");
    let mut encoder = GzEncoder::new(File::create(&path).unwrap(), Compression::fast());
    for (position, name) in names.iter().enumerate() {
        writeln!(
            encoder,
            r#"{{"type":2,"payload":"AAAA","position":{}}}"#,
            position * 2
        )
        .unwrap();
        writeln!(
            encoder,
            r#"{{"type":1,"name":"{name}","payload":null,"position":{}}}"#,
            position * 2 + 1
        )
        .unwrap();
    }
    encoder.finish().unwrap();
    path
}

#[test]
fn the_tar_decides_between_a_name_and_its_whiteout() {
    let dir = TempDir::new().unwrap();
    let branch = Layer::new(dir.path().join("branch"))
        .whiteout("d/x")
        .file("d/x", "")
        .whiteout("t")
        .file("t/u", "")
        .finish();
    let read_with =
        |names: &[&str]| read_branch(&branch, Some(&tar_split(dir.path(), names))).unwrap();

    let kept = read_with(&["d/.wh.x", "d/x", "./.wh.t", "./t/", "./t/u"]);
    assert_eq!(listing(&kept.tree, ""), ["=d", "=t"]);
    assert_eq!(listing(&kept.tree, "d"), ["=x"]);
    assert_eq!(
        listing(&kept.tree, "t"),
        ["*", "=u"],
        "the lower t stays deleted"
    );

    let hidden = read_with(&["d/x", "d/.wh.x", "t/", "t/u", ".wh.t"]);
    assert_eq!(listing(&hidden.tree, ""), ["-t", "=d"]);
    assert_eq!(listing(&hidden.tree, "d"), ["-x"]);
    assert_eq!(
        hidden.tree.nr_nodes(),
        2,
        "nothing hidden stays in the tree"
    );

    let missing = read_branch(&branch, Some(&dir.path().join("none"))).unwrap();
    assert_eq!(listing(&missing.tree, ""), ["-t", "=d"]);
}

#[test]
fn a_directory_with_a_whiteouts_name_deletes_only_if_the_tar_has_an_entry_for_it() {
    let dir = TempDir::new().unwrap();
    let branch = Layer::new(dir.path().join("branch"))
        .file(".wh.usr/share/doc", "")
        .file("usr/new", "")
        .file("d/.wh..wh..opq/x", "")
        .finish();
    let read_with =
        |names: &[&str]| read_branch(&branch, Some(&tar_split(dir.path(), names))).unwrap();

    let only_below = read_with(&[".wh.usr/share/doc", "usr/new", "d/", "d/.wh..wh..opq/x"]);
    assert_eq!(listing(&only_below.tree, ""), ["=.wh.usr", "=d", "=usr"]);
    assert_eq!(listing(&only_below.tree, "d"), ["=.wh..wh..opq"]);
    let irregular = |path: &str, deletes| Finding::IrregularWhiteout {
        path: path.as_bytes().into(),
        deletes,
        is_kept: true,
    };
    let found = &only_below.findings;
    assert_eq!(
        *found,
        [
            irregular(".wh.usr", false),
            irregular("d/.wh..wh..opq", false)
        ]
    );

    let own = read_with(&[
        ".wh.usr/",
        ".wh.usr/share/doc",
        "usr/new",
        "d/.wh..wh..opq/",
    ]);
    assert_eq!(listing(&own.tree, ""), ["=.wh.usr", "=d", "=usr"]);
    assert_eq!(listing(&own.tree, "usr"), ["*", "=new"]);
    assert_eq!(listing(&own.tree, "d"), ["*", "=.wh..wh..opq"]);
    assert!(own.findings.contains(&irregular(".wh.usr", true)));

    let without = read_branch(&branch, None).unwrap();
    assert_eq!(listing(&without.tree, ""), ["-usr", "=.wh.usr", "=d"]);
}

#[test]
fn a_damaged_tar_split_counts_only_where_it_is_needed() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("tar-split.json.gz");
    std::fs::write(&path, "no gzip").unwrap();
    let plain = Layer::new(dir.path().join("plain")).whiteout("x").finish();
    let torn = Layer::new(dir.path().join("torn"))
        .whiteout("x")
        .file("x", "")
        .finish();
    assert!(read_branch(&plain, Some(&path)).is_ok());
    let error = read_branch(&torn, Some(&path)).unwrap_err();
    assert!(matches!(error, Error::TarSplit { .. }), "{error}");
}

#[test]
fn random_stacks_merge_as_the_reference_says() {
    let mut runner = TestRunner::new(Config {
        cases: 40,
        failure_persistence: None,
        ..Config::default()
    });
    runner
        .run(&proptest::num::u64::ANY, |seed| {
            let stack = random_stack(seed);
            let layers: Vec<_> = stack
                .branches
                .iter()
                .map(|dir| (read_branch(dir, None).unwrap().tree, dir.clone()))
                .collect();
            let differences = compare(&reference_merge(&stack.branches), &apply_layers(&layers));
            match differences.first() {
                None => Ok(()),
                Some(first) => Err(TestCaseError::fail(format!("seed {seed}: {first}"))),
            }
        })
        .unwrap();
}

#[test]
fn one_branch_merges_to_itself() {
    let dir = TempDir::new().unwrap();
    let branch = Layer::new(dir.path().join("branch"))
        .file("a/b", "x")
        .hard_link("a/b", "c")
        .symlink("a/s", "b")
        .finish();
    let walked = walk(&branch);
    assert_same(
        "reference",
        &walked,
        &reference_merge(std::slice::from_ref(&branch)),
    );
    let tree = read_branch(&branch, None).unwrap().tree;
    assert_same("reader", &walked, &apply_layers(&[(tree, branch)]));
}

/// The random stacks are only worth something when they hold what branches can hold.
#[test]
fn random_stacks_hold_everything_a_branch_can() {
    let mut seen = BTreeSet::new();
    for seed in 0..20 {
        let stack = random_stack(seed);
        see_entries(&reference_merge(&stack.branches), &mut seen);
        see_branches(&stack, &mut seen);
    }
    for expected in EVERYTHING {
        assert!(seen.contains(*expected), "{expected} among {seen:?}");
    }
}

const EVERYTHING: &[&str] = &[
    "directory",
    "regular",
    "symlink",
    "char",
    "block",
    "fifo",
    "socket",
    "hard link",
    "long name",
    "whiteout",
    "opaque",
    "conflict",
    "pseudo-link",
    "trusted.t",
    "user.1",
    "security.capability",
    "system.posix_acl_access",
    "system.posix_acl_default",
];

fn see_entries(tree: &MergedTree, seen: &mut BTreeSet<String>) {
    for (path, entry) in &tree.entries {
        let Entry { kind, xattrs, .. } = entry;
        let kind = match kind {
            Kind::Directory => "directory",
            Kind::Regular { .. } => "regular",
            Kind::Symlink(_) => "symlink",
            Kind::Char(..) => "char",
            Kind::Block(..) => "block",
            Kind::Fifo => "fifo",
            Kind::Socket => "socket",
        };
        seen.insert(kind.to_owned());
        seen.extend(xattrs.keys().map(|name| name.escape_ascii().to_string()));
        let name = path.rsplit(|&byte| byte == b'/').next().unwrap();
        for (what, there) in [
            ("hard link", entry.group.is_some()),
            ("long name", name.len() == 255),
        ] {
            seen.extend(there.then(|| what.to_owned()));
        }
    }
}

fn see_branches(stack: &Stack, seen: &mut BTreeSet<String>) {
    for branch in &stack.branches {
        let branch = read_branch(branch, None).unwrap();
        let found = |wanted: fn(&Finding) -> bool| branch.findings.iter().any(wanted);
        for (what, there) in [
            ("whiteout", branch.counts.whiteouts > 0),
            ("opaque", branch.counts.opaque_markers > 0),
            (
                "conflict",
                found(|finding| matches!(finding, Finding::Conflict { .. })),
            ),
            (
                "pseudo-link",
                found(|finding| matches!(finding, Finding::PseudoLink { .. })),
            ),
        ] {
            seen.extend(there.then(|| what.to_owned()));
        }
    }
}
