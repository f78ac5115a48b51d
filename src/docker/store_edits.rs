//! How the image store of the new side deliberately differs from the original, in the form that is recorded.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Component, Path};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// The files of an image store that were written again, each with its SHA-256 digest, and the files and directories that
/// were left out, which have none. Paths are relative to the store.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct StoreEdits(BTreeMap<String, Option<String>>);

impl StoreEdits {
    /// The record of files with these contents; `None`: left out.
    pub fn of<'e>(files: impl IntoIterator<Item = (&'e Path, Option<&'e [u8]>)>) -> Self {
        let edits = files.into_iter().map(|(path, content)| {
            let path = path.to_string_lossy().into_owned();
            (path, content.map(digest_of))
        });
        Self(edits.collect())
    }

    /// Whether the store is a copy in every byte.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether a file or directory was left out, by itself or with a directory above it.
    pub fn is_left_out(&self, inner: &Path) -> bool {
        let mut above = inner.ancestors();
        above.any(|path| matches!(self.get(path), Some(None)))
    }

    /// Whether a file was written again with these bytes; `None`: it was not written again.
    pub fn is_as_written(&self, inner: &Path, bytes: &[u8]) -> Option<bool> {
        let written = self.get(inner)?.as_deref()?;
        Some(written == digest_of(bytes))
    }

    /// Whether a file was written again.
    pub fn is_written(&self, inner: &Path) -> bool {
        matches!(self.get(inner), Some(Some(_)))
    }

    /// The files that were written again. A path that leads out of the store, which only a forged record has, is not
    /// among them.
    pub fn written(&self) -> impl Iterator<Item = &Path> {
        let written = self.0.iter().filter(|(_, digest)| digest.is_some());
        let is_inside = |path: &&Path| {
            let mut parts = path.components();
            parts.all(|part| matches!(part, Component::Normal(_)))
        };
        written.map(|(path, _)| Path::new(path)).filter(is_inside)
    }

    /// Whether anything in a directory, or the file at this path, differs from the original.
    pub fn touches(&self, object: &str) -> bool {
        let is_in = |path: &String| Path::new(path).starts_with(object);
        self.0.keys().any(is_in) || self.is_left_out(Path::new(object))
    }

    fn get(&self, path: &Path) -> Option<&Option<String>> {
        self.0.get(path.to_str()?)
    }
}

fn digest_of(bytes: &[u8]) -> String {
    let digits = Sha256::digest(bytes);
    let mut text = String::with_capacity(64);
    for byte in digits {
        write!(text, "{byte:02x}").expect("a string takes any text");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_that_leads_out_of_the_store_is_not_looked_at() {
        let edits = StoreEdits::of([
            (Path::new("../../../etc/shadow"), Some(&b""[..])),
            (Path::new("/etc/shadow"), Some(&b""[..])),
            (Path::new("layerdb/sha256/bb/size"), Some(&b"5"[..])),
        ]);
        let written: Vec<_> = edits.written().collect();
        assert_eq!(written, [Path::new("layerdb/sha256/bb/size")]);
    }

    #[test]
    fn what_was_left_out_goes_with_everything_below_it() {
        let edits = StoreEdits::of([
            (Path::new("layerdb/sha256/aa"), None),
            (Path::new("layerdb/sha256/bb/size"), Some(&b"5"[..])),
        ]);
        assert!(edits.is_left_out(Path::new("layerdb/sha256/aa")));
        assert!(edits.is_left_out(Path::new("layerdb/sha256/aa/diff")));
        assert!(!edits.is_left_out(Path::new("layerdb/sha256/aaa")));
        assert!(!edits.is_left_out(Path::new("layerdb/sha256/bb/size")));
        let size = Path::new("layerdb/sha256/bb/size");
        assert_eq!(edits.is_as_written(size, b"5"), Some(true));
        assert_eq!(edits.is_as_written(size, b"6"), Some(false));
        assert_eq!(edits.is_as_written(Path::new("x"), b"6"), None);
        assert!(edits.touches("layerdb/sha256/bb") && edits.touches("layerdb/sha256/aa"));
        assert!(!edits.touches("layerdb/sha256/b"));
    }
}
