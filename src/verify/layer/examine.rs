//! Examines one target: its device is read and checked, compared with its parent and its branch, and its contents are
//! proven.

use std::collections::HashSet;
use std::sync::Arc;

use super::branch::Branch;
use super::tree::base_tree;
use crate::chain::Chain;
use crate::content::{Halt, last_mount};
use crate::docker::{CacheId, Hits};
use crate::ext4::read::View;
use crate::units;
use crate::verify::contents::ContentsMode;
use crate::verify::layer_check::{LayerCheck, file_bytes};
use crate::verify::layer_report::{Contents, Faults, LayerReport, Tree};
use crate::verify::open_device::{BranchRef, OpenDevice, Stack};
use crate::verify::out_of_reach::{needs_recovery, out_of_reach};
use crate::verify::reasons::NOT_UNMOUNTED;
use crate::verify::targets::Target;
use crate::verify::verification::Verification;
use crate::verify::{mounted, open_device};

/// Opens and checks a target's device. `Err` says why there is none.
pub(in crate::verify) fn open<'a>(
    run: &Verification<'a>,
    place: usize,
    below: Option<&OpenDevice<'a>>,
) -> Result<OpenDevice<'a>, String> {
    let target = &run.targets[place];
    let Some(devices) = &run.devices else {
        return Err("the root has no devices".to_owned());
    };
    let Some((number, size)) = target.device else {
        return Err("has no device".to_owned());
    };
    let Some(device) = devices.pool.device(number, size) else {
        return Err(format!("its device {number} is not in the pool"));
    };
    if run.reach.is_some() {
        return Ok(OpenDevice {
            device,
            checked: None,
            changed: below.map(|below| device.changed(&below.device)),
            stack: stack_of(run, place, below),
            unreadable: None,
        });
    }
    let changed = below.map(|below| device.changed(&below.device));
    // From the parent's view and what the two devices do not share, so that a chain of layers costs its changes, and not the
    // image for each layer. A parent that cannot be read leaves nothing to derive from.
    let base = below.and_then(|below| below.checked.as_ref());
    let read = match (base, &changed) {
        (Some(base), Some(changed)) => base.view.derive(&device, changed),
        _ => View::read(&device),
    };
    let (checked, unreadable) = match read {
        Ok(checked) => (Some(checked), None),
        Err(error) => (None, Some(Chain(&error).to_string())),
    };
    Ok(OpenDevice {
        device,
        changed: changed.filter(|_| base.is_some()),
        stack: Err("it is read without the kernel".to_owned()),
        checked,
        unreadable,
    })
}

/// The branches that the kernel's view of a device is compared with.
fn stack_of<'a>(run: &Verification<'a>, place: usize, below: Option<&OpenDevice<'a>>) -> Stack<'a> {
    let target = &run.targets[place];
    let Some(id) = &target.id else {
        return Ok(Vec::new());
    };
    if !run.needs_stack(place) {
        return Err("it was not read".to_owned());
    }
    let look = LayerCheck {
        run,
        target,
        id,
        opened: None,
        below: None,
    };
    let own = match run.known_branches.get(id) {
        Some(&layer) => Ok(BranchRef::Known(layer)),
        None => match look.branch() {
            Ok(Some(Branch::Read(layer))) => Ok(BranchRef::Read(Arc::from(layer))),
            Ok(_) => Err(look.why_no_branch().to_owned()),
            Err(halt) => Err(Chain(&halt).to_string()),
        },
    };
    open_device::stack(own, below)
}

/// Examines a target in every respect.
pub(in crate::verify) fn examine(
    run: &Verification<'_>,
    place: usize,
    opened: &Result<Arc<OpenDevice<'_>>, String>,
    below: Option<&OpenDevice<'_>>,
) -> Result<LayerReport, Halt> {
    let target = &run.targets[place];
    let opened = opened.as_deref();
    let mut report = begun(run, target, opened, below);
    if let (Some(reach), Ok(opened)) = (run.reach, opened) {
        return mounted::examine(run, (place, opened), reach, report);
    }
    if let Ok(opened) = opened
        && needs_recovery(opened)
    {
        // What looks wrong may be right once the journal is replayed.
        report.structure = cut_off(opened).into_iter().collect();
        return Ok(out_of_reach(report, NOT_UNMOUNTED));
    }
    let Some(id) = &target.id else {
        report.tree = base_tree(opened.ok());
        return Ok(report);
    };
    let look = LayerCheck {
        run,
        target,
        id,
        opened: opened.ok(),
        below,
    };
    examine_layer(&look, run.how(place), report)
}

