//! Examines devices whose file system is not read here: the kernel mounts them read-only, and what it shows is
//! compared.
//!
//! For xfs this is the only check. Each device is compared as a whole with the merge of its layers, so nothing depends
//! on the findings for its parent. Bytes are read for the files that the layer adds; for files from below, only if the
//! device has blocks of its own for them.

use std::fs::File;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::atomic::Ordering;

use nix::errno::Errno;
use nix::fcntl::OFlag;

use super::compare::{MergeComparison, compare};
use super::contents::Files;
use super::digest::digest;
use super::read::{TreeRead, read_tree};
use super::top;
use crate::chain::Chain;
use crate::content::Halt;
use crate::devicemapper::ROOTFS;
use crate::devicemapper::driver_files::FileSystem;
use crate::docker::CacheId;
use crate::source::Layer;
use crate::tree::LayerTree;
use crate::verify::kernel::{self, Device, Fault};
use crate::verify::layer_check::{LayerCheck, file_bytes};
use crate::verify::layer_report::{Contents, Faults, LayerReport, Role, Tree};
use crate::verify::open_device::{BranchRef, OpenDevice};
use crate::verify::out_of_reach::out_of_reach;
use crate::verify::reach::Reach;
use crate::verify::reasons::{NOT_AS_NOTED, NOT_UNMOUNTED};
use crate::verify::report::{KernelCheck, Mode};
use crate::verify::targets::Target;
use crate::verify::verification::Verification;

/// The reason given by a quick verification for a device outside its sample.
const LEFT_OUT: &str = "it was not in the sample of a quick verification";

/// Examines a device through the kernel.
pub(in crate::verify) fn examine(
    run: &Verification<'_>,
    (place, opened): (usize, &OpenDevice<'_>),
    reach: &Reach,
    mut report: LayerReport,
) -> Result<LayerReport, Halt> {
    let target = &run.targets[place];
    if run.mode == Mode::Quick && !run.is_sampled(place) {
        report.tree = not_compared(LEFT_OUT);
        report.contents = Contents::NotRead;
        return Ok(report);
    }
    let attached = match &reach.attached {
        Ok(attached) => attached,
        Err(KernelCheck::No { reason }) => return Ok(out_of_reach(report, reason)),
        Err(KernelCheck::Yes { .. }) => {
            return Ok(out_of_reach(
                report,
                "the kernel does not activate the pool",
            ));
        }
    };
    let Some(device) = device(target) else {
        return Ok(out_of_reach(report, "it has no device"));
    };
    let mut seen = Ok(());
    let heard = attached.with_mounted(&device, &mut |root| {
        reach.mounted.fetch_add(1, Ordering::Relaxed);
        seen = inside(run, (place, opened), root, &mut report);
    });
    match heard {
        Ok(()) => seen.map(|()| report),
        Err(kernel::Error::Fault(fault)) if !cannot_mount(&fault) => {
            report.structure.push(Chain(&fault));
            report.tree = not_compared("the kernel does not mount it");
            report.contents = Contents::NotVerifiable {
                reason: "the kernel does not mount it".to_owned(),
            };
            Ok(report)
        }
        Err(error) => {
            seen?;
            let reason = match error {
                kernel::Error::Fault(Fault::NotUnmounted { .. }) => NOT_UNMOUNTED.to_owned(),
                error => Chain(&error).to_string(),
            };
            Ok(out_of_reach(report, &reason))
        }
    }
}

fn not_compared(reason: &str) -> Tree {
    Tree::NotCompared {
        reason: reason.to_owned(),
    }
}

pub(in crate::verify) fn device(target: &Target) -> Option<Device> {
    let (id, size) = target.device?;
    let name = target.id.as_ref();
    Some(Device {
        id,
        size,
        name: name.map_or_else(|| "base".to_owned(), ToString::to_string),
        file_system: FileSystem::Xfs,
    })
}

/// Whether this kernel or process cannot mount such a file system at all, or not before its log is replayed: neither is
/// a fault of the device.
fn cannot_mount(fault: &Fault) -> bool {
    let source = match fault {
        Fault::NotUnmounted { .. } => return true,
        Fault::Mount { source, .. } => source,
        _ => return false,
    };
    let errno = source.raw_os_error().map(Errno::from_raw);
    matches!(errno, Some(Errno::ENODEV | Errno::EPERM | Errno::EACCES))
}

fn open_directory(path: &Path) -> std::io::Result<File> {
    File::options()
        .read(true)
        .custom_flags((OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW).bits())
        .open(path)
}

/// Examines a mounted device.
fn inside(
    run: &Verification<'_>,
    (place, opened): (usize, &OpenDevice<'_>),
    root: &Path,
    report: &mut LayerReport,
) -> Result<(), Halt> {
    let stack = opened.stack.as_ref();
    let bottom = stack.ok().and_then(|stack| stack.last());
    let beside = top::faults(root, bottom.map(|layer| &layer.layer().id));
    let target = &run.targets[place];
    let Some(id) = &target.id else {
        report.tree = base_tree(top::base_faults(root, beside));
        return Ok(());
    };
    let Some(mounted) = read(run, id, root, report)? else {
        report.tree = not_compared("its tree cannot be read");
        return Ok(());
    };
    let look = LayerCheck {
        run,
        target,
        id,
        opened: Some(opened),
        below: None,
    };
    let noted_at = look.noted_at();
    let entries = digest(&mounted.tree);
    let is_as_noted = look.is_as_noted(Some(&entries));
    let layers = stack.map(|all| all.iter().map(BranchRef::layer).collect::<Vec<_>>());
    let merged = layers
        .as_ref()
        .ok()
        .map(|layers| merged_with(&beside, compare(&trees(layers), &mounted.tree), is_as_noted));
    report.tree = match (&merged, &layers) {
        (Some(merged), _) => grade(noted_at, report.role, &mounted, merged),
        (None, _) if look.noted_entries().is_some() && !is_as_noted => {
            other_than_noted(noted_at, report.role, &mounted)
        }
        (None, why) => not_compared(why.as_ref().err().map_or("", |reason| reason)),
    };
    report.entries = Some(entries);
    if let Some(own) = layers.as_ref().ok().and_then(|layers| layers.first()) {
        report.bytes = file_bytes(&own.tree);
    }
    let files = Files {
        run,
        mounted: &mounted,
        layers: layers.as_deref().unwrap_or_default(),
        merged: merged.as_ref(),
        changed: opened.changed.as_deref(),
        went_on_after: noted_at.filter(|_| matches!(report.tree, Tree::ChangedSince { .. })),
    };
    report.contents = graded(files.contents(&look, &report.tree))?;
    files.add_bytes_of_aufs(report)
}

fn trees<'a>(layers: &[&'a Layer]) -> Vec<&'a LayerTree> {
    layers.iter().map(|layer| &layer.tree).collect()
}

