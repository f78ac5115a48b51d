//! Exit codes, and how an error is told.

use std::fmt::{Display, Write as _};
use std::io;
use std::path::Path;
use std::process::ExitCode;

use nix::unistd::geteuid;

use super::log_format::tell_error;
use crate::command;
use crate::commit::{self, CommitRecord, Conversion, State};
use crate::daemon::RunningDocker;
use crate::docker::{self, Inventory, Problem};
use crate::engine::ErrorKind;
use crate::shell::{SameCommand, is_call_of, own};

/// The process's exit code, documented in the README and in `--help`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Exit {
    /// All was done.
    Done = 0,
    /// It failed, and the root is as it was.
    Failed = 1,
    /// The arguments make no sense.
    Usage = 2,
    /// A verification found something wrong, or a root is damaged. After `convert` the root is as it was.
    Wrong = 3,
    /// It was told to stop, and has said what is left.
    Interrupted = 4,
    /// It failed half-way and could not be undone.
    HalfWay = 5,
}

/// A verification found something wrong, and has said what.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the verification found something wrong")]
pub(super) struct FaultsFound;

/// A root is damaged, and what is damaged has been said.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the root is damaged")]
pub(super) struct DamageFound;

/// A verification could not look at what is there, and has said why.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("not verified: some layers could not be checked")]
pub(super) struct NotVerified;

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Prints the error's chain on one line and gives the exit code for it.
pub(super) fn report(error: &anyhow::Error) -> Exit {
    if is_broken_pipe(error) {
        return Exit::Done;
    }
    tell_error(&message(error), &hints(error));
    exit_of(error)
}

/// The chain on one line; of several faults each on a line of its own.
fn message(error: &anyhow::Error) -> String {
    if let Some(docker::Error::Damaged { path, problems }) = docker_error(error) {
        return damaged(path, problems);
    }
    match error.downcast_ref() {
        Some(command::Error::Running(RunningDocker::Found { findings })) if findings.len() > 1 => {
            listing("docker is not stopped:".to_owned(), findings, "")
        }
        Some(command::Error::Obstacles {
            path,
            kept,
            obstacles,
        }) if obstacles.len() > 1 => {
            let head = format!("{}:", command::head_of_obstacles(path, *kept));
            listing(head, obstacles, "") + &command::end_of_obstacles(path, *kept)
        }
        _ => without_aufs(error).unwrap_or_else(|| format!("{error:#}")),
    }
}

/// What is wrong in a root, and the way on.
fn damaged(path: &Path, problems: &[Problem]) -> String {
    // A single one names its own path, which is below the root.
    let mut text = if let [problem] = problems {
        problem.to_string()
    } else {
        let head = format!("{}: {} problems:", path.display(), problems.len());
        let all = own("inspect --json", path);
        listing(head, problems, &format!(": `{all}` lists all"))
    };
    let next = if is_call_of("resume") {
        // What it has written is of the layers as they were.
        format!(
            "\nnothing was changed. Next: restore what is missing or damaged from a backup, then `{}`; or `{}` undoes \
             the conversion",
            SameCommand::new("resume", path),
            own("rollback", path)
        )
    } else {
        format!(
            "\nnothing was changed. Next: restore what is missing or damaged from a backup; or start Docker on aufs, \
             remove what this affects (`docker rm`, `docker rmi`), stop Docker, and run `{}` again; `{}` shows what \
             else is damaged",
            SameCommand::new("convert", path),
            own("verify --full", path)
        )
    };
    text.push_str(&next);
    text
}

/// What there is to say of a devicemapper root, where the error is that it has no aufs side.
fn without_aufs(error: &anyhow::Error) -> Option<String> {
    #[allow(clippy::manual_let_else)] // one pattern of both would be harder to read
    let root = match (docker_error(error), error.downcast_ref()) {
        (Some(docker::Error::NotAufs { path, .. }), _)
        | (_, Some(command::Error::NothingToResume { path })) => path,
        _ => return None,
    };
    let meaning = match (CommitRecord::read(root), begun(root)) {
        (Some(record), _) => record.meaning(root),
        // Whatever became of its aufs side, the journal knows more.
        (None, Some(State::Converted)) => format!(
            "is converted, but its aufs side is missing or incomplete: `{}` shows the next step",
            own("status", root)
        ),
        (None, Some(state)) => state.meaning(root),
        (None, None) if Inventory::is_devicemapper(root) && !root.join("image/aufs").exists() => {
            format!(
                "is a devicemapper root without an aufs side, and no conversion by aufs2dm is known: there is nothing \
                 to convert, to resume or to go back to; `{}` shows it, `{}` checks it",
                own("inspect", root),
                own("verify", root)
            )
        }
        (None, None) => return None,
    };
    Some(format!("{}: {meaning}", root.display()))
}

