//! A root whose pool is outside of it: of a copy of that root the pool is the original's, and names of devices may lead elsewhere.

use std::{
    fs::{self, File},
    os::unix::fs::FileExt,
    path::Path,
};

use anyhow::{Context, Result, ensure};

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

/// An empty disk has the name of the pool's: there is no verdict of it, and no way back that takes it for the pool.
pub(super) fn an_empty_disk_with_the_name_of_the_pools_is_not_the_pool(
    lab: &Lab,
    scratch: &Path,
    variant: Variant,
) -> Result<()> {
    let root = roots::converted(lab, scratch, variant)?;
    // The root is a copy: from then on aufs is known.
    let verified = tool(lab, root.path(), &["verify", "--full"])?;
    ensure!(verified.code == Some(0), "{verified:#?}");
    let journal = root.path().join(".aufs2dm/journal");
    let mut options = root.options().iter();
    let metadata = options
        .find_map(|option| option.strip_prefix("dm.metadatadev="))
        .context("a metadata device")?;
    let device = File::options().read(true).write(true).open(metadata)?;
    let mut first = [0; 4096];
    device.read_exact_at(&mut first, 0)?;
    device.write_all_at(&[0; 4096], 0)?;
    device.sync_all()?;
    let before = fs::read(&journal)?;
    for words in [
        &["rollback"][..],
        &["rollback", "--force", "--onto-damaged"],
        &["verify", "--full"],
        &["verify"],
    ] {
        let ended = tool(lab, root.path(), words)?;
        ensure!(
            ended.code == Some(1) && ended.err.contains("another disk may have this name"),
            "{words:?}: {ended:#?}"
        );
    }
    ensure!(fs::read(&journal)? == before, "it was noted");
    ensure!(
        root.path().join("devicemapper/metadata/base").is_file(),
        "the driver's files are gone"
    );
    device.write_all_at(&first, 0)?;
    device.sync_all()?;
    for words in [&["verify", "--full"][..], &["rollback"]] {
        let ended = tool(lab, root.path(), words)?;
        ensure!(ended.code == Some(0), "{words:?}: {ended:#?}");
    }
    Ok(())
}
