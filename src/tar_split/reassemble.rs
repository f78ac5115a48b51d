//! A layer's tar from its tar-split and the layer's files.

use std::collections::HashMap;
use std::io::Read;

use super::names::clean_name;
use super::reader::{Error, Record, Recorded, Records, TarEntry};

/// How many differences are kept; the rest is counted.
const MAX_DIFFERENCES: usize = 64;

/// How the names begin that aufs and Docker keep for themselves: no driver but aufs has files of them.
const MARKER_PREFIX: &[u8] = b".wh.";

/// What there is at a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// A regular file of the recorded size, all of which was looked at.
    Content {
        /// CRC-64 of its bytes.
        crc64: u64,
    },
    /// A regular file of this size, in bytes, which was not read.
    OtherSize(u64),
    /// Something that is no regular file.
    NotRegular,
    /// Nothing.
    Absent,
    /// Nothing, and a component of the path is no directory.
    Blocked,
}

/// Where a tar's files are.
pub trait Contents {
    /// What ends the work.
    type Error: From<Error>;

    /// Looks at the file at `path` (as [`clean_name`] makes it) and gives its bytes to `sink` in order. Contents of which
    /// only checksums are known give nothing; no tar comes of them then.
    ///
    /// # Errors
    ///
    /// The file cannot be read, or the work is to end.
    fn content(
        &mut self,
        path: &[u8],
        recorded: Recorded,
        sink: &mut dyn FnMut(&[u8]),
    ) -> Result<Found, Self::Error>;
}

/// Why a file cannot be as it was recorded, whatever made the layer of the tar: what comes later in the same tar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Excuse {
    /// The name comes again; the last one is the layer's.
    Duplicate,
    /// Its whiteout, or that of a directory it is in, comes later.
    Whiteout,
    /// A directory it is in comes again as something else.
    Replaced,
    /// It, or a directory it is in, has a name by which aufs deletes or keeps records.
    Marker,
}

/// A file that is not as it was recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// Its path, as [`clean_name`] makes it.
    pub path: Vec<u8>,
    /// What was recorded.
    pub recorded: Recorded,
    /// What there is.
    pub found: Found,
    /// Why it cannot be otherwise.
    pub excuse: Option<Excuse>,
}

/// What came of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reassembled {
    /// Files with content that the tar has.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// The files that are not as they were recorded, in the tar's order, the first 64.
    pub differences: Vec<Difference>,
    /// How many more there are.
    pub more: u64,
}

impl Reassembled {
    /// Whether every file is as it was recorded: only then was all of the tar given out.
    pub fn is_whole(&self) -> bool {
        self.differences.is_empty()
    }
}

/// Makes a layer's tar again: `gzip` is its `tar-split.json.gz`, its files come from `contents`, the bytes go to `sink`.
///
/// A file that differs does not end the work, so that all of them are found, but from there on nothing goes to `sink`.
///
/// # Errors
///
/// The tar-split is damaged, or `contents` ends the work.
pub fn reassemble<C: Contents>(
    gzip: impl Read,
    contents: &mut C,
    sink: &mut dyn FnMut(&[u8]),
) -> Result<Reassembled, C::Error> {
    let mut work = Work::default();
    for record in Records::new(gzip) {
        match record? {
            Record::Segment(bytes) => work.give(&bytes, sink),
            Record::Entry(entry) => work.entry(&entry, contents, sink)?,
        }
    }
    Ok(work.done)
}

/// A tar on the way.
#[derive(Default)]
struct Work {
    done: Reassembled,
    /// Paths that, when they come, excuse differences; by their place among those.
    watched: HashMap<Vec<u8>, Vec<(usize, Excuse)>>,
}

impl Work {
    fn give(&self, bytes: &[u8], sink: &mut dyn FnMut(&[u8])) {
        if self.done.is_whole() {
            sink(bytes);
        }
    }

    fn entry<C: Contents>(
        &mut self,
        entry: &TarEntry,
        contents: &mut C,
        sink: &mut dyn FnMut(&[u8]),
    ) -> Result<(), C::Error> {
        if self.watched.is_empty() && entry.content.is_none() {
            return Ok(());
        }
        let path = clean_name(&entry.name);
        for &(place, excuse) in self.watched.get(&path).into_iter().flatten() {
            self.done.differences[place].excuse.get_or_insert(excuse);
        }
        let Some(recorded) = entry.content else {
            return Ok(());
        };
        let found = contents.content(&path, recorded, &mut |bytes| self.give(bytes, sink))?;
        self.done.files += 1;
        self.done.bytes = self.done.bytes.saturating_add(recorded.size);
        let same = matches!(found, Found::Content { crc64 } if crc64 == recorded.crc64);
        if !same {
            self.differs(path, recorded, found);
        }
        Ok(())
    }

    fn differs(&mut self, path: Vec<u8>, recorded: Recorded, found: Found) {
        let place = self.done.differences.len();
        if place == MAX_DIFFERENCES {
            self.done.more += 1;
            return;
        }
        let gone = matches!(found, Found::Absent | Found::Blocked);
        let components = || path.split(|&byte| byte == b'/');
        let marker = gone && components().any(|name| name.starts_with(MARKER_PREFIX));
        let mut watch = |path: Vec<u8>, excuse| {
            self.watched.entry(path).or_default().push((place, excuse));
        };
        watch(path.clone(), Excuse::Duplicate);
        if gone {
            let mut above: Vec<u8> = Vec::new();
            for name in components() {
                let whiteout = [&above[..], MARKER_PREFIX, name].concat();
                watch(whiteout, Excuse::Whiteout);
                above.extend_from_slice(name);
                if found == Found::Blocked && above.len() < path.len() {
                    watch(above.clone(), Excuse::Replaced);
                }
                above.push(b'/');
            }
        }
        self.done.differences.push(Difference {
            path,
            recorded,
            found,
            excuse: marker.then_some(Excuse::Marker),
        });
    }
}

#[cfg(test)]
mod tests;
