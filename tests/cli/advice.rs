//! What is advised can be done: it is true of the root as it is, and each command takes the options that it is printed with.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use serde_json::Value;

use super::commands_complete::{commands, paste};
use super::host_root::RescuedHost;
use super::interrupted::wait_for;
use super::run::{BINARY, Ended, Tool, large_root, small_root};
use super::space::Disk;

/// Kills a conversion once a layer is durable.
fn killed(tool: &Tool, root: &Path) {
    let mut child = tool.start(root, &["--jobs", "1", "--checkpoint", "0"]);
    let journal = root.join(".aufs2dm/journal");
    wait_for(&journal);
    let began = Instant::now();
    while !fs::read_to_string(&journal).is_ok_and(|text| text.contains("\"durable\"")) {
        assert!(began.elapsed().as_secs() < 60);
        std::thread::sleep(std::time::Duration::from_micros(200));
    }
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn resume_on_a_full_disk_says_what_is_kept_and_goes_on_once_there_is_room() {
    let (tool, root) = (Tool::new(), large_root());
    let disk = Disk::tmpfs("224m", &root.path());
    killed(&tool, &disk.root());
    let eater = disk.root().parent().unwrap().join("eater");
    let mut file = File::create(&eater).unwrap();
    let block = vec![1; 1 << 16];
    while file.write_all(&block).is_ok() {}
    drop(file);
    let ended = tool.run("resume", &disk.root(), &[]);
    ended.expect(1, &["is kept", "1 layer", "free ", "leave the Docker root"]);
    for word in [
        "nothing was written",
        "--skip-orphans",
        "--thin-pool",
        "docker rmi",
    ] {
        assert!(!ended.err.contains(word), "{word}: {ended:?}");
    }
    fs::remove_file(&eater).unwrap();
    let all = commands(&ended.err);
    let resume = all.iter().find(|one| one.starts_with("aufs2dm resume"));
    assert!(
        all.iter().any(|one| one.starts_with("aufs2dm rollback")),
        "{all:?}"
    );
    paste(resume.unwrap()).expect(0, &[]);
}

#[test]
fn a_root_that_docker_does_not_use_is_named_as_the_host_knows_it() {
    let host = RescuedHost::new(
        Some(r#"{"data-root": "/srv/docker"}"#),
        &small_root(),
        "var/lib/docker",
    );
    let root = host.at("var/lib/docker");
    let ended = host.run("convert", &["--dry-run", "--root", root.to_str().unwrap()]);
    ended.expect(0, &["Docker uses /srv/docker, not /var/lib/docker:"]);
}

#[test]
fn inspect_prints_the_pid_file_that_the_conversion_was_begun_with() {
    let (tool, root) = (Tool::new(), small_root());
    tool.run("convert", &root.path(), &[]).expect(0, &[]);
    let mut command = Command::new(BINARY);
    command.arg("inspect").arg("--root").arg(root.path());
    command.arg("--host-root").arg(tool.host_root());
    let ended = Ended::new(&command.output().unwrap());
    ended.expect(0, &[]);
    let all = commands(&ended.out);
    let wanted = format!("--pidfile {}", tool.pid_file().display());
    assert!(
        !all.is_empty() && all.iter().all(|one| one.contains(&wanted)),
        "{all:?}"
    );
    paste(&all[0]).expect(0, &[]);
    assert!(!root.path().join("devicemapper").exists());
}

#[test]
fn a_missing_branch_is_told_with_the_ways_on() {
    let (tool, root) = (Tool::new(), small_root());
    fs::remove_dir_all(root.branch("base")).unwrap();
    let ended = tool.run("convert", &root.path(), &["--jobs", "3"]);
    ended.expect(1, &["is missing", "backup", "docker rmi", "Next: "]);
    let branch = root.branch("base").display().to_string();
    assert!(
        ended.err.contains(&format!("error: {branch}: ")),
        "{ended:?}"
    );
    let again = format!("aufs2dm convert --jobs 3 --root {}", root.path().display());
    let all = commands(&ended.err);
    assert!(all.iter().any(|one| one.starts_with(&again)), "{all:?}");
    assert!(
        all.iter()
            .any(|one| one.starts_with("aufs2dm verify --full")),
        "{all:?}"
    );
}

#[test]
fn json_of_a_converted_root_is_one_object_whatever_was_asked() {
    let (tool, root) = (Tool::new(), small_root());
    tool.run("convert", &root.path(), &[]).expect(0, &[]);
    for options in [&["--json"][..], &["--json", "--dry-run"]] {
        let ended = tool.run("convert", &root.path(), options);
        ended.expect(0, &["is already converted"]);
        let value: Value = serde_json::from_str(&ended.out).unwrap();
        assert_eq!(value["state"], "converted", "{ended:?}");
    }
}

#[test]
fn a_refused_switch_of_the_daemon_names_the_same_run_without_it() {
    let (tool, root) = (Tool::new(), small_root());
    let begins = |root: &Path| format!("aufs2dm convert --jobs 3 --root {}", root.display());
    fs::remove_dir_all(tool.host_root().join("etc")).unwrap();
    for has_etc in [false, true] {
        if has_etc {
            fs::create_dir(tool.host_root().join("etc")).unwrap();
        }
        let options = ["--switch-daemon", "--jobs", "3"];
        let ended = tool.run("convert", &root.path(), &options);
        ended.expect(1, &["--switch-daemon"]);
        let all = commands(&ended.err);
        let without = all
            .iter()
            .find(|one| one.starts_with(&begins(&root.path())));
        assert!(
            without.is_some_and(|one| !one.contains("switch")),
            "{ended:?}"
        );
    }
}

#[test]
fn no_advice_needs_a_docker_that_has_no_aufs_root() {
    let (tool, root) = (Tool::new(), large_root());
    let disk = Disk::tmpfs("150m", &root.path());
    let ended = tool.run("convert", &disk.root(), &[]);
    ended.expect(1, &["`docker images`, `docker rmi`"]);
}

#[test]
fn a_host_whose_docker_is_told_aufs_is_named_before_the_aufs_side_goes_and_after() {
    let (tool, root) = (Tool::new(), small_root());
    let root = root.path();
    let config = tool.host_root().join("etc/docker/daemon.json");
    fs::create_dir_all(config.parent().unwrap()).unwrap();
    fs::write(&config, r#"{"storage-driver": "aufs"}"#).unwrap();
    tool.run("convert", &root, &[]).expect(0, &[]);
    tool.run("verify", &root, &["--full"]).expect(0, &[]);
    let words = "line 1: storage-driver \"aufs\"; set devicemapper there";
    let named = |verb: &str, options: &[&str]| {
        let ended = tool.run(verb, &root, options);
        ended.expect(0, &[]);
        assert!(
            format!("{}{}", ended.out, ended.err).contains(words),
            "{ended:?}"
        );
    };
    named("status", &[]);
    let told = || {
        let ended = tool.run("status", &root, &["--json"]);
        let json: Value = serde_json::from_str(&ended.out).unwrap();
        json["told_aufs"].as_str().map(str::to_owned)
    };
    assert!(told().unwrap().contains(words));
    named("commit", &["--yes"]);
    named("status", &[]);
    assert!(told().unwrap().contains(words));
    fs::write(&config, r#"{"storage-driver": "devicemapper"}"#).unwrap();
    assert_eq!(told(), None);
    let status = tool.run("status", &root, &[]);
    assert!(!status.out.contains("would use aufs"), "{status:?}");
}
