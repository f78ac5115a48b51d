//! What Docker and aufs showed before conversion: the fixtures' truth files.

use std::{collections::BTreeMap, fs, path::PathBuf};

use anyhow::{Context, Result};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;

use crate::{
    lab::Lab,
    support::{merged::MergedTree, truth::read_truth},
};

/// What should not be in the truth of container `shop_web_1`; see `fixtures/README.md`.
const DOUBLE_OPAQUE: &[u8] = b"/opt/base/keepdir/sub";

/// The unpacked truth of a fixture.
#[derive(Debug)]
pub(crate) struct Truth {
    directory: PathBuf,
}

/// `index.json`: which layers belong to what.
#[derive(Debug, Deserialize)]
pub(crate) struct Index {
    /// By image id.
    pub(crate) images: BTreeMap<String, ImageLayers>,
    /// By container id.
    pub(crate) containers: BTreeMap<String, ContainerLayers>,
}

/// An image's layers.
#[derive(Debug, Deserialize)]
pub(crate) struct ImageLayers {
    /// Driver ids, base layer first.
    pub(crate) cache_ids_bottom_first: Vec<String>,
}

/// A container's layers.
#[derive(Debug, Deserialize)]
pub(crate) struct ContainerLayers {
    /// Driver id of the read-write layer.
    pub(crate) mount_id: String,
    /// Driver id of the init layer.
    pub(crate) init_id: String,
    /// All ids below the read-write layer, nearest first.
    pub(crate) layers_file: Vec<String>,
}

impl Index {
    /// The image that a container was made from.
    pub(crate) fn image_of(&self, container: &ContainerLayers) -> Result<&str> {
        let top = container
            .layers_file
            .get(1)
            .context("an image below the init layer")?;
        let image = self
            .images
            .iter()
            .find(|(_, image)| image.cache_ids_bottom_first.last() == Some(top));
        Ok(image.context("the container's image is in the truth")?.0)
    }
}

impl Truth {
    /// The truth of the aufs root.
    pub(crate) fn of_aufs(lab: &Lab) -> Result<Self> {
        Self::unpack(lab, "small-truth")
    }

    /// The truth of the devicemapper root.
    pub(crate) fn of_devicemapper(lab: &Lab) -> Result<Self> {
        Self::unpack(lab, "small-dm-truth")
    }

    fn unpack(lab: &Lab, name: &'static str) -> Result<Self> {
        let directory = lab.once(name, |directory| {
            lab.unpack(&format!("{name}.tar.zst"), directory)
        })?;
        Ok(Self {
            directory: directory.join(name),
        })
    }

    /// A text file.
    pub(crate) fn text(&self, name: &str) -> Result<String> {
        let file = self.directory.join(name);
        fs::read_to_string(&file).with_context(|| file.display().to_string())
    }

    /// A JSON file.
    pub(crate) fn json<T: DeserializeOwned>(&self, name: &str) -> Result<T> {
        serde_json::from_str(&self.text(name)?).with_context(|| name.to_owned())
    }

    /// `index.json`.
    pub(crate) fn index(&self) -> Result<Index> {
        self.json("index.json")
    }

    /// A tree, such as `image-<id>`.
    pub(crate) fn tree(&self, name: &str) -> MergedTree {
        read_truth(&self.tree_file(name))
    }

    /// The regular files of a tree with the 512-byte blocks they took, but those with unusual names.
    pub(crate) fn blocks(&self, name: &str) -> Result<Vec<(String, u64)>> {
        let mut found = Vec::new();
        for line in fs::read_to_string(self.tree_file(name))?.lines() {
            let entry: Value = serde_json::from_str(line)?;
            if let (Some(path), Some(blocks)) = (entry["path"].as_str(), entry["blocks"].as_u64())
                && !path.contains('\\')
            {
                found.push((path.to_owned(), blocks));
            }
        }
        Ok(found)
    }

    fn tree_file(&self, name: &str) -> PathBuf {
        self.directory.join(format!("{name}.jsonl"))
    }

    /// A container's tree, without what aufs showed by its own fault: where two branches mark one directory opaque, aufs
    /// goes on to the lowest marker, and deleted files reappear. The image format lets the topmost marker win.
    pub(crate) fn container_tree(&self, id: &str) -> MergedTree {
        let mut tree = self.tree(&format!("container-{id}"));
        if tree.entries.contains_key(&b"/opt/base/keepdir/op"[..]) {
            tree.entries
                .retain(|path, _| !path.starts_with(DOUBLE_OPAQUE));
        }
        tree
    }

    /// The truth files whose names begin with `prefix`, as the rest of the name without its ending.
    pub(crate) fn names(&self, prefix: &str) -> Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.directory)? {
            let name = entry?.file_name().to_string_lossy().into_owned();
            if let Some(rest) = name.strip_prefix(prefix) {
                names.push(
                    rest.rsplit_once('.')
                        .map_or(rest, |(stem, _)| stem)
                        .to_owned(),
                );
            }
        }
        names.sort();
        Ok(names)
    }

    /// `docker inspect` of every image, by id.
    pub(crate) fn images(&self) -> Result<BTreeMap<String, Value>> {
        by_id(self.json("docker-inspect-images.json")?)
    }

    /// `docker inspect` of every container, by id.
    pub(crate) fn containers(&self) -> Result<BTreeMap<String, Value>> {
        by_id(self.json("docker-inspect-containers.json")?)
    }
}

/// Orders inspected objects by their `Id`.
pub(crate) fn by_id(objects: Vec<Value>) -> Result<BTreeMap<String, Value>> {
    let with_id = |object: Value| Some((object.get("Id")?.as_str()?.to_owned(), object));
    objects
        .into_iter()
        .map(|object| with_id(object).context("an object without Id"))
        .collect()
}
