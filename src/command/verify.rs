//! Verifies a root, whichever side it has.

use std::collections::BTreeMap;
use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use super::dead_end::dead_end;
use super::error::Error;
use super::left::left_by_conversion;
use super::locked_root::LockedRoot;
use super::mount_times::mounts;
use super::mounted::expect_unmounted;
use super::planned_conversion::PlannedConversion;
use super::pool_of::{expect_known, is_of, pool_of};
use super::put_back::is_out_and_whole;
use super::read_only::read_only;
use super::request::VerifyRequest;
use crate::chain::Chain;
use crate::commit::{
    self, CommitRecord, Conversion, Depth, DeviceSide, Stage, State, StoreOfAufs,
    VerificationRecord, now,
};
use crate::docker::{self, CacheId, DamageRecord, Root, StorePaths};
use crate::engine::WrittenRun;
use crate::path_kind::is_directory;
use crate::pool::target::Target;
use crate::privileges::{self, Purpose};
use crate::progress::Progress;
use crate::staging::STAGE_NAME;
use crate::tree::shown;
use crate::verify::{
    self, Ask, BranchNow, ConversionNotes, Devices, LayerDamage, Mode, Report, Tree, Verdict,
};

/// Verifies the devicemapper side if there is one, otherwise the aufs side. Docker's files are not changed; the result
/// is recorded in the conversion's journal.
///
/// # Errors
///
/// [`Error::Verify`], [`Error::NothingToVerify`], or whatever prevents the verification. Faults of the root itself are
/// in the report.
pub fn verify(request: &VerifyRequest, progress: &dyn Progress) -> Result<Report, Error> {
    let path = request
        .root
        .canonicalize()
        .unwrap_or_else(|_| request.root.clone());
    // This comes before a pid file is created for a directory that is no root at all.
    if !["aufs", "devicemapper"]
        .iter()
        .any(|side| path.join(side).is_dir())
    {
        return Err(dead_end(&path).unwrap_or_else(|| no_root(path)));
    }
    let held = LockedRoot::for_reading(&path, &request.host)?;
    privileges::check(&request.host, &path, Purpose::Read)?;
    expect_unmounted(&path, &request.host)?;
    let (conversion, lost) = recorded(&path)?;
    if conversion.is_none() && lost.is_none() {
        expect_known(request, &path)?;
    }
    expect_judgeable(request, &path, conversion.as_ref())?;
    // Taken before, so that anything written in the meantime counts as written since.
    if conversion.is_some() && request.mode == Mode::Full {
        commit::pass_the_second(&path);
    }
    let seen = conversion
        .as_ref()
        .map(|conversion| device_side(&path, conversion, request.target.as_ref()))
        .transpose()?;
    let noted_before = conversion.as_ref().filter(|_| request.mode == Mode::Full);
    let aufs = Aufs::now(noted_before);
    let known = (conversion.as_ref(), &aufs);
    let mut report = look(request, &path, known, progress)?;
    report.journal = lost;
    let mut faults = Vec::new();
    if let Some(conversion) = &conversion {
        report.can_go_back = conversion.story().state == State::Converted;
        let changes = conversion.changes()?;
        report.lost_by_going_back = changes.loses_by_going_back().then(|| changes.to_string());
        faults = conversion.damage()?;
        report
            .aufs
            .extend(way_back(&path, conversion, request.mode)?);
    }
    report.add_faults(faults);
    let is_noted =
        |one: &Conversion| matches!(one.story().state, State::Converted | State::Committing);
    if let Some(conversion) = conversion.filter(is_noted) {
        let verified = VerificationRecord {
            aufs_times: aufs.times_after(&report),
            ..noted(&report, seen.map(|seen| seen.with_mounts(mounts(&report))))
        };
        if is_of(&conversion, request.target.as_ref()) {
            note(&path, &conversion, verified, &mut report)?;
        } else {
            report.remarks.push(
                "this verification is not recorded in the journal: it read a different pool from the one that was \
                 converted into"
                    .to_owned(),
            );
        }
    }
    held.release();
    Ok(report)
}

