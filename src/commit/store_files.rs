//! The files that Docker writes into an image store, by their exact locations and names: a file that merely resembles
//! one may be somebody else's.
//!
//! Source: moby v1.10 to v25 `image/fs.go`, `image/store.go`, `layer/filestore.go`, `distribution/metadata`, `reference/store.go`
//! and `pkg/ioutils/fswriters.go`.

use std::path::Path;

/// The file of image names in an image store.
pub(super) const IMAGE_NAMES: &str = "repositories.json";

/// The files of a layer.
const LAYER: [&str; 7] = [
    "cache-id",
    "descriptor.json",
    "diff",
    "os",
    "parent",
    "size",
    "tar-split.json.gz",
];

/// The files of a container's layer.
const MOUNT: [&str; 3] = ["init-id", "mount-id", "parent"];

/// The files of an image, besides its config.
const IMAGE: [&str; 3] = ["builtLocally", "lastUpdated", "parent"];

/// The records of where layers came from, each a directory of digests.
const ORIGINS: [&str; 2] = ["diffid-by-digest", "v2metadata-by-diffid"];

/// Whether Docker's image store has a file at this path, which is relative to it.
pub(super) fn is_dockers(inner: &Path) -> bool {
    let Some(text) = inner.to_str() else {
        return false;
    };
    let parts: Vec<&str> = text.split('/').collect();
    match parts[..] {
        [name] => is_written_as(name, &|name| name == IMAGE_NAMES),
        ["imagedb", "content", "sha256", name] => is_written_as(name, &is_digest),
        ["imagedb", "metadata", "sha256", id, name] => is_digest(id) && is_one_of(name, &IMAGE),
        ["layerdb", "sha256", id, name] => is_layer(id) && is_one_of(name, &LAYER),
        ["layerdb", "mounts", id, name] => is_container(id) && is_one_of(name, &MOUNT),
        ["layerdb", "tmp", set, name] => is_write_set(set) && LAYER.contains(&name),
        ["distribution", "v1id", name] => is_written_as(name, &is_v1_id),
        ["distribution", kind, "sha256", name] => {
            ORIGINS.contains(&kind) && is_written_as(name, &is_digest)
        }
        _ => false,
    }
}

/// Whether `digits` is the random number that Go's `ioutil.TempFile` and `TempDir` put at the end of a name: 32 bits,
/// in later releases 64 bits.
pub(super) fn is_random(digits: &str) -> bool {
    (1..=20).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit())
}

/// Whether `name` is 64 hexadecimal digits, as in digests and in ids of layers and containers.
pub(super) fn is_digest(name: &str) -> bool {
    let is_digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    name.len() == 64 && name.bytes().all(is_digit)
}

fn is_one_of(name: &str, names: &[&str]) -> bool {
    is_written_as(name, &|name| names.contains(&name))
}

/// Whether `name` is such a name, or the one under which Docker writes the file before it renames it: `.tmp-NAME` and a
/// number, up to 1.10 `NAME.tmp`.
fn is_written_as(name: &str, is_name: &dyn Fn(&str) -> bool) -> bool {
    if is_name(name) || name.strip_suffix(".tmp").is_some_and(is_name) {
        return true;
    }
    let Some(rest) = name.strip_prefix(".tmp-").filter(|rest| rest.is_ascii()) else {
        return false;
    };
    // A digest may itself end with decimal digits.
    (1..rest.len()).any(|end| is_name(&rest[..end]) && is_random(&rest[end..]))
}

/// Whether `id` is a layer's directory, including one whose removal was interrupted (since 19.03).
fn is_layer(id: &str) -> bool {
    let removed = id.strip_suffix("-removing");
    let removed = removed.and_then(|id| id.split_once('-'));
    is_digest(id) || removed.is_some_and(|(id, random)| is_digest(id) && is_digest(random))
}

/// Whether `id` is the id of a container, or one of BuildKit's, which have 25 digits.
fn is_container(id: &str) -> bool {
    let is_digit = |byte: u8| byte.is_ascii_digit() || byte.is_ascii_lowercase();
    is_digest(id) || id.len() == 25 && id.bytes().all(is_digit)
}

/// Whether `name` is a layer that is being written; up to 1.12, the second form.
fn is_write_set(name: &str) -> bool {
    let number = name
        .strip_prefix("write-set-")
        .or_else(|| name.strip_prefix("layer-"));
    number.is_some_and(is_random)
}

/// `<registry>,<id>`
fn is_v1_id(name: &str) -> bool {
    let is_host = |byte: u8| byte.is_ascii_alphanumeric() || b".:-[]".contains(&byte);
    name.split_once(',').is_some_and(|(registry, id)| {
        !registry.is_empty() && registry.bytes().all(is_host) && is_digest(id)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_docker_writes_passes_by_its_exact_name_and_what_looks_like_it_does_not() {
        let (id, other) = ("0a".repeat(32), "b3".repeat(32));
        let dockers = [
            "repositories.json".to_owned(),
            ".tmp-repositories.json123456789".to_owned(),
            "repositories.json.tmp".to_owned(),
            format!("imagedb/content/sha256/{id}"),
            format!("imagedb/content/sha256/.tmp-{id}123456789"),
            format!("imagedb/metadata/sha256/{id}/lastUpdated"),
            format!("imagedb/metadata/sha256/{id}/.tmp-parent12"),
            format!("layerdb/sha256/{id}/tar-split.json.gz"),
            format!("layerdb/sha256/{id}-{other}-removing/diff"),
            format!("layerdb/mounts/{id}/mount-id"),
            "layerdb/mounts/abcdefghijklmnopqrstuvwx1/parent".to_owned(),
            "layerdb/tmp/write-set-123456789/diff".to_owned(),
            format!("distribution/diffid-by-digest/sha256/{id}"),
            format!("distribution/v2metadata-by-diffid/sha256/.tmp-{id}1"),
            format!("distribution/v1id/docker.io,{id}"),
        ];
        for inner in &dockers {
            assert!(is_dockers(Path::new(inner)), "{inner}");
        }
        let others = [
            "repositories.json.bak".to_owned(),
            ".tmpnotes".to_owned(),
            ".tmp-notes1".to_owned(),
            ".tmp-repositories.json".to_owned(),
            format!("imagedb/content/sha256/{id}.old"),
            format!("imagedb/metadata/sha256/{id}/notes"),
            format!("layerdb/sha256/{id}/notes"),
            format!("layerdb/mounts/{id}/.tmpnotes"),
            "layerdb/tmp/notes".to_owned(),
            "layerdb/tmp/write-set-1/notes".to_owned(),
            "layerdb/tmp/write-set-x/diff".to_owned(),
            "distribution/x/notes".to_owned(),
            "distribution/diffid-by-digest/digest".to_owned(),
            format!("distribution/v1id/x y,{id}"),
        ];
        for inner in &others {
            assert!(!is_dockers(Path::new(inner)), "{inner}");
        }
    }
}
