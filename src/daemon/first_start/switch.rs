//! Makes the daemon use devicemapper: the plan for `daemon.json`, writing it, and restoring the old one.
//!
//! [`plan_switch`] only reads. [`Switch::record`] is what a journal must hold before [`apply`] is called; with it,
//! [`restore`] can undo any state that an interrupted [`apply`] leaves.
//!
//! The old file keeps its inode: it gets a second name beside it as a hard link, and the new file is renamed over the
//! first name. One more rename restores it, so mode, owner, times and attributes are the old ones, whatever they were.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};
use thiserror::Error;

use super::choice::DRIVER;
use super::{keys, storage_setup};
use crate::chain::Chain;
use crate::daemon::config::{
    Change, Directive, HostFiles, InstalledDocker, Setting, Settings, Way, edit,
};
use crate::daemon::finding::Host;
use crate::devicemapper::driver_files::daemon_settings;
use crate::devicemapper::storage_option::Verdict;
use crate::devicemapper::{Target, storage_option};
use crate::docker::MAX_FILE_BYTES;
use crate::durable::{remove_if_any, sync_directory};
use crate::path_error::PathError;
use crate::tree::shown;

/// The suffix of the old file's second name.
pub(in crate::daemon) const ORIGINAL: &str = "aufs2dm-original";

/// The suffix of the new file's name until it is complete.
const NEW: &str = "aufs2dm-new";

/// How an operator finds out what starts Docker.
pub(super) const LOOK: &str = "look at the command line of dockerd (`ps -o args= -C dockerd` while it runs) and at what \
                               starts it, and set the storage driver to devicemapper there or in the file that it reads";

/// What must be done so that the daemon uses the converted root.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Switch {
    /// `daemon.json` gets another content.
    Edit(ConfigEdit),
    /// The settings are in places where this tool does not write.
    ByHand {
        /// The changes to make, each with its file and line.
        lines: Vec<String>,
    },
    /// Nothing needs to be changed.
    Nothing,
}

/// An edit of `daemon.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfigEdit {
    /// The file, symbolic links resolved.
    #[serde(with = "crate::path_form")]
    pub path: PathBuf,
    /// The host's `/` that contains the file; empty if an earlier version did not record it.
    #[serde(default, with = "crate::path_form")]
    pub host_root: PathBuf,
    /// Its new text.
    pub content: String,
    /// SHA-256 of its current bytes in hexadecimal; `None` if it does not exist.
    pub old: Option<String>,
    /// What is removed or added, each with its reason.
    pub notes: Vec<String>,
}

/// What [`restore`] needs to know about an edit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// The file.
    #[serde(with = "crate::path_form")]
    pub path: PathBuf,
    /// SHA-256 of the bytes before; `None` if it did not exist.
    pub old: Option<String>,
    /// SHA-256 of the bytes after.
    pub new: String,
}

/// Why the daemon's configuration could not be changed or restored.
#[derive(Debug, Error)]
pub enum SwitchError {
    /// The operating system refuses.
    #[error(transparent)]
    Io(#[from] PathError),
    /// The file was changed in the meantime.
    #[error("{}: was changed in the meantime, so it is left as it is", shown(path))]
    Changed {
        /// The file.
        path: PathBuf,
    },
    /// The name for the old file is already in use.
    #[error(
        "{}: already exists and is not the current daemon.json: move it away",
        shown(path)
    )]
    Occupied {
        /// The name.
        path: PathBuf,
    },
    /// A journal names a file that is not the daemon's.
    #[error(
        "{}: is not the daemon.json of this host, which is {}, so it is left as it is; if the conversion was for \
         another host's root, pass that host's / with --host-root",
        shown(path),
        shown(expected)
    )]
    OtherFile {
        /// The file that is named.
        path: PathBuf,
        /// The daemon's.
        expected: PathBuf,
    },
    /// A journal requests changes beyond the storage driver and its options.
    #[error(
        "{}: the journal asks for changes to more than the storage driver and its options, which aufs2dm never makes, \
         so the file is left as it is",
        shown(path)
    )]
    OtherChange {
        /// The file.
        path: PathBuf,
    },
    /// A journal requests a value that no conversion of the root writes.
    #[error(
        "{}: the journal asks for {value} as {key}, which no conversion of this root writes, so the file is left as it \
         is: set storage-driver and storage-opts there by hand",
        shown(path)
    )]
    OtherValue {
        /// The file.
        path: PathBuf,
        /// The key.
        key: &'static str,
        /// The value.
        value: serde_json::Value,
    },
    /// The old file is no longer beside the new one.
    #[error("{}: is missing or was changed, so it cannot be restored", shown(path))]
    OriginalGone {
        /// The name.
        path: PathBuf,
    },
}

