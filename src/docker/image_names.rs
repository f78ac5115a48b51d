//! The names of images: `image/<driver>/repositories.json`.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use super::container::Container;
use super::diagnostics::{Diagnostics, Subject};
use super::fault::Fault;
use super::files::Dir;
use super::id::ImageId;
use super::json::{JsonError, Object, decode_string};
use super::reference::Reference;
use super::warning::Warning;

/// The file's name in an image store.
pub(super) const FILE: &str = "repositories.json";

/// Image ids as texts by reference, by the name without tag or digest.
type Repositories = BTreeMap<String, BTreeMap<String, String>>;

/// The names of a store's images.
#[derive(Debug, Default)]
pub(crate) struct ImageNames {
    /// The images by name.
    pub(crate) references: BTreeMap<Reference, ImageId>,
    /// Everything in the file; `None` if there is no file.
    repositories: Option<Repositories>,
    /// Whether the file cannot stay as it is.
    pub(super) is_damaged: bool,
}

impl ImageNames {
    /// Reads the file. If it is damaged, its valid names are used, which is noted as a repair.
    pub(crate) fn read(image: &Dir, notes: &mut Diagnostics) -> Self {
        let text = match image.read_if_any(FILE) {
            Ok(Some(text)) => text,
            Ok(None) => {
                notes.warn(Warning::NoRepositories);
                return Self::default();
            }
            Err(error) => {
                notes.fault(Subject::References, error);
                return Self {
                    is_damaged: true,
                    ..Self::default()
                };
            }
        };
        let path = image.join(FILE);
        // Docker ignores what follows the object.
        let parsed = Object::parse_first(&text).and_then(|object| repositories(&object));
        let (repositories, fault) = match parsed {
            Ok(repositories) => (repositories, None),
            Err(source) => (valid_names(&text), Some(source)),
        };
        let mut references = BTreeMap::new();
        for (name, value) in repositories.values().flatten() {
            match ImageId::parse(value.as_bytes()) {
                Ok(id) => {
                    references.insert(Reference(name.as_str().into()), id);
                }
                Err(_) => notes.fault(
                    Subject::References,
                    Fault::BadReference {
                        path: path.clone(),
                        name: name.clone(),
                        value: value.chars().take(80).collect(),
                    },
                ),
            }
        }
        let is_damaged = fault.is_some();
        if let Some(source) = fault {
            notes.fault(Subject::References, Fault::BadJson { path, source });
        }
        Self {
            references,
            repositories: Some(repositories),
            is_damaged,
        }
    }

    /// Makes a damaged file good: its valid names, and those that containers were created from, if nothing contradicts
    /// them. Returns whether there was anything to do.
    pub(super) fn rebuild<'c>(
        &mut self,
        containers: impl Iterator<Item = &'c Container>,
        has_image: impl Fn(ImageId) -> bool,
    ) -> bool {
        if !self.is_damaged {
            return false;
        }
        let mut found: BTreeMap<String, Option<ImageId>> = BTreeMap::new();
        for container in containers {
            let image = container.image.filter(|image| has_image(*image));
            let (Some(image), Some(name)) = (image, full_name(&container.image_name)) else {
                continue;
            };
            let one = found.entry(name).or_insert(Some(image));
            // A name that was given to another image meanwhile says nothing.
            *one = one.filter(|known| *known == image);
        }
        let repositories = self.repositories.get_or_insert_default();
        for (name, image) in found {
            let Some(image) = image else { continue };
            let repository = repositories.entry(repository_of(&name).to_owned());
            let references = repository.or_default();
            if let Entry::Vacant(place) = references.entry(name) {
                let reference = Reference(place.key().as_str().into());
                self.references.insert(reference, image);
                place.insert(image.to_string());
            }
        }
        true
    }

    /// The file without the names of images for which `keep` is `false`, as Docker writes it; `None` if it can stay as
    /// it is.
    pub(super) fn rewritten(&self, keep: impl Fn(ImageId) -> bool) -> Option<Vec<u8>> {
        let is_kept = |value: &str| ImageId::parse(value.as_bytes()).map_or(true, &keep);
        let repositories = self.repositories.as_ref()?;
        let goes = |(_, value): (&String, &String)| !is_kept(value);
        if !self.is_damaged && !repositories.values().flatten().any(goes) {
            return None;
        }
        let mut kept = Repositories::new();
        for (repository, names) in repositories {
            let names = names.iter().filter(|(_, value)| is_kept(value));
            let names: BTreeMap<_, _> = names
                .map(|(name, value)| (name.clone(), value.clone()))
                .collect();
            if !names.is_empty() {
                kept.insert(repository.clone(), names);
            }
        }
        let file = BTreeMap::from([("Repositories", kept)]);
        Some(serde_json::to_vec(&file).expect("maps of texts"))
    }
}

/// The image ids in `repositories.json`, as texts, by the images' names.
///
/// # Errors
///
/// The text is not what a daemon writes. Source: moby v20.10 `reference/store.go`, `save`.
pub fn image_names(text: &[u8]) -> Result<BTreeMap<String, String>, JsonError> {
    let object = Object::parse(text)?;
    Ok(repositories(&object)?.into_values().flatten().collect())
}

