//! Reads tar-split files: the records from which Docker can recreate a layer's tar, byte for byte.
//!
//! The file is a gzip stream of JSON objects, one per line, in the order of the tar: `{"type":1,"name":…}` for an entry
//! with the size and checksum of its content, `{"type":2,"payload":…}` for bytes between contents. [`Names`] returns
//! the names in order. [`reassemble`] recreates the tar itself from the layer's files, with the [`Header`] of each
//! entry.
//! Source: vbatts/tar-split v0.12.1 tar/storage/{entry,packer}.go, tar/asm/{assemble,disassemble}.go.

mod budget;
mod error;
mod header;
mod names;
mod reader;
mod reassemble;

pub use error::Error;
pub use header::{Header, HeaderError, HeaderKind};
pub use names::{Names, clean_name};
pub use reader::{ContentRecord, Record, Records, TarEntry};
pub use reassemble::{
    Contents, Difference, Excuse, FileLookup, Observer, Reassembly, headers, reassemble,
};
