//! Converts a stopped Docker's aufs layers into devicemapper thin snapshots.
//!
//! Data flows one way: [`docker`] and [`aufs`] read, [`plan`] computes a pure value, [`engine`] writes it, [`commit`]
//! moves the result in place, [`convert`] is the list of these steps and [`cli`] the command. The format writers [`ext4`] and [`thin`] know no Docker; the Docker parts know no blocks;
//! both speak [`tree`]. Everything that needs `unsafe` is in [`sys`].

pub mod aufs;
mod chain;
pub mod cli;
pub mod commit;
pub mod convert;
pub mod crc64;
mod date;
pub mod docker;
pub mod engine;
pub mod ext4;
mod holder;
mod lock;
pub mod mount_table;
pub mod notify;
mod path_form;
pub mod plan;
pub mod privileges;
pub mod removal;
mod shell;
pub mod sys;
pub mod tar_split;
pub mod thin;
pub mod tree;
pub mod units;
pub mod verify;
mod words;
