//! `aufs2dm status`.

use std::fmt::Write as _;

use super::args::StatusArgs;
use super::output::{print, print_json};
use super::printable::printable;
use super::remarks::write_damage;
use crate::command::{ActiveRun, Status, status};
use crate::daemon::PidFileOwner;
use crate::shell::own;
use crate::verify::Verdict;

/// Says where a conversion stands.
pub(super) fn run(args: &StatusArgs) -> anyhow::Result<()> {
    let place = args.at.place_to_tell()?;
    let status = status(&place.root, &place.host)?;
    if args.at.root.json {
        print_json(&status)
    } else {
        print(&text(&status))
    }
}

fn text(status: &Status) -> String {
    let mut text = format!("{}: {}\n", status.root.display(), status.meaning);
    if let Some(advice) = status.running.as_ref().and_then(ActiveRun::advice) {
        line(&mut text, &advice);
    }
    if status.state == "writing" && status.running.is_none() {
        let (layers, verbs) = match status.durable_devices {
            1 => ("1 layer".to_owned(), ("is", "does")),
            durable => (format!("{durable} layers"), ("are", "do")),
        };
        line(
            &mut text,
            &format!(
                "{layers} {} durable and {} not need to be written again",
                verbs.0, verbs.1
            ),
        );
    }
    // Writing to a String cannot fail.
    let _ = write_damage(&mut text, &status.root, &status.damaged);
    if status.state == "converted" {
        write_converted(&mut text, status);
    }
    if let Some(told) = &status.told_aufs {
        line(&mut text, &printable(told));
    }
    write_changes(&mut text, status);
    write_pid_files(&mut text, status);
    text
}

/// That of the run itself is no news.
fn write_pid_files(text: &mut String, status: &Status) {
    let own = status.running.as_ref().and_then(|running| running.pid);
    let files = status.docker_pid_files.iter();
    let others = files.filter(|file| file.whom != PidFileOwner::Aufs2dm || file.pid != own);
    others.for_each(|file| line(text, &file.meaning()));
}

fn line(text: &mut String, words: &str) {
    // Writing to a String cannot fail.
    let _ = writeln!(text, "  {words}");
}

fn write_converted(text: &mut String, status: &Status) {
    let verify = own("verify --full", &status.root);
    let next = match &status.verified {
        Some(verified) if verified.full && verified.passed() && status.written_since.is_none() => {
            String::new()
        }
        // It waits for the run that is at work.
        _ if status.running.is_some() => String::new(),
        Some(verified) if verified.full && verified.verdict == Verdict::Wrong => {
            let way = if status.way_back_broken || verified.undecided {
                "rollback --onto-damaged"
            } else {
                "rollback"
            };
            format!(
                "; next: `{verify}` shows the details; keep the aufs side, `{}` goes back to it, then convert again",
                own(way, &status.root)
            )
        }
        _ => format!("; next: `{verify}`"),
    };
    match &status.verified {
        Some(verified) => line(text, &format!("verified: {verified}{next}")),
        None => line(text, &format!("verified: never{next}")),
    }
    if let Some(written) = &status.written_since {
        line(text, &printable(written));
    }
    let aufs = &status.aufs_changes;
    if !aufs.is_same() {
        line(
            text,
            &format!("the aufs side is not what was converted: {aufs}"),
        );
    }
    if status.way_back_broken {
        let commit = own("commit --drop-aufs-changes", &status.root);
        line(
            text,
            &format!(
                "THE WAY BACK IS BROKEN: `rollback` refuses; `{commit}` removes the aufs side once a full verification finds the devices right"
            ),
        );
    }
    if !aufs.left_out.is_empty() {
        let left_out = aufs.left_out.join(", ");
        line(text, &format!("left out of the conversion: {left_out}"));
    }
}

/// What a rollback would lose. What a run that is at work makes of it, is for that run to say.
fn write_changes(text: &mut String, status: &Status) {
    let changes = &status.changes;
    if changes.is_empty() || status.state != "converted" && status.running.is_some() {
        return;
    }
    line(
        text,
        &format!("Docker has worked on it since: {changes}; a rollback would lose these changes"),
    );
}
