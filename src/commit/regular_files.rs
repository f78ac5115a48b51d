//! Reads small regular files and lists directories, without following a link out of either.

use std::collections::BTreeSet;
use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use nix::fcntl::OFlag;

use super::error::Error;

/// Maximum number of bytes read. Compared files are small; of a larger file, only the beginning counts.
pub(super) const MAX_FILE_BYTES: u64 = 16 << 20; // 16 MiB

/// The names in a directory; empty if there is no directory. Docker's own names are text.
pub(super) fn names_in(path: &Path) -> Result<BTreeSet<String>, Error> {
    let entries = match fs::read_dir(path) {
        Err(error) if is_absent(&error) => return Ok(BTreeSet::new()),
        entries => entries.map_err(Error::io(path, "read"))?,
    };
    let mut names = BTreeSet::new();
    for entry in entries {
        let entry = entry.map_err(Error::io(path, "read"))?;
        names.insert(entry.file_name().to_string_lossy().into_owned());
    }
    Ok(names)
}

/// The bytes of a small regular file; `None` for anything else.
pub(super) fn read_regular(path: &Path) -> Result<Option<Vec<u8>>, Error> {
    let Some(file) = open_regular(path)? else {
        return Ok(None);
    };
    let mut bytes = Vec::new();
    file.take(MAX_FILE_BYTES)
        .read_to_end(&mut bytes)
        .map_err(Error::io(path, "read"))?;
    Ok(Some(bytes))
}

pub(super) fn open_regular(path: &Path) -> Result<Option<File>, Error> {
    let flags = OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK;
    let opened = OpenOptions::new()
        .read(true)
        .custom_flags(flags.bits())
        .open(path);
    let file = match opened {
        Err(error) if is_absent(&error) => return Ok(None),
        opened => opened.map_err(Error::io(path, "open"))?,
    };
    let meta = file.metadata().map_err(Error::io(path, "stat"))?;
    Ok(meta.is_file().then_some(file))
}

fn is_absent(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
    ) || error.raw_os_error() == Some(nix::errno::Errno::ELOOP as i32)
}

/// The metadata of `path`, without following a link.
pub(super) fn look(path: &Path) -> Result<Option<Metadata>, Error> {
    match path.symlink_metadata() {
        Ok(meta) => Ok(Some(meta)),
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
            ) =>
        {
            Ok(None)
        }
        Err(error) => Err(Error::io(path, "stat")(error)),
    }
}
