//! Makes a stopped Docker's aufs root: as much of it as Docker needs to know its images and containers again.
//!
//! Ids are digests of the names a test gives, so that they are the same in every run. A layer's diff id is such an id
//! too and not the digest of its tar, unless the root is [`recorded`](AufsRoot::recorded).

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tempfile::TempDir;

use super::layer::Layer;
use super::scratch::scratch;
use super::tar::LayerTar;
use super::walk::walk;

/// A Docker root in the making; gone when dropped.
pub struct AufsRoot {
    dir: TempDir,
    layers: BTreeMap<String, LayerRecord>,
    /// The layer that a new one lies on.
    top: Option<String>,
    tags: BTreeMap<String, BTreeMap<String, String>>,
    is_recorded: bool,
}

struct LayerRecord {
    parent: Option<String>,
    id: String,
    diff_id: String,
}

impl AufsRoot {
    /// A root without images.
    pub fn new() -> Self {
        let root = Self {
            dir: scratch(),
            layers: BTreeMap::new(),
            top: None,
            tags: BTreeMap::new(),
            is_recorded: false,
        };
        for dir in [
            "aufs/layers",
            "aufs/diff",
            "aufs/mnt",
            "image/aufs/imagedb/content/sha256",
            "image/aufs/imagedb/metadata/sha256",
            "image/aufs/layerdb/sha256",
            "image/aufs/layerdb/mounts",
            "image/aufs/layerdb/tmp",
            "image/aufs/distribution",
            "containers",
            "volumes",
            "tmp",
        ] {
            fs::create_dir_all(root.path().join(dir)).unwrap();
        }
        root.write_tags();
        root
    }

    /// Layers of images that are added from now on have a tar, which their diff ids and records are of. Each must have something that
    /// no other has.
    pub fn recorded(mut self) -> Self {
        self.is_recorded = true;
        self
    }

    /// The Docker root, what would be `/var/lib/docker`.
    pub fn path(&self) -> PathBuf {
        self.dir.path().join("docker")
    }

    /// Adds an image layer on the one added last.
    pub fn layer(self, name: &str, make: impl FnOnce(Layer) -> Layer) -> Self {
        let parent = self.top.clone();
        self.layer_on(parent.as_deref(), name, make)
    }

    /// Adds an image layer on `parent`, or a base.
    pub fn layer_on(
        mut self,
        parent: Option<&str>,
        name: &str,
        make: impl FnOnce(Layer) -> Layer,
    ) -> Self {
        let id = digest(&format!("cache id {name}"));
        self.add_branch(parent, (name, &id), make);
        let tar = self.is_recorded.then(|| LayerTar::of(&self.branch(name)));
        if let Some(tar) = &tar {
            self.record_mut(name).diff_id = tar.diff_id();
        }
        self.write_layerdb(name, tar.as_ref());
        self.top = Some(name.to_owned());
        self
    }

    /// Tags the image whose topmost layer is `layer`, as in `lab/base:1`.
    pub fn image(mut self, tag: &str, layer: &str) -> Self {
        let chain = self.chain(layer);
        let diff_ids: Vec<_> = chain.iter().map(|name| self.diff_id(name)).collect();
        let history: Vec<_> = chain
            .iter()
            .map(|name| json!({"created": CREATED, "created_by": format!("ADD {name}")}))
            .collect();
        let config = json!({
            "architecture": "amd64",
            "config": {"Cmd": ["/bin/sh"], "Env": ["PATH=/bin"]},
            "created": CREATED,
            "history": history,
            "os": "linux",
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
        });
        let config = config.to_string();
        let id = digest(&config);
        let file = self.image_store("imagedb/content/sha256").join(&id);
        fs::write(file, config).unwrap();
        let (repository, _) = tag.rsplit_once(':').expect("name:tag");
        let tags = self.tags.entry(repository.to_owned()).or_default();
        tags.insert(tag.to_owned(), format!("sha256:{id}"));
        self.write_tags();
        self
    }

