//! Both engines, one suite: of the same root they make the same devices, under the same numbers, with the same trees.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, ensure};
use aufs2dm::staging::STAGE_NAME;
use serde_json::Value;
use sys_mount::MountFlags;

use super::{expect_none, random::RandomRoot};
use crate::{
    lab::Lab,
    pool::{Pool, read_devices},
    roots::{self, Root},
    runner::directory,
    storage::{AMPLE, Storage, Target},
    support::{compare::compare, merged::MergedTree, trace::contents, walk::walk},
    variant::{DIRECT, FileSystem, Variant, kernel},
};

const WAYS: [Variant; 3] = [
    DIRECT,
    kernel(Target::Files, FileSystem::Ext4),
    kernel(Target::Pool, FileSystem::Xfs),
];

/// Image layers, init layers and containers of the fixture.
pub(super) fn both_engines_make_the_same_of_the_fixture(lab: &Lab, scratch: &Path) -> Result<()> {
    make_the_same(lab, scratch, &roots::aufs(lab)?)
}

/// Layers in which everything meets everything.
pub(super) fn both_engines_make_the_same_of_random_stacks(lab: &Lab, scratch: &Path) -> Result<()> {
    let random = RandomRoot::new(lab, FileSystem::Xfs)?;
    make_the_same(lab, scratch, &random.path())
}

fn make_the_same(lab: &Lab, scratch: &Path, aufs: &Path) -> Result<()> {
    let mut made = Vec::new();
    for variant in WAYS {
        let directory = directory(scratch, &variant.to_string())?;
        let path = directory.join("docker");
        lab.copy(aufs, &path)?;
        let storage = Storage::create(variant.target, &directory, AMPLE)?;
        let options = roots::convert(lab, &path, variant, &storage)?;
        let root = Root::new(path, storage, options);
        made.push((variant, Made::read(&root, &directory.join("mnt"))?));
        drop(root);
        fs::remove_dir_all(directory)?;
    }
    let (direct, others) = made.split_first().context("the direct engine's")?;
    for (variant, made) in others {
        made.expect_same(&direct.1)
            .with_context(|| variant.to_string())?;
    }
    Ok(())
}

/// What an engine made.
struct Made {
    /// By driver id.
    trees: BTreeMap<String, MergedTree>,
    /// Docker's file of each device, and its two others, without what no two file systems have in common.
    files: BTreeMap<String, Value>,
    /// The root without `devicemapper` and the record of the conversion, which says how it was made.
    rest: BTreeMap<PathBuf, String>,
}

impl Made {
    fn read(root: &Root, mnt: &Path) -> Result<Self> {
        let pool = Pool::activate(root)?;
        let mut trees = BTreeMap::new();
        for id in pool.devices().keys() {
            let thin = pool.thin(id)?;
            let mounted = thin.mount(mnt, MountFlags::RDONLY)?;
            let rootfs = mnt.join("rootfs");
            ensure!(rootfs.exists() != (id == "base"), "{id}: rootfs");
            if rootfs.exists() {
                trees.insert(id.clone(), walk(&rootfs));
            }
            mounted.close()?;
            thin.close()?;
        }
        pool.close()?;
        let rest = contents(root.path())
            .into_iter()
            .filter_map(|(path, text)| {
                let path = path.strip_prefix(root.path()).ok()?.to_owned();
                let left_out = ["devicemapper", STAGE_NAME]
                    .iter()
                    .any(|dir| path.starts_with(dir));
                (!left_out).then_some((path, text))
            });
        Ok(Self {
            trees,
            files: files(root)?,
            rest: rest.collect(),
        })
    }

    fn expect_same(&self, direct: &Self) -> Result<()> {
        let mut differences = Vec::new();
        let ids: Vec<_> = self.trees.keys().collect();
        ensure!(
            ids == direct.trees.keys().collect::<Vec<_>>(),
            "other devices: {ids:?}"
        );
        for (id, tree) in &self.trees {
            let lines = compare(&direct.trees[id], tree);
            differences.extend(lines.iter().map(|line| format!("{id}: {line}")));
        }
        for (name, file) in &self.files {
            if direct.files.get(name) != Some(file) {
                let other = direct.files.get(name);
                differences.push(format!("{name}: {file}, the direct engine's {other:?}"));
            }
        }
        ensure!(self.files.len() == direct.files.len(), "files are missing");
        for (path, text) in &self.rest {
            if direct.rest.get(path) != Some(text) {
                differences.push(format!("{}: {text}", path.display()));
            }
        }
        ensure!(self.rest.len() == direct.rest.len(), "the root lacks files");
        expect_none("what the direct engine made", &differences)
    }
}

fn files(root: &Root) -> Result<BTreeMap<String, Value>> {
    let mut files = BTreeMap::new();
    let directory = root.path().join("devicemapper/metadata");
    for entry in fs::read_dir(&directory)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let mut value: Value = serde_json::from_slice(&fs::read(entry.path())?)?;
        if let Some(members) = value.as_object_mut() {
            members.remove("BaseDeviceUUID");
            members.remove("BaseDeviceFilesystem");
        }
        files.insert(name, value);
    }
    ensure!(
        files.len() == read_devices(root.path())?.len() + 2,
        "{files:?}"
    );
    Ok(files)
}
