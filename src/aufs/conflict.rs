//! Decides what only the order of a layer's tar can tell: whether a name or its whiteout in the same branch applies, and
//! whether a directory with a whiteout's name is one.
//!
//! aufs hides the name. Docker's other drivers unpack the layer's tar entry by entry, so there the later of the two
//! wins, and only an entry deletes: a directory that is made because an entry lies below it does not. The layer's
//! tar-split still has the entries in order.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io;
use std::path::Path;

use super::error::Error;
use super::names::whiteout_path;
use crate::tar_split;

/// What a branch leaves open. Paths within the branch, without a leading slash.
#[derive(Debug, Default)]
pub(super) struct Questions {
    /// Names that have a whiteout beside them.
    pub(super) names: Vec<Box<[u8]>>,
    /// Directories that have the name of a whiteout or of an opaque marker, and names in them.
    pub(super) directories: Vec<Box<[u8]>>,
}

impl Questions {
    pub(super) fn first(&self) -> Option<&[u8]> {
        let mut all = self.names.iter().chain(&self.directories);
        all.next().map(|path| &**path)
    }
}

/// The answers.
#[derive(Debug, Default)]
pub(super) struct Verdicts {
    /// Whether each name is kept.
    pub(super) names: HashMap<Box<[u8]>, bool>,
    /// Whether each directory deletes what its name says.
    pub(super) directories: HashMap<Box<[u8]>, bool>,
}

/// Decides according to the layer's tar-split. Without one, every name is hidden and every directory deletes.
pub(super) fn judge(questions: Questions, tar_split: Option<&Path>) -> Result<Verdicts, Error> {
    let order = match tar_split {
        Some(path) => read_order(&questions, path)?,
        None => TarOrder::default(),
    };
    let mut verdicts = Verdicts::default();
    for path in questions.directories {
        let deletes = !order.only_below.contains(&path);
        verdicts.directories.insert(path, deletes);
    }
    for path in questions.names {
        let whiteout = whiteout_path(&path);
        // What does not delete is not beside the name as a whiteout.
        if verdicts.directories.get(&*whiteout) != Some(&false) {
            let kept = order.kept.contains(&path);
            verdicts.names.insert(path, kept);
        }
    }
    Ok(verdicts)
}

/// What a tar's order says.
#[derive(Debug, Default)]
struct TarOrder {
    /// The names that come after their whiteout.
    kept: HashSet<Box<[u8]>>,
    /// The directories that have no entry of their own, only entries below them.
    only_below: HashSet<Box<[u8]>>,
}

fn read_order(questions: &Questions, tar_split: &Path) -> Result<TarOrder, Error> {
    let path = || tar_split.to_owned();
    let file = match File::open(tar_split) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(TarOrder::default()),
        Err(source) => {
            return Err(Error::Io {
                op: "open",
                path: path(),
                source,
            });
        }
    };
    order_of(questions, tar_split::Names::new(file)).map_err(|source| Error::TarSplit {
        path: path(),
        source,
    })
}

/// The order in `names`, the layer's tar.
///
/// An entry below a name also counts as an entry for the name. If the tar lacks the name or the whiteout, the name
/// counts as hidden, as under aufs.
fn order_of(
    questions: &Questions,
    names: impl Iterator<Item = Result<Vec<u8>, tar_split::Error>>,
) -> Result<TarOrder, tar_split::Error> {
    let mut orders: Vec<Order<'_>> = Vec::new();
    let mut interesting = HashMap::new();
    for path in &questions.names {
        interesting.insert(whiteout_path(path), (orders.len(), Part::Whiteout));
        interesting.insert(path.to_vec(), (orders.len(), Part::Name));
        orders.push(Order::new(path));
    }
    let mut directories: HashMap<&[u8], Entries> = questions
        .directories
        .iter()
        .map(|path| (&**path, Entries::default()))
        .collect();
    for (position, name) in names.enumerate() {
        let name = tar_split::clean_name(&name?);
        // Unpacking a name creates the directories on its path: some builders write no entries for those.
        let above = name.iter().enumerate().filter(|(_, byte)| **byte == b'/');
        for directory in above.map(|(end, _)| &name[..end]) {
            if let Some(&(at, Part::Name)) = interesting.get(directory) {
                orders[at].name = Some(position);
            }
            if let Some(entries) = directories.get_mut(directory) {
                entries.below = true;
            }
        }
        match interesting.get(&name) {
            Some(&(at, Part::Name)) => orders[at].name = Some(position),
            Some(&(at, Part::Whiteout)) => orders[at].whiteout = Some(position),
            None => {}
        }
        if let Some(entries) = directories.get_mut(&*name) {
            entries.own = true;
        }
    }
    let kept = orders
        .iter()
        .filter(|order| order.whiteout.is_some() && order.name > order.whiteout)
        .map(|order| order.path.into());
    let only_below = directories
        .iter()
        .filter(|(_, entries)| entries.below && !entries.own)
        .map(|(path, _)| (*path).into());
    Ok(TarOrder {
        kept: kept.collect(),
        only_below: only_below.collect(),
    })
}

