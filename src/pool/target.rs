//! The place for the pool, and whether it is suitable. Nothing here changes anything, except that a module may be
//! loaded.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::device_error::Error;
use super::facts::{Facts, Space};
use super::refusal::Refusal;
use super::status::{Live, PoolTable, Problem, Status, THIN_POOL};
use super::suspended::state_once_resumed;
use super::{devices, in_use};
use crate::devicemapper::driver_files::DEFAULT_BLOCK_SIZE;
use crate::sys::block::{self, Kind};
use crate::sys::device_mapper::{Commit, DeviceMapper, Line, State};
use crate::sys::program::{self, find_in, program_directories};
use crate::thin::{self, ReadBlocks, ThinId};
use crate::units::{Bytes, MetaBlocks, SECTOR_BYTES};

/// The largest data block that makes sense for layers: each block that a layer changes costs this much.
const MOST_DATA_BLOCK: Bytes = Bytes::mib(16);

/// The directory of device-mapper's names, if udev is running.
const MAPPER: &str = "/dev/mapper";

/// How often to check whether a pool is still open; udev opens it briefly.
const OPEN_ATTEMPTS: u32 = 10;
/// The pause between two of these checks.
const OPEN_PAUSE: Duration = Duration::from_millis(100);

/// The place for the pool.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Target {
    /// In two new sparse files, Docker's default.
    LoopFiles,
    /// On two block devices or files: Docker's `dm.datadev` and `dm.metadatadev`.
    Devices {
        /// The data device.
        #[serde(with = "crate::path_form")]
        data: PathBuf,
        /// The metadata device.
        #[serde(with = "crate::path_form")]
        metadata: PathBuf,
    },
    /// In an active pool: Docker's `dm.thinpooldev`.
    ThinPool {
        /// `/dev/mapper/NAME`, or any path of its block device.
        #[serde(with = "crate::path_form")]
        path: PathBuf,
    },
}

impl Target {
    /// Checks whether the target is suitable: it is of the right kind, nothing else uses it, and it is empty.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] with the reason if it is not suitable, [`Error::Missing`] with what the kernel lacks, or an
    /// error that kept this from being checked.
    pub fn check(&self) -> Result<Facts, Error> {
        let dm = device_mapper_with_pools()?;
        match self {
            Self::LoopFiles => {
                expect_loops()?;
                Ok(Facts {
                    pool: None,
                    data_block: DEFAULT_BLOCK_SIZE,
                    space: None,
                    transaction_id: 0,
                    notices: Vec::new(),
                })
            }
            Self::Devices { data, metadata } => {
                expect_loops_for(data, metadata)?;
                devices::check(data, metadata)
            }
            Self::ThinPool { path } => check_pool(&dm, path),
        }
    }
}

impl Target {
    /// Checks whether an earlier run that began on this target can be continued, as far as the kernel and the names are
    /// concerned. Whether the target holds what that run left is checked when the run begins. Space is not checked.
    ///
    /// `transaction_before` is the pool's transaction id before that run.
    ///
    /// # Errors
    ///
    /// Same as [`check`](Self::check).
    pub fn check_left(&self, transaction_before: u64) -> Result<Facts, Error> {
        let dm = device_mapper_with_pools()?;
        let mut facts = Facts {
            pool: None,
            data_block: DEFAULT_BLOCK_SIZE,
            space: None,
            transaction_id: transaction_before,
            notices: Vec::new(),
        };
        match self {
            Self::LoopFiles => expect_loops()?,
            Self::Devices { data, metadata } => expect_loops_for(data, metadata)?,
            Self::ThinPool { path } => {
                let pool = find(&dm, path)?;
                expect_works(read_status(&dm, &pool.name, Commit::No)?)
                    .map_err(|why| Error::refused(path, why))?;
                facts.data_block = Bytes(pool.table.block_sectors.saturating_mul(SECTOR_BYTES));
                facts.pool = Some(pool.name);
            }
        }
        Ok(facts)
    }
}

