//! A generator of damage: each kind by its name, and what must become of it.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::root::{AufsRoot, container_id};

/// What must become of a damaged object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Other data proves what was there.
    Rebuilt,
    /// Docker works with it as it is.
    Kept,
    /// Docker does not show it either.
    PassedOver,
    /// Docker shows it, and it cannot be converted.
    Damaged,
}

/// A kind of damage.
#[derive(Clone, Copy)]
pub struct DamageKind {
    /// Its name.
    pub name: &'static str,
    /// What must become of the object.
    pub fate: Fate,
    /// Images by their tags, and containers by their names, that are then left out.
    pub left_out: &'static [&'static str],
    /// What must become of it with `--no-repair`.
    pub without_repairs: Fate,
    /// Makes it.
    pub make: fn(&AufsRoot),
}

/// A root on which each kind can be made: images `base`, `app`, `empty` and `leaf`, each of `lab/NAME:1`, and the
/// containers `web` on `app` and `db` on `base`. `empty` lies on `app`, its own layer is empty; nothing lies on `leaf`.
pub fn damageable_root() -> AufsRoot {
    AufsRoot::new()
        .recorded()
        .layer("base", |l| {
            l.file("etc/motd", "hello").symlink("etc/link", "motd")
        })
        .layer("app", |l| l.file("app/data", [7; 9000]))
        .layer("empty", |l| l)
        .layer_on(Some("base"), "leaf", |l| l.file("leaf", "only here"))
        .image("lab/base:1", "base")
        .image("lab/app:1", "app")
        .image("lab/empty:1", "empty")
        .image("lab/leaf:1", "leaf")
        .container("web", ("lab/app:1", "app"), |l| l.file("log", "line"))
        .container("db", ("lab/base:1", "base"), |l| l.file("table", "row"))
}

fn kind(name: &'static str, fate: Fate, make: fn(&AufsRoot)) -> DamageKind {
    DamageKind {
        name,
        fate,
        left_out: &[],
        without_repairs: fate,
        make,
    }
}

impl DamageKind {
    fn out(mut self, left_out: &'static [&'static str]) -> Self {
        self.left_out = left_out;
        self
    }

    fn unrepaired(mut self, fate: Fate) -> Self {
        self.without_repairs = fate;
        self
    }
}

/// All kinds.
pub fn kinds() -> Vec<DamageKind> {
    let mut all = of_lists();
    all.extend(of_records());
    all.extend(of_mounts());
    all.extend(of_images());
    all.extend(of_containers());
    all.extend(of_branches());
    all
}

fn of_lists() -> Vec<DamageKind> {
    use Fate::{Damaged, Rebuilt};
    let of = |name, make| kind(name, Rebuilt, make).unrepaired(Damaged);
    vec![
        of("parent-list-missing", |root| {
            fs::remove_file(list(root, "app")).unwrap();
        }),
        of("parent-list-empty", |root| empty(&list(root, "app"))),
        of("parent-list-cut", |root| {
            let path = list(root, "web rw");
            let text = fs::read(&path).unwrap();
            fs::write(&path, &text[..text.len() - 20]).unwrap();
        }),
        of("parent-list-zeros", |root| zeros(&list(root, "web init"))),
        of("parent-list-is-a-directory", |root| {
            fs::remove_file(list(root, "app")).unwrap();
            fs::create_dir(list(root, "app")).unwrap();
        }),
        kind("parent-list-contradicts-the-store", Damaged, |root| {
            let text = format!("{}\n{}\n", root.id("leaf"), root.id("base"));
            fs::write(list(root, "web init"), text).unwrap();
            let text = format!(
                "{}\n{}\n{}\n",
                root.id("web init"),
                root.id("leaf"),
                root.id("base")
            );
            fs::write(list(root, "web rw"), text).unwrap();
        })
        .out(&["web"]),
        kind("parent-lists-in-a-circle", Damaged, |root| {
            fs::write(list(root, "web init"), format!("{}\n", root.id("web rw"))).unwrap();
        })
        .out(&["web"]),
    ]
}

