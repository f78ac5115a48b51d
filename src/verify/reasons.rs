//! Reasons why something of a layer is not verified, as the report words them.

/// What entries are compared with.
pub(super) const TAR: &str = "the layer's tar";

/// Why nothing is said of a file system whose journal has not been replayed.
pub(super) const NOT_UNMOUNTED: &str = "its file system was not unmounted, and its journal has changes that are not in their places yet; the \
     kernel puts them there once Docker mounts it, as when its container is started and stopped";

/// Why files of a container's layer that aufs has changed since are not verified.
pub(super) const CHANGED_IN_AUFS: &str =
    "aufs has changed it since the conversion, and Docker keeps no digest of it";

/// What is wrong with a device that is not what the conversion noted.
pub(super) const NOT_AS_NOTED: &str = "the entries of its device are not those that were converted";

/// Why a container's layer is not verified that Docker worked on.
pub(super) const WENT_ON: &str = "its container went on with it since the conversion";

/// What is said of a file in such a layer.
pub(super) const NOT_WRITTEN: &str =
    "differs from aufs, although nothing has written it since the conversion,";