/// Checks that both sides are where a verification looks for them, and takes down what a killed run left active.
fn expect_judgeable(
    request: &VerifyRequest,
    path: &Path,
    conversion: Option<&Conversion>,
) -> Result<(), Error> {
    let path = path.to_owned();
    let state = conversion.map(|conversion| conversion.story().state);
    if let Some(state @ (State::Switching | State::RollingBack)) = state {
        let unfinished = commit::Error::Unfinished {
            path: path.clone(),
            state,
        };
        return Err(dead_end(&path).unwrap_or_else(|| unfinished.into()));
    }
    // Without its other side, a root proves less, and nothing seen of it may be recorded for the whole.
    if conversion.is_some_and(is_out_and_whole) {
        return Err(Error::AufsSetOut { path });
    }
    // A verdict on the aufs side alone says nothing about the other side.
    if state == Some(State::Converted) {
        let mut parts = ["devicemapper", "image/devicemapper"]
            .map(|part| path.join(part))
            .into_iter();
        if let Some(part) = parts.find(|part| !is_directory(part)) {
            return Err(Error::PartMissing { path, part });
        }
    }
    // A pool that a killed run left active is not this root's own. Its content stays.
    let left = left_by_conversion(&path, conversion)?;
    // If another disk has the name now, there is no verdict on it.
    let is_finished = state.is_some_and(|state| state != State::Writing);
    if is_finished && request.target.is_none() {
        left.expect_pool()?;
    }
    left.but_its_content().remove()?;
    Ok(())
}

/// Records the result in the journal. If the root is read-only, the report says that the journal lacks it.
fn note(
    path: &Path,
    conversion: &Conversion,
    verified: VerificationRecord,
    report: &mut Report,
) -> Result<(), Error> {
    let story = conversion.story();
    let (mut devices, mut bytes) = digests(report);
    devices.retain(|id, _| !story.entries.contains_key(id));
    bytes.retain(|id, _| !story.bytes.contains_key(id));
    let as_noted = if devices.is_empty() && bytes.is_empty() {
        Ok(())
    } else {
        conversion.note_entries(devices, bytes)
    };
    match as_noted.and_then(|()| conversion.note_verified(verified)) {
        Err(error) if read_only(path).is_some() => report.remarks.push(format!(
            "this verification is not recorded in the journal: {}",
            Chain(&error)
        )),
        noted => noted?,
    }
    Ok(())
}

/// The error for a path that is not a root.
fn no_root(path: PathBuf) -> Error {
    match Root::open(&path) {
        Err(error @ (docker::Error::NotFound { .. } | docker::Error::NotADirectory { .. })) => {
            error.into()
        }
        _ => Error::NothingToVerify { path },
    }
}

/// The message that there is no way back any more, if that is so. It says nothing against the devices.
fn way_back(path: &Path, conversion: &Conversion, mode: Mode) -> Result<Option<String>, Error> {
    let is_converted = conversion.story().state == State::Converted;
    if is_converted && path.join("aufs").symlink_metadata().is_err() {
        return Ok(Some(format!(
            "THERE IS NO WAY BACK: {}: is missing",
            shown(&path.join("aufs"))
        )));
    }
    let depth = match mode {
        Mode::Quick => Depth::Names,
        Mode::Full => Depth::Entries,
    };
    let changes = conversion.aufs_changes(depth)?;
    let broken = changes.filter(|changes| !changes.is_whole());
    Ok(broken.map(|changes| {
        format!(
            "THE WAY BACK IS BROKEN, the aufs side is not what was converted: {}",
            changes.broken()
        )
    }))
}

/// The journal's record of a verification.
pub(super) fn noted(report: &Report, seen: Option<DeviceSide>) -> VerificationRecord {
    VerificationRecord {
        at: now(),
        full: report.mode == Mode::Full,
        verdict: report.verdict,
        counts: report.coverage.counts,
        aufs_changed: report.has_aufs_changed(),
        undecided: report.is_undecided(),
        damaged: report.damaged.clone(),
        seen,
        aufs_times: None,
    }
}

/// Digests of layers' devices, by layer id.
type Digests = BTreeMap<String, String>;

/// The digests of the entries of devices that match aufs, and of their files' bytes.
pub(super) fn digests(report: &Report) -> (Digests, Digests) {
    let (mut entries, mut bytes) = (Digests::new(), Digests::new());
    for layer in &report.layers {
        let is_same = matches!(layer.tree, Tree::Same { .. });
        let Some(id) = &layer.id else {
            continue;
        };
        if !is_same || layer.verdict() == Verdict::Wrong {
            continue;
        }
        let own = |digest: &Option<String>| Some((id.to_string(), digest.clone()?));
        entries.extend(own(&layer.entries));
        bytes.extend(own(&layer.own_bytes));
    }
    (entries, bytes)
}

/// The devicemapper side in its present state.
pub(super) fn device_side(
    path: &Path,
    conversion: &Conversion,
    target: Option<&Target>,
) -> Result<DeviceSide, Error> {
    let target = pool_of(path, Some(conversion), target);
    verify::expect_devices(&target)?;
    let superblock = verify::superblock(&path.join("devicemapper"), &target)?;
    Ok(DeviceSide::of(
        path,
        superblock.as_ref().map(|block| &block[..]),
    )?)
}

