//! The command is broken off at every point: each system call by which it changes something fails once, and is once the last
//! thing it does. Afterwards a resumed run must end in a root that verifies, and a rollback in the root as it was.
//!
//! Needs root, and a machine of the amd64 family for its registers. See `docs/testing.md`.

// A failed step of a set-up is a failed test.
#![allow(clippy::unwrap_used)]
// What the sweeps say goes past libtest, which shows what a test prints only when it fails.
#![allow(clippy::print_stderr)]

mod calls;
mod commands;
mod filter;
mod kills;
mod place;
#[path = "../support/mod.rs"]
mod support;
mod sweep;
mod tracer;
mod tracer_tests;
