//! Shares blocks with the branch instead of copying them, if the file system supports it (XFS with reflink, btrfs).
//!
//! This mainly saves space. It saves time only for large files, since small files, and the end of a file that does not
//! fill a block, are copied anyway.

use std::fs::File;
use std::ops::Range;

use nix::errno::Errno;

use super::error::Error;
use crate::engine::checkpoint::Checkpoints;
use crate::ext4::write::DataRun;
use crate::plan::{DeviceIndex, LaidDevice, Layout, PlannedDevice};
use crate::source::Layer;
use crate::source::branch_reader::{BranchReader, SourceFile};
use crate::sys::CloneRange;
use crate::units::BLOCK_BYTES;

/// The minimum size in bytes of a piece to share. Below it, the call costs more than the copy.
const LEAST: u64 = 128 * 1024;

/// The number of files that cannot be shared after which sharing is given up.
const MOST_TRIES: usize = 64;

/// A piece of a unit's buffer that is not filled, because its blocks will be shared.
#[derive(Debug)]
pub(super) struct Share<'a> {
    /// Its range in the buffer.
    pub(super) part: Range<usize>,
    /// The file that has the blocks, and the offset in it.
    pub(super) file: SourceFile<'a>,
    pub(super) from: u64,
}

impl Share<'_> {
    /// Shares the blocks with `target`, in which the buffer starts at byte `offset`. `false`: this file cannot be
    /// shared.
    pub(super) fn apply(&self, target: &File, offset: u64) -> Result<bool, Error> {
        let to = offset + self.part.start as u64;
        let len = self.part.len() as u64;
        match self.file.share(
            target,
            CloneRange {
                from: self.from,
                to,
                len,
            },
        ) {
            Ok(()) => Ok(self.file.check().map(|()| true)?),
            Err(errno) if cannot(errno) => Ok(false),
            Err(errno) => Err(self.file.io_error("share the blocks", errno.into()).into()),
        }
    }
}

/// The number of bytes that are worth sharing in a piece of `len` bytes at `offset` of a file of `size` bytes: whole
/// blocks.
pub(super) fn worth(size: u64, offset: u64, len: u64) -> Option<u64> {
    let whole = size.saturating_sub(offset).min(len) / BLOCK_BYTES * BLOCK_BYTES;
    (whole >= LEAST).then_some(whole)
}

/// Whether sharing works. Tries it on files that are large enough, right where their blocks belong, until this is
/// known.
pub(super) fn works(
    layout: &Layout,
    target: &File,
    checkpoints: &Checkpoints<'_>,
) -> Result<bool, Error> {
    // The blocks of a durable device must not be changed any more.
    let to_write = (0..)
        .map(DeviceIndex)
        .zip(layout.iter())
        .filter(|(at, _)| !checkpoints.is_done(*at));
    let candidates = to_write.flat_map(|(_, device)| candidates(device));
    for candidate in candidates.take(MOST_TRIES) {
        let Candidate {
            layer,
            device,
            run,
            len,
        } = candidate;
        let file = BranchReader::new(layer)?.open(run.node)?;
        let range = CloneRange {
            from: u64::from(run.logical) * BLOCK_BYTES,
            to: device.offset_of(run.physical),
            len,
        };
        match file.share(target, range) {
            Ok(()) => return Ok(true),
            // This one file cannot be shared, for example because btrfs keeps it without checksums; others may be.
            Err(Errno::EINVAL | Errno::ETXTBSY) => {}
            Err(errno) if cannot(errno) => return Ok(false),
            Err(errno) => return Err(file.io_error("share the blocks", errno.into()).into()),
        }
    }
    Ok(false)
}

/// A run that is worth sharing.
struct Candidate<'a> {
    layer: &'a Layer,
    device: &'a LaidDevice,
    run: &'a DataRun,
    /// The number of its bytes.
    len: u64,
}

/// The device's runs that are worth sharing.
fn candidates<'a>(
    (planned, device): (&'a PlannedDevice, &'a LaidDevice),
) -> impl Iterator<Item = Candidate<'a>> {
    let layer = planned.layer.as_ref();
    let runs = layer.map_or(&[][..], |_| &device.delta.data);
    runs.iter().filter_map(move |run| {
        let layer = layer?;
        let size = layer.tree.regular(run.node)?.size;
        let offset = u64::from(run.logical) * BLOCK_BYTES;
        let len = worth(size, offset, u64::from(run.blocks) * BLOCK_BYTES)?;
        Some(Candidate {
            layer,
            device,
            run,
            len,
        })
    })
}

/// Whether the error means that the file system cannot share blocks, or not those of this file.
fn cannot(errno: Errno) -> bool {
    matches!(
        errno,
        Errno::EOPNOTSUPP
            | Errno::ENOTTY
            | Errno::EXDEV
            | Errno::EINVAL
            | Errno::ENOSYS
            | Errno::ETXTBSY
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_large_pieces_of_whole_blocks_are_shared() {
        for (size, offset, len, shared) in [
            (131_072, 0, 131_072, Some(131_072)),
            (131_071, 0, 131_072, None),
            (135_000, 0, 135_168, Some(131_072)),
            (1 << 20, 1 << 20, 4096, None),
            (1 << 20, 2 << 20, 4096, None),
            (10 << 20, 4 << 20, 1 << 20, Some(1 << 20)),
        ] {
            assert_eq!(worth(size, offset, len), shared, "{size} {offset} {len}");
        }
    }
}
