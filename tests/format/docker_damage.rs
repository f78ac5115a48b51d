//! Damaged and half-made Docker roots: what is refused, what it names, and what is only worth a warning.

#![allow(clippy::unwrap_used)] // a panic is how a test fails

use std::collections::BTreeMap;
use std::fs;

use aufs2dm::docker::{ContainerId, Model, OrphanReason, Orphans, Use};
use sha2::{Digest, Sha256};

use crate::docker_root::{APP_1, SmallRoot, WEB};

/// The top layer of `lab/app:1`, and the two below it: chain id and aufs layer.
struct Layers {
    top: (String, String),
    parent: (String, String),
    grandparent: (String, String),
}

impl Layers {
    fn of(root: &SmallRoot) -> Self {
        let model = root.survey().into_model(Orphans::Convert).unwrap();
        let (_, image) = model
            .images
            .iter()
            .find(|(id, _)| id.file_name() == APP_1)
            .unwrap();
        let names = |chain| {
            let layer: &aufs2dm::docker::Layer = &model.layers[&chain];
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

/// The mount of `shop_web_1`: writable and init layer.
fn web_mount(root: &SmallRoot) -> (String, String) {
    let read = |name| root.read(&format!("image/aufs/layerdb/mounts/{WEB}/{name}"));
    (read("mount-id"), read("init-id"))
}

#[track_caller]
fn assert_one(problems: &[String], start: &str, hit: &str) {
    assert_eq!(problems.len(), 1, "{problems:#?}");
    assert!(
        problems[0].starts_with(start),
        "{}\nshould start with\n{start}",
        problems[0]
    );
    assert!(
        problems[0].contains(hit),
        "{}\nshould contain\n{hit}",
        problems[0]
    );
}

fn app_1() -> String {
    format!("image lab/app:1 (sha256:{APP_1})")
}

#[test]
fn a_zero_byte_file_of_a_layer_names_the_image() {
    for file in ["cache-id", "diff", "parent", "size", "tar-split.json.gz"] {
        let root = SmallRoot::new();
        let path = format!(
            "image/aufs/layerdb/sha256/{}/{file}",
            Layers::of(&root).top.0
        );
        root.write(&path, "");
        assert_one(
            &root.problems(),
            &format!("{path}: is empty (hits "),
            &app_1(),
        );
    }
}

#[test]
fn a_missing_file_of_a_layer_names_the_image() {
    for file in ["cache-id", "diff", "size"] {
        let root = SmallRoot::new();
        let path = format!(
            "image/aufs/layerdb/sha256/{}/{file}",
            Layers::of(&root).top.0
        );
        root.remove(&path);
        assert_one(
            &root.problems(),
            &format!("{path}: is missing (hits "),
            &app_1(),
        );
    }
}

#[test]
fn damage_to_a_lower_layer_hits_all_above_it() {
    let root = SmallRoot::new();
    let chain = Layers::of(&root).grandparent.0;
    root.write(&format!("image/aufs/layerdb/sha256/{chain}/cache-id"), "");
    let problems = root.problems();
    assert_one(&problems, "image/aufs/layerdb", "hits image lab/app:1");
    assert!(
        problems[0].contains("lab/app:2") && problems[0].contains(" more)"),
        "{}",
        problems[0]
    );
}

#[test]
fn hostile_ids_name_their_file() {
    for (text, shown) in [
        (
            "../../../etc",
            r#""../../../etc": holds byte 0x2f, which no layer id may hold"#,
        ),
        ("a\0b", "holds byte 0x00"),
        (
            ".",
            r#""\.": is a name that the devicemapper driver keeps for itself"#,
        ),
        (
            "base",
            r#""base": is a name that the devicemapper driver keeps for itself"#,
        ),
        (
            &"x".repeat(256),
            "is 256 bytes long, above the 255 of a file name",
        ),
    ] {
        let root = SmallRoot::new();
        let path = format!(
            "image/aufs/layerdb/sha256/{}/cache-id",
            Layers::of(&root).top.0
        );
        root.write(&path, text);
        let problems = root.problems();
        assert_one(&problems, &format!("{path}: "), &shown.replace("\\.", "."));
        assert!(problems[0].contains(&app_1()));
    }
}

#[test]
fn ids_of_the_wrong_kind_name_their_file() {
    for (path, text, shown) in [
        ("layerdb/sha256/TOP/diff", "../x", "is not a sha256 digest"),
        (
            "layerdb/sha256/TOP/parent",
            "sha256:ABC",
            "is not a sha256 digest",
        ),
        ("layerdb/sha256/TOP/size", "big", "is not a number"),
        (
            "layerdb/mounts/WEB/mount-id",
            "../x",
            "is not 64 hexadecimal digits with or without -init",
        ),
        (
            "layerdb/mounts/WEB/init-id",
            "z889rt0gumm9yu7x8couv1wlu",
            "is not 64 hexadecimal digits",
        ),
        ("layerdb/mounts/WEB/parent", "x", "is not a sha256 digest"),
        ("layerdb/mounts/WEB/mount-id", "", "is empty"),
        ("layerdb/mounts/WEB/init-id", "\n", "is empty"),
    ] {
        let root = SmallRoot::new();
        let path = format!(
            "image/aufs/{}",
            path.replace("TOP", &Layers::of(&root).top.0)
                .replace("WEB", WEB)
        );
        root.write(&path, text);
        let hit = if path.contains("mounts") {
            format!("container shop_web_1 ({WEB})")
        } else {
            app_1()
        };
        let problems = root.problems();
        assert_one(&problems, &format!("{path}: "), shown);
        assert!(problems[0].contains(&hit), "{}", problems[0]);
    }
}

#[test]
fn a_missing_layer_of_the_store_is_named_by_its_child() {
    let root = SmallRoot::new();
    let layers = Layers::of(&root);
    root.remove(&format!("image/aufs/layerdb/sha256/{}", layers.parent.0));
    let start = format!(
        "image/aufs/layerdb/sha256/{}/parent: layer sha256:{} is missing",
        layers.top.0, layers.parent.0
    );
    let problems = root.problems();
    assert!(
        problems
            .iter()
            .any(|problem| problem.starts_with(&start) && problem.contains(&app_1())),
        "{problems:#?}"
    );
}

#[test]
fn a_layer_with_another_layers_diff_is_found_out() {
    let root = SmallRoot::new();
    let layers = Layers::of(&root);
    let store = "image/aufs/layerdb/sha256";
    let diff = root.read(&format!("{store}/{}/diff", layers.parent.0));
    root.write(&format!("{store}/{}/diff", layers.top.0), diff);
    assert_one(
        &root.problems(),
        &format!("{store}/{}: its diff and parent make sha256:", layers.top.0),
        &app_1(),
    );
}

#[test]
fn a_missing_branch_names_the_image() {
    let root = SmallRoot::new();
    let id = Layers::of(&root).top.1;
    root.remove(&format!("aufs/diff/{id}"));
    assert_one(
        &root.problems(),
        &format!("aufs/diff/{id}: the branch directory is missing"),
        &app_1(),
    );
}

#[test]
fn a_branch_that_is_a_link_is_refused() {
    let root = SmallRoot::new();
    let id = Layers::of(&root).top.1;
    root.remove(&format!("aufs/diff/{id}"));
    root.link("/etc", &format!("aufs/diff/{id}"));
    assert_one(
        &root.problems(),
        &format!("aufs/diff/{id}: is a symbolic link"),
        &app_1(),
    );
}

#[test]
fn a_missing_parent_list_is_named_by_all_who_name_the_layer() {
    let root = SmallRoot::new();
    let layers = Layers::of(&root);
    let id = &layers.parent.1;
    root.remove(&format!("aufs/layers/{id}"));
    let problems = root.problems();
    let store = format!(
        "image/aufs/layerdb/sha256/{}/cache-id: aufs layer {id} is missing",
        layers.parent.0
    );
    let child = format!("aufs/layers/{}: parent {id} is missing", layers.top.1);
    for start in [store, child] {
        let found = problems.iter().find(|problem| problem.starts_with(&start));
        assert!(
            found
                .unwrap_or_else(|| panic!("{problems:#?}"))
                .contains(&app_1())
        );
    }
}

#[test]
fn a_circle_of_parents_is_named() {
    let root = SmallRoot::new();
    let layers = Layers::of(&root);
    root.write(
        &format!("aufs/layers/{}", layers.grandparent.1),
        format!("{}\n", layers.top.1),
    );
    let problems = root.problems();
    let circle: Vec<_> = problems
        .iter()
        .filter(|problem| problem.contains("lead back to itself"))
        .collect();
    assert_eq!(circle.len(), 3, "{problems:#?}");
    assert!(circle.iter().all(|problem| problem.contains(&app_1())));
}

#[test]
fn a_layer_that_is_its_own_parent_is_named() {
    let root = SmallRoot::new();
    let (rw, _) = web_mount(&root);
    root.write(&format!("aufs/layers/{rw}"), format!("{rw}\n"));
    let problems = root.problems();
    assert!(problems.iter().any(|problem| {
        problem.starts_with(&format!(
            "aufs/layers/{rw}: its parents lead back to itself"
        )) && problem.contains("container shop_web_1")
    }));
}

#[test]
fn a_parent_list_that_leaves_its_parents_way_is_refused() {
    let root = SmallRoot::new();
    let (rw, _) = web_mount(&root);
    let path = format!("aufs/layers/{rw}");
    let list = root.read(&path);
    let mut lines: Vec<_> = list.lines().collect();
    lines.swap(2, 3);
    root.write(&path, lines.join("\n"));
    assert_one(
        &root.problems(),
        &format!("{path}: does not continue with the list of parent"),
        "container shop_web_1",
    );
}

#[test]
fn blank_lines_in_a_parent_list_mean_nothing() {
    let root = SmallRoot::new();
    let (rw, _) = web_mount(&root);
    let path = format!("aufs/layers/{rw}");
    let list = root.read(&path);
    root.write(&path, format!("\n{}", list.replace('\n', "\n\n")));
    assert_eq!(root.problems(), Vec::<String>::new());
}

#[test]
fn a_container_on_another_image_than_the_store_says_is_refused() {
    let root = SmallRoot::new();
    let (_, init) = web_mount(&root);
    let path = format!("aufs/layers/{init}");
    let list = root.read(&path);
    let (top, rest) = list.split_once('\n').unwrap();
    root.write(&path, rest);
    let (rw, _) = web_mount(&root);
    root.write(&format!("aufs/layers/{rw}"), format!("{init}\n{rest}"));
    let start = format!(
        "{path}: stands on {}, not on {top}",
        rest.lines().next().unwrap()
    );
    assert_one(&root.problems(), &start, "container shop_web_1");
}

#[test]
fn parent_lists_of_odd_kinds_and_names_are_refused() {
    let root = SmallRoot::new();
    let id = Layers::of(&root).top.1;
    let path = format!("aufs/layers/{id}");
    root.remove(&path);
    root.link("/etc/passwd", &path);
    assert_one(
        &root.problems(),
        &format!("{path}: is a symbolic link"),
        &app_1(),
    );
    let root = SmallRoot::new();
    root.write("aufs/layers/with space", "");
    assert_one(
        &root.problems(),
        "aufs/layers/with space: the name: holds byte 0x20",
        "no image or container uses it",
    );
    let root = SmallRoot::new();
    root.write(&path, "../../etc\n");
    let problems = root.problems();
    assert!(
        problems[0].starts_with(&format!("{path}: \"../../etc\": holds byte 0x2f")),
        "{problems:#?}"
    );
}

#[test]
fn unreadable_json_names_its_file_and_victim() {
    let config = format!("containers/{WEB}/config.v2.json");
    let host_config = format!("containers/{WEB}/hostconfig.json");
    let image = format!("image/aufs/imagedb/content/sha256/{APP_1}");
    for (path, hit) in [
        (config.as_str(), "shop_web_1"),
        (&host_config, WEB),
        (&image, "lab/app:1"),
        ("image/aufs/repositories.json", "hits the whole root"),
    ] {
        for damage in ["", "{", "{\"a\":1}}", "\0\0\0\0"] {
            let root = SmallRoot::new();
            root.write(path, damage);
            let shown = if damage.is_empty() {
                "is empty"
            } else {
                "is not JSON at byte"
            };
            let hit = if hit == "shop_web_1" { WEB } else { hit };
            assert_one(&root.problems(), &format!("{path}: {shown}"), hit);
        }
    }
}

#[test]
fn links_in_the_stores_are_not_followed() {
    let config = format!("containers/{WEB}/config.v2.json");
    let mount = format!("image/aufs/layerdb/mounts/{WEB}/mount-id");
    for path in [config.as_str(), &mount, "image/aufs/repositories.json"] {
        let root = SmallRoot::new();
        let outside = root.path.with_file_name("outside");
        fs::copy(root.at(path), &outside).unwrap();
        root.remove(path);
        root.link(outside.to_str().unwrap(), path);
        assert_one(
            &root.problems(),
            &format!("{path}: is a symbolic link, not a regular file"),
            "hits ",
        );
    }
    let root = SmallRoot::new();
    fs::rename(root.at("containers"), root.path.with_file_name("outside")).unwrap();
    root.link("../outside", "containers");
    let problems = root.problems();
    assert_one(
        &problems,
        "containers: is a symbolic link, not a directory",
        "hits the whole root",
    );
}

#[test]
fn all_problems_are_found_in_one_pass() {
    let root = SmallRoot::new();
    let layers = Layers::of(&root);
    root.write(
        &format!("image/aufs/layerdb/sha256/{}/cache-id", layers.top.0),
        "",
    );
    root.write(
        &format!("image/aufs/layerdb/sha256/{}/size", layers.top.0),
        "",
    );
    root.write(&format!("containers/{WEB}/config.v2.json"), "");
    root.write("image/aufs/repositories.json", "[]");
    assert_eq!(root.problems().len(), 4);
}

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
            .all(|problem| problem.contains("--skip-orphans leaves it out"))
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
    assert!(root.survey().into_model(Orphans::LeaveOut).is_err());
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
    let mut codes: Vec<_> = model
        .warnings
        .iter()
        .map(aufs2dm::docker::Warning::code)
        .collect();
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
            .any(|warning| warning.starts_with("lab/app:1: stands for image sha256:bd31"))
    );
    assert!(
        warnings
            .iter()
            .any(|warning| warning.contains("is gone, its layers are there"))
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
    assert!(root.warnings()[0].contains("belongs to driver \"overlay2\", stays invisible"));
    root.write(
        &path,
        config.replace(r#""Driver":"aufs""#, r#""Driver":"devicemapper""#),
    );
    assert!(root.warnings()[0].contains("comes back to life"));
    root.write(
        &path,
        config.replace(r#""Running":false"#, r#""Running":true"#),
    );
    assert!(root.warnings()[0].contains("ran when Docker was killed"));
    root.write(&path, &config);

    let host = format!("containers/{WEB}/hostconfig.json");
    let host_config = root.read(&host);
    root.write(
        &host,
        host_config.replace(r#""Name":"no""#, r#""Name":"always""#),
    );
    assert!(
        root.warnings()[0].contains("starts with Docker's first start (restart policy always)")
    );
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
        "aufs layer {}: stands on BuildKit's {SECOND}, not on the same layer in the image store",
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
