//! What file systems are read from.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use nix::errno::Errno;
use nix::unistd::{Whence, lseek};

/// Bytes of a device. What is not mapped reads as zeros.
pub trait ReadAt: Sync {
    /// Fills the whole of `buf` with the bytes from `offset` on.
    ///
    /// # Errors
    ///
    /// What the device says; [`io::ErrorKind::UnexpectedEof`] behind its end.
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()>;

    /// Where, at or after `offset`, the next bytes lie that may be other than zero; `None` when only zeros follow.
    ///
    /// A file system may claim tables of terabytes that were never written. Whoever knows what is mapped answers from
    /// that, and reading costs no more than what is there. The default knows nothing.
    ///
    /// # Errors
    ///
    /// What the device says.
    fn next_data(&self, offset: u64) -> io::Result<Option<u64>> {
        Ok(Some(offset))
    }
}

/// A file or a block device.
impl ReadAt for File {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        self.read_exact_at(buf, offset)
    }

    fn next_data(&self, offset: u64) -> io::Result<Option<u64>> {
        let Ok(signed) = i64::try_from(offset) else {
            return Ok(None);
        };
        match lseek(self, signed, Whence::SeekData) {
            Ok(found) => Ok(Some(
                u64::try_from(found).map_or(offset, |found| found.max(offset)),
            )),
            Err(Errno::ENXIO) => Ok(None),
            // A block device, or a file system that cannot tell.
            Err(Errno::EINVAL | Errno::EOPNOTSUPP) => Ok(Some(offset)),
            Err(errno) => Err(errno.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_files_holes_are_told() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(1 << 30).unwrap();
        file.write_all_at(b"x", 1 << 29).unwrap();
        let found = file.next_data(4096).unwrap().unwrap();
        assert!(found > 4096 && found <= 1 << 29, "{found}");
        assert_eq!(file.next_data((1 << 29) + (1 << 28)).unwrap(), None);
        let error = ReadAt::read_at(&file, &mut [0; 2], (1 << 30) - 1).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    }
}
