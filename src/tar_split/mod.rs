//! Reads tar-split files: the record by which Docker can make a layer's tar again, byte for byte.
//!
//! The file is a gzip stream of JSON objects, one per line, in the order of the tar: `{"type":1,"name":…}` for an
//! entry, `{"type":2,"payload":…}` for bytes between contents.
//! Source: vbatts/tar-split v0.12.1 tar/storage/{entry,packer}.go.

mod base64;
mod names;

pub use names::{Error, Names, clean_name};