fn of_records() -> Vec<DamageKind> {
    use Fate::{Kept, PassedOver, Rebuilt};
    let of = |name, make| kind(name, Rebuilt, make).unrepaired(PassedOver);
    vec![
        of("record-diff-empty", |root| {
            empty(&record(root, "app", "diff"));
        }),
        of("record-parent-empty", |root| {
            empty(&record(root, "app", "parent"));
        }),
        of("record-size-garbage", |root| {
            fs::write(record(root, "app", "size"), "many").unwrap();
        }),
        of("record-cache-id-empty", |root| {
            empty(&record(root, "app", "cache-id"));
        }),
        of("record-cache-id-of-a-leaf-empty", |root| {
            empty(&record(root, "leaf", "cache-id"));
        }),
        of("record-diff-of-another-layer", |root| {
            fs::copy(record(root, "leaf", "diff"), record(root, "app", "diff")).unwrap();
        })
        .unrepaired(Fate::Damaged),
        of("record-missing", |root| {
            fs::remove_dir_all(root.layerdb("app")).unwrap();
        }),
        of("record-descriptor-zeros", |root| {
            fs::write(record(root, "app", "descriptor.json"), [0; 64]).unwrap();
        }),
        kind("record-of-a-leaf-without-proof", PassedOver, |root| {
            empty(&record(root, "leaf", "cache-id"));
            fs::remove_file(record(root, "leaf", "tar-split.json.gz")).unwrap();
        })
        .out(&["lab/leaf:1"]),
        kind("tar-split-empty", Kept, |root| {
            empty(&record(root, "app", "tar-split.json.gz"));
        }),
    ]
}

fn of_mounts() -> Vec<DamageKind> {
    use Fate::{PassedOver, Rebuilt};
    let of = |name, make| kind(name, Rebuilt, make).unrepaired(PassedOver);
    vec![
        of("mount-id-empty", |root| {
            empty(&mount(root, "web", "mount-id"));
        }),
        of("mount-init-id-zeros", |root| {
            zeros(&mount(root, "web", "init-id"));
        }),
        of("mount-parent-empty", |root| {
            empty(&mount(root, "web", "parent"));
        }),
        of("mount-init-id-missing", |root| {
            fs::remove_file(mount(root, "web", "init-id")).unwrap();
        })
        .unrepaired(Fate::Damaged),
        kind("mount-and-lists-lost", PassedOver, |root| {
            empty(&mount(root, "web", "mount-id"));
            empty(&mount(root, "web", "init-id"));
            empty(&list(root, "web rw"));
        })
        .out(&["web"]),
    ]
}

fn of_images() -> Vec<DamageKind> {
    use Fate::{Damaged, Kept, PassedOver, Rebuilt};
    vec![
        kind("image-config-empty", PassedOver, |root| {
            empty(&config_of(root, "lab/leaf:1"));
        })
        .out(&["lab/leaf:1"]),
        kind("image-config-garbage", PassedOver, |root| {
            fs::write(config_of(root, "lab/leaf:1"), "{\"rootfs\": ").unwrap();
        })
        .out(&["lab/leaf:1"]),
        kind("names-empty", Rebuilt, |root| empty(&names(root))).unrepaired(Damaged),
        kind("names-of-another-type", Rebuilt, |root| {
            let text = fs::read_to_string(names(root)).unwrap();
            let text = text.replacen("{\"Repositories\":{", "{\"Repositories\":{\"a/b\":5,", 1);
            fs::write(names(root), text).unwrap();
        })
        .unrepaired(Damaged),
        kind("name-of-no-image-id", Kept, |root| {
            let text = fs::read_to_string(names(root)).unwrap();
            let old = "{\"Repositories\":{\"old\":{\"old:1\":\"8c2e0660\"},";
            let text = text.replacen("{\"Repositories\":{", old, 1);
            fs::write(names(root), text).unwrap();
        }),
    ]
}

