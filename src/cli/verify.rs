//! `aufs2dm verify`.

use std::path::Path;

use super::args::VerifyArgs;
use super::exit::{FaultsFound, NotVerified};
use super::output::{print, print_json};
use super::progress::for_stderr;
use super::quiet::keep_access_times;
use super::signals::cancel_by_signals;
use crate::command::{VerifyRequest, verify};
use crate::shell::own;
use crate::verify::{Contents, Mode, Report, Tree, Verdict};

/// Verifies a root.
pub(super) fn run(args: &VerifyArgs) -> anyhow::Result<()> {
    let cancel = cancel_by_signals()?;
    let progress = for_stderr();
    let place = args.at.place("verify")?;
    keep_access_times(&place.root);
    let root = place.root.clone();
    let request = VerifyRequest {
        root: place.root,
        host: place.host,
        mode: if args.full { Mode::Full } else { Mode::Quick },
        kernel: true,
        target: args.target(),
        jobs: args.jobs(),
        cancel,
    };
    let words = if args.full { "verify --full" } else { "verify" };
    let report = verify(&request, &*progress).map_err(|error| error.told(&root, words))?;
    if args.at.root.json {
        print_json(&report)?;
    } else {
        print(&format!("{report}\n{}", next(&report, &root)))?;
    }
    match report.verdict {
        Verdict::Sound => Ok(()),
        Verdict::SourceDamaged | Verdict::AufsChanged | Verdict::Undecided | Verdict::Wrong => {
            Err(FaultsFound.into())
        }
        Verdict::NotVerified => Err(NotVerified.into()),
    }
}

/// What comes next, a line with a whole command; nothing where there is nothing to do.
fn next(report: &Report, root: &Path) -> String {
    let has_both = report.is_converted && root.join("aufs").is_dir();
    let has_way_back = has_both && report.can_go_back;
    if report.journal.is_some() {
        return "next: keep Docker stopped and both sides as they are; how to choose one by hand is in docs/operations.md, \"When the \
                journal is lost\"\n"
            .to_owned();
    }
    match (report.verdict, report.mode) {
        (Verdict::Sound, Mode::Quick) if leaves_bytes_unread(report) => {
            format!("next: `{}` reads everything\n", own("verify --full", root))
        }
        (Verdict::Undecided | Verdict::Wrong, _) if has_both && !has_way_back => {
            "next: keep both sides; no conversion by aufs2dm is known here, so `rollback` does not go back\n".to_owned()
        }
        (Verdict::AufsChanged, Mode::Quick) => format!(
            "next: keep the devicemapper side, because `rollback` would go back to what aufs is now; `{}` reads \
             everything\n",
            own("verify --full", root)
        ),
        (Verdict::AufsChanged, Mode::Full) => format!(
            "next: keep the devicemapper side, because `rollback` would go back to what aufs is now. Restore what aufs \
             lost (mount it, or use a backup), then verify again; or `{}` removes the aufs side as it is now\n",
            own("commit --drop-aufs-changes", root)
        ),
        (Verdict::Undecided, _) => format!(
            "next: look at each file that differs, in aufs and on the device. If aufs is right, `{}` goes back to it, \
             so that it can be converted again; if the device is right, copy the file's bytes and times from the \
             device to aufs, then `{}`\n",
            own("rollback --onto-damaged", root),
            own("verify --full", root)
        ),
        (Verdict::Wrong, _) => next_of_wrong(report, root, has_way_back),
        (Verdict::NotVerified, Mode::Full) => format!(
            "next: fix the cause named above, then `{}`\n",
            own("verify --full", root)
        ),
        (Verdict::NotVerified, Mode::Quick) => format!(
            "next: fix the cause named above, then `{}`\n",
            own("verify", root)
        ),
        _ => String::new(),
    }
}

/// What comes next where something is wrong with the devices, or with what belongs to them.
fn next_of_wrong(report: &Report, root: &Path, has_way_back: bool) -> String {
    match &report.lost_by_going_back {
        _ if !report.is_converted => String::new(),
        _ if !has_way_back => format!(
            "next: there is no aufs side beside it, so save a copy of the devicemapper side first; then restore what \
             is named above from a backup, and run `{}`; what is not affected still works\n",
            own("verify --full", root)
        ),
        _ if report.has_aufs_changed() || report.is_undecided() => format!(
            "next: save a copy of both sides; `{}` goes back to what aufs is now\n",
            own("rollback --onto-damaged", root)
        ),
        None => format!(
            "next: keep the aufs side; `{}` goes back to it, then convert again\n",
            own("rollback", root)
        ),
        Some(lost) => format!(
            "next: keep the aufs side; save what you need of what was done on the devices since the conversion \
             ({lost}); then `{}` goes back to aufs without it; after that, convert again\n",
            own("rollback --force", root)
        ),
    }
}

/// Whether a full verification reads what this one has not: of a layer that has a digest, or aufs beside it.
fn leaves_bytes_unread(report: &Report) -> bool {
    report.layers.iter().any(|layer| {
        let is_unread = layer.contents == Contents::NotRead;
        is_unread && (layer.diff_id.is_some() || matches!(layer.tree, Tree::Same { .. }))
    })
}
