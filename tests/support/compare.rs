//! Says in what two trees differ.

use std::collections::BTreeSet;
use std::fmt;

use super::merged::{Entry, MergedTree};

/// One thing that is not as expected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    pub path: Vec<u8>,
    pub field: &'static str,
    pub expected: String,
    pub found: String,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.path.escape_ascii();
        let (field, expected, found) = (self.field, &self.expected, &self.found);
        write!(f, "{path}: {field}: expected {expected}, found {found}")
    }
}

/// All differences, in the order of the paths.
pub fn compare(expected: &MergedTree, found: &MergedTree) -> Vec<Difference> {
    let paths: BTreeSet<_> = expected
        .entries
        .keys()
        .chain(found.entries.keys())
        .collect();
    let mut differences = Vec::new();
    for path in paths {
        let (expected, found) = (expected.entries.get(path), found.entries.get(path));
        let fields = match (expected, found) {
            (Some(expected), Some(found)) => differing_fields(expected, found),
            _ => vec![("entry", whole(expected), whole(found))],
        };
        for (field, expected, found) in fields {
            differences.push(Difference {
                path: path.clone(),
                field,
                expected,
                found,
            });
        }
    }
    differences
}

/// Panics with the first differences unless there are none.
#[track_caller]
pub fn assert_same(what: &str, expected: &MergedTree, found: &MergedTree) {
    let differences = compare(expected, found);
    let shown: Vec<_> = differences
        .iter()
        .take(20)
        .map(ToString::to_string)
        .collect();
    let count = differences.len();
    assert!(
        differences.is_empty(),
        "{what}: {count} differences\n{}",
        shown.join("\n")
    );
}

fn whole(entry: Option<&Entry>) -> String {
    entry.map_or("nothing".to_owned(), |entry| format!("{:?}", entry.kind))
}

fn differing_fields(expected: &Entry, found: &Entry) -> Vec<(&'static str, String, String)> {
    let fields = [
        ("kind", text(&expected.kind), text(&found.kind)),
        ("mode", octal(expected.mode), octal(found.mode)),
        ("uid", text(expected.uid), text(found.uid)),
        ("gid", text(expected.gid), text(found.gid)),
        ("mtime", text(expected.mtime), text(found.mtime)),
        (
            "group",
            path(expected.group.as_ref()),
            path(found.group.as_ref()),
        ),
        (
            "xattrs",
            text(readable_as(expected, expected)),
            text(readable_as(found, expected)),
        ),
    ];
    fields
        .into_iter()
        .filter(|(_, expected, found)| expected != found)
        .collect()
}

fn text(value: impl fmt::Debug) -> String {
    format!("{value:?}")
}

fn octal(mode: u32) -> String {
    format!("{mode:04o}")
}

fn path(path: Option<&Vec<u8>>) -> String {
    path.map_or("alone".to_owned(), |path| path.escape_ascii().to_string())
}

/// The entry's xattrs, with no value where `expected` could not read it.
fn readable_as(entry: &Entry, expected: &Entry) -> Vec<(String, Option<String>)> {
    let escaped = |bytes: &[u8]| bytes.escape_ascii().to_string();
    entry
        .xattrs
        .iter()
        .map(|(name, value)| {
            let unreadable = expected.xattrs.get(name) == Some(&None);
            let value = value.as_deref().filter(|_| !unreadable).map(escaped);
            (escaped(name), value)
        })
        .collect()
}
