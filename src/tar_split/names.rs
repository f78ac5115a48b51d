//! The names of a tar's entries, in order.

use std::borrow::Cow;
use std::io::{self, BufRead, BufReader, Read};

use flate2::bufread::MultiGzDecoder;
use serde::Deserialize;

use super::base64;

/// Longest line accepted. Writers cut raw segments at 1 MiB, older ones keep a tar's trailing padding in one piece,
/// which is 10 KiB for every writer of tars in use.
const MAX_LINE: usize = 16 * 1024 * 1024; // base64 of nearly 12 MiB

/// `type` of a tar entry. Source: vbatts/tar-split v0.12.1 tar/storage/entry.go, `FileType`.
const FILE_TYPE: i64 = 1;

/// What is wrong with a tar-split file. Lines count from 1.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file could not be read, or is no whole gzip stream.
    #[error("line {line}: unreadable")]
    Io {
        /// The line it happened in.
        line: u64,
        /// Why.
        source: io::Error,
    },
    /// A line too long to be a tar-split's.
    #[error("line {line}: longer than {MAX_LINE} bytes")]
    LongLine {
        /// The line.
        line: u64,
    },
    /// A line that is not the JSON of a tar-split entry.
    #[error("line {line}: not an entry of a tar-split")]
    Malformed {
        /// The line.
        line: u64,
        /// What the parser met.
        source: serde_json::Error,
    },
    /// A tar entry without a name, or with one that is not base64.
    #[error("line {line}: tar entry without a usable name")]
    BadName {
        /// The line.
        line: u64,
    },
}

/// One line. Payloads are passed over.
#[derive(Deserialize)]
struct Line<'a> {
    #[serde(rename = "type")]
    kind: i64,
    #[serde(borrow)]
    name: Option<Cow<'a, str>>,
    #[serde(borrow)]
    name_raw: Option<Cow<'a, str>>,
}

/// Iterates over the names of the tar's entries as the tar has them; stops after an error.
///
/// Holds one line at a time, whatever the length of the file.
#[derive(Debug)]
pub struct Names<R: Read> {
    input: BufReader<MultiGzDecoder<BufReader<R>>>,
    line: Vec<u8>,
    number: u64,
    ended: bool,
}

impl<R: Read> Names<R> {
    /// The names in a `tar-split.json.gz`.
    pub fn new(gzip: R) -> Self {
        Self {
            input: BufReader::new(MultiGzDecoder::new(BufReader::new(gzip))),
            line: Vec::new(),
            number: 0,
            ended: false,
        }
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
        Ok(!self.line.is_empty())
    }

    fn next_name(&mut self) -> Result<Option<Vec<u8>>, Error> {
        while self.read_line()? {
            if self.line.trim_ascii().is_empty() {
                continue;
            }
            if let Some(name) = parse_line(&self.line, self.number)? {
                return Ok(Some(name));
            }
        }
        Ok(None)
    }
}

impl<R: Read> Iterator for Names<R> {
    type Item = Result<Vec<u8>, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let next = self.next_name().transpose();
        self.ended = !matches!(next, Some(Ok(_)));
        next
    }
}

/// The name in a line, `None` for a segment of raw bytes.
fn parse_line(line: &[u8], number: u64) -> Result<Option<Vec<u8>>, Error> {
    let parsed: Line<'_> = serde_json::from_slice(line).map_err(|source| Error::Malformed {
        line: number,
        source,
    })?;
    if parsed.kind != FILE_TYPE {
        return Ok(None);
    }
    // `name_raw` stands where the name is not UTF-8, and wins when both do.
    let name = match (parsed.name_raw.as_deref(), parsed.name) {
        (Some(raw), _) if !raw.is_empty() => base64::decode(raw.as_bytes()),
        (_, name) => name.map(|name| name.into_owned().into_bytes()),
    };
    name.filter(|name| !name.is_empty())
        .map(Some)
        .ok_or(Error::BadName { line: number })
}

/// A tar entry's name as a path below the layer's root: no `.` and empty components, `..` resolved and never above the
/// root, no slash at either end. The root itself is empty.
pub fn clean_name(name: &[u8]) -> Vec<u8> {
    let mut components: Vec<&[u8]> = Vec::new();
    for component in name.split(|&byte| byte == b'/') {
        match component {
            b"" | b"." => {}
            b".." => {
                components.pop();
            }
            _ => components.push(component),
        }
    }
    components.join(&b'/')
}

#[cfg(test)]
mod tests;
