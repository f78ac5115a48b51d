//! Why a tar-split file cannot be read.

use std::io::{self};

/// The maximum length of a line. Writers split raw segments at 1 MiB; older ones keep a tar's trailing padding in one
/// piece, which is 10 KiB for every tar writer in use.
pub(super) const MAX_LINE: usize = 16 * 1024 * 1024; // base64 of nearly 12 MiB

/// What is wrong with a tar-split file. Lines count from 1.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file could not be read, or is not a complete gzip stream.
    #[error("line {line}: cannot be read")]
    Io {
        /// The line in which it happened.
        line: u64,
        /// The cause.
        source: io::Error,
    },
    /// A line that is too long for a tar-split.
    #[error("line {line}: is longer than {MAX_LINE} bytes")]
    LongLine {
        /// The line.
        line: u64,
    },
    /// A line that is not the JSON of a tar-split entry.
    #[error("line {line}: not an entry of a tar-split")]
    Malformed {
        /// The line.
        line: u64,
        /// The parser's error.
        source: serde_json::Error,
    },
    /// An entry of a kind that no version of tar-split writes.
    #[error("line {line}: entry of unknown type {kind}")]
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
    /// A tar entry whose size is negative, or that has content but no checksum of it.
    #[error("line {line}: tar entry without a usable size and checksum")]
    BadChecksum {
        /// The line.
        line: u64,
    },
    /// More than is plausible for the compressed file or the layer; no tar writer produces that.
    #[error("line {line}: {what}; no layer has that many")]
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
