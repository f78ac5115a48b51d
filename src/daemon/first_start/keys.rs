//! What Docker makes of the text of `daemon.json` as a whole: its keys, and how it begins.

use std::path::Path;

use super::outlook::Finding;
use crate::daemon::config::{Config, KeyMeaning};
use crate::devicemapper::Version;
use crate::shell::word;
use crate::tree::{escape, shown};

/// The first release that takes an empty file, and one with a byte-order mark. Source: moby v23.0
/// `daemon/config/config.go`, `getConflictFreeConfiguration`.
const TOLERANT: Version = Version::new(23, 0);

/// The first release without the devicemapper driver.
const REMOVED: Version = Version::new(25, 0);

/// What the operator should know about the file at `place`.
pub(super) fn findings(config: &Config, place: &Path, version: Option<Version>) -> Vec<Finding> {
    let mut findings = Vec::new();
    let is_tolerant = version.is_some_and(|version| version >= TOLERANT);
    if config.has_mark && !is_tolerant {
        let message = format!(
            "{}, and Docker before 23.0 does not start with it",
            mark(place)
        );
        findings.push(Finding::refusal("config-mark", message));
    }
    if config.is_empty && !is_tolerant {
        let message = format!(
            "{}: is empty, and Docker before 23.0 does not start with an empty file; remove it or put {{}} in it",
            shown(place)
        );
        findings.push(Finding::refusal("config-empty", message));
    }
    // Whether a later release knows a key does not matter: it has no devicemapper driver.
    let is_later = version.is_some_and(|version| version >= REMOVED);
    for (key, line, meaning) in config.odd_keys(version) {
        if is_later {
            break;
        }
        let finding = match meaning {
            KeyMeaning::Option => continue,
            KeyMeaning::Ignored { .. } => Finding::warning,
            KeyMeaning::Unknown { .. } | KeyMeaning::OtherRelease => Finding::refusal,
        };
        let code = match meaning {
            KeyMeaning::Ignored { .. } => "key-ignored",
            _ => "key-unknown",
        };
        let message = format!(
            "{}, line {line}: key \"{}\" {}",
            shown(place),
            escape(key.as_bytes()),
            explained(&meaning, version)
        );
        findings.push(finding(code, message));
    }
    findings
}

/// The lines to change by hand before Docker starts with the file.
pub(super) fn by_hand(config: &Config, place: &Path, version: Option<Version>) -> Vec<String> {
    let odd = config.odd_keys(version).into_iter();
    let unknown = odd.filter(|(.., meaning)| !matches!(meaning, KeyMeaning::Ignored { .. }));
    let lines = unknown.map(|(key, line, meaning)| {
        format!(
            "{}, line {line}: key \"{}\" {}",
            shown(place),
            escape(key.as_bytes()),
            explained(&meaning, version)
        )
    });
    let mark = config.has_mark.then(|| mark(place));
    mark.into_iter().chain(lines).collect()
}

fn mark(place: &Path) -> String {
    format!(
        "{}: begins with a byte-order mark: remove it with `sed -i '1s/^\\xEF\\xBB\\xBF//' {}`",
        shown(place),
        word(place)
    )
}

/// What the meaning of a key is for Docker, as the rest of a sentence about the key.
fn explained(meaning: &KeyMeaning, version: Option<Version>) -> String {
    match meaning {
        KeyMeaning::Option => String::new(),
        KeyMeaning::Ignored { key } => format!(
            "is the name of a flag, and Docker ignores it here: use \"{key}\" if its value is to count"
        ),
        KeyMeaning::Unknown { similar } => {
            let advice = similar.map_or_else(
                || "remove it".to_owned(),
                |key| format!("write \"{key}\" if that is meant, or remove it"),
            );
            format!("is unknown to Docker, which does not start with unknown keys: {advice}")
        }
        KeyMeaning::OtherRelease => {
            let version = version.map_or_else(String::new, |version| format!(" {version}"));
            format!("is unknown to Docker{version}, which does not start with it: remove it")
        }
    }
}
