//! The aufs side as it was converted, and the changes to it since.
//!
//! A rollback returns to it, and `commit` removes it. The rollback must not end on something that is gone, and `commit`
//! must not remove what the conversion never had, whether from a Docker that ran on aufs since or from a layer that was
//! left out.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::aufs_changes::AufsChanges;
use super::error::Error;
use super::image_names::{self, ImageNames};
use super::left_out::{PseudoLink, alone, has_data, hidden_below, hidden_in};
use super::regular_files::{names_in, read_regular};
use super::store_files::is_digest;
use super::sums::{PARTS, changed_at, entry, object, objects, objects_in, sum_of, sums_of};
use crate::docker::DamageRecord;
use crate::tree::escape;
use crate::verify::BranchNow;

/// How closely the side is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    /// Whether all branches are there, and the stores' bytes.
    Names,
    /// All entries of all branches too.
    Entries,
}

/// What the conversion found when it read the branches, to be recorded.
#[derive(Clone, Debug, Default)]
pub struct BranchesRead {
    /// Names in the branches that a whiteout beside them hides, as paths relative to the root.
    pub hidden: BTreeSet<String>,
    /// Whether branches were written to after the devices were written from them, without a change of modification
    /// times: no device has those changes.
    pub is_written_since: bool,
    /// What was damaged, and what became of it.
    pub damage: DamageRecord,
}

/// Stored instead of a digest of times if the branches were written to after they had been read for the conversion.
const UNREAD: &str = "written to while the conversion was interrupted";

/// The aufs side as it was converted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AufsSide {
    /// A digest of the entries of each converted branch, by branch name.
    branches: BTreeMap<String, String>,
    /// Digests of the parent lists.
    lists: BTreeMap<String, String>,
    /// Digests of the objects in the image store: of a layer's or mount's directory, or of a file.
    store: BTreeMap<String, String>,
    /// Everything else in `aufs` that has data, as paths relative to the root.
    others: BTreeSet<String>,
    /// Names in the branches that a whiteout beside them hides, with everything below them, so that no device has them;
    /// as paths relative to the root. Earlier versions did not record them.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    hidden: BTreeSet<String>,
    /// Images by name. Earlier versions did not record them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    names: Option<BTreeMap<String, String>>,
    /// What was damaged, and what became of it.
    #[serde(default, skip_serializing_if = "DamageRecord::is_empty")]
    damage: DamageRecord,
    /// Digests of those objects in the copy of the image store that differ from the original. The others have the digest
    /// of the original.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    edited: BTreeMap<String, String>,
    /// The digest of [`times`](Self::times) at the conversion. Earlier versions did not record it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    times: Option<String>,
}

/// The file of image names in an image store.
const IMAGE_NAMES: &str = "repositories.json";
/// The parts of an image store that Docker changes: everything else is named by its own digest.
const CHANGING: [&str; 2] = [IMAGE_NAMES, "distribution/"];

impl AufsSide {
    /// Records the aufs side in `root`. `store` is the copy that was made of its image store, `layers` are the
    /// converted layers, `read` is what was found in them.
    pub(super) fn of(
        root: &Path,
        store: &Path,
        layers: &BTreeSet<String>,
        read: &BranchesRead,
    ) -> Result<Self, Error> {
        let diff = root.join("aufs/diff");
        // Sorted by name, as the digest of all times requires.
        let sums: BTreeMap<String, [String; 2]> = names_in(&diff)?
            .into_par_iter()
            .filter(|name| layers.contains(name))
            .map(|name| {
                let sums = entries_and_times_of(&diff.join(&name));
                (name, sums)
            })
            .collect();
        let times = times_of(sums.values().map(|[_, times]| times.as_str()));
        let edits = &read.damage.edits;
        let (mut edited, mut copied) = (BTreeMap::new(), objects(store)?);
        if !edits.is_empty() {
            edited = copied;
            edited.retain(|name, _| edits.touches(name));
            copied = objects(&root.join("image/aufs"))?;
        }
        let mut side = Self {
            branches: sums
                .into_iter()
                .map(|(name, [entries, _])| (name, entries))
                .collect(),
            times: Some(if read.is_written_since {
                UNREAD.to_owned()
            } else {
                times
            }),
            lists: lists(root)?,
            store: copied,
            edited,
            damage: read.damage.clone(),
            others: BTreeSet::new(),
            hidden: read.hidden.clone(),
            names: read_regular(&root.join("image/aufs").join(IMAGE_NAMES))?
                .and_then(|bytes| image_names::names(&bytes)),
        };
        side.others = side.with_data(root, Depth::Entries)?;
        Ok(side)
    }

