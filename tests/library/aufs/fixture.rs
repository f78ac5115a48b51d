//! The branches of a real aufs root, against what aufs itself showed of them.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use aufs2dm::aufs::{Branch, Finding, OpaqueDirs, read_branch};
use serde_json::Value;
use tempfile::TempDir;

use crate::support::apply::apply_layers;
use crate::support::compare::assert_same;
use crate::support::fixture::unpack;
use crate::support::merge::reference_merge;
use crate::support::merged::MergedTree;
use crate::support::truth::read_truth;

/// What aufs shows although an upper opaque marker hides it.
const FAULT: [&[u8]; 2] = [b"/opt/base/keepdir/sub", b"/opt/base/keepdir/sub/only"];

/// The container (its image has none of this) whose view has the fault.
const FAULTY: &str = "container-eb2f7955c709fa72fc194c1e3c3141cb5f1bd8d6ab699292a7155f6ae4cf6b5e";

struct Root {
    root: TempDir,
    truth: TempDir,
}

/// A mounted image or container.
struct View {
    name: String,
    /// Directories in `aufs/diff`, the bottom one first.
    ids: Vec<String>,
}

impl Root {
    fn unpack() -> Self {
        Self {
            root: unpack("small.tar.xz"),
            truth: unpack("small-truth.tar.zst"),
        }
    }

    fn diff(&self, id: &str) -> PathBuf {
        self.root.path().join("docker/aufs/diff").join(id)
    }

    fn truth_file(&self, name: &str) -> PathBuf {
        self.truth.path().join("small-truth").join(name)
    }

    fn views(&self) -> Vec<View> {
        let index = fs::read(self.truth_file("index.json")).unwrap();
        let index: Value = serde_json::from_slice(&index).unwrap();
        let object = |name: &str| index[name].as_object().unwrap().clone();
        let images = object("images").into_iter().map(|(id, image)| View {
            name: format!("image-{id}"),
            ids: strings(&image["cache_ids_bottom_first"]),
        });
        let containers = object("containers").into_iter().map(|(id, container)| {
            let mut ids = strings(&container["layers_file"]);
            ids.reverse();
            ids.extend(strings(&Value::Array(vec![container["mount_id"].clone()])));
            View {
                name: format!("container-{id}"),
                ids,
            }
        });
        images.chain(containers).collect()
    }

    fn truth(&self, view: &View) -> MergedTree {
        let mut truth = read_truth(&self.truth_file(&format!("{}.jsonl", view.name)));
        if view.name == FAULTY {
            for path in FAULT {
                assert!(truth.entries.remove(path).is_some(), "the fault is there");
            }
        }
        truth
    }
}

fn strings(array: &Value) -> Vec<String> {
    let array = array.as_array().unwrap();
    array
        .iter()
        .map(|id| id.as_str().unwrap().to_owned())
        .collect()
}

fn read_all(dir: &Path) -> BTreeMap<String, Branch> {
    fs::read_dir(dir)
        .unwrap()
        .map(|entry| {
            let entry = entry.unwrap();
            let branch = read_branch(&entry.path(), None).unwrap();
            (entry.file_name().into_string().unwrap(), branch)
        })
        .collect()
}

#[test]
fn every_view_of_a_real_root_is_as_aufs_showed_it() {
    let root = Root::unpack();
    let branches = read_all(&root.diff(""));
    let views = root.views();
    assert_eq!(views.len(), 35);
    for view in views {
        let dirs: Vec<_> = view.ids.iter().map(|id| root.diff(id)).collect();
        let layers: Vec<_> = view
            .ids
            .iter()
            .map(|id| (branches[id].tree.clone(), root.diff(id)))
            .collect();
        let (truth, found) = (root.truth(&view), apply_layers(&layers));
        assert_same(&format!("{}: truth", view.name), &truth, &found);
        let reference = reference_merge(&dirs);
        assert_same(&format!("{}: reference", view.name), &reference, &found);
    }
}

#[test]
fn the_double_opaque_fault_of_a_real_root_is_reported_where_it_is() {
    let root = Root::unpack();
    let branches = read_all(&root.diff(""));
    for view in root.views() {
        let mut markers = OpaqueDirs::default();
        let mut found = Vec::new();
        for id in &view.ids {
            let (above, doubles) = markers.on_top(&Arc::from(id.as_str()), &branches[id].tree);
            markers = above;
            found.extend(doubles.iter().map(|double| double.path.to_vec()));
        }
        let expected: &[&[u8]] = if view.name == FAULTY {
            &[b"/opt/base/keepdir"]
        } else {
            &[]
        };
        assert_eq!(found, expected, "{}", view.name);
    }
}

#[test]
fn pseudo_links_of_a_real_root_are_told_with_their_names() {
    let root = Root::unpack();
    let mut found = Vec::new();
    for branch in read_all(&root.diff("")).into_values() {
        found.extend(branch.findings);
    }
    found.sort();
    let expected: Vec<_> = [
        ("28.789", "opt/base/h-alpha-2"),
        ("29.547", "opt/hl/b"),
        ("30.551", "opt/base/h-alpha-2"),
    ]
    .map(|(link, name)| Finding::PseudoLink {
        link: link.as_bytes().into(),
        names: vec![name.as_bytes().into()],
    })
    .into();
    assert_eq!(found, expected);
}
