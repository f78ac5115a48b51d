//! Compares bytes that a device shares with its parent although it has its own blocks for them.
//!
//! A pool block may be larger than a file system block, so a layer that changes one file has copies of its neighbours'
//! bytes. The branch says nothing about these: they must be what the parent has. A file that the parent does not have,
//! or has in another state, is not one of them: it is the layer's own, and the comparison of the trees reported it if
//! the branch lacks it.

use std::ops::Range;

use super::attributes::unchanged;
use super::compare::EntryComparison;
use super::layer_report::Faults;
use super::paths;
use crate::content::pool::ThinDevice;
use crate::content::{Halt, ReadJob};
use crate::ext4::Ino;
use crate::ext4::read::{ReadAt, View};

/// Compares the content of files that the branch does not have, in the `changed` ranges of the device. Returns one text
/// for each file that differs.
pub(super) fn differing(
    work: &ReadJob<'_>,
    (child, view): (ThinDevice<'_>, &View),
    (parent, view_below): (ThinDevice<'_>, &View),
    changed: &[Range<u64>],
    compared: &EntryComparison,
) -> Result<Faults, Halt> {
    let block = u64::from(view.block_bytes());
    let mut found: Vec<Ino> = Vec::new();
    let (mut here, mut below) = (Vec::new(), Vec::new());
    for (ino, run) in view.content_in(changed) {
        let is_known = compared.explained.contains(&ino) || found.last() == Some(&ino);
        if is_known || run.unwritten || !is_carried(view_below, view, ino) {
            continue;
        }
        let length = usize::try_from(u64::from(run.blocks.min(256)) * block).unwrap_or(0);
        let end = (run.physical + u64::from(run.blocks)) * block;
        let mut at = run.physical * block;
        while at < end {
            work.go_on()?;
            let part = length.min(usize::try_from(end - at).unwrap_or(usize::MAX));
            read(&mut here, part, &child, at, ino.0)?;
            read(&mut below, part, &parent, at, ino.0)?;
            work.read(2 * part as u64);
            if here != below {
                found.push(ino);
                break;
            }
            at += part as u64;
        }
    }
    let names = paths::shown(view, &found).into_iter();
    Ok(names
        .map(|name| {
            format!("{name}: its content differs from the layer below, but the layer does not contain it")
        })
        .collect())
}

/// Whether a file belongs to the parent and is unchanged from there.
fn is_carried(below: &View, view: &View, ino: Ino) -> bool {
    let both = below.inode(ino).zip(view.inode(ino));
    both.is_some_and(|(before, inode)| unchanged((below, before), (view, inode), ino).is_ok())
}

fn read(
    buffer: &mut Vec<u8>,
    length: usize,
    device: &dyn ReadAt,
    at: u64,
    ino: u32,
) -> Result<(), Halt> {
    buffer.resize(length, 0);
    device.read_at(buffer, at).map_err(|source| Halt::Device {
        path: format!("inode {ino}"),
        source,
    })
}
