//! The record of what a run is about to make in a target that outlives its staging directory.
//!
//! Devices and pools of the operator are not part of the root. A killed run leaves in them what it made, and only this
//! record, [`FILE`] in the staging directory, tells the next run what that is. It is durable before the first change,
//! and is removed with the staging directory after the last.

use std::fs::{self, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::durable;
use crate::path_error::PathError;
use crate::shell::word;
use crate::sys::birth;
use crate::tree::shown;

/// The record's name in the staging directory.
pub const FILE: &str = "claim.json";

/// The temporary name: the record is written under it and then renamed, so that a killed run leaves a whole record or
/// none.
pub(crate) const NEW_FILE: &str = "claim.json.new";

/// The maximum size of a record. None is nearly as large: paths have 4 KiB at most.
const MAX_BYTES: u64 = 128 << 10; // 128 KiB

/// The largest thin id: 24 bits.
const MAX_THIN_ID: u32 = 0xff_ffff;

/// Why a record cannot be written or read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The system refuses.
    #[error(transparent)]
    Io(#[from] PathError),
    /// The record belongs to the original of this root, which is a copy.
    #[error(
        "{}: was written in a directory other than {}, so this root is a copy of the one that was converted. What the \
         record says was made outside the root may belong to the original, and is left alone. Next: continue with the \
         original; if it no longer exists, `rm -- {}`, then run the same command, which leaves what is outside the \
         root alone",
        shown(path),
        shown(stage),
        word(path)
    )]
    Copied {
        /// The record.
        path: PathBuf,
        /// The staging directory.
        stage: PathBuf,
    },
    /// No run writes such a record.
    #[error(
        "{path}: {what}; aufs2dm does not write such a record, so it is not known what an earlier run left in its \
         target (check the target, then remove the record)"
    )]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: &'static str,
        /// The parser's error.
        source: Option<serde_json::Error>,
    },
}

/// The identity of the staging directory in which a record was written. A copy of the root has another staging
/// directory, and what the record says was made may belong to the original.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Home {
    inode: u64,
    /// When the directory was created, if known.
    born: Option<(i64, u32)>,
}

/// The name of this identity in the record.
const HOME: &str = "written_in";

impl Home {
    fn of(stage: &Path) -> io::Result<Self> {
        Ok(Self {
            inode: fs::symlink_metadata(stage)?.ino(),
            born: birth(stage),
        })
    }

    /// Whether both are the same directory. The creation time only counts if both kernels reported it.
    fn is_same(self, other: Self) -> bool {
        let both = self.born.zip(other.born);
        self.inode == other.inode && both.is_none_or(|(one, other)| one == other)
    }
}

/// What a run is about to make, and where.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "target", deny_unknown_fields)]
pub enum Claim {
    /// Thin devices in the operator's pool.
    ThinPool(ThinPool),
    /// A pool on two devices or files of the operator.
    Devices(Devices),
}

/// The operator's pool and our devices in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ThinPool {
    /// The pool's device-mapper name.
    pub name: String,
    /// Its device-mapper UUID; LVM sets one, `dmsetup` need not.
    pub uuid: Option<String>,
    /// Its transaction id before the run.
    pub transaction_id: u64,
    /// The first thin id that the run may use; no device of the pool had it or a higher one.
    pub first_thin_id: u32,
    /// The last thin id that the run may use.
    pub last_thin_id: u32,
    /// The boot id when the record was written; empty if an earlier version wrote it.
    #[serde(default)]
    pub boot_id: String,
    /// The UUID of the base device's file system, once that is durable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base_uuid: Option<String>,
}

/// The operator's two devices or files; both were empty.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Devices {
    /// The one for the data.
    pub data: Device,
    /// The one for the metadata.
    pub metadata: Device,
    /// The last thin id that the run may use in the pool; the first is 1.
    pub last_thin_id: u32,
    /// The boot id when the record was written: after the next boot, a device may have another's number.
    pub boot_id: String,
    /// The UUID of the base device's file system, once that is durable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base_uuid: Option<String>,
}

