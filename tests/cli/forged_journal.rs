//! A journal that no run has written: its checksums are right, and nothing that it says is believed.

use std::fs;
use std::path::Path;

use aufs2dm::crc64::crc64;
use serde_json::{Value, json};

use super::run::{Tool, small_root};
use super::support::root::container_id;
use super::support::trace::{assert_same, contents};

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
    let (tool, root, elsewhere) = (Tool::new(), small_root(), tempfile::tempdir().unwrap());
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
    let dir = tempfile::tempdir().unwrap();
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
