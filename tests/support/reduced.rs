//! The fixture as a value, whole and reduced.

use std::collections::HashSet;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::Value;

use super::fixture::unpack;
use super::tree::Tree;

/// The whole fixture: 30 images, 20 layers, 5 containers.
pub fn whole() -> Result<Tree> {
    let dir = unpack("small.tar.xz");
    Tree::read(&dir.path().join("docker"))
}

/// What is left in the reduced root, by the beginnings of their ids.
const IMAGES: [&str; 2] = ["1ae58643dfdd", "552a44a570d8"];
const LAYERS: [&str; 2] = ["153417cf7d3a", "45b7068862df"];
const CONTAINERS: [&str; 2] = ["e8298b3db37d", "bbc12d564f2a"];
const REPOSITORIES: [&str; 2] = ["lab/base", "lab/tool"];

/// The fixture as it would be if two images of three tags and two of their containers were all that was ever made: same files,
/// same formats, but so few that each call of a conversion can be tried in each of several ways.
pub fn reduced() -> Result<Tree> {
    let dir = unpack("small.tar.xz");
    let root = dir.path().join("docker");
    let images = root.join("image/aufs");
    keep(&images.join("imagedb/content/sha256"), &IMAGES)?;
    keep(&images.join("imagedb/metadata/sha256"), &IMAGES)?;
    keep(&images.join("layerdb/sha256"), &LAYERS)?;
    keep(&images.join("layerdb/mounts"), &CONTAINERS)?;
    keep(&root.join("containers"), &CONTAINERS)?;
    keep_repositories(&images.join("repositories.json"))?;
    let mut branches = HashSet::new();
    for layer in fs::read_dir(images.join("layerdb/sha256"))? {
        branches.insert(fs::read_to_string(layer?.path().join("cache-id"))?);
    }
    for mount in fs::read_dir(images.join("layerdb/mounts"))? {
        let mount = mount?.path();
        branches.insert(fs::read_to_string(mount.join("init-id"))?);
        branches.insert(fs::read_to_string(mount.join("mount-id"))?);
    }
    let branches: Vec<_> = branches.iter().map(String::as_str).collect();
    for part in ["diff", "layers", "mnt"] {
        keep(&root.join("aufs").join(part), &branches)?;
    }
    Tree::read(&root)
}

/// Removes what does not begin like one of these. A name longer than a beginning with a dash is another branch.
fn keep(directory: &Path, beginnings: &[&str]) -> Result<()> {
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        let name = path.file_name().context("entries have names")?;
        let name = name.to_str().context("ids are text")?;
        let wanted = |beginning: &&str| {
            name.strip_prefix(*beginning)
                .is_some_and(|rest| !rest.starts_with('-'))
        };
        if beginnings.iter().any(wanted) {
            continue;
        }
        if path.is_dir() {
            fs::remove_dir_all(&path)?;
        } else {
            fs::remove_file(&path)?;
        }
    }
    Ok(())
}

fn keep_repositories(file: &Path) -> Result<()> {
    let mut tags: Value = serde_json::from_slice(&fs::read(file)?)?;
    let tags_of = tags["Repositories"].as_object_mut().context("its form")?;
    tags_of.retain(|name, _| REPOSITORIES.contains(&name.as_str()));
    Ok(fs::write(file, tags.to_string())?)
}
