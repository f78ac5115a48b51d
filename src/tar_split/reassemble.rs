//! A layer's tar from its tar-split and the layer's files.

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::io::Read;

use super::error::Error;
use super::header::{Header, HeaderError, HeaderKind, Headers};
use super::names::clean_name;
use super::reader::{ContentRecord, Record, Records, TarEntry};

/// How many differences are kept; the rest is counted.
const MAX_DIFFERENCES: usize = 64;

/// Most bytes between two entries. Only what follows the last entry is longer than a few kilobytes: zeros, 10 KiB of them for every
/// writer of tars in use.
const MAX_GAP: u64 = 64 * 1024 * 1024;

/// How the names begin that aufs and Docker keep for themselves: no driver but aufs has files of them.
const MARKER_PREFIX: &[u8] = b".wh.";

/// What there is at a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileLookup {
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
    /// A file that other names of the tar have led to, so often that it is not read once more.
    Again,
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
        recorded: ContentRecord,
        sink: &mut dyn FnMut(&[u8]),
    ) -> Result<FileLookup, Self::Error>;
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
    pub recorded: ContentRecord,
    /// What there is.
    pub found: FileLookup,
    /// Why it cannot be otherwise.
    pub excuse: Option<Excuse>,
}

/// What came of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reassembly {
    /// Files with content that the tar has.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// The files that are not as they were recorded, in the tar's order, the first 64.
    pub differences: Vec<Difference>,
    /// How many more there are.
    pub more: u64,
    /// The file at which the work was given up, since it came [`Again`](FileLookup::Again) and again: no file after it was looked at.
    pub given_up: Option<Vec<u8>>,
}

impl Reassembly {
    /// Whether every file is as it was recorded: only then was all of the tar given out.
    pub fn is_whole(&self) -> bool {
        self.differences.is_empty() && self.given_up.is_none()
    }
}

/// Is given the header of each entry, in the tar's order, up to the first one that cannot be read.
pub trait Observer {
    /// The next entry's header.
    fn header(&mut self, header: Result<Header, HeaderError>);
}

/// Makes a layer's tar again: `gzip` is its `tar-split.json.gz`, its files come from `contents`, the bytes go to `sink`, the
/// entries' headers to `observer`.
///
/// A file that differs does not end the work, so that all of them are found, but from there on nothing goes to `sink`.
///
/// # Errors
///
/// The tar-split is damaged, or `contents` ends the work.
pub fn reassemble<C: Contents>(
    gzip: impl Read,
    contents: &mut C,
    observer: &mut dyn Observer,
    sink: &mut dyn FnMut(&[u8]),
) -> Result<Reassembly, C::Error> {
    let mut work = TarInProgress {
        headers: Some(Headers::default()),
        ..TarInProgress::default()
    };
    let mut records = Records::new(gzip);
    while let Some(record) = records.next() {
        match record? {
            Record::Segment(bytes) => work.segment(&bytes, records.line(), sink)?,
            Record::Entry(entry) => {
                work.header(&entry, observer);
                work.entry(&entry, contents, sink)?;
            }
        }
    }
    Ok(work.done)
}

/// Gives a tar's headers to `observer`, and looks at no file.
///
/// # Errors
///
/// The tar-split is damaged.
pub fn headers(gzip: impl Read, observer: &mut dyn Observer) -> Result<(), Error> {
    reassemble(gzip, &mut TrustedFiles, observer, &mut |_| {}).map(|_| ())
}

/// Files that are taken to be as they were recorded.
struct TrustedFiles;

impl Contents for TrustedFiles {
    type Error = Error;

    fn content(
        &mut self,
        _path: &[u8],
        recorded: ContentRecord,
        _sink: &mut dyn FnMut(&[u8]),
    ) -> Result<FileLookup, Error> {
        let crc64 = recorded.crc64;
        Ok(FileLookup::Content { crc64 })
    }
}

/// A tar on the way.
#[derive(Default)]
struct TarInProgress {
    done: Reassembly,
    /// Paths that, when they come, excuse differences; by their place among those.
    watched: HashMap<Vec<u8>, Vec<(usize, Excuse)>>,
    /// What was not yet given to the observer; `None` after a header that cannot be read.
    headers: Option<Headers>,
    /// Bytes since the last entry.
    gap: u64,
}

impl TarInProgress {
    fn segment(
        &mut self,
        bytes: &[u8],
        line: u64,
        sink: &mut dyn FnMut(&[u8]),
    ) -> Result<(), Error> {
        self.gap += bytes.len() as u64;
        if self.gap > MAX_GAP {
            let what = "more bytes between two entries than any tar has";
            return Err(Error::Unjustified { line, what });
        }
        if let Some(headers) = &mut self.headers {
            headers.segment(bytes);
        }
        self.give(bytes, sink);
        Ok(())
    }

    fn header(&mut self, entry: &TarEntry, observer: &mut dyn Observer) {
        self.gap = 0;
        let Some(headers) = &mut self.headers else {
            return;
        };
        let content = entry.content.map_or(0, |recorded| recorded.size);
        let header = headers.entry(content).and_then(|header| {
            let is_it = || clean_name(&header.name) == clean_name(&entry.name);
            if header.kind == HeaderKind::Global || is_it() {
                Ok(header)
            } else {
                Err(HeaderError::OtherName)
            }
        });
        if header.is_err() {
            self.headers = None;
        }
        observer.header(header);
    }

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
        if self.done.given_up.is_some() {
            return Ok(());
        }
        let found = contents.content(&path, recorded, &mut |bytes| self.give(bytes, sink))?;
        if found == FileLookup::Again {
            self.done.given_up = Some(path);
            return Ok(());
        }
        self.done.files += 1;
        self.done.bytes = self.done.bytes.saturating_add(recorded.size);
        let same = matches!(found, FileLookup::Content { crc64 } if crc64 == recorded.crc64);
        if !same {
            self.differs(path, recorded, found);
        }
        Ok(())
    }

    fn differs(&mut self, path: Vec<u8>, recorded: ContentRecord, found: FileLookup) {
        let place = self.done.differences.len();
        if place == MAX_DIFFERENCES {
            self.done.more += 1;
            return;
        }
        let gone = matches!(found, FileLookup::Absent | FileLookup::Blocked);
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
                if found == FileLookup::Blocked && above.len() < path.len() {
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
