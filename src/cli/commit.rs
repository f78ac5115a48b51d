//! `aufs2dm commit`.

use std::io::{self, BufRead, IsTerminal, Write};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use anyhow::{Context, bail};

use super::args::CommitArgs;
use super::output::{print, print_json};
use super::printable::printable;
use super::remarks::write_damage;
use super::signals::cancel_by_signals;
use crate::command;
use crate::command::{Commit, MayLose};
use crate::daemon::first_start::told_aufs;
use crate::progress::Cancel;
use crate::shell::SameCommand;
use crate::tree::shown;

/// Removes the aufs side.
pub(super) fn run(args: &CommitArgs) -> anyhow::Result<()> {
    let cancel = cancel_by_signals()?;
    let place = args.at.place("commit")?;
    let told = |error: command::Error| error.told(&place.root, "commit");
    let may_lose = MayLose {
        left_out: args.drop_left_out,
        aufs_changes: args.drop_aufs_changes,
        linked_aufs: args.drop_linked_aufs,
        unverified: args.unverified,
    };
    let discard = Commit::open(&place.root, &place.host, may_lose, &cancel).map_err(told)?;
    if args.yes {
        let verified = discard.verified();
        let verified = verified.map_or_else(String::new, |one| format!("verified {one}; "));
        if let Some(told) = told_aufs(&place.host) {
            log::warn!("{told}");
        }
        log::info!("{verified}{} will be removed", discard.bytes());
        if let Some(removed) = removed_since(&discard)? {
            log::warn!("{removed}");
        }
    } else if !confirmed(&discard, told_aufs(&place.host), &cancel)? {
        bail!("not confirmed, so nothing was removed");
    }
    let what = what_goes(&discard);
    let done = discard.execute().map_err(told)?;
    for notice in &done.notices {
        log::warn!("{notice}");
    }
    if args.at.root.json {
        print_json(&done)
    } else {
        let root = done.root.display();
        print(&format!("{root}: removed {what}, {} freed\n", done.freed))
    }
}

/// An `aufs` that is a link or a mount point stays, and what is not the driver's in it.
fn what_goes(discard: &Commit) -> String {
    match discard.emptied() {
        None => "aufs/ and image/aufs/".to_owned(),
        Some(place) => format!("what the driver has in {} and image/aufs/", shown(&place)),
    }
}

/// What aufs alone has still: whoever did not remove it wants to know.
fn removed_since(discard: &Commit) -> anyhow::Result<Option<String>> {
    let removed = discard
        .removed_since()
        .map_err(|error| error.told(discard.root(), "commit"))?;
    Ok((!removed.is_empty()).then(|| {
        format!(
            "no longer on the devicemapper side, so the aufs side has the last copy, which will be removed: {removed}"
        )
    }))
}

fn confirmed(discard: &Commit, told_aufs: Option<String>, cancel: &Cancel) -> anyhow::Result<bool> {
    if !io::stdin().is_terminal() {
        bail!(
            "stdin is not a terminal to ask on, so nothing was removed. Next: `{}` removes without asking",
            SameCommand::new("commit", discard.root()).with("--yes")
        );
    }
    let mut stderr = io::stderr().lock();
    let verified = discard.verified();
    let verified = verified.map_or_else(String::new, |one| format!("verified: {one}\n"));
    let removed = removed_since(discard)?.map_or_else(String::new, |one| one + "\n");
    let told = told_aufs.map_or_else(String::new, |one| printable(&one).into_owned() + "\n");
    let mut damage = String::new();
    write_damage(&mut damage, discard.root(), discard.damaged()).context("damage")?;
    write!(
        stderr,
        "{damage}{removed}{told}{verified}{}: {} will be removed for good, which frees {}. Type yes to continue: ",
        discard.root().display(),
        what_goes(discard),
        discard.bytes()
    )
    .and_then(|()| stderr.flush())
    .context("stderr: cannot ask")?;
    drop(stderr);
    match answer(cancel) {
        Some(answer) => Ok(answer.context("stdin: cannot read the answer")?.trim() == "yes"),
        None => Err(command::Error::Interrupted
            .told(discard.root(), "commit")
            .into()),
    }
}

/// A line from stdin; `None` if the command was told to stop before there was one. A read goes on after a signal, so it has a
/// thread of its own, which ends with the process.
fn answer(cancel: &Cancel) -> Option<io::Result<String>> {
    const PAUSE: Duration = Duration::from_millis(50);
    let (send, receive) = mpsc::channel();
    thread::spawn(move || {
        let mut answer = String::new();
        let read = io::stdin().lock().read_line(&mut answer);
        // Nobody waits for it any more: the process ends.
        let _ = send.send(read.map(|_| answer));
    });
    loop {
        match receive.recv_timeout(PAUSE) {
            Ok(answer) => return Some(answer),
            Err(_) if cancel.is_set() => return None,
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => {
                return Some(Err(io::ErrorKind::UnexpectedEof.into()));
            }
        }
    }
}
