//! `aufs2dm verify`.

use super::args::VerifyArgs;
use super::convert::cancel_by_signals;
use super::exit::{FoundWrong, NotVerified};
use super::output::{print, print_json};
use super::progress::for_stderr;
use super::quiet::keep_access_times;
use crate::convert::{VerifyRequest, verify};
use crate::verify::{Mode, Verdict};

/// Verifies a root.
pub(super) fn run(args: &VerifyArgs) -> anyhow::Result<()> {
    let cancel = cancel_by_signals()?;
    let progress = for_stderr();
    let place = args.root.place()?;
    keep_access_times(&place.root);
    let request = VerifyRequest {
        root: place.root,
        host: place.host,
        mode: if args.full { Mode::Full } else { Mode::Quick },
        kernel: true,
        target: args.target(),
        jobs: args.jobs(),
        cancel,
    };
    let report = verify(&request, &*progress)?;
    if args.root.json {
        print_json(&report)?;
    } else {
        print(&format!("{report}\n"))?;
    }
    match report.verdict {
        Verdict::Sound => Ok(()),
        Verdict::SourceDamaged | Verdict::Wrong => Err(FoundWrong.into()),
        Verdict::NotVerified => Err(NotVerified.into()),
    }
}
