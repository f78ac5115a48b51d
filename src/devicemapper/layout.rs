//! The files and directories that the driver keeps at the root of a device's file system.

/// The directory in every device that holds the layer's merged tree. Source: moby v20.10
/// `daemon/graphdriver/devmapper/driver.go`, `Get`.
pub(crate) const ROOTFS: &str = "rootfs";

/// The file beside it that holds the id of the first device in the chain. Source: same as above.
pub(crate) const ID_FILE: &str = "id";
