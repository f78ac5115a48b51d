//! What a killed run left in the kernel, and how it is removed.

mod find;
mod left;
mod remove;

pub use find::find;
pub use left::{Error, Leftovers};
