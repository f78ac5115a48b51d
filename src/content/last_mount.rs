//! When devices were mounted to be written to: what is written in place to a pool on devices shows in nothing else.

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

/// When a conversion wrote the driver's note of a layer's device, in seconds since 1970, if it did.
pub type WrittenAt<'a> = &'a dyn Fn(&CacheId) -> Option<i64>;

/// Whether there is a device whose ext4 the kernel has mounted to write to it since the conversion noted it, or one of which the note is
/// gone, so that nothing tells. xfs notes no such time. `home` is the driver's; `written_at` is when the conversion wrote a note, and `switched_at`
/// when it was in place, in seconds since 1970.
///
/// # Errors
///
/// As [`Pool::open`].
pub fn mounted_since_noted(
    home: &Path,
    target: &Target,
    (written_at, switched_at): (WrittenAt<'_>, Option<i64>),
) -> Result<bool, Error> {
    let pool = Pool::open(home, target)?;
    // What is wrong with these is for a verification to tell.
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

/// When the conversion noted a layer's device, in seconds since 1970: as the journal has it, for the time of a file can be set. Without that it is
/// the time of the note, which a copy of it does not have, but not after the conversion was in place.
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

/// When the kernel last mounted an ext4 to write to it, in seconds since 1970; `None` for another file system. Source: linux v6.6
/// `fs/ext4/ext4.h`, `struct ext4_super_block`, `s_magic`, `s_mtime` and `s_mtime_hi`; `fs/ext4/super.c`, `ext4_setup_super`, which
/// writes it at once.
pub(crate) fn last_mount(device: &ThinDevice<'_>) -> Option<i64> {
    const MAGIC: u16 = 0xEF53;
    let mut superblock = [0; 1024];
    device.read_at(&mut superblock, 1024).ok()?;
    let magic = u16::from_le_bytes(*superblock[0x38..].first_chunk()?);
    let low = u32::from_le_bytes(*superblock[0x2C..].first_chunk()?);
    (magic == MAGIC).then(|| i64::from(superblock[0x275]) << 32 | i64::from(low))
}
