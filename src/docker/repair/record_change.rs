//! A file of an image store that the new side has in another form.

use std::path::PathBuf;

use crate::docker::id::ChainId;

/// A file of the new image store that differs from the original.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordChange {
    /// The file, relative to the image store.
    pub path: PathBuf,
    /// Its new content.
    pub content: NewContent,
}

/// The content of a file that is written again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NewContent {
    /// These bytes.
    Bytes(Vec<u8>),
    /// The sum of the sizes of the files in the layer's branch, as a decimal number.
    SizeOf(ChainId),
    /// Nothing: the file is left out.
    Nothing,
}
