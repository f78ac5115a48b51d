//! Names in and of the staging directory, for everything that needs them: staging, and the search for leftovers.

/// The journal's name in the staging directory.
pub(crate) const JOURNAL: &str = "journal";

/// The staging directory's name in the Docker root. No storage driver has that name, so a daemon ignores it.
pub const STAGE_NAME: &str = ".aufs2dm";

/// The directories in the staging directory in which the kernel engine and the verification mount file systems; these
/// mounts are ours to unmount.
pub const OWN_MOUNTS: [&str; 2] = ["mnt", "verify"];
