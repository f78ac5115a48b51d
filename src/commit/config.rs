//! Checks on a container's config that was written since the conversion: whether Docker may have written it.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::{Map, Value};

use super::config_kinds::other_kind;
use super::error::Error;
use super::regular_files::{names_in, read_regular};
use super::second_place;
use crate::docker::is_same_key;
use crate::shell::word;
use crate::staging::STAGE_NAME;
use crate::tree::{escape, shown};

/// The driver in the containers' converted configs.
pub(super) const DRIVER: &str = "devicemapper";

/// The members that Docker writes into every config and never changes, except for name, state and networks. Without
/// them, a daemon does not load the container, or exits at once. Source: moby v20.10 `container/container.go`,
/// `FromDisk`, `daemon/container.go`, `load`, and `daemon/daemon.go`, `restore`.
#[derive(Deserialize)]
struct Config {
    #[serde(rename = "ID")]
    id: String,
    #[serde(rename = "Name")]
    name: String,
    #[serde(rename = "Driver")]
    driver: String,
    #[serde(rename = "Config")]
    settings: Map<String, Value>,
    #[serde(rename = "State")]
    state: Map<String, Value>,
    #[serde(rename = "NetworkSettings")]
    _networks: Map<String, Value>,
    #[serde(rename = "StreamConfig", default)]
    _streams: Map<String, Value>,
    /// Absent from configs before Docker 1.7.
    #[serde(rename = "MountPoints")]
    mounts: Option<Map<String, Value>>,
    #[serde(flatten)]
    others: Map<String, Value>,
}

/// The members of [`Config`] other than `others`.
const MEMBERS: [&str; 8] = [
    "ID",
    "Name",
    "Driver",
    "Config",
    "State",
    "NetworkSettings",
    "StreamConfig",
    "MountPoints",
];

/// Members that never change. A later release adds `OS` and others.
const FIXED: [&str; 6] = ["Created", "Path", "Args", "Image", "OS", "Managed"];

/// Settings that every release writes, whatever else it omits or adds.
const ALWAYS: [&str; 5] = ["Cmd", "Entrypoint", "Env", "Labels", "User"];

/// The consequence of an invalid config.
const NOT_LOADED: &str = ", so Docker does not load it";

/// The reason to believe that a `config.v2.json`, given by its path in the root, was not written by Docker, if there is
/// one.
pub(super) fn doubt(root: &Path, inner: &str) -> Result<Option<String>, Error> {
    let at = root.join(inner);
    if at.file_name().is_none_or(|name| name != "config.v2.json") {
        return Ok(None);
    }
    let text = read_regular(&at)?.unwrap_or_default();
    let why = match serde_json::from_slice::<Config>(&text) {
        Err(error) => Some(format!(
            "is not what Docker writes there ({error}){NOT_LOADED}"
        )),
        Ok(now) => match contradiction(root, inner, &now)? {
            None => name_taken(root, inner, &now)?,
            why => why,
        },
    };
    let Some(why) = why else {
        return Ok(None);
    };
    let kept = kept(root, inner)?.map(|(path, _)| {
        format!(
            "; to restore the one that the conversion wrote: \
             `sed 's/\"Driver\": *\"aufs\"/\"Driver\":\"devicemapper\"/' {} > {}`",
            word(&path),
            word(&at)
        )
    });
    let at = shown(&at);
    Ok(Some(format!("{at}: {why}{}", kept.unwrap_or_default())))
}

/// The message that another container has its name, if so, unless it already had that name when it was converted: a
/// daemon loads only one of the two. Source: moby v20.10 `daemon/names.go`, `registerName`. A container that is being
/// removed may have lost its name already.
fn name_taken(root: &Path, inner: &str, now: &Config) -> Result<Option<String>, Error> {
    let before = original(root, inner)?;
    if now.is_going() || before.is_some_and(|before| before.name == now.name) {
        return Ok(None);
    }
    for id in names_in(&root.join("containers"))? {
        let path = root.join("containers").join(&id).join("config.v2.json");
        if id == now.id {
            continue;
        }
        let other =
            read_regular(&path)?.and_then(|text| serde_json::from_slice::<Config>(&text).ok());
        if other.is_some_and(|other| other.name == now.name && !other.is_going()) {
            let (name, id) = (escape(now.name.as_bytes()), escape(id.as_bytes()));
            return Ok(Some(format!(
                "has the name {name}, which container {id} also has, so Docker loads only one of them"
            )));
        }
    }
    Ok(None)
}

impl Config {
    /// Whether Docker was about to remove it.
    fn is_going(&self) -> bool {
        let is = |name| self.state.get(name) == Some(&Value::Bool(true));
        is("Dead") || is("RemovalInProgress")
    }

