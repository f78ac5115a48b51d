//! Which root the daemon of a host uses.

use std::path::{Path, PathBuf};

use super::super::files::shown;
use super::host_files::HostFiles;
use super::settings::Settings;
use super::told::Directive;

/// A daemon's root, and why it is that one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DataRoot {
    /// The directory, as this system sees it.
    pub path: PathBuf,
    /// The setting that names it, with its file, or that none does.
    pub why: String,
}

/// The root that the daemon of the host below `host_root` is told to use.
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
                "{} sets no data-root",
                shown(&files.place(&settings.config_path))
            ),
            (None, Err(error)) => format!("{error}, so a data-root in it is not known"),
        },
    }
}