    /// Adds a stopped container of the image tagged `tag`, whose topmost layer is `layer`.
    pub fn container(
        mut self,
        name: &str,
        (tag, layer): (&str, &str),
        make: impl FnOnce(Layer) -> Layer,
    ) -> Self {
        let id = container_id(name);
        let mount = digest(&format!("mount id {name}"));
        let (init_name, rw_name) = (format!("{name} init"), format!("{name} rw"));
        let init = format!("{mount}-init");
        self.add_branch(Some(layer), (&init_name, &init), |l| {
            let l = l
                .aufs_files()
                .file(".dockerenv", "")
                .mode(".dockerenv", 0o755);
            l.dir("dev/pts")
                .dir("proc")
                .dir("sys")
                .file("etc/hosts", "")
        });
        self.add_branch(Some(&init_name), (&rw_name, &mount), |l| {
            make(l.aufs_files())
        });
        let mounts = self.image_store("layerdb/mounts").join(&id);
        fs::create_dir(&mounts).unwrap();
        fs::write(mounts.join("mount-id"), &mount).unwrap();
        fs::write(mounts.join("init-id"), &init).unwrap();
        fs::write(mounts.join("parent"), self.chain_id(layer)).unwrap();
        self.write_container(name, tag);
        self
    }

    /// The branch of a layer, or of a container with `NAME init` or `NAME rw`.
    pub fn branch(&self, layer: &str) -> PathBuf {
        self.path().join("aufs/diff").join(&self.layers[layer].id)
    }

    /// The branches from the base up to and with `layer`.
    pub fn branches(&self, layer: &str) -> Vec<PathBuf> {
        let chain = self.chain(layer);
        chain.iter().map(|name| self.branch(name)).collect()
    }

    /// A layer's id in `aufs/layers`.
    pub fn id(&self, layer: &str) -> &str {
        &self.layers[layer].id
    }

    /// A layer's directory in `layerdb/sha256`.
    pub fn layerdb(&self, layer: &str) -> PathBuf {
        let chain_id = self.chain_id(layer);
        let hex = chain_id.strip_prefix("sha256:").expect("just put there");
        self.image_store("layerdb/sha256").join(hex)
    }

    fn image_store(&self, part: &str) -> PathBuf {
        self.path().join("image/aufs").join(part)
    }

    /// The layers below and with `layer`, the base first.
    fn chain(&self, layer: &str) -> Vec<String> {
        let mut chain = vec![layer.to_owned()];
        let mut at = layer;
        while let Some(parent) = &self.layers[at].parent {
            chain.push(parent.clone());
            at = parent;
        }
        chain.reverse();
        chain
    }

    /// Source: moby v20.10.24 `layer/layer.go`, `createChainIDFromParent`.
    fn chain_id(&self, layer: &str) -> String {
        let chain = self.chain(layer);
        let ids = chain.iter().map(|name| self.diff_id(name).to_owned());
        ids.reduce(|below, own| format!("sha256:{}", digest(&format!("{below} {own}"))))
            .expect("a chain has a layer")
    }

    fn diff_id(&self, layer: &str) -> &str {
        &self.layers[layer].diff_id
    }

    fn record_mut(&mut self, layer: &str) -> &mut LayerRecord {
        self.layers.get_mut(layer).expect("it was added")
    }

    fn add_branch(
        &mut self,
        parent: Option<&str>,
        (name, id): (&str, &str),
        make: impl FnOnce(Layer) -> Layer,
    ) {
        let aufs = self.path().join("aufs");
        fs::create_dir(aufs.join("mnt").join(id)).unwrap();
        make(Layer::new(aufs.join("diff").join(id))).finish();
        let mut ancestors = parent.map_or(Vec::new(), |parent| self.chain(parent));
        ancestors.reverse();
        let lines = ancestors.iter().map(|name| format!("{}\n", self.id(name)));
        fs::write(aufs.join("layers").join(id), lines.collect::<String>()).unwrap();
        let record = LayerRecord {
            parent: parent.map(Into::into),
            id: id.to_owned(),
            diff_id: format!("sha256:{}", digest(&format!("diff id {name}"))),
        };
        let replaced = self.layers.insert(name.to_owned(), record);
        assert!(replaced.is_none(), "two layers are called {name}");
    }

