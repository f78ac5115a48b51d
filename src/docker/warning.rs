//! What the operator should know about a root although it does not prevent the conversion.

use std::fmt;
use std::path::PathBuf;

use super::container_state::RestartPolicy;
use super::fault::Fault;
use super::id::{CacheId, ChainId, ContainerId, ImageId};
use super::reference::Reference;
use crate::chain::Chain;
use crate::tree::shown;

/// A warning that gets a line in the report.
#[derive(Debug)]
pub enum Warning {
    /// An image whose config does not match its digest: Docker does not show it.
    ImageUnverified {
        /// The image.
        image: ImageId,
    },
    /// An image whose top layer is not in the layer store: Docker does not show it.
    ImageWithoutLayers {
        /// The image.
        image: ImageId,
        /// The chain id that its config yields.
        chain: ChainId,
    },
    /// A name of an image that does not exist.
    DanglingReference {
        /// The name.
        reference: Reference,
        /// The image it refers to.
        image: ImageId,
    },
    /// No `repositories.json`: images have no names.
    NoRepositories,
    /// A layer without `tar-split.json.gz`: it runs, but cannot be saved or pushed.
    NoTarSplit {
        /// The layer.
        chain: ChainId,
    },
    /// Remains of an operation that Docker did not finish; not converted.
    Leftover {
        /// The path.
        path: PathBuf,
        /// The operation.
        what: Leftover,
    },
    /// Damage to an object whose creation or deletion was interrupted and that nothing uses; not converted.
    Interrupted {
        /// What is wrong with it.
        fault: Fault,
    },
    /// Damage to layers that nothing uses, if such layers are left out.
    UnusedDamage {
        /// What is wrong with them.
        fault: Fault,
    },
    /// A layer whose parent in aufs is one of `BuildKit`'s layers, not the equal one in the layer store. The parent in
    /// aufs is kept.
    ParentOfBuildKit {
        /// The layer.
        layer: CacheId,
        /// Its parent in aufs.
        parent: CacheId,
    },
    /// A mount without a container.
    MountWithoutContainer {
        /// The container id of the mount.
        container: ContainerId,
    },
    /// A container directory without a config: Docker ignores it.
    ContainerWithoutConfig {
        /// The directory.
        path: PathBuf,
    },
    /// An aufs container without a mount: Docker does not load it.
    ContainerWithoutMount {
        /// The container.
        container: ContainerId,
    },
    /// A container whose config names another id than its directory: Docker does not load it.
    ContainerIdDiffers {
        /// The id of the directory.
        container: ContainerId,
        /// The id in the config.
        found: String,
    },
    /// A container whose image is gone but whose layers exist.
    ContainerImageGone {
        /// The container.
        container: ContainerId,
        /// The image it was created from.
        image: ImageId,
    },
    /// A container from before Docker 1.10 that was never migrated.
    ContainerNotMigrated {
        /// The container.
        container: ContainerId,
    },
    /// A container of another driver: it stays invisible, and `docker volume prune` takes its volumes as unused.
    OtherDriver {
        /// The container.
        container: ContainerId,
        /// Its driver.
        driver: String,
    },
    /// A container whose config already says `devicemapper`: it becomes visible again after the conversion.
    Revived {
        /// The container.
        container: ContainerId,
    },
    /// A container that the first start of Docker starts.
    WillStart {
        /// The container.
        container: ContainerId,
        /// Its restart policy.
        policy: RestartPolicy,
    },
    /// A container that the first start of Docker removes, because it was started with `--rm`.
    WillBeRemoved {
        /// The container.
        container: ContainerId,
    },
    /// A container that ran when Docker was killed. Its branch was not unmounted cleanly.
    StoppedHard {
        /// The container.
        container: ContainerId,
    },
    /// A container with checkpoints, which are not expected to work on another driver.
    Checkpoints {
        /// The container.
        container: ContainerId,
    },
}

/// An operation that Docker did not finish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leftover {
    /// A deletion: renamed to `…-removing`.
    Removal,
    /// A layer being written.
    Write,
    /// A branch that belongs to no parent list.
    Branch,
    /// A name that Docker does not use there.
    Unknown,
}

impl fmt::Display for Leftover {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Removal => "was left by a deletion that did not finish",
            Self::Write => "was left by a write that did not finish",
            Self::Branch => "is a branch without a parent list",
            Self::Unknown => "is not something that Docker puts there",
        })
    }
}

