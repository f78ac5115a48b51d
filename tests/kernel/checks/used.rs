//! Converted roots on which Docker has worked since, and is stopped, or was killed: what the tool's commands make of them.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::expect_none;
use crate::{
    dockerd::{Dockerd, with_dockerd, with_killed_dockerd},
    lab::{Lab, run},
    leftovers::Leftovers,
    pool::read_devices,
    roots::{self, Root},
    runner::directory,
    storage::{Storage, Target},
    support::{
        outcome::Ended,
        trace::{Trace, contents, trace_but_reads},
    },
    tool::active,
    variant::{Engine, FileSystem, Variant},
};

/// What no conversion touches.
const AUFS_SIDE: [&str; 2] = ["aufs", "image/aufs"];
/// A converted container that is changed, and one that is removed.
const CHANGED: &str = "live";
const REMOVED: &str = "never-started";
/// A converted image that is removed; its uppermost layer is its own.
const REMOVED_IMAGE: &str = "lab/committed:1";
/// Images that are new, and a name that leads to another image.
const NEW_IMAGES: [&str; 3] = ["lab/again:1", "lab/built:1", "lab/since:1"];
const MOVED_NAME: &str = "lab/tool:latest";

/// Runs the tool on a root.
pub(super) fn tool(lab: &Lab, root: &Path, words: &[&str]) -> Result<Ended> {
    let mut tool = lab.tool();
    tool.args(words).arg("--root").arg(root);
    tool.arg("--pidfile").arg(lab.pid_file());
    let output = tool.output()?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ok(Ended {
        code: output.status.code(),
        out: text(&output.stdout),
        err: text(&output.stderr),
    })
}

/// The same; it must end with this code and say these words.
fn expect(lab: &Lab, root: &Path, words: &[&str], (code, said): (i32, &[&str])) -> Result<Ended> {
    let ended = tool(lab, root, words)?;
    let missing: Vec<_> = said
        .iter()
        .filter(|text| !ended.err.contains(**text) && !ended.out.contains(**text))
        .collect();
    ensure!(
        ended.code == Some(code) && missing.is_empty(),
        "{words:?}: want {code}, without {missing:?}: {ended:#?}"
    );
    Ok(ended)
}

fn json(lab: &Lab, root: &Path, words: &[&str]) -> Result<Value> {
    let words = [words, &["--json"]].concat();
    let ended = expect(lab, root, &words, (0, &[]))?;
    serde_json::from_str(&ended.out).context(ended.out)
}

/// The driver's devices, by their layers' ids.
fn devices(root: &Root) -> Result<BTreeSet<String>> {
    Ok(read_devices(root.path())?.into_keys().collect())
}

/// Parts of a root by paths relative to it.
fn parts(root: &Path, names: &[&str], look: impl Fn(&Path) -> Trace) -> Trace {
    let all = names.iter().flat_map(|name| look(&root.join(name)));
    let relative = |path: PathBuf| path.strip_prefix(root).map_or(path.clone(), Path::to_owned);
    all.map(|(path, text)| (relative(path), text)).collect()
}

fn expect_same(what: &str, before: &Trace, now: &Trace) -> Result<()> {
    let paths: BTreeSet<_> = before.keys().chain(now.keys()).collect();
    let differing: Vec<_> = paths
        .into_iter()
        .filter(|path| before.get(*path) != now.get(*path))
        .map(|path| {
            let (was, is) = (before.get(path), now.get(path));
            format!("{}: was {was:?}, is {is:?}", path.display())
        })
        .collect();
    expect_none(what, &differing)
}

