//! Compares two readings of one layer.

use super::display::escape_path;
use super::layer::{Directory, LayerTree, NodeId};
use super::meta::Meta;

/// The first difference between two readings of one layer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The entry within the layer, escaped.
    pub path: String,
    /// What happened to it: `was added`, `was removed`, `changed`, …
    pub what: &'static str,
}

/// The first difference between a layer's earlier and later state. Access times are ignored, because reading changes
/// them. Everything else counts, including the change time, which no program can set.
pub fn first_difference(before: &LayerTree, after: &LayerTree) -> Option<Difference> {
    let mut pairing = vec![None; before.nr_nodes()];
    let mut stack = vec![(LayerTree::ROOT, LayerTree::ROOT)];
    // Reported only if there is nothing else: replacing an entry changes its directory's times too.
    let mut directory = None;
    while let Some((old, new)) = stack.pop() {
        match pairing[old.index()] {
            // Another name of a file that was already compared.
            Some(paired) if paired == new => continue,
            Some(_) => return Some(at(before, old, "changed its hard links")),
            None => pairing[old.index()] = Some(new),
        }
        if let (Some(was), Some(is)) = (before.directory(old), after.directory(new)) {
            if let Some((name, what)) = names(was, is) {
                let mut path = before.path(old);
                path.extend(name);
                return Some(Difference {
                    path: escape_path(path),
                    what,
                });
            }
            let pairs = was.entries().zip(is.entries());
            stack.extend(pairs.map(|(was, is)| (was.node, is.node)));
            if !same_meta(&before.node(old).meta, &after.node(new).meta) {
                directory.get_or_insert(old);
            }
        } else if before.node(old).kind != after.node(new).kind
            || !same_meta(&before.node(old).meta, &after.node(new).meta)
        {
            return Some(at(before, old, "changed"));
        }
    }
    directory.map(|node| at(before, node, "changed"))
}

fn at(tree: &LayerTree, node: NodeId, what: &'static str) -> Difference {
    Difference {
        path: tree.display_path(node),
        what,
    }
}

/// The first difference in a directory's own part: the name, `None` for the directory itself, and what happened to it.
fn names<'a>(was: &'a Directory, is: &'a Directory) -> Option<(Option<&'a [u8]>, &'static str)> {
    let added = is.entries().find(|new| was.entry(new.name).is_none());
    let gone = was.entries().find(|old| is.entry(old.name).is_none());
    let hidden = is.removed().find(|name| !was.removes(name));
    let shown = was.removed().find(|name| !is.removes(name));
    if let Some(entry) = added {
        Some((Some(entry.name), "was added"))
    } else if let Some(entry) = gone {
        Some((Some(entry.name), "was removed"))
    } else if let Some(name) = hidden {
        Some((Some(name), "gained a whiteout"))
    } else if let Some(name) = shown {
        Some((Some(name), "lost its whiteout"))
    } else if was.is_opaque() != is.is_opaque() {
        Some((None, "became opaque or stopped being opaque"))
    } else {
        None
    }
}

fn same_meta(was: &Meta, is: &Meta) -> bool {
    let identity = |meta: &Meta| (meta.mode, meta.uid, meta.gid, meta.mtime, meta.ctime);
    identity(was) == identity(is) && was.xattrs == is.xattrs
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::layer::{Kind, Listing, Regular};
    use crate::tree::meta::Timestamp;

    /// A directory `d` with `a`, an empty file, and its second name `b`.
    fn tree(change: impl FnOnce(&mut LayerTree, &mut Listing)) -> LayerTree {
        let mut tree = LayerTree::new(Meta::default());
        let directory = tree.add(Meta::default(), Kind::Directory(Box::default()));
        let kind = Kind::Regular(Regular {
            size: 0,
            segments: None,
        });
        let file = tree.add(Meta::default(), kind);
        let mut listing = Listing {
            removed: vec![b"gone".as_slice().into()],
            entries: vec![
                (b"a".as_slice().into(), file),
                (b"b".as_slice().into(), file),
            ],
            ..Listing::default()
        };
        change(&mut tree, &mut listing);
        tree.set_directory(directory, listing);
        let root = Listing {
            entries: vec![(b"d".as_slice().into(), directory)],
            ..Listing::default()
        };
        tree.set_directory(LayerTree::ROOT, root);
        tree
    }

    #[track_caller]
    fn differs(change: impl FnOnce(&mut LayerTree, &mut Listing), path: &str, what: &str) {
        let found = first_difference(&tree(|_, _| {}), &tree(change)).unwrap();
        assert_eq!((found.path.as_str(), found.what), (path, what));
    }

    #[test]
    fn what_is_the_same_has_no_difference() {
        let same = tree(|tree, listing| {
            tree.node_mut(listing.entries[0].1).meta.atime = Timestamp::new(9, 9);
            listing.entries.reverse();
        });
        assert_eq!(first_difference(&tree(|_, _| {}), &same), None);
    }

    #[test]
    fn names_that_come_and_go_are_named() {
        differs(
            |tree, listing| {
                let node = tree.add(Meta::default(), Kind::Fifo);
                listing.entries.push((b"n".as_slice().into(), node));
            },
            "/d/n",
            "was added",
        );
        differs(
            |_, listing| drop(listing.entries.pop()),
            "/d/b",
            "was removed",
        );
        differs(
            |_, listing| listing.removed.push(b"more".as_slice().into()),
            "/d/more",
            "gained a whiteout",
        );
        differs(
            |_, listing| listing.removed.clear(),
            "/d/gone",
            "lost its whiteout",
        );
        differs(
            |_, listing| listing.opaque = true,
            "/d",
            "became opaque or stopped being opaque",
        );
    }

    #[test]
    fn an_entry_that_changed_is_named() {
        differs(
            |tree, listing| tree.node_mut(listing.entries[0].1).meta.ctime = Timestamp::new(1, 0),
            "/d/a",
            "changed",
        );
        differs(
            |tree, listing| {
                let other = tree.add(Meta::default(), Kind::Symlink(b"x".as_slice().into()));
                for entry in &mut listing.entries {
                    entry.1 = other;
                }
            },
            "/d/a",
            "changed",
        );
    }

    #[test]
    fn a_link_that_became_a_file_of_its_own_is_named() {
        differs(
            |tree, listing| {
                let node = tree.node(listing.entries[1].1).clone();
                listing.entries[1].1 = tree.add(node.meta, node.kind);
            },
            "/d/a",
            "changed its hard links",
        );
    }
}
