//! Checks an edit of `daemon.json` from a journal before it is trusted.
//!
//! A journal may come with a disk from a host that was broken into. It must not make this program write or remove any
//! file but the daemon's own, nor change anything in that file but the storage driver and its options, nor set these to
//! values that no conversion writes.

use std::fs;
use std::path::Path;

use serde_json::{Map, Value};

use super::choice::DRIVER;
use super::switch::{ConfigEdit, ORIGINAL, Switch, SwitchError, beside, digest};
use crate::daemon::config::{HostFiles, Settings};
use crate::daemon::finding::Host;

/// The members of `daemon.json` that an edit changes.
const OWN_KEYS: [&str; 2] = ["storage-driver", "storage-opts"];

/// Checks that a recorded switch edits the `daemon.json` that the host's settings lead to, and only changes in it what
/// [`plan_switch`](super::switch::plan_switch) would change. If the host's `/` is now mounted elsewhere, the switch's
/// path is updated; the caller must know whether it is the same host. `options` are the storage options by which Docker
/// finds the pool, as the conversion derived them from its own parameters. Changes nothing on disk.
///
/// # Errors
///
/// [`SwitchError::OtherFile`], [`SwitchError::OtherChange`] and [`SwitchError::OtherValue`].
pub fn check_recorded(
    switch: &mut Switch,
    host: &Host,
    options: &[String],
) -> Result<(), SwitchError> {
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
        // The path is unchanged.
    } else if moved.is_ok_and(|moved| is_same_place(&moved, &expected)) {
        edit.path = expected;
    } else {
        return Err(SwitchError::OtherFile {
            path: edit.path.clone(),
            expected,
        });
    }
    check_values(edit, options)
}

/// Checks that the new text differs from the old one only in the driver and its options, and that these have values
/// that a conversion writes.
fn check_values(edit: &ConfigEdit, options: &[String]) -> Result<(), SwitchError> {
    let other_change = || SwitchError::OtherChange {
        path: edit.path.clone(),
    };
    let after = Text::of(edit.content.as_bytes()).ok_or_else(other_change)?;
    // If the old text is gone, `apply` and `restore` write nothing.
    let Some(before) = text_before(edit) else {
        return Ok(());
    };
    let before = Text::of(&before).filter(|before| before.others == after.others);
    let before = before.ok_or_else(other_change)?;
    match other_value(&before, &after, options) {
        Some((key, value)) => Err(SwitchError::OtherValue {
            path: edit.path.clone(),
            key,
            value,
        }),
        None => Ok(()),
    }
}

/// A value that no conversion writes. A conversion only sets its own driver, and only adds the options of its pool.
fn other_value(before: &Text, after: &Text, options: &[String]) -> Option<(&'static str, Value)> {
    let [driver, opts] = OWN_KEYS;
    if after.driver != before.driver && after.driver.as_ref() != Some(&Value::from(DRIVER)) {
        return Some((driver, after.driver.clone().unwrap_or_default()));
    }
    if after.options == before.options {
        return None;
    }
    let kept = |option: &Value| {
        let old = before.options.as_ref().and_then(Value::as_array);
        old.is_some_and(|old| old.contains(option))
    };
    let derived = |option: &Value| options.iter().any(|own| option == own);
    match after
        .options
        .as_ref()
        .map(|value| (value, value.as_array()))
    {
        // The last option may have been removed.
        None => None,
        Some((_, Some(all))) => {
            let other = all
                .iter()
                .find(|option| !kept(option) && !derived(option))?;
            Some((opts, other.clone()))
        }
        Some((value, None)) => Some((opts, value.clone())),
    }
}

/// Whether two paths name the same place, as far as this can be determined for paths that need not exist.
fn is_same_place(a: &Path, b: &Path) -> bool {
    let resolved = |path: &Path| {
        let directory = path.parent()?.canonicalize().ok()?;
        Some(directory.join(path.file_name()?))
    };
    a == b || resolved(a).is_some_and(|a| Some(a) == resolved(b))
}

/// The text that the edit found; `None` if neither the file nor its original has it.
fn text_before(edit: &ConfigEdit) -> Option<Vec<u8>> {
    let Some(old) = &edit.old else {
        return Some(Vec::new());
    };
    [edit.path.clone(), beside(&edit.path, ORIGINAL)]
        .iter()
        .find_map(|path| Some(fs::read(path).ok()?).filter(|text| digest(text) == *old))
}

/// The content of a `daemon.json`: the driver, its options, and the rest.
#[derive(Default)]
struct Text {
    driver: Option<Value>,
    options: Option<Value>,
    others: Map<String, Value>,
}

impl Text {
    /// Reads a text; `None` if it is not an object.
    fn of(text: &[u8]) -> Option<Self> {
        if text.trim_ascii().is_empty() {
            return Some(Self::default());
        }
        let mut others: Map<String, Value> = serde_json::from_slice(text).ok()?;
        let [driver, options] = OWN_KEYS.map(|key| others.remove(key));
        Some(Self {
            driver,
            options,
            others,
        })
    }
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
            let options = ["dm.thinpooldev=/dev/mapper/pool".to_owned()];
            check_recorded(&mut Switch::Edit(edit), &host, &options)
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
        let good = r#"{"debug":true,"storage-driver":"devicemapper","storage-opts":["dm.thinpooldev=/dev/mapper/pool"]}"#;
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
        // As if there had been no file, so restoring would remove it.
        assert!(fixture.check(fixture.path(), old, None).is_err());
    }

    #[test]
    fn only_the_values_of_a_conversion_are_written() {
        let fixture = Fixture::new();
        let old = r#"{"storage-driver":"aufs","storage-opts":["dm.basesize=20G","aufs.x=y"]}"#;
        fs::write(fixture.path(), old).unwrap();
        let told = |driver: &str, options: &str| {
            let content = format!(r#"{{"storage-driver":{driver},"storage-opts":{options}}}"#);
            match fixture.check(fixture.path(), &content, Some(old)) {
                Ok(()) => None,
                Err(SwitchError::OtherValue { key, .. }) => Some(key),
                Err(error) => panic!("{error}"),
            }
        };
        let ours = r#""devicemapper""#;
        for options in [
            r#"["dm.basesize=20G","dm.thinpooldev=/dev/mapper/pool"]"#,
            r#"["dm.thinpooldev=/dev/mapper/pool"]"#,
            "[]",
        ] {
            assert_eq!(told(ours, options), None, "{options}");
        }
        for options in [
            r#"["dm.directlvm_device=/dev/sda"]"#,
            r#"["dm.basesize=20G","dm.thinpooldev=/dev/mapper/other"]"#,
            r#"["dm.basesize=10G"]"#,
            r#""dm.thinpooldev=/dev/mapper/pool""#,
            "[7]",
        ] {
            assert_eq!(told(ours, options), Some("storage-opts"), "{options}");
        }
        for driver in [r#""overlay2""#, r#""vfs""#, "null", "7"] {
            assert_eq!(told(driver, "[]"), Some("storage-driver"), "{driver}");
        }
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
            check_recorded(&mut switch, &host, &[]).ok()?;
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
