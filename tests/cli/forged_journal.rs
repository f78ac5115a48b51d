//! A journal that no run has written: its checksums are right, and nothing that it says is believed.

use std::fs;
use std::path::Path;

use aufs2dm::crc64::crc64;
use serde_json::{Value, json};

use super::run::{Tool, small_root};
use super::support::root::{AufsRoot, container_id};
use super::support::trace::{assert_same, contents};
use crate::support::scratch::scratch;

pub(crate) const BEGUN: &str = r#"{"record":"begun","version":1,"tool":"x","at":1,"root":{"path":"","accessed":[1,0],"modified":[1,0]},"order":null}"#;
const SWITCHED: &str = r#"{"record":"switched","at":1}"#;
const COMMITTING: &str = r#"{"record":"committing"}"#;

/// Writes a journal of these lines.
pub(crate) fn forge(root: &Path, lines: &[&str]) {
    let stage = root.join(".aufs2dm");
    fs::create_dir(&stage).unwrap();
    let permissions = std::os::unix::fs::PermissionsExt::from_mode(0o700);
    fs::set_permissions(&stage, permissions).unwrap();
    let text: String = lines.iter().map(|line| sealed(line)).collect();
    let journal = stage.join("journal");
    fs::write(&journal, text).unwrap();
    let permissions = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    fs::set_permissions(&journal, permissions).unwrap();
}

/// A line as it stands in a journal.
pub(crate) fn sealed(line: &str) -> String {
    let inside = line.strip_suffix('}').unwrap();
    format!("{inside},\"crc64\":\"{:016x}\"}}\n", crc64(line.as_bytes()))
}

fn place(from: &str, to: &str) -> Value {
    json!({"move": "place", "from": from, "to": to, "stood": format!("originals/{from}")})
}

fn replace(path: &str) -> Value {
    json!({"move": "replace", "from": path, "to": path, "original": format!("originals/{path}")})
}

/// A line by which things are moved, beginning as each conversion's does.
fn switching(more: &[Value], times: &[Value], daemon: &Value) -> String {
    let mut moves = vec![
        place("devicemapper", "devicemapper"),
        place("image", "image/devicemapper"),
    ];
    moves.extend(more.iter().cloned());
    let written = json!({"files": {}, "configs": {}, "containers": [container_id("web")]});
    let line = json!({
        "record": "switching", "moves": moves, "times": times, "written": written, "daemon": daemon,
    });
    line.to_string()
}

/// No command may change anything but its own staging directory, whatever the journal says.
fn believed_by_nobody(lines: &[&str], victim: Option<&Path>) {
    let all: [(&str, &[&str]); 3] = [("resume", &[]), ("rollback", &[]), ("commit", &["--yes"])];
    for (verb, options) in all {
        let (tool, root) = (Tool::new(), small_root());
        let volume = root.path().join("volumes/v/_data");
        fs::create_dir_all(&volume).unwrap();
        fs::write(volume.join("precious"), "volume").unwrap();
        let before = contents(&root.path());
        forge(&root.path(), lines);
        let ended = tool.run(verb, &root.path(), options);
        assert_ne!(ended.code, Some(5), "{verb}: {ended:?}");
        let _ = fs::remove_dir_all(root.path().join(".aufs2dm"));
        assert_same(&before, &contents(&root.path()));
        if let Some(victim) = victim {
            assert_eq!(fs::read_to_string(victim).unwrap(), "precious", "{verb}");
        }
    }
}

#[test]
fn no_other_directory_is_moved_or_removed() {
    for forged in [
        place("x", "volumes"),
        place("x", "aufs"),
        json!({"move": "place", "from": "x", "to": "volumes", "stood": "../volumes"}),
        replace("volumes/v/_data/precious"),
        replace("containers/../volumes/v/_data/precious"),
    ] {
        let line = switching(&[forged], &[], &Value::Null);
        believed_by_nobody(&[BEGUN, &line], None);
        believed_by_nobody(&[BEGUN, &line, SWITCHED], None);
        believed_by_nobody(&[BEGUN, &line, SWITCHED, COMMITTING], None);
    }
}

#[test]
fn no_file_behind_a_link_is_replaced() {
    let (tool, root, elsewhere) = (Tool::new(), small_root(), scratch());
    let id = "ab".repeat(32);
    let victim = elsewhere.path().join("config.v2.json");
    fs::write(&victim, "precious").unwrap();
    let link = root.path().join("containers").join(&id);
    std::os::unix::fs::symlink(elsewhere.path(), &link).unwrap();
    let path = format!("containers/{id}/config.v2.json");
    forge(
        &root.path(),
        &[BEGUN, &switching(&[replace(&path)], &[], &Value::Null)],
    );
    let stage = root.path().join(".aufs2dm");
    for directory in ["devicemapper", "image"] {
        fs::create_dir(stage.join(directory)).unwrap();
    }
    fs::create_dir_all(stage.join(&path).parent().unwrap()).unwrap();
    fs::write(stage.join(&path), "evil").unwrap();
    let ended = tool.run("resume", &root.path(), &[]);
    assert_ne!(ended.code, Some(0), "{ended:?}");
    assert_eq!(fs::read_to_string(&victim).unwrap(), "precious");
}

