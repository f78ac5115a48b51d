//! The checks that `commit` makes just before it removes the only other copy.

use std::fs;
use std::num::NonZeroUsize;
use std::path::Path;

use super::apart::shared_with_aufs;
use super::error::Error;
use super::mount_times::name_of;
use super::request::{MayLose, VerifyRequest};
use super::verify::{Aufs, device_side, look, noted};
use crate::chain::Chain;
use crate::commit::{AufsChanges, Conversion, Depth, VerificationRecord};
use crate::daemon::Host;
use crate::devicemapper::DeviceFiles;
use crate::devicemapper::driver_files::FileSystem;
use crate::mount_table::{Table, directory_at};
use crate::path_kind::is_directory;
use crate::progress::{Cancel, Silent};
use crate::shell::{own, word};
use crate::tree::{escape, shown};
use crate::verify::{self, LayerReport, Mode, Report, Verdict};
use crate::words::counted;

/// The directories of the aufs driver.
const PARTS: [&str; 3] = ["diff", "layers", "mnt"];

/// Checks that the devicemapper side is whole and proven, and that the aufs side has nothing that it lacks.
///
/// # Errors
///
/// [`Error::NotVerified`], [`Error::StillNeeded`], [`Error::Interrupted`].
pub(super) fn expect_whole_copy(
    host: &Host,
    (path, conversion): (&Path, &Conversion),
    may_lose: MayLose,
    cancel: &Cancel,
) -> Result<(), Error> {
    expect_parts(path)?;
    expect_unchanged(path, conversion, may_lose)?;
    // This takes longest, so it comes last.
    let sides = (path, conversion, proof(path, conversion, may_lose)?);
    match not_sound(host, sides, may_lose, cancel)? {
        None => Ok(()),
        Some(why) => Err(Error::StillNeeded {
            path: path.to_owned(),
            why: vec![why],
        }),
    }
}

/// Checks that the devicemapper side has its directories.
fn expect_parts(path: &Path) -> Result<(), Error> {
    let parts = ["devicemapper", "image/devicemapper"].map(|part| path.join(part));
    match parts.into_iter().find(|part| !is_directory(part)) {
        None => Ok(()),
        Some(part) => Err(Error::StillNeeded {
            path: path.to_owned(),
            why: vec![format!(
                "{}: is missing or not a directory; restore it from a backup, or `{}` goes back to aufs",
                part.display(),
                own("rollback", path)
            )],
        }),
    }
}

/// Checks that nothing is known, or visibly, wrong with the replacement before more of a possibly incomplete aufs side
/// goes.
///
/// # Errors
///
/// [`Error::RestNeeded`], [`Error::Interrupted`].
pub(super) fn expect_rest_unneeded(
    host: &Host,
    (path, conversion): (&Path, &Conversion),
    may_lose: MayLose,
    cancel: &Cancel,
) -> Result<(), Error> {
    let failed = conversion.story().verified.failed.as_ref();
    // `Verdict::NotVerified` was accepted when the removal began.
    let why = if let Some(failed) = failed.filter(|one| one.verdict != Verdict::NotVerified) {
        Some(format!("the latest verification that counts: {failed}"))
    } else {
        let report = quick_look(host, (path, conversion), cancel)?;
        if is_right(&report) && could_look(&report, may_lose) {
            written_since_any(path, conversion, may_lose, &report)?
        } else {
            // The next quick verification reads another sample, and may find nothing.
            conversion.note_verified(noted(&report, None))?;
            Some(format!(
                "a quick verification just now found this:\n{report}"
            ))
        }
    };
    match why {
        None => Ok(()),
        Some(why) => Err(Error::RestNeeded {
            path: path.to_owned(),
            rest: conversion.rest_of_aufs(),
            why,
        }),
    }
}

