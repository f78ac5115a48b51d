//! Damage to small files that harms no one: the whole list, each with a criterion of its own.

use std::fs::{self, File};
use std::io::Read;
use std::path::Path;

use serde_json::{Map, Value};

use super::root::Converted;

/// The bytes of a small file.
pub(super) struct Content(Vec<u8>);

impl Content {
    /// Of the pool's own files nothing is kept: no damage to them is harmless.
    pub(super) fn of(path: &Path, data_end: u64) -> Self {
        let mut bytes = Vec::new();
        let file = File::open(path).unwrap();
        file.take(data_end.min(1 << 20))
            .read_to_end(&mut bytes)
            .unwrap();
        Self(bytes)
    }

    /// Puts a journal back whole: where its last line was torn, the verification has cut that off and written its own.
    pub(super) fn heal(&self, kind: &str, path: &Path) {
        if kind == ".aufs2dm/journal" {
            fs::write(path, &self.0).unwrap();
        }
    }

    /// Why a damage may go unnoticed that left these bytes. They are those that the verification was shown: it cuts a torn
    /// last line of the journal off and writes its own.
    pub(super) fn excuse(
        &self,
        root: &Converted,
        kind: &str,
        after: &Self,
    ) -> Option<&'static str> {
        if kind.starts_with("pool") || kind.starts_with("data") {
            return None;
        }
        if kind == ".aufs2dm/journal" {
            return self.journal(&after.0);
        }
        // As long as the originals are there, every byte counts.
        if root.has_aufs() {
            return None;
        }
        self.alone(root, kind, &after.0)
    }

    /// A torn last line counts for nothing, and what a verification adds behind the move may be missing.
    fn journal(&self, after: &[u8]) -> Option<&'static str> {
        let moved = find(&self.0, b"\"record\":\"switched\"")?;
        let end = moved + find(&self.0[moved..], b"\n")? + 1;
        let whole = after.iter().rposition(|&byte| byte == b'\n')? + 1;
        (whole >= end && self.0.starts_with(&after[..whole]))
            .then_some("the conversion stands in it as before")
    }

    /// Without originals: what Docker reads of it is the same, or it is what only the original could tell.
    fn alone(&self, root: &Converted, kind: &str, after: &[u8]) -> Option<&'static str> {
        let before: &[u8] = &self.0;
        let store = kind.strip_prefix("image/devicemapper/");
        match store.unwrap_or(kind) {
            "layerdb/sha256/*/size" => after
                .trim_ascii()
                .iter()
                .all(u8::is_ascii_digit)
                .then_some("a number for people"),
            "layerdb/sha256/*/tar-split.json.gz" => {
                let same = after.len() == before.len() && after[..4] == before[..4];
                (same && after[10..] == before[10..])
                    .then_some("time and system in the gzip header")
            }
            "imagedb/metadata/sha256/*/parent" | "imagedb/metadata/sha256/*/lastUpdated" => {
                Some("for docker history and people alone, and Docker goes without")
            }
            "distribution/diffid-by-digest/sha256/*"
            | "distribution/v2metadata-by-diffid/sha256/*" => {
                Some("a cache of pulls and pushes, which Docker goes without")
            }
            "repositories.json" => {
                let stands = |text: &[u8]| all_stand_for_images(root, text);
                stands(after).then_some("another name of the same image")
            }
            "devicemapper/metadata/*" | "devicemapper/metadata/base" => {
                same_members((before, after), &["device_id", "initialized", "deleted"])
                    .then_some("Docker reads the same; a size below the file system's is noticed")
            }
            "devicemapper/metadata/deviceset-metadata" => {
                same_members((before, after), &["BaseDeviceUUID", "BaseDeviceFilesystem"])
                    .then_some("the last number handed out is where Docker begins to look")
            }
            "devicemapper/metadata/transaction-metadata" => {
                same_members((before, after), &["open_transaction_id"])
                    .then_some("the rest is read if that number is not the pool's")
            }
            "containers/*/config.v2.json" => same_members((before, after), &["Driver"])
                .then_some("a setting that only the original could tell"),
            _ => None,
        }
    }
}

fn find(text: &[u8], part: &[u8]) -> Option<usize> {
    text.windows(part.len()).position(|window| window == part)
}

/// Whether both are objects with the same values there. Docker reads keys whatever their case.
fn same_members((before, after): (&[u8], &[u8]), keys: &[&str]) -> bool {
    let [before, after] = [before, after].map(|text| serde_json::from_slice::<Value>(text).ok());
    let (Some(before), Some(after)) = (before, after) else {
        return false;
    };
    let (Some(before), Some(after)) = (before.as_object(), after.as_object()) else {
        return false;
    };
    let value = |object: &Map<String, Value>, key: &str| {
        let mut members = object.iter();
        let member = members.find(|(name, _)| name.eq_ignore_ascii_case(key));
        member.map(|(_, value)| value.clone())
    };
    keys.iter()
        .all(|key| value(before, key) == value(after, key))
}

fn all_stand_for_images(root: &Converted, text: &[u8]) -> bool {
    let Ok(names) = serde_json::from_slice::<Value>(text) else {
        return false;
    };
    let images = root
        .path()
        .join("image/devicemapper/imagedb/content/sha256");
    let Some(repositories) = names["Repositories"].as_object() else {
        return names.is_object();
    };
    let ids = repositories
        .values()
        .filter_map(Value::as_object)
        .flat_map(|names| names.values());
    ids.map(|id| id.as_str().and_then(|id| id.strip_prefix("sha256:")))
        .all(|id| id.is_some_and(|id| images.join(id).is_file()))
}
