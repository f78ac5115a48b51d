//! Format tests.

mod ext4;
mod ext4_disk;
mod ext4_layers;
mod ext4_model;
