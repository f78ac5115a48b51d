//! What an operator should know about a branch although it is read in full.

use std::fmt;

use crate::tree::escape;
use crate::words::counted;

/// A peculiarity of a branch. Paths are relative to the branch, without a leading slash.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Finding {
    /// A pseudo-link that was never flushed: other names of its data, lower down, still show the old content.
    PseudoLink {
        /// Its name in `.wh..wh.plnk`.
        link: Box<[u8]>,
        /// The branch's names for the same data, ascending. Empty if the pseudo-link is the only name; the data is then
        /// in no image and no container.
        names: Vec<Box<[u8]>>,
    },
    /// A name that the branch both adds and deletes.
    Conflict {
        /// The name's path.
        path: Box<[u8]>,
        /// Whether it is kept, because the layer's tar has it after its whiteout. Otherwise it is hidden, as under
        /// aufs.
        kept: bool,
    },
    /// A whiteout with content. Only aufs can export such a layer again.
    FilledWhiteout {
        /// The whiteout's path.
        path: Box<[u8]>,
    },
    /// A whiteout or opaque marker that is not a regular file. aufs answers EIO for the name it deletes; Docker's other
    /// drivers take it for a whiteout whatever its type.
    IrregularWhiteout {
        /// Its path.
        path: Box<[u8]>,
        /// Whether it deletes what its name says. A directory does not if the layer's tar has entries below it but none
        /// for itself.
        deletes: bool,
        /// Whether it is a directory with names in it, which is converted like any other.
        is_kept: bool,
    },
    /// A whiteout of an empty name, of `.` or of `..`, which deletes nothing.
    UnnamedWhiteout {
        /// The whiteout's path.
        path: Box<[u8]>,
    },
    /// Files with a time before 1901 or after 2446. They get the nearest time that ext4 holds.
    ClampedTimes {
        /// The path of the first one; empty for the root.
        first: Box<[u8]>,
        /// Their number; hard links count once.
        files: u64,
    },
}

impl Finding {
    /// The path in the branch of a name that is not converted, with everything below it, because a whiteout hides it.
    pub fn hidden(&self) -> Option<&[u8]> {
        match self {
            Self::Conflict { path, kept: false } => Some(path),
            _ => None,
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PseudoLink { link, names } if names.is_empty() => write!(
                f,
                "pseudo-link {}: the only name for its data, which is in no image or container",
                escape(link)
            ),
            Self::PseudoLink { link, names } => {
                let names: Vec<_> = names.iter().map(|name| shown(name)).collect();
                let (link, names) = (escape(link), names.join(", "));
                write!(
                    f,
                    "pseudo-link {link} was not flushed: other hard links to {names} keep their old content"
                )
            }
            Self::Conflict { path, kept: true } => {
                write!(
                    f,
                    "{}: has a whiteout beside it but is newer, so it is kept",
                    shown(path)
                )
            }
            Self::Conflict { path, kept: false } => {
                write!(
                    f,
                    "{}: has a whiteout beside it, so it is hidden",
                    shown(path)
                )
            }
            Self::FilledWhiteout { path } => write!(f, "{}: whiteout is not empty", shown(path)),
            Self::IrregularWhiteout {
                path,
                deletes,
                is_kept,
            } => {
                let what = irregular(*deletes, *is_kept);
                write!(f, "{}: {what}", shown(path))
            }
            Self::ClampedTimes { first, files } => {
                let more = match files.saturating_sub(1) {
                    0 => String::new(),
                    more => format!(", like {},", counted(more, "other file")),
                };
                let first = shown(first);
                write!(
                    f,
                    "{first}: has{more} a time that ext4 does not hold, and gets the nearest one from 1901 to 2446"
                )
            }
            Self::UnnamedWhiteout { path } => {
                write!(f, "{}: whiteout deletes nothing", shown(path))
            }
        }
    }
}

/// What became of a whiteout that is not a regular file.
fn irregular(deletes: bool, is_kept: bool) -> &'static str {
    match (is_kept, deletes) {
        (true, true) => {
            "is a directory with the name of a whiteout; it deletes like one, and is kept with what is in it"
        }
        (true, false) => {
            "is a directory with the name of a whiteout; it deletes nothing, and is kept with what is in it"
        }
        (false, true) => {
            "whiteout is not a regular file, but deletes like one; it is not kept itself"
        }
        (false, false) => "whiteout is not a regular file; it is not kept itself",
    }
}

/// A relative path, shown as an absolute one inside the layer.
fn shown(path: &[u8]) -> String {
    format!("/{}", escape(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pseudo_link_is_told_with_the_names_concerned() {
        let names = vec![b"etc/a".as_slice().into(), b"b\xff".as_slice().into()];
        let link = b"28.789".as_slice().into();
        assert_eq!(
            Finding::PseudoLink { link, names }.to_string(),
            "pseudo-link 28.789 was not flushed: other hard links to /etc/a, /b\\xff keep their old content"
        );
    }
}