/// A device or file by the path that the operator gave, and its identity.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Device {
    /// The path as given.
    #[serde(with = "crate::path_form")]
    pub path: PathBuf,
    /// The device or file that the path led to.
    pub identity: Identity,
}

/// Distinguishes a device or file from others while the machine runs; after a boot, numbers may be assigned anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Identity {
    /// A block device, by its number (`st_rdev`).
    BlockDevice {
        /// The number.
        rdev: u64,
    },
    /// A file, by its file system and inode.
    File {
        /// The file system's number (`st_dev`).
        dev: u64,
        /// Its inode.
        inode: u64,
    },
}

impl Identity {
    /// The identity that these attributes give; `None` if they belong to neither a block device nor a file.
    pub(super) fn of(meta: &fs::Metadata) -> Option<Self> {
        if meta.file_type().is_block_device() {
            return Some(Self::BlockDevice { rdev: meta.rdev() });
        }
        meta.is_file().then(|| Self::File {
            dev: meta.dev(),
            inode: meta.ino(),
        })
    }
}

impl Device {
    /// Examines the device or file that a path leads to, following symbolic links.
    ///
    /// # Errors
    ///
    /// The system's error, or `InvalidInput` for anything other than a block device or file.
    pub fn look_at(path: &Path) -> io::Result<Self> {
        let meta = fs::metadata(path)?;
        let identity = Identity::of(&meta).ok_or_else(|| {
            let message = "neither a block device nor a regular file";
            io::Error::new(io::ErrorKind::InvalidInput, message)
        })?;
        Ok(Self {
            path: path.to_owned(),
            identity,
        })
    }

    /// Whether the path still leads to the same device or file.
    ///
    /// # Errors
    ///
    /// Same as [`look_at`](Self::look_at), but it is not an error if nothing is there.
    pub fn is_there(&self) -> io::Result<bool> {
        match Self::look_at(&self.path) {
            Ok(found) => Ok(found == *self),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }
}

/// The id of the current boot.
///
/// # Errors
///
/// The system's error.
pub fn boot_id() -> io::Result<String> {
    let text = fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
    Ok(text.trim_end().to_owned())
}

impl Claim {
    /// What the run was making, for the operator.
    pub fn describe(&self) -> String {
        match self {
            Self::ThinPool(pool) => format!(
                "thin devices {} to {} in the pool {}",
                pool.first_thin_id, pool.last_thin_id, pool.name
            ),
            Self::Devices(devices) => {
                format!("the pool on {}", devices.metadata.path.display())
            }
        }
    }

    /// Whether `now` would be the record of a run on the same target for the same plan. Device numbers and inodes may
    /// differ, because they are assigned anew with each boot. [`base_uuid`](Self::base_uuid) shows whether it is the
    /// same pool.
    pub fn is_of(&self, now: &Self) -> bool {
        let mut then = self.clone();
        match (&mut then, now) {
            (Self::ThinPool(then), Self::ThinPool(now)) => {
                then.base_uuid = None;
                then.boot_id.clone_from(&now.boot_id);
            }
            (Self::Devices(then), Self::Devices(now)) => {
                then.base_uuid = None;
                then.boot_id.clone_from(&now.boot_id);
                then.data.identity = now.data.identity;
                then.metadata.identity = now.metadata.identity;
            }
            _ => {}
        }
        then == *now
    }

    /// Whether the record was written since the last boot. A disk that was prepared earlier cannot contain this boot's
    /// id.
    ///
    /// # Errors
    ///
    /// The system's error.
    pub(super) fn is_of_this_boot(&self) -> io::Result<bool> {
        let (Self::ThinPool(ThinPool { boot_id: then, .. })
        | Self::Devices(Devices { boot_id: then, .. })) = self;
        Ok(boot_id()? == *then)
    }

    /// The UUID of the base device's file system, once that is durable. It is random, so a pool whose base device has
    /// it is the run's, whatever numbers or names its devices now have.
    pub fn base_uuid(&self) -> Option<Uuid> {
        self.base_uuid_as_written()
            .and_then(|text| text.parse().ok())
    }

    fn base_uuid_as_written(&self) -> Option<&str> {
        match self {
            Self::ThinPool(pool) => pool.base_uuid.as_deref(),
            Self::Devices(devices) => devices.base_uuid.as_deref(),
        }
    }