    fn write_layerdb(&self, name: &str, tar: Option<&LayerTar>) {
        let dir = self.layerdb(name);
        fs::create_dir(&dir).unwrap();
        fs::write(dir.join("diff"), self.diff_id(name)).unwrap();
        fs::write(dir.join("cache-id"), self.id(name)).unwrap();
        fs::write(dir.join("size"), "0").unwrap();
        if let Some(parent) = &self.layers[name].parent {
            fs::write(dir.join("parent"), self.chain_id(parent)).unwrap();
        }
        match tar {
            Some(tar) => tar.write_record(&dir.join("tar-split.json.gz")),
            None => write_tar_split(&dir, &self.branch(name)),
        }
    }

    fn write_tags(&self) {
        let repositories = json!({"Repositories": self.tags}).to_string();
        fs::write(self.image_store("repositories.json"), repositories).unwrap();
    }

    fn write_container(&self, name: &str, tag: &str) {
        let id = container_id(name);
        let (repository, _) = tag.rsplit_once(':').expect("name:tag");
        let config = json!({
            "StreamConfig": {},
            "State": {"Running": false, "Paused": false, "Pid": 0, "ExitCode": 0},
            "ID": id,
            "Created": CREATED,
            "Managed": false,
            "Path": "/bin/sh",
            "Args": [],
            "Config": {"Hostname": name, "Image": tag, "Cmd": ["/bin/sh"]},
            "Image": self.tags[repository][tag],
            "NetworkSettings": {"Networks": {}},
            "Name": format!("/{name}"),
            "Driver": "aufs",
            "OS": "linux",
            "MountPoints": {},
        });
        let dir = self.path().join("containers").join(&id);
        fs::create_dir(&dir).unwrap();
        fs::write(dir.join("config.v2.json"), format!("{config}\n")).unwrap();
        let host = json!({"NetworkMode": "default", "RestartPolicy": {"Name": "no"}});
        fs::write(dir.join("hostconfig.json"), host.to_string()).unwrap();
    }
}

/// When everything was made.
const CREATED: &str = "2020-01-02T03:04:05.678901234Z";

/// The id of the container called `name`.
pub fn container_id(name: &str) -> String {
    digest(&format!("container {name}"))
}

fn digest(text: &str) -> String {
    format!("{:x}", Sha256::digest(text))
}

/// A tar-split that names everything in the branch, in the order of the paths, without headers and checksums.
fn write_tar_split(dir: &Path, branch: &Path) {
    let file = File::create(dir.join("tar-split.json.gz")).unwrap();
    let mut encoder = GzEncoder::new(file, Compression::fast());
    for (position, path) in walk(branch).entries.keys().skip(1).enumerate() {
        let (key, name) = match std::str::from_utf8(&path[1..]) {
            Ok(name) => ("name", name.to_owned()),
            Err(_) => ("name_raw", base64(&path[1..])),
        };
        let line = json!({"type": 1, key: name, "payload": Value::Null, "position": position});
        writeln!(encoder, "{line}").unwrap();
    }
    encoder.finish().unwrap();
}

/// Bytes in base64.
pub(super) fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for group in bytes.chunks(3) {
        let mut word = [0; 4];
        word[1..=group.len()].copy_from_slice(group);
        let word = u32::from_be_bytes(word);
        for digit in 0..4 {
            let value = word >> (18 - 6 * digit) & 63;
            let filled = digit <= group.len();
            text.push(if filled {
                char::from(DIGITS[usize::try_from(value).unwrap()])
            } else {
                '='
            });
        }
    }
    text
}
