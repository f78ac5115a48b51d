//! Systems that start Docker in a way of their own: boot2docker, `RancherOS`, and packages of storage boxes.
//!
//! Source: boot2docker `rootfs/rootfs/usr/local/etc/init.d/docker`. `RancherOS` and Synology's packages are known from
//! their documentation only; whatever differs there is reported as not known.

use std::path::{Path, PathBuf};

use super::env_file::Reader;
use super::flags::Argument;
use super::host_files::HostFiles;
use super::service::{Service, arguments, unreadable};
use super::setting::Origin;
use crate::tree::shown;

/// The directory of boot2docker that outlives a boot, and the file there that its script reads.
const BOOT2DOCKER: &str = "/var/lib/boot2docker";
const PROFILE: &str = "/var/lib/boot2docker/profile";

/// The directory in which `RancherOS` keeps its configuration.
const RANCHER: &str = "/var/lib/rancher/conf";

/// The names of Synology's package.
const SYNOLOGY: [&str; 2] = ["ContainerManager", "Docker"];

/// The service of such a system.
pub(super) fn appliance(files: &HostFiles) -> Option<Service> {
    boot2docker(files)
        .or_else(|| rancher(files))
        .or_else(|| synology(files))
}

/// The settings files of such systems that are like `daemon.json`, whether or not they are in use.
pub(super) fn settings_files() -> Vec<PathBuf> {
    let path = |name: &str| {
        Path::new("/var/packages")
            .join(name)
            .join("etc/dockerd.json")
    };
    SYNOLOGY.map(path).to_vec()
}

fn boot2docker(files: &HostFiles) -> Option<Service> {
    if !files.exists(Path::new(BOOT2DOCKER)) {
        return None;
    }
    let profile = Path::new(PROFILE);
    let mut service = Service::at(files, profile);
    service.flags_place = Some(format!("EXTRA_ARGS in {}", shown(&files.place(profile))));
    service.environment_files.push(profile.to_owned());
    service.read_variables(files, profile, Reader::Shell);
    for (name, flag) in [("DOCKER_STORAGE", "--storage-driver"), ("DOCKER_DIR", "-g")] {
        service.used.insert(name.to_owned());
        if let Some((value, origin)) = service.environment.get(name)
            && value != "auto"
            && !value.is_empty()
        {
            service.arguments.push(Argument {
                text: format!("{flag}={value}"),
                origin: origin.clone(),
            });
        }
    }
    service.push_variable("EXTRA_ARGS");
    // `DOCKER_DRIVER` counts only for what is exported.
    service.environment.clear();
    Some(service)
}

fn rancher(files: &HostFiles) -> Option<Service> {
    if !files.exists(Path::new(RANCHER)) {
        return None;
    }
    let mut service = Service::at(files, Path::new("/var/lib/rancher/conf/cloud-config.yml"));
    service.flags_place = Some(
        "RancherOS's configuration, where `ros config set rancher.docker.storage_driver devicemapper` sets the driver \
         and rancher.docker.extra_args holds other flags"
            .to_owned(),
    );
    let parts = Path::new(RANCHER).join("cloud-config.d");
    let names = files.names(&parts).into_iter();
    let parts = names.map(|name| parts.join(name));
    for path in parts.chain([Path::new(RANCHER).join("cloud-config.yml")]) {
        match files.read(&path) {
            Ok(text) => {
                let text = text.unwrap_or_default();
                let text = String::from_utf8_lossy(&text);
                service
                    .arguments
                    .extend(cloud_config(&text, &files.place(&path)));
            }
            Err(error) => service.findings.push(unreadable(&error)),
        }
    }
    Some(service)
}

/// The flags that the lines below `rancher.docker` of a cloud-config amount to.
///
/// This is not a reader of YAML: it knows the forms that `RancherOS` writes and its documentation shows, and takes a line
/// too many rather than one too few.
fn cloud_config(text: &str, place: &Path) -> Vec<Argument> {
    const KEYS: [(&str, &str); 4] = [
        ("storage_driver", "--storage-driver"),
        ("graph", "--graph"),
        ("config_file", "--config-file"),
        ("pid_file", "--pidfile"),
    ];
    let mut found = Vec::new();
    // The indentation of `docker:`, and that of `args:` in it.
    let (mut docker, mut list) = (None, None);
    for (line, number) in text.lines().zip(1..) {
        let trimmed = line.trim();
        let indent = line.len() - line.trim_start().len();
        if trimmed.is_empty() || trimmed.starts_with('#') {
            continue;
        }
        let origin = Origin {
            path: place.to_path_buf(),
            line: number,
        };
        if docker.is_some_and(|outer| indent <= outer) {
            (docker, list) = (None, None);
        }
        if trimmed == "docker:" {
            docker = Some(indent);
            continue;
        }
        if docker.is_none() {
            continue;
        }
        if let (Some(outer), Some(item)) = (list, trimmed.strip_prefix('-'))
            && indent >= outer
            && item.starts_with(' ')
        {
            let text = item.trim().trim_matches(['"', '\'']).to_owned();
            found.push(Argument { text, origin });
            continue;
        }
        list = None;
        let Some((key, value)) = trimmed.split_once(':') else {
            continue;
        };
        let value = value.trim();
        if key == "args" || key == "extra_args" {
            list = Some(indent);
            let inline = value.trim_matches(['[', ']']).replace(',', " ");
            found.extend(arguments(&inline, &origin));
        } else if let Some((_, flag)) = KEYS.iter().find(|(name, _)| *name == key) {
            let value = value.trim_matches(['"', '\'']);
            found.push(Argument {
                text: format!("{flag}={value}"),
                origin,
            });
        }
    }
    found.retain(|one| one.text != "daemon");
    found
}

fn synology(files: &HostFiles) -> Option<Service> {
    let config = settings_files()
        .into_iter()
        .find(|path| files.exists(path))?;
    let package = config.parent().and_then(Path::parent)?;
    let script = package.join("scripts/start-stop-status");
    let mut service = Service::at(files, &script);
    service.arguments.push(Argument {
        text: format!("--config-file={}", config.display()),
        origin: Origin {
            path: files.place(&script),
            line: 0,
        },
    });
    Some(service)
}
