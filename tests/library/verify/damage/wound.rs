//! Damage to a file, which is healed when it is dropped.

use std::fmt;
use std::fs::{File, FileTimes};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::SystemTime;

/// What is done to a file.
#[derive(Clone, Debug)]
pub(super) enum Change {
    /// These bytes stand there.
    Bytes { at: u64, bytes: Vec<u8> },
    /// It ends there.
    Cut(u64),
}

impl Change {
    pub(super) fn at(at: usize, bytes: Vec<u8>) -> Self {
        let at = at as u64;
        Self::Bytes { at, bytes }
    }

    /// The same in a stretch of a file that begins at `offset`.
    pub(super) fn moved(self, offset: u64) -> Self {
        match self {
            Self::Bytes { at, bytes } => Self::Bytes {
                at: at + offset,
                bytes,
            },
            Self::Cut(at) => Self::Cut(at + offset),
        }
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bytes { at, bytes } if bytes.len() == 1 => {
                write!(f, "{:#04x} at byte {at:#x}", bytes[0])
            }
            Self::Bytes { at, bytes } => write!(f, "{} zeros at byte {at:#x}", bytes.len()),
            Self::Cut(at) => write!(f, "cut at {at}"),
        }
    }
}

/// A file as it was.
pub(super) struct Wound {
    file: File,
    at: u64,
    before: Vec<u8>,
    len: u64,
    modified: SystemTime,
}

impl Wound {
    /// Damages a file that has nothing but a hole from `data_end` on. Its time of modification stays. `None`: nothing changes.
    pub(super) fn inflict(path: &Path, change: &Change, data_end: u64) -> Option<Self> {
        let file = File::options().read(true).write(true).open(path).unwrap();
        let meta = file.metadata().unwrap();
        let (at, bytes) = match change {
            Change::Bytes { at, bytes } => (*at, bytes.len() as u64),
            Change::Cut(at) => (*at, data_end.min(meta.len()).saturating_sub(*at)),
        };
        let mut before = vec![0; usize::try_from(bytes).unwrap()];
        file.read_exact_at(&mut before, at).unwrap();
        match change {
            Change::Bytes { bytes, .. } if *bytes == before => return None,
            Change::Bytes { bytes, .. } => file.write_all_at(bytes, at).unwrap(),
            Change::Cut(at) if *at >= meta.len() => return None,
            Change::Cut(at) => file.set_len(*at).unwrap(),
        }
        let wound = Self {
            file,
            at,
            before,
            len: meta.len(),
            modified: meta.modified().unwrap(),
        };
        wound.set_time();
        Some(wound)
    }

    fn set_time(&self) {
        let times = FileTimes::new().set_modified(self.modified);
        self.file.set_times(times).unwrap();
    }
}

impl Drop for Wound {
    fn drop(&mut self) {
        self.file.write_all_at(&self.before, self.at).unwrap();
        self.file.set_len(self.len).unwrap();
        self.set_time();
    }
}
