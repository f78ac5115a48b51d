//! `aufs2dm rollback`.

use super::args::RollbackArgs;
use super::output::{print, print_json};
use super::printable::printable;
use super::quiet::keep_access_times;
use super::signals::cancel_by_signals;
use crate::command::{RollbackRequest, RollbackSummary, rollback};
use crate::daemon::first_start::told_devicemapper;
use crate::tree::shown;
use crate::units::Bytes;

/// Goes back to aufs.
pub(super) fn run(args: &RollbackArgs) -> anyhow::Result<()> {
    let cancel = cancel_by_signals()?;
    let place = args.at.place("rollback")?;
    keep_access_times(&place.root);
    let request = RollbackRequest {
        root: place.root,
        host: place.host,
        force: args.force,
        onto_damaged: args.onto_damaged,
        cancel,
    };
    let done = rollback(&request).map_err(|error| error.told(&request.root, "rollback"))?;
    for notice in &done.notices {
        log::warn!("{notice}");
    }
    if !done.lost.is_empty() {
        log::warn!("lost with the devicemapper side: {}", done.lost);
    }
    for what in &done.not_restored {
        log::warn!("{what}");
    }
    if args.at.root.json {
        print_json(&done)
    } else {
        print(&text(&done, &told_devicemapper(&request.host)))
    }
}

/// `told` is what keeps the daemon from taking aufs.
fn text(done: &RollbackSummary, told: &[String]) -> String {
    let root = done.root.display();
    if !done.rolled_back {
        return format!("{root}: has no conversion; nothing was done\n");
    }
    let mut daemon = String::new();
    if let Some(path) = &done.daemon_json {
        daemon = format!("{} is as it was, too.\n", shown(path));
    } else if done.may_be_told && !told.is_empty() {
        daemon.push_str("Before Docker starts, make it use aufs again:\n");
        daemon.extend(told.iter().map(|line| format!("  {}\n", printable(line))));
    }
    let freed = match done.freed {
        Bytes(0) => String::new(),
        freed => format!(", {freed} freed"),
    };
    match &done.aufs_differs {
        None => format!("{root} is as it was before the conversion{freed}\n{daemon}"),
        Some(differs) => format!(
            "{root} is back on the aufs side as it is now{freed}; {}\n{daemon}",
            printable(differs)
        ),
    }
}