/// An existing pool.
#[derive(Clone, Debug)]
pub(crate) struct FoundPool {
    pub(crate) name: String,
    pub(crate) uuid: String,
    pub(super) rdev: u64,
    pub(super) table: PoolTable,
    /// Whether it was set up read-only.
    pub(super) read_only: bool,
}

/// Opens device-mapper with the target for pools, and loads its module if necessary.
pub(crate) fn device_mapper_with_pools() -> Result<DeviceMapper, Error> {
    use crate::sys::device_mapper::Error as DmError;
    let opened = match DeviceMapper::open() {
        Err(DmError::Absent(_)) => {
            modprobe("dm-mod");
            DeviceMapper::open()
        }
        other => other,
    };
    let dm = opened.map_err(|error| match error {
        DmError::Absent(source) => Error::Missing {
            what: "no device-mapper",
            remedy: "as root, `modprobe dm-mod` loads it if there is such a module",
            source: Some(source),
        },
        other => other.into(),
    })?;
    // The kernel lists only the targets whose modules are loaded.
    if dm.target_version(THIN_POOL)?.is_none() {
        modprobe("dm-thin-pool");
    }
    match dm.target_version(THIN_POOL)? {
        Some(_) => Ok(dm),
        None => Err(Error::Missing {
            what: "no thin-pool target",
            remedy: "`modprobe dm-thin-pool` loads it if there is such a module",
            source: None,
        }),
    }
}

/// Checks for loop devices if one of the two is a file.
fn expect_loops_for(data: &Path, metadata: &Path) -> Result<(), Error> {
    let is_file = |path| matches!(block::kind(path), Ok(Kind::File { .. }));
    if is_file(data) || is_file(metadata) {
        expect_loops()?;
    }
    Ok(())
}

/// Checks for loop devices, and loads their module if necessary.
pub(crate) fn expect_loops() -> Result<(), Error> {
    const CONTROL: &str = "/dev/loop-control";
    let open = || File::open(CONTROL);
    let opened = open().or_else(|_| {
        modprobe("loop");
        open()
    });
    opened.map(drop).map_err(|source| Error::Missing {
        what: "no loop devices",
        remedy: "as root, `modprobe loop` loads them if there is such a module",
        source: Some(source),
    })
}

/// Loads a module. Its success shows in what exists afterwards.
fn modprobe(module: &str) {
    let program = find_in(&program_directories(), "modprobe");
    let ran = program.map(|program| program::run(&program, ["-q", module], || false));
    log::debug!("modprobe {module}: {ran:?}");
}

/// Reads the status of a pool.
pub(super) fn read_status(dm: &DeviceMapper, pool: &str, commit: Commit) -> Result<Status, Error> {
    let lines = dm.status(pool, commit)?;
    let text = lines.first().map(ToString::to_string).unwrap_or_default();
    let status = lines.first().and_then(|line| Status::parse(&line.params));
    status.ok_or_else(|| Error::Unreadable {
        pool: pool.to_owned(),
        text,
    })
}

/// Like [`read_status`], after everything done to the pool has been made durable.
pub(super) fn read_committed_status(dm: &DeviceMapper, pool: &str) -> Result<Status, Error> {
    let status = read_status(dm, pool, Commit::Yes)?;
    // A pool that is being suspended does not commit when asked, but as the last step of the suspension. Source: linux
    // v6.6 `drivers/md/dm-thin.c`, `pool_status` and `pool_postsuspend`.
    state_once_resumed(dm, pool)?;
    Ok(status)
}

/// The length in sectors and the table of a device that is known to be a pool.
pub(super) fn read_table(dm: &DeviceMapper, pool: &str) -> Result<(u64, PoolTable), Error> {
    let lines = dm.table(pool)?;
    let line = lines.first().ok_or_else(|| Error::Unreadable {
        pool: pool.to_owned(),
        text: "it has no table".to_owned(),
    })?;
    Ok((line.sectors, parse_table(pool, line)?))
}

/// Finds an active pool that can be written to.
pub(crate) fn find(dm: &DeviceMapper, path: &Path) -> Result<FoundPool, Error> {
    let pool = find_to_read(dm, path)?;
    if pool.read_only {
        return Err(Error::refused(path, Refusal::ReadOnly));
    }
    Ok(pool)
}