/// Does something of every sort.
fn work(daemon: &Dockerd<'_>, scratch: &Path) -> Result<()> {
    daemon.docker(&[
        "run",
        "--net=none",
        "--name=writer",
        "--volume=since:/volume",
        "lab/app:2",
        "sh",
        "-c",
        "echo new > /new && echo kept > /volume/kept && rm /home/dev/hello && mkdir /dir && head -c 3000000 /dev/zero > /dir/big",
    ])?;
    daemon.docker(&["start", CHANGED])?;
    daemon.docker(&["exec", CHANGED, "sh", "-c", "echo since > /home/dev/since"])?;
    daemon.docker(&["kill", CHANGED])?;
    build(daemon, scratch)?;
    daemon.docker(&["commit", "writer", "lab/since:1"])?;
    daemon.docker(&["tag", "lab/app:1", "lab/again:1"])?;
    daemon.docker(&["tag", "lab/app:1", MOVED_NAME])?;
    daemon.docker(&["rmi", REMOVED_IMAGE])?;
    daemon.docker(&["rm", REMOVED])?;
    Ok(())
}

fn build(daemon: &Dockerd<'_>, scratch: &Path) -> Result<()> {
    let context = directory(scratch, "context")?;
    fs::write(context.join("copied"), "copied\n")?;
    fs::write(
        context.join("Dockerfile"),
        "FROM lab/app:2\nCOPY copied /copied\nRUN rm /home/dev/hello && ln /bin/xt /bin/also\n",
    )?;
    let path = context.to_string_lossy();
    let words = ["build", "--network=none", "-t", "lab/built:1", &path];
    run(daemon.command(&words).env("DOCKER_BUILDKIT", "0")).map(drop)
}

/// The root is converted, Docker works on it and is stopped. What it did is no fault, is named, and is lost only by force;
/// then the root is what it was, and can be converted again. Without the aufs side Docker goes on with what it made.
pub(super) fn what_docker_did_since_is_verified_named_and_lost_only_by_force(
    lab: &Lab,
    scratch: &Path,
    variant: Variant,
) -> Result<()> {
    let root = roots::converted(lab, scratch, variant)?;
    let before = devices(&root)?;
    let aufs = parts(&roots::aufs(lab)?, &AUFS_SIDE, trace_but_reads);
    with_dockerd(lab, &root, |daemon| work(daemon, scratch))?;
    let now = devices(&root)?;
    let commit = ["commit", "--yes"];
    expect(lab, root.path(), &commit, (1, &["no full verification"]))?;
    is_sound(lab, &root, (&before, &now), variant).context("after Docker's work")?;
    is_named(lab, &root, (&before, &now))?;
    let whole = || trace_but_reads(root.path());
    let left = whole();
    expect(lab, root.path(), &["rollback"], (1, &said(&before, &now)))?;
    expect_same("after the refusal", &left, &whole())?;
    if variant.engine == Engine::Direct {
        commits(lab, scratch, &root)?;
    }
    is_lost_by_force(lab, &root, variant)?;
    let back = parts(root.path(), &AUFS_SIDE, trace_but_reads);
    expect_same("the aufs side", &aufs, &back)?;
    converts_again(lab, root, variant)
}

/// A full verification, which must find nothing wrong.
fn verified(lab: &Lab, root: &Path) -> Result<Value> {
    let ended = tool(lab, root, &["verify", "--full", "--json"])?;
    let report: Value = serde_json::from_str(&ended.out).context(ended.err)?;
    let is_wrong = |layer: &&Value| {
        let grades = [&layer["contents"]["grade"], &layer["tree"]["grade"]];
        let wrong = ["mismatch", "undecided", "different", "source-damaged"];
        layer["structure"]["first"] != serde_json::json!([])
            || grades
                .iter()
                .any(|grade| wrong.iter().any(|wrong| *grade == wrong))
    };
    let layers = report["layers"].as_array().context("layers")?;
    let wrong: Vec<_> = layers.iter().filter(is_wrong).collect();
    ensure!(
        ended.code == Some(0) && report["verdict"] == "sound",
        "verify ended with {:?}: {}, {}; {wrong:#?}",
        ended.code,
        report["faults"],
        report["kernel"]
    );
    Ok(report)
}