/// What was written to the devicemapper side since the latest full verification that passed: no quick verification
/// shows what a disk or Docker changed there meanwhile. A later verification that could not look at everything replaces
/// it only if the operator accepts that, or if the removal began with one.
fn written_since_any(
    path: &Path,
    conversion: &Conversion,
    may_lose: MayLose,
    report: &Report,
) -> Result<Option<String>, Error> {
    let verified = &conversion.story().verified;
    let unverified = verified.failed.as_ref().filter(|one| one.full);
    let proof = match &verified.proven {
        Some(proven) if may_lose.unverified => unverified.or(Some(proven)),
        Some(proven) => Some(proven),
        None => unverified,
    };
    let Some(proof) = proof else {
        return Ok(None);
    };
    if let Some(why) = mounted_since(path, proof, report) {
        return Ok(Some(why));
    }
    // Earlier versions did not record the state it had verified.
    if proof.seen.is_none() {
        return Ok(None);
    }
    let written = written_since(path, conversion, proof)?;
    Ok(written.map(|fact| format!("{fact}: `{}`", own("verify --full", path))))
}

fn quick_look(
    host: &Host,
    (path, conversion): (&Path, &Conversion),
    cancel: &Cancel,
) -> Result<Report, Error> {
    let request = VerifyRequest {
        root: path.to_owned(),
        host: host.clone(),
        mode: Mode::Quick,
        // ext4 is read without the kernel.
        kernel: is_xfs(path)?,
        target: None,
        jobs: std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN),
        cancel: cancel.clone(),
    };
    let mut report = look(
        &request,
        path,
        (Some(conversion), &Aufs::default()),
        &Silent,
    )?;
    report.add_faults(conversion.damage()?);
    Ok(report)
}

fn is_right(report: &Report) -> bool {
    !matches!(report.verdict, Verdict::Wrong | Verdict::Undecided)
}

/// Whether everything could be looked at, or the operator accepts that it could not.
fn could_look(report: &Report, may_lose: MayLose) -> bool {
    report.verdict != Verdict::NotVerified || may_lose.unverified
}

/// Checks that neither side changed since it was proven.
///
/// # Errors
///
/// [`Error::NotVerified`], [`Error::StillNeeded`].
pub(super) fn expect_unchanged(
    path: &Path,
    conversion: &Conversion,
    may_lose: MayLose,
) -> Result<(), Error> {
    let proof = proof(path, conversion, may_lose)?;
    let mut why = Vec::new();
    let written = written_since(path, conversion, proof)?;
    why.extend(written.map(|fact| format!("{fact}: `{}`", own("verify --full", path))));
    why.extend(aufs_since(path, conversion, proof, may_lose)?);
    why.extend(linked_aufs(path, may_lose));
    why.extend(linked_parts(path));
    why.extend(shared_with_aufs(path).map(|shared| {
        format!(
            "{shared}, so removing the aufs side would remove it too: put there what the conversion made, or a copy \
             of it"
        )
    }));
    if why.is_empty() {
        return Ok(());
    }
    Err(Error::StillNeeded {
        path: path.to_owned(),
        why,
    })
}

/// The full verification that the removal relies on.
fn proof<'c>(
    path: &Path,
    conversion: &'c Conversion,
    may_lose: MayLose,
) -> Result<&'c VerificationRecord, Error> {
    let verified = &conversion.story().verified;
    let unverified = verified
        .failed
        .as_ref()
        .filter(|one| one.full && one.verdict == Verdict::NotVerified);
    let path = path.to_owned();
    match (&verified.full, &verified.failed) {
        (Some(full), None) => Ok(full),
        (_, Some(_)) if unverified.is_some() && may_lose.unverified => {
            Ok(unverified.expect("just seen"))
        }
        (_, Some(failed)) => Err(Error::StillNeeded {
            why: vec![format!(
                "the latest verification that counts: {failed}; `{}` must pass first, or `{}` goes back to aufs{}",
                own("verify --full", &path),
                own("rollback", &path),
                unverified.map_or_else(String::new, |_| format!(
                    ", or `{}` accepts it as it is",
                    own("commit --unverified", &path)
                ))
            )],
            path,
        }),
        (None, None) => Err(Error::NotVerified { path }),
    }
}

