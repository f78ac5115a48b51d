//! Format tests.

mod docker;
mod docker_daemon;
mod docker_damage;
mod docker_leftovers;
mod docker_root;
