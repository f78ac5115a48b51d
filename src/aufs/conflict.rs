//! Decides between a name and its whiteout in the same branch.
//!
//! aufs hides the name. Docker's other drivers unpack the layer's tar entry by entry, so there the later of the two
//! wins. The layer's tar-split still has that order.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io;
use std::path::Path;

use super::error::Error;
use super::names::whiteout_path;
use crate::tar_split;

/// Paths within the branch, without a leading slash, that have a whiteout beside them.
pub(super) type Conflicts = Vec<Box<[u8]>>;

/// Whether each conflicting path is kept.
pub(super) type Verdicts = HashMap<Box<[u8]>, bool>;

/// Decides according to the layer's tar-split; without one, every name is hidden.
pub(super) fn judge(conflicts: Conflicts, tar_split: Option<&Path>) -> Result<Verdicts, Error> {
    let kept = match tar_split {
        Some(path) => kept_names(&conflicts, path)?,
        None => HashSet::new(),
    };
    let verdict = |path: Box<[u8]>| {
        let keep = kept.contains(&path);
        (path, keep)
    };
    Ok(conflicts.into_iter().map(verdict).collect())
}

fn kept_names(conflicts: &[Box<[u8]>], tar_split: &Path) -> Result<HashSet<Box<[u8]>>, Error> {
    let path = || tar_split.to_owned();
    let file = match File::open(tar_split) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(HashSet::new()),
        Err(source) => {
            return Err(Error::Io {
                op: "open",
                path: path(),
                source,
            });
        }
    };
    let conflicts = conflicts.iter().map(|conflict| &**conflict);
    kept_by_tar_order(conflicts, tar_split::Names::new(file)).map_err(|source| Error::TarSplit {
        path: path(),
        source,
    })
}

/// Those of `conflicts`, paths relative to the branch, that come after their whiteout in `names`, the layer's tar in
/// order.
///
/// An entry below a name also counts as an entry for the name. If the tar lacks the name or the whiteout, the name
/// counts as hidden, as under aufs.
fn kept_by_tar_order<'a>(
    conflicts: impl Iterator<Item = &'a [u8]>,
    names: impl Iterator<Item = Result<Vec<u8>, tar_split::Error>>,
) -> Result<HashSet<Box<[u8]>>, tar_split::Error> {
    let mut orders: Vec<Order<'a>> = Vec::new();
    let mut interesting = HashMap::new();
    for path in conflicts {
        interesting.insert(whiteout_path(path), (orders.len(), Part::Whiteout));
        interesting.insert(path.to_vec(), (orders.len(), Part::Name));
        orders.push(Order::new(path));
    }
    for (position, name) in names.enumerate() {
        let name = tar_split::clean_name(&name?);
        // Unpacking a name creates the directories on its path: some builders write no entries for those.
        let above = name.iter().enumerate().filter(|(_, byte)| **byte == b'/');
        for directory in above.map(|(end, _)| &name[..end]) {
            if let Some(&(at, Part::Name)) = interesting.get(directory) {
                orders[at].name = Some(position);
            }
        }
        match interesting.get(&name) {
            Some(&(at, Part::Name)) => orders[at].name = Some(position),
            Some(&(at, Part::Whiteout)) => orders[at].whiteout = Some(position),
            None => {}
        }
    }
    Ok(orders
        .iter()
        .filter(|order| order.whiteout.is_some() && order.name > order.whiteout)
        .map(|order| order.path.into())
        .collect())
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

#[cfg(test)]
mod tests {
    use super::*;

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
            let names = tar.iter().map(|name| Ok(name.as_bytes().to_vec()));
            let found = kept_by_tar_order([&b"etc/foo"[..]].into_iter(), names).unwrap();
            assert_eq!(found.contains(&b"etc/foo"[..]), kept, "{tar:?}");
        }
    }
}
