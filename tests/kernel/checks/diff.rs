//! `docker diff` of converted containers.
//!
//! Under aufs it was derived from one branch, so what it printed there is no measure. The devicemapper driver compares the
//! init device's tree with the container's; here the same rule is applied to the trees that aufs showed.

use std::{collections::BTreeSet, path::Path};

use anyhow::{Context, Result};

use super::expect_none;
use crate::{
    dockerd::with_dockerd,
    lab::Lab,
    roots,
    tree::{Entry, Tree, walk},
    truth::{ContainerLayers, Index, Truth},
};

/// Every container's `docker diff` is the difference between init tree and container tree.
pub(super) fn docker_diff_follows_the_drivers_rule(lab: &Lab, scratch: &Path) -> Result<()> {
    let root = roots::converted_copy(lab, scratch)?;
    let truth = Truth::of_aufs(lab)?;
    let index = truth.index()?;
    let mut differences = Vec::new();
    with_dockerd(lab, &root, |daemon| {
        for (id, layers) in &index.containers {
            let init = init_tree(lab, &truth, &index, layers)?;
            let wanted = changes(&init, &truth.container_tree(id)?);
            let printed = daemon.docker(&["diff", id])?;
            let found: BTreeSet<_> = printed.lines().map(str::to_owned).collect();
            differences.extend(
                wanted
                    .difference(&found)
                    .map(|line| format!("{id}: not printed: {line}")),
            );
            differences.extend(
                found
                    .difference(&wanted)
                    .map(|line| format!("{id}: too much: {line}")),
            );
        }
        Ok(())
    })?;
    expect_none("docker diff", &differences)
}

/// The tree of a container's init layer: the image's, with the layer's branch laid over it.
fn init_tree(lab: &Lab, truth: &Truth, index: &Index, layers: &ContainerLayers) -> Result<Tree> {
    let top = layers
        .layers_file
        .get(1)
        .context("an image below the init layer")?;
    let image = index
        .images
        .iter()
        .find(|(_, image)| image.cache_ids_bottom_first.last() == Some(top));
    let (image, _) = image.context("the container's image is in the truth")?;
    let mut tree = truth.tree(&format!("image-{image}"))?;
    for (path, entry) in walk(&roots::aufs(lab)?.join("aufs/diff").join(&layers.init_id))? {
        let (parent, name) = path.rsplit_once('/').unwrap_or_default();
        if path.split('/').any(|name| name.starts_with(".wh..wh.")) {
            continue;
        }
        if let Some(hidden) = name.strip_prefix(".wh.") {
            remove(&mut tree, &format!("{parent}/{hidden}"));
            continue;
        }
        if entry.kind != "dir" {
            remove(&mut tree, &path);
        }
        tree.insert(path, entry);
    }
    Ok(tree)
}

fn remove(tree: &mut Tree, path: &str) {
    let below = format!("{path}/");
    tree.retain(|name, _| name != path && !name.starts_with(&below));
}

/// The driver's rule. Source: moby v20.10 `pkg/archive/changes.go` and `changes_unix.go`: mode, owner, device number and
/// capability count for all; size and time (a zero-nanosecond side matches any nanoseconds) for non-directories; a
/// directory with changes in it counts as changed; below a removed directory nothing is listed.
fn changes(old: &Tree, new: &Tree) -> BTreeSet<String> {
    let mut lines = BTreeSet::new();
    for (path, entry) in new.iter().filter(|(path, _)| *path != "/") {
        match old.get(path) {
            None => add(&mut lines, 'A', path, (old, new)),
            Some(before) if differs(before, entry) => add(&mut lines, 'C', path, (old, new)),
            Some(_) => {}
        }
    }
    for path in old.keys().filter(|path| !new.contains_key(*path)) {
        // Only where the parent is still a directory was a child of it removed.
        let parent = parent_of(path);
        if new.get(parent).is_some_and(|entry| entry.kind == "dir") {
            add(&mut lines, 'D', path, (old, new));
        }
    }
    lines
}

/// Adds a line, and one for each directory above it that was there before.
fn add(lines: &mut BTreeSet<String>, kind: char, path: &str, (old, new): (&Tree, &Tree)) {
    lines.insert(format!("{kind} {}", printed(path)));
    let mut above = parent_of(path);
    while above != "/" {
        if old.contains_key(above) && new.contains_key(above) {
            lines.insert(format!("C {}", printed(above)));
        }
        above = parent_of(above);
    }
}

fn parent_of(path: &str) -> &str {
    match path.rsplit_once('/') {
        Some(("", _)) | None => "/",
        Some((parent, _)) => parent,
    }
}

fn differs(old: &Entry, new: &Entry) -> bool {
    const SECOND: i128 = 1_000_000_000;
    let capability = |entry: &Entry| entry.xattrs.get("security.capability").cloned();
    let same_time = |a: i128, b: i128| {
        a.div_euclid(SECOND) == b.div_euclid(SECOND)
            && (a == b || a % SECOND == 0 || b % SECOND == 0)
    };
    (&old.kind, &old.mode, old.uid, old.gid, &old.rdev)
        != (&new.kind, &new.mode, new.uid, new.gid, &new.rdev)
        || capability(old) != capability(new)
        || (new.kind != "dir" && (!same_time(old.mtime_ns, new.mtime_ns) || old.size != new.size))
}

/// A path as docker prints it: bytes that are not UTF-8 come out of its JSON as replacement characters.
fn printed(path: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = path;
    while let Some((before, after)) = rest.split_once("\\x") {
        bytes.extend_from_slice(before.as_bytes());
        bytes.push(
            u8::from_str_radix(&after[..2], 16).expect("the truth escapes bytes as two hex digits"),
        );
        rest = &after[2..];
    }
    bytes.extend_from_slice(rest.as_bytes());
    String::from_utf8_lossy(&bytes).into_owned()
}
