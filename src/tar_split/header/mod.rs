//! Headers of tar archives, in all dialects that Docker wrote.

mod error;
mod fields;
mod headers;
mod pax;

pub use error::HeaderError;
pub(super) use headers::Headers;
pub use headers::{Header, HeaderKind};