/// The conversion as recorded in its journal, and what is wrong if the journal is lost.
fn recorded(path: &Path) -> Result<(Option<Conversion>, Option<String>), Error> {
    let conversion = match Conversion::find(path) {
        Err(commit::Error::Journal { path, line, what }) => {
            return Ok((None, Some(format!("{}: line {line}: {what}", shown(&path)))));
        }
        Err(commit::Error::JournalLost { path, found }) => {
            let (path, found) = (shown(&path), shown(&found));
            let what = "which a conversion created";
            let lost =
                format!("{path}: is missing or damaged: it does not mention {found}, {what}");
            return Ok((None, Some(lost)));
        }
        found => found?,
    };
    // Without an aufs side there is no way back, and the journal is removed before its directory.
    let is_beside = path.join("devicemapper/metadata").is_dir() && path.join("image/aufs").is_dir();
    let stage = path.join(STAGE_NAME);
    let knows = match &conversion {
        Some(conversion) => conversion.story().state != State::Writing,
        None => stage.symlink_metadata().is_err(),
    };
    let lost = (is_beside && !knows).then(|| {
        let stage = shown(&stage);
        format!("{stage}: its journal does not mention the devicemapper side that is in place")
    });
    Ok((conversion, lost))
}

/// The state of the aufs side before a verification.
#[derive(Debug, Default)]
pub(super) struct Aufs {
    /// When its entries were last changed, as a digest.
    times: Option<String>,
    /// Whether it was written to since its bytes were known to be right: if so, those of proven layers are read as
    /// well.
    was_written: bool,
}

impl Aufs {
    fn now(conversion: Option<&Conversion>) -> Self {
        let times = conversion.and_then(Conversion::aufs_times);
        let known = conversion.and_then(Conversion::aufs_times_known);
        Self {
            was_written: times.is_some() && times.as_deref() != known,
            times,
        }
    }

    /// The times to record after the verification. Data written since is known only if it was read and found right.
    fn times_after(self, report: &Report) -> Option<String> {
        let passed = matches!(report.verdict, Verdict::Sound | Verdict::SourceDamaged);
        let is_read = passed && report.coverage.counts.not_read_in_aufs == 0;
        let is_right = (is_read || !self.was_written) && !report.has_aufs_changed();
        self.times.filter(|_| is_right)
    }
}

pub(super) fn look(
    request: &VerifyRequest,
    path: &Path,
    (conversion, of_aufs): (Option<&Conversion>, &Aufs),
    progress: &dyn Progress,
) -> Result<Report, Error> {
    let home = path.join("devicemapper");
    let aufs = Some(path.join("aufs")).filter(|aufs| aufs.is_dir() && !is_removed(conversion));
    let target = pool_of(path, conversion, request.target.as_ref());
    let devices = home.is_dir().then_some(Devices {
        home: &home,
        target: &target,
    });
    if devices.is_none() && aufs.is_none() {
        return Err(Error::NothingToVerify {
            path: path.to_owned(),
        });
    }
    let image = path.join(image_of(devices.is_some()));
    let mounts = MountPoints::make(conversion)?;
    let branch = |id: &CacheId| {
        conversion.map_or(BranchNow::Unknown, |conversion| conversion.branch_now(id))
    };
    let is_as_it_was = |at: &Path| conversion.is_some_and(|one| one.is_as_it_was(at));
    let written_at = |id: &CacheId| conversion.and_then(|one| one.note_written_at(id));
    let none = Digests::new();
    let original = original_store(path, conversion);
    let store = store_of_aufs(path, conversion);
    let before = damage_before(path, conversion);
    let is_copied = |inner: &Path| conversion.is_some_and(|conversion| conversion.is_copied(inner));
    let request = verify::Request {
        stores: StorePaths {
            root: path,
            image: &image,
            aufs: aufs.as_deref(),
        },
        devices,
        original: original.as_deref(),
        before: &before,
        images_without_layers: store.images_without_layers.as_deref(),
        has_names: store.has_names == Some(true),
        mode: request.mode,
        reads_aufs: of_aufs.was_written,
        kernel: request.kernel.then_some(Ask {
            root: path,
            mounts: mounts.path(),
        }),
        conversion: None,
        known_damage: &known_damage(path, conversion),
        // Nothing is recorded if the conversion's journal is gone.
        noted: Some(ConversionNotes {
            branch: &branch,
            is_copied: &is_copied,
            entries: conversion.map_or(&none, |one| &one.story().entries),
            bytes: conversion.map_or(&none, |one| &one.story().bytes),
            is_as_it_was: &is_as_it_was,
            written_at: &written_at,
            switched_at: conversion.and_then(Conversion::switched_at),
        }),
        jobs: request.jobs,
        cancel: request.cancel.clone(),
    };
    match verify::verify(&request, progress) {
        Err(verify::Error::Interrupted) => Err(Error::Interrupted),
        report => Ok(report?),
    }
}

