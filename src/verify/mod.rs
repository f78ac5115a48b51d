//! Reading a finished devicemapper root back, with nothing of what wrote it.

pub mod kernel;
pub mod pool;
