//! Device-mapper: wraps the `devicemapper` crate's calls as steps that are undone if they fail, with errors that name
//! the device.
//!
//! All devices made here are private: udev rules other than device-mapper's own ignore them, so nothing probes, mounts
//! or keeps them open. The code does not rely on any name under `/dev/mapper`; see [`super::block::wait_for_node`].

use std::fmt;
use std::fs::File;
use std::io;

use devicemapper::errors::Error as CoreError;
use devicemapper::{DM, DevId, DeviceInfo, DmError, DmFlags, DmName, DmOptions, DmUuid};
use nix::errno::Errno;

/// The prefix of the UUIDs of all devices that this program makes. No other program uses it.
pub const OUR_UUIDS: &str = "AUFS2DM-";

/// The file through which every call goes.
const CONTROL: &str = "/dev/mapper/control";

/// The number of attempts to remove a device that is in use. In each one, the crate keeps trying for 0.8 seconds.
const REMOVE_ROUNDS: u32 = 5;

/// Why a device-mapper operation failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The kernel has no device-mapper, or this process may not use it.
    #[error(
        "{CONTROL}: no device-mapper (as root, `modprobe dm-mod` loads it if the kernel has it as a module)"
    )]
    Absent(#[source] io::Error),
    /// A name or UUID that device-mapper does not accept: empty, too long, not ASCII.
    #[error("device-mapper name {name:?}: empty, longer than 127 bytes or not ASCII")]
    Name {
        /// The text.
        name: String,
    },
    /// A device with this name or UUID already exists.
    #[error(
        "device-mapper device {name}: a device with this name or UUID already exists (dmsetup info -c)"
    )]
    Taken {
        /// The requested name.
        name: String,
    },
    /// A call failed.
    #[error("device-mapper device {name}: cannot {op}")]
    Call {
        /// The device.
        name: String,
        /// The operation that failed, with the table or message if there is one.
        op: String,
        /// The kernel's error.
        source: io::Error,
    },
    /// The crate or udev failed.
    #[error("device-mapper device {name}: cannot {op}: {reason}")]
    Other {
        /// The device.
        name: String,
        /// The operation that failed.
        op: String,
        /// The crate's message.
        reason: String,
    },
}

impl Error {
    /// The kernel's error, if there is one.
    pub fn errno(&self) -> Option<Errno> {
        match self {
            Self::Call { source, .. } | Self::Absent(source) => {
                source.raw_os_error().map(Errno::from_raw)
            }
            Self::Taken { .. } => Some(Errno::EBUSY),
            Self::Name { .. } | Self::Other { .. } => None,
        }
    }

    fn new(name: &str, op: &str, error: DmError) -> Self {
        let (name, op) = (name.to_owned(), op.to_owned());
        match error {
            DmError::Core(CoreError::Ioctl(_, _, _, errno)) => Self::Call {
                name,
                op,
                source: io::Error::from_raw_os_error(*errno as i32),
            },
            other => Self::Other {
                name,
                op,
                reason: other.to_string(),
            },
        }
    }
}

/// The state of a device at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "the kernel's flags, each by itself"
)]
pub struct State {
    /// Its name.
    pub name: String,
    /// Its UUID; empty if it has none.
    pub uuid: String,
    /// Its number, as in `st_rdev`.
    pub rdev: u64,
    /// How often it is open: by processes, mounts and other devices.
    pub open_count: u32,
    /// Whether it has a table in use.
    pub live: bool,
    /// Whether it holds back all I/O.
    pub suspended: bool,
    /// Whether a table is loaded but not yet in use.
    pub loaded: bool,
    /// Whether it refuses writes.
    pub read_only: bool,
}

impl State {
    fn new(info: &DeviceInfo) -> Self {
        let flags = info.flags();
        Self {
            name: info.name().map(ToString::to_string).unwrap_or_default(),
            uuid: info.uuid().map(ToString::to_string).unwrap_or_default(),
            rdev: nix::libc::dev_t::from(info.device()),
            open_count: u32::try_from(info.open_count()).unwrap_or(0),
            live: flags.contains(DmFlags::DM_ACTIVE_PRESENT),
            suspended: flags.contains(DmFlags::DM_SUSPEND),
            loaded: flags.contains(DmFlags::DM_INACTIVE_PRESENT),
            read_only: flags.contains(DmFlags::DM_READONLY),
        }
    }
}

/// One line of a device's table, or of its status, in which `params` is the target's own report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// The first sector that it covers.
    pub start: u64,
    /// The number of sectors.
    pub sectors: u64,
    /// The target's type: `thin-pool`, `linear`, …
    pub target: String,
    /// The rest of the line.
    pub params: String,
}

