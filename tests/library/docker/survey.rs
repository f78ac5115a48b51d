//! The Docker model on roots that the real Docker wrote.

#![allow(clippy::unwrap_used)] // a panic is how a test fails

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use aufs2dm::daemon::{Host, check_stopped};
use aufs2dm::docker::{
    CONFIG, CacheId, ContainerId, Error, Inventory, Model, OldLayout, Orphans, Owner, Root, Status,
    Survey, config_with_driver,
};
use serde_json::Value;

use super::root::{APP_1, SmallRoot, Truth, WEB, strings, unpack};

fn model(root: &SmallRoot) -> Model {
    root.survey().into_model(Orphans::Convert).unwrap()
}

#[test]
fn images_have_the_ids_chains_and_layers_that_docker_showed() {
    let (root, truth) = (SmallRoot::new(), Truth::new());
    let model = model(&root);
    assert_eq!(model.images.len(), 30);
    for (hex, expected) in truth.images() {
        let (_, image) = model
            .images
            .iter()
            .find(|(id, _)| id.file_name() == *hex)
            .unwrap();
        let layers = model.layers_of(image).unwrap();
        let layers: Vec<_> = layers.iter().map(ToString::to_string).collect();
        assert_eq!(
            layers,
            strings(&expected["cache_ids_bottom_first"]),
            "{hex}"
        );
        let mut chains = Vec::new();
        let mut chain = image.top;
        while let Some(at) = chain {
            chains.push(at.to_string());
            chain = model.layers[&at].parent;
        }
        chains.reverse();
        assert_eq!(chains, strings(&expected["chain_ids"]), "{hex}");
    }
}

#[test]
fn images_have_the_names_that_docker_listed() {
    let (root, truth) = (SmallRoot::new(), Truth::new());
    let mut expected = Vec::new();
    for line in truth.listing("docker-images.txt").lines().skip(1) {
        let words: Vec<_> = line.split_whitespace().take(4).collect();
        if words[0] != "<none>" {
            expected.push((format!("{}:{}", words[0], words[1]), words[3].to_owned()));
        }
    }
    expected.sort();
    let model = model(&root);
    let names = model
        .references
        .iter()
        .map(|(name, id)| (name.to_string(), id.to_string()));
    assert_eq!(names.collect::<Vec<_>>(), expected);
    assert_eq!(expected.len(), 6);
}

#[test]
fn containers_have_the_layers_and_names_that_docker_showed() {
    let (root, truth) = (SmallRoot::new(), Truth::new());
    let model = model(&root);
    let listed: Vec<Value> =
        serde_json::from_str(&truth.listing("docker-inspect-containers.json")).unwrap();
    assert_eq!(
        (model.containers.len(), model.mounts.len(), listed.len()),
        (5, 5, 5)
    );
    for container in &listed {
        let id = container["Id"].as_str().unwrap();
        let read = &model.containers[&ContainerId::parse(id.as_bytes()).unwrap()];
        assert_eq!(
            format!("/{}", read.name),
            container["Name"].as_str().unwrap()
        );
        assert_eq!(
            read.image.unwrap().to_string(),
            container["Image"].as_str().unwrap()
        );
        assert_eq!(
            read.status.to_string(),
            container["State"]["Status"].as_str().unwrap()
        );
    }
    for (id, expected) in truth.containers() {
        let mount = &model.mounts[&ContainerId::parse(id.as_bytes()).unwrap()];
        assert_eq!(mount.rw.to_string(), expected["mount_id"].as_str().unwrap());
        assert_eq!(
            mount.init.as_ref().unwrap().to_string(),
            expected["init_id"].as_str().unwrap()
        );
        assert_eq!(
            mount.parent.unwrap().to_string(),
            expected["parent_chain_id"].as_str().unwrap()
        );
        assert_eq!(
            ancestors(&model, mount.rw.cache_id()),
            strings(&expected["layers_file"])
        );
    }
}

