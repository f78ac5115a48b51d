//! A layer as it was read from its branch, and the bytes of its files.

pub(super) mod branch_reader;
mod cursor;
mod layer;

pub use branch_reader::Error as SourceError;
pub(crate) use cursor::Cursor;
pub use layer::Layer;