impl Line {
    /// The only line of a table.
    pub fn only(sectors: u64, target: &str, params: String) -> Self {
        Self {
            start: 0,
            sectors,
            target: target.to_owned(),
            params,
        }
    }
}

/// Writes the line as `dmsetup table` prints it.
impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            start,
            sectors,
            target,
            params,
        } = self;
        write!(f, "{start} {sectors} {target} {params}")
    }
}

/// Whether a pool commits its metadata before it reports its status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Commit {
    /// It commits, so that the numbers are exact; this may wait for the disk.
    Yes,
    /// It does not commit. Kernels before 3.8 commit anyway.
    No,
}

/// Device-mapper's control file. Calls from several threads do not block each other.
pub struct DeviceMapper {
    dm: DM,
}

impl fmt::Debug for DeviceMapper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(CONTROL)
    }
}

impl DeviceMapper {
    /// Opens the control file.
    ///
    /// # Errors
    ///
    /// [`Error::Absent`].
    pub fn open() -> Result<Self, Error> {
        // The crate keeps the reason as text only.
        File::open(CONTROL).map_err(Error::Absent)?;
        let dm = DM::new().map_err(|error| Error::new(CONTROL, "open", error))?;
        Ok(Self { dm })
    }

    /// The version of a target type; `None` if its module is not loaded.
    ///
    /// # Errors
    ///
    /// The errors of the call.
    pub fn target_version(&self, target: &str) -> Result<Option<(u32, u32, u32)>, Error> {
        let versions = self.dm.list_versions();
        let versions = versions.map_err(|error| Error::new(CONTROL, "list targets", error))?;
        let mut found = versions.into_iter().filter(|version| version.0 == target);
        Ok(found
            .next()
            .map(|(_, major, minor, patch)| (major, minor, patch)))
    }

    /// All devices. A device that is removed meanwhile is left out.
    ///
    /// # Errors
    ///
    /// The errors of the call.
    pub fn list(&self) -> Result<Vec<State>, Error> {
        let devices = self.dm.list_devices();
        let devices = devices.map_err(|error| Error::new(CONTROL, "list devices", error))?;
        let mut states = Vec::with_capacity(devices.len());
        for (name, ..) in devices {
            states.extend(self.state(&name.to_string())?);
        }
        Ok(states)
    }

    /// A device's state; `None` if there is no such device.
    ///
    /// # Errors
    ///
    /// [`Error::Name`], and the errors of the call.
    pub fn state(&self, name: &str) -> Result<Option<State>, Error> {
        match self.dm.device_info(&DevId::Name(dm_name(name)?)) {
            Ok(info) => Ok(Some(State::new(&info))),
            Err(error) => match Error::new(name, "query the state", error) {
                error if error.errno() == Some(Errno::ENXIO) => Ok(None),
                error => Err(error),
            },
        }
    }

    /// Makes a device with one table line and activates it. If that fails, it is removed again.
    ///
    /// # Errors
    ///
    /// [`Error::Taken`], [`Error::Name`], and the errors of the calls.
    pub fn create(&self, name: &str, uuid: &str, line: &Line) -> Result<State, Error> {
        self.create_with(DmFlags::empty(), (name, uuid), line)
    }

    /// Like [`create`](Self::create), but the device cannot be written to.
    ///
    /// # Errors
    ///
    /// Same as [`create`](Self::create).
    pub fn create_read_only(&self, name: &str, uuid: &str, line: &Line) -> Result<State, Error> {
        self.create_with(DmFlags::DM_READONLY, (name, uuid), line)
    }

    fn create_with(
        &self,
        flags: DmFlags,
        (name, uuid): (&str, &str),
        line: &Line,
    ) -> Result<State, Error> {
        let uuid = DmUuid::new(uuid).map_err(|_| Error::Name {
            name: uuid.to_owned(),
        })?;
        self.dm
            .device_create(dm_name(name)?, Some(uuid), private_with(flags))
            .map_err(|error| match Error::new(name, "create", error) {
                error if error.errno() == Some(Errno::EBUSY) => Error::Taken {
                    name: name.to_owned(),
                },
                error => error,
            })?;
        let started = self
            .load(name, line, flags)
            .and_then(|()| self.resume(name, DmOptions::private()));
        started.inspect_err(|_| {
            if let Err(error) = self.remove(name) {
                log::warn!(
                    "{error}: {:?}; remove it: dmsetup remove {name}",
                    error.errno()
                );
            }
        })
    }

