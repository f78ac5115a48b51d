//! Damaged Docker roots: what is refused, and which image or container the refusal names.

#![allow(clippy::unwrap_used)] // a panic is how a test fails

use std::fs;

use aufs2dm::docker::{Class, Error, Orphans, Root};

use super::root::{APP_1, Layers, SmallRoot, WEB};

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
    for (file, class, consequence) in [
        ("cache-id", Class::Rebuilt, ""),
        ("diff", Class::Rebuilt, ""),
        ("parent", Class::Rebuilt, ""),
        ("size", Class::Rebuilt, ""),
        (
            "tar-split.json.gz",
            Class::Kept,
            ", so docker save and push fail for it",
        ),
    ] {
        let root = SmallRoot::new();
        let path = format!(
            "image/aufs/layerdb/sha256/{}/{file}",
            Layers::of(&root).top.0
        );
        root.write(&path, "");
        assert_one(
            &root.problems(),
            &format!("{path}: is empty{consequence} (affects "),
            &app_1(),
        );
        assert_eq!(root.classes(), [class], "{file}");
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
            &format!("{path}: is missing (affects "),
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
    assert_one(&problems, "image/aufs/layerdb", "affects image lab/app:1");
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
            r#""../../../etc": contains byte 0x2f, which no layer id may contain"#,
        ),
        ("a\0b", "contains byte 0x00"),
        (
            ".",
            r#""\.": is a name that the devicemapper driver reserves"#,
        ),
        (
            "base",
            r#""base": is a name that the devicemapper driver reserves"#,
        ),
        (
            &"x".repeat(256),
            "is 256 bytes long, more than the 255 of a file name",
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
fn a_missing_layer_of_the_store_is_rebuilt_from_its_child_or_named_by_it() {
    let root = SmallRoot::new();
    let layers = Layers::of(&root);
    root.remove(&format!("image/aufs/layerdb/sha256/{}", layers.parent.0));
    let start = format!("image/aufs/layerdb/sha256/{}: is missing", layers.parent.0);
    assert_one(&root.problems(), &start, &app_1());
    assert_eq!(root.classes(), [Class::Rebuilt]);

    // Nothing says which layer of aufs it was if the list above it is lost too.
    root.write(&format!("aufs/layers/{}", layers.top.1), "");
    let start = format!(
        "image/aufs/layerdb/sha256/{}/parent: layer sha256:{} is missing",
        layers.top.0, layers.parent.0
    );
    let problems = root.problems();
    let is_named = |problem: &String| problem.starts_with(&start) && problem.contains(&app_1());
    assert!(problems.iter().any(is_named), "{problems:#?}");
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
        &format!(
            "{store}/{}: its diff and parent yield sha256:",
            layers.top.0
        ),
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
fn a_missing_parent_list_is_rebuilt_from_the_store() {
    let root = SmallRoot::new();
    let layers = Layers::of(&root);
    let id = &layers.parent.1;
    root.remove(&format!("aufs/layers/{id}"));
    let start = format!("aufs/layers/{id}: is missing");
    assert_one(&root.problems(), &start, &app_1());
    assert_eq!(root.classes(), [Class::Rebuilt]);
    let model = root.survey().into_model(Orphans::Convert).unwrap();
    assert_eq!(model.aufs.len(), 30);

    // Without its branch, there is no such layer any more.
    root.remove(&format!("aufs/diff/{id}"));
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
        "{path}: is based on {}, not on {top}",
        rest.lines().next().unwrap()
    );
    assert_one(&root.problems(), &start, "container shop_web_1");
}

#[test]
fn parent_lists_of_odd_kinds_are_rebuilt_and_odd_names_passed_over() {
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
    assert_eq!(root.classes(), [Class::Rebuilt]);
    let root = SmallRoot::new();
    root.write("aufs/layers/with space", "");
    assert_eq!(root.problems(), Vec::<String>::new());
    let told = "aufs/layers/with space: is not something that Docker puts there";
    assert!(
        root.warnings().iter().any(|text| text.starts_with(told)),
        "{:#?}",
        root.warnings()
    );
    let root = SmallRoot::new();
    root.write(&path, "../../etc\n");
    let problems = root.problems();
    assert!(
        problems[0].starts_with(&format!("{path}: \"../../etc\": contains byte 0x2f")),
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
        ("image/aufs/repositories.json", "affects the whole root"),
    ] {
        for damage in ["", "{", "{\"a\":1}}", "\0\0\0\0"] {
            let root = SmallRoot::new();
            root.write(path, damage);
            // Docker's decoder reads one value and stops, except for images.
            if damage == "{\"a\":1}}" && path != image {
                assert_eq!(root.problems(), Vec::<String>::new(), "{path}");
                continue;
            }
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
            "affects ",
        );
    }
    let root = SmallRoot::new();
    fs::rename(root.at("containers"), root.path.with_file_name("outside")).unwrap();
    root.link("../outside", "containers");
    let error = Root::open(&root.path).unwrap_err();
    assert!(
        matches!(&error, Error::LinkedPart { path, .. } if path.ends_with("containers")),
        "{error}"
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