impl Switch {
    /// What a journal must hold before [`apply`]; `None` if nothing is written.
    pub fn record(&self) -> Option<Record> {
        let Self::Edit(edit) = self else {
            return None;
        };
        Some(Record {
            path: edit.path.clone(),
            old: edit.old.clone(),
            new: digest(edit.content.as_bytes()),
        })
    }
}

/// Determines what must be changed so that the daemon uses the converted root. Changes nothing.
pub fn plan_switch(host: &Host, target: &Target) -> Switch {
    let files = HostFiles::new(&host.root);
    let settings = Settings::read(&files);
    if let Some(why) = &settings.service.unknown {
        return Switch::ByHand {
            lines: by_hand_in_unknown_place(why, target),
        };
    }
    let version = InstalledDocker::find(&files, settings.service.program.as_deref()).version;
    let place = files.place(&settings.config_path);
    let options: Vec<_> = settings.options();
    let unfit: Vec<_> = options
        .iter()
        .filter_map(
            |told| match storage_option::judge(&told.value, target, version) {
                Verdict::Refused(why) => Some((*told, why)),
                _ => None,
            },
        )
        .collect();
    let values: Vec<_> = options.iter().map(|told| &*told.value).collect();
    let missing = storage_option::missing(&values, target);
    let mut lines = by_hand(&settings, &unfit, &missing);
    if let Ok(config) = &settings.config {
        lines.extend(keys::by_hand(config, &place, version));
    }
    let named = settings.driver().filter(|told| told.value == DRIVER);
    let change = Change {
        driver: named.is_none().then_some(DRIVER),
        drop: unfit.iter().map(|(told, _)| told.value.clone()).collect(),
        add: missing,
    };
    if let Err(error) = &settings.config {
        lines.insert(0, format!("{error}: fix it"));
        lines.extend(
            change
                .members()
                .into_iter()
                .map(|member| format!("{}: add {member}", shown(&place))),
        );
    }
    lines.extend(as_flags(&settings, &change.add));
    let written = shown(&files.place(Path::new(storage_setup::WRITTEN)));
    if lines.iter().any(|line| line.starts_with(&written)) && storage_setup::is_in_use(&files) {
        lines.insert(
            0,
            format!("first `{}`, which writes {written}", storage_setup::MASK),
        );
    }
    if !lines.is_empty() {
        return Switch::ByHand { lines };
    }
    if change == Change::default() {
        return Switch::Nothing;
    }
    let notes = notes(&change, &unfit);
    planned_edit(&files, &settings.config_path, &change, notes)
}

/// What to do if it is not known what starts Docker: a new file may be one that nothing reads.
fn by_hand_in_unknown_place(why: &str, target: &Target) -> Vec<String> {
    let options = target.storage_opts.iter();
    let flags: Vec<_> = options.map(|one| format!(" --storage-opt {one}")).collect();
    vec![
        format!("{why}: {LOOK}"),
        format!(
            "it needs `--storage-driver {DRIVER}{}`, or {} in the file that it reads",
            flags.concat(),
            daemon_settings(&target.storage_opts)
        ),
    ]
}

/// The flags to add on a host that keeps its settings as flags.
fn as_flags(settings: &Settings, missing: &[String]) -> Vec<String> {
    let Some(place) = &settings.service.flags_place else {
        return Vec::new();
    };
    let driver = settings
        .driver()
        .is_none()
        .then(|| format!("{place}: add `--storage-driver {DRIVER}`"));
    // Where there are options already, the line that has the last one is named.
    let has_options = settings.of(Directive::Options).any(Setting::is_flag);
    let missing = missing.iter().filter(|_| !has_options);
    let options = missing.map(|one| format!("{place}: add `--storage-opt {one}`"));
    driver.into_iter().chain(options).collect()
}

