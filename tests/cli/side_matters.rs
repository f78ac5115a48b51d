//! What is beside the root makes no command impossible, and the last lines say what became of it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::interrupted::wait_for;
use super::preflight::{Flagged, Mounted};
use super::run::{Ended, Tool, large_root, small_root};
use super::support::root::AufsRoot;
use super::support::trace::{assert_same, contents, trace_but_reads};

const CONFIG: &str = "etc/docker/daemon.json";
const OLD: &str = r#"{"debug": true}"#;
const UNIT: &str = "[Service]\nExecStart=/usr/bin/dockerd -H fd://\n";

/// A host whose Docker is told by `daemon.json`.
struct Host {
    tool: Tool,
}

impl Host {
    fn new(daemon_json: Option<&str>) -> Self {
        let host = Self { tool: Tool::new() };
        host.write("lib/systemd/system/docker.service", UNIT);
        fs::create_dir_all(host.at("etc/docker")).unwrap();
        if let Some(text) = daemon_json {
            host.write(CONFIG, text);
        }
        host
    }

    fn at(&self, path: &str) -> PathBuf {
        self.tool.host_root().join(path)
    }

    fn write(&self, path: &str, text: &str) {
        fs::create_dir_all(self.at(path).parent().unwrap()).unwrap();
        fs::write(self.at(path), text).unwrap();
    }

    fn config(&self) -> String {
        fs::read_to_string(self.at(CONFIG)).unwrap()
    }

    fn run(&self, verb: &str, root: &Path, options: &[&str]) -> Ended {
        self.tool.run(verb, root, options)
    }
}

/// A root is converted and the daemon told; then something happens to the file, as long as what is given lives. `rollback` must do all
/// the same and say these words.
#[track_caller]
fn rolled_back<T>(
    old: Option<&str>,
    happens: impl FnOnce(&Host) -> T,
    words: &[&str],
) -> (Host, Ended) {
    let (host, root) = (Host::new(old), small_root());
    let before = trace_but_reads(&root.path());
    host.run("convert", &root.path(), &["--switch-daemon"])
        .expect(0, &[]);
    assert!(host.config().contains("devicemapper"));
    let happened = happens(&host);
    let ended = host.run("rollback", &root.path(), &[]);
    drop(happened);
    ended.expect(0, words);
    assert_same(&before, &trace_but_reads(&root.path()));
    assert!(!ended.out.contains("is as it was, too"), "{ended:?}");
    (host, ended)
}

#[test]
fn a_daemon_json_on_a_read_only_file_system_does_not_keep_the_root_from_going_back() {
    for (old, command) in [(Some(OLD), "mv "), (None, "rm ")] {
        let read_only = |host: &Host| Mounted::read_only(&host.at("etc"));
        let (host, ended) = rolled_back(
            old,
            read_only,
            &["daemon.json", "ead-only file system", command],
        );
        // What is printed does it.
        let line = ended.err.split('`').nth(1).unwrap();
        assert!(line.starts_with(command), "{line}");
        let done = std::process::Command::new("sh").args(["-c", line]).status();
        assert!(done.unwrap().success());
        match old {
            Some(text) => assert_eq!(host.config(), text),
            None => assert!(!host.at(CONFIG).exists()),
        }
    }
}

#[test]
fn an_immutable_daemon_json_does_not_keep_the_root_from_going_back() {
    let flag = |host: &Host| {
        let flag = Flagged::new('i', &host.at(CONFIG));
        if flag.is_none() {
            // No such flags here: what else cannot be replaced.
            fs::remove_file(host.at(CONFIG)).unwrap();
            fs::create_dir(host.at(CONFIG)).unwrap();
        }
        flag
    };
    rolled_back(
        Some(OLD),
        flag,
        &["daemon.json", "aufs again before it starts"],
    );
}

#[test]
fn a_daemon_json_or_its_original_that_is_gone_does_not_keep_the_root_from_going_back() {
    let without_original = |host: &Host| {
        fs::remove_file(host.at("etc/docker/daemon.json.aufs2dm-original")).unwrap();
    };
    let words = [
        "aufs2dm-original",
        "is missing",
        "\"storage-driver\": \"aufs\" in ",
        CONFIG,
    ];
    rolled_back(Some(OLD), without_original, &words);
    let without_file = |host: &Host| fs::remove_file(host.at(CONFIG)).unwrap();
    let (host, ended) = rolled_back(
        Some(OLD),
        without_file,
        &["daemon.json", "aufs again before it starts"],
    );
    // The old file is there still: the line puts it in its place.
    let path = host.at(CONFIG).display().to_string();
    let line = format!("mv {path}.aufs2dm-original {path}");
    ended.expect(0, &[&format!("`{line}`")]);
    let moved = Command::new("sh").args(["-c", &line]).status();
    assert!(moved.unwrap().success());
    assert_eq!(host.config(), OLD);
    let without_directory = |host: &Host| fs::remove_dir_all(host.at("etc/docker")).unwrap();
    rolled_back(
        Some(OLD),
        without_directory,
        &["daemon.json", "aufs again before it starts"],
    );
}

