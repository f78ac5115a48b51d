//! What a killed run left in the kernel, and taking it down.

mod find;
mod left;
mod remove;

pub use find::find;
pub use left::{Error, Leftovers};
