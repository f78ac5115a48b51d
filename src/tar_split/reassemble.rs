//! Recreates a layer's tar from its tar-split and the layer's files.

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::io::Read;

use super::error::Error;
use super::header::{Header, HeaderError, HeaderKind, Headers};
use super::names::clean_name;
use super::reader::{ContentRecord, Record, Records, TarEntry};

/// The number of differences that are stored; the rest are only counted.
const MAX_DIFFERENCES: usize = 64;

/// The maximum number of bytes between two entries. Only what follows the last entry is longer than a few kilobytes:
/// zeros, 10 KiB of them for every tar writer in use.
const MAX_GAP: u64 = 64 * 1024 * 1024;

/// The prefix of the names that aufs and Docker reserve: no driver except aufs has such files.
const MARKER_PREFIX: &[u8] = b".wh.";

/// The result of looking up a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileLookup {
    /// A regular file of the recorded size, which was read completely.
    Content {
        /// CRC-64 of its bytes.
        crc64: u64,
    },
    /// A regular file with this size in bytes, which was not read.
    OtherSize(u64),
    /// Something that is not a regular file.
    NotRegular,
    /// Nothing exists there.
    Absent,
    /// Nothing exists there, and a component of the path is not a directory.
    Blocked,
    /// A file that other names of the tar also led to, so often that it is not read again.
    Again,
}

/// Provides the files of a tar.
pub trait Contents {
    /// The error that ends the work.
    type Error: From<Error>;

    /// Looks up the file at `path` (in the form of [`clean_name`]) and passes its bytes to `sink` in order. An
    /// implementation that only knows checksums passes nothing; it cannot produce a tar.
    ///
    /// # Errors
    ///
    /// The file cannot be read, or the work should end.
    fn content(
        &mut self,
        path: &[u8],
        recorded: ContentRecord,
        sink: &mut dyn FnMut(&[u8]),
    ) -> Result<FileLookup, Self::Error>;
}

/// Why a file cannot be as recorded, however the tar became a layer: something later in the same tar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Excuse {
    /// The name occurs again; the last one is in the layer.
    Duplicate,
    /// Its whiteout, or that of one of its parent directories, comes later.
    Whiteout,
    /// One of its parent directories occurs again as something else.
    Replaced,
    /// It, or one of its parent directories, has a name that aufs uses for deletions or for its own files.
    Marker,
}

/// A file that is not as recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// Its path, in the form of [`clean_name`].
    pub path: Vec<u8>,
    /// The recorded content.
    pub recorded: ContentRecord,
    /// The actual content.
    pub found: FileLookup,
    /// Why it cannot be as recorded, if that is known.
    pub excuse: Option<Excuse>,
}

/// The result of recreating a tar.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reassembly {
    /// The number of files with content in the tar.
    pub files: u64,
    /// The number of their bytes.
    pub bytes: u64,
    /// The files that are not as recorded, in the tar's order; the first 64.
    pub differences: Vec<Difference>,
    /// The number of further ones.
    pub more: u64,
    /// The file at which the work was aborted, because it came [`Again`](FileLookup::Again) and again: no file after it
    /// was checked.
    pub given_up: Option<Vec<u8>>,
}

impl Reassembly {
    /// Whether every file is as recorded: only then was the whole tar produced.
    pub fn is_whole(&self) -> bool {
        self.differences.is_empty() && self.given_up.is_none()
    }
}

/// Receives the header of each entry, in the tar's order, up to the first one that cannot be read.
pub trait Observer {
    /// Receives the next entry's header.
    fn header(&mut self, header: Result<Header, HeaderError>);
}

/// Recreates a layer's tar: `gzip` is its `tar-split.json.gz`, its files come from `contents`, the bytes go to `sink`,
/// the entries' headers to `observer`.
///
/// A file that differs does not end the work, so that all of them are found, but from there on nothing is passed to
/// `sink`.
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

/// Passes a tar's headers to `observer`, without reading any file.
///
/// # Errors
///
/// The tar-split is damaged.
pub fn headers(gzip: impl Read, observer: &mut dyn Observer) -> Result<(), Error> {
    reassemble(gzip, &mut TrustedFiles, observer, &mut |_| {}).map(|_| ())
}

/// Files that are assumed to be as recorded.
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

/// The state of a tar that is being recreated.
#[derive(Default)]
struct TarInProgress {
    done: Reassembly,
    /// Paths that excuse differences if they occur later, with the index of the difference.
    watched: HashMap<Vec<u8>, Vec<(usize, Excuse)>>,
    /// The headers that were not passed to the observer yet; `None` after a header that cannot be read.
    headers: Option<Headers>,
    /// The number of bytes since the last entry.
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
            let what = "too many bytes between two entries of the tar";
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