#[test]
fn no_other_times_are_set() {
    for path in ["", "volumes", "/etc"] {
        let times = json!({"path": path, "accessed": [7, 0], "modified": [7, 0]});
        let line = switching(&[], &[times], &Value::Null);
        believed_by_nobody(&[BEGUN, &line, SWITCHED], None);
    }
    let begun = BEGUN.replace(r#""path":"""#, r#""path":"volumes""#);
    believed_by_nobody(&[&begun], None);
}

#[test]
fn no_other_file_is_written_or_removed_for_the_daemon() {
    let dir = scratch();
    let victim = dir.path().join("victim");
    fs::write(&victim, "precious").unwrap();
    let digest = format!("{:x}", <sha2::Sha256 as sha2::Digest>::digest("precious"));
    // Written over, and removed because it holds what a conversion is said to have written.
    for (content, old) in [("evil", Value::from(digest)), ("precious", Value::Null)] {
        let edit = json!({"edit": {"path": victim, "content": content, "old": old, "notes": []}});
        let line = switching(&[], &[], &edit);
        believed_by_nobody(&[BEGUN, &line], Some(&victim));
        believed_by_nobody(&[BEGUN, &line, SWITCHED], Some(&victim));
    }
}

#[test]
fn a_removal_is_believed_only_with_a_devicemapper_side_in_place() {
    let line = switching(&[], &[], &Value::Null);
    believed_by_nobody(&[BEGUN, &line, COMMITTING], None);
    believed_by_nobody(&[BEGUN, &line, SWITCHED, COMMITTING], None);
}

const OLD: &str =
    r#"{"debug": true, "storage-driver": "aufs", "storage-opts": ["dm.basesize=20G"]}"#;

/// A conversion with `--switch-daemon`, as a kill leaves it that comes right before the last rename, whose journal says this of what
/// `daemon.json` is to become.
fn killed_with_edit(content: &str) -> (Tool, AufsRoot) {
    let (tool, root) = (Tool::new(), small_root());
    let docker = tool.host_root().join("etc/docker");
    fs::create_dir_all(&docker).unwrap();
    fs::write(docker.join("daemon.json"), OLD).unwrap();
    tool.run("convert", &root.path(), &["--switch-daemon"])
        .expect(0, &[]);
    let stage = root.path().join(".aufs2dm");
    fs::rename(root.path().join("image/devicemapper"), stage.join("image")).unwrap();
    fs::rename(
        docker.join("daemon.json.aufs2dm-original"),
        docker.join("daemon.json"),
    )
    .unwrap();
    let journal = fs::read_to_string(stage.join("journal")).unwrap();
    let lines = journal
        .lines()
        .take_while(|line| !line.contains("\"record\":\"switched\""));
    let forged: String = lines.map(|line| with_edit(line, content)).collect();
    fs::write(stage.join("journal"), forged).unwrap();
    (tool, root)
}

/// A line of a journal, with another edit of `daemon.json` if it has any.
fn with_edit(line: &str, content: &str) -> String {
    let mut record: Value = serde_json::from_str(line).unwrap();
    if record["daemon"]["edit"].is_null() {
        return format!("{line}\n");
    }
    record.as_object_mut().unwrap().remove("crc64");
    record["daemon"]["edit"]["content"] = Value::from(content);
    sealed(&record.to_string())
}

#[test]
fn what_a_conversion_writes_into_daemon_json_is_gone_on_with() {
    let content =
        r#"{"debug": true, "storage-driver": "devicemapper", "storage-opts": ["dm.basesize=20G"]}"#;
    let (tool, root) = killed_with_edit(content);
    tool.run("resume", &root.path(), &[]).expect(0, &[]);
    let config = tool.host_root().join("etc/docker/daemon.json");
    assert_eq!(fs::read_to_string(config).unwrap(), content);
}

#[test]
fn no_other_driver_or_option_is_written_for_the_daemon() {
    let opts = |opts: &str| {
        format!(r#"{{"debug": true, "storage-driver": "devicemapper", "storage-opts": {opts}}}"#)
    };
    for (content, key, value) in [
        (
            r#"{"debug": true, "storage-driver": "vfs"}"#.to_owned(),
            "storage-driver",
            "\"vfs\"",
        ),
        (r#"{"debug": true}"#.to_owned(), "storage-driver", "null"),
        (
            opts(r#"["dm.directlvm_device=/dev/sda"]"#),
            "storage-opts",
            "/dev/sda",
        ),
        (
            opts(r#"["dm.basesize=20G", "dm.thinpooldev=/dev/mapper/x"]"#),
            "storage-opts",
            "/dev/mapper/x",
        ),
        (
            opts(r#"["dm.basesize=1G"]"#),
            "storage-opts",
            "dm.basesize=1G",
        ),
    ] {
        let (tool, root) = killed_with_edit(&content);
        let config =
            || fs::read_to_string(tool.host_root().join("etc/docker/daemon.json")).unwrap();
        let rollback = format!("`aufs2dm rollback --root {}", root.path().display());
        let words = ["daemon.json: the journal asks for", key, value, "by hand"];
        let resumed = tool.run("resume", &root.path(), &[]);
        resumed.expect(1, &words);
        resumed.expect(1, &[&rollback]);
        assert_eq!(config(), OLD);
        assert!(!root.path().join("image/devicemapper").exists());
        tool.run("rollback", &root.path(), &[]).expect(0, &words);
        assert_eq!(config(), OLD);
        assert!(!root.path().join("devicemapper").exists());
    }
}
