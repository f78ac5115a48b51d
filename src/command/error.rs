//! The reasons why a command stops.

use std::fmt;
use std::path::{Path, PathBuf};

use super::beyond::{self, BeyondLimits};
use super::damage::{Damage, write_refusal};
use super::interruption::Interruption;
use crate::chain::Chain;
use crate::commit::{self, State};
use crate::daemon::{LockError, RunningDocker};
use crate::docker::{self, CacheId, Hits, JsonError, ReadError};
use crate::engine::{self, kernel};
use crate::mount_table::{MountFound, told};
use crate::privileges::Unprivileged;
use crate::shell::{SameCommand, own, word};
use crate::tree::{Difference, escape, shown};
use crate::words::counted;
use crate::{aufs, plan, verify};

/// The reason why a command stops. Unless it is [`commit::Error::HalfWay`], the root is as it was.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Only root can read all branches and preserve owners.
    #[error("aufs2dm must run as root: it reads every container's files and keeps their owners")]
    NotRoot,
    /// Parts of the root cannot be seen or preserved with these privileges.
    #[error(transparent)]
    Unprivileged(#[from] Unprivileged),
    /// The root cannot be converted.
    #[error(transparent)]
    Docker(#[from] docker::Error),
    /// Docker is not stopped.
    #[error(transparent)]
    Running(#[from] RunningDocker),
    /// Docker's pid file cannot be locked.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// A directory to be renamed is a mount point.
    #[error(
        "{}: is a mount point, so it cannot be renamed; nothing was changed. Next: `umount {}`",
        shown(path),
        word(path)
    )]
    MountPoint {
        /// The directory.
        path: PathBuf,
    },
    /// Part of the devicemapper side is missing, and the rest cannot be interpreted without it.
    #[error(
        "{}: is missing, and without it nothing shows which device is which, so nothing was verified. Next: restore \
         it from a backup, then run the same command again; or `{}` goes back to aufs",
        shown(part),
        own("rollback", path)
    )]
    PartMissing {
        /// The Docker root.
        path: PathBuf,
        /// What is missing.
        part: PathBuf,
    },
    /// The location of the root's pool is unknown.
    #[error(
        "{}: has no pool in loop files, and nothing shows on which devices the pool is, so nothing was verified. \
         Next: `{} --thin-pool /dev/mapper/NAME`, or with `--data-device DEVICE --metadata-device DEVICE` instead; \
         Docker's storage options name the devices",
        shown(&path.join("devicemapper")),
        own(words, path)
    )]
    PoolUnknown {
        /// The Docker root.
        path: PathBuf,
        /// The command that needs to read it.
        words: &'static str,
    },
    /// The root is not writable.
    #[error(
        "{}: is on a file system that is mounted read-only, so nothing was changed. Next: `mount -o remount,rw {}`, \
         then run the same command again",
        shown(path),
        word(point)
    )]
    ReadOnly {
        /// The Docker root.
        path: PathBuf,
        /// The mount point of its file system.
        point: PathBuf,
    },
    /// Obstacles were found before anything was written.
    #[error("{}: {}{}", head_of_obstacles(path, *kept), obstacles.join("; "), end_of_obstacles(path, *kept))]
    Obstacles {
        /// The Docker root.
        path: PathBuf,
        /// How many layers of the conversion to be continued are kept; `None` for a new conversion.
        kept: Option<usize>,
        /// Each obstacle with its way out; at least one.
        obstacles: Vec<String>,
    },
    /// Something is mounted inside what is read.
    #[error(
        "{}",
        told(
            mounts,
            "inside what is read, so its files would be taken for the root's; nothing was changed"
        )
    )]
    Mounted {
        /// The mounts; at least one.
        mounts: Vec<MountFound>,
    },
    /// Docker's settings cannot name a device.
    #[error(
        "{}: its name is not UTF-8, so Docker's settings cannot contain it; nothing was written. Next: create a link \
         with another name, and pass that: `ln -s {} /dev/docker-pool-device`",
        shown(path),
        word(path)
    )]
    DeviceName {
        /// The device.
        path: PathBuf,
    },
    /// What the journal records about `daemon.json` is not what a conversion writes.
    #[error(
        "nothing was moved, because the journal is not in the form that aufs2dm writes; `{}` undoes the conversion \
         and leaves this file as it is",
        own("rollback", root)
    )]
    DaemonFile {
        /// The Docker root.
        root: PathBuf,
        /// What is wrong with it.
        source: commit::Error,
    },
    /// Objects that Docker shows cannot be converted.
    #[error("{}", Refusal { path, damage })]
    Damaged {
        /// The Docker root.
        path: PathBuf,
        /// All of them; at least one.
        damage: Vec<Damage>,
    },
    /// A branch cannot be read.
    #[error("layer {layer}: {hits}")]
    Branch {
        /// The layer.
        layer: CacheId,
        /// Which images and containers need it.
        hits: Hits,
        /// What is wrong, with the path.
        source: aufs::Error,
    },
    /// A container's configuration cannot be edited.
    #[error("{path}: is not a container's configuration")]
    Config {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: JsonError,
    },
    /// A file of the root cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// Layers hold entries that the devices' file system cannot.
    #[error(
        "{}: nothing was written, because the new file systems cannot hold everything: {}. Next: {}",
        shown(path),
        beyond::list(layers),
        beyond::next(path, layers)
    )]
    Beyond {
        /// The Docker root.
        path: PathBuf,
        /// All of them, with what is wrong.
        layers: Vec<BeyondLimits>,
    },
    /// No plan can be made.
    #[error(transparent)]
    Plan(#[from] plan::Error),
    /// The pool cannot be written.
    #[error(transparent)]
    Engine(#[from] engine::Error),
    /// The target does not suit a dry run, but a real run would clear it first.
    #[error(
        "{left}: left behind by an interrupted run; only a run without --dry-run removes it, and until then the \
         target is not suitable"
    )]
    LeftoversFirst {
        /// What the earlier run left.
        left: String,
        /// What does not suit.
        source: Box<Error>,
    },
    /// The run failed, and what it had written to the pool cannot be removed from it.
    #[error("{cause}; and what was written to the pool could not be removed", cause = Chain(&**.cause))]
    PoolNotTakenBack {
        /// Why it failed.
        cause: Box<Error>,
        /// Why the pool cannot be emptied.
        #[source]
        left: engine::Error,
    },
    /// The result cannot be staged or moved into place.
    #[error(transparent)]
    Commit(#[from] commit::Error),
    /// The root is already converted.
    #[error(
        "{path}: is already converted; `{}` shows the details, `{}` goes back to aufs",
        own("status", path),
        own("rollback", path)
    )]
    AlreadyConverted {
        /// The Docker root.
        path: PathBuf,
    },
    /// Layers of an interrupted conversion are present.
    #[error(
        "{path}: {kept} layers are kept from an interrupted conversion; `{}` resumes it, `{}` removes them, and `{}` \
         removes them and starts over",
        own("resume", path),
        own("rollback", path),
        // A dry run removes nothing.
        SameCommand::new("convert", path).without("--dry-run").with("--restart")
    )]
    LayersKept {
        /// The Docker root.
        path: PathBuf,
        /// How many: `54 of 96`, or `54`.
        kept: String,
    },
    /// No conversion was interrupted.
    #[error(
        "{path}: has no interrupted conversion, so there is nothing to resume; `{}` starts one",
        own("convert", path)
    )]
    NothingToResume {
        /// The Docker root.
        path: PathBuf,
    },
    /// Docker has worked on the converted root.
    #[error("{}", has_run(path, *state, changes))]
    DockerHasRun {
        /// The Docker root.
        path: PathBuf,
        /// The state of the conversion.
        state: State,
        /// What Docker did.
        changes: Box<commit::Changes>,
    },
    /// There is no conversion whose aufs side could be removed.
    #[error(
        "{path}: has no finished conversion; `{}` shows its state",
        own("status", path)
    )]
    NotConverted {
        /// The Docker root.
        path: PathBuf,
    },
    /// No full verification has passed since the conversion.
    #[error(
        "{path}: no full verification has passed since the conversion, and the aufs side is the only other copy. \
         Next: `{}`, then run the same command again",
        own("verify --full", path)
    )]
    NotVerified {
        /// The Docker root.
        path: PathBuf,
    },
    /// The aufs side may still be needed.
    #[error(
        "{path}: the aufs side is kept, because it may still be needed: {}", why.join("; ")
    )]
    StillNeeded {
        /// The Docker root.
        path: PathBuf,
        /// Each reason, with the command to run next.
        why: Vec<String>,
    },
    /// The replacement of an aufs side that may be partly gone is no longer right, or was written to.
    #[error(
        "{}: what is left of the aufs side is kept in {}, because it is not certain that the devicemapper side is \
         right: {why}\nNext: fix what is wrong there, if anything is; then `{}` must pass; docs/operations.md says \
         what can be taken from the rest of aufs by hand",
        shown(path),
        shown(rest),
        own("verify --full", path)
    )]
    RestNeeded {
        /// The Docker root.
        path: PathBuf,
        /// Where the rest of the aufs side is.
        rest: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// The aufs side was moved out of the root and is whole, so the root has nothing to be compared with.
    #[error(
        "{}: the removal of the aufs side was interrupted before any of it was removed; the aufs side is not in its \
         place, so nothing was verified. Next: `{}` puts it back and continues if the full verification still holds; \
         `{}` puts it back and removes the devicemapper side",
        shown(path),
        own("commit", path),
        own("rollback", path)
    )]
    AufsSetOut {
        /// The Docker root.
        path: PathBuf,
    },
    /// Configs that a rollback restores are missing or damaged.
    #[error(
        "{path}: nothing was changed, because not everything can be restored: {}. Next: restore these from a backup; \
         or `{}` goes back anyway: a config whose original is missing stays on devicemapper, a damaged one is \
         restored as it is, and a container that lost its directory stays lost", damaged.join("; "),
        own("rollback --onto-damaged", path)
    )]
    OriginalsDamaged {
        /// Each one, and what is wrong with it.
        path: PathBuf,
        /// Each, and what is wrong.
        damaged: Vec<String>,
    },
    /// The aufs side that a rollback would restore is not whole.
    #[error(
        "{path}: the aufs side is not what was converted: {broken}; the devicemapper side may be the only good copy, \
         and going back removes it. Next: restore what aufs lost (mount it, or use a backup), then run the same \
         command again; or `{}` goes back to the aufs side as it is now",
        own("rollback --onto-damaged", path)
    )]
    WayBackBroken {
        /// The Docker root.
        path: PathBuf,
        /// What is missing or damaged.
        broken: String,
    },
    /// The aufs side lost something that an interrupted conversion has written and that is about to be removed.
    #[error(
        "{}: {lost}; what the interrupted conversion has written may be the only good copy, and this command would \
         remove it. Next: restore what aufs lost, with its times (mount it, or use a backup), then run the same \
         command again; or, if aufs is right as it is, `{}`, then `{}`",
        shown(path),
        own("rollback --onto-damaged", path),
        own("convert", path)
    )]
    SourceLost {
        /// The Docker root.
        path: PathBuf,
        /// What was lost.
        lost: String,
    },
    /// The aufs side that a rollback would restore was written to, and nothing has read it since.
    #[error(
        "{}: the aufs side was written to, or replaced by a copy, after {since}, and its bytes have not been read \
         since; going back removes the devicemapper side. Next: {}; or, if aufs is right nevertheless, `{}`",
        shown(path),
        if *can_verify {
            format!("`{}`, which reads them, then run the same command again", own("verify --full", path))
        } else {
            "check the aufs side by hand, because a root that is only half moved cannot be verified".to_owned()
        },
        own("rollback --onto-damaged", path)
    )]
    WayBackUnread {
        /// The Docker root.
        path: PathBuf,
        /// The event after which it was written to.
        since: String,
        /// Whether a verification is possible.
        can_verify: bool,
    },
    /// It is undecided whether the aufs side that a rollback would restore is right.
    #[error(
        "{}: an earlier verification still counts: {verified}. Going back removes the devicemapper side, which may be \
         right. Next: look at the files that `{}` names; if aufs is right, `{}`",
        shown(path),
        own("verify --full", path),
        own("rollback --onto-damaged", path)
    )]
    Undecided {
        /// The Docker root.
        path: PathBuf,
        /// The verification that found this.
        verified: String,
    },
    /// The aufs side that a rollback would restore is gone.
    #[error(
        "{path}: there is no way back: {} is missing, but existed when the root was converted; the devicemapper side \
         is kept. Next: restore it (mount it, or use a backup), then run the same command again; or, once `{}` finds \
         the devices right, `{}` removes what is left of the aufs side",
        shown(missing),
        own("verify --full", path),
        own("commit --drop-aufs-changes", path)
    )]
    NoWayBack {
        /// The Docker root.
        path: PathBuf,
        /// What is missing.
        missing: PathBuf,
    },
    /// The aufs side that a rollback would restore is gone, and the devicemapper side is not in place yet.
    #[error(
        "{path}: there is no way back: {} is missing, but existed when the conversion began; everything that was \
         converted is staged. Next: `{}` moves it into place",
        shown(missing),
        own("resume", path)
    )]
    OnlyForward {
        /// The Docker root.
        path: PathBuf,
        /// What is missing.
        missing: PathBuf,
    },
    /// A rollback was interrupted, and the aufs side has gone missing since.
    #[error(
        "{path}: a rollback was interrupted, and {} has gone missing since then, so there is nothing to go back to; \
         what is left of the devicemapper side is kept in {}. Next: put the aufs side back where it was, then `{}`; \
         if there is none, see docs/operations.md, \"When the aufs side is lost while rollback is interrupted\"",
        shown(missing),
        shown(rest),
        own("rollback", path)
    )]
    BothGone {
        /// The Docker root.
        path: PathBuf,
        /// What is missing.
        missing: PathBuf,
        /// Where the devicemapper side is.
        rest: PathBuf,
    },
    /// The aufs side has data that no device has.
    #[error(
        "{}: the aufs side was written to after it was converted, and the devices do not have these changes: \
         {changes}; nothing was moved. Next: `{}` goes back to the aufs side as it is now, so that it can be \
         converted again; or `{}` continues without the changes, and leaves them in aufs",
        shown(path),
        own("rollback --onto-damaged", path),
        own("resume --leave-aufs-changes", path)
    )]
    AufsWritten {
        /// The Docker root.
        path: PathBuf,
        /// What was written.
        changes: Box<commit::AufsChanges>,
    },
    /// Containers still use aufs.
    #[error(
        "{path}: still has containers of the aufs driver: {}",
        escaped(containers)
    )]
    AufsInUse {
        /// The Docker root.
        path: PathBuf,
        /// The containers' names.
        containers: Vec<String>,
    },
    /// A verification cannot be made.
    #[error(transparent)]
    Verify(#[from] verify::Error),
    /// The root has neither side.
    #[error(
        "{path}: is neither an aufs root nor a devicemapper root. Next: run the same command with `--root DIRECTORY`, \
         Docker's data directory (by default /var/lib/docker)"
    )]
    NothingToVerify {
        /// The Docker root.
        path: PathBuf,
    },
    /// What was written is not what it should be.
    #[error("what was written is not what it should be, so it was removed:\n{report}")]
    Wrong {
        /// What was found.
        report: Box<verify::Report>,
    },
    /// A directory for mount points cannot be made.
    #[error("{path}: cannot create")]
    MountPoints {
        /// The directory.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The journal does not say which options were given.
    #[error(
        "{path}: its journal does not record how the conversion was started; `{}` undoes what it did",
        own("rollback", path)
    )]
    Order {
        /// The Docker root.
        path: PathBuf,
    },
    /// The source changed since the conversion began.
    #[error(
        "{path}: {what} has changed since the conversion was started, so what it has written cannot be used. Next: \
         `{}` removes that, provided that aufs has lost none of it; then `{}`",
        own("rollback", path),
        own("convert", path)
    )]
    SourceChanged {
        /// The Docker root.
        path: PathBuf,
        /// What: `the aufs layers`, `the plan`.
        what: &'static str,
    },
    /// A layer changed since it was read.
    #[error(
        "layer {layer}: {path} {what} while the root was being converted ({hits}); nothing was moved. Next: find out \
         what writes there, then convert again", path = .difference.path, what = .difference.what
    )]
    LayerChanged {
        /// The layer.
        layer: CacheId,
        /// Which images and containers need it.
        hits: Hits,
        /// The entry.
        difference: Difference,
    },
    /// One of Docker's own files changed since it was read.
    #[error(
        "{}: {what} while the root was being converted; nothing was moved. Next: find out what writes there, then \
         convert again",
        shown(path)
    )]
    StoreChanged {
        /// The file.
        path: PathBuf,
        /// What happened to it.
        what: &'static str,
    },
    /// The run failed or was stopped, and what it has written is kept.
    #[error(
        "{done} of {all} layers are written and kept, and the root is as it was: `{}` continues, `{}` removes them",
        own("resume", root),
        own("rollback", root)
    )]
    Resumable {
        /// The Docker root.
        root: PathBuf,
        /// The reason.
        #[source]
        cause: Box<Error>,
        /// Number of layers that need not be written again.
        done: usize,
        /// Total number of layers.
        all: usize,
    },
    /// The reader threads cannot be started.
    #[error("cannot start {jobs} threads")]
    Threads {
        /// How many.
        jobs: usize,
        /// What rayon said.
        source: rayon::ThreadPoolBuildError,
    },
    /// The run was told to stop.
    #[error("interrupted")]
    Interrupted,
    /// The run was told to stop, with what it left: [`told`](Self::told).
    #[error(transparent)]
    Stopped(Interruption),
}

