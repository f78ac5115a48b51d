//! Half-made and old things in Docker roots: what is an orphan, and what is only worth a warning.

#![allow(clippy::unwrap_used)] // a panic is how a test fails

use std::collections::BTreeMap;
use std::fs;

use aufs2dm::docker::{ContainerId, Model, OrphanReason, Orphans, Use, Warning};
use sha2::{Digest, Sha256};

use super::root::{APP_1, Layers, SmallRoot, WEB};

/// A layer that no store names, on `parent`.
fn add_layer(root: &SmallRoot, id: &str, parent: Option<&str>) {
    let list = match parent {
        None => String::new(),
        Some(parent) => format!("{parent}\n{}", root.read(&format!("aufs/layers/{parent}"))),
    };
    root.write(&format!("aufs/layers/{id}"), list);
    fs::create_dir(root.at(&format!("aufs/diff/{id}"))).unwrap();
}

fn orphans(model: &Model) -> BTreeMap<String, OrphanReason> {
    let orphans = model
        .aufs
        .iter()
        .filter_map(|layer| Some((layer.id.to_string(), layer.orphan?)));
    orphans.collect()
}

#[test]
fn layers_that_nothing_names_are_orphans_unless_something_stands_on_them() {
    const BUILD: &str = "z889rt0gumm9yu7x8couv1wlu";
    let root = SmallRoot::new();
    let (leak, below, init) = (
        "1".repeat(64),
        "2".repeat(64),
        format!("{}-init", "3".repeat(64)),
    );
    add_layer(&root, &leak, None);
    add_layer(&root, &below, None);
    add_layer(&root, BUILD, Some(&below));
    add_layer(&root, &init, Some(&leak));
    let model = root.survey().into_model(Orphans::Convert).unwrap();
    let unreferenced = (leak.clone(), OrphanReason::Unreferenced);
    let expected = BTreeMap::from([
        unreferenced,
        (init.clone(), OrphanReason::InitWithoutContainer),
    ]);
    assert_eq!(orphans(&model), expected);
    assert_eq!(model.aufs.len(), 34);
    let build = model
        .aufs
        .iter()
        .find(|layer| layer.id.as_str() == BUILD)
        .unwrap();
    assert_eq!(build.uses, [Use::BuildKit]);

    let model = root.survey().into_model(Orphans::LeaveOut).unwrap();
    assert_eq!(model.aufs.len(), 32);
    for (place, layer) in model.aufs.iter().enumerate() {
        assert_eq!(model.place_of(&layer.id), Some(place));
        assert!(layer.parent.is_none_or(|parent| parent < place));
    }

    root.remove("buildkit/snapshots.db");
    let model = root.survey().into_model(Orphans::Convert).unwrap();
    assert_eq!(orphans(&model)[BUILD], OrphanReason::NoBuildCache);
    assert_eq!(orphans(&model).len(), 4);
}

#[test]
fn damage_that_hits_nothing_is_a_warning_when_orphans_are_left_out() {
    let root = SmallRoot::new();
    let (a, b) = ("1".repeat(64), "2".repeat(64));
    add_layer(&root, &a, None);
    add_layer(&root, &b, Some(&a));
    root.write(&format!("aufs/layers/{a}"), format!("{b}\n"));
    assert!(
        root.problems()
            .iter()
            .all(|problem| problem.contains("no image or container uses it"))
    );
    let model = root.survey().into_model(Orphans::LeaveOut).unwrap();
    assert_eq!(model.aufs.len(), 30);
    assert_eq!(
        model
            .warnings
            .iter()
            .filter(|warning| warning.code() == "unused-damage")
            .count(),
        2
    );

    root.write(&format!("containers/{WEB}/config.v2.json"), "");
    let model = root.survey().into_model(Orphans::LeaveOut).unwrap();
    let left_out: Vec<_> = model
        .left_out
        .containers
        .iter()
        .map(ContainerId::as_str)
        .collect();
    assert_eq!(left_out, [WEB]);
}

