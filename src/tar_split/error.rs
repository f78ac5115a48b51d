//! Why a record of a tar cannot be read.

use std::io::{self};

/// Longest line accepted. Writers cut raw segments at 1 MiB, older ones keep a tar's trailing padding in one piece,
/// which is 10 KiB for every writer of tars in use.
pub(super) const MAX_LINE: usize = 16 * 1024 * 1024;

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
    /// An entry of a kind that no version of tar-split writes.
    #[error("line {line}: entry of the unknown type {kind}")]
    UnknownType {
        /// The line.
        line: u64,
        /// Its `type`.
        kind: i64,
    },
    /// A tar entry without a name, or with one that is not base64.
    #[error("line {line}: tar entry without a usable name")]
    BadName {
        /// The line.
        line: u64,
    },
    /// A tar entry whose size is negative, or that has content and no checksum of it.
    #[error("line {line}: tar entry without a usable size and checksum")]
    BadChecksum {
        /// The line.
        line: u64,
    },
    /// More than what the compressed file, or the layer, can come to: no writer of tars leaves that.
    #[error("line {line}: {what}, which no layer comes to")]
    Unjustified {
        /// The line.
        line: u64,
        /// What there is too much of.
        what: &'static str,
    },
    /// Raw bytes that are not base64.
    #[error("line {line}: raw bytes that are not base64")]
    BadPayload {
        /// The line.
        line: u64,
    },
}
