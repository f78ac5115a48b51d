//! What could not be removed, and what to do about it.

use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use nix::errno::Errno;

use crate::shell::word;
use crate::sys::Immutability;
use crate::tree::escape;

/// The number of obstacles listed individually. An immutable directory counts once, whatever it contains, but there may
/// be a million immutable files.
const SHOWN: usize = 20;

/// What could not be removed.
#[derive(Debug, Default)]
pub struct Remainder {
    first: Vec<Obstacle>,
    more: u64,
}

/// A file or directory that could not be removed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Obstacle {
    /// Its path.
    pub path: PathBuf,
    /// The reason.
    pub cause: Cause,
}

/// The reason why something could not be removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// It has the attribute set by `chattr +i` or `+a`.
    Flag(Immutability),
    /// The directory above has this attribute.
    FlagAbove(Immutability),
    /// Something is mounted there.
    MountPoint,
    /// It is on another device than its parent, although on the same mount: a subvolume.
    Subvolume,
    /// It was moved elsewhere in the meantime.
    Moved,
    /// A system call failed.
    Errno(&'static str, Errno),
}

impl Remainder {
    /// Whether everything was removed.
    pub fn is_empty(&self) -> bool {
        self.first.is_empty()
    }

    /// Adds what another removal kept.
    pub fn extend(&mut self, other: Self) {
        self.more += other.more;
        for stuck in other.first {
            self.add(stuck);
        }
    }

    /// Adds one obstacle.
    pub fn add(&mut self, stuck: Obstacle) {
        if self.first.contains(&stuck) {
            return; // the directory above several of them
        }
        if self.first.len() < SHOWN {
            self.first.push(stuck);
        } else {
            self.more += 1;
        }
    }

    /// The first obstacles.
    pub fn first(&self) -> &[Obstacle] {
        &self.first
    }
}

impl From<Obstacle> for Remainder {
    fn from(stuck: Obstacle) -> Self {
        Self {
            first: vec![stuck],
            more: 0,
        }
    }
}

impl fmt::Display for Remainder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, stuck) in self.first.iter().enumerate() {
            let separator = if index == 0 { "" } else { "\n  " };
            write!(f, "{separator}{stuck}")?;
        }
        match self.more {
            0 => Ok(()),
            more => write!(f, "\n  and {more} more"),
        }
    }
}

impl fmt::Display for Obstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", escape(self.path.as_os_str().as_bytes()))?;
        let word = word(&self.path);
        match self.cause {
            Cause::Flag(flag) => write!(f, "is {}: chattr -R -i -a {word}", adjective(flag)),
            // Anything else in it keeps its flags.
            Cause::FlagAbove(flag) => write!(f, "is {}: chattr -i -a {word}", adjective(flag)),
            Cause::MountPoint => write!(f, "is a mount point: umount {word}"),
            Cause::Subvolume => write!(f, "is a subvolume: btrfs subvolume delete {word}"),
            Cause::Moved => f.write_str("was moved while it was being removed"),
            Cause::Errno(op, errno) => write!(f, "cannot {op}: {}", errno.desc()),
        }
    }
}

fn adjective(flag: Immutability) -> &'static str {
    match flag {
        Immutability::Immutable => "immutable",
        Immutability::AppendOnly => "append-only",
    }
}
