//! The daemon's checks at its start, applied to the files, as a part of the report.

use std::collections::BTreeSet;
use std::io;

use uuid::Uuid;

use super::request::{Devices, Request};
use super::stores;
use crate::content::pool::Pool;
use crate::devicemapper::{DeviceFiles, FileSizes, FileSystemIdentity, Home, Severity, StartFault};
use crate::docker::{CacheId, ContainerId, Store};
use crate::ext4::read::ReadAt;
use crate::pool::target::Target;
use crate::thin::ThinId;
use crate::units::{Bytes, SECTOR_BYTES};

/// The name of the base device's file, which no layer has.
const BASE: &str = "base";

/// What would keep Docker from starting, and what it would tolerate.
pub(super) fn faults(
    request: &Request<'_>,
    devices: &Devices<'_>,
    (pool, files): (&Pool, &DeviceFiles),
    store: &Store,
) -> (Vec<String>, Vec<String>) {
    let home = Home {
        driver: devices.home.to_owned(),
        image: request.stores.image.to_owned(),
        // While staged, the containers have not been switched yet.
        root: request
            .conversion
            .is_none()
            .then(|| request.stores.root.to_owned()),
    };
    let ids: BTreeSet<u32> = pool
        .thin()
        .devices
        .iter()
        .map(|device| device.id.value())
        .collect();
    let size = files.base.map_or(Bytes(0), |base| base.size());
    let told = crate::devicemapper::Pool {
        transaction_id: pool.thin().transaction_id,
        devices: &ids,
        files: (*devices.target == Target::LoopFiles).then(|| sizes(pool)),
        is_given: matches!(devices.target, Target::ThinPool { .. }),
        file_system_of: &|id| identity(pool, id, size),
    };
    let all = crate::devicemapper::start_checks(&home, &told);
    let original = stores::original(request);
    let has_original = original.is_some();
    // That was already so before the conversion.
    let had_no_mount = |container: &ContainerId| {
        let mounts = original.as_ref().map(|store| store.join("layerdb/mounts"));
        mounts.is_some_and(|mounts| !mounts.join(container.as_str()).is_dir())
    };
    let (wrong, others): (Vec<_>, Vec<_>) = all.iter().partition(|fault| match fault {
        // As long as the originals exist, damage to a config shows by its digest, and this was already so before.
        StartFault::OtherDriver { .. } | StartFault::OtherId { .. } => !has_original,
        StartFault::ContainerWithoutMount { container } => !had_no_mount(container),
        fault => is_wrong(fault, store),
    });
    // That is how a container is left out.
    let is_left_out = |fault: &StartFault| match fault {
        StartFault::NotSwitched { container } => {
            request.before.containers.contains(container.as_str())
        }
        _ => false,
    };
    // The digest covers the config of a container that was converted.
    let is_remark = |fault: &&&StartFault| {
        fault.severity() == Severity::Warning
            && !(has_original && matches!(fault, StartFault::MountWithoutConfig { .. }))
    };
    (
        wrong.iter().map(ToString::to_string).collect(),
        others
            .iter()
            .filter(is_remark)
            .filter(|fault| !is_left_out(fault))
            .map(ToString::to_string)
            .collect(),
    )
}

/// Whether a fault is damage, even if Docker starts with it. What a killed Docker itself leaves is not damage.
fn is_wrong(fault: &StartFault, store: &Store) -> bool {
    let is_used = |layer: &str| {
        CacheId::parse(layer.as_bytes()).is_ok_and(|id| !store.users_of(&id).is_empty())
    };
    match fault {
        StartFault::NoBase { .. }
        | StartFault::OldDevices { .. }
        | StartFault::BaseReplaced { .. }
        | StartFault::BaseFileSystem { .. }
        | StartFault::SharedDevice { .. }
        | StartFault::TransactionOld { .. } => true,
        // Docker rolls back what it had not finished and nobody uses yet.
        StartFault::TransactionUnfinished { layer, .. } => {
            layer.is_empty() || layer == BASE || is_used(layer)
        }
        // And it marks what it is about to delete and nobody uses any more.
        StartFault::Deleted { layer } => is_used(layer),
        // It cannot be started, and could not before: it is half removed, and aufs does not have its layers either.
        StartFault::MountWithoutDevice { cache, .. } => !store
            .known
            .get(cache)
            .is_some_and(|layer| layer.of_removed && !layer.in_aufs),
        _ => fault.severity() == Severity::Refusal,
    }
}

fn sizes(pool: &Pool) -> FileSizes {
    let thin = pool.thin();
    FileSizes {
        data: Bytes(thin.nr_data_blocks.0 * thin.data_block_size.0 * SECTOR_BYTES),
        metadata: thin.nr_metadata_blocks.bytes(),
    }
}

/// The identity of a file system, from its superblock. Sources: linux `fs/ext4/ext4.h` (`s_magic`, `s_uuid`) and
/// `fs/xfs/libxfs/xfs_format.h` (`sb_magicnum`, `sb_uuid`).
fn identity(pool: &Pool, id: u32, size: Bytes) -> io::Result<FileSystemIdentity> {
    let id = ThinId::new(id).map_err(io::Error::other)?;
    let device = pool
        .device(id, size)
        .ok_or_else(|| io::Error::other("the pool has no such device"))?;
    let mut start = [0; 2048];
    device.read_at(&mut start, 0)?;
    let (kind, at) = if start[1080..1082] == [0x53, 0xef] {
        ("ext4", 1128)
    } else if start[..4] == *b"XFSB" {
        ("xfs", 32)
    } else {
        return Err(io::Error::other(
            "it has neither an ext4 nor an xfs superblock",
        ));
    };
    let uuid = Uuid::from_slice(&start[at..at + 16]).map_err(io::Error::other)?;
    Ok(FileSystemIdentity {
        uuid: uuid.hyphenated().to_string(),
        kind: kind.to_owned(),
    })
}