/// Adds the findings beside the tree to the comparison; those belong to the device, whatever happened to aufs.
fn merged_with(beside: &Faults, mut merged: MergeComparison, is_as_noted: bool) -> MergeComparison {
    merged.is_of_aufs = is_as_noted && beside.is_empty() && !merged.faults.is_empty();
    for fault in &beside.first {
        merged.faults.push(fault);
    }
    merged
}

fn base_tree(entries: Faults) -> Tree {
    if entries.is_empty() {
        Tree::Same { entries: 0 }
    } else {
        Tree::Different { entries }
    }
}

/// Reads a layer's merged tree; anything that the kernel cannot read is a fault of the file system.
pub(in crate::verify) fn read(
    run: &Verification<'_>,
    id: &CacheId,
    root: &Path,
    report: &mut LayerReport,
) -> Result<Option<Layer>, Halt> {
    let branch = root.join(ROOTFS);
    let directory = match open_directory(&branch) {
        Ok(directory) => directory,
        Err(error) => {
            report.structure.push(format_args!("rootfs: {error}"));
            return Ok(None);
        }
    };
    let TreeRead { tree, faults } = read_tree(&run.work, directory)?;
    for fault in faults.first {
        report.structure.push(fault);
    }
    report.structure.more += faults.more;
    Ok(Some(Layer {
        id: id.clone(),
        parent: None,
        branch,
        tree,
    }))
}

fn graded(contents: Result<Contents, Halt>) -> Result<Contents, Halt> {
    Ok(match contents {
        Err(Halt::Interrupted) => return Err(Halt::Interrupted),
        Err(halt @ Halt::Device { .. }) => {
            Contents::mismatch(std::iter::once(Chain(&halt)).collect())
        }
        Err(halt) => Contents::NotVerifiable {
            reason: Chain(&halt).to_string(),
        },
        Ok(contents) => contents,
    })
}

fn grade(noted_at: Option<i64>, role: Role, mounted: &Layer, merged: &MergeComparison) -> Tree {
    let faults: &Faults = &merged.faults;
    if faults.is_empty() {
        return Tree::Same {
            entries: merged.entries,
        };
    }
    if role == Role::Writable && written_since(noted_at, mounted) {
        return Tree::ChangedSince {
            differences: faults.count(),
        };
    }
    let entries = faults.clone();
    if merged.is_of_aufs {
        Tree::AufsChanged { entries }
    } else {
        Tree::Different { entries }
    }
}

/// The result for a device without branches that differs from what the conversion recorded.
fn other_than_noted(noted_at: Option<i64>, role: Role, mounted: &Layer) -> Tree {
    if role == Role::Writable && written_since(noted_at, mounted) {
        return Tree::ChangedSince { differences: 1 };
    }
    Tree::Different {
        entries: std::iter::once(NOT_AS_NOTED).collect(),
    }
}

/// Whether anything on the device was changed after the conversion recorded it: its container was used. Damage leaves
/// no such time.
fn written_since(noted_at: Option<i64>, mounted: &Layer) -> bool {
    let mut nodes = mounted.tree.nodes();
    noted_at.is_some_and(|noted| nodes.any(|(_, node)| node.meta.ctime.sec() > noted))
}
