//! The daemon's settings: its command line, its environment, `daemon.json`, and the files that these come from.

mod appliance;
mod config_file;
mod daemon_options;
mod data_root;
mod env_file;
mod flags;
mod hindrances;
mod host_files;
mod host_service;
mod identity;
mod installed;
mod launch;
mod pid_file_paths;
mod scripts;
mod service;
mod setting;
mod settings;
mod shell_script;
mod systemd;
mod unit;
mod words;

pub(super) use config_file::Config;
pub use config_file::{Change, ConfigError, edit};
pub(super) use daemon_options::KeyMeaning;
pub(super) use data_root::data_root_of_daemon;
pub use data_root::{DataRoot, data_root};
pub use hindrances::hindrances;
pub(super) use host_files::HostFiles;
pub use identity::{HostIdentity, Likeness};
pub(super) use installed::InstalledDocker;
pub use pid_file_paths::{default_pid_file, pid_files};
pub(super) use setting::{Directive, Setting, Way};
pub(super) use settings::Settings;
