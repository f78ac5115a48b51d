//! The change to the daemon's configuration: planned, made, and undone.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::PathBuf;

use aufs2dm::daemon::first_start::{
    ConfigEdit, Record, Switch, SwitchError, apply, plan_switch, restore,
};

use super::{GOOD_CONFIG, Machine, UPSTREAM_UNIT};

const CONFIG: &str = "/etc/docker/daemon.json";

fn planned(machine: &Machine) -> ConfigEdit {
    match plan_switch(&machine.host(), &machine.target) {
        Switch::Edit(edit) => edit,
        other => panic!("{other:?}"),
    }
}

/// Fails unless something must be changed by hand, with these words in some line.
#[track_caller]
fn by_hand(machine: &Machine, words: &[&str]) {
    let Switch::ByHand { lines } = plan_switch(&machine.host(), &machine.target) else {
        panic!("nothing by hand");
    };
    let all = machine.shorten(&lines.join("\n"));
    for word in words {
        assert!(all.contains(word), "{word:?} is not in:\n{all}");
    }
}

fn names(machine: &Machine) -> Vec<PathBuf> {
    let entries = fs::read_dir(machine.at("/etc/docker")).unwrap();
    let mut names: Vec<_> = entries
        .map(|entry| entry.unwrap().file_name().into())
        .collect();
    names.sort_unstable();
    names
}

#[test]
fn settings_in_order_need_nothing() {
    let machine = Machine::new();
    assert_eq!(
        plan_switch(&machine.host(), &machine.target),
        Switch::Nothing
    );
    let by_flag = Machine::new()
        .without(CONFIG)
        .with("/etc/default/docker", "DOCKER_OPTS='-s devicemapper'\n");
    assert_eq!(
        plan_switch(&by_flag.host(), &by_flag.target),
        Switch::Nothing
    );
}

#[test]
fn the_edit_says_what_it_changes() {
    let machine = Machine::new().wants(&["dm.datadev=/dev/a", "dm.metadatadev=/dev/b"]).with(
        CONFIG,
        "{\"debug\": true, \"storage-opts\": [\"overlay2.size=1G\", \"dm.fs=ext4\", \"dm.datadev=/dev/a\"]}",
    );
    let edit = planned(&machine);
    assert_eq!(
        edit.content,
        "{\"debug\": true, \"storage-opts\": [\"dm.fs=ext4\", \"dm.datadev=/dev/a\", \"dm.metadatadev=/dev/b\"], \
         \"storage-driver\": \"devicemapper\"}"
    );
    let notes = edit.notes.join("\n");
    for word in ["devicemapper", "overlay2.size=1G", "dm.metadatadev=/dev/b"] {
        assert!(notes.contains(word), "{notes}");
    }
    assert!(!notes.contains("dm.fs"), "{notes}");
}

#[test]
fn what_flags_say_is_changed_by_hand() {
    let unit = "/etc/systemd/system/docker.service";
    let of = |line: &str| {
        let text = format!("[Service]\nExecStart=/usr/bin/dockerd \\\n   {line}\n");
        Machine::new().with(CONFIG, "{}").with(unit, &text)
    };
    by_hand(
        &of("-s aufs"),
        &[
            "docker.service, line 3: replace `-s aufs` with `-s devicemapper`",
            "systemctl daemon-reload",
        ],
    );
    by_hand(
        &of("--storage-opt=overlay2.size=1G -s devicemapper"),
        &["line 3: remove `--storage-opt=overlay2.size=1G`"],
    );
    by_hand(
        &of("-s devicemapper --storage-opt dm.fs=ext4").wants(&["dm.thinpooldev=/dev/mapper/p"]),
        &["line 3: add `--storage-opt dm.thinpooldev=/dev/mapper/p`"],
    );
    by_hand(
        &of("-s devicemapper").with(CONFIG, GOOD_CONFIG),
        &["/etc/docker/daemon.json, line 2: remove \"storage-driver\""],
    );
    by_hand(
        &Machine::new().with("/etc/default/docker", "\nDOCKER_DRIVER=aufs\n"),
        &[
            "/etc/default/docker, line 2: replace `DOCKER_DRIVER=aufs` with `DOCKER_DRIVER=devicemapper`",
        ],
    );
}

