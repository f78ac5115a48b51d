//! Containers: `containers/<id>/config.v2.json` and `hostconfig.json`.

use std::collections::BTreeMap;
use std::os::unix::ffi::OsStrExt;

use super::container_config::name_in;
use super::container_state::{RestartPolicy, Status};
use super::diagnostics::{Diagnostics, Subject};
use super::driver::{driver_in, driver_of, is_aufs};
use super::fault::Fault;
use super::files::{Dir, FileKind};
use super::id::{ContainerId, ImageId};
use super::json::{JsonError, Object};
use super::warning::{Leftover, Warning};

/// The config of Docker 1.10 and later.
pub const CONFIG: &str = "config.v2.json";

/// The config of Docker up to 1.9, which may exist beside the newer one.
pub const LEGACY_CONFIG: &str = "config.json";

/// A container with a readable config.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Container {
    /// Its name without the leading slash.
    pub name: String,
    /// The image it was created from, if the config names one.
    pub image: Option<ImageId>,
    /// The name that it was created from, or its id; empty if the config has none.
    pub image_name: String,
    /// The graph driver that its config names; empty means aufs.
    pub driver: String,
    /// Its state when Docker last wrote its config.
    pub status: Status,
    /// The process id of its first process when it last ran, 0 if none. After a crash, the id may belong to any
    /// process.
    pub pid: i64,
    /// Its restart policy.
    pub restart: RestartPolicy,
    /// The config files in its directory whose `Driver` counts: [`CONFIG`], [`LEGACY_CONFIG`].
    pub configs: Vec<&'static str>,
    /// Whether the first start of Docker starts it.
    pub will_start: bool,
    /// Whether Docker removes it once it is not running (`--rm`).
    pub auto_remove: bool,
    /// The id in its config.
    pub(crate) id_in_config: String,
}

impl Container {
    /// Whether the container belongs to the aufs driver.
    pub fn is_aufs(&self) -> bool {
        is_aufs(&self.driver)
    }

    /// Whether it has only the config of Docker up to 1.9.
    pub fn is_legacy(&self) -> bool {
        !self.configs.contains(&CONFIG)
    }
}

/// This tool's own directory beside the containers' directories.
const STAGED: &str = ".aufs2dm";

/// Reads every container.
pub(crate) fn read_containers(
    root: &Dir,
    notes: &mut Diagnostics,
) -> BTreeMap<ContainerId, Container> {
    let mut containers = BTreeMap::new();
    // The directory does not exist until the daemon's first start is complete.
    let Some(Some(store)) = notes.keep(&Subject::Root, root.dir_if_any("containers")) else {
        return containers;
    };
    for entry in notes.keep(&Subject::Root, store.list()).unwrap_or_default() {
        // If `containers` is a mount of its own, a conversion stages configs in this directory.
        if entry.name == STAGED {
            continue;
        }
        let id = ContainerId::parse(entry.name.as_bytes());
        let (Ok(id), FileKind::Directory) = (id, entry.kind) else {
            let path = store.join(&entry.name);
            notes.warn(Warning::Leftover {
                path,
                what: Leftover::Unknown,
            });
            continue;
        };
        let subject = Subject::Container(id.clone());
        let Some(dir) = notes.keep(&subject, store.dir(&entry.name)) else {
            continue;
        };
        let read = read_container(&dir, &id, notes);
        let Some(container) = notes.keep(&subject, read).flatten() else {
            continue;
        };
        containers.insert(id, container);
    }
    containers
}

fn read_container(
    dir: &Dir,
    id: &ContainerId,
    notes: &mut Diagnostics,
) -> Result<Option<Container>, Fault> {
    let mut configs = Vec::new();
    for name in [CONFIG, LEGACY_CONFIG] {
        if dir.kind(name)?.is_some() {
            configs.push(name);
        }
    }
    let Some(&config_name) = configs.first() else {
        notes.warn(Warning::ContainerWithoutConfig {
            path: dir.path().to_path_buf(),
        });
        return Ok(None);
    };
    let bad = |name| {
        move |source| Fault::BadJson {
            path: dir.join(name),
            source,
        }
    };
    let config = parse_config(&dir.read(config_name)?).map_err(bad(config_name))?;
    let host = match dir.read_if_any("hostconfig.json")? {
        Some(text) => parse_host_config(&text).map_err(bad("hostconfig.json"))?,
        None => HostConfig::default(),
    };
    if configs.len() == 2 {
        // This file is edited too, so it must be sound. Which driver it names does not matter.
        driver_of(&dir.read(LEGACY_CONFIG)?).map_err(bad(LEGACY_CONFIG))?;
    }
    if !dir.list_if_any("checkpoints")?.is_empty() {
        notes.warn(Warning::Checkpoints {
            container: id.clone(),
        });
    }
    let container = Container {
        configs,
        ..config.with_host(host)
    };
    warn_of_container(id, &container, notes);
    Ok(Some(container))
}

