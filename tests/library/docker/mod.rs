//! Docker's stores.

mod damage;
mod leftovers;
pub(super) mod root;
mod survey;

pub(crate) use root::{SmallRoot, WEB};
