//! `aufs2dm commit`.

use std::io::{self, BufRead, IsTerminal, Write};

use anyhow::{Context, bail};

use super::args::CommitArgs;
use super::output::{print, print_json};
use super::remarks::write_damage;
use crate::convert::{Discard, MayLose};

/// Removes the aufs side.
pub(super) fn run(args: &CommitArgs) -> anyhow::Result<()> {
    let place = args.at.place("commit")?;
    let may_lose = MayLose {
        left_out: args.drop_left_out,
        aufs_changes: args.drop_aufs_changes,
        unverified: args.unverified,
    };
    let discard = Discard::open(&place.root, &place.host, may_lose)?;
    if args.yes {
        let verified = discard.verified();
        let verified = verified.map_or_else(String::new, |one| format!("verified {one}; "));
        log::info!("{verified}{} are going to be removed", discard.bytes());
    } else if !confirmed(&discard)? {
        bail!("not confirmed, nothing was removed");
    }
    let done = discard.execute()?;
    for notice in &done.notices {
        log::warn!("{notice}");
    }
    if args.at.root.json {
        print_json(&done)
    } else {
        let root = done.root.display();
        print(&format!(
            "{root}: aufs/ and image/aufs/ are removed, {} freed\n",
            done.freed
        ))
    }
}

fn confirmed(discard: &Discard) -> anyhow::Result<bool> {
    if !io::stdin().is_terminal() {
        bail!("stdin is no terminal to ask on, nothing was removed: --yes removes without asking");
    }
    let mut stderr = io::stderr().lock();
    let verified = discard.verified();
    let verified = verified.map_or_else(String::new, |one| format!("verified: {one}\n"));
    let mut damage = String::new();
    write_damage(&mut damage, discard.root(), discard.damaged()).context("damage")?;
    write!(
        stderr,
        "{damage}{verified}{}: aufs/ and image/aufs/ will be removed for good, which frees {}. Type yes to go on: ",
        discard.root().display(),
        discard.bytes()
    )
    .and_then(|()| stderr.flush())
    .context("stderr: cannot ask")?;
    let mut answer = String::new();
    io::stdin()
        .lock()
        .read_line(&mut answer)
        .context("stdin: cannot read the answer")?;
    Ok(answer.trim() == "yes")
}
