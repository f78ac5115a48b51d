//! Damage to a container's layer, which no digest tells from what the container itself did there.

use std::{
    fs::{self, File},
    os::unix::fs::{FileExt, PermissionsExt},
    path::{Path, PathBuf},
    thread::sleep,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use sys_mount::MountFlags;
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

/// Docker works in one container. A byte of a file that it left alone rots on that device, the file's mode changes there, its name goes, all
/// without the kernel; and a file is taken from the device of a container that never ran. None is called that container's work, and `commit`
/// refuses.
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
        text.contains("nothing has written to it since") && text.contains(&*name),
        "{text}"
    );
    on_device(&root, &used, |device| rot(lab, device, &file))?;
    verify(lab, &root, 0)?;

    let branch = root.path().join("aufs/diff").join(&used);
    let mode = fs::metadata(branch.join(&file))?.permissions().mode();
    let with_mode = |mode: u32| {
        let words = format!("set_inode_field /rootfs/{name} mode 0{mode:o}");
        on_device(&root, &used, |device| debugfs(lab, device, &words))
    };
    with_mode(mode ^ 0o22)?;
    is_undecided(lab, &root, (&used, &name), "mode is")?;
    with_mode(mode)?;
    verify(lab, &root, 0)?;
    on_device(&root, &used, |device| remove(lab, device, &file))?;
    is_undecided(lab, &root, (&used, &name), "is missing")?;

    let (idle, file) = another(&root, &used)?;
    on_device(&root, &idle, |device| remove(lab, device, &file))?;
    let report = verify(lab, &root, 3)?;
    let grade = &of(&report, &idle)?["tree"]["grade"];
    ensure!(grade == "different", "{idle}: {report:#}");
    let ended = tool(lab, root.path(), &["commit", "--yes"])?;
    ensure!(ended.code == Some(1), "{ended:?}");
    Ok(())
}

/// The kernel notes at a directory that it was moved, and nothing at what is in it. Where that was the container's own, it is its work.
pub(super) fn what_a_container_moved_is_its_work(
    lab: &Lab,
    scratch: &Path,
    variant: Variant,
) -> Result<()> {
    let root = roots::converted(lab, scratch, variant)?;
    sleep(Duration::from_secs(2)); // both times are in whole seconds
    let mut moved = Vec::new();
    for (name, words) in MOVES {
        let id = roots::mount_id(root.path(), &container(&root, name)?)?;
        let pool = Pool::activate(&root)?;
        let thin = pool.thin(&id)?;
        let mounted = thin.mount(&scratch.join("mnt"), MountFlags::empty())?;
        let top = scratch.join("mnt/rootfs/opt");
        run(lab.command("sh").args(["-ec", words]).current_dir(&top))?;
        mounted.close()?;
        thin.close()?;
        pool.close()?;
        moved.push(id);
    }
    let report = verify(lab, &root, 0)?;
    for id in moved {
        let layer = of(&report, &id)?;
        let grade = &layer["tree"]["grade"];
        ensure!(grade == "changed-since", "{layer:#}");
    }
    Ok(())
}

/// What containers do in their `/opt`, where they have directories of their own: away, to the place of another, and there and back.
const MOVES: [(&str, &str); 3] = [
    (
        "shop_web_1",
        "mv newdir was; mv was/a newdir; mv base else; mkdir base; mv else/keepdir base/; mv hl/a hl/c; mv hl/b hl/a; mv hl/c hl/b",
    ),
    (
        "shop_worker_1",
        "mv moved/tree tree; mv moved empty; mkdir -p moved/tree; mv tree/t1 moved/tree/; ln tree/t2 moved/added.txt",
    ),
    ("live", "mv hl was; mv base hl; mv was base; chmod 700 base"),
];

/// `docker cp` writes in place to blocks that a pool on devices has already, and no file tells that: the device does, with or without a note
/// of it that was not copied.
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
    without_notes(lab, &root)?;
    verify(lab, &root, 0)?;
    let ended = tool(lab, root.path(), &["commit", "--yes"])?;
    ensure!(ended.code == Some(0), "{ended:?}");
    Ok(())
}

