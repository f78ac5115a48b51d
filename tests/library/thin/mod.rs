//! Metadata of thin pools.

pub(crate) mod agreement;
mod damage;
mod layers;
mod pools;
mod refusals;
mod tools;