/// Finds an active pool.
pub(crate) fn find_to_read(dm: &DeviceMapper, path: &Path) -> Result<FoundPool, Error> {
    let refused = |why| Error::refused(path, why);
    let name = pool_name(path)?;
    let hidden = format!("{name}-tpool");
    // LVM's stand-in is read-only, or does not even exist.
    if dm.state(&hidden)?.is_some() {
        return Err(refused(Refusal::LvmWrapper { pool: hidden }));
    }
    let state = state_once_resumed(dm, &name)?.ok_or_else(|| refused(Refusal::Missing))?;
    if name.ends_with("-tpool") && state.uuid.starts_with("LVM-") {
        return Err(refused(Refusal::LvmHidden));
    }
    expect_usable(&state).map_err(refused)?;
    let lines = dm.table(&name)?;
    let [line] = lines.as_slice() else {
        let target = lines.first().map(|line| line.target.clone());
        let target = target.unwrap_or_default();
        return Err(refused(Refusal::NotAPool { target }));
    };
    if line.target != THIN_POOL {
        let target = line.target.clone();
        return Err(refused(Refusal::NotAPool { target }));
    }
    let table = parse_table(&name, line)?;
    let asks_for_it = table.features.iter().any(|feature| feature == "read_only");
    Ok(FoundPool {
        read_only: asks_for_it || state.read_only || block::is_read_only(state.rdev),
        name,
        uuid: state.uuid,
        rdev: state.rdev,
        table,
    })
}

/// Parses the table line of a pool.
fn parse_table(pool: &str, line: &Line) -> Result<PoolTable, Error> {
    PoolTable::parse(&line.params).ok_or_else(|| Error::Unreadable {
        pool: pool.to_owned(),
        text: line.to_string(),
    })
}

pub(crate) fn pool_name(path: &Path) -> Result<String, Error> {
    match block::kind(path) {
        Ok(Kind::Block { rdev }) => block::device_mapper_name(rdev)
            .ok_or_else(|| Error::refused(path, Refusal::NotDeviceMapper)),
        Ok(_) => Err(Error::refused(path, Refusal::NotDeviceMapper)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            // Without udev, there are no names there; Docker itself does not look there either.
            let name = path.strip_prefix(MAPPER).ok().and_then(Path::to_str);
            let name = name.filter(|name| !name.is_empty() && !name.contains('/'));
            let name = name.ok_or_else(|| Error::refused(path, Refusal::Missing))?;
            Ok(name.to_owned())
        }
        Err(error) => Err(Error::io(path, "stat")(error)),
    }
}

fn expect_usable(state: &State) -> Result<(), Refusal> {
    if state.suspended {
        let name = state.name.clone();
        return Err(Refusal::Suspended { name });
    }
    if !state.live {
        return Err(Refusal::NotActive);
    }
    Ok(())
}

fn check_pool(dm: &DeviceMapper, path: &Path) -> Result<Facts, Error> {
    let refused = |why| Error::refused(path, why);
    let pool = find(dm, path)?;
    let live = expect_works(read_status(dm, &pool.name, Commit::No)?).map_err(refused)?;
    let data_block = Bytes(pool.table.block_sectors.saturating_mul(SECTOR_BYTES));
    if data_block > MOST_DATA_BLOCK {
        return Err(refused(Refusal::BlockSize {
            block: data_block,
            most: MOST_DATA_BLOCK,
        }));
    }
    if live.data.used != 0 {
        return Err(refused(Refusal::HoldsData {
            blocks: live.data.used,
        }));
    }
    if live.data.free() == 0 {
        return Err(refused(Refusal::Full));
    }
    expect_unused(dm, path, &pool.name)?;
    if live.held_root.is_some() {
        return Err(refused(Refusal::HeldRoot { pool: pool.name }));
    }
    let devices = devices_made(path, &metadata_device(&pool)?)?;
    if let Some((first, _)) = devices.first() {
        let (count, first, pool) = (devices.len(), *first, pool.name);
        return Err(refused(Refusal::HoldsDevices { count, first, pool }));
    }
    Ok(Facts {
        data_block,
        space: Some(Space {
            data: Bytes(live.data.free().saturating_mul(data_block.0)),
            metadata: MetaBlocks(live.metadata.free()).bytes(),
        }),
        transaction_id: live.transaction_id,
        notices: notices(&pool, &live),
        pool: Some(pool.name),
    })
}