impl From<kernel::Error> for Error {
    fn from(error: kernel::Error) -> Self {
        Self::Engine(error.into())
    }
}

/// The start of a list of obstacles.
pub(crate) fn head_of_obstacles(path: &Path, kept: Option<usize>) -> String {
    let path = shown(path);
    match kept {
        None => format!("{path}: cannot be converted as it is, and nothing was written"),
        Some(kept) => format!(
            "{path}: the conversion cannot continue as things are; what it has written ({}) is kept, and nothing was \
             changed",
            counted(kept as u64, "layer")
        ),
    }
}

/// The end of a list of obstacles.
pub(crate) fn end_of_obstacles(path: &Path, kept: Option<usize>) -> String {
    match kept {
        None => String::new(),
        Some(_) => format!(
            ". Next: resolve that, then `{}`; or `{}` removes what is kept",
            SameCommand::new("resume", path),
            own("rollback", path)
        ),
    }
}

/// What Docker did, and the next step, which depends on what was interrupted.
fn has_run(path: &Path, state: State, changes: &commit::Changes) -> String {
    let (root, force) = (path.display(), own("rollback --force", path));
    match state {
        State::Switching => format!(
            "{root}: Docker has worked on what an interrupted conversion had moved into place: {changes}; nothing was \
             changed. Next: `{}` moves the rest into place and keeps these changes; or `{force}` goes back to aufs \
             and loses them (volumes stay)",
            own("resume", path)
        ),
        State::RollingBack => format!(
            "{root}: Docker has worked on the devicemapper side, and the interrupted rollback would lose these \
             changes: {changes}; nothing was changed. Next: save what is to be kept, from a Docker that shows it \
             (`docker save`, `docker export`), and stop that Docker; then `{force}` finishes the rollback and loses \
             the rest (volumes stay)"
        ),
        _ => format!(
            "{root}: Docker has worked on the root since it was converted: {changes}; going back loses these changes \
             (volumes stay); `{force}` goes back anyway"
        ),
    }
}

/// Names from the root, escaped for messages.
fn escaped(names: &[String]) -> String {
    let names: Vec<_> = names.iter().map(|name| escape(name.as_bytes())).collect();
    names.join(", ")
}

struct Refusal<'a> {
    path: &'a Path,
    damage: &'a [Damage],
}

impl fmt::Display for Refusal<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_refusal(f, self.path, self.damage)
    }
}