    /// What has changed since.
    pub(super) fn changes(&self, root: &Path, depth: Depth) -> Result<AufsChanges, Error> {
        let mut changes = AufsChanges::default();
        self.branches(root, depth, &mut changes);
        differences("aufs/layers", (&self.lists, &lists(root)?), &mut changes);
        let now = objects(&root.join("image/aufs"))?;
        differences("image/aufs", (&self.store, &now), &mut changes);
        if now.get(IMAGE_NAMES) != self.store.get(IMAGE_NAMES) {
            self.names(root, &mut changes)?;
        }
        for path in self.with_data(root, depth)? {
            let text = shown(&path);
            if self.others.contains(&path) {
                changes.left_out.push(text);
            } else {
                changes.new.push(text);
            }
        }
        changes
            .left_out
            .extend(self.damage.left_out.iter().cloned());
        Ok(changes)
    }

    /// What was damaged when the root was converted.
    pub(super) fn damage(&self) -> &DamageRecord {
        &self.damage
    }

    /// A digest of the change time of each entry in each branch; nobody can set that time. It reveals every write, even
    /// of an xattr or of bytes whose modification time was set back, and a copy of the branch has its own times.
    pub(super) fn times(&self, root: &Path) -> String {
        let names: Vec<&String> = self.branches.keys().collect();
        let sums: Vec<String> = names
            .into_par_iter()
            .map(|name| {
                sum_of(&root.join("aufs/diff").join(name), |sum, entry| {
                    changed_at(sum, entry.meta);
                })
            })
            .collect();
        times_of(sums.iter().map(String::as_str))
    }

    /// The value of [`times`](Self::times) at the conversion.
    pub(super) fn times_then(&self) -> Option<&str> {
        self.times.as_deref()
    }

    /// Adds the changes to the image names, from a file that differs from what was converted. A file that is gone
    /// altogether is reported as missing.
    fn names(&self, root: &Path, changes: &mut AufsChanges) -> Result<(), Error> {
        let read = |store: &str| read_regular(&root.join(store).join(IMAGE_NAMES));
        let copy = read("image/devicemapper")?;
        let copied = copy.and_then(|bytes| image_names::names(&bytes));
        let Some(now) = read("image/aufs")? else {
            return Ok(());
        };
        let Some(now) = image_names::names(&now) else {
            let path = format!("image/aufs/{IMAGE_NAMES}");
            changes.new.retain(|new| *new != path);
            changes.changed.push(path);
            return Ok(());
        };
        if let Some(copied) = &copied {
            let names = ImageNames::since(copied, &now);
            let all = names.new.into_iter().chain(names.moved);
            changes.names = all.map(|name| shown(&name)).collect();
        }
        if let Some(before) = self.names.as_ref().or(copied.as_ref()) {
            let gone = ImageNames::since(before, &now).removed;
            changes.names_gone = gone.iter().map(|name| shown(name)).collect();
        }
        Ok(())
    }

    fn branches(&self, root: &Path, depth: Depth, changes: &mut AufsChanges) {
        let looked: Vec<(&String, BranchNow)> = self
            .branches
            .par_iter()
            .map(|(name, before)| (name, branch_now(root, name, before, depth)))
            .collect();
        for (name, now) in looked {
            let path = shown(&format!("aufs/diff/{name}"));
            match now {
                BranchNow::Missing => changes.missing.push(path),
                BranchNow::Changed => changes.changed.push(path),
                BranchNow::Same | BranchNow::Unknown => {}
            }
        }
    }

    /// The state of one branch, by all its entries.
    pub(super) fn branch(&self, root: &Path, name: &str) -> BranchNow {
        let before = self.branches.get(name);
        before.map_or(BranchNow::Unknown, |before| {
            branch_now(root, name, before, Depth::Entries)
        })
    }

    /// Whether something beside the converted branches, given as a path relative to the root, is as it was when the
    /// root was converted, or had data and was left out.
    pub(super) fn is_as_it_was(&self, root: &Path, path: &str) -> bool {
        let list = path.strip_prefix("aufs/layers/");
        let before = list.and_then(|name| self.lists.get(name));
        let is_same_list = |before: &String| {
            let now = read_regular(&root.join(path)).ok().flatten();
            now.is_some_and(|now| format!("{:x}", Sha256::digest(now)) == *before)
        };
        self.others.contains(path) || before.is_some_and(is_same_list)
    }

    /// Whether a path in a copy of the image store, relative to the copy, has what was copied there. `true` if nothing
    /// was there then or now.
    pub(super) fn is_copied(&self, copy: &Path, inner: &Path) -> bool {
        let name = object(&inner.to_string_lossy());
        let now = objects_in(copy, Path::new(&name));
        let copied = if self.damage.edits.touches(&name) {
            self.edited.get(&name)
        } else {
            self.store.get(&name)
        };
        now.is_ok_and(|now| now.get(&name) == copied)
    }

