//! The records of a tar-split file, one after the other.

#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::io::{BufRead, BufReader, Read};

use base64::prelude::{BASE64_STANDARD, Engine};
use flate2::bufread::MultiGzDecoder;
use serde::Deserialize;

use super::budget::{Budget, CountingReader};
use super::error::{Error, MAX_LINE};

/// `type` of a tar entry. Source: vbatts/tar-split v0.12.1 tar/storage/entry.go, `FileType`.
const FILE_TYPE: i64 = 1;
/// `type` of raw bytes. Source: same, `SegmentType`.
const SEGMENT_TYPE: i64 = 2;

/// An entry of the tar, which has a header before it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TarEntry {
    /// Its name as it is in the tar; [`clean_name`](super::names::clean_name) makes a path of it. Not empty.
    pub name: Vec<u8>,
    /// The content that follows its header in the tar; `None`: nothing follows.
    pub content: Option<ContentRecord>,
}

/// The record of a file's content, which the tar-split itself does not contain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ContentRecord {
    /// The number of bytes, above 0.
    pub size: u64,
    /// The CRC-64 of the bytes, see [`crc64`](crate::crc64).
    pub crc64: u64,
}

/// A line of a tar-split.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    /// An entry; the content of its file is at this place in the tar.
    Entry(TarEntry),
    /// Bytes of the tar between contents: headers, padding, trailer.
    Segment(Vec<u8>),
}

/// One line as JSON. The payload is not decoded until its meaning is known.
#[derive(Deserialize)]
pub(super) struct Line<'a> {
    #[serde(rename = "type")]
    kind: i64,
    #[serde(borrow)]
    name: Option<Cow<'a, str>>,
    #[serde(borrow)]
    name_raw: Option<Cow<'a, str>>,
    size: Option<i64>,
    #[serde(borrow)]
    payload: Option<Cow<'a, str>>,
}

impl Line<'_> {
    /// The name of a tar entry, `None` for raw bytes.
    pub(super) fn entry_name(&self, line: u64) -> Result<Option<Vec<u8>>, Error> {
        match self.kind {
            FILE_TYPE => self.name(line).map(Some),
            SEGMENT_TYPE => Ok(None),
            kind => Err(Error::UnknownType { line, kind }),
        }
    }

    fn name(&self, line: u64) -> Result<Vec<u8>, Error> {
        // `name_raw` is used if the name is not UTF-8, and takes precedence if both exist.
        let name = match (self.name_raw.as_deref(), self.name.as_deref()) {
            (Some(raw), _) if !raw.is_empty() => decode(raw.as_bytes()),
            (_, name) => name.map(|name| name.as_bytes().to_vec()),
        };
        name.filter(|name| !name.is_empty())
            .ok_or(Error::BadName { line })
    }

    fn record(&self, line: u64) -> Result<Record, Error> {
        let payload = self.payload.as_deref().unwrap_or_default().as_bytes();
        match self.entry_name(line)? {
            Some(name) => Ok(Record::Entry(TarEntry {
                name,
                content: self.content(line, payload)?,
            })),
            None => decode(payload)
                .map(Record::Segment)
                .ok_or(Error::BadPayload { line }),
        }
    }

    fn content(&self, line: u64, payload: &[u8]) -> Result<Option<ContentRecord>, Error> {
        let bad = || Error::BadChecksum { line };
        let size = u64::try_from(self.size.unwrap_or(0)).map_err(|_| bad())?;
        if size == 0 {
            return Ok(None);
        }
        let crc64 = decode(payload)
            .and_then(|bytes| bytes.try_into().ok())
            .map(u64::from_be_bytes)
            .ok_or_else(bad)?;
        // A link's header may give the size of the link's target although nothing follows: the checksum is then that of
        // no bytes.
        Ok((crc64 != crate::crc64::EMPTY).then_some(ContentRecord { size, crc64 }))
    }
}

/// Decodes bytes as Go writes them in JSON.
fn decode(text: &[u8]) -> Option<Vec<u8>> {
    BASE64_STANDARD.decode(text).ok()
}

/// Reads a tar-split line by line. Holds one line in memory at a time, whatever the length of the file.
#[derive(Debug)]
pub(super) struct Lines<R: Read> {
    input: BufReader<MultiGzDecoder<BufReader<CountingReader<R>>>>,
    budget: Budget,
    line: Vec<u8>,
    number: u64,
}

impl<R: Read> Lines<R> {
    /// The lines of a `tar-split.json.gz`.
    pub(super) fn new(gzip: R) -> Self {
        let budget = Budget::default();
        let gzip = CountingReader::new(gzip, &budget);
        Self {
            input: BufReader::with_capacity(
                64 * 1024,
                MultiGzDecoder::new(BufReader::with_capacity(64 * 1024, gzip)),
            ),
            budget,
            line: Vec::new(),
            number: 0,
        }
    }

    /// The next line that is not blank, with its number; `None` at the end of the file.
    pub(super) fn next(&mut self) -> Result<Option<(Line<'_>, u64)>, Error> {
        while self.read_line()? {
            if !self.line.trim_ascii().is_empty() {
                let line = self.number;
                return serde_json::from_slice(&self.line)
                    .map(|parsed| Some((parsed, line)))
                    .map_err(|source| Error::Malformed { line, source });
            }
        }
        Ok(None)
    }

    /// Reads the next line; `false` at the end of the file.
    fn read_line(&mut self) -> Result<bool, Error> {
        self.line.clear();
        self.number += 1;
        let line = self.number;
        let limit = u64::try_from(MAX_LINE).expect("a small constant") + 1;
        (&mut self.input)
            .take(limit)
            .read_until(b'\n', &mut self.line)
            .map_err(|source| Error::Io { line, source })?;
        if self.line.len() > MAX_LINE {
            return Err(Error::LongLine { line });
        }
        self.budget.line(line, self.line.len())?;
        Ok(!self.line.is_empty())
    }
}

/// Iterates over a tar-split's records in the order of the tar; stops after an error.
#[derive(Debug)]
pub struct Records<R: Read> {
    lines: Lines<R>,
    ended: bool,
}

impl<R: Read> Records<R> {
    /// The records of a `tar-split.json.gz`.
    pub fn new(gzip: R) -> Self {
        Self {
            lines: Lines::new(gzip),
            ended: false,
        }
    }

    /// The number of the last line that was read.
    pub(super) fn line(&self) -> u64 {
        self.lines.number
    }

    fn read(&mut self) -> Result<Option<Record>, Error> {
        match self.lines.next()? {
            None => Ok(None),
            Some((line, number)) => line.record(number).map(Some),
        }
    }
}

impl<R: Read> Iterator for Records<R> {
    type Item = Result<Record, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let next = self.read().transpose();
        self.ended = !matches!(next, Some(Ok(_)));
        next
    }
}