/// Verification finds nothing wrong, and tells what is new, what was changed, and nothing of what is gone.
fn is_sound(
    lab: &Lab,
    root: &Root,
    (before, now): (&BTreeSet<String>, &BTreeSet<String>),
    variant: Variant,
) -> Result<()> {
    let report = verified(lab, root.path())?;
    ensure!(report["kernel"]["asked"] == "yes", "{report:#}");
    let layers = report["layers"].as_array().context("layers")?;
    let ids: BTreeSet<_> = layers
        .iter()
        .map(|layer| layer["id"].as_str().unwrap_or("base").to_owned())
        .collect();
    ensure!(ids == *now, "reported: {ids:?}, there: {now:?}");
    if variant.file_system == FileSystem::Xfs {
        return Ok(());
    }
    let changed = roots::mount_id(root.path(), &container(root, CHANGED)?)?;
    let (mut nr_by_diff_id, mut grades) = (0, BTreeSet::new());
    for layer in layers {
        let id = layer["id"].as_str().unwrap_or("base");
        let (tree, contents) = (&layer["tree"]["grade"], &layer["contents"]);
        let wanted = if id == changed {
            "changed-since"
        } else if before.contains(id) {
            "same"
        } else {
            "not-compared"
        };
        ensure!(tree == wanted, "{id}: want {wanted}: {layer:#}");
        if !before.contains(id) && layer["role"] == "image" {
            ensure!(
                contents["grade"] == "verified" && contents["by"] == "diff-id",
                "{id}: {layer:#}"
            );
            nr_by_diff_id += 1;
        }
        grades.insert(contents["grade"].to_string());
    }
    ensure!(nr_by_diff_id == 3, "{nr_by_diff_id} new layers of images");
    ensure!(!grades.contains("mismatch"), "{grades:?}");
    Ok(())
}

/// A container's id by its name.
pub(super) fn container(root: &Root, name: &str) -> Result<String> {
    for entry in fs::read_dir(root.path().join("containers"))? {
        let entry = entry?;
        let config: Value =
            serde_json::from_slice(&fs::read(entry.path().join("config.v2.json"))?)?;
        if config["Name"] == format!("/{name}") {
            return Ok(entry.file_name().to_string_lossy().into_owned());
        }
    }
    anyhow::bail!("no container {name}")
}

fn names_in(path: &Path) -> Result<BTreeSet<String>> {
    let entries = fs::read_dir(path)?;
    let name = |entry: std::io::Result<fs::DirEntry>| {
        Ok(entry?.file_name().to_string_lossy().into_owned())
    };
    entries.map(name).collect()
}

/// `status` names all that Docker did.
fn is_named(
    lab: &Lab,
    root: &Root,
    (before, now): (&BTreeSet<String>, &BTreeSet<String>),
) -> Result<()> {
    let status = json(lab, root.path(), &["status"])?;
    ensure!(status["state"] == "converted", "{status:#}");
    let mut changes = status["changes"].clone();
    // Which objects there are depends on Docker's release, and data is written in place to what is no file.
    let objects = changes["new_objects"].take();
    ensure!(
        objects.as_array().is_some_and(|all| !all.is_empty()),
        "{status:#}"
    );
    changes["pool_data"].take();
    let images = |side: &str| names_in(&root.path().join(side).join("imagedb/content/sha256"));
    let (had, has) = (images("image/aufs")?, images("image/devicemapper")?);
    let gone = had.difference(&has).map(|id| id[..12].to_owned());
    let removed_images: Vec<String> = gone.collect();
    ensure!(!removed_images.is_empty(), "no image was removed");
    let wanted = serde_json::json!({
        "pool_data": null,
        "new_objects": null,
        "transactions": true,
        "new_devices": now.difference(before).collect::<Vec<_>>(),
        "removed_devices": before.difference(now).collect::<Vec<_>>(),
        "image_names": true,
        "images": {"new": NEW_IMAGES, "moved": [MOVED_NAME], "removed": [REMOVED_IMAGE]},
        "new_containers": ["writer"],
        "changed_containers": [CHANGED],
        "removed_images": removed_images,
        "removed_containers": [REMOVED],
    });
    ensure!(changes == wanted, "named {changes:#}, want {wanted:#}");
    let told = expect(lab, root.path(), &["status"], (0, &said(before, now)))?;
    ensure!(
        told.out.contains("a rollback would lose these changes"),
        "{told:?}"
    );
    Ok(())
}

