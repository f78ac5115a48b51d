//! Digests of trees and their attributes, used to recognize a side later.

use std::collections::BTreeMap;
use std::fs::Metadata;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use sha2::{Digest, Sha256};
use walkdir::WalkDir;

use super::entries::{TreeEntry, for_each, target};
use super::error::Error;

/// The directories that the driver keeps in its own directory.
pub(super) const PARTS: [&str; 3] = ["diff", "layers", "mnt"];

/// The value in place of a digest of something that cannot be read.
pub(super) const UNREADABLE: &str = "unreadable";

/// Digests of the objects in a store. A layer's files count as one object.
pub(super) fn objects(store: &Path) -> Result<BTreeMap<String, String>, Error> {
    objects_in(store, Path::new(""))
}

/// Digests of the objects in a part of a store.
pub(super) fn objects_in(store: &Path, part: &Path) -> Result<BTreeMap<String, String>, Error> {
    let mut sums: BTreeMap<String, Sha256> = BTreeMap::new();
    for entry in WalkDir::new(store.join(part)).sort_by_file_name() {
        let entry = match entry {
            Err(error) if error.depth() == 0 => break,
            entry => entry.map_err(|error| Error::io(store, "read")(error.into()))?,
        };
        if entry.file_type().is_dir() {
            continue;
        }
        let inner = entry.path().strip_prefix(store).unwrap_or(entry.path());
        let inner = inner.to_string_lossy().into_owned();
        let sum = sums.entry(object(&inner)).or_default();
        sum.update((inner.len() as u64).to_le_bytes());
        sum.update(&inner);
        sum.update(file_sum(entry.path())?);
    }
    let finish = |(name, sum): (String, Sha256)| (name, format!("{:x}", sum.finalize()));
    Ok(sums.into_iter().map(finish).collect())
}

pub(super) fn file_sum(path: &Path) -> Result<Vec<u8>, Error> {
    let mut sum = Sha256::new();
    if let Some(mut file) = super::regular_files::open_regular(path)? {
        io::copy(&mut file, &mut sum).map_err(Error::io(path, "read"))?;
    }
    Ok(sum.finalize().to_vec())
}

pub(super) fn entry(sum: &mut Sha256, entry: &TreeEntry<'_>) {
    attributes(sum, entry.meta);
    if let Some(target) = target(entry) {
        sum.update(target);
    }
}

/// A digest of the names in a branch and of what `add` takes from each entry. If something cannot be read, the digest
/// is one that no branch has.
pub(super) fn sum_of(branch: &Path, add: impl Fn(&mut Sha256, &TreeEntry<'_>)) -> String {
    let [sum] = sums_of(branch, |[sum], entry| add(sum, entry));
    sum
}

/// Several such digests from one walk.
pub(super) fn sums_of<const N: usize>(
    branch: &Path,
    mut add: impl FnMut(&mut [Sha256; N], &TreeEntry<'_>),
) -> [String; N] {
    let mut sums = std::array::from_fn(|_| Sha256::new());
    let walked = for_each(branch, |entry| {
        for sum in &mut sums {
            sum.update((entry.inner.len() as u64).to_le_bytes());
            sum.update(entry.inner);
        }
        add(&mut sums, entry);
    });
    match walked {
        Ok(()) => sums.map(|sum| format!("{:x}", sum.finalize())),
        Err(_) => std::array::from_fn(|_| UNREADABLE.to_owned()),
    }
}

fn attributes(sum: &mut Sha256, meta: &Metadata) {
    for number in [meta.mode(), meta.uid(), meta.gid()] {
        sum.update(number.to_le_bytes());
    }
    // A directory's size depends on the file system only.
    let size = if meta.is_dir() { 0 } else { meta.len() };
    for number in [size, meta.rdev()] {
        sum.update(number.to_le_bytes());
    }
    for number in [meta.mtime(), meta.mtime_nsec()] {
        sum.update(number.to_le_bytes());
    }
}

/// The object that a file belongs to: `layerdb/sha256/<chain>` for a file in that directory.
pub(super) fn object(inner: &str) -> String {
    let parts: Vec<&str> = inner.split('/').collect();
    let deep = parts.first() == Some(&"layerdb") && parts.len() > 3;
    if deep {
        parts[..3].join("/")
    } else {
        inner.to_owned()
    }
}

/// Adds the change time, which only the kernel sets.
pub(super) fn changed_at(sum: &mut Sha256, meta: &Metadata) {
    for number in [meta.ctime(), meta.ctime_nsec()] {
        sum.update(number.to_le_bytes());
    }
}
