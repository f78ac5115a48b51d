//! The kernel engine: a real thin pool, and snapshots that are filled through mounted file systems.

pub mod populate;