fn planned_edit(files: &HostFiles, path: &Path, change: &Change, notes: Vec<String>) -> Switch {
    let place = files.place(path);
    let failed = |error: String| Switch::ByHand {
        lines: std::iter::once(error)
            .chain(
                change
                    .members()
                    .into_iter()
                    .map(|member| format!("{}: add {member}", shown(&place))),
            )
            .collect(),
    };
    let text = match files.read(path) {
        Ok(text) => text,
        Err(error) => return failed(Chain(&error).to_string()),
    };
    let content = match edit(text.as_deref().unwrap_or_default(), change) {
        Ok(content) => content,
        Err(error) => return failed(error.at(&place)),
    };
    // The check of a recorded edit reads both texts with another parser. What that cannot read must not be edited, or no later
    // command would accept the conversion.
    if let Some(error) = text
        .iter()
        .chain([&content])
        .find_map(|text| unreadable(text))
    {
        return failed(format!("{}: {error}", shown(&place)));
    }
    match String::from_utf8(content) {
        Ok(content) => Switch::Edit(ConfigEdit {
            old: text.as_deref().map(digest),
            path: place,
            host_root: files.root().to_owned(),
            content,
            notes,
        }),
        Err(_) => failed(format!("{}: is not UTF-8", shown(&place))),
    }
}

/// Why [`check_recorded`](super::recorded::check_recorded) could not read a text, although Docker can: half a surrogate pair or
/// bytes that are not UTF-8 in some string, or nesting beyond all need.
fn unreadable(text: &[u8]) -> Option<serde_json::Error> {
    if text.trim_ascii().is_empty() {
        return None;
    }
    serde_json::from_slice::<Map<String, Value>>(text).err()
}

/// What prevents a plain edit of `daemon.json`: the changes to make by hand, each with its line.
fn by_hand(settings: &Settings, unfit: &[(&Setting, String)], missing: &[String]) -> Vec<String> {
    let mut lines = Vec::new();
    for told in settings.of(Directive::Driver) {
        let place = &told.origin;
        match &told.way {
            Way::Flag(given) if told.value != DRIVER => {
                let wanted = given.replacen(&told.value, DRIVER, 1);
                lines.push(format!("{place}: replace `{given}` with `{wanted}`"));
            }
            Way::Environment if told.value != DRIVER => {
                lines.push(format!(
                    "{place}: replace `DOCKER_DRIVER={given}` with `DOCKER_DRIVER={DRIVER}`",
                    given = told.value
                ));
            }
            _ => {}
        }
    }
    for (flag, file) in settings.told_twice() {
        let key = file.directive.key();
        lines.push(format!(
            "{}: remove \"{key}\", which is also set in {flag}",
            file.origin
        ));
    }
    let flags = settings
        .of(Directive::Options)
        .filter(|told| told.is_flag());
    let last_flag = flags.last();
    for (told, why) in unfit.iter().filter(|(told, _)| told.is_flag()) {
        if let Way::Flag(given) = &told.way {
            lines.push(format!("{}: remove `{given}`: it {why}", told.origin));
        }
    }
    if let Some(flag) = last_flag {
        let all = missing
            .iter()
            .map(|one| format!("{}: add `--storage-opt {one}`", flag.origin));
        lines.extend(all);
    }
    if settings.service.is_unit && lines.iter().any(|line| line.contains(".service")) {
        lines.push("then `systemctl daemon-reload`".to_owned());
    }
    lines
}

fn notes(change: &Change, unfit: &[(&Setting, String)]) -> Vec<String> {
    let dropped = unfit
        .iter()
        .map(|(told, why)| format!("removes {:?}: it {why}", told.value));
    let added = change.add.iter().map(|one| format!("adds {one:?}"));
    let named = change
        .driver
        .map(|driver| format!("sets storage-driver to {driver}"));
    named.into_iter().chain(dropped).chain(added).collect()
}

/// Writes the planned file, unless that was done before. Everything is durable on return.
///
/// # Errors
///
/// [`SwitchError::Changed`] if the file is not what it was when the edit was planned; in that case nothing is changed.
pub fn apply(switch: &Switch) -> Result<(), SwitchError> {
    let Switch::Edit(edit) = switch else {
        return Ok(());
    };
    let path = &edit.path;
    let now = present(path)?;
    if now.as_deref() == Some(&digest(edit.content.as_bytes())) {
        // An interrupted run already wrote it.
        return Ok(());
    }
    if now != edit.old {
        return Err(SwitchError::Changed { path: path.clone() });
    }
    let dir = path.parent().unwrap_or(Path::new("/"));
    fs::create_dir_all(dir).map_err(io_error("create", dir))?;
    let new = beside(path, NEW);
    remove_if_any(&new)?;
    let written = write_new(&new, edit).and_then(|()| {
        if edit.old.is_some() {
            keep_original(edit)?;
        }
        fs::rename(&new, path).map_err(io_error("rename", &new))
    });
    if let Err(error) = written {
        // The error is what matters; the next attempt replaces a leftover.
        let _ = fs::remove_file(&new);
        return Err(error);
    }
    Ok(sync_directory(dir)?)
}