fn repositories(object: &Object<'_>) -> Result<Repositories, JsonError> {
    let Some(map) = object.raw("Repositories") else {
        return Ok(Repositories::new());
    };
    // A name without a map counts as one with an empty map.
    let found: BTreeMap<String, Option<BTreeMap<String, Option<String>>>> =
        serde_json::from_slice(map).map_err(|_| not_names())?;
    let named = found.into_iter().map(|(repository, names)| {
        let names = names.unwrap_or_default().into_iter();
        let names = names.map(|(name, value)| (name, value.unwrap_or_default()));
        (repository, names.collect())
    });
    Ok(named.collect())
}

/// The names of a text that Docker cannot read because some value has another type; none if it is not JSON.
fn valid_names(text: &[u8]) -> Repositories {
    let mut valid = Repositories::new();
    let Ok(object) = Object::parse_first(text) else {
        return valid;
    };
    let repositories = object
        .all("Repositories")
        .filter_map(|map| Object::parse(map).ok());
    for map in repositories {
        for repository in map.members() {
            let Ok(names) = Object::parse(&map.text()[repository.value.clone()]) else {
                continue;
            };
            for name in names.members() {
                let value = &names.text()[name.value.clone()];
                if value.first() == Some(&b'"') {
                    let names = valid.entry(repository.key.clone()).or_default();
                    names.insert(name.key.clone(), decode_string(value));
                }
            }
        }
    }
    valid
}

/// The names in a text whose image ids are not ids.
///
/// # Errors
///
/// Same as for [`image_names`].
pub(super) fn bad_names(text: &[u8]) -> Result<BTreeMap<String, String>, JsonError> {
    let named = image_names(text)?.into_iter();
    let is_bad = |(_, value): &(String, String)| ImageId::parse(value.as_bytes()).is_err();
    Ok(named.filter(is_bad).collect())
}

fn not_names() -> JsonError {
    JsonError::WrongType {
        key: "Repositories",
        expected: "a map of names to image ids",
    }
}

/// A name that a container was created from, as `repositories.json` has it; `None` if it is an id or no name.
/// Source: moby v20.10 `reference/store.go`, `addReference`: it stores the familiar form.
fn full_name(name: &str) -> Option<String> {
    let is_plain =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"._-/:@".contains(&byte);
    let (repository, tag) = split(name);
    let is_id = name.len() == 64 && name.bytes().all(|byte| byte.is_ascii_hexdigit());
    if repository.is_empty() || is_id || name.starts_with("sha256:") {
        return None;
    }
    if !repository.bytes().all(is_plain) {
        return None;
    }
    let familiar = repository.strip_prefix("docker.io/").unwrap_or(repository);
    let familiar = familiar.strip_prefix("library/").unwrap_or(familiar);
    Some(match tag {
        Some(tag) => format!("{familiar}{tag}"),
        None => format!("{familiar}:latest"),
    })
}

/// A name without its tag or digest.
fn repository_of(name: &str) -> &str {
    split(name).0
}

/// A name, and its tag or digest with the sign before it. A colon before the last slash belongs to a port.
fn split(name: &str) -> (&str, Option<&str>) {
    let from = name.rfind('/').map_or(0, |slash| slash + 1);
    match name[from..].find(['@', ':']) {
        Some(at) => (&name[..from + at], Some(&name[from + at..])),
        None => (name, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_and_bad_ids_passed_over() {
        let id = format!("sha256:{}", "ab".repeat(32));
        let text =
            format!(r#"{{"Repositories":{{"a":{{"a:1":"{id}","a@{id}":"{id}"}},"b":{{}}}}}}"#);
        assert_eq!(image_names(text.as_bytes()).unwrap().len(), 2);
        assert!(bad_names(text.as_bytes()).unwrap().is_empty());
        let bad = br#"{"Repositories":{"a":{"a:1":"../x"},"b":null}}"#;
        assert_eq!(bad_names(bad).unwrap().len(), 1);
        assert!(image_names(b"{}").unwrap().is_empty());
        for text in ["", "[]", r#"{"Repositories":{"a":{"a:1":5}}}"#] {
            assert!(image_names(text.as_bytes()).is_err(), "{text}");
        }
    }

    #[test]
    fn the_names_beside_a_value_of_another_type_are_kept() {
        let text = br#"{"Repositories":{"a":{"a:1":5,"a:2":"x"},"b":7,"c":{"c:1":"y"}}}"#;
        let valid = valid_names(text);
        let names: Vec<_> = valid
            .values()
            .flatten()
            .map(|(name, _)| &name[..])
            .collect();
        assert_eq!(names, ["a:2", "c:1"]);
        assert!(valid_names(b"{\"Repositories\":{\"a\":{\"a:1\":\"x\"").is_empty());
    }

    #[test]
    fn a_containers_image_name_takes_the_form_in_which_docker_stores_it() {
        let hex = "ab".repeat(32);
        for (name, full) in [
            ("busybox", Some("busybox:latest")),
            ("docker.io/library/busybox:1", Some("busybox:1")),
            ("host:5000/a/b", Some("host:5000/a/b:latest")),
            ("a@sha256:12", Some("a@sha256:12")),
            (hex.as_str(), None),
            ("sha256:12", None),
            ("", None),
            ("A B", None),
        ] {
            assert_eq!(full_name(name).as_deref(), full, "{name}");
        }
        assert_eq!(repository_of("host:5000/a/b:1"), "host:5000/a/b");
    }
}
