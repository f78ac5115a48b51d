//! Saving, running, building on and removing converted images.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;
use serde_json::Value;

use super::expect_none;
use crate::{
    dockerd::{Dockerd, with_dockerd},
    lab::{Lab, run},
    pool::{Pool, read_devices},
    roots,
    runner::directory,
    support::{merged::Kind, walk::sha256},
    truth::Truth,
    variant::Variant,
};

/// `save-*.json`: what `docker save` wrote under aufs.
#[derive(Deserialize)]
struct Saved {
    members: BTreeMap<String, Member>,
}

#[derive(Deserialize)]
struct Member {
    sha256: String,
}

/// Every file in `docker save`'s archive is the one it was under aufs, the layers' tars with the digests of their ids.
pub(super) fn docker_saves_layers_with_their_original_digests(
    lab: &Lab,
    scratch: &Path,
    variant: Variant,
) -> Result<()> {
    let root = roots::converted(lab, scratch, variant)?;
    let truth = Truth::of_aufs(lab)?;
    let mut differences = Vec::new();
    with_dockerd(lab, &root, |daemon| {
        for (image, config) in truth.images()? {
            // Only images that have a name were saved; the others are their ancestors.
            for tag in config["RepoTags"]
                .as_array()
                .context("RepoTags")?
                .iter()
                .filter_map(Value::as_str)
            {
                let lines = compare_saved(daemon, &truth, tag, &directory(scratch, "saved")?)
                    .with_context(|| format!("{tag} ({image})"))?;
                differences.extend(lines.into_iter().map(|line| format!("{tag}: {line}")));
                fs::remove_dir_all(scratch.join("saved"))?;
            }
        }
        Ok(())
    })?;
    expect_none("saved images", &differences)
}

fn compare_saved(
    daemon: &Dockerd<'_>,
    truth: &Truth,
    tag: &str,
    into: &Path,
) -> Result<Vec<String>> {
    let archive = into.join("archive.tar");
    daemon.docker(&["save", "-o", &archive.to_string_lossy(), tag])?;
    let members = directory(into, "members")?;
    run(daemon
        .lab()
        .command("tar")
        .arg("-xf")
        .arg(&archive)
        .arg("-C")
        .arg(&members))?;
    let saved: Saved = truth.json(&format!("save-tag-{}.json", tag.replace(['/', ':'], "_")))?;
    ensure!(
        saved
            .members
            .keys()
            .any(|name| name.ends_with("/layer.tar")),
        "no layers in the truth"
    );
    let mut differences = Vec::new();
    for (name, member) in saved.members {
        let file = members.join(&name);
        let found = if file.is_file() {
            sha256(&file)
        } else {
            "missing".to_owned()
        };
        if found != member.sha256 {
            differences.push(format!("{name}: was {}, is {found}", member.sha256));
        }
    }
    Ok(differences)
}

/// A container of every image starts and sees the image's files.
pub(super) fn docker_runs_every_image(lab: &Lab, scratch: &Path, variant: Variant) -> Result<()> {
    docker_runs_images(lab, scratch, variant, |_| true)
}

/// The same of a share of the images. Those of the kernel engine's ways together are all.
pub(super) fn docker_runs_its_share_of_the_images(
    lab: &Lab,
    scratch: &Path,
    variant: Variant,
) -> Result<()> {
    let sharing: Vec<_> = super::sharing().collect();
    let own = sharing.iter().position(|one| *one == variant);
    let own = own.context("it shares with no other way")?;
    docker_runs_images(lab, scratch, variant, |nth| nth % sharing.len() == own)
}

fn docker_runs_images(
    lab: &Lab,
    scratch: &Path,
    variant: Variant,
    which: impl Fn(usize) -> bool,
) -> Result<()> {
    let root = roots::converted(lab, scratch, variant)?;
    let truth = Truth::of_aufs(lab)?;
    with_dockerd(lab, &root, |daemon| {
        let mut by_layer = BTreeMap::new();
        for (image, config) in truth.images()? {
            // Images with the same layers differ only in their configuration: one run for each set of layers.
            by_layer.insert(config["RootFS"]["Layers"].to_string(), image);
        }
        let images = by_layer.values().enumerate();
        let images: Vec<_> = images.filter(|(nth, _)| which(*nth)).collect();
        ensure!(!images.is_empty(), "there are no images to run");
        for (_, image) in images {
            let id = image.trim_start_matches("sha256:");
            let tree = truth.tree(&format!("image-{id}"));
            let Some(Kind::Regular { sha256, .. }) =
                tree.entries.get(&b"/bin/xt"[..]).map(|entry| &entry.kind)
            else {
                bail!("{image}: no /bin/xt");
            };
            let printed = daemon.docker(&[
                "run",
                "--rm",
                "--net=none",
                image,
                "/bin/sha256sum",
                "/bin/xt",
            ]);
            let printed = printed.with_context(|| image.clone())?;
            ensure!(
                printed.starts_with(sha256),
                "{image}: /bin/xt is {printed}, was {sha256}"
            );
        }
        Ok(())
    })
}

