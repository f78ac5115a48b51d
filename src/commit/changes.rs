//! The changes that Docker has made on the converted root, and which of them a rollback would lose.
//!
//! Docker records every device that it creates or removes in `devicemapper/metadata`, and every start of a container in
//! that container's config. The conversion stores digests of what it wrote there, for later comparison. The same
//! digests reveal damage: a file whose bytes differ although nobody has written to it since.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde::Serialize;
use sha2::{Digest, Sha256};

use super::config::{self, DRIVER};
use super::config_paths::{directory_of_config, is_container};
use super::error::Error;
use super::file_digests::{FileDigest, FileDigests, Parts};
use super::image_names::ImageNames;
use super::regular_files::{MAX_FILE_BYTES, names_in, open_regular, read_regular};
use super::second_place;
use super::store_files::IMAGE_NAMES;
use super::whereabouts::Whereabouts;
use crate::devicemapper::driver_files::{DEVICE_SET_FILE, DeviceRecord, TRANSACTION_FILE};
use crate::docker::{self, CONFIG, CacheId, config_with_driver};
use crate::shell::word;
use crate::staging::STAGE_NAME;
use crate::tree::{escape, shown};

/// What Docker did since. Empty if there is no sign of anything.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Changes {
    /// Whether the pool's transaction id or its set of devices differs.
    pub transactions: bool,
    /// New layers of images and containers.
    pub new_devices: Vec<String>,
    /// Removed layers.
    pub removed_devices: Vec<String>,
    /// Whether the pool's data was written to.
    pub pool_data: bool,
    /// New objects in the image store, as paths relative to it.
    pub new_objects: Vec<String>,
    /// Whether names of images changed.
    pub image_names: bool,
    /// The changed names, if they can be determined.
    pub images: ImageNames,
    /// Removed images, by the beginnings of their ids.
    pub removed_images: Vec<String>,
    /// New containers.
    pub new_containers: Vec<String>,
    /// Containers that were started or changed.
    pub changed_containers: Vec<String>,
    /// Removed containers.
    pub removed_containers: Vec<String>,
}

impl Changes {
    /// Whether there are no changes.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl Changes {
    /// Whether going back loses any of the changes: what was removed is still on the aufs side.
    pub fn loses_by_going_back(&self) -> bool {
        let names = &self.images;
        // The names may be unknown.
        let are_new = self.image_names
            && (*names == ImageNames::default()
                || !names.new.is_empty()
                || !names.moved.is_empty());
        let rest = Self {
            image_names: are_new,
            images: ImageNames::default(),
            removed_devices: Vec::new(),
            removed_images: Vec::new(),
            removed_containers: Vec::new(),
            ..self.clone()
        };
        !rest.is_empty()
    }

    /// The changes that remove what the aufs side still has: images, image names and their previous targets, and
    /// containers.
    #[must_use]
    pub fn removed(&self) -> Self {
        let images = ImageNames {
            new: Vec::new(),
            ..self.images.clone()
        };
        Self {
            image_names: images != ImageNames::default(),
            images,
            removed_images: self.removed_images.clone(),
            removed_containers: self.removed_containers.clone(),
            ..Self::default()
        }
    }
}

/// The number of names that fit on a line.
const SHOWN: usize = 5;

