//! Format tests.

mod ext4;
mod ext4_chain;
mod ext4_cost;
mod ext4_directories;
mod ext4_disk;
mod ext4_layers;
mod ext4_limits;
mod ext4_model;
