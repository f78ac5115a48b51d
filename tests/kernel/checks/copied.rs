//! A copy of a root whose pool is outside of it: the pool is the original's.

use std::path::Path;

use anyhow::{Result, ensure};

use super::used::tool;
use crate::{lab::Lab, roots, runner::directory, variant::Variant};

/// No command on a copy touches the pool of the original, and each says why. The original goes on, and goes back.
pub(super) fn a_copy_of_a_root_leaves_the_pool_of_the_original(
    lab: &Lab,
    scratch: &Path,
    variant: Variant,
) -> Result<()> {
    let root = roots::converted(lab, scratch, variant)?;
    let copy = directory(scratch, "copied")?.join("docker");
    lab.copy(root.path(), &copy)?;
    for words in [
        &["rollback"][..],
        &["rollback", "--force", "--onto-damaged"],
        &["verify", "--full"],
    ] {
        let ended = tool(lab, &copy, words)?;
        ensure!(
            ended.code == Some(1) && ended.err.contains("this root is a copy"),
            "{words:?}: {ended:#?}"
        );
    }
    ensure!(copy.join("devicemapper").is_dir(), "the copy was touched");
    for words in [&["verify", "--full"][..], &["rollback"]] {
        let ended = tool(lab, root.path(), words)?;
        ensure!(ended.code == Some(0), "{words:?}: {ended:#?}");
    }
    Ok(())
}