fn of_containers() -> Vec<DamageKind> {
    use Fate::PassedOver;
    let of = |name, make| kind(name, PassedOver, make).out(&["web"]);
    vec![
        of("container-config-empty", |root| {
            empty(&container(root, "web", "config.v2.json"));
        }),
        of("container-config-zeros", |root| {
            zeros(&container(root, "web", "config.v2.json"));
        }),
        of("container-config-cut", |root| {
            let path = container(root, "web", "config.v2.json");
            let text = fs::read(&path).unwrap();
            fs::write(&path, &text[..text.len() / 2]).unwrap();
        }),
        of("container-config-of-another-type", |root| {
            let path = container(root, "web", "config.v2.json");
            let text = fs::read_to_string(&path).unwrap();
            fs::write(
                &path,
                text.replace("\"Running\":false", "\"Running\":\"no\""),
            )
            .unwrap();
        }),
        of("host-config-empty", |root| {
            empty(&container(root, "web", "hostconfig.json"));
        }),
    ]
}

fn of_branches() -> Vec<DamageKind> {
    use Fate::{Damaged, Rebuilt};
    vec![
        kind("branch-of-an-image-missing", Damaged, |root| {
            fs::remove_dir_all(root.branch("leaf")).unwrap();
        })
        .out(&["lab/leaf:1"]),
        kind("branch-below-others-missing", Damaged, |root| {
            fs::remove_dir_all(root.branch("app")).unwrap();
        })
        .out(&["lab/app:1", "lab/empty:1", "web"]),
        kind("branch-of-a-container-missing", Damaged, |root| {
            fs::remove_dir_all(root.branch("web rw")).unwrap();
        })
        .out(&["web"]),
        kind("branch-is-a-link", Damaged, |root| {
            let (branch, elsewhere) = (root.branch("leaf"), root.path().join("elsewhere"));
            fs::rename(&branch, &elsewhere).unwrap();
            std::os::unix::fs::symlink(&elsewhere, &branch).unwrap();
        })
        .out(&["lab/leaf:1"]),
        kind("branch-of-an-empty-layer-missing", Rebuilt, |root| {
            fs::remove_dir_all(root.branch("empty")).unwrap();
        })
        .out(&[])
        .unrepaired(Damaged),
    ]
}

fn empty(path: &Path) {
    fs::write(path, "").unwrap();
}

fn zeros(path: &Path) {
    let length = usize::try_from(fs::metadata(path).unwrap().len()).unwrap();
    fs::write(path, vec![0; length]).unwrap();
}

fn list(root: &AufsRoot, layer: &str) -> PathBuf {
    root.path().join("aufs/layers").join(root.id(layer))
}

fn record(root: &AufsRoot, layer: &str, file: &str) -> PathBuf {
    root.layerdb(layer).join(file)
}

fn mount(root: &AufsRoot, container: &str, file: &str) -> PathBuf {
    let mounts = root.path().join("image/aufs/layerdb/mounts");
    mounts.join(container_id(container)).join(file)
}

fn container(root: &AufsRoot, name: &str, file: &str) -> PathBuf {
    let containers = root.path().join("containers");
    containers.join(container_id(name)).join(file)
}

fn names(root: &AufsRoot) -> PathBuf {
    root.path().join("image/aufs/repositories.json")
}

fn config_of(root: &AufsRoot, tag: &str) -> PathBuf {
    let text = fs::read_to_string(names(root)).unwrap();
    let all: Value = serde_json::from_str(&text).unwrap();
    let (repository, _) = tag.rsplit_once(':').unwrap();
    let id = all["Repositories"][repository][tag].as_str().unwrap();
    let contents = root.path().join("image/aufs/imagedb/content/sha256");
    contents.join(id.strip_prefix("sha256:").unwrap())
}
