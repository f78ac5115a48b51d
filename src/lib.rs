//! Converts a stopped Docker's aufs layers into devicemapper thin snapshots.
//!
//! Data flows one way. [`docker`] and [`aufs`] read a root, [`source`] holds its layers, [`plan`] computes a pure value
//! from them, [`engine`] writes it, and [`commit`] moves the result into place; [`command`] lists these steps for each
//! command, and [`cli`] is the command line. The formats [`ext4`] and [`thin`] know nothing about Docker, and their
//! readers share nothing but data structures with their writers; the Docker parts know nothing about blocks; both use
//! [`tree`]. [`pool`] drives the kernel's thin pools, [`devicemapper`] knows how Docker's driver uses them, and
//! [`daemon`] how Docker is started and kept out. [`content`] provides a layer's bytes to the code that compares or
//! proves them. Everything that needs `unsafe` is in [`sys`].

mod aligned_buffer;
pub mod aufs;
mod chain;
pub mod cli;
pub mod command;
pub mod commit;
pub mod content;
pub mod crc64;
pub mod daemon;
mod date;
pub mod devicemapper;
pub mod docker;
mod durable;
pub mod engine;
pub mod ext4;
mod forest;
mod holder;
mod lock;
pub mod mount_table;
mod open_path;
pub mod path_error;
mod path_form;
mod path_kind;
pub mod plan;
pub mod pool;
pub mod populate;
pub mod privileges;
pub mod progress;
pub mod removal;
pub mod schedule;
mod shell;
pub mod source;
pub mod staging;
pub mod sys;
pub mod tar_split;
pub mod thin;
pub mod tree;
pub mod units;
pub mod verify;
mod words;