impl fmt::Display for Changes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lists = [
            ("new containers", &self.new_containers),
            ("containers started or changed", &self.changed_containers),
            ("containers removed", &self.removed_containers),
            ("new layers", &self.new_devices),
            ("layers removed", &self.removed_devices),
            ("new image names", &self.images.new),
            ("image names moved", &self.images.moved),
            ("image names removed", &self.images.removed),
            ("images removed", &self.removed_images),
            ("new objects in the image store", &self.new_objects),
        ];
        let mut parts: Vec<String> = lists
            .iter()
            .filter(|(_, names)| !names.is_empty())
            .map(|(title, names)| {
                let shown: Vec<_> = names
                    .iter()
                    .take(SHOWN)
                    .map(|name| escape(name.as_bytes()))
                    .collect();
                let shown = shown.join(", ");
                let more = if names.len() > SHOWN { ", …" } else { "" };
                format!("{} {title} ({shown}{more})", names.len())
            })
            .collect();
        if self.image_names && self.images == ImageNames::default() {
            parts.push("image names changed".to_owned());
        }
        if self.pool_data {
            parts.push("the pool's data was written to".to_owned());
        }
        if parts.is_empty() && self.transactions {
            parts.push("the driver's transactions advanced".to_owned());
        }
        f.write_str(&parts.join("; "))
    }
}

impl FileDigests {
    /// Records what is staged.
    pub(super) fn of(parts: &Parts<'_>) -> Result<Self, Error> {
        let mut written = Self {
            files: driver_files(parts.home, parts.image)?,
            configs: BTreeMap::new(),
            containers: containers_in(parts.root)?,
        };
        for container in names_in(&parts.configs.join("containers"))? {
            let directory = format!("containers/{container}");
            for name in names_in(&parts.configs.join(&directory))? {
                let path = format!("{directory}/{name}");
                if let Some(noted) = note(&parts.configs.join(&path))? {
                    written.configs.insert(path, noted);
                }
            }
        }
        Ok(written)
    }

    /// Compares with the present state.
    pub(super) fn changes(&self, at: &Whereabouts) -> Result<Changes, Error> {
        let (home, image) = (&at.home.path, &at.image.path);
        let now = driver_files(home, image)?;
        let mut changes = Changes::default();
        for (path, noted) in &self.files {
            let name = path.rsplit('/').next().unwrap_or(path);
            let is_homes = path.starts_with("devicemapper/");
            let part = if is_homes { &at.home } else { &at.image };
            let found = now.get(path);
            if found.is_none() && !part.is_in_place {
                continue;
            }
            let same = found.is_some_and(|found| found.sha256 == noted.sha256);
            match name {
                // If they are missing, that is no sign of work.
                TRANSACTION_FILE | DEVICE_SET_FILE => {
                    changes.transactions |= found.is_some() && !same;
                }
                _ if !is_homes && found.is_none() => {
                    changes.images.removed = all_image_names(&at.root)?;
                }
                _ if !is_homes => changes.image_names |= !same,
                _ if found.is_none() => changes.removed_devices.push(name.to_owned()),
                _ => {}
            }
        }
        for path in now.keys().filter(|path| !self.files.contains_key(*path)) {
            match path.strip_prefix("devicemapper/metadata/") {
                Some(name) => changes.new_devices.push(name.to_owned()),
                None => changes.image_names = true,
            }
        }
        if changes.image_names {
            changes.images = self.image_names(&at.root, image)?.unwrap_or_default();
        }
        changes.removed_images = removed_images(at)?;
        self.containers(at, &mut changes)?;
        Ok(changes)
    }

    /// The names that changed: the aufs side still has the names that the conversion copied.
    fn image_names(&self, root: &Path, image: &Path) -> Result<Option<ImageNames>, Error> {
        let before = root.join("image/aufs").join(IMAGE_NAMES);
        let copied = self.files.get(&format!("image/devicemapper/{IMAGE_NAMES}"));
        let noted = note(&before)?;
        if noted.as_ref().map(|noted| &noted.sha256) != copied.map(|noted| &noted.sha256) {
            return Ok(None);
        }
        let now = image.join(IMAGE_NAMES);
        let texts = (read_regular(&before)?, read_regular(&now)?);
        Ok(match texts {
            (Some(before), Some(now)) => ImageNames::between(&before, &now),
            _ => None,
        })
    }

