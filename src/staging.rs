//! Names of the staging directory, for all who must know it: what stages, and what looks for leftovers.

/// The journal's name in the staging directory.
pub(crate) const JOURNAL: &str = "journal";

/// The staging directory's name in the Docker root. No storage driver has that name, so a daemon takes no notice of it.
pub const STAGE_NAME: &str = ".aufs2dm";

/// What the kernel engine and the verification mount, inside these directories of the staging directory, is ours to unmount.
pub const OWN_MOUNTS: [&str; 2] = ["mnt", "verify"];
