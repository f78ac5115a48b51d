//! `docker diff` of converted containers.
//!
//! Under aufs it was derived from one branch, so what it printed there is no measure. The devicemapper driver compares the
//! init device's tree with the container's; here the same rule is applied to the trees that aufs showed.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use anyhow::Result;

use super::expect_none;
use crate::{
    dockerd::with_dockerd,
    lab::Lab,
    roots,
    support::{
        merged::{Entry, Kind},
        walk::walk,
    },
    truth::{ContainerLayers, Index, Truth},
    variant::Variant,
};

type Entries = BTreeMap<Vec<u8>, Entry>;

/// Every container's `docker diff` is the difference between init tree and container tree.
pub(super) fn docker_diff_follows_the_drivers_rule(
    lab: &Lab,
    scratch: &Path,
    variant: Variant,
) -> Result<()> {
    let root = roots::converted(lab, scratch, variant)?;
    let truth = Truth::of_aufs(lab)?;
    let index = truth.index()?;
    let mut differences = Vec::new();
    with_dockerd(lab, &root, |daemon| {
        for (id, layers) in &index.containers {
            let init = init_tree(lab, &truth, &index, layers)?;
            let wanted = changes(&init, &truth.container_tree(id).entries);
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
fn init_tree(lab: &Lab, truth: &Truth, index: &Index, layers: &ContainerLayers) -> Result<Entries> {
    let mut tree = truth
        .tree(&format!("image-{}", index.image_of(layers)?))
        .entries;
    let branch = roots::aufs(lab)?.join("aufs/diff").join(&layers.init_id);
    for (path, entry) in walk(&branch).entries {
        let (parent, name) = split(&path);
        if path
            .split(|&byte| byte == b'/')
            .any(|name| name.starts_with(b".wh..wh."))
        {
            continue;
        }
        if let Some(hidden) = name.strip_prefix(b".wh.") {
            remove(&mut tree, &[parent, b"/", hidden].concat());
            continue;
        }
        if entry.kind != Kind::Directory {
            remove(&mut tree, &path);
        }
        tree.insert(path, entry);
    }
    Ok(tree)
}

fn remove(tree: &mut Entries, path: &[u8]) {
    let below = [path, b"/"].concat();
    tree.retain(|name, _| name != path && !name.starts_with(&below));
}

/// The driver's rule. Source: moby v20.10 `pkg/archive/changes.go` and `changes_unix.go`: mode, owner, device number and
/// capability count for all; size and time (a zero-nanosecond side matches any nanoseconds) for non-directories; a
/// directory with changes in it counts as changed; below a removed directory nothing is listed.
fn changes(old: &Entries, new: &Entries) -> BTreeSet<String> {
    let mut lines = BTreeSet::new();
    for (path, entry) in new.iter().filter(|(path, _)| *path != b"/") {
        match old.get(path) {
            None => add(&mut lines, 'A', path, (old, new)),
            Some(before) if differs(before, entry) => add(&mut lines, 'C', path, (old, new)),
            Some(_) => {}
        }
    }
    for path in old.keys().filter(|path| !new.contains_key(*path)) {
        // Only where the parent is still a directory was a child of it removed.
        let parent = split(path).0;
        let parent = if parent.is_empty() { b"/" } else { parent };
        if new
            .get(parent)
            .is_some_and(|entry| entry.kind == Kind::Directory)
        {
            add(&mut lines, 'D', path, (old, new));
        }
    }
    lines
}

/// Adds a line, and one for each directory above it that was there before.
fn add(lines: &mut BTreeSet<String>, kind: char, path: &[u8], (old, new): (&Entries, &Entries)) {
    // Bytes that are not UTF-8 come out of docker's JSON as replacement characters.
    lines.insert(format!("{kind} {}", String::from_utf8_lossy(path)));
    let mut above = split(path).0;
    while !above.is_empty() {
        if old.contains_key(above) && new.contains_key(above) {
            lines.insert(format!("C {}", String::from_utf8_lossy(above)));
        }
        above = split(above).0;
    }
}

/// The parent, empty for the top, and the name.
fn split(path: &[u8]) -> (&[u8], &[u8]) {
    let slash = path.iter().rposition(|&byte| byte == b'/').unwrap_or(0);
    (&path[..slash], path.get(slash + 1..).unwrap_or_default())
}

fn differs(old: &Entry, new: &Entry) -> bool {
    const SECOND: i128 = 1_000_000_000;
    let capability = |entry: &Entry| entry.xattrs.get(&b"security.capability"[..]).cloned();
    let same_time = |a: i128, b: i128| {
        a.div_euclid(SECOND) == b.div_euclid(SECOND)
            && (a == b || a % SECOND == 0 || b % SECOND == 0)
    };
    let same_kind = match (&old.kind, &new.kind) {
        (Kind::Directory, Kind::Directory) => true,
        // Content is not looked at, only its size.
        (Kind::Regular { size, .. }, Kind::Regular { size: now, .. }) => {
            size == now && same_time(old.mtime, new.mtime)
        }
        (Kind::Symlink(target), Kind::Symlink(now)) => {
            target.len() == now.len() && same_time(old.mtime, new.mtime)
        }
        (before, now) => before == now && same_time(old.mtime, new.mtime),
    };
    !same_kind
        || (old.mode, old.uid, old.gid) != (new.mode, new.uid, new.gid)
        || capability(old) != capability(new)
}
