//! Checks whether two devices or files are suitable for a new pool.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use nix::errno::Errno;
use nix::sys::statvfs::statvfs;
use nix::unistd::{AccessFlags, access};

use super::device_error::Error;
use super::facts::{Facts, Space};
use super::in_use;
use super::refusal::Refusal;
use crate::devicemapper::driver_files::DEFAULT_BLOCK_SIZE;
use crate::sys::block::{self, Kind};
use crate::sys::program::{self, find_in, program_directories};
use crate::thin;
use crate::units::Bytes;

/// The smallest metadata device. Source: linux v6.6 `Documentation/admin-guide/device-mapper/thin-provisioning.rst`.
const LEAST_METADATA: Bytes = Bytes::mib(2);

/// The smallest data device; no useful file system is smaller.
const LEAST_DATA: Bytes = Bytes::mib(1);

/// Checks both; changes neither.
pub(super) fn check(data: &Path, metadata: &Path) -> Result<Facts, Error> {
    let data = Candidate::look(data, LEAST_DATA)?;
    // This comes before the metadata device is opened, which would otherwise be found in use, because it is already
    // open as the data device.
    if block::kind(metadata).is_ok_and(|kind| kind == data.kind) {
        return Err(data.refused(Refusal::SameDevice));
    }
    let metadata = Candidate::look(metadata, LEAST_METADATA)?;
    metadata.expect_blank()?;
    data.expect_no_signature()?;
    metadata.expect_no_signature()?;
    let notices = [&data, &metadata].into_iter().flat_map(Candidate::notices);
    Ok(Facts {
        pool: None,
        data_block: DEFAULT_BLOCK_SIZE,
        space: Some(Space {
            data: data.size,
            metadata: metadata.size.min(thin::MAX_METADATA_BLOCKS.bytes()),
        }),
        transaction_id: 0,
        notices: notices.collect(),
    })
}

/// Checks that nothing uses a device or file. As long as the returned value exists, nothing else can claim it.
pub(crate) fn expect_unused(path: &Path) -> Result<Candidate<'_>, Error> {
    Candidate::look(path, Bytes(0))
}

/// The command that overwrites the start of a metadata device with zeros.
pub(crate) fn wiping(path: &Path) -> String {
    let path = path.display();
    format!("dd if=/dev/zero of={path} bs=4096 count=1 conv=notrunc,fsync")
}

/// A device or file that nothing else uses as long as this value exists.
pub(crate) struct Candidate<'p> {
    path: &'p Path,
    kind: Kind,
    file: File,
    size: Bytes,
}

impl<'p> Candidate<'p> {
    fn look(path: &'p Path, least: Bytes) -> Result<Self, Error> {
        let kind = match block::kind(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(Error::refused(path, Refusal::Missing));
            }
            other => other.map_err(Error::io(path, "stat"))?,
        };
        let file = match kind {
            Kind::Block { rdev } => open_device(path, rdev)?,
            Kind::File { .. } => open_file(path)?,
            Kind::Other => return Err(Error::refused(path, Refusal::Kind)),
        };
        let used = in_use::loop_devices(&file).map_err(Error::io(path, "find the loop devices"))?;
        if let Some(by) = used {
            return Err(Error::refused(path, Refusal::InUse { by }));
        }
        let size = block::size(&file).map_err(Error::io(path, "determine the size"))?;
        if size < least {
            return Err(Error::refused(path, Refusal::TooSmall { size, least }));
        }
        Ok(Self {
            path,
            kind,
            file,
            size,
        })
    }

    fn refused(&self, why: Refusal) -> Error {
        Error::refused(self.path, why)
    }

    /// Checks for zeros. The kernel makes a new pool only where there are zeros; anything else it takes as an existing
    /// pool.
    fn expect_blank(&self) -> Result<(), Error> {
        let mut first = [0; 4096];
        block::read_direct(self.path, 0, &mut first).map_err(Error::io(self.path, "read"))?;
        let path = self.path.display().to_string();
        if thin::begins_a_pool(&first) {
            return Err(self.refused(Refusal::OldPool { path }));
        }
        if first != [0; 4096] {
            return match blkid(self.path)? {
                Some(what) => Err(self.refused(Refusal::Signature { what, path })),
                None => Err(self.refused(Refusal::NotZero { path })),
            };
        }
        Ok(())
    }

    fn expect_no_signature(&self) -> Result<(), Error> {
        let Some(what) = blkid(self.path)? else {
            return Ok(());
        };
        let path = self.path.display().to_string();
        Err(self.refused(Refusal::Signature { what, path }))
    }

    fn notices(&self) -> Vec<String> {
        let Kind::File { .. } = self.kind else {
            return Vec::new();
        };
        let path = self.path.display();
        let mut notices = vec![format!(
            "{path}: is a file, but Docker accepts only block devices. Next: attach it (losetup -f --show {path}) \
             before Docker starts"
        )];
        if let Some(lacking) = self.lacking() {
            notices.push(format!(
                "{path}: has holes, and its file system lacks {lacking} of the space needed to fill them"
            ));
        }
        notices
    }

    /// The space that a sparse file lacks to grow to its size.
    fn lacking(&self) -> Option<Bytes> {
        let meta = self.file.metadata().ok()?;
        let room = statvfs(self.path).ok()?;
        let free = room.blocks_available().saturating_mul(room.fragment_size());
        let holes = meta.len().saturating_sub(meta.blocks().saturating_mul(512));
        holes
            .checked_sub(free)
            .filter(|lacking| *lacking > 0)
            .map(Bytes)
    }
}