/// Whether the devicemapper side is still as it was when it was proven. `false` if that cannot be determined; a warning
/// says why.
pub(super) fn is_as_proven(path: &Path, conversion: &Conversion, may_lose: MayLose) -> bool {
    let proof = proof(path, conversion, may_lose);
    match proof.and_then(|proof| written_since(path, conversion, proof)) {
        Ok(None) => true,
        Ok(Some(written)) => {
            log::warn!("{written}");
            false
        }
        Err(error) => {
            log::warn!("{}", Chain(&error));
            false
        }
    }
}

/// What was written to the devicemapper side since the proof.
pub(super) fn written_since(
    path: &Path,
    conversion: &Conversion,
    proof: &VerificationRecord,
) -> Result<Option<String>, Error> {
    let Some(seen) = &proof.seen else {
        let untold = "the journal does not record the state that the last full verification saw";
        return Ok(Some(untold.to_owned()));
    };
    // A pool in another place than where the conversion made it shows as a different superblock.
    let written = seen.written_until(&device_side(path, conversion, None)?);
    Ok((!written.is_empty()).then(|| {
        format!(
            "the devicemapper side was written to after the last full verification ({})",
            written.join(", ")
        )
    }))
}

/// What the aufs side has that the proof did not see.
fn aufs_since(
    path: &Path,
    conversion: &Conversion,
    proof: &VerificationRecord,
    may_lose: MayLose,
) -> Result<Vec<String>, Error> {
    let Some(mut changes) = conversion.aufs_changes(Depth::Entries)? else {
        let unknown = format!(
            "the journal does not record what the aufs side was when it was converted: `{}` removes it anyway",
            own("commit --drop-aufs-changes", path)
        );
        return Ok((!may_lose.aufs_changes)
            .then_some(unknown)
            .into_iter()
            .collect());
    };
    // What stays is not lost.
    if conversion.aufs_stays() {
        changes = changes.of_the_driver();
    }
    let mut why = not_converted(path, &changes, may_lose);
    if !changes.is_same() || may_lose.aufs_changes {
        return Ok(why);
    }
    if proof.aufs_changed {
        why.push(aufs_changed(path, "the full verification"));
    } else if conversion.aufs_times() != proof.aufs_times {
        // Names, sizes and times are unchanged, but an xattr may differ, or bytes whose modification time was set back.
        why.push(format!(
            "the aufs side was written to, or replaced by a copy, after the last full verification: `{}`",
            own("verify --full", path)
        ));
    }
    Ok(why)
}

/// The target of `aufs` if it is a symbolic link, or what is mounted there if that is a directory of another place. A
/// copy of a root includes the link, which leads to the data of the other root.
fn linked_aufs(path: &Path, may_lose: MayLose) -> Option<String> {
    if may_lose.linked_aufs {
        return None;
    }
    let aufs = path.join("aufs");
    let what = if let Ok(target) = fs::read_link(&aufs) {
        let target = aufs.canonicalize().unwrap_or(target);
        format!("a symbolic link to {}", shown(&target))
    } else {
        mounted_elsewhere(&aufs)?
    };
    Some(format!(
        "{} is {what}, which may also belong to another root: `{}` removes what the driver has there",
        shown(&aufs),
        own("commit --drop-linked-aufs", path)
    ))
}

/// The directories in `aufs` that are symbolic links. Nothing is removed behind a link, and without the link nothing
/// would show where the layers are.
fn linked_parts(path: &Path) -> Vec<String> {
    let parts = PARTS.map(|part| path.join("aufs").join(part));
    let links = parts.into_iter().filter_map(|part| {
        let target = fs::read_link(&part).ok()?;
        let target = part.canonicalize().unwrap_or(target);
        Some(format!(
            "{} is a symbolic link to {}, and commit removes nothing behind it: on the same file system, `rm {at} && mv \
             {to} {at}` puts the directory itself there; otherwise remove {} by hand once the devicemapper side is \
             all that you need, then use `mkdir {at}`, `{}` and `{}`",
            shown(&part),
            shown(&target),
            shown(&target),
            own("verify --full", path),
            own("commit --drop-aufs-changes", path),
            at = word(&part),
            to = word(&target)
        ))
    });
    links.collect()
}

