//! What the summary of a conversion says beside its numbers: what no device gets, and what was damaged before.

use std::fmt;
use std::path::Path;

use super::printable::printable;
use crate::command::{Damage, LostFlag, LostFlags};
use crate::docker::Class;
use crate::shell::{own, word};
use crate::verify::LayerDamage;
use crate::words::counted;

/// Where the flags that `chattr` set are lost.
pub(super) fn write_flags(text: &mut String, root: &Path, lost: &LostFlags) -> fmt::Result {
    let branches = word(&root.join("aufs/diff"));
    let list =
        format!("find {branches} -xdev -exec lsattr -d {{}} + 2>/dev/null | grep '^[^/ ]*[aid]'");
    if !lost.looked_for {
        return line(
            text,
            &format!(
                "  flags       not looked for, because this kernel or file system reports them only for open files; what `chattr` set is not\n\
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
        &format!("  flags       {files} set with `chattr`, not carried over:"),
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
            "              next: list them all with `{list}`, then use `chattr` to restore those that containers need"
        ),
    )
}

/// What was rebuilt and what is left out because of damage in Docker's stores.
pub(super) fn write_left_out(
    text: &mut String,
    root: &Path,
    (damage, left_out): (&[Damage], &[String]),
) -> fmt::Result {
    let rebuilt = damage.iter().filter(|row| row.class == Class::Rebuilt);
    let rebuilt = rebuilt.count() as u64;
    if rebuilt > 0 {
        let faults = counted(rebuilt, "damaged record");
        line(
            text,
            &format!("  rebuilt     {faults}, from other data of the root"),
        )?;
    }
    if !left_out.is_empty() {
        let all = match left_out.len() {
            1 => "1 image or container".to_owned(),
            more => format!("{more} images and containers"),
        };
        line(text, &format!("  left out    {all} because of damage:"))?;
        for one in left_out.iter().take(NAMED) {
            line(text, &format!("              {one}"))?;
        }
        if let Some(more @ 1..) = left_out.len().checked_sub(NAMED) {
            line(text, &format!("              and {more} more"))?;
        }
    }
    if rebuilt > 0 || !left_out.is_empty() {
        line(
            text,
            &format!(
                "              next: the warnings above name each fault, as `{}` does on the aufs side, which is unchanged",
                own("inspect --health", root)
            ),
        )?;
    }
    Ok(())
}

/// How many damaged layers are named.
const NAMED: usize = 4;

/// Which layers were not what Docker once unpacked before they were converted.
pub(super) fn write_damage(text: &mut String, root: &Path, damaged: &[LayerDamage]) -> fmt::Result {
    if damaged.is_empty() {
        return Ok(());
    }
    let layers = match damaged.len() {
        1 => "1 layer is".to_owned(),
        layers => format!("{layers} layers are"),
    };
    line(
        text,
        &format!(
            "  damage      {layers} not what Docker once unpacked; the damage is older than the conversion, and the \
             converted root has it too:"
        ),
    )?;
    for damage in damaged.iter().take(NAMED) {
        let first = damage.files.first.first().map_or("", String::as_str);
        let (layer, hits) = (&damage.layer, &damage.hits);
        let more = match damage.files.count().saturating_sub(1) {
            0 => String::new(),
            more => format!(", and {more} more"),
        };
        line(
            text,
            &format!("              layer {layer}: {first}{more} ({hits})"),
        )?;
    }
    if let Some(more @ 1..) = damaged.len().checked_sub(NAMED) {
        line(text, &format!("              and {more} more layers"))?;
    }
    line(
        text,
        &format!(
            "              next: `{}` names all of these layers, each with some of the images that have it; once \
             Docker runs, remove those images (`docker rmi`) and pull or build them again",
            own("verify --full", root)
        ),
    )
}

fn line(text: &mut String, line: &str) -> fmt::Result {
    use fmt::Write as _;
    writeln!(text, "{}", printable(line))
}