/// Restores the old file, or removes the new one if there was no old file. Does nothing if nothing was written.
///
/// # Errors
///
/// [`SwitchError::Changed`] if the current content is neither the old nor ours; the file then stays as it is.
pub fn restore(record: &Record) -> Result<(), SwitchError> {
    let path = &record.path;
    let dir = path.parent().unwrap_or(Path::new("/"));
    remove_if_any(&beside(path, NEW))?;
    let original = beside(path, ORIGINAL);
    let now = present(path)?;
    if now == record.old {
        // Never written, or already restored. A second name of the same file may be left.
        if is_same_file(path, &original) {
            remove_if_any(&original)?;
        }
        return sync_if_any(dir);
    }
    if now.as_deref() != Some(&record.new) {
        return Err(SwitchError::Changed { path: path.clone() });
    }
    if record.old.is_none() {
        fs::remove_file(path).map_err(io_error("remove", path))?;
        return Ok(sync_directory(dir)?);
    }
    if present(&original)? != record.old {
        return Err(SwitchError::OriginalGone { path: original });
    }
    fs::rename(&original, path).map_err(io_error("rename", &original))?;
    Ok(sync_directory(dir)?)
}

/// Gives the old file a second name. If the name already is a link to the same file, an interrupted run left it.
fn keep_original(edit: &ConfigEdit) -> Result<(), SwitchError> {
    let original = beside(&edit.path, ORIGINAL);
    match fs::hard_link(&edit.path, &original) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            if is_same_file(&edit.path, &original) {
                return Ok(());
            }
            Err(SwitchError::Occupied { path: original })
        }
        linked => linked.map_err(io_error("link", &original)),
    }
}

/// Writes the new file with the old one's owner, mode and attributes.
fn write_new(new: &Path, edit: &ConfigEdit) -> Result<(), SwitchError> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).mode(0o644);
    let mut file = options.open(new).map_err(io_error("create", new))?;
    file.write_all(edit.content.as_bytes())
        .map_err(io_error("write", new))?;
    if edit.old.is_some() {
        let old = fs::symlink_metadata(&edit.path).map_err(io_error("stat", &edit.path))?;
        fchown(&file, Some(old.uid()), Some(old.gid())).map_err(io_error("chown", new))?;
        let mode = fs::Permissions::from_mode(old.mode() & 0o7777);
        file.set_permissions(mode).map_err(io_error("chmod", new))?;
        copy_attributes(&edit.path, &file).map_err(io_error("set the attributes", new))?;
    }
    file.sync_all().map_err(io_error("sync", new))
}

fn copy_attributes(from: &Path, to: &File) -> io::Result<()> {
    use xattr::FileExt;
    let names = match xattr::list(from) {
        Err(error) if error.kind() == io::ErrorKind::Unsupported => return Ok(()),
        names => names?,
    };
    for name in names {
        if let Some(value) = xattr::get(from, &name)? {
            to.set_xattr(&name, &value)?;
        }
    }
    Ok(())
}

/// The digest of a file's current bytes; `None` if there is no file.
pub(super) fn present(path: &Path) -> Result<Option<String>, SwitchError> {
    let meta = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        meta => meta.map_err(io_error("stat", path))?,
    };
    if !meta.is_file() || meta.len() > MAX_FILE_BYTES {
        return Err(SwitchError::Changed {
            path: path.to_path_buf(),
        });
    }
    let bytes = fs::read(path).map_err(io_error("read", path))?;
    Ok(Some(digest(&bytes)))
}

pub(in crate::daemon) fn is_same_file(a: &Path, b: &Path) -> bool {
    let identity = |path: &Path| {
        fs::symlink_metadata(path)
            .ok()
            .map(|meta| (meta.dev(), meta.ino()))
    };
    let (a, b) = (identity(a), identity(b));
    a.is_some() && a == b
}

pub(in crate::daemon) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(suffix);
    PathBuf::from(name)
}

fn sync_if_any(dir: &Path) -> Result<(), SwitchError> {
    if dir.exists() {
        sync_directory(dir)?;
    }
    Ok(())
}

pub(super) fn digest(bytes: &[u8]) -> String {
    format!("{:x}", Sha256::digest(bytes))
}

fn io_error(op: &'static str, path: &Path) -> impl FnOnce(io::Error) -> SwitchError {
    let error = PathError::on(path, op);
    move |source| error(source).into()
}
