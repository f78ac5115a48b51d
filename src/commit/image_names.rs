//! Image names that Docker added, removed or moved since the conversion.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::docker;

/// The image names that changed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ImageNames {
    /// Names that did not exist before.
    pub new: Vec<String>,
    /// Names that belonged to another image before.
    pub moved: Vec<String>,
    /// Names that no longer exist.
    pub removed: Vec<String>,
}

impl ImageNames {
    /// The differences between two versions of the file; `None` if one of them is not as Docker writes it.
    pub(super) fn between(before: &[u8], now: &[u8]) -> Option<Self> {
        Some(Self::since(&names(before)?, &names(now)?))
    }

    /// The differences between two maps from names to images, before and now.
    pub(super) fn since(before: &BTreeMap<String, String>, now: &BTreeMap<String, String>) -> Self {
        let mut changed = Self::default();
        for (name, image) in now {
            match before.get(name) {
                None => changed.new.push(name.clone()),
                Some(other) if other != image => changed.moved.push(name.clone()),
                Some(_) => {}
            }
        }
        let gone = before.keys().filter(|name| !now.contains_key(*name));
        changed.removed = gone.cloned().collect();
        changed
    }
}

/// Images by name; `None` if the text is not as Docker writes it.
pub(super) fn names(text: &[u8]) -> Option<BTreeMap<String, String>> {
    docker::image_names(text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_new_moved_or_gone() {
        let before = br#"{"Repositories":{"a":{"a:1":"x","a:2":"y"},"b":{"b:1":"z"}}}"#;
        let now = br#"{"Repositories":{"a":{"a:1":"x","a:2":"q"},"c":{"c:1":"z"}}}"#;
        let expected = ImageNames {
            new: vec!["c:1".to_owned()],
            moved: vec!["a:2".to_owned()],
            removed: vec!["b:1".to_owned()],
        };
        assert_eq!(ImageNames::between(before, now), Some(expected));
        assert_eq!(
            ImageNames::between(before, before),
            Some(ImageNames::default())
        );
        assert_eq!(ImageNames::between(before, b"7"), None);
        // A daemon reads these as a store without names.
        for empty in [&b"{}"[..], br#"{"Repositories":null}"#] {
            let gone = ImageNames::between(before, empty).unwrap();
            assert_eq!(gone.removed, ["a:1", "a:2", "b:1"]);
            assert!(gone.new.is_empty() && gone.moved.is_empty());
        }
    }
}