/// The image store of one of the two sides.
fn image_of(has_devices: bool) -> &'static str {
    if has_devices {
        "image/devicemapper"
    } else {
        "image/aufs"
    }
}

/// Verifies what a conversion has staged. Contents are proven by the checksums of what was written, where available.
pub(super) fn staged_report(
    prepared: &PlannedConversion,
    stage: &Stage,
    runs: Option<&[WrittenRun]>,
    progress: &dyn Progress,
) -> Result<Report, Error> {
    let source = &prepared.source;
    let root = source.root.path();
    let (home, image) = (
        stage.path().join("devicemapper"),
        stage.path().join("image"),
    );
    let aufs = root.join("aufs");
    let target = prepared.job.target();
    let mounts = MountPoints::inside(stage.path(), "verify")?;
    let request = verify::Request {
        stores: StorePaths {
            root,
            image: &image,
            aufs: Some(&aufs),
        },
        devices: Some(Devices {
            home: &home,
            target,
        }),
        original: Some(&root.join("image/aufs")),
        before: &prepared.damage,
        images_without_layers: None,
        has_names: false,
        known_damage: &[],
        noted: None,
        mode: Mode::Quick,
        reads_aufs: false,
        kernel: Some(Ask {
            root,
            mounts: mounts.path(),
        }),
        conversion: Some(verify::Conversion {
            plan: prepared.job.plan(),
            written: runs,
        }),
        jobs: source.request.jobs,
        cancel: source.request.cancel.clone(),
    };
    match verify::verify(&request, progress) {
        Err(verify::Error::Interrupted) => Err(Error::Interrupted),
        report => Ok(report?),
    }
}

/// What was recorded about the image store of aufs.
fn store_of_aufs(path: &Path, conversion: Option<&Conversion>) -> StoreOfAufs {
    match conversion {
        Some(conversion) => conversion.story().removal.store.clone(),
        None => CommitRecord::read(path).map_or_else(StoreOfAufs::default, |one| one.store_of_aufs),
    }
}

/// What was damaged before the conversion, according to the journal or the record that outlasts it.
fn damage_before(path: &Path, conversion: Option<&Conversion>) -> DamageRecord {
    match conversion {
        Some(conversion) => conversion.damage_record().cloned().unwrap_or_default(),
        None => CommitRecord::read(path).map_or_else(DamageRecord::default, |one| one.before),
    }
}

/// Whether the aufs side was moved out and is partly gone. Anything in its place now is something else.
fn is_removed(conversion: Option<&Conversion>) -> bool {
    conversion.is_some_and(|one| one.story().state == State::Committing)
}

/// The image store of aufs: in its place, or where it waits until all branches are removed.
fn original_store(path: &Path, conversion: Option<&Conversion>) -> Option<PathBuf> {
    let stage = conversion.map(Conversion::stage);
    if let Some(stage) = stage.filter(|_| is_removed(conversion)) {
        return Some(stage.join("removed/image")).filter(|store| store.is_dir());
    }
    let (aufs, store) = (path.join("aufs"), path.join("image/aufs"));
    (aufs.is_dir() && store.is_dir()).then_some(store)
}

/// Damage from before the conversion, according to the journal or the record that outlasts it.
fn known_damage(path: &Path, conversion: Option<&Conversion>) -> Vec<LayerDamage> {
    match conversion {
        Some(conversion) => conversion.story().verified.damaged.clone(),
        None => CommitRecord::read(path).map_or_else(Vec::new, |record| record.damaged),
    }
}

/// An empty directory for mount points: in the staging directory if there is one, so that the next run finds what is
/// left there after a kill.
#[derive(Debug)]
pub(super) struct MountPoints(PathBuf);

impl MountPoints {
    fn make(conversion: Option<&Conversion>) -> Result<Self, Error> {
        // Nothing can be left behind where nothing can be written.
        if let Some(conversion) = conversion
            && read_only(conversion.stage()).is_none()
        {
            return Self::inside(conversion.stage(), "verify");
        }
        let own = format!("aufs2dm-{}", std::process::id());
        Self::inside(Path::new("/run"), &own)
    }

    /// Creates it, or reuses the one that a killed run left.
    pub(super) fn inside(directory: &Path, name: &str) -> Result<Self, Error> {
        let path = directory.join(name);
        match DirBuilder::new().mode(0o700).create(&path) {
            Err(source) if source.kind() != io::ErrorKind::AlreadyExists => {
                Err(Error::MountPoints { path, source })
            }
            _ => Ok(Self(path)),
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for MountPoints {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir(&self.0) {
            log::warn!("{}: cannot remove: {error}", self.0.display());
        }
    }
}