fn expect_works(status: Status) -> Result<Live, Refusal> {
    match (status, status.problem()) {
        (_, Some(Problem::DataFull)) => Err(Refusal::Full),
        (_, Some(problem)) => Err(Refusal::Broken { problem }),
        (Status::Live(live), None) => Ok(live),
        (Status::Failed, None) => Err(Refusal::Broken {
            problem: Problem::Failed,
        }),
    }
}

/// Checks that nothing has the pool or one of its thin devices open.
pub(super) fn expect_unused(dm: &DeviceMapper, path: &Path, name: &str) -> Result<(), Error> {
    for attempt in 1.. {
        let state = dm.state(name)?;
        let state = state.ok_or_else(|| Error::refused(path, Refusal::Missing))?;
        if state.open_count == 0 {
            break;
        }
        if attempt == OPEN_ATTEMPTS {
            let by = in_use::users(state.rdev);
            return Err(Error::refused(path, Refusal::InUse { by }));
        }
        sleep(OPEN_PAUSE);
    }
    Ok(())
}

/// A metadata device that is read without the page cache, because the kernel's own writes to it bypass that too.
struct Metadata(PathBuf);

impl ReadBlocks for Metadata {
    fn read_block(&self, nr: u64, block: &mut [u8; 4096]) -> io::Result<()> {
        let offset = nr.checked_mul(4096).ok_or(io::ErrorKind::UnexpectedEof)?;
        block::read_direct(&self.0, offset, block)
    }
}

/// The pool's thin devices, including those to which nothing was written.
///
/// The kernel does not report them. It commits every message that changes the devices before the message returns, and
/// nothing has the pool open, so what is on the disk is what the pool holds. LVM may extend it at any time.
fn devices_made(path: &Path, metadata: &Path) -> Result<Vec<(ThinId, u64)>, Error> {
    let source = Metadata(metadata.to_owned());
    let superblock = || {
        let mut block = [0; 4096];
        source.read_block(0, &mut block).map(|()| block)
    };
    thin::read_steady(superblock, || thin::devices_made(&source))
        .map_err(Error::io(metadata, "read"))?
        .map_err(unread(path, metadata))
}

fn unread(path: &Path, metadata: &Path) -> impl FnOnce(thin::Error) -> Error {
    move |error| match error {
        thin::Error::Read { source, .. } => Error::io(metadata, "read")(source),
        error => Error::refused(path, Refusal::of_metadata(error, metadata)),
    }
}

/// The contents of a pool that nothing uses.
#[derive(Clone, Debug)]
pub(crate) struct Contents {
    /// Its UUID, if it has one.
    pub(crate) uuid: Option<String>,
    pub(crate) transaction_id: u64,
    /// The ids of its thin devices, ascending.
    pub(crate) ids: Vec<ThinId>,
    /// The pool's transaction id when each of them was made, in the same order.
    /// Source: linux v6.6 `drivers/md/dm-thin-metadata.c`, `__open_device`.
    pub(crate) made_in: Vec<u64>,
}

/// Reads the contents of an active pool.
pub(crate) fn contents(path: &Path) -> Result<Contents, Error> {
    let dm = device_mapper_with_pools()?;
    let pool = find(&dm, path)?;
    let Status::Live(live) = read_committed_status(&dm, &pool.name)? else {
        let problem = Problem::Failed;
        return Err(Error::refused(path, Refusal::Broken { problem }));
    };
    expect_unused(&dm, path, &pool.name)?;
    if live.held_root.is_some() {
        return Err(Error::refused(path, Refusal::HeldRoot { pool: pool.name }));
    }
    let (ids, made_in) = devices_made(path, &metadata_device(&pool)?)?
        .into_iter()
        .unzip();
    Ok(Contents {
        ids,
        made_in,
        transaction_id: live.transaction_id,
        uuid: Some(pool.uuid).filter(|uuid| !uuid.is_empty()),
    })
}

