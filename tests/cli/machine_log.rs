//! What the run tells other programs: JSON on stderr, and a service manager.

use std::fs;
use std::os::unix::net::UnixDatagram;
use std::thread;

use serde_json::Value;

use super::run::{Ended, Tool, small_root};

fn lines(ended: &Ended) -> Vec<Value> {
    ended
        .err
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
        .collect()
}

#[test]
fn each_line_is_an_object_and_each_phase_is_told_to_its_end() {
    let (tool, root) = (Tool::new(), small_root());
    let ended = tool.run("convert", &root.path(), &["--log-format", "json"]);
    ended.expect(0, &[]);
    let lines = lines(&ended);
    for line in &lines {
        for key in ["ts", "level", "msg"] {
            assert!(line[key].is_string(), "{line}");
        }
    }
    assert!(
        lines.iter().any(|line| line["level"] == "warn"),
        "{lines:#?}"
    );
    for phase in ["read", "plan", "data", "metadata", "switch"] {
        let of: Vec<_> = lines.iter().filter(|line| line["phase"] == phase).collect();
        assert!(of.len() >= 2, "{phase}: {of:#?}");
        let (first, last) = (of[0], of[of.len() - 1]);
        assert_eq!(first["done"], 0, "{first}");
        assert_eq!(last["done"], last["total"], "{last}");
    }
}

#[test]
fn an_error_is_one_object_with_its_hints() {
    let tool = Tool::new();
    let ended = tool.run("inspect", "/nowhere".as_ref(), &["--log-format=json"]);
    ended.expect(1, &[]);
    let lines = lines(&ended);
    assert_eq!(lines.len(), 1, "{lines:#?}");
    assert_eq!(lines[0]["level"], "error");
    assert!(lines[0]["msg"].as_str().unwrap().contains("/nowhere"));
    assert!(lines[0]["hints"][0].as_str().unwrap().contains("--root"));
}

/// Runs the command with a service manager that listens; what it was told.
fn notified(tool: &Tool, root: &std::path::Path, options: &[&str]) -> (Ended, Vec<String>) {
    let path = tool.host_root().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    let listener = thread::spawn(move || {
        let mut told = Vec::new();
        let mut buffer = [0; 4096];
        while let Ok(length) = socket.recv(&mut buffer) {
            let text = String::from_utf8(buffer[..length].to_vec()).unwrap();
            if text == "end" {
                break;
            }
            told.push(text);
        }
        told
    });
    let output = tool
        .command("convert", root, options)
        .env("NOTIFY_SOCKET", &path)
        .output();
    UnixDatagram::unbound()
        .unwrap()
        .send_to(b"end", &path)
        .unwrap();
    (Ended::new(&output.unwrap()), listener.join().unwrap())
}

#[test]
fn a_service_manager_is_told_of_each_phase_and_of_the_end() {
    let (tool, root) = (Tool::new(), small_root());
    let (ended, told) = notified(&tool, &root.path(), &[]);
    ended.expect(0, &[]);
    assert!(told[0].starts_with("STATUS=reading layers"), "{told:#?}");
    assert!(told[0].contains("\nEXTEND_TIMEOUT_USEC="), "{told:#?}");
    assert!(
        told.iter().any(|one| one.contains("moving into place")),
        "{told:#?}"
    );
    assert!(told.last().unwrap().starts_with("READY=1\n"), "{told:#?}");
}

#[test]
fn a_service_manager_is_told_of_a_failure_and_never_of_success() {
    let tool = Tool::new();
    let (ended, told) = notified(&tool, "/nowhere".as_ref(), &[]);
    ended.expect(1, &[]);
    assert_eq!(told, ["STOPPING=1\nSTATUS=ended with exit code 1"]);
}

#[test]
fn what_stands_in_the_way_of_the_first_start_is_a_notice() {
    let (tool, root) = (Tool::new(), small_root());
    fs::create_dir_all(tool.host_root().join("etc/docker")).unwrap();
    let text = "{\"storage-driver\": \"devicemapper\",\n \"storage-opts\": [\"overlay2.size=1G\"]}";
    fs::write(tool.host_root().join("etc/docker/daemon.json"), text).unwrap();
    let ended = tool.run("convert", &root.path(), &["--dry-run", "--json"]);
    ended.expect(
        0,
        &[
            "first start: ",
            "etc/docker/daemon.json, line 2",
            "overlay2.size=1G",
        ],
    );
    let summary: Value = serde_json::from_str(&ended.out).unwrap();
    let notices = summary["notices"].as_array().unwrap();
    assert!(
        notices
            .iter()
            .any(|one| one.as_str().unwrap().contains("belongs to overlay2")),
        "{notices:#?}"
    );
}
