//! Shares blocks with the branch instead of copying them, where the file system can (XFS with reflink, btrfs).
//!
//! It saves space first of all; time only for large files, since every end of a file that is no whole block, and every
//! small file, is copied anyway.

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

/// From how many bytes on a piece is shared rather than copied: below, the call costs more than the copy.
const LEAST: u64 = 128 * 1024;

/// How many files that cannot be shared are taken as a sign that none can.
const MOST_TRIES: usize = 64;

/// A piece of a unit's buffer that is not filled, because its blocks are to be shared.
#[derive(Debug)]
pub(super) struct Share<'a> {
    /// Where in the buffer it is.
    pub(super) part: Range<usize>,
    /// The file whose blocks they are, and from which byte on.
    pub(super) file: SourceFile<'a>,
    pub(super) from: u64,
}

impl Share<'_> {
    /// Shares the blocks with `target`, in which the buffer goes to byte `offset`. `false`: this file cannot be shared.
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
            Err(errno) => Err(self
                .file
                .io_error("share the blocks of", errno.into())
                .into()),
        }
    }
}

/// The bytes of a piece of `len` bytes at `offset` of a file of `size` bytes that are worth sharing: whole blocks.
pub(super) fn worth(size: u64, offset: u64, len: u64) -> Option<u64> {
    let whole = size.saturating_sub(offset).min(len) / BLOCK_BYTES * BLOCK_BYTES;
    (whole >= LEAST).then_some(whole)
}

/// Tries it on files that are large enough, right where their blocks belong, until it is known.
pub(super) fn works(
    layout: &Layout,
    target: &File,
    checkpoints: &Checkpoints<'_>,
) -> Result<bool, Error> {
    // The blocks of a device that is durable are not touched any more.
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
            // One file cannot be shared, because btrfs keeps it without checksums for example: others may.
            Err(Errno::EINVAL | Errno::ETXTBSY) => {}
            Err(errno) if cannot(errno) => return Ok(false),
            Err(errno) => return Err(file.io_error("share the blocks of", errno.into()).into()),
        }
    }
    Ok(false)
}

/// A run that is worth sharing.
struct Candidate<'a> {
    layer: &'a Layer,
    device: &'a LaidDevice,
    run: &'a DataRun,
    /// How many of its bytes.
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

/// What a file system says that does not share blocks, or not of this file.
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
