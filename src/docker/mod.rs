//! Docker's on-disk model, read-only, and the target's small files as pure encodings.
//!
//! [`Root`] finds out what a directory is, [`Survey`] reads all of it and names every problem with the images and
//! containers it hits, and only a survey without problems gives the [`Model`] to convert. It covers the
//! content-addressed store of Docker 1.10 to 23:
//!
//! ```text
//! image/aufs/imagedb/content/sha256/<image>   config; its rootfs.diff_ids make the chain id of the top layer
//! image/aufs/repositories.json                names of images
//! image/aufs/layerdb/sha256/<chain>/          cache-id (the aufs layer), diff, parent, size, tar-split.json.gz
//! image/aufs/layerdb/mounts/<container>/      mount-id and init-id (aufs layers), parent (the image's chain)
//! containers/<container>/                     config.v2.json with the name of the driver, hostconfig.json
//! aufs/layers/<id>                            all ancestors, nearest first
//! aufs/diff/<id>/                             the branch; only that it is there is looked at
//! ```
//!
//! Reading follows no symbolic link below the root, takes nothing from the disk on trust, and changes nothing, access
//! times included where the kernel allows it. [`daemon`] tells whether Docker is stopped and keeps it so.
//! Source of the formats: moby v20.10 `image/`, `layer/`, `container/` and `daemon/graphdriver/aufs/`.

mod check;
mod container;
mod copies;
pub mod daemon;
mod data_dir;
mod device_files;
mod device_inventory;
pub mod devicemapper;
mod digest;
mod driver;
mod error;
mod files;
pub mod first_start;
mod id;
mod image;
mod inventory;
mod json;
mod layer;
mod lost_images;
mod model;
mod mount;
mod notes;
mod root;
mod stack;
mod store;
mod survey;
mod users;
mod warning;

pub use container::{CONFIG, Container, LEGACY_CONFIG, RestartPolicy, Status};
pub use copies::{CopyFault, copy_faults, is_file_of_names, is_time, same_bytes};
pub use data_dir::DataDir;
pub use device_files::{DeviceFileFault, DeviceFiles};
pub use driver::{config_with_driver, driver_of, is_aufs};
pub use error::{Error, Fault, OldLayout, Problem};
pub(crate) use files::{Dir, shown};
pub use files::{FileKind, MAX_FILE_BYTES, ReadError};
pub use id::{CacheId, ChainId, ContainerId, DiffId, IdError, ImageId, MountId};
pub use image::{Image, Reference};
pub use inventory::{
    ContainerSummary, ImageSummary, Inventory, OrphanSummary, ProblemSummary, WarningSummary,
};
pub use json::{JsonError, is_same_key};
pub use layer::Layer;
pub use lost_images::lost_images;
pub use model::{AufsLayer, Model, OrphanReason, Use};
pub use mount::Mount;
pub use root::{Owner, Root};
pub use store::{KnownLayer, Store, StorePaths, images_without_layers, unsound_images};
pub use survey::{Orphans, Survey};
pub use users::{Hits, User};
pub use warning::{Leftover, Warning};
