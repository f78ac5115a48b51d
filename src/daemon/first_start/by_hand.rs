//! What an operator must do by hand if `daemon.json` cannot be changed or restored.

use std::path::PathBuf;

use super::choice::DRIVER;
use super::switch::{ConfigEdit, ORIGINAL, Record, Switch, beside, plan_switch, present};
use crate::daemon::config::{HostFiles, Settings};
use crate::daemon::finding::Host;
use crate::devicemapper::Target;
use crate::shell::word;
use crate::tree::shown;

/// What the operator must change by hand so that the daemon uses the converted root, because a unit, a script or a
/// variable of this host names something else, or because nothing shows what starts Docker. Empty if an edit of
/// `daemon.json` is enough.
pub fn lines_by_hand(host: &Host, target: &Target) -> Vec<String> {
    match plan_switch(host, target) {
        Switch::ByHand { lines } => lines,
        _ => Vec::new(),
    }
}

/// The file that holds Docker's settings on this host; `None` if nothing shows which one it is, or if this host keeps
/// them as flags.
pub fn settings_file(host: &Host) -> Option<PathBuf> {
    let files = HostFiles::new(&host.root);
    let settings = Settings::read(&files);
    let is_place = settings.service.is_known() && settings.service.flags_place.is_none();
    is_place.then(|| files.place(&settings.config_path))
}

/// The settings that keep the daemon of this host from using aufs, as far as they are known; empty if there are none.
pub fn told_devicemapper(host: &Host) -> Vec<String> {
    let files = HostFiles::new(&host.root);
    let settings = Settings::read(&files);
    if let Err(error) = &settings.config {
        return vec![format!("{error}: fix it")];
    }
    let driver = settings.driver().filter(|told| told.value == DRIVER);
    let options = settings.options().into_iter();
    let options = options.filter(|told| told.value.starts_with("dm."));
    let mut lines: Vec<_> = driver
        .map(|told| format!("{told}: set aufs instead"))
        .into_iter()
        .collect();
    lines.extend(options.map(|told| format!("{told}: remove it")));
    let is_known = settings.service.is_known() || settings.driver().is_some();
    if lines.is_empty() && !is_known {
        lines.push("undo \"storage-driver\": \"devicemapper\" where it was set".to_owned());
    }
    lines
}

/// The setting that makes the daemon of this host use aufs, if there is one.
pub fn told_aufs(host: &Host) -> Option<String> {
    let settings = Settings::read(&HostFiles::new(&host.root));
    let driver = settings.driver().filter(|told| told.value == "aufs")?;
    Some(format!(
        "Docker would use aufs: {driver}; set devicemapper there before it starts"
    ))
}

/// Whether the file is the one that a switch produces; `None` if nothing is edited.
pub fn is_applied(switch: &Switch) -> Option<bool> {
    let record = switch.record()?;
    Some(present(&record.path).is_ok_and(|now| now == Some(record.new)))
}

impl ConfigEdit {
    /// The old file's second name; `None` if there was no old file.
    pub fn original(&self) -> Option<PathBuf> {
        self.old.as_ref().map(|_| beside(&self.path, ORIGINAL))
    }
}

/// What [`restore`](super::switch::restore) does, as instructions for an operator in case it cannot.
pub fn restore_by_hand(record: &Record) -> String {
    let path = &record.path;
    let original = beside(path, ORIGINAL);
    let now = present(path);
    let is_gone = matches!(now, Ok(None));
    let is_ours = now.is_ok_and(|now| now.as_deref() == Some(&record.new));
    let is_kept = || present(&original).is_ok_and(|now| now == record.old);
    let edit = || {
        format!(
            "Docker must be set to aufs again before it starts: put \"storage-driver\": \"aufs\" in {}, and remove \
             devicemapper's storage-opts",
            shown(path)
        )
    };
    match &record.old {
        None if is_ours => format!(
            "Docker must not be set to devicemapper when it starts: `rm {}`",
            word(path)
        ),
        Some(_) if (is_ours || is_gone) && is_kept() => format!(
            "Docker must be set to aufs again before it starts: `mv {} {}`",
            word(&original),
            word(path)
        ),
        _ => edit(),
    }
}
