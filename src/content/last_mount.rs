//! When devices were mounted writable: nothing else reveals a write in place to a pool on devices.

use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::pool::{Error, Pool, ThinDevice};
use crate::devicemapper::DeviceFiles;
use crate::devicemapper::driver_files::Device;
use crate::docker::CacheId;
use crate::ext4::read::ReadAt;
use crate::pool::target::Target;
use crate::thin::ThinId;

/// When a conversion wrote the driver's metadata file of a layer's device, in seconds since 1970, if it did.
pub type WrittenAt<'a> = &'a dyn Fn(&CacheId) -> Option<i64>;

/// Whether the kernel has mounted the ext4 of any device writable since the conversion recorded that device, or the
/// metadata file of a device is gone, so that this is unknown. xfs does not store such a time. `home` is the driver's;
/// `written_at` is when the conversion wrote a metadata file, and `switched_at` when the result was in place, in
/// seconds since 1970.
///
/// # Errors
///
/// As for [`Pool::open`].
pub fn mounted_since_noted(
    home: &Path,
    target: &Target,
    (written_at, switched_at): (WrittenAt<'_>, Option<i64>),
) -> Result<bool, Error> {
    let pool = Pool::open(home, target)?;
    // A verification reports faults of these files.
    let files = DeviceFiles::read(home).unwrap_or_default();
    let is_mounted = |(id, device): (&CacheId, &Device)| {
        let thin = ThinId::new(device.id().get()).ok();
        let device = thin.and_then(|thin| pool.device(thin, device.size()));
        let mounted = device.and_then(|device| last_mount(&device));
        mounted
            .zip(noted_at(home, id, (written_at(id), switched_at)))
            .is_some_and(|(mounted, noted)| mounted > noted)
    };
    let noted: BTreeSet<u32> = (files.layers.values().chain(&files.base))
        .map(|device| device.id().get())
        .collect();
    let mut all = pool.thin().devices.iter();
    let is_unknown = all.any(|device| !noted.contains(&device.id.value()));
    Ok(is_unknown || files.layers.iter().any(is_mounted))
}

/// When the conversion recorded a layer's device, in seconds since 1970: the journal's time is used, because the time
/// of a file can be set. Without it, this is the time of the metadata file, which a copy of the file does not have; but
/// never later than when the conversion was in place.
pub(crate) fn noted_at(
    home: &Path,
    id: &CacheId,
    (written_at, switched_at): (Option<i64>, Option<i64>),
) -> Option<i64> {
    let note = home.join("metadata").join(id.as_str());
    let modified = note.symlink_metadata().ok()?.mtime();
    let modified = written_at.unwrap_or(modified);
    Some(switched_at.map_or(modified, |at| at.min(modified)))
}

/// When the kernel last mounted an ext4 writable, in seconds since 1970; `None` for another file system. Source: linux
/// v6.6 `fs/ext4/ext4.h`, `struct ext4_super_block`, `s_magic`, `s_mtime` and `s_mtime_hi`; `fs/ext4/super.c`,
/// `ext4_setup_super`, which writes it immediately.
pub(crate) fn last_mount(device: &ThinDevice<'_>) -> Option<i64> {
    const MAGIC: u16 = 0xEF53;
    let mut superblock = [0; 1024];
    device.read_at(&mut superblock, 1024).ok()?;
    let magic = u16::from_le_bytes(*superblock[0x38..].first_chunk()?);
    let low = u32::from_le_bytes(*superblock[0x2C..].first_chunk()?);
    (magic == MAGIC).then(|| i64::from(superblock[0x275]) << 32 | i64::from(low))
}