#[test]
fn a_file_that_is_no_json_is_changed_by_hand() {
    let machine = Machine::new()
        .wants(&["dm.thinpooldev=/dev/mapper/p"])
        .with(CONFIG, "{\n  # no\n}");
    by_hand(
        &machine,
        &[
            "/etc/docker/daemon.json, line 2",
            "add \"storage-driver\": \"devicemapper\"",
            "add \"storage-opts\": [\"dm.thinpooldev=/dev/mapper/p\"]",
        ],
    );
}

#[test]
fn a_file_whose_edit_no_later_command_would_accept_is_changed_by_hand() {
    let half = r#"{"data-root": "/srv", "label": "\ud800"}"#;
    let machine = Machine::new().with(CONFIG, half);
    by_hand(
        &machine,
        &[
            "/etc/docker/daemon.json: ",
            "line 1",
            "add \"storage-driver\": \"devicemapper\"",
        ],
    );
}

#[test]
fn the_new_file_is_like_the_old_one_and_the_old_one_comes_back() {
    let text = "{\"storage-driver\": \"aufs\"}";
    let machine = Machine::new().with(CONFIG, text);
    let path = machine.at(CONFIG);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
    let has_attribute = xattr::set(&path, "user.note", b"kept").is_ok();
    let old = fs::metadata(&path).unwrap();
    let switch = plan_switch(&machine.host(), &machine.target);
    let record = switch.record().unwrap();
    apply(&switch).unwrap();
    assert_eq!(
        fs::read_to_string(&path).unwrap(),
        text.replace("aufs", "devicemapper")
    );
    let new = fs::metadata(&path).unwrap();
    assert_eq!(
        (new.mode(), new.uid(), new.gid()),
        (old.mode(), old.uid(), old.gid())
    );
    if has_attribute {
        assert_eq!(xattr::get(&path, "user.note").unwrap().unwrap(), b"kept");
    }
    assert_eq!(
        names(&machine),
        [
            PathBuf::from("daemon.json"),
            "daemon.json.aufs2dm-original".into()
        ]
    );

    restore(&record).unwrap();
    let back = fs::metadata(&path).unwrap();
    assert_eq!(
        (back.ino(), back.mtime_nsec()),
        (old.ino(), old.mtime_nsec())
    );
    assert_eq!(fs::read_to_string(&path).unwrap(), text);
    assert_eq!(names(&machine), [PathBuf::from("daemon.json")]);
    restore(&record).unwrap();
}

#[test]
fn a_new_file_goes_again() {
    let machine = Machine::new().without(CONFIG);
    fs::remove_dir(machine.at("/etc/docker")).unwrap();
    let switch = plan_switch(&machine.host(), &machine.target);
    apply(&switch).unwrap();
    assert_eq!(fs::read_to_string(machine.at(CONFIG)).unwrap(), GOOD_CONFIG);
    assert_eq!(names(&machine), [PathBuf::from("daemon.json")]);
    restore(&switch.record().unwrap()).unwrap();
    assert!(names(&machine).is_empty());
}

#[test]
fn a_link_stays_and_its_target_is_edited() {
    let machine = Machine::new()
        .without(CONFIG)
        .with("/srv/docker.json", "{\"storage-driver\":\"aufs\"}");
    symlink("/srv/docker.json", machine.at(CONFIG)).unwrap();
    let switch = plan_switch(&machine.host(), &machine.target);
    apply(&switch).unwrap();
    assert!(machine.at(CONFIG).is_symlink());
    assert!(
        fs::read_to_string(machine.at("/srv/docker.json"))
            .unwrap()
            .contains("devicemapper")
    );
    restore(&switch.record().unwrap()).unwrap();
    assert!(
        fs::read_to_string(machine.at("/srv/docker.json"))
            .unwrap()
            .contains("aufs")
    );
}