/// The words of a refusal.
fn said<'a>(before: &'a BTreeSet<String>, now: &'a BTreeSet<String>) -> Vec<&'a str> {
    let new = now.difference(before).map(String::as_str);
    let gone = before.difference(now).map(String::as_str);
    let names = ["writer", CHANGED, REMOVED, MOVED_NAME, REMOVED_IMAGE];
    let names = names.into_iter().chain(NEW_IMAGES);
    // Of longer lists the beginning is shown.
    new.take(5).chain(gone.take(5)).chain(names).collect()
}

/// On a copy: without the aufs side Docker has all that it had.
fn commits(lab: &Lab, scratch: &Path, root: &Root) -> Result<()> {
    let copy = directory(scratch, "committed")?.join("docker");
    lab.copy(root.path(), &copy)?;
    let words = ["verify --full"];
    expect(lab, &copy, &["commit", "--yes"], (1, &words)).context("a copy is not what was read")?;
    verified(lab, &copy)?;
    expect(lab, &copy, &["commit", "--yes"], (0, &[": removed "]))?;
    for name in AUFS_SIDE {
        ensure!(!copy.join(name).exists(), "{name} is there");
    }
    let status = json(lab, &copy, &["status"])?;
    ensure!(status["state"] == "committed", "{status:#}");
    let copy = Root::new(copy, Storage::files(), Vec::new());
    with_dockerd(lab, &copy, |daemon| {
        let wanted = "since\n";
        daemon.docker(&["start", CHANGED])?;
        let printed = daemon.docker(&["exec", CHANGED, "cat", "/home/dev/since"])?;
        ensure!(printed == wanted, "{CHANGED} has {printed:?}");
        daemon.docker(&["kill", CHANGED])?;
        runs(daemon, "lab/built:1", ("/copied", "copied\n"))
    })?;
    verified(lab, copy.path()).map(drop)
}

fn runs(daemon: &Dockerd<'_>, image: &str, (path, content): (&str, &str)) -> Result<()> {
    let printed = daemon.docker(&["run", "--rm", "--net=none", image, "cat", path])?;
    ensure!(printed == content, "{image}: {path} has {printed:?}");
    Ok(())
}

/// The devicemapper side goes, wherever it is.
fn is_lost_by_force(lab: &Lab, root: &Root, variant: Variant) -> Result<()> {
    let words = ["lost with the devicemapper side", "writer", "lab/built:1"];
    let ended = expect(lab, root.path(), &["rollback", "--force"], (0, &words))?;
    ensure!(
        ended
            .err
            .contains("its container was removed, so it is not restored"),
        "of {REMOVED}: {ended:#?}"
    );
    for name in ["devicemapper", "image/devicemapper", ".aufs2dm"] {
        ensure!(!root.path().join(name).exists(), "{name} is there");
    }
    if variant.target != Target::Files {
        root.storage().expect_unused(lab)?;
    }
    let status = json(lab, root.path(), &["status"])?;
    ensure!(status["state"] == "none", "{status:#}");
    let volume = root.path().join("volumes/since/_data/kept");
    ensure!(
        fs::read_to_string(volume)? == "kept\n",
        "the volume is gone"
    );
    // Docker has written to the directories of containers, but the configs are those of before.
    let aufs = roots::aufs(lab)?;
    for entry in fs::read_dir(aufs.join("containers"))? {
        let path = Path::new("containers").join(entry?.file_name());
        if !root.path().join(&path).exists() {
            continue;
        }
        let config = path.join("config.v2.json");
        ensure!(
            fs::read(aufs.join(&config))? == fs::read(root.path().join(&config))?,
            "{}: is not what it was",
            config.display()
        );
    }
    Ok(())
}

