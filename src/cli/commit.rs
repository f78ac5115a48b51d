//! `aufs2dm commit`.

use std::io::{self, BufRead, IsTerminal, Write};
use std::path::Path;

use anyhow::{Context, bail};

use super::args::CommitArgs;
use super::output::{print, print_json};
use crate::convert::Discard;

/// Removes the aufs side.
pub(super) fn run(args: &CommitArgs) -> anyhow::Result<()> {
    let place = args.root.place()?;
    let discard = Discard::open(&place.root, &place.host)?;
    if !args.yes && !confirmed(discard.root())? {
        bail!("not confirmed, nothing was removed");
    }
    let done = discard.execute()?;
    for notice in &done.notices {
        log::warn!("{notice}");
    }
    if args.root.json {
        print_json(&done)
    } else {
        let root = done.root.display();
        print(&format!("{root}: aufs/ and image/aufs/ are removed\n"))
    }
}

fn confirmed(root: &Path) -> anyhow::Result<bool> {
    if !io::stdin().is_terminal() {
        bail!("stdin is no terminal to ask on, nothing was removed: --yes removes without asking");
    }
    let mut stderr = io::stderr().lock();
    write!(
        stderr,
        "{}: aufs/ and image/aufs/ will be removed for good. Type yes to go on: ",
        root.display()
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
