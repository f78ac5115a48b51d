//! Why a root cannot be read or converted.

use std::fmt;
use std::path::PathBuf;

use thiserror::Error;

use super::files::ReadError;
use super::problem::Problem;
use crate::shell::word;
use crate::tree::shown;
use crate::words::counted;

/// An error that keeps a root from being converted.
#[derive(Debug, Error)]
pub enum Error {
    /// There is nothing at this path.
    #[error("{}: no such directory", shown(path))]
    NotFound {
        /// The root that was asked for.
        path: PathBuf,
    },
    /// There is a file or something else at this path.
    #[error("{}: not a directory", shown(path))]
    NotADirectory {
        /// The root that was asked for.
        path: PathBuf,
    },
    /// An aufs root in a layout that only older versions of Docker used.
    #[error("{}: has the {layout}, which is not supported", shown(path))]
    UnsupportedLayout {
        /// The root.
        path: PathBuf,
        /// The layout that was found.
        layout: OldLayout,
    },
    /// A directory without Docker's aufs state.
    #[error("{}: is not an aufs root: {}", shown(path), WhatIsThere { drivers, remapped })]
    NotAufs {
        /// The root that was asked for.
        path: PathBuf,
        /// Directories of other storage drivers in it.
        drivers: Vec<&'static str>,
        /// Roots of `--userns-remap` below it.
        remapped: Vec<PathBuf>,
    },
    /// A part of an aufs root is missing.
    #[error("{}: is missing from the aufs root", shown(path))]
    MissingPart {
        /// The missing directory.
        path: PathBuf,
    },
    /// There is already something where the result belongs.
    #[error(
        "{}: there is already a devicemapper root, with {} and {}, which the conversion would have to merge. Next: if \
         nothing in it is needed any more, move it away: `mkdir {old} && for one in devicemapper image/devicemapper; do \
         [ ! -e {at}/$one ] || mv {at}/$one {old}/; done`",
        shown(path),
        counted(holds.0 as u64, "image"),
        counted(holds.1 as u64, "container"),
        at = word(root),
        old = word(&root.join("devicemapper-old"))
    )]
    TargetExists {
        /// What is in the way.
        path: PathBuf,
        /// The root.
        root: PathBuf,
        /// How many images and containers are on devicemapper.
        holds: (usize, usize),
    },
    /// The root's own directories cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// A directory in which files are replaced is behind a symbolic link.
    #[error(
        "{}: is a symbolic link, and its target cannot be replaced safely. Next: put the directory itself there: `cp \
         -a {} {name}.copy && rm {name} && mv {name}.copy {name}`",
        shown(path),
        word(target),
        name = word(path)
    )]
    LinkedPart {
        /// The link.
        path: PathBuf,
        /// Where it leads.
        target: PathBuf,
    },
    /// The root's contents are damaged.
    #[error("{}: {}", shown(path), Listing(problems))]
    Damaged {
        /// The root.
        path: PathBuf,
        /// All problems; never empty.
        problems: Vec<Problem>,
    },
}

/// A layout of Docker root from before the content-addressed store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OldLayout {
    /// Images in `graph/` and `repositories-aufs`, layers in `aufs/`.
    Graph,
    /// Layers inside `graph/`.
    GraphLayers,
}

impl fmt::Display for OldLayout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Graph => "image store of Docker 0.7 to 1.9 (graph/ and repositories-aufs)",
            Self::GraphLayers => "image store of Docker before 0.7 (graph/*/layer)",
        })
    }
}

struct WhatIsThere<'a> {
    drivers: &'a [&'static str],
    remapped: &'a [PathBuf],
}

impl fmt::Display for WhatIsThere<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.drivers.is_empty() {
            f.write_str("it has no storage driver's directory")?;
        } else {
            write!(f, "it has {}", self.drivers.join(", "))?;
        }
        for (index, path) in self.remapped.iter().enumerate() {
            let separator = if index == 0 {
                "; remapped roots below it: "
            } else {
                ", "
            };
            write!(f, "{separator}{}", shown(path))?;
        }
        Ok(())
    }
}

/// The number of problems that one line of text names. The value holds the others too.
const SHOWN_PROBLEMS: usize = 5;

struct Listing<'a>(&'a [Problem]);

impl fmt::Display for Listing<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.0.iter().take(SHOWN_PROBLEMS).enumerate() {
            let separator = if index == 0 { "" } else { "; " };
            write!(f, "{separator}{problem}")?;
        }
        match self.0.len().saturating_sub(SHOWN_PROBLEMS) {
            0 => Ok(()),
            more => write!(f, "; and {more} more"),
        }
    }
}