/// What a container's config says, before its host config is known.
struct Config {
    container: Container,
    was_started: bool,
    stopped_by_hand: bool,
    failed: bool,
}

impl Config {
    /// Adds the host config, which decides whether Docker starts the container by itself.
    /// Source: moby v20.10 `daemon/daemon.go`, `restore`, and `restartmanager/restartmanager.go`, `ShouldRestart`.
    fn with_host(self, host: HostConfig) -> Container {
        let wanted = match host.restart {
            RestartPolicy::No => false,
            RestartPolicy::Always => true,
            RestartPolicy::UnlessStopped => !self.stopped_by_hand,
            RestartPolicy::OnFailure => self.failed,
        };
        Container {
            restart: host.restart,
            will_start: wanted && self.was_started,
            auto_remove: host.auto_remove,
            ..self.container
        }
    }
}

fn parse_config(text: &[u8]) -> Result<Config, JsonError> {
    let config = Object::parse_first(text)?;
    let image = config.string("Image")?.unwrap_or_default();
    let state = config.object("State")?;
    let status = state.as_ref().map_or(Ok(Status::Created), status_of)?;
    let number = |key| state.as_ref().map_or(Ok(None), |state| state.integer(key));
    let container = Container {
        name: name_in(&config)?.unwrap_or_default(),
        image: ImageId::parse(image.as_bytes()).ok(),
        image_name: image_name_in(&config)?,
        driver: driver_in(&config)?,
        status,
        pid: number("Pid")?.unwrap_or(0),
        restart: RestartPolicy::No,
        configs: Vec::new(),
        will_start: false,
        auto_remove: false,
        id_in_config: config.string("ID")?.unwrap_or_default(),
    };
    // Old versions do not write this member, so its absence says nothing.
    let was_started = config
        .boolean("HasBeenStartedBefore")?
        .unwrap_or(status != Status::Created);
    let stopped_by_hand = config.boolean("HasBeenManuallyStopped")?.unwrap_or(false);
    // A container that ran when Docker was killed gets exit code 255 at the next start.
    let failed = status == Status::Running || number("ExitCode")?.unwrap_or(0) != 0;
    Ok(Config {
        container,
        was_started,
        stopped_by_hand,
        failed,
    })
}

/// The name of the image that a container was created from.
fn image_name_in(config: &Object<'_>) -> Result<String, JsonError> {
    let settings = config.object("Config")?;
    let name = settings.map_or(Ok(None), |settings| settings.string("Image"))?;
    Ok(name.unwrap_or_default())
}

fn status_of(state: &Object<'_>) -> Result<Status, JsonError> {
    let is = |key| Ok::<_, JsonError>(state.boolean(key)?.unwrap_or(false));
    // Docker writes year 1 for a time that is not set.
    let started = state
        .string("StartedAt")?
        .is_some_and(|time| !time.starts_with("0001-"));
    Ok(if is("Dead")? || is("RemovalInProgress")? {
        Status::Dead
    } else if is("Paused")? {
        Status::Paused
    } else if is("Restarting")? {
        Status::Restarting
    } else if is("Running")? {
        Status::Running
    } else if started {
        Status::Exited
    } else {
        Status::Created
    })
}

#[derive(Clone, Copy, Default)]
struct HostConfig {
    restart: RestartPolicy,
    auto_remove: bool,
}

fn parse_host_config(text: &[u8]) -> Result<HostConfig, JsonError> {
    let config = Object::parse_first(text)?;
    let policy = config.object("RestartPolicy")?;
    let name = policy.map_or(Ok(None), |policy| policy.string("Name"))?;
    let restart = match name.as_deref() {
        Some("always") => RestartPolicy::Always,
        Some("unless-stopped") => RestartPolicy::UnlessStopped,
        Some("on-failure") => RestartPolicy::OnFailure,
        _ => RestartPolicy::No,
    };
    Ok(HostConfig {
        restart,
        auto_remove: config.boolean("AutoRemove")?.unwrap_or(false),
    })
}

