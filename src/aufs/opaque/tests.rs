use super::*;
use crate::tree::{Kind, Listing, Meta, NodeId};

/// A layer from lines: `d PATH` a directory, `o PATH` an opaque one, `f PATH` a file, `- PATH` a whiteout.
/// Parents must be listed; a path has no leading slash.
fn layer(lines: &[&str]) -> LayerTree {
    let mut tree = LayerTree::new(Meta::default());
    fill(&mut tree, LayerTree::ROOT, "", lines);
    tree
}

/// Fills the directory whose entries' paths begin with `prefix`.
fn fill(tree: &mut LayerTree, id: NodeId, prefix: &str, lines: &[&str]) {
    let marker = format!("o {}", prefix.trim_end_matches('/'));
    let mut listing = Listing {
        opaque: lines.contains(&marker.as_str()),
        ..Listing::default()
    };
    for line in lines {
        let (kind, path) = line.split_at(2);
        let Some(name) = path.strip_prefix(prefix) else {
            continue;
        };
        if name.is_empty() || name.contains('/') {
            continue;
        }
        if kind == "- " {
            listing.removed.push(name.as_bytes().into());
            continue;
        }
        let node = if kind == "f " {
            tree.add(Meta::default(), Kind::Fifo)
        } else {
            let node = tree.add(Meta::default(), Kind::Directory(Box::default()));
            fill(tree, node, &format!("{path}/"), lines);
            node
        };
        listing.entries.push((name.as_bytes().into(), node));
    }
    tree.set_directory(id, listing);
}

/// The doubled directories of a chain, bottom layer first, as `path upper/lower`.
fn doubles(chain: &[&[&str]]) -> Vec<String> {
    let mut markers = OpaqueDirs::default();
    let mut found = Vec::new();
    for (number, lines) in chain.iter().enumerate() {
        let (above, doubles) = markers.on_top(&number.to_string().into(), &layer(lines));
        markers = above;
        found.extend(doubles.iter().map(|double| {
            let path = double.path.escape_ascii();
            format!("{path} {}/{}", double.upper, double.lower)
        }));
    }
    found
}

#[test]
fn a_directory_marked_twice_is_found_whatever_lies_between() {
    assert_eq!(doubles(&[&["o a"], &["f x"], &["o a"]]), ["/a 2/0"]);
    assert_eq!(
        doubles(&[&["d a", "o a/b"], &["d a", "o a/b"]]),
        ["/a/b 1/0"]
    );
    assert_eq!(
        doubles(&[&["o a"], &["o a"], &["o a"]]),
        ["/a 1/0", "/a 2/1"]
    );
    assert_eq!(doubles(&[&["o "], &["o "]]), [" 1/0"]);
}

#[test]
fn a_marker_out_of_reach_does_not_count() {
    let none: [&str; 0] = [];
    assert_eq!(doubles(&[&["o a"], &["- a"], &["o a"]]), none);
    assert_eq!(doubles(&[&["o a"], &["f a"], &["o a"]]), none);
    assert_eq!(
        doubles(&[&["d a", "o a/b"], &["- a"], &["d a", "o a/b"]]),
        none
    );
    assert_eq!(
        doubles(&[&["d a", "o a/b"], &["o a"], &["d a", "o a/b"]]),
        none
    );
    assert_eq!(doubles(&[&["o a"], &["o a0"], &["o a-"]]), none);
}

#[test]
fn a_marker_stays_in_reach_below_a_directory_marked_twice() {
    let below = &["o a", "o a/b"][..];
    let found = doubles(&[below, &["o a"], &["d a", "o a/b"]]);
    assert_eq!(found, ["/a 1/0", "/a/b 2/0"]);
}

#[test]
fn siblings_do_not_see_each_other() {
    let (base, _) = OpaqueDirs::default().on_top(&"base".into(), &layer(&["f x"]));
    let (_, first) = base.on_top(&"one".into(), &layer(&["o a"]));
    let (_, second) = base.on_top(&"two".into(), &layer(&["o a"]));
    assert_eq!((first, second), (Vec::new(), Vec::new()));
}

#[test]
fn a_double_is_told_with_both_layers() {
    let double = DoubleOpaque {
        path: b"/a/\xff"[..].into(),
        upper: "new".into(),
        lower: "old".into(),
    };
    let text = double.to_string();
    assert!(
        text.starts_with("/a/\\xff: opaque in new and in old,"),
        "{text}"
    );
}