    /// The same record, with the base device as durable.
    #[must_use]
    pub fn with_base(mut self, uuid: Uuid) -> Self {
        let (Self::ThinPool(ThinPool { base_uuid, .. }) | Self::Devices(Devices { base_uuid, .. })) =
            &mut self;
        *base_uuid = Some(uuid.to_string());
        self
    }

    /// Writes the record in place of the previous one. Durable on return.
    ///
    /// # Errors
    ///
    /// [`Error::Io`].
    pub fn write(&self, stage: &Path) -> Result<(), Error> {
        let (new, path) = (stage.join(NEW_FILE), stage.join(FILE));
        let home = Home::of(stage).map_err(io_error(stage, "stat"))?;
        let mut record = serde_json::to_value(self).expect("texts and numbers only");
        record[HOME] = serde_json::to_value(home).expect("numbers only");
        let mut bytes = serde_json::to_vec_pretty(&record).expect("texts and numbers only");
        bytes.push(b'\n');
        Ok(durable::replace(&path, &new, &bytes)?)
    }

    /// Removes the record, if there is one: from then on, nothing outside the staging directory is ours. Durable on
    /// return.
    ///
    /// # Errors
    ///
    /// [`Error::Io`].
    pub fn remove(stage: &Path) -> Result<(), Error> {
        let path = stage.join(FILE);
        match fs::remove_file(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            removed => removed.map_err(io_error(&path, "remove"))?,
        }
        Ok(durable::sync_directory(stage)?)
    }

    /// Reads the record of an earlier run; `None` if that run changed nothing outside its staging directory.
    ///
    /// # Errors
    ///
    /// [`Error::Malformed`] for a record that [`write`](Self::write) cannot have written, [`Error::Io`].
    pub fn read(stage: &Path) -> Result<Option<Self>, Error> {
        let path = stage.join(FILE);
        let flags = OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK; // do not follow a link or block on a pipe
        let opened = OpenOptions::new()
            .read(true)
            .custom_flags(flags.bits())
            .open(&path);
        let file = match opened {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(io_error(&path, "open")(error)),
        };
        let malformed = |what, source| Error::Malformed {
            path: path.clone(),
            what,
            source,
        };
        let meta = file.metadata().map_err(io_error(&path, "stat"))?;
        if !meta.is_file() {
            return Err(malformed("is not a regular file", None));
        }
        let mut bytes = Vec::new();
        file.take(MAX_BYTES + 1)
            .read_to_end(&mut bytes)
            .map_err(io_error(&path, "read"))?;
        if bytes.len() as u64 > MAX_BYTES {
            return Err(malformed("is too large", None));
        }
        let unparsed = |error| malformed("cannot be parsed", Some(error));
        let mut record: serde_json::Value = serde_json::from_slice(&bytes).map_err(unparsed)?;
        // Earlier versions did not write this.
        let home = record.as_object_mut().and_then(|all| all.remove(HOME));
        let home: Option<Home> = home
            .map(serde_json::from_value)
            .transpose()
            .map_err(unparsed)?;
        let claim: Self = serde_json::from_value(record).map_err(unparsed)?;
        claim.check().map_err(|what| malformed(what, None))?;
        let here = Home::of(stage).map_err(io_error(stage, "stat"))?;
        if home.is_some_and(|home| !home.is_same(here)) {
            return Err(Error::Copied {
                path,
                stage: stage.to_owned(),
            });
        }
        Ok(Some(claim))
    }

    /// Checks the record: what it names is deleted or zeroed, so it must make sense.
    fn check(&self) -> Result<(), &'static str> {
        match self {
            _ if self.base_uuid_as_written().is_some() && self.base_uuid().is_none() => {
                Err("has an invalid UUID")
            }
            // The name becomes part of a path.
            Self::ThinPool(pool) if pool.name.is_empty() || pool.name.contains('/') => {
                Err("names no valid pool")
            }
            Self::ThinPool(pool)
                if pool.first_thin_id > pool.last_thin_id || pool.last_thin_id > MAX_THIN_ID =>
            {
                Err("has impossible thin ids")
            }
            Self::Devices(devices)
                if devices.last_thin_id == 0 || devices.last_thin_id > MAX_THIN_ID =>
            {
                Err("has impossible thin ids")
            }
            Self::Devices(devices) if devices.data.identity == devices.metadata.identity => {
                Err("names one device twice")
            }
            Self::Devices(devices)
                if [&devices.data, &devices.metadata]
                    .iter()
                    .any(|device| !device.path.is_absolute()) =>
            {
                Err("names a device without its full path")
            }
            _ => Ok(()),
        }
    }
}

