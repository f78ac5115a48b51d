//! The root that a host's daemon uses.

use std::path::{Path, PathBuf};

use super::config_file::Config;
use super::host_files::HostFiles;
use super::setting::Directive;
use super::settings::{CONFIG_FILE, Settings};
use crate::tree::shown;

/// A daemon's root, and why it is that one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DataRoot {
    /// The directory, as this system sees it.
    pub path: PathBuf,
    /// The setting that names it, with its file, or a note that no setting does.
    pub why: String,
}

/// The root that a running daemon reads from its `daemon.json`, for a daemon without a flag for it. `proc_root` is the
/// root of the file system that the daemon sees, and `config_file` another config file that a flag names. `None` if the
/// file does not set a root.
pub(in crate::daemon) fn data_root_of_daemon(
    proc_root: &Path,
    config_file: Option<&Path>,
) -> Option<PathBuf> {
    let path = config_file.unwrap_or(Path::new(CONFIG_FILE));
    let text = HostFiles::new(proc_root).read(path).ok().flatten()?;
    let config = Config::parse(&text).ok()?;
    let told: Vec<_> = config.told(path).collect();
    let of = |directive| told.iter().rfind(|one| one.directive == directive);
    let one = of(Directive::DataRoot).or_else(|| of(Directive::Graph))?;
    Some(PathBuf::from(&one.value))
}

/// The root that the settings of the host below `host_root` give its daemon.
pub fn data_root(host_root: &Path) -> DataRoot {
    let files = HostFiles::new(host_root);
    let settings = Settings::read(&files);
    let told = [Directive::DataRoot, Directive::Graph]
        .into_iter()
        .find_map(|directive| settings.of(directive).last());
    DataRoot {
        path: files.place(&settings.data_root()),
        why: match (told, &settings.config) {
            (Some(told), _) => told.to_string(),
            (None, Ok(_)) => format!(
                "{} does not set data-root",
                shown(&files.place(&settings.config_path))
            ),
            (None, Err(error)) => format!("{error}, so it is not known whether it sets data-root"),
        },
    }
}