    /// Everything else in `aufs` that has data: a file, or a directory with a file somewhere in it. Looks deep into the
    /// branches only if all their entries are compared.
    fn with_data(&self, root: &Path, depth: Depth) -> Result<BTreeSet<String>, Error> {
        let aufs = root.join("aufs");
        let mut found = BTreeSet::new();
        let mut look = |inner: String| {
            if has_data(&root.join(&inner)) {
                found.insert(inner);
            }
        };
        for name in names_in(&aufs)? {
            if !PARTS.contains(&name.as_str()) {
                look(format!("aufs/{name}"));
            }
        }
        for name in names_in(&aufs.join("diff"))? {
            if !self.branches.contains_key(&name) {
                look(format!("aufs/diff/{name}"));
            }
        }
        // A list without a branch names parents, and nothing more.
        let is_list = |name: &str| {
            let id = name.strip_suffix("-init").unwrap_or(name);
            self.branches.contains_key(name) || is_digest(id)
        };
        for name in names_in(&aufs.join("layers"))? {
            if !is_list(&name) || !aufs.join("layers").join(&name).is_file() {
                look(format!("aufs/layers/{name}"));
            }
        }
        for name in names_in(&aufs.join("mnt"))? {
            look(format!("aufs/mnt/{name}"));
        }
        for path in &self.hidden {
            look(path.clone());
        }
        found.extend(self.hidden_in_branches(&aufs.join("diff"), depth));
        Ok(found)
    }

    /// Names with data in the converted branches that aufs shows nowhere.
    fn hidden_in_branches(&self, diff: &Path, depth: Depth) -> BTreeSet<String> {
        let looked: Vec<(&String, Vec<String>, Vec<PseudoLink>)> = self
            .branches
            .par_iter()
            .map(|(name, _)| {
                let branch = diff.join(name);
                let (mut hidden, links) = hidden_in(&branch);
                if depth == Depth::Entries {
                    hidden.extend(hidden_below(&branch));
                }
                (name, hidden, links)
            })
            .collect();
        let path = |name: &str, inner: &str| format!("aufs/diff/{name}/{inner}");
        let mut found = BTreeSet::new();
        let mut links = Vec::new();
        for (name, hidden, its) in looked {
            found.extend(hidden.iter().map(|inner| path(name, inner)));
            links.extend(its.into_iter().map(|link| (name, link)));
        }
        found.extend(alone(&links).map(|(name, link)| path(name, &link.path)));
        found
    }
}

fn branch_now(root: &Path, name: &str, before: &str, depth: Depth) -> BranchNow {
    let path = root.join("aufs/diff").join(name);
    if !path.symlink_metadata().is_ok_and(|meta| meta.is_dir()) {
        BranchNow::Missing
    } else if depth == Depth::Names || entries_of(&path) == before {
        BranchNow::Same
    } else {
        BranchNow::Changed
    }
}

fn differences(
    top: &str,
    (before, now): (&BTreeMap<String, String>, &BTreeMap<String, String>),
    changes: &mut AufsChanges,
) {
    let is_changing = |name: &str| CHANGING.iter().any(|part| name.starts_with(part));
    for (name, digest) in before {
        let path = shown(&format!("{top}/{name}"));
        match now.get(name) {
            Some(found) if found == digest => {}
            Some(_) if is_changing(name) => changes.new.push(path),
            Some(_) => changes.changed.push(path),
            None => changes.missing.push(path),
        }
    }
    let new = now.keys().filter(|name| !before.contains_key(*name));
    changes
        .new
        .extend(new.map(|name| shown(&format!("{top}/{name}"))));
}

fn shown(text: &str) -> String {
    escape(text.as_bytes())
}

fn lists(root: &Path) -> Result<BTreeMap<String, String>, Error> {
    let directory = root.join("aufs/layers");
    let mut lists = BTreeMap::new();
    for name in names_in(&directory)? {
        if let Some(bytes) = read_regular(&directory.join(&name))? {
            lists.insert(name, format!("{:x}", Sha256::digest(bytes)));
        }
    }
    Ok(lists)
}

/// The digest of all branches' times, in the order of their names.
fn times_of<'a>(branches: impl Iterator<Item = &'a str>) -> String {
    let sums: Vec<&str> = branches.collect();
    format!("{:x}", Sha256::digest(sums.join(" ")))
}

/// A digest of all entries of a branch: names, kinds, owners, sizes, times.
fn entries_of(branch: &Path) -> String {
    sum_of(branch, entry)
}

/// Digests of the entries and of the change times of a branch, in one walk.
fn entries_and_times_of(branch: &Path) -> [String; 2] {
    sums_of(branch, |[entries, times], found| {
        entry(entries, found);
        changed_at(times, found.meta);
    })
}
