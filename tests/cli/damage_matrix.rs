//! Every kind of damage, and what each command makes of it.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use serde_json::Value;

use super::run::{Tool, small_root};
use super::support::damages::{DamageKind, Fate, damageable_root, kinds};
use super::support::root::{AufsRoot, container_id};
use super::support::trace::{assert_same, contents};

const IMAGES: [&str; 4] = ["lab/app:1", "lab/base:1", "lab/empty:1", "lab/leaf:1"];
const CONTAINERS: [&str; 2] = ["db", "web"];

/// A root with one kind of damage.
struct Case {
    kind: DamageKind,
    tool: Tool,
    root: AufsRoot,
}

impl Case {
    fn all() -> impl Iterator<Item = Self> {
        kinds().into_iter().map(|kind| {
            let case = Self {
                kind,
                tool: Tool::new(),
                root: damageable_root(),
            };
            (kind.make)(&case.root);
            case
        })
    }

    #[track_caller]
    fn run(&self, code: i32, verb: &str, options: &[&str]) -> super::run::Ended {
        let ended = self.tool.run(verb, &self.root.path(), options);
        assert_eq!(
            ended.code,
            Some(code),
            "{}: {verb} {options:?}: {ended:?}",
            self.kind.name
        );
        ended
    }

    /// The rows that say what becomes of the damage.
    fn classes(rows: &Value) -> BTreeSet<String> {
        let rows = rows.as_array().into_iter().flatten();
        rows.map(|row| row["class"].as_str().unwrap().to_owned())
            .collect()
    }

    /// Fails unless the new side has what is not left out, and nothing else.
    fn expect_rest(&self) {
        let (images, containers) = shown(&self.root.path());
        let is_in = |name: &&&str| !self.kind.left_out.contains(*name);
        let wanted: Vec<&str> = CONTAINERS.iter().filter(is_in).copied().collect();
        assert_eq!(containers, wanted, "{}", self.kind.name);
        if self.kind.name == "names-empty" {
            // Those from which containers were created.
            assert_eq!(images, ["lab/app:1", "lab/base:1"]);
            return;
        }
        let images: Vec<_> = images.iter().filter(|name| *name != "old:1").collect();
        let wanted: Vec<&str> = IMAGES.iter().filter(is_in).copied().collect();
        assert_eq!(images, wanted, "{}", self.kind.name);
    }
}

fn name(fate: Fate) -> &'static str {
    match fate {
        Fate::Rebuilt => "rebuilt",
        Fate::Kept => "kept",
        Fate::PassedOver => "passed-over",
        Fate::Damaged => "damaged",
    }
}

/// The names of images whose layers are all recorded, and of the containers with this driver and a record of their
/// layers, on the new side.
fn shown(root: &Path) -> (Vec<String>, Vec<String>) {
    let store = root.join("image/devicemapper");
    let mut images = Vec::new();
    if let Ok(text) = fs::read_to_string(store.join("repositories.json")) {
        let all: Value = serde_json::from_str(&text).unwrap();
        for (name, id) in all["Repositories"]
            .as_object()
            .unwrap()
            .values()
            .flat_map(|names| names.as_object().unwrap())
        {
            let id = id.as_str().unwrap();
            let Some(hex) = id.strip_prefix("sha256:") else {
                images.push(name.clone());
                continue;
            };
            assert!(
                store.join("imagedb/content/sha256").join(hex).exists(),
                "{name}"
            );
            images.push(name.clone());
        }
    }
    images.sort();
    let mut containers = Vec::new();
    for name in CONTAINERS {
        let id = container_id(name);
        let config = fs::read(root.join("containers").join(&id).join("config.v2.json")).unwrap();
        let text = String::from_utf8_lossy(&config);
        if text.contains("\"Driver\":\"devicemapper\"") {
            assert!(
                store
                    .join("layerdb/mounts")
                    .join(&id)
                    .join("mount-id")
                    .exists(),
                "{name}"
            );
            containers.push(name.to_owned());
        }
    }
    (images, containers)
}

#[test]
fn inspect_names_every_damage_and_what_becomes_of_it() {
    for case in Case::all() {
        let before = contents(&case.root.path());
        let ended = case.run(3, "inspect", &["--health", "--json"]);
        let health: Value = serde_json::from_str(&ended.out).unwrap();
        let classes = Case::classes(&health["damage"]);
        assert!(
            classes.contains(name(case.kind.fate)),
            "{}: {}",
            case.kind.name,
            ended.out
        );
        case.run(0, "inspect", &[]);
        case.run(3, "inspect", &["--health"]);
        assert_same(&before, &contents(&case.root.path()));
    }
    let (tool, root) = (Tool::new(), small_root());
    let sound = tool.run("inspect", &root.path(), &["--health"]);
    sound.expect(0, &[]);
    assert!(sound.out.contains("no damage found"), "{sound:?}");
}

#[test]
fn a_dry_run_says_what_a_run_does() {
    for case in Case::all() {
        let before = contents(&case.root.path());
        let is_refused = case.kind.fate == Fate::Damaged;
        let code = i32::from(is_refused);
        let dry = case.run(code, "convert", &["--dry-run", "--json"]);
        if is_refused {
            assert!(dry.err.contains("--skip-damaged"), "{dry:?}");
        } else {
            let summary: Value = serde_json::from_str(&dry.out).unwrap();
            let classes = Case::classes(&summary["damage"]);
            assert!(
                classes.contains(name(case.kind.fate)),
                "{}: {classes:?}",
                case.kind.name
            );
        }
        assert_same(&before, &contents(&case.root.path()));
        case.run(code, "convert", &[]);
    }
}