#[test]
fn interrupted_work_is_worth_a_warning() {
    let root = SmallRoot::new();
    let (gone, half, mount) = ("1".repeat(64), "2".repeat(64), "3".repeat(64));
    root.write(&format!("aufs/layers/{gone}"), "");
    fs::create_dir(root.at(&format!("aufs/diff/{half}"))).unwrap();
    fs::create_dir(root.at(&format!("aufs/diff/{half}-removing"))).unwrap();
    fs::create_dir(root.at(&format!("aufs/mnt/{half}-removing"))).unwrap();
    fs::create_dir(root.at(&format!("containers/{gone}"))).unwrap();
    root.write(&format!("image/aufs/layerdb/mounts/{mount}/mount-id"), "");
    fs::create_dir_all(root.at("image/aufs/layerdb/tmp/write-set-12")).unwrap();
    fs::create_dir(root.at("image/aufs/layerdb/sha256/not-hex")).unwrap();
    assert_eq!(root.problems(), Vec::<String>::new());
    let model = root.survey().into_model(Orphans::Convert).unwrap();
    assert_eq!(model.aufs.len(), 30);
    let mut codes: Vec<_> = model.warnings.iter().map(Warning::code).collect();
    codes.sort_unstable();
    assert_eq!(
        codes,
        [
            "container-without-config",
            "interrupted",
            "interrupted",
            "leftover",
            "leftover",
            "leftover",
            "leftover",
            "leftover"
        ]
    );
}

#[test]
fn a_layer_whose_deletion_was_under_way_is_not_converted() {
    let root = SmallRoot::new();
    let (removed, below) = ("1".repeat(64), "2".repeat(64));
    add_layer(&root, &removed, None);
    add_layer(&root, &below, None);
    add_layer(&root, "z889rt0gumm9yu7x8couv1wlu", Some(&below));
    let store = format!("image/aufs/layerdb/sha256/{}", "a".repeat(64));
    root.write(&format!("{store}-12-removing/cache-id"), &removed);
    root.write(&format!("{store}-34-removing/cache-id"), &below);
    let model = root.survey().into_model(Orphans::Convert).unwrap();
    let has = |id: &str| model.aufs.iter().any(|layer| layer.id.as_str() == id);
    assert!(!has(&removed) && has(&below));
}

#[test]
fn images_that_docker_does_not_show_are_warned_of() {
    let root = SmallRoot::new();
    let path = format!("image/aufs/imagedb/content/sha256/{APP_1}");
    let config = root.read(&path);
    root.write(&path, format!("{config} "));
    let warnings = root.warnings();
    assert_eq!(warnings.len(), 1);
    assert!(warnings[0].starts_with(&format!(
        "image sha256:{APP_1}: its config does not match its digest"
    )));

    root.remove(&path);
    let warnings = root.warnings();
    assert!(
        warnings
            .iter()
            .any(|warning| warning.starts_with("lab/app:1: refers to image sha256:bd31"))
    );
    assert!(
        warnings
            .iter()
            .any(|warning| warning.contains("is missing, but its layers are there"))
    );
    root.remove("image/aufs/repositories.json");
    assert!(
        root.warnings()
            .contains(&"repositories.json: is missing, so no image has a name".to_owned())
    );
    assert_eq!(root.problems(), Vec::<String>::new());
}

#[test]
fn layers_missing_only_tar_split_are_converted() {
    let root = SmallRoot::new();
    let chain = Layers::of(&root).top.0;
    root.remove(&format!(
        "image/aufs/layerdb/sha256/{chain}/tar-split.json.gz"
    ));
    let expected = format!(
        "layer sha256:{chain}: has no tar-split.json.gz, so docker save and push fail for it"
    );
    assert_eq!(root.warnings(), [expected]);
    assert_eq!(root.problems(), Vec::<String>::new());
}

