//! The reasons why staging or moving into place fails.

use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::state::State;
use crate::chain::Chain;
use crate::daemon::NotAlone;
use crate::daemon::first_start::SwitchError;
use crate::docker::ReadError;
use crate::holder::AtWork;
use crate::mount_table::{MountFound, told};
use crate::path_error::PathError;
use crate::removal::Remainder;
use crate::shell::{SameCommand, own, word};
use crate::tree::{escape, shown};
use crate::units::Bytes;

/// The reason why staging or moving into place fails.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file or directory cannot be read or written.
    #[error(transparent)]
    Io(#[from] PathError),
    /// The file system of the Docker root is too full.
    #[error(
        "{path}: the conversion writes {needed}, but only {free} is free. Next: free up {}: start Docker and remove \
         images that nobody needs (`docker images`, `docker rmi`), or leave out what nothing refers to \
         (--skip-orphans), or write elsewhere (--thin-pool)", Bytes(needed.0.saturating_sub(free.0))
    )]
    Space {
        /// The Docker root.
        path: PathBuf,
        /// What will be written.
        needed: Bytes,
        /// The free space.
        free: Bytes,
    },
    /// The file system of the containers is too full.
    #[error(
        "{}: the containers' configs are rewritten there, which takes {needed}, but only {free} is free. Next: free \
         up {}, then run the same command again",
        shown(path), Bytes(needed.0.saturating_sub(free.0))
    )]
    SpaceBeside {
        /// The containers' directory.
        path: PathBuf,
        /// What will be written.
        needed: Bytes,
        /// The free space.
        free: Bytes,
    },
    /// The containers' file system is not mounted.
    #[error(
        "{path}: its file system is not mounted: the conversion keeps the containers' configs in {place}, which is \
         missing; nothing was done. Next: mount its file system, then run the same command again",
        path = shown(path), place = shown(&path.join(".aufs2dm"))
    )]
    ContainersNotMounted {
        /// The containers' directory.
        path: PathBuf,
    },
    /// Another file system than the converted one is mounted at the containers' directory.
    #[error(
        "{path}: is not the file system that was there when the root was converted: {place} belongs to another \
         conversion; nothing was done. Next: mount its own file system, then run the same command again",
        path = shown(path), place = shown(&path.join(".aufs2dm"))
    )]
    OtherContainers {
        /// The containers' directory.
        path: PathBuf,
    },
    /// A mount hides the containers that were converted.
    #[error(
        "{}: is a mount point, but was not one when the root was converted; nothing was done. Next: unmount it, then \
         run the same command again: `umount {}`",
        shown(path),
        word(path)
    )]
    ContainersHidden {
        /// The containers' directory.
        path: PathBuf,
    },
    /// There is a conversion that has to be finished first.
    #[error("{path}: {}", .state.meaning(path))]
    Unfinished {
        /// The Docker root.
        path: PathBuf,
        /// The state of that conversion.
        state: State,
    },
    /// A journal that no version of this tool has written.
    #[error(
        "{path}: line {line}: {what}; the journal was written by another version of aufs2dm, or is damaged; nothing \
         was done, and Docker must not start. Next: what to do by hand is in docs/operations.md, \"When the journal \
         is lost\""
    )]
    Journal {
        /// The file.
        path: PathBuf,
        /// The line, counted from 1.
        line: usize,
        /// What is wrong with it.
        what: &'static str,
    },
    /// A journal is missing, empty or truncated, although a conversion exists.
    #[error(
        "{path}: is missing or damaged: it does not mention {found}, which a conversion created; nothing was done, \
         and Docker must not start. Next: what to do by hand is in docs/operations.md, \"When the journal is lost\"",
        path = shown(path), found = shown(found)
    )]
    JournalLost {
        /// The journal.
        path: PathBuf,
        /// What shows that a conversion exists.
        found: PathBuf,
    },
    /// Something in the staging directory does not have the form that this tool creates.
    #[error(
        "{path}: {why}; aufs2dm creates nothing like this there, so nothing was done. Next: find out what it is, and \
         move it out of the way",
        path = shown(path)
    )]
    Foreign {
        /// The file or directory.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// Somebody else's files would be removed.
    #[error(
        "{}: neither aufs2dm nor Docker creates these files, and they would be removed: {}; nothing was {}. Next: \
         `{}`, then `{}`",
        shown(root),
        listed(files),
        if *is_begun { "removed" } else { "changed" },
        set_aside(root, files),
        SameCommand::new(words, root)
    )]
    OthersFiles {
        /// The Docker root.
        root: PathBuf,
        /// The files; at least one.
        files: Vec<PathBuf>,
        /// The command that continues.
        words: &'static str,
        /// Whether that command has already moved something.
        is_begun: bool,
    },
    /// A directory cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// A staged file or directory is neither there nor in its place.
    #[error(
        "{path}: is missing, and it is not in its final place either; `{}` goes back",
        own("rollback", root)
    )]
    Lost {
        /// The Docker root.
        root: PathBuf,
        /// The staged file or directory.
        path: PathBuf,
    },
    /// Somebody else was found at work right before something was to be moved or removed.
    #[error(
        "{}; nothing was moved. Next: resolve that, then `{}`",
        Chain(cause),
        own(words, root)
    )]
    NotAlone {
        /// The Docker root.
        root: PathBuf,
        /// Who it is.
        cause: NotAlone,
        /// The command that continues.
        words: &'static str,
    },
    /// The daemon's settings cannot be changed.
    #[error(transparent)]
    Daemon(SwitchError),
    /// The converted aufs side is being removed, but there is an aufs side again.
    #[error(
        "{}: the converted aufs side is being removed, but there are files that no conversion has seen: {}; they were not touched. \
         Next: move them out of the root, then `{}`",
        shown(root),
        new.join(", "),
        own("commit", root)
    )]
    AufsAgain {
        /// The Docker root.
        root: PathBuf,
        /// The new files.
        new: Vec<String>,
    },
    /// What waits for its removal differs from what was checked when the removal began.
    #[error(
        "{}: the converted aufs side is being removed, but what is left of it is not what it was when the removal \
         began: {}; it was written to, its attributes were changed (`chattr`, `chmod`), or it is a copy. It was not \
         removed. Next: move what is needed out of the root, then `{}` removes the rest as it is",
        shown(root),
        few(changed),
        own("commit --drop-aufs-changes", root)
    )]
    RestChanged {
        /// The Docker root.
        root: PathBuf,
        /// What changed, as paths in the root.
        changed: Vec<String>,
    },
    /// Something else is in the place of the record that outlasts a removal.
    #[error(
        "{path}: is not an aufs2dm record, which `commit` writes there; nothing was removed. Next: `mv \
         --backup=numbered -T {from} {to}`, then `{commit}`",
        path = shown(.path), from = word(.path), to = word(&.path.with_extension("json.kept")), commit = own("commit", root)
    )]
    RecordInTheWay {
        /// The Docker root.
        root: PathBuf,
        /// What is there.
        path: PathBuf,
    },
    /// Something is in the place from which the aufs side was moved out for removal.
    #[error(
        "{}: the converted aufs side has already been moved out of the root, so this is something else. Next: move it elsewhere, then run \
         the same command again",
        shown(path)
    )]
    SetOutTwice {
        /// Its path.
        path: PathBuf,
    },
    /// Another run is working on the root.
    #[error(
        "{}: {holder}; `{}` shows how far that is. Next: wait until it has ended, then run the same command again",
        shown(path),
        own("status", path)
    )]
    Busy {
        /// The Docker root.
        path: PathBuf,
        /// The run that holds it.
        holder: AtWork,
    },
    /// Somebody else wrote to a file that is about to be replaced.
    #[error(
        "{}: changed while the root was being converted, so it is left as it is. Next: find out what writes there, \
         then convert again",
        shown(path)
    )]
    Changed {
        /// The file.
        path: PathBuf,
    },
    /// The path to a file that is about to be moved has something other than a directory in it.
    #[error(
        "{}: is not a directory, although files below it are to be moved; nothing below it was changed. Next: find \
         out what it is, and put the directory back",
        shown(path)
    )]
    NoDirectory {
        /// What is there instead, often a symbolic link.
        path: PathBuf,
    },
    /// The aufs side is about to be removed, and its replacement is missing.
    #[error(
        "{}: is not the directory or file of the devicemapper side that is to replace the aufs side; nothing was \
         removed, and aufs is in its place or in {}. Next: put the devicemapper side back where it was, then run the \
         same command again; docs/operations.md says what else can be done",
        shown(path),
        shown(waiting)
    )]
    NotInPlace {
        /// What is missing.
        path: PathBuf,
        /// Where an aufs side that is being removed waits.
        waiting: PathBuf,
    },
    /// What waits beside an `aufs` that stays is not visible.
    #[error(
        "{}: was a mount point or a link when its removal began, but now it is neither or leads elsewhere, so what is \
         left of the aufs side cannot be seen; nothing was removed. Next: mount it again or recreate the link as it \
         was; or, if nothing is left of the old one, remove what is there now (`rmdir {}` for an empty directory); \
         then `{}`",
        shown(path),
        word(path),
        own("commit", root)
    )]
    AufsNotMounted {
        /// The Docker root.
        root: PathBuf,
        /// The directory.
        path: PathBuf,
    },
    /// Something is mounted inside what is about to be removed or moved.
    #[error(
        "{}",
        told(mounts, "inside what would be removed, so nothing was changed")
    )]
    Mounted {
        /// The mounts; at least one.
        mounts: Vec<MountFound>,
    },
    /// A directory cannot be moved, or no names can be removed from it.
    #[error("{kept}, then run the same command again; nothing was changed")]
    Unchangeable {
        /// Which directories, and what to do about them.
        kept: Remainder,
    },
    /// Some parts could not be removed.
    #[error(
        "{}: not all of it could be removed:\n  {kept}\nNext: do what each line says, then run the same command again; Docker may be started in the meantime",
        escape(path.as_os_str().as_bytes())
    )]
    NotRemoved {
        /// What was to be removed.
        path: PathBuf,
        /// What is left, and what to do about it.
        kept: Remainder,
    },
    /// One of the sides changed after the last check, once the aufs side was out of the root.
    #[error(
        "{}: its {side} side was written to after `commit` checked it, or can no longer be read; aufs is back in its \
         place, and nothing was removed. Next: find out what writes there, if anything does; then `{}`",
        shown(root),
        own("verify --full", root)
    )]
    WrittenMeanwhile {
        /// The Docker root.
        root: PathBuf,
        /// The side's driver.
        side: &'static str,
    },
    /// The run was told to stop.
    #[error("interrupted")]
    Interrupted,
    /// Something is already in the place of the result.
    #[error("{path}: already exists")]
    Exists {
        /// What is there.
        path: PathBuf,
    },
    /// An original has content that is no longer in place.
    #[error(
        "{path}: is not the config that the conversion found there, and {} is the only copy of that config, so it is \
         kept. Next: `cp -a {} {}`, then run the same command again",
        shown(kept), word(kept), word(.path), path = shown(.path)
    )]
    OnlyOriginal {
        /// The config.
        path: PathBuf,
        /// Its original.
        kept: PathBuf,
    },
    /// The first step failed.
    #[error(
        "{cause}; nothing was moved or removed. Next: fix the cause, then `{again}`",
        cause = Chain(&**.cause), again = own(words, root)
    )]
    NotBegun {
        /// The Docker root.
        root: PathBuf,
        /// The reason.
        cause: Box<Error>,
        /// The command that continues.
        words: &'static str,
    },
    /// The aufs side was moved out of the root, wholly or partly, and cannot be removed.
    #[error(
        "{cause}; the aufs side was moved out of the root, at least in part, but nothing of it was removed; Docker \
         may start with devicemapper. Next: fix the cause, then `{commit}` finishes the removal, or `{rollback}` \
         moves the aufs side back to its place and goes back to it",
        cause = Chain(&**.cause), commit = own("commit", root), rollback = own("rollback", root)
    )]
    SettingOut {
        /// The Docker root.
        root: PathBuf,
        /// The reason.
        cause: Box<Error>,
    },
    /// Part of the aufs side is gone, and the rest cannot be removed.
    #[error(
        "{cause}; part of the aufs side was removed or is being removed, so there is no way back; Docker may start \
         with devicemapper. Next: fix the cause, then `{commit}` finishes the removal",
        cause = Chain(&**.cause), commit = own("commit", root)
    )]
    Removing {
        /// The Docker root.
        root: PathBuf,
        /// The reason.
        cause: Box<Error>,
    },
    /// The conversion cannot be taken back.
    #[error(
        "{shown}: the conversion could not be undone: {cause}; Docker must not start before the rollback is finished. \
         Next: fix the cause, then `{rollback}` finishes it",
        shown = .root.display(), cause = Chain(&**.cause), rollback = own("rollback", root)
    )]
    TakingBack {
        /// The Docker root.
        root: PathBuf,
        /// The reason.
        cause: Box<Error>,
    },
    /// A step failed, and the steps before it stay done because Docker has worked there.
    #[error(
        "{cause}; Docker has worked on what is already in place, so that stays there, and Docker must not start. \
         Next: fix the cause, then `{resume}` continues and keeps what Docker did, or `{rollback}` goes back and \
         loses it",
        cause = Chain(&**.cause), resume = own("resume", root), rollback = own("rollback --force", root)
    )]
    StuckHalfWay {
        /// The Docker root.
        root: PathBuf,
        /// The reason.
        cause: Box<Error>,
    },
    /// Docker created again what it did not find because an interrupted move had not put it there yet.
    #[error(
        "{}: created by something else, most likely by Docker, while the conversion was only partly in place, but \
         what is staged belongs there; nothing was moved. Next: `{}`, then `{}`; what is there now has no other copy, \
         so first save what is to be kept, from a Docker that shows it (`docker save`)",
        listed(found),
        set_aside(root, found),
        own("resume", root)
    )]
    InTheWay {
        /// The Docker root.
        root: PathBuf,
        /// What Docker created; at least one.
        found: Vec<PathBuf>,
    },
    /// A step failed, and so did undoing the steps before it.
    #[error(
        "{cause}; and the move could not be undone: {left}; the root is between aufs and devicemapper, so Docker must \
         not start. Next: fix the cause, then `{rollback}` goes back or `{resume}` continues",
        cause = Chain(&**.cause), left = Chain(&**.left), rollback = own("rollback", root), resume = own("resume", root)
    )]
    HalfWay {
        /// The Docker root.
        root: PathBuf,
        /// Why the move failed.
        cause: Box<Error>,
        /// Why it could not be undone.
        left: Box<Error>,
    },
}

/// The number of files that are listed, and moved by one command; the rest follow afterwards.
const SHOWN: usize = 10;

fn listed(files: &[PathBuf]) -> String {
    let names: Vec<_> = files.iter().map(|path| shown(path)).collect();
    few(&names)
}

fn few(names: &[String]) -> String {
    let first = names[..names.len().min(SHOWN)].join(", ");
    match names.len().saturating_sub(SHOWN) {
        0 => first,
        more => format!("{first}, and {more} more"),
    }
}

/// The command that moves the files out of the way; no file overwrites another.
fn set_aside(root: &Path, files: &[PathBuf]) -> String {
    let to = word(&root.join("kept-files"));
    let words: Vec<_> = files.iter().take(SHOWN).map(|path| word(path)).collect();
    format!(
        "mkdir -p {to} && mv --backup=numbered -t {to} {}",
        words.join(" ")
    )
}

impl Error {
    pub(super) fn io(path: &Path, op: &'static str) -> impl FnOnce(io::Error) -> Self {
        let error = PathError::on(path, op);
        move |source| error(source).into()
    }
}
