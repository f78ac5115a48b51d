//! Damage that layers had before they were converted: recorded while aufs is there to show it, and recognized later
//! when aufs is gone.

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::delta::{self, add_bytes};
use super::layer_report::{Contents, Faults, LayerReport};
use super::open_device::OpenDevice;
use crate::content::{DeviceFiles, DeviceTree, Halt, ReadJob};
use crate::ext4::Ino;

/// The number of texts that are kept for each layer.
const KEPT: usize = 16;

/// The number of bytes of a file that are read at once.
const PIECE: usize = 1 << 20; // 1 MiB

/// A layer that already differed from what Docker had unpacked before it was converted. The field names are part of the
/// `--json` interface.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayerDamage {
    /// The layer.
    pub layer: String,
    /// How it differs from what Docker unpacked, as one text each; only the first few.
    pub files: Faults,
    /// SHA-256 of everything in which its device differs from its parent's; `None` if only the kernel reads the
    /// devices.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// The images and containers that need it.
    pub hits: String,
}

impl LayerDamage {
    /// The damage of a layer that was just checked with aufs beside it; `None` if it has none.
    pub(super) fn found(
        work: &ReadJob<'_>,
        report: &LayerReport,
        devices: (&OpenDevice<'_>, Option<&OpenDevice<'_>>),
    ) -> Result<Option<Self>, Halt> {
        let (Contents::SourceDamaged { files }, Some(layer)) = (&report.contents, &report.id)
        else {
            return Ok(None);
        };
        let mut files = files.clone();
        let kept = files.first.len().min(KEPT);
        files.more += files.first.drain(kept..).count() as u64;
        Ok(Some(Self {
            layer: layer.to_string(),
            files,
            digest: digest(work, devices)?,
            hits: report.hits.to_string(),
        }))
    }

    /// Whether the differences found in a layer without aufs for comparison are this damage and nothing else.
    fn is_all_of(
        &self,
        work: &ReadJob<'_>,
        files: &Faults,
        devices: (&OpenDevice<'_>, Option<&OpenDevice<'_>>),
    ) -> Result<bool, Halt> {
        if let Some(noted) = &self.digest {
            return Ok(digest(work, devices)?.as_ref() == Some(noted));
        }
        let is_noted = |fault: &String| self.files.first.contains(fault);
        Ok(self.files.more == 0 && files.more == 0 && files.first.iter().all(is_noted))
    }
}

/// Marks a layer's damage as older than the conversion, if it was recorded as such.
pub(super) fn recognise(
    work: &ReadJob<'_>,
    known: &[LayerDamage],
    report: &mut LayerReport,
    devices: (&OpenDevice<'_>, Option<&OpenDevice<'_>>),
) -> Result<(), Halt> {
    let Contents::Mismatch { files, before } = &report.contents else {
        return Ok(());
    };
    let known = known.iter().find(|damage| {
        report
            .id
            .as_ref()
            .is_some_and(|id| id.as_str() == damage.layer)
    });
    let mut all = before.clone();
    all.append(files.clone());
    if let Some(known) = known
        && known.is_all_of(work, &all, devices)?
    {
        report.contents = Contents::SourceDamaged { files: all };
    }
    Ok(())
}

/// The digest of everything in which a layer's device differs from its parent's: entries, their attributes, and the
/// files' content.
fn digest(
    work: &ReadJob<'_>,
    (opened, below): (&OpenDevice<'_>, Option<&OpenDevice<'_>>),
) -> Result<Option<String>, Halt> {
    let below = below.and_then(|below| below.checked.as_ref());
    let (Some(checked), Some(below)) = (&opened.checked, below) else {
        return Ok(None);
    };
    let (parent, view) = (&below.view, &checked.view);
    let Some(tree) = DeviceTree::of(view) else {
        return Ok(None);
    };
    let mut sha = Sha256::new();
    add_bytes(&mut sha, delta::digest(parent, view).as_bytes());
    let mut files = DeviceFiles::new(work, opened.device, tree);
    for (ino, size) in delta::files(parent, view) {
        work.go_on()?;
        sha.update(ino.0.to_le_bytes());
        add_content(&mut sha, &mut files, (ino, size))?;
    }
    Ok(Some(format!("{:x}", sha.finalize())))
}

fn add_content(
    sha: &mut Sha256,
    files: &mut DeviceFiles<'_>,
    (ino, size): (Ino, u64),
) -> Result<(), Halt> {
    files.open(ino, size);
    let data: Vec<_> = files.data().collect();
    let mut buffer = Vec::new();
    for part in data {
        let mut at = part.start;
        while at < part.end {
            sha.update(at.to_le_bytes());
            let bytes = usize::try_from(part.end - at).unwrap_or(PIECE).min(PIECE);
            buffer.resize(bytes, 0);
            let read = files.read_at(&mut buffer, at);
            read.map_err(|source| Halt::Device {
                path: format!("inode {}", ino.0),
                source,
            })?;
            add_bytes(sha, &buffer);
            at += bytes as u64;
        }
    }
    Ok(())
}
