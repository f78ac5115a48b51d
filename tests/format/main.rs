//! Format tests.

// A failed step of a set-up is a failed test.
#![allow(clippy::unwrap_used)]

#[path = "../support/mod.rs"]
mod support;

mod aufs;
mod aufs_fixture;
mod aufs_hostile;
mod aufs_merge;
mod convert;
mod convert_changes;
mod convert_pool;
mod convert_resume;
mod convert_shapes;
mod convert_sharing;
mod convert_space;
mod docker;
mod docker_daemon;
mod docker_damage;
mod docker_leftovers;
mod docker_root;
mod ext4;
mod ext4_build;
mod ext4_chain;
mod ext4_cost;
mod ext4_directories;
mod ext4_disk;
mod ext4_layers;
mod ext4_limits;
mod ext4_model;
mod ext4_places;
mod ext4_read;
mod ext4_read_damage;
mod ext4_read_derive;
mod ext4_read_images;
mod ext4_read_kernel;
mod first_start;
mod kernel_base;
mod kernel_leftovers;
mod populate;
mod populate_hostile;
mod populate_refusals;
mod removal;
mod support_root;
mod thin;
mod verify;
mod verify_conversion;
mod verify_damage;
mod verify_matrix;
mod verify_random;