    /// A member under a name that Docker does not write, but that its decoder, which ignores case, takes for one that
    /// it does.
    fn look_alike(&self) -> Option<&str> {
        let mut others = self.others.keys();
        let is_known = |name: &String| {
            let mut known = FIXED.iter().chain(&MEMBERS);
            known.any(|known| is_same_key(known, name) && known != name)
        };
        others.find(|name| is_known(name)).map(String::as_str)
    }
}

fn contradiction(root: &Path, inner: &str, now: &Config) -> Result<Option<String>, Error> {
    if let Some(name) = now.look_alike() {
        return Ok(Some(format!(
            "has a member \"{}\", which Docker reads but never writes in that form",
            escape(name.as_bytes())
        )));
    }
    if let Some((name, expected)) = other_kind(&now.others, &now.settings, &now.state) {
        return Ok(Some(format!(
            "has a member {name} that is not {expected}{NOT_LOADED}"
        )));
    }
    if inner.split('/').nth(1) != Some(&now.id) {
        let id = escape(now.id.as_bytes());
        return Ok(Some(format!(
            "is the config of another container, {id}{NOT_LOADED}"
        )));
    }
    if now.driver != DRIVER {
        let driver = escape(now.driver.as_bytes());
        return Ok(Some(format!("names the driver \"{driver}\"{NOT_LOADED}")));
    }
    let before = original(root, inner)?;
    Ok(before.and_then(|before| change(&before, now)))
}

/// The first difference from the replaced config in a member that Docker does not change.
fn change(before: &Config, now: &Config) -> Option<String> {
    // A daemon that loads it makes up a name (moby v20.10 `daemon/names.go`, `registerName`), as for a container that
    // had none before.
    if now.name.is_empty() && !before.name.is_empty() {
        return Some("has no name for the container, but had one when it was converted".to_owned());
    }
    let fixed = FIXED
        .into_iter()
        .find(|name| !is_kept(before.others.get(*name), now.others.get(*name), false));
    let mut settings = before.settings.iter();
    let setting = settings.find(|(name, value)| {
        let must_stay = ALWAYS.contains(&name.as_str());
        !is_kept(Some(value), now.settings.get(*name), must_stay)
    });
    let mounts = now.mounts.as_ref();
    let mut had = before.mounts.iter().flatten();
    let mount = had.find(|(place, was)| {
        let is = mounts.and_then(|mounts| mounts.get(*place));
        is.is_none_or(|is| !is_same_mount(was, is))
    });
    let shown = |name: &str| escape(name.as_bytes());
    fixed
        .map(|name| format!("has a different {name} than when it was converted, and Docker never changes it"))
        .or_else(|| {
            setting.map(|(name, _)| format!("has a different setting {}, and Docker never changes it", shown(name)))
        })
        .or_else(|| {
            mount.map(|(place, _)| {
                format!(
                    "does not have the mount point {} as it was when it was converted, and Docker never changes it",
                    shown(place)
                )
            })
        })
}

/// Whether a member is unchanged. Releases write empty values in several ways, and not all of them write the same
/// members.
fn is_kept(before: Option<&Value>, now: Option<&Value>, must_stay: bool) -> bool {
    match (before, now) {
        (Some(before), Some(now)) => before == now || is_empty(before) && is_empty(now),
        (Some(before), None) => !must_stay || is_empty(before),
        (None, _) => true,
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::Bool(true) | Value::Number(_) => false,
        Value::String(text) => text.is_empty(),
        Value::Array(all) => all.is_empty(),
        Value::Object(all) => all.is_empty(),
    }
}

/// Whether a mount point refers to the same volume, or to the same directory of the host. Docker looks up a volume's
/// location anew.
fn is_same_mount(before: &Value, now: &Value) -> bool {
    let member = |of: &Value, name: &str| of.get(name).cloned().unwrap_or_default();
    let is_volume = !is_empty(&member(before, "Name"));
    let name = if is_volume { "Name" } else { "Source" };
    member(before, name) == member(now, name)
}

/// The config that was replaced, if it is kept and Docker can load it.
fn original(root: &Path, inner: &str) -> Result<Option<Config>, Error> {
    let kept = kept(root, inner)?;
    Ok(kept.and_then(|(_, text)| serde_json::from_slice(&text).ok()))
}

/// The path and bytes of the config that was replaced.
fn kept(root: &Path, inner: &str) -> Result<Option<(PathBuf, Vec<u8>)>, Error> {
    for place in [root.join(STAGE_NAME), second_place::place(root)] {
        let path = place.join("originals").join(inner);
        if let Some(text) = read_regular(&path)? {
            return Ok(Some((path, text)));
        }
    }
    Ok(None)
}
