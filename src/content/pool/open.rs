//! A finished pool, read from its disks: its metadata, and its thin devices as readable objects.
//!
//! This shares nothing with the writer of the pool except the layout of the metadata. It writes nothing and creates no
//! device; the pool need not be active, and if it is, nothing may be using it.

#[cfg(test)]
mod tests;

use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use nix::libc::{O_NOFOLLOW, O_NONBLOCK};

use super::device::ThinDevice;
use super::error::Error;
use super::metadata::Metadata;
use crate::pool::ActivePool;
use crate::pool::target::Target;
use crate::sys::block::{self, Kind};
use crate::thin::{self, PoolReading, ReadBlocks, Remarks, ThinId};
use crate::units::Bytes;

/// The directory of the loop files in the driver's home. Source: moby v20.10
/// `daemon/graphdriver/devmapper/deviceset.go`, `loopbackDir`.
const LOOP_FILES: &str = "devicemapper";

/// A finished pool.
#[derive(Debug)]
pub struct Pool {
    data: File,
    data_path: PathBuf,
    metadata_path: PathBuf,
    active: Option<ActivePool>,
    thin: thin::Pool,
    remarks: Remarks,
    fault: Option<thin::Error>,
}

impl Pool {
    /// Opens a pool and reads all its metadata. `home` is the driver's: `devicemapper` in the Docker root, or the
    /// directory that will become it; it matters only for loop files.
    ///
    /// # Errors
    ///
    /// [`Error::Active`] if it is in use, [`Error::Io`], [`Error::Kind`], [`Error::Link`], [`Error::Metadata`] with the
    /// fault and its location, [`Error::DataTooSmall`].
    pub fn open(home: &Path, target: &Target) -> Result<Self, Error> {
        let (active, [data_path, metadata_path]) = places(home, target)?;
        let (thin, remarks) = read_metadata(&metadata_path)?;
        let data = open_data(&data_path, &thin)?;
        Ok(Self {
            data,
            data_path,
            metadata_path,
            active,
            fault: thin.validate().err(),
            thin,
            remarks,
        })
    }

    /// Its metadata.
    pub fn thin(&self) -> &thin::Pool {
        &self.thin
    }

    /// Oddities of its metadata that the kernel tolerates and produces itself. A newly written pool has none.
    pub fn remarks(&self) -> &Remarks {
        &self.remarks
    }

    /// A fault of its metadata as a whole, although all of it could be read: times because of which the kernel would
    /// write to a shared block in place.
    pub fn fault(&self) -> Option<&thin::Error> {
        self.fault.as_ref()
    }

    /// The file or block device that holds its data.
    pub fn data_path(&self) -> &Path {
        &self.data_path
    }

    /// The file or block device that holds its metadata.
    pub fn metadata_path(&self) -> &Path {
        &self.metadata_path
    }

    /// The active pool in the kernel, if it is active.
    pub fn active(&self) -> Option<&ActivePool> {
        self.active.as_ref()
    }

    /// A readable thin device with the size that Docker's file states; `None` if the pool has no device with this id.
    pub fn device(&self, id: ThinId, size: Bytes) -> Option<ThinDevice<'_>> {
        let devices = &self.thin.devices;
        let place = devices.binary_search_by_key(&id, |device| device.id).ok()?;
        Some(ThinDevice::new(
            &self.data,
            Bytes(self.thin.data_block_size.0 * crate::units::SECTOR_BYTES),
            &devices[place].mapping,
            size,
        ))
    }
}

/// The active pool, if it is active, and the paths of its data and metadata.
fn places(home: &Path, target: &Target) -> Result<(Option<ActivePool>, [PathBuf; 2]), Error> {
    let active = match target {
        Target::ThinPool { path } => Some(ActivePool::find_to_read(path)?),
        Target::Devices { data, metadata } => ActivePool::on(data, metadata)?,
        Target::LoopFiles => {
            let [data, metadata] = loop_files(home);
            open_file(&data)?;
            open_file(&metadata)?;
            ActivePool::on(&data, &metadata)?
        }
    };
    let paths = match target {
        Target::LoopFiles => loop_files(home),
        Target::Devices { data, metadata } => [data.clone(), metadata.clone()],
        Target::ThinPool { path } => {
            let Some(pool) = &active else {
                unreachable!("{}: found, or an error", path.display());
            };
            [pool.data.clone(), pool.metadata.clone()]
        }
    };
    Ok((active, paths))
}

/// The first block of a pool's metadata, which each of its transactions writes. `home` as for [`Pool::open`].
///
/// # Errors
///
/// [`Error::Active`], [`Error::Io`], [`Error::Kind`], [`Error::Link`].
pub fn superblock(home: &Path, target: &Target) -> Result<[u8; 4096], Error> {
    let (_, [_, path]) = places(home, target)?;
    let mut block = [0; 4096];
    Metadata::open(&path)
        .and_then(|metadata| metadata.read_block(0, &mut block))
        .map_err(Error::io(&path, "read"))?;
    Ok(block)
}

/// The paths of the loop files: data, metadata.
fn loop_files(home: &Path) -> [PathBuf; 2] {
    ["data", "metadata"].map(|name| home.join(LOOP_FILES).join(name))
}

/// Reads the metadata. LVM may extend an active pool meanwhile.
fn read_metadata(path: &Path) -> Result<(thin::Pool, Remarks), Error> {
    let open = || Metadata::open(path);
    let superblock = || {
        let mut block = [0; 4096];
        open()?.read_block(0, &mut block).map(|()| block)
    };
    let read = || open().map(|source| thin::examine(&source));
    let read = thin::read_steady(superblock, read).and_then(|read| read);
    let PoolReading { pool, remarks } =
        read.map_err(Error::io(path, "read"))?
            .map_err(|source| Error::Metadata {
                path: path.to_owned(),
                source,
            })?;
    Ok((pool, remarks))
}

fn open_data(path: &Path, pool: &thin::Pool) -> Result<File, Error> {
    let file = File::open(path).map_err(Error::io(path, "open"))?;
    let size = block::size(&file).map_err(Error::io(path, "determine its size"))?;
    let block = pool.data_block_size.0 * crate::units::SECTOR_BYTES;
    let needed = pool.nr_data_blocks.0.checked_mul(block);
    if needed.is_none_or(|needed| needed > size.0) {
        return Err(Error::DataTooSmall {
            path: path.to_owned(),
            size,
            needed: Bytes(needed.unwrap_or(u64::MAX)),
        });
    }
    block::drop_cache(&file).map_err(Error::io(path, "drop its cached data"))?;
    Ok(file)
}

/// Checks that a file of the root is a regular file, and not a link out of the root.
fn open_file(path: &Path) -> Result<(), Error> {
    if let Ok(target) = path.read_link() {
        return Err(Error::Link {
            target: path.canonicalize().unwrap_or(target),
            path: path.to_owned(),
        });
    }
    OpenOptions::new()
        .read(true)
        .custom_flags(O_NOFOLLOW | O_NONBLOCK)
        .open(path)
        .map_err(Error::io(path, "open"))?;
    match block::kind(path).map_err(Error::io(path, "look at"))? {
        Kind::File { .. } => Ok(()),
        _ => Err(Error::Kind {
            path: path.to_owned(),
        }),
    }
}
