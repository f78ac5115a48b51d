//! Reasons why a part of a layer is not verified, in the report's words.

/// What the entries are compared with.
pub(super) const TAR: &str = "the layer's tar";

/// Why there is no verdict on a file system whose journal has not been replayed.
pub(super) const NOT_UNMOUNTED: &str = "its file system was not unmounted, and its journal contains changes that are not in place yet; the \
     kernel applies them when Docker mounts it, for example when its container is started and stopped";

/// Why files of a container's layer are not verified if aufs has changed them since.
pub(super) const CHANGED_IN_AUFS: &str =
    "it was changed in aufs since the conversion, and Docker keeps no digest of it";

/// The fault of a device that differs from what the conversion recorded.
pub(super) const NOT_AS_NOTED: &str = "the entries on its device are not those that were converted";

/// Why a container's layer is not verified if Docker has worked on it.
pub(super) const WENT_ON: &str = "its container has used it since the conversion";

/// The text for a file in such a layer.
pub(super) const NOT_WRITTEN: &str =
    "differs from aufs, although nothing has written to it since the conversion,";
