//! A container's config that was written since the conversion: whether Docker may have written it.

use std::path::Path;

use serde::Deserialize;
use serde_json::{Map, Value};

use super::beside;
use super::error::Error;
use super::since::read_regular;
use super::stage::STAGE_NAME;
use crate::tree::{escape, shown};

/// What Docker writes into every config, and never changes but for the name. Without it a daemon does not load the container, or ends at
/// once. Source: moby v20.10 `container/container.go`, `FromDisk`, and `daemon/container.go`, `load`.
#[derive(Deserialize)]
struct Config {
    #[serde(rename = "ID")]
    id: String,
    #[serde(rename = "Name")]
    name: String,
    #[serde(rename = "Created")]
    created: Option<String>,
    #[serde(rename = "Image")]
    image: Option<String>,
    #[serde(rename = "Config")]
    _settings: Map<String, Value>,
    #[serde(rename = "State")]
    _state: Map<String, Value>,
    /// Of configs before Docker 1.7 there are none.
    #[serde(rename = "MountPoints")]
    mounts: Option<Map<String, Value>>,
}

/// What shows that a `config.v2.json`, by its path in the root, was not written by Docker, if something does.
pub(super) fn doubt(root: &Path, inner: &str) -> Result<Option<String>, Error> {
    let at = root.join(inner);
    if at.file_name().is_none_or(|name| name != "config.v2.json") {
        return Ok(None);
    }
    let text = read_regular(&at)?.unwrap_or_default();
    let why = match serde_json::from_slice::<Config>(&text) {
        Err(error) => Some(format!("is not what Docker writes there ({error})")),
        Ok(now) => contradiction(root, inner, &now)?,
    };
    Ok(why.map(|why| format!("{}: {why}, so Docker does not load it", shown(&at))))
}

fn contradiction(root: &Path, inner: &str, now: &Config) -> Result<Option<String>, Error> {
    if inner.split('/').nth(1) != Some(&now.id) {
        let id = escape(now.id.as_bytes());
        return Ok(Some(format!("is the config of another container, {id}")));
    }
    if now.name.is_empty() {
        return Ok(Some("has no name for the container".to_owned()));
    }
    let Some(before) = original(root, inner)? else {
        return Ok(None);
    };
    let had_mounts = before.mounts.iter().flat_map(|mounts| mounts.keys());
    let lost = had_mounts
        .filter(|place| {
            now.mounts
                .as_ref()
                .is_none_or(|now| !now.contains_key(*place))
        })
        .map(|place| escape(place.as_bytes()))
        .next();
    let is_same = (&before.created, &before.image) == (&now.created, &now.image);
    Ok(if is_same {
        lost.map(|place| format!("does not have the mount point {place} any more"))
    } else {
        Some("has another time or another image than when it was converted".to_owned())
    })
}

/// The config that was replaced, if it is kept and one that Docker loads.
fn original(root: &Path, inner: &str) -> Result<Option<Config>, Error> {
    for place in [root.join(STAGE_NAME), beside::place(root)] {
        if let Some(text) = read_regular(&place.join("originals").join(inner))? {
            return Ok(serde_json::from_slice(&text).ok());
        }
    }
    Ok(None)
}