/// Reads the contents of an inactive pool from its metadata device.
pub(crate) fn contents_on(metadata: &Path) -> Result<Contents, Error> {
    let source = Metadata(metadata.to_owned());
    let (ids, made_in) = devices_made(metadata, metadata)?.into_iter().unzip();
    Ok(Contents {
        ids,
        made_in,
        uuid: None,
        transaction_id: thin::transaction_id(&source).map_err(unread(metadata, metadata))?,
    })
}

/// The node of the pool's metadata device.
fn metadata_device(pool: &FoundPool) -> Result<PathBuf, Error> {
    node_of(pool, &pool.table.metadata)
}

/// The node of a device in the pool's table, which the kernel names by number.
pub(super) fn node_of(pool: &FoundPool, number: &str) -> Result<PathBuf, Error> {
    let rdev = block::parse_number(number).ok_or_else(|| Error::Unreadable {
        pool: pool.name.clone(),
        text: pool.table.to_string(),
    })?;
    block::wait_for_node(rdev).map_err(Error::io(Path::new(number), "find the device node"))
}

pub(super) fn notices(pool: &FoundPool, live: &Live) -> Vec<String> {
    let mut notices = Vec::new();
    let path = Path::new(MAPPER).join(&pool.name);
    let path = path.display();
    if pool.uuid.starts_with("LVM-") {
        notices.push(format!(
            "{path}: belongs to LVM, which leaves it alone as long as it has never had an LVM thin volume, checks its \
             metadata (thin_check) at each activation, and from now on refuses to create thin volumes in it \
             (lvcreate -V)"
        ));
    }
    if live.queues && !pool.table.errors_if_no_space() {
        notices.push(format!(
            "{path}: queues writes when it is full, so Docker would hang; error_if_no_space makes them fail instead \
             (LVM: lvchange --errorwhenfull y)"
        ));
    }
    if live.transaction_id != 0 {
        let id = live.transaction_id;
        notices.push(format!("{path}: continues from transaction id {id}"));
    }
    notices
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(uuid: &str, features: &str) -> FoundPool {
        FoundPool {
            name: "vg-pool".to_owned(),
            uuid: uuid.to_owned(),
            rdev: 0,
            table: PoolTable::parse(&format!("1:2 3:4 128 0{features}")).unwrap(),
            read_only: false,
        }
    }

    fn live(text: &str) -> Live {
        expect_works(Status::parse(text).unwrap()).unwrap()
    }

    #[test]
    fn what_an_operator_should_know_of_a_pool_is_told() {
        let quiet = live("0 1/9 0/9 - rw discard_passdown error_if_no_space - 1");
        let erring = found("", " 1 error_if_no_space");
        assert_eq!(notices(&erring, &quiet), [""; 0]);
        let queueing = live("7 1/9 0/9 - rw discard_passdown queue_if_no_space - 1");
        let told = notices(&found("LVM-abc", ""), &queueing);
        for (line, part) in told
            .iter()
            .zip(["lvcreate -V", "Docker would hang", "id 7"])
        {
            assert!(line.starts_with("/dev/mapper/vg-pool: "), "{line}");
            assert!(line.contains(part), "{line}");
        }
        assert_eq!(told.len(), 3);
    }

    #[test]
    fn a_name_is_taken_from_a_path_only_below_dev_mapper() {
        assert_eq!(
            pool_name(Path::new("/dev/mapper/no-such-pool")).unwrap(),
            "no-such-pool"
        );
        for path in [
            "/dev/mapper/a/b",
            "/dev/no-such-pool",
            "no-such-pool",
            "/dev/mapper/",
        ] {
            assert!(pool_name(Path::new(path)).is_err(), "{path}");
        }
    }
}
