use super::*;

fn file(tree: &mut LayerTree) -> NodeId {
    tree.add(
        Meta::default(),
        Kind::Regular(Regular {
            size: 0,
            segments: None,
        }),
    )
}

fn directory(tree: &mut LayerTree) -> NodeId {
    tree.add(Meta::default(), Kind::Directory(Box::default()))
}

fn fill(tree: &mut LayerTree, id: NodeId, entries: &[(&str, NodeId)]) {
    let entries = entries
        .iter()
        .map(|&(text, node)| (name(text), node))
        .collect();
    tree.set_directory(
        id,
        Listing {
            entries,
            ..Listing::default()
        },
    );
}

fn name(text: &str) -> Box<[u8]> {
    text.as_bytes().into()
}

#[test]
fn entries_and_removed_names_come_sorted() {
    let mut tree = LayerTree::new(Meta::default());
    let (a, b) = (file(&mut tree), file(&mut tree));
    let entries = vec![(name("b"), b), (name("a"), a)];
    let removed = vec![name("z"), name("y"), name("z")];
    tree.set_directory(
        LayerTree::ROOT,
        Listing {
            removed,
            entries,
            ..Listing::default()
        },
    );
    let root = tree.directory(LayerTree::ROOT).unwrap();
    assert_eq!(
        root.entries().map(|entry| entry.name).collect::<Vec<_>>(),
        [b"a", b"b"]
    );
    assert_eq!(root.removed().collect::<Vec<_>>(), [b"y", b"z"]);
    assert_eq!(root.entry(b"b"), Some(b));
    assert_eq!(root.entry(b"c"), None);
}

#[test]
fn a_hard_linked_node_has_the_path_of_its_first_name() {
    let mut tree = LayerTree::new(Meta::default());
    let (sub, node) = (directory(&mut tree), file(&mut tree));
    fill(&mut tree, LayerTree::ROOT, &[("x", node), ("sub", sub)]);
    fill(&mut tree, sub, &[("y", node)]);
    assert_eq!(tree.display_path(node), "/x");
    assert_eq!(tree.display_path(sub), "/sub");
    assert_eq!(tree.display_path(LayerTree::ROOT), "/");
}

#[test]
fn a_deep_node_has_its_whole_path_whatever_the_order_of_filling() {
    let mut tree = LayerTree::new(Meta::default());
    let (a, b, c) = (directory(&mut tree), directory(&mut tree), file(&mut tree));
    fill(&mut tree, b, &[("c", c)]);
    fill(&mut tree, a, &[("b", b)]);
    fill(&mut tree, LayerTree::ROOT, &[("a", a)]);
    assert_eq!(tree.path(c), [b"a", b"b", b"c"]);
}

#[test]
fn nodes_stay_small() {
    // Hosts have millions of files, which are all in memory at once during planning.
    assert!(size_of::<Node>() <= 88, "{}", size_of::<Node>());
}

#[test]
#[should_panic(expected = "disjoint")]
fn a_name_cannot_be_both_removed_and_an_entry() {
    let mut tree = LayerTree::new(Meta::default());
    let node = file(&mut tree);
    let listing = Listing {
        opaque: false,
        removed: vec![name("a")],
        entries: vec![(name("a"), node)],
    };
    tree.set_directory(LayerTree::ROOT, listing);
}
