//! The rules.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use super::crate_map::{CrateMap, is_within};
use super::graph::{Graph, circles};

/// Rooms within a folder that must not lean on one another. Any other folder or file at the top is one room.
const INNER_ROOMS: [&str; 6] = [
    "engine::direct",
    "engine::kernel",
    "ext4::read",
    "ext4::write",
    "thin::read",
    "thin::write",
];

/// Rooms that are read as one, and whose files may therefore import each other.
const READ_AS_ONE: [&str; 2] = ["ext4::read", "populate"];

/// What knows formats and trees alone.
const FORMATS: [&str; 5] = ["ext4", "tar_split", "thin", "tree", "units"];

/// What formats may know besides: each other, as far as no circle comes of it, and checksums.
const BELOW_FORMATS: [&str; 1] = ["crc64"];

/// Who reads, and whose code it must not share.
const READERS: [(&str, &str); 6] = [
    ("ext4::read", "ext4::write"),
    ("thin::read", "thin::write"),
    ("content", "ext4::write"),
    ("content", "thin::write"),
    ("verify", "ext4::write"),
    ("verify", "thin::write"),
];

/// Who only reads Docker's files, and what would let it do more.
const MODEL: (&str, [&str; 8]) = (
    "docker",
    [
        "command",
        "commit",
        "daemon",
        "devicemapper",
        "engine",
        "pool",
        "removal",
        "sys",
    ],
);

fn house() -> CrateMap {
    CrateMap::read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"))
}

fn room(module: &str) -> &str {
    let inner = INNER_ROOMS.into_iter().find(|room| is_within(module, room));
    inner.unwrap_or_else(|| module.split("::").next().unwrap())
}

/// The same arrows, from room to room.
fn rooms<'n>(arrows: &Graph<'n>) -> Graph<'n> {
    let mut rooms = Graph::new();
    for (&from, targets) in arrows {
        // The crate's own file names all rooms and uses none.
        if from.is_empty() {
            continue;
        }
        let to = rooms.entry(room(from)).or_default();
        to.extend(
            targets
                .iter()
                .map(|to| room(to))
                .filter(|to| *to != room(from)),
        );
    }
    rooms
}

/// Imports from one part to another, as `from -> to`.
fn imports(arrows: &Graph<'_>, from: &str, to: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (module, targets) in arrows.iter().filter(|(module, _)| is_within(module, from)) {
        let broken = targets.iter().filter(|target| is_within(target, to));
        found.extend(broken.map(|target| format!("{module} -> {target}")));
    }
    found
}

#[test]
fn no_room_imports_one_that_imports_it() {
    let house = house();
    let arrows = house.arrows();
    assert_eq!(circles(&rooms(&arrows)), BTreeSet::new());
}

#[test]
fn inside_a_room_no_files_import_each_other() {
    let house = house();
    let mut arrows = house.arrows();
    arrows.retain(|module, _| !READ_AS_ONE.iter().any(|room| is_within(module, room)));
    assert_eq!(circles(&arrows), BTreeSet::new());
}

#[test]
fn readers_import_nothing_from_writers() {
    let house = house();
    let arrows = house.arrows();
    for (reader, writer) in READERS {
        assert_eq!(imports(&arrows, reader, writer), [""; 0], "{reader}");
    }
}

#[test]
fn formats_know_no_docker_and_no_devices() {
    let house = house();
    for (module, targets) in house.arrows() {
        if !FORMATS.contains(&room_at_top(module)) {
            continue;
        }
        for target in targets {
            let top = room_at_top(target);
            let may = FORMATS.contains(&top) || BELOW_FORMATS.contains(&top);
            assert!(may, "{module} -> {target}");
        }
    }
}

fn room_at_top(module: &str) -> &str {
    module.split("::").next().unwrap()
}

#[test]
fn the_model_of_docker_can_only_read() {
    let house = house();
    let arrows = house.arrows();
    let (model, others) = MODEL;
    for other in others {
        assert_eq!(imports(&arrows, model, other), [""; 0], "{model}");
    }
}

#[test]
fn one_module_starts_programs() {
    let house = house();
    let users = house.users_of(&["std", "process", "Command"]);
    assert_eq!(users, BTreeSet::from(["sys::program"]));
}

/// Whoever else imported an engine would have to be told of a third one.
#[test]
fn one_module_knows_which_engines_there_are() {
    let house = house();
    let arrows = house.arrows();
    for engine in ["engine::direct", "engine::kernel::job"] {
        let users = arrows.iter().filter(|(module, targets)| {
            !is_within(module, "engine") && targets.iter().any(|to| is_within(to, engine))
        });
        let users: Vec<_> = users.map(|(module, _)| *module).collect();
        assert_eq!(users, ["command::writer"], "{engine}");
    }
}

#[test]
fn a_folder_s_mod_file_defines_nothing() {
    let house = house();
    for (folder, items) in house.folders() {
        assert!(items.is_empty(), "{folder}: {items:?}");
    }
}

#[test]
fn a_rule_is_broken_through_re_exports_aliases_and_macros_too() {
    let dir = tempfile::tempdir().unwrap();
    let files = [
        ("lib.rs", "mod a;\nmod b;\nmod c;\n"),
        ("a.rs", "use crate::b::Shown as Other;\nfn f(_: Other) {}\n"),
        ("b/mod.rs", "mod inner;\npub use inner::Inner as Shown;\n"),
        (
            "b/inner.rs",
            "pub struct Inner;\nfn f() { println!(\"{}\", crate::c::VALUE); }\n",
        ),
        (
            "c.rs",
            "use crate::a;\npub const VALUE: u8 = 0;\nfn f() { a::f() }\n#[cfg(test)]\nmod tests { use crate::b::Shown; }\n",
        ),
    ];
    for (name, text) in files {
        let path = dir.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    let map = CrateMap::read(dir.path());
    let arrows = map.arrows();
    assert_eq!(imports(&arrows, "a", "b"), ["a -> b::inner"]);
    assert_eq!(imports(&arrows, "b", "c"), ["b::inner -> c"]);
    assert_eq!(imports(&arrows, "c", "a"), ["c -> a"]);
    assert_eq!(imports(&arrows, "c", "b"), [""; 0]);
    let circle = BTreeSet::from([BTreeSet::from(["a", "b", "c"])]);
    assert_eq!(circles(&rooms(&arrows)), circle);
}