    /// Files that differ from what the conversion wrote although nobody wrote them since, as one text each. Docker
    /// replaces its files, so a file that it wrote has a new time; a disk that loses bytes leaves the time as it was.
    pub(super) fn damage(&self, root: &Path) -> Result<Vec<String>, Error> {
        let mut damaged = Vec::new();
        for (path, was) in self.files.iter().chain(&self.configs) {
            let at = root.join(path);
            let name = path.rsplit('/').next().unwrap_or(path);
            match note(&at)? {
                Some(found) if found.sha256 != was.sha256 && found.modified == was.modified => {
                    damaged.push(format!(
                        "{}: differs from what the conversion wrote, although it was not written to since",
                        at.display()
                    ));
                }
                Some(found) if found.sha256 != was.sha256 => {
                    damaged.extend(config::doubt(root, path)?);
                }
                // Docker never removes these two files, and it removes a config only with the rest of the container.
                None if matches!(name, TRANSACTION_FILE | DEVICE_SET_FILE)
                    || is_config(path) && directory_of(&at).is_dir() =>
                {
                    damaged.push(format!("{}: is missing", at.display()));
                }
                _ => {}
            }
        }
        Ok(damaged)
    }

    /// Containers that were lost rather than removed, as one text each. `docker rm` removes a container's devices first,
    /// then its record in the image store; when it removes the directory differs between releases. So a container of
    /// which only the directory is gone, or of which only the devices are left, was not removed by Docker.
    /// Source: moby v20.10 `layer/layer_store.go`, `ReleaseRWLayer`, and `daemon/delete.go`, `cleanupContainer`.
    pub(super) fn lost_containers(&self, root: &Path) -> Result<Vec<String>, Error> {
        let now = containers_in(root)?;
        let mounts = root.join("image/devicemapper/layerdb/mounts");
        let records = names_in(&mounts)?;
        let mut lost = Vec::new();
        let gone = self.containers.difference(&now);
        // The journal may be forged: a name that is no id leads nowhere.
        for id in gone.filter(|id| is_container(id)) {
            let (directory, record) = (root.join("containers").join(id), mounts.join(id));
            let left = devices_left(root, id)?;
            let all = |first: Option<&PathBuf>| {
                let paths = first.into_iter().chain(&left);
                paths.map(|path| word(path)).collect::<Vec<_>>().join(" ")
            };
            if records.contains(id) {
                lost.push(format!(
                    "{}: is missing, and the container is still in the image store; `docker rm` removes both: if that was interrupted, \
                     `rm -r {}`",
                    shown(&directory),
                    all(Some(&record))
                ));
            } else if !left.is_empty() {
                lost.push(format!(
                    "{}: is missing, and so is {}, but the container's devices are still there, which `docker rm` removes first. \
                     Next: restore both from a backup; or, if you removed them by hand, `rm {}`",
                    shown(&directory),
                    shown(&record),
                    all(None)
                ));
            }
        }
        Ok(lost)
    }

    /// Whether it names only files that a conversion writes.
    pub(super) fn is_sound(&self) -> bool {
        let is_driver_file = |path: &String| match path.strip_prefix("devicemapper/metadata/") {
            Some(name) => !name.is_empty() && !name.contains('/') && name != "..",
            None => path.strip_prefix("image/devicemapper/") == Some(IMAGE_NAMES),
        };
        self.files.keys().all(is_driver_file) && self.configs.keys().all(|path| is_config(path))
    }

    /// Whether the conversion wrote a file of this name into the driver's metadata directory.
    pub(super) fn is_driver_file(&self, name: &str) -> bool {
        let path = format!("devicemapper/metadata/{name}");
        self.files.contains_key(&path)
    }

    /// When the conversion wrote a file in the driver's metadata directory, in seconds since 1970.
    pub(super) fn note_written_at(&self, name: &str) -> Option<i64> {
        let noted = self.files.get(&format!("devicemapper/metadata/{name}"))?;
        Some(noted.modified.0)
    }