/// Adds a container of an image without layers, as Docker 20.10 writes it.
fn add_zero_layer_container(root: &SmallRoot) -> String {
    let config =
        r#"{"architecture":"amd64","config":{"Labels":{"a":"b"}},"rootfs":{"type":"layers"}}"#;
    let image = format!("{:x}", Sha256::digest(config));
    root.write(
        &format!("image/aufs/imagedb/content/sha256/{image}"),
        config,
    );
    let (id, mount) = ("c".repeat(64), "d".repeat(64));
    root.write(&format!("image/aufs/layerdb/mounts/{id}/mount-id"), &mount);
    root.write(
        &format!("image/aufs/layerdb/mounts/{id}/init-id"),
        format!("{mount}-init"),
    );
    add_layer(root, &format!("{mount}-init"), None);
    add_layer(root, &mount, Some(&format!("{mount}-init")));
    let config =
        format!(r#"{{"ID":"{id}","Name":"/empty","Image":"sha256:{image}","State":{{}}}}"#);
    root.write(&format!("containers/{id}/config.v2.json"), config);
    id
}

#[test]
fn an_image_without_layers_and_its_container_are_sound() {
    let root = SmallRoot::new();
    let id = add_zero_layer_container(&root);
    let model = root.survey().into_model(Orphans::Convert).unwrap();
    let id = ContainerId::parse(id.as_bytes()).unwrap();
    assert_eq!(model.mounts[&id].parent, None);
    assert!(
        model.containers[&id].is_aufs(),
        "a missing driver means aufs"
    );
    assert!(
        model
            .images
            .values()
            .any(|image| image.top.is_none() && image.nr_layers == 0)
    );
    assert_eq!(root.warnings(), Vec::<String>::new());
}

#[test]
fn a_mount_without_an_init_layer_is_sound() {
    let root = SmallRoot::new();
    let id = add_zero_layer_container(&root);
    root.remove(&format!("image/aufs/layerdb/mounts/{id}/init-id"));
    root.write(&format!("aufs/layers/{}", "d".repeat(64)), "");
    assert_eq!(root.problems(), Vec::<String>::new());
}

#[test]
fn containers_that_change_by_themselves_are_warned_of() {
    let root = SmallRoot::new();
    let path = format!("containers/{WEB}/config.v2.json");
    let config = root.read(&path);
    root.write(
        &path,
        config.replace(r#""Driver":"aufs""#, r#""Driver":"overlay2""#),
    );
    assert!(root.warnings()[0].contains("belongs to driver \"overlay2\", so it stays invisible"));
    root.write(
        &path,
        config.replace(r#""Driver":"aufs""#, r#""Driver":"devicemapper""#),
    );
    assert!(root.warnings()[0].contains("becomes visible again"));
    root.write(
        &path,
        config.replace(r#""Running":false"#, r#""Running":true"#),
    );
    assert!(root.warnings()[0].contains("was running when Docker was killed"));
    root.write(&path, &config);

    let host = format!("containers/{WEB}/hostconfig.json");
    let host_config = root.read(&host);
    root.write(
        &host,
        host_config.replace(r#""Name":"no""#, r#""Name":"always""#),
    );
    assert!(root.warnings()[0].contains("Docker's first start starts it (restart policy always)"));
    root.write(
        &host,
        host_config.replace(r#""AutoRemove":false"#, r#""AutoRemove":true"#),
    );
    assert!(root.warnings()[0].contains("Docker's first start removes it"));
    root.write(&host, host_config);
    root.write(&format!("containers/{WEB}/checkpoints/one/x"), "");
    assert!(root.warnings()[0].contains("its checkpoints are not expected to work"));
}

#[test]
fn layers_on_a_second_build_of_the_same_layer_are_kept_as_they_stand() {
    const SECOND: &str = "z889rt0gumm9yu7x8couv1wlu";
    let root = SmallRoot::new();
    let layers = Layers::of(&root);
    // The second build's layer stands beside the one in the store, on the same parent.
    add_layer(&root, SECOND, Some(&layers.grandparent.1));
    for entry in fs::read_dir(root.at("aufs/layers")).unwrap() {
        let path = entry.unwrap().path();
        let list = fs::read_to_string(&path).unwrap();
        fs::write(&path, list.replace(&layers.parent.1, SECOND)).unwrap();
    }
    assert_eq!(root.problems(), Vec::<String>::new());
    let expected = format!(
        "aufs layer {}: is based on BuildKit's {SECOND}, not on the same layer in the image store",
        layers.top.1
    );
    assert!(
        root.warnings().contains(&expected),
        "{:#?}",
        root.warnings()
    );
}

#[test]
fn a_root_of_thousands_of_layers_is_read_whole() {
    let root = SmallRoot::new();
    let mut list = String::new();
    for number in 0..3000 {
        let id = format!("{number:064x}");
        root.write(&format!("aufs/layers/{id}"), &list);
        fs::create_dir(root.at(&format!("aufs/diff/{id}"))).unwrap();
        // Chains of a hundred, a little below Docker's own limit.
        list = if number % 100 == 99 {
            String::new()
        } else {
            format!("{id}\n{list}")
        };
    }
    let model = root.survey().into_model(Orphans::Convert).unwrap();
    assert_eq!(model.aufs.len(), 3030);
    assert!(
        model
            .aufs
            .iter()
            .enumerate()
            .all(|(place, layer)| layer.parent.is_none_or(|parent| parent < place))
    );
}

#[test]
fn what_old_versions_left_behind_counts_as_used() {
    let root = SmallRoot::new();
    let (image, container) = ("1".repeat(64), "2".repeat(64));
    let init = format!("{container}-init");
    add_layer(&root, &image, None);
    add_layer(&root, &init, Some(&image));
    add_layer(&root, &container, Some(&init));
    fs::create_dir_all(root.at(&format!("graph/{image}"))).unwrap();
    let config = format!(r#"{{"ID":"{container}","Name":"/old","Driver":"aufs","State":{{}}}}"#);
    root.write(&format!("containers/{container}/config.json"), config);
    let model = root.survey().into_model(Orphans::LeaveOut).unwrap();
    let uses = |id: &str| {
        model
            .aufs
            .iter()
            .find(|layer| layer.id.as_str() == id)
            .map(|layer| &layer.uses[..])
    };
    let old = ContainerId::parse(container.as_bytes()).unwrap();
    assert_eq!(uses(&image), Some(&[Use::Graph][..]));
    assert_eq!(uses(&init), Some(&[Use::LegacyContainer(old.clone())][..]));
    assert_eq!(model.containers[&old].configs, ["config.json"]);
    let codes: Vec<_> = model.warnings.iter().map(Warning::code).collect();
    assert_eq!(codes, ["container-not-migrated"]);

    root.remove(&format!("aufs/diff/{container}"));
    let problems = root.problems();
    assert!(
        problems[0].contains(&format!("affects container old ({container})")),
        "{problems:#?}"
    );
}

#[test]
fn a_container_in_the_middle_of_its_deletion_may_lack_its_layers() {
    let root = SmallRoot::new();
    let path = format!("containers/{WEB}/config.v2.json");
    let rw = root.read(&format!("image/aufs/layerdb/mounts/{WEB}/mount-id"));
    root.remove(&format!("aufs/layers/{rw}"));
    root.remove(&format!("aufs/diff/{rw}"));
    assert!(root.problems()[0].contains("container shop_web_1"));
    let config = root.read(&path);
    root.write(
        &path,
        config.replace(
            r#""RemovalInProgress":false"#,
            r#""RemovalInProgress":true"#,
        ),
    );
    assert_eq!(root.problems(), Vec::<String>::new());
    let model = root.survey().into_model(Orphans::Convert).unwrap();
    assert_eq!(
        model
            .warnings
            .iter()
            .filter(|warning| warning.code() == "interrupted")
            .count(),
        1
    );
}
