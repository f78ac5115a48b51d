//! `aufs2dm status`.

use std::fmt::Write as _;

use super::args::StatusArgs;
use super::output::{print, print_json};
use crate::convert::{Status, status};
use crate::shell::own;

/// Says where a conversion stands.
pub(super) fn run(args: &StatusArgs) -> anyhow::Result<()> {
    let status = status(&args.at.place_to_tell()?.root)?;
    if args.at.root.json {
        print_json(&status)
    } else {
        print(&text(&status))
    }
}

fn text(status: &Status) -> String {
    let mut text = format!("{}: {}\n", status.root.display(), status.meaning);
    // Writing to a String cannot fail.
    if status.state == "writing" {
        let _ = writeln!(
            text,
            "  {} layers are durable and need not be written again",
            status.durable_devices
        );
    }
    if status.state == "converted" {
        let verify = own("verify --full", &status.root);
        let next = match &status.verified {
            Some(verified) if verified.full && verified.passed() => String::new(),
            _ => format!("; next: `{verify}`"),
        };
        let _ = match &status.verified {
            Some(verified) => writeln!(text, "  verified: {verified}{next}"),
            None => writeln!(text, "  verified: never{next}"),
        };
        let aufs = &status.aufs_changes;
        if !aufs.is_same() {
            let _ = writeln!(text, "  the aufs side is not what was converted: {aufs}");
        }
        if status.way_back_broken {
            let _ = writeln!(
                text,
                "  THE WAY BACK IS BROKEN: `rollback` refuses; `{}` removes the aufs side once a full verification finds the devices right",
                own("commit --drop-aufs-changes", &status.root)
            );
        }
        if !aufs.left_out.is_empty() {
            let _ = writeln!(
                text,
                "  left out of the conversion: {}",
                aufs.left_out.join(", ")
            );
        }
        if !status.changes.is_empty() {
            let _ = writeln!(
                text,
                "  Docker has worked on it since: {}; a rollback would lose that",
                status.changes
            );
        }
    }
    text
}
