//! Docker's on-disk model, read-only.
//!
//! [`Root`] determines the layout of a directory. [`Survey`] reads all of it and reports every problem together with
//! the images and containers that it affects. Only a survey without problems yields the [`Model`] to convert. The code
//! covers the content-addressed store of Docker 1.10 to 23:
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
//! Reading follows no symbolic link below the root, trusts nothing on the disk, and changes nothing, not even access
//! times where the kernel allows that. [`daemon`](crate::daemon) finds out whether Docker is stopped and keeps it from
//! starting.
//! Source of the formats: moby v20.10 `image/`, `layer/`, `container/` and `daemon/graphdriver/aufs/`.

mod check;
mod container;
mod container_config;
mod container_state;
mod copies;
mod damage_record;
mod data_dir;
mod diagnostics;
mod digest;
mod driver;
mod error;
mod fault;
mod files;
mod id;
mod image;
mod image_names;
mod image_store;
mod inventory;
mod json;
mod layer;
mod leave_out;
mod left_out;
mod lost_images;
mod model;
mod mount;
mod problem;
mod reference;
mod repair;
mod root;
mod stack;
mod store;
mod store_edits;
mod stores;
mod survey;
mod users;
mod warning;

pub(crate) use container::read_containers;
pub use container::{CONFIG, Container, LEGACY_CONFIG};
pub use container_config::{name_of, started_at, volumes_of};
pub use container_state::{RestartPolicy, Status};
pub use copies::{CopyFault, copy_faults, is_file_of_names, is_time, same_bytes};
pub use damage_record::DamageRecord;
pub use data_dir::{DataDir, Owner};
pub(crate) use diagnostics::{Diagnostics, Subject};
pub use driver::{config_with_driver, driver_of, is_aufs};
pub use error::{Error, OldLayout};
pub use fault::Fault;
pub(crate) use files::Dir;
pub use files::{FileKind, MAX_FILE_BYTES, ReadError};
pub use id::{CacheId, ChainId, ContainerId, DiffId, IdError, ImageId, MountId};
pub use image::Image;
pub use image_names::image_names;
pub(crate) use image_store::ImageStore;
pub use inventory::{
    ContainerSummary, ImageSummary, Inventory, OrphanSummary, ProblemSummary, WarningSummary,
};
pub(crate) use inventory::{count_volumes, image_summaries, sum};
pub use json::{JsonError, is_same_key};
pub(crate) use json::{Member, Object, decode_string};
pub use layer::Layer;
pub use left_out::LeftOut;
pub use lost_images::lost_images;
pub use model::{AufsLayer, Model, OrphanReason, Use};
pub use mount::Mount;
pub use problem::{Class, Problem};
pub use reference::Reference;
pub use repair::{NewContent, Proof, RecordChange};
pub(crate) use root::{DRIVERS, remapped_below};
pub use root::{Root, RootParts};
pub(crate) use store::is_of_either_driver;
pub use store::{KnownLayer, Store, StorePaths, images_without_layers, unsound_images};
pub use store_edits::StoreEdits;
pub(crate) use stores::{Repairs, StoreDirs, Stores};
pub(crate) use survey::settle;
pub use survey::{Orphans, Survey};
pub(crate) use users::Users;
pub use users::{Hits, User};
pub use warning::{Leftover, Warning};
