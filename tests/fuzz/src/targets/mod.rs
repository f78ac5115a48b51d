//! What the fuzzer runs, and `tests/library/fuzz.rs` runs with what is in `corpus/`: functions that take any bytes as something
//! that aufs2dm reads from a disk, and panic if reading them panics, takes more work than the bytes justify, or breaks a promise.

mod changes;
mod daemon;
mod docker_json;
mod docker_root;
mod driver_files;
mod ext4;
mod files;
mod sparse;
mod stage;
mod tar_split;
mod thin;

/// A target.
pub(crate) type Target = fn(&[u8]);

/// All targets by name: that of their folder in `corpus/`.
pub(crate) const ALL: [(&str, Target); 8] = [
    ("daemon", daemon::daemon),
    ("docker_json", docker_json::docker_json),
    ("docker_root", docker_root::docker_root),
    ("driver_files", driver_files::driver_files),
    ("ext4", ext4::ext4),
    ("stage", stage::stage),
    ("tar_split", tar_split::tar_split),
    ("thin", thin::thin),
];
