//! What the summary of a conversion says beside its numbers: what no device gets.

use std::fmt;
use std::path::Path;

use super::printable::printable;
use crate::convert::{LostFlag, LostFlags};
use crate::shell::word;

/// Where the flags that `chattr` set are lost.
pub(super) fn write_flags(text: &mut String, root: &Path, lost: &LostFlags) -> fmt::Result {
    let branches = word(&root.join("aufs/diff"));
    let list =
        format!("find {branches} -xdev -exec lsattr -d {{}} + 2>/dev/null | grep '^[^/ ]*[aid]'");
    if !lost.looked_for {
        return line(
            text,
            &format!(
                "  flags       not looked for, since this kernel or file system tells them of opened files only; what `chattr` set is not\n\
                 \x20             carried over; next: list it with `{list}`"
            ),
        );
    }
    if lost.files == 0 {
        return Ok(());
    }
    let files = match lost.files {
        1 => "1 file has a flag".to_owned(),
        files => format!("{files} files have flags"),
    };
    line(
        text,
        &format!("  flags       {files} of `chattr`, not carried over:"),
    )?;
    for LostFlag {
        layer,
        path,
        flags,
        hits,
    } in &lost.first
    {
        let flags = flags.join(", ");
        line(
            text,
            &format!("              layer {layer}: {path}: {flags} ({hits})"),
        )?;
    }
    let named = lost.first.len() as u64;
    if lost.files > named {
        let more = lost.files - named;
        line(text, &format!("              and {more} more"))?;
    }
    line(
        text,
        &format!(
            "              next: list them all with `{list}`, and set again with `chattr` what containers need"
        ),
    )
}

fn line(text: &mut String, line: &str) -> fmt::Result {
    use fmt::Write as _;
    writeln!(text, "{}", printable(line))
}
