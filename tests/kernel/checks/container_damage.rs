//! Damage to a container's layer, which no digest tells from what the container itself did there.

use std::{
    fs::{self, File},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use walkdir::WalkDir;

use super::used::{container, tool};
use crate::{
    dockerd::with_dockerd,
    lab::{Lab, run},
    pool::Pool,
    roots::{self, Root},
    variant::Variant,
};

/// A container with files of its own that is stopped, so that nothing but `docker cp` writes to it.
const COPIED_TO: &str = "shop_web_1";

/// Docker works in one container. A byte of a file that it left alone rots on that device, and a file is taken from the device of
/// a container that never ran. Neither is called that container's work, and `commit` refuses.
pub(super) fn damage_to_a_container_is_not_taken_for_its_work(
    lab: &Lab,
    scratch: &Path,
    variant: Variant,
) -> Result<()> {
    let root = roots::converted(lab, scratch, variant)?;
    let used = roots::mount_id(root.path(), &container(&root, COPIED_TO)?)?;
    let file = own_file(&root, &used)?;
    copy_in(lab, &root, scratch)?;
    let report = verify(lab, &root, 0)?;
    let grade = &of(&report, &used)?["tree"]["grade"];
    ensure!(grade == "changed-since", "{report:#}");

    on_device(&root, &used, |device| rot(lab, device, &file))?;
    let report = verify(lab, &root, 3)?;
    let text = of(&report, &used)?["contents"].to_string();
    let name = file.to_string_lossy();
    ensure!(
        text.contains("nothing has written it since") && text.contains(&*name),
        "{text}"
    );
    on_device(&root, &used, |device| rot(lab, device, &file))?;
    verify(lab, &root, 0)?;

    let (idle, file) = another(&root, &used)?;
    on_device(&root, &idle, |device| {
        let words = format!("rm /rootfs/{}", file.display());
        run(lab
            .command("debugfs")
            .args(["-w", "-R", &words])
            .arg(device))?;
        // It finds what debugfs has left to be counted anew, and says so by its exit code.
        lab.command("e2fsck").arg("-fy").arg(device).output()?;
        Ok(())
    })?;
    let report = verify(lab, &root, 3)?;
    let grade = &of(&report, &idle)?["tree"]["grade"];
    ensure!(grade == "different", "{idle}: {report:#}");
    let ended = tool(lab, root.path(), &["commit", "--yes"])?;
    ensure!(ended.code == Some(1), "{ended:?}");
    Ok(())
}

/// `docker cp` writes in place to blocks that a pool on devices has already, and no file tells that.
pub(super) fn a_copy_into_a_container_after_the_proof_keeps_both_sides(
    lab: &Lab,
    scratch: &Path,
    variant: Variant,
) -> Result<()> {
    let root = roots::converted(lab, scratch, variant)?;
    copy_in(lab, &root, scratch)?;
    verify(lab, &root, 0)?;
    copy_in(lab, &root, scratch)?;
    let ended = tool(lab, root.path(), &["commit", "--yes"])?;
    ensure!(
        ended.code == Some(1) && ended.err.contains("verify --full"),
        "{ended:?}"
    );
    ensure!(root.path().join("aufs/diff").is_dir(), "aufs is gone");
    let ended = tool(lab, root.path(), &["rollback"])?;
    ensure!(
        ended.code == Some(1) && ended.err.contains("the pool's data was written to"),
        "{ended:?}"
    );
    verify(lab, &root, 0)?;
    let ended = tool(lab, root.path(), &["commit", "--yes"])?;
    ensure!(ended.code == Some(0), "{ended:?}");
    Ok(())
}

/// Docker writes a file into a container that is stopped.
fn copy_in(lab: &Lab, root: &Root, scratch: &Path) -> Result<()> {
    let new = scratch.join("since");
    fs::write(&new, "since")?;
    with_dockerd(lab, root, |daemon| {
        let to = format!("{COPIED_TO}:/since");
        daemon.docker(&["cp", &new.to_string_lossy(), &to])?;
        Ok(())
    })
}

fn verify(lab: &Lab, root: &Root, code: i32) -> Result<Value> {
    let ended = tool(lab, root.path(), &["verify", "--full", "--json"])?;
    let report: Value = serde_json::from_str(&ended.out).context(ended.err)?;
    let verdict = &report["verdict"];
    ensure!(
        ended.code == Some(code),
        "want {code}: {:?}, {verdict}",
        ended.code
    );
    Ok(report)
}

fn of<'a>(report: &'a Value, id: &str) -> Result<&'a Value> {
    let mut layers = report["layers"].as_array().context("no layers")?.iter();
    layers
        .find(|layer| layer["id"] == id)
        .context("no such layer")
}

/// A file with content in a branch, by its path there.
fn own_file(root: &Root, id: &str) -> Result<PathBuf> {
    let branch = root.path().join("aufs/diff").join(id);
    for entry in WalkDir::new(&branch).sort_by_file_name() {
        let entry = entry?;
        let inner = entry.path().strip_prefix(&branch)?;
        let is_plain = entry.file_type().is_file() && !inner.to_string_lossy().contains(".wh.");
        if is_plain && entry.metadata()?.len() > 1 {
            return Ok(inner.to_owned());
        }
    }
    anyhow::bail!("no file in {}", branch.display())
}

/// Another container's layer with such a file.
fn another(root: &Root, but: &str) -> Result<(String, PathBuf)> {
    for entry in fs::read_dir(root.path().join("containers"))? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        let Ok(id) = roots::mount_id(root.path(), &name) else {
            continue;
        };
        if id != but
            && let Ok(file) = own_file(root, &id)
        {
            return Ok((id, file));
        }
    }
    anyhow::bail!("no other container has a file of its own")
}

fn on_device(root: &Root, id: &str, work: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    let pool = Pool::activate(root)?;
    let thin = pool.thin(id)?;
    work(&thin.path())?;
    thin.close()?;
    pool.close()
}

/// Turns a bit of the first byte of a file, where it lies on the device: no time moves. Done again, it is healed.
fn rot(lab: &Lab, device: &Path, file: &Path) -> Result<()> {
    let words = format!("bmap /rootfs/{} 0", file.display());
    let said = run(lab.command("debugfs").args(["-R", &words]).arg(device))?;
    let block: u64 = said.trim().parse().with_context(|| said.clone())?;
    let device = File::options().read(true).write(true).open(device)?;
    let mut byte = [0];
    device.read_exact_at(&mut byte, block * 4096)?;
    device.write_all_at(&[byte[0] ^ 1], block * 4096)?;
    Ok(device.sync_all()?)
}