fn ancestors(model: &Model, id: &CacheId) -> Vec<String> {
    let mut ids = Vec::new();
    let mut place = model.place_of(id).unwrap();
    while let Some(parent) = model.aufs[place].parent {
        assert!(parent < place, "a parent comes after its child");
        ids.push(model.aufs[parent].id.to_string());
        place = parent;
    }
    ids
}

#[test]
fn every_layer_of_the_real_root_is_in_use() {
    let root = SmallRoot::new();
    let model = model(&root);
    // 20 image layers, and an init and a writable layer for each of 5 containers
    assert_eq!(model.aufs.len(), 30);
    assert!(
        model
            .aufs
            .iter()
            .all(|layer| layer.orphan.is_none() && layer.uses.len() == 1)
    );
    assert_eq!(root.warnings(), Vec::<String>::new());
    let web = &model.mounts[&ContainerId::parse(WEB.as_bytes()).unwrap()];
    assert_eq!(
        model.users_of(web.rw.cache_id()).to_string(),
        format!("affects container shop_web_1 ({WEB})")
    );
}

#[test]
fn only_the_driver_changes_in_real_configs() {
    let root = SmallRoot::new();
    for entry in fs::read_dir(root.at("containers")).unwrap() {
        let config = fs::read(entry.unwrap().path().join(CONFIG)).unwrap();
        let edited = config_with_driver(&config, "devicemapper")
            .unwrap()
            .unwrap();
        let text = String::from_utf8(config.clone()).unwrap();
        let expected = text.replace(
            r#","Driver":"aufs","OS""#,
            r#","Driver":"devicemapper","OS""#,
        );
        assert_ne!(text, expected);
        assert_eq!(String::from_utf8(edited.clone()).unwrap(), expected);
        assert_eq!(config_with_driver(&edited, "devicemapper").unwrap(), None);
    }
}

#[test]
fn the_layout_before_1_10_is_refused_by_name() {
    let temp = unpack("docker-1.9-graph.tgz");
    let error = Root::open(&temp.path().join("docker")).unwrap_err();
    assert!(matches!(
        error,
        Error::UnsupportedLayout {
            layout: OldLayout::Graph,
            ..
        }
    ));
    let text = error.to_string();
    assert!(text.ends_with(
        "image store of Docker 0.7 to 1.9 (graph/ and repositories-aufs), which is not supported"
    ));
}

/// Every entry's times, mode, owner and size.
fn state_of(path: &Path, state: &mut BTreeMap<std::path::PathBuf, [i64; 10]>) {
    let meta = fs::symlink_metadata(path).unwrap();
    let numbers = [
        meta.atime(),
        meta.atime_nsec(),
        meta.mtime(),
        meta.mtime_nsec(),
        meta.ctime(),
        meta.ctime_nsec(),
        i64::from(meta.mode()),
        i64::from(meta.uid()),
        i64::from(meta.gid()),
        i64::try_from(meta.size()).unwrap(),
    ];
    state.insert(path.to_path_buf(), numbers);
    if meta.is_dir() {
        for entry in fs::read_dir(path).unwrap() {
            state_of(&entry.unwrap().path(), state);
        }
    }
}

#[test]
fn reading_changes_nothing_not_even_access_times() {
    let root = SmallRoot::new();
    let state = || {
        let mut state = BTreeMap::new();
        state_of(&root.path, &mut state);
        state
    };
    state(); // walking itself sets the directories' access times once
    let before = state();
    let opened = root.open();
    let survey = Survey::read(&opened);
    Inventory::new(opened.data_dir(), &survey).unwrap();
    let host = Host {
        pid_file: root.path.with_file_name("docker.pid"),
        root: root.path.with_file_name("host"),
        ..Host::default()
    };
    check_stopped(opened.data_dir(), &host).unwrap();
    assert_eq!(state(), before);
}

