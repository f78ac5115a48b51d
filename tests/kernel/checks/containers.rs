//! Converted containers: they hold their changes and start.

use std::{fs, path::Path};

use anyhow::{Context, Result, ensure};

use super::expect_none;
use crate::{
    dockerd::{Dockerd, with_dockerd},
    lab::{Lab, run},
    roots,
    runner::directory,
    support::{
        merged::{Kind, MergedTree},
        walk::walk,
    },
    truth::Truth,
    variant::Variant,
};

/// The source of the fixture's bind mount; not part of a Docker root, so it must be there for the container to start.
const BIND_SOURCE: &str = "/run/vl/bindsrc";
/// The fixture's containers, and the exit code each one's program has; none for the one that goes on running.
const CONTAINERS: [(&str, Option<&str>); 5] = [
    ("shop_web_1", Some("0")),
    ("shop_worker_1", Some("3")),
    ("bindy", Some("0")),
    ("never-started", Some("0")),
    ("live", None),
];

/// Every container gives out the files it had changed, and then starts and ends as its program does.
pub(super) fn docker_starts_every_converted_container(
    lab: &Lab,
    scratch: &Path,
    variant: Variant,
) -> Result<()> {
    let root = roots::converted(lab, scratch, variant)?;
    let truth = Truth::of_aufs(lab)?;
    fs::create_dir_all(BIND_SOURCE)?;
    fs::write(Path::new(BIND_SOURCE).join("file"), "bound\n")?;
    let outcome = with_dockerd(lab, &root, |daemon| {
        let mut differences = Vec::new();
        for (id, object) in truth.containers()? {
            let name = object["Name"]
                .as_str()
                .context("Name")?
                .trim_start_matches('/');
            let (_, code) = CONTAINERS
                .iter()
                .find(|(known, _)| *known == name)
                .context("an unknown container")?;
            let changes = changed_files(&truth, &id)?;
            differences.extend(compare_exported(daemon, &id, &changes, scratch)?);
            start(daemon, &id, *code).with_context(|| format!("container {name}"))?;
        }
        expect_none("containers' files", &differences)
    });
    fs::remove_dir_all("/run/vl")?;
    outcome?;
    roots::thin_check(lab, &root)
}

/// The regular files that a container has and its image has not, or not so.
fn changed_files(truth: &Truth, id: &str) -> Result<MergedTree> {
    let index = truth.index()?;
    let image = index.image_of(
        index
            .containers
            .get(id)
            .context("the container is in the truth")?,
    )?;
    let below = truth.tree(&format!("image-{image}"));
    let mut files = truth.container_tree(id);
    files.entries.retain(|path, entry| {
        let same = below
            .entries
            .get(path)
            .is_some_and(|old| old.kind == entry.kind);
        // Docker binds its own files over these.
        let bound = path.starts_with(b"/etc/host") || path == b"/etc/resolv.conf";
        matches!(entry.kind, Kind::Regular { .. }) && !same && !bound
    });
    Ok(files)
}

/// Compares files in `docker export`'s archive with what aufs showed.
fn compare_exported(
    daemon: &Dockerd<'_>,
    id: &str,
    wanted: &MergedTree,
    scratch: &Path,
) -> Result<Vec<String>> {
    let archive = scratch.join("export.tar");
    daemon.docker(&["export", "-o", &archive.to_string_lossy(), id])?;
    let files = directory(scratch, "exported")?;
    run(daemon
        .lab()
        .command("tar")
        .arg("-xf")
        .arg(&archive)
        .arg("-C")
        .arg(&files))?;
    let found = walk(&files);
    fs::remove_dir_all(&files)?;
    let mut differences = Vec::new();
    for (path, entry) in &wanted.entries {
        let kind = found.entries.get(path).map(|found| &found.kind);
        if kind != Some(&entry.kind) {
            differences.push(format!(
                "{id}: {}: was {:?}, is {kind:?}",
                path.escape_ascii(),
                entry.kind
            ));
        }
    }
    Ok(differences)
}

fn start(daemon: &Dockerd<'_>, id: &str, code: Option<&str>) -> Result<()> {
    daemon.docker(&["start", id])?;
    if let Some(wanted) = code {
        let found = daemon.docker(&["wait", id])?;
        ensure!(
            found.trim() == wanted,
            "ended with {}, not {wanted}",
            found.trim()
        );
    } else {
        let printed = daemon.docker(&["exec", id, "cat", "/home/dev/hello"])?;
        ensure!(printed == "hi\n", "printed {printed:?}");
        daemon.docker(&["kill", id])?;
    }
    Ok(())
}