/// What is mounted on `aufs`, if it may also be reachable elsewhere.
fn mounted_elsewhere(aufs: &Path) -> Option<String> {
    let proc = Path::new("/proc");
    let mounts = fs::read(proc.join("self/mountinfo")).ok()?;
    if let Some((directory, device)) = directory_at(&mounts, aufs) {
        return Some(format!(
            "a mount of the directory {} of the file system on device {}",
            shown(&directory),
            escape(&device)
        ));
    }
    let other = Table::everywhere(proc).other_point(aufs)?;
    let by = other.pid.map_or_else(String::new, |pid| {
        format!(", in the mount namespace of process {pid}")
    });
    Some(format!(
        "a mount of a file system that is also mounted on {}{by}",
        shown(&other.point)
    ))
}

/// The message that the aufs side differs from the devices, and the devices are right.
fn aufs_changed(path: &Path, found_by: &str) -> String {
    format!(
        "the aufs side is not what was converted, as {found_by} found: `{}` removes it anyway",
        own("commit --drop-aufs-changes", path)
    )
}

/// What the aufs side has and the devicemapper side lacks.
fn not_converted(path: &Path, changes: &AufsChanges, may_lose: MayLose) -> Vec<String> {
    let mut why = Vec::new();
    if !changes.is_same() && !may_lose.aufs_changes {
        why.push(format!(
            "the aufs side is not what was converted, and Docker may have worked on it: {changes}; `{}` loses these \
             changes",
            own("commit --drop-aufs-changes", path)
        ));
    }
    if !changes.left_out.is_empty() && !may_lose.left_out {
        why.push(format!(
            "the conversion left out {} ({}): `{}` loses what only aufs has of it",
            counted(changes.left_out.len() as u64, "object"),
            changes.left_out.join(", "),
            own("commit --drop-left-out", path)
        ));
    }
    why
}

/// What is wrong with the devicemapper side right now, including a device that was mounted after the proof. A failure
/// is recorded like any other failed verification.
fn not_sound(
    host: &Host,
    (path, conversion, proof): (&Path, &Conversion, &VerificationRecord),
    may_lose: MayLose,
    cancel: &Cancel,
) -> Result<Option<String>, Error> {
    let report = quick_look(host, (path, conversion), cancel)?;
    if let Some(why) = mounted_since(path, proof, &report) {
        return Ok(Some(why));
    }
    if is_right(&report) && could_look(&report, may_lose) {
        let may_go = may_lose.aufs_changes || !report.has_aufs_changed();
        return Ok((!may_go).then(|| {
            let by = "a quick verification just now";
            format!("{}\n{report}", aufs_changed(path, by))
        }));
    }
    conversion.note_verified(noted(&report, None))?;
    Ok(Some(format!(
        "a quick verification just now found this:\n{report}\nNext: `{}`",
        own("verify --full", path)
    )))
}

/// A device that was mounted writable since the proof, in words. A write in place to a pool on devices shows in nothing
/// else.
fn mounted_since(path: &Path, proof: &VerificationRecord, report: &Report) -> Option<String> {
    let is_later = |layer: &&LayerReport| {
        let Some(now) = layer.mounted else {
            return false;
        };
        // A clock may have been set back, so the time counts only if no mount time was recorded. The verification keeps
        // Docker out until it ends.
        match proof
            .seen
            .as_ref()
            .and_then(|seen| seen.mount_of(name_of(layer)))
        {
            Some(then) => then != Some(now),
            None => now >= proof.at.cast_signed(),
        }
    };
    let layer = report.layers.iter().find(is_later);
    layer.map(|layer| {
        format!(
            "the device of layer {} was mounted and may have been written to after the last full verification: `{}`",
            name_of(layer),
            own("verify --full", path)
        )
    })
}

fn is_xfs(path: &Path) -> Result<bool, Error> {
    let files = DeviceFiles::read(&path.join("devicemapper")).map_err(verify::Error::from)?;
    Ok(files
        .set
        .is_some_and(|set| set.file_system == FileSystem::Xfs))
}