/// `docker build` adds layers on top of converted ones, and finds them again in its cache.
pub(super) fn docker_builds_on_a_converted_image(
    lab: &Lab,
    scratch: &Path,
    variant: Variant,
) -> Result<()> {
    let root = roots::converted(lab, scratch, variant)?;
    let context = directory(scratch, "context")?;
    fs::write(
        context.join("Dockerfile"),
        "FROM lab/app:2\nCOPY copied /copied\nRUN echo built > /built && rm /home/dev/hello && test ! -e /home/dev/hello\n",
    )?;
    fs::write(context.join("copied"), "copied\n")?;
    let path = context.to_string_lossy().into_owned();
    let build = ["build", "--network=none", "-t", "lab/built", &path];
    with_dockerd(lab, &root, |daemon| {
        let first = run(daemon.command(&build).env("DOCKER_BUILDKIT", "0"))?;
        ensure!(
            !first.contains("Using cache"),
            "a first build cannot be cached: {first}"
        );
        let printed = daemon.docker(&[
            "run",
            "--rm",
            "--net=none",
            "lab/built",
            "cat",
            "/built",
            "/copied",
        ])?;
        ensure!(
            printed == "built\ncopied\n",
            "the built image printed {printed:?}"
        );
        let second = run(daemon.command(&build).env("DOCKER_BUILDKIT", "0"))?;
        ensure!(
            second.matches("Using cache").count() == 2,
            "the second build is not cached: {second}"
        );
        let old = daemon.docker(&[
            "run",
            "--rm",
            "--net=none",
            "lab/app:2",
            "cat",
            "/home/dev/hello",
        ])?;
        ensure!(old == "hi\n", "building changed the image below: {old:?}");
        Ok(())
    })?;
    roots::thin_check(lab, &root)
}

/// Removes until nothing is listed: an image can only go after its children.
fn remove_all(daemon: &Dockerd<'_>, list: &[&str], remove: &[&str]) -> Result<()> {
    let mut listed = daemon.docker(list)?;
    ensure!(!listed.is_empty(), "nothing to remove");
    while !listed.is_empty() {
        let names: BTreeSet<_> = listed.lines().collect();
        let refusal = daemon
            .docker(&[remove, &Vec::from_iter(names)].concat())
            .err();
        let left = daemon.docker(list)?;
        if left == listed {
            bail!(
                "not removed: {left}{}",
                refusal.map_or_else(String::new, |error| format!("{error:#}"))
            );
        }
        listed = left;
    }
    Ok(())
}

/// When all is removed only the base device is left, in Docker's records and in the pool.
pub(super) fn docker_removes_everything_and_the_pool_is_clean(
    lab: &Lab,
    scratch: &Path,
    variant: Variant,
) -> Result<()> {
    let root = roots::converted(lab, scratch, variant)?;
    with_dockerd(lab, &root, |daemon| {
        remove_all(daemon, &["ps", "-aq"], &["rm", "-fv"])?;
        remove_all(daemon, &["images", "-aq"], &["rmi", "-f"])
    })?;
    let left: Vec<_> = read_devices(root.path())?.into_keys().collect();
    ensure!(
        left == ["base"],
        "devices left in docker's records: {left:?}"
    );
    roots::thin_check(lab, &root)?;
    let dump = root.storage().with_metadata(root.path(), |metadata| {
        run(lab.command("thin_dump").arg(metadata))
    })?;
    let nr_devices = dump.matches("<device ").count();
    if nr_devices != 1 {
        bail!("{nr_devices} devices left in the pool");
    }
    let pool = Pool::activate(&root)?;
    roots::check_file_systems(lab, &pool)?;
    pool.close()
}
