//! Finds the files that a tar names in a tree, as Docker finds them: always below the layer's root, whatever the
//! symbolic links say.

use std::collections::VecDeque;

/// Maximum number of symbolic links in one path, as in Linux.
const MAX_LINKS: usize = 40;

/// Number of names that may be walked through in addition to 256 for each path.
const FREE_STEPS: u64 = 1_000_000;

/// The target of a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step<'a, N> {
    /// A directory.
    Directory(N),
    /// A symbolic link with this target.
    Symlink(N, &'a [u8]),
    /// Anything else.
    Other(N),
}

/// A tree of directories with names in them.
pub(super) trait Names {
    /// An entry.
    type Node: Copy;

    /// The root directory.
    fn root(&self) -> Self::Node;

    /// The entry under a name in a directory.
    fn step(&self, directory: Self::Node, name: &[u8]) -> Option<Step<'_, Self::Node>>;
}

/// The target of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place<N> {
    /// This entry, of any type; a symbolic link at the end of the path is not followed.
    Entry(N),
    /// Nothing.
    Absent,
    /// Nothing, and something in the path is not a directory.
    Blocked,
    /// Unknown: the paths lead through more symbolic links than any layer has.
    Far,
}

/// Finds paths in a tree. The next path is mostly in the same directory, so the last directory is remembered.
#[derive(Debug)]
pub(super) struct Finder<'t, T: Names> {
    tree: &'t T,
    last: Option<(Box<[u8]>, T::Node)>,
    /// Number of names that may still be walked through.
    steps: u64,
}

impl<'t, T: Names> Finder<'t, T> {
    pub(super) fn new(tree: &'t T) -> Self {
        Self {
            tree,
            last: None,
            steps: FREE_STEPS,
        }
    }

    /// The target of `path`, which is relative and has no `.`, `..` or empty components.
    pub(super) fn find(&mut self, path: &[u8]) -> Place<T::Node> {
        self.steps = self.steps.saturating_add(256);
        if path.is_empty() {
            return Place::Entry(self.tree.root());
        }
        let cut = path.iter().rposition(|&byte| byte == b'/');
        let (above, name) = match cut {
            Some(at) => (&path[..at], &path[at + 1..]),
            None => (&path[..0], path),
        };
        let directory = match &self.last {
            Some((known, node)) if **known == *above => *node,
            _ => match walk(self.tree, above, &mut self.steps) {
                Ok(node) => {
                    self.last = Some((above.into(), node));
                    node
                }
                Err(place) => return place,
            },
        };
        match self.tree.step(directory, name) {
            None => Place::Absent,
            Some(Step::Directory(node) | Step::Symlink(node, _) | Step::Other(node)) => {
                Place::Entry(node)
            }
        }
    }
}

/// Walks to a directory, through symbolic links, which stay in the tree as in a chroot.
fn walk<T: Names>(tree: &T, path: &[u8], steps: &mut u64) -> Result<T::Node, Place<T::Node>> {
    let components = |path: &[u8]| -> Vec<Box<[u8]>> {
        let all = path.split(|&byte| byte == b'/');
        all.filter(|name| !matches!(*name, b"" | b"."))
            .map(Into::into)
            .collect()
    };
    let mut way = vec![tree.root()];
    let mut ahead: VecDeque<_> = components(path).into();
    let mut links = 0;
    while let Some(name) = ahead.pop_front() {
        *steps = steps.checked_sub(1).ok_or(Place::Far)?;
        if *name == *b".." {
            way.truncate(way.len().saturating_sub(1).max(1));
            continue;
        }
        let here = *way.last().expect("the root stays");
        match tree.step(here, &name) {
            None => return Err(Place::Absent),
            Some(Step::Directory(node)) => way.push(node),
            Some(Step::Symlink(_, target)) if links < MAX_LINKS => {
                links += 1;
                if target.starts_with(b"/") {
                    way.truncate(1);
                }
                for name in components(target).into_iter().rev() {
                    ahead.push_front(name);
                }
            }
            Some(Step::Symlink(..) | Step::Other(_)) => return Err(Place::Blocked),
        }
    }
    Ok(*way.last().expect("the root stays"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Paths; a directory ends in `/`, and a symbolic link has `->`.
    struct Paths(&'static [&'static str]);

    impl Names for Paths {
        type Node = &'static str;

        fn root(&self) -> &'static str {
            ""
        }

        fn step(&self, directory: &'static str, name: &[u8]) -> Option<Step<'_, &'static str>> {
            let path = format!("{directory}{}", str::from_utf8(name).unwrap());
            self.0.iter().find_map(|&entry| {
                if let Some((link, target)) = entry.split_once("->") {
                    (link == path).then_some(Step::Symlink(link, target.as_bytes()))
                } else if entry == path {
                    Some(Step::Other(entry))
                } else {
                    let is_it = entry.strip_suffix('/') == Some(path.as_str());
                    is_it.then_some(Step::Directory(entry))
                }
            })
        }
    }

    const TREE: Paths = Paths(&[
        "a/",
        "a/b/",
        "a/b/f",
        "a/up->../..",
        "abs->/a/b",
        "out->../../../a/b",
        "loop->loop",
        "f->a/b/f",
    ]);

    #[test]
    fn links_on_the_way_are_followed_and_stay_inside() {
        for (path, place) in [
            ("a/b/f", Place::Entry("a/b/f")),
            ("abs/f", Place::Entry("a/b/f")),
            ("out/f", Place::Entry("a/b/f")),
            ("a/up/a/b/f", Place::Entry("a/b/f")),
            ("f", Place::Entry("f")),
            ("", Place::Entry("")),
            ("a/b", Place::Entry("a/b/")),
            ("a/c", Place::Absent),
            ("x/y", Place::Absent),
            ("a/b/f/g", Place::Blocked),
            ("loop/f", Place::Blocked),
        ] {
            assert_eq!(Finder::new(&TREE).find(path.as_bytes()), place, "{path}");
        }
    }

    #[test]
    fn the_last_directory_is_remembered_rightly() {
        let mut finder = Finder::new(&TREE);
        for path in ["a/b/f", "a/up", "a/b/f", "f", "abs/f"] {
            let found = finder.find(path.as_bytes());
            assert!(matches!(found, Place::Entry(_)), "{path}");
            assert_eq!(found, Finder::new(&TREE).find(path.as_bytes()), "{path}");
        }
    }
}
