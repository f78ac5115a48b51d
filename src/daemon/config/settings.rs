//! All storage settings of the daemon: from its command line, its environment and `daemon.json`.

use std::path::{Path, PathBuf};

use super::config_file::Config;
use super::env_file::Reader;
use super::flags::{self, Argument};
use super::host_files::HostFiles;
use super::host_service::service;
use super::service::{Service, arguments, read_variables};
use super::setting::{Directive, Setting, Way};
use crate::chain::Chain;
use crate::daemon::first_start::Finding;
use crate::tree::{escape, shown};

/// The path of `daemon.json` unless a flag names another.
pub(super) const CONFIG_FILE: &str = "/etc/docker/daemon.json";

/// The daemon's root unless a setting names another.
const DATA_ROOT: &str = "/var/lib/docker";

/// The daemon's settings.
#[derive(Debug)]
pub(in crate::daemon) struct Settings {
    pub(in crate::daemon) service: Service,
    /// The path of `daemon.json` on the host.
    pub(in crate::daemon) config_path: PathBuf,
    /// The content of `daemon.json`; an error as text if Docker cannot read it.
    pub(in crate::daemon) config: Result<Config, String>,
    /// All settings, flags first.
    pub(super) told: Vec<Setting>,
    /// Settings in files that nothing reads.
    pub(in crate::daemon) unread: Vec<Setting>,
    /// Findings about what could not be read.
    pub(in crate::daemon) findings: Vec<Finding>,
}

impl Settings {
    /// Reads the host's settings.
    pub(in crate::daemon) fn read(files: &HostFiles) -> Self {
        let mut service = service(files);
        let mut findings = std::mem::take(&mut service.findings);
        let mut told = flags::read(&service.arguments);
        if let Some((value, origin)) = service.environment.get("DOCKER_DRIVER") {
            told.push(Setting {
                directive: Directive::Driver,
                value: value.clone(),
                way: Way::Environment,
                origin: origin.clone(),
            });
        }
        let config_path = told
            .iter()
            .rfind(|one| one.directive == Directive::ConfigFile)
            .map_or_else(
                || PathBuf::from(CONFIG_FILE),
                |one| PathBuf::from(&one.value),
            );
        let place = files.place(&config_path);
        let config = match files.read(&config_path) {
            Ok(None) => Ok(Config::default()),
            Ok(Some(text)) => Config::parse(&text).map_err(|error| error.at(&place)),
            Err(error) => Err(Chain(&error).to_string()),
        };
        if let Ok(config) = &config {
            told.extend(config.told(&place));
        }
        let unread = unread(files, &service, &mut findings);
        findings.extend(flags::stray(&service.arguments).map(no_flag));
        Self {
            service,
            config_path,
            config,
            told,
            unread,
            findings,
        }
    }

    /// The settings of a directive.
    pub(in crate::daemon) fn of(&self, directive: Directive) -> impl Iterator<Item = &Setting> {
        self.told
            .iter()
            .filter(move |one| one.directive == directive)
    }

    /// The storage driver in force: the environment variable takes precedence over a flag, and a flag over the file.
    pub(in crate::daemon) fn driver(&self) -> Option<&Setting> {
        let by_way = |wanted: fn(&Setting) -> bool| {
            self.of(Directive::Driver).filter(|one| wanted(one)).last()
        };
        let not_empty = |one: &&Setting| !one.value.is_empty();
        by_way(|one| one.way == Way::Environment)
            .filter(not_empty)
            .or_else(|| by_way(Setting::is_flag).filter(not_empty))
            .or_else(|| by_way(Setting::is_file).filter(not_empty))
    }

    /// The storage options in force.
    pub(in crate::daemon) fn options(&self) -> Vec<&Setting> {
        self.of(Directive::Options).collect()
    }

    /// Where a setting belongs on this host, in the words of a sentence about it.
    pub(in crate::daemon) fn place(&self, files: &HostFiles) -> String {
        match &self.service.flags_place {
            _ if !self.service.is_known() => {
                "where this host's Docker gets its settings".to_owned()
            }
            Some(place) => format!("as a flag in {place}"),
            None => format!("in {}", shown(&files.place(&self.config_path))),
        }
    }

    /// The root directory in force, as a path on the host.
    pub(in crate::daemon) fn data_root(&self) -> PathBuf {
        let told = [Directive::DataRoot, Directive::Graph]
            .into_iter()
            .find_map(|directive| self.of(directive).last());
        told.map_or_else(|| PathBuf::from(DATA_ROOT), |one| PathBuf::from(&one.value))
    }

    /// Directives given both as a flag and in `daemon.json`: the daemon refuses that even if both have the same value.
    pub(in crate::daemon) fn told_twice(&self) -> Vec<(&Setting, &Setting)> {
        let flags = self.told.iter().filter(|one| one.is_flag());
        let mut twice: Vec<(&Setting, &Setting)> = Vec::new();
        for flag in flags {
            let known = twice
                .iter()
                .any(|(known, _)| known.directive == flag.directive);
            if let Some(file) = self.of(flag.directive).find(|one| one.is_file())
                && !known
            {
                twice.push((flag, file));
            }
        }
        twice
    }
}

/// The finding for a word of the command line that is no flag.
fn no_flag(argument: &Argument) -> Finding {
    let Argument { text, origin } = argument;
    let why = if text.contains('$') {
        "; systemd expands no variables in a file that EnvironmentFile= names"
    } else {
        ""
    };
    let message = format!(
        "{origin}: {} is not a flag, and dockerd takes no arguments, so it does not start; remove it{why}",
        escape(text.as_bytes())
    );
    Finding::refusal("no-flag", message)
}

/// Flags in files that the services of other hosts read but this host's does not.
fn unread(files: &HostFiles, service: &Service, findings: &mut Vec<Finding>) -> Vec<Setting> {
    const OTHERS: [&str; 4] = [
        "/etc/default/docker",
        "/etc/conf.d/docker",
        "/etc/sysconfig/docker",
        "/etc/sysconfig/docker-storage",
    ];
    const VARIABLES: [&str; 4] = [
        "DOCKER_OPTS",
        "OPTIONS",
        "other_args",
        "DOCKER_STORAGE_OPTIONS",
    ];
    let mut told = Vec::new();
    if !service.is_known() {
        return told;
    }
    for path in OTHERS.map(Path::new) {
        let is_read = service.environment_files.iter().any(|read| read == path);
        for (name, (value, origin)) in read_variables(files, path, Reader::Shell, findings) {
            if VARIABLES.contains(&name.as_str()) && !(is_read && service.uses(&name)) {
                told.extend(flags::read(&arguments(&value, &origin)));
            }
        }
    }
    told
}
