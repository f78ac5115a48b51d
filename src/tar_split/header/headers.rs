//! The headers of a tar, read from the bytes that a tar-split keeps of it.
//!
//! Before each entry, a tar-split has the bytes that are there in the tar: padding of the previous content, extension
//! headers (PAX records, GNU's long names), and one header. They are read as Go's `archive/tar` reads them, because
//! Docker unpacked the layer by that reading. Sources: POSIX.1-2017 `pax`; GNU tar manual, "Basic Tar Format"; go1.22
//! `archive/tar/{reader,strconv,format}.go`.

#[cfg(test)]
mod tests;

use super::error::{BLOCK, HeaderError, MAX_HEADERS};
use super::fields::{Block, text};
use super::pax::Pax;
use crate::tree::{DeviceNumber, Timestamp, Xattrs};

/// The kind of an entry, according to its header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HeaderKind {
    /// A directory.
    Directory,
    /// A regular file with this number of bytes.
    Regular(u64),
    /// A further name of the file that an earlier entry has under this name.
    HardLink(Box<[u8]>),
    /// A symbolic link with its target.
    Symlink(Box<[u8]>),
    /// A character device.
    CharDevice(DeviceNumber),
    /// A block device.
    BlockDevice(DeviceNumber),
    /// A named pipe.
    Fifo,
    /// Records for all following entries. Docker ignores them and unpacks nothing.
    Global,
    /// A type that Docker does not unpack, or a file with holes, whose size tar-split does not record.
    Other(u8),
}

/// One entry's header, including what its extension headers say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// The name as it is in the tar; [`clean_name`](crate::tar_split::names::clean_name) makes a path of it.
    pub name: Vec<u8>,
    /// The kind of entry.
    pub kind: HeaderKind,
    /// Permission bits with setuid, setgid and sticky.
    pub mode: u16,
    /// Owner.
    pub uid: u64,
    /// Group.
    pub gid: u64,
    /// The modification time.
    pub mtime: Timestamp,
    /// Whether the tar has fractions of a second for this time.
    pub has_fraction: bool,
    /// Extended attributes.
    pub xattrs: Xattrs,
}

/// Collects a tar's bytes between contents, and reads each entry's header from them.
#[derive(Debug, Default)]
pub(in crate::tar_split) struct Headers {
    pending: Vec<u8>,
    /// The number of padding bytes of the last content that are still to come.
    padding: usize,
    is_long: bool,
}

impl Headers {
    /// Adds the bytes of a segment.
    pub(in crate::tar_split) fn segment(&mut self, bytes: &[u8]) {
        let skipped = self.padding.min(bytes.len());
        self.padding -= skipped;
        let bytes = &bytes[skipped..];
        if self.is_long || self.pending.len() + bytes.len() > MAX_HEADERS {
            self.is_long = true;
            self.pending = Vec::new();
        } else {
            self.pending.extend_from_slice(bytes);
        }
    }

    /// The header of the next entry, which has `content` bytes.
    pub(in crate::tar_split) fn entry(&mut self, content: u64) -> Result<Header, HeaderError> {
        let past = content % BLOCK as u64;
        let pending = std::mem::take(&mut self.pending);
        let unpadded = std::mem::take(&mut self.padding) == 0;
        self.padding = usize::try_from((BLOCK as u64 - past) % BLOCK as u64).unwrap_or(0);
        if std::mem::take(&mut self.is_long) {
            return Err(HeaderError::Long);
        }
        if !unpadded {
            return Err(HeaderError::Missing);
        }
        let header = parse(&pending);
        // Kept for the next entry.
        self.pending = pending;
        self.pending.clear();
        header
    }
}

/// The contents of the extension headers before a header.
#[derive(Default)]
pub(in crate::tar_split::header) struct Extensions {
    pax: Pax,
    long_name: Option<Vec<u8>>,
    long_link: Option<Vec<u8>>,
}

/// Parses `bytes`, which are extension headers and the header after them.
fn parse(mut bytes: &[u8]) -> Result<Header, HeaderError> {
    let mut extensions = Extensions::default();
    loop {
        let (block, rest) = bytes.split_first_chunk().ok_or(HeaderError::Missing)?;
        let block = Block(block);
        block.check()?;
        let kind = block.kind();
        if !matches!(kind, b'x' | b'g' | b'L' | b'K') {
            return if rest.is_empty() {
                header(block, extensions)
            } else {
                Err(HeaderError::Missing)
            };
        }
        let size = usize::try_from(block.size()?).map_err(|_| HeaderError::Field)?;
        // Go before 1.10 takes global records as an entry's content, which is then not among the headers.
        if kind == b'g' && rest.is_empty() {
            return header(block, extensions);
        }
        let data = rest.get(..size).ok_or(HeaderError::Missing)?;
        let padded = size.next_multiple_of(BLOCK).min(rest.len());
        bytes = &rest[padded..];
        match kind {
            b'x' => extensions.pax = Pax::parse(data)?,
            b'L' => extensions.long_name = Some(text(data).to_vec()),
            b'K' => extensions.long_link = Some(text(data).to_vec()),
            _ if bytes.is_empty() => return header(block, extensions),
            _ => {}
        }
    }
}

pub(super) fn header(block: Block<'_>, extensions: Extensions) -> Result<Header, HeaderError> {
    let Extensions {
        pax,
        long_name,
        long_link,
    } = extensions;
    let or =
        |longer: Option<Vec<u8>>, pax: Option<Vec<u8>>, own: Vec<u8>| longer.or(pax).unwrap_or(own);
    let name = or(long_name, pax.path, block.name());
    let link = or(long_link, pax.link, block.link()).into_boxed_slice();
    let number = || block.device();
    let kind = match block.kind() {
        _ if pax.is_sparse => HeaderKind::Other(b'S'),
        b'0' => HeaderKind::Regular(pax.size.map_or_else(|| block.size(), Ok)?),
        0 if name.ends_with(b"/") => HeaderKind::Directory,
        0 => HeaderKind::Regular(pax.size.map_or_else(|| block.size(), Ok)?),
        b'1' => HeaderKind::HardLink(link),
        b'2' => HeaderKind::Symlink(link),
        b'3' => HeaderKind::CharDevice(number()?),
        b'4' => HeaderKind::BlockDevice(number()?),
        b'5' => HeaderKind::Directory,
        b'6' => HeaderKind::Fifo,
        b'g' => HeaderKind::Global,
        other => HeaderKind::Other(other),
    };
    Ok(Header {
        name,
        kind,
        mode: block.mode()?,
        uid: pax.uid.map_or_else(|| block.uid(), Ok)?,
        gid: pax.gid.map_or_else(|| block.gid(), Ok)?,
        mtime: pax
            .mtime
            .map_or_else(|| block.mtime().map(|sec| Timestamp::new(sec, 0)), Ok)?,
        has_fraction: pax.mtime.is_some_and(|time| time.nsec() != 0),
        xattrs: pax.xattrs.into_iter().collect(),
    })
}