/// Kills a conversion that was to tell the daemon as soon as layers are durable.
fn killed(host: &Host, root: &AufsRoot) {
    let options = ["--jobs", "1", "--checkpoint", "0", "--switch-daemon"];
    let mut child = host.tool.start(&root.path(), &options);
    wait_for(&root.path().join(".aufs2dm/devicemapper/devicemapper/data"));
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn a_daemon_json_that_became_read_only_does_not_keep_a_conversion_from_going_on() {
    let (host, root) = (Host::new(Some(OLD)), large_root());
    killed(&host, &root);
    let resumed = {
        let _read_only = Mounted::read_only(&host.at("etc"));
        host.run("resume", &root.path(), &[])
    };
    resumed.expect(
        0,
        &[
            "read-only file system",
            "daemon.json",
            "by hand before Docker starts",
        ],
    );
    assert!(!resumed.err.contains("run again without"), "{resumed:?}");
    assert!(!resumed.out.contains("changed "), "{resumed:?}");
    assert!(root.path().join("devicemapper/metadata/base").exists());
    assert_eq!(host.config(), OLD);
    host.run("rollback", &root.path(), &[]).expect(0, &[]);
    assert_eq!(host.config(), OLD);
}

#[test]
fn a_flag_that_names_the_driver_since_does_not_keep_a_conversion_from_going_on() {
    let (host, root) = (Host::new(Some(OLD)), large_root());
    killed(&host, &root);
    let drop_in = "[Service]\nExecStart=\nExecStart=/usr/bin/dockerd --storage-driver aufs\n";
    host.write("etc/systemd/system/docker.service.d/10.conf", drop_in);
    let resumed = host.run("resume", &root.path(), &[]);
    resumed.expect(0, &["10.conf, line 3", "by hand before Docker starts"]);
    assert!(
        resumed
            .out
            .contains("10.conf, line 3: replace `--storage-driver aufs`"),
        "{resumed:?}"
    );
    assert_eq!(host.config(), OLD);
}

#[test]
fn a_pid_file_whose_directory_is_gone_keeps_nothing_from_going_on_or_back() {
    for verb in ["resume", "rollback"] {
        let (tool, root) = (Tool::new(), large_root());
        let before = contents(&root.path().join("aufs"));
        let run = tool.host_root().join("run");
        fs::create_dir(&run).unwrap();
        let command = |verb: &str, options: &[&str]| {
            let mut command = std::process::Command::new(super::run::BINARY);
            command
                .arg(verb)
                .arg("--root")
                .arg(root.path())
                .args(options);
            command.arg("--pidfile").arg(run.join("docker.pid"));
            command.arg("--host-root").arg(tool.host_root());
            command
        };
        let mut child = command("convert", &["--jobs", "1", "--checkpoint", "0"])
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        wait_for(&root.path().join(".aufs2dm/devicemapper/devicemapper/data"));
        child.kill().unwrap();
        child.wait().unwrap();
        fs::remove_dir_all(&run).unwrap();
        let ended = Ended::new(&command(verb, &[]).output().unwrap());
        ended.expect(0, &["run: does not exist"]);
        assert_same(&before, &contents(&root.path().join("aufs")));
        assert_eq!(root.path().join("devicemapper").exists(), verb == "resume");
        assert!(!run.exists());
    }
}

#[test]
fn the_last_lines_say_what_became_of_the_daemons_file() {
    let (host, root) = (Host::new(Some(OLD)), small_root());
    let converted = host.run("convert", &root.path(), &["--switch-daemon"]);
    converted.expect(0, &[]);
    let config = host.at(CONFIG);
    let said = format!(
        "changed {0}, the old file is {0}.aufs2dm-original",
        config.display()
    );
    assert!(converted.out.contains(&said), "{converted:?}");
    assert!(!converted.out.contains("put this in"), "{converted:?}");
    let back = host.run("rollback", &root.path(), &[]);
    back.expect(0, &[]);
    let said = format!("{} is as it was, too", config.display());
    assert!(
        back.out.contains(&said) && !back.out.contains("undo"),
        "{back:?}"
    );
    assert_eq!(host.config(), OLD);
    // Without it nobody has told Docker, and nobody takes it back.
    let converted = host.run("convert", &root.path(), &[]);
    converted.expect(0, &[]);
    let put = format!("put this in {} (", config.display());
    assert!(converted.out.contains(&put), "{converted:?}");
    let back = host.run("rollback", &root.path(), &[]);
    back.expect(0, &[]);
    assert!(!back.out.contains("aufs again"), "{back:?}");
    // Where there was none, there is none again.
    fs::remove_file(&config).unwrap();
    let converted = host.run("convert", &root.path(), &["--switch-daemon"]);
    assert!(
        converted
            .out
            .contains(&format!("created {}", config.display())),
        "{converted:?}"
    );
    host.run("rollback", &root.path(), &[]).expect(0, &[]);
    assert!(!config.exists());
}

#[test]
fn the_last_lines_name_what_is_left_to_do_in_dockers_settings_and_no_more() {
    let (host, root) = (Host::new(None), small_root());
    // Whoever has told it himself is told to take it back, with the file.
    host.write(
        CONFIG,
        r#"{"storage-driver": "devicemapper", "storage-opts": ["dm.fs=ext4"]}"#,
    );
    let converted = host.run("convert", &root.path(), &[]);
    converted.expect(0, &[]);
    assert!(
        converted.out.contains("is already configured to use it"),
        "{converted:?}"
    );
    assert!(!converted.out.contains("put this in"), "{converted:?}");
    let back = host.run("rollback", &root.path(), &[]);
    for words in ["aufs again", "daemon.json", "set aufs instead", "remove it"] {
        assert!(back.out.contains(words), "{words}: {back:?}");
    }
    // Where nothing shows what starts Docker, no file is named.
    let unknown = Tool::new();
    fs::remove_file(unknown.host_root().join(Tool::UNIT)).unwrap();
    let converted = unknown.run("convert", &root.path(), &[]);
    converted.expect(0, &["nothing on this host shows what starts Docker"]);
    assert!(!converted.out.contains("daemon.json"), "{converted:?}");
    assert!(!converted.err.contains("daemon.json"), "{converted:?}");
    let wanted = "it needs `--storage-driver devicemapper`";
    assert!(converted.out.contains(wanted), "{converted:?}");
    let back = unknown.run("rollback", &root.path(), &[]);
    assert!(back.out.contains("undo \"storage-driver\""), "{back:?}");
}

#[test]
fn where_a_unit_names_another_driver_the_last_lines_name_the_unit() {
    let (host, root) = (Host::new(None), small_root());
    let drop_in = "[Service]\nExecStart=\nExecStart=/usr/bin/dockerd --storage-driver aufs\n";
    host.write(
        "lib/systemd/system/docker.service.d/10-machine.conf",
        drop_in,
    );
    let converted = host.run("convert", &root.path(), &[]);
    converted.expect(0, &["10-machine.conf, line 3"]);
    let wanted = "10-machine.conf, line 3: replace `--storage-driver aufs` with `--storage-driver devicemapper`";
    assert!(converted.out.contains(wanted), "{converted:?}");
    assert!(!converted.out.contains("daemon.json"), "{converted:?}");
}

#[test]
fn a_root_on_a_read_only_mount_is_verified_and_changed_by_nothing() {
    let (tool, root) = (Tool::new(), small_root());
    let root = root.path();
    let command = format!("mount -o remount,rw {}`", root.display());
    {
        let before = contents(&root);
        let _read_only = Mounted::read_only(&root);
        tool.run("verify", &root, &[]).expect(0, &[]);
        tool.run("convert", &root, &[])
            .expect(1, &["read-only", "nothing was written", &command]);
        tool.run("rollback", &root, &[])
            .expect(1, &["read-only", "nothing was changed", &command]);
        assert_same(&before, &contents(&root));
    }
    tool.run("convert", &root, &[]).expect(0, &[]);
    {
        let before = contents(&root);
        let _read_only = Mounted::read_only(&root);
        for options in [&[][..], &["--full"]] {
            let verified = tool.run("verify", &root, options);
            verified.expect(0, &[]);
            assert!(
                verified.out.contains("is not recorded in the journal"),
                "{verified:?}"
            );
        }
        for (verb, options) in [("rollback", &[][..]), ("commit", &["--yes"])] {
            tool.run(verb, &root, options)
                .expect(1, &["read-only", "nothing was changed", &command]);
        }
        assert_same(&before, &contents(&root));
    }
    tool.run("verify", &root, &["--full"]).expect(0, &[]);
    tool.run("commit", &root, &["--yes"]).expect(0, &[]);
}

#[test]
fn an_interrupted_conversion_on_a_read_only_mount_waits() {
    let (host, root) = (Host::new(Some(OLD)), large_root());
    killed(&host, &root);
    let root = root.path();
    let before = contents(&root);
    {
        let _read_only = Mounted::read_only(&root);
        for verb in ["resume", "rollback"] {
            host.run(verb, &root, &[])
                .expect(1, &["read-only", "nothing was changed", "remount,rw"]);
        }
    }
    assert_same(&before, &contents(&root));
    host.run("resume", &root, &[]).expect(0, &[]);
}
