//! The operator's pool in states that are no damage: no verdict says that they are, and all goes on once they are ended.

use std::{fs, path::Path};

use anyhow::{Context, Result, ensure};

use super::used::tool;
use crate::{
    block::Active,
    lab::{Lab, run},
    roots::{self, Root},
    storage::POOL_NAME,
    variant::Variant,
};

/// Suspended, read-only, in use: each is told with the way out, and nothing is noted. Then the aufs side is removed,
/// and the pool is known still.
pub(super) fn a_pool_that_cannot_be_looked_at_gets_no_verdict(
    lab: &Lab,
    scratch: &Path,
    variant: Variant,
) -> Result<()> {
    let root = roots::converted(lab, scratch, variant)?;
    expect(lab, &root, &["verify", "--full"], (0, "nothing is wrong"))?;
    let journal = root.path().join(".aufs2dm/journal");
    let before = fs::read(&journal)?;
    let refused = |words: &str| -> Result<()> {
        for command in [
            &["verify", "--full"][..],
            &["commit", "--yes"],
            &["rollback"],
        ] {
            expect(lab, &root, command, (1, words))?;
        }
        ensure!(fs::read(&journal)? == before, "{words}: it was noted");
        Ok(())
    };
    let dmsetup = |words: &[&str]| run(lab.command("dmsetup").args(words));

    dmsetup(&["suspend", POOL_NAME])?;
    // It waits for the end of that, as long as LVM may take.
    let ended = expect(lab, &root, &["verify", "--full"], (1, "is suspended"));
    dmsetup(&["resume", POOL_NAME])?;
    ended?;
    ensure!(fs::read(&journal)? == before, "suspended: it was noted");

    let table = dmsetup(&["table", POOL_NAME])?;
    reload(lab, &read_only(&table)?)?;
    expect(lab, &root, &["verify", "--full"], (1, "is write-protected"))?;
    expect(lab, &root, &["commit", "--yes"], (1, "is write-protected"))?;
    ensure!(fs::read(&journal)? == before, "read-only: it was noted");
    reload(lab, table.trim())?;

    let line = format!("/dev/mapper/{POOL_NAME} 1");
    let thin = Active::create("lab-in-use", 64, ("thin", &line))?;
    let ended = refused("is in use");
    thin.close()?;
    ended?;

    expect(lab, &root, &["commit", "--yes"], (0, ""))?;
    expect(
        lab,
        &root,
        &["verify", "--full"],
        (0, "no fault in what could be verified"),
    )
}

fn expect(lab: &Lab, root: &Root, words: &[&str], (code, said): (i32, &str)) -> Result<()> {
    let ended = tool(lab, root.path(), words)?;
    ensure!(
        ended.code == Some(code) && (ended.err.contains(said) || ended.out.contains(said)),
        "{words:?}: want {code} and {said:?}: {ended:#?}"
    );
    Ok(())
}

/// A pool's table with the feature that lets nothing be written.
fn read_only(table: &str) -> Result<String> {
    let words: Vec<&str> = table.split_whitespace().collect();
    let (fixed, features) = words.split_at_checked(7).context("a pool's table")?;
    let count = features.len().saturating_sub(1) + 1;
    let rest = features.get(1..).unwrap_or_default().join(" ");
    Ok(format!("{} {count} read_only {rest}", fixed.join(" ")))
}

fn reload(lab: &Lab, table: &str) -> Result<()> {
    for words in [
        &["suspend", POOL_NAME][..],
        &["load", POOL_NAME, "--table", table],
        &["resume", POOL_NAME],
    ] {
        run(lab.command("dmsetup").args(words))?;
    }
    Ok(())
}
