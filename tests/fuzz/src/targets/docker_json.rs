//! Docker's JSON: the texts that are read without a root around them.

use aufs2dm::daemon::config::{Change, edit};
use aufs2dm::docker::{
    config_with_driver, driver_of, image_names, is_aufs, is_file_of_names, is_same_key, is_time,
    name_of, started_at, volumes_of,
};
use serde_json::{Map, Value};

/// The driver that is set. No config has it by itself, so wherever it stands, it was put there.
const DRIVER: &str = "driver-of-this-test";

/// Each text is read as all of them: what is no JSON is none of them, and an edit changes nothing but what it is for.
pub(super) fn docker_json(input: &[u8]) {
    let is_object = driver_of(input).is_ok();
    let serde = serde_json::from_slice::<Map<String, Value>>(input);
    // The scanner reads as Go does, which takes bytes that are not UTF-8, halves of surrogate pairs and numbers of any size.
    if serde.is_ok() {
        assert!(is_object || !all_drivers_are_text(input));
    }
    set_driver(input);
    let _ = (name_of(input), started_at(input), is_time(input));
    if let Ok(volumes) = volumes_of(input) {
        assert!(volumes.iter().all(|name| !name.is_empty()));
    }
    let names = image_names(input);
    assert!(!is_file_of_names(input) || names.is_ok());
    change_settings(input, serde.ok());
}

/// Whether the driver is text, so that nothing but the form of the text can be refused. Asked of serde, which knows only the last
/// of several members of a name: these are not decided here.
fn all_drivers_are_text(input: &[u8]) -> bool {
    let text = String::from_utf8_lossy(input).to_lowercase();
    // Escapes can spell the name, too.
    !text.contains("driver") && !text.contains('\\') && text.is_ascii()
}

fn set_driver(input: &[u8]) {
    if String::from_utf8_lossy(input).contains(DRIVER) {
        return;
    }
    match (driver_of(input), config_with_driver(input, DRIVER)) {
        (Err(error), Err(other)) => assert_eq!(error, other),
        (Ok(driver), Ok(None)) => assert!(!is_aufs(&driver)),
        (Ok(driver), Ok(Some(edited))) => {
            assert!(is_aufs(&driver));
            assert_eq!(driver_of(&edited).as_deref(), Ok(DRIVER));
            assert!(stays(input, &edited), "another byte has changed");
            assert_eq!(config_with_driver(&edited, DRIVER), Ok(None));
        }
        (driver, edited) => panic!("{driver:?} and {edited:?}"),
    }
}

/// Whether a config is another with the driver set: between the drivers stands what stood there before, and each driver stands
/// where a driver stood, or in a member of its own at the beginning.
fn stays(before: &[u8], after: &[u8]) -> bool {
    let quoted = format!("\"{DRIVER}\"");
    let member = format!("\"Driver\":{quoted}");
    let mut pieces = split(after, quoted.as_bytes());
    let first = pieces.remove(0);
    if let [rest] = pieces[..] {
        let open = first.strip_suffix(&member.as_bytes()[..member.len() - quoted.len()]);
        let added = |open: &[u8]| {
            let rest = rest.strip_prefix(b",").unwrap_or(rest);
            [open, rest].concat() == before
        };
        if open.is_some_and(added) {
            return true;
        }
    }
    let Some(mut left) = before.strip_prefix(first) else {
        return false;
    };
    for piece in pieces {
        let Some(end) = token_end(left) else {
            return false;
        };
        match left[end..].strip_prefix(piece) {
            Some(rest) => left = rest,
            None => return false,
        }
    }
    left.is_empty()
}

fn split<'a>(text: &'a [u8], by: &[u8]) -> Vec<&'a [u8]> {
    let mut pieces = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.windows(by.len()).position(|window| window == by) {
        pieces.push(&rest[..at]);
        rest = &rest[at + by.len()..];
    }
    pieces.push(rest);
    pieces
}

/// Where a string or `null` ends.
fn token_end(text: &[u8]) -> Option<usize> {
    if text.starts_with(b"null") {
        return Some(4);
    }
    let inside = text.strip_prefix(b"\"")?;
    let mut is_escaped = false;
    let end = inside.iter().position(|&byte| {
        let ends = byte == b'"' && !is_escaped;
        is_escaped = byte == b'\\' && !is_escaped;
        ends
    });
    Some(end? + 2)
}

/// Edits the text as a `daemon.json`: all members but the two that are edited stay, and a second edit has nothing to do.
fn change_settings(input: &[u8], before: Option<Map<String, Value>>) {
    let change = Change {
        driver: Some("devicemapper"),
        drop: vec!["dm.basesize=5G".to_owned()],
        add: vec!["dm.fs=xfs".to_owned()],
    };
    let Ok(edited) = edit(input, &change) else {
        return;
    };
    let (Some(mut before), Ok(mut after)) = (
        before,
        serde_json::from_slice::<Map<String, Value>>(&edited),
    ) else {
        return;
    };
    assert_eq!(after.remove("storage-driver"), Some("devicemapper".into()));
    let options = after.remove("storage-opts").unwrap_or_default();
    let options: Vec<_> = options.as_array().into_iter().flatten().collect();
    assert!(options.contains(&&Value::from("dm.fs=xfs")));
    assert!(!options.contains(&&Value::from("dm.basesize=5G")));
    before.remove("storage-driver");
    before.remove("storage-opts");
    assert_eq!(before, after);
    let nothing = Change {
        driver: change.driver,
        ..Change::default()
    };
    assert_eq!(edit(&edited, &nothing).as_deref(), Ok(&edited[..]));
    assert!(is_same_key("DRIVER", "Driver"));
}
