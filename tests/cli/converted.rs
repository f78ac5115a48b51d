//! What a conversion leaves.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

use super::run::{Tool, small_root};
use super::support::fixture::unpack;
use super::support::root::container_id;
use super::support::trace::{Trace, age, assert_same, contents, trace};

/// The trace below `top` by paths relative to it.
fn relative(top: &Path) -> Trace {
    let told = contents(top).into_iter();
    told.map(|(path, text)| (path.strip_prefix(top).unwrap().to_owned(), text))
        .collect()
}

#[test]
fn only_what_was_promised_is_new_or_changed() {
    let (tool, dir) = (Tool::new(), unpack("small.tar.xz"));
    let root = dir.path().join("docker");
    age(&root);
    let before = trace(&root);
    age(&root);
    tool.run("convert", &root, &[]).expect(0, &[]);
    let after = trace(&root);
    let new = |path: &PathBuf| {
        path.starts_with(root.join("devicemapper"))
            || path.starts_with(root.join("image/devicemapper"))
            || path.starts_with(root.join(".aufs2dm"))
    };
    let added: BTreeSet<_> = after
        .keys()
        .filter(|path| !before.contains_key(*path))
        .collect();
    assert!(added.iter().all(|path| new(path)), "{added:?}");
    // Renames move the times of the directories they happen in.
    let moved = |path: &PathBuf| {
        let inner = path.strip_prefix(&root).unwrap();
        inner == Path::new("") || inner == Path::new("image") || inner.starts_with("containers")
    };
    let rest = |trace: &Trace| -> Trace {
        let kept = trace.iter().filter(|(path, _)| !new(path) && !moved(path));
        kept.map(|(path, text)| (path.clone(), text.clone()))
            .collect()
    };
    assert_same(&rest(&before), &rest(&after));
    assert_same(
        &relative(&root.join("image/aufs")),
        &relative(&root.join("image/devicemapper")),
    );
}

#[test]
fn a_configuration_keeps_everything_but_the_drivers_name() {
    let (tool, root) = (Tool::new(), small_root());
    let dir = root.path().join("containers").join(container_id("web"));
    let file = dir.join("config.v2.json");
    chown(&file, Some(7), Some(8)).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
    let before = fs::read_to_string(&file).unwrap();
    let host = contents(&dir.join("hostconfig.json"));
    tool.run("convert", &root.path(), &[]).expect(0, &[]);
    let after = fs::read_to_string(&file).unwrap();
    assert_eq!(
        after,
        before.replace("\"Driver\":\"aufs\"", "\"Driver\":\"devicemapper\"")
    );
    assert_ne!(after, before);
    let meta = file.metadata().unwrap();
    assert_eq!(
        (meta.uid(), meta.gid(), meta.mode() & 0o7777),
        (7, 8, 0o640)
    );
    assert_same(&host, &contents(&dir.join("hostconfig.json")));
}

fn owner_and_mode(path: &Path) -> (u32, u32, u32) {
    let meta = path.symlink_metadata().unwrap();
    (meta.uid(), meta.gid(), meta.mode() & 0o7777)
}

#[test]
fn a_remapped_root_converts_to_directories_of_its_own_root_user() {
    let (tool, root) = (Tool::new(), small_root());
    let remapped = root.path().parent().unwrap().join("100000.100001");
    fs::rename(root.path(), &remapped).unwrap();
    tool.run("convert", &remapped, &[]).expect(0, &[]);
    let home = remapped.join("devicemapper");
    assert_eq!(owner_and_mode(&home), (100_000, 100_001, 0o700));
    assert_eq!(
        owner_and_mode(&home.join("devicemapper")),
        (100_000, 100_001, 0o700)
    );
    assert_eq!(
        owner_and_mode(&home.join("devicemapper/data")),
        (0, 0, 0o600)
    );
    fs::rename(&remapped, root.path()).unwrap();
}

#[test]
fn a_root_may_be_relative_or_a_symlink_or_end_in_a_slash() {
    for form in ["relative", "symlink", "slash"] {
        let (tool, root) = (Tool::new(), small_root());
        let above = root.path().parent().unwrap().to_owned();
        let told = match form {
            "relative" => PathBuf::from("docker"),
            "symlink" => {
                std::os::unix::fs::symlink("docker", above.join("link")).unwrap();
                above.join("link")
            }
            _ => root.path().join(""),
        };
        let mut command = tool.command("convert", &told, &[]);
        let output = command.current_dir(&above).output().unwrap();
        super::run::Ended::new(&output).expect(0, &[]);
        assert!(
            root.path().join("devicemapper/metadata/base").exists(),
            "{form}"
        );
    }
}