/// Where a conversion in a root stands, if one was begun.
fn begun(root: &Path) -> Option<State> {
    let found = Conversion::find(root).ok().flatten();
    found.map(|conversion| conversion.story().state)
}

/// As many lines as fit on a screen.
const SHOWN: usize = 20;

/// `all` says where the rest is.
fn listing(mut text: String, items: &[impl Display], all: &str) -> String {
    for item in items.iter().take(SHOWN) {
        // Writing to a String cannot fail.
        let _ = write!(text, "\n  {item}");
    }
    if items.len() > SHOWN {
        let _ = write!(text, "\n  and {} more{all}", items.len() - SHOWN);
    }
    text
}

/// The parts' errors are transparent in [`command::Error`], so they are no causes of their own in the chain.
fn exit_of(error: &anyhow::Error) -> Exit {
    if error.is::<FaultsFound>() || error.is::<DamageFound>() {
        return Exit::Wrong;
    }
    match error.downcast_ref() {
        Some(command::Error::Stopped(_)) => Exit::Interrupted,
        Some(command::Error::Commit(
            commit::Error::HalfWay { .. }
            | commit::Error::StuckHalfWay { .. }
            | commit::Error::TakingBack { .. }
            | commit::Error::SettingOut { .. }
            | commit::Error::Removing { .. },
        )) => Exit::HalfWay,
        Some(command::Error::Wrong { .. }) => Exit::Wrong,
        _ => Exit::Failed,
    }
}

/// `aufs2dm inspect | head`: nobody is left to tell.
fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let io_error = |cause: &(dyn std::error::Error + 'static)| {
        cause.downcast_ref::<io::Error>().map(io::Error::kind)
    };
    error.downcast_ref::<super::output::StdoutError>().is_some()
        && error
            .chain()
            .any(|cause| io_error(cause) == Some(io::ErrorKind::BrokenPipe))
}

/// The model's error, of any command.
fn docker_error(error: &anyhow::Error) -> Option<&docker::Error> {
    match error.downcast_ref() {
        Some(command::Error::Docker(source)) => Some(source),
        _ => error.downcast_ref(),
    }
}

/// Whether it was a thin device's own file system that refused. A full pool is told as such.
fn is_in_a_device(error: &anyhow::Error) -> bool {
    matches!(
        error.downcast_ref(),
        Some(command::Error::Engine(error)) if error.kind() == ErrorKind::FileSystem
    )
}

/// What to do about it, where that does not go without saying.
fn hints(error: &anyhow::Error) -> Vec<&'static str> {
    let mut hints = Vec::new();
    if let Some(
        docker::Error::NotFound { .. }
        | docker::Error::NotADirectory { .. }
        | docker::Error::NotAufs { .. },
    ) = docker_error(error)
        && without_aufs(error).is_none()
    {
        hints.push("--root names Docker's data directory (`docker info` calls it Docker Root Dir)");
    }
    for cause in error.chain() {
        if let Some(io_error) = cause.downcast_ref::<io::Error>() {
            match io_error.kind() {
                io::ErrorKind::PermissionDenied if !geteuid().is_root() => {
                    hints.push("run as root");
                }
                io::ErrorKind::StorageFull if is_in_a_device(error) => {
                    hints.push("the layers do not fit in the devices' file system: --base-size makes it larger");
                }
                io::ErrorKind::StorageFull => {
                    hints.push("free up space on the file system that contains the Docker root");
                }
                _ => {}
            }
        }
    }
    hints
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::docker::CacheId;
    use crate::path_error::PathError;

    #[test]
    fn a_full_file_system_is_told_by_which_it_is() {
        let full = || io::Error::from(io::ErrorKind::StorageFull);
        let in_a_device = crate::engine::kernel::Error::Populate(crate::populate::Error::Target {
            layer: CacheId::parse(b"abc").unwrap(),
            path: "/f".to_owned(),
            op: "write".into(),
            source: full(),
        });
        let stage = Path::new("/r/.aufs2dm/mnt");
        let below = PathError::on(stage, "create")(full());
        let below = crate::engine::kernel::Error::from(below);
        for (error, word) in [(in_a_device, "--base-size"), (below, "Docker root")] {
            let hints = hints(&command::Error::from(error).into());
            assert!(hints.len() == 1 && hints[0].contains(word), "{hints:?}");
        }
    }
}
