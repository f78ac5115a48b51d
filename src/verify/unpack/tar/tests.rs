use super::*;
use crate::tree::{LayerTree, escape};
use crate::verify::unpack::finish::UnpackedLayer;

const NOBODY: Owner = Owner { uid: 0, gid: 0 };

fn header(name: &str, kind: HeaderKind) -> Header {
    Header {
        name: name.into(),
        kind,
        mode: 0o644,
        uid: 1,
        gid: 2,
        mtime: Timestamp::new(1000, 0),
        has_fraction: false,
        xattrs: Xattrs::default(),
    }
}

fn file(name: &str) -> Header {
    header(name, HeaderKind::Regular(0))
}

fn dir(name: &str) -> Header {
    header(name, HeaderKind::Directory)
}

fn link(name: &str, target: &str) -> Header {
    header(name, HeaderKind::HardLink(target.as_bytes().into()))
}

fn symlink(name: &str, target: &str) -> Header {
    header(name, HeaderKind::Symlink(target.as_bytes().into()))
}

fn unpacked(owner: Owner, headers: &[Header]) -> Result<UnpackedLayer, String> {
    let mut unpack = Unpack::new(owner, 0);
    for header in headers {
        unpack.header(Ok(header.clone()));
    }
    unpack.finish()
}

/// Paths; a removed name has a `-` before it, an opaque directory a `!` after it.
fn listed(headers: &[Header]) -> Vec<String> {
    let tree = unpacked(NOBODY, headers).unwrap().tree;
    let mut all = Vec::new();
    let mut pending = vec![(LayerTree::ROOT, String::new())];
    while let Some((node, path)) = pending.pop() {
        let Some(directory) = tree.directory(node) else {
            all.push(path);
            continue;
        };
        let opaque = if directory.is_opaque() { "!" } else { "" };
        all.push(format!("{path}/{opaque}"));
        let removed = directory.removed().map(escape);
        all.extend(removed.map(|name| format!("-{path}/{name}")));
        let entries = directory.entries();
        pending.extend(entries.map(|entry| (entry.node, format!("{path}/{}", escape(entry.name)))));
    }
    all.sort();
    all
}

#[test]
fn entries_whiteouts_and_implicit_directories_make_a_layer() {
    let found = listed(&[
        dir("./"),
        file("a/b/f"),
        file("a/.wh.gone"),
        file("o/.wh..wh..opq"),
        file(".wh..wh.aufs"),
        file(".wh..wh.plnk/1.2"),
        link("linked", ".wh..wh.plnk/1.2"),
    ]);
    let expected = ["-/a/gone", "/", "/a/", "/a/b/", "/a/b/f", "/linked", "/o/!"];
    assert_eq!(found, expected);
}

#[test]
fn the_later_entry_of_a_name_wins() {
    assert_eq!(listed(&[file("a/f"), file("a")]), ["/", "/a"]);
    assert_eq!(
        listed(&[file("a"), dir("a"), file("a/f")]),
        ["/", "/a/", "/a/f"]
    );
    assert_eq!(
        listed(&[dir("a"), file("a/f"), dir("a/")]),
        ["/", "/a/", "/a/f"]
    );
    // The same holds for a name and its whiteout.
    assert_eq!(listed(&[file("x"), file(".wh.x")]), ["-/x", "/"]);
    assert_eq!(listed(&[file(".wh.x"), file("x")]), ["/", "/x"]);
    assert_eq!(listed(&[file(".wh.a"), file("a/f")]), ["/", "/a/!", "/a/f"]);
}

#[test]
fn a_directory_with_a_whiteouts_name_keeps_its_names_and_deletes_if_it_has_an_entry() {
    assert_eq!(
        listed(&[dir(".wh.a"), file(".wh.a/f")]),
        ["-/a", "/", "/.wh.a/", "/.wh.a/f"]
    );
    assert_eq!(listed(&[file(".wh.a/f")]), ["/", "/.wh.a/", "/.wh.a/f"]);
    assert_eq!(listed(&[dir(".wh.a")]), ["-/a", "/"]);
    assert_eq!(listed(&[symlink(".wh.a", "b")]), ["-/a", "/"]);
}

#[test]
fn links_on_the_way_are_followed_in_the_layer() {
    let found = listed(&[dir("usr/lib"), symlink("lib", "/usr/lib"), file("lib/f")]);
    assert_eq!(found, ["/", "/lib", "/usr/", "/usr/lib/", "/usr/lib/f"]);
    let tree = unpacked(NOBODY, &[symlink("a", "a"), file("a/f")]);
    assert!(tree.unwrap_err().contains("not a directory"));
}

#[test]
fn owners_are_shifted_as_the_root_is() {
    let owner = Owner {
        uid: 100_000,
        gid: 200_000,
    };
    let huge = Header {
        uid: u64::MAX,
        ..file("huge")
    };
    let found = unpacked(owner, &[file("f"), huge]).unwrap();
    let root = found.tree.directory(LayerTree::ROOT).unwrap();
    let node = |name: &[u8]| root.entry(name).unwrap();
    let meta = &found.tree.node(node(b"f")).meta;
    assert_eq!((meta.uid, meta.gid), (100_001, 200_002));
    assert!(found.unsure(node(b"huge")).has(Unsure::OWNER));
}

#[test]
fn a_hard_link_leaves_its_files_mode_in_doubt_where_it_has_another() {
    let other = Header {
        mode: 0o600,
        ..link("b", "a")
    };
    for (second, doubt) in [(link("b", "a"), false), (other, true)] {
        let found = unpacked(NOBODY, &[file("a"), second]).unwrap();
        let root = found.tree.directory(LayerTree::ROOT).unwrap();
        let node = root.entry(b"a").unwrap();
        assert_eq!(root.entry(b"b"), Some(node));
        assert_eq!(found.unsure(node).has(Unsure::MODE), doubt);
    }
}

#[test]
fn a_tar_that_docker_cannot_have_unpacked_is_not_judged() {
    let deep = "d/".repeat(2100);
    let long = "n".repeat(256);
    for (headers, why) in [
        (vec![link("b", "a")], "hard link to /a"),
        (vec![dir("a"), link("b", "a")], "hard link to /a"),
        (vec![file("a"), file("a/b")], "not a directory"),
        (vec![header("s", HeaderKind::Other(b'S'))], "type 'S'"),
        (vec![file(&deep)], "longer than Linux allows"),
        (vec![file(&long)], "longer than Linux allows"),
        (vec![file(".")], "not a directory"),
    ] {
        let error = unpacked(NOBODY, &headers).unwrap_err();
        assert!(error.contains(why), "{error}");
    }
    let mut unpack = Unpack::new(NOBODY, 0);
    unpack.header(Err(HeaderError::Missing));
    assert!(unpack.finish().unwrap_err().contains("entry 1"));
}

#[test]
fn a_record_of_many_times_more_names_than_the_layer_has_is_given_up() {
    let mut unpack = Unpack::new(NOBODY, 10);
    for number in 0..FREE_ENTRIES + 200 {
        unpack.header(Ok(file(&number.to_string())));
    }
    assert!(unpack.finish().unwrap_err().contains("many times more"));
    // A path through many symbolic links counts by its steps.
    let mut unpack = Unpack::new(NOBODY, 0);
    let target = format!("{}..", "x/../".repeat(800));
    unpack.header(Ok(dir("x")));
    unpack.header(Ok(symlink("l", &target)));
    for number in 0..4000 {
        let name = format!("{}{number}/f", "l/".repeat(30));
        unpack.header(Ok(file(&name)));
    }
    assert!(unpack.finish().unwrap_err().contains("symbolic links"));
}
