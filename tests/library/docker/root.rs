//! The bundled Docker root in a temporary directory, with handles to damage it.

#![allow(clippy::unwrap_used)] // a panic is how a test fails

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use aufs2dm::docker::{Class, Layer, Orphans, Problem, Root, Survey};
use serde_json::Value;
use tempfile::TempDir;

/// The image `lab/app:1`.
pub(crate) const APP_1: &str = "bd31e53c672c5077ae2fd2f09f96083739e023a30efd931fd1598eddcaa4310c";

/// The container `shop_web_1`.
pub(crate) const WEB: &str = "eb2f7955c709fa72fc194c1e3c3141cb5f1bd8d6ab699292a7155f6ae4cf6b5e";

/// Unpacks a fixture. What lies inside the branches is left out: the model does not look at it, and without the device
/// nodes there anyone may run these tests.
pub(crate) fn unpack(fixture: &str) -> TempDir {
    let temp = tempfile::tempdir().unwrap();
    let archive = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("fixtures")
        .join(fixture);
    let status = Command::new("tar")
        .args([
            "--xattrs",
            "--xattrs-include=*",
            "--numeric-owner",
            "--no-same-owner",
        ])
        .args([
            "--exclude=docker/aufs/*/*/*",
            "--exclude=backingFsBlockDev",
            "-xpf",
        ])
        .arg(&archive)
        .arg("-C")
        .arg(temp.path())
        .status()
        .unwrap();
    assert!(
        status.success(),
        "tar could not unpack {}",
        archive.display()
    );
    temp
}

/// A copy of the small root.
pub(crate) struct SmallRoot {
    _temp: TempDir,
    pub(crate) path: PathBuf,
}

impl SmallRoot {
    pub(crate) fn new() -> Self {
        let temp = unpack("small.tar.xz");
        let path = temp.path().join("docker");
        Self { _temp: temp, path }
    }

    pub(crate) fn open(&self) -> Root {
        Root::open(&self.path).unwrap()
    }

    pub(crate) fn survey(&self) -> Survey {
        Survey::read(&self.open())
    }

    /// All problems, whatever becomes of the objects, paths shortened to begin at the root.
    pub(crate) fn problems(&self) -> Vec<String> {
        let survey = self.survey();
        let problems = survey.problems().iter();
        problems.map(|problem| self.text(problem)).collect()
    }

    /// What becomes of the object of each problem.
    pub(crate) fn classes(&self) -> Vec<Class> {
        let survey = self.survey();
        let problems = survey.problems().iter();
        problems.map(|problem| problem.class).collect()
    }

    fn text(&self, problem: &Problem) -> String {
        self.shorten(&problem.to_string())
    }

    pub(crate) fn warnings(&self) -> Vec<String> {
        self.survey()
            .warnings()
            .iter()
            .map(|warning| self.shorten(&warning.to_string()))
            .collect()
    }

    pub(crate) fn shorten(&self, text: &str) -> String {
        let root = self.path.canonicalize().unwrap();
        text.replace(&format!("{}/", root.display()), "")
            .replace(&format!("{}/", self.path.display()), "")
    }

    pub(crate) fn at(&self, path: &str) -> PathBuf {
        self.path.join(path)
    }

    pub(crate) fn read(&self, path: &str) -> String {
        fs::read_to_string(self.at(path)).unwrap()
    }

    pub(crate) fn write(&self, path: &str, text: impl AsRef<[u8]>) {
        fs::create_dir_all(self.at(path).parent().unwrap()).unwrap();
        fs::write(self.at(path), text).unwrap();
    }

    pub(crate) fn remove(&self, path: &str) {
        let path = self.at(path);
        if path.is_dir() {
            fs::remove_dir_all(path)
        } else {
            fs::remove_file(path)
        }
        .unwrap();
    }

    pub(crate) fn link(&self, target: &str, path: &str) {
        std::os::unix::fs::symlink(target, self.at(path)).unwrap();
    }
}

/// The top layer of `lab/app:1`, and the two below it: chain id and aufs layer.
pub(crate) struct Layers {
    pub(crate) top: (String, String),
    pub(crate) parent: (String, String),
    pub(crate) grandparent: (String, String),
}

impl Layers {
    pub(crate) fn of(root: &SmallRoot) -> Self {
        let model = root.survey().into_model(Orphans::Convert).unwrap();
        let (_, image) = model
            .images
            .iter()
            .find(|(id, _)| id.file_name() == APP_1)
            .unwrap();
        let names = |chain| {
            let layer: &Layer = &model.layers[&chain];
            ((chain.file_name(), layer.cache.to_string()), layer.parent)
        };
        let (top, parent) = names(image.top.unwrap());
        let (parent, grandparent) = names(parent.unwrap());
        let (grandparent, _) = names(grandparent.unwrap());
        Self {
            top,
            parent,
            grandparent,
        }
    }
}

/// What Docker and aufs showed of the small root.
pub(crate) struct Truth {
    temp: TempDir,
    index: Value,
}

impl Truth {
    pub(crate) fn new() -> Self {
        let temp = unpack("small-truth.tar.zst");
        let index = fs::read_to_string(temp.path().join("small-truth/index.json")).unwrap();
        Self {
            temp,
            index: serde_json::from_str(&index).unwrap(),
        }
    }

    pub(crate) fn listing(&self, name: &str) -> String {
        fs::read_to_string(self.temp.path().join("small-truth").join(name)).unwrap()
    }

    pub(crate) fn images(&self) -> &serde_json::Map<String, Value> {
        self.index["images"].as_object().unwrap()
    }

    pub(crate) fn containers(&self) -> &serde_json::Map<String, Value> {
        self.index["containers"].as_object().unwrap()
    }
}

/// A list of strings in the truth.
pub(crate) fn strings(value: &Value) -> Vec<String> {
    value
        .as_array()
        .unwrap()
        .iter()
        .map(|text| text.as_str().unwrap().to_owned())
        .collect()
}