/// Examines a layer on ext4, or its branch alone.
fn examine_layer(
    look: &LayerCheck<'_, '_>,
    how: ContentsMode<'_>,
    mut report: LayerReport,
) -> Result<LayerReport, Halt> {
    let own;
    let branch = match look.branch() {
        Ok(None) => None,
        Ok(Some(Branch::Known(layer))) => Some(layer),
        Ok(Some(Branch::Read(layer))) => {
            own = layer;
            Some(&*own)
        }
        Err(halt) => return look.unreadable_branch(report, &halt),
    };
    if let Some(branch) = branch {
        report.bytes = file_bytes(&branch.tree);
    }
    report.entries = look.entries();
    // The comparison comes before the contents: what they are proven by depends on which side is at fault.
    let went_on_after = look
        .is_used_since(&report)
        .then(|| look.noted_at())
        .flatten();
    let mut compared = look.compare(branch, went_on_after);
    if let Some(compared) = &mut compared {
        // A device that is as it was noted has not changed, so whatever differs changed in aufs.
        compared.is_of_aufs = look.is_as_noted(report.entries.as_deref());
        let of_entries = compared.faults.count();
        look.check_mark(compared);
        match look.compare_space(branch, compared) {
            Ok(()) => {}
            Err(halt @ Halt::Device { .. }) => compared.faults.push(Chain(&halt)),
            Err(halt) => return look.unreadable_branch(report, &halt),
        }
        report.space = std::mem::take(&mut compared.space);
        // Faults other than those of the entries belong to the device.
        compared.is_of_aufs &= of_entries > 0 && compared.faults.count() == of_entries;
    }
    report.tree = look.tree(compared.as_ref(), &report);
    let judged = match look.contents(how, branch, compared.as_ref(), &report) {
        Err(Halt::Interrupted) => return Err(Halt::Interrupted),
        Err(halt @ Halt::Device { .. }) => {
            Contents::mismatch(std::iter::once(Chain(&halt)).collect()).into()
        }
        Err(halt) => Contents::NotVerifiable {
            reason: Chain(&halt).to_string(),
        }
        .into(),
        Ok(judged) => judged,
    };
    judged.tell(&mut report);
    Ok(report)
}

/// The report of a target, without anything that needs its branch or its contents.
fn begun(
    run: &Verification<'_>,
    target: &Target,
    opened: Result<&OpenDevice<'_>, &String>,
    below: Option<&OpenDevice<'_>>,
) -> LayerReport {
    let structure = match opened {
        Ok(opened) => structure(opened, below),
        Err(what) if run.devices.is_some() => std::iter::once(what).collect(),
        Err(_) => Faults::default(),
    };
    let chain = target.known.chain();
    let layer = chain.and_then(|chain| run.store.layers.get(&chain));
    let users = |id: &CacheId| run.store.users_of(id);
    LayerReport {
        id: target.id.clone(),
        role: target.role(),
        diff_id: layer.map(|layer| layer.diff),
        device: target.device.map(|(number, _)| number.value()),
        bytes: layer.map_or(0, |layer| layer.size.0),
        not_verified: None,
        structure,
        contents: Contents::Nothing,
        tree: Tree::Same { entries: 0 },
        aufs: Faults::default(),
        space: Faults::default(),
        entries: None,
        own_bytes: None,
        read_in_aufs: false,
        mounted: opened
            .ok()
            .filter(|_| run.reach.is_none())
            .and_then(|opened| last_mount(&opened.device)),
        hits: target.id.as_ref().map_or_else(Hits::default, users),
    }
}

/// The faults of a device's file system, without those that its parent already has.
fn structure(opened: &OpenDevice<'_>, below: Option<&OpenDevice<'_>>) -> Faults {
    let known: HashSet<String> = below
        .and_then(|below| below.checked.as_ref())
        .into_iter()
        .flat_map(|checked| checked.faults.iter().map(ToString::to_string))
        .collect();
    let faults = opened.checked.iter().flat_map(|checked| &checked.faults);
    opened
        .unreadable
        .iter()
        .cloned()
        .chain(cut_off(opened))
        .chain(faults.map(ToString::to_string))
        .filter(|fault| !known.contains(fault))
        .collect()
}

/// The message that Docker would make the device smaller than the file system on it, if that is so.
fn cut_off(opened: &OpenDevice<'_>) -> Option<String> {
    let view = &opened.checked.as_ref()?.view;
    let bytes = view.blocks().saturating_mul(view.block_bytes().into());
    let size = opened.device.size();
    (bytes > size.0).then(|| {
        format!(
            "its file system has {}, but devicemapper/metadata gives it a size of {size}",
            units::Bytes(bytes)
        )
    })
}
