//! Why a root cannot be read or converted.

use std::fmt;
use std::path::PathBuf;

use thiserror::Error;

use super::fault::Fault;
use super::files::ReadError;
use super::users::Hits;
use crate::chain::Chain;
use crate::shell::word;
use crate::tree::shown;

/// A root that is not converted.
#[derive(Debug, Error)]
pub enum Error {
    /// Nothing at this path.
    #[error("{}: no such directory", shown(path))]
    NotFound {
        /// The root asked for.
        path: PathBuf,
    },
    /// A file or something else at this path.
    #[error("{}: not a directory", shown(path))]
    NotADirectory {
        /// The root asked for.
        path: PathBuf,
    },
    /// An aufs root in a form that only an older Docker used.
    #[error("{}: {layout}, which is not supported", shown(path))]
    UnsupportedLayout {
        /// The root.
        path: PathBuf,
        /// The form found.
        layout: OldLayout,
    },
    /// A directory without Docker's aufs state.
    #[error("{}: not an aufs root: {}", shown(path), WhatIsThere { drivers, remapped })]
    NotAufs {
        /// The root asked for.
        path: PathBuf,
        /// Directories of other storage drivers in it.
        drivers: Vec<&'static str>,
        /// Roots below it that belong to `--userns-remap`.
        remapped: Vec<PathBuf>,
    },
    /// A part of an aufs root is not there.
    #[error("{}: missing from an aufs root", shown(path))]
    MissingPart {
        /// The missing directory.
        path: PathBuf,
    },
    /// Where the result belongs there is something already.
    #[error("{}: there is a devicemapper root already", shown(path))]
    TargetExists {
        /// What is in the way.
        path: PathBuf,
    },
    /// The root's own directories cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// A part in which files are replaced is behind a link.
    #[error(
        "{}: is a symbolic link, and what is behind it cannot be replaced safely: put the directory itself there: \
         `cp -a {} {name}.copy && rm {name} && mv {name}.copy {name}`",
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
        /// All that is wrong; never empty.
        problems: Vec<Problem>,
    },
}

/// A form of Docker root before the content-addressed store.
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
            f.write_str("no storage driver's directory there")?;
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

/// How many problems one line of text names; the others are in the value.
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

/// One thing that is wrong in a root, and what of the operator's it hits.
#[derive(Debug)]
pub struct Problem {
    /// What is wrong.
    pub fault: Fault,
    /// The images and containers that need the damaged part.
    pub hits: Hits,
}

/// The whole chain of reasons on one line, since a list of problems has no single source to follow.
impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", Chain(&self.fault), self.hits)
    }
}