#[derive(Clone, Copy)]
enum Part {
    Name,
    Whiteout,
}

/// The positions of the last occurrences of a name and its whiteout in a tar.
struct Order<'a> {
    path: &'a [u8],
    name: Option<usize>,
    whiteout: Option<usize>,
}

impl<'a> Order<'a> {
    fn new(path: &'a [u8]) -> Self {
        Self {
            path,
            name: None,
            whiteout: None,
        }
    }
}

/// Which entries a tar has for a directory.
#[derive(Default)]
struct Entries {
    own: bool,
    below: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(names: &[&str], directories: &[&str], tar: &[&str]) -> TarOrder {
        let paths = |all: &[&str]| all.iter().map(|path| path.as_bytes().into()).collect();
        let questions = Questions {
            names: paths(names),
            directories: paths(directories),
        };
        order_of(
            &questions,
            tar.iter().map(|name| Ok(name.as_bytes().to_vec())),
        )
        .unwrap()
    }

    #[test]
    fn the_later_of_a_name_and_its_whiteout_wins() {
        for (tar, kept) in [
            (&["etc/.wh.foo", "etc/foo"][..], true),
            (&["./etc/.wh.foo", "./etc/foo/"], true),
            (&["etc/foo", "etc/.wh.foo"], false),
            (&["etc/foo"], false),
            (&["etc/.wh.foo"], false),
            (&["etc/.wh.foo", "foo"], false),
            (&["etc/.wh.foo", "etc/foo/new"], true),
            (&["etc/.wh.foo", "./etc/foo/a/b/"], true),
            (&["etc/foo/old", "etc/.wh.foo"], false),
            (&["etc/.wh.foo", "etc/foobar"], false),
            (&["etc/.wh.foo", "etc/foobar/new"], false),
            (&[], false),
        ] {
            let found = order(&["etc/foo"], &[], tar).kept;
            assert_eq!(found.contains(&b"etc/foo"[..]), kept, "{tar:?}");
        }
    }

    #[test]
    fn a_directory_without_an_entry_of_its_own_deletes_nothing() {
        for (tar, only_below) in [
            (&["etc/.wh.foo/bar"][..], true),
            (&["./etc/.wh.foo/bar/", "etc/.wh.foo/bar/baz"], true),
            (&["etc/.wh.foo/", "etc/.wh.foo/bar"], false),
            (&["etc/.wh.foo/bar", "etc/.wh.foo"], false),
            (&["etc/.wh.foobar/x"], false),
            (&[], false),
        ] {
            let found = order(&[], &["etc/.wh.foo"], tar).only_below;
            assert_eq!(found.contains(&b"etc/.wh.foo"[..]), only_below, "{tar:?}");
        }
    }

    #[test]
    fn a_name_beside_a_directory_that_deletes_nothing_needs_no_verdict() {
        let dir = tempfile::tempdir().unwrap();
        let questions = || Questions {
            names: vec![b"foo".as_slice().into()],
            directories: vec![b".wh.foo".as_slice().into()],
        };
        let without = judge(questions(), None).unwrap();
        assert_eq!(without.names.get(&b"foo"[..]), Some(&false));
        assert_eq!(without.directories.get(&b".wh.foo"[..]), Some(&true));
        let path = dir.path().join("tar-split.json.gz");
        let record = r#"{"type":1,"name":".wh.foo/bar","payload":null,"position":0}"#;
        let file = File::create(&path).unwrap();
        let mut gzip = flate2::write::GzEncoder::new(file, flate2::Compression::fast());
        io::Write::write_all(&mut gzip, format!("{record}\n").as_bytes()).unwrap();
        gzip.finish().unwrap();
        let with = judge(questions(), Some(&path)).unwrap();
        assert!(with.names.is_empty());
        assert_eq!(with.directories.get(&b".wh.foo"[..]), Some(&false));
    }
}