fn open_device(path: &Path, rdev: u64) -> Result<File, Error> {
    match block::open_exclusive(path) {
        Ok(_) if block::is_read_only(rdev) => Err(Error::refused(path, Refusal::ReadOnly)),
        Ok(file) => Ok(file),
        Err(error) if error.raw_os_error() == Some(Errno::EBUSY as i32) => {
            let by = in_use::users(rdev);
            Err(Error::refused(path, Refusal::InUse { by }))
        }
        Err(error) => Err(Error::io(path, "open")(error)),
    }
}

fn open_file(path: &Path) -> Result<File, Error> {
    access(path, AccessFlags::W_OK).map_err(|errno| match errno {
        Errno::EROFS => Error::refused(path, Refusal::ReadOnly),
        errno => Error::io(path, "write")(errno.into()),
    })?;
    File::open(path).map_err(Error::io(path, "open"))
}

/// What `blkid` finds on a device: a file system, a partition table, a member of something. Source: blkid(8): exit
/// status 0 means found, 2 nothing found, 8 more than one.
fn blkid(path: &Path) -> Result<Option<String>, Error> {
    const PROGRAM: &str = "blkid";
    let failed = |what| Error::Program {
        program: PROGRAM,
        what,
    };
    let program = find_in(&program_directories(), PROGRAM)
        .ok_or_else(|| failed("not found. Next: install util-linux".to_owned()))?;
    let arguments = ["-p", "-o", "export"].map(OsStr::new);
    let arguments = arguments.into_iter().chain([OsStr::new(path)]);
    let output =
        program::run(&program, arguments, || false).map_err(|error| failed(error.to_string()))?;
    match output.status.code() {
        Some(0) => Ok(Some(parse_blkid(&String::from_utf8_lossy(&output.stdout)))),
        Some(2) => Ok(None),
        Some(8) => Ok(Some(
            "more than one file system or partition table".to_owned(),
        )),
        _ => {
            let words = String::from_utf8_lossy(&output.stderr);
            Err(failed(format!("{}: {}", output.status, words.trim())))
        }
    }
}

fn parse_blkid(text: &str) -> String {
    let value = |key: &str| text.lines().find_map(|line| line.strip_prefix(key));
    let kind = value("TYPE=").map(|kind| format!("a signature of {kind}"));
    let table = value("PTTYPE=").map(|kind| format!("a partition table ({kind})"));
    kind.or(table)
        .unwrap_or_else(|| "a known signature".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_blkid_found_is_named() {
        for (text, named) in [
            (
                "DEVNAME=/dev/x\nUUID=1\nTYPE=ext4\nUSAGE=filesystem\n",
                "a signature of ext4",
            ),
            (
                "DEVNAME=/dev/x\nPTUUID=1\nPTTYPE=dos\n",
                "a partition table (dos)",
            ),
            ("DEVNAME=/dev/x\n", "a known signature"),
        ] {
            assert_eq!(parse_blkid(text), named);
        }
    }
}