    /// Whether `bytes` are what the conversion wrote in place of a config.
    pub(super) fn is_config(&self, path: &str, bytes: &[u8]) -> bool {
        let digest = format!("{:x}", Sha256::digest(bytes));
        self.configs
            .get(path)
            .is_none_or(|noted| noted.sha256 == digest)
    }

    /// While not everything is in place, Docker may also have run with aufs, and what it did there is not lost.
    fn containers(&self, at: &Whereabouts, changes: &mut Changes) -> Result<(), Error> {
        let root = &*at.root;
        let now = containers_in(root)?;
        let name = |id: &String| container_name(root, id);
        let is_made_there = |id: &&String| {
            at.is_all_in_place() || at.home.is_in_place && is_devicemappers(root, id)
        };
        let new = now.difference(&self.containers);
        changes.new_containers = new.filter(is_made_there).map(name).collect();
        let removed = self.containers.difference(&now);
        let was_there = |id: &&String| at.has_replaced(id);
        changes.removed_containers = removed.filter(was_there).map(name).collect();
        let mut changed = BTreeSet::new();
        for (path, was) in &self.configs {
            let id = path.split('/').nth(1).unwrap_or(path).to_owned();
            if !now.contains(&id) || !at.is_replaced(path) {
                continue;
            }
            let found = note(&root.join(path))?;
            let same = found.is_some_and(|found| found.sha256 == was.sha256);
            if !same && (at.is_all_in_place() || !self.is_original(root, path)?) {
                changed.insert(id);
            }
        }
        changes.changed_containers = changed.iter().map(name).collect();
        Ok(())
    }

    /// Whether a config in place is the one that was replaced: a rollback was killed after it had moved that back.
    fn is_original(&self, root: &Path, path: &str) -> Result<bool, Error> {
        let bytes = read_regular(&root.join(path))?;
        let edited = bytes.and_then(|bytes| config_with_driver(&bytes, DRIVER).ok().flatten());
        Ok(edited.is_some_and(|edited| self.is_config(path, &edited)))
    }
}

/// The driver's files of the devices that a container had at the conversion, as far as they are there and not marked as
/// deleted. Empty once the aufs side is gone, which alone says what devices it had.
fn devices_left(root: &Path, container: &str) -> Result<Vec<PathBuf>, Error> {
    let record = root.join("image/aufs/layerdb/mounts").join(container);
    let mut left = Vec::new();
    for file in ["mount-id", "init-id"] {
        // A record that cannot be read is damage to the aufs side, which is reported as that.
        let id = read_regular(&record.join(file)).ok().flatten();
        let Ok(layer) = CacheId::parse(id.unwrap_or_default().trim_ascii()) else {
            continue;
        };
        let note = root.join("devicemapper/metadata").join(layer.as_str());
        let text = read_regular(&note)?;
        let device = text.and_then(|text| DeviceRecord::parse(&text).ok());
        if device.is_some_and(|device| !device.deleted) {
            left.push(note);
        }
    }
    Ok(left)
}

/// Whether a path is that of a container's config.
fn is_config(path: &str) -> bool {
    directory_of_config(path).is_some()
}

fn directory_of(file: &Path) -> &Path {
    file.parent().unwrap_or(file)
}

/// The files that Docker changes with every image and container.
fn driver_files(home: &Path, image: &Path) -> Result<BTreeMap<String, FileDigest>, Error> {
    let mut files = BTreeMap::new();
    let notes = home.join("metadata");
    for name in names_in(&notes)? {
        // Docker's own temporary files.
        if name.starts_with('.') {
            continue;
        }
        if let Some(noted) = note(&notes.join(&name))? {
            files.insert(format!("devicemapper/metadata/{name}"), noted);
        }
    }
    if let Some(noted) = note(&image.join(IMAGE_NAMES))? {
        files.insert(format!("image/devicemapper/{IMAGE_NAMES}"), noted);
    }
    Ok(files)
}