/// The root is converted once more, and Docker starts on it.
fn converts_again(lab: &Lab, root: Root, variant: Variant) -> Result<()> {
    let options = roots::convert(lab, root.path(), variant, root.storage())?;
    let root = root.with_options(options);
    with_dockerd(lab, &root, |daemon| {
        let hello = ("/home/dev/hello", "hi\n");
        runs(daemon, "lab/app:2", hello)?;
        daemon.docker(&["start", CHANGED])?;
        let printed = daemon.docker(&["exec", CHANGED, "cat", hello.0])?;
        ensure!(printed == hello.1, "{CHANGED} has {printed:?}");
        daemon.docker(&["kill", CHANGED]).map(drop)
    })?;
    verified(lab, root.path())?;
    roots::thin_check(lab, &root)
}

/// A daemon is killed while a container runs. No command does anything but name what is active, with the commands that take
/// it down; when they are done, everything goes as after a daemon that was stopped.
pub(super) fn what_a_killed_docker_left_is_named_and_nothing_is_changed(
    lab: &Lab,
    scratch: &Path,
    variant: Variant,
) -> Result<()> {
    let root = roots::converted(lab, scratch, variant)?;
    expect(lab, root.path(), &["verify", "--full"], (0, &[]))?;
    let before = active()?;
    let (killed, pid) = with_killed_dockerd(lab, &root, |daemon| {
        daemon.docker(&["start", CHANGED])?;
        let state = &daemon.inspect("container", &[CHANGED])?[0]["State"];
        Ok(i32::try_from(state["Pid"].as_i64().context("a pid")?)?)
    })?;
    expect(
        lab,
        root.path(),
        &["rollback", "--force"],
        (1, &["is still running as process"]),
    )?;
    killed.end_containers(&[pid])?;
    let mut left = active()?;
    left.retain(|name| !before.contains(name));
    let nr = if variant.target == Target::Pool { 1 } else { 2 };
    ensure!(left.len() == nr, "the daemon left {left:?}");
    let commands = refused(lab, &root, &left)?;
    for command in commands {
        run(lab.command("sh").args(["-c", &command])).with_context(|| command.clone())?;
    }
    ensure!(active()? == before, "the commands took down something else");
    killed.close()?;
    verified(lab, root.path())?;
    expect(lab, root.path(), &["rollback"], (1, &[CHANGED]))?;
    expect(lab, root.path(), &["rollback", "--force"], (0, &[]))?;
    let aufs = parts(&roots::aufs(lab)?, &AUFS_SIDE, trace_but_reads);
    let back = parts(root.path(), &AUFS_SIDE, trace_but_reads);
    expect_same("the aufs side", &aufs, &back)
}

/// No command goes on; the commands that they print.
fn refused(lab: &Lab, root: &Root, left: &[String]) -> Result<Vec<String>> {
    // The pool itself goes on writing.
    let look = || {
        let mut all = contents(root.path());
        all.retain(|path, _| !path.starts_with(root.path().join("devicemapper/devicemapper")));
        all
    };
    let (leftovers, before) = (Leftovers::now()?, look());
    let mut printed = Vec::new();
    for words in [
        &["verify", "--full"][..],
        &["verify", "--quick"],
        &["rollback"],
        &["rollback", "--force"],
        &["commit", "--yes"],
    ] {
        let said: Vec<_> = left.iter().map(String::as_str).collect();
        let ended = expect(lab, root.path(), words, (1, &said))?;
        printed = commands(&ended.err);
        ensure!(printed.len() == left.len(), "{words:?}: {ended:#?}");
    }
    for words in ["convert", "resume"] {
        expect(lab, root.path(), &[words], (0, &["nothing was done"]))?;
    }
    leftovers.compare()?;
    expect_same("after the refusals", &before, &look())?;
    Ok(printed)
}

/// What follows the words of each line that names a device.
fn commands(text: &str) -> Vec<String> {
    let marked = text.lines().filter_map(|line| {
        let (_, command) = line.split_once("if docker was killed and left it behind: ")?;
        Some(command.trim().to_owned())
    });
    marked.collect()
}