fn warn_of_container(id: &ContainerId, container: &Container, notes: &mut Diagnostics) {
    let id = || id.clone();
    if container.id_in_config != id().as_str() {
        let found = container.id_in_config.clone();
        notes.warn(Warning::ContainerIdDiffers {
            container: id(),
            found,
        });
    }
    if container.driver == "devicemapper" {
        notes.warn(Warning::Revived { container: id() });
    } else if !container.is_aufs() {
        let driver = container.driver.clone();
        notes.warn(Warning::OtherDriver {
            container: id(),
            driver,
        });
        return;
    }
    if container.is_legacy() {
        notes.warn(Warning::ContainerNotMigrated { container: id() });
    }
    if matches!(
        container.status,
        Status::Running | Status::Paused | Status::Restarting
    ) {
        notes.warn(Warning::StoppedHard { container: id() });
    }
    // Docker asks in this order, too: it does not remove a container that it starts.
    if container.will_start {
        let policy = container.restart;
        notes.warn(Warning::WillStart {
            container: id(),
            policy,
        });
    } else if container.auto_remove {
        notes.warn(Warning::WillBeRemoved { container: id() });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn container(config: &str, host: &str) -> Container {
        let config = parse_config(config.as_bytes()).unwrap();
        config.with_host(parse_host_config(host.as_bytes()).unwrap())
    }

    #[test]
    fn a_config_is_read_as_go_reads_it() {
        let image = format!("sha256:{}", "ab".repeat(32));
        let text = format!(
            r#"{{"name":"/old","Name":"/web","Image":"{image}","driver":"aufs","State":{{"running":true,"Pid":12,"StartedAt":"2026-01-01T00:00:00Z"}}}}"#
        );
        let container = container(&text, "{}");
        assert_eq!(container.name, "web");
        assert_eq!(container.image.unwrap().to_string(), image);
        assert_eq!((container.status, container.pid), (Status::Running, 12));
        assert!(container.is_aufs());
    }

    #[test]
    fn states_are_told_apart() {
        for (state, status) in [
            ("{}", Status::Created),
            (r#"{"StartedAt":"0001-01-01T00:00:00Z"}"#, Status::Created),
            (r#"{"StartedAt":"2026-01-01T00:00:00Z"}"#, Status::Exited),
            (r#"{"Running":true,"Paused":true}"#, Status::Paused),
            (r#"{"Running":true,"Restarting":true}"#, Status::Restarting),
            (r#"{"RemovalInProgress":true}"#, Status::Dead),
            (r#"{"Dead":true}"#, Status::Dead),
        ] {
            assert_eq!(
                container(&format!(r#"{{"State":{state}}}"#), "{}").status,
                status,
                "{state}"
            );
        }
    }

    #[test]
    fn restart_policies_tell_what_the_first_start_does() {
        let started = r#""State":{"StartedAt":"2026-01-01T00:00:00Z","ExitCode":1}"#;
        for (config, policy, starts) in [
            (format!("{{{started}}}"), "always", true),
            (
                format!(r#"{{{started},"HasBeenManuallyStopped":true}}"#),
                "always",
                true,
            ),
            (
                format!(r#"{{{started},"HasBeenManuallyStopped":true}}"#),
                "unless-stopped",
                false,
            ),
            (format!("{{{started}}}"), "unless-stopped", true),
            (format!("{{{started}}}"), "on-failure", true),
            (
                r#"{"State":{"StartedAt":"2026-01-01T00:00:00Z"}}"#.to_owned(),
                "on-failure",
                false,
            ),
            ("{}".to_owned(), "always", false),
            (
                format!(r#"{{{started},"HasBeenStartedBefore":false}}"#),
                "always",
                false,
            ),
            (format!("{{{started}}}"), "no", false),
        ] {
            let host =
                format!(r#"{{"RestartPolicy":{{"Name":"{policy}","MaximumRetryCount":0}}}}"#);
            assert_eq!(
                container(&config, &host).will_start,
                starts,
                "{config} {policy}"
            );
        }
    }

    #[test]
    fn what_docker_could_not_load_is_an_error() {
        for config in [
            "",
            "[]",
            r#"{"Driver":5}"#,
            r#"{"State":{"Pid":0.0}}"#,
            r#"{"Name":{}}"#,
        ] {
            assert!(parse_config(config.as_bytes()).is_err(), "{config}");
        }
        assert!(parse_host_config(br#"{"AutoRemove":1}"#).is_err());
    }
}
