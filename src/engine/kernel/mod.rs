//! The kernel engine: a real thin pool, filled through mounted file systems.

pub mod base;
pub mod claim;
pub mod schedule;