fn io_error(path: &Path, op: &'static str) -> impl FnOnce(io::Error) -> Error {
    let error = PathError::on(path, op);
    move |source| error(source).into()
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::fs::symlink;

    use super::*;

    fn thin_pool() -> ThinPool {
        ThinPool {
            name: "vg-pool".to_owned(),
            uuid: Some("LVM-x-tpool".to_owned()),
            transaction_id: 0,
            first_thin_id: 1,
            last_thin_id: 40,
            boot_id: "b".to_owned(),
            base_uuid: None,
        }
    }

    fn devices() -> Devices {
        let device = |path: &[u8], inode| Device {
            path: OsStr::from_bytes(path).into(),
            identity: Identity::File { dev: 7, inode },
        };
        Devices {
            data: device(b"/disk/d\xff", 1),
            metadata: device(b"/disk/m", 2),
            last_thin_id: 40,
            boot_id: "b".to_owned(),
            base_uuid: None,
        }
    }

    #[test]
    fn a_record_is_read_as_it_was_written() {
        let uuid = Uuid::from_u128(7);
        let claims = [Claim::ThinPool(thin_pool()), Claim::Devices(devices())];
        let with_base = claims.clone().map(|claim| claim.with_base(uuid));
        assert_eq!(with_base[1].base_uuid(), Some(uuid));
        for claim in claims.into_iter().chain(with_base) {
            let stage = tempfile::tempdir().unwrap();
            // Left by a run that was killed in between.
            fs::write(stage.path().join(NEW_FILE), "{\"targ").unwrap();
            Claim::ThinPool(thin_pool()).write(stage.path()).unwrap();
            claim.write(stage.path()).unwrap();
            assert_eq!(Claim::read(stage.path()).unwrap(), Some(claim));
            let names: Vec<_> = fs::read_dir(stage.path()).unwrap().collect();
            assert_eq!(names.len(), 1, "{names:?}");
            Claim::remove(stage.path()).unwrap();
            assert_eq!(Claim::read(stage.path()).unwrap(), None);
            Claim::remove(stage.path()).unwrap();
        }
    }

    #[test]
    fn a_record_is_known_again_after_a_boot_and_no_other_is_taken_for_it() {
        let now = Claim::Devices(devices());
        let mut then = devices();
        then.boot_id = "another".to_owned();
        then.data.identity = Identity::BlockDevice { rdev: 7 };
        let then = Claim::Devices(then).with_base(Uuid::from_u128(1));
        assert!(then.is_of(&now));
        let mut elsewhere = devices();
        elsewhere.data.path = "/disk/e".into();
        let mut longer = devices();
        longer.last_thin_id += 1;
        for other in [elsewhere, longer].map(Claim::Devices) {
            assert!(!then.is_of(&other), "{other:?}");
        }
        let pool = Claim::ThinPool(thin_pool());
        assert!(!then.is_of(&pool));
        let mut before_a_boot = thin_pool();
        before_a_boot.boot_id = "another".to_owned();
        assert!(Claim::ThinPool(before_a_boot).is_of(&pool));
        assert!(pool.clone().with_base(Uuid::from_u128(1)).is_of(&pool));
        let mut later = thin_pool();
        later.transaction_id += 1;
        assert!(!pool.is_of(&Claim::ThinPool(later)));
    }

    #[test]
    fn no_record_or_half_of_one_claims_nothing() {
        let stage = tempfile::tempdir().unwrap();
        assert_eq!(Claim::read(stage.path()).unwrap(), None);
        assert_eq!(Claim::read(&stage.path().join("none")).unwrap(), None);
        fs::write(stage.path().join(NEW_FILE), "{\"targ").unwrap();
        assert_eq!(Claim::read(stage.path()).unwrap(), None);
    }

    #[test]
    fn every_cut_and_every_strange_record_is_refused_by_name() {
        let mut ids = thin_pool();
        ids.first_thin_id = 41;
        let mut large = thin_pool();
        large.last_thin_id = MAX_THIN_ID + 1;
        let mut nameless = thin_pool();
        nameless.name.clear();
        let mut path = thin_pool();
        path.name = "../../dev/sda".to_owned();
        let mut no_uuid = thin_pool();
        no_uuid.base_uuid = Some("x".to_owned());
        let mut same = devices();
        same.metadata = same.data.clone();
        let mut relative = devices();
        relative.data.path = "data".into();
        let pools = [ids, large, nameless, path, no_uuid].map(Claim::ThinPool);
        let strange = [same, relative].map(Claim::Devices);
        let mut texts: Vec<_> = pools
            .iter()
            .chain(&strange)
            .map(|claim| serde_json::to_vec(claim).unwrap())
            .collect();
        let whole = serde_json::to_vec(&Claim::Devices(devices())).unwrap();
        texts.extend((0..whole.len()).map(|len| whole[..len].to_vec()));
        texts.push([&whole[..], b"x"].concat());
        let most = usize::try_from(MAX_BYTES).unwrap();
        texts.push(b"[".repeat(most));
        texts.push(b" ".repeat(most + 1));
        for text in texts {
            let stage = tempfile::tempdir().unwrap();
            fs::write(stage.path().join(FILE), &text).unwrap();
            let shown = String::from_utf8_lossy(&text[..text.len().min(200)]).into_owned();
            let error = Claim::read(stage.path()).expect_err(&shown);
            assert!(matches!(error, Error::Malformed { .. }), "{error}: {shown}");
            assert!(error.to_string().contains("/claim.json: "), "{error}");
        }
    }

    #[test]
    fn a_copy_of_a_record_is_told_from_the_record() {
        let [stage, copy] = [(); 2].map(|()| tempfile::tempdir().unwrap());
        Claim::ThinPool(thin_pool()).write(stage.path()).unwrap();
        fs::copy(stage.path().join(FILE), copy.path().join(FILE)).unwrap();
        let error = Claim::read(copy.path()).unwrap_err();
        assert!(matches!(error, Error::Copied { .. }), "{error}");
        // The directory itself may have another name by then.
        let moved = copy.path().join("moved");
        fs::rename(stage.path(), &moved).unwrap();
        assert_eq!(
            Claim::read(&moved).unwrap(),
            Some(Claim::ThinPool(thin_pool()))
        );
        fs::rename(&moved, stage.path()).unwrap();
    }

    #[test]
    fn a_link_a_pipe_and_a_directory_are_no_records() {
        let elsewhere = tempfile::tempdir().unwrap();
        Claim::ThinPool(thin_pool())
            .write(elsewhere.path())
            .unwrap();
        let stage = tempfile::tempdir().unwrap();
        let path = stage.path().join(FILE);
        symlink(elsewhere.path().join(FILE), &path).unwrap();
        assert!(matches!(
            Claim::read(stage.path()),
            Err(Error::Io(PathError { op: "open", .. }))
        ));
        fs::remove_file(&path).unwrap();
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert!(matches!(
            Claim::read(stage.path()),
            Err(Error::Malformed { .. })
        ));
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        assert!(matches!(
            Claim::read(stage.path()),
            Err(Error::Malformed { .. })
        ));
    }

    #[test]
    fn a_device_is_there_until_its_path_leads_elsewhere() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("data");
        fs::write(&path, "").unwrap();
        let device = Device::look_at(&path).unwrap();
        assert!(device.is_there().unwrap());
        fs::rename(&path, dir.path().join("other")).unwrap();
        assert!(!device.is_there().unwrap());
        fs::write(&path, "").unwrap();
        assert!(!device.is_there().unwrap());
        assert!(Device::look_at(dir.path()).is_err());
        assert!(Device::look_at(Path::new("/dev/null")).is_err());
    }
}