    /// Removes a device. If it is in use, tries for some seconds; a device that is already gone is not an error.
    ///
    /// # Errors
    ///
    /// The errors of the call.
    pub fn remove(&self, name: &str) -> Result<(), Error> {
        let id = DevId::Name(dm_name(name)?);
        let mut rounds = 0;
        loop {
            let Err(error) = self.dm.device_remove(&id, DmOptions::private()) else {
                return Ok(());
            };
            // Also covers a signal that interrupted the wait for udev after the removal itself.
            if self.state(name)?.is_none() {
                return Ok(());
            }
            let error = Error::new(name, "remove", error);
            rounds += 1;
            let busy = matches!(error.errno(), Some(Errno::EBUSY) | None);
            if !busy || rounds == REMOVE_ROUNDS {
                return Err(error);
            }
        }
    }

    /// Sends a message to a device's target.
    ///
    /// # Errors
    ///
    /// The errors of the call.
    pub fn message(&self, name: &str, message: &str) -> Result<(), Error> {
        let id = DevId::Name(dm_name(name)?);
        let sent = self.dm.target_msg(&id, None, message);
        sent.map(drop)
            .map_err(|error| Error::new(name, message, error))
    }

    /// The status that the device's targets report.
    ///
    /// # Errors
    ///
    /// The errors of the call.
    pub fn status(&self, name: &str, commit: Commit) -> Result<Vec<Line>, Error> {
        let flags = match commit {
            Commit::Yes => DmFlags::empty(),
            Commit::No => DmFlags::DM_NOFLUSH,
        };
        self.lines(name, flags, "read the status")
    }

    /// The table in use.
    ///
    /// # Errors
    ///
    /// The errors of the call.
    pub fn table(&self, name: &str) -> Result<Vec<Line>, Error> {
        let flags = DmFlags::DM_STATUS_TABLE | DmFlags::DM_NOFLUSH;
        self.lines(name, flags, "read the table")
    }

    /// Replaces the table in use with another one. Does not wait for I/O in progress: it is held back and continues, or
    /// starts again, under the new table.
    ///
    /// # Errors
    ///
    /// The errors of the calls. The device continues with one of the tables, or stays suspended if it cannot resume
    /// with the new one, for example if a pool would shrink.
    pub fn reload(&self, name: &str, line: &Line) -> Result<(), Error> {
        self.load(name, line, DmFlags::empty())?;
        let id = DevId::Name(dm_name(name)?);
        let flags = DmFlags::DM_SUSPEND | DmFlags::DM_NOFLUSH | DmFlags::DM_SKIP_LOCKFS;
        let suspended = self
            .dm
            .device_suspend(&id, DmOptions::default().set_flags(flags))
            .map_err(|error| Error::new(name, "suspend", error));
        // Always done, so that the device does not stay suspended. The device is not ours: udev's rules must keep all
        // its links.
        let resumed = self.resume(name, DmOptions::default());
        suspended.and(resumed).map(drop)
    }

    fn lines(&self, name: &str, flags: DmFlags, op: &str) -> Result<Vec<Line>, Error> {
        let options = DmOptions::default().set_flags(flags);
        let answer = self
            .dm
            .table_status(&DevId::Name(dm_name(name)?), options)
            .map_err(|error| Error::new(name, op, error))?;
        let lines = answer
            .1
            .into_iter()
            .map(|(start, sectors, target, params)| Line {
                start,
                sectors,
                target,
                params,
            });
        Ok(lines.collect())
    }

    fn load(&self, name: &str, line: &Line, flags: DmFlags) -> Result<(), Error> {
        let Line {
            start,
            sectors,
            target,
            params,
        } = line.clone();
        let lines = [(start, sectors, target, params)];
        let id = DevId::Name(dm_name(name)?);
        let loaded = self
            .dm
            .table_load(&id, &lines, DmOptions::default().set_flags(flags));
        loaded
            .map(drop)
            .map_err(|error| Error::new(name, &format!("load table {line}"), error))
    }

    fn resume(&self, name: &str, options: DmOptions) -> Result<State, Error> {
        let id = DevId::Name(dm_name(name)?);
        // In the crate, resuming is suspending without the flag.
        let resumed = self.dm.device_suspend(&id, options);
        let Err(error) = resumed else {
            let state = self.state(name)?;
            return state.ok_or_else(|| Error::Other {
                name: name.to_owned(),
                op: "resume".to_owned(),
                reason: "something removed it".to_owned(),
            });
        };
        // A signal may have interrupted the wait for udev, on which nothing here depends.
        match self.state(name)? {
            Some(state) if state.live && !state.suspended => Ok(state),
            _ => Err(Error::new(name, "resume", error)),
        }
    }
}

/// Options for a private device, with these flags.
fn private_with(flags: DmFlags) -> DmOptions {
    DmOptions::private().set_flags(flags)
}

fn dm_name(name: &str) -> Result<&DmName, Error> {
    DmName::new(name).map_err(|_| Error::Name {
        name: name.to_owned(),
    })
}