/// All previous image names, as far as the aufs side has them.
fn all_image_names(root: &Path) -> Result<Vec<String>, Error> {
    let before = read_regular(&root.join("image/aufs").join(IMAGE_NAMES))?;
    let names = before.and_then(|before| ImageNames::between(&before, b"{}"));
    Ok(names.map_or_else(Vec::new, |names| names.removed))
}

/// Images whose configs the aufs side still has and the devicemapper side lacks.
fn removed_images(at: &Whereabouts) -> Result<Vec<String>, Error> {
    if !at.image.is_in_place {
        return Ok(Vec::new());
    }
    let configs = |store: &Path| names_in(&store.join("imagedb/content/sha256"));
    let (before, now) = (
        configs(&at.root.join("image/aufs"))?,
        configs(&at.image.path)?,
    );
    let gone = before.difference(&now);
    Ok(gone.map(|id| id.chars().take(12).collect()).collect())
}

/// The containers of a root, without this tool's directory beside them.
fn containers_in(root: &Path) -> Result<BTreeSet<String>, Error> {
    let mut names = names_in(&root.join("containers"))?;
    names.remove(STAGE_NAME);
    Ok(names)
}

/// The digest record of a regular file; `None` for anything else.
fn note(path: &Path) -> Result<Option<FileDigest>, Error> {
    let Some(file) = open_regular(path)? else {
        return Ok(None);
    };
    let meta = file.metadata().map_err(Error::io(path, "stat"))?;
    let mut hash = Sha256::new();
    io::copy(&mut file.take(MAX_FILE_BYTES), &mut hash).map_err(Error::io(path, "read"))?;
    Ok(Some(FileDigest {
        sha256: format!("{:x}", hash.finalize()),
        modified: (meta.mtime(), meta.mtime_nsec()),
    }))
}

/// A container's name, or the beginning of its id if the name cannot be found. If the container is gone, the kept
/// originals are searched.
fn container_name(root: &Path, id: &str) -> String {
    let kept =
        [root.join(STAGE_NAME), second_place::place(root)].map(|place| place.join("originals"));
    let name = name_in(root, id).or_else(|| kept.iter().find_map(|kept| name_in(kept, id)));
    name.unwrap_or_else(|| id.chars().take(12).collect())
}

/// Whether a container uses the driver that was converted to. `true` if unknown.
fn is_devicemappers(root: &Path, id: &str) -> bool {
    let driver = docker::driver_of(&config_of(root, id).unwrap_or_default());
    driver.map_or(true, |driver| driver.is_empty() || driver == DRIVER)
}

/// The name in a container's config below `top`.
fn name_in(top: &Path, id: &str) -> Option<String> {
    docker::name_of(&config_of(top, id)?).ok()?
}

/// The bytes of a container's config below `top`, if they can be read.
fn config_of(top: &Path, id: &str) -> Option<Vec<u8>> {
    let path = top.join("containers").join(id).join(CONFIG);
    read_regular(&path).ok().flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_container_of_a_forged_journal_leads_out_of_no_root() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("docker");
        let layer = "ab".repeat(32);
        let put = |path: &str, text: &str| {
            let path = root.join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        put("containers/other/x", "");
        put(
            &format!("devicemapper/metadata/{layer}"),
            "{\"device_id\":2}",
        );
        put("image/devicemapper/layerdb/mounts/other/x", "");
        let (id, forged) = ("cd".repeat(32), "../../../../../outside");
        put(&format!("image/aufs/layerdb/mounts/{id}/mount-id"), &layer);
        put(
            &format!("image/aufs/layerdb/mounts/{forged}/mount-id"),
            &layer,
        );
        let lost = |container: &str| {
            let digests = FileDigests {
                containers: BTreeSet::from([container.to_owned()]),
                ..FileDigests::default()
            };
            digests.lost_containers(&root).unwrap()
        };
        assert!(lost(&id)[0].contains(&layer), "{:?}", lost(&id));
        assert_eq!(lost(forged), [""; 0]);
    }
}
