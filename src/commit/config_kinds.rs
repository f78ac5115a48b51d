//! The kinds of the members in a container's config: a daemon does not load a config with a member of another kind.
//!
//! Source: moby v20.10 `container/container.go`, `Container`, `container/container_unix.go`, `container/state.go`,
//! `State`, and `api/types/container/config.go`, `Config`; Go 1.15 `encoding/json`: `null` is accepted for any kind.

use serde_json::{Map, Value};

use self::Kind::{List, Number, Object, Text, Time, Truth, Words};
use crate::docker::is_time;

/// A kind of value.
#[derive(Clone, Copy)]
enum Kind {
    Text,
    /// `2006-01-02T15:04:05.999999999Z07:00`
    Time,
    Truth,
    Number,
    List,
    /// A command: a list of texts, or one text.
    Words,
    Object,
}

/// The members of the config itself.
const TOP: [(&str, Kind); 24] = [
    ("Created", Time),
    ("Managed", Truth),
    ("Path", Text),
    ("Args", List),
    ("Image", Text),
    ("ImageManifest", Object),
    ("LogPath", Text),
    ("OS", Text),
    ("MountLabel", Text),
    ("ProcessLabel", Text),
    ("RestartCount", Number),
    ("HasBeenStartedBefore", Truth),
    ("HasBeenManuallyStopped", Truth),
    ("HostnamePath", Text),
    ("HostsPath", Text),
    ("ResolvConfPath", Text),
    ("ShmPath", Text),
    ("AppArmorProfile", Text),
    ("SeccompProfile", Text),
    ("NoNewPrivileges", Truth),
    ("SecretReferences", List),
    ("ConfigReferences", List),
    ("LocalLogCacheMeta", Object),
    ("NetworkSettings", Object),
];

/// The members of its `Config`.
const SETTINGS: [(&str, Kind); 24] = [
    ("Hostname", Text),
    ("Domainname", Text),
    ("User", Text),
    ("AttachStdin", Truth),
    ("AttachStdout", Truth),
    ("AttachStderr", Truth),
    ("ExposedPorts", Object),
    ("Tty", Truth),
    ("OpenStdin", Truth),
    ("StdinOnce", Truth),
    ("Env", List),
    ("Cmd", Words),
    ("Healthcheck", Object),
    ("ArgsEscaped", Truth),
    ("Image", Text),
    ("Volumes", Object),
    ("WorkingDir", Text),
    ("Entrypoint", Words),
    ("NetworkDisabled", Truth),
    ("OnBuild", List),
    ("Labels", Object),
    ("StopSignal", Text),
    ("StopTimeout", Number),
    ("Shell", Words),
];

/// The members of its `State`.
const STATE: [(&str, Kind); 13] = [
    ("Running", Truth),
    ("Paused", Truth),
    ("Restarting", Truth),
    ("OOMKilled", Truth),
    ("RemovalInProgress", Truth),
    ("Dead", Truth),
    ("Pid", Number),
    ("ExitCode", Number),
    ("Error", Text),
    ("StartedAt", Time),
    ("FinishedAt", Time),
    ("Health", Object),
    ("Removed", Truth),
];

/// The first member of a kind that Docker's decoder does not accept, with the kind that it accepts.
pub(super) fn other_kind(
    top: &Map<String, Value>,
    settings: &Map<String, Value>,
    state: &Map<String, Value>,
) -> Option<(&'static str, &'static str)> {
    let all = [(top, &TOP[..]), (settings, &SETTINGS), (state, &STATE)];
    all.into_iter().find_map(|(members, kinds)| {
        kinds.iter().find_map(|(name, kind)| {
            let value = members.get(*name)?;
            (!kind.takes(value)).then_some((*name, kind.words()))
        })
    })
}

impl Kind {
    fn takes(self, value: &Value) -> bool {
        let is_text = |value: &Value| value.is_string() || value.is_null();
        let is_texts = |list: &Vec<Value>| list.iter().all(is_text);
        match (self, value) {
            (_, Value::Null) | (Self::Text | Self::Words, Value::String(_)) => true,
            (Self::Time, Value::String(text)) => is_time(text.as_bytes()),
            (Self::Truth, value) => value.is_boolean(),
            (Self::Number, value) => value.is_i64(),
            (Self::Words, Value::Array(list)) => is_texts(list),
            (Self::List, value) => value.is_array(),
            (Self::Object, value) => value.is_object(),
            _ => false,
        }
    }

    fn words(self) -> &'static str {
        match self {
            Self::Text => "a string",
            Self::Time => "a time",
            Self::Truth => "true or false",
            Self::Number => "a whole number",
            Self::List => "a list",
            Self::Words => "a list of strings",
            Self::Object => "an object",
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn told(top: &Value, settings: &Value, state: &Value) -> Option<&'static str> {
        let map = |value: &Value| value.as_object().unwrap().clone();
        other_kind(&map(top), &map(settings), &map(state)).map(|(name, _)| name)
    }

    #[test]
    fn what_docker_writes_is_of_its_kind_and_null_is_of_any() {
        let top = json!({"Created": "2026-01-02T03:04:05.123456789Z", "Args": [], "MountLabel": "", "RestartCount": 0, "SecretReferences": null});
        let settings = json!({"Cmd": ["sh"], "Entrypoint": null, "Env": [], "ExposedPorts": {"80/tcp": {}}, "Shell": "sh", "StopTimeout": 3});
        let state = json!({"Running": false, "Pid": 0, "StartedAt": "0001-01-01T00:00:00Z", "Health": null, "Unknown": 7});
        assert_eq!(told(&top, &settings, &state), None);
    }

    #[test]
    fn a_member_of_another_kind_is_told() {
        let none = json!({});
        for (name, value) in [
            ("MountLabel", json!(5)),
            ("Managed", json!("no")),
            ("RestartCount", json!(1.5)),
            ("Args", json!({})),
            ("Created", json!("yesterday")),
        ] {
            assert_eq!(told(&json!({name: value}), &none, &none), Some(name));
        }
        for (name, value) in [
            ("ExposedPorts", json!([])),
            ("Cmd", json!([1])),
            ("Labels", json!([])),
            ("User", json!(0)),
        ] {
            assert_eq!(told(&none, &json!({name: value}), &none), Some(name));
        }
        for (name, value) in [
            ("Running", json!(0)),
            ("FinishedAt", json!("")),
            ("Health", json!([])),
        ] {
            assert_eq!(told(&none, &none, &json!({name: value})), Some(name));
        }
    }
}
