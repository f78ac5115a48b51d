//! System calls that need `unsafe`, or that have no place elsewhere, as safe functions. No other module has `unsafe`.

mod access_times;
mod clone;

pub use access_times::without_access_times;
pub use clone::{CloneRange, clone_range};