#[test]
fn a_file_that_changed_meanwhile_is_left() {
    let machine = Machine::new().with(CONFIG, "{\"storage-driver\":\"aufs\"}");
    let switch = plan_switch(&machine.host(), &machine.target);
    let machine = machine.with(CONFIG, "{\"debug\":true}");
    assert!(matches!(apply(&switch), Err(SwitchError::Changed { .. })));
    assert_eq!(names(&machine), [PathBuf::from("daemon.json")]);

    let switch = plan_switch(&machine.host(), &machine.target);
    apply(&switch).unwrap();
    let machine = machine.with(CONFIG, "{\"debug\":false}");
    assert!(matches!(
        restore(&switch.record().unwrap()),
        Err(SwitchError::Changed { .. })
    ));
    assert_eq!(
        fs::read_to_string(machine.at(CONFIG)).unwrap(),
        "{\"debug\":false}"
    );
}

#[test]
fn an_original_that_is_gone_is_told() {
    let machine = Machine::new().with(CONFIG, "{}");
    let switch = plan_switch(&machine.host(), &machine.target);
    apply(&switch).unwrap();
    let original = machine.at("/etc/docker/daemon.json.aufs2dm-original");
    fs::write(&original, "other").unwrap();
    assert!(matches!(
        restore(&switch.record().unwrap()),
        Err(SwitchError::OriginalGone { .. })
    ));
    fs::remove_file(&original).unwrap();
    assert!(matches!(
        restore(&switch.record().unwrap()),
        Err(SwitchError::OriginalGone { .. })
    ));
}

#[test]
fn a_name_that_is_taken_by_something_else_is_told() {
    let machine = Machine::new().with(CONFIG, "{}").with(
        "/etc/docker/daemon.json.aufs2dm-original",
        "of an earlier time",
    );
    let switch = plan_switch(&machine.host(), &machine.target);
    assert!(matches!(apply(&switch), Err(SwitchError::Occupied { .. })));
    assert_eq!(fs::read_to_string(machine.at(CONFIG)).unwrap(), "{}");
    assert_eq!(names(&machine).len(), 2);
}

#[test]
fn an_apply_that_was_interrupted_is_undone_or_made_again() {
    let text = "{\"storage-driver\":\"aufs\"}";
    let machine = Machine::new().with(CONFIG, text);
    let switch = plan_switch(&machine.host(), &machine.target);
    // Killed before the rename: the half-written new file and the second name of the old one.
    let halfway = || {
        fs::write(machine.at("/etc/docker/daemon.json.aufs2dm-new"), "{").unwrap();
        fs::hard_link(
            machine.at(CONFIG),
            machine.at("/etc/docker/daemon.json.aufs2dm-original"),
        )
        .unwrap();
    };
    halfway();
    restore(&switch.record().unwrap()).unwrap();
    assert_eq!(fs::read_to_string(machine.at(CONFIG)).unwrap(), text);
    assert_eq!(names(&machine), [PathBuf::from("daemon.json")]);
    halfway();
    apply(&switch).unwrap();
    assert_eq!(names(&machine).len(), 2);
    restore(&switch.record().unwrap()).unwrap();
    assert_eq!(fs::read_to_string(machine.at(CONFIG)).unwrap(), text);
}

#[test]
fn plan_and_record_survive_a_journal() {
    let machine = Machine::new()
        .with("/lib/systemd/system/docker.service", UPSTREAM_UNIT)
        .with(CONFIG, "{}");
    let switch = plan_switch(&machine.host(), &machine.target);
    let text = serde_json::to_string(&switch).unwrap();
    assert_eq!(serde_json::from_str::<Switch>(&text).unwrap(), switch);
    let record = switch.record().unwrap();
    let text = serde_json::to_string(&record).unwrap();
    assert_eq!(serde_json::from_str::<Record>(&text).unwrap(), record);
    assert_eq!(Switch::Nothing.record(), None);
}