#[test]
fn what_is_not_left_out_is_converted_verified_and_committed() {
    for case in Case::all() {
        case.run(0, "convert", &["--skip-damaged"]);
        case.expect_rest();
        case.run(0, "verify", &["--full"]);
        let left_out = case.kind.left_out;
        if !left_out.is_empty() {
            let refused = case.run(1, "commit", &["--yes"]);
            for one in left_out {
                // A container's name is in the config that is lost.
                let id = container_id(one);
                let is_named = refused.err.contains(one) || refused.err.contains(&id);
                assert!(is_named, "{}: {refused:?}", case.kind.name);
            }
        }
        case.run(0, "commit", &["--yes", "--drop-left-out"]);
        case.expect_rest();
        case.run(0, "verify", &["--full"]);
    }
}

#[test]
fn a_rollback_brings_the_damaged_root_back_as_it_was() {
    for case in Case::all() {
        let before = contents(&case.root.path());
        case.run(0, "convert", &["--skip-damaged"]);
        case.run(0, "rollback", &[]);
        assert_same(&before, &contents(&case.root.path()));
    }
}

#[test]
fn without_repairs_nothing_is_rebuilt() {
    for case in Case::all() {
        let code = i32::from(case.kind.without_repairs == Fate::Damaged);
        let dry = case.run(code, "convert", &["--no-repair", "--dry-run", "--json"]);
        if code == 0 {
            let summary: Value = serde_json::from_str(&dry.out).unwrap();
            let classes = Case::classes(&summary["damage"]);
            assert!(
                !classes.contains("rebuilt"),
                "{}: {classes:?}",
                case.kind.name
            );
            assert!(
                classes.contains(name(case.kind.without_repairs)),
                "{}: {classes:?}",
                case.kind.name
            );
        }
        case.run(0, "convert", &["--no-repair", "--skip-damaged"]);
        case.run(0, "verify", &["--full"]);
    }
}

#[test]
fn every_class_at_once_is_told_in_one_table_and_the_rest_converts() {
    let (tool, root) = (Tool::new(), damageable_root());
    let chosen = [
        "parent-list-missing",
        "record-size-garbage",
        "tar-split-empty",
        "name-of-no-image-id",
        "container-config-cut",
        "branch-of-an-image-missing",
        "branch-of-an-empty-layer-missing",
    ];
    for kind in kinds().iter().filter(|kind| chosen.contains(&kind.name)) {
        (kind.make)(&root);
    }
    let health = tool.run("inspect", &root.path(), &["--health", "--json"]);
    health.expect(3, &[]);
    let health: Value = serde_json::from_str(&health.out).unwrap();
    let classes = Case::classes(&health["damage"]);
    let all = ["damaged", "kept", "passed-over", "rebuilt"];
    assert_eq!(classes, all.map(str::to_owned).into());
    tool.run("convert", &root.path(), &[])
        .expect(1, &["--skip-damaged"]);
    tool.run("convert", &root.path(), &["--skip-damaged"])
        .expect(0, &[]);
    tool.run("verify", &root.path(), &["--full"]).expect(0, &[]);
    let (images, containers) = shown(&root.path());
    assert_eq!(images, ["lab/app:1", "lab/base:1", "lab/empty:1", "old:1"]);
    assert_eq!(containers, ["db"]);
}

#[test]
fn damage_to_a_rebuilt_record_is_found_with_aufs_and_without() {
    let (tool, root) = (Tool::new(), damageable_root());
    for name in ["record-size-garbage", "mount-parent-empty"] {
        let kind = kinds().into_iter().find(|kind| kind.name == name).unwrap();
        (kind.make)(&root);
    }
    let run = |verb: &str, code: i32, options: &[&str]| {
        tool.run(verb, &root.path(), options).expect(code, &[]);
    };
    let store = root.path().join("image/devicemapper/layerdb");
    let size = root.layerdb("app");
    let size = store
        .join("sha256")
        .join(size.file_name().unwrap())
        .join("size");
    let parent = store
        .join("mounts")
        .join(container_id("web"))
        .join("parent");
    let damaged_and_back = || {
        for file in [&size, &parent] {
            let right = fs::read(file).unwrap();
            fs::write(file, "").unwrap();
            run("verify", 3, &["--full"]);
            fs::write(file, right).unwrap();
        }
        run("verify", 0, &["--full"]);
    };
    run("convert", 0, &[]);
    damaged_and_back();
    run("commit", 0, &["--yes"]);
    damaged_and_back();
}

#[test]
fn a_pipe_in_the_place_of_a_layers_tar_record_is_not_waited_for() {
    let (tool, root) = (Tool::new(), damageable_root());
    fs::write(root.layerdb("leaf").join("cache-id"), "").unwrap();
    let record = root.layerdb("leaf").join("tar-split.json.gz");
    fs::remove_file(&record).unwrap();
    nix::unistd::mkfifo(&record, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let ended = tool.run("inspect", &root.path(), &["--health"]);
    ended.expect(3, &[]);
    assert!(ended.out.contains("cache-id: is empty"), "{ended:?}");
}
