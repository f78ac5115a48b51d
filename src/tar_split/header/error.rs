//! Why a header cannot be read.

/// Longest run of bytes before one entry that is read as its headers. Go takes 1 MiB for each extension header.
pub(super) const MAX_HEADERS: usize = 4 * 1024 * 1024;

/// The unit of a tar, in bytes.
pub(super) const BLOCK: usize = 512;

/// Why an entry's header cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// No header comes before the entry, or not a whole one.
    #[error("its header is not there")]
    Missing,
    /// The extension headers are longer than any tar's.
    #[error("its headers are longer than {MAX_HEADERS} bytes")]
    Long,
    /// A header's checksum is not the one of its bytes.
    #[error("its header has another checksum than its bytes")]
    Checksum,
    /// A number or a record is none.
    #[error("its header has a field that cannot be read")]
    Field,
    /// The header is not the one of the entry that tar-split names.
    #[error("its header names another file")]
    OtherName,
}
