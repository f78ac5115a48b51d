//! The command as an operator meets it: the binary is run on whole roots, and judged by its exit code, its words and what
//! it leaves behind. Needs root.

// A failed step of a set-up is a failed test.
#![allow(clippy::unwrap_used)]

#[path = "../support/mod.rs"]
mod support;

mod advice;
mod alone;
mod at_work;
mod aufs_changed;
mod changing_source;
mod commands_complete;
mod commit_again;
mod commit_conditions;
mod commit_unseen;
mod container_room;
mod containers_mounted;
mod converted;
mod damage;
mod damage_matrix;
mod device_missing;
mod escapes;
mod forged_claim;
mod forged_journal;
mod freed;
mod goes_on_elsewhere;
mod half_removed;
mod holes;
mod host_root;
mod hostile_stage;
mod inspected;
mod interrupted;
mod lifecycle;
mod limits;
mod linked_parts;
mod lost_flags;
mod lost_journal;
mod lost_on_devices;
mod machine_log;
mod moved_and_used;
mod names_missing;
mod originals;
mod others_files;
mod preflight;
mod privileges;
mod recorded_host;
mod refusals;
mod removal;
mod restart;
mod rotten_bytes;
mod run;
mod side_matters;
mod source_damage;
mod space;
mod told_to_stop;
mod traceless;
mod usage;
mod used_since;
mod verdict;
