//! Arguments, help, and what the command says of itself.

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use super::run::{BINARY, Ended, Tool, small_root};
use super::support::trace::{assert_same, contents};
use crate::support::scratch::scratch;

fn run(arguments: &[&str]) -> Ended {
    Ended::new(&Command::new(BINARY).args(arguments).output().unwrap())
}

#[test]
fn each_command_has_help_with_an_example() {
    for verb in ["inspect", "convert"] {
        let help = run(&[verb, "--help"]);
        help.expect(0, &[]);
        assert!(help.out.contains("Example:\n"), "{}", help.out);
        assert!(
            help.out.contains(&format!("  aufs2dm {verb}")),
            "{}",
            help.out
        );
    }
    assert!(run(&["--help"]).out.contains("Exit codes:"));
    let version = run(&["--version"]).out;
    assert_eq!(version, format!("aufs2dm {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn wrong_usage_exits_with_2_and_names_the_argument() {
    for (arguments, word) in [
        (&[][..], "Usage"),
        (&["export"], "export"),
        (&["convert", "--fast"], "--fast"),
        (&["convert", "--engine", "turbo"], "turbo"),
        (&["convert", "--jobs", "0"], "from 1 to 512"),
        (&["convert", "--jobs", "100000"], "from 1 to 512"),
        (&["convert", "--base-size", "1.5G"], "1.5G"),
        (&["convert", "--data-size", "-1"], "-1"),
        (&["convert", "--metadata-size", "99999999999T"], "too large"),
        (&["convert", "--engine", "direct", "--fs", "xfs"], "kernel"),
        (
            &[
                "convert",
                "--engine",
                "direct",
                "--thin-pool",
                "/dev/mapper/p",
            ],
            "kernel",
        ),
        (
            &["convert", "--engine", "kernel", "--metadata-csum"],
            "--metadata-csum",
        ),
        (&["convert", "--data-device", "/dev/a"], "--metadata-device"),
        (
            &[
                "convert",
                "--thin-pool",
                "/dev/mapper/p",
                "--data-size",
                "1G",
            ],
            "--data-size",
        ),
    ] {
        run(arguments).expect(2, &[word]);
    }
}

/// A run in a mount namespace where device-mapper's control node is hidden, whatever this machine has.
fn without_device_mapper(root: &Path, options: &[&str]) -> Ended {
    let tool = Tool::new();
    let run = tool.command("convert", root, options);
    let mut hidden = Command::new("unshare");
    hidden.args(["-m", "sh", "-ec"]);
    hidden.arg("if [ -d /dev/mapper ]; then mount -t tmpfs none /dev/mapper; fi; exec \"$@\"");
    hidden.arg("sh").arg(run.get_program()).args(run.get_args());
    Ended::new(&hidden.output().unwrap())
}

#[test]
fn without_device_mapper_the_kernel_engine_refuses_and_names_the_way_out() {
    let root = small_root();
    let before = contents(&root.path());
    for options in [
        &["--engine", "kernel"][..],
        &["--engine", "kernel", "--dry-run"],
        &["--fs", "xfs"],
        &["--thin-pool", "/dev/mapper/vg-pool"],
        &["--data-device", "/dev/a", "--metadata-device", "/dev/b"],
    ] {
        let ended = without_device_mapper(&root.path(), options);
        ended.expect(1, &["no device-mapper", "modprobe", "--engine direct"]);
        assert_same(&before, &contents(&root.path()));
    }
    without_device_mapper(&root.path(), &["--engine", "direct"]).expect(0, &[]);
}

#[test]
fn another_user_than_root_is_told_to_be_root() {
    let (dir, root) = (scratch(), small_root());
    for path in [
        dir.path().to_owned(),
        root.path().parent().unwrap().to_owned(),
    ] {
        fs::set_permissions(path, fs::Permissions::from_mode(0o777)).unwrap();
    }
    let copy = dir.path().join("aufs2dm");
    fs::copy(BINARY, &copy).unwrap();
    let before = contents(&root.path());
    let as_nobody = |verb: &str| {
        let mut command = Command::new(&copy);
        command.arg(verb).arg("--root").arg(root.path());
        command.arg("--pidfile").arg(dir.path().join("docker.pid"));
        command.uid(65_534).gid(65_534);
        Ended::new(&command.output().unwrap())
    };
    as_nobody("convert").expect(1, &["must run as root"]);
    fs::set_permissions(root.path(), fs::Permissions::from_mode(0o700)).unwrap();
    as_nobody("convert").expect(1, &["ermission denied", "run as root"]);
    as_nobody("inspect").expect(1, &["ermission denied", "run as root"]);
    fs::set_permissions(root.path(), fs::Permissions::from_mode(0o755)).unwrap();
    assert_same(&before, &contents(&root.path()));
    assert!(!dir.path().join("docker.pid").exists());
}

/// What `convert --json` has, done or planned.
const PLANNED: [&str; 28] = [
    "root",
    "converted",
    "images",
    "containers",
    "containers_left",
    "layers",
    "entries",
    "source_bytes",
    "data_bytes",
    "changed_blocks",
    "metadata_blocks",
    "base_size",
    "data_size",
    "metadata_size",
    "min_free",
    "uuid",
    "transaction_id",
    "peak_memory_kib",
    "notices",
    "obstacles",
    "devices",
    "disk_free",
    "flags",
    "fullest",
    "settings_file",
    "engine",
    "file_system",
    "storage_opts",
];

#[test]
fn json_is_all_there_is_on_stdout_and_has_its_names() {
    let (tool, root) = (Tool::new(), small_root());
    let keys = |ended: &Ended| -> Vec<String> {
        ended.expect(0, &[]);
        let value: serde_json::Value = serde_json::from_str(&ended.out).unwrap();
        value.as_object().unwrap().keys().cloned().collect()
    };
    let planned = keys(&tool.run("convert", &root.path(), &["--dry-run", "--json"]));
    let mut expected = PLANNED.to_vec();
    let sorted = |mut names: Vec<String>| {
        names.sort();
        names
    };
    expected.sort_unstable();
    assert_eq!(sorted(planned), expected);
    let inspected = keys(&tool.run("inspect", &root.path(), &["--json"]));
    for name in [
        "root",
        "driver",
        "layout",
        "images",
        "containers",
        "orphans",
        "problems",
        "warnings",
    ] {
        assert!(
            inspected.contains(&name.to_owned()),
            "{name}: {inspected:?}"
        );
    }
    let converted = keys(&tool.run("convert", &root.path(), &["--json"]));
    expected.push("elapsed_ms");
    expected.sort_unstable();
    assert_eq!(sorted(converted), expected);
}

#[test]
fn without_a_terminal_progress_is_plain_lines() {
    let (tool, root) = (Tool::new(), small_root());
    let ended = tool.run("convert", &root.path(), &[]);
    ended.expect(
        0,
        &[
            "reading layers: 0 of 4\n",
            "planning\n",
            "writing data: 0 B of",
        ],
    );
    assert!(!ended.err.contains('\u{1b}') && !ended.err.contains('\r'));
    assert!(ended.out.contains("converted "), "{}", ended.out);
}

#[test]
fn a_conversion_whose_summary_nobody_reads_has_succeeded() {
    for full in [false, true] {
        let (tool, root) = (Tool::new(), small_root());
        let mut command = tool.command("convert", &root.path(), &[]);
        if full {
            command.stdout(File::create("/dev/full").unwrap());
        } else {
            command.stdout(Stdio::piped());
        }
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        drop(child.stdout.take());
        let mut err = String::new();
        child
            .stderr
            .take()
            .unwrap()
            .read_to_string(&mut err)
            .unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(0), "{err}");
        assert!(root.path().join("devicemapper/metadata").exists());
    }
}
