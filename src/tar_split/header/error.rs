//! Why a header cannot be read.

/// The maximum number of bytes before one entry that are read as its headers. Go accepts 1 MiB for each extension
/// header.
pub(super) const MAX_HEADERS: usize = 4 * 1024 * 1024;

/// The unit of a tar, in bytes.
pub(super) const BLOCK: usize = 512;

/// Why an entry's header cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// There is no header before the entry, or only part of one.
    #[error("its header is missing")]
    Missing,
    /// The extension headers are longer than those of any tar.
    #[error("its headers are longer than {MAX_HEADERS} bytes")]
    Long,
    /// A header's checksum does not match its bytes.
    #[error("its header's checksum does not match its bytes")]
    Checksum,
    /// A number or a record is malformed.
    #[error("its header has a field that cannot be read")]
    Field,
    /// The header does not belong to the entry that tar-split names.
    #[error("its header names a different file")]
    OtherName,
}