impl Warning {
    /// A stable name of the warning's kind, for `--json`.
    pub fn code(&self) -> &'static str {
        match self {
            Self::ImageUnverified { .. } => "image-unverified",
            Self::ImageWithoutLayers { .. } => "image-without-layers",
            Self::DanglingReference { .. } => "dangling-reference",
            Self::NoRepositories => "no-repositories",
            Self::NoTarSplit { .. } => "no-tar-split",
            Self::Leftover { .. } => "leftover",
            Self::Interrupted { .. } => "interrupted",
            Self::UnusedDamage { .. } => "unused-damage",
            Self::ParentOfBuildKit { .. } => "parent-of-buildkit",
            Self::MountWithoutContainer { .. } => "mount-without-container",
            Self::ContainerWithoutConfig { .. } => "container-without-config",
            Self::ContainerWithoutMount { .. } => "container-without-mount",
            Self::ContainerIdDiffers { .. } => "container-id-differs",
            Self::ContainerImageGone { .. } => "container-image-gone",
            Self::ContainerNotMigrated { .. } => "container-not-migrated",
            Self::OtherDriver { .. } => "other-driver",
            Self::Revived { .. } => "revived",
            Self::WillStart { .. } => "will-start",
            Self::WillBeRemoved { .. } => "will-be-removed",
            Self::StoppedHard { .. } => "stopped-hard",
            Self::Checkpoints { .. } => "checkpoints",
        }
    }
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ImageUnverified { image } => {
                write!(
                    f,
                    "image {image}: its config does not match its digest, so Docker does not show it"
                )
            }
            Self::ImageWithoutLayers { image, chain } => {
                write!(
                    f,
                    "image {image}: its layer {chain} is missing, so Docker does not show it"
                )
            }
            Self::DanglingReference { reference, image } => {
                write!(f, "{reference}: refers to image {image}, which is missing")
            }
            Self::NoRepositories => {
                f.write_str("repositories.json: is missing, so no image has a name")
            }
            Self::NoTarSplit { chain } => {
                write!(
                    f,
                    "layer {chain}: has no tar-split.json.gz, so docker save and push fail for it"
                )
            }
            Self::Leftover { path, what } => {
                write!(f, "{}: {what}, so it is not converted", shown(path))
            }
            Self::Interrupted { fault } => {
                write!(
                    f,
                    "{}: nothing uses it, so it is not converted",
                    Chain(fault)
                )
            }
            Self::UnusedDamage { fault } => {
                write!(f, "{}: nothing uses it, so it is left out", Chain(fault))
            }
            Self::ParentOfBuildKit { layer, parent } => write!(
                f,
                "aufs layer {layer}: is based on BuildKit's {parent}, not on the same layer in the image store"
            ),
            other => other.fmt_container(f),
        }
    }
}

impl Warning {
    fn fmt_container(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ContainerWithoutConfig { path } => {
                write!(
                    f,
                    "{}: has no config.v2.json, so Docker ignores it",
                    shown(path)
                )
            }
            Self::MountWithoutContainer { container } => {
                write!(f, "mount {container}: has no container")
            }
            Self::ContainerWithoutMount { container } => {
                write!(
                    f,
                    "container {container}: has no mount, so Docker does not load it"
                )
            }
            Self::ContainerIdDiffers { container, found } => {
                write!(
                    f,
                    "container {container}: its config says {found:?}, so Docker does not load it"
                )
            }
            Self::ContainerImageGone { container, image } => {
                write!(
                    f,
                    "container {container}: its image {image} is missing, but its layers are there"
                )
            }
            Self::ContainerNotMigrated { container } => {
                write!(
                    f,
                    "container {container}: is from before Docker 1.10 and was never migrated"
                )
            }
            other => other.fmt_first_start(f),
        }
    }

    fn fmt_first_start(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OtherDriver { container, driver } => write!(
                f,
                "container {container}: belongs to driver {driver:?}, so it stays invisible, and docker volume prune \
                 treats its volumes as unused"
            ),
            Self::Revived { container } => {
                write!(
                    f,
                    "container {container}: its config already says devicemapper, so it becomes visible again"
                )
            }
            Self::WillStart { container, policy } => {
                write!(
                    f,
                    "container {container}: Docker's first start starts it (restart policy {policy})"
                )
            }
            Self::WillBeRemoved { container } => {
                write!(
                    f,
                    "container {container}: Docker's first start removes it (--rm)"
                )
            }
            Self::StoppedHard { container } => {
                write!(
                    f,
                    "container {container}: was running when Docker was killed, so it shows as exited (255)"
                )
            }
            Self::Checkpoints { container } => {
                write!(
                    f,
                    "container {container}: its checkpoints are not expected to work afterwards"
                )
            }
            _ => Ok(()),
        }
    }
}
