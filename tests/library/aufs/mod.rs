//! Branches of aufs, read.

mod branch;
mod fixture;
mod hostile;
mod merge;
