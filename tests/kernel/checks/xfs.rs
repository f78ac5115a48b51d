//! Verification of devices that only the kernel reads: every byte is compared, and damage has a name.

use std::{
    fs::{self, File, Permissions},
    os::unix::fs::{FileExt, PermissionsExt},
    path::Path,
};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use sys_mount::MountFlags;

use super::used::tool;
use crate::{
    lab::{Lab, run},
    pool::Pool,
    roots::{self, Root},
    runner::directory,
    variant::Variant,
};

/// A file of a layer's image.
const FILE: &str = "etc/passwd";

fn verify(lab: &Lab, root: &Root, options: &[&str]) -> Result<(Option<i32>, Value)> {
    let mut tool = lab.tool();
    tool.args(["verify", "--json"]).args(options);
    tool.arg("--root").arg(root.path());
    tool.arg("--pidfile").arg(lab.pid_file());
    let ended = tool.output()?;
    let said = String::from_utf8_lossy(&ended.stderr).into_owned();
    Ok((
        ended.status.code(),
        serde_json::from_slice(&ended.stdout).context(said)?,
    ))
}

fn layers(report: &Value) -> Result<&Vec<Value>> {
    report["layers"].as_array().context("no layers")
}

/// The grades of a layer with all their texts.
fn of<'a>(report: &'a Value, id: &str) -> Result<&'a Value> {
    let mut all = layers(report)?.iter();
    all.find(|layer| layer["id"] == id).context("no such layer")
}

/// All is compared of a root that is whole; what is changed on single devices is found and named, and nothing else is.
pub(super) fn every_byte_of_an_xfs_root_is_verified_and_damage_named(
    lab: &Lab,
    scratch: &Path,
    variant: Variant,
) -> Result<()> {
    let root = roots::converted(lab, scratch, variant)?;
    let (code, report) = verify(lab, &root, &["--full"])?;
    let coverage = &report["coverage"];
    ensure!(
        code == Some(0) && report["verdict"] == "sound",
        "{report:#}"
    );
    ensure!(
        coverage["read"] == coverage["layers"]
            && coverage["not_compared"] == 0
            && coverage["not_verifiable"] == 0
            && coverage["bytes_read_share"] == 1.0,
        "{coverage:#}"
    );
    let without_proof =
        |layer: &&Value| layer["role"] == "image" && layer["contents"]["by"] != "diff-id";
    let some: Vec<_> = layers(&report)?.iter().filter(without_proof).collect();
    ensure!(some.is_empty(), "{some:#?}");
    let (code, quick) = verify(lab, &root, &["--quick"])?;
    ensure!(
        code == Some(0) && quick["coverage"]["not_read"] != 0,
        "{quick:#}"
    );

    aufs_alone(lab, &root, &report)?;
    not_unmounted(lab, &root, &report, scratch)?;
    let [own, other] = damage(&root, &report, scratch)?;
    let (code, report) = verify(lab, &root, &["--full"])?;
    ensure!(
        code == Some(3) && report["verdict"] == "wrong",
        "{report:#}"
    );
    let text = of(&report, &own)?.to_string();
    ensure!(text.contains("/etc/passwd: "), "{text}");
    let text = of(&report, &other)?.to_string();
    for named in [
        "/etc/group: is missing",
        "/etc: mode is 0700",
        "/added: exists, but not in aufs",
    ] {
        ensure!(text.contains(named), "{named}: {text}");
    }
    let is_wrong = |layer: &&Value| {
        layer["contents"]["grade"] == "mismatch" || layer["tree"]["grade"] == "different"
    };
    let wrong = layers(&report)?.iter().filter(is_wrong).count();
    ensure!(wrong == 2, "{wrong} layers are wrong: {report:#}");
    Ok(())
}

/// The rest of an aufs side stays, once the disk of the devices that it is compared with has lost its data: the kernel alone sees that.
pub(super) fn the_rest_of_aufs_stays_when_the_disk_of_an_xfs_root_is_empty(
    lab: &Lab,
    scratch: &Path,
    variant: Variant,
) -> Result<()> {
    let root = roots::converted(lab, scratch, variant)?;
    let branches = root.path().join("aufs/diff");
    let kept = fs::read_dir(&branches)?.next().context("no branch")??;
    let kept = kept.file_name();
    run(lab.command("chattr").arg("+i").arg(branches.join(&kept)))?;
    let (code, report) = verify(lab, &root, &["--full"])?;
    ensure!(code == Some(0), "{report:#}");
    let waiting = root.path().join(".aufs2dm/removed/aufs/diff").join(&kept);
    let commit = || tool(lab, root.path(), &["commit", "--yes"]);
    let first = commit()?;
    let data = root
        .options()
        .iter()
        .find_map(|option| option.strip_prefix("dm.datadev="))
        .context("a data device")?;
    let device = File::options().write(true).open(data)?;
    for place in 0..64 {
        device.write_all_at(&vec![0; 1 << 20], place << 20)?;
    }
    device.sync_all()?;
    let second = commit();
    let stays = waiting.is_dir();
    run(lab.command("chattr").arg("-i").arg(&waiting))?;
    ensure!(
        first.code == Some(1) && first.err.contains("immutable"),
        "{first:#?}"
    );
    let second = second?;
    ensure!(
        second.code == Some(1) && second.err.contains("a quick verification just now") && stays,
        "{second:#?}"
    );
    let third = commit()?;
    ensure!(third.code == Some(1) && waiting.is_dir(), "{third:#?}");
    Ok(())
}

