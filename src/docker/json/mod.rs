//! A strict scanner for JSON objects that reports *where* each value is. It reads as Go's decoder does.

mod object;
mod scanner;
mod value;

pub(crate) use scanner::decode_string;
pub use value::{JsonError, is_same_key};
pub(crate) use value::{Member, Object};
