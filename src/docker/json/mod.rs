//! A strict scanner for JSON objects that tells *where* each value lies, read the way Go's decoder reads it.

mod object;
mod scanner;
mod value;

pub(crate) use scanner::decode_string;
pub use value::{JsonError, is_same_key};
pub(crate) use value::{Member, Object};