#[test]
fn the_inventory_counts_what_docker_showed() {
    let root = SmallRoot::new();
    let opened = root.open();
    let inventory = Inventory::new(opened.data_dir(), &Survey::read(&opened)).unwrap();
    assert_eq!(
        (inventory.images.len(), inventory.containers.len()),
        (30, 5)
    );
    assert_eq!(
        (
            inventory.nr_image_layers,
            inventory.nr_aufs_layers,
            inventory.nr_volumes
        ),
        (20, 30, 3)
    );
    assert!(
        inventory.problems.is_empty()
            && inventory.orphans.is_empty()
            && !inventory.has_devicemapper
    );
    assert!(inventory.buildkit && inventory.nr_buildkit_layers == 0);
    let names: Vec<_> = inventory
        .images
        .iter()
        .flat_map(|image| &image.references)
        .map(ToString::to_string)
        .collect();
    let expected = [
        "lab/app:1",
        "lab/app:2",
        "lab/base:1",
        "lab/committed:1",
        "lab/tool:1",
        "lab/tool:latest",
    ];
    assert_eq!(names, expected);
    assert_eq!(inventory.images[0].id.file_name(), APP_1);
    let names: Vec<_> = inventory
        .containers
        .iter()
        .map(|container| container.name.as_str())
        .collect();
    assert_eq!(
        names,
        [
            "bindy",
            "live",
            "never-started",
            "shop_web_1",
            "shop_worker_1"
        ]
    );
    assert_eq!(inventory.containers[2].status, Status::Created);
    assert!(
        inventory
            .containers
            .iter()
            .all(|container| container.converted)
    );
}

#[test]
fn the_inventorys_field_names_are_stable() {
    let root = SmallRoot::new();
    let opened = root.open();
    let inventory = Inventory::new(opened.data_dir(), &Survey::read(&opened)).unwrap();
    let json = serde_json::to_value(&inventory).unwrap();
    let keys = |value: &Value| {
        value
            .as_object()
            .unwrap()
            .keys()
            .cloned()
            .collect::<Vec<_>>()
            .join(" ")
    };
    assert_eq!(
        keys(&json),
        "buildkit containers docker_versions driver has_devicemapper image_layer_bytes images layout nr_aufs_layers \
         nr_buildkit_layers nr_image_layers nr_volumes orphans owner problems remapped_roots root warnings"
    );
    assert_eq!(keys(&json["images"][0]), "bytes id nr_layers references");
    assert_eq!(
        keys(&json["containers"][0]),
        "converted driver id image image_name name restart status"
    );
}

#[test]
fn a_remapped_root_is_found_below_and_opened_by_itself() {
    let root = SmallRoot::new();
    let inner = root.at("100000.100001");
    fs::create_dir_all(inner.join("image/aufs/layerdb")).unwrap();
    fs::create_dir_all(inner.join("image/aufs/imagedb/content/sha256")).unwrap();
    fs::create_dir_all(inner.join("aufs/layers")).unwrap();
    fs::create_dir_all(inner.join("aufs/diff")).unwrap();
    assert_eq!(root.open().owner(), Owner { uid: 0, gid: 0 });
    let below = root.open().remapped_roots().unwrap();
    assert_eq!(below.len(), 1);
    let inner = Root::open(&below[0]).unwrap();
    assert_eq!(
        inner.owner(),
        Owner {
            uid: 100_000,
            gid: 100_001
        }
    );
    let model = Survey::read(&inner).into_model(Orphans::Convert).unwrap();
    assert!(model.images.is_empty() && model.aufs.is_empty());
}

#[test]
fn the_root_and_aufs_may_be_links() {
    let root = SmallRoot::new();
    fs::rename(root.at("aufs"), root.path.with_file_name("elsewhere")).unwrap();
    root.link("../elsewhere", "aufs");
    let link = root.path.with_file_name("link");
    std::os::unix::fs::symlink(&root.path, &link).unwrap();
    let opened = Root::open(&link).unwrap();
    assert_eq!(opened.path(), root.path.canonicalize().unwrap());
    let model = Survey::read(&opened).into_model(Orphans::Convert).unwrap();
    assert!(
        model
            .aufs
            .iter()
            .all(|layer| opened.branch(&layer.id).is_dir())
    );
}