/// Going back without those notes, or with copies of them, loses what was copied into the container all the same.
fn without_notes(lab: &Lab, root: &Root) -> Result<()> {
    let notes = root.path().join("devicemapper/metadata");
    let used = notes.join(roots::mount_id(root.path(), &container(root, COPIED_TO)?)?);
    for entry in fs::read_dir(&notes)? {
        let note = File::options().write(true).open(entry?.path())?;
        note.set_modified(SystemTime::now())?;
    }
    let refuses = |state: &str| -> Result<()> {
        let ended = tool(lab, root.path(), &["rollback"])?;
        ensure!(
            ended.code == Some(1) && ended.err.contains("the pool's data was written to"),
            "{state}: {ended:?}"
        );
        Ok(())
    };
    refuses("copied")?;
    let aside = root.path().join("note");
    fs::rename(&used, &aside)?;
    refuses("gone")?;
    Ok(fs::rename(&aside, &used)?)
}

/// A removal of the aufs side that left a file goes no further once a device was mounted to be written to, whatever else tells nothing of it.
pub(super) fn a_write_in_place_while_aufs_goes_keeps_the_rest(
    lab: &Lab,
    scratch: &Path,
    variant: Variant,
) -> Result<()> {
    let root = roots::converted(lab, scratch, variant)?;
    let used = roots::mount_id(root.path(), &container(&root, COPIED_TO)?)?;
    let file = own_file(&root, &used)?;
    let branch = root.path().join("aufs/diff").join(&used);
    run(lab.command("chattr").arg("+i").arg(branch.join(&file)))?;
    // A clock that is set back later: the mount seems to be older than the verification.
    let set_clock = |seconds: i64| {
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
        let to = format!("@{}", now.cast_signed() + seconds);
        run(lab.command("date").args(["-s", &to]))
    };
    set_clock(7200)?;
    verify(lab, &root, 0)?;
    let commit = || tool(lab, root.path(), &["commit", "--yes"]);
    let first = commit()?;
    let mut options = root.options().iter();
    let metadata = options
        .find_map(|option| option.strip_prefix("dm.metadatadev="))
        .context("a metadata device")?;
    let before = fs::read(metadata)?;
    set_clock(-3600)?;
    let pool = Pool::activate(&root)?;
    let thin = pool.thin(&used)?;
    let at = scratch.join("mnt");
    let mounted = thin.mount(&at, MountFlags::empty())?;
    let written = File::options()
        .write(true)
        .open(at.join("rootfs").join(&file))?;
    written.write_all_at(b"X", 0)?;
    written.sync_all()?;
    drop(written);
    mounted.close()?;
    thin.close()?;
    pool.close()?;
    set_clock(3600)?;
    let device = File::options().write(true).open(metadata)?;
    device.write_all_at(&before, 0)?;
    device.sync_all()?;
    let second = commit();
    let going = root.path().join(".aufs2dm/removed/going/aufs/diff");
    let waiting = going.join(&used);
    run(lab.command("chattr").arg("-i").arg(waiting.join(&file)))?;
    let second = second?;
    ensure!(
        first.code == Some(1) && first.err.contains("immutable"),
        "{first:#?}"
    );
    ensure!(
        second.code == Some(1)
            && second
                .err
                .contains("was mounted and may have been written to"),
        "{second:#?}"
    );
    ensure!(waiting.join(&file).exists(), "it is gone");
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

fn debugfs(lab: &Lab, device: &Path, words: &str) -> Result<()> {
    let mut debugfs = lab.command("debugfs");
    run(debugfs.args(["-w", "-R", words]).arg(device)).map(drop)
}

/// Takes a file and its name away, with no time moved.
fn remove(lab: &Lab, device: &Path, file: &Path) -> Result<()> {
    debugfs(lab, device, &format!("rm /rootfs/{}", file.display()))?;
    // It finds what debugfs has left to be counted anew, and says so by its exit code.
    lab.command("e2fsck").arg("-fy").arg(device).output()?;
    Ok(())
}

/// A full verification takes no side for a file of a layer, for this.
fn is_undecided(lab: &Lab, root: &Root, (id, name): (&str, &str), what: &str) -> Result<()> {
    let report = verify(lab, root, 3)?;
    ensure!(report["verdict"] == "undecided", "{report:#}");
    let text = of(&report, id)?["contents"].to_string();
    let words = ["nothing has changed it since", name, what];
    ensure!(words.iter().all(|word| text.contains(word)), "{text}");
    let ended = tool(lab, root.path(), &["commit", "--yes"])?;
    ensure!(ended.code == Some(1), "{ended:?}");
    Ok(())
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
