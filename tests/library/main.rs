//! The library, room by room, against real tools and second, plain implementations.

// A failed step of a set-up is a failed test.
#![allow(clippy::unwrap_used)]

#[path = "../support/mod.rs"]
mod support;

mod aufs;
mod command;
mod daemon;
mod docker;
mod engine;
mod ext4;
mod fuzz;
mod house;
mod pool;
mod populate;
mod removal;
mod support_root;
mod thin;
mod verify;