/// What aufs alone has otherwise since is told of aufs, for each device that has the layer in it, and of no device.
fn aufs_alone(lab: &Lab, root: &Root, report: &Value) -> Result<()> {
    let diff = root.path().join("aufs/diff");
    let mut ids = layers(report)?
        .iter()
        .filter_map(|layer| layer["id"].as_str());
    let id = ids
        .find(|id| diff.join(id).join(FILE).is_file())
        .context("no layer brings it")?;
    let path = diff.join(id).join(FILE);
    let mode = fs::metadata(&path)?.permissions();
    fs::set_permissions(&path, Permissions::from_mode(0o4751))?;
    let (code, report) = verify(lab, root, &["--full"])?;
    ensure!(
        code == Some(3) && report["verdict"] == "aufs-changed",
        "{report:#}"
    );
    let text = of(&report, id)?["tree"].to_string();
    ensure!(
        text.contains("aufs-changed") && text.contains("/etc/passwd: mode is"),
        "{text}"
    );
    let is_wrong = |layer: &&Value| {
        layer["contents"]["grade"] == "mismatch" || layer["tree"]["grade"] == "different"
    };
    ensure!(
        !layers(&report)?.iter().any(|layer| is_wrong(&layer)),
        "{report:#}"
    );
    Ok(fs::set_permissions(&path, mode)?)
}

/// Of a file system whose log is not replayed there is no verdict: what is in its places is not what it holds. Once it was mounted there is.
fn not_unmounted(lab: &Lab, root: &Root, report: &Value, scratch: &Path) -> Result<()> {
    let mut all = layers(report)?.iter();
    let id = all
        .find(|layer| layer["role"] == "writable")
        .and_then(|layer| layer["id"].as_str())
        .context("no container")?;
    let at = directory(scratch, "cut-off")?;
    let pool = Pool::activate(root)?;
    let thin = pool.thin(id)?;
    let mounted = thin.mount(&at, MountFlags::empty())?;
    fs::write(at.join("rootfs/logged"), "x")?;
    nix::unistd::syncfs(File::open(&at)?)?; // into the log
    thin.cut_off()?;
    mounted.close()?;
    thin.close()?;
    pool.close()?;
    let (code, report) = verify(lab, root, &["--full"])?;
    let reason = &of(&report, id)?["not_verified"];
    ensure!(
        code == Some(1)
            && report["verdict"] == "not-verified"
            && reason.to_string().contains("was not unmounted"),
        "{report:#}"
    );
    let pool = Pool::activate(root)?;
    let thin = pool.thin(id)?;
    let mounted = thin.mount(&at, MountFlags::empty())?;
    fs::remove_file(at.join("rootfs/logged"))?;
    mounted.close()?;
    thin.close()?;
    pool.close()?;
    let (code, report) = verify(lab, root, &["--full"])?;
    ensure!(code == Some(0), "{report:#}");
    Ok(())
}

/// Changes a byte of a file that one image layer brings, and names and attributes that another has from below, if there is one.
fn damage(root: &Root, report: &Value, scratch: &Path) -> Result<[String; 2]> {
    let images: Vec<&str> = layers(report)?
        .iter()
        .filter(|layer| layer["role"] == "image")
        .filter_map(|layer| layer["id"].as_str())
        .collect();
    let brings = |id: &&&str| root.path().join("aufs/diff").join(id).join(FILE).is_file();
    let own = *images.iter().find(brings).context("no layer brings it")?;
    let pool = Pool::activate(root)?;
    let at = directory(scratch, "damaged")?;
    let on_device = |id: &str, change: &dyn Fn(&Path) -> Result<bool>| -> Result<bool> {
        let thin = pool.thin(id)?;
        let mounted = thin.mount(&at, MountFlags::empty())?;
        let changed = change(&at.join("rootfs"));
        mounted.close()?;
        thin.close()?;
        changed
    };
    on_device(own, &|rootfs| {
        flip(&rootfs.join(FILE))?;
        Ok(true)
    })?;
    let mut other = None;
    for &id in images.iter().filter(|id| **id != own) {
        if on_device(id, &others)? {
            other = Some(id);
            break;
        }
    }
    pool.close()?;
    Ok([own, other.context("no other layer has it")?].map(str::to_owned))
}

fn flip(path: &Path) -> Result<()> {
    let file = File::options().read(true).write(true).open(path)?;
    let time = file.metadata()?.modified()?;
    let mut byte = [0];
    file.read_exact_at(&mut byte, 1)?;
    file.write_all_at(&[byte[0] ^ 0x20], 1)?;
    file.set_modified(time)?;
    Ok(file.sync_all()?)
}

fn others(rootfs: &Path) -> Result<bool> {
    if !rootfs.join("etc/group").is_file() {
        return Ok(false);
    }
    fs::remove_file(rootfs.join("etc/group"))?;
    fs::set_permissions(rootfs.join("etc"), Permissions::from_mode(0o700))?;
    fs::write(rootfs.join("added"), "x")?;
    Ok(true)
}
