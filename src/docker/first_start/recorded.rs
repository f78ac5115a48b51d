//! An edit of `daemon.json` as a journal has it: checked before it is believed.
//!
//! A journal may come with a disk from a host that was broken into. It must not make this program write or remove any file but the
//! daemon's own, nor change anything in that but the storage driver.

use std::fs;
use std::path::Path;

use serde_json::{Map, Value};

use super::super::daemon::Host;
use super::host_files::HostFiles;
use super::settings::Settings;
use super::switch::{ConfigEdit, ORIGINAL, Switch, SwitchError, beside, digest};

/// The members of `daemon.json` that an edit changes.
const OWN_KEYS: [&str; 2] = ["storage-driver", "storage-opts"];

/// Makes sure that a recorded switch edits the `daemon.json` to which the host's settings lead, and only what
/// [`plan_switch`](super::plan_switch) would change in it. Where the host's `/` is mounted elsewhere by now, the switch is led to
/// that place; whether it is the same host is for the caller to know. Changes nothing on disk.
///
/// # Errors
///
/// [`SwitchError::OtherFile`] and [`SwitchError::OtherChange`].
pub fn check_recorded(switch: &mut Switch, host: &Host) -> Result<(), SwitchError> {
    let Switch::Edit(edit) = switch else {
        return Ok(());
    };
    let files = HostFiles::new(&host.root);
    let expected = files.place(&Settings::read(&files).config_path);
    let moved = edit
        .path
        .strip_prefix(&edit.host_root)
        .map(|inner| host.root.join(inner));
    if is_same_place(&edit.path, &expected) {
        // As it was.
    } else if moved.is_ok_and(|moved| is_same_place(&moved, &expected)) {
        edit.path = expected;
    } else {
        return Err(SwitchError::OtherFile {
            path: edit.path.clone(),
            expected,
        });
    }
    if changes_own_keys_only(edit) {
        Ok(())
    } else {
        Err(SwitchError::OtherChange {
            path: edit.path.clone(),
        })
    }
}

/// Whether two paths name the same place, as far as that can be told of what need not exist.
fn is_same_place(a: &Path, b: &Path) -> bool {
    let resolved = |path: &Path| {
        let directory = path.parent()?.canonicalize().ok()?;
        Some(directory.join(path.file_name()?))
    };
    a == b || resolved(a).is_some_and(|a| Some(a) == resolved(b))
}

/// Whether the new text says the same as the old but for the driver. Where the old text is gone, [`apply`](super::apply) and
/// [`restore`](super::restore) write nothing.
fn changes_own_keys_only(edit: &ConfigEdit) -> bool {
    let before = match &edit.old {
        None => Some(Map::new()),
        Some(old) => [edit.path.clone(), beside(&edit.path, ORIGINAL)]
            .iter()
            .find_map(|path| Some(fs::read(path).ok()?).filter(|text| digest(text) == *old))
            .and_then(|text| others(&text)),
    };
    match (before, others(edit.content.as_bytes())) {
        (Some(before), Some(after)) => before == after,
        (None, Some(_)) => true,
        (_, None) => false,
    }
}

/// What a text says besides; `None` if it is no object.
fn others(text: &[u8]) -> Option<Map<String, Value>> {
    if text.trim_ascii().is_empty() {
        return Some(Map::new());
    }
    let mut members: Map<String, Value> = serde_json::from_slice(text).ok()?;
    for key in OWN_KEYS {
        members.remove(key);
    }
    Some(members)
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    struct Fixture {
        dir: tempfile::TempDir,
    }

    impl Fixture {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            fs::create_dir_all(dir.path().join("etc/docker")).unwrap();
            Self { dir }
        }

        fn path(&self) -> PathBuf {
            self.dir.path().join("etc/docker/daemon.json")
        }

        fn check(
            &self,
            path: PathBuf,
            content: &str,
            old: Option<&str>,
        ) -> Result<(), SwitchError> {
            let host = Host {
                root: self.dir.path().to_owned(),
                ..Host::default()
            };
            let edit = ConfigEdit {
                path,
                host_root: PathBuf::new(),
                content: content.to_owned(),
                old: old.map(|text| digest(text.as_bytes())),
                notes: Vec::new(),
            };
            check_recorded(&mut Switch::Edit(edit), &host)
        }
    }

    #[test]
    fn only_the_daemons_own_file_is_edited() {
        let fixture = Fixture::new();
        let content = r#"{"storage-driver":"devicemapper"}"#;
        assert!(fixture.check(fixture.path(), content, None).is_ok());
        for path in [
            PathBuf::from("/etc/cron.d/x"),
            fixture.dir.path().join("etc/passwd"),
            fixture.dir.path().join("etc/docker/../passwd"),
        ] {
            let error = fixture.check(path, content, None).unwrap_err();
            assert!(matches!(error, SwitchError::OtherFile { .. }), "{error}");
        }
    }

    #[test]
    fn only_the_driver_and_its_options_change() {
        let fixture = Fixture::new();
        let old = r#"{"debug":true,"storage-driver":"aufs"}"#;
        fs::write(fixture.path(), old).unwrap();
        let good = r#"{"debug":true,"storage-driver":"devicemapper","storage-opts":["dm.x=y"]}"#;
        assert!(fixture.check(fixture.path(), good, Some(old)).is_ok());
        for forged in [
            "evil",
            "[]",
            r#"{"storage-driver":"devicemapper"}"#,
            r#"{"debug":true,"storage-driver":"devicemapper","hosts":["tcp://0.0.0.0:2375"]}"#,
        ] {
            let error = fixture
                .check(fixture.path(), forged, Some(old))
                .unwrap_err();
            assert!(matches!(error, SwitchError::OtherChange { .. }), "{forged}");
        }
        // As if there had been none: restoring would remove the file.
        assert!(fixture.check(fixture.path(), old, None).is_err());
    }
    #[test]
    fn the_file_of_a_host_that_is_mounted_elsewhere_now_is_the_one_that_is_edited() {
        let fixture = Fixture::new();
        let host = Host {
            root: fixture.dir.path().to_owned(),
            ..Host::default()
        };
        let led_to = |path: &str, host_root: &str| {
            let mut switch = Switch::Edit(ConfigEdit {
                path: path.into(),
                host_root: host_root.into(),
                content: r#"{"storage-driver":"devicemapper"}"#.to_owned(),
                old: None,
                notes: Vec::new(),
            });
            check_recorded(&mut switch, &host).ok()?;
            switch.record().map(|record| record.path)
        };
        let there = Some(fixture.path());
        assert_eq!(led_to("/mnt/a/etc/docker/daemon.json", "/mnt/a"), there);
        assert_eq!(led_to("/etc/docker/daemon.json", "/"), there);
        for (path, host_root) in [
            ("/mnt/a/etc/docker/daemon.json", "/mnt"),
            ("/mnt/a/etc/passwd", "/mnt/a"),
            ("/mnt/a/etc/docker/daemon.json", ""),
        ] {
            assert_eq!(led_to(path, host_root), None, "{path} {host_root}");
        }
    }
}
